//! Names with rules: tables, sources, raw versions, jobs.

use std::{fmt, str::FromStr};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::error::{Code, Error, Result};

/// Characters that a part of a name may have. They are safe in a path, in a URL and unquoted in SQL.
fn is_name(part: &str) -> bool {
    let mut chars = part.chars();
    chars.next().is_some_and(|c| c.is_ascii_lowercase() || c == '_')
        && chars.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        && part.len() <= 128
}

/// How the names of columns begin that plans have beside those of the data: with a control character, which no column of data may have there
/// ([`check_columns`]), so that none can meet another.
pub const OURS: char = '\u{1}';

/// The name of a column of ours.
macro_rules! our_column {
    ($name:literal) => {
        concat!("\u{1}", $name)
    };
}
pub(crate) use our_column;

/// Fails when a column of data has a name that is kept for ours.
pub fn check_columns<'a>(whose: &str, names: impl IntoIterator<Item = &'a str>) -> Result<()> {
    match names.into_iter().find(|name| name.starts_with(OURS)) {
        Some(name) => Err(Error::new(
            Code::SchemaMismatch,
            format!("{whose} has a column {name:?}, whose name begins with a control character"),
        )
        .hint(
            "such names are Trireme's own; give the column another name, or leave it out by a `schema:` of the source",
        )),
        None => Ok(()),
    }
}

macro_rules! two_part_name {
    ($(#[$doc:meta])* $name:ident, $first:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name {
            /// Before the dot.
            pub $first: String,
            /// After the dot.
            pub name: String,
        }

        impl FromStr for $name {
            type Err = Error;

            fn from_str(text: &str) -> Result<Self> {
                match text.split_once('.') {
                    Some((first, name)) if is_name(first) && is_name(name) => {
                        Ok(Self { $first: first.to_string(), name: name.to_string() })
                    }
                    _ => Err(Error::new(Code::InvalidSpec, format!(concat!("`{}` is not a ", $what, " name"), text))
                        .hint(concat!("a ", $what, " is named `", stringify!($first),
                            ".name`, in lower-case letters, digits and `_`, each part starting with a letter"))),
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}.{}", self.$first, self.name)
            }
        }

        impl TryFrom<String> for $name {
            type Error = Error;
            fn try_from(text: String) -> Result<Self> { text.parse() }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String { name.to_string() }
        }
    };
}

two_part_name!(
    /// A Delta table of the catalog, `schema.name`; it lives under `tables/<schema>/<name>/`.
    TableName, schema, "table"
);
two_part_name!(
    /// A source of the raw zone, `group.name`; it lives under `raw/<group>.<name>/`.
    SourceName, group, "source"
);

/// A version of a source: the UTC moment its download began, `20261122T201533123Z`. Text order is time order.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RawVersion(String);

impl RawVersion {
    /// The version of a download that begins now.
    pub fn at(moment: DateTime<Utc>) -> Self {
        Self(moment.format("%Y%m%dT%H%M%S%3fZ").to_string())
    }

    /// The version of a download that begins now, later than `newest` even when the clock goes back. Errors where there is no later one.
    pub fn after(now: DateTime<Utc>, newest: Option<&Self>) -> Result<Self> {
        let now = Self::at(now);
        let Some(newest) = newest.filter(|newest| **newest >= now) else { return Ok(now) };
        let tick = newest.moment().and_then(|moment| moment.checked_add_signed(chrono::TimeDelta::milliseconds(1)));
        // A folder may be named like no moment; its digits still count up.
        let digits = format!("{:017}", newest.number().saturating_add(1));
        let counted = format!("{}T{}Z", digits.get(..8).unwrap_or_default(), digits.get(8..).unwrap_or_default());
        let next = [tick.map(|moment| Self::at(moment).0), Some(counted)].into_iter().flatten();
        next.filter_map(|text| text.parse::<Self>().ok()).find(|next| next > newest).ok_or_else(|| {
            Error::new(Code::InvalidSpec, format!("there can be no version after {newest}"))
                .hint("remove that folder from the raw zone, or name it by the moment of its delivery")
        })
    }

