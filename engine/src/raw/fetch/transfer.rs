//! The loop of a download: from its origin to storage, over as many connections as it takes.

use std::{sync::Arc, time::Duration};

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use futures::StreamExt;
use md5::{Digest, Md5};
use object_store::{ObjectStore, path::Path};
use tokio_util::sync::CancellationToken;

use super::{
    Ask, Checksum, Failure, FetchOutcome, FetchRequest, Fetched, Incoming, Next, Opened, Previous, Seen, Slice,
    checksum,
    origin::Origin,
    ranges::{self, RangeSink},
    sink::PartSink,
};
use crate::{
    error::{Code, Error, Result},
    raw::{intake::discard_parts, packed::TextPlan, zone::RawZone},
    storage::Storage,
};

/// Connections that one file may take, each getting farther than all before.
const MOST_TRIES: usize = 1000;

/// Tries without progress, each later than the one before.
pub(super) fn delays() -> ExponentialBackoff {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(250))
        .with_factor(4.0)
        .with_max_times(3)
        .with_jitter()
        .build()
}

/// One file on its way.
pub(super) struct Transfer<'a> {
    way: Way<'a>,
    /// What came so far; none before the first byte.
    taken: Option<Taken>,
}

/// From where to where.
struct Way<'a> {
    request: &'a FetchRequest,
    origin: &'a Origin,
    store: Arc<dyn ObjectStore>,
    folder: Path,
    cancel: &'a CancellationToken,
    progress: &'a (dyn Fn(u64) + Send + Sync),
}

/// What came of a file so far.
struct Taken {
    sink: Sink,
    md5: Md5,
    /// The file as it was when its first byte came.
    seen: Seen,
}

enum Sink {
    Part(Box<PartSink>),
    Range(Box<RangeSink>),
}

impl Taken {
    fn bytes(&self) -> u64 {
        match &self.sink {
            Sink::Part(sink) => sink.bytes(),
            Sink::Range(sink) => sink.bytes(),
        }
    }

    async fn abort(self) {
        match self.sink {
            Sink::Part(sink) => sink.abort().await,
            Sink::Range(sink) => sink.abort().await,
        }
    }
}

impl<'a> Transfer<'a> {
    pub fn new(
        request: &'a FetchRequest,
        origin: &'a Origin,
        cancel: &'a CancellationToken,
        progress: &'a (dyn Fn(u64) + Send + Sync),
    ) -> Result<Self> {
        let storage = Storage::shared(&request.storage)?;
        let store = storage.store();
        let folder = RawZone::new(storage).folder(&request.source, &request.version);
        Ok(Self { way: Way { request, origin, store, folder, cancel, progress }, taken: None })
    }

    /// Fetches the file, or gives up and leaves nothing.
    pub async fn run(mut self) -> Result<FetchOutcome> {
        let (mut farthest, mut delays) = (0, delays());
        for _ in 0..MOST_TRIES {
            let failure = match self.attempt().await {
                Ok(outcome) => return Ok(outcome),
                Err(failure) => failure,
            };
            let reached = self.taken.as_ref().map_or(0, Taken::bytes);
            if reached > farthest {
                (farthest, delays) = (reached, self::delays());
            }
            if failure.next != Next::GoOn {
                self.start_again().await;
            }
            let delay = delays.next().filter(|_| failure.next != Next::Nothing);
            let Some(delay) = delay else {
                self.start_again().await;
                return Err(failure.error);
            };
            tracing::warn!(origin = self.way.origin.shown(), error = %failure.error.message, bytes = reached, ?delay, "download is tried again");
            tokio::select! {
                () = tokio::time::sleep(delay) => {}
                () = self.way.cancel.cancelled() => {
                    self.start_again().await;
                    return Err(self.way.cancelled());
                }
            }
        }
        self.start_again().await;
        let message = format!("{} was cut {MOST_TRIES} times, and is not whole yet", self.way.origin.shown());
        Err(Error::new(Code::DownloadFailed, message).hint("ask its owner why connections end so early"))
    }

    async fn start_again(&mut self) {
        if let Some(taken) = self.taken.take() {
            taken.abort().await;
        }
    }

    async fn attempt(&mut self) -> Result<FetchOutcome, Failure> {
        let had = self.taken.as_ref().map(|taken| (taken.bytes(), taken.seen.clone()));
        let opened = tokio::select! {
            opened = self.way.open(had) => opened?,
            () = self.way.cancel.cancelled() => return Err(self.way.cancelled().into()),
        };
        let Opened::Body(mut incoming) = opened else { return Ok(FetchOutcome::NotModified) };
        if let Slice::Range { start, end, .. } = &self.way.request.slice {
            let at = start + self.taken.as_ref().map_or(0, Taken::bytes);
            if incoming.start != at {
                let message = format!(
                    "{} changed, or stopped sending ranges, while bytes {start} to {end} were fetched",
                    self.way.origin.shown()
                );
                return Err(Error::new(Code::DownloadFailed, message).hint("run the download again").into());
            }
        } else if self.taken.as_ref().is_some_and(|taken| taken.bytes() != incoming.start) {
            tracing::warn!(
                origin = self.way.origin.shown(),
                "the file has changed, or its origin can't go on: it is fetched from its start"
            );
            self.start_again().await;
        }
        let taken = self.taken.take().filter(|taken| taken.bytes() > 0);
        if taken.is_none() && self.way.is_large(&incoming) {
            return Ok(FetchOutcome::Large(incoming.seen));
        }
        let mut taken = taken.unwrap_or_else(|| self.way.begin(incoming.seen.clone()));
        let received = self.way.receive(&mut incoming, &mut taken).await;
        self.taken = Some(taken);
        received?;
        match self.taken.take() {
            Some(taken) => self.way.finish(taken).await,
            None => Err(Error::new(Code::Internal, "a download that came to its end without a beginning").into()),
        }
    }
}

