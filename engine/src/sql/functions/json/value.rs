//! Reads JSON as Spark's parser does, keeping the order of fields and how numbers are written.

/// How deep values may nest; reading them recurses.
const DEEPEST: usize = 500;

/// A JSON value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Json {
    Null,
    Boolean(bool),
    /// As it is written; `NaN` and `Infinity`, too.
    Number(String),
    Text(String),
    Array(Vec<Json>),
    /// Fields in order, of which some may have one name.
    Object(Vec<(String, Json)>),
}

/// What is taken besides JSON. Single quotes are, and so is `NaN`, unless they are turned off.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Leniency {
    pub(crate) single_quotes: bool,
    pub(crate) bare_names: bool,
    pub(crate) leading_zeros: bool,
    pub(crate) any_escapes: bool,
    pub(crate) control_characters: bool,
    pub(crate) comments: bool,
    pub(crate) not_numbers: bool,
}

impl Default for Leniency {
    fn default() -> Self {
        Self {
            single_quotes: true,
            bare_names: false,
            leading_zeros: false,
            any_escapes: false,
            control_characters: false,
            comments: false,
            not_numbers: true,
        }
    }
}

/// The first value of a text; what follows it is not read. `None` when there is none, or it is broken.
pub(crate) fn read(text: &str, leniency: Leniency) -> Option<Json> {
    let mut reader = Reader { text: text.as_bytes(), at: 0, leniency };
    reader.skip_space();
    reader.value(0)
}

