//! Columns that JSON values are appended to. A record that turns out to be cut short can be taken back.

#[cfg(test)]
mod tests;

use std::{collections::HashMap, sync::Arc};

use arrow::{
    array::{
        Array, ArrayRef, AsArray, BooleanArray, BooleanBufferBuilder, Decimal128Array, Float64Array, Int64Array,
        ListArray, NullBufferBuilder, StringArray, StructArray, new_null_array,
    },
    buffer::{OffsetBuffer, ScalarBuffer},
    compute::{CastOptions, cast_with_options},
    datatypes::{DataType, Decimal128Type, FieldRef, Fields},
};

use super::lex::{Bad, Lex, Stop, compact, fields, items, literal, number, skip_value, string, unescape, unexpected};
use super::map::Maps;
use crate::{
    error::{Code, Error, Result},
    raw::{decimal, text::Text},
};

/// One column under construction.
#[derive(Debug)]
pub(crate) struct Column {
    valid: NullBufferBuilder,
    values: Values,
}

#[derive(Debug)]
enum Values {
    Bool(BooleanBufferBuilder),
    Long(Vec<i64>),
    Double(Vec<f64>),
    Text(Text),
    /// Text that is cast when the batch is finished: dates, decimals, narrower numbers of a declared schema.
    Cast(Text, DataType),
    List {
        offsets: Vec<i32>,
        item: Box<Column>,
        field: FieldRef,
    },
    Map(Maps),
    Struct(StructColumns),
}

/// What could not be put into an array, and in which row of its column.
#[derive(Debug)]
pub(crate) struct BadRow {
    pub row: usize,
    pub bad: Bad,
}

impl Column {
    pub fn new(data_type: &DataType) -> Result<Self> {
        let values = match data_type {
            DataType::Boolean => Values::Bool(BooleanBufferBuilder::new(0)),
            DataType::Int64 => Values::Long(Vec::new()),
            DataType::Float64 => Values::Double(Vec::new()),
            DataType::Utf8 => Values::Text(Text::new()),
            DataType::List(field) => {
                Values::List { offsets: vec![0], item: Box::new(Self::new(field.data_type())?), field: field.clone() }
            }
            DataType::Map(entries, _) => Values::Map(Maps::new(entries)?),
            DataType::Struct(fields) => Values::Struct(StructColumns::new(fields)?),
            _ if arrow::compute::can_cast_types(&DataType::Utf8, data_type) => {
                Values::Cast(Text::new(), data_type.clone())
            }
            _ => {
                return Err(Error::new(Code::InvalidSpec, format!("JSON can't be read as {data_type}"))
                    .hint("declare the field as a string and convert it by an expression"));
            }
        };
        Ok(Self { valid: NullBufferBuilder::new(0), values })
    }

    #[inline]
    pub fn len(&self) -> usize {
        self.valid.len()
    }

    #[inline]
    pub fn push_null(&mut self) {
        match &mut self.values {
            Values::Bool(values) => values.append(false),
            Values::Long(values) => values.push(0),
            Values::Double(values) => values.push(0.0),
            Values::Text(text) | Values::Cast(text, _) => text.end(),
            Values::List { offsets, .. } => offsets.push(offsets.last().copied().unwrap_or(0)),
            Values::Map(maps) => maps.push_null(),
            Values::Struct(columns) => columns.push_nulls(),
        }
        self.valid.append_null();
    }

    /// Keeps the first `len` values.
    pub fn truncate(&mut self, len: usize) {
        match &mut self.values {
            Values::Bool(values) => values.truncate(len),
            Values::Long(values) => values.truncate(len),
            Values::Double(values) => values.truncate(len),
            Values::Text(text) | Values::Cast(text, _) => text.truncate(len),
            Values::List { offsets, item, .. } => {
                offsets.truncate(len + 1);
                item.truncate(offsets.last().and_then(|end| usize::try_from(*end).ok()).unwrap_or(0));
            }
            Values::Map(maps) => maps.truncate(len),
            Values::Struct(columns) => columns.truncate(len),
        }
        self.valid.truncate(len);
    }

