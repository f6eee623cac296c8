//! `hash(…)` (Murmur3, 32 bits) and `xxhash64(…)`, as Spark computes them: each value's hash is the seed of the next, NULLs leave it alone.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, AsArray, Int32Array, Int64Array},
    datatypes::{
        DataType, Date32Type, Decimal128Type, DurationMicrosecondType, Float32Type, Float64Type, Int8Type, Int16Type,
        Int32Type, Int64Type, IntervalMonthDayNanoType, IntervalUnit, IntervalYearMonthType, TimeUnit,
        TimestampMicrosecondType,
    },
};
use datafusion::{common::Result, logical_expr::ScalarUDF};

use super::args::{gives_int, gives_long};
use crate::sql::{
    kernel::{Arguments, Kernel, wrong_call},
    types::type_name,
};

const SEED: u64 = 42;

/// The functions of this module.
pub(super) fn functions() -> Vec<Arc<ScalarUDF>> {
    vec![
        Kernel::function(
            "hash",
            |types| hashable("hash", types),
            gives_int,
            |arguments| {
                let hashes = hashes::<Murmur>(arguments)?;
                Ok(Arc::new(hashes.into_iter().map(|hash| hash as u32 as i32).collect::<Int32Array>()))
            },
        ),
        Kernel::function(
            "xxhash64",
            |types| hashable("xxhash64", types),
            gives_long,
            |arguments| {
                Ok(Arc::new(hashes::<Xx>(arguments)?.into_iter().map(|hash| hash as i64).collect::<Int64Array>()))
            },
        ),
    ]
}

fn hashable(name: &str, types: &[DataType]) -> Result<Vec<DataType>> {
    if types.is_empty() {
        return Err(wrong_call(format!("`{name}` takes one argument or more")));
    }
    types.iter().map(|data_type| plain(name, data_type)).collect()
}

/// The type with one representation of each of Spark's types in it.
fn plain(name: &str, data_type: &DataType) -> Result<DataType> {
    Ok(match data_type {
        DataType::LargeUtf8 | DataType::Utf8View => DataType::Utf8,
        DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => DataType::Binary,
        DataType::Timestamp(_, zone) => DataType::Timestamp(TimeUnit::Microsecond, zone.clone()),
        DataType::Duration(_) => DataType::Duration(TimeUnit::Microsecond),
        DataType::Interval(IntervalUnit::DayTime) => DataType::Interval(IntervalUnit::MonthDayNano),
        DataType::UInt8 => DataType::Int16,
        DataType::UInt16 => DataType::Int32,
        DataType::UInt32 | DataType::UInt64 => DataType::Int64,
        DataType::Map(..) => {
            return Err(wrong_call(format!("`{name}` takes no maps, as in Spark: their entries have no order")));
        }
        DataType::List(item) | DataType::LargeList(item) => {
            let inner = plain(name, item.data_type())?;
            DataType::List(Arc::new(item.as_ref().clone().with_data_type(inner)))
        }
        DataType::Struct(fields) => {
            let fields = fields
                .iter()
                .map(|field| Ok(Arc::new(field.as_ref().clone().with_data_type(plain(name, field.data_type())?))));
            DataType::Struct(fields.collect::<Result<Vec<_>>>()?.into())
        }
        other => other.clone(),
    })
}

fn hashes<H: Hasher>(arguments: &Arguments) -> Result<Vec<u64>> {
    let mut hashes = vec![SEED; arguments.rows()];
    for array in &arguments.arrays {
        for (row, hash) in hashes.iter_mut().enumerate() {
            *hash = value::<H>(array, row, *hash)?;
        }
    }
    Ok(hashes)
}

/// How plain values are hashed.
trait Hasher {
    fn int(value: i32, seed: u64) -> u64;
    fn long(value: i64, seed: u64) -> u64;
    fn bytes(value: &[u8], seed: u64) -> u64;
}

