//! The id of a topic.
//!
//! Kafka (2.8 and later) gives each topic an id when it is created. A topic that is deleted and
//! created again has the same name but another id, so the id tells whether an offset still means
//! the same record.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The digits of base64url.
const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
/// The 6-bit digits of 128 bits. The last digit holds two bits and four zeros.
const LENGTH: u32 = 22;

/// The id of a topic, in the 22 characters that Kafka's own tools show (`kafka-topics --describe`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicId(u128);

impl TopicId {
    /// The id of these bits. `None` for zero, which a broker without topic ids reports.
    pub fn from_bits(bits: u128) -> Option<Self> {
        (bits != 0).then_some(Self(bits))
    }
}

impl fmt::Display for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digit = |at: u32| {
            let bits = match (LENGTH - 1 - at) * 6 {
                0 => self.0 << 4,
                shift => self.0 >> (shift - 4),
            };
            char::from(DIGITS[usize::from(bits.to_be_bytes()[15] & 63)])
        };
        f.write_str(&(0..LENGTH).map(digit).collect::<String>())
    }
}

/// The text is not the id of a topic.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a topic id: an id is 22 characters of base64url, not all of them A")]
pub struct ParseTopicIdError(String);

impl FromStr for TopicId {
    type Err = ParseTopicIdError;

    fn from_str(text: &str) -> Result<Self, ParseTopicIdError> {
        let wrong = || ParseTopicIdError(text.to_owned());
        if text.len() != LENGTH as usize {
            return Err(wrong());
        }
        let (mut bits, last) = (0_u128, text.len() - 1);
        for (at, byte) in text.bytes().enumerate() {
            let digit = DIGITS.iter().position(|digit| *digit == byte).ok_or_else(wrong)? as u128;
            bits = match at {
                _ if at < last => (bits << 6) | digit,
                _ if digit & 15 == 0 => (bits << 2) | (digit >> 4),
                _ => return Err(wrong()),
            };
        }
        Self::from_bits(bits).ok_or_else(wrong)
    }
}

impl Serialize for TopicId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TopicId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
impl schemars::JsonSchema for TopicId {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "TopicId".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "pattern": "^[A-Za-z0-9_-]{22}$" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_prints_as_in_kafka_and_parses_back() {
        // From `kafka-topics --describe`; `org.apache.kafka.common.Uuid` has the same bits.
        let id = TopicId::from_bits((0x0123_4567_89ab_cdef << 64) | 0xfedc_ba98_7654_3210).unwrap();
        assert_eq!(id.to_string(), "ASNFZ4mrze_-3LqYdlQyEA");
        assert_eq!(id.to_string().parse(), Ok(id));
        let least = TopicId::from_bits(1).unwrap();
        assert_eq!((least.to_string().as_str(), least.to_string().parse()), ("AAAAAAAAAAAAAAAAAAAAAQ", Ok(least)));
        let most = TopicId::from_bits(u128::MAX).unwrap();
        assert_eq!(most.to_string().parse(), Ok(most));
    }

    #[test]
    fn zero_and_other_texts_are_rejected() {
        assert_eq!(TopicId::from_bits(0), None);
        for text in ["", "AAAAAAAAAAAAAAAAAAAAAA", "ASNFZ4mrze_-3LqYdlQyEB", "ASNFZ4mrze_-3LqYdlQyE", "ASNFZ4mrze/-3LqYdlQyEA"] {
            assert!(text.parse::<TopicId>().is_err(), "{text}");
        }
    }
}
