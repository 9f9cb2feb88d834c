//! How a field says a time: as text with a zone, as text without one, or as a number since 1970.

use chrono_tz::Tz;
use serde_json::{Map, Value};

use super::json_types::JsonTypes;
use super::{Kind, SchemaError};
use crate::json_pointer::JsonPointer;
use crate::pipeline::nearest;

/// The keyword for the time zone of times that are written without one.
pub(super) const TIMEZONE: &str = "x-timezone";
/// The keyword for what a time is in the hour of a clock change.
pub(super) const CLOCK_CHANGE: &str = "x-clock-change";

/// What the number of a time counts since 1970-01-01T00:00:00Z, without leap seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EpochUnit {
    /// `epoch-seconds`
    Seconds,
    /// `epoch-millis`
    Millis,
    /// `epoch-micros`
    Micros,
    /// `epoch-nanos`
    Nanos,
}

/// What a time without a zone is, when the clocks of its zone skip it or show it twice.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ClockChange {
    /// A reject.
    #[default]
    Reject,
    /// The earlier of the two times that it can mean.
    Earlier,
    /// The later one.
    Later,
}

impl EpochUnit {
    /// All units, the longest first.
    pub const ALL: [Self; 4] = [Self::Seconds, Self::Millis, Self::Micros, Self::Nanos];

    /// The format that says the unit.
    pub fn format(self) -> &'static str {
        match self {
            Self::Seconds => "epoch-seconds",
            Self::Millis => "epoch-millis",
            Self::Micros => "epoch-micros",
            Self::Nanos => "epoch-nanos",
        }
    }

    /// The unit in words.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Seconds => "seconds",
            Self::Millis => "milliseconds",
            Self::Micros => "microseconds",
            Self::Nanos => "nanoseconds",
        }
    }

    /// The power of ten that makes microseconds of the unit.
    pub fn exponent(self) -> i32 {
        match self {
            Self::Seconds => 6,
            Self::Millis => 3,
            Self::Micros => 0,
            Self::Nanos => -3,
        }
    }

    /// The unit in which a number of this length, in digits, is a time near the present.
    pub fn of_digits(digits: usize) -> Self {
        match digits {
            0..=11 => Self::Seconds,
            12..=14 => Self::Millis,
            15..=17 => Self::Micros,
            _ => Self::Nanos,
        }
    }
}

/// Returns the type that a format makes of these JSON types; `None` when the format is of no time.
///
/// # Errors
/// When the format is of other types, or the time zone does not exist.
pub(super) fn kind(format: &str, types: JsonTypes, schema: &Map<String, Value>, at: &JsonPointer) -> Option<Result<Kind, SchemaError>> {
    let refused = |message: String, help: &str| Some(Err(SchemaError { pointer: at.child("format"), message, help: help.to_owned() }));
    let is_number = types == JsonTypes::INTEGER || types == JsonTypes::NUMBER;
    let unit = EpochUnit::ALL.into_iter().find(|unit| unit.format() == format);
    match (format, unit) {
        (_, Some(unit)) if is_number => Some(Ok(Kind::Epoch { unit, fraction: types == JsonTypes::NUMBER })),
        (_, Some(_)) => refused(
            format!("{format} is a format of integers and numbers, and the field is {}", types.expected()),
            "for numbers in text, remove the format, and write to_timestamp_millis(CAST(field AS BIGINT)) in the SQL",
        ),
        ("date-time" | "date-time-local" | "date", None) if is_number => refused(
            format!("{format} is a format of text, and the field is {}", types.expected()),
            "write what the number counts since 1970: epoch-seconds, epoch-millis, epoch-micros or epoch-nanos",
        ),
        ("date-time", None) if types == JsonTypes::TEXT => Some(Ok(Kind::Timestamp)),
        ("date", None) if types == JsonTypes::TEXT => Some(Ok(Kind::Date)),
        ("date-time-local", None) if types == JsonTypes::TEXT => Some(local(schema, at)),
        _ => None,
    }
}

fn local(schema: &Map<String, Value>, at: &JsonPointer) -> Result<Kind, SchemaError> {
    let refused = |keyword: &str, message: String, help: String| SchemaError { pointer: at.child(keyword), message, help };
    let zone = match schema.get(TIMEZONE) {
        None => Tz::UTC,
        Some(name) => name.as_str().and_then(|name| name.parse().ok()).ok_or_else(|| {
            let known = || chrono_tz::TZ_VARIANTS.iter().map(|zone| zone.name());
            let help = match name.as_str().and_then(|name| nearest(name, known())) {
                Some(near) => format!("did you mean {near:?}?"),
                None => "name one of the IANA time zone database, such as \"Europe/Berlin\"".to_owned(),
            };
            refused(TIMEZONE, format!("{name} is no time zone"), help)
        })?,
    };
    let change = match schema.get(CLOCK_CHANGE).map(Value::as_str) {
        None | Some(Some("reject")) => ClockChange::Reject,
        Some(Some("earlier")) => ClockChange::Earlier,
        Some(Some("later")) => ClockChange::Later,
        Some(_) => {
            let message = format!("{} is not what a time can be in the hour of a clock change", schema[CLOCK_CHANGE]);
            return Err(refused(CLOCK_CHANGE, message, "write \"reject\", \"earlier\" or \"later\"".to_owned()));
        }
    };
    Ok(Kind::LocalTimestamp { zone, change })
}
