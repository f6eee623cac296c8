//! Reading texts with a Spark datetime pattern.

use super::{
    calendar::{DAY, SECOND, days_from_civil, is_date, is_leap},
    pattern::{Field, Part, Pattern},
    pattern_write::{MONTHS, SHORT},
    zone::{Zone, read_offset},
};

impl Pattern {
    /// Microseconds since 1970 UTC, or `None` when the text is not of this form. Without a zone in the text the session's clock counts; without
    /// a date it is 1970-01-01, without a time midnight.
    pub(crate) fn read(&self, text: &str, session: Zone) -> Option<i64> {
        let mut found = Found::default();
        let rest = found.parts(&self.parts, text)?;
        if rest.is_empty() { found.instant(session) } else { None }
    }
}

#[derive(Debug, Clone, Default)]
struct Found {
    year: Option<i32>,
    month: Option<u32>,
    day: Option<u32>,
    day_of_year: Option<u32>,
    hour: Option<u32>,
    hour12: Option<u32>,
    afternoon: bool,
    minute: u32,
    second: u32,
    micros: i64,
    zone: Option<Zone>,
}

impl Found {
    fn instant(&self, session: Zone) -> Option<i64> {
        let year = self.year.unwrap_or(1970);
        let days = match self.day_of_year {
            Some(day) => {
                let last = if is_leap(year) { 366 } else { 365 };
                if day == 0 || day > last || self.month.is_some() || self.day.is_some() {
                    return None;
                }
                days_from_civil(year, 1, 1) + i64::from(day) - 1
            }
            None => {
                let (month, day) = (self.month.unwrap_or(1), self.day.unwrap_or(1));
                if !is_date(year, month, day) {
                    return None;
                }
                days_from_civil(year, month, day)
            }
        };
        let hour = match (self.hour, self.hour12) {
            (Some(hour), _) => hour,
            (None, Some(hour)) => hour + if self.afternoon { 12 } else { 0 },
            (None, None) => 0,
        };
        let clock = i64::from(hour * 3600 + self.minute * 60 + self.second) * SECOND + self.micros;
        let local = days.checked_mul(DAY)?.checked_add(clock)?;
        self.zone.unwrap_or(session).to_instant(local)
    }

