//! The type that values of several types have in common, by Spark's rules (`TypeCoercion`, not ANSI).

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, IntervalUnit, TimeUnit};

use super::calls::is_text;

/// Decimal digits that Spark has at most.
pub(super) const DIGITS: u8 = 38;

/// The decimal that holds every value of an integer type.
pub(super) fn decimal_of(integer: &DataType) -> Option<(u8, i8)> {
    Some(match integer {
        DataType::Int8 => (3, 0),
        DataType::Int16 | DataType::UInt8 => (5, 0),
        DataType::Int32 | DataType::UInt16 => (10, 0),
        DataType::Int64 | DataType::UInt32 | DataType::UInt64 => (20, 0),
        DataType::Decimal32(p, s) | DataType::Decimal64(p, s) | DataType::Decimal128(p, s) => (*p, *s),
        DataType::Decimal256(p, s) => ((*p).min(DIGITS), *s),
        _ => return None,
    })
}

/// Spark's `DecimalType.bounded`.
fn bounded(precision: i32, scale: i32) -> DataType {
    let most = i32::from(DIGITS);
    DataType::Decimal128(precision.clamp(1, most) as u8, scale.clamp(0, most) as i8)
}

/// The decimal that holds the values of two.
pub(super) fn wider_decimal((p1, s1): (u8, i8), (p2, s2): (u8, i8)) -> DataType {
    let [p1, s1, p2, s2] = [i32::from(p1), i32::from(s1), i32::from(p2), i32::from(s2)];
    let scale = s1.max(s2);
    bounded((p1 - s1).max(p2 - s2) + scale, scale)
}

fn rank(number: &DataType) -> Option<u8> {
    Some(match number {
        DataType::Int8 => 0,
        DataType::Int16 | DataType::UInt8 => 1,
        DataType::Int32 | DataType::UInt16 => 2,
        DataType::Int64 | DataType::UInt32 | DataType::UInt64 => 3,
        DataType::Float16 | DataType::Float32 => 4,
        DataType::Float64 => 5,
        _ => return None,
    })
}

fn of_rank(rank: u8) -> DataType {
    match rank {
        0 => DataType::Int8,
        1 => DataType::Int16,
        2 => DataType::Int32,
        3 => DataType::Int64,
        4 => DataType::Float32,
        _ => DataType::Float64,
    }
}

/// The common type of two without texts made of what is none.
fn without_texts(a: &DataType, b: &DataType) -> Option<DataType> {
    use DataType::{Date32, Decimal128, Duration, Interval, Null, Timestamp};
    if a == b {
        return Some(a.clone());
    }
    match (a, b) {
        (Null, other) | (other, Null) => Some(other.clone()),
        (a, b) if is_text(a) && is_text(b) => Some(DataType::Utf8),
        (Timestamp(_, Some(zone)), Timestamp(..) | Date32) | (Timestamp(..) | Date32, Timestamp(_, Some(zone))) => {
            Some(Timestamp(TimeUnit::Microsecond, Some(Arc::clone(zone))))
        }
        (Timestamp(..), Timestamp(..) | Date32) | (Date32, Timestamp(..)) => {
            Some(Timestamp(TimeUnit::Microsecond, None))
        }
        (Interval(_) | Duration(_), Interval(_) | Duration(_)) => Some(Interval(IntervalUnit::MonthDayNano)),
        _ => match (rank(a), rank(b)) {
            (Some(x), Some(y)) => Some(of_rank(x.max(y))),
            (x, y)
                if x.or(y).is_some_and(|rank| rank > 3)
                    && (matches!(a, Decimal128(..)) || matches!(b, Decimal128(..))) =>
            {
                Some(DataType::Float64)
            }
            _ => match (decimal_of(a), decimal_of(b)) {
                (Some(x), Some(y)) => Some(wider_decimal(x, y)),
                _ => nested(a, b, without_texts),
            },
        },
    }
}

