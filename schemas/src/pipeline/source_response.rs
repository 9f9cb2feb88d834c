//! The keys of `[fetcher]` that say how the answers of the source API are read, and what its
//! statuses and limits mean.

use std::fmt;
use std::time::Duration;

use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, de};

/// `[fetcher] records`: where the records are in a JSON answer. Each pointer is a JSON pointer (RFC
/// 6901).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecordsSection {
    /// `records = "/data/*/orders"`: an array of records, or one object that is a record. A token
    /// `*` stands for every member of an object and every element of an array.
    At(String),
    /// `records = { object = "/data" }`: one object, which is a record whatever it contains.
    Object(String),
    /// `records = { columns = "/hourly" }`: an object of equally long arrays, which are the columns
    /// of the records.
    Columns(String),
}

impl Default for RecordsSection {
    fn default() -> Self {
        Self::At(String::new())
    }
}

impl RecordsSection {
    /// The pointer.
    pub fn pointer(&self) -> &str {
        match self {
            Self::At(pointer) | Self::Object(pointer) | Self::Columns(pointer) => pointer,
        }
    }
}

/// Written by hand so that a wrong key is reported at its location, with the known ones.
impl<'de> Deserialize<'de> for RecordsSection {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "snake_case")]
        enum Shape {
            Object(String),
            Columns(String),
        }
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = RecordsSection;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON pointer such as \"/data\", { columns = \"/hourly\" } or { object = \"/data\" }")
            }
            fn visit_str<E: de::Error>(self, pointer: &str) -> Result<RecordsSection, E> {
                Ok(RecordsSection::At(pointer.to_owned()))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RecordsSection, A::Error> {
                Ok(match Shape::deserialize(MapAccessDeserializer::new(map))? {
                    Shape::Object(pointer) => RecordsSection::Object(pointer),
                    Shape::Columns(pointer) => RecordsSection::Columns(pointer),
                })
            }
        }
        deserializer.deserialize_any(Either)
    }
}

/// `[fetcher] format`: how the body of an answer is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BodyFormat {
    /// One JSON value.
    Json,
    /// One JSON value per line. The body may be larger than `max_page_bytes`.
    Ndjson,
    /// Rows under a header. The body may be larger than `max_page_bytes`.
    Csv,
}

/// `[fetcher] error`: where a JSON answer with a good status says that the request failed. null,
/// false, 0, and an empty text, array or object are no error.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ErrorSection {
    /// JSON pointer (RFC 6901) to the error.
    pub at: String,
    /// Whether the same request may succeed later. Default true.
    #[serde(default = "yes")]
    pub retry: bool,
}

fn yes() -> bool {
    true
}

/// Reads `error = "/error"` or `error = { at = "/error", retry = false }`.
pub(super) fn error<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<ErrorSection>, D::Error> {
    struct Either;
    impl<'de> Visitor<'de> for Either {
        type Value = ErrorSection;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a JSON pointer such as \"/error\", or { at = \"/error\", retry = false }")
        }
        fn visit_str<E: de::Error>(self, pointer: &str) -> Result<ErrorSection, E> {
            Ok(ErrorSection { at: pointer.to_owned(), retry: true })
        }
        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ErrorSection, A::Error> {
            ErrorSection::deserialize(MapAccessDeserializer::new(map))
        }
    }
    deserializer.deserialize_any(Either).map(Some)
}

/// `[fetcher.statuses]`: what a status means where the API uses it differently. Statuses are 100 to
/// 599, each in one list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StatusesSection {
    /// The same request may succeed later. Default 202 without a body, 408, 425, 429, and 500 and
    /// above except 501; and 403 and others if they name a rate limit.
    pub retry: Vec<u16>,
    /// A page without records. Default 204 and 205, and 304 if the request is conditional.
    pub ignore: Vec<u16>,
    /// The run fails, whatever the answer's headers say. Default every other status from 300.
    #[serde(rename = "final")]
    pub fatal: Vec<u16>,
}

/// `[fetcher] rate_limit`: the most requests in a period, evenly spaced: `"10/s"`, `"100/min"`,
/// `"5000/h"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestRate {
    /// The time from one request to the next.
    pub interval: Duration,
}

impl RequestRate {
    /// Parses a rate: a number of 1 to 1,000,000, and a period.
    fn parse(text: &str) -> Option<Self> {
        let (count, period) = text.split_once('/')?;
        let count: u32 = count.trim().parse().ok().filter(|count| (1..=1_000_000).contains(count))?;
        let seconds = match period.trim() {
            "s" | "sec" | "second" => 1,
            "m" | "min" | "minute" => 60,
            "h" | "hour" => 3_600,
            "d" | "day" => 86_400,
            _ => return None,
        };
        Some(Self { interval: Duration::from_secs(seconds) / count })
    }
}

impl<'de> Deserialize<'de> for RequestRate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let wrong =
            || de::Error::custom(format!("{text:?} is not a rate; write requests per period, such as \"10/s\", \"100/min\" or \"5000/h\""));
        Self::parse(&text).ok_or_else(wrong)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_requests_per_period() {
        for (text, millis) in [("10/s", 100), ("100/min", 600), ("5000/h", 720), (" 1 / day ", 86_400_000)] {
            assert_eq!(RequestRate::parse(text).map(|rate| rate.interval), Some(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "10", "0/s", "10/year", "-1/s", "1000001/s", "1.5/s"] {
            assert_eq!(RequestRate::parse(text), None, "{text}");
        }
    }
}
