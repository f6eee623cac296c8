//! The set of a merge's source keys that every executor builds once for all its tasks.
//!
//! It is the keys' hashes ([`super::key_hash`]), grouped by their first bits with an index over the groups, and a small filter before it: 11 bytes a
//! number, and 19 a key of another kind.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, LazyLock, Weak},
    time::Duration,
};

use arrow::{
    array::RecordBatch,
    compute::concat_batches,
    datatypes::{Schema, SchemaRef},
};
use datafusion::execution::memory_pool::MemoryReservation;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::ObjectStore;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

use super::{
    bloom,
    key_file::KeyFile,
    key_hash::{Encoding, Hash, Hashes, KeyHasher},
};
use crate::{
    error::{Code, Error, Result},
    storage::parse_path,
};

/// How the error starts of an executor whose memory pool has no room for a slice of keys.
pub const NO_ROOM: &str = "the keys of a merge find no room";
/// Bytes of index and filter that a key takes, about and at most.
const BYTES_BESIDE: usize = 3;
const BYTES_BESIDE_AT_MOST: usize = 4;
/// Keys that share a place of the index, about.
const KEYS_A_PLACE: usize = 4;
/// Keys of a bucket, about: they are put in order within the processor's cache.
const KEYS_A_BUCKET: usize = 1 << 14;
/// Keys of a place up to which they are in no order.
const FEW: usize = 16;

/// Memory that a key of these columns takes in a set, about, bytes.
pub fn bytes_a_key(columns: &Schema) -> Result<u64> {
    let hash = match Encoding::of(columns)? {
        Encoding::Number(_) => size_of::<u64>(),
        _ => size_of::<u128>(),
    };
    Ok((hash + BYTES_BESIDE) as u64)
}

/// Where the source's keys are, and how they are hashed; travels with every task of a merge.
#[derive(Clone, Serialize, Deserialize)]
pub struct SourceKeys {
    /// Names the set among those of other merges.
    pub id: Uuid,
    /// Key of the hash.
    secret: (u64, u64),
    /// Whole paths in the store, and sizes in bytes.
    files: Vec<(String, u64)>,
    /// Rows of all files.
    rows: u64,
    /// Parts that the keys are taken apart into, by their hash; one of them is in memory at a time.
    pub slices: u32,
}

impl fmt::Debug for SourceKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SourceKeys({} rows)", self.rows)
    }
}

impl SourceKeys {
    /// Keys of `files` (paths in the store, sizes) with `rows` rows, each [`bytes_a_key`] of memory, in slices of at most about `slice_bytes`.
    pub(super) fn new(files: Vec<(String, u64)>, rows: u64, bytes_a_key: u64, slice_bytes: u64) -> Self {
        let bytes = rows.saturating_mul(bytes_a_key);
        let slices = u32::try_from(bytes.div_ceil(slice_bytes.max(1)).max(1)).unwrap_or(u32::MAX);
        let secret = Uuid::new_v4().as_u64_pair();
        Self { id: Uuid::new_v4(), secret, files, rows, slices }
    }

    /// A hasher of these keys.
    pub(super) fn hasher(&self, columns: &Schema) -> Result<KeyHasher> {
        KeyHasher::try_new(columns, self.secret)
    }

    /// Reads the keys of one slice; `asked` is whether any key will be asked for, and not just the number of duplicates.
    async fn build(
        &self,
        slice: u32,
        asked: bool,
        store: &Arc<dyn ObjectStore>,
        columns: &SchemaRef,
        memory: MemoryReservation,
    ) -> Result<KeySet> {
        match Encoding::of(columns)? {
            Encoding::Number(_) => self.build_of::<u64>(slice, asked, store, columns, memory).await,
            _ => self.build_of::<u128>(slice, asked, store, columns, memory).await,
        }
    }