    /// Appends the value that starts at `at`; the offset after it. What was appended of a value that is cut short stays until it is truncated.
    pub fn push(&mut self, text: &[u8], at: usize, depth: u32) -> Lex<usize> {
        if text.get(at) == Some(&b'n') {
            let end = literal(text, at, b"null")?;
            self.push_null();
            return Ok(end);
        }
        let end = match &mut self.values {
            Values::Bool(values) => {
                let value = text.get(at) == Some(&b't');
                let end = match text.get(at) {
                    Some(b't') => literal(text, at, b"true")?,
                    Some(b'f') => literal(text, at, b"false")?,
                    _ => return unexpected(text, at, "true or false"),
                };
                values.append(value);
                end
            }
            Values::Long(values) => {
                let (value, end) = long(text, at)?;
                values.push(value);
                end
            }
            Values::Double(values) => {
                let (value, end) = double(text, at)?;
                values.push(value);
                end
            }
            Values::Text(strings) => push_text(strings, text, at, depth)?,
            Values::Cast(strings, data_type) => {
                if let Some(b'{' | b'[') = text.get(at) {
                    return unexpected(text, at, &format!("a value of type {data_type}"));
                }
                push_text(strings, text, at, depth)?
            }
            Values::List { offsets, item, .. } => {
                if text.get(at) != Some(&b'[') {
                    return unexpected(text, at, "an array");
                }
                let end = items(text, at, depth, |at| item.push(text, at, depth + 1))?;
                offsets.push(i32::try_from(item.len()).unwrap_or(i32::MAX));
                end
            }
            Values::Map(maps) => {
                if text.get(at) != Some(&b'{') {
                    return unexpected(text, at, "an object");
                }
                maps.push(text, at, depth)?
            }
            Values::Struct(columns) => {
                if text.get(at) != Some(&b'{') {
                    return unexpected(text, at, "an object");
                }
                columns.push(text, at, depth)?
            }
        };
        self.valid.append_non_null();
        Ok(end)
    }

    /// The array, leaving none here. Values that can't be in it are null, and told in `bad`.
    pub fn finish(&mut self, bad: &mut Vec<BadRow>) -> ArrayRef {
        let len = self.len();
        match &mut self.values {
            Values::Bool(values) => Arc::new(BooleanArray::new(values.finish(), self.valid.finish())),
            Values::Long(values) => Arc::new(Int64Array::new(take(values).into(), self.valid.finish())),
            Values::Double(values) => Arc::new(Float64Array::new(take(values).into(), self.valid.finish())),
            Values::Text(text) => Arc::new(strings(text, &mut self.valid, bad)),
            Values::Cast(text, to) => {
                let strings: ArrayRef = Arc::new(strings(text, &mut self.valid, bad));
                cast_text(&strings, to, bad)
            }
            Values::List { offsets, item, field } => {
                let offsets = std::mem::replace(offsets, vec![0]);
                let before = bad.len();
                let items = item.finish(bad);
                for bad in bad.iter_mut().skip(before) {
                    let next =
                        offsets.partition_point(|start| usize::try_from(*start).is_ok_and(|start| start <= bad.row));
                    bad.row = next.saturating_sub(1);
                }
                let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
                Arc::new(ListArray::new(field.clone(), offsets, items, self.valid.finish()))
            }
            Values::Map(maps) => maps.finish(self.valid.finish(), bad),
            Values::Struct(columns) => Arc::new(columns.finish(len, &mut self.valid, bad)),
        }
    }
}

fn take<T>(values: &mut Vec<T>) -> Vec<T> {
    let capacity = values.len();
    std::mem::replace(values, Vec::with_capacity(capacity))
}

/// The strings of a column; those that are not UTF-8 have other symbols where they are not.
pub(crate) fn strings(text: &mut Text, valid: &mut NullBufferBuilder, bad: &mut Vec<BadRow>) -> StringArray {
    let (strings, not_text) = text.finish(valid);
    let what = "found a string that is not UTF-8";
    bad.extend(not_text.into_iter().map(|row| BadRow { row, bad: Bad { at: 0, what: what.into(), path: Vec::new() } }));
    strings
}

