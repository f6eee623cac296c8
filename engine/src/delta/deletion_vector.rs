//! Deletion vectors: which rows of a data file are gone.
//!
//! Source: the Delta protocol, "Deletion Vector Format" and "Deletion Vector Descriptor Schema". A vector is a set of row positions within a
//! file, counted from 0 over all its row groups. Its bytes are the magic number and a 64-bit Roaring bitmap in the portable format, both
//! little-endian. They lie base-85 encoded in the log, or in a `.bin` file: one version byte, then per vector its size, its bytes and their
//! CRC-32, size and CRC big-endian.

use deltalake_core::kernel::{DeletionVectorDescriptor, StorageType};
use object_store::{ObjectStore, ObjectStoreExt, path::Path};
use roaring::RoaringTreemap;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::error::{Code, Error, Result};

const MAGIC: u32 = 1_681_511_377;
/// First byte of a `.bin` file.
const VERSION: u8 = 1;
/// Characters of a UUID in base 85.
const UUID_TEXT: usize = 20;
/// Size and CRC around a vector in a `.bin` file, bytes.
const FRAME: u64 = 8;

/// A vector as a plan carries it: where it lies, with all that is needed to check it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeletionVector {
    place: Place,
    /// Bytes of the vector itself, magic number included.
    bytes: u64,
    /// Rows it removes.
    rows: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum Place {
    /// The bytes in base 85.
    Inline(String),
    /// A file of the store, and where in it the vector's frame begins.
    File { path: String, offset: u64 },
}

impl DeletionVector {
    /// The vector of a descriptor. `locate` finds a file of the table in the store, by its path as in an `Add`.
    pub(crate) fn resolve(
        descriptor: &DeletionVectorDescriptor,
        locate: impl Fn(&str) -> Result<Path>,
    ) -> Result<Self> {
        let number = |what: &str, n: i64| {
            u64::try_from(n).map_err(|_| broken(&describe(descriptor), &format!("its {what} is {n}")))
        };
        let offset = number("offset", descriptor.offset.unwrap_or(1).into())?;
        let text = &descriptor.path_or_inline_dv;
        let place = match descriptor.storage_type {
            StorageType::Inline => Place::Inline(text.clone()),
            StorageType::UuidRelativePath => Place::File { path: locate(&relative_path(text)?)?.to_string(), offset },
            StorageType::AbsolutePath => {
                let decoded = percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned();
                Place::File { path: locate(&decoded)?.to_string(), offset }
            }
        };
        Ok(Self {
            place,
            bytes: number("size", descriptor.size_in_bytes.into())?,
            rows: number("cardinality", descriptor.cardinality)?,
        })
    }

    /// The positions of removed rows, read and checked: size, CRC-32 (of a file), format and number of rows.
    pub async fn load(&self, store: &dyn ObjectStore) -> Result<RoaringTreemap> {
        let (name, vector) = match &self.place {
            Place::Inline(text) => {
                let name = "deletion vector in the log".to_string();
                let mut bytes =
                    z85::decode(text).map_err(|error| broken(&name, &format!("it is no base 85 ({error})")))?;
                // Encoders fill the last four bytes up.
                let size = usize::try_from(self.bytes).ok().filter(|size| *size <= bytes.len());
                let size = size.ok_or_else(|| {
                    broken(&name, &format!("it has {} bytes, not {} as the log says", bytes.len(), self.bytes))
                })?;
                bytes.truncate(size);
                (name, bytes)
            }
            Place::File { path, offset } => {
                let name = format!("deletion vector at byte {offset} of {path}");
                let location = Path::parse(path).map_err(|error| broken(&name, &error.to_string()))?;
                let end = offset.checked_add(FRAME).and_then(|start| start.checked_add(self.bytes));
                let end = end.ok_or_else(|| broken(&name, "its size is out of range"))?;
                let parts = store.get_ranges(&location, &[0..1, *offset..end]).await?;
                let [version, frame] = parts.as_slice() else {
                    return Err(broken(&name, "its file could not be read in two parts"));
                };
                if version.first() != Some(&VERSION) {
                    return Err(broken(&name, &format!("its file has format version {:?}, not 1", version.first())));
                }
                (name.clone(), unframe(frame, self.bytes).map_err(|what| broken(&name, &what))?.to_vec())
            }
        };
        let rows = decode(&vector).map_err(|what| broken(&name, &what))?;
        if rows.len() != self.rows {
            return Err(broken(&name, &format!("it removes {} rows, not {} as the log says", rows.len(), self.rows)));
        }
        Ok(rows)
    }

    /// How many rows it removes.
    pub fn rows(&self) -> u64 {
        self.rows
    }
}

fn describe(descriptor: &DeletionVectorDescriptor) -> String {
    format!("deletion vector `{}`", descriptor.path_or_inline_dv)
}

fn broken(name: &str, what: &str) -> Error {
    Error::new(Code::Storage, format!("the {name} can't be used: {what}"))
        .hint("the file is damaged or was removed by another engine's vacuum; restore the table to an older version")
}

