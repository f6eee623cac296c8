//! The proleptic Gregorian calendar in plain integers.
//!
//! Days and microseconds count from 1970-01-01. The two conversions are Howard Hinnant's `days_from_civil` and `civil_from_days`
//! (<https://howardhinnant.github.io/date_algorithms.html>).

/// Microseconds in a second.
pub(crate) const SECOND: i64 = 1_000_000;
/// Microseconds in a day.
pub(crate) const DAY: i64 = 86_400 * SECOND;

/// Days since 1970-01-01; the month is 1 to 12, the day 1 to 31, the year has seven digits at most.
#[inline]
pub(crate) fn days_from_civil(year: i32, month: u32, day: u32) -> i64 {
    // Years begin in March and are counted from one that is a multiple of 400, so that none is negative.
    const YEARS_BEFORE: i32 = 12_000_000;
    const DAYS_BEFORE: i64 = YEARS_BEFORE as i64 / 400 * 146_097;
    let year = (year + YEARS_BEFORE - i32::from(month <= 2)).unsigned_abs();
    let century = year / 100;
    let day_of_year = (153 * if month > 2 { month - 3 } else { month + 9 } + 2) / 5 + day - 1;
    i64::from(year) * 365 + i64::from(year / 4 - century + century / 4 + day_of_year) - DAYS_BEFORE - 719_468
}

/// Year, month and day of a day count.
pub(crate) fn civil_from_days(days: i64) -> (i32, u32, u32) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year as i32, month as u32, day as u32)
}

/// Whether there is such a day.
#[inline]
pub(crate) fn is_date(year: i32, month: u32, day: u32) -> bool {
    (1..=12).contains(&month) && day >= 1 && (day <= 28 || day <= days_in_month(year, month))
}

/// Days in a month, 1 to 12.
pub(crate) fn days_in_month(year: i32, month: u32) -> u32 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Whether a year has 366 days.
pub(crate) fn is_leap(year: i32) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

#[cfg(test)]
mod tests {
    use chrono::{Datelike, NaiveDate};
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// The oracle counts days month by month from the start of an era of 400 years, all of which have as many.
        #[test]
        fn far_years_are_counted_too(year in -9_999_999..=9_999_999i32, month in 1..=12u32, day in 1..=28u32) {
            let in_era = NaiveDate::from_ymd_opt(2000 + year.rem_euclid(400), month, day).unwrap();
            let epoch = NaiveDate::from_ymd_opt(1970, 1, 1).unwrap();
            let eras = i64::from(year.div_euclid(400)) - 5;
            prop_assert_eq!(days_from_civil(year, month, day), (in_era - epoch).num_days() + eras * 146_097);
        }

        #[test]
        fn agrees_with_chrono(days in -3_000_000i64..3_000_000) {
            let epoch = NaiveDate::from_ymd_opt(1970, 1, 1).unwrap();
            let date = epoch + chrono::Duration::days(days);
            prop_assert_eq!(civil_from_days(days), (date.year(), date.month(), date.day()));
            prop_assert_eq!(days_from_civil(date.year(), date.month(), date.day()), days);
            prop_assert_eq!(is_leap(date.year()), date.leap_year());
        }

        #[test]
        fn knows_which_dates_there_are(year in -9999i32..9999, month in 0u32..14, day in 0u32..33) {
            prop_assert_eq!(is_date(year, month, day), NaiveDate::from_ymd_opt(year, month, day).is_some());
        }
    }
}