    async fn build_of<H: Hash>(
        &self,
        slice: u32,
        asked: bool,
        store: &Arc<dyn ObjectStore>,
        columns: &SchemaRef,
        memory: MemoryReservation,
    ) -> Result<KeySet> {
        // Slices are even: hashes are.
        let expected = self.rows.div_ceil(self.slices.into());
        let room = usize::try_from(if self.slices > 1 { expected + expected / 16 + 1024 } else { expected });
        let room = room.map_err(|_| Error::new(Code::ResourcesExhausted, "too many keys"))?;
        let all = Arc::new(Mutex::new(Buckets::<H>::new(room)));
        let beside = room.saturating_mul(BYTES_BESIDE_AT_MOST);
        // A bucket that has the same key many times grows.
        let grow = || {
            let bytes = all.lock().bytes().saturating_add(beside);
            memory.try_grow(bytes.saturating_sub(memory.size())).map_err(|error| {
                Error::new(Code::ResourcesExhausted, format!("{NO_ROOM} ({room} keys): {error}"))
                    .hint("raise the executors' --memory-pool-size, or lower the scheduler's --merge-keys-memory")
            })
        };
        grow()?;
        let values = (asked && self.rows <= bloom::ROWS_AT_MOST).then(|| Arc::new(Mutex::new(Vec::new())));
        let mut groups = Vec::new();
        for (path, size) in &self.files {
            let path = parse_path(path)?;
            let file = Arc::new(KeyFile::open(store, path, *size, None).await?);
            groups.extend((0..file.footer().num_row_groups()).map(|group| (file.clone(), group)));
        }
        let readers = tokio::runtime::Handle::current().metrics().num_workers().max(1);
        let reading = stream::iter(groups).map(|(file, group)| {
            let (source, columns, all, values) = (self.clone(), columns.clone(), all.clone(), values.clone());
            let reading = AbortOnDropHandle::new(tokio::spawn(async move {
                let missing = || Error::new(Code::Internal, "a file of the source lacks a key column");
                let mut batches = file.read(group, &columns)?.ok_or_else(missing)?;
                let hasher = source.hasher(&columns)?;
                while let Some(batch) = batches.try_next().await? {
                    let hashes = hasher.hash(&batch)?;
                    all.lock().extend(hashes.keys()?.filter(|hash| in_slice(*hash, slice, source.slices)));
                    if let Some(values) = &values {
                        values.lock().push(batch);
                    }
                }
                Ok::<_, Error>(())
            }));
            async move { reading.await.map_err(|error| Error::new(Code::Internal, error.to_string()))? }
        });
        reading.buffer_unordered(readers).try_for_each(|()| std::future::ready(grow())).await?;
        let keys = std::mem::replace(&mut *all.lock(), Buckets::new(0));
        let set = tokio::task::spawn_blocking(move || KeySet::new(keys, asked, readers));
        let set = set.await.map_err(|error| Error::new(Code::Internal, error.to_string()))?;
        let values = values.map(|values| concat_batches(columns, values.lock().iter())).transpose()?;
        Ok(KeySet { values, _memory: Some(memory), ..set })
    }
}

fn in_slice(hash: impl Hash, slice: u32, slices: u32) -> bool {
    slices == 1 || hash.others() % u64::from(slices) == u64::from(slice)
}

/// Keys by their first bits.
struct Buckets<H> {
    /// A power of two, and at least two, of them.
    buckets: Vec<Vec<H>>,
    /// Bits that tell a key's place in the index; the first ones tell its bucket.
    place_bits: u32,
}

impl<H: Hash> Buckets<H> {
    /// For about so many keys.
    fn new(keys: usize) -> Self {
        // More would be too many to write to at once.
        let buckets = (keys / KEYS_A_BUCKET).next_power_of_two().clamp(2, 1024);
        let places = (keys / KEYS_A_PLACE).next_power_of_two().max(buckets);
        let even = keys / buckets;
        let room = even + even / 16 + 64;
        Self { buckets: (0..buckets).map(|_| Vec::with_capacity(room)).collect(), place_bits: places.ilog2() }
    }

    fn bucket_bits(&self) -> u32 {
        self.buckets.len().ilog2()
    }

