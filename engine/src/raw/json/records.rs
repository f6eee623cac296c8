//! How records follow one another in a piece of a JSON file.

use super::lex::{Lex, bad, skip_space, unexpected};
use crate::raw::manifest::{BYTE_ORDER_MARK, JsonLayout};

/// What comes next in a piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// A record starts at this offset.
    Record(usize),
    /// Nothing but white space up to this offset, where the text at hand ends.
    More(usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expect {
    /// The file's first bytes.
    Start,
    /// An array's first record, or its end.
    FirstRecord,
    Record,
    Separator,
    /// After text that was no record: anything that may stand between records, or a record.
    Anything,
    Nothing,
}

/// Checks, strictly, that a piece is whole records with what belongs between them, and that it joins the pieces before and after it: pieces that
/// all pass are together one well-formed file.
#[derive(Debug)]
pub(crate) struct Records {
    layout: JsonLayout,
    expect: Expect,
    /// This is the file's last piece.
    last: bool,
    /// It was told that the piece ends where it must not.
    told: bool,
}

impl Records {
    pub fn new(layout: JsonLayout, first: bool, last: bool) -> Self {
        Self { layout, expect: if first { Expect::Start } else { Expect::Record }, last, told: false }
    }

    /// Finds the next record at or after `at`; `end`: the piece has no more text than this.
    pub fn next(&mut self, text: &[u8], mut at: usize, end: bool) -> Lex<Next> {
        loop {
            if self.expect == Expect::Start {
                let rest = text.get(at..).unwrap_or_default();
                if rest.len() < BYTE_ORDER_MARK.len() && !end && BYTE_ORDER_MARK.starts_with(rest) {
                    return Ok(Next::More(at));
                }
                at += if rest.starts_with(BYTE_ORDER_MARK) { BYTE_ORDER_MARK.len() } else { 0 };
                self.expect = if self.layout == JsonLayout::Array { Expect::Nothing } else { Expect::Record };
                if self.layout == JsonLayout::Array {
                    at = skip_space(text, at);
                    match text.get(at) {
                        Some(b'[') => self.expect = Expect::FirstRecord,
                        None if !end => {
                            self.expect = Expect::Start;
                            return Ok(Next::More(at));
                        }
                        _ => return unexpected(text, at, "`[`"),
                    }
                    at += 1;
                }
            }
            at = skip_space(text, at);
            let Some(byte) = text.get(at) else {
                return if end { self.ends_at(text, at).map(|()| Next::More(at)) } else { Ok(Next::More(at)) };
            };
            match (self.layout, self.expect, byte) {
                (JsonLayout::Lines, _, _) => return Ok(Next::Record(at)),
                (_, Expect::FirstRecord, b']') | (_, Expect::Separator, b']') => self.expect = Expect::Nothing,
                (_, Expect::Anything, b']') => self.expect = Expect::Nothing,
                (_, Expect::Separator | Expect::Anything, b',') => self.expect = Expect::Record,
                (_, Expect::Separator, _) => return unexpected(text, at, "`,` or `]` after a record"),
                (_, Expect::Nothing, _) => return bad(at, "found text after the end of the array"),
                (_, _, b',' | b']') => return unexpected(text, at, "a record"),
                _ => return Ok(Next::Record(at)),
            }
            at += 1;
        }
    }

    /// The record that [`Records::next`] found was read.
    pub fn record_ends(&mut self) {
        self.expect = Expect::Separator;
    }

    /// Text that was no record was passed.
    pub fn bad_ends(&mut self) {
        self.expect = if self.expect == Expect::Nothing { Expect::Nothing } else { Expect::Anything };
    }

    /// That the piece ends where it must not was told.
    pub fn end_is_told(&mut self) {
        self.told = true;
    }

    /// An array has ended.
    pub fn is_over(&self) -> bool {
        self.expect == Expect::Nothing
    }

    /// How records follow one another.
    pub fn layout(&self) -> JsonLayout {
        self.layout
    }

    fn ends_at(&self, text: &[u8], at: usize) -> Lex<()> {
        let joins = match (self.layout, self.last) {
            (JsonLayout::Lines, _) => true,
            _ if self.told => true,
            // What is missing is in the bad text.
            (JsonLayout::Array, _) if self.expect == Expect::Anything => true,
            (JsonLayout::Array, true) => self.expect == Expect::Nothing,
            (JsonLayout::Array, false) => self.expect == Expect::Record,
        };
        match (joins, self.last) {
            (true, _) => Ok(()),
            (false, true) => bad(at, "the text ends before the array does"),
            (false, false) => unexpected(text, at, "a record boundary, as the manifest says"),
        }
    }
}
