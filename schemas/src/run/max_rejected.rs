//! How many records of a run may be rejected.
//!
//! Guarantees:
//! * A share has up to four decimal places, and prints as it was read.
//! * A run without rejected records never fails for this reason.

use std::fmt;
use std::str::FromStr;

use serde::de::{self, Deserializer, Visitor};
use serde::ser::Serializer;
use serde::{Deserialize, Serialize};

use crate::rejects::Rejects;

/// The maximum number of dead letters: an absolute number, or a share such as `5%`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MaxRejected {
    /// This many records.
    Records(u64),
    /// This many per million.
    Millionths(u32),
}

/// The text is not a limit of rejected records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected a number of records such as 10, or a share such as 5%, from 0% to 100% with at most four decimal places")]
pub struct ParseMaxRejectedError;

/// The largest number of records; every JSON client represents it exactly.
const MAX_RECORDS: u64 = crate::json_integer::MAX_INTEGER;
/// Decimal places of a share.
const DIGITS: usize = 4;

/// Counts of settled records.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tried {
    /// All records.
    pub records: u64,
    /// Records that are written, filtered out, or not known to be rejected.
    pub good: u64,
    /// Records that are dead letters.
    pub rejected: u64,
}

impl MaxRejected {
    /// Why too many records were rejected, if so. Without a limit, that is if every record was.
    pub fn judge(limit: Option<Self>, tried: Tried, reasons: &Rejects) -> Option<String> {
        let Tried { records, good, rejected } = tried;
        let allowed = match limit {
            Some(limit) if limit.is_exceeded(rejected, records) => format!(", and max_rejected is {limit}"),
            None if rejected > 0 && good == 0 => "; max_rejected = \"100%\" allows that".to_owned(),
            _ => return None,
        };
        let what = if good == 0 { "every record was rejected" } else { "too many records were rejected" };
        let most = reasons.most_frequent().map(|most| format!("; most often, {most}")).unwrap_or_default();
        Some(format!("{what}, {rejected} of {records}{allowed}{most}; `forebay dlq` shows them"))
    }

    fn is_exceeded(self, rejected: u64, records: u64) -> bool {
        match self {
            Self::Records(most) => rejected > most,
            Self::Millionths(share) => u128::from(rejected) * 1_000_000 > u128::from(share) * u128::from(records),
        }
    }
}

impl FromStr for MaxRejected {
    type Err = ParseMaxRejectedError;

    fn from_str(text: &str) -> Result<Self, ParseMaxRejectedError> {
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let Some(share) = text.strip_suffix('%') else {
            let records = text.parse().ok().filter(|records| digits(text) && *records <= MAX_RECORDS);
            return records.map(Self::Records).ok_or(ParseMaxRejectedError);
        };
        let (whole, part) = share.split_once('.').unwrap_or((share, "0"));
        if !digits(whole) || !digits(part) || part.len() > DIGITS {
            return Err(ParseMaxRejectedError);
        }
        let number = |text: &str| text.parse::<u32>().map_err(|_| ParseMaxRejectedError);
        let millionths = number(whole)?.checked_mul(10_000).and_then(|whole| whole.checked_add(number(&format!("{part:0<DIGITS$}")).ok()?));
        millionths.filter(|&share| share <= 1_000_000).map(Self::Millionths).ok_or(ParseMaxRejectedError)
    }
}

impl fmt::Display for MaxRejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Records(records) => write!(f, "{records}"),
            Self::Millionths(share) => {
                let text = format!("{}.{:04}", share / 10_000, share % 10_000);
                write!(f, "{}%", text.trim_end_matches('0').trim_end_matches('.'))
            }
        }
    }
}

impl Serialize for MaxRejected {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Records(records) => serializer.serialize_u64(*records),
            Self::Millionths(_) => serializer.collect_str(self),
        }
    }
}

