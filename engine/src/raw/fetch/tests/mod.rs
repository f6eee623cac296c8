//! Downloads from servers that behave, and from servers that do not.

mod http;
mod servers;

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use object_store::ObjectStoreExt;
use url::Url;

use self::http::{Answer, Http, header};
use super::*;
use crate::{
    raw::{JsonLayout, RawZone},
    storage::Storage,
};

/// A storage root in a folder of its own.
struct World {
    folder: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn request(&self, from: &str) -> FetchRequest {
        let (source, version) = ("a.b".parse().unwrap(), RawVersion::at(chrono::Utc::now()));
        let storage = self.folder.path().join("lake").to_str().unwrap().to_string();
        FetchRequest {
            split_size: 1 << 20,
            patience: Duration::from_secs(20),
            ..FetchRequest::new(storage, source, version, from.to_string())
        }
    }

    async fn fetch_as(&self, request: &FetchRequest, credentials: &Credentials) -> Result<FetchOutcome> {
        fetch_as(request, credentials.clone(), &CancellationToken::new(), &|_| {}).await
    }

    async fn list(&self, from: &str, credentials: &Credentials) -> Result<Vec<listing::Listed>> {
        let request = listing::ListRequest {
            from: from.to_string(),
            allowed: AllowedOrigins::all(),
            credentials: None,
            patience: Duration::from_secs(20),
        };
        listing::list_as(&request, credentials.clone(), &CancellationToken::new()).await
    }