/// Casts strings; those that can't be are null.
pub(crate) fn cast_text(strings: &ArrayRef, to: &DataType, bad: &mut Vec<BadRow>) -> ArrayRef {
    let strict = CastOptions { safe: false, ..Default::default() };
    let error = match cast_with_options(strings, to, &strict) {
        Ok(cast) => return cast,
        Err(error) => error,
    };
    let Ok(cast) = cast_with_options(strings, to, &CastOptions::default()) else {
        bad.push(BadRow { row: 0, bad: Bad { at: 0, what: error.to_string(), path: Vec::new() } });
        return new_null_array(to, strings.len());
    };
    let cast = with_exponents(strings, cast);
    // The error tells of the first only.
    let mut first = Some(error.to_string());
    for row in (0..cast.len()).filter(|row| cast.is_null(*row) && strings.is_valid(*row)) {
        let what = first.take().unwrap_or_else(|| {
            let value: String =
                strings.as_string_opt::<i32>().map_or("", |all| all.value(row)).chars().take(100).collect();
            format!("Cannot cast string '{value}' to value of {to} type")
        });
        bad.push(BadRow { row, bad: Bad { at: 0, what, path: Vec::new() } });
    }
    cast
}

/// Decimals with those that only another parser takes.
fn with_exponents(strings: &ArrayRef, cast: ArrayRef) -> ArrayRef {
    let (Some(texts), Some(decimals)) = (strings.as_string_opt::<i32>(), cast.as_primitive_opt::<Decimal128Type>())
    else {
        return cast;
    };
    let (precision, scale) = (decimals.precision(), decimals.scale());
    let values = decimals
        .iter()
        .zip(texts)
        .map(|(value, text)| value.or_else(|| text.and_then(|text| decimal::parse(text, precision, scale))));
    Arc::new(values.collect::<Decimal128Array>().with_data_type(DataType::Decimal128(precision, scale)))
}

#[inline]
fn long(text: &[u8], at: usize) -> Lex<(i64, usize)> {
    if !matches!(text.get(at), Some(b'-' | b'0'..=b'9')) {
        return unexpected(text, at, "a whole number");
    }
    let (end, whole) = number(text, at)?;
    if !whole {
        return unexpected(text, at, "a whole number");
    }
    let negative = text[at] == b'-';
    let mut value = 0i64;
    for digit in &text[at + usize::from(negative)..end] {
        let digit = i64::from(digit - b'0');
        // Summed below zero, where there is room for the least number.
        match value.checked_mul(10).and_then(|value| value.checked_sub(digit)) {
            Some(next) => value = next,
            None => return unexpected(text, at, "a whole number of 64 bits"),
        }
    }
    let value = if negative { Some(value) } else { value.checked_neg() };
    match value {
        Some(value) => Ok((value, end)),
        None => unexpected(text, at, "a whole number of 64 bits"),
    }
}

#[inline]
fn double(text: &[u8], at: usize) -> Lex<(f64, usize)> {
    if !matches!(text.get(at), Some(b'-' | b'0'..=b'9')) {
        return unexpected(text, at, "a number");
    }
    let (end, _) = number(text, at)?;
    match std::str::from_utf8(&text[at..end]).ok().and_then(|digits| digits.parse::<f64>().ok()) {
        Some(value) if value.is_finite() => Ok((value, end)),
        _ => unexpected(text, at, "a number that fits 64 bits"),
    }
}

/// Text as Spark reads it into a string column: a string's content, any other value as it is written.
fn push_text(strings: &mut Text, text: &[u8], at: usize, depth: u32) -> Lex<usize> {
    let end = match text.get(at) {
        Some(b'"') => {
            let (end, escaped) = string(text, at + 1)?;
            if escaped {
                unescape(text, at + 1, end, &mut strings.bytes)?;
            } else {
                strings.bytes.extend_from_slice(&text[at + 1..end]);
            }
            end + 1
        }
        Some(b'{' | b'[') => {
            let end = skip_value(text, at, depth)?;
            compact(text, at, end, &mut strings.bytes);
            end
        }
        _ => {
            let end = skip_value(text, at, depth)?;
            strings.bytes.extend_from_slice(&text[at..end]);
            end
        }
    };
    strings.end();
    Ok(end)
}

/// Columns of an object's fields.
#[derive(Debug)]
pub(crate) struct StructColumns {
    fields: Fields,
    columns: Vec<Column>,
    by_name: HashMap<Box<[u8]>, usize>,
    /// Objects.
    len: usize,
}

/// Objects with up to so many asked-for fields are searched one by one, which beats hashing.
const FEW: usize = 12;

