//! `from_json(json, schema[, options])`: a value of a type from a JSON text.
//!
//! As Spark does with partial results on, its default: a field that is not of its type is NULL, and so is an array or map with such a value
//! in it; a text that is no JSON gives a struct of NULLs, or NULL for an array or map.

use std::sync::Arc;

use arrow::{
    array::{
        Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Decimal128Array, Float64Array, Int64Array, ListArray,
        MapArray, StringArray, StructArray,
    },
    buffer::{NullBuffer, OffsetBuffer},
    compute::nullif,
    datatypes::{DataType, Field, Fields},
};
use datafusion::common::{Result, exec_err};

use super::{
    options::{LENIENT, Options},
    value::{Json, read},
};
use crate::sql::{
    cast::cast,
    functions::texts_binary::from_base64,
    kernel::{Arguments, wrong_call},
    time::{pattern::Pattern, zone::Zone},
    types::{timestamp, type_name},
};

/// How well a value could be read.
#[derive(Clone, Copy, PartialEq, PartialOrd)]
pub(crate) enum Outcome {
    Good,
    /// A struct some of whose fields could not be read.
    Partial,
    Bad,
}

/// How values are read.
pub(crate) struct Reading {
    zone: Zone,
    timestamps: Option<Pattern>,
    dates: Option<Pattern>,
}

impl Reading {
    pub(crate) fn new(options: &Options, zone: Zone) -> Result<Reading> {
        let pattern = |name: &str| {
            options
                .get(name)
                .map(|text| {
                    let pattern = Pattern::compile(text)?;
                    pattern.check_readable(text).map(|()| pattern)
                })
                .transpose()
        };
        Ok(Reading { zone, timestamps: pattern("timestampFormat")?, dates: pattern("dateFormat")? })
    }

    /// Texts as dates or timestamps.
    pub(crate) fn moments(&self, texts: &StringArray, to: &DataType) -> Result<ArrayRef> {
        let is_date = *to == DataType::Date32;
        let pattern = if is_date { &self.dates } else { &self.timestamps };
        let Some(pattern) = pattern else {
            return cast(&(Arc::new(texts.clone()) as ArrayRef), to, self.zone);
        };
        let has_zone = matches!(to, DataType::Timestamp(_, Some(_)));
        let zone = if has_zone { self.zone } else { Zone::UTC };
        let instants = texts.iter().map(|text| pattern.read(text?, zone));
        let instants: arrow::array::TimestampMicrosecondArray = instants.collect();
        let instants: ArrayRef = Arc::new(instants.with_timezone("UTC"));
        debug_assert_eq!(*instants.data_type(), timestamp());
        cast(&instants, to, Zone::UTC)
    }
}

/// What `from_json` is told.
const KNOWN: [&str; 6] =
    ["mode", "columnNameOfCorruptRecord", "timestampFormat", "dateFormat", "timestampNTZFormat", "locale"];

pub(super) fn known_options() -> Vec<&'static str> {
    KNOWN.into_iter().chain(LENIENT).collect()
}

/// Whether JSON can become this type.
pub(super) fn check_type(data_type: &DataType) -> Result<()> {
    match data_type {
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(pair) if pair[0].data_type() == &DataType::Utf8 => check_type(pair[1].data_type()),
            _ => Err(wrong_call("from_json: the keys of a map can only be texts")),
        },
        DataType::List(item) => check_type(item.data_type()),
        DataType::Struct(fields) => fields.iter().try_for_each(|field| check_type(field.data_type())),
        DataType::Interval(_) | DataType::Duration(_) => {
            Err(wrong_call(format!("from_json can't read {}", type_name(data_type))))
        }
        _ => Ok(()),
    }
}