    /// The bytes stored of a request's part.
    fn stored(&self, request: &FetchRequest) -> Vec<u8> {
        let of_version = |path: &PathBuf| path.to_str().unwrap().contains(request.version.as_str());
        let files: Vec<PathBuf> = self.files().into_iter().filter(of_version).collect();
        assert_eq!(files.len(), 1, "{files:?}");
        std::fs::read(&files[0]).unwrap()
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
        other => panic!("{other:?}"),
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

/// Names of the files that were found, without what is before them.
fn names(files: &[listing::Listed]) -> Vec<String> {
    files
        .iter()
        .map(|file| file.url.rsplit_once("/shelf/").map_or(file.url.as_str(), |(_, name)| name).to_string())
        .collect()
}

#[tokio::test]
async fn a_cut_transfer_goes_on_from_its_last_byte() {
    let body = large();
    let world = World::new();
    let whole = Http::start(vec![Answer::Body { body: body.clone(), length: true, etag: None }]).await;
    let uncut = fetched(world.fetch(&world.request(&format!("{}/x.json", whole.url))).await.unwrap());

    // 18 MiB over a line that is cut every 2 MiB: more cuts than tries without progress.
    let server = Http::start(vec![Answer::File { body: body.clone(), etag: "\"v1\"", most: 2 << 20 }]).await;
    let world = World::new();
    let sent = AtomicUsize::new(0);
    let progress = |more: u64| {
        sent.fetch_add(usize::try_from(more).unwrap(), Ordering::SeqCst);
    };
    let request = world.request(&format!("{}/x.json", server.url));
    let outcome = fetch(&request, &CancellationToken::new(), &progress).await.unwrap();
    assert_eq!(fetched(outcome).parts, uncut.parts);
    assert!(world.stored(&request) == body, "not the same bytes");
    assert_eq!((server.asked(), sent.load(Ordering::SeqCst)), (10, body.len()), "no byte comes twice");
    assert_eq!(header(&server.heads()[1], "range"), Some("bytes=2097152-"));
    assert_eq!(header(&server.heads()[0], "accept-encoding"), Some("identity"));
}

#[tokio::test]
async fn a_file_that_changes_midway_comes_from_its_start() {
    let (old, new) = (large(), [large(), b"\n".to_vec()].concat());
    let world = World::new();
    let server = Http::start(vec![
        Answer::File { body: old, etag: "\"v1\"", most: 9 << 20 },
        Answer::File { body: new.clone(), etag: "\"v2\"", most: 10 << 20 },
        Answer::File { body: new.clone(), etag: "\"v2\"", most: usize::MAX },
    ])
    .await;
    let request = world.request(&format!("{}/x.json", server.url));
    let file = fetched(world.fetch(&request).await.unwrap());
    assert_eq!((file.parts[0].bytes, file.etag.as_deref(), server.asked()), (new.len() as u64, Some("\"v2\""), 3));
    assert!(world.stored(&request) == new, "not the same bytes");
}

#[tokio::test]
async fn silence_is_a_cut() {
    let body = b"a,b\n1,2\n".to_vec();
    let world = World::new();
    let server = Http::start(vec![Answer::Hang, Answer::Body { body: body.clone(), length: true, etag: None }]).await;
    let patience = Duration::from_millis(200);
    let request = FetchRequest { patience, ..world.request(&format!("{}/x.csv", server.url)) };
    fetched(world.fetch(&request).await.unwrap());
    assert!(world.stored(&request) == body);
    let server = Http::start(vec![Answer::Hang]).await;
    let request = FetchRequest { patience, ..world.request(&format!("{}/y.csv", server.url)) };
    let error = world.fetch(&request).await.unwrap_err();
    assert!(error.message.contains("sent nothing for 200ms"), "{error}");
    assert_eq!(world.files().len(), 1);
}

#[tokio::test]
async fn a_body_that_was_encoded_for_the_way_is_refused() {
    let world = World::new();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut gzip, b"a,b\n1,2\n").unwrap();
    let server = Http::start(vec![Answer::With("content-encoding: gzip\r\n", gzip.finish().unwrap())]).await;
    let error = world.fetch(&world.request(&format!("{}/x.json", server.url))).await.unwrap_err();
    assert!(error.message.contains("encoded as `gzip`") && server.asked() == 1, "{error}");
    assert_eq!(world.files(), Vec::<PathBuf>::new());
    // So servers name a file that is itself compressed.
    let file = fetched(world.fetch(&world.request(&format!("{}/x.csv.gz", server.url))).await.unwrap());
    assert_eq!(file.parts[0].records, Some(1));
}

#[tokio::test]
async fn credentials_go_to_their_host_only() {
    let body = b"[{\"a\": 1}]".to_vec();
    let other = Http::start(vec![Answer::Body { body, length: true, etag: None }]).await;
    let to = format!("{}/x.json", other.url);
    let server = Http::serve(move |head| match header(head, "authorization") {
        Some("basic dhjpcmvtztpvyxjz" | "bearer t0ken") => Answer::Redirect(to.clone()),
        _ => Answer::Status(401),
    })
    .await;
    let world = World::new();
    let request = world.request(&format!("{}/y.json", server.url));
    let named = Credentials { name: "vendor".into(), ..Credentials::default() };
    let basic = Credentials { user: Some("trireme".into()), password: Some("oars".into()), ..named.clone() };
    let bearer = Credentials { token: Some("t0ken".into()), ..named.clone() };
    for credentials in [basic, bearer] {
        fetched(world.fetch_as(&request, &credentials).await.unwrap());
    }
    assert!(other.heads().iter().all(|head| header(head, "authorization").is_none()), "{:?}", other.heads());
    let error = world.fetch(&request).await.unwrap_err();
    assert!(error.message.contains("401") && error.hint.contains("`credentials:`"), "{error}");
    let wrong = Credentials { token: Some("other".into()), ..named };
    let error = world.fetch_as(&request, &wrong).await.unwrap_err();
    assert!(error.hint.contains("`vendor`") && !error.to_string().contains("other"), "{error}");
}

#[tokio::test]
async fn published_checksums_are_compared() {
    let body = b"a,b\n1,2\n".to_vec();
    let sums = |text: String, kind: &'static str| {
        let body = body.clone();
        move |head: &str| match head.split(' ').nth(1).unwrap() {
            "/x.csv" => Answer::Body { body: body.clone(), length: true, etag: None },
            path if path == format!("/x.csv.{kind}") => Answer::With("", text.clone().into_bytes()),
            _ => Answer::Status(404),
        }
    };
    let real = |program: &str| {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("x.csv"), &body).unwrap();
        let output = Command::new(program).arg("x.csv").current_dir(folder.path()).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let (real_sha256, real_md5) = (real("sha256sum"), real("md5sum"));
    let damaged = |text: &str| format!("{}{}", if text.starts_with('0') { '1' } else { '0' }, &text[1..]);
    for (kind, text) in [("sha256", real_sha256.clone()), ("md5", real_md5.clone())] {
        let world = World::new();
        let server = Http::serve(sums(text.clone(), kind)).await;
        let auto = FetchRequest { checksum: Checksum::Auto, ..world.request(&format!("{}/x.csv", server.url)) };
        fetched(world.fetch(&auto).await.unwrap());
        assert!(server.heads().iter().any(|head| head.contains(&format!("/x.csv.{kind} "))), "{:?}", server.heads());

        let world = World::new();
        let server = Http::serve(sums(damaged(&text), kind)).await;
        let url = format!("{}/x.csv", server.url);
        let auto = FetchRequest { checksum: Checksum::Auto, ..world.request(&url) };
        let error = world.fetch(&auto).await.unwrap_err();
        let (found, wanted) = (&text[..32], &damaged(&text)[..32]);
        assert!(error.message.contains(found) && error.message.contains(wanted), "{error}");
        assert_eq!(world.files(), Vec::<PathBuf>::new());
        // Not asked for, not looked at.
        fetched(world.fetch(&world.request(&url)).await.unwrap());
    }
    let world = World::new();
    let server = Http::start(vec![Answer::Body { body: body.clone(), length: true, etag: None }]).await;
    let request = world.request(&format!("{}/x.csv", server.url));
    for (checksum, fine) in [
        (format!("sha256:{}", &real_sha256[..64]), true),
        (format!("md5:{}", &real_md5[..32]), true),
        (format!("sha256:{}", "0".repeat(64)), false),
        (format!("md5:{}", "0".repeat(32)), false),
    ] {
        let request = FetchRequest { checksum: checksum.parse().unwrap(), ..request.clone() };
        match world.fetch(&request).await {
            Ok(_) => assert!(fine, "{checksum}"),
            Err(error) => assert!(!fine && error.message.contains("the spec says"), "{error}"),
        }
    }
    // Nothing is published: the file is taken as it is. (The server gives the file itself for any name.)
    fetched(world.fetch(&FetchRequest { checksum: Checksum::Auto, ..request }).await.unwrap());
}

