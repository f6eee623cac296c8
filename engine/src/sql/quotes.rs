//! Texts in quotes as Spark reads them: `\n`, `\u0041`, `\101`, raw `r'\d'`, and `X'1F'` with any number of digits.
//!
//! `sqlparser`'s tokenizer has escapes of its own. So what is between quotes is read here first; it goes on with something harmless of the same
//! length, which keeps every place in the statement what it was, and gets its value back once there are tokens.

use std::collections::HashMap;

use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

/// A statement without escapes, and the values of the texts that had some, by the line and column where each begins.
pub(super) struct Quotes {
    pub(super) sql: String,
    values: HashMap<(u64, u64), String>,
}

struct Reader {
    chars: Vec<char>,
    /// The next character.
    at: usize,
    line: u64,
    column: u64,
    out: String,
}

impl Reader {
    fn peek(&self, ahead: usize) -> Option<char> {
        self.chars.get(self.at + ahead).copied()
    }

    /// Takes a character, and writes another one for it.
    fn take_as(&mut self, written: char) {
        match self.peek(0) {
            Some('\n') => {
                self.out.push('\n');
                (self.line, self.column) = (self.line + 1, 1);
            }
            Some(_) => {
                self.out.push(written);
                self.column += 1;
            }
            None => return,
        }
        self.at += 1;
    }

    fn take(&mut self) {
        if let Some(next) = self.peek(0) {
            self.take_as(next);
        }
    }

    fn follows_word(&self) -> bool {
        self.at.checked_sub(1).and_then(|i| self.chars.get(i)).is_some_and(|c| c.is_alphanumeric() || *c == '_')
    }

    /// The place of the closing quote, and what is between; a doubled quote is one.
    fn quoted(&self, from: usize, quote: char, raw: bool) -> Option<(usize, String)> {
        let mut content = String::new();
        let mut i = from;
        loop {
            match *self.chars.get(i)? {
                '\\' if !raw => {
                    content.push('\\');
                    content.push(*self.chars.get(i + 1)?);
                    i += 2;
                }
                c if c == quote => {
                    if raw || self.chars.get(i + 1) != Some(&quote) {
                        return Some((i, content));
                    }
                    content.push(quote);
                    i += 2;
                }
                c => {
                    content.push(c);
                    i += 1;
                }
            }
        }
    }
}

/// Reads the texts in a statement.
pub(super) fn read(sql: &str) -> Quotes {
    let mut reader =
        Reader { chars: sql.chars().collect(), at: 0, line: 1, column: 1, out: String::with_capacity(sql.len()) };
    let mut values = HashMap::new();
    while let Some(next) = reader.peek(0) {
        match (next, reader.peek(1)) {
            ('-', Some('-')) => {
                while reader.peek(0).is_some_and(|c| c != '\n') {
                    reader.take();
                }
            }
            ('/', Some('*')) => comment(&mut reader),
            ('`', _) => {
                reader.take();
                while reader.peek(0).is_some_and(|c| c != '`') {
                    reader.take();
                }
                reader.take();
            }
            ('r' | 'R', Some(quote @ ('\'' | '"'))) if !reader.follows_word() => {
                reader.take_as(' ');
                text(&mut reader, quote, true, &mut values);
            }
            ('x' | 'X', _) if !reader.follows_word() => hex(&mut reader, &mut values),
            (quote @ ('\'' | '"'), _) => text(&mut reader, quote, false, &mut values),
            _ => reader.take(),
        }
    }
    Quotes { sql: reader.out, values }
}

fn comment(reader: &mut Reader) {
    let mut depth = 0usize;
    loop {
        match (reader.peek(0), reader.peek(1)) {
            (Some('/'), Some('*')) => depth += 1,
            (Some('*'), Some('/')) => depth -= 1,
            (None, _) => return,
            _ => {
                reader.take();
                continue;
            }
        }
        reader.take();
        reader.take();
        if depth == 0 {
            return;
        }
    }
}

fn text(reader: &mut Reader, quote: char, raw: bool, values: &mut HashMap<(u64, u64), String>) {
    let place = (reader.line, reader.column);
    let found = reader.quoted(reader.at + 1, quote, raw);
    reader.take();
    // The tokenizer says what is wrong with a text that never ends.
    let Some((end, content)) = found else { return };
    let escaped = content.contains('\\');
    if escaped {
        values.insert(place, if raw { content } else { unescape(&content) });
    }
    while reader.at < end {
        if escaped { reader.take_as('x') } else { reader.take() }
    }
    reader.take();
}

/// `X'1f'`, also with space after the X. An odd number of digits has a zero before it.
fn hex(reader: &mut Reader, values: &mut HashMap<(u64, u64), String>) {
    let mut spaces = 0;
    while reader.peek(1 + spaces).is_some_and(|c| c == ' ') {
        spaces += 1;
    }
    let Some(quote @ ('\'' | '"')) = reader.peek(1 + spaces) else { return reader.take() };
    let digits = reader.quoted(reader.at + spaces + 2, quote, true);
    let Some((end, digits)) = digits.filter(|(_, text)| text.chars().all(|c| c.is_ascii_hexdigit())) else {
        return reader.take();
    };
    for _ in 0..spaces {
        reader.take_as(' ');
    }
    if digits.len() % 2 == 1 {
        values.insert((reader.line, reader.column), format!("0{digits}"));
    }
    reader.take_as('X');
    reader.take_as('\'');
    while reader.at < end {
        reader.take();
    }
    reader.take_as('\'');
}