pub(super) fn from_json(arguments: &Arguments) -> Result<ArrayRef> {
    let options = Options::read(arguments, 2, "from_json", &known_options())?;
    let mode = options.get("mode").unwrap_or("PERMISSIVE").to_ascii_uppercase();
    if !matches!(mode.as_str(), "PERMISSIVE" | "FAILFAST") {
        return Err(wrong_call(format!("from_json has the modes PERMISSIVE and FAILFAST, not {mode}")));
    }
    let corrupt = options.get("columnNameOfCorruptRecord").unwrap_or("_corrupt_record");
    let reading = Reading::new(&options, Zone::of_session(&arguments.config)?)?;
    let leniency = options.leniency();
    let texts = arguments.arrays[0].as_string::<i32>();
    // Texts of space alone are NULL.
    let given: Vec<Option<&str>> =
        texts.iter().map(|text| text.filter(|text| !text.trim_matches(|c| c <= ' ').is_empty())).collect();
    let parsed: Vec<Option<Json>> = given.iter().map(|text| text.and_then(|text| read(text, leniency))).collect();
    let parsed: Vec<Option<Json>> = match &arguments.result {
        // One struct counts as an array of it.
        DataType::List(item) if matches!(item.data_type(), DataType::Struct(_)) => parsed
            .into_iter()
            .map(|json| json.map(|json| if matches!(json, Json::Object(_)) { Json::Array(vec![json]) } else { json }))
            .collect(),
        _ => parsed,
    };
    let values: Vec<Option<&Json>> = parsed.iter().map(Option::as_ref).collect();
    let (array, mut outcomes) = column(&values, &arguments.result, &reading)?;
    for (row, outcome) in outcomes.iter_mut().enumerate() {
        if given[row].is_some() && parsed[row].is_none() {
            *outcome = Outcome::Bad;
        }
        if *outcome != Outcome::Good && mode == "FAILFAST" {
            let text = given[row].unwrap_or_default();
            return exec_err!("from_json (FAILFAST): this is not {}: {text}", type_name(&arguments.result));
        }
    }
    let DataType::Struct(fields) = &arguments.result else { return Ok(array) };
    // A row that is there gives a struct, whatever is in it.
    let structs = array.as_struct();
    let nulls = NullBuffer::from_iter(given.iter().map(Option::is_some));
    let columns = fields.iter().zip(structs.columns()).map(|(field, column)| -> Result<ArrayRef> {
        if field.name() == corrupt && *field.data_type() == DataType::Utf8 {
            let bad = given.iter().zip(&outcomes).map(|(text, outcome)| text.filter(|_| *outcome != Outcome::Good));
            return Ok(Arc::new(bad.collect::<StringArray>()));
        }
        if structs.null_count() == 0 {
            return Ok(Arc::clone(column));
        }
        let lost: BooleanArray = (0..structs.len()).map(|row| Some(structs.is_null(row))).collect();
        Ok(nullif(column, &lost)?)
    });
    let columns = columns.collect::<Result<Vec<_>>>()?;
    let fields: Fields = fields.iter().map(|field| field.as_ref().clone().with_nullable(true)).collect();
    Ok(Arc::new(StructArray::try_new_with_length(fields, columns, Some(nulls), given.len())?))
}

/// A column of values; those that are not of the type are NULL and said to be bad.
fn column(values: &[Option<&Json>], to: &DataType, reading: &Reading) -> Result<(ArrayRef, Vec<Outcome>)> {
    match to {
        DataType::Struct(fields) => structs(values, fields, reading),
        DataType::List(item) => lists(values, item, reading),
        DataType::Map(entries, _) => maps(values, entries, reading),
        DataType::Binary => {
            let bytes = values.iter().map(|value| match value {
                Some(Json::Text(text)) => from_base64(text),
                _ => None,
            });
            let array: ArrayRef = Arc::new(bytes.collect::<BinaryArray>());
            let outcomes = plain_outcomes(values, &array);
            Ok((array, outcomes))
        }
        plain => {
            let array = plain_column(values, plain, reading)?;
            let outcomes = plain_outcomes(values, &array);
            Ok((array, outcomes))
        }
    }
}

fn plain_outcomes(values: &[Option<&Json>], array: &ArrayRef) -> Vec<Outcome> {
    let outcome = |(row, value): (usize, &Option<&Json>)| match value {
        None | Some(Json::Null) => Outcome::Good,
        Some(_) if array.is_valid(row) => Outcome::Good,
        Some(_) => Outcome::Bad,
    };
    values.iter().enumerate().map(outcome).collect()
}

