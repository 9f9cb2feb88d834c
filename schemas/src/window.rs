//! Windows: the part of a source's time that a run reads.
//!
//! Guarantees:
//! * A window is half-open: its start belongs to it, its end to the next one. Windows that follow
//!   each other have no moment in common, and leave none out.
//! * Two windows are equal if they begin and end at the same moments, however they are written.
//!
//! Does not guarantee that the API answers what is in the window.

use std::fmt;

use chrono::{DateTime, Datelike as _, NaiveDate, NaiveTime, SecondsFormat, Timelike as _, Utc};
use serde::{Deserialize, Serialize};

/// The time from a moment up to another one, without the latter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// Its first moment.
    pub start: DateTime<Utc>,
    /// The first moment after it.
    pub end: DateTime<Utc>,
}

/// The interval as ISO 8601 writes it: `2026-01-01T00:00:00Z/2026-01-02T00:00:00Z`.
impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", rfc3339(self.start), rfc3339(self.end))
    }
}

impl Window {
    /// Whether it has a moment in it, and lies in the years 1 to 9999.
    pub fn is_valid(&self) -> bool {
        let has_year = |at: DateTime<Utc>| (1..=9_999).contains(&at.year());
        self.start < self.end && has_year(self.start) && has_year(self.end)
    }
}

/// How a request writes the start and the end of a window.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WindowFormat {
    /// `2026-01-01T00:00:00Z`.
    #[default]
    Rfc3339,
    /// `2026-01-01`, in UTC.
    Date,
    /// Seconds since 1970.
    Unix,
    /// Milliseconds since 1970.
    UnixMs,
}

impl WindowFormat {
    /// Its name in the pipeline file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rfc3339 => "rfc3339",
            Self::Date => "date",
            Self::Unix => "unix",
            Self::UnixMs => "unix_ms",
        }
    }

    /// A moment in this format. What is finer than the format is cut off.
    pub fn text(self, at: DateTime<Utc>) -> String {
        match self {
            Self::Rfc3339 => rfc3339(at),
            Self::Date => at.format("%Y-%m-%d").to_string(),
            Self::Unix => at.timestamp().to_string(),
            Self::UnixMs => at.timestamp_millis().to_string(),
        }
    }

    /// Whether nothing of the moment is finer than the format.
    pub fn is_exact(self, at: DateTime<Utc>) -> bool {
        match self {
            Self::Rfc3339 => true,
            Self::Date => at.time() == NaiveTime::MIN,
            Self::Unix => at.nanosecond() == 0,
            Self::UnixMs => at.nanosecond().is_multiple_of(1_000_000),
        }
    }
}

/// A moment in UTC as RFC 3339 writes it.
pub fn rfc3339(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::AutoSi, true)
}

/// Parses a moment as a person writes it: a date, which is its midnight in UTC, or an RFC 3339
/// time.
///
/// # Errors
/// When it is neither; says what to write.
pub fn moment(text: &str) -> Result<DateTime<Utc>, String> {
    if let Ok(date) = text.parse::<NaiveDate>() {
        return Ok(date.and_time(NaiveTime::MIN).and_utc());
    }
    DateTime::parse_from_rfc3339(text)
        .map(|at| at.to_utc())
        .map_err(|_| "write a date, 2026-01-01, which begins at midnight UTC, or a time, 2026-01-01T06:00:00Z".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(start: &str, end: &str) -> Window {
        Window { start: moment(start).unwrap(), end: moment(end).unwrap() }
    }

    #[test]
    fn a_window_is_the_same_however_its_moments_are_written() {
        let day = window("2026-01-01", "2026-01-02");
        assert_eq!(day, window("2026-01-01T01:00:00+01:00", "2026-01-01T23:00:00-01:00"));
        assert_eq!(day.to_string(), "2026-01-01T00:00:00Z/2026-01-02T00:00:00Z");
        let json = r#"{"start":"2026-01-01T00:00:00Z","end":"2026-01-02T00:00:00Z"}"#;
        assert_eq!((serde_json::from_str::<Window>(json).unwrap(), serde_json::to_string(&day).unwrap().as_str()), (day, json));
        for text in ["2026-1", "yesterday", "2026-01-01T00:00:00", "", "2026-02-30"] {
            assert!(moment(text).unwrap_err().contains("2026-01-01T06:00:00Z"), "{text}");
        }
    }

    #[test]
    fn a_window_has_a_moment_in_it_and_a_year_of_four_digits() {
        assert!(window("2026-01-01", "2026-01-01T00:00:00.000001Z").is_valid());
        assert!(!window("2026-01-01", "2026-01-01").is_valid());
        assert!(!window("2026-01-02", "2026-01-01").is_valid());
        let (start, end) = (moment("2026-01-01").unwrap(), DateTime::<Utc>::MAX_UTC);
        assert!(!Window { start, end }.is_valid());
    }

    #[test]
    fn a_moment_is_written_in_each_format_and_each_knows_what_it_can_not_write() {
        use WindowFormat::{Date, Rfc3339, Unix, UnixMs};
        let at = moment("2026-01-01T06:00:00.5Z").unwrap();
        let texts = [Rfc3339, Date, Unix, UnixMs].map(|format| (format.text(at), format.is_exact(at)));
        let expected = [("2026-01-01T06:00:00.500Z", true), ("2026-01-01", false), ("1767247200", false), ("1767247200500", true)];
        assert_eq!(texts, expected.map(|(text, is_exact)| (text.to_owned(), is_exact)));
        let day = moment("2026-01-01").unwrap();
        assert!([Rfc3339, Date, Unix, UnixMs].iter().all(|format| format.is_exact(day)));
        let fine = moment("2026-01-01T00:00:00.0001Z").unwrap();
        assert!(!UnixMs.is_exact(fine) && Rfc3339.text(fine) == "2026-01-01T00:00:00.000100Z");
    }
}
