//! Writing instants with a Spark datetime pattern.

use std::fmt::Write;

use super::{
    calendar::{DAY, SECOND, civil_from_days, days_from_civil},
    pattern::{Field, Part, Pattern},
    zone::Zone,
};

/// Letters of a short month or weekday name.
pub(super) const SHORT: usize = 3;
pub(super) const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const WEEKDAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

impl Pattern {
    /// Appends an instant (microseconds since 1970 UTC) as the session's clock shows it.
    pub(crate) fn write(&self, instant: i64, session: Zone, zone_name: &str, out: &mut String) {
        let offset = session.offset_at(instant);
        let local = instant.saturating_add(i64::from(offset) * SECOND);
        let days = local.div_euclid(DAY);
        let (year, month, day) = civil_from_days(days);
        let clock = local.rem_euclid(DAY);
        let moment = Moment {
            days,
            year,
            month,
            day,
            seconds: (clock / SECOND) as u32,
            micros: (clock % SECOND) as u32,
            offset,
            zone_name,
        };
        moment.parts(&self.parts, out);
    }
}

struct Moment<'a> {
    days: i64,
    year: i32,
    month: u32,
    day: u32,
    /// Since midnight.
    seconds: u32,
    /// Since the second.
    micros: u32,
    offset: i32,
    zone_name: &'a str,
}

