//! Stdout: only data goes there. A reader that has enough (`trireme … | head`) ends the writing, not the command.

use std::{
    fmt::Display,
    io::{self, BufWriter, ErrorKind, IsTerminal, Write},
};

use crate::error::{Error, Result};

/// A stream of data.
pub struct Output {
    writer: Box<dyn Write>,
    closed: bool,
    style: Style,
}

impl Output {
    /// Stdout.
    pub fn stdout() -> Self {
        Self { writer: Box::new(BufWriter::new(io::stdout())), closed: false, style: Style::of(&io::stdout()) }
    }

    /// Anything that can be written to, without colours.
    #[cfg(test)]
    fn to(writer: impl Write + 'static) -> Self {
        Self { writer: Box::new(writer), closed: false, style: Style { coloured: false } }
    }

    /// How text looks there.
    pub fn style(&self) -> Style {
        self.style
    }

    /// Whether the reader has gone: what is written goes nowhere.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Writes bytes as they are.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let written = if self.closed { Ok(()) } else { self.writer.write_all(bytes) };
        self.settle(written)
    }

    /// Writes text and a line's end.
    pub fn line(&mut self, text: impl Display) -> Result<()> {
        let written = if self.closed { Ok(()) } else { writeln!(self.writer, "{text}") };
        self.settle(written)
    }

    /// Writes one JSON document on a line of its own.
    pub fn json(&mut self, document: &impl serde::Serialize) -> Result<()> {
        let text = serde_json::to_string(document).map_err(|error| Error::new("internal", error.to_string()))?;
        self.line(text)
    }

    /// Hands everything over to the reader.
    pub fn flush(&mut self) -> Result<()> {
        let written = if self.closed { Ok(()) } else { self.writer.flush() };
        self.settle(written)
    }

    fn settle(&mut self, written: io::Result<()>) -> Result<()> {
        match written {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {
                self.closed = true;
                Ok(())
            }
            Err(error) => Err(Error::new("output", format!("can't write the output: {error}"))),
        }
    }
}

/// How text looks: coloured on a terminal unless `NO_COLOR` is set, else plain.
#[derive(Debug, Clone, Copy)]
pub struct Style {
    coloured: bool,
}

impl Style {
    /// The style that suits a stream.
    pub fn of(stream: &impl IsTerminal) -> Self {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { coloured: stream.is_terminal() && !refused }
    }

    /// A heading.
    pub fn heading(self, text: &str) -> String {
        self.paint("1", text)
    }

    /// Something failed.
    pub fn failure(self, text: &str) -> String {
        self.paint("1;31", text)
    }

    /// A way out.
    pub fn hint(self, text: &str) -> String {
        self.paint("36", text)
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.coloured { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_string() }
    }
}

/// Text from outside as it may be put on a terminal: control characters are escaped, so that data can't move the cursor or forge lines.
pub fn printable(text: &str) -> String {
    if !text.chars().any(char::is_control) {
        return text.to_string();
    }
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
}

/// What a message begins with, where there is room for one line.
pub fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Gone;

    impl Write for Gone {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_has_gone_is_no_error() {
        let mut output = Output::to(Gone);
        output.line("x").unwrap();
        assert!(output.is_closed());
        output.write(b"more").unwrap();
    }

    #[test]
    fn control_characters_are_escaped() {
        assert_eq!(printable("é x\n\x1b[2J"), "é x\\n\\u{1b}[2J");
    }
}
