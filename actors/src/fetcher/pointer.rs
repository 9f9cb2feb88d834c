//! JSON pointers (RFC 6901) into bytes, in one pass and without building a value.
//!
//! Guarantee: what a pointer does not lead to is skipped without recursion, so no nesting overflows the stack; of two equal names in an
//! object the first counts. Not guaranteed by [`Pointer::find_first`]: that what comes after the value is JSON at all.

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// How many names of an object a message lists.
const NAMES_SHOWN: usize = 12;

/// A JSON pointer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pointer {
    text: String,
    parts: Vec<String>,
}

impl Pointer {
    /// The pointer written as `text`: empty for the whole document, or parts that each begin with a slash, in which `~1` is a slash and
    /// `~0` a tilde. The pipeline file's check has seen to the first slash.
    pub(crate) fn parse(text: &str) -> Self {
        let parts = text.split('/').skip(1).map(|part| forebay_schemas::json_pointer::unescape(part).into_owned()).collect();
        Self { text: text.to_owned(), parts }
    }

    /// The pointer that goes this way and then to `last`.
    pub(super) fn of(way: &[String], last: &str) -> Self {
        let parts: Vec<String> = way.iter().cloned().chain([last.to_owned()]).collect();
        Self { text: String::new(), parts }
    }

    /// The names on its way.
    pub(super) fn parts(&self) -> &[String] {
        &self.parts
    }

    /// The pointer to what holds the value it leads to; that to the whole document is its own.
    pub(super) fn parent(&self) -> Self {
        Self { text: String::new(), parts: self.parts[..self.parts.len().saturating_sub(1)].to_vec() }
    }

    /// Whether there is a null where it leads, or on its way.
    pub(super) fn meets_null(&self, json: &[u8]) -> bool {
        let mut at: Option<&RawValue> = serde_json::from_slice(json).ok();
        for part in &self.parts {
            let Some(here) = at.filter(|here| here.get() != "null") else { break };
            at = Self::of(&[], part).find_first(here.get().as_bytes());
        }
        at.is_some_and(|here| here.get() == "null")
    }

    /// The value it leads to. Stops there: what follows the value is not looked at.
    pub(crate) fn find_first<'a>(&self, json: &'a [u8]) -> Option<&'a RawValue> {
        let mut found = None;
        // Ends in an error even when found, which is the way to stop.
        let _ = Walk { parts: &self.parts, leaf: &mut Raw(&mut found), stop: true }
            .deserialize(&mut serde_json::Deserializer::from_slice(json));
        found
    }

    /// Gives the value it leads to, if any, to `leaf`, and reads the whole document, which must be JSON.
    pub(super) fn visit<'de>(&self, json: &'de [u8], leaf: &mut impl Leaf<'de>) -> Result<(), serde_json::Error> {
        let mut deserializer = serde_json::Deserializer::from_slice(json);
        Walk { parts: &self.parts, leaf, stop: false }.deserialize(&mut deserializer)?;
        deserializer.end()
    }

    /// Why it leads nowhere in a document: which part is missing, and what is there instead.
    pub(crate) fn explain(&self, json: &[u8]) -> String {
        let mut at: Option<&RawValue> = serde_json::from_slice(json).ok();
        for (depth, part) in self.parts.iter().enumerate() {
            let Some(parent) = at else { break };
            let next = Self::of(&[], part).find_first(parent.get().as_bytes());
            if next.is_none() {
                let whole = "the answer";
                let parent_name = if depth == 0 { whole.to_owned() } else { format!("`/{}`", self.parts[..depth].join("/")) };
                return format!("{parent_name} has no `{part}`; it {}", contents(parent));
            }
            at = next;
        }
        "it leads to a value".to_owned()
    }
}

impl std::fmt::Display for Pointer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

/// What kind of value bytes of JSON are, for a message.
pub(crate) fn kind(json: &[u8]) -> &'static str {
    match json.trim_ascii_start().first() {
        Some(b'{') => "an object",
        Some(b'[') => "an array",
        Some(b'"') => "a string",
        Some(b't' | b'f') => "a boolean",
        Some(b'n') => "null",
        Some(b'-' | b'0'..=b'9') => "a number",
        _ => "nothing",
    }
}

/// What a value holds, for a message.
pub(super) fn contents(value: &RawValue) -> String {
    struct Names;
    impl<'de> Visitor<'de> for Names {
        type Value = Vec<String>;
        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("an object")
        }
        fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Vec<String>, M::Error> {
            let mut names = Vec::new();
            while let Some((name, IgnoredAny)) = map.next_entry::<String, IgnoredAny>()? {
                if names.len() < NAMES_SHOWN {
                    names.push(format!("`{name}`"));
                } else {
                    names.truncate(NAMES_SHOWN);
                    names.push("…".to_owned());
                }
            }
            Ok(names)
        }
    }
    match serde_json::Deserializer::from_str(value.get()).deserialize_map(Names) {
        Ok(names) if names.is_empty() => "is an empty object".to_owned(),
        Ok(names) => format!("has {}", names.join(", ")),
        Err(_) => format!("is {}", kind(value.get().as_bytes())),
    }
}

/// Who takes the value at the end of a pointer.
pub(super) trait Leaf<'de> {
    /// Takes the value. Called at most once.
    fn take<D: Deserializer<'de>>(&mut self, deserializer: D) -> Result<(), D::Error>;
}

/// Takes the value's own bytes.
struct Raw<'a, 'de>(&'a mut Option<&'de RawValue>);

impl<'de> Leaf<'de> for Raw<'_, 'de> {
    fn take<D: Deserializer<'de>>(&mut self, deserializer: D) -> Result<(), D::Error> {
        *self.0 = Some(serde::Deserialize::deserialize(deserializer)?);
        Ok(())
    }
}

