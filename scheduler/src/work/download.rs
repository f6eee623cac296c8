//! Downloads: executors bring the bytes, the scheduler makes them a version.
//!
//! A pattern or a folder is listed by an executor first. Each file is a part, fetched by a task; one that is too large for a task and whose origin sends
//! ranges is fetched in ranges, by all executors, and joined.

use trireme_engine::{
    Code, Error, RawVersion, Result, SourceName,
    raw::{
        Checksum, Delivered, FetchOutcome, FetchRequest, Fetched, GivenOptions, Manifest, Part, Previous, RawFormat,
        Seen, Slice, TextOptions as ReadOptions, download_outcomes, download_plan,
        fetch::{
            check_credentials_name, is_pattern,
            listing::{ListRequest, Listed, is_current, is_same},
            origin_url, shown,
        },
        list_plan, listed_files,
    },
};
use trireme_proto::v1::{Download, Outcome, RawFormat as FormatSpec, TextOptions};
use url::Url;

use super::{Worker, report::metrics};
use crate::jobs::JobHandle;

/// Tasks for each slot of the cluster, at most, so that many small files are few tasks, and a slow one does not hold up all others.
const TASKS_PER_SLOT: usize = 4;

/// The raw format of a spec; none: told from the file.
pub fn format_of(spec: i32) -> Option<RawFormat> {
    match FormatSpec::try_from(spec).unwrap_or_default() {
        FormatSpec::Unspecified => None,
        FormatSpec::Json => Some(RawFormat::Json),
        FormatSpec::Csv => Some(RawFormat::Csv),
        FormatSpec::Parquet => Some(RawFormat::Parquet),
    }
}

/// What a spec says of its text.
pub fn options_of(text: Option<&TextOptions>) -> GivenOptions {
    let Some(text) = text.cloned() else { return GivenOptions::default() };
    let TextOptions { delimiter, quote, escape, encoding, null_value, header } = text;
    GivenOptions { delimiter, quote, escape, encoding, null_value, header }
}

/// Whether nothing tells the format of a file: it has no text, and its name says nothing.
fn is_untold(wanted: Option<RawFormat>, name: &str, parts: &[Part]) -> bool {
    wanted.is_none() && RawFormat::of_name(name).is_none() && parts.iter().all(|part| part.text_bytes() == 0)
}

/// A download's spec, checked.
struct Wanted {
    source: SourceName,
    from: Url,
    format: Option<RawFormat>,
    given: GivenOptions,
    options: ReadOptions,
    credentials: Option<String>,
    checksum: Checksum,
}

impl Wanted {
    fn of(download: &Download) -> Result<Self> {
        let from = origin_url(&download.from)?;
        let checksum: Checksum = download.checksum.parse()?;
        if is_pattern(&from) && matches!(checksum, Checksum::Sha256(_) | Checksum::Md5(_)) {
            return Err(Error::new(
                Code::InvalidSpec,
                format!("one checksum is given for all files of {}", shown(&from)),
            )
            .hint("use `checksum: auto`, which looks for one beside each file"));
        }
        let credentials = Some(download.credentials.clone()).filter(|name| !name.is_empty());
        if let Some(name) = &credentials {
            check_credentials_name(name)?;
            if matches!(from.scheme(), "file" | "s3" | "az" | "gs") {
                return Err(Error::new(Code::InvalidSpec, format!("`{}://` takes no credentials by name", from.scheme()))
                    .hint("files need none, and object stores take theirs from the executors' environment, such as AWS_ACCESS_KEY_ID; leave `credentials` out"));
            }
        }
        let (format, given) = (format_of(download.format), options_of(download.text.as_ref()));
        if let Some(format) = format {
            given.check_format(format, &shown(&from))?;
        }
        let options = given.over(&ReadOptions::default())?;
        Ok(Self { source: download.source.parse()?, from, format, given, options, credentials, checksum })
    }
}

impl Worker {
    pub(super) fn check_download(&self, download: &Download) -> Result<()> {
        self.settings.allowed_origins.check(&Wanted::of(download)?.from)
    }

