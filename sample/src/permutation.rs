//! A seeded shuffle of `0..length` that is computed, not stored.

use crate::random::{Random, mix};

const ROUNDS: usize = 4;

/// A one-to-one map of `0..length` onto itself: a balanced Feistel network over the next even power of two, walked until
/// it lands inside (Black and Rogaway, "Ciphers with arbitrary finite domains", CT-RSA 2002, the cycle-walking cipher).
#[derive(Clone, Debug)]
pub struct Permutation {
    length: u64,
    half_bits: u32,
    round_keys: [u64; ROUNDS],
}

impl Permutation {
    /// The shuffle of `0..length` that `random` gives. `length` is at most 2^62.
    pub fn new(length: u64, mut random: Random) -> Self {
        let bits = u64::BITS - length.saturating_sub(1).leading_zeros();
        Self { length, half_bits: bits.div_ceil(2).max(1), round_keys: std::array::from_fn(|_| random.bits()) }
    }

    /// How many numbers are shuffled.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Where `index`, which is below [`length`](Self::length), goes.
    pub fn at(&self, index: u64) -> u64 {
        debug_assert!(index < self.length);
        let mut place = self.encipher(index);
        while place >= self.length {
            place = self.encipher(place);
        }
        place
    }

    fn encipher(&self, number: u64) -> u64 {
        let mask = (1_u64 << self.half_bits) - 1;
        let (mut left, mut right) = (number >> self.half_bits, number & mask);
        for key in self.round_keys {
            (left, right) = (right, left ^ (mix(right ^ key) & mask));
        }
        (left << self.half_bits) | right
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_is_reached_once() {
        for length in [1, 2, 3, 5, 16, 17, 1_000, 4_097] {
            let permutation = Permutation::new(length, Random::of(7, &[length]));
            let mut places: Vec<u64> = (0..length).map(|index| permutation.at(index)).collect();
            places.sort_unstable();
            assert!(places.into_iter().eq(0..length), "length {length}");
        }
    }

    #[test]
    fn neighbours_are_scattered() {
        let length = 2_678_400_000;
        let permutation = Permutation::new(length, Random::of(7, &[]));
        let near = (0..1_000)
            .filter(|index| permutation.at(*index).abs_diff(permutation.at(index + 1)) < length / 1_000)
            .count();
        assert!(near < 15, "{near} of 1,000 neighbours landed within a thousandth of the range");
    }
}
