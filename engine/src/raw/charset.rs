//! Text that is not UTF-8, as UTF-8: offsets, lines and splits are those of what comes out.

use std::{
    fmt,
    io::{self, BufRead, BufReader, Cursor, Read},
    str::FromStr,
};

use encoding_rs::{Decoder, DecoderResult, Encoding, UTF_8, UTF_16BE, UTF_16LE};
use serde::{Deserialize, Serialize};

use crate::error::{Code, Error, Result};

/// Bytes that are decoded at a time.
const CHUNK: usize = 64 * 1024;
/// Bytes that tell UTF-16.
const MARK: usize = 2;

/// How letters are encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Charset {
    /// What everything here is in.
    Utf8,
    /// Each byte is the character of its number.
    Latin1,
    /// As its byte order mark says; without one the higher byte comes first, as in Java.
    Utf16,
    /// One that browsers know, by its name there.
    Other(&'static Encoding),
}

impl Charset {
    /// The one that a text's byte order mark tells; none for UTF-8.
    pub fn of_first_bytes(bytes: &[u8]) -> Option<Self> {
        let marked = bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff");
        marked.then_some(Self::Utf16)
    }

    /// The one of a text that begins like this, as it was asked for; none: it is UTF-8.
    pub fn told(asked: Option<Self>, first: &[u8]) -> Option<Self> {
        asked.or_else(|| Self::of_first_bytes(first)).filter(|charset| *charset != Self::Utf8)
    }

    /// Its usual name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Utf8 => "UTF-8",
            Self::Latin1 => "ISO-8859-1",
            Self::Utf16 => "UTF-16",
            Self::Other(encoding) => encoding.name(),
        }
    }

    /// UTF-8 out of text of this encoding.
    ///
    /// # Errors
    /// When the text begins with the byte order mark of another encoding. Bytes that are no text of this one are an error where they are read.
    pub fn decode(self, input: impl Read + Send + 'static) -> io::Result<Box<dyn Read + Send>> {
        let mut input = BufReader::with_capacity(CHUNK, input);
        let mut first = Vec::with_capacity(MARK);
        input.by_ref().take(MARK as u64).read_to_end(&mut first)?;
        let marked = Self::of_first_bytes(&first).map(|_| if first[0] == 0xff { UTF_16LE } else { UTF_16BE });
        let encoding = match self {
            Self::Utf16 => Some(marked.unwrap_or(UTF_16BE)),
            Self::Other(encoding) => Some(encoding),
            Self::Latin1 | Self::Utf8 => None,
        };
        if let Some(marked) = marked.filter(|marked| encoding != Some(marked)) {
            let what = format!("it begins with the byte order mark of {}, not as {}", marked.name(), self.name());
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
        // The mark is none of the text.
        let first = if marked.is_some() { Vec::new() } else { first };
        let passed = if marked.is_some() { MARK as u64 } else { 0 };
        let input = Cursor::new(first).chain(input);
        let decoder = encoding.map(Encoding::new_decoder_without_bom_handling);
        Ok(match self {
            Self::Utf8 => Box::new(input),
            _ => Box::new(Decoding { input, charset: self, decoder, passed, text: Vec::new(), given: 0, ended: false }),
        })
    }
}

/// Text on its way.
struct Decoding<R> {
    input: R,
    charset: Charset,
    /// None for Latin-1.
    decoder: Option<Decoder>,
    /// Bytes taken.
    passed: u64,
    /// What they are, and how much of it was given away.
    text: Vec<u8>,
    given: usize,
    ended: bool,
}

impl<R: BufRead> Decoding<R> {
    fn more(&mut self) -> io::Result<()> {
        self.text.clear();
        self.given = 0;
        while self.text.is_empty() && !self.ended {
            let bytes = self.input.fill_buf()?;
            let last = bytes.is_empty();
            // At most three bytes come of one or two.
            self.text.resize(bytes.len() * 3 + 16, 0);
            let (read, written) = match &mut self.decoder {
                Some(decoder) => match decoder.decode_to_utf8_without_replacement(bytes, &mut self.text, last) {
                    (DecoderResult::Malformed(length, after), read, _) => {
                        let at = self.passed + read as u64 - u64::from(length) - u64::from(after);
                        let what = format!("what is at byte {at} of it is no {}", self.charset.name());
                        return Err(io::Error::new(io::ErrorKind::InvalidData, what));
                    }
                    (_, read, written) => (read, written),
                },
                None => {
                    let (read, written) = encoding_rs::mem::convert_latin1_to_utf8_partial(bytes, &mut self.text);
                    (read, written)
                }
            };
            self.text.truncate(written);
            self.input.consume(read);
            self.passed += read as u64;
            self.ended = last;
        }
        Ok(())
    }
}

impl<R: BufRead> Read for Decoding<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.given == self.text.len() {
            self.more()?;
        }
        let left = self.text.get(self.given..).unwrap_or_default();
        let length = left.len().min(into.len());
        into[..length].copy_from_slice(&left[..length]);
        self.given += length;
        Ok(length)
    }
}

