//! Finds the value of a JSON pointer in bytes, in one pass and without building a tree.
//!
//! Guarantees:
//! * Values off the pointer's path are skipped without recursion, so no nesting overflows the
//!   stack.
//! * When an object has a name twice, the first counts.
//!
//! [`JsonLookup::find_first`] does not guarantee that what follows the value is JSON.

use std::slice;

use forebay_schemas::json_pointer::JsonPointer;
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// The most names of an object that a message lists.
const MAX_NAMES_SHOWN: usize = 12;

/// Parses a pointer of the pipeline file.
pub(crate) fn parse_pointer(text: &str) -> JsonPointer {
    JsonPointer::parse(text).expect("the check of the pipeline file rejects text that is no pointer")
}

/// Looks up the value that a pointer leads to.
pub(crate) trait JsonLookup {
    /// The value. Stops there: what follows the value is not read.
    fn find_first<'a>(&self, json: &'a [u8]) -> Option<&'a RawValue>;

    /// Gives the value, if there is one, to `leaf`, and reads the whole document, which must be
    /// JSON.
    fn visit<'de>(&self, json: &'de [u8], leaf: &mut impl Leaf<'de>) -> Result<(), serde_json::Error>;

    /// Like `visit`, where a token `*` leads to every member of an object and every element of an
    /// array. `leaf` takes each of the values, in order. Returns false when the pointer leads
    /// nowhere: neither to a value, nor to a null or an empty collection on the way.
    fn visit_all<'de>(&self, json: &'de [u8], leaf: &mut impl Leaf<'de>) -> Result<bool, serde_json::Error>;

    /// Whether the value, or one on the path to it, is null.
    fn meets_null(&self, json: &[u8]) -> bool;

    /// Why the pointer leads nowhere in a document: which token is missing, and what the document
    /// has instead.
    fn explain(&self, json: &[u8]) -> String;
}

impl JsonLookup for JsonPointer {
    fn find_first<'a>(&self, json: &'a [u8]) -> Option<&'a RawValue> {
        find(self.tokens(), json)
    }

    fn visit<'de>(&self, json: &'de [u8], leaf: &mut impl Leaf<'de>) -> Result<(), serde_json::Error> {
        let mut deserializer = serde_json::Deserializer::from_slice(json);
        Walk { tokens: self.tokens(), leaf, stop: false, all: false }.deserialize(&mut deserializer)?;
        deserializer.end()
    }

    fn visit_all<'de>(&self, json: &'de [u8], leaf: &mut impl Leaf<'de>) -> Result<bool, serde_json::Error> {
        let mut deserializer = serde_json::Deserializer::from_slice(json);
        let found = Walk { tokens: self.tokens(), leaf, stop: false, all: true }.deserialize(&mut deserializer)?;
        deserializer.end()?;
        Ok(found)
    }

    fn meets_null(&self, json: &[u8]) -> bool {
        let mut at: Option<&RawValue> = serde_json::from_slice(json).ok();
        for token in self.tokens() {
            let Some(here) = at.filter(|here| here.get() != "null") else { break };
            at = find(slice::from_ref(token), here.get().as_bytes());
        }
        at.is_some_and(|here| here.get() == "null")
    }

    fn explain(&self, json: &[u8]) -> String {
        let mut at: Option<&RawValue> = serde_json::from_slice(json).ok();
        for (depth, token) in self.tokens().iter().enumerate() {
            let Some(parent) = at else { break };
            let next = find(slice::from_ref(token), parent.get().as_bytes());
            if next.is_none() {
                let parent_name = if depth == 0 { "the answer".to_owned() } else { format!("`/{}`", self.tokens()[..depth].join("/")) };
                return format!("{parent_name} has no `{token}`; it {}", contents(parent));
            }
            at = next;
        }
        "it leads to a value".to_owned()
    }
}

fn find<'a>(tokens: &[String], json: &'a [u8]) -> Option<&'a RawValue> {
    let mut found = None;
    // Returns an error when the value is found, which is how it stops.
    let _ =
        Walk { tokens, leaf: &mut Raw(&mut found), stop: true, all: false }.deserialize(&mut serde_json::Deserializer::from_slice(json));
    found
}

/// The type of a JSON value, for a message.
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