impl<'de> Deserialize<'de> for MaxRejected {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Words;
        impl Visitor<'_> for Words {
            type Value = MaxRejected;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of records, or a share such as \"5%\"")
            }
            fn visit_u64<E: de::Error>(self, records: u64) -> Result<MaxRejected, E> {
                if records <= MAX_RECORDS { Ok(MaxRejected::Records(records)) } else { Err(E::custom(ParseMaxRejectedError)) }
            }
            fn visit_i64<E: de::Error>(self, records: i64) -> Result<MaxRejected, E> {
                u64::try_from(records).map_err(|_| E::custom(ParseMaxRejectedError)).and_then(|records| self.visit_u64(records))
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<MaxRejected, E> {
                match text.parse() {
                    Ok(share @ MaxRejected::Millionths(_)) => Ok(share),
                    _ => Err(E::custom(ParseMaxRejectedError)),
                }
            }
        }
        deserializer.deserialize_any(Words)
    }
}

#[cfg(test)]
impl schemars::JsonSchema for MaxRejected {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "MaxRejected".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "The most records that may become dead letters: a number, or a share such as `5%`.",
            "oneOf": [
                { "type": "integer", "minimum": 0, "maximum": MAX_RECORDS },
                { "type": "string", "pattern": "^(100(\\.0{1,4})?|[0-9]{1,2}(\\.[0-9]{1,4})?)%$" },
            ],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_shares_round_trip() {
        for (text, is, again) in [
            ("0", MaxRejected::Records(0), "0"),
            ("10", MaxRejected::Records(10), "10"),
            ("5%", MaxRejected::Millionths(50_000), "5%"),
            ("0.5%", MaxRejected::Millionths(5_000), "0.5%"),
            ("99.9999%", MaxRejected::Millionths(999_999), "99.9999%"),
            ("100.0%", MaxRejected::Millionths(1_000_000), "100%"),
            ("0%", MaxRejected::Millionths(0), "0%"),
        ] {
            assert_eq!(text.parse(), Ok(is));
            assert_eq!(is.to_string(), again);
            let json = serde_json::to_string(&is).unwrap();
            assert_eq!(serde_json::from_str::<MaxRejected>(&json).unwrap(), is, "{json}");
        }
        for text in ["", "%", "-1", "+1", "1.5", "101%", "100.0001%", "5 %", "1.23456%", ".5%", "5.%", "1e2", "99999999999999999999"] {
            assert_eq!(text.parse::<MaxRejected>(), Err(ParseMaxRejectedError), "{text}");
        }
        for json in ["-1", "1.5", "\"10\"", "true", "\"x\"", "9007199254740992"] {
            assert!(serde_json::from_str::<MaxRejected>(json).is_err(), "{json}");
        }
    }

    #[test]
    fn one_more_than_the_limit_is_too_many_and_without_a_limit_only_all() {
        let mut reasons = Rejects::default();
        reasons.add("decode", "not JSON", 5);
        let judge = |limit: &str, records, rejected| {
            let limit = (!limit.is_empty()).then(|| limit.parse().unwrap());
            MaxRejected::judge(limit, Tried { records, good: records - rejected, rejected }, &reasons)
        };
        assert_eq!(judge("5", 100, 5), None);
        assert_eq!(
            judge("5", 100, 6).unwrap(),
            "too many records were rejected, 6 of 100, and max_rejected is 5; most often, 5 at decode: not JSON; `forebay dlq` shows them"
        );
        assert_eq!((judge("5%", 100, 5), judge("5%", 99, 5).is_some(), judge("0%", 10, 1).is_some()), (None, true, true));
        assert_eq!((judge("", 5, 4), judge("", 0, 0), judge("100%", 5, 5), judge("0", 5, 0)), (None, None, None, None));
        assert_eq!(
            judge("", 5, 5).unwrap(),
            "every record was rejected, 5 of 5; max_rejected = \"100%\" allows that; most often, 5 at decode: not JSON; `forebay dlq` shows them"
        );
    }
}
