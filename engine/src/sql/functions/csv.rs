//! `from_csv`, `to_csv` and `schema_of_csv`: one line of CSV, as Spark's options have it.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, AsArray, StringArray, StructArray},
    buffer::NullBuffer,
    datatypes::{DataType, Decimal128Type, FieldRef},
};
use datafusion::{
    common::{Result, ScalarValue, exec_err},
    logical_expr::ScalarUDF,
};

use super::{
    args::{gives_text, literal_text},
    json::{
        Reading, half_up, nullable,
        options::{Options, options_type},
        schema_type,
        to_json::Writing,
        with_options,
    },
};
use crate::sql::{
    cast::cast,
    kernel::{Arguments, Kernel, wrong_call},
    time::{iso::read_timestamp, zone::Zone},
    types::type_name,
};

/// The functions of this module.
pub(super) fn functions() -> Vec<Arc<ScalarUDF>> {
    vec![
        Kernel::function("from_csv", |types| with_options("from_csv", types, 2), type_of_schema, from_csv),
        Kernel::function(
            "to_csv",
            |types| match types {
                [value @ DataType::Struct(_)] => Ok(vec![value.clone()]),
                [value @ DataType::Struct(_), _] => Ok(vec![value.clone(), options_type()]),
                _ => Err(wrong_call("to_csv takes a struct and, if needed, a map of options")),
            },
            gives_text,
            to_csv,
        ),
        Kernel::function("schema_of_csv", |types| with_options("schema_of_csv", types, 1), gives_text, schema_of_csv),
    ]
}

fn type_of_schema(_: &[FieldRef], literals: &[Option<&ScalarValue>]) -> Result<DataType> {
    let Some(ddl) = literal_text(literals, 1) else {
        return Err(wrong_call("from_csv needs its schema as a literal, such as 'a INT, b STRING'"));
    };
    match nullable(&schema_type(ddl)?) {
        DataType::Struct(fields) if fields.iter().all(|field| !field.data_type().is_nested()) => {
            Ok(DataType::Struct(fields))
        }
        _ => Err(wrong_call("from_csv reads structs of plain columns")),
    }
}

/// How a line is written.
struct Format {
    separator: char,
    quote: char,
    escape: char,
    null: String,
}

const FORMAT: [&str; 5] = ["sep", "delimiter", "quote", "escape", "nullValue"];

impl Format {
    fn of(options: &Options) -> Result<Format> {
        let sign = |names: &[&str], usual: char| match names.iter().find_map(|name| options.get(name)) {
            None => Ok(usual),
            Some("\\t") => Ok('\t'),
            Some(text) => {
                let mut chars = text.chars();
                match (chars.next(), chars.next()) {
                    (Some(sign), None) => Ok(sign),
                    _ => Err(wrong_call(format!("the option {} must be one letter, not `{text}`", names[0]))),
                }
            }
        };
        Ok(Format {
            separator: sign(&["sep", "delimiter"], ',')?,
            quote: sign(&["quote"], '"')?,
            escape: sign(&["escape"], '\\')?,
            null: options.get("nullValue").unwrap_or_default().to_string(),
        })
    }

    /// The fields of a line; an empty one, quoted or not, is none.
    fn split(&self, line: &str) -> Vec<Option<String>> {
        let mut fields = Vec::new();
        let mut chars = line.chars().peekable();
        loop {
            let mut field = String::new();
            if chars.peek() == Some(&self.quote) {
                chars.next();
                while let Some(c) = chars.next() {
                    if c == self.escape && chars.peek().is_some_and(|next| *next == self.quote || *next == self.escape)
                    {
                        field.extend(chars.next());
                    } else if c == self.quote {
                        break;
                    } else {
                        field.push(c);
                    }
                }
            }
            while let Some(c) = chars.next_if(|c| *c != self.separator) {
                field.push(c);
            }
            fields.push((!field.is_empty() && field != self.null).then_some(field));
            if chars.next().is_none() {
                return fields;
            }
        }
    }
}