    /// Memory in use, bytes.
    fn bytes(&self) -> usize {
        self.buckets.iter().map(|bucket| bucket.capacity() * size_of::<H>()).sum()
    }

    fn extend(&mut self, keys: impl Iterator<Item = H>) {
        let shift = u64::BITS - self.bucket_bits();
        for key in keys {
            self.buckets[(key.first() >> shift) as usize].push(key);
        }
    }

    /// Puts the keys of each place together, with so many threads: where places begin in their buckets, one more a bucket, and how many keys came
    /// more than once.
    fn group(&mut self, threads: usize) -> (Vec<u32>, u64) {
        let (place_bits, places) = (self.place_bits, 1 << (self.place_bits - self.bucket_bits()));
        let mut starts = vec![0; self.buckets.len() * (places + 1)];
        let share = self.buckets.len().div_ceil(threads.max(1));
        let shares = self.buckets.chunks_mut(share).zip(starts.chunks_mut(share * (places + 1)));
        let duplicates = std::thread::scope(|scope| {
            let group = |(buckets, starts): (&mut [Vec<H>], &mut [u32])| {
                let mut scratch = Vec::new();
                let each = buckets.iter_mut().zip(starts.chunks_mut(places + 1));
                each.map(|(bucket, starts)| group(bucket, starts, place_bits, &mut scratch)).sum::<u64>()
            };
            let running: Vec<_> = shares.map(|share| scope.spawn(move || group(share))).collect();
            running.into_iter().map(|one| one.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))).sum()
        });
        (starts, duplicates)
    }
}

/// Puts a bucket's keys into the order of their places: where these begin, one more at the end. Gives the number of keys that came more than once.
fn group<H: Hash>(bucket: &mut [H], starts: &mut [u32], place_bits: u32, scratch: &mut Vec<H>) -> u64 {
    const MANY: usize = 1 << 18;
    let places = starts.len() - 1;
    let place = |key: H| (key.first() >> (u64::BITS - place_bits)) as usize & (places - 1);
    for key in bucket.iter() {
        starts[place(*key) + 1] += 1;
    }
    for at in 0..places {
        starts[at + 1] += starts[at];
    }
    if bucket.len() > MANY {
        // Many times the same key, or a set of more than 2²⁸: not to be copied.
        bucket.sort_unstable();
    } else {
        scratch.clear();
        scratch.extend_from_slice(bucket);
        // While keys are put there, a place's start is where its next key goes; then it is where the next place starts.
        for key in scratch {
            let next = &mut starts[place(*key)];
            bucket[*next as usize] = *key;
            *next += 1;
        }
        starts.copy_within(..places, 1);
        starts[0] = 0;
    }
    let mut duplicates = 0;
    for ends in starts.windows(2) {
        let keys = &mut bucket[ends[0] as usize..ends[1] as usize];
        if keys.len() > FEW {
            keys.sort_unstable();
            duplicates += keys.chunk_by(H::eq).filter(|same| same.len() > 1).count() as u64;
        } else {
            let is_second = |at: &usize| keys[..*at].iter().filter(|key| **key == keys[*at]).count() == 1;
            duplicates += (1..keys.len()).filter(is_second).count() as u64;
        }
    }
    duplicates
}

/// Hashes of keys, each as often as its key came.
pub(super) struct Keys<H> {
    keys: Buckets<H>,
    /// Where the keys of each place begin in their bucket; one more a bucket. In a place of more than [`FEW`] they are in order.
    starts: Vec<u32>,
    /// A Bloom filter over them, a byte or two a key, whose keys have their bits in one word: of keys that are not in the set it tells nearly
    /// all from the processor's cache.
    filter: Vec<u64>,
}

impl<H: Hash> Keys<H> {
    fn new(keys: Buckets<H>, starts: Vec<u32>, count: usize) -> Self {
        let mut filter = vec![0; (count / 8).next_power_of_two().max(2)];
        for key in keys.buckets.iter().flatten() {
            let (word, bits) = place_in_filter(*key, filter.len());
            filter[word] |= bits;
        }
        Self { keys, starts, filter }
    }

