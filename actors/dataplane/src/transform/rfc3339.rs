//! Parses `full-date` and `date-time` of RFC 3339.
//!
//! Guarantees:
//! * A text is accepted if and only if RFC 3339 allows it, and it is in the years 1 to 9999 of UTC.
//!   Leap seconds are accepted only where they can occur.
//! * A time without a zone is the same without the offset. It may have a blank in place of the `T`,
//!   and no seconds. It has no leap seconds.
//! * Digits below a microsecond are truncated.

const MICROS: i64 = 1_000_000;
const DAY: i64 = 86_400;
/// 0001-01-01T00:00:00Z in microseconds.
const MIN_MICROS: i64 = -62_135_596_800 * MICROS;
/// 9999-12-31T23:59:59.999999Z in microseconds.
const MAX_MICROS: i64 = 253_402_300_800 * MICROS - 1;

/// Parses a date. Returns the days since 1970-01-01.
pub(super) fn date(text: &[u8]) -> Option<i32> {
    let (days, rest) = full_date(text)?;
    rest.is_empty().then_some(days)
}

/// Parses a date and time. Returns the microseconds since 1970-01-01T00:00:00Z.
pub(super) fn date_time(text: &[u8]) -> Option<i64> {
    let (days, rest) = full_date(text)?;
    let rest = rest.strip_prefix(b"T").or_else(|| rest.strip_prefix(b"t"))?;
    let (of_day, second, micros, rest) = partial_time(rest)?;
    let offset = match rest {
        b"Z" | b"z" => 0,
        [sign @ (b'+' | b'-'), rest @ ..] => {
            let (hours, rest) = two(rest)?;
            let (minutes, rest) = two(rest.strip_prefix(b":")?)?;
            if hours > 23 || minutes > 59 || !rest.is_empty() {
                return None;
            }
            let seconds = i64::from(hours * 60 + minutes) * 60;
            if *sign == b'-' { -seconds } else { seconds }
        }
        _ => return None,
    };
    let seconds = i64::from(days) * DAY + of_day - offset;
    let leap = second == 60 && seconds.rem_euclid(DAY) == 0;
    (second < 60 || leap).then_some(seconds * MICROS + micros).and_then(in_range)
}

/// Parses a date and time without a zone. Returns the microseconds that it is after 1970 in UTC.
pub(super) fn local_date_time(text: &[u8]) -> Option<i64> {
    let (days, rest) = full_date(text)?;
    let rest = rest.strip_prefix(b"T").or_else(|| rest.strip_prefix(b"t")).or_else(|| rest.strip_prefix(b" "))?;
    let with_seconds;
    let rest = match rest {
        [_, _, b':', _, _] => {
            with_seconds = [rest, b":00"].concat();
            with_seconds.as_slice()
        }
        rest => rest,
    };
    let (of_day, second, micros, rest) = partial_time(rest)?;
    (second < 60 && rest.is_empty()).then_some((i64::from(days) * DAY + of_day) * MICROS + micros)
}

/// Returns a time in microseconds if it is in the years 1 to 9999.
pub(super) fn in_range(micros: i64) -> Option<i64> {
    (MIN_MICROS..=MAX_MICROS).contains(&micros).then_some(micros)
}

/// Parses `HH:MM:SS` with an optional fraction. Returns the second of the day, the second of the
/// minute, the microseconds, and the rest of the text.
#[inline(always)]
fn partial_time(text: &[u8]) -> Option<(i64, i32, i64, &[u8])> {
    let (hour, rest) = two(text)?;
    let (minute, rest) = two(rest.strip_prefix(b":")?)?;
    let (second, mut rest) = two(rest.strip_prefix(b":")?)?;
    let mut micros = 0;
    if let Some(fraction) = rest.strip_prefix(b".") {
        let digits = fraction.iter().take_while(|byte| byte.is_ascii_digit()).count();
        if digits == 0 {
            return None;
        }
        micros = (0..6).fold(0, |value, at| value * 10 + fraction[..digits].get(at).map_or(0, |byte| i64::from(byte - b'0')));
        rest = &fraction[digits..];
    }
    (hour < 24 && minute < 60).then_some((i64::from(hour * 60 + minute) * 60 + i64::from(second), second, micros, rest))
}

/// Parses `YYYY-MM-DD`. Returns the days since 1970-01-01 and the rest of the text.
fn full_date(text: &[u8]) -> Option<(i32, &[u8])> {
    let (century, rest) = two(text)?;
    let (year, rest) = two(rest)?;
    let (month, rest) = two(rest.strip_prefix(b"-")?)?;
    let (day, rest) = two(rest.strip_prefix(b"-")?)?;
    let year = century * 100 + year;
    if year == 0 {
        return None;
    }
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let last = match month {
        4 | 6 | 9 | 11 => 30,
        2 => 28 + i32::from(leap),
        1..=12 => 31,
        _ => return None,
    };
    if !(1..=last).contains(&day) {
        return None;
    }
    // Years start in March, so that the leap day is the last day of a year. Days count from
    // 0000-03-01, which is 719,468 days before 1970-01-01.
    let year = if month < 3 { year - 1 } else { year };
    let month = (month + 9) % 12;
    let days = year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + (month * 153 + 2) / 5 + day - 1;
    Some((days - 719_468, rest))
}

