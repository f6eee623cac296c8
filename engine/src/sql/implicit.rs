//! Arguments that Spark casts by itself: numbers to texts for functions of texts, texts to numbers for functions of numbers.

use datafusion::{common::Result, logical_expr::Expr};

use super::{
    calls::{Call, is_text},
    names::behind,
};
use arrow::datatypes::DataType;

#[derive(Clone, Copy, PartialEq)]
enum Wanted {
    Text,
    Number,
}

use Wanted::{Number, Text};

/// Functions, and what their first arguments are cast to; others stay as they are.
const ARGUMENTS: &[(&str, &[Option<Wanted>])] = &[
    ("abs", &[Some(Number)]),
    ("acos", &[Some(Number)]),
    ("ascii", &[Some(Text)]),
    ("asin", &[Some(Number)]),
    ("atan", &[Some(Number)]),
    ("btrim", &[Some(Text), Some(Text)]),
    ("cbrt", &[Some(Number)]),
    ("ceil", &[Some(Number)]),
    ("ceiling", &[Some(Number)]),
    ("char_length", &[Some(Text)]),
    ("character_length", &[Some(Text)]),
    ("contains", &[Some(Text), Some(Text)]),
    ("cos", &[Some(Number)]),
    ("crc32", &[Some(Text)]),
    ("degrees", &[Some(Number)]),
    ("endswith", &[Some(Text), Some(Text)]),
    ("exp", &[Some(Number)]),
    ("find_in_set", &[Some(Text), Some(Text)]),
    ("floor", &[Some(Number)]),
    ("instr", &[Some(Text), Some(Text)]),
    ("lcase", &[Some(Text)]),
    ("len", &[Some(Text)]),
    ("length", &[Some(Text)]),
    ("levenshtein", &[Some(Text), Some(Text)]),
    ("lower", &[Some(Text)]),
    ("lpad", &[Some(Text), None, Some(Text)]),
    ("ltrim", &[Some(Text), Some(Text)]),
    ("pow", &[Some(Number), Some(Number)]),
    ("power", &[Some(Number), Some(Number)]),
    ("radians", &[Some(Number)]),
    ("regexp", &[Some(Text), Some(Text)]),
    ("regexp_like", &[Some(Text), Some(Text)]),
    ("rpad", &[Some(Text), None, Some(Text)]),
    ("rtrim", &[Some(Text), Some(Text)]),
    ("sha1", &[Some(Text)]),
    ("sha2", &[Some(Text)]),
    ("sign", &[Some(Number)]),
    ("sin", &[Some(Number)]),
    ("soundex", &[Some(Text)]),
    ("split_part", &[Some(Text), Some(Text)]),
    ("sqrt", &[Some(Number)]),
    ("startswith", &[Some(Text), Some(Text)]),
    ("substring", &[Some(Text)]),
    ("substring_index", &[Some(Text), Some(Text)]),
    ("tan", &[Some(Number)]),
    ("translate", &[Some(Text), Some(Text), Some(Text)]),
    ("upper", &[Some(Text)]),
];

fn wanted(name: &str) -> Option<&'static [Option<Wanted>]> {
    ARGUMENTS.iter().find(|(function, _)| *function == name).map(|(_, wanted)| *wanted)
}

/// Whether a function's arguments are cast here.
pub(crate) fn casts_arguments(name: &str) -> bool {
    wanted(name).is_some()
}

impl Call<'_> {
    /// Plans the call if its arguments are cast here.
    pub(super) fn implicit(&self, args: &[Expr]) -> Result<Option<Expr>> {
        let Some(wanted) = wanted(self.name) else { return Ok(None) };
        let mut cast = Vec::with_capacity(args.len());
        for (i, arg) in args.iter().enumerate() {
            let data_type = self.type_of(arg)?;
            cast.push(match wanted.get(i).copied().flatten() {
                Some(Text) if !is_text(&data_type) && !is_binary(&data_type) && !data_type.is_nested() => {
                    self.cast(arg, &DataType::Utf8)?
                }
                Some(Number) if is_text(&data_type) => self.cast(arg, &DataType::Float64)?,
                _ => arg.clone(),
            });
        }
        self.function(behind(self.name), cast).map(Some)
    }
}

fn is_binary(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_in_order() {
        assert!(ARGUMENTS.windows(2).all(|pair| pair[0].0 < pair[1].0));
    }
}
