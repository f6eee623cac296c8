//! Hashes of keys.
//!
//! A key is its 128-bit SipHash under a secret of the merge: two of 10⁹ keys have the same with a probability of 10⁻²¹, and nobody can choose
//! keys that do. A number of up to 64 bits is mixed instead, into as many, so that no two have the same.

use arrow::{
    array::{Array, AsArray, RecordBatch},
    buffer::NullBuffer,
    datatypes::{DataType, Schema},
    row::{RowConverter, SortField},
};
use siphasher::sip128::SipHasher13;

use super::keys::{Keys, Kind};
use crate::error::{Code, Error, Result};

/// Hashes the rows of batches that hold the key columns and nothing else.
pub(super) struct KeyHasher {
    secret: (u64, u64),
    hasher: SipHasher13,
    encoding: Encoding,
}

/// The bytes of a key.
pub(super) enum Encoding {
    /// One text: its own.
    Text,
    /// One column of numbers, moments or days of up to 64 bits: so many bytes, as in memory.
    Number(usize),
    /// One column of longer values whose equal ones have equal bytes, as in memory.
    Fixed(usize),
    /// Any others.
    Rows(RowConverter),
}

impl Encoding {
    pub(super) fn of(columns: &Schema) -> Result<Self> {
        let fields = columns.fields();
        let one = if let [field] = fields.as_ref() { Some(field.data_type()) } else { None };
        Ok(match one {
            Some(DataType::Utf8) => Self::Text,
            // Not of floats: there are many of the same value.
            Some(of) if of.is_integer() || of.is_temporal() || matches!(of, DataType::Decimal128(..)) => {
                match of.primitive_width() {
                    Some(width @ (1 | 2 | 4 | 8)) => Self::Number(width),
                    Some(width) => Self::Fixed(width),
                    None => return Err(Error::new(Code::Internal, "a key has no width")),
                }
            }
            _ => {
                let fields = fields.iter().map(|field| SortField::new(field.data_type().clone())).collect();
                Self::Rows(RowConverter::new(fields)?)
            }
        })
    }
}

/// What a set has of a key.
pub(super) trait Hash: Copy + Ord + Send + Sync + 'static {
    /// Its first bits: the set's filter and index go by them.
    fn first(self) -> u64;
    /// Bits that slices go by: keys of a slice must not be alike in the first ones.
    fn others(self) -> u64;
    /// A batch's, if it has such.
    fn of(values: &Values) -> Option<&[Self]>;
    /// A set of such.
    fn set(keys: Keys<Self>) -> Kind;
}

impl Hash for u64 {
    fn first(self) -> u64 {
        self
    }

