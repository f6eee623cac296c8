//! How the text of a delivery is written, where that is not the usual way: the dialect of CSV, and the encoding of its letters.

use serde::{Deserialize, Serialize};

use super::{charset::Charset, manifest::RawFormat};
use crate::error::{Code, Error, Result};

/// What decides where the fields and records of CSV end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct Dialect {
    /// Between fields.
    #[serde(with = "symbol")]
    pub delimiter: u8,
    /// Around a field that holds delimiters, line ends or quotes. In quotes two of them are one.
    #[serde(with = "some_symbol")]
    pub quote: Option<u8>,
    /// In quotes: takes a quote, or another escape, as it is.
    #[serde(with = "some_symbol")]
    pub escape: Option<u8>,
    /// The first record names the columns.
    pub header: bool,
}

impl Default for Dialect {
    fn default() -> Self {
        Self { delimiter: b',', quote: Some(b'"'), escape: None, header: true }
    }
}

/// How CSV is read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct CsvOptions {
    /// Where fields and records end.
    #[serde(flatten)]
    pub dialect: Dialect,
    /// Fields with just this text, in quotes or not, are NULL; unquoted empty ones always are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub null_value: Option<String>,
}

/// How text is read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct TextOptions {
    /// Of CSV.
    pub csv: CsvOptions,
    /// How its letters are encoded; none: UTF-8, or UTF-16 where a byte order mark says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encoding: Option<Charset>,
}

/// What a user says of them; what is not said is as it is usually, or as it was said before.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GivenOptions {
    /// One character, `\t` for a tab.
    pub delimiter: Option<String>,
    /// One character, or nothing: no quotes.
    pub quote: Option<String>,
    /// One character, or nothing: none.
    pub escape: Option<String>,
    /// Name of an encoding.
    pub encoding: Option<String>,
    /// What is NULL.
    pub null_value: Option<String>,
    /// Whether there is a header.
    pub header: Option<bool>,
}

impl GivenOptions {
    /// Whether something is said of CSV.
    fn of_csv(&self) -> Option<&'static str> {
        let Self { delimiter, quote, escape, encoding: _, null_value, header } = self;
        let given = [
            ("delimiter", delimiter.is_some()),
            ("quote", quote.is_some()),
            ("escape", escape.is_some()),
            ("null_value", null_value.is_some()),
            ("header", header.is_some()),
        ];
        given.into_iter().find(|(_, given)| *given).map(|(name, _)| name)
    }

    /// What is said, each with its name.
    pub fn told(&self) -> Vec<String> {
        let Self { delimiter, quote, escape, encoding, null_value, header } = self;
        let header = header.map(|header| header.to_string());
        let all = [
            ("delimiter", delimiter),
            ("quote", quote),
            ("escape", escape),
            ("encoding", encoding),
            ("null_value", null_value),
            ("header", &header),
        ];
        all.into_iter().filter_map(|(name, text)| Some(format!("{name}:{}", text.as_ref()?))).collect()
    }

    /// Options as said, else as in `usual`.
    ///
    /// # Errors
    /// `InvalidSpec` for what no option can be, and for two that contradict each other.
    pub fn over(&self, usual: &TextOptions) -> Result<TextOptions> {
        let mut options = usual.clone();
        let dialect = &mut options.csv.dialect;
        if let Some(delimiter) = &self.delimiter {
            let one = symbol_of("delimiter", delimiter)?;
            dialect.delimiter = one.ok_or_else(|| wrong("delimiter", delimiter, "is no character"))?;
        }
        if let Some(quote) = &self.quote {
            dialect.quote = symbol_of("quote", quote)?;
        }
        if let Some(escape) = &self.escape {
            // Two quotes are one without it.
            dialect.escape = symbol_of("escape", escape)?.filter(|escape| Some(*escape) != dialect.quote);
        }
        if let Some(header) = self.header {
            dialect.header = header;
        }
        if let Some(encoding) = &self.encoding {
            options.encoding = Some(encoding.parse()?);
        }
        if let Some(null_value) = &self.null_value {
            options.csv.null_value = Some(null_value.clone());
        }
        dialect.check()?;
        Ok(options)
    }

    /// Fails when something is said of CSV and the format is another.
    pub fn check_format(&self, format: RawFormat, whose: &str) -> Result<()> {
        let wrong = match (format, self.of_csv()) {
            (RawFormat::Json | RawFormat::Parquet, Some(option)) => option,
            (RawFormat::Parquet, None) if self.encoding.is_some() => "encoding",
            _ => return Ok(()),
        };
        let of = if wrong == "encoding" { "text" } else { "CSV" };
        Err(Error::new(Code::InvalidSpec, format!("{whose} is {format}, and `{wrong}` is an option of {of}"))
            .hint("leave it out, or say `format: csv` where the file's name or first bytes mislead"))
    }
}

impl Dialect {
    fn check(&self) -> Result<()> {
        let Self { delimiter, quote, escape, .. } = *self;
        let clash = if quote == Some(delimiter) {
            Some(("delimiter", "quote", delimiter))
        } else if escape == Some(delimiter) {
            Some(("delimiter", "escape", delimiter))
        } else {
            None
        };
        if let Some((one, other, symbol)) = clash {
            let symbol = char::from(symbol).escape_default();
            return Err(Error::new(Code::InvalidSpec, format!("`{one}` and `{other}` are both `{symbol}`"))
                .hint("give each a character of its own"));
        }
        if quote.is_none() && escape.is_some() {
            return Err(Error::new(Code::InvalidSpec, "`escape` is given, and `quote` is nothing")
                .hint("an escape matters in quotes only: leave it out, or say what the quote is"));
        }
        Ok(())
    }
}