    pub(super) async fn download(&self, download: &Download, job: &JobHandle) -> Result<()> {
        self.check_download(download)?;
        let wanted = Wanted::of(download)?;
        // Also where it was skipped or dropped since: the same bytes again are no news.
        let current = self.zone.last_delivered(&wanted.source).await?;
        // What was read as another format before, or in another way, is read again.
        let current = current.filter(|current| {
            wanted.format.is_none_or(|format| format == current.format) && current.options == wanted.options
        });
        let version = self.zone.next_version(&wanted.source).await?;
        self.zone.download_begins(&wanted.source, &version, &job.id().to_string()).await?;
        let manifest = self.bring(&wanted, &version, current.as_ref(), job).await;
        let manifest = match manifest {
            Ok(Some(manifest)) => manifest,
            other => {
                // What came for nothing goes; the first error is the one to tell.
                let discarded = self.zone.discard(&wanted.source, &version).await;
                other?;
                discarded?;
                let version = current.map(|manifest| manifest.version.to_string()).unwrap_or_default();
                job.update(|job| {
                    job.outcome = Outcome::AlreadyCurrent.into();
                    job.raw_version = version;
                });
                return Ok(());
            }
        };
        self.zone.publish(&manifest).await?;
        self.zone.download_ended(&wanted.source, &version).await;
        let (bytes, copies) = (manifest.bytes(), manifest.copy_bytes());
        job.update(|job| {
            job.outcome = Outcome::Applied.into();
            job.raw_version = manifest.version.to_string();
            metrics(job, |metrics| {
                metrics.bytes_in = bytes;
                metrics.bytes_out = bytes + copies;
                metrics.files_added = manifest.parts.len() as u64;
                metrics.rows_in = manifest.records().unwrap_or(0);
            });
        });
        Ok(())
    }

    /// Stores the files of a version; none when they are the current one's.
    async fn bring(
        &self,
        wanted: &Wanted,
        version: &RawVersion,
        current: Option<&Manifest>,
        job: &JobHandle,
    ) -> Result<Option<Manifest>> {
        let request = |part: u32, from: &Url| FetchRequest {
            storage: self.storage.root().to_string(),
            source: wanted.source.clone(),
            version: version.clone(),
            part,
            from: from.to_string(),
            format: wanted.format,
            options: wanted.options.clone(),
            split_size: self.settings.split_size,
            copy: self.settings.copy,
            allowed: self.settings.allowed_origins.clone(),
            previous: None,
            credentials: wanted.credentials.clone(),
            checksum: wanted.checksum.clone(),
            range_size: (self.settings.range_size > 0).then_some(self.settings.range_size),
            patience: self.settings.origin_timeout,
            slice: Slice::Whole,
        };
        let origin = shown(&wanted.from);
        let manifest = |format, parts| -> Result<Manifest> {
            wanted.given.check_format(format, &origin)?;
            let manifest = Manifest::new(wanted.source.clone(), version.clone(), origin.clone(), format, parts);
            Ok(manifest.with_options(wanted.options.clone()))
        };
        if !is_pattern(&wanted.from) {
            let previous = current.and_then(|current| Previous::of(current, &wanted.from));
            let request = FetchRequest { previous, ..request(0, &wanted.from) };
            let Some(fetched) = self.fetch_all(vec![vec![request]], job).await?.into_iter().next() else {
                return Ok(None);
            };
            // An empty file without a telling name is of the format that the one before was of.
            let untold = is_untold(wanted.format, wanted.from.path(), &fetched.parts);
            let format = current.filter(|_| untold).map_or(fetched.format, |current| current.format);
            let mut manifest = manifest(format, fetched.parts)?;
            (manifest.etag, manifest.last_modified) = (fetched.etag, fetched.last_modified);
            return Ok(Some(manifest));
        }
        let files = self.list(wanted, job).await?;
        if current.is_some_and(|current| is_current(&files, current)) {
            return Ok(None);
        }
        let named = |file: &Listed| Some((wanted.format.or_else(|| RawFormat::of_name(&file.url))?, file.origin()));
        one_format(files.iter().filter_map(named))?;
        let mut requests = Vec::with_capacity(files.len());
        for (part, file) in (0..).zip(&files) {
            requests.push(request(part, &origin_url(&file.url)?));
        }
        let fetched = self.fetch_all(self.units(&files, requests), job).await?;
        let told = fetched.iter().filter(|file| !is_untold(wanted.format, &file.origin, &file.parts));
        let any = fetched.first().map(|file| file.format);
        let Some(format) = one_format(told.map(|file| (file.format, file.origin.clone())))?.or(any) else {
            return Err(Error::new(Code::Internal, format!("nothing came of {} files", files.len())));
        };
        let parts = |Fetched { parts, origin, etag, last_modified, .. }: Fetched| {
            let delivered = Some(Delivered { origin, etag, last_modified });
            parts.into_iter().map(move |part| Part { delivered: delivered.clone(), ..part })
        };
        let parts: Vec<Part> = fetched.into_iter().flat_map(parts).collect();
        if current.is_some_and(|current| is_same(&parts, current)) {
            return Ok(None);
        }
        manifest(format, parts).map(Some)
    }

