//! `get_json_object(json, path)`: a value of a JSON text by a path such as `$.a.b[0]`, `$['a']` or `$.xs[*].y`.

use super::value::Json;

#[derive(Debug, Clone, PartialEq)]
enum Step {
    Named(String),
    Index(usize),
    /// `[*]`
    Every,
    /// `.*`, which finds nothing.
    Wildcard,
}

/// A path that was read.
#[derive(Debug, PartialEq)]
pub(crate) struct Path(Vec<Step>);

/// What stands around the value that is written.
#[derive(Clone, Copy, PartialEq)]
enum Style {
    Raw,
    Quoted,
    Flat,
}

impl Path {
    /// Reads a path; `None` when it is none.
    pub(crate) fn read(text: &str) -> Option<Path> {
        let mut rest = text.trim_start().strip_prefix('$')?;
        let mut steps = Vec::new();
        loop {
            rest = rest.trim_start();
            if rest.is_empty() {
                return Some(Path(steps));
            }
            if let Some(after) = rest.strip_prefix(".*").or_else(|| rest.strip_prefix("['*']")) {
                steps.push(Step::Wildcard);
                rest = after;
            } else if let Some(after) = rest.strip_prefix('.') {
                let after = after.trim_start();
                let end = after.find(['.', '[']).unwrap_or(after.len());
                let (name, after) = after.split_at(end);
                if name.is_empty() {
                    return None;
                }
                steps.push(Step::Named(name.to_string()));
                rest = after;
            } else if let Some(after) = rest.strip_prefix("['") {
                let (name, after) = after.split_once('\'')?;
                if name.is_empty() || name.contains('?') {
                    return None;
                }
                steps.push(Step::Named(name.to_string()));
                rest = after.trim_start().strip_prefix(']')?;
            } else {
                let (index, after) = rest.strip_prefix('[')?.split_once(']')?;
                steps.push(match index.trim() {
                    "*" => Step::Every,
                    digits if digits.bytes().all(|byte| byte.is_ascii_digit()) => Step::Index(digits.parse().ok()?),
                    _ => return None,
                });
                rest = after;
            }
        }
    }

    /// The value at the path: a text as it is, anything else as JSON.
    pub(crate) fn find(&self, json: &Json) -> Option<String> {
        let mut out = Out::default();
        walk(json, &self.0, Style::Raw, &mut out).then_some(out.text)
    }
}

/// JSON that is being written: commas stand between the values of an array.
#[derive(Default)]
struct Out {
    text: String,
    in_array: bool,
    values: usize,
}

impl Out {
    fn comma(&mut self) {
        if self.in_array && self.values > 0 {
            self.text.push(',');
        }
        self.values += 1;
    }

    fn json(&mut self, json: &Json) {
        self.comma();
        json.write(&mut self.text);
    }

    fn raw(&mut self, text: &str) {
        self.comma();
        self.text.push_str(text);
    }

    fn array(&mut self, write: impl FnOnce(&mut Out) -> bool) -> bool {
        let mut inner = Out { in_array: true, ..Out::default() };
        let found = write(&mut inner);
        self.raw(&format!("[{}]", inner.text));
        found
    }
}

/// Writes what is found; whether something was.
fn walk(json: &Json, path: &[Step], style: Style, out: &mut Out) -> bool {
    match (json, path) {
        (Json::Text(text), []) if style == Style::Raw => {
            out.raw(text);
            true
        }
        (Json::Array(items), []) if style == Style::Flat => {
            items.iter().fold(false, |found, item| walk(item, path, style, out) | found)
        }
        (_, []) => {
            out.json(json);
            true
        }
        // The first field of that name in which something is found.
        (Json::Object(fields), [Step::Named(name), rest @ ..]) => {
            fields.iter().any(|(field, value)| field == name && *value != Json::Null && walk(value, rest, style, out))
        }
        (Json::Array(items), [Step::Every, Step::Every, rest @ ..]) => {
            out.array(|out| items.iter().fold(false, |found, item| walk(item, rest, Style::Flat, out) | found))
        }
        (Json::Array(items), [Step::Every, rest @ ..]) if style != Style::Quoted => {
            let next = if style == Style::Raw { Style::Quoted } else { style };
            let mut inner = Out { in_array: true, ..Out::default() };
            let found = items.iter().filter(|item| walk(item, rest, next, &mut inner)).count();
            // A single match stands without an array around it.
            match found {
                0 => {}
                1 => out.raw(&inner.text),
                _ => out.raw(&format!("[{}]", inner.text)),
            }
            found > 0
        }
        (Json::Array(items), [Step::Every, rest @ ..]) => {
            out.array(|out| items.iter().fold(false, |found, item| walk(item, rest, style, out) | found))
        }
        (Json::Array(items), [Step::Index(index), rest @ ..]) => {
            let style = if rest.first() == Some(&Step::Every) { Style::Quoted } else { style };
            items.get(*index).is_some_and(|item| walk(item, rest, style, out))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::value::{Leniency, read},
        *,
    };

    #[test]
    fn paths_find_what_spark_finds() {
        let json =
            r#"{"a":{"b":[{"c":"x"},{"c":2.50},{"d":[1,[2]]}]},"n":null,"s":"t","k.l":1,"one":[{"z":"q"}],"a":7}"#;
        let json = read(json, Leniency::default()).unwrap();
        for (path, expected) in [
            ("$.s", Some("t")),
            ("$['s']", Some("t")),
            ("$['k.l']", Some("1")),
            ("$.n", None),
            ("$.missing", None),
            ("$.a.b[1].c", Some("2.5")),
            ("$.a.b[*].c", Some(r#"["x",2.5]"#)),
            ("$.one[*].z", Some(r#""q""#)),
            ("$.one[0].z", Some("q")),
            ("$.a.b[2].d[*]", Some("[1,[2]]")),
            ("$.a.b[9]", None),
            ("$.*", None),
            ("$.a.b[0]", Some(r#"{"c":"x"}"#)),
        ] {
            assert_eq!(Path::read(path).unwrap().find(&json).as_deref(), expected, "{path}");
        }
        for path in ["", "a", "$a", "$.", "$[x]", "$['a", "$[-1]"] {
            assert_eq!(Path::read(path), None, "{path}");
        }
    }
}