/// Spark's `ParserUtils.unescapeSQLString`.
fn unescape(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let number = |from: usize, count: usize, radix: u32| -> Option<char> {
        let digits: String = chars.get(from..from + count)?.iter().collect();
        if !digits.chars().all(|c| c.is_digit(radix)) {
            return None;
        }
        u32::from_str_radix(&digits, radix).ok().and_then(char::from_u32)
    };
    let mut i = 0;
    while let Some(c) = chars.get(i).copied() {
        let Some(next) = chars.get(i + 1).copied().filter(|_| c == '\\') else {
            out.push(c);
            i += 1;
            continue;
        };
        i += 2;
        let numbered = match next {
            'u' => number(i, 4, 16).map(|c| (c, 4)),
            'U' => number(i, 8, 16).map(|c| (c, 8)),
            '0' | '1' => number(i - 1, 3, 8).map(|c| (c, 2)),
            _ => None,
        };
        if let Some((c, digits)) = numbered {
            out.push(c);
            i += digits;
            continue;
        }
        match next {
            '0' => out.push('\0'),
            'b' => out.push('\u{8}'),
            'n' => out.push('\n'),
            'r' => out.push('\r'),
            't' => out.push('\t'),
            'Z' => out.push('\u{1a}'),
            // They are LIKE's, which reads them itself.
            '%' | '_' => out.extend(['\\', next]),
            other => out.push(other),
        }
    }
    out
}

impl Quotes {
    /// Gives tokens the values of their texts, and numbers their suffixes: `2.5D` is one number.
    pub(super) fn restore(self, tokens: &mut Vec<TokenWithSpan>) {
        for token in tokens.iter_mut() {
            let start = (token.span.start.line, token.span.start.column);
            let (Token::SingleQuotedString(text) | Token::DoubleQuotedString(text) | Token::HexStringLiteral(text)) =
                &mut token.token
            else {
                continue;
            };
            if let Some(value) = self.values.get(&start) {
                value.clone_into(text);
            }
        }
        let mut kept: Vec<TokenWithSpan> = Vec::with_capacity(tokens.len());
        for token in tokens.drain(..) {
            if let Token::Word(word) = &token.token
                && word.quote_style.is_none()
                && is_suffix(&word.value)
                && let Some(TokenWithSpan { token: Token::Number(digits, false), span }) = kept.last_mut()
            {
                digits.push_str(&word.value.to_ascii_uppercase());
                span.end = token.span.end;
                continue;
            }
            kept.push(token);
        }
        *tokens = kept;
    }
}

fn is_suffix(word: &str) -> bool {
    ["bd", "d", "f", "l", "s", "y"].iter().any(|suffix| word.eq_ignore_ascii_case(suffix))
}

#[cfg(test)]
mod tests {
    use datafusion::sql::sqlparser::tokenizer::Tokenizer;

    use super::*;
    use crate::sql::dialect::SparkDialect;

    fn tokens(sql: &str) -> Vec<Token> {
        let quotes = read(sql);
        assert_eq!(quotes.sql.chars().count(), sql.chars().count(), "{sql}");
        let mut tokens = Tokenizer::new(&SparkDialect, &quotes.sql).tokenize_with_location().unwrap();
        quotes.restore(&mut tokens);
        tokens.into_iter().map(|t| t.token).filter(|t| !matches!(t, Token::Whitespace(_))).collect()
    }

    fn texts(sql: &str) -> Vec<String> {
        let texts = tokens(sql).into_iter().filter_map(|token| match token {
            Token::SingleQuotedString(text) | Token::DoubleQuotedString(text) | Token::HexStringLiteral(text) => {
                Some(text)
            }
            _ => None,
        });
        texts.collect()
    }

    #[test]
    fn escapes_are_sparks() {
        for (sql, expected) in [
            (r"'\u0041\U0001F600\101\x'", "A\u{1F600}Ax"),
            (r"'a\nb\tc\\d\'e\%f\_g'", "a\nb\tc\\d'e\\%f\\_g"),
            (r"'\0\u00'", "\0u00"),
            (r#""it's \"so\"""#, "it's \"so\""),
            (r"r'\d+\n'", r"\d+\n"),
            (r#"R"C:\""#, r"C:\"),
            ("'it''s'", "it's"),
            ("-- it's\n'a' /* ' /* \" */ */", "a"),
            ("`it's` 'b'", "b"),
            ("X '1'", "01"),
            ("x'616263'", "616263"),
            ("max 'y'", "y"),
        ] {
            assert_eq!(texts(sql), [expected], "{sql}");
        }
        assert_eq!(texts("'a\\\\' 'b'"), ["a\\", "b"]);
    }

    #[test]
    fn numbers_have_suffixes() {
        let number = |digits: &str, long| Token::Number(digits.into(), long);
        assert_eq!(tokens("2.5D"), [number("2.5D", false)]);
        assert_eq!(tokens("1bd"), [number("1BD", false)]);
        assert_eq!(tokens("10L"), [number("10", true)]);
        assert_eq!(tokens("1 d").len(), 2, "this is an alias");
        assert_eq!(tokens("1e3F"), [number("1e3F", false)]);
    }
}
