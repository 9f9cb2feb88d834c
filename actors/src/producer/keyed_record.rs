//! What a record becomes in the topic: a record with a key and an event identifier, or a dead
//! letter. Pure.
//!
//! Guarantees: the same bytes always get the same key and identifier, so producing a record again
//! changes nothing in the table.
//!
//! Does not guarantee that two spellings of one record (another order of names, another spelling of
//! a number) get the same identifier.

use std::borrow::Cow;

use uuid::Uuid;

use crate::text::json_lookup::{JsonLookup as _, kind, parse_pointer};
use forebay_dataplane::Reason;
use forebay_schemas::json_pointer::JsonPointer;

/// Extracts the keys and derives the event identifiers of the records of one pipeline and topic.
#[derive(Debug, Clone)]
pub(crate) struct KeyExtractor {
    key: JsonPointer,
    namespace: Uuid,
}

/// What a record becomes in the topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum KeyedRecord<'a> {
    /// A record with a key.
    Record {
        /// The text of a string, or the digits of a number as the API wrote them.
        key: Cow<'a, [u8]>,
        /// The event identifier: the same for the same content.
        event: Uuid,
    },
    /// A dead letter.
    DeadLetter {
        /// The key of the record, if it has one.
        key: Option<Cow<'a, [u8]>>,
        /// Why the record is rejected.
        reason: Reason,
        /// The event identifier: the same for the same content.
        event: Uuid,
    },
}

impl KeyExtractor {
    /// The keys of a pipeline and topic; `key` is `producer.key`.
    pub(crate) fn new(pipeline: &str, topic: &str, key: &str) -> Self {
        Self { key: parse_pointer(key), namespace: Uuid::new_v5(&Uuid::NAMESPACE_URL, format!("forebay:{pipeline}/{topic}").as_bytes()) }
    }

    /// Extracts the key of a record. `scratch` is overwritten; it saves an allocation per record.
    pub(crate) fn extract<'a>(&self, record: &'a [u8], scratch: &mut Vec<u8>) -> KeyedRecord<'a> {
        match self.key_of(record) {
            Ok(key) => {
                let event = self.event(&key, record, scratch);
                KeyedRecord::Record { key, event }
            }
            Err(reason) => self.dead_letter(record, reason, scratch),
        }
    }

    /// The dead letter of a record that is rejected for this reason.
    pub(super) fn dead_letter<'a>(&self, record: &[u8], reason: Reason, scratch: &mut Vec<u8>) -> KeyedRecord<'a> {
        KeyedRecord::DeadLetter { key: None, reason, event: self.event(b"", record, scratch) }
    }

    fn key_of<'a>(&self, record: &'a [u8]) -> Result<Cow<'a, [u8]>, Reason> {
        if record.trim_ascii_start().first() != Some(&b'{') {
            return Err(Reason::plain(format!("the record is {}, not an object", kind(record))));
        }
        let Some(found) = self.key.find_first(record) else {
            let why = self.key.explain(record);
            return Err(Reason::plain(format!("the record has no key: producer.key = \"{}\" finds nothing; {why}", self.key)));
        };
        let text = found.get();
        match text.as_bytes() {
            [b'"', plain @ .., b'"'] if !plain.contains(&b'\\') => Ok(Cow::Borrowed(plain)),
            [b'"', ..] => match serde_json::from_str::<String>(text) {
                Ok(text) => Ok(Cow::Owned(text.into_bytes())),
                Err(cause) => Err(Reason::plain(format!("the key at producer.key = \"{}\" is no text: {cause}", self.key))),
            },
            [b'-' | b'0'..=b'9', ..] => Ok(Cow::Borrowed(text.as_bytes())),
            other => {
                Err(Reason::plain(format!("the key at producer.key = \"{}\" is {}; a key is a string or a number", self.key, kind(other))))
            }
        }
    }

    fn event(&self, key: &[u8], record: &[u8], scratch: &mut Vec<u8>) -> Uuid {
        scratch.clear();
        scratch.extend_from_slice(&(key.len() as u64).to_be_bytes());
        scratch.extend_from_slice(key);
        scratch.extend_from_slice(record);
        Uuid::new_v5(&self.namespace, scratch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extract(key: &str, record: &str) -> (Option<String>, String, Uuid) {
        match KeyExtractor::new("users", "users_stream", key).extract(record.as_bytes(), &mut Vec::new()) {
            KeyedRecord::Record { key, event } => (Some(String::from_utf8(key.into_owned()).unwrap()), String::new(), event),
            KeyedRecord::DeadLetter { reason, event, .. } => (None, reason.full().to_owned(), event),
        }
    }

    fn key(pointer: &str, record: &str) -> Option<String> {
        extract(pointer, record).0
    }

    #[test]
    fn the_key_is_the_text_of_a_string_or_the_digits_of_a_number() {
        assert_eq!(key("/login/uuid", r#"{"name": {"uuid": "no"}, "login": {"uuid": "a-b"}}"#).as_deref(), Some("a-b"));
        assert_eq!(key("/k", r#"{"k": "a\"\u00e9\n"}"#).as_deref(), Some("a\"é\n"));
        assert_eq!(key("/k", r#"{"k": 12345678901234567890123}"#).as_deref(), Some("12345678901234567890123"));
        assert_eq!(key("/k", r#"{"k": -1.50e3}"#).as_deref(), Some("-1.50e3"));
        assert_eq!(key("/k/1", r#"{"k": [0, "x"]}"#).as_deref(), Some("x"));
    }

    #[test]
    fn a_value_that_is_no_key_is_rejected_with_the_reason() {
        for (value, kind) in [("{}", "an object"), ("[1]", "an array"), ("null", "null"), ("true", "a boolean")] {
            let reason = extract("/k", &format!("{{\"k\": {value}}}")).1;
            assert_eq!(reason, format!("the key at producer.key = \"/k\" is {kind}; a key is a string or a number"));
        }
        let absent = extract("/login/uuid", r#"{"login": {"id": 1}}"#).1;
        assert!(absent.ends_with("`/login` has no `uuid`; it has `id`"), "{absent}");
        assert!(extract("/k", r#"{"k": "\ud800"}"#).1.contains("is no text"));
    }

    #[test]
    fn a_record_that_is_not_an_object_is_rejected_with_its_type() {
        assert_eq!(extract("/0", "[1]").1, "the record is an array, not an object");
        assert_eq!(extract("/k", "7").1, "the record is a number, not an object");
    }

    #[test]
    fn an_event_id_is_a_function_of_pipeline_topic_key_and_content() {
        let id = extract("/k", r#"{"k": "a", "v": 1}"#).2;
        assert_eq!(id.to_string(), "810c3deb-9a40-5707-8400-2f5e5a244180");
        assert_eq!(id, extract("/k", r#"{"k": "a", "v": 1}"#).2);
        assert_ne!(id, extract("/k", r#"{"k": "a", "v": 2}"#).2);
        assert_ne!(id, extract("/v", r#"{"k": "a", "v": 1}"#).2);
        let elsewhere = KeyExtractor::new("users", "other", "/k").extract(br#"{"k": "a", "v": 1}"#, &mut Vec::new());
        assert!(matches!(elsewhere, KeyedRecord::Record { event, .. } if event != id));
    }

    #[test]
    fn the_event_id_of_a_dead_letter_is_a_function_of_its_content() {
        assert_eq!(extract("/k", "7").2, extract("/k", "7").2);
        assert_ne!(extract("/k", "7").2, extract("/k", "8").2);
    }
}