/// Fetches a large file in ranges, as the scheduler has it done, and joins them.
async fn in_ranges(world: &World, request: &FetchRequest, credentials: &Credentials, size: u64) -> Result<Fetched> {
    let request = FetchRequest { range_size: Some(size), ..request.clone() };
    let FetchOutcome::Large(seen) = world.fetch_as(&request, credentials).await? else { panic!("not large") };
    assert_eq!(world.files(), Vec::<PathBuf>::new());
    let (ranges, join) = request.in_ranges(&seen, size);
    for range in &ranges {
        assert_eq!(world.fetch_as(range, credentials).await?, FetchOutcome::Range);
    }
    let joined = fetched(world.fetch_as(&join, credentials).await?);
    let zone = RawZone::new(Storage::open(&request.storage).unwrap());
    let folder = zone.folder(&request.source, &request.version);
    for range in &ranges {
        assert!(
            zone.storage().store().head(&folder.clone().join("part-00000.range-00000")).await.is_ok()
                || range != &ranges[0]
        );
        range.remove_range(zone.storage().store().as_ref(), &folder).await;
    }
    Ok(joined)
}

#[tokio::test]
async fn ranges_make_the_same_file() {
    let body = large();
    let world = World::new();
    let server = Http::start(vec![Answer::File { body: body.clone(), etag: "\"v1\"", most: usize::MAX }]).await;
    let request = world.request(&format!("{}/x.json", server.url));
    let uncut = fetched(world.fetch(&request).await.unwrap());
    let none = Credentials::default();

    // Ranges of 5 MiB, each cut every 2 MiB.
    let world = World::new();
    let server = Http::start(vec![Answer::File { body: body.clone(), etag: "\"v1\"", most: 2 << 20 }]).await;
    let request = world.request(&format!("{}/x.json", server.url));
    let joined = in_ranges(&world, &request, &none, 5 << 20).await.unwrap();
    assert_eq!((joined.parts, joined.etag), (uncut.parts, uncut.etag));
    assert!(world.stored(&request) == body, "not the same bytes");

    // It changes while its ranges are fetched.
    let world = World::new();
    let server = Http::start(vec![
        Answer::File { body: body.clone(), etag: "\"v1\"", most: usize::MAX },
        Answer::File { body: body.clone(), etag: "\"v1\"", most: usize::MAX },
        Answer::File { body: body.clone(), etag: "\"v2\"", most: usize::MAX },
    ])
    .await;
    let request = world.request(&format!("{}/x.json", server.url));
    let error = in_ranges(&world, &request, &none, 5 << 20).await.unwrap_err();
    assert!(error.message.contains("changed, or stopped sending ranges"), "{error}");

    // An origin without ranges sends all at once, whatever its size.
    let world = World::new();
    let server = Http::start(vec![Answer::Body { body: body.clone(), length: true, etag: Some("\"v1\"") }]).await;
    let request = FetchRequest { range_size: Some(1 << 20), ..world.request(&format!("{}/x.json", server.url)) };
    fetched(world.fetch(&request).await.unwrap());
}

