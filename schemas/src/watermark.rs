//! Watermarks: how far an incremental source is read, by a field of its records.
//!
//! Guarantees:
//! * Marks are compared as moments or as numbers, never as texts.
//! * A mark that a format writes is not later than the mark, so a request that asks from there on
//!   leaves nothing out.
//!
//! Does not guarantee that the API answers every record from a mark on.

use std::fmt;

use chrono::{DateTime, NaiveDateTime, NaiveTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use crate::window::{WindowFormat, moment, rfc3339};

/// The formats of a time without a zone, which is in UTC, and of zones that RFC 3339 does not have.
const NAIVE_FORMATS: [&str; 2] = ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f"];
const ZONED_FORMATS: [&str; 2] = ["%Y-%m-%dT%H:%M:%S%.f%#z", "%Y-%m-%d %H:%M:%S%.f%#z"];

/// A value of the field: a moment, or a number that grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mark {
    /// A number.
    Number(i128),
    /// A moment.
    Time(DateTime<Utc>),
}

/// The digits of a number, or RFC 3339.
impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Time(at) => f.write_str(&rfc3339(*at)),
        }
    }
}

impl Mark {
    /// The mark that [`Display`](fmt::Display) wrote; `None` for any other text.
    pub fn parse(text: &str) -> Option<Self> {
        text.parse().map(Self::Number).ok().or_else(|| moment(text).map(Self::Time).ok())
    }

    /// The mark before this one by an overlap.
    fn before(self, overlap: Overlap) -> Self {
        match (self, overlap) {
            (Self::Number(number), Overlap::Number(by)) => Self::Number(number.saturating_sub(i128::from(by))),
            (Self::Time(at), Overlap::Time(by)) => Self::Time(at.checked_sub_signed(by).unwrap_or(DateTime::<Utc>::MIN_UTC)),
            (mark, _) => mark,
        }
    }
}

/// How far behind the watermark a fetch begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overlap {
    /// By this many numbers.
    Number(u64),
    /// By this much time.
    Time(TimeDelta),
}

/// How an API writes the field, or wants the parameter.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MarkFormat {
    /// `2026-01-01T00:00:00Z`; read also without a zone, in UTC.
    #[default]
    Rfc3339,
    /// `2026-01-01`, in UTC.
    Date,
    /// Seconds since 1970.
    Unix,
    /// Milliseconds since 1970.
    UnixMs,
    /// A whole number that grows with each record, such as a sequence.
    Number,
}

impl MarkFormat {
    /// Its name in the pipeline file.
    pub fn as_str(self) -> &'static str {
        self.of_times().map_or("number", WindowFormat::as_str)
    }

    /// Whether it is of moments.
    pub fn is_time(self) -> bool {
        self != Self::Number
    }

    fn of_times(self) -> Option<WindowFormat> {
        match self {
            Self::Rfc3339 => Some(WindowFormat::Rfc3339),
            Self::Date => Some(WindowFormat::Date),
            Self::Unix => Some(WindowFormat::Unix),
            Self::UnixMs => Some(WindowFormat::UnixMs),
            Self::Number => None,
        }
    }

    /// The mark of a text, which may be that of a number; `None` if it has another format.
    pub fn read(self, text: &str) -> Option<Mark> {
        let text = text.trim();
        match self {
            Self::Rfc3339 => time(text).map(Mark::Time),
            Self::Date => time(text).and_then(|at| self.floor(Mark::Time(at))),
            Self::Unix => epoch(text, 1_000_000_000).map(Mark::Time),
            Self::UnixMs => epoch(text, 1_000_000).map(Mark::Time),
            Self::Number => text.parse().map(Mark::Number).ok(),
        }
    }

    /// The text of a mark. What is finer than the format is cut off.
    pub fn write(self, mark: Mark) -> String {
        match (self.of_times(), mark) {
            (Some(format), Mark::Time(at)) => format.text(at),
            (_, mark) => mark.to_string(),
        }
    }

    /// The mark that this format writes; `None` for one of the other kind.
    fn floor(self, mark: Mark) -> Option<Mark> {
        let Mark::Time(at) = mark else { return (!self.is_time()).then_some(mark) };
        let floored = match self {
            Self::Rfc3339 => Some(at),
            Self::Date => Some(at.date_naive().and_time(NaiveTime::MIN).and_utc()),
            Self::Unix => DateTime::from_timestamp(at.timestamp(), 0),
            Self::UnixMs => DateTime::from_timestamp_millis(at.timestamp_millis()),
            Self::Number => None,
        };
        floored.map(Mark::Time)
    }

    /// Where a fetch begins whose source is read up to a watermark.
    pub fn begin(self, watermark: Mark, overlap: Overlap) -> Mark {
        let begin = watermark.before(overlap);
        self.floor(begin).unwrap_or(begin)
    }
}

