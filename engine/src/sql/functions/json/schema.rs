//! `schema_of_json(json[, options])`: the type of a JSON text, as DDL.

use arrow::array::ArrayRef;
use datafusion::common::{Result, exec_err};

use super::{
    options::{LENIENT, Options},
    value::{Json, read},
};
use crate::sql::{kernel::Arguments, types::quoted};

/// A type that JSON values have.
#[derive(Debug, Clone, PartialEq)]
enum Shape {
    Null,
    Boolean,
    Long,
    Double,
    /// Digits in all, and after the point.
    Decimal(usize, usize),
    Text,
    List(Box<Shape>),
    Struct(Vec<(String, Shape)>),
}

#[derive(Clone, Copy)]
struct Rules {
    prefers_decimal: bool,
    all_texts: bool,
}

pub(super) fn schema_of_json(arguments: &Arguments) -> Result<ArrayRef> {
    let known: Vec<&str> = ["prefersDecimal", "primitivesAsString"].into_iter().chain(LENIENT).collect();
    let options = Options::read(arguments, 1, "schema_of_json", &known)?;
    let rules = Rules {
        prefers_decimal: options.flag("prefersDecimal", false),
        all_texts: options.flag("primitivesAsString", false),
    };
    arguments.try_texts(|row| {
        let Some(text) = arguments.text(0, row) else { return Ok(None) };
        match read(text, options.leniency()) {
            Some(json) => Ok(Some(shape(&json, rules).ddl())),
            None => exec_err!("schema_of_json: this is no JSON: {text}"),
        }
    })
}

fn shape(json: &Json, rules: Rules) -> Shape {
    match json {
        Json::Null => Shape::Null,
        Json::Array(items) => {
            Shape::List(Box::new(items.iter().map(|item| shape(item, rules)).reduce(merge).unwrap_or(Shape::Null)))
        }
        Json::Object(fields) => {
            let mut shapes: Vec<(String, Shape)> = Vec::with_capacity(fields.len());
            for (name, value) in fields {
                shapes.push((name.clone(), shape(value, rules)));
            }
            shapes.sort_by(|a, b| a.0.cmp(&b.0));
            Shape::Struct(shapes)
        }
        _ if rules.all_texts => Shape::Text,
        Json::Boolean(_) => Shape::Boolean,
        Json::Text(_) => Shape::Text,
        Json::Number(number) if Json::is_whole(number) => {
            let digits = number.trim_start_matches('-').len();
            match number.parse::<i64>() {
                Ok(_) => Shape::Long,
                Err(_) if digits <= 38 => Shape::Decimal(digits, 0),
                Err(_) => Shape::Double,
            }
        }
        Json::Number(number) if rules.prefers_decimal && !number.contains(['e', 'E', 'N', 'I']) => {
            let (whole, fraction) = number.trim_start_matches('-').split_once('.').unwrap_or((number, ""));
            let digits = (whole.trim_start_matches('0').len() + fraction.len()).max(fraction.len()).max(1);
            if digits <= 38 { Shape::Decimal(digits, fraction.len()) } else { Shape::Double }
        }
        Json::Number(_) => Shape::Double,
    }
}

/// The type that has room for both.
fn merge(a: Shape, b: Shape) -> Shape {
    match (a, b) {
        (a, b) if a == b => a,
        (Shape::Null, other) | (other, Shape::Null) => other,
        (Shape::Double, Shape::Long | Shape::Decimal(..)) | (Shape::Long | Shape::Decimal(..), Shape::Double) => {
            Shape::Double
        }
        (Shape::Long, Shape::Decimal(p, s)) | (Shape::Decimal(p, s), Shape::Long) => {
            merge(Shape::Decimal(20, 0), Shape::Decimal(p, s))
        }
        (Shape::Decimal(p, s), Shape::Decimal(q, t)) => {
            let (scale, whole) = (s.max(t), (p - s.min(p)).max(q - t.min(q)));
            if whole + scale > 38 { Shape::Double } else { Shape::Decimal(whole + scale, scale) }
        }
        (Shape::List(a), Shape::List(b)) => Shape::List(Box::new(merge(*a, *b))),
        (Shape::Struct(a), Shape::Struct(b)) => {
            let mut merged = a;
            for (name, shape) in b {
                match merged.iter_mut().find(|(earlier, _)| *earlier == name) {
                    Some((_, earlier)) => *earlier = merge(std::mem::replace(earlier, Shape::Null), shape),
                    None => merged.push((name, shape)),
                }
            }
            merged.sort_by(|a, b| a.0.cmp(&b.0));
            Shape::Struct(merged)
        }
        _ => Shape::Text,
    }
}

impl Shape {
    fn ddl(&self) -> String {
        match self {
            Shape::Null | Shape::Text => "STRING".into(),
            Shape::Boolean => "BOOLEAN".into(),
            Shape::Long => "BIGINT".into(),
            Shape::Double => "DOUBLE".into(),
            Shape::Decimal(precision, scale) => format!("DECIMAL({precision},{scale})"),
            Shape::List(item) => format!("ARRAY<{}>", item.ddl()),
            Shape::Struct(fields) => {
                // Structs without fields have no type.
                let fields = fields.iter().filter(|(_, shape)| !shape.is_empty());
                let fields: Vec<_> = fields.map(|(name, shape)| format!("{}: {}", quoted(name), shape.ddl())).collect();
                format!("STRUCT<{}>", fields.join(", "))
            }
        }
    }

    fn is_empty(&self) -> bool {
        matches!(self, Shape::Struct(fields) if fields.iter().all(|(_, shape)| shape.is_empty()))
    }
}