impl FromStr for Charset {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let name = text.trim().to_ascii_lowercase().replace('_', "-");
        match name.as_str() {
            "utf-8" | "utf8" | "us-ascii" | "ascii" => return Ok(Self::Utf8),
            // Browsers take these names for windows-1252.
            "iso-8859-1" | "iso8859-1" | "iso88591" | "latin1" | "latin-1" | "l1" | "iso-latin-1" | "iso-ir-100"
            | "iso-8859-1:1987" | "cp819" | "ibm819" | "csisolatin1" => {
                return Ok(Self::Latin1);
            }
            "utf-16" | "utf16" => return Ok(Self::Utf16),
            "utf16le" => return Ok(Self::Other(UTF_16LE)),
            "utf16be" => return Ok(Self::Other(UTF_16BE)),
            _ => {}
        }
        // The last two of the browsers' are none.
        let known = Encoding::for_label_no_replacement(name.as_bytes())
            .or_else(|| Encoding::for_label_no_replacement(text.trim().as_bytes()))
            .filter(|encoding| encoding.name() != "x-user-defined");
        match known {
            Some(encoding) if encoding == UTF_8 => Ok(Self::Utf8),
            Some(encoding) => Ok(Self::Other(encoding)),
            None => Err(Error::new(Code::InvalidSpec, format!("`{text}` is not an encoding that is read"))
                .hint("such are UTF-8, ISO-8859-1 (Latin-1), windows-1252, UTF-16, UTF-16LE, UTF-16BE, ISO-8859-15, Shift_JIS, GBK")),
        }
    }
}

impl fmt::Display for Charset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl TryFrom<String> for Charset {
    type Error = Error;
    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Charset> for String {
    fn from(charset: Charset) -> String {
        charset.name().to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives few bytes at a time.
    struct Drip(Cursor<Vec<u8>>, usize);

    impl Read for Drip {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let length = self.1.min(into.len());
            self.0.read(&mut into[..length])
        }
    }

    fn read(name: &str, bytes: &[u8]) -> Result<String, String> {
        let charset: Charset = name.parse().unwrap();
        let all = |step: usize| -> io::Result<Vec<u8>> {
            let mut text = Vec::new();
            charset.decode(Drip(Cursor::new(bytes.to_vec()), step))?.read_to_end(&mut text)?;
            Ok(text)
        };
        let texts = [1, 3, 4096].map(|step| all(step).map_err(|error| error.to_string()));
        assert!(texts.iter().all(|text| *text == texts[0]), "{texts:?}");
        texts[0].clone().map(|text| String::from_utf8(text).unwrap())
    }

    fn utf16(text: &str, bytes: fn(u16) -> [u8; 2]) -> Vec<u8> {
        text.encode_utf16().flat_map(bytes).collect()
    }

    #[test]
    fn text_is_what_it_was() {
        let text = "id,é€😀\n".repeat(3000);
        let (le, be) = (utf16(&text, u16::to_le_bytes), utf16(&text, u16::to_be_bytes));
        assert_eq!(read("utf-16le", &le).unwrap(), text);
        assert_eq!(read("UTF-16BE", &be).unwrap(), text);
        assert_eq!(read("utf-16", &be).unwrap(), text);
        assert_eq!(read("UTF-16", &[b"\xff\xfe".as_slice(), &le].concat()).unwrap(), text);
        assert_eq!(read("utf-16le", &[b"\xff\xfe".as_slice(), &le].concat()).unwrap(), text);
        assert_eq!(read("UTF-16", &[b"\xfe\xff".as_slice(), &be].concat()).unwrap(), text);
        assert_eq!(read("latin1", b"\xe9\x80,a").unwrap(), "é\u{80},a");
        assert_eq!(read("windows-1252", b"\xe9\x80").unwrap(), "é€");
        assert_eq!(read("Cp1252", b"\x80").unwrap(), "€");
        assert_eq!(read("ISO-8859-15", b"\xa4").unwrap(), "€");
        assert_eq!(read("Shift_JIS", b"\x93\xfa").unwrap(), "日");
        assert_eq!(read("utf-8", b"\xc3\xa9").unwrap(), "é");
        assert_eq!(read("utf-16", b"").unwrap(), "");
    }

    #[test]
    fn what_is_no_such_text_is_refused() {
        assert!(read("utf-16le", b"a\0\0\xd8b\0").unwrap_err().contains("at byte 2 of it is no UTF-16LE"));
        assert!(read("utf-16le", b"a\0b").unwrap_err().contains("no UTF-16LE"));
        assert!(read("windows-1252", b"\xff\xfea\0").unwrap_err().contains("byte order mark of UTF-16LE"));
        assert!(read("utf-16be", b"\xff\xfea\0").unwrap_err().contains("byte order mark"));
        let error = "utf-7".parse::<Charset>().unwrap_err();
        assert!(error.message.contains("`utf-7` is not an encoding") && error.hint.contains("UTF-16"), "{error}");
    }

    #[test]
    fn a_mark_tells_utf_16() {
        assert_eq!(Charset::told(None, b"\xff\xfea\0"), Some(Charset::Utf16));
        assert_eq!(Charset::told(None, b"\xef\xbb\xbfa"), None);
        assert_eq!(Charset::told(Some(Charset::Utf8), b"\xff\xfe"), None);
        let json = serde_json::to_string(&Charset::Other(UTF_16LE)).unwrap();
        assert_eq!(serde_json::from_str::<Charset>(&json).unwrap(), Charset::Other(UTF_16LE));
    }
}
