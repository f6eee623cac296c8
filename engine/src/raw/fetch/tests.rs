//! Downloads from servers that behave, and from servers that do not.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::TcpListener,
};

use super::*;
use crate::raw::JsonLayout;

/// What a server does with a request.
#[derive(Debug, Clone)]
enum Answer {
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
}

/// A small HTTP server that gives one answer after the other, and the last one again and again.
struct Http {
    url: String,
    asked: Arc<AtomicUsize>,
}

impl Http {
    async fn start(answers: Vec<Answer>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(AtomicUsize::new(0));
        let count = asked.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let answer = answers[count.fetch_add(1, Ordering::SeqCst).min(answers.len() - 1)].clone();
                tokio::spawn(answer_one(stream, answer));
            }
        });
        Self { url, asked }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

async fn answer_one(stream: tokio::net::TcpStream, answer: Answer) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut head = String::new();
    while stream.read_line(&mut head).await? > 2 {}
    let head = head.to_ascii_lowercase();
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

/// A storage root in a folder of its own.
struct World {
    folder: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn request(&self, from: &str) -> FetchRequest {
        FetchRequest {
            storage: self.folder.path().join("lake").to_str().unwrap().to_string(),
            source: "a.b".parse().unwrap(),
            version: RawVersion::at(chrono::Utc::now()),
            part: 0,
            from: from.to_string(),
            format: None,
            split_size: 1 << 20,
            copy: CopyPolicy::default(),
            allowed: AllowedOrigins::all(),
            previous: None,
        }
    }

    async fn fetch(&self, request: &FetchRequest) -> Result<FetchOutcome> {
        fetch(request, &CancellationToken::new(), &|_| {}).await
    }

    /// Every file under the storage root.
    fn files(&self) -> Vec<PathBuf> {
        fn list(folder: &Path, files: &mut Vec<PathBuf>) {
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                let path = entry.path();
                if path.is_dir() { list(&path, files) } else { files.push(path) }
            }
        }
        let mut files = Vec::new();
        list(&self.folder.path().join("lake"), &mut files);
        files
    }
}

fn fetched(outcome: FetchOutcome) -> Fetched {
    match outcome {
        FetchOutcome::Fetched(fetched) => fetched,
        FetchOutcome::NotModified => panic!("not modified"),
    }
}

fn previous(fetched: &Fetched) -> Option<Previous> {
    Some(Previous {
        etag: fetched.etag.clone(),
        last_modified: fetched.last_modified.clone(),
        bytes: fetched.parts[0].bytes,
        sha256: fetched.parts[0].sha256.clone(),
    })
}

/// More than two upload parts.
fn large() -> Vec<u8> {
    let record = format!("{{\"text\": \"{}\"}},\n", "x".repeat(1000));
    let mut text = b"[".to_vec();
    while text.len() < 18 << 20 {
        text.extend_from_slice(record.as_bytes());
    }
    text.extend_from_slice(b"{}]");
    text
}

#[tokio::test]
async fn bytes_arrive_unchanged_with_checksum_and_splits() {
    let world = World::new();
    for (length, body) in [(true, large()), (false, large()), (true, b"[]".to_vec()), (true, Vec::new())] {
        let server = Http::start(vec![Answer::Body { body: body.clone(), length, etag: None }]).await;
        let request =
            FetchRequest { format: Some(RawFormat::Json), ..world.request(&format!("{}/x?token=s", server.url)) };
        let fetched = fetched(world.fetch(&request).await.unwrap());
        let stored =
            world.files().into_iter().find(|path| path.to_str().unwrap().contains(request.version.as_str())).unwrap();
        assert!(std::fs::read(&stored).unwrap() == body, "not the same bytes");
        assert_eq!(stored.file_name().unwrap().to_str().unwrap(), "part-00000.json");
        let sum = Command::new("sha256sum").arg(&stored).output().unwrap().stdout;
        assert!(String::from_utf8(sum).unwrap().starts_with(&fetched.parts[0].sha256));
        assert_eq!(fetched.parts[0].bytes, body.len() as u64);
        assert!(!fetched.origin.contains("token"), "{}", fetched.origin);
        if body.len() > 1 << 20 {
            assert_eq!(fetched.parts[0].layout, Some(JsonLayout::Array));
            assert!((17..=19).contains(&fetched.parts[0].splits.len()), "{}", fetched.parts[0].splits.len());
        }
    }
}