#[tokio::test]
async fn local_folders_are_listed() {
    let world = World::new();
    let shelf = world.folder.path().join("shelf");
    for name in [
        "b.json",
        "a.json",
        "a.json.sha256",
        ".hidden.json",
        "_SUCCESS",
        "day=1/x-1.json",
        "day=2/x-1.json",
        "day=2/y.json",
    ] {
        let path = shelf.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "[{}]").unwrap();
    }
    let none = Credentials::default();
    let url = |pattern: &str| format!("{}/{pattern}", Url::from_file_path(&shelf).unwrap());
    let found = |files: Result<Vec<listing::Listed>>| names(&files.unwrap());
    assert_eq!(found(world.list(&url("day=*/x-*.json"), &none).await), ["day=1/x-1.json", "day=2/x-1.json"]);
    assert_eq!(found(world.list(&url("*.json"), &none).await), ["a.json", "b.json"]);
    assert_eq!(
        found(world.list(&url(""), &none).await),
        ["a.json", "b.json", "day=1/x-1.json", "day=2/x-1.json", "day=2/y.json"]
    );
    assert_eq!(found(world.list(&url("**/x-[0-3].json"), &none).await), ["day=1/x-1.json", "day=2/x-1.json"]);
    let error = world.list(&url("*.csv"), &none).await.unwrap_err();
    assert!(error.message.contains("*.csv") && error.hint.contains("`**`"), "{error}");
    assert_eq!(world.list("https://host/x/", &none).await.unwrap_err().code, Code::InvalidSpec);

    // A link out of the folder that is allowed is refused, whatever its name.
    std::fs::write(world.folder.path().join("secret.json"), "[]").unwrap();
    std::os::unix::fs::symlink(world.folder.path().join("secret.json"), shelf.join("c.json")).unwrap();
    let request = listing::ListRequest {
        from: url("*.json"),
        allowed: AllowedOrigins::new(vec![url("")]).unwrap(),
        credentials: None,
        patience: Duration::from_secs(20),
    };
    let error = listing::list_as(&request, none, &CancellationToken::new()).await.unwrap_err();
    assert_eq!(error.code, Code::OriginRefused, "{error}");
}