fn from_csv(arguments: &Arguments) -> Result<ArrayRef> {
    let known: Vec<&str> = FORMAT
        .into_iter()
        .chain(["mode", "columnNameOfCorruptRecord", "timestampFormat", "dateFormat", "timestampNTZFormat", "locale"])
        .collect();
    let options = Options::read(arguments, 2, "from_csv", &known)?;
    let format = Format::of(&options)?;
    let fail_fast = match options.get("mode").unwrap_or("PERMISSIVE").to_ascii_uppercase().as_str() {
        "PERMISSIVE" => false,
        "FAILFAST" => true,
        mode => return Err(wrong_call(format!("from_csv has the modes PERMISSIVE and FAILFAST, not {mode}"))),
    };
    let corrupt = options.get("columnNameOfCorruptRecord").unwrap_or("_corrupt_record");
    let reading = Reading::new(&options, Zone::of_session(&arguments.config)?)?;
    let lines = arguments.arrays[0].as_string::<i32>();
    let split: Vec<Vec<Option<String>>> =
        lines.iter().map(|line| line.map(|line| format.split(line)).unwrap_or_default()).collect();
    let DataType::Struct(fields) = &arguments.result else { return exec_err!("from_csv gives structs") };
    let is_corrupt = |field: &FieldRef| field.name() == corrupt && *field.data_type() == DataType::Utf8;
    let mut bad = vec![false; lines.len()];
    let mut columns: Vec<ArrayRef> = Vec::with_capacity(fields.len());
    let mut at = 0;
    for field in fields {
        if is_corrupt(field) {
            columns.push(Arc::new(StringArray::new_null(lines.len())));
            continue;
        }
        let texts: StringArray = split.iter().map(|parts| parts.get(at).cloned().flatten()).collect();
        at += 1;
        let column = typed(&texts, field.data_type(), &reading)?;
        for (row, bad) in bad.iter_mut().enumerate() {
            *bad |= texts.is_valid(row) && column.is_null(row);
        }
        columns.push(column);
    }
    for (row, parts) in split.iter().enumerate() {
        bad[row] |= lines.is_valid(row) && parts.len() != at;
        if bad[row] && fail_fast {
            return exec_err!(
                "from_csv (FAILFAST): this is not {}: {}",
                type_name(&arguments.result),
                lines.value(row)
            );
        }
    }
    for (field, column) in fields.iter().zip(&mut columns) {
        if is_corrupt(field) {
            *column =
                Arc::new(lines.iter().zip(&bad).map(|(line, bad)| line.filter(|_| *bad)).collect::<StringArray>());
        }
    }
    let nulls = NullBuffer::from_iter(lines.iter().map(|line| line.is_some()));
    Ok(Arc::new(StructArray::try_new_with_length(fields.clone(), columns, Some(nulls), lines.len())?))
}

/// Texts as a type; more strictly than a cast.
fn typed(texts: &StringArray, to: &DataType, reading: &Reading) -> Result<ArrayRef> {
    let only = |keep: &dyn Fn(&str) -> bool| -> ArrayRef {
        Arc::new(texts.iter().map(|text| text.filter(|text| keep(text))).collect::<StringArray>())
    };
    let is_integer = |text: &str| {
        let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
        !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
    };
    Ok(match to {
        DataType::Utf8 => Arc::new(texts.clone()),
        DataType::Date32 | DataType::Timestamp(..) => reading.moments(texts, to)?,
        DataType::Boolean => {
            cast(&only(&|text| text.eq_ignore_ascii_case("true") || text.eq_ignore_ascii_case("false")), to, Zone::UTC)?
        }
        DataType::Decimal128(precision, scale) => {
            let decimals = texts.iter().map(|text| half_up(text?, *precision, *scale));
            let decimals: arrow::array::PrimitiveArray<Decimal128Type> = decimals.collect();
            Arc::new(decimals.with_precision_and_scale(*precision, *scale)?)
        }
        to if to.is_integer() => cast(&only(&is_integer), to, Zone::UTC)?,
        to if to.is_floating() => cast(&(Arc::new(texts.clone()) as ArrayRef), to, Zone::UTC)?,
        other => return Err(wrong_call(format!("from_csv can't read {}", type_name(other)))),
    })
}