#[tokio::test]
async fn what_has_not_changed_is_not_stored_again() {
    let world = World::new();
    let body = b"a,b\n1,2\n".to_vec();
    let with = |etag| Answer::Body { body: body.clone(), length: true, etag };
    for etag in [Some("\"v1\""), None] {
        let server = Http::start(vec![with(etag)]).await;
        let mut request = world.request(&format!("{}/x.csv", server.url));
        let first = fetched(world.fetch(&request).await.unwrap());
        let files = world.files();
        request.previous = previous(&first);
        request.version = RawVersion::at(chrono::Utc::now() + chrono::TimeDelta::seconds(1));
        assert_eq!(world.fetch(&request).await.unwrap(), FetchOutcome::NotModified);
        assert_eq!(world.files(), files);
        assert_eq!(first.format, RawFormat::Csv);
    }
}

#[tokio::test]
async fn a_broken_transfer_is_tried_again_and_leaves_nothing() {
    let body = large();
    let cut = Answer::Cut { body: body[..body.len() / 2].to_vec(), promised: body.len() };
    let whole = Answer::Body { body: body.clone(), length: true, etag: None };

    let world = World::new();
    let server = Http::start(vec![Answer::Status(503), cut.clone(), whole]).await;
    let good = fetched(world.fetch(&world.request(&format!("{}/x.json", server.url))).await.unwrap());
    assert_eq!((good.parts[0].bytes, server.asked()), (body.len() as u64, 3));

    let world = World::new();
    let server = Http::start(vec![cut]).await;
    let error = world.fetch(&world.request(&format!("{}/x.json", server.url))).await.unwrap_err();
    assert_eq!(error.code, Code::DownloadFailed, "{error}");
    assert!(server.asked() > 1);
    assert_eq!(world.files(), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn a_refused_request_is_not_tried_again() {
    let world = World::new();
    for status in [404, 403] {
        let server = Http::start(vec![Answer::Status(status)]).await;
        let error = world.fetch(&world.request(&format!("{}/x.json?sig=secret", server.url))).await.unwrap_err();
        assert_eq!((error.code, server.asked()), (Code::DownloadFailed, 1));
        assert!(error.message.contains(&status.to_string()) && !error.to_string().contains("secret"), "{error}");
    }
    let error = world.fetch(&world.request("http://someone:secret@127.0.0.1/x.json")).await.unwrap_err();
    assert!(error.code == Code::InvalidSpec && !error.to_string().contains("secret"), "{error}");
    assert_eq!(world.fetch(&world.request("gopher://x/y")).await.unwrap_err().code, Code::InvalidSpec);
    assert_eq!(world.files(), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn redirects_lead_only_where_downloads_may_read() {
    let world = World::new();
    let body = b"[{\"a\": 1}]".to_vec();
    let target = Http::start(vec![Answer::Body { body, length: true, etag: None }]).await;
    let server = Http::start(vec![Answer::Redirect(format!("{}/x.json", target.url))]).await;
    let mut request = world.request(&format!("{}/y.json", server.url));
    assert_eq!(fetched(world.fetch(&request).await.unwrap()).parts[0].records, Some(1));

    request.allowed = AllowedOrigins::new(vec![format!("{}/", server.url)]).unwrap();
    let error = world.fetch(&request).await.unwrap_err();
    assert_eq!((error.code, target.asked()), (Code::OriginRefused, 1), "{error}");
    let loops = Http::start(vec![Answer::Redirect("/again".into())]).await;
    let error = world.fetch(&world.request(&loops.url)).await.unwrap_err();
    assert!(error.message.contains("redirects"), "{error}");
}

#[tokio::test]
async fn a_cancelled_download_leaves_nothing() {
    let world = World::new();
    let server = Http::start(vec![Answer::Hang]).await;
    let request = world.request(&format!("{}/x.json", server.url));
    let (cancel, begun) = (CancellationToken::new(), CancellationToken::new());
    let progress = {
        let begun = begun.clone();
        move |_: u64| begun.cancel()
    };
    let stop = async {
        begun.cancelled().await;
        cancel.cancel();
    };
    let (outcome, ()) = tokio::join!(fetch(&request, &cancel, &progress), stop);
    assert_eq!(outcome.unwrap_err().code, Code::Cancelled);
    assert_eq!(world.files(), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn local_files_are_regular_files() {
    let world = World::new();
    let file = world.folder.path().join("x.json");
    std::fs::write(&file, "[{}]").unwrap();
    let url = |path: &Path| Url::from_file_path(path).unwrap().to_string();
    let first = fetched(world.fetch(&world.request(&url(&file))).await.unwrap());
    assert_eq!(first.parts[0].records, Some(1));
    for path in [world.folder.path().to_path_buf(), world.folder.path().join("missing"), "/dev/zero".into()] {
        let error = world.fetch(&world.request(&url(&path))).await.unwrap_err();
        assert_eq!(error.code, Code::DownloadFailed, "{error}");
    }
    let mut request = world.request(&url(&file));
    request.allowed = AllowedOrigins::new(vec!["file:///elsewhere/".into()]).unwrap();
    assert_eq!(world.fetch(&request).await.unwrap_err().code, Code::OriginRefused);
}

/// An FTP server, ended with the test.
struct Ftp(Child);

impl Drop for Ftp {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts pyftpdlib over a folder; none where Python or the package can't be had. With `cut`, data connections end after so many
/// bytes.
fn start_ftp(folder: &Path, cut: usize) -> Option<(Ftp, u16)> {
    const SERVER: &str = "
import sys
from pyftpdlib.authorizers import DummyAuthorizer
from pyftpdlib.handlers import FTPHandler, DTPHandler
from pyftpdlib.servers import FTPServer
folder, cut = sys.argv[1], int(sys.argv[2])
class Cutting(DTPHandler):
    sent = 0
    def send(self, data):
        Cutting.sent += len(data)
        if cut and Cutting.sent > cut:
            raise OSError('cut')
        return super().send(data)
authorizer = DummyAuthorizer()
authorizer.add_anonymous(folder)
authorizer.add_user('trireme', 'oars', folder)
class Handler(FTPHandler):
    use_sendfile = False
Handler.authorizer = authorizer
Handler.dtp_handler = Cutting
server = FTPServer(('127.0.0.1', 0), Handler)
print(server.socket.getsockname()[1], flush=True)
server.serve_forever(handle_exit=False)
";
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    let target = std::env::var("CARGO_TARGET_DIR").map_or_else(|_| manifest.join("../target"), PathBuf::from);
    let venv = target.join("rigs/venv-ftp");
    let python = venv.join("bin/python");
    let run = |program: &Path, args: &[&str]| {
        let status = Command::new(program).args(args).stdout(Stdio::null()).stderr(Stdio::null()).status();
        status.is_ok_and(|status| status.success())
    };
    let ready = || run(&python, &["-c", "import pyftpdlib"]);
    if !ready() {
        let here = venv.to_str()?;
        let _ = run(Path::new("python3"), &["-m", "venv", here])
            && run(&python, &["-m", "pip", "install", "-q", "pyftpdlib==2.2.0"]);
    }
    if !ready() {
        println!("skipped: pyftpdlib can't be installed into {}", venv.display());
        return None;
    }
    let mut child = Command::new(&python)
        .args(["-c", SERVER, folder.to_str()?, &cut.to_string()])
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .ok()?;
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(child.stdout.take()?), &mut line).ok()?;
    Some((Ftp(child), line.trim().parse().ok()?))
}

#[tokio::test(flavor = "multi_thread")]
async fn ftp_files_arrive_whole_or_not_at_all() {
    let world = World::new();
    let shelf = world.folder.path().join("shelf");
    std::fs::create_dir_all(shelf.join("a folder")).unwrap();
    let body = large();
    std::fs::write(shelf.join("a folder/books.json"), &body).unwrap();
    std::fs::write(shelf.join("empty.json"), "").unwrap();

    let Some((_server, port)) = start_ftp(&shelf, 0) else { return };
    let base = format!("ftp://127.0.0.1:{port}");
    let mut request = world.request(&format!("{base}/a%20folder/books.json"));
    let first = fetched(world.fetch(&request).await.unwrap());
    assert_eq!(first.parts[0].bytes, body.len() as u64);
    assert!(first.last_modified.is_some());
    assert!(std::fs::read(&world.files()[0]).unwrap() == body, "not the same bytes");
    request.previous = previous(&first);
    request.version = RawVersion::at(chrono::Utc::now() + chrono::TimeDelta::seconds(1));
    assert_eq!(world.fetch(&request).await.unwrap(), FetchOutcome::NotModified);
    assert_eq!(fetched(world.fetch(&world.request(&format!("{base}/empty.json"))).await.unwrap()).parts[0].bytes, 0);

    let error = world.fetch(&world.request(&format!("{base}/missing.json"))).await.unwrap_err();
    assert!(error.code == Code::DownloadFailed && error.hint.contains("no such file"), "{error}");
    let error = world.fetch(&world.request(&format!("ftp://nobody@127.0.0.1:{port}/empty.json"))).await.unwrap_err();
    assert!(error.hint.contains("TRIREME_FTP_PASSWORD"), "{error}");
    let error = world.fetch(&world.request(&format!("{base}/x%0d%0aDELE%20empty.json"))).await.unwrap_err();
    assert_eq!(error.code, Code::InvalidSpec);

    let world = World::new();
    let Some((_server, port)) = start_ftp(&shelf, 1 << 20) else { return };
    let error =
        world.fetch(&world.request(&format!("ftp://127.0.0.1:{port}/a%20folder/books.json"))).await.unwrap_err();
    assert_eq!(error.code, Code::DownloadFailed, "{error}");
    assert_eq!(world.files(), Vec::<PathBuf>::new());
}
