//! Streaming sessions that every delivery of streams has, so that the questions have answers worth checking: each is on one
//! side or the other of a limit that a wrong reading would move.

use crate::catalogue::{ODD_DURATION, STREAMED_ONCE, UNFORGIVEN, UNFORGIVEN_NAMESAKE};
use crate::month::{HOUR, MINUTE, SECOND, at};

/// A session of a user with a movie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Session {
    /// Number of the user, below [`RESERVED_USERS`].
    pub user: usize,
    /// Number of the movie.
    pub movie: usize,
    /// Start, in milliseconds after the month's start: the key.
    pub start: u64,
    /// Length in milliseconds.
    pub length: u64,
}

/// Users below this number have these sessions and no others.
pub const RESERVED_USERS: usize = 14;

/// The sessions. The outage of "Unforgiven" is on the 25th, 07:00 to 12:00; the last week begins on the 25th.
#[rustfmt::skip]
pub const SESSIONS: [Session; 16] = [
    // In progress during the outage: five users, one of them twice.
    on(0, UNFORGIVEN, at(24, 22, 10, 1_500), 9 * HOUR + 35 * MINUTE),    // began the evening before
    on(1, UNFORGIVEN, at(25, 6, 59, 59_500), 20 * MINUTE),
    on(2, UNFORGIVEN, at(25, 8, 0, 17), HOUR),
    on(2, UNFORGIVEN, at(25, 9, 30, 0), 30 * MINUTE),
    on(3, UNFORGIVEN, at(25, 11, 59, 59_999), 2 * HOUR),
    on(4, UNFORGIVEN, at(25, 5, 0, 250), 15 * HOUR),                     // all the way through
    // Not: over before it, begun after it (though within it if its hours are taken for UTC), another movie.
    on(5, UNFORGIVEN, at(25, 6, 0, 0), HOUR - 1),
    on(6, UNFORGIVEN, at(25, 12, 20, 42), 3 * HOUR),
    on(7, UNFORGIVEN_NAMESAKE, at(25, 7, 10, 0), 4 * HOUR),
    // Half of 101 minutes in the last week, and a millisecond less.
    on(8, ODD_DURATION, at(26, 19, 30, 123), 50 * MINUTE + 30 * SECOND),
    on(9, ODD_DURATION, at(26, 19, 30, 124), 50 * MINUTE + 30 * SECOND - 1),
    // Long ones that begin a millisecond before the last week, with it (the 24th in UTC), at its end.
    on(10, ODD_DURATION, at(24, 23, 59, 59_999), 5 * HOUR),
    on(11, ODD_DURATION, at(25, 0, 0, 0), 5 * HOUR),
    on(12, ODD_DURATION, at(31, 23, 59, 59_999), 2 * HOUR),
    // A long one before the last week, with a short one within it.
    on(13, ODD_DURATION, at(20, 20, 0, 0), 2 * HOUR),
    // The one stream of its movie, in December by the data's own offset and in November by UTC.
    on(13, STREAMED_ONCE, at(1, 0, 20, 333), 40 * MINUTE),
];

const fn on(user: usize, movie: usize, start: u64, length: u64) -> Session {
    Session { user, movie, start, length }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn starts_are_unique_and_users_reserved() {
        let starts: HashSet<u64> = SESSIONS.iter().map(|session| session.start).collect();
        assert_eq!(starts.len(), SESSIONS.len());
        assert!(SESSIONS.iter().all(|session| session.user < RESERVED_USERS));
    }
}