fn plain_column(values: &[Option<&Json>], to: &DataType, reading: &Reading) -> Result<ArrayRef> {
    let whole = |value: &Option<&Json>| match value {
        Some(Json::Number(number)) if Json::is_whole(number) => number.parse::<i64>().ok(),
        _ => None,
    };
    Ok(match to {
        DataType::Utf8 => {
            let texts = values.iter().map(|value| match value {
                None | Some(Json::Null) => None,
                Some(value) => Some(value.plain()),
            });
            Arc::new(texts.collect::<StringArray>())
        }
        DataType::Boolean => {
            let booleans = values.iter().map(|value| match value {
                Some(Json::Boolean(value)) => Some(*value),
                _ => None,
            });
            Arc::new(booleans.collect::<BooleanArray>())
        }
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => {
            let (least, most) = match to {
                // Spark's parser takes bytes without a sign, too.
                DataType::Int8 => (-128, 255),
                DataType::Int16 => (i64::from(i16::MIN), i64::from(i16::MAX)),
                DataType::Int32 => (i64::from(i32::MIN), i64::from(i32::MAX)),
                _ => (i64::MIN, i64::MAX),
            };
            let integers = values.iter().map(|value| whole(value).filter(|value| (least..=most).contains(value)));
            cast(&(Arc::new(integers.collect::<Int64Array>()) as ArrayRef), to, Zone::UTC)?
        }
        DataType::Float32 | DataType::Float64 => {
            let floats = values.iter().map(|value| match value {
                Some(Json::Number(number)) => number.replace("INF", "inf").parse::<f64>().ok(),
                Some(Json::Text(text)) => match text.as_str() {
                    "NaN" => Some(f64::NAN),
                    "+INF" | "Infinity" | "+Infinity" => Some(f64::INFINITY),
                    "-INF" | "-Infinity" => Some(f64::NEG_INFINITY),
                    _ => None,
                },
                _ => None,
            });
            cast(&(Arc::new(floats.collect::<Float64Array>()) as ArrayRef), to, Zone::UTC)?
        }
        DataType::Decimal128(precision, scale) => {
            let decimals = values.iter().map(|value| match value {
                Some(Json::Number(text)) => half_up(text, *precision, *scale),
                Some(Json::Text(text)) => half_up(text, *precision, *scale),
                _ => None,
            });
            Arc::new(decimals.collect::<Decimal128Array>().with_precision_and_scale(*precision, *scale)?)
        }
        DataType::Date32 | DataType::Timestamp(..) => {
            let texts = values.iter().map(|value| match value {
                Some(Json::Text(text)) => Some(text.as_str()),
                _ => None,
            });
            let moments = reading.moments(&texts.collect::<StringArray>(), to)?;
            if *to == DataType::Date32 || !values.iter().any(|value| whole(value).is_some()) {
                return Ok(moments);
            }
            let seconds: ArrayRef = Arc::new(values.iter().map(whole).collect::<Int64Array>());
            let seconds = cast(&seconds, to, Zone::UTC)?;
            let is_number: BooleanArray = values.iter().map(|value| Some(whole(value).is_some())).collect();
            arrow::compute::kernels::zip::zip(&is_number, &seconds, &moments)?
        }
        DataType::Null => arrow::array::new_null_array(to, values.len()),
        other => return Err(wrong_call(format!("from_json can't read {}", type_name(other)))),
    })
}

/// A number's text as a decimal, rounded half up; `None` when it does not fit.
pub(crate) fn half_up(text: &str, precision: u8, scale: i8) -> Option<i128> {
    let text = text.trim();
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok().filter(|e| (-400..400).contains(e))?),
        None => (text, 0),
    };
    let (negative, digits) = match mantissa.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, mantissa.strip_prefix('+').unwrap_or(mantissa)),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if whole.is_empty() && fraction.is_empty() || !whole.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit()) {
        return None;
    }
    let all = [whole.as_bytes(), fraction.as_bytes()].concat();
    // So many of the digits stand before the decimal's last place.
    let kept = whole.len() as i64 + i64::from(exponent) + i64::from(scale);
    let mut value: i128 = 0;
    for place in 0..kept.max(0) {
        let digit = all.get(place as usize).map_or(0, |b| i128::from(b - b'0'));
        value = value.checked_mul(10)?.checked_add(digit)?;
    }
    if kept >= 0 && all.get(kept as usize).is_some_and(|digit| *digit >= b'5') {
        value = value.checked_add(1)?;
    }
    let fits = value < 10i128.checked_pow(u32::from(precision))?;
    fits.then_some(if negative { -value } else { value })
}

