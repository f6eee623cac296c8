//! Objects as maps: any keys, values of one type.

use std::collections::HashSet;

use arrow::{
    array::{ArrayRef, MapArray, StructArray},
    buffer::{NullBuffer, OffsetBuffer, ScalarBuffer},
    datatypes::{DataType, FieldRef, Fields},
};

use super::{
    columns::{BadRow, Column, strings},
    lex::{Lex, fields, skip_value, unescape},
};
use crate::{
    error::{Code, Error, Result},
    raw::text::Text,
};

/// Maps with up to so many keys are searched one by one for one that is there twice.
const FEW: usize = 16;

/// Maps under construction; whether each is null is known elsewhere.
#[derive(Debug)]
pub(super) struct Maps {
    offsets: Vec<i32>,
    keys: Text,
    values: Box<Column>,
    /// Offsets in `keys` of the map at hand.
    ends: Vec<usize>,
    entries: FieldRef,
    pair: Fields,
}

impl Maps {
    pub fn new(entries: &FieldRef) -> Result<Self> {
        let pair = match entries.data_type() {
            DataType::Struct(pair) if pair.len() == 2 && *pair[0].data_type() == DataType::Utf8 => pair.clone(),
            _ => {
                return Err(Error::new(Code::InvalidSpec, "a map of JSON whose keys are no strings")
                    .hint("the names of an object's fields are text: declare MAP<STRING, …>"));
            }
        };
        let values = Box::new(Column::new(pair[1].data_type())?);
        Ok(Self { offsets: vec![0], keys: Text::new(), values, ends: Vec::new(), entries: entries.clone(), pair })
    }

    pub fn push_null(&mut self) {
        self.offsets.push(self.offsets.last().copied().unwrap_or(0));
    }

    /// Keeps the first `len` maps.
    pub fn truncate(&mut self, len: usize) {
        self.offsets.truncate(len + 1);
        let entries = self.offsets.last().and_then(|end| usize::try_from(*end).ok()).unwrap_or(0);
        self.keys.truncate(entries);
        self.values.truncate(entries);
    }

    /// Appends the object whose `{` is at `at`; the offset after it.
    pub fn push(&mut self, text: &[u8], at: usize, depth: u32) -> Lex<usize> {
        let first = self.values.len();
        let end = self.entries(text, at, depth, |_| true)?;
        if let Some(last) = self.last_of_each(first) {
            // Of a key that is there twice the last value counts, as of a field.
            self.keys.truncate(first);
            self.values.truncate(first);
            self.entries(text, at, depth, |index| last.contains(&index))?;
        }
        self.offsets.push(i32::try_from(self.values.len()).unwrap_or(i32::MAX));
        Ok(end)
    }

    fn entries(&mut self, text: &[u8], at: usize, depth: u32, wanted: impl Fn(usize) -> bool) -> Lex<usize> {
        let Self { keys, values, ends, .. } = self;
        ends.clear();
        let mut index = 0;
        fields(text, at, depth, |key, (key_end, escaped), value| {
            index += 1;
            if !wanted(index - 1) {
                return skip_value(text, value, depth + 1);
            }
            if ends.is_empty() {
                ends.push(keys.bytes.len());
            }
            if escaped {
                unescape(text, key, key_end, &mut keys.bytes)?;
            } else {
                keys.bytes.extend_from_slice(&text[key..key_end]);
            }
            keys.end();
            ends.push(keys.bytes.len());
            values.push(text, value, depth + 1)
        })
    }

    /// The last entries with each key, by number, if there are several with one.
    fn last_of_each(&self, first: usize) -> Option<HashSet<usize>> {
        let count = self.values.len() - first;
        let key = |index: usize| self.keys.bytes.get(self.ends[index]..self.ends[index + 1]).unwrap_or_default();
        let twice = match count {
            0 | 1 => false,
            2..=FEW => (1..count).any(|index| (0..index).any(|other| key(other) == key(index))),
            _ => (0..count).map(key).collect::<HashSet<_>>().len() < count,
        };
        let last = || {
            let mut seen = HashSet::new();
            (0..count).rev().filter(|index| seen.insert(key(*index))).collect()
        };
        twice.then(last)
    }

    /// The array, leaving none here.
    pub fn finish(&mut self, valid: Option<NullBuffer>, bad: &mut Vec<BadRow>) -> ArrayRef {
        let offsets = std::mem::replace(&mut self.offsets, vec![0]);
        let before = bad.len();
        let mut all = arrow::array::NullBufferBuilder::new(0);
        all.append_n_non_nulls(self.values.len());
        let keys: ArrayRef = std::sync::Arc::new(strings(&mut self.keys, &mut all, bad));
        let values = self.values.finish(bad);
        for bad in bad.iter_mut().skip(before) {
            let next = offsets.partition_point(|start| usize::try_from(*start).is_ok_and(|start| start <= bad.row));
            bad.row = next.saturating_sub(1);
        }
        let entries = StructArray::new(self.pair.clone(), vec![keys, values], None);
        let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
        std::sync::Arc::new(MapArray::new(self.entries.clone(), offsets, entries, valid, false))
    }
}