    /// Which rows of a batch have a key of the set, in their order.
    ///
    /// Look-ups do not wait for each other's memory: each step is done for all rows before the next, and no branch of a step waits for what it reads.
    fn find(&self, hashes: &Hashes) -> Result<Vec<usize>> {
        let values = hashes.values::<H>()?;
        let mut found = vec![0; values.len()];
        let mut count = 0;
        for (row, hash) in values.iter().enumerate() {
            let (word, bits) = place_in_filter(*hash, self.filter.len());
            found[count] = row;
            count += usize::from(self.filter[word] & bits == bits);
        }
        found.truncate(count);
        found.retain(|row| hashes.is_key(*row));
        let places: Vec<&[H]> = found.iter().map(|row| self.place(values[*row])).collect();
        let mut count = 0;
        for (at, keys) in places.into_iter().enumerate() {
            let (row, hash) = (found[at], values[found[at]]);
            let is_found = match keys.len() > FEW {
                true => keys.binary_search(&hash).is_ok(),
                false => keys.iter().fold(false, |found, key| found | (*key == hash)),
            };
            found[count] = row;
            count += usize::from(is_found);
        }
        found.truncate(count);
        Ok(found)
    }

    /// Keys that have the place of this one.
    fn place(&self, hash: H) -> &[H] {
        let place_bits = self.keys.place_bits - self.keys.bucket_bits();
        let place = (hash.first() >> (u64::BITS - self.keys.place_bits)) as usize;
        let bucket = place >> place_bits;
        // There is one more start a bucket.
        let ends = &self.starts[place + bucket..][..2];
        &self.keys.buckets[bucket][ends[0] as usize..ends[1] as usize]
    }

    /// Rows of a batch that have a key of this slice, but none of the set, in their order.
    fn find_others(&self, hashes: &Hashes, slice: u32, slices: u32) -> Result<Vec<usize>> {
        let mut found = self.find(hashes)?.into_iter().peekable();
        let values = hashes.values::<H>()?;
        let is_other = |row: &usize| {
            found.next_if_eq(row).is_none() && hashes.is_key(*row) && in_slice(values[*row], slice, slices)
        };
        Ok((0..hashes.len()).filter(is_other).collect())
    }
}

/// A key's word of a filter of so many (a power of two, at least two), and its three bits in it. The words follow each other as the set's places do, so
/// that a filter is made from its beginning to its end.
fn place_in_filter(hash: impl Hash, words: usize) -> (usize, u64) {
    let hash = hash.first();
    let bits = (1 << (hash & 63)) | (1 << ((hash >> 6) & 63)) | (1 << ((hash >> 12) & 63));
    ((hash >> (u64::BITS - words.ilog2())) as usize, bits)
}

/// The keys of a slice of a merge's source.
pub(super) struct KeySet {
    keys: Kind,
    rows: u64,
    /// Keys that came more than once.
    duplicates: u64,
    /// The keys themselves, where they are few.
    values: Option<RecordBatch>,
    _memory: Option<MemoryReservation>,
}

pub(super) enum Kind {
    /// Nobody asks for any.
    Counted,
    /// Numbers.
    Mixed(Keys<u64>),
    /// Others.
    Hashed(Keys<u128>),
}

impl KeySet {
    /// Of these keys, made with so many threads. When no key is `asked` for, only what is counted is kept.
    fn new<H: Hash>(mut keys: Buckets<H>, asked: bool, threads: usize) -> Self {
        let rows: usize = keys.buckets.iter().map(Vec::len).sum();
        let (starts, duplicates) = keys.group(threads);
        let keys = if asked { H::set(Keys::new(keys, starts, rows)) } else { Kind::Counted };
        Self { keys, rows: rows as u64, duplicates, values: None, _memory: None }
    }