/// One step on the way; says whether the way led to a value.
struct Walk<'a, L> {
    parts: &'a [String],
    leaf: &'a mut L,
    stop: bool,
}

impl<'de, L: Leaf<'de>> DeserializeSeed<'de> for Walk<'_, L> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        if !self.parts.is_empty() {
            return deserializer.deserialize_any(self);
        }
        self.leaf.take(deserializer)?;
        if self.stop { Err(D::Error::custom("found")) } else { Ok(true) }
    }
}

impl<'de, L: Leaf<'de>> Visitor<'de> for Walk<'_, L> {
    type Value = bool;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<bool, M::Error> {
        let (part, rest) = self.parts.split_first().expect("a step that visits has a part to go");
        let mut met = false;
        let mut found = false;
        while let Some(same) = map.next_key_seed(IsName(part))? {
            if same && !met {
                met = true;
                found = map.next_value_seed(Walk { parts: rest, leaf: &mut *self.leaf, stop: self.stop })?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut seq: S) -> Result<bool, S::Error> {
        let (part, rest) = self.parts.split_first().expect("a step that visits has a part to go");
        let wanted = if part.len() > 1 && part.starts_with('0') { None } else { part.parse::<usize>().ok() };
        let mut found = false;
        for at in 0.. {
            let more = if wanted == Some(at) {
                let element = seq.next_element_seed(Walk { parts: rest, leaf: &mut *self.leaf, stop: self.stop })?;
                found = element.unwrap_or(false);
                element.is_some()
            } else {
                seq.next_element::<IgnoredAny>()?.is_some()
            };
            if !more {
                break;
            }
        }
        Ok(found)
    }

    fn visit_bool<E>(self, _: bool) -> Result<bool, E> {
        Ok(false)
    }
    fn visit_i64<E>(self, _: i64) -> Result<bool, E> {
        Ok(false)
    }
    fn visit_u64<E>(self, _: u64) -> Result<bool, E> {
        Ok(false)
    }
    fn visit_f64<E>(self, _: f64) -> Result<bool, E> {
        Ok(false)
    }
    fn visit_str<E>(self, _: &str) -> Result<bool, E> {
        Ok(false)
    }
    fn visit_unit<E>(self) -> Result<bool, E> {
        Ok(false)
    }
}

/// Whether an object's name is the one sought, without a copy of it.
struct IsName<'a>(&'a str);

impl<'de> DeserializeSeed<'de> for IsName<'_> {
    type Value = bool;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for IsName<'_> {
    type Value = bool;
    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a name")
    }
    fn visit_str<E>(self, name: &str) -> Result<bool, E> {
        Ok(name == self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(pointer: &str, json: &str) -> Option<String> {
        Pointer::parse(pointer).find_first(json.as_bytes()).map(|value| value.get().to_owned())
    }

    #[test]
    fn a_pointer_goes_through_objects_and_arrays() {
        let json = r#"{"a": [1, {"b": "x"}], "0": true}"#;
        assert_eq!(find("/a/1/b", json).as_deref(), Some("\"x\""));
        assert_eq!(find("/0", json).as_deref(), Some("true"));
        assert_eq!(find("", json).as_deref(), Some(json));
        assert_eq!(find("/a/2", json), None);
        assert_eq!(find("/a/01", json), None);
        assert_eq!(find("/0/b", json), None);
    }

    #[test]
    fn slashes_and_tildes_in_names_are_escaped() {
        let json = r#"{"a/b": 1, "c~d": 2, "": 3, "~1": 4}"#;
        assert_eq!(find("/a~1b", json).as_deref(), Some("1"));
        assert_eq!(find("/c~0d", json).as_deref(), Some("2"));
        assert_eq!(find("/", json).as_deref(), Some("3"));
        assert_eq!(find("/~01", json).as_deref(), Some("4"));
    }

    #[test]
    fn an_escaped_name_is_found_by_what_it_means_and_the_first_of_two_counts() {
        assert_eq!(find("/é", r#"{"\u00e9": 1, "é": 2}"#).as_deref(), Some("1"));
    }

    #[test]
    fn deep_nesting_beside_the_way_does_not_overflow_the_stack() {
        let deep = ["[".repeat(200_000), "]".repeat(200_000)].concat();
        assert_eq!(find("/id", &format!(r#"{{"x": {deep}, "id": 7}}"#)).as_deref(), Some("7"));
    }

    #[test]
    fn a_null_on_the_way_is_met_and_a_name_that_is_not_there_is_none() {
        let meets = |pointer: &str, json: &str| Pointer::parse(pointer).meets_null(json.as_bytes());
        for (pointer, json) in [("", "null"), ("/r", "null"), ("/r", r#"{"r": null}"#), ("/d/r", r#"{"d": null}"#), ("/0", "[null]")] {
            assert!(meets(pointer, json), "{pointer} in {json}");
        }
        for (pointer, json) in [("", "[]"), ("/r", "{}"), ("/r", r#"{"x": null}"#), ("/d/r", r#"{"d": {"x": null}}"#), ("/r", "oops")] {
            assert!(!meets(pointer, json), "{pointer} in {json}");
        }
    }

    #[test]
    fn a_way_that_leads_nowhere_says_where_it_ends_and_what_is_there() {
        let explain = |pointer: &str, json: &str| Pointer::parse(pointer).explain(json.as_bytes());
        assert_eq!(explain("/results", r#"{"items": [], "info": 1}"#), "the answer has no `results`; it has `items`, `info`");
        assert_eq!(explain("/data/results", r#"{"data": {}}"#), "`/data` has no `results`; it is an empty object");
        assert_eq!(explain("/data/results", r#"{"data": "x"}"#), "`/data` has no `results`; it is a string");
    }
}