    /// Reads the parts from the front of a text and returns what is left.
    fn parts<'a>(&mut self, parts: &[Part], mut text: &'a str) -> Option<&'a str> {
        for (i, part) in parts.iter().enumerate() {
            text = match part {
                Part::Text(expected) => strip_prefix_ignoring_case(text, expected)?,
                Part::Optional(inner) => {
                    let mut attempt = self.clone();
                    match attempt.parts(inner, text) {
                        Some(rest) => {
                            *self = attempt;
                            rest
                        }
                        None => text,
                    }
                }
                Part::Field(field, width) => {
                    let digits_follow =
                        matches!(parts.get(i + 1), Some(Part::Field(next, width)) if is_number(*next, *width));
                    self.field(*field, *width, digits_follow, text)?
                }
            };
        }
        Some(text)
    }

    fn field<'a>(&mut self, field: Field, width: usize, digits_follow: bool, text: &'a str) -> Option<&'a str> {
        let number =
            |widest: usize| digits(text, width.min(2), if width == 1 && !digits_follow { widest } else { width });
        let rest;
        match field {
            Field::Year => {
                let (year, after) = match width {
                    2 => digits(text, 2, 2).map(|(year, rest)| (2000 + year, rest))?,
                    _ => {
                        let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
                        let (year, rest) = digits(unsigned, width, if digits_follow { width.max(4) } else { 7 })?;
                        (if text.starts_with('-') { -(year as i32) as u32 } else { year }, rest)
                    }
                };
                self.year = Some(year as i32);
                rest = after;
            }
            Field::Month if width >= 3 => {
                let index = MONTHS.iter().position(|name| {
                    let name = if width == 3 { &name[..SHORT] } else { name };
                    strip_prefix_ignoring_case(text, name).is_some()
                })?;
                let length = if width == 3 { SHORT } else { MONTHS[index].len() };
                self.month = Some(index as u32 + 1);
                rest = text.get(length..)?;
            }
            Field::Month => (self.month, rest) = some(number(2)?, 1, 12)?,
            Field::Day => (self.day, rest) = some(number(2)?, 1, 31)?,
            Field::DayOfYear => (self.day_of_year, rest) = some(digits(text, width, 3)?, 1, 366)?,
            Field::Hour => (self.hour, rest) = some(number(2)?, 0, 23)?,
            Field::HourFrom1 => {
                let (hour, after) = some(number(2)?, 1, 24)?;
                (self.hour, rest) = (hour.map(|hour| hour % 24), after);
            }
            Field::Hour12 => {
                let (hour, after) = some(number(2)?, 1, 12)?;
                (self.hour12, rest) = (hour.map(|hour| hour % 12), after);
            }
            Field::Hour12From0 => (self.hour12, rest) = some(number(2)?, 0, 11)?,
            Field::Minute => {
                let (minute, after) = number(2).filter(|(minute, _)| *minute < 60)?;
                (self.minute, rest) = (minute, after);
            }
            Field::Second => {
                let (second, after) = number(2).filter(|(second, _)| *second < 60)?;
                (self.second, rest) = (second, after);
            }
            Field::Fraction => {
                let length = text.bytes().take(width).take_while(u8::is_ascii_digit).count();
                if length == 0 {
                    return None;
                }
                let (digits, after) = text.split_at(length);
                self.micros =
                    digits.bytes().chain(std::iter::repeat(b'0')).take(6).fold(0, |n, b| n * 10 + i64::from(b - b'0'));
                rest = after;
            }
            Field::HalfOfDay => {
                self.afternoon = strip_prefix_ignoring_case(text, "PM").is_some();
                rest = strip_prefix_ignoring_case(text, "AM").or_else(|| strip_prefix_ignoring_case(text, "PM"))?;
            }
            Field::OffsetOrZ | Field::Offset | Field::OffsetRfc => {
                let (zone, after) = offset(field, width, text)?;
                (self.zone, rest) = (Some(zone), after);
            }
            Field::OffsetGmt => {
                let after = text.strip_prefix("GMT")?;
                let length = after.find(|c: char| !matches!(c, '+' | '-' | ':' | '0'..='9')).unwrap_or(after.len());
                let (written, after) = after.split_at(length);
                let seconds = if written.is_empty() { 0 } else { read_offset(written.as_bytes())? };
                (self.zone, rest) = (Some(Zone::Fixed(seconds)), after);
            }
            Field::ZoneName => {
                let length = text
                    .find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '/' | '_' | '+' | '-' | ':')))
                    .unwrap_or(text.len());
                let (name, after) = text.split_at(length);
                (self.zone, rest) = (Some(Zone::read(name)?), after);
            }
            Field::Weekday | Field::Quarter => return None,
        }
        Some(rest)
    }
}

fn some((value, rest): (u32, &str), least: u32, most: u32) -> Option<(Option<u32>, &str)> {
    (least..=most).contains(&value).then_some((Some(value), rest))
}

fn is_number(field: Field, width: usize) -> bool {
    use Field::{Day, DayOfYear, Fraction, Hour, Hour12, Hour12From0, HourFrom1, Minute, Month, Second, Year};
    match field {
        Month => width < 3,
        Year | Day | DayOfYear | Hour | HourFrom1 | Hour12 | Hour12From0 | Minute | Second | Fraction => true,
        _ => false,
    }
}

/// A number of `least` to `most` digits.
fn digits(text: &str, least: usize, most: usize) -> Option<(u32, &str)> {
    let length = text.bytes().take(most).take_while(u8::is_ascii_digit).count();
    if length < least.max(1) {
        return None;
    }
    let (number, rest) = text.split_at(length);
    Some((number.parse().ok()?, rest))
}

