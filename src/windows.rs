//! Splits a range of time into windows. Pure.
//!
//! Guarantees:
//! * The windows follow each other without a gap and without an overlap, from the first moment of
//!   the range to its last.
//! * The same range and width give the same windows. A later end adds windows at the end, and
//!   changes at most the one that it had cut.
//!
//! Does not guarantee that all are equally long: the last one ends with the range, and months are
//! those of the calendar.

use std::str::FromStr;

use chrono::{DateTime, Months, TimeDelta, Utc};
use forebay_schemas::window::{Window, rfc3339};

/// The maximum number of windows of one command.
pub(crate) const MAX_WINDOWS: usize = 1_000;

/// How wide windows are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Width {
    /// A fixed time; positive.
    Time(TimeDelta),
    /// Months of the calendar; at least one.
    Months(u32),
}

/// As typed by a person: `1d`, `6h`, `15m`, or whole months or years of the calendar: `1month`,
/// `3months`, `1year`.
impl FromStr for Width {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let how = "write a number and a unit, such as 1d, 6h, 15m or 1month";
        let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, unit) = (&text[..digits], text[digits..].trim());
        let months = match unit {
            "M" | "month" | "months" => Some(1),
            "y" | "year" | "years" => Some(12),
            _ => None,
        };
        if let Some(months) = months {
            let number = number.parse::<u32>().ok().and_then(|number| number.checked_mul(months));
            return number.filter(|months| *months > 0).map(Self::Months).ok_or_else(|| how.to_owned());
        }
        // A fixed time has no months: they differ in length.
        if text
            .split(|c: char| !c.is_alphabetic())
            .any(|unit| matches!(unit, "M" | "y") || unit.starts_with("month") || unit.starts_with("year"))
        {
            return Err("a month or a year stands by itself: 1month, 3months, 1year".to_owned());
        }
        let time = humantime::parse_duration(text).ok().and_then(|time| TimeDelta::from_std(time).ok());
        time.filter(|time| *time > TimeDelta::zero()).map(Self::Time).ok_or_else(|| how.to_owned())
    }
}

impl Width {
    /// The end of window `n`, from 0, when the first begins at `from`; `None` beyond the calendar.
    fn end(self, from: DateTime<Utc>, n: usize) -> Option<DateTime<Utc>> {
        let count = u32::try_from(n + 1).ok()?;
        match self {
            Self::Time(width) => from.checked_add_signed(width.checked_mul(count.try_into().ok()?)?),
            // From the first moment, so that the 31st is not lost after a shorter month.
            Self::Months(months) => from.checked_add_months(Months::new(months.checked_mul(count)?)),
        }
    }
}

/// The windows from a moment up to another one, oldest first. The last one is cut at the end.
///
/// # Errors
/// When there is nothing between them, or there are more than [`MAX_WINDOWS`].
pub(crate) fn windows(from: DateTime<Utc>, to: DateTime<Utc>, width: Width) -> Result<Vec<Window>, String> {
    if from >= to {
        return Err(format!("--from {} is not before --to {}", rfc3339(from), rfc3339(to)));
    }
    let mut windows = Vec::new();
    let mut start = from;
    while start < to {
        if windows.len() == MAX_WINDOWS {
            return Err(format!("there are more than {MAX_WINDOWS} windows from {} to {}", rfc3339(from), rfc3339(to)));
        }
        let end = width.end(from, windows.len()).map_or(to, |end| end.min(to));
        windows.push(Window { start, end });
        start = end;
    }
    Ok(windows)
}

#[cfg(test)]
mod tests {
    use forebay_schemas::window::moment;
    use proptest::prelude::*;

    use super::*;

    fn split(from: &str, to: &str, width: &str) -> Result<Vec<String>, String> {
        let windows = windows(moment(from).unwrap(), moment(to).unwrap(), width.parse().unwrap())?;
        Ok(windows.into_iter().map(|window| window.to_string().replace("T00:00:00Z", "")).collect())
    }

    #[test]
    fn a_range_is_split_into_windows_and_the_last_one_is_cut() {
        assert_eq!(split("2026-01-01", "2026-01-03", "1d").unwrap(), ["2026-01-01/2026-01-02", "2026-01-02/2026-01-03"]);
        assert_eq!(
            split("2026-01-01", "2026-01-02", "16h").unwrap(),
            ["2026-01-01/2026-01-01T16:00:00Z", "2026-01-01T16:00:00Z/2026-01-02"]
        );
        assert_eq!(split("2026-01-01", "2026-01-02", "1week").unwrap(), ["2026-01-01/2026-01-02"]);
        assert_eq!(split("2026-01-01", "2026-01-02", "300years").unwrap(), ["2026-01-01/2026-01-02"]);
    }

    #[test]
    fn months_are_those_of_the_calendar() {
        let months = ["2026-01-31/2026-02-28", "2026-02-28/2026-03-31", "2026-03-31/2026-04-15"];
        assert_eq!(split("2026-01-31", "2026-04-15", "1month").unwrap(), months);
        assert_eq!(split("2024-02-01", "2026-02-01", "1year").unwrap(), ["2024-02-01/2025-02-01", "2025-02-01/2026-02-01"]);
        assert_eq!(("3 months".parse(), "2y".parse()), (Ok(Width::Months(3)), Ok(Width::Months(24))));
    }

    #[test]
    fn an_empty_range_too_many_windows_and_no_width_are_errors() {
        assert!(split("2026-01-02", "2026-01-01", "1d").unwrap_err().contains("is not before"));
        assert!(split("2026-01-01", "2026-01-01", "1d").unwrap_err().contains("is not before"));
        assert_eq!(split("2023-01-01", "2025-09-27", "1d").unwrap().len(), MAX_WINDOWS);
        assert!(split("2023-01-01", "2025-09-28", "1d").unwrap_err().contains("more than 1000 windows"));
        for (text, says) in [
            ("0s", "1d"),
            ("", "1d"),
            ("day", "1d"),
            ("-1d", "1d"),
            ("0months", "1d"),
            ("1month 2d", "stands by itself"),
            ("1y2d", "stands by itself"),
        ] {
            let error = text.parse::<Width>().unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn windows_follow_each_other_and_cover_the_range(start in 0_i64..4_000_000_000, seconds in 1_i64..400_000_000, width in 400_000_u64..40_000_000, months in 0_u32..3) {
            let from = DateTime::from_timestamp(start, 0).unwrap();
            let to = from + TimeDelta::seconds(seconds);
            let width = if months > 0 { Width::Months(months) } else { format!("{width}s").parse().unwrap() };
            let windows = windows(from, to, width).unwrap();
            prop_assert!(windows.iter().all(Window::is_valid));
            prop_assert!(windows.windows(2).all(|pair| pair[0].end == pair[1].start));
            prop_assert_eq!((windows[0].start, windows[windows.len() - 1].end), (from, to));
        }
    }
}
