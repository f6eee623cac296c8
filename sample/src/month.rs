//! The month that all sessions and reviews fall in, December 2021 at +01:00, counted in milliseconds.

/// Milliseconds of a second.
pub const SECOND: u64 = 1_000;
/// Milliseconds of a minute.
pub const MINUTE: u64 = 60 * SECOND;
/// Milliseconds of an hour.
pub const HOUR: u64 = 60 * MINUTE;
/// Milliseconds of a day.
pub const DAY: u64 = 24 * HOUR;
/// Milliseconds of the month, 31 days.
pub const LENGTH: u64 = 31 * DAY;

/// 1 December 2021 in days since 1970-01-01.
const FIRST_DAY: u64 = 18_962;

/// Milliseconds from the month's start to a day of the month (1 to 31) and a local time.
pub const fn at(day: u64, hour: u64, minute: u64, millisecond: u64) -> u64 {
    (day - 1) * DAY + hour * HOUR + minute * MINUTE + millisecond
}

/// Writes the instant `millisecond` ms after the month's start, such as `2021-12-25T07:00:00.000+0100`.
pub fn write_instant(out: &mut Vec<u8>, millisecond: u64) {
    write_date(out, FIRST_DAY + millisecond / DAY);
    let rest = millisecond % DAY;
    let mut time = *b"T00:00:00.000+0100";
    put(&mut time[1..3], rest / HOUR);
    put(&mut time[4..6], rest / MINUTE % 60);
    put(&mut time[7..9], rest / SECOND % 60);
    put(&mut time[10..13], rest % SECOND);
    out.extend_from_slice(&time);
}

/// Writes midnight UTC of a day since 1970-01-01, such as `1956-05-07T00:00:00.000+0000`.
pub fn write_midnight(out: &mut Vec<u8>, day: u64) {
    write_date(out, day);
    out.extend_from_slice(b"T00:00:00.000+0000");
}

/// Writes a day since 1970-01-01 as `2021-12-25`. The arithmetic is Howard Hinnant's `civil_from_days`
/// (<https://howardhinnant.github.io/date_algorithms.html>), for days that are not before 1970.
fn write_date(out: &mut Vec<u8>, day: u64) {
    let shifted = day + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let mut date = *b"0000-00-00";
    put(&mut date[0..4], era * 400 + year_of_era + u64::from(month <= 2));
    put(&mut date[5..7], month);
    put(&mut date[8..10], day_of_year - (153 * shifted_month + 2) / 5 + 1);
    out.extend_from_slice(&date);
}

fn put(digits: &mut [u8], mut number: u64) {
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(write: impl Fn(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn instants_carry_milliseconds_and_offset() {
        let instant = |millisecond| text(|out| write_instant(out, millisecond));
        assert_eq!(instant(0), "2021-12-01T00:00:00.000+0100");
        assert_eq!(instant(at(25, 7, 5, 1_042)), "2021-12-25T07:05:01.042+0100");
        assert_eq!(instant(LENGTH - 1), "2021-12-31T23:59:59.999+0100");
        assert_eq!(instant(LENGTH), "2022-01-01T00:00:00.000+0100");
    }

    #[test]
    fn dates_know_leap_years() {
        let midnight = |day| text(|out| write_midnight(out, day));
        assert_eq!(midnight(0), "1970-01-01T00:00:00.000+0000");
        assert_eq!(midnight(11_016), "2000-02-29T00:00:00.000+0000");
        assert_eq!(midnight(11_017), "2000-03-01T00:00:00.000+0000");
        assert_eq!(midnight(29_220), "2050-01-01T00:00:00.000+0000");
    }
}
