//! JSON as the vendor dumps it: one pretty-printed array with four spaces, or one compact object a line.

use clap::ValueEnum;

/// How the records of a dump are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Layout {
    /// One array, pretty-printed with four spaces, without a newline at its end.
    Array,
    /// One compact object a line.
    Ndjson,
}

/// Writes the records of one dump into a buffer.
#[derive(Debug)]
pub struct Dump {
    layout: Layout,
    depth: usize,
    first: bool,
}

const INDENT: &[u8] = b"\n                                        ";

impl Dump {
    /// Opens a dump.
    pub fn open(out: &mut Vec<u8>, layout: Layout) -> Self {
        let mut dump = Self { layout, depth: 0, first: true };
        if layout == Layout::Array {
            dump.begin(out, b'[');
        }
        dump
    }

    /// Starts the next record.
    pub fn begin_record(&mut self, out: &mut Vec<u8>) {
        match self.layout {
            Layout::Array => self.separate(out),
            Layout::Ndjson => {}
        }
        self.begin(out, b'{');
    }

    /// Ends the record.
    pub fn end_record(&mut self, out: &mut Vec<u8>) {
        self.end(out, b'}');
        if self.layout == Layout::Ndjson {
            out.push(b'\n');
        }
    }

    /// Closes the dump.
    pub fn close(mut self, out: &mut Vec<u8>) {
        if self.layout == Layout::Array {
            self.end(out, b']');
        }
    }

    /// Starts an object or an array that is the value of a key or an element.
    pub fn begin(&mut self, out: &mut Vec<u8>, bracket: u8) {
        out.push(bracket);
        self.depth += 1;
        self.first = true;
    }

    /// Ends an object or an array that has at least one entry.
    pub fn end(&mut self, out: &mut Vec<u8>, bracket: u8) {
        self.depth -= 1;
        self.indent(out);
        out.push(bracket);
        self.first = false;
    }

    /// Starts an element of an array.
    pub fn separate(&mut self, out: &mut Vec<u8>) {
        if !self.first {
            out.push(b',');
        }
        self.first = false;
        self.indent(out);
    }

    /// Starts an entry of an object; its value follows. The name needs no escapes.
    pub fn key(&mut self, out: &mut Vec<u8>, name: &str) {
        self.separate(out);
        out.push(b'"');
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(match self.layout {
            Layout::Array => b"\": ",
            Layout::Ndjson => b"\":",
        });
    }

    /// An entry whose value is already JSON, such as a string made by [`string`].
    pub fn entry(&mut self, out: &mut Vec<u8>, name: &str, value: impl AsRef<[u8]>) {
        self.key(out, name);
        out.extend_from_slice(value.as_ref());
    }

    /// An entry whose value is written by `write` and put between quotes; it needs no escapes.
    pub fn quoted(&mut self, out: &mut Vec<u8>, name: &str, write: impl FnOnce(&mut Vec<u8>)) {
        self.key(out, name);
        out.push(b'"');
        write(out);
        out.push(b'"');
    }

    fn indent(&self, out: &mut Vec<u8>) {
        if self.layout == Layout::Array {
            out.extend_from_slice(&INDENT[..=4 * self.depth]);
        }
    }
}

/// A JSON string with its quotes; characters beyond ASCII stay as they are, as the vendor writes them.
pub fn string(text: &str) -> String {
    let mut json = String::with_capacity(text.len() + 2);
    json.push('"');
    for c in text.chars() {
        match c {
            '"' => json.push_str("\\\""),
            '\\' => json.push_str("\\\\"),
            c if c < ' ' => json.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => json.push(c),
        }
    }
    json.push('"');
    json
}

/// A JSON string, or `null`.
pub fn optional_string(text: Option<&str>) -> String {
    text.map_or_else(|| "null".to_owned(), string)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dump(layout: Layout) -> String {
        let mut out = Vec::new();
        let mut dump = Dump::open(&mut out, layout);
        for number in [1, 2] {
            dump.begin_record(&mut out);
            dump.entry(&mut out, "n", number.to_string());
            dump.key(&mut out, "list");
            dump.begin(&mut out, b'[');
            dump.separate(&mut out);
            out.extend_from_slice(string("a \"b\"").as_bytes());
            dump.separate(&mut out);
            out.extend_from_slice(b"null");
            dump.end(&mut out, b']');
            dump.end_record(&mut out);
        }
        dump.close(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn an_array_is_laid_out_as_python_would_with_indent_4() {
        let record = |n| {
            format!(
                "    {{\n        \"n\": {n},\n        \"list\": [\n            \"a \\\"b\\\"\",\n            null\n        ]\n    }}"
            )
        };
        assert_eq!(dump(Layout::Array), format!("[\n{},\n{}\n]", record(1), record(2)));
    }

    #[test]
    fn lines_are_compact() {
        assert_eq!(
            dump(Layout::Ndjson),
            "{\"n\":1,\"list\":[\"a \\\"b\\\"\",null]}\n{\"n\":2,\"list\":[\"a \\\"b\\\"\",null]}\n"
        );
    }
}