    /// Which rows of a batch have a key of the set, in their order. Of a set of many slices only keys of this one are found.
    pub(super) fn find(&self, hashes: &Hashes) -> Result<Vec<usize>> {
        match &self.keys {
            Kind::Counted => Err(only_counted()),
            Kind::Mixed(keys) => keys.find(hashes),
            Kind::Hashed(keys) => keys.find(hashes),
        }
    }

    /// Rows of a batch that have a key of this slice, but none of the set, in their order.
    pub(super) fn find_others(&self, hashes: &Hashes, slice: u32, slices: u32) -> Result<Vec<usize>> {
        match &self.keys {
            Kind::Counted => Err(only_counted()),
            Kind::Mixed(keys) => keys.find_others(hashes, slice, slices),
            Kind::Hashed(keys) => keys.find_others(hashes, slice, slices),
        }
    }

    /// The keys themselves; none where they are many.
    pub(super) fn values(&self) -> Option<&RecordBatch> {
        self.values.as_ref()
    }

    /// Rows that it was made of.
    pub(super) fn rows(&self) -> u64 {
        self.rows
    }

    /// Keys that more than one of them has.
    pub(super) fn duplicates(&self) -> u64 {
        self.duplicates
    }
}

fn only_counted() -> Error {
    Error::new(Code::Internal, "keys were only counted")
}

/// The set that this process has of a merge; all its tasks use the same.
#[derive(Default)]
pub(super) struct SharedKeys(tokio::sync::Mutex<(u32, Weak<KeySet>)>);

/// Sets by [`SourceKeys::id`].
static SHARED: LazyLock<Mutex<HashMap<Uuid, Weak<SharedKeys>>>> = LazyLock::new(Mutex::default);

impl SharedKeys {
    /// The place for a merge's set; it is there as long as a task holds it.
    pub(super) fn of(source: &SourceKeys) -> Arc<Self> {
        let mut all = SHARED.lock();
        if let Some(shared) = all.get(&source.id).and_then(Weak::upgrade) {
            return shared;
        }
        all.retain(|_, shared| shared.strong_count() > 0);
        let shared = Arc::new(Self::default());
        all.insert(source.id, Arc::downgrade(&shared));
        shared
    }

