//! Arrow's values as JSON, of every type there is: a row that was computed can always be shown.
//!
//! | Type | JSON |
//! |---|---|
//! | integers, decimals | a number with all its digits |
//! | floats | a number, or `"NaN"`, `"Infinity"`, `"-Infinity"` |
//! | text, dates, times | text; timestamps in RFC 3339, with `Z` where they are moments |
//! | binary | text of hexadecimal digits |
//! | intervals, durations | text |
//! | map | an object, its keys as text, in their order |
//! | struct, list | an object, an array |

use arrow::{
    array::{Array, AsArray, RecordBatch},
    datatypes::{
        DataType, Date32Type, Decimal128Type, Decimal256Type, DecimalType, Float16Type, Float32Type, Float64Type,
        TimeUnit, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType,
    },
    error::ArrowError,
    util::display::{ArrayFormatter, FormatOptions},
};

/// Writes the value of a row.
type Write<'a> = Box<dyn Fn(usize, &mut Vec<u8>) + 'a>;

/// RFC 3339.
const TIMESTAMP: &str = "%Y-%m-%dT%H:%M:%S%.f";
const TIMESTAMP_UTC: &str = "%Y-%m-%dT%H:%M:%S%.fZ";

fn options() -> FormatOptions<'static> {
    FormatOptions::default()
        .with_timestamp_format(Some(TIMESTAMP))
        .with_timestamp_tz_format(Some(TIMESTAMP_UTC))
        .with_datetime_format(Some(TIMESTAMP))
}

/// Writes each row as an object, `after` behind all but the last and `end` behind that; columns keep their order, nulls are written.
pub fn write_rows(batch: &RecordBatch, after: &[u8], end: &[u8], out: &mut Vec<u8>) -> Result<(), ArrowError> {
    let options = options();
    let schema = batch.schema();
    let columns = schema.fields().iter().zip(batch.columns());
    let columns = columns.map(|(field, column)| Ok((key(field.name()), nullable(column.as_ref(), &options)?)));
    let columns = columns.collect::<Result<Vec<_>, ArrowError>>()?;
    for row in 0..batch.num_rows() {
        object(&columns, row, out);
        out.extend_from_slice(if row + 1 < batch.num_rows() { after } else { end });
    }
    Ok(())
}

fn object(fields: &[(Vec<u8>, Write<'_>)], row: usize, out: &mut Vec<u8>) {
    out.push(b'{');
    for (at, (key, write)) in fields.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        out.extend_from_slice(key);
        write(row, out);
    }
    out.push(b'}');
}

/// A name with its colon.
fn key(name: &str) -> Vec<u8> {
    let mut out = Vec::new();
    text(name, &mut out);
    out.push(b':');
    out
}

fn text(value: &str, out: &mut Vec<u8>) {
    // Writing to memory does not fail, and neither does text.
    serde_json::to_writer(out, value).ok();
}

fn nullable<'a>(array: &'a dyn Array, options: &'a FormatOptions<'static>) -> Result<Write<'a>, ArrowError> {
    let write = write_of(array, options)?;
    let Some(nulls) = array.logical_nulls() else { return Ok(write) };
    Ok(Box::new(move |row, out| match nulls.is_null(row) {
        true => out.extend_from_slice(b"null"),
        false => write(row, out),
    }))
}