fn value<H: Hasher>(array: &ArrayRef, row: usize, seed: u64) -> Result<u64> {
    if array.is_null(row) {
        return Ok(seed);
    }
    Ok(match array.data_type() {
        DataType::Null => seed,
        DataType::Boolean => H::int(i32::from(array.as_boolean().value(row)), seed),
        DataType::Int8 => H::int(array.as_primitive::<Int8Type>().value(row).into(), seed),
        DataType::Int16 => H::int(array.as_primitive::<Int16Type>().value(row).into(), seed),
        DataType::Int32 => H::int(array.as_primitive::<Int32Type>().value(row), seed),
        DataType::Date32 => H::int(array.as_primitive::<Date32Type>().value(row), seed),
        DataType::Int64 => H::long(array.as_primitive::<Int64Type>().value(row), seed),
        DataType::Timestamp(..) => H::long(array.as_primitive::<TimestampMicrosecondType>().value(row), seed),
        DataType::Duration(_) => H::long(array.as_primitive::<DurationMicrosecondType>().value(row), seed),
        DataType::Interval(IntervalUnit::YearMonth) => {
            H::int(array.as_primitive::<IntervalYearMonthType>().value(row), seed)
        }
        DataType::Interval(_) => {
            let interval = array.as_primitive::<IntervalMonthDayNanoType>().value(row);
            let seed = H::long(interval.nanoseconds / 1000, seed);
            H::int(interval.months, H::int(interval.days, seed))
        }
        DataType::Float32 => {
            let value = array.as_primitive::<Float32Type>().value(row);
            // 0.0 and -0.0 are one value, and so are all NaNs.
            let value = if value == 0.0 { 0.0 } else { value };
            let bits = if value.is_nan() { 0x7fc0_0000 } else { value.to_bits() };
            H::int(bits as i32, seed)
        }
        DataType::Float64 => {
            let value = array.as_primitive::<Float64Type>().value(row);
            let value = if value == 0.0 { 0.0 } else { value };
            let bits = if value.is_nan() { 0x7ff8_0000_0000_0000 } else { value.to_bits() };
            H::long(bits as i64, seed)
        }
        DataType::Decimal128(precision, _) => {
            let value = array.as_primitive::<Decimal128Type>().value(row);
            if *precision <= 18 {
                H::long(value as i64, seed)
            } else {
                H::bytes(java_bytes(&value.to_be_bytes()), seed)
            }
        }
        DataType::Utf8 => H::bytes(array.as_string::<i32>().value(row).as_bytes(), seed),
        DataType::Binary => H::bytes(array.as_binary::<i32>().value(row), seed),
        DataType::List(_) => {
            let items = array.as_list::<i32>().value(row);
            (0..items.len()).try_fold(seed, |seed, item| value::<H>(&items, item, seed))?
        }
        DataType::Struct(_) => {
            let columns = array.as_struct().columns();
            columns.iter().try_fold(seed, |seed, column| value::<H>(column, row, seed))?
        }
        other => return Err(wrong_call(format!("hash takes no {}", type_name(other)))),
    })
}

/// A whole number's bytes as Java's `BigInteger` gives them: no more than are needed.
fn java_bytes(bytes: &[u8; 16]) -> &[u8] {
    let mut start = 0;
    while start < 15 {
        let sign = if bytes[start + 1] & 0x80 == 0 { 0 } else { 0xff };
        if bytes[start] != sign {
            break;
        }
        start += 1;
    }
    &bytes[start..]
}

struct Murmur;

impl Murmur {
    fn mix(hash: u32, word: u32) -> u32 {
        let word = word.wrapping_mul(0xcc9e_2d51).rotate_left(15).wrapping_mul(0x1b87_3593);
        (hash ^ word).rotate_left(13).wrapping_mul(5).wrapping_add(0xe654_6b64)
    }

    fn finish(hash: u32, length: u32) -> u64 {
        let mut hash = hash ^ length;
        hash = (hash ^ (hash >> 16)).wrapping_mul(0x85eb_ca6b);
        hash = (hash ^ (hash >> 13)).wrapping_mul(0xc2b2_ae35);
        u64::from(hash ^ (hash >> 16))
    }
}

impl Hasher for Murmur {
    fn int(value: i32, seed: u64) -> u64 {
        Murmur::finish(Murmur::mix(seed as u32, value as u32), 4)
    }

