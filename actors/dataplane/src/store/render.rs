//! Values as text, identical for both stores.

use std::fmt::Write as _;

use chrono::{DateTime, Days, NaiveDate, SecondsFormat, Utc};

/// Renders milliseconds since the epoch as RFC 3339, or as a number beyond the year 262,000.
pub(super) fn timestamp(millis: i64) -> String {
    match DateTime::<Utc>::from_timestamp_millis(millis) {
        Some(time) => time.to_rfc3339_opts(SecondsFormat::Millis, true),
        None => millis.to_string(),
    }
}

/// Renders days since the epoch as `YYYY-MM-DD`, or as a number out of the range of a date.
pub(super) fn date(days: i64) -> String {
    let epoch = NaiveDate::default();
    let distance = Days::new(days.unsigned_abs());
    let date = if days < 0 { epoch.checked_sub_days(distance) } else { epoch.checked_add_days(distance) };
    date.map_or_else(|| days.to_string(), |date| date.to_string())
}

/// Renders bytes as a CQL blob literal.
pub(super) fn blob(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 + bytes.len() * 2);
    text.push_str("0x");
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// Renders a decimal from its unscaled bytes, big-endian in two's complement. Returns `None` for
/// more than 16 bytes.
pub(super) fn decimal(bytes: &[u8], scale: i32) -> Option<String> {
    let fill = if bytes.first().is_some_and(|byte| *byte >= 0x80) { 0xff } else { 0 };
    let mut wide = [fill; 16];
    wide.get_mut(16_usize.checked_sub(bytes.len())?..)?.copy_from_slice(bytes);
    Some(decimal_of(i128::from_be_bytes(wide), scale))
}

/// Renders a decimal without an exponent.
pub(super) fn decimal_of(unscaled: i128, scale: i32) -> String {
    let sign = if unscaled < 0 { "-" } else { "" };
    let digits = unscaled.unsigned_abs().to_string();
    match usize::try_from(scale) {
        Ok(0) => format!("{sign}{digits}"),
        Ok(scale) => {
            let padded = format!("{digits:0>width$}", width = scale + 1);
            let (whole, rest) = padded.split_at(padded.len() - scale);
            format!("{sign}{whole}.{rest}")
        }
        Err(_) if unscaled == 0 => "0".to_owned(),
        Err(_) => format!("{sign}{digits}{}", "0".repeat(scale.unsigned_abs() as usize)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_rendered_without_exponents_and_with_leading_zeros() {
        assert_eq!(timestamp(1_700_000_000_123), "2023-11-14T22:13:20.123Z");
        assert_eq!(timestamp(i64::MAX), i64::MAX.to_string());
        assert_eq!((date(0), date(-1), date(19_000)), ("1970-01-01".into(), "1969-12-31".into(), "2022-01-08".into()));
        assert_eq!(blob(&[0, 255]), "0x00ff");
        assert_eq!(decimal_of(-5, 3), "-0.005");
        assert_eq!(decimal_of(12_345, 2), "123.45");
        assert_eq!(decimal_of(12, -2), "1200");
        assert_eq!(decimal(&[0xff], 0).unwrap(), "-1");
    }
}