    async fn list(&self, wanted: &Wanted, job: &JobHandle) -> Result<Vec<Listed>> {
        let request = ListRequest {
            from: wanted.from.to_string(),
            allowed: self.settings.allowed_origins.clone(),
            credentials: wanted.credentials.clone(),
            patience: self.settings.origin_timeout,
        };
        listed_files(&self.run_plan("list", &self.sessions.local()?, list_plan(request)?, job).await?)
    }

    /// Requests in about as many units as keep the cluster busy, the largest file first.
    fn units(&self, files: &[Listed], requests: Vec<FetchRequest>) -> Vec<Vec<FetchRequest>> {
        let tasks = requests.len().min(TASKS_PER_SLOT * self.cluster.vcores().max(1)).max(1);
        let mut sized: Vec<(u64, FetchRequest)> =
            files.iter().map(|file| file.length.unwrap_or(u64::MAX)).zip(requests).collect();
        sized.sort_by(|(a, _), (b, _)| b.cmp(a));
        let mut units = vec![Vec::new(); tasks];
        for (at, (_, request)) in sized.into_iter().enumerate() {
            units[at % tasks].push(request);
        }
        units
    }

    /// Fetches files, large ones in ranges; what came, in the parts' order, without what has not changed.
    async fn fetch_all(&self, units: Vec<Vec<FetchRequest>>, job: &JobHandle) -> Result<Vec<Fetched>> {
        let (mut fetched, large) = self.fetch(&units, job).await?;
        if large.is_empty() {
            return Ok(fetched);
        }
        let (mut ranges, mut joins) = (Vec::new(), Vec::new());
        for (part, seen) in &large {
            let request = units.iter().flatten().find(|request| request.part == *part);
            let request = request.ok_or_else(|| Error::new(Code::Internal, format!("nobody asked for part {part}")))?;
            let (of_part, join) = request.in_ranges(seen, self.settings.range_size);
            ranges.extend(of_part);
            joins.push(vec![join]);
        }
        let plan = download_plan(&ranges.iter().map(|range| vec![range.clone()]).collect::<Vec<_>>())?;
        let rows = self.run_plan("download ranges", &self.sessions.local()?, plan, job).await?;
        let stored = download_outcomes(&rows)?.iter().filter(|(_, outcome)| *outcome == FetchOutcome::Range).count();
        if stored != ranges.len() {
            return Err(Error::new(Code::WorkLost, format!("{stored} of {} ranges were stored", ranges.len())));
        }
        let (joined, _) = self.fetch(&joins, job).await?;
        for range in &ranges {
            range.remove_range(self.storage.store().as_ref(), &self.zone.folder(&range.source, &range.version)).await;
        }
        fetched.extend(joined);
        let path = |file: &Fetched| file.parts.first().map(|part| part.path.clone());
        fetched.sort_by_key(path);
        Ok(fetched)
    }

    /// Runs downloads: what was stored, and which parts are too large for one task.
    async fn fetch(&self, units: &[Vec<FetchRequest>], job: &JobHandle) -> Result<(Vec<Fetched>, Vec<(u32, Seen)>)> {
        let asked = units.iter().flatten().count();
        let rows = self.run_plan("download", &self.sessions.local()?, download_plan(units)?, job).await?;
        let outcomes = download_outcomes(&rows)?;
        if outcomes.len() != asked {
            return Err(Error::new(Code::WorkLost, format!("{asked} downloads gave {} results", outcomes.len())));
        }
        let (mut fetched, mut large) = (Vec::new(), Vec::new());
        for (part, outcome) in outcomes {
            match outcome {
                FetchOutcome::Fetched(file) => fetched.push(file),
                FetchOutcome::Large(seen) => large.push((part, seen)),
                FetchOutcome::NotModified | FetchOutcome::Range => {}
            }
        }
        Ok((fetched, large))
    }
}

/// The format of all files; none when there are none. Parts of one version are read alike.
fn one_format(files: impl Iterator<Item = (RawFormat, String)>) -> Result<Option<RawFormat>> {
    let mut first: Option<(RawFormat, String)> = None;
    for (format, origin) in files {
        match &first {
            Some((other, one)) if *other != format => {
                return Err(Error::new(
                    Code::InvalidSpec,
                    format!("{one} is {other}, and {origin} is {format}: one version has one format"),
                )
                .hint("narrow the pattern, such as `*.json`, or give `format:` if their names mislead"));
            }
            Some(_) => {}
            None => first = Some((format, origin)),
        }
    }
    Ok(first.map(|(format, _)| format))
}
