//! Which dead letters a list, a redrive or a drop is about.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

/// Selects dead letters: those that match every given part.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct DeadLetterFilter {
    /// The stage that rejected them: `produce`, `decode`, `transform`, `write`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<String>,
    /// A text in their reason, upper and lower case being the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub matching: Option<String>,
    /// The key of the record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

/// Reads a filter from a JSON object. Serde alone would take an array of its fields, too.
pub(crate) fn object<'de, D: Deserializer<'de>>(deserializer: D) -> Result<DeadLetterFilter, D::Error> {
    let fields = Map::<String, Value>::deserialize(deserializer)?;
    serde_json::from_value(Value::Object(fields)).map_err(D::Error::custom)
}

impl DeadLetterFilter {
    /// The names of the stages.
    pub const STAGES: &'static [&'static str] = &["produce", "decode", "transform", "write"];

    /// Whether every dead letter matches.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether a dead letter with these properties matches. They are those that are shown, so that
    /// a filter finds nothing that `[api] mask` hides.
    pub fn matches(&self, stage: &str, reason: &str, key: Option<&str>) -> bool {
        let in_reason = |text: &String| reason.to_lowercase().contains(&text.to_lowercase());
        self.stage.as_ref().is_none_or(|wanted| wanted == stage)
            && self.matching.as_ref().is_none_or(in_reason)
            && self.key.as_ref().is_none_or(|wanted| key == Some(wanted))
    }
}

/// `at write, "too long" in the reason, key 7`.
impl std::fmt::Display for DeadLetterFilter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let stage = self.stage.iter().map(|stage| format!("at {stage}"));
        let text = self.matching.iter().map(|text| format!("{text:?} in the reason"));
        let key = self.key.iter().map(|key| format!("key {key:?}"));
        f.write_str(&stage.chain(text).chain(key).collect::<Vec<_>>().join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_an_object_of_known_fields() {
        let plan = |only: &str| serde_json::from_str::<crate::api::PlanRequest>(&format!("{{\"action\": \"drop\", \"only\": {only}}}"));
        assert!(plan("{\"key\": \"7\"}").is_ok() && plan("{}").is_ok());
        for only in ["[null, null]", "[]", "null", "{\"keys\": \"7\"}", "{\"key\": 7}"] {
            assert!(plan(only).is_err(), "{only}");
        }
    }

    #[test]
    fn a_filter_matches_what_has_all_its_parts() {
        let filter = |stage: Option<&str>, matching: Option<&str>, key: Option<&str>| DeadLetterFilter {
            stage: stage.map(str::to_owned),
            matching: matching.map(str::to_owned),
            key: key.map(str::to_owned),
        };
        let of = |filter: &DeadLetterFilter| filter.matches("decode", "`/Age` must be a number", Some("7"));
        assert!(of(&filter(None, None, None)) && of(&filter(Some("decode"), Some("/age"), Some("7"))));
        assert!(!of(&filter(Some("write"), None, None)));
        assert!(!of(&filter(None, Some("text"), None)));
        assert!(!of(&filter(None, None, Some("8"))));
        assert_eq!(filter(Some("write"), Some("a\"b"), Some("7")).to_string(), "at write, \"a\\\"b\" in the reason, key \"7\"");
    }
}