impl Moment<'_> {
    fn parts(&self, parts: &[Part], out: &mut String) {
        for part in parts {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Optional(inner) => self.parts(inner, out),
                // Writing to a String does not fail.
                Part::Field(field, width) => {
                    let _ = self.field(*field, *width, out);
                }
            }
        }
    }

    fn field(&self, field: Field, width: usize, out: &mut String) -> std::fmt::Result {
        let hour = self.seconds / 3600;
        match field {
            Field::Year if width == 2 => write!(out, "{:02}", self.year.rem_euclid(100)),
            Field::Year => {
                let sign = if self.year < 0 {
                    "-"
                } else if width >= 4 && self.year > 9999 {
                    "+"
                } else {
                    ""
                };
                write!(out, "{sign}{:0width$}", self.year.unsigned_abs())
            }
            Field::Month if width >= 3 => {
                let name = MONTHS.get(self.month as usize - 1).copied().unwrap_or_default();
                out.write_str(if width == 3 { name.get(..SHORT).unwrap_or(name) } else { name })
            }
            Field::Weekday => {
                let name = WEEKDAYS.get((self.days + 3).rem_euclid(7) as usize).copied().unwrap_or_default();
                out.write_str(if width == 4 { name } else { name.get(..SHORT).unwrap_or(name) })
            }
            Field::Month => write!(out, "{:0width$}", self.month),
            Field::Day => write!(out, "{:0width$}", self.day),
            Field::DayOfYear => write!(out, "{:0width$}", self.days - days_from_civil(self.year, 1, 1) + 1),
            Field::Quarter => write!(out, "{:0width$}", self.month.div_ceil(3)),
            Field::HalfOfDay => out.write_str(if hour < 12 { "AM" } else { "PM" }),
            Field::Hour => write!(out, "{hour:0width$}"),
            Field::HourFrom1 => write!(out, "{:0width$}", if hour == 0 { 24 } else { hour }),
            Field::Hour12 => write!(out, "{:0width$}", if hour.is_multiple_of(12) { 12 } else { hour % 12 }),
            Field::Hour12From0 => write!(out, "{:0width$}", hour % 12),
            Field::Minute => write!(out, "{:0width$}", self.seconds / 60 % 60),
            Field::Second => write!(out, "{:0width$}", self.seconds % 60),
            Field::Fraction => {
                let digits = format!("{:06}000", self.micros);
                out.write_str(digits.get(..width).unwrap_or(&digits))
            }
            Field::ZoneName => out.write_str(self.zone_name),
            Field::OffsetGmt => {
                out.write_str("GMT")?;
                match (self.offset, width) {
                    (0, _) => Ok(()),
                    (_, 4) => self.write_offset(true, false, true, out),
                    (offset, _) => {
                        let sign = if offset < 0 { '-' } else { '+' };
                        write!(out, "{sign}{}", offset.unsigned_abs() / 3600)?;
                        let minutes = offset.unsigned_abs() / 60 % 60;
                        if minutes == 0 { Ok(()) } else { write!(out, ":{minutes:02}") }
                    }
                }
            }
            Field::OffsetRfc if width == 4 => {
                out.write_str("GMT")?;
                if self.offset == 0 { Ok(()) } else { self.write_offset(true, false, true, out) }
            }
            Field::OffsetRfc if width == 5 && self.offset == 0 => out.write_str("Z"),
            Field::OffsetRfc => self.write_offset(width == 5, width == 5, true, out),
            Field::OffsetOrZ if self.offset == 0 => out.write_str("Z"),
            Field::OffsetOrZ | Field::Offset => {
                let minutes = width > 1 || self.offset / 60 % 60 != 0;
                self.write_offset(matches!(width, 3 | 5), width >= 4, minutes, out)
            }
        }
    }

    fn write_offset(&self, colons: bool, with_seconds: bool, with_minutes: bool, out: &mut String) -> std::fmt::Result {
        let sign = if self.offset < 0 { '-' } else { '+' };
        let offset = self.offset.unsigned_abs();
        let colon = if colons { ":" } else { "" };
        write!(out, "{sign}{:02}", offset / 3600)?;
        if with_minutes {
            write!(out, "{colon}{:02}", offset / 60 % 60)?;
        }
        if with_seconds && !offset.is_multiple_of(60) {
            write!(out, "{colon}{:02}", offset % 60)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use chrono::{TimeZone, Utc};
    use proptest::prelude::*;

    use super::*;

    fn write(pattern: &str, instant: &str, zone: &str) -> String {
        let micros = instant.parse::<chrono::DateTime<Utc>>().unwrap().timestamp_micros();
        let mut out = String::new();
        Pattern::compile(pattern).unwrap().write(micros, Zone::read(zone).unwrap(), zone, &mut out);
        out
    }

    #[test]
    fn what_spark_writes() {
        let instant = "2021-12-05T06:07:08.123456Z";
        for (pattern, zone, expected) in [
            ("yyyy-MM-dd'T'HH:mm:ss.SSSZ", "UTC", "2021-12-05T06:07:08.123+0000"),
            ("yyyy-MM-dd HH:mm:ss.SSSSSSSSS", "UTC", "2021-12-05 06:07:08.123456000"),
            ("y-M-d h:m:s a", "UTC", "2021-12-5 6:7:8 AM"),
            ("EEE, dd MMM yy", "UTC", "Sun, 05 Dec 21"),
            ("EEEE d MMMM y", "UTC", "Sunday 5 December 2021"),
            ("DDD 'day of' y, 'Q'Q", "UTC", "339 day of 2021, Q4"),
            ("HH:mmX", "Europe/Paris", "07:07+01"),
            // Three of the letter X are Spark's pattern for an offset with a colon, no mark of something unfinished.
            ("HH:mmXXX", "UTC", "06:07Z"),
            ("HH:mmxxx", "UTC", "06:07+00:00"),
            ("HH:mmxx VV", "Asia/Kolkata", "11:37+0530 Asia/Kolkata"),
            ("HH:mm O", "Asia/Kolkata", "11:37 GMT+5:30"),
            ("HH:mm ZZZZ", "Europe/Paris", "07:07 GMT+01:00"),
            ("HH:mm ZZZZZ", "UTC", "06:07 Z"),
            ("K k[ mm]", "UTC", "6 6 07"),
        ] {
            assert_eq!(write(pattern, instant, zone), expected, "{pattern}");
        }
        assert_eq!(write("h a k", "2021-01-01T00:00:00Z", "UTC"), "12 AM 24");
        assert_eq!(write("h a", "2021-01-01T12:00:00Z", "UTC"), "12 PM");
    }

    proptest! {
        #[test]
        fn what_is_written_can_be_read(micros in -62_135_596_800_000_000i64..253_402_214_400_000_000, form in 0usize..4) {
            // Three of the letter X are Spark's pattern for an offset with a colon, no mark of something unfinished.
            let pattern = ["yyyy-MM-dd'T'HH:mm:ss.SSSSSSZ", "yyyyMMddHHmmss.SSSSSSXXX", "d.M.y h:m:s.SSSSSS a X", "yyyy/DDD k:m:s.SSSSSSxxx"][form];
            let pattern = Pattern::compile(pattern).unwrap();
            for zone in [Zone::UTC, Zone::Fixed(19_800), Zone::Fixed(-3600)] {
                let mut text = String::new();
                pattern.write(micros, zone, "", &mut text);
                prop_assert_eq!(pattern.read(&text, Zone::UTC), Some(micros), "{}", text);
            }
        }

        #[test]
        fn agrees_with_chrono(seconds in -62_135_596_800i64..253_402_300_799) {
            let mut text = String::new();
            Pattern::compile("EEE yyyy-MM-dd HH:mm:ss DDD").unwrap().write(seconds * SECOND, Zone::UTC, "UTC", &mut text);
            let expected = Utc.timestamp_opt(seconds, 0).unwrap().format("%a %Y-%m-%d %H:%M:%S %j").to_string();
            prop_assert_eq!(text, expected);
        }
    }
}
