//! The storage root: one URL under which everything durable lives.
//!
//! `raw/<source>/<version>/…` raw zone, `tables/<schema>/<table>/` Delta tables, `jobs/` the job journal. Credentials come from the process
//! environment (`AWS_*`, `AZURE_*`, `GOOGLE_*`), never from a spec or a session setting.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, LazyLock},
    time::Duration,
};

use datafusion::datasource::object_store::ObjectStoreUrl;
use object_store::{
    BackoffConfig, ObjectStore, ObjectStoreExt, ObjectStoreScheme, PutMode, PutOptions, PutPayload, RetryConfig,
    aws::AmazonS3Builder,
    azure::MicrosoftAzureBuilder,
    gcp::GoogleCloudStorageBuilder,
    local::LocalFileSystem,
    path::{Path, PathPart},
};
use parking_lot::Mutex;
use url::Url;

use crate::{
    error::{Code, Error, Result},
    names::TableName,
};

/// How long a first write may take, with retries.
const PROBE_TIMEOUT: Duration = Duration::from_secs(20);

/// The storage root, opened. Cheap to clone.
#[derive(Clone)]
pub struct Storage {
    root: Url,
    store: Arc<dyn ObjectStore>,
    prefix: Path,
}

impl fmt::Debug for Storage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Storage({})", self.root)
    }
}

impl Storage {
    /// Opens `file:///…`, a plain folder path, `s3://bucket/prefix`, `az://…` or `gs://…`. A local folder is made when it is missing.
    pub fn open(root: &str) -> Result<Self> {
        let root = root_url(root)?;
        if root.scheme() == "file" {
            let folder = root.to_file_path().map_err(|()| invalid(root.as_str(), "not a local path"))?;
            std::fs::create_dir_all(&folder).map_err(|error| {
                Error::new(Code::Storage, format!("can't make the storage folder {}: {error}", folder.display()))
                    .hint("choose a writable folder with --storage")
            })?;
        }
        let (store, prefix) = open_store(&root)?;
        Ok(Self { root, store, prefix })
    }

    /// The root as plan nodes name it, opened once per process: its client and connections are shared by all tasks.
    pub fn shared(root: &str) -> Result<Self> {
        static OPENED: LazyLock<Mutex<HashMap<String, Storage>>> = LazyLock::new(Mutex::default);
        let mut opened = OPENED.lock();
        if let Some(storage) = opened.get(root) {
            return Ok(storage.clone());
        }
        let storage = Self::open(root)?;
        opened.insert(root.to_string(), storage.clone());
        Ok(storage)
    }

    /// The store that holds the root; paths in it are whole, see [`Storage::path`].
    pub fn store(&self) -> Arc<dyn ObjectStore> {
        self.store.clone()
    }

    /// The root as given, without a trailing slash.
    pub fn root(&self) -> &Url {
        &self.root
    }

    /// Scheme and authority, as DataFusion's plans name a store.
    pub fn object_store_url(&self) -> Result<ObjectStoreUrl> {
        let url = &self.root[..url::Position::BeforePath];
        Ok(ObjectStoreUrl::parse(url)?)
    }

    /// Whole path, in the store, of a `/`-separated path below the root.
    pub fn path(&self, below: &str) -> Path {
        Path::from_iter(self.prefix.parts().chain(Path::from(below).parts()).collect::<Vec<_>>())
    }

    /// URL of a `/`-separated path below the root.
    pub fn url(&self, below: &str) -> Result<Url> {
        let mut url = self.root.clone();
        url.path_segments_mut()
            .map_err(|()| invalid(self.root.as_str(), "has no path"))?
            .pop_if_empty()
            .extend(below.split('/').filter(|part| !part.is_empty()));
        Ok(url)
    }

    /// URL of a table's folder.
    pub fn table_url(&self, table: &TableName) -> Result<Url> {
        self.url(&format!("tables/{}/{}", table.schema, table.name))
    }

    /// Whole path, in the store, of a table's folder.
    pub fn table_path(&self, table: &TableName) -> Path {
        self.path(&format!("tables/{}/{}", table.schema, table.name))
    }

    /// Checks that the root can be written and that racing creations of one object have exactly one winner, which Delta commits rest on.
    pub async fn probe(&self) -> Result<()> {
        let path = self.path(&format!("jobs/probe-{}", uuid::Uuid::new_v4()));
        let create = || async {
            let options = PutOptions::from(PutMode::Create);
            self.store.put_opts(&path, PutPayload::from_static(b"probe"), options).await
        };
        let mut created = 0;
        let mut failure = None;
        let racers = tokio::time::timeout(PROBE_TIMEOUT, futures::future::join_all((0..8).map(|_| create()))).await;
        let Ok(racers) = racers else {
            return Err(Error::new(
                Code::Storage,
                format!("{} did not answer within {} s", self.root, PROBE_TIMEOUT.as_secs()),
            )
            .hint("check --storage, the endpoint in the environment (AWS_ENDPOINT_URL) and that the server runs"));
        };
        for outcome in racers {
            match outcome {
                Ok(_) => created += 1,
                Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => {}
                Err(error) => failure = Some(error),
            }
        }
        let _ = self.store.delete(&path).await;
        match (created, failure) {
            (1, _) => Ok(()),
            (0, Some(error)) => Err(Error::new(Code::Storage, format!("can't write to {}: {error}", self.root))
                .hint("check --storage, the credentials in the environment (AWS_ACCESS_KEY_ID …) and that the bucket exists")),
            (created, _) => Err(Error::new(
                Code::Storage,
                format!("{} let {created} of 8 racing writers create the same object", self.root),
            )
            .hint("this store ignores `If-None-Match: *`, so Delta commits would be lost; use one that honours it, such as S3 or SeaweedFS 4.17 or later")),
        }
    }
}

