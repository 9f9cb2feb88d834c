//! What a record becomes in the topic: its key and its event's identifier, or a dead letter. Pure.
//!
//! Guarantee: the same record gets the same key and the same identifier for ever, so that producing it again changes nothing in the
//! table. Not guaranteed: that two spellings of one record (another order of names, another spelling of a number) are told to be one.

use std::borrow::Cow;

use uuid::Uuid;

use crate::fetcher::pointer::{Pointer, kind};
use forebay_dataplane::Reason;

/// How keys and identifiers are made; one for a pipeline and topic.
#[derive(Debug, Clone)]
pub(crate) struct Recipe {
    key: Pointer,
    namespace: Uuid,
}

/// What a record becomes in the topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Planned<'a> {
    /// A record with this key.
    Record {
        /// A string's text, or a number's digits as the API wrote them.
        key: Cow<'a, [u8]>,
        /// The same for the same content, for ever.
        event: Uuid,
    },
    /// A dead letter.
    DeadLetter {
        /// The record's key, where it has one all the same.
        key: Option<Cow<'a, [u8]>>,
        /// What is wrong with the record.
        reason: Reason,
        /// The same for the same content, for ever.
        event: Uuid,
    },
}

impl Recipe {
    /// The recipe of a pipeline and topic; `key` is `producer.key`.
    pub(crate) fn new(pipeline: &str, topic: &str, key: &str) -> Self {
        Self { key: Pointer::parse(key), namespace: Uuid::new_v5(&Uuid::NAMESPACE_URL, format!("forebay:{pipeline}/{topic}").as_bytes()) }
    }

    /// What becomes of a record. `scratch` is overwritten; it spares an allocation a record.
    pub(crate) fn plan<'a>(&self, record: &'a [u8], scratch: &mut Vec<u8>) -> Planned<'a> {
        match self.key_of(record) {
            Ok(key) => {
                let event = self.event(&key, record, scratch);
                Planned::Record { key, event }
            }
            Err(reason) => self.letter(record, reason, scratch),
        }
    }

    /// What becomes of a record that is bad for this reason.
    pub(super) fn letter<'a>(&self, record: &[u8], reason: Reason, scratch: &mut Vec<u8>) -> Planned<'a> {
        Planned::DeadLetter { key: None, reason, event: self.event(b"", record, scratch) }
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

    fn plan(key: &str, record: &str) -> (Option<String>, String, Uuid) {
        match Recipe::new("users", "users_stream", key).plan(record.as_bytes(), &mut Vec::new()) {
            Planned::Record { key, event } => (Some(String::from_utf8(key.into_owned()).unwrap()), String::new(), event),
            Planned::DeadLetter { reason, event, .. } => (None, reason.full().to_owned(), event),
        }
    }

    fn key(pointer: &str, record: &str) -> Option<String> {
        plan(pointer, record).0
    }

    #[test]
    fn strings_give_their_text_and_numbers_their_digits() {
        assert_eq!(key("/login/uuid", r#"{"name": {"uuid": "no"}, "login": {"uuid": "a-b"}}"#).as_deref(), Some("a-b"));
        assert_eq!(key("/k", r#"{"k": "a\"\u00e9\n"}"#).as_deref(), Some("a\"é\n"));
        assert_eq!(key("/k", r#"{"k": 12345678901234567890123}"#).as_deref(), Some("12345678901234567890123"));
        assert_eq!(key("/k", r#"{"k": -1.50e3}"#).as_deref(), Some("-1.50e3"));
        assert_eq!(key("/k/1", r#"{"k": [0, "x"]}"#).as_deref(), Some("x"));
    }

    #[test]
    fn what_is_no_key_says_so() {
        for (value, kind) in [("{}", "an object"), ("[1]", "an array"), ("null", "null"), ("true", "a boolean")] {
            let reason = plan("/k", &format!("{{\"k\": {value}}}")).1;
            assert_eq!(reason, format!("the key at producer.key = \"/k\" is {kind}; a key is a string or a number"));
        }
        let absent = plan("/login/uuid", r#"{"login": {"id": 1}}"#).1;
        assert!(absent.ends_with("`/login` has no `uuid`; it has `id`"), "{absent}");
        assert!(plan("/k", r#"{"k": "\ud800"}"#).1.contains("is no text"));
    }

    #[test]
    fn a_record_that_is_no_object_says_what_it_is() {
        assert_eq!(plan("/0", "[1]").1, "the record is an array, not an object");
        assert_eq!(plan("/k", "7").1, "the record is a number, not an object");
    }

    #[test]
    fn an_event_id_is_a_function_of_pipeline_topic_key_and_content_for_ever() {
        let id = plan("/k", r#"{"k": "a", "v": 1}"#).2;
        assert_eq!(id.to_string(), "810c3deb-9a40-5707-8400-2f5e5a244180");
        assert_eq!(id, plan("/k", r#"{"k": "a", "v": 1}"#).2);
        assert_ne!(id, plan("/k", r#"{"k": "a", "v": 2}"#).2);
        assert_ne!(id, plan("/v", r#"{"k": "a", "v": 1}"#).2);
        let elsewhere = Recipe::new("users", "other", "/k").plan(br#"{"k": "a", "v": 1}"#, &mut Vec::new());
        assert!(matches!(elsewhere, Planned::Record { event, .. } if event != id));
    }

    #[test]
    fn a_dead_letter_has_an_id_of_its_content_too() {
        assert_eq!(plan("/k", "7").2, plan("/k", "7").2);
        assert_ne!(plan("/k", "7").2, plan("/k", "8").2);
    }
}