fn to_csv(arguments: &Arguments) -> Result<ArrayRef> {
    let known: Vec<&str> = FORMAT.into_iter().chain(["timestampFormat", "timestampNTZFormat", "dateFormat"]).collect();
    let options = Options::read(arguments, 1, "to_csv", &known)?;
    let (format, writing) = (Format::of(&options)?, Writing::new(&options, arguments)?);
    let structs = arguments.arrays[0].as_struct();
    let columns = structs.columns().iter().map(|column| -> Result<(StringArray, bool)> {
        Ok(match column.data_type() {
            DataType::Date32 | DataType::Timestamp(..) => (writing.moments(column)?, false),
            other if other.is_nested() || matches!(other, DataType::Binary) => {
                return Err(wrong_call(format!("to_csv can't write {}", type_name(other))));
            }
            other => {
                let is_text = matches!(other, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
                (cast(column, &DataType::Utf8, writing.zone)?.as_string::<i32>().clone(), is_text)
            }
        })
    });
    let columns = columns.collect::<Result<Vec<_>>>()?;
    arguments.texts(|row| {
        // A line of nothing is none.
        let is_nothing = columns.len() == 1 && columns[0].0.is_null(row) && format.null.is_empty();
        if structs.is_null(row) || is_nothing {
            return None;
        }
        let mut line = String::new();
        for (i, (column, is_text)) in columns.iter().enumerate() {
            if i > 0 {
                line.push(format.separator);
            }
            if column.is_null(row) {
                line.push_str(&format.null);
                continue;
            }
            let value = column.value(row);
            let value = if *is_text { value.trim_matches(|c| c <= ' ') } else { value };
            let needs_quotes =
                *is_text && (value.is_empty() || value.contains([format.separator, format.quote, '\n', '\r']));
            if !needs_quotes {
                line.push_str(value);
                continue;
            }
            line.push(format.quote);
            for c in value.chars() {
                if c == format.quote || c == format.escape {
                    line.push(format.escape);
                }
                line.push(c);
            }
            line.push(format.quote);
        }
        Some(line)
    })
}

fn schema_of_csv(arguments: &Arguments) -> Result<ArrayRef> {
    let options = Options::read(arguments, 1, "schema_of_csv", &FORMAT)?;
    let format = Format::of(&options)?;
    arguments.texts(|row| {
        let fields = format.split(arguments.text(0, row)?);
        let types: Vec<String> = fields
            .iter()
            .enumerate()
            .map(|(i, field)| format!("_c{i}: {}", field.as_deref().map_or("STRING".into(), kind)))
            .collect();
        Some(format!("STRUCT<{}>", types.join(", ")))
    })
}

/// The type that a field looks like.
fn kind(field: &str) -> String {
    let digits = field.strip_prefix(['-', '+']).unwrap_or(field);
    if field.parse::<i32>().is_ok() {
        return "INT".into();
    }
    if field.parse::<i64>().is_ok() {
        return "BIGINT".into();
    }
    if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) && digits.len() <= 38 {
        return format!("DECIMAL({},0)", digits.trim_start_matches('0').len().max(1));
    }
    if field.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '-' | '+' | '.'))
        && field.trim().parse::<f64>().is_ok()
    {
        return "DOUBLE".into();
    }
    if matches!(field, "NaN" | "Inf" | "-Inf") {
        return "DOUBLE".into();
    }
    let bytes = field.as_bytes();
    let is_date = bytes.len() == 10
        && bytes
            .iter()
            .enumerate()
            .all(|(i, byte)| if i == 4 || i == 7 { *byte == b'-' } else { byte.is_ascii_digit() });
    let starts_as_date = bytes.len() >= 8 && bytes[..4].iter().all(u8::is_ascii_digit) && bytes[4] == b'-';
    if starts_as_date && read_timestamp(bytes, Zone::UTC).is_some() {
        return if is_date { "DATE".into() } else { "TIMESTAMP".into() };
    }
    if field.eq_ignore_ascii_case("true") || field.eq_ignore_ascii_case("false") {
        return "BOOLEAN".into();
    }
    "STRING".into()
}