struct Reader<'a> {
    text: &'a [u8],
    at: usize,
    leniency: Leniency,
}

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn accept(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn starts_with(&self, word: &str) -> bool {
        self.text.get(self.at..).is_some_and(|rest| rest.starts_with(word.as_bytes()))
    }

    fn skip_space(&mut self) {
        loop {
            while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
                self.at += 1;
            }
            if !self.leniency.comments {
                return;
            }
            let rest = &self.text[self.at..];
            if rest.starts_with(b"//") {
                self.at += rest.iter().position(|b| *b == b'\n').unwrap_or(rest.len());
            } else if rest.starts_with(b"/*") {
                self.at += rest.windows(2).skip(2).position(|b| b == b"*/").map_or(rest.len(), |end| end + 4);
            } else {
                return;
            }
        }
    }

    fn value(&mut self, depth: usize) -> Option<Json> {
        if depth > DEEPEST {
            return None;
        }
        match self.peek()? {
            b'{' => self.object(depth),
            b'[' => self.array(depth),
            b'"' => self.quoted(b'"').map(Json::Text),
            b'\'' if self.leniency.single_quotes => self.quoted(b'\'').map(Json::Text),
            b't' => self.word("true", Json::Boolean(true)),
            b'f' => self.word("false", Json::Boolean(false)),
            b'n' => self.word("null", Json::Null),
            _ => self.number(),
        }
    }

    fn word(&mut self, word: &str, value: Json) -> Option<Json> {
        if !self.starts_with(word) {
            return None;
        }
        self.at += word.len();
        self.ends().then_some(value)
    }

    /// Whether a word or number ends here.
    fn ends(&self) -> bool {
        !self
            .peek()
            .is_some_and(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'+' | b'-' | b'$'))
    }

    fn object(&mut self, depth: usize) -> Option<Json> {
        self.at += 1;
        let mut fields = Vec::new();
        self.skip_space();
        if self.accept(b'}') {
            return Some(Json::Object(fields));
        }
        loop {
            self.skip_space();
            let name = match self.peek()? {
                b'"' => self.quoted(b'"')?,
                b'\'' if self.leniency.single_quotes => self.quoted(b'\'')?,
                _ if self.leniency.bare_names => self.bare_name()?,
                _ => return None,
            };
            self.skip_space();
            if !self.accept(b':') {
                return None;
            }
            self.skip_space();
            fields.push((name, self.value(depth + 1)?));
            self.skip_space();
            if self.accept(b'}') {
                return Some(Json::Object(fields));
            }
            if !self.accept(b',') {
                return None;
            }
        }
    }

    fn array(&mut self, depth: usize) -> Option<Json> {
        self.at += 1;
        let mut items = Vec::new();
        self.skip_space();
        if self.accept(b']') {
            return Some(Json::Array(items));
        }
        loop {
            self.skip_space();
            items.push(self.value(depth + 1)?);
            self.skip_space();
            if self.accept(b']') {
                return Some(Json::Array(items));
            }
            if !self.accept(b',') {
                return None;
            }
        }
    }

    fn bare_name(&mut self) -> Option<String> {
        let start = self.at;
        while self
            .peek()
            .is_some_and(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'$' | b'-' | b'@' | b'#') || b >= 0x80)
        {
            self.at += 1;
        }
        let name = std::str::from_utf8(self.text.get(start..self.at)?).ok()?;
        (!name.is_empty()).then(|| name.to_string())
    }

    fn quoted(&mut self, quote: u8) -> Option<String> {
        self.at += 1;
        let mut out = Vec::new();
        loop {
            let start = self.at;
            while self.peek().is_some_and(|b| b != quote && b != b'\\' && b >= b' ') {
                self.at += 1;
            }
            out.extend_from_slice(self.text.get(start..self.at)?);
            let byte = self.peek()?;
            self.at += 1;
            if byte == quote {
                return String::from_utf8(out).ok();
            }
            if byte != b'\\' {
                if !self.leniency.control_characters {
                    return None;
                }
                out.push(byte);
                continue;
            }
            let escaped = self.peek()?;
            self.at += 1;
            match escaped {
                b'"' | b'\\' | b'/' => out.push(escaped),
                b'b' => out.push(8),
                b'f' => out.push(12),
                b'n' => out.push(b'\n'),
                b'r' => out.push(b'\r'),
                b't' => out.push(b'\t'),
                b'u' => {
                    let c = self.unicode()?;
                    out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                }
                b'\'' if self.leniency.single_quotes => out.push(escaped),
                other if self.leniency.any_escapes => out.push(other),
                _ => return None,
            }
        }
    }

    /// The rest of a `\u` escape, with the second half of a pair. A half that stands alone is the replacement character.
    fn unicode(&mut self) -> Option<char> {
        let first = self.hex()?;
        if !(0xD800..0xDC00).contains(&first) {
            return Some(char::from_u32(first).unwrap_or('\u{FFFD}'));
        }
        if !self.starts_with("\\u") {
            return Some('\u{FFFD}');
        }
        let start = self.at;
        self.at += 2;
        let second = self.hex()?;
        if !(0xDC00..0xE000).contains(&second) {
            self.at = start;
            return Some('\u{FFFD}');
        }
        char::from_u32(0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00))
    }

    fn hex(&mut self) -> Option<u32> {
        let digits = self.text.get(self.at..self.at + 4)?;
        self.at += 4;
        if !digits.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
    }

    fn number(&mut self) -> Option<Json> {
        if self.leniency.not_numbers {
            for word in ["NaN", "Infinity", "-Infinity", "+Infinity", "-INF", "+INF", "INF"] {
                if self.starts_with(word) {
                    self.at += word.len();
                    return self.ends().then(|| Json::Number(word.to_string()));
                }
            }
        }
        let start = self.at;
        self.accept(b'-');
        let whole = self.digits();
        if whole == 0 || (whole > 1 && self.text[self.at - whole] == b'0' && !self.leniency.leading_zeros) {
            return None;
        }
        if self.accept(b'.') && self.digits() == 0 {
            return None;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if !self.accept(b'-') {
                self.accept(b'+');
            }
            if self.digits() == 0 {
                return None;
            }
        }
        if !self.ends() {
            return None;
        }
        let written = std::str::from_utf8(self.text.get(start..self.at)?).ok()?;
        let (sign, digits) = written.strip_prefix('-').map_or(("", written), |digits| ("-", digits));
        // Zeros that lead are only taken where they don't count.
        let kept = digits.trim_start_matches('0');
        let kept = if kept.starts_with(|c: char| c.is_ascii_digit()) {
            kept
        } else {
            &digits[digits.len() - kept.len() - 1..]
        };
        Some(Json::Number(format!("{sign}{kept}")))
    }

    fn digits(&mut self) -> usize {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        self.at - start
    }
}