/// Parses two digits. Returns their value and the rest of the text.
#[inline]
fn two(text: &[u8]) -> Option<(i32, &[u8])> {
    match text {
        [tens @ b'0'..=b'9', ones @ b'0'..=b'9', rest @ ..] => Some((i32::from(tens - b'0') * 10 + i32::from(ones - b'0'), rest)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, NaiveDate};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_date_time_is_parsed_to_the_microsecond() {
        let micros = |text: &str| date_time(text.as_bytes());
        assert_eq!(micros("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(micros("1992-03-08T15:13:16.688Z"), Some(700_067_596_688_000));
        assert_eq!(micros("1992-03-08t15:13:16.6889999+05:30"), Some(700_047_796_688_999));
        assert_eq!(micros("1969-12-31T23:59:59.999999Z"), Some(-1));
        assert_eq!(micros("2016-12-31T23:59:60Z"), micros("2017-01-01T00:00:00Z"));
        assert_eq!(micros("2016-12-31T18:59:60-05:00"), micros("2017-01-01T00:00:00Z"));
    }

    #[test]
    fn text_that_rfc_3339_does_not_allow_is_rejected() {
        for text in [
            "",
            "1992-03-08",
            "1992-03-08T15:13:16",
            "1992-03-08 15:13:16Z",
            "1992-03-08T15:13Z",
            "1992-03-08T24:00:00Z",
            "1992-03-08T15:60:00Z",
            "1992-03-08T15:13:60Z",
            "1992-03-08T15:13:16.Z",
            "1992-03-08T15:13:16+0530",
            "1992-03-08T15:13:16+24:00",
            "1992-3-8T15:13:16Z",
            "92-03-08T15:13:16Z",
            "1992-13-08T15:13:16Z",
            "1992-02-30T15:13:16Z",
            "1992-03-08T15:13:16Zx",
            "+1992-03-08T15:13:16Z",
        ] {
            assert_eq!(date_time(text.as_bytes()), None, "{text}");
        }
        for text in ["1900-02-29", "2023-02-29", "1992-00-01", "1992-01-00", "1992-04-31", "1992-01-01T", "1992/01/01"] {
            assert_eq!(date(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn times_are_of_the_years_1_to_9999_in_utc() {
        let micros = |text: &str| date_time(text.as_bytes());
        assert_eq!(micros("0001-01-01T00:00:00Z"), Some(MIN_MICROS));
        assert_eq!(micros("9999-12-31T23:59:59.999999Z"), Some(MAX_MICROS));
        for text in ["0000-12-31T23:59:59Z", "0001-01-01T00:00:00+00:01", "9999-12-31T23:59:00-00:01", "9999-12-31T23:59:60Z"] {
            assert_eq!(micros(text), None, "{text}");
        }
        assert_eq!((date(b"0000-12-31"), date(b"0001-01-01")), (None, Some(-719_162)));
    }

    #[test]
    fn a_time_without_a_zone_has_no_offset_and_may_have_a_blank() {
        let expected = date_time(b"1992-03-08T15:13:16.688Z");
        for text in ["1992-03-08T15:13:16.688", "1992-03-08t15:13:16.688000", "1992-03-08 15:13:16.688"] {
            assert_eq!(local_date_time(text.as_bytes()), expected, "{text}");
        }
        assert_eq!(local_date_time(b"1992-03-08T15:13"), date_time(b"1992-03-08T15:13:00Z"));
        for text in [
            "1992-03-08",
            "1992-03-08T15",
            "1992-03-08T15:13Z",
            "1992-03-08T15:13:16Z",
            "1992-03-08T15:13:16+01:00",
            "1992-03-08  15:13:16",
            "2016-12-31T23:59:60",
        ] {
            assert_eq!(local_date_time(text.as_bytes()), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_day_of_the_years_1_to_9999_agrees_with_chrono(days in -719_162..2_932_897_i32) {
            let day = NaiveDate::from_epoch_days(days).unwrap();
            prop_assert_eq!(date(day.format("%Y-%m-%d").to_string().as_bytes()), Some(days));
        }

        #[test]
        fn every_time_that_chrono_formats_is_parsed(micros in MIN_MICROS..=MAX_MICROS) {
            let text = DateTime::from_timestamp_micros(micros).unwrap().to_rfc3339();
            prop_assert_eq!(date_time(text.as_bytes()), Some(micros));
        }
    }
}