    /// A slice of the set, built where nobody has it. While another slice is in use, waits: one is in memory at a time.
    pub(super) async fn slice(
        &self,
        source: &SourceKeys,
        slice: u32,
        asked: bool,
        store: &Arc<dyn ObjectStore>,
        columns: &SchemaRef,
        memory: impl Fn() -> MemoryReservation,
    ) -> Result<Arc<KeySet>> {
        const LOOK_AGAIN: Duration = Duration::from_millis(10);
        loop {
            {
                let mut shared = self.0.lock().await;
                match shared.1.upgrade() {
                    Some(set) if shared.0 == slice => return Ok(set),
                    Some(_) => {}
                    None => {
                        let set = Arc::new(source.build(slice, asked, store, columns, memory()).await?);
                        *shared = (slice, Arc::downgrade(&set));
                        return Ok(set);
                    }
                }
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use arrow::{
        array::{ArrayRef, Int32Array, StringArray},
        buffer::NullBuffer,
        datatypes::{DataType, Field},
    };
    use proptest::prelude::*;

    use super::{super::key_hash::Values, *};

    /// Asks a set of `keys` for these and `others`.
    fn ask<H: Hash + std::hash::Hash + std::fmt::Debug>(
        keys: &[H],
        others: Vec<H>,
        values: fn(Vec<H>) -> Values,
        threads: usize,
        room: usize,
    ) -> std::result::Result<(), TestCaseError> {
        let buckets = || {
            let mut buckets = Buckets::new(room);
            buckets.extend(keys.iter().copied());
            buckets
        };
        let set = KeySet::new(buckets(), true, threads);
        let mut times: HashMap<H, u64> = HashMap::new();
        keys.iter().for_each(|key| *times.entry(*key).or_default() += 1);
        let asked: Vec<H> = keys.iter().copied().chain(others).collect();
        // Every third row has a null.
        let nulls = NullBuffer::from_iter((0..asked.len()).map(|row| row % 3 != 2));
        let hashes = Hashes { values: values(asked.clone()), nulls: Some(nulls) };
        let rows = |in_set: bool| -> Vec<usize> {
            (0..asked.len()).filter(|row| row % 3 != 2 && times.contains_key(&asked[*row]) == in_set).collect()
        };
        prop_assert_eq!(set.find(&hashes).unwrap(), rows(true));
        prop_assert_eq!(set.find_others(&hashes, 0, 1).unwrap(), rows(false));
        prop_assert_eq!(set.rows(), keys.len() as u64);
        let counted = KeySet::new(buckets(), false, threads);
        let duplicates = times.values().filter(|times| **times > 1).count() as u64;
        prop_assert_eq!((set.duplicates(), counted.duplicates()), (duplicates, duplicates));
        prop_assert_eq!(counted.rows(), keys.len() as u64);
        prop_assert_eq!(counted.find(&hashes).unwrap_err().code, Code::Internal);
        Ok(())
    }

    #[test]
    fn a_bucket_of_more_keys_than_are_copied_has_them_too() {
        let keys: Vec<u128> = (0..600_000u128).map(|n| (n % 500_000) << 90).collect();
        let half = |keys: &[u128]| keys.iter().map(|key| (key >> 64) as u64).collect::<Vec<_>>();
        let others = vec![1 << 89, u128::MAX];
        ask(&half(&keys), vec![1, u64::MAX], Values::Mixed, 2, 0).unwrap();
        ask(&keys, others, Values::Hashed, 2, 0).unwrap();
    }

    proptest! {
        #[test]
        fn a_set_has_its_keys_and_counts_those_that_came_again(
            keys in prop::collection::vec(prop_oneof![any::<u128>(), (0..40u128).prop_map(|n| (n << 125) | (n % 3))], 0..400),
            others in prop::collection::vec(any::<u128>(), 0..50), threads in 1..5usize,
            room in 0..100_000usize,
        ) {
            let others: Vec<u128> = others.into_iter().chain([0, u128::MAX, 1 << 127]).collect();
            // Keys that are alike in their first bits stay so.
            let half = |keys: &[u128]| keys.iter().map(|key| (key >> 64) as u64 | (key & 3) as u64).collect::<Vec<_>>();
            ask(&half(&keys), half(&others), Values::Mixed, threads, room)?;
            ask(&keys, others, Values::Hashed, threads, room)?;
        }
    }

    #[test]
    fn slices_share_out_the_hashes() {
        let slices = |schema: Schema, column: ArrayRef| {
            let batch = RecordBatch::try_new(Arc::new(schema.clone()), vec![column]).unwrap();
            let each = bytes_a_key(&schema).unwrap();
            let source = SourceKeys::new(Vec::new(), 10_000, each, each * 2_500);
            assert_eq!(source.slices, 4);
            let hashes = source.hasher(&schema).unwrap().hash(&batch).unwrap();
            fn count<H: Hash>(hashes: &Hashes) -> [u64; 4] {
                let count = |slice| hashes.keys::<H>().unwrap().filter(|hash| in_slice(*hash, slice, 4)).count() as u64;
                [0, 1, 2, 3].map(count)
            }
            let counts = match hashes.values {
                Values::Mixed(_) => count::<u64>(&hashes),
                Values::Hashed(_) => count::<u128>(&hashes),
            };
            assert_eq!(counts.iter().sum::<u64>(), 10_000);
            assert!(counts.iter().all(|count| count.abs_diff(2_500) < 250), "{counts:?}");
            each
        };
        let field = |data_type| Schema::new(vec![Field::new("k", data_type, false)]);
        assert_eq!(slices(field(DataType::Int32), Arc::new((0..10_000).collect::<Int32Array>())), 11);
        let texts: StringArray = (0..10_000).map(|row| Some(row.to_string())).collect();
        assert_eq!(slices(field(DataType::Utf8), Arc::new(texts)), 19);
    }
}
