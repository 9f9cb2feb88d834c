//! Values that become timestamps.
//!
//! Guarantee: a time is in the years 1 to 9999. Its digits below a microsecond are truncated
//! towards the past. A number is read by its digits, not as a double.

use chrono::{DateTime, Duration, LocalResult, NaiveDateTime, Offset, TimeZone};
use chrono_tz::Tz;
use forebay_schemas::record_schema::{ClockChange, EpochUnit, Kind};

use super::decode_error::Result;
use super::json_cursor::JsonCursor;
use super::json_scalar::JsonNumber;
use super::rfc3339;
use crate::decimal;

/// Reads the value that the cursor is at as a time of this type, in microseconds since 1970.
/// `first` is its first byte. The decoder itself reads the text of a time with a zone.
#[inline(never)]
pub(super) fn read(kind: &Kind, first: u8, json: &mut JsonCursor<'_>) -> Result<i64> {
    let start = json.position();
    let micros = match (kind, first) {
        (Kind::LocalTimestamp { zone, change }, b'"') => {
            let local = rfc3339::local_date_time(&json.string()?.resolved()).ok_or_else(|| json.invalid_since(start, &kind.expected()))?;
            return in_zone(local, *zone, *change).map_err(|why| json.invalid_since(start, &why));
        }
        (Kind::Epoch { unit, fraction }, b'-' | b'0'..=b'9') => since_epoch(json.number()?, *unit, *fraction),
        (Kind::Timestamp | Kind::LocalTimestamp { .. }, b'-' | b'0'..=b'9') => {
            let digits = json.number()?.raw.bytes().take_while(|byte| *byte != b'.').filter(u8::is_ascii_digit).count();
            let format = EpochUnit::of_digits(digits).format();
            let remedy = format!("for numbers, write \"type\": \"integer\", \"format\": \"{format}\" in the schema");
            return Err(json.invalid_since(start, &kind.expected()).with_remedy(&remedy));
        }
        _ => return Err(json.invalid(&kind.expected())),
    };
    micros.ok_or_else(|| json.invalid_since(start, &kind.expected()))
}

/// The microseconds of a number since 1970.
fn since_epoch(number: JsonNumber<'_>, unit: EpochUnit, fraction: bool) -> Option<i64> {
    let (value, scale) = match number.raw.parse::<i64>() {
        Ok(value) if number.plain => (i128::from(value), 0),
        _ => decimal::exact(number.raw).ok()?,
    };
    let power = |exponent: i32| u32::try_from(exponent).ok().and_then(|exponent| 10_i128.checked_pow(exponent));
    if !fraction && power(scale).is_none_or(|one| value % one != 0) {
        return None;
    }
    let exponent = unit.exponent() - scale;
    let micros = if exponent >= 0 {
        value.checked_mul(power(exponent)?)?
    } else {
        // A divisor beyond 128 bits is larger than any value.
        power(-exponent).map_or(if value < 0 { -1 } else { 0 }, |divisor| value.div_euclid(divisor))
    };
    i64::try_from(micros).ok().and_then(rfc3339::in_range)
}

/// The time of a zone's clock in UTC, or what it must be.
fn in_zone(micros: i64, zone: Tz, change: ClockChange) -> std::result::Result<i64, String> {
    let local = DateTime::from_timestamp_micros(micros).expect("a time of four-digit years").naive_utc();
    let seconds = if zone == Tz::UTC { 0 } else { offset(local, zone, change)? };
    rfc3339::in_range(micros - i64::from(seconds) * 1_000_000).ok_or_else(|| "in the years 1 to 9999".to_owned())
}

/// The seconds by which a zone is ahead of UTC when its clock shows this time.
fn offset(local: NaiveDateTime, zone: Tz, change: ClockChange) -> std::result::Result<i32, String> {
    let seconds = |offset: &<Tz as TimeZone>::Offset| offset.fix().local_minus_utc();
    let (earlier, later, is_skipped) = match zone.offset_from_local_datetime(&local) {
        LocalResult::Single(only) => return Ok(seconds(&only)),
        // Of a time that the clock shows twice, the earlier one has the offset before the change.
        LocalResult::Ambiguous(before, after) => (seconds(&before), seconds(&after), false),
        // Of a time that the clock skips, the earlier one has the offset after the change.
        LocalResult::None => {
            let near = |local: Option<NaiveDateTime>| match zone.offset_from_local_datetime(&local?) {
                LocalResult::Single(offset) | LocalResult::Ambiguous(offset, _) => Some(seconds(&offset)),
                LocalResult::None => None,
            };
            // No clock has skipped more than a day.
            let (before, after) = (near(local.checked_sub_signed(Duration::days(1))), near(local.checked_add_signed(Duration::days(1))));
            match (before, after) {
                (Some(before), Some(after)) => (after, before, true),
                _ => return Err(format!("a time of {zone}")),
            }
        }
    };
    match change {
        ClockChange::Earlier => Ok(earlier),
        ClockChange::Later => Ok(later),
        ClockChange::Reject => {
            let what = if is_skipped { "skipped" } else { "shown twice" };
            Err(format!(
                "a time that the clocks of {zone} show once (\"x-clock-change\": \"earlier\" or \"later\" in the schema takes one that is {what})"
            ))
        }
    }
}