/// Path below the table of `<prefix><UUID in base 85>`.
fn relative_path(text: &str) -> Result<String> {
    let name = format!("deletion vector `{text}`");
    let split = text.len().checked_sub(UUID_TEXT).filter(|at| text.is_char_boundary(*at));
    let (prefix, uuid) =
        split.map(|at| text.split_at(at)).ok_or_else(|| broken(&name, "its name is shorter than a UUID"))?;
    let uuid = z85::decode(uuid).ok().and_then(|bytes| Uuid::from_slice(&bytes).ok());
    let uuid = uuid.ok_or_else(|| broken(&name, "its name is no UUID in base 85"))?;
    let folder = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
    Ok(format!("{folder}{}", file_name(uuid)))
}

/// The file that a vector of ours lies in, below the table; `None` for one in the log.
pub fn stored_in(descriptor: &DeletionVectorDescriptor) -> Option<String> {
    match descriptor.storage_type {
        StorageType::UuidRelativePath => relative_path(&descriptor.path_or_inline_dv).ok(),
        StorageType::Inline | StorageType::AbsolutePath => None,
    }
}

fn file_name(uuid: Uuid) -> String {
    format!("deletion_vector_{uuid}.bin")
}

/// The vector within its frame.
fn unframe(frame: &[u8], bytes: u64) -> Result<&[u8], String> {
    let short = || format!("its file ends early, {} bytes of {}", frame.len(), bytes + FRAME);
    let (size, rest) = frame.split_first_chunk::<4>().ok_or_else(short)?;
    let size = u64::from(u32::from_be_bytes(*size));
    if size != bytes {
        return Err(format!("it has {size} bytes, not {bytes} as the log says"));
    }
    let (vector, crc) = rest.split_last_chunk::<4>().filter(|(v, _)| v.len() as u64 == bytes).ok_or_else(short)?;
    if crc32fast::hash(vector) != u32::from_be_bytes(*crc) {
        return Err("its CRC-32 is not that of its bytes".to_string());
    }
    Ok(vector)
}

/// Row positions of a vector's bytes.
fn decode(vector: &[u8]) -> Result<RoaringTreemap, String> {
    let (magic, mut rest) = vector.split_first_chunk::<4>().ok_or("it has no magic number")?;
    let magic = u32::from_le_bytes(*magic);
    if magic != MAGIC {
        return Err(format!("its magic number is {magic}, not {MAGIC}"));
    }
    RoaringTreemap::deserialize_from(&mut rest).map_err(|error| format!("it is no Roaring bitmap: {error}"))
}

/// The bytes of a vector, as [`DeletionVector::load`] reads them back.
fn encode(rows: &RoaringTreemap) -> Result<Vec<u8>> {
    let mut bytes = MAGIC.to_le_bytes().to_vec();
    rows.serialize_into(&mut bytes)
        .map_err(|error| Error::new(Code::Internal, format!("a deletion vector can't be encoded: {error}")))?;
    Ok(bytes)
}

fn too_large(bytes: usize) -> Error {
    Error::new(Code::ResourcesExhausted, format!("a deletion vector of {bytes} bytes is more than the format holds"))
        .hint("compact the table's files")
}

/// A descriptor that holds the vector itself, for small ones: the log grows by 5/4 of its bytes.
pub fn inline(rows: &RoaringTreemap) -> Result<DeletionVectorDescriptor> {
    let mut bytes = encode(rows)?;
    let size = bytes.len();
    bytes.resize(size.next_multiple_of(4), 0);
    Ok(DeletionVectorDescriptor {
        storage_type: StorageType::Inline,
        path_or_inline_dv: z85::encode(&bytes),
        offset: None,
        size_in_bytes: i32::try_from(size).map_err(|_| too_large(size))?,
        cardinality: i64::try_from(rows.len()).map_err(|_| too_large(size))?,
    })
}

/// A `.bin` file in the making; it holds the vectors of any number of data files.
#[derive(Debug)]
pub struct VectorFile {
    uuid: Uuid,
    bytes: Vec<u8>,
}

impl Default for VectorFile {
    fn default() -> Self {
        Self { uuid: Uuid::new_v4(), bytes: vec![VERSION] }
    }
}

impl VectorFile {
    /// Adds a vector; its descriptor is good once the file is [stored](Self::put). Fails when the file would pass 2 GiB.
    pub fn push(&mut self, rows: &RoaringTreemap) -> Result<DeletionVectorDescriptor> {
        let vector = encode(rows)?;
        let size = i32::try_from(vector.len()).map_err(|_| too_large(vector.len()))?;
        let offset = i32::try_from(self.bytes.len()).map_err(|_| too_large(self.bytes.len()))?;
        self.bytes.extend(size.to_be_bytes());
        self.bytes.extend(&vector);
        self.bytes.extend(crc32fast::hash(&vector).to_be_bytes());
        Ok(DeletionVectorDescriptor {
            storage_type: StorageType::UuidRelativePath,
            path_or_inline_dv: z85::encode(self.uuid.as_bytes()),
            offset: Some(offset),
            size_in_bytes: size,
            cardinality: i64::try_from(rows.len()).map_err(|_| too_large(vector.len()))?,
        })
    }

