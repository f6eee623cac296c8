//! Sizes on the command line: `500KB`, `1GB`, `1.5GB`, `64MiB` or plain bytes.

/// Reads a size in bytes. `KB`, `MB`, `GB`, `TB` count in thousands, `KiB`, `MiB`, `GiB`, `TiB` in 1,024s; the case of the
/// letters does not matter, and the number may have decimals.
pub fn parse(text: &str) -> Result<u64, String> {
    let refuse = || format!("{text:?} is not a size: expected a number and a unit, such as 500KB, 1GB or 64MiB");
    let text = text.trim();
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let unit: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        "tib" => 1 << 40,
        _ => return Err(refuse()),
    };
    let (whole, decimals) = number.split_once('.').unwrap_or((number, ""));
    let digits = format!("{whole}{decimals}");
    let scaled: u128 = digits.parse().map_err(|_| refuse())?;
    let divisor =
        u32::try_from(decimals.len()).ok().and_then(|places| 10_u128.checked_pow(places)).ok_or_else(refuse)?;
    scaled.checked_mul(u128::from(unit)).and_then(|product| u64::try_from(product / divisor).ok()).ok_or_else(refuse)
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn units_are_decimal_or_binary() {
        assert_eq!(parse("1GB"), Ok(1_000_000_000));
        assert_eq!(parse("1.5gb"), Ok(1_500_000_000));
        assert_eq!(parse("64 MiB"), Ok(64 << 20));
        assert_eq!(parse("123456"), Ok(123_456));
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for text in ["", "GB", "-1GB", "1XB", "1.2.3MB", "99999999999999TB", "1e9"] {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }
}
