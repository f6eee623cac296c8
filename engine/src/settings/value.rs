//! Value parsers for settings, in the form that clap wants.

use std::time::Duration;

use bytesize::ByteSize;

/// Bytes: `2GB` is 2,000,000,000, `512MiB` is 536,870,912, a bare number is bytes.
pub fn parse_size(text: &str) -> Result<u64, String> {
    match text.parse::<ByteSize>() {
        Ok(ByteSize(0)) => Err("a size above zero is needed".to_string()),
        Ok(size) => Ok(size.0),
        Err(_) => Err("not a size, such as 512MiB or 2GB".to_string()),
    }
}

/// A share: 0 or more, below 1.
pub fn parse_share(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(share) if (0.0..1.0).contains(&share) => Ok(share),
        _ => Err("not a share, such as 0.001, or 0".to_string()),
    }
}

/// A duration above zero: `500ms`, `30s`, `5m`, `6h`, `30days`, `1h 30m`.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(Duration::ZERO) => Err("a duration above zero is needed".to_string()),
        Ok(duration) => Ok(duration),
        Err(_) => Err("not a duration, such as 30s, 5m or 6h".to_string()),
    }
}

/// A time zone that Arrow knows: `UTC`, `+01:00`, `Europe/Vienna`.
pub fn parse_time_zone(text: &str) -> Result<String, String> {
    match text.parse::<arrow::array::timezone::Tz>() {
        Ok(_) => Ok(text.to_string()),
        Err(_) => Err("not a time zone, such as UTC, +01:00 or Europe/Vienna".to_string()),
    }
}