/// A path of a store out of its text. `Path::from` takes text for what is still to be encoded, and makes another path of one that has letters
/// beyond ASCII, `%` or `#`.
pub fn parse_path(text: &str) -> Result<Path> {
    Path::parse(text).map_err(|error| Error::new(Code::Internal, format!("`{text}` is no path of a store: {error}")))
}

/// What is named so, as it is, in a folder of a store.
pub fn in_folder(folder: &Path, name: &str) -> Path {
    let folder = folder.clone();
    match PathPart::parse(name) {
        Ok(part) => folder.join(part),
        // No store would have listed it.
        Err(_) => folder.join(name),
    }
}

fn invalid(root: &str, why: &str) -> Error {
    Error::new(Code::InvalidSpec, format!("storage root `{root}`: {why}"))
        .hint("give a folder, file:///path, s3://bucket/prefix, az://container/prefix or gs://bucket/prefix")
}

fn root_url(root: &str) -> Result<Url> {
    let url = if root.contains("://") {
        let url = Url::parse(root).map_err(|error| invalid(root, &error.to_string()))?;
        if url.query().is_some() || url.fragment().is_some() {
            return Err(invalid(root, "a URL's path ends at `?` and `#`").hint(
                "in a URL a folder's `?` is written %3F, its `#` %23 and its `%` %25; the plain path of a folder is taken as it is",
            ));
        }
        url
    } else {
        let folder = std::path::absolute(root).map_err(|error| invalid(root, &error.to_string()))?;
        Url::from_directory_path(folder).map_err(|()| invalid(root, "not a path"))?
    };
    let mut url = url;
    let trimmed = url.path().trim_end_matches('/').to_string();
    url.set_path(&trimmed);
    Ok(url)
}

/// Opens the store behind any URL of a supported scheme with credentials from the environment; returns it with the URL's path in it.
///
/// A request that fails in passing is tried again for a minute: an S3 server that restarts answers 500 until it has found its data.
pub fn open_store(url: &Url) -> Result<(Arc<dyn ObjectStore>, Path)> {
    let wrong = |error: object_store::Error| invalid(url.as_str(), &error.to_string());
    let (scheme, path) = ObjectStoreScheme::parse(url).map_err(|error| wrong(error.into()))?;
    let retry = || RetryConfig {
        backoff: BackoffConfig {
            init_backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(5),
            base: 2.0,
        },
        max_retries: 30,
        retry_timeout: Duration::from_secs(60),
    };
    let store: Arc<dyn ObjectStore> = match scheme {
        ObjectStoreScheme::AmazonS3 => {
            Arc::new(AmazonS3Builder::from_env().with_url(url.as_str()).with_retry(retry()).build().map_err(wrong)?)
        }
        ObjectStoreScheme::GoogleCloudStorage => Arc::new(
            GoogleCloudStorageBuilder::from_env().with_url(url.as_str()).with_retry(retry()).build().map_err(wrong)?,
        ),
        ObjectStoreScheme::MicrosoftAzure => Arc::new(
            MicrosoftAzureBuilder::from_env().with_url(url.as_str()).with_retry(retry()).build().map_err(wrong)?,
        ),
        ObjectStoreScheme::Local => Arc::new(LocalFileSystem::new()),
        _ => return Err(invalid(url.as_str(), "not a kind of storage")),
    };
    Ok((store, path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_folder_is_a_storage_root() {
        let folder = tempfile::tempdir().unwrap();
        let storage = Storage::open(folder.path().join("lake").to_str().unwrap()).unwrap();
        storage.probe().await.unwrap();
        let table: TableName = "a.b".parse().unwrap();
        assert!(storage.table_url(&table).unwrap().as_str().ends_with("/lake/tables/a/b"));
        assert!(storage.table_path(&table).as_ref().ends_with("lake/tables/a/b"));
        assert_eq!(storage.object_store_url().unwrap().as_str(), "file:///");
    }

    #[tokio::test]
    async fn a_root_may_have_any_letter() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["données", "a%20b", "50%", "q?x#y", "[a]{b}", "a b+c&d='e'", "日本~^|"] {
            let lake = folder.path().join(name);
            let storage = Storage::open(lake.to_str().unwrap()).unwrap();
            let path = storage.path("raw/x.txt");
            storage.store().put(&path, "x".into()).await.unwrap();
            assert!(lake.join("raw/x.txt").exists(), "{name}");
            // As plans name the root and files of it.
            assert_eq!(Storage::open(storage.root().as_str()).unwrap().path("raw/x.txt"), path);
            assert_eq!(parse_path(path.as_ref()).unwrap(), path);
            let odd = in_folder(&storage.path("raw"), name);
            storage.store().put(&odd, "x".into()).await.unwrap();
            assert!(lake.join("raw").join(name).exists(), "{name}");
        }
        let error = Storage::open("s3://bucket/a#b").unwrap_err();
        assert!(error.hint.contains("%23"), "{error}");
    }

    #[test]
    fn a_wrong_root_is_named() {
        let error = Storage::open("ftp://host/x").unwrap_err();
        assert_eq!(error.code, Code::InvalidSpec);
        assert!(error.message.contains("ftp://host/x"));
    }
}
