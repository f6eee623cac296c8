//! `to_json(value[, options])`: a struct, array or map as a JSON text.

use arrow::{
    array::{Array, ArrayRef, AsArray, StringArray},
    datatypes::{DataType, TimeUnit},
};
use datafusion::common::Result;

use super::{options::Options, value::write_text};
use crate::sql::{
    cast::cast,
    functions::texts_binary::to_base64,
    kernel::{Arguments, wrong_call},
    time::{pattern::Pattern, zone::Zone},
    types::type_name,
};

/// How Spark writes timestamps in JSON and CSV; three of the letter X are an offset with a colon, no mark of something unfinished.
pub(crate) const TIMESTAMP: &str = "yyyy-MM-dd'T'HH:mm:ss.SSSXXX";
pub(crate) const CLOCK: &str = "yyyy-MM-dd'T'HH:mm:ss.SSS";

/// How values are written.
pub(crate) struct Writing {
    pub(crate) zone: Zone,
    zone_name: String,
    timestamps: Pattern,
    clocks: Pattern,
    dates: Option<Pattern>,
    skips_nulls: bool,
}

impl Writing {
    pub(crate) fn new(options: &Options, arguments: &Arguments) -> Result<Writing> {
        let zone_name = arguments.config.execution.time_zone.clone().unwrap_or_else(|| "UTC".into());
        Ok(Writing {
            zone: Zone::of_session(&arguments.config)?,
            zone_name,
            timestamps: Pattern::compile(options.get("timestampFormat").unwrap_or(TIMESTAMP))?,
            clocks: Pattern::compile(options.get("timestampNTZFormat").unwrap_or(CLOCK))?,
            dates: options.get("dateFormat").map(Pattern::compile).transpose()?,
            skips_nulls: options.flag("ignoreNullFields", true),
        })
    }

    /// Dates and timestamps as texts.
    pub(crate) fn moments(&self, array: &ArrayRef) -> Result<StringArray> {
        let has_zone = matches!(array.data_type(), DataType::Timestamp(_, Some(_)));
        let pattern = match array.data_type() {
            DataType::Date32 => self.dates.as_ref(),
            _ if has_zone => Some(&self.timestamps),
            _ => Some(&self.clocks),
        };
        let Some(pattern) = pattern else {
            return Ok(cast(array, &DataType::Utf8, self.zone)?.as_string::<i32>().clone());
        };
        let clocks = if has_zone {
            cast(array, &DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), self.zone)?
        } else {
            cast(array, &DataType::Timestamp(TimeUnit::Microsecond, None), Zone::UTC)?
        };
        let zone = if has_zone { self.zone } else { Zone::UTC };
        let instants = clocks.as_primitive::<arrow::datatypes::TimestampMicrosecondType>();
        let texts = instants.iter().map(|instant| {
            instant.map(|instant| {
                let mut out = String::new();
                pattern.write(instant, zone, &self.zone_name, &mut out);
                out
            })
        });
        Ok(texts.collect())
    }
}

/// What `to_json` is told.
const KNOWN: [&str; 4] = ["timestampFormat", "timestampNTZFormat", "dateFormat", "ignoreNullFields"];

pub(super) fn to_json(arguments: &Arguments) -> Result<ArrayRef> {
    let options = Options::read(arguments, 1, "to_json", &KNOWN)?;
    let writing = Writing::new(&options, arguments)?;
    let values = &arguments.arrays[0];
    let writer = Writer::over(values, &writing)?;
    arguments.texts(|row| {
        values.is_valid(row).then(|| {
            let mut out = String::new();
            writer.write(row, &mut out);
            out
        })
    })
}

/// A column that is written a value at a time.
enum Writer {
    Null,
    /// JSON already.
    Plain(StringArray),
    /// Texts that need quotes.
    Quoted(StringArray),
    Struct {
        nulls: ArrayRef,
        names: Vec<String>,
        columns: Vec<Writer>,
        skips_nulls: bool,
    },
    List {
        list: ArrayRef,
        items: Box<Writer>,
    },
    Map {
        map: ArrayRef,
        keys: StringArray,
        values: Box<Writer>,
    },
}