fn nested(a: &DataType, b: &DataType, common: fn(&DataType, &DataType) -> Option<DataType>) -> Option<DataType> {
    use DataType::{FixedSizeList, LargeList, List, Map, Struct};
    match (a, b) {
        (List(x) | LargeList(x) | FixedSizeList(x, _), List(y) | LargeList(y) | FixedSizeList(y, _)) => {
            let item = common(x.data_type(), y.data_type())?;
            Some(super::types::list_of(item, x.is_nullable() || y.is_nullable()))
        }
        (Struct(x), Struct(y)) => fields(x, y, common).map(Struct),
        (Map(x, ordered), Map(y, _)) => {
            let (Struct(pair), Struct(other)) = (x.data_type(), y.data_type()) else { return None };
            // Names of the two are no part of a map's type.
            let entries: Vec<Field> = pair
                .iter()
                .zip(other)
                .map(|(x, y)| {
                    let field = x.as_ref().clone().with_data_type(common(x.data_type(), y.data_type())?);
                    Some(field.with_nullable(x.is_nullable() || y.is_nullable()))
                })
                .collect::<Option<_>>()?;
            let entries = x.as_ref().clone().with_data_type(Struct(entries.into()));
            Some(Map(Arc::new(entries), *ordered))
        }
        _ => None,
    }
}

fn fields(a: &Fields, b: &Fields, common: fn(&DataType, &DataType) -> Option<DataType>) -> Option<Fields> {
    if a.len() != b.len() {
        return None;
    }
    let fields = a.iter().zip(b).map(|(x, y)| {
        if !x.name().eq_ignore_ascii_case(y.name()) {
            return None;
        }
        let data_type = common(x.data_type(), y.data_type())?;
        Some(Field::new(x.name(), data_type, x.is_nullable() || y.is_nullable()))
    });
    fields.collect()
}

/// The common type of two, with texts made of numbers, dates and times beside a text.
pub(super) fn wider(a: &DataType, b: &DataType) -> Option<DataType> {
    if let Some(common) = without_texts(a, b) {
        return Some(common);
    }
    match (a, b) {
        (text, other) | (other, text) if is_text(text) => {
            let plain = !other.is_nested() && *other != DataType::Boolean && !is_binary(other);
            plain.then_some(DataType::Utf8)
        }
        _ => nested(a, b, wider),
    }
}

fn is_binary(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_))
}

fn has_text(data_type: &DataType) -> bool {
    match data_type {
        DataType::List(item) => has_text(item.data_type()),
        other => is_text(other),
    }
}

/// The common type of several; texts go first, so that the order of the others does not count.
pub(super) fn common(types: &[DataType]) -> Option<DataType> {
    let (texts, others): (Vec<_>, Vec<_>) = types.iter().partition(|t| has_text(t));
    texts.into_iter().chain(others).try_fold(DataType::Null, |all, next| wider(&all, next))
}

/// The common type of several, for functions that make no texts: `greatest` and `least`.
pub(super) fn common_without_texts(types: &[DataType]) -> Option<DataType> {
    types.iter().try_fold(DataType::Null, |all, next| without_texts(&all, next))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::{parse_type, type_name};

    #[test]
    fn common_types_are_sparks() {
        for (types, expected) in [
            ("int,string", Some("string")),
            ("int,bigint", Some("bigint")),
            ("int,double,bigint", Some("double")),
            ("float,bigint", Some("float")),
            ("int,decimal(2,1)", Some("decimal(11,1)")),
            ("decimal(10,2),decimal(5,4)", Some("decimal(12,4)")),
            ("decimal(38,0),decimal(38,18)", Some("decimal(38,18)")),
            ("decimal(10,2),float", Some("double")),
            ("date,timestamp", Some("timestamp")),
            ("date,string", Some("string")),
            ("boolean,string", None),
            ("binary,string", None),
            ("boolean,int", None),
            ("int,date", None),
            ("array<int>,array<string>", Some("array<string>")),
            ("array<int>,array<double>", Some("array<double>")),
            ("struct<a:int>,struct<a:bigint>", Some("struct<a:bigint>")),
            ("struct<a:int>,struct<b:int>", None),
            ("map<string,int>,map<string,double>", Some("map<string,double>")),
            ("int,date,string", Some("string")),
        ] {
            let mut parsed = Vec::new();
            let mut depth = 0;
            let mut word = String::new();
            for c in types.chars().chain([',']) {
                match c {
                    '<' | '(' => depth += 1,
                    '>' | ')' => depth -= 1,
                    _ => {}
                }
                if c == ',' && depth == 0 {
                    parsed.push(parse_type(&std::mem::take(&mut word)).unwrap());
                } else {
                    word.push(c);
                }
            }
            assert_eq!(common(&parsed).map(|t| type_name(&t)).as_deref(), expected, "{types}");
            parsed.reverse();
            assert_eq!(common(&parsed).map(|t| type_name(&t)).as_deref(), expected, "{types}, turned");
        }
        assert_eq!(common_without_texts(&[DataType::Int32, DataType::Utf8]), None);
    }
}
