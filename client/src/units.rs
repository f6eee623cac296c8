//! Numbers, sizes, durations and moments as people read them.

use bytesize::ByteSize;
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};

/// `1,234,567`
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1.2 MB`, in powers of 1,000.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    // What would be rounded to 1000.0 belongs to the next unit.
    while value >= if unit == 0 { 1000.0 } else { 999.95 } && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

/// Bytes: `2GB` is 2,000,000,000, `512MiB` is 536,870,912, a bare number is bytes.
pub fn parse_size(text: &str) -> Result<u64, String> {
    match text.parse::<ByteSize>() {
        Ok(ByteSize(bytes)) if bytes > 0 => Ok(bytes),
        _ => Err("not a size above zero, such as 512MiB or 2GB".to_string()),
    }
}

/// `850 ms`, `3.2 s`, `4 min 05 s`, `2 h 03 min`; nothing that is negative: clocks of two machines may differ.
pub fn duration(duration: TimeDelta) -> String {
    let ms = duration.num_milliseconds().max(0);
    let seconds = ms / 1000;
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..60_000 => format!("{seconds}.{} s", ms % 1000 / 100),
        60_000..3_600_000 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        _ => format!("{} h {:02} min", seconds / 3600, seconds / 60 % 60),
    }
}

/// `2026-11-22 20:15:33 UTC`
pub fn moment(moment: DateTime<Utc>) -> String {
    moment.format("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// `2026-11-22T20:15:33.123Z`
pub fn rfc3339(moment: DateTime<Utc>) -> String {
    moment.to_rfc3339_opts(SecondsFormat::AutoSi, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read() {
        let sizes =
            ["1", "512MiB", "2GB", "1.5GB", "3 kb", "18446744073709551615"].map(|text| parse_size(text).unwrap());
        assert_eq!(sizes, [1, 512 << 20, 2_000_000_000, 1_500_000_000, 3_000, u64::MAX]);
        for wrong in ["", "0", "0MiB", "-1", "MiB", "1XB", "1,5GB"] {
            assert!(parse_size(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn numbers_read_well() {
        assert_eq!([0, 999, 1000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(count(u64::MAX), "18,446,744,073,709,551,615");
        assert_eq!(
            [0, 999, 1000, 999_949, 999_950, 8_123_456_789].map(size),
            ["0 B", "999 B", "1.0 kB", "999.9 kB", "1.0 MB", "8.1 GB"]
        );
        assert_eq!(size(u64::MAX), "18.4 EB");
        assert_eq!(
            [-5, 0, 999, 1_000, 59_999, 60_000, 3_599_999, 3_600_000, 90_000_000]
                .map(|ms| duration(TimeDelta::milliseconds(ms))),
            ["0 ms", "0 ms", "999 ms", "1.0 s", "59.9 s", "1 min 00 s", "59 min 59 s", "1 h 00 min", "25 h 00 min"]
        );
    }
}
