//! Options of the JSON and CSV functions: a map of texts, whose names don't depend on case.

use arrow::{
    array::{Array, AsArray},
    datatypes::DataType,
};
use datafusion::common::Result;

use super::value::Leniency;
use crate::sql::kernel::{Arguments, wrong_call};

/// The options of a call.
#[derive(Debug, Default)]
pub(crate) struct Options(Vec<(String, String)>);

impl Options {
    /// Those in an argument that is a map; none where there is no such argument. Options not among `known` are refused: what they would
    /// change is not known.
    pub(crate) fn read(arguments: &Arguments, argument: usize, name: &str, known: &[&str]) -> Result<Options> {
        let Some(array) = arguments.arrays.get(argument).filter(|array| !array.is_empty() && array.is_valid(0)) else {
            return Ok(Options::default());
        };
        let Some(map) = array.as_map_opt() else {
            return Err(wrong_call(format!("the options of {name} must be a map of texts")));
        };
        let entries = map.value(0);
        let (Some(keys), Some(values)) =
            (entries.column(0).as_string_opt::<i32>(), entries.column(1).as_string_opt::<i32>())
        else {
            return Err(wrong_call(format!("the options of {name} must be a map of texts")));
        };
        let mut options = Vec::new();
        for i in 0..keys.len() {
            let key = keys.value(i);
            if !known.iter().any(|known| known.eq_ignore_ascii_case(key)) {
                return Err(wrong_call(format!("{name} has no option `{key}`; it has {}", known.join(", "))));
            }
            if values.is_valid(i) {
                options.push((key.to_ascii_lowercase(), values.value(i).to_string()));
            }
        }
        Ok(Options(options))
    }

    /// An option's value.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().rev().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// Whether an option is on.
    pub(crate) fn flag(&self, name: &str, default: bool) -> bool {
        self.get(name).map_or(default, |value| value.eq_ignore_ascii_case("true"))
    }

    /// What JSON is taken.
    pub(crate) fn leniency(&self) -> Leniency {
        let usual = Leniency::default();
        Leniency {
            single_quotes: self.flag("allowSingleQuotes", usual.single_quotes),
            bare_names: self.flag("allowUnquotedFieldNames", usual.bare_names),
            leading_zeros: self.flag("allowNumericLeadingZeros", usual.leading_zeros),
            any_escapes: self.flag("allowBackslashEscapingAnyCharacter", usual.any_escapes),
            control_characters: self.flag("allowUnquotedControlChars", usual.control_characters),
            comments: self.flag("allowComments", usual.comments),
            not_numbers: self.flag("allowNonNumericNumbers", usual.not_numbers),
        }
    }
}

/// The type that an argument of options is cast to.
pub(crate) fn options_type() -> DataType {
    crate::sql::types::map_of(DataType::Utf8, DataType::Utf8)
}

/// Options about what JSON is taken.
pub(crate) const LENIENT: [&str; 7] = [
    "allowSingleQuotes",
    "allowUnquotedFieldNames",
    "allowNumericLeadingZeros",
    "allowBackslashEscapingAnyCharacter",
    "allowUnquotedControlChars",
    "allowComments",
    "allowNonNumericNumbers",
];