    fn long(value: i64, seed: u64) -> u64 {
        let hash = Murmur::mix(seed as u32, value as u32);
        Murmur::finish(Murmur::mix(hash, (value >> 32) as u32), 8)
    }

    fn bytes(value: &[u8], seed: u64) -> u64 {
        let mut hash = seed as u32;
        let words = value.chunks_exact(4);
        let rest = words.remainder();
        for word in words {
            hash = Murmur::mix(hash, u32::from_le_bytes([word[0], word[1], word[2], word[3]]));
        }
        // Spark takes each byte that is left as an int with a sign.
        for byte in rest {
            hash = Murmur::mix(hash, *byte as i8 as i32 as u32);
        }
        Murmur::finish(hash, value.len() as u32)
    }
}

struct Xx;

const P1: u64 = 0x9E37_79B1_85EB_CA87;
const P2: u64 = 0xC2B2_AE3D_27D4_EB4F;
const P3: u64 = 0x1656_67B1_9E37_79F9;
const P4: u64 = 0x85EB_CA77_C2B2_AE63;
const P5: u64 = 0x27D4_EB2F_1656_67C5;

impl Xx {
    fn round(hash: u64, word: u64) -> u64 {
        hash.wrapping_add(word.wrapping_mul(P2)).rotate_left(31).wrapping_mul(P1)
    }

    fn long_step(hash: u64, word: u64) -> u64 {
        (hash ^ Xx::round(0, word)).rotate_left(27).wrapping_mul(P1).wrapping_add(P4)
    }

    fn int_step(hash: u64, word: u32) -> u64 {
        (hash ^ u64::from(word).wrapping_mul(P1)).rotate_left(23).wrapping_mul(P2).wrapping_add(P3)
    }

    fn finish(hash: u64) -> u64 {
        let hash = (hash ^ (hash >> 33)).wrapping_mul(P2);
        let hash = (hash ^ (hash >> 29)).wrapping_mul(P3);
        hash ^ (hash >> 32)
    }
}

impl Hasher for Xx {
    fn int(value: i32, seed: u64) -> u64 {
        Xx::finish(Xx::int_step(seed.wrapping_add(P5).wrapping_add(4), value as u32))
    }

    fn long(value: i64, seed: u64) -> u64 {
        Xx::finish(Xx::long_step(seed.wrapping_add(P5).wrapping_add(8), value as u64))
    }

    fn bytes(value: &[u8], seed: u64) -> u64 {
        let word = |bytes: &[u8]| bytes.iter().rev().fold(0u64, |word, byte| word << 8 | u64::from(*byte));
        let blocks = value.chunks_exact(32);
        let rest = blocks.remainder();
        let mut hash = if value.len() < 32 {
            seed.wrapping_add(P5)
        } else {
            let mut lanes =
                [seed.wrapping_add(P1).wrapping_add(P2), seed.wrapping_add(P2), seed, seed.wrapping_sub(P1)];
            for block in blocks {
                for (lane, bytes) in lanes.iter_mut().zip(block.chunks_exact(8)) {
                    *lane = Xx::round(*lane, word(bytes));
                }
            }
            let mixed = lanes
                .iter()
                .zip([1, 7, 12, 18])
                .fold(0u64, |sum, (lane, bits)| sum.wrapping_add(lane.rotate_left(bits)));
            lanes.iter().fold(mixed, |hash, lane| (hash ^ Xx::round(0, *lane)).wrapping_mul(P1).wrapping_add(P4))
        };
        hash = hash.wrapping_add(value.len() as u64);
        let longs = rest.chunks_exact(8);
        let rest = longs.remainder();
        for bytes in longs {
            hash = Xx::long_step(hash, word(bytes));
        }
        let (int, rest) = rest.split_at(rest.len() / 4 * 4);
        if !int.is_empty() {
            hash = Xx::int_step(hash, word(int) as u32);
        }
        for byte in rest {
            hash = (hash ^ u64::from(*byte).wrapping_mul(P5)).rotate_left(11).wrapping_mul(P1);
        }
        Xx::finish(hash)
    }
}
