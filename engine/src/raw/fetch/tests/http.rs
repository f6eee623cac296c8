//! A small HTTP server whose answers a test chooses.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
};

/// What a server does with a request.
#[derive(Debug, Clone)]
pub(super) enum Answer {
    /// 200 with this body; with its length, or until the connection closes.
    Body {
        body: Vec<u8>,
        length: bool,
        etag: Option<&'static str>,
    },
    /// 200 that promises more than it sends.
    Cut {
        body: Vec<u8>,
        promised: usize,
    },
    Redirect(String),
    Status(u16),
    /// 200, one byte, and then nothing.
    Hang,
    /// A file with an ETag, or a range of it when one is asked for; the connection ends after so many bytes of it.
    File {
        body: Vec<u8>,
        etag: &'static str,
        most: usize,
    },
    /// 200 with these headers and this body.
    With(&'static str, Vec<u8>),
}

/// A small HTTP server that gives one answer after the other, and the last one again and again.
pub(super) struct Http {
    pub(super) url: String,
    asked: Arc<AtomicUsize>,
    /// Requests as they came, in lower case.
    heads: Arc<Mutex<Vec<String>>>,
}

impl Http {
    pub(super) async fn start(answers: Vec<Answer>) -> Self {
        let count = AtomicUsize::new(0);
        Self::serve(move |_| answers[count.fetch_add(1, Ordering::SeqCst).min(answers.len() - 1)].clone()).await
    }

    /// A server that answers by what is asked: the head of the request, in lower case.
    pub(super) async fn serve(answer: impl Fn(&str) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (asked, heads) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Vec::new())));
        let (count, kept, answer) = (asked.clone(), heads.clone(), Arc::new(answer));
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (count, kept, answer) = (count.clone(), kept.clone(), answer.clone());
                tokio::spawn(async move {
                    let mut stream = BufReader::new(stream);
                    let mut head = String::new();
                    while stream.read_line(&mut head).await? > 2 {}
                    let head = head.to_ascii_lowercase();
                    count.fetch_add(1, Ordering::SeqCst);
                    kept.lock().unwrap().push(head.clone());
                    answer_one(stream, &head, answer(&head)).await
                });
            }
        });
        Self { url, asked, heads }
    }

    pub(super) fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    pub(super) fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

/// The value of a header of a request.
pub(super) fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).map(str::trim)
}

async fn answer_one(mut stream: BufReader<TcpStream>, head: &str, answer: Answer) -> std::io::Result<()> {
    let close = "connection: close\r\n";
    match answer {
        Answer::Body { etag: Some(etag), .. } if head.contains(&format!("if-none-match: {etag}")) => {
            stream.write_all(format!("HTTP/1.1 304 Not Modified\r\n{close}\r\n").as_bytes()).await?;
        }
        Answer::Body { body, length, etag } => {
            let length = if length { format!("content-length: {}\r\n", body.len()) } else { String::new() };
            let etag = etag.map_or_else(String::new, |etag| format!("etag: {etag}\r\n"));
            stream.write_all(format!("HTTP/1.1 200 OK\r\n{length}{etag}{close}\r\n").as_bytes()).await?;
            stream.write_all(&body).await?;
        }
        Answer::Cut { body, promised } => {
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {promised}\r\n{close}\r\n");
            stream.write_all(head.as_bytes()).await?;
            stream.write_all(&body).await?;
        }
        Answer::File { body, etag, most } => {
            let range = header(head, "range").filter(|_| header(head, "if-range") == Some(etag));
            let (first, end) = match range.and_then(|range| range.strip_prefix("bytes=")?.split_once('-')) {
                Some((first, last)) => {
                    (first.parse().unwrap(), last.parse().map_or(body.len(), |last: usize| last + 1))
                }
                None => (0, body.len()),
            };
            let status = match range {
                Some(_) => format!("206 Partial Content\r\ncontent-range: bytes {first}-{}/{}", end - 1, body.len()),
                None => "200 OK".to_string(),
            };
            let head = format!(
                "HTTP/1.1 {status}\r\ncontent-length: {}\r\netag: {etag}\r\naccept-ranges: bytes\r\n{close}\r\n",
                end - first
            );
            stream.write_all(head.as_bytes()).await?;
            stream.write_all(&body[first..end.min(first.saturating_add(most))]).await?;
        }
        Answer::With(headers, body) => {
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n{headers}{close}\r\n", body.len());
            stream.write_all(head.as_bytes()).await?;
            stream.write_all(&body).await?;
        }
        Answer::Redirect(to) => {
            stream.write_all(format!("HTTP/1.1 302 Found\r\nlocation: {to}\r\n{close}\r\n").as_bytes()).await?;
        }
        Answer::Status(status) => {
            stream.write_all(format!("HTTP/1.1 {status} No\r\ncontent-length: 0\r\n{close}\r\n").as_bytes()).await?;
        }
        Answer::Hang => {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n[").await?;
            stream.flush().await?;
            std::future::pending::<()>().await;
        }
    }
    stream.flush().await?;
    stream.shutdown().await
}