fn strip_prefix_ignoring_case<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let head = text.get(..prefix.len())?;
    if head.eq_ignore_ascii_case(prefix) { text.get(prefix.len()..) } else { None }
}

/// An offset in exactly the form that the letter and its width ask for.
fn offset(field: Field, width: usize, text: &str) -> Option<(Zone, &str)> {
    let with_z = field == Field::OffsetOrZ || (field == Field::OffsetRfc && width == 5);
    if with_z && let Some(rest) = text.strip_prefix(['Z', 'z']) {
        return Some((Zone::UTC, rest));
    }
    if field == Field::OffsetRfc && width == 4 {
        let rest = text.strip_prefix("GMT")?;
        return if rest.starts_with(['+', '-']) { offset(Field::Offset, 3, rest) } else { Some((Zone::UTC, rest)) };
    }
    // Lengths with the sign: +hh, +hhmm, +hh:mm, +hhmmss, +hh:mm:ss.
    let lengths: &[usize] = match (field, width) {
        (Field::OffsetRfc, 1..=3) | (_, 2) => &[5],
        (_, 1) => &[5, 3],
        (_, 3) => &[6],
        (_, 4) => &[7, 5],
        _ => &[9, 6],
    };
    let colons = match field {
        Field::OffsetRfc => width == 5,
        _ => matches!(width, 3 | 5),
    };
    lengths.iter().find_map(|length| {
        let (written, rest) = text.split_at_checked(*length)?;
        if *length > 3 && written.contains(':') != colons {
            return None;
        }
        Some((Zone::Fixed(read_offset(written.as_bytes())?), rest))
    })
}

#[cfg(test)]
mod tests {
    use chrono::{SecondsFormat, TimeZone, Utc};
    use proptest::prelude::*;

    use super::*;

    fn read(pattern: &str, text: &str) -> Option<String> {
        let micros = Pattern::compile(pattern).unwrap().read(text, Zone::UTC)?;
        Some(Utc.timestamp_micros(micros).unwrap().to_rfc3339_opts(SecondsFormat::AutoSi, true))
    }

    #[test]
    fn what_spark_reads() {
        for (pattern, text, expected) in [
            ("yyyy-MM-dd'T'HH:mm:ss.SSSZ", "2021-12-25T07:00:00.000+0100", "2021-12-25T06:00:00Z"),
            // Three of the letter X are Spark's pattern for an offset with a colon, no mark of something unfinished.
            ("yyyy-MM-dd'T'HH:mm:ss.SSSXXX", "2021-12-25T07:00:00.5+01:00", "2021-12-25T06:00:00.500Z"),
            ("yyyy-MM-dd'T'HH:mm:ssX", "2021-12-25T07:00:00Z", "2021-12-25T07:00:00Z"),
            ("yyyy-MM-dd'T'HH:mm:ssX", "2021-12-25T07:00:00+01", "2021-12-25T06:00:00Z"),
            ("yyyyMMddHHmmss", "20211225070000", "2021-12-25T07:00:00Z"),
            ("yyyyMMdd", "20211225", "2021-12-25T00:00:00Z"),
            ("dd/MM/yyyy", "25/12/2021", "2021-12-25T00:00:00Z"),
            ("d/M/yy", "5/2/21", "2021-02-05T00:00:00Z"),
            ("MM/dd/yyyy hh:mm a", "12/25/2021 12:30 am", "2021-12-25T00:30:00Z"),
            ("MM/dd/yyyy h:mm a", "12/25/2021 7:30 PM", "2021-12-25T19:30:00Z"),
            ("dd MMM yyyy", "25 dec 2021", "2021-12-25T00:00:00Z"),
            ("d MMMM yyyy", "5 December 2021", "2021-12-05T00:00:00Z"),
            ("yyyy-DDD", "2020-366", "2020-12-31T00:00:00Z"),
            ("yyyy-MM-dd[ HH:mm[:ss]]", "2021-12-25", "2021-12-25T00:00:00Z"),
            ("yyyy-MM-dd[ HH:mm[:ss]]", "2021-12-25 07:05", "2021-12-25T07:05:00Z"),
            ("yyyy-MM-dd[ HH:mm[:ss]]", "2021-12-25 07:05:06", "2021-12-25T07:05:06Z"),
            ("yyyy-MM-dd HH:mm VV", "2021-12-25 07:00 Europe/Paris", "2021-12-25T06:00:00Z"),
            ("yyyy-MM-dd HH:mm O", "2021-12-25 07:00 GMT+1", "2021-12-25T06:00:00Z"),
            ("yyyy-MM-dd HH:mm:ss.SSSSSSSSS", "2021-12-25 07:00:00.123456789", "2021-12-25T07:00:00.123456Z"),
            ("yyyy", "2021", "2021-01-01T00:00:00Z"),
            ("HH:mm", "07:30", "1970-01-01T07:30:00Z"),
        ] {
            assert_eq!(read(pattern, text).as_deref(), Some(expected), "{text} as {pattern}");
        }
    }

