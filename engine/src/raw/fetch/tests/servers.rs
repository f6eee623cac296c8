//! FTP, FTPS and SFTP, from real servers.

use std::process::{Child, Command, Stdio};

use tokio::{
    io::AsyncReadExt,
    net::{TcpListener, TcpStream},
};

use super::*;

/// A server of `tests/rigs/servers.py`, ended with the test.
struct Server {
    process: Child,
    said: serde_json::Value,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Server {
    /// Starts one over a folder; none, with a printed reason, where Python or its packages can't be had.
    fn start(kind: &str, folder: &Path, options: &[&str]) -> Option<Self> {
        let rig = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/rigs/servers.sh");
        let mut process = Command::new(rig)
            .args([kind, folder.to_str().unwrap()])
            .args(options)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let stdout = process.stdout.take().unwrap();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut line).unwrap();
        let Ok(said) = serde_json::from_str(&line) else {
            println!("skipped: tests/rigs/servers.sh {kind} does not start");
            let _ = process.wait();
            return None;
        };
        Some(Self { process, said })
    }

    fn port(&self) -> u64 {
        self.said["port"].as_u64().unwrap()
    }

    fn said(&self, what: &str) -> String {
        self.said[what].as_str().unwrap().to_string()
    }
}

fn shelf(world: &World) -> PathBuf {
    let shelf = world.folder.path().join("shelf");
    std::fs::create_dir_all(shelf.join("a folder")).unwrap();
    std::fs::write(shelf.join("a folder/books.json"), large()).unwrap();
    std::fs::write(shelf.join("empty.json"), "").unwrap();
    for day in ["day=1", "day=2"] {
        std::fs::create_dir_all(shelf.join(day)).unwrap();
        std::fs::write(shelf.join(day).join("x.csv"), format!("day\n{day}\n")).unwrap();
    }
    shelf
}

