//! Where the fields of CSV end.

use crate::raw::dialect::Dialect;

const WINDOW: usize = 64;

/// Finds delimiters and line ends, in 64 bytes at a time: fields are so short that a search for the end of each would spend its time on beginning.
pub(super) struct Ends<'a> {
    pub text: &'a [u8],
    pub dialect: Dialect,
    /// Offset of the bytes that were looked at last.
    start: usize,
    /// One bit for each of them, the first one's lowest: whether it is a delimiter or a line end.
    found: u64,
}

impl<'a> Ends<'a> {
    pub fn new(text: &'a [u8], dialect: Dialect) -> Self {
        let mut ends = Self { text, dialect, start: 0, found: 0 };
        ends.look(0);
        ends
    }

    /// Offset of the first delimiter, `\n` or `\r` from `at` on.
    #[inline(always)]
    pub fn next(&mut self, at: usize) -> Option<usize> {
        // What is before the window wraps around to far after it.
        let mut skip = at.wrapping_sub(self.start);
        if skip >= WINDOW {
            self.look(at);
            skip = 0;
        }
        loop {
            let found = self.found & (u64::MAX << skip);
            if found != 0 {
                return Some(self.start + found.trailing_zeros() as usize);
            }
            if self.text.len().saturating_sub(self.start) <= WINDOW {
                return None;
            }
            self.look(self.start + WINDOW);
            skip = 0;
        }
    }

    #[inline]
    fn look(&mut self, at: usize) {
        let rest = self.text.get(at..).unwrap_or_default();
        self.start = at;
        self.found = match rest.first_chunk() {
            Some(window) => ends(window, self.dialect.delimiter),
            None => {
                let mut window = [0; WINDOW];
                window[..rest.len()].copy_from_slice(rest);
                // What is behind the text may be a delimiter, a zero.
                ends(&window, self.dialect.delimiter) & ((1 << rest.len()) - 1)
            }
        };
    }
}

/// One bit for each byte, written so that compilers make vector instructions of it.
#[inline]
fn ends(window: &[u8; WINDOW], delimiter: u8) -> u64 {
    let flags = window.map(|byte| u8::from(byte == delimiter) | u8::from(byte == b'\n') | u8::from(byte == b'\r'));
    let (eights, _) = flags.as_chunks();
    eights.iter().enumerate().fold(0, |bits, (at, eight)| {
        // Brings the lowest bit of each byte into the highest byte, in their order.
        let gathered = u64::from_le_bytes(*eight).wrapping_mul(0x0102_0408_1020_4080) >> 56;
        bits | (gathered << (at * 8))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn ends_are_those_that_a_plain_search_finds(
            text in prop::collection::vec(prop_oneof![4 => Just(b'x'), 1 => any::<u8>(), 1 => prop::sample::select(b",;\0\n\r".to_vec())], 0..300),
            delimiter in prop::sample::select(b",;\0".to_vec()),
            asked in prop::collection::vec(0..310usize, 1..40),
        ) {
            let mut ends = Ends::new(&text, Dialect { delimiter, ..Dialect::default() });
            for at in asked {
                let plain = (at..text.len()).find(|at| [delimiter, b'\n', b'\r'].contains(&text[*at]));
                prop_assert_eq!(ends.next(at), plain, "from {}", at);
            }
        }
    }
}
