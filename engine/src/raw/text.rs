//! A column of strings under construction, end to end in one buffer.

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

    /// The array, leaving none here; the index of the first string that is not UTF-8 otherwise.
    pub fn finish(&mut self, valid: &mut NullBufferBuilder) -> Result<StringArray, usize> {
        let capacity = (self.bytes.len(), self.offsets.len());
        let bytes = Buffer::from_vec(std::mem::replace(&mut self.bytes, Vec::with_capacity(capacity.0)));
        let offsets = std::mem::replace(&mut self.offsets, Vec::with_capacity(capacity.1));
        self.offsets.push(0);
        let starts = ScalarBuffer::from(offsets);
        StringArray::try_new(OffsetBuffer::new(starts.clone()), bytes.clone(), valid.finish()).map_err(|_| {
            let strings = starts.windows(2).map(|pair| {
                let range = usize::try_from(pair[0]).unwrap_or(0)..usize::try_from(pair[1]).unwrap_or(0);
                bytes.get(range).unwrap_or_default()
            });
            strings.into_iter().position(|string| std::str::from_utf8(string).is_err()).unwrap_or(0)
        })
    }
}