    #[test]
    fn what_is_not_of_the_form_is_null() {
        for (pattern, text) in [
            ("yyyy-MM-dd", "2021-12-25 07:00"),
            ("yyyy-MM-dd", "2021-1-5"),
            ("yyyy-MM-dd", "2021-02-30"),
            ("yyyy-MM-dd HH:mm", "2021-12-25 24:00"),
            ("yyyy-MM-dd'T'HH:mm:ssZ", "2021-12-25T07:00:00+01:00"),
            // Three of the letter X are Spark's pattern for an offset with a colon, no mark of something unfinished.
            ("yyyy-MM-dd'T'HH:mm:ssXXX", "2021-12-25T07:00:00+0100"),
            ("hh:mm a", "13:00 PM"),
            ("yyyy-DDD", "2021-366"),
            ("d MMM yyyy", "5 foo 2021"),
            ("yyyy", ""),
            ("yyyyMMdd", "2021122"),
            ("dd", "ää"),
        ] {
            assert_eq!(read(pattern, text), None, "{text} as {pattern}");
        }
    }

    proptest! {
        #[test]
        fn reads_what_chrono_writes(seconds in -62_135_596_800i64..253_402_300_799, form in 0usize..6) {
            let (spark, chrono) = [
                ("yyyy-MM-dd HH:mm:ss", "%Y-%m-%d %H:%M:%S"),
                ("yyyyMMddHHmmss", "%Y%m%d%H%M%S"),
                ("d/M/yyyy H:m:s", "%-d/%-m/%Y %-H:%-M:%-S"),
                ("MMM dd yyyy hh:mm:ss a", "%b %d %Y %I:%M:%S %p"),
                ("MMMM d, yyyy h:mm:ss a", "%B %-d, %Y %-I:%M:%S %P"),
                ("yyyy DDD kk'h'mm'm'ss", "%Y %j %Hh%Mm%S"),
            ][form];
            let moment = Utc.timestamp_opt(seconds, 0).unwrap();
            let text = moment.format(chrono).to_string().replace(" 00h", " 24h");
            prop_assert_eq!(Pattern::compile(spark).unwrap().read(&text, Zone::UTC), Some(moment.timestamp_micros()), "{}", text);
        }

        #[test]
        fn nothing_panics(pattern in "[yMdDhHkKmsSaZXxVO'\\[\\]: -]{0,12}", text in "[0-9+:A-Za-zäß -]{0,30}") {
            if let Ok(pattern) = Pattern::compile(&pattern) {
                let _ = pattern.read(&text, Zone::UTC);
            }
        }
    }
}
