//! Values as text, identical for both stores.

use std::fmt::Write as _;
use std::net::IpAddr;

use chrono::{DateTime, Days, NaiveDate, NaiveTime, SecondsFormat, Utc};
use num_bigint::BigInt;

use super::values::Duration;

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

/// Renders nanoseconds since midnight as `HH:MM:SS`, with a fraction if there is one.
pub(super) fn time(nanos: i64) -> String {
    let (seconds, rest) = (nanos.div_euclid(1_000_000_000), nanos.rem_euclid(1_000_000_000));
    let time = u32::try_from(seconds)
        .ok()
        .zip(u32::try_from(rest).ok())
        .and_then(|(seconds, rest)| NaiveTime::from_num_seconds_from_midnight_opt(seconds, rest));
    time.map_or_else(|| nanos.to_string(), |time| time.to_string())
}

/// Renders a duration as Cassandra does, such as `1y2mo3d4h`, and none as `0s`.
pub(super) fn duration(duration: Duration) -> String {
    let Duration { months, days, nanos } = duration;
    let mut text = String::new();
    if months < 0 || days < 0 || nanos < 0 {
        text.push('-');
    }
    let sign = text.len();
    let months = u64::from(months.unsigned_abs());
    let mut rest = nanos.unsigned_abs();
    let mut add = |count: u64, unit: &str| {
        if count > 0 {
            let _ = write!(text, "{count}{unit}");
        }
    };
    add(months / 12, "y");
    add(months % 12, "mo");
    add(days.unsigned_abs().into(), "d");
    for (size, unit) in [(3_600_000_000_000, "h"), (60_000_000_000, "m"), (1_000_000_000, "s"), (1_000_000, "ms"), (1_000, "us"), (1, "ns")]
    {
        add(rest / size, unit);
        rest %= size;
    }
    if text.len() == sign { "0s".to_owned() } else { text }
}

/// Renders the 4 or 16 bytes of an address.
pub(super) fn inet(bytes: &[u8]) -> String {
    let four = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    let address = four.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from));
    address.map_or_else(|_| blob(bytes), |address| address.to_string())
}

/// Renders an integer from its bytes, big-endian in two's complement.
pub(super) fn varint(bytes: &[u8]) -> String {
    BigInt::from_signed_bytes_be(bytes).to_string()
}

/// Renders the key of a map as the name of a JSON field.
pub(super) fn map_key(key: serde_json::Value) -> String {
    match key {
        serde_json::Value::String(text) => text,
        other => other.to_string(),
    }
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
        assert_eq!((time(45_296_000_000_000), time(1)), ("12:34:56".to_owned(), "00:00:00.000000001".to_owned()));
        let of = |months, days, nanos| duration(Duration { months, days, nanos });
        assert_eq!(of(14, 25, 18_367_008_009_010), "1y2mo25d5h6m7s8ms9us10ns");
        assert_eq!((of(-2, 0, -10_000), of(0, 0, 0)), ("-2mo10us".to_owned(), "0s".to_owned()));
        assert_eq!((inet(&[10, 0, 0, 1]), inet(&[0; 16])), ("10.0.0.1".to_owned(), "::".to_owned()));
        assert_eq!((varint(&[0xff]), varint(&[1, 0, 0])), ("-1".to_owned(), "65536".to_owned()));
        assert_eq!(decimal_of(-5, 3), "-0.005");
        assert_eq!(decimal_of(12_345, 2), "123.45");
        assert_eq!(decimal_of(12, -2), "1200");
        assert_eq!(decimal(&[0xff], 0).unwrap(), "-1");
    }
}