fn write_of<'a>(array: &'a dyn Array, options: &'a FormatOptions<'static>) -> Result<Write<'a>, ArrowError> {
    macro_rules! floats {
        ($type:ty, $as:ty) => {{
            let values = array.as_primitive::<$type>();
            Box::new(move |row, out: &mut Vec<u8>| {
                let value = <$as>::from(values.value(row));
                float(f64::from(value), || format!("{value:?}"), out);
            })
        }};
    }
    macro_rules! bytes {
        ($values:expr) => {{
            let values = $values;
            Box::new(move |row, out: &mut Vec<u8>| text(&hex(values.value(row)), out))
        }};
    }
    macro_rules! items {
        ($list:expr) => {{
            let list = $list;
            let item = nullable(list.values().as_ref(), options)?;
            Box::new(move |row, out: &mut Vec<u8>| {
                let start = list.value_offsets()[row];
                sequence(start as usize..list.value_offsets()[row + 1] as usize, &item, out);
            })
        }};
    }
    Ok(match array.data_type() {
        DataType::Null => Box::new(|_, out| out.extend_from_slice(b"null")),
        DataType::Boolean => {
            let values = array.as_boolean();
            Box::new(move |row, out| out.extend_from_slice(if values.value(row) { b"true" } else { b"false" }))
        }
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => shown(array, options, false)?,
        DataType::UInt8 | DataType::UInt16 | DataType::UInt32 | DataType::UInt64 => shown(array, options, false)?,
        DataType::Decimal128(_, scale) => {
            let (values, scale) = (array.as_primitive::<Decimal128Type>(), *scale);
            Box::new(move |row, out| out.extend(Decimal128Type::format_decimal(values.value(row), 38, scale).bytes()))
        }
        DataType::Decimal256(_, scale) => {
            let (values, scale) = (array.as_primitive::<Decimal256Type>(), *scale);
            Box::new(move |row, out| out.extend(Decimal256Type::format_decimal(values.value(row), 76, scale).bytes()))
        }
        DataType::Decimal32(..) | DataType::Decimal64(..) => shown(array, options, false)?,
        DataType::Float16 => floats!(Float16Type, f32),
        DataType::Float32 => floats!(Float32Type, f32),
        DataType::Float64 => floats!(Float64Type, f64),
        DataType::Utf8 => {
            let values = array.as_string::<i32>();
            Box::new(move |row, out| text(values.value(row), out))
        }
        DataType::LargeUtf8 => {
            let values = array.as_string::<i64>();
            Box::new(move |row, out| text(values.value(row), out))
        }
        DataType::Utf8View => {
            let values = array.as_string_view();
            Box::new(move |row, out| text(values.value(row), out))
        }
        DataType::Binary => bytes!(array.as_binary::<i32>()),
        DataType::LargeBinary => bytes!(array.as_binary::<i64>()),
        DataType::BinaryView => bytes!(array.as_binary_view()),
        DataType::FixedSizeBinary(_) => bytes!(array.as_fixed_size_binary()),
        DataType::List(_) => items!(array.as_list::<i32>()),
        DataType::LargeList(_) => items!(array.as_list::<i64>()),
        DataType::FixedSizeList(_, size) => {
            let (list, size) = (array.as_fixed_size_list(), usize::try_from(*size).unwrap_or(0));
            let item = nullable(list.values().as_ref(), options)?;
            Box::new(move |row, out| sequence(row * size..(row + 1) * size, &item, out))
        }
        DataType::Struct(fields) => {
            let columns = fields.iter().zip(array.as_struct().columns());
            let columns = columns.map(|(field, column)| Ok((key(field.name()), nullable(column.as_ref(), options)?)));
            let columns = columns.collect::<Result<Vec<_>, ArrowError>>()?;
            Box::new(move |row, out| object(&columns, row, out))
        }
        DataType::Map(..) => {
            let map = array.as_map();
            let (name, value) = (nullable(map.keys().as_ref(), options)?, nullable(map.values().as_ref(), options)?);
            Box::new(move |row, out| {
                let range = map.value_offsets()[row] as usize..map.value_offsets()[row + 1] as usize;
                out.push(b'{');
                for (at, entry) in range.enumerate() {
                    if at > 0 {
                        out.push(b',');
                    }
                    map_key(&name, entry, out);
                    out.push(b':');
                    value(entry, out);
                }
                out.push(b'}');
            })
        }
        DataType::Dictionary(..) => {
            let dictionary = array.as_any_dictionary();
            let value = nullable(dictionary.values().as_ref(), options)?;
            let keys = dictionary.normalized_keys();
            Box::new(move |row, out| value(keys[row], out))
        }
        // Dates, times, intervals, and whatever comes to be.
        _ => shown(array, options, true)?,
    })
}

/// What Arrow shows of a value, as text or as it is. What it can't show, such as a date in the year 300,000, is its number.
fn shown<'a>(array: &'a dyn Array, options: &'a FormatOptions<'static>, quoted: bool) -> Result<Write<'a>, ArrowError> {
    let values = ArrayFormatter::try_new(array, options)?;
    Ok(Box::new(move |row, out| {
        let mut value = String::new();
        if values.value(row).write(&mut value).is_err() {
            value = raw(array, row).unwrap_or_else(|| "out of range".to_string());
        }
        if quoted { text(&value, out) } else { out.extend_from_slice(value.as_bytes()) }
    }))
}

/// A moment's number, with its unit.
fn raw(array: &dyn Array, row: usize) -> Option<String> {
    let since = |value: i64, unit: &str| format!("{value} {unit} since 1970");
    Some(match array.data_type() {
        DataType::Date32 => since(array.as_primitive::<Date32Type>().value(row).into(), "days"),
        DataType::Timestamp(TimeUnit::Second, _) => {
            since(array.as_primitive::<TimestampSecondType>().value(row), "seconds")
        }
        DataType::Timestamp(TimeUnit::Millisecond, _) => {
            since(array.as_primitive::<TimestampMillisecondType>().value(row), "milliseconds")
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            since(array.as_primitive::<TimestampMicrosecondType>().value(row), "microseconds")
        }
        DataType::Timestamp(TimeUnit::Nanosecond, _) => {
            since(array.as_primitive::<TimestampNanosecondType>().value(row), "nanoseconds")
        }
        _ => return None,
    })
}

fn sequence(range: std::ops::Range<usize>, item: &Write<'_>, out: &mut Vec<u8>) {
    out.push(b'[');
    for (at, row) in range.enumerate() {
        if at > 0 {
            out.push(b',');
        }
        item(row, out);
    }
    out.push(b']');
}