    /// Whether no vector was added.
    pub fn is_empty(&self) -> bool {
        self.bytes.len() <= 1
    }

    /// Stores the file in the table's folder; its name is new.
    pub async fn put(self, store: &dyn ObjectStore, folder: &Path) -> Result<Path> {
        let path = folder.clone().join(file_name(self.uuid));
        store.put(&path, self.bytes.into()).await?;
        Ok(path)
    }
}

#[cfg(test)]
mod tests {
    use object_store::memory::InMemory;
    use proptest::prelude::*;

    use super::*;

    fn resolve(descriptor: &DeletionVectorDescriptor) -> Result<DeletionVector> {
        DeletionVector::resolve(descriptor, |path| Ok(Path::from("lake/t").join(path)))
    }

    fn wait<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
    }

    fn load(descriptor: &DeletionVectorDescriptor, store: &InMemory) -> Result<RoaringTreemap> {
        wait(resolve(descriptor)?.load(store))
    }

    #[test]
    fn the_protocols_own_examples_are_read() {
        let example = DeletionVectorDescriptor {
            storage_type: StorageType::Inline,
            path_or_inline_dv: "^Bg9^0rr910000000000iXQKl0rr91000f55c8Xg0@@D72lkbi5=-{L".to_string(),
            offset: None,
            size_in_bytes: 44,
            cardinality: 6,
        };
        let rows = load(&example, &InMemory::new()).unwrap();
        assert_eq!(rows.iter().collect::<Vec<_>>(), [3, 4, 7, 11, 18, 29]);
        let path = relative_path("ab^-aqEH.-t@S}K{vb[*k^").unwrap();
        assert_eq!(path, "ab/deletion_vector_d2c639aa-8816-431a-aaf6-d3fe2512ff61.bin");
        assert!(relative_path("^-aqEH.-t@S}K{vb[*k").is_err() && relative_path("ääääääääääa").is_err());
    }

    #[test]
    fn damage_is_noticed() {
        let rows: RoaringTreemap = [1, 5, 1 << 40].into_iter().collect();
        let mut file = VectorFile::default();
        assert!(file.is_empty());
        file.push(&RoaringTreemap::from_iter([7])).unwrap();
        let good = file.push(&rows).unwrap();
        assert!(!file.is_empty());
        let bytes = file.bytes.clone();
        let store = InMemory::new();
        let path = wait(file.put(&store, &Path::from("lake/t"))).unwrap();
        assert_eq!(load(&good, &store).unwrap(), rows);
        let wrong = |change: fn(&mut DeletionVectorDescriptor)| {
            let mut descriptor = good.clone();
            change(&mut descriptor);
            load(&descriptor, &store).unwrap_err().message
        };
        assert!(wrong(|d| d.cardinality += 1).contains("removes 3 rows, not 4"));
        assert!(wrong(|d| d.size_in_bytes -= 1).contains("as the log says"));
        assert!(wrong(|d| d.offset = Some(1)).contains("as the log says"));
        assert!(wrong(|d| d.cardinality = -1).contains("cardinality is -1"));
        // Any byte of the second vector's frame, and the version.
        for at in std::iter::once(0).chain(good.offset.unwrap() as usize..bytes.len()) {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x10;
            wait(store.put(&path, damaged.into())).unwrap();
            assert_eq!(load(&good, &store).unwrap_err().code, Code::Storage, "byte {at}");
        }
        wait(store.put(&path, bytes[..bytes.len() - 1].to_vec().into())).unwrap();
        load(&good, &store).unwrap_err();
    }

    proptest! {
        #[test]
        fn vectors_come_back_as_they_were(
            sets in prop::collection::vec(prop::collection::btree_set(prop_oneof![0..200u64, 0..5_000_000u64, any::<u64>()], 0..300), 1..4),
            run in 0..70_000u64,
        ) {
            let store = InMemory::new();
            let mut file = VectorFile::default();
            let mut stored = Vec::new();
            for set in &sets {
                let mut rows: RoaringTreemap = set.iter().copied().collect();
                rows.insert_range(1_000..1_000 + run);
                let descriptor = inline(&rows).unwrap();
                prop_assert_eq!(&load(&descriptor, &store).unwrap(), &rows);
                stored.push((file.push(&rows).unwrap(), rows));
            }
            wait(file.put(&store, &Path::from("lake/t"))).unwrap();
            for (descriptor, rows) in stored {
                prop_assert_eq!(load(&descriptor, &store).unwrap(), rows);
            }
        }

        #[test]
        fn bytes_of_any_kind_are_an_error_not_a_crash(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut vector = MAGIC.to_le_bytes().to_vec();
            vector.extend(&bytes);
            let _ = decode(&vector);
            prop_assert!(decode(&bytes).is_err() || bytes.starts_with(&MAGIC.to_le_bytes()));
            prop_assert!(unframe(&bytes, 50).is_err());
        }
    }
}
