//! The params of a request for a run: texts, numbers, true and false.
//!
//! Guarantees:
//! * Params that are equal in JSON have the same text: `7`, `7.0` and `"7"` are one param.
//! * A number whose digits would be lost is an error.

use std::collections::BTreeMap;

use serde::de::{Deserializer, Error as _, Visitor};
use serde::{Deserialize, de};

/// The largest number that a float represents exactly with all smaller ones.
pub(crate) const MAX_EXACT: i64 = 9_007_199_254_740_992;

/// The text of a scalar.
struct Text(String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Scalar;
        impl Visitor<'_> for Scalar {
            type Value = Text;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a text, a number, true or false")
            }
            fn visit_str<E>(self, text: &str) -> Result<Text, E> {
                Ok(Text(text.to_owned()))
            }
            fn visit_bool<E>(self, value: bool) -> Result<Text, E> {
                Ok(Text(value.to_string()))
            }
            fn visit_i64<E>(self, number: i64) -> Result<Text, E> {
                Ok(Text(number.to_string()))
            }
            fn visit_u64<E>(self, number: u64) -> Result<Text, E> {
                Ok(Text(number.to_string()))
            }
            fn visit_f64<E: de::Error>(self, number: f64) -> Result<Text, E> {
                #[allow(clippy::cast_precision_loss, reason = "the limit is exact")]
                if number.abs() > MAX_EXACT as f64 {
                    return Err(E::custom(format!("the number {number} is not exact; write it as text")));
                }
                // Zero has no sign, as in `0`.
                Ok(Text(if number == 0.0 { "0".to_owned() } else { number.to_string() }))
            }
        }
        deserializer.deserialize_any(Scalar)
    }
}

/// Reads params.
///
/// # Errors
/// When one is neither a text, a number, true nor false.
pub(crate) fn scalars<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, String>, D::Error> {
    let params = BTreeMap::<String, Text>::deserialize(deserializer).map_err(D::Error::custom)?;
    Ok(params.into_iter().map(|(name, Text(text))| (name, text)).collect())
}

#[cfg(test)]
mod tests {
    use crate::run::RunRequest;

    #[test]
    fn params_that_are_equal_in_json_have_the_same_text() {
        let text = |json: &str| {
            let request: Result<RunRequest, _> = serde_json::from_str(&format!("{{\"params\": {{\"n\": {json}}}}}"));
            request.map(|request| request.params["n"].clone()).map_err(|error| error.to_string())
        };
        for (json, kept) in [
            ("\"7\"", "7"),
            ("7", "7"),
            ("7.0", "7"),
            ("70e-1", "7"),
            ("-0.0", "0"),
            ("1.50", "1.5"),
            ("-12", "-12"),
            ("18446744073709551615", "18446744073709551615"),
            ("true", "true"),
            ("false", "false"),
            ("\"007\"", "007"),
        ] {
            assert_eq!(text(json).as_deref(), Ok(kept), "{json}");
        }
        assert!(text("123456789012345678901234567890").unwrap_err().contains("not exact"));
        for json in ["null", "[1]", "{}"] {
            assert!(text(json).unwrap_err().contains("a text, a number, true or false"), "{json}");
        }
    }
}