impl StructColumns {
    pub fn new(fields: &Fields) -> Result<Self> {
        let columns = fields.iter().map(|field| Column::new(field.data_type())).collect::<Result<Vec<_>>>()?;
        let by_name =
            fields.iter().enumerate().map(|(index, field)| (Box::from(field.name().as_bytes()), index)).collect();
        Ok(Self { fields: fields.clone(), columns, by_name, len: 0 })
    }

    /// Objects appended.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Index of a field; most objects have their fields in the same order, so `expected` is tried first.
    #[inline]
    fn index_of(&self, name: &[u8], expected: usize) -> Option<usize> {
        let is = |index: usize| self.fields.get(index).is_some_and(|field| field.name().as_bytes() == name);
        if is(expected) {
            Some(expected)
        } else if self.columns.len() <= FEW {
            (0..self.columns.len()).find(|index| is(*index))
        } else {
            self.by_name.get(name).copied()
        }
    }

    /// Appends the object whose `{` is at `at`; the offset after it.
    pub fn push(&mut self, text: &[u8], at: usize, depth: u32) -> Lex<usize> {
        let row = self.len;
        let mut expected = 0;
        let mut unescaped = Vec::new();
        let end = fields(text, at, depth, |key, (key_end, escaped), value| {
            let index = if escaped {
                unescaped.clear();
                unescape(text, key, key_end, &mut unescaped)?;
                self.index_of(&unescaped, expected)
            } else {
                self.index_of(&text[key..key_end], expected)
            };
            let Some(index) = index else { return skip_value(text, value, depth + 1) };
            expected = index + 1;
            let column = &mut self.columns[index];
            // Of a field that is there twice the last one counts, as in Spark.
            if column.len() > row {
                column.truncate(row);
            }
            column.push(text, value, depth + 1).map_err(|stop| in_field(stop, self.fields[index].name()))
        })?;
        for column in &mut self.columns {
            if column.len() == row {
                column.push_null();
            }
        }
        self.len += 1;
        Ok(end)
    }

    pub fn push_nulls(&mut self) {
        self.columns.iter_mut().for_each(Column::push_null);
        self.len += 1;
    }

    pub fn truncate(&mut self, len: usize) {
        self.columns.iter_mut().for_each(|column| column.truncate(len));
        self.len = len;
    }

    /// Arrays of the fields, leaving none here; and the rows with values that can't be in them, the first of a column first.
    pub fn finish_columns(&mut self) -> (Vec<ArrayRef>, Vec<BadRow>) {
        let mut bad = Vec::new();
        let arrays = self.finish_fields(&mut bad);
        (arrays, bad)
    }

    fn finish_fields(&mut self, bad: &mut Vec<BadRow>) -> Vec<ArrayRef> {
        self.len = 0;
        let named = self.columns.iter_mut().zip(&self.fields);
        let finish = |(column, field): (&mut Column, &FieldRef)| {
            let before = bad.len();
            let array = column.finish(bad);
            bad.iter_mut().skip(before).for_each(|bad| bad.bad.path.push(field.name().clone()));
            array
        };
        named.map(finish).collect()
    }

    fn finish(&mut self, len: usize, valid: &mut NullBufferBuilder, bad: &mut Vec<BadRow>) -> StructArray {
        let fields = self.fields.clone();
        let columns = self.finish_fields(bad);
        if fields.is_empty() {
            StructArray::new_empty_fields(len, valid.finish())
        } else {
            StructArray::new(fields, columns, valid.finish())
        }
    }
}

/// Says in which field a value is bad.
fn in_field(stop: Stop, name: &str) -> Stop {
    match stop {
        Stop::Bad(mut bad) => {
            bad.path.push(name.to_string());
            Stop::Bad(bad)
        }
        Stop::Incomplete => Stop::Incomplete,
    }
}

/// Reads a record, which must be an object so deep in what may be nested, into `columns`; takes back what it appended when the record is cut short.
pub(crate) fn push_record(columns: &mut StructColumns, text: &[u8], at: usize, depth: u32) -> Lex<usize> {
    if text.get(at) != Some(&b'{') {
        return match skip_value(text, at, 0) {
            Err(Stop::Incomplete) => Err(Stop::Incomplete),
            _ => unexpected(text, at, "an object, for a record is an object"),
        };
    }
    let row = columns.len();
    columns.push(text, at, depth).inspect_err(|_| columns.truncate(row))
}
