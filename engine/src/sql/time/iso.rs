//! Texts to timestamps and dates, as Spark's `CAST` reads them. This is on the hot path of every load, so it works on bytes.

use super::{
    calendar::{DAY, SECOND, days_from_civil, is_date},
    zone::{MOST_OFFSET, Zone, read_offset},
};

/// Microseconds since 1970 UTC of `2021-12-25T07:00:00.000+0100`, `2021-12-25 07:00`, `2021-12-25`, `2021`; `None` when it is none.
///
/// Year (four to six digits, with an optional sign), then optionally month, day, `T` or a space, hour, minute, second, a fraction of any length
/// (what is finer than a microsecond is cut off) and a zone (`Z`, `+01:00`, `+0100`, `UTC`, `Europe/Paris`); without one it is on the
/// session's clock. Months to seconds may have one digit. Space around it is ignored.
/// See Spark's `SparkDateTimeUtils.stringToTimestamp`.
pub(crate) fn read_timestamp(text: &[u8], session: Zone) -> Option<i64> {
    let text = text.trim_ascii();
    let (local, zone) = match whole_seconds(text) {
        Some((seconds, rest)) => {
            let (micros, zone) = match millis_and_offset(rest) {
                Some((micros, offset)) => (micros, Zone::Fixed(offset)),
                None => {
                    let mut reader = Reader { rest };
                    let micros = if reader.accept(b'.') { reader.fraction() } else { 0 };
                    (micros, reader.zone(session)?)
                }
            };
            (seconds * SECOND + micros, zone)
        }
        None => {
            let mut reader = Reader { rest: text };
            let (days, has_day) = reader.date(6)?;
            let (clock, zone) = match reader.next() {
                None => (0, session),
                Some(b'T' | b' ') if has_day => reader.clock_and_zone(session)?,
                Some(_) => return None,
            };
            (days.checked_mul(DAY)?.checked_add(clock)?, zone)
        }
    };
    match zone {
        Zone::Fixed(0) => Some(local),
        zone => zone.to_instant(local),
    }
}

/// The form that nearly all have, `2021-12-25T07:00:00`: seconds since 1970 on its clock, and what follows. `None` for any other, and where there is no
/// such moment.
#[inline]
fn whole_seconds(text: &[u8]) -> Option<(i64, &[u8])> {
    let (text, rest) = text.split_first_chunk::<19>()?;
    let date = pairs(*text.first_chunk()?, *b"0000-00-")?;
    let (tens, ones) = (text[8].wrapping_sub(b'0'), text[9].wrapping_sub(b'0'));
    let [hour, _, _, minute, _, _, second, _] = pairs(*text.last_chunk()?, *b"00:00:00")?;
    let is_form = tens <= 9 && ones <= 9 && matches!(text[10], b'T' | b' ');
    if !is_form || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let year = i32::from(date[0]) * 100 + i32::from(date[2]);
    let (month, day) = (u32::from(date[5]), u32::from(tens) * 10 + u32::from(ones));
    let clock = i64::from(hour) * 3600 + i64::from(minute) * 60 + i64::from(second);
    is_date(year, month, day).then(|| (days_from_civil(year, month, day) * (DAY / SECOND) + clock, rest))
}

