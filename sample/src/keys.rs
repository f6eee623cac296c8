//! Which keys a day's delivery of streams or reviews holds.
//!
//! Keys are numbered over all days: day 1 holds the first `rows` of them; a later day repeats a fifth of its rows from the
//! days before it (with changed values) and goes on with new ones. Each number has its own millisecond of the month, by a
//! shuffle, so that a day's keys lie scattered over the whole month. Some milliseconds are taken out of the shuffle: they
//! belong to the rows that every delivery has (see [`crate::sessions`]).

use crate::month;
use crate::permutation::Permutation;
use crate::random::Random;

/// Of this many rows of a later day, one has the key of an earlier day.
const CHANGED_ONE_IN: u64 = 5;

/// The keys of one day's delivery of one file.
#[derive(Clone, Debug)]
pub struct DayKeys {
    ordinary: u64,
    changed: u64,
    first_new: u64,
    earlier: Permutation,
    instants: Permutation,
    taken: Vec<u64>,
}

impl DayKeys {
    /// The keys of `day` (from 1) of the file number `file`, with `rows` rows each day, those at the milliseconds
    /// `taken` included.
    ///
    /// # Errors
    /// If the days up to this one have more keys than the month has milliseconds.
    pub fn new(seed: u64, file: u64, rows: u64, day: u64, mut taken: Vec<u64>) -> Result<Self, String> {
        taken.sort_unstable();
        let fixed = taken.len() as u64;
        let ordinary = rows.saturating_sub(fixed);
        let repeated = (rows / CHANGED_ONE_IN).saturating_sub(fixed).min(ordinary);
        let (changed, first_new) = match day {
            0 | 1 => (0, 0),
            _ => (repeated, ordinary + (day - 2) * (ordinary - repeated)),
        };
        let end = first_new + ordinary - changed;
        if end > month::LENGTH - fixed {
            return Err(format!(
                "day {day} would need {end} different milliseconds, but the month has {}: make fewer days or a smaller size",
                month::LENGTH
            ));
        }
        Ok(Self {
            ordinary,
            changed,
            first_new,
            earlier: Permutation::new(first_new, Random::of(seed, &[file, day, 1])),
            instants: Permutation::new(month::LENGTH, Random::of(seed, &[file, 0, 2])),
            taken,
        })
    }

    /// How many rows the day has besides those at taken milliseconds.
    pub fn ordinary(&self) -> u64 {
        self.ordinary
    }

    /// How many of the ordinary rows have the key of an earlier day.
    pub fn changed(&self) -> u64 {
        self.changed
    }

    /// The number of the key of the day's ordinary row `row`. Changed rows are spread evenly among the new ones.
    pub fn number(&self, row: u64) -> u64 {
        let changed_before =
            |row: u64| (u128::from(row) * u128::from(self.changed) / u128::from(self.ordinary.max(1))) as u64;
        let before = changed_before(row);
        if changed_before(row + 1) > before { self.earlier.at(before) } else { self.first_new + row - before }
    }

    /// The millisecond of the month that belongs to the key `number`, on whatever day it appears.
    pub fn instant(&self, number: u64) -> u64 {
        // The walk is one to one only if it starts outside the taken milliseconds as well.
        let start = self.taken.iter().fold(number, |number, taken| number + u64::from(number >= *taken));
        let mut instant = self.instants.at(start);
        while self.taken.binary_search(&instant).is_ok() {
            instant = self.instants.at(instant);
        }
        instant
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn a_later_day_repeats_a_fifth_and_adds_the_rest() {
        let mut known = HashSet::new();
        for day in 1..=4 {
            let keys = DayKeys::new(7, 3, 10_000, day, vec![1, 2, 3]).unwrap();
            let delivery: HashSet<u64> = (0..keys.ordinary()).map(|row| keys.instant(keys.number(row))).collect();
            assert_eq!(delivery.len(), 9_997, "keys of day {day} are unique");
            let repeated = delivery.intersection(&known).count();
            assert_eq!(repeated, if day == 1 { 0 } else { 1_997 }, "day {day}");
            assert!(delivery.is_disjoint(&HashSet::from([1, 2, 3])));
            known.extend(delivery);
        }
    }

    #[test]
    fn milliseconds_that_are_taken_are_walked_past() {
        let free = DayKeys::new(7, 3, 10, 1, vec![]).unwrap();
        let first = free.instant(0);
        let keys = DayKeys::new(7, 3, 10, 1, vec![first]).unwrap();
        assert_ne!(keys.instant(0), first);
        assert_eq!(keys.instant(1), free.instant(1));
    }

    #[test]
    fn walks_from_different_keys_never_meet() {
        let free = DayKeys::new(7, 3, 1_000, 1, vec![]).unwrap();
        let taken: Vec<u64> = (0..20).chain((0..500).map(|n| free.instant(n))).collect();
        let keys = DayKeys::new(7, 3, 1_000, 1, taken.clone()).unwrap();
        let instants: HashSet<u64> = (0..1_000).map(|number| keys.instant(number)).collect();
        assert_eq!(instants.len(), 1_000);
        assert!(taken.iter().all(|instant| !instants.contains(instant)));
    }

    #[test]
    fn a_month_has_only_so_many_milliseconds() {
        assert!(DayKeys::new(7, 3, 31_200_000, 10, vec![]).is_ok());
        let error = DayKeys::new(7, 3, 2_700_000_000, 1, vec![]).unwrap_err();
        assert!(error.contains("fewer days"), "{error}");
    }
}