impl Json {
    /// A number without a fraction or exponent.
    pub(crate) fn is_whole(number: &str) -> bool {
        number.trim_start_matches('-').bytes().all(|byte| byte.is_ascii_digit())
    }

    /// The value as JSON again: fractions as Java writes doubles.
    pub(crate) fn write(&self, out: &mut String) {
        match self {
            Json::Null => out.push_str("null"),
            Json::Boolean(value) => out.push_str(if *value { "true" } else { "false" }),
            Json::Number(number) if Json::is_whole(number) => out.push_str(number),
            Json::Number(number) => match number.parse::<f64>() {
                Ok(value) if value.is_finite() => out.push_str(&java_double(value)),
                _ => write_text(&not_a_number(number), out),
            },
            Json::Text(text) => write_text(text, out),
            Json::Array(items) => {
                out.push('[');
                for (i, item) in items.iter().enumerate() {
                    if i > 0 {
                        out.push(',');
                    }
                    item.write(out);
                }
                out.push(']');
            }
            Json::Object(fields) => {
                out.push('{');
                for (i, (name, value)) in fields.iter().enumerate() {
                    if i > 0 {
                        out.push(',');
                    }
                    write_text(name, out);
                    out.push(':');
                    value.write(out);
                }
                out.push('}');
            }
        }
    }

    /// A text without its quotes; anything else as JSON.
    pub(crate) fn plain(&self) -> String {
        match self {
            Json::Text(text) => text.clone(),
            other => {
                let mut out = String::new();
                other.write(&mut out);
                out
            }
        }
    }
}

fn not_a_number(word: &str) -> String {
    match word {
        "NaN" => "NaN".into(),
        word if word.starts_with('-') => "-Infinity".into(),
        _ => "Infinity".into(),
    }
}

/// A double as Java writes it: `1.0`, `1.0E10`, `1.0E-5`.
pub(crate) fn java_double(value: f64) -> String {
    crate::sql::cast::java_float(&format!("{value:e}"))
}

/// A text in quotes, as Jackson escapes it.
pub(crate) fn write_text(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            c if c < ' ' => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn again(text: &str) -> Option<String> {
        read(text, Leniency::default()).map(|json| {
            let mut out = String::new();
            json.write(&mut out);
            out
        })
    }

    #[test]
    fn what_is_read_is_written_as_jackson_does() {
        for (text, expected) in [
            (
                r#" {"b" : [1, -2.50, 1e3, true,null], "a":"x\u00e9\/\n"} rest"#,
                r#"{"b":[1,-2.5,1000.0,true,null],"a":"xé/\n"}"#,
            ),
            ("{'a': 'it\\'s'}", r#"{"a":"it's"}"#),
            ("{}", "{}"),
            ("0", "0"),
            ("-0.0", "-0.0"),
            ("[NaN]", r#"["NaN"]"#),
            (r#""\ud83d\ude00""#, r#""😀""#),
            ("12345678901234567890123", "12345678901234567890123"),
        ] {
            assert_eq!(again(text).as_deref(), Some(expected), "{text}");
        }
        for text in ["", "{", "[1,2", "{a:1}", "01", "1x", "tru", "\"\n\"", "{\"a\" 1}", "[1,]", "-", "1.", "'\\x'"] {
            assert_eq!(again(text), None, "{text}");
        }
        let zeros = Leniency { leading_zeros: true, ..Leniency::default() };
        assert_eq!(read("-007", zeros), Some(Json::Number("-7".into())));
        assert_eq!(read("000", zeros), Some(Json::Number("0".into())));
    }

    proptest! {
        #[test]
        fn nothing_panics(text in "[\\[\\]{}:,\"'\\\\u0-9a-fn .eE+-]{0,40}|.{0,20}") {
            if let Some(once) = again(&text) {
                prop_assert_eq!(again(&once), Some(once));
            }
        }
    }
}
