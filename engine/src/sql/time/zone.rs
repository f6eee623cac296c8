//! Time zones: the session's, and those written in texts.

use arrow::array::timezone::Tz;
use chrono::{DateTime, NaiveDateTime, Offset, TimeDelta, TimeZone};

use super::calendar::SECOND;
use crate::error::{Code, Error, Result};

/// A time zone. UTC and fixed offsets are kept apart because they need no table.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Zone {
    /// A fixed offset, seconds east of Greenwich; 0 is UTC.
    Fixed(i32),
    /// A region such as `Europe/Paris`.
    Region(Tz),
}

impl Zone {
    /// UTC.
    pub(crate) const UTC: Zone = Zone::Fixed(0);

    /// `UTC`, `Z`, `GMT+2`, `+01:00`, `+0100`, `Europe/Paris`, as Spark names zones; `None` for anything else.
    pub(crate) fn read(text: &str) -> Option<Zone> {
        let bytes = text.as_bytes();
        if matches!(bytes, b"Z" | b"z") {
            return Some(Zone::UTC);
        }
        if let Some(seconds) = read_offset(bytes) {
            return Some(Zone::Fixed(seconds));
        }
        for prefix in ["UTC", "GMT", "UT"] {
            if let Some(rest) = text.strip_prefix(prefix) {
                if rest.is_empty() {
                    return Some(Zone::UTC);
                }
                if let Some(seconds) = read_offset(rest.as_bytes()) {
                    return Some(Zone::Fixed(seconds));
                }
            }
        }
        if !text.starts_with(|c: char| c.is_ascii_alphabetic()) {
            return None;
        }
        text.parse().ok().map(Zone::Region)
    }

    /// The session's zone, from `datafusion.execution.time_zone`; none set means UTC.
    pub(crate) fn of_session(config: &datafusion::config::ConfigOptions) -> Result<Zone> {
        match &config.execution.time_zone {
            None => Ok(Zone::UTC),
            // Arrow must know it, too: it stands in the types of intermediate timestamps.
            Some(name) => Zone::read(name).filter(|_| name.parse::<Tz>().is_ok()).ok_or_else(|| {
                Error::new(Code::InvalidSpec, format!("there is no time zone `{name}`"))
                    .hint("name it as `UTC`, `+01:00` or `Europe/Paris`")
            }),
        }
    }

    /// Seconds east of Greenwich at an instant, microseconds UTC.
    pub(crate) fn offset_at(&self, instant: i64) -> i32 {
        match self {
            Zone::Fixed(seconds) => *seconds,
            Zone::Region(zone) => match utc(instant) {
                Some(utc) => zone.offset_from_utc_datetime(&utc).fix().local_minus_utc(),
                None => 0,
            },
        }
    }

    /// The wall clock at an instant, microseconds since 1970-01-01 00:00 on that clock. `None` when it overflows.
    pub(crate) fn to_local(self, instant: i64) -> Option<i64> {
        instant.checked_add(i64::from(self.offset_at(instant)) * SECOND)
    }

    /// The instant at which the wall clock shows this; the earlier of two, and an hour that a switch skips is moved on by the gap, as
    /// Java does. `None` when it overflows.
    pub(crate) fn to_instant(self, local: i64) -> Option<i64> {
        let offset = match self {
            Zone::Fixed(seconds) => seconds,
            Zone::Region(zone) => {
                let clock = utc(local)?;
                let offset = zone.offset_from_local_datetime(&clock).earliest().or_else(|| {
                    let before_the_gap = clock.checked_sub_signed(TimeDelta::hours(24))?;
                    zone.offset_from_local_datetime(&before_the_gap).earliest()
                })?;
                offset.fix().local_minus_utc()
            }
        };
        local.checked_sub(i64::from(offset) * SECOND)
    }
}

fn utc(micros: i64) -> Option<NaiveDateTime> {
    DateTime::from_timestamp_micros(micros).map(|instant| instant.naive_utc())
}

/// Seconds that a zone may be from Greenwich.
pub(super) const MOST_OFFSET: i32 = 18 * 3600;

/// `+1`, `+01`, `+0100`, `+01:00`, `+01:00:00`: seconds east of Greenwich, at most [`MOST_OFFSET`].
pub(crate) fn read_offset(text: &[u8]) -> Option<i32> {
    let (sign, rest) = match text.split_first()? {
        (b'+', rest) => (1, rest),
        (b'-', rest) => (-1, rest),
        _ => return None,
    };
    let digit = |i: usize| rest.get(i).filter(|b| b.is_ascii_digit()).map(|b| i32::from(b - b'0'));
    let pair = |i: usize| Some(digit(i)? * 10 + digit(i + 1)?);
    let colon = |i: usize| rest.get(i) == Some(&b':');
    let (hours, minutes, seconds) = match rest.len() {
        1 => (digit(0)?, 0, 0),
        2 => (pair(0)?, 0, 0),
        4 if colon(1) => (digit(0)?, pair(2)?, 0),
        4 => (pair(0)?, pair(2)?, 0),
        5 if colon(2) => (pair(0)?, pair(3)?, 0),
        6 => (pair(0)?, pair(2)?, pair(4)?),
        8 if colon(2) && colon(5) => (pair(0)?, pair(3)?, pair(6)?),
        _ => return None,
    };
    let total = hours * 3600 + minutes * 60 + seconds;
    (minutes < 60 && seconds < 60 && total <= MOST_OFFSET).then_some(sign * total)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offset(text: &str) -> Option<i32> {
        read_offset(text.as_bytes())
    }

    #[test]
    fn offsets_are_read() {
        for text in ["+1", "+01", "+0100", "+01:00", "+1:00", "+010000", "+01:00:00"] {
            assert_eq!(offset(text), Some(3600), "{text}");
        }
        assert_eq!(offset("-0530"), Some(-19800));
        assert_eq!(offset("+18:00"), Some(64800));
        for text in ["", "+", "1", "+a", "+1a", "+01:0", "+18:01", "+01:60", "+001", "0100", "+01-00"] {
            assert_eq!(offset(text), None, "{text}");
        }
    }

    #[test]
    fn zones_are_read() {
        for (text, seconds) in
            [("Z", 0), ("UTC", 0), ("GMT", 0), ("UTC+01:00", 3600), ("GMT-2", -7200), ("Europe/Paris", 3600)]
        {
            assert_eq!(Zone::read(text).unwrap().offset_at(0), seconds, "{text}");
        }
        for text in ["", "Mars/Olympus", "UTC+", "+", "9"] {
            assert!(Zone::read(text).is_none(), "{text}");
        }
    }

    #[test]
    fn clocks_that_are_switched_behave_as_in_java() {
        let paris = Zone::read("Europe/Paris").unwrap();
        let at = |text: &str| text.parse::<NaiveDateTime>().unwrap().and_utc().timestamp_micros();
        let instant = |clock: &str| paris.to_instant(at(clock)).unwrap();
        assert_eq!(instant("2021-12-25T07:00:00"), at("2021-12-25T06:00:00"));
        assert_eq!(instant("2021-07-01T07:00:00"), at("2021-07-01T05:00:00"));
        // 02:30 does not exist on that day: it becomes 03:30.
        assert_eq!(instant("2021-03-28T02:30:00"), at("2021-03-28T01:30:00"));
        // 02:30 exists twice: the first one counts.
        assert_eq!(instant("2021-10-31T02:30:00"), at("2021-10-31T00:30:00"));
        assert_eq!(paris.to_local(at("2021-12-25T06:00:00")), Some(at("2021-12-25T07:00:00")));
        assert_eq!(paris.to_instant(i64::MAX), None);
    }
}