fn oars() -> Credentials {
    Credentials {
        name: "vendor".into(),
        user: Some("trireme".into()),
        password: Some("oars".into()),
        ..Credentials::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ftp_files_arrive_whole() {
    let world = World::new();
    let shelf = shelf(&world);
    let Some(server) = Server::start("ftp", &shelf, &[]) else { return };
    let base = format!("ftp://127.0.0.1:{}", server.port());
    let mut request = world.request(&format!("{base}/a%20folder/books.json"));
    let first = fetched(world.fetch(&request).await.unwrap());
    assert_eq!(first.parts[0].bytes, large().len() as u64);
    assert!(first.last_modified.is_some());
    assert!(world.stored(&request) == large(), "not the same bytes");
    request.previous = previous(&first);
    request.version = RawVersion::at(chrono::Utc::now() + chrono::TimeDelta::seconds(1));
    assert_eq!(world.fetch(&request).await.unwrap(), FetchOutcome::NotModified);
    let empty = world.request(&format!("{base}/empty.json"));
    for credentials in [Credentials::default(), oars()] {
        assert_eq!(fetched(world.fetch_as(&empty, &credentials).await.unwrap()).parts[0].bytes, 0);
    }

    let error = world.fetch(&world.request(&format!("{base}/missing.json"))).await.unwrap_err();
    assert!(error.code == Code::DownloadFailed && error.hint.contains("no such file"), "{error}");
    let wrong = Credentials { password: Some("wrong".into()), ..oars() };
    let error = world.fetch_as(&empty, &wrong).await.unwrap_err();
    assert!(error.hint.contains("`credentials:`"), "{error}");
    let error = world.fetch(&world.request(&format!("{base}/x%0d%0aDELE%20empty.json"))).await.unwrap_err();
    assert_eq!(error.code, Code::InvalidSpec);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_ftp_transfer_goes_on() {
    let world = World::new();
    let shelf = shelf(&world);
    let Some(server) = Server::start("ftp", &shelf, &["cut=4000000"]) else { return };
    let request = world.request(&format!("ftp://127.0.0.1:{}/a%20folder/books.json", server.port()));
    let sent = AtomicUsize::new(0);
    let progress = |more: u64| {
        sent.fetch_add(usize::try_from(more).unwrap(), Ordering::SeqCst);
    };
    fetched(fetch(&request, &CancellationToken::new(), &progress).await.unwrap());
    assert!(world.stored(&request) == large(), "not the same bytes");
    assert_eq!(sent.load(Ordering::SeqCst), large().len(), "no byte comes twice");

    // A server that can't go on.
    let world = World::new();
    let Some(server) = Server::start("ftp", &shelf, &["cut=4000000", "rest=no"]) else { return };
    let request = world.request(&format!("ftp://127.0.0.1:{}/a%20folder/books.json", server.port()));
    let error = world.fetch(&request).await.unwrap_err();
    assert_eq!(error.code, Code::DownloadFailed, "{error}");
    assert_eq!(world.files(), Vec::<PathBuf>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn ftp_folders_are_listed() {
    let world = World::new();
    let shelf = shelf(&world);
    for options in [&[][..], &["mlsd=no"]] {
        let Some(server) = Server::start("ftp", &shelf, options) else { return };
        let base = format!("ftp://127.0.0.1:{}", server.port());
        let files = world.list(&format!("{base}/day=*/*.csv"), &oars()).await.unwrap();
        let urls: Vec<_> = files.iter().map(|file| file.url.clone()).collect();
        assert_eq!(urls, [format!("{base}/day=1/x.csv"), format!("{base}/day=2/x.csv")]);
        let first = fetched(world.fetch(&world.request(&urls[0])).await.unwrap());
        if options.is_empty() {
            // What a listing says is what the file says of itself, or nothing would ever be current.
            assert_eq!(
                (files[0].last_modified.clone(), files[0].length),
                (first.last_modified, Some(first.parts[0].bytes))
            );
        }
        assert_eq!(world.list(&format!("{base}/"), &oars()).await.unwrap().len(), 4);
        assert!(world.list(&format!("{base}/none/*"), &oars()).await.unwrap_err().message.contains("no file is at"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ftps_trusts_who_it_is_told_to() {
    let world = World::new();
    let shelf = shelf(&world);
    let Some(server) = Server::start("ftps", &shelf, &["cut=5000000"]) else { return };
    let url = format!("ftps://127.0.0.1:{}/a%20folder/books.json", server.port());
    let trusting = Credentials { ca: Some(server.said("ca")), ..oars() };
    let request = world.request(&url);
    fetched(world.fetch_as(&request, &trusting).await.unwrap());
    assert!(world.stored(&request) == large(), "not the same bytes");
    let error = world.fetch_as(&request, &oars()).await.unwrap_err();
    assert!(error.hint.contains("`ca`"), "{error}");
    let files = world.list(&format!("ftps://127.0.0.1:{}/day=*/", server.port()), &trusting).await.unwrap();
    assert_eq!(files.len(), 2);

    // Only root may listen on the port that means implicit TLS, and one test at a time.
    let Some(server) = Server::start("ftps-implicit", &shelf, &["port=990"]) else { return };
    let trusting = Credentials { ca: Some(server.said("ca")), ..oars() };
    let request = world.request("ftps://127.0.0.1:990/day=1/x.csv");
    assert_eq!(fetched(world.fetch_as(&request, &trusting).await.unwrap()).parts[0].bytes, 10);
}

/// Passes connections on to a port, and resets each after so many bytes from there; its own port.
async fn cutting_proxy(to: u64, most: usize) -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (passed, count) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let total = passed.clone();
    tokio::spawn(async move {
        loop {
            let (client, _) = listener.accept().await.unwrap();
            let server = TcpStream::connect(("127.0.0.1", u16::try_from(to).unwrap())).await.unwrap();
            let total = total.clone();
            count.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(async move {
                client.set_zero_linger().unwrap();
                let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
                    (client.into_split(), server.into_split());
                let up = tokio::spawn(async move { tokio::io::copy(&mut from_client, &mut to_server).await });
                let mut limited = (&mut from_server).take(most as u64);
                let down = tokio::io::copy(&mut limited, &mut to_client).await;
                total.fetch_add(usize::try_from(down.unwrap_or(0)).unwrap(), Ordering::SeqCst);
                up.abort();
            });
        }
    });
    (port, passed)
}

#[tokio::test(flavor = "multi_thread")]
async fn sftp_files_arrive_whole_over_a_line_that_is_cut() {
    let world = World::new();
    let shelf = shelf(&world);
    // Ciphers are slow in a debug build.
    let large = || large()[..3_000_000].to_vec();
    std::fs::write(shelf.join("a folder/books.json"), large()).unwrap();
    let Some(server) = Server::start("sftp", &shelf, &[]) else { return };
    let (port, passed) = cutting_proxy(server.port(), 1_000_000).await;
    let known = |port: u64, key: &str| {
        let path = world.folder.path().join(format!("known-hosts-{port}"));
        std::fs::write(&path, format!("# hosts\nother.example {key}\n[127.0.0.1]:{port} {key}\n")).unwrap();
        Some(path)
    };
    let host_key = server.said("host_key");
    let url = format!("sftp://127.0.0.1:{port}/a%20folder/books.json");
    let request = world.request(&url);
    let with_password = Credentials { known_hosts: known(port.into(), &host_key), ..oars() };
    fetched(world.fetch_as(&request, &with_password).await.unwrap());
    assert!(world.stored(&request) == large(), "not the same bytes");
    assert!(passed.load(Ordering::SeqCst) >= 3_000_000, "it was not cut");

    // Straight to the server, by key, in ranges.
    let world = World { folder: tempfile::tempdir().unwrap() };
    let known_hosts = with_password.known_hosts.clone().map(|path| {
        let direct = world.folder.path().join("known-hosts");
        let text = std::fs::read_to_string(path).unwrap().replace(&port.to_string(), &server.port().to_string());
        std::fs::write(&direct, text).unwrap();
        direct
    });
    let base = format!("sftp://127.0.0.1:{}", server.port());
    let by_key = Credentials { password: None, private_key: Some(server.said("private_key")), known_hosts, ..oars() };
    let request = world.request(&format!("{base}/a%20folder/books.json"));
    let joined = in_ranges(&world, &request, &by_key, 1 << 20).await.unwrap();
    assert_eq!(joined.parts[0].layout, Some(JsonLayout::Array));
    assert!(world.stored(&request) == large(), "not the same bytes");

    let files = world.list(&format!("{base}/day=*/*.csv"), &by_key).await.unwrap();
    assert_eq!(files.iter().map(|file| file.length).collect::<Vec<_>>(), [Some(10), Some(10)]);
    let one = fetched(world.fetch_as(&world.request(&files[1].url), &by_key).await.unwrap());
    assert_eq!(one.last_modified, files[1].last_modified);
    assert!(world.list(&format!("{base}/none/*"), &by_key).await.unwrap_err().message.contains("no file is at"));

    // Who is not known is not talked to.
    let refused = async |credentials: &Credentials, from: &str| {
        world.fetch_as(&world.request(from), credentials).await.unwrap_err()
    };
    let error = refused(&oars(), &format!("{base}/empty.json")).await;
    assert!(error.message.contains("not a known host") && error.hint.contains("ssh-keyscan"), "{error}");
    let changed = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";
    let path = world.folder.path().join("changed");
    std::fs::write(&path, format!("[127.0.0.1]:{} {changed}\n", server.port())).unwrap();
    let error =
        refused(&Credentials { known_hosts: Some(path), ..by_key.clone() }, &format!("{base}/empty.json")).await;
    assert!(error.message.contains("not the known one") && error.message.contains("line 1"), "{error}");
    // Nor is anybody let in who should not be.
    let wrong = Credentials { private_key: None, password: Some("wrong".into()), ..by_key.clone() };
    let error = refused(&wrong, &format!("{base}/empty.json")).await;
    assert!(error.message.contains("does not let `trireme` in") && error.hint.contains("`vendor`"), "{error}");
    let error = refused(&Credentials { user: None, ..by_key.clone() }, &format!("{base}/empty.json")).await;
    assert_eq!(error.code, Code::InvalidSpec);
    let error = refused(&by_key, &format!("{base}/missing.json")).await;
    assert!(error.message.contains("no such file"), "{error}");
    let error = refused(&by_key, &format!("{base}/day=1")).await;
    assert!(error.message.contains("is a folder"), "{error}");
}