impl Way<'_> {
    fn cancelled(&self) -> Error {
        Error::new(Code::Cancelled, format!("the download of {} was cancelled", self.origin.shown()))
    }

    /// Asks for what is missing, when so many bytes of a file are there.
    async fn open(&self, had: Option<(u64, Seen)>) -> Result<Opened, Failure> {
        match (&self.request.slice, &had) {
            (Slice::Range { start, end, of, .. }, had) => {
                let start = start + had.as_ref().map_or(0, |(bytes, _)| *bytes);
                self.origin.open(Ask::Rest { start, end: Some(*end), of }).await
            }
            (Slice::Joined { ranges, of }, _) => {
                Ok(Opened::Body(ranges::open(&self.store, &self.folder, self.request.part, *ranges, of)))
            }
            (Slice::Whole, Some((start, of))) if *start > 0 && of.validator.is_some() => {
                self.origin.open(Ask::Rest { start: *start, end: None, of }).await
            }
            (Slice::Whole, _) => self.origin.open(Ask::Whole(self.request.previous.as_ref())).await,
        }
    }

    fn is_large(&self, incoming: &Incoming) -> bool {
        let large = self.request.range_size.zip(incoming.seen.length).is_some_and(|(most, length)| length > most);
        large && incoming.ranges && incoming.seen.validator.is_some() && self.request.slice == Slice::Whole
    }

    fn begin(&self, seen: Seen) -> Taken {
        let request = self.request;
        let sink = match &request.slice {
            Slice::Range { number, .. } => Sink::Range(Box::new(RangeSink::new(
                self.store.clone(),
                ranges::path(&self.folder, request.part, *number),
            ))),
            Slice::Whole | Slice::Joined { .. } => {
                let plan = TextPlan {
                    store: self.store.clone(),
                    folder: self.folder.clone(),
                    stem: format!("part-{:05}", request.part),
                    format: request.format,
                    options: request.options.clone(),
                    split_size: request.split_size,
                    copy: false,
                    cancel: self.cancel.clone(),
                };
                let sink = PartSink::new(plan, self.origin.shown(), self.origin.url.path(), request.copy);
                Sink::Part(Box::new(sink))
            }
        };
        Taken { sink, md5: Md5::new(), seen }
    }

    /// Takes a body to its end, and checks that the end is where it was promised to be.
    async fn receive(&self, incoming: &mut Incoming, taken: &mut Taken) -> Result<(), Failure> {
        let (name, patience) = (self.origin.shown(), self.request.patience);
        let whole = match &self.request.slice {
            Slice::Range { start, end, .. } => Some(end - start),
            Slice::Whole | Slice::Joined { .. } => taken.seen.length,
        };
        let ended = loop {
            let chunk = tokio::select! {
                chunk = tokio::time::timeout(patience, incoming.body.next()) => chunk,
                () = self.cancel.cancelled() => return Err(self.cancelled().into()),
            };
            let chunk = match chunk {
                Ok(Some(Ok(chunk))) => chunk,
                Ok(Some(Err(failure))) => break Err(failure),
                Ok(None) => break Ok(()),
                Err(_) => break Err(Failure::transient(format!("{name} sent nothing for {patience:?}"))),
            };
            (self.progress)(chunk.len() as u64);
            if self.request.checksum.wants_md5() {
                taken.md5.update(&chunk);
            }
            match &mut taken.sink {
                Sink::Part(sink) => sink.write(chunk).await?,
                Sink::Range(sink) => sink.write(chunk).await?,
            }
            if let Some(whole) = whole.filter(|whole| taken.bytes() > *whole) {
                return Err(Failure::no_rest(format!("{name} sent more than the {whole} bytes that it promised")));
            }
        };
        match (ended, whole) {
            // All that was promised came; how the connection ended does not matter.
            (_, Some(whole)) if whole == taken.bytes() => Ok(()),
            (Ok(()), Some(whole)) => Err(Failure::transient(format!("{name} sent {} of {whole} bytes", taken.bytes()))),
            (ended, _) => ended,
        }
    }

    /// Stores the end of it, and compares it with what it should be.
    async fn finish(&self, Taken { sink, md5, seen }: Taken) -> Result<FetchOutcome, Failure> {
        let sink = match sink {
            Sink::Part(sink) => sink,
            Sink::Range(sink) => {
                sink.finish().await?;
                return Ok(FetchOutcome::Range);
            }
        };
        let (parts, format) = sink.finish().await?;
        // Members of an archive are parts of one file, and have its checksum.
        let sha256 = parts.first().map(|part| part.sha256.clone()).unwrap_or_default();
        let same = |had: &Previous| parts.first().is_some_and(|part| had.sha256 == sha256 && had.bytes == part.bytes);
        let had = self.request.previous.as_ref().is_some_and(same);
        if self.request.checksum != Checksum::None {
            let md5 = checksum::hex(&md5.finalize());
            let compared = checksum::compare(self.origin, &self.request.checksum, &seen, &sha256, &md5);
            let compared = tokio::select! {
                compared = compared => compared,
                () = self.cancel.cancelled() => Err(self.cancelled().into()),
            };
            if let Err(failure) = compared {
                discard_parts(&self.store, &self.folder, &parts).await;
                return Err(failure);
            }
        }
        if had {
            discard_parts(&self.store, &self.folder, &parts).await;
            return Ok(FetchOutcome::NotModified);
        }
        let Seen { etag, last_modified, .. } = seen;
        Ok(FetchOutcome::Fetched(Fetched { parts, format, origin: self.origin.shown(), etag, last_modified }))
    }
}