fn wrong(option: &str, text: &str, why: &str) -> Error {
    Error::new(Code::InvalidSpec, format!("`{option}`: `{}` {why}", text.escape_debug())).hint(
        "give one ASCII character, such as `;`, `|` or `\\t` for a tab; delimiters of several characters are not read",
    )
}

/// The byte of a symbol as users write it; none for nothing.
fn symbol_of(option: &str, text: &str) -> Result<Option<u8>> {
    let byte = match (text, text.as_bytes()) {
        ("", _) => return Ok(None),
        ("\\t", _) => b'\t',
        ("\\\\", _) => b'\\',
        (_, [byte]) => *byte,
        (_, [b'\\', b'x', digits @ ..]) if digits.len() == 2 => hexadecimal(option, text, digits)?,
        (_, [b'\\', b'u', b'0', b'0', digits @ ..]) if digits.len() == 2 => hexadecimal(option, text, digits)?,
        _ => return Err(wrong(option, text, "is not one character of one byte")),
    };
    match byte {
        b'\n' | b'\r' => Err(wrong(option, text, "is a line end")),
        0x80.. => Err(wrong(option, text, "is not an ASCII character")),
        _ => Ok(Some(byte)),
    }
}

fn hexadecimal(option: &str, text: &str, digits: &[u8]) -> Result<u8> {
    let digits = std::str::from_utf8(digits).unwrap_or_default();
    u8::from_str_radix(digits, 16).map_err(|_| wrong(option, text, "is no character's number"))
}

/// A symbol as one character.
mod symbol {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(symbol: &u8, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_char(char::from(*symbol))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u8, D::Error> {
        u8::try_from(char::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

/// One that may not be there.
mod some_symbol {
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

    pub fn serialize<S: Serializer>(symbol: &Option<u8>, serializer: S) -> Result<S::Ok, S::Error> {
        symbol.map(char::from).serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u8>, D::Error> {
        let symbol = Option::<char>::deserialize(deserializer)?;
        symbol.map(|symbol| u8::try_from(symbol).map_err(D::Error::custom)).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(delimiter: &str, quote: &str, escape: &str) -> Result<TextOptions> {
        let some = |text: &str| (text != "-").then(|| text.to_string());
        let given = GivenOptions {
            delimiter: some(delimiter),
            quote: some(quote),
            escape: some(escape),
            ..GivenOptions::default()
        };
        given.over(&TextOptions::default())
    }

    #[test]
    fn symbols_are_taken_as_users_write_them() {
        for (text, byte) in [(";", b';'), ("|", b'|'), ("\\t", b'\t'), ("\t", b'\t'), ("\\x01", 1), ("\\u0001", 1)] {
            assert_eq!(given(text, "-", "-").unwrap().csv.dialect.delimiter, byte, "{text:?}");
        }
        let dialect = given(",", "'", "\\").unwrap().csv.dialect;
        assert_eq!((dialect.quote, dialect.escape), (Some(b'\''), Some(b'\\')));
        assert_eq!(given("-", "", "-").unwrap().csv.dialect.quote, None);
        // Spark users say so for RFC 4180.
        assert_eq!(given("-", "-", "\"").unwrap(), TextOptions::default());
        let options = given("\\t", "'", "^").unwrap();
        let text = serde_json::to_string(&options).unwrap();
        assert_eq!(text, r#"{"csv":{"delimiter":"\t","quote":"'","escape":"^","header":true}}"#);
        assert_eq!(serde_json::from_str::<TextOptions>(&text).unwrap(), options);
        assert_eq!(serde_json::from_str::<TextOptions>("{}").unwrap(), TextOptions::default());
    }

    #[test]
    fn what_can_not_be_is_refused_by_name() {
        for (delimiter, quote, escape, told) in [
            ("||", "-", "-", "`delimiter`: `||` is not one character"),
            ("§", "-", "-", "`delimiter`: `§` is not one character"),
            ("", "-", "-", "`delimiter`: `` is no character"),
            ("\n", "-", "-", "is a line end"),
            ("\\xff", "-", "-", "is not an ASCII character"),
            ("'", "'", "-", "`delimiter` and `quote` are both `\\'`"),
            ("\\\\", "-", "\\", "`delimiter` and `escape` are both"),
            ("-", "", "\\", "`escape` is given, and `quote` is nothing"),
        ] {
            let error = given(delimiter, quote, escape).unwrap_err();
            assert_eq!(error.code, Code::InvalidSpec);
            assert!(error.message.contains(told), "{error}");
        }
        let header = GivenOptions { header: Some(false), ..GivenOptions::default() };
        header.check_format(RawFormat::Csv, "x").unwrap();
        let error = header.check_format(RawFormat::Json, "x.json").unwrap_err();
        assert!(error.message.contains("x.json is json, and `header` is an option of CSV"), "{error}");
        let encoding = GivenOptions { encoding: Some("latin1".into()), ..GivenOptions::default() };
        encoding.check_format(RawFormat::Json, "x").unwrap();
        assert!(encoding.check_format(RawFormat::Parquet, "x").is_err());
    }
}