/// What follows in the form that many have, `.000+0100`: microseconds, and seconds east of Greenwich. `None` for any other.
#[inline]
fn millis_and_offset(text: &[u8]) -> Option<(i64, i32)> {
    let text: &[u8; 9] = text.try_into().ok()?;
    let mut digits: [u8; 8] = *text.last_chunk()?;
    let sign = match std::mem::replace(&mut digits[3], b'+') {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let [tens, _, _, _, hours, _, minutes, _] = pairs(digits, *b"000+0000")?;
    let offset = i32::from(hours) * 3600 + i32::from(minutes) * 60;
    let millis = i64::from(tens) * 10 + i64::from(digits[2] - b'0');
    (text[0] == b'.' && minutes < 60 && offset <= MOST_OFFSET).then_some((millis * 1000, sign * offset))
}

/// Of eight bytes that have this form, in which a `0` stands for any digit: in the place of each digit that another one follows, the number of the two.
#[inline]
fn pairs(text: [u8; 8], form: [u8; 8]) -> Option<[u8; 8]> {
    const HIGH: u64 = u64::from_ne_bytes([0x80; 8]);
    let digits = u64::from_le_bytes(text) ^ u64::from_le_bytes(form);
    // Makes bytes reach 0x80 that are more than 9, or more than 0 where there must be no digit.
    let to_high = u64::from_le_bytes(form.map(|byte| if byte == b'0' { 0x80 - 10 } else { 0x80 - 1 }));
    let is_form = (digits.wrapping_add(to_high) | digits) & HIGH == 0;
    is_form.then(|| (digits * 10 + (digits >> 8)).to_le_bytes())
}

/// Days since 1970-01-01 of `2021-12-25`, `2021-12`, `2021`, and of anything that has a `T` or a space after the day.
/// See Spark's `SparkDateTimeUtils.stringToDate`.
pub(crate) fn read_date(text: &[u8]) -> Option<i32> {
    let mut reader = Reader { rest: text.trim_ascii() };
    let (days, has_day) = reader.date(7)?;
    match reader.next() {
        None => {}
        Some(b'T' | b' ') if has_day => {}
        Some(_) => return None,
    }
    i32::try_from(days).ok()
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl Reader<'_> {
    fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    fn accept(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        if found {
            self.rest = &self.rest[1..];
        }
        found
    }

    /// One or two digits.
    fn small(&mut self) -> Option<u32> {
        let first = self.digit()?;
        Some(match self.digit() {
            Some(second) => first * 10 + second,
            None => first,
        })
    }

    fn digit(&mut self) -> Option<u32> {
        let byte = self.peek().filter(u8::is_ascii_digit)?;
        self.rest = &self.rest[1..];
        Some(u32::from(byte - b'0'))
    }

    /// Days since 1970-01-01, and whether a day was written.
    fn date(&mut self, year_digits: u32) -> Option<(i64, bool)> {
        let negative = self.accept(b'-');
        if !negative {
            self.accept(b'+');
        }
        let (mut year, mut digits) = (0i32, 0);
        while let Some(digit) = self.digit() {
            digits += 1;
            if digits > year_digits {
                return None;
            }
            year = year * 10 + digit as i32;
        }
        if digits < 4 {
            return None;
        }
        let year = if negative { -year } else { year };
        let (mut month, mut day, mut has_day) = (1, 1, false);
        if self.accept(b'-') {
            month = self.small()?;
            if self.accept(b'-') {
                day = self.small()?;
                has_day = true;
            }
        }
        is_date(year, month, day).then(|| (days_from_civil(year, month, day), has_day))
    }

    /// What follows the `T`: microseconds since midnight, and the zone.
    fn clock_and_zone(&mut self, session: Zone) -> Option<(i64, Zone)> {
        let hour = self.small()?;
        let (mut minute, mut second, mut micros) = (0, 0, 0);
        if self.accept(b':') {
            minute = self.small()?;
            if self.accept(b':') {
                second = self.small()?;
                if self.accept(b'.') {
                    micros = self.fraction();
                }
            }
        }
        if hour > 23 || minute > 59 || second > 59 {
            return None;
        }
        let clock = i64::from(hour * 3600 + minute * 60 + second) * SECOND + micros;
        Some((clock, self.zone(session)?))
    }

    /// What follows the clock.
    fn zone(&self, session: Zone) -> Option<Zone> {
        Some(match self.rest {
            [] => session,
            [b'Z'] => Zone::UTC,
            text @ [b'+' | b'-', ..] => Zone::Fixed(read_offset(text)?),
            text => Zone::read(std::str::from_utf8(text).ok()?.trim_start())?,
        })
    }

    /// Digits after the point, in microseconds.
    fn fraction(&mut self) -> i64 {
        let (mut micros, mut unit) = (0, 100_000);
        while let Some(digit) = self.digit() {
            micros += i64::from(digit) * unit;
            unit /= 10;
        }
        micros
    }
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, FixedOffset, NaiveDate, NaiveDateTime, SecondsFormat, TimeZone, Utc};
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Option<String> {
        read_timestamp(text.as_bytes(), Zone::UTC).map(|micros| {
            DateTime::<Utc>::from_timestamp_micros(micros).unwrap().to_rfc3339_opts(SecondsFormat::AutoSi, true)
        })
    }

    #[test]
    fn what_spark_reads() {
        for (text, expected) in [
            ("2021-12-25T07:00:00.000+0100", "2021-12-25T06:00:00Z"),
            ("2021-12-25T07:00:00+01:00", "2021-12-25T06:00:00Z"),
            ("2021-12-25 07:00:00", "2021-12-25T07:00:00Z"),
            ("2021-12-25 7:0:5", "2021-12-25T07:00:05Z"),
            ("2021-12-25T07:00Z", "2021-12-25T07:00:00Z"),
            ("2021-12-25T07", "2021-12-25T07:00:00Z"),
            (" 2021-12-25 ", "2021-12-25T00:00:00Z"),
            ("2021-12", "2021-12-01T00:00:00Z"),
            ("2021", "2021-01-01T00:00:00Z"),
            ("+2021-1-5", "2021-01-05T00:00:00Z"),
            ("2021-12-25 07:00:00.123456789", "2021-12-25T07:00:00.123456Z"),
            ("2021-12-25 07:00:00.1", "2021-12-25T07:00:00.100Z"),
            ("2021-12-25 07:00:00.", "2021-12-25T07:00:00Z"),
            ("2021-12-25 07:00:00 Europe/Paris", "2021-12-25T06:00:00Z"),
            ("2021-12-25 07:00:00UTC", "2021-12-25T07:00:00Z"),
            ("2021-12-25 07:00:00 UTC+3", "2021-12-25T04:00:00Z"),
            ("0000-01-01", "0000-01-01T00:00:00Z"),
            ("-0001-01-01", "-0001-01-01T00:00:00Z"),
            ("1956-05-07T00:00:00.000+0000", "1956-05-07T00:00:00Z"),
        ] {
            assert_eq!(read(text).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_timestamp_is_null() {
        for text in [
            "",
            " ",
            "yesterday",
            "21-12-25",
            "2021-13-01",
            "2021-02-29",
            "2021-00-10",
            "2021-1-0",
            "2021-12-25T24:00:00",
            "2021-12-25T07:60",
            "2021-12-25T07:00:60",
            "2021-12-25x",
            "2021-12-25T",
            "2021-12-25T07:00:00+25:00",
            "2021-12-25T07:00:00 Mars",
            "2021-12-251",
            "20211225T070000Z",
            "2021/12/25",
            "2021-12-25T07:00:00+0100x",
            "9999999-01-01",
            "2021-12-25T07:00:00,5",
            "2021-12T07:00",
            "２０２１-01-01",
            "-",
            "+",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn dates_may_be_followed_by_anything() {
        let days = |text: &str| read_date(text.as_bytes());
        let expected =
            NaiveDate::from_ymd_opt(2021, 12, 25).unwrap().signed_duration_since(NaiveDate::default()).num_days();
        for text in ["2021-12-25", "2021-12-25T07:00:00+0100", "2021-12-25 what?", " 2021-12-25\n"] {
            assert_eq!(days(text).map(i64::from), Some(expected), "{text}");
        }
        for text in [
            "2021-12-25x",
            "2021-12T",
            "2021-02-30",
            "",
            "x",
            "99999999-01-01",
            "9000000-01-01",
            "-8001970-06-01",
            "12/25/2021",
        ] {
            assert_eq!(days(text), None, "{text}");
        }
    }

    #[test]
    fn the_session_clock_counts_where_no_zone_is_written() {
        let paris = Zone::read("Europe/Paris").unwrap();
        let read = |text: &str| read_timestamp(text.as_bytes(), paris);
        assert_eq!(read("2021-12-25 07:00:00"), read("2021-12-25 06:00:00Z"));
        assert_eq!(read("2021-07-01"), read("2021-06-30T22:00Z"));
    }

    proptest! {
        /// The oracle is chrono: it writes any instant in any offset, in the forms that JSON and CSV exports have.
        #[test]
        fn reads_what_chrono_writes(micros in -62_135_596_800_000_000i64..253_402_300_799_999_999, offset in -1080i32..=1080, form in 0usize..8) {
            let zone = FixedOffset::east_opt(offset * 60).unwrap();
            let moment = Utc.timestamp_micros(micros).unwrap().with_timezone(&zone);
            let format = ["%Y-%m-%dT%H:%M:%S%.f%z", "%Y-%m-%dT%H:%M:%S%.6f%:z", "%Y-%m-%d %H:%M:%S%.9f%z", "%Y-%m-%dT%H:%M:%S%.f%::z",
                "%FT%T%.6f %:z", "  %FT%T%.6f%:z", "%FT%T%.9f%z\t", "%F %T%.6fGMT%:z"][form];
            let text = moment.format(format).to_string();
            prop_assert_eq!(read_timestamp(text.as_bytes(), Zone::UTC), Some(micros), "{}", text);
        }

        /// Whatever is read as a timestamp without a zone, chrono reads as the same one.
        #[test]
        fn digits_make_the_timestamp_that_chrono_makes(year in 0u32..12000, month in 0u32..15, day in 0u32..34, hour in 0u32..26, minute in 0u32..62, second in 0u32..62) {
            let text = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}");
            let expected = NaiveDate::from_ymd_opt(year as i32, month, day)
                .and_then(|date| date.and_hms_opt(hour, minute, second))
                .map(|moment: NaiveDateTime| moment.and_utc().timestamp_micros());
            prop_assert_eq!(read_timestamp(text.as_bytes(), Zone::UTC), expected, "{}", text);
        }

        #[test]
        fn nothing_panics(text in "[-+0-9T:. Z]{0,40}|.{0,20}") {
            let _ = read_timestamp(text.as_bytes(), Zone::Region("Asia/Kolkata".parse().unwrap()));
            let _ = read_date(text.as_bytes());
        }
    }
}