    /// Its digits as a number, for Delta's `txn` action; order is kept.
    pub fn number(&self) -> i64 {
        self.0.bytes().filter(u8::is_ascii_digit).fold(0, |n, digit| n * 10 + i64::from(digit - b'0'))
    }

    /// The moment; none where the digits are none.
    pub fn moment(&self) -> Option<DateTime<Utc>> {
        chrono::NaiveDateTime::parse_from_str(&self.0, "%Y%m%dT%H%M%S%3fZ").ok().map(|moment| moment.and_utc())
    }

    /// Text form.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RawVersion {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bytes = text.as_bytes();
        let well_formed = bytes.len() == 19
            && bytes[8] == b'T'
            && bytes[18] == b'Z'
            && bytes.iter().enumerate().all(|(i, b)| matches!(i, 8 | 18) || b.is_ascii_digit());
        if well_formed {
            Ok(Self(text.to_string()))
        } else {
            Err(Error::new(Code::InvalidSpec, format!("`{text}` is not a raw version"))
                .hint("a raw version looks like 20261122T201533123Z; `trireme raw show SOURCE` lists them"))
        }
    }
}

impl fmt::Display for RawVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for RawVersion {
    type Error = Error;
    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<RawVersion> for String {
    fn from(version: RawVersion) -> String {
        version.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        assert_eq!("stream.movies".parse::<TableName>().unwrap().to_string(), "stream.movies");
        for bad in ["movies", "a.b.c", "A.b", "a.", ".b", "a.b/c", "../x.y", "a.1b"] {
            assert_eq!(bad.parse::<TableName>().unwrap_err().code, Code::InvalidSpec, "{bad}");
        }
    }

    #[test]
    fn a_new_version_is_later_than_all_before_it() {
        let now = DateTime::from_timestamp_millis(1_700_000_000_123).unwrap();
        let after = |newest: &str| RawVersion::after(now, Some(&newest.parse().unwrap())).map(|v| v.to_string());
        assert_eq!(RawVersion::after(now, None).unwrap(), RawVersion::at(now));
        assert_eq!(after("20231114T221320122Z").unwrap(), "20231114T221320123Z");
        assert_eq!(after("20231114T221320123Z").unwrap(), "20231114T221320124Z");
        assert_eq!(after("20991231T235959999Z").unwrap(), "21000101T000000000Z");
        assert_eq!(after("20251399T000000000Z").unwrap(), "20251399T000000001Z");
        assert_eq!(after("99991231T235959999Z").unwrap(), "99991231T235960000Z");
        assert!(after("99999999T999999999Z").is_err());
    }

    #[test]
    fn no_column_of_data_has_a_name_of_ours() {
        assert!(our_column!("keep").starts_with(OURS));
        check_columns("a.b", ["__keep", "keep", "", "é"]).unwrap();
        let error = check_columns("a.b", ["a", our_column!("keep")]).unwrap_err();
        assert!(error.message.contains(r#"a.b has a column "\u{1}keep""#), "{error}");
    }

    #[test]
    fn versions_are_ordered_by_time() {
        let early = RawVersion::at(DateTime::from_timestamp_millis(1_700_000_000_123).unwrap());
        let late = RawVersion::at(DateTime::from_timestamp_millis(1_700_000_000_124).unwrap());
        assert_eq!(early.as_str(), "20231114T221320123Z");
        assert!(early < late && early.number() < late.number());
        assert_eq!(early.as_str().parse::<RawVersion>().unwrap(), early);
        assert_eq!(early.moment().unwrap().timestamp_millis(), 1_700_000_000_123);
        assert_eq!("20239914T221320123Z".parse::<RawVersion>().unwrap().moment(), None);
        assert!("2023".parse::<RawVersion>().is_err());
    }
}
