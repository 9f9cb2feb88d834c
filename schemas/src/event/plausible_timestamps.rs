//! Which of the records' own timestamps are plausible.
//!
//! Guarantee: the write clock and the journal use the same range.

use std::ops::Range;

use chrono::{DateTime, Datelike};

/// Plausible timestamps, in milliseconds since 1970: the years 2000 to 2099. One outside is more
/// likely a mistake (a wrong unit, or an unset clock) than a time.
pub const PLAUSIBLE_MILLIS: Range<i64> = 946_684_800_000..4_102_444_800_000;

/// Whether a record's own timestamp, in milliseconds since 1970, is plausible.
pub fn is_plausible(timestamp_ms: i64) -> bool {
    PLAUSIBLE_MILLIS.contains(&timestamp_ms)
}

/// Why a timestamp is implausible: on which side it lies, and the unit that would make it
/// plausible. `None` for a plausible one.
pub fn why_implausible(timestamp_ms: i64) -> Option<String> {
    let year = |millis: i64| DateTime::from_timestamp_millis(millis).map_or(0, |at| at.year());
    let (side, units) = match timestamp_ms {
        ..946_684_800_000 => ("before the year 2000", [Some(("seconds", timestamp_ms.saturating_mul(1_000))), None]),
        4_102_444_800_000.. => {
            ("after the year 2099", [Some(("microseconds", timestamp_ms / 1_000)), Some(("nanoseconds", timestamp_ms / 1_000_000))])
        }
        _ => return None,
    };
    let likely = units.into_iter().flatten().find(|&(_, millis)| is_plausible(millis));
    Some(match likely {
        Some((unit, millis)) => {
            format!("{side}; its producer probably sends {unit} instead of milliseconds: in {unit} it is in the year {}", year(millis))
        }
        None => format!("{side}; check the clock of its producer"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_implausible_timestamp_says_its_side_and_the_likely_unit() {
        let reason = |timestamp_ms| why_implausible(timestamp_ms).unwrap();
        assert_eq!(
            reason(1_700_000_000),
            "before the year 2000; its producer probably sends seconds instead of milliseconds: in seconds it is in the year 2023"
        );
        assert!(reason(1_700_000_000_000_000).starts_with("after the year 2099; its producer probably sends microseconds instead of"));
        assert!(reason(1_700_000_000_000_000_000).ends_with("in nanoseconds it is in the year 2023"));
        for (timestamp_ms, side) in
            [(-5, "before the year 2000"), (0, "before"), (i64::MIN, "before"), (7_258_118_400_000, "after the year 2099")]
        {
            assert!(
                reason(timestamp_ms).starts_with(side) && reason(timestamp_ms).ends_with("check the clock of its producer"),
                "{timestamp_ms}"
            );
        }
    }

    #[test]
    fn the_years_2000_to_2099_are_plausible() {
        let at = |text: &str| text.parse::<DateTime<chrono::Utc>>().unwrap().timestamp_millis();
        assert_eq!(PLAUSIBLE_MILLIS, at("2000-01-01T00:00:00Z")..at("2100-01-01T00:00:00Z"));
        assert!(is_plausible(PLAUSIBLE_MILLIS.start) && !is_plausible(PLAUSIBLE_MILLIS.start - 1) && !is_plausible(PLAUSIBLE_MILLIS.end));
        assert_eq!((why_implausible(PLAUSIBLE_MILLIS.start), why_implausible(PLAUSIBLE_MILLIS.end - 1)), (None, None));
    }
}