fn structs(values: &[Option<&Json>], fields: &Fields, reading: &Reading) -> Result<(ArrayRef, Vec<Outcome>)> {
    let mut outcomes: Vec<Outcome> = values
        .iter()
        .map(|value| match value {
            None | Some(Json::Null | Json::Object(_)) => Outcome::Good,
            Some(_) => Outcome::Bad,
        })
        .collect();
    let nulls = NullBuffer::from_iter(values.iter().map(|value| matches!(value, Some(Json::Object(_)))));
    let mut columns = Vec::with_capacity(fields.len());
    for field in fields {
        let of_field: Vec<Option<&Json>> = values
            .iter()
            .map(|value| match value {
                Some(Json::Object(pairs)) => {
                    pairs.iter().rev().find(|(name, _)| name == field.name()).map(|(_, value)| value)
                }
                _ => None,
            })
            .collect();
        let (column, read) = column(&of_field, field.data_type(), reading)?;
        for (outcome, read) in outcomes.iter_mut().zip(read) {
            if read != Outcome::Good && *outcome == Outcome::Good {
                *outcome = Outcome::Partial;
            }
        }
        columns.push(column);
    }
    let fields: Fields = fields.iter().map(|field| field.as_ref().clone().with_nullable(true)).collect();
    let array = StructArray::try_new_with_length(fields, columns, Some(nulls), values.len())?;
    Ok((Arc::new(array), outcomes))
}

/// Offsets and validity of what holds values, and the outcome of each: bad where one of its values is.
fn gathered(
    values: &[Option<&Json>],
    counts: &[Option<usize>],
    read: &[Outcome],
) -> (OffsetBuffer<i32>, NullBuffer, Vec<Outcome>) {
    let mut outcomes = Vec::with_capacity(values.len());
    let mut at = 0;
    for (value, count) in values.iter().zip(counts) {
        let end = at + count.unwrap_or(0);
        let worst = read[at..end].iter().copied().fold(Outcome::Good, |a, b| if b > a { b } else { a });
        outcomes.push(match (value, count) {
            (None | Some(Json::Null), _) => Outcome::Good,
            (Some(_), None) => Outcome::Bad,
            (Some(_), Some(_)) => worst,
        });
        at = end;
    }
    let valid = counts.iter().zip(&outcomes).map(|(count, outcome)| count.is_some() && *outcome != Outcome::Bad);
    let nulls = NullBuffer::from_iter(valid);
    (OffsetBuffer::from_lengths(counts.iter().map(|count| count.unwrap_or(0))), nulls, outcomes)
}

fn lists(values: &[Option<&Json>], item: &Arc<Field>, reading: &Reading) -> Result<(ArrayRef, Vec<Outcome>)> {
    let items = |value: &Option<&Json>| match value {
        Some(Json::Array(items)) => Some(items.len()),
        _ => None,
    };
    let counts: Vec<Option<usize>> = values.iter().map(items).collect();
    let inner: Vec<Option<&Json>> = values
        .iter()
        .flat_map(|value| match value {
            Some(Json::Array(items)) => items.iter(),
            _ => [].iter(),
        })
        .map(Some)
        .collect();
    let (column, read) = column(&inner, item.data_type(), reading)?;
    let (offsets, nulls, outcomes) = gathered(values, &counts, &read);
    let field = Arc::new(item.as_ref().clone().with_nullable(true));
    Ok((Arc::new(ListArray::try_new(field, offsets, column, Some(nulls))?), outcomes))
}

fn maps(values: &[Option<&Json>], entries: &Arc<Field>, reading: &Reading) -> Result<(ArrayRef, Vec<Outcome>)> {
    let DataType::Struct(pair) = entries.data_type() else {
        return exec_err!("a map has no entries");
    };
    // Of fields of one name the last one counts, at the place of the first.
    let pairs: Vec<Option<Vec<(&str, &Json)>>> = values
        .iter()
        .map(|value| match value {
            Some(Json::Object(fields)) => {
                let mut kept: Vec<(&str, &Json)> = Vec::with_capacity(fields.len());
                for (name, value) in fields {
                    match kept.iter_mut().find(|(earlier, _)| earlier == name) {
                        Some(earlier) => earlier.1 = value,
                        None => kept.push((name, value)),
                    }
                }
                Some(kept)
            }
            _ => None,
        })
        .collect();
    let counts: Vec<Option<usize>> = pairs.iter().map(|pairs| pairs.as_ref().map(Vec::len)).collect();
    let keys: StringArray = pairs.iter().flatten().flatten().map(|(name, _)| Some(*name)).collect();
    let inner: Vec<Option<&Json>> = pairs.iter().flatten().flatten().map(|(_, value)| Some(*value)).collect();
    let (column, read) = column(&inner, pair[1].data_type(), reading)?;
    let (offsets, nulls, outcomes) = gathered(values, &counts, &read);
    let inner = StructArray::try_new(pair.clone(), vec![Arc::new(keys), column], None)?;
    Ok((Arc::new(MapArray::try_new(Arc::clone(entries), offsets, inner, Some(nulls), false)?), outcomes))
}