impl Writer {
    fn over(array: &ArrayRef, writing: &Writing) -> Result<Writer> {
        let text = |array: &ArrayRef| -> Result<StringArray> {
            Ok(cast(array, &DataType::Utf8, writing.zone)?.as_string::<i32>().clone())
        };
        Ok(match array.data_type() {
            DataType::Null => Writer::Null,
            DataType::Float32 | DataType::Float64 => {
                let texts = text(array)?;
                let quoted = |text: &str| match text {
                    "NaN" | "Infinity" | "-Infinity" => format!("\"{text}\""),
                    number => number.to_string(),
                };
                Writer::Plain(texts.iter().map(|value| value.map(quoted)).collect())
            }
            DataType::Decimal128(_, scale) => {
                let decimals = array.as_primitive::<arrow::datatypes::Decimal128Type>();
                Writer::Plain(decimals.iter().map(|value| value.map(|value| java_decimal(value, *scale))).collect())
            }
            number if number.is_integer() || *number == DataType::Boolean => Writer::Plain(text(array)?),
            DataType::Date32 | DataType::Timestamp(..) => Writer::Quoted(writing.moments(array)?),
            DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
                let bytes = arrow::compute::cast(array, &DataType::Binary)?;
                Writer::Quoted(bytes.as_binary::<i32>().iter().map(|bytes| bytes.map(to_base64)).collect())
            }
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
                Writer::Quoted(arrow::compute::cast(array, &DataType::Utf8)?.as_string::<i32>().clone())
            }
            DataType::Struct(fields) => {
                let structs = array.as_struct();
                let columns = structs.columns().iter().map(|column| Writer::over(column, writing));
                Writer::Struct {
                    nulls: std::sync::Arc::clone(array),
                    names: fields
                        .iter()
                        .map(|field| {
                            let mut name = String::new();
                            write_text(field.name(), &mut name);
                            name
                        })
                        .collect(),
                    columns: columns.collect::<Result<Vec<_>>>()?,
                    skips_nulls: writing.skips_nulls,
                }
            }
            DataType::List(_) => Writer::List {
                list: std::sync::Arc::clone(array),
                items: Box::new(Writer::over(array.as_list::<i32>().values(), writing)?),
            },
            DataType::Map(..) => {
                let map = array.as_map();
                let keys = match map.keys().data_type() {
                    // Spark writes a key as what it holds for it: days, microseconds.
                    DataType::Date32 => text(&arrow::compute::cast(
                        &arrow::compute::cast(map.keys(), &DataType::Int32)?,
                        &DataType::Int64,
                    )?)?,
                    DataType::Timestamp(TimeUnit::Microsecond, _) => {
                        text(&arrow::compute::cast(map.keys(), &DataType::Int64)?)?
                    }
                    DataType::Struct(_) => {
                        let texts = text(map.keys())?;
                        let row = |text: &str| {
                            let inner = text.strip_prefix('{').and_then(|text| text.strip_suffix('}')).unwrap_or(text);
                            format!("[{}]", inner.replace(", ", ","))
                        };
                        texts.iter().map(|value| value.map(row)).collect()
                    }
                    other if other.is_nested() => {
                        return Err(wrong_call(format!(
                            "to_json can't write a map whose keys are {}",
                            type_name(other)
                        )));
                    }
                    _ => text(map.keys())?,
                };
                Writer::Map {
                    map: std::sync::Arc::clone(array),
                    keys,
                    values: Box::new(Writer::over(map.values(), writing)?),
                }
            }
            other => return Err(wrong_call(format!("to_json can't write {}", type_name(other)))),
        })
    }

    fn is_null(&self, row: usize) -> bool {
        match self {
            Writer::Null => true,
            Writer::Plain(texts) | Writer::Quoted(texts) => texts.is_null(row),
            Writer::Struct { nulls: array, .. } | Writer::List { list: array, .. } | Writer::Map { map: array, .. } => {
                array.is_null(row)
            }
        }
    }

    fn write(&self, row: usize, out: &mut String) {
        if self.is_null(row) {
            out.push_str("null");
            return;
        }
        match self {
            Writer::Null => out.push_str("null"),
            Writer::Plain(texts) => out.push_str(texts.value(row)),
            Writer::Quoted(texts) => write_text(texts.value(row), out),
            Writer::Struct { names, columns, skips_nulls, .. } => {
                out.push('{');
                let mut first = true;
                for (name, column) in names.iter().zip(columns) {
                    if *skips_nulls && column.is_null(row) {
                        continue;
                    }
                    if !first {
                        out.push(',');
                    }
                    first = false;
                    out.push_str(name);
                    out.push(':');
                    column.write(row, out);
                }
                out.push('}');
            }
            Writer::List { list, items } => {
                let offsets = list.as_list::<i32>().value_offsets();
                out.push('[');
                for item in offsets[row]..offsets[row + 1] {
                    if item > offsets[row] {
                        out.push(',');
                    }
                    items.write(item as usize, out);
                }
                out.push(']');
            }
            Writer::Map { map, keys, values } => {
                let offsets = map.as_map().value_offsets();
                out.push('{');
                for entry in offsets[row]..offsets[row + 1] {
                    if entry > offsets[row] {
                        out.push(',');
                    }
                    write_text(keys.value(entry as usize), out);
                    out.push(':');
                    values.write(entry as usize, out);
                }
                out.push('}');
            }
        }
    }
}

/// A decimal as Java's `BigDecimal` writes itself: with an exponent when it is small.
pub(crate) fn java_decimal(value: i128, scale: i8) -> String {
    let digits = value.unsigned_abs().to_string();
    let sign = if value < 0 { "-" } else { "" };
    let scale = i64::from(scale);
    if scale == 0 {
        return format!("{sign}{digits}");
    }
    let exponent = digits.len() as i64 - 1 - scale;
    if scale > 0 && exponent >= -6 {
        let padded = format!("{digits:0>width$}", width = scale as usize + 1);
        let (whole, fraction) = padded.split_at(padded.len() - scale as usize);
        return format!("{sign}{whole}.{fraction}");
    }
    let (first, rest) = digits.split_at(1);
    let point = if rest.is_empty() { "" } else { "." };
    format!("{sign}{first}{point}{rest}E{exponent:+}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_written_as_java_does() {
        for (value, scale, expected) in [
            (150, 2, "1.50"),
            (-5, 2, "-0.05"),
            (0, 2, "0.00"),
            (1, 7, "1E-7"),
            (12, 8, "1.2E-7"),
            (0, 18, "0E-18"),
            (7, 0, "7"),
        ] {
            assert_eq!(java_decimal(value, scale), expected);
        }
    }
}