fn time(text: &str) -> Option<DateTime<Utc>> {
    moment(text)
        .ok()
        .or_else(|| NAIVE_FORMATS.iter().find_map(|format| NaiveDateTime::parse_from_str(text, format).ok()).map(|at| at.and_utc()))
        .or_else(|| ZONED_FORMATS.iter().find_map(|format| DateTime::parse_from_str(text, format).ok()).map(|at| at.to_utc()))
}

/// A number of units of `nanos` since 1970, with a fraction or without.
fn epoch(text: &str, nanos: i128) -> Option<DateTime<Utc>> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.trim_start_matches('-').is_empty() || !is_digits(fraction) {
        return None;
    }
    let whole: i128 = whole.parse().ok()?;
    let digits = &fraction[..fraction.len().min(9)];
    let part = if digits.is_empty() { 0 } else { digits.parse::<i128>().ok()? * nanos / 10_i128.pow(u32::try_from(digits.len()).ok()?) };
    let part = if text.starts_with('-') { -part } else { part };
    let total = whole.checked_mul(nanos)?.checked_add(part)?;
    let seconds = i64::try_from(total.div_euclid(1_000_000_000)).ok()?;
    DateTime::from_timestamp(seconds, u32::try_from(total.rem_euclid(1_000_000_000)).ok()?)
}

/// A reading of everything behind the watermark that is not complete yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Pass {
    /// When its first page was requested.
    pub began: DateTime<Utc>,
    /// From where on its requests ask, as they write it; absent: from everything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<String>,
    /// The largest mark in its pages so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reached: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(text: &str) -> Mark {
        Mark::Time(moment(text).unwrap())
    }

    #[test]
    fn times_are_read_as_apis_write_them() {
        let at = time("2026-01-01T06:00:00.5Z");
        for text in [
            "2026-01-01T06:00:00.5Z",
            "2026-01-01T07:00:00.500+01:00",
            "2026-01-01T06:00:00.5",
            "2026-01-01 06:00:00.5",
            "2026-01-01T06:00:00.500+0000",
            " 2026-01-01T06:00:00.500000Z ",
        ] {
            assert_eq!(MarkFormat::Rfc3339.read(text), Some(at), "{text}");
        }
        assert_eq!(MarkFormat::Unix.read("1767247200.5"), Some(at));
        assert_eq!(MarkFormat::UnixMs.read("1767247200500"), Some(at));
        assert_eq!(MarkFormat::Date.read("2026-01-01T06:00:00Z"), Some(time("2026-01-01")));
        assert_eq!(MarkFormat::Number.read("42"), Some(Mark::Number(42)));
        assert_eq!(MarkFormat::Unix.read("-0.5"), Some(time("1969-12-31T23:59:59.5Z")));
        for (format, text) in [
            (MarkFormat::Rfc3339, "yesterday"),
            (MarkFormat::Rfc3339, "1767247200"),
            (MarkFormat::Unix, "2026-01-01"),
            (MarkFormat::Unix, "1e9"),
            (MarkFormat::Unix, ""),
            (MarkFormat::Unix, "99999999999999999999"),
            (MarkFormat::Number, "4.2"),
        ] {
            assert_eq!(format.read(text), None, "{format:?} {text}");
        }
    }

    #[test]
    fn a_fetch_begins_before_the_watermark_by_the_overlap_and_never_after_that() {
        let (watermark, minute) = (time("2026-01-01T06:00:30.7Z"), Overlap::Time(TimeDelta::minutes(1)));
        let begin = |format: MarkFormat| format.write(format.begin(watermark, minute));
        assert_eq!(begin(MarkFormat::Rfc3339), "2026-01-01T05:59:30.700Z");
        assert_eq!(begin(MarkFormat::Date), "2026-01-01");
        assert_eq!(begin(MarkFormat::Unix), "1767247170");
        assert_eq!(begin(MarkFormat::UnixMs), "1767247170700");
        assert_eq!(MarkFormat::Number.begin(Mark::Number(42), Overlap::Number(2)), Mark::Number(40));
    }

    #[test]
    fn a_mark_is_stored_as_text_and_read_again() {
        for mark in [time("2026-01-01T06:00:00.123456789Z"), Mark::Number(-7), Mark::Number(i128::MAX)] {
            assert_eq!(Mark::parse(&mark.to_string()), Some(mark));
        }
        assert_eq!(Mark::parse("soon"), None);
    }
}