    fn others(self) -> u64 {
        (self ^ (self >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    fn of(values: &Values) -> Option<&[Self]> {
        if let Values::Mixed(values) = values { Some(values) } else { None }
    }

    fn set(keys: Keys<Self>) -> Kind {
        Kind::Mixed(keys)
    }
}

impl Hash for u128 {
    fn first(self) -> u64 {
        (self >> 64) as u64
    }

    fn others(self) -> u64 {
        self as u64
    }

    fn of(values: &Values) -> Option<&[Self]> {
        if let Values::Hashed(values) = values { Some(values) } else { None }
    }

    fn set(keys: Keys<Self>) -> Kind {
        Kind::Hashed(keys)
    }
}

/// A batch's hashes, by row.
pub(super) struct Hashes {
    /// Those of rows with a null mean nothing.
    pub(super) values: Values,
    pub(super) nulls: Option<NullBuffer>,
}

/// Hashes of numbers, and those of other keys.
pub(super) enum Values {
    Mixed(Vec<u64>),
    Hashed(Vec<u128>),
}

impl Hashes {
    /// Rows of the batch.
    pub(super) fn len(&self) -> usize {
        match &self.values {
            Values::Mixed(values) => values.len(),
            Values::Hashed(values) => values.len(),
        }
    }

    /// Whether a row has no null.
    pub(super) fn is_key(&self, row: usize) -> bool {
        self.nulls.as_ref().is_none_or(|nulls| nulls.is_valid(row))
    }

    pub(super) fn values<H: Hash>(&self) -> Result<&[H]> {
        H::of(&self.values).ok_or_else(|| Error::new(Code::Internal, "keys were hashed in two ways"))
    }

    /// Hashes of rows without nulls.
    pub(super) fn keys<H: Hash>(&self) -> Result<impl Iterator<Item = H>> {
        Ok(self.values()?.iter().enumerate().filter(|(row, _)| self.is_key(*row)).map(|(_, hash)| *hash))
    }
}

impl KeyHasher {
    /// For keys of these columns.
    pub(super) fn try_new(columns: &Schema, secret: (u64, u64)) -> Result<Self> {
        Ok(Self { secret, hasher: SipHasher13::new_with_keys(secret.0, secret.1), encoding: Encoding::of(columns)? })
    }

    /// The hashes of a batch's rows.
    pub(super) fn hash(&self, batch: &RecordBatch) -> Result<Hashes> {
        let nulls = batch
            .columns()
            .iter()
            .fold(None, |all, column| NullBuffer::union(all.as_ref(), column.logical_nulls().as_ref()));
        let hash = |bytes: &[u8]| self.hasher.hash(bytes).as_u128();
        let values = match (&self.encoding, batch.columns()) {
            (Encoding::Text, [column]) => {
                let text =
                    column.as_string_opt::<i32>().ok_or_else(|| Error::new(Code::Internal, "the key is no text"))?;
                Values::Hashed((0..text.len()).map(|row| hash(text.value(row).as_bytes())).collect())
            }
            (Encoding::Number(width) | Encoding::Fixed(width), [column]) => {
                let data = column.to_data();
                let values = data.buffers().first().map(|values| values.as_slice()).unwrap_or_default();
                let values = &values[data.offset() * width..][..data.len() * width];
                match (&self.encoding, width) {
                    (Encoding::Number(_), 1) => Values::Mixed(self.mix::<1>(values)),
                    (Encoding::Number(_), 2) => Values::Mixed(self.mix::<2>(values)),
                    (Encoding::Number(_), 4) => Values::Mixed(self.mix::<4>(values)),
                    (Encoding::Number(_), _) => Values::Mixed(self.mix::<8>(values)),
                    _ => Values::Hashed(values.chunks_exact(*width).map(hash).collect()),
                }
            }
            (Encoding::Rows(rows), columns) => {
                let rows = rows.convert_columns(columns)?;
                Values::Hashed(rows.iter().map(|row| hash(row.as_ref())).collect())
            }
            (_, columns) => {
                return Err(Error::new(Code::Internal, format!("a key of one column came with {}", columns.len())));
            }
        };
        Ok(Hashes { values, nulls })
    }

    /// A permutation of numbers of so many bytes.
    fn mix<const WIDTH: usize>(&self, values: &[u8]) -> Vec<u64> {
        // MurmurHash3's finalizer.
        let mix = |mut bits: u64| {
            bits = (bits ^ (bits >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
            bits = (bits ^ (bits >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
            bits ^ (bits >> 33)
        };
        let (values, _) = values.as_chunks::<WIDTH>();
        let key = |value: &[u8; WIDTH]| {
            let mut bytes = [0; 8];
            bytes[..WIDTH].copy_from_slice(value);
            mix(mix(u64::from_le_bytes(bytes) ^ self.secret.0) ^ self.secret.1)
        };
        values.iter().map(key).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::{
        array::{ArrayRef, Int64Array, StringArray},
        compute::concat_batches,
        datatypes::Field,
    };
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn keys_have_the_same_hash_exactly_when_they_are_equal(
            rows in prop::collection::vec((prop::option::of(0..3i64), prop::option::of("[ab]{0,2}")), 1..60),
        ) {
            let columns = Arc::new(Schema::new(vec![
                Field::new("a", DataType::Int64, true), Field::new("b", DataType::Utf8, true),
            ]));
            let hashes = |columns: Schema, arrays: Vec<ArrayRef>| {
                let batch = RecordBatch::try_new(Arc::new(columns.clone()), arrays).unwrap();
                // A slice of a longer array, as readers give them.
                let longer = concat_batches(batch.schema_ref(), [&batch, &batch]).unwrap();
                let hashes = KeyHasher::try_new(&columns, (1, 2)).unwrap().hash(&longer.slice(batch.num_rows(), batch.num_rows())).unwrap();
                let values: Vec<u128> = match &hashes.values {
                    Values::Mixed(values) => values.iter().map(|value| u128::from(*value)).collect(),
                    Values::Hashed(values) => values.clone(),
                };
                (0..hashes.len()).map(|row| hashes.is_key(row).then_some(values[row])).collect::<Vec<_>>()
            };
            let numbers: ArrayRef = Arc::new(rows.iter().map(|row| row.0).collect::<Int64Array>());
            let texts: ArrayRef = Arc::new(rows.iter().map(|row| row.1.clone()).collect::<StringArray>());
            let both = hashes(columns.as_ref().clone(), vec![numbers.clone(), texts.clone()]);
            let number = hashes(columns.project(&[0]).unwrap(), vec![numbers]);
            let text = hashes(columns.project(&[1]).unwrap(), vec![texts]);
            for (one, row) in rows.iter().enumerate() {
                prop_assert_eq!(both[one].is_some(), row.0.is_some() && row.1.is_some());
                prop_assert_eq!((number[one].is_some(), text[one].is_some()), (row.0.is_some(), row.1.is_some()));
                for (other, with) in rows.iter().enumerate().filter(|(other, _)| both[*other].is_some()) {
                    prop_assert_eq!(both[one] == both[other], row == with);
                    prop_assert_eq!(number[one] == number[other], row.0 == with.0);
                    prop_assert_eq!(text[one] == text[other], row.1 == with.1);
                }
            }
        }
    }
}