/// What a value has, for a message.
pub(crate) fn contents(value: &RawValue) -> String {
    struct Names;
    impl<'de> Visitor<'de> for Names {
        type Value = Vec<String>;
        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("an object")
        }
        fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Vec<String>, M::Error> {
            let mut names = Vec::new();
            while let Some((name, IgnoredAny)) = map.next_entry::<String, IgnoredAny>()? {
                if names.len() < MAX_NAMES_SHOWN {
                    names.push(format!("`{name}`"));
                } else {
                    names.truncate(MAX_NAMES_SHOWN);
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

/// Receives the value that a pointer leads to.
pub(crate) trait Leaf<'de> {
    /// Takes the value. Called at most once, except by [`JsonLookup::visit_all`].
    fn take<D: Deserializer<'de>>(&mut self, deserializer: D) -> Result<(), D::Error>;
}

/// Takes the bytes of the value.
struct Raw<'a, 'de>(&'a mut Option<&'de RawValue>);

impl<'de> Leaf<'de> for Raw<'_, 'de> {
    fn take<D: Deserializer<'de>>(&mut self, deserializer: D) -> Result<(), D::Error> {
        *self.0 = Some(serde::Deserialize::deserialize(deserializer)?);
        Ok(())
    }
}

/// One step along the path. Its value says whether the path leads to a value.
struct Walk<'a, L> {
    tokens: &'a [String],
    leaf: &'a mut L,
    stop: bool,
    /// Whether `*` leads to all values.
    all: bool,
}

/// The token that leads to all values.
pub(crate) const ALL: &str = "*";

impl<'de, L: Leaf<'de>> DeserializeSeed<'de> for Walk<'_, L> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        if !self.tokens.is_empty() {
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
        let (token, rest) = self.tokens.split_first().expect("a step that visits has a token left");
        let mut met = false;
        let mut found = false;
        if self.all && token == ALL {
            let mut is_empty = true;
            while map.next_key::<IgnoredAny>()?.is_some() {
                is_empty = false;
                found |= map.next_value_seed(Walk { tokens: rest, leaf: &mut *self.leaf, stop: self.stop, all: true })?;
            }
            return Ok(found || is_empty);
        }
        while let Some(same) = map.next_key_seed(IsName(token))? {
            if same && !met {
                met = true;
                found = map.next_value_seed(Walk { tokens: rest, leaf: &mut *self.leaf, stop: self.stop, all: self.all })?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut seq: S) -> Result<bool, S::Error> {
        let (token, rest) = self.tokens.split_first().expect("a step that visits has a token left");
        let wanted = if token.len() > 1 && token.starts_with('0') { None } else { token.parse::<usize>().ok() };
        let mut found = false;
        let every = self.all && token == ALL;
        for at in 0.. {
            let more = if every || wanted == Some(at) {
                let element = seq.next_element_seed(Walk { tokens: rest, leaf: &mut *self.leaf, stop: self.stop, all: self.all })?;
                found |= element.unwrap_or(false);
                element.is_some()
            } else {
                seq.next_element::<IgnoredAny>()?.is_some()
            };
            if !more {
                found |= every && at == 0;
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
        Ok(self.all)
    }
}

/// Compares the name of an object's member without copying it.
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
        parse_pointer(pointer).find_first(json.as_bytes()).map(|value| value.get().to_owned())
    }

    #[test]
    fn a_pointer_leads_through_objects_and_arrays() {
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
    fn an_escaped_name_is_matched_unescaped_and_the_first_of_two_counts() {
        assert_eq!(find("/é", r#"{"\u00e9": 1, "é": 2}"#).as_deref(), Some("1"));
    }

    #[test]
    fn deep_nesting_off_the_path_does_not_overflow_the_stack() {
        let deep = ["[".repeat(200_000), "]".repeat(200_000)].concat();
        assert_eq!(find("/id", &format!(r#"{{"x": {deep}, "id": 7}}"#)).as_deref(), Some("7"));
    }

    #[test]
    fn a_null_on_the_path_is_met_and_a_missing_name_is_not() {
        let meets = |pointer: &str, json: &str| parse_pointer(pointer).meets_null(json.as_bytes());
        for (pointer, json) in [("", "null"), ("/r", "null"), ("/r", r#"{"r": null}"#), ("/d/r", r#"{"d": null}"#), ("/0", "[null]")] {
            assert!(meets(pointer, json), "{pointer} in {json}");
        }
        for (pointer, json) in [("", "[]"), ("/r", "{}"), ("/r", r#"{"x": null}"#), ("/d/r", r#"{"d": {"x": null}}"#), ("/r", "oops")] {
            assert!(!meets(pointer, json), "{pointer} in {json}");
        }
    }

    #[test]
    fn a_pointer_that_leads_nowhere_says_where_it_ends_and_what_is_there() {
        let explain = |pointer: &str, json: &str| parse_pointer(pointer).explain(json.as_bytes());
        assert_eq!(explain("/results", r#"{"items": [], "info": 1}"#), "the answer has no `results`; it has `items`, `info`");
        assert_eq!(explain("/data/results", r#"{"data": {}}"#), "`/data` has no `results`; it is an empty object");
        assert_eq!(explain("/data/results", r#"{"data": "x"}"#), "`/data` has no `results`; it is a string");
    }
}
