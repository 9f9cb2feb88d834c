//! Which of the records' own timestamps are believed.
//!
//! Guarantee: it is the same range wherever it is asked for: what the write clock takes, what the journal says of one that it did not take.

use std::ops::Range;

use chrono::{DateTime, Datelike};

/// The timestamps that are believed, in milliseconds since the epoch: of the years 2000 to 2099. What lies outside is more likely a mistake (of the
/// unit, or none was set) than a time.
pub const PLAUSIBLE_MILLIS: Range<i64> = 946_684_800_000..4_102_444_800_000;

/// Whether a record's own timestamp, in milliseconds since the epoch, is believed.
pub fn is_plausible(timestamp_ms: i64) -> bool {
    PLAUSIBLE_MILLIS.contains(&timestamp_ms)
}

/// Why a timestamp is not believed, for a person: on which side it lies, and which unit makes a likely time of it. None when it is believed.
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
            format!("{side}; does its producer send {unit} for milliseconds? As {unit} it is of the year {}", year(millis))
        }
        None => format!("{side}; is its producer's clock set?"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timestamp_that_is_not_believed_says_its_side_and_the_unit_that_makes_a_likely_time_of_it() {
        let said = |timestamp_ms| why_implausible(timestamp_ms).unwrap();
        assert_eq!(
            said(1_700_000_000),
            "before the year 2000; does its producer send seconds for milliseconds? As seconds it is of the year 2023"
        );
        assert!(said(1_700_000_000_000_000).starts_with("after the year 2099; does its producer send microseconds for milliseconds?"));
        assert!(said(1_700_000_000_000_000_000).contains("nanoseconds for milliseconds? As nanoseconds it is of the year 2023"));
        for (timestamp_ms, side) in
            [(-5, "before the year 2000"), (0, "before"), (i64::MIN, "before"), (7_258_118_400_000, "after the year 2099")]
        {
            assert!(said(timestamp_ms).starts_with(side) && said(timestamp_ms).ends_with("is its producer's clock set?"), "{timestamp_ms}");
        }
    }

    #[test]
    fn the_years_2000_to_2099_are_believed() {
        let at = |text: &str| text.parse::<DateTime<chrono::Utc>>().unwrap().timestamp_millis();
        assert_eq!(PLAUSIBLE_MILLIS, at("2000-01-01T00:00:00Z")..at("2100-01-01T00:00:00Z"));
        assert!(is_plausible(PLAUSIBLE_MILLIS.start) && !is_plausible(PLAUSIBLE_MILLIS.start - 1) && !is_plausible(PLAUSIBLE_MILLIS.end));
        assert_eq!((why_implausible(PLAUSIBLE_MILLIS.start), why_implausible(PLAUSIBLE_MILLIS.end - 1)), (None, None));
    }
}
