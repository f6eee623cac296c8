//! A column of strings under construction, end to end in one buffer.

use std::borrow::Cow;

use arrow::{
    array::{NullBufferBuilder, StringArray},
    buffer::{Buffer, OffsetBuffer, ScalarBuffer},
};

/// Strings of a column.
#[derive(Debug)]
pub(crate) struct Text {
    /// Of all strings. A batch is finished long before there are 2 GiB of them.
    pub bytes: Vec<u8>,
    /// Where each starts in `bytes`, and where the last ends.
    offsets: Vec<i32>,
}

impl Text {
    pub fn new() -> Self {
        Self { bytes: Vec::new(), offsets: vec![0] }
    }

    /// Ends the string whose bytes were appended to `bytes`.
    #[inline]
    pub fn end(&mut self) {
        self.offsets.push(i32::try_from(self.bytes.len()).unwrap_or(i32::MAX));
    }

    /// Keeps the first `len` strings.
    pub fn truncate(&mut self, len: usize) {
        self.offsets.truncate(len + 1);
        self.bytes.truncate(self.offsets.last().and_then(|end| usize::try_from(*end).ok()).unwrap_or(0));
    }

    /// The array, leaving none here, and the strings that are not UTF-8: they have other symbols where they are not.
    pub fn finish(&mut self, valid: &mut NullBufferBuilder) -> (StringArray, Vec<usize>) {
        let capacity = (self.bytes.len(), self.offsets.len());
        let bytes = Buffer::from_vec(std::mem::replace(&mut self.bytes, Vec::with_capacity(capacity.0)));
        let offsets = std::mem::replace(&mut self.offsets, Vec::with_capacity(capacity.1));
        self.offsets.push(0);
        let starts = ScalarBuffer::from(offsets);
        let valid = valid.finish();
        if let Ok(strings) = StringArray::try_new(OffsetBuffer::new(starts.clone()), bytes.clone(), valid.clone()) {
            return (strings, Vec::new());
        }
        let mut not_text = Vec::new();
        let strings = starts.windows(2).enumerate().map(|(row, pair)| {
            let range = usize::try_from(pair[0]).unwrap_or(0)..usize::try_from(pair[1]).unwrap_or(0);
            let string = String::from_utf8_lossy(bytes.get(range).unwrap_or_default());
            if matches!(string, Cow::Owned(_)) {
                not_text.push(row);
            }
            let is_null = valid.as_ref().is_some_and(|valid| valid.is_null(row));
            (!is_null).then_some(string)
        });
        (strings.collect(), not_text)
    }
}