/// JSON has only texts for keys: any other one is its own JSON in quotes.
fn map_key(name: &Write<'_>, entry: usize, out: &mut Vec<u8>) {
    let start = out.len();
    name(entry, out);
    if out.get(start) != Some(&b'"') {
        let plain = String::from_utf8_lossy(&out[start..]).into_owned();
        out.truncate(start);
        text(&plain, out);
    }
}

fn float(value: f64, digits: impl Fn() -> String, out: &mut Vec<u8>) {
    let text = match value {
        value if value.is_nan() => "\"NaN\"".to_string(),
        f64::INFINITY => "\"Infinity\"".to_string(),
        f64::NEG_INFINITY => "\"-Infinity\"".to_string(),
        _ => digits(),
    };
    out.extend_from_slice(text.as_bytes());
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::{
        array::{
            ArrayRef, BinaryArray, Date32Array, Decimal128Array, DictionaryArray, FixedSizeBinaryArray, Float32Array,
            Float64Array, Int32Array, Int32Builder, IntervalMonthDayNanoArray, ListArray, MapBuilder, MapFieldNames,
            NullArray, StringArray, StringBuilder, StringViewArray, TimestampMicrosecondArray,
        },
        datatypes::{Int32Type, IntervalMonthDayNano},
    };

    use super::*;

    fn json(column: ArrayRef) -> String {
        let batch = RecordBatch::try_from_iter_with_nullable([("x", column, true)]).unwrap();
        let mut out = Vec::new();
        write_rows(&batch, b",", b"", &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        serde_json::from_str::<serde_json::Value>(&format!("[{text}]")).unwrap();
        text.replace("{\"x\":", "").replace("},", " ").trim_end_matches('}').to_string()
    }

    #[test]
    fn what_json_has_no_number_for_is_text() {
        let values = vec![Some(1.5), Some(f64::NAN), Some(f64::INFINITY), Some(f64::NEG_INFINITY), Some(-0.0), None];
        assert_eq!(json(Arc::new(Float64Array::from(values))), r#"1.5 "NaN" "Infinity" "-Infinity" -0.0 null"#);
        assert_eq!(json(Arc::new(Float32Array::from(vec![0.1, f32::NAN]))), r#"0.1 "NaN""#);
        let decimals = Decimal128Array::from(vec![Some(-50), Some(12_345), None]).with_precision_and_scale(38, 2);
        assert_eq!(json(Arc::new(decimals.unwrap())), "-0.50 123.45 null");
    }

    #[test]
    fn a_map_may_have_any_keys() {
        let names = MapFieldNames { entry: "e".into(), key: "k".into(), value: "v".into() };
        let mut map = MapBuilder::new(Some(names), Int32Builder::new(), StringBuilder::new());
        map.keys().append_value(7);
        map.values().append_value("a\"b");
        map.keys().append_value(-1);
        map.values().append_null();
        map.append(true).unwrap();
        map.append(false).unwrap();
        assert_eq!(json(Arc::new(map.finish())), r#"{"7":"a\"b","-1":null null"#.replace("null null", "null} null"));
        let keys = TimestampMicrosecondArray::from(vec![1_500_000]).with_timezone("+00:00");
        let mut out = Vec::new();
        let options = options();
        let name = nullable(&keys, &options).unwrap();
        map_key(&name, 0, &mut out);
        assert_eq!(out, br#""1970-01-01T00:00:01.500Z""#);
    }

    #[test]
    fn nothing_is_left_out() {
        assert_eq!(json(Arc::new(BinaryArray::from_vec(vec![b"\x00\xffA", b""]))), r#""00ff41" """#);
        let fixed = FixedSizeBinaryArray::try_from_iter([[1_u8, 2]].into_iter()).unwrap();
        assert_eq!(json(Arc::new(fixed)), r#""0102""#);
        assert_eq!(json(Arc::new(StringViewArray::from(vec!["a\n", "ä"]))), r#""a\n" "ä""#);
        assert_eq!(json(Arc::new(NullArray::new(2))), "null null");
        let list = ListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(1), None]), None, Some(vec![])]);
        assert_eq!(json(Arc::new(list)), "[1,null] null []");
        let words = DictionaryArray::new(
            Int32Array::from(vec![Some(1), None, Some(0)]),
            Arc::new(StringArray::from(vec!["a", "b"])),
        );
        assert_eq!(json(Arc::new(words)), r#""b" null "a""#);
        let interval = IntervalMonthDayNanoArray::from(vec![IntervalMonthDayNano::new(1, 2, 3_000_000_000)]);
        assert!(json(Arc::new(interval)).starts_with("\"1 mon"));
    }

    #[test]
    fn days_that_no_calendar_has_are_numbers() {
        assert_eq!(
            json(Arc::new(Date32Array::from(vec![0, i32::MAX]))),
            r#""1970-01-01" "2147483647 days since 1970""#
        );
        let far = TimestampMicrosecondArray::from(vec![i64::MAX]);
        assert_eq!(json(Arc::new(far)), r#""9223372036854775807 microseconds since 1970""#);
    }
}
