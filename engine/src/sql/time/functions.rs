//! Functions that take a datetime pattern: `to_timestamp(text, pattern)` and `date_format(timestamp, pattern)`.
//!
//! Patterns that are literals are checked when the query is planned.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, AsArray, StringArray, StringBuilder, TimestampMicrosecondArray},
    datatypes::{DataType, FieldRef, TimestampMicrosecondType},
};
use datafusion::{
    common::{Result, ScalarValue},
    logical_expr::ScalarUDF,
};

use super::{pattern::Pattern, zone::Zone};
use crate::sql::{
    kernel::{Arguments, Kernel, wrong_call},
    types::timestamp,
};

/// The functions of this module.
pub(crate) fn functions() -> Vec<Arc<ScalarUDF>> {
    vec![to_timestamp(), date_format()]
}

/// `to_timestamp(text, pattern)`.
pub(crate) fn to_timestamp() -> Arc<ScalarUDF> {
    Kernel::function(
        "to_timestamp",
        |types| match types {
            [_, _] => Ok(vec![DataType::Utf8, DataType::Utf8]),
            _ => Err(wrong_call("to_timestamp takes a text and, if needed, a pattern")),
        },
        |_, literals| {
            if let Some(text) = literal(literals) {
                Pattern::compile(text)?.check_readable(text)?;
            }
            Ok(timestamp())
        },
        read,
    )
}

/// `date_format(timestamp, pattern)`.
pub(crate) fn date_format() -> Arc<ScalarUDF> {
    Kernel::function(
        "date_format",
        |types| match types {
            [_, _] => Ok(vec![timestamp(), DataType::Utf8]),
            _ => Err(wrong_call("date_format takes a timestamp and a pattern")),
        },
        |_: &[FieldRef], literals| {
            if let Some(text) = literal(literals) {
                Pattern::compile(text)?;
            }
            Ok(DataType::Utf8)
        },
        write,
    )
}

fn literal<'a>(literals: &[Option<&'a ScalarValue>]) -> Option<&'a str> {
    literals.get(1).copied().flatten()?.try_as_str()?
}

/// The last pattern compiled: nearly always it is a literal.
#[derive(Default)]
struct Patterns {
    last: Option<(String, Pattern)>,
}

impl Patterns {
    fn get(&mut self, text: &str, to_read: bool) -> Result<&Pattern> {
        if self.last.as_ref().is_none_or(|(last, _)| last != text) {
            let pattern = Pattern::compile(text)?;
            if to_read {
                pattern.check_readable(text)?;
            }
            self.last = Some((text.to_string(), pattern));
        }
        match &self.last {
            Some((_, pattern)) => Ok(pattern),
            None => Err(wrong_call("no pattern")),
        }
    }
}

fn read(arguments: &Arguments) -> Result<ArrayRef> {
    let session = Zone::of_session(&arguments.config)?;
    let [texts, patterns]: [&StringArray; 2] = [0, 1].map(|i| arguments.arrays[i].as_string::<i32>());
    let mut compiled = Patterns::default();
    let mut instants = TimestampMicrosecondArray::builder(texts.len());
    for i in 0..texts.len() {
        let instant = if texts.is_valid(i) && patterns.is_valid(i) {
            compiled.get(patterns.value(i), true)?.read(texts.value(i).trim(), session)
        } else {
            None
        };
        instants.append_option(instant);
    }
    Ok(Arc::new(instants.finish().with_timezone("UTC")))
}

fn write(arguments: &Arguments) -> Result<ArrayRef> {
    let session = Zone::of_session(&arguments.config)?;
    let zone = arguments.config.execution.time_zone.as_deref().unwrap_or("UTC");
    let instants = arguments.arrays[0].as_primitive::<TimestampMicrosecondType>();
    let patterns = arguments.arrays[1].as_string::<i32>();
    let mut compiled = Patterns::default();
    let mut texts = StringBuilder::new();
    let mut buffer = String::new();
    for i in 0..instants.len() {
        if instants.is_null(i) || patterns.is_null(i) {
            texts.append_null();
            continue;
        }
        buffer.clear();
        compiled.get(patterns.value(i), false)?.write(instants.value(i), session, zone, &mut buffer);
        texts.append_value(&buffer);
    }
    Ok(Arc::new(texts.finish()))
}
