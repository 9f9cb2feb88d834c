//! From the bytes of a response to its records.
//!
//! Guarantees:
//! * The response is JSON from its first byte to its last, and it is read in one pass.
//! * Each record is a slice of the response, byte for byte as the API sent it.
//! * No nesting overflows the stack.
//! * When only records are malformed, those are returned as bad and the others are found as if the
//!   bad ones were valid: see [`bad_records`].
//!
//! Does not guarantee that a record is an object.

use bytes::Bytes;
use forebay_schemas::json_pointer::JsonPointer;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::page_error::PageError;
use super::{body_hints, malformed_records};
use crate::message::{BadRecord, RECORD_OVERHEAD};
use crate::text::json_lookup::{JsonLookup as _, Leaf, contents};

/// How many bytes of a response an error shows on each side of its position.
const EXCERPT_BYTES: usize = 40;

/// The byte order mark that some servers send first.
pub(super) const BOM: &[u8] = b"\xEF\xBB\xBF";

/// The content of a response.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Extracted {
    /// The records, byte for byte.
    pub(crate) records: Vec<Bytes>,
    /// Those that are not JSON, in order.
    pub(crate) bad: Vec<BadRecord>,
    /// The response as JSON: as it arrived, except that each bad record is a 0. Look up other
    /// fields here.
    pub(crate) body: Bytes,
}

/// Extracts the records of a response, at most `max_page_bytes / RECORD_OVERHEAD` of them.
///
/// # Errors
/// When the response without its bad records is not JSON, the pointer leads to no array, or the
/// array is too long.
pub(crate) fn extract(body: Bytes, pointer: &JsonPointer, max_page_bytes: usize) -> Result<Extracted, PageError> {
    let body = if body.starts_with(BOM) { body.slice(BOM.len()..) } else { body };
    let max = (max_page_bytes / RECORD_OVERHEAD).max(1);
    match parse(&body, pointer, max) {
        Ok(records) => Ok(Extracted { records, bad: Vec::new(), body }),
        Err(error @ PageError::NotJson { .. }) => {
            let malformed_records::Blanked { body, bad } = malformed_records::blank_out(body, pointer).ok_or(error)?;
            let mut records = parse(&body, pointer, max)?;
            let reasons = bad.into_iter().filter_map(|(at, bytes)| {
                let reason = malformed_records::reason(&bytes);
                *records.get_mut(at)? = bytes;
                Some(BadRecord { index: at, reason })
            });
            let bad = reasons.collect();
            Ok(Extracted { records, bad, body })
        }
        Err(error) => Err(error),
    }
}

/// Extracts the records of a response that is JSON.
fn parse(body: &Bytes, pointer: &JsonPointer, max: usize) -> Result<Vec<Bytes>, PageError> {
    let mut leaf = Records { body, max, found: Found::Nothing };
    pointer.visit(body, &mut leaf).map_err(|cause| not_json(body, &cause))?;
    match leaf.found {
        Found::Other("null") => Ok(Vec::new()),
        Found::Nothing if pointer.meets_null(body) => Ok(Vec::new()),
        Found::Records(records) if records.len() > max => Err(PageError::TooMany { max }),
        Found::Records(records) => Ok(records),
        Found::Other(kind) => {
            let remedy = if kind == "an object" { object_remedy(body, pointer) } else { String::new() };
            Err(PageError::NotArray { pointer: pointer.to_string(), kind, remedy })
        }
        Found::Nothing => Err(PageError::NotFound { pointer: pointer.to_string(), cause: pointer.explain(body) }),
    }
}

/// The remedy for an object in place of an array.
fn object_remedy(body: &[u8], pointer: &JsonPointer) -> String {
    let contents = pointer.find_first(body).map_or_else(String::new, |value| format!("; it {}", contents(value)));
    format!("{contents}. One object is not read as a record: request a URL that returns a list, or point fetcher.records to an array in it")
}

fn not_json(body: &[u8], cause: &serde_json::Error) -> PageError {
    if cause.is_eof() {
        return PageError::CutShort { bytes: body.len(), excerpt: excerpt(body, cause.line(), cause.column()) };
    }
    if body_hints::is_line_delimited(body) {
        return PageError::LineDelimited;
    }
    let text = cause.to_string();
    let message = text.split(" at line ").next().unwrap_or_default().to_owned();
    PageError::NotJson { cause: message, line: cause.line(), column: cause.column(), excerpt: excerpt(body, cause.line(), cause.column()) }
}

/// The text around a line and column, on one line.
fn excerpt(body: &[u8], line: usize, column: usize) -> String {
    let start: usize = body.split_inclusive(|&byte| byte == b'\n').take(line.saturating_sub(1)).map(<[u8]>::len).sum();
    let at = (start + column).min(body.len());
    let shown = &body[at.saturating_sub(EXCERPT_BYTES)..(at + EXCERPT_BYTES).min(body.len())];
    format!("{:?}", String::from_utf8_lossy(shown))
}

enum Found {
    Nothing,
    Records(Vec<Bytes>),
    Other(&'static str),
}

struct Records<'b> {
    body: &'b Bytes,
    max: usize,
    found: Found,
}

impl<'de> Leaf<'de> for Records<'_> {
    fn take<D: Deserializer<'de>>(&mut self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for &mut Records<'_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JSON")
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut seq: S) -> Result<(), S::Error> {
        let mut records = Vec::new();
        while records.len() <= self.max {
            let Some(record) = seq.next_element::<&RawValue>()? else { break };
            records.push(self.body.slice_ref(record.get().as_bytes()));
        }
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        self.found = Found::Records(records);
        Ok(())
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<(), M::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        self.found = Found::Other("an object");
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        self.found = Found::Other("a boolean");
        Ok(())
    }
    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        self.found = Found::Other("a number");
        Ok(())
    }
    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        self.found = Found::Other("a number");
        Ok(())
    }
    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        self.found = Found::Other("a number");
        Ok(())
    }
    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        self.found = Found::Other("a string");
        Ok(())
    }
    fn visit_unit<E>(self) -> Result<(), E> {
        self.found = Found::Other("null");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::text::json_lookup::parse_pointer;

    fn page(pointer: &str, body: &str) -> Result<Vec<String>, PageError> {
        let body = Bytes::copy_from_slice(body.as_bytes());
        let Extracted { records, bad, .. } = extract(body, &parse_pointer(pointer), 1 << 20)?;
        assert_eq!(bad, []);
        Ok(records.into_iter().map(|record| String::from_utf8(record.to_vec()).unwrap()).collect())
    }

    #[test]
    fn records_are_the_bytes_of_the_api() {
        let records = page("/results", r#" {"info": {"n": 2}, "results": [ {"a" : 1.0} , {"b":"\u0041"}], "end": []} "#).unwrap();
        assert_eq!(records, [r#"{"a" : 1.0}"#, r#"{"b":"\u0041"}"#]);
        assert_eq!(page("", "\u{feff}[1, null]").unwrap(), ["1", "null"]);
        assert_eq!(page("", "[]").unwrap(), [""; 0]);
    }

    #[test]
    fn a_record_shares_the_bodys_buffer() {
        let body = Bytes::from_static(br#"[{"a":1}]"#);
        let records = extract(body.clone(), &parse_pointer(""), 1 << 20).unwrap().records;
        assert_eq!(records[0].as_ptr(), body[1..].as_ptr());
    }

    #[test]
    fn a_response_that_is_not_json_says_where() {
        let error = page("/results", "{\"results\": [\n  {\"a\": 1}],\n  oops\n}").unwrap_err();
        let PageError::NotJson { line, column, ref excerpt, .. } = error else { panic!("{error}") };
        assert_eq!((line, column), (3, 3));
        assert!(excerpt.contains("oops"), "{excerpt}");
        assert!(matches!(page("", "<html>").unwrap_err(), PageError::NotJson { line: 1, .. }));
    }

    #[test]
    fn a_truncated_response_differs_from_one_followed_by_garbage() {
        for body in [r#"{"r": [1, 2], "info": {"#, r#"{"r": [{"id": 1}, {"na"#, r#"{"r": ["#, r#"{"r": [1, "a"#, "{"] {
            let error = page("/r", body).unwrap_err();
            assert!(matches!(error, PageError::CutShort { bytes, .. } if bytes == body.len()), "{error}");
        }
        assert!(matches!(page("/r", r#"{"r": [1, 2]} {}"#).unwrap_err(), PageError::NotJson { .. }));
    }

    #[test]
    fn a_pointer_that_finds_nothing_says_what_the_response_has() {
        let error = page("/results", r#"{"error": "rate limited"}"#).unwrap_err();
        assert_eq!(
            error.to_string(),
            "fetcher.records = \"/results\" finds nothing in the answer: the answer has no `results`; it has `error`"
        );
    }

    #[test]
    fn a_pointer_to_anything_but_an_array_names_the_type() {
        for (value, found) in [("\"x\"", "a string"), ("-1", "a number"), ("true", "a boolean")] {
            let error = page("/r", &format!("{{\"r\": {value}}}")).unwrap_err();
            assert_eq!(error.to_string(), format!("fetcher.records = \"/r\" leads to {found}, not to an array of records"));
        }
        let error = page("/data", r#"{"data": {"id": 7, "name": "x"}}"#).unwrap_err();
        assert_eq!(
            error.to_string(),
            "fetcher.records = \"/data\" leads to an object, not to an array of records; it has `id`, `name`. One object is not read as a \
             record: request a URL that returns a list, or point fetcher.records to an array in it"
        );
    }

    #[test]
    fn deep_nesting_does_not_overflow_the_stack() {
        assert!(matches!(page("", &"[".repeat(1 << 20)).unwrap_err(), PageError::CutShort { .. }));
        let deep = ["[".repeat(1 << 19), "]".repeat(1 << 19)].concat();
        assert_eq!(page("/r", &format!(r#"{{"r": [{deep}]}}"#)).unwrap().len(), 1);
    }

    #[test]
    fn a_page_with_more_records_than_its_weight_allows_is_refused() {
        let body = Bytes::from(format!("[{}1]", "1,".repeat(100)));
        assert_eq!(extract(body.clone(), &parse_pointer(""), 100 * RECORD_OVERHEAD), Err(PageError::TooMany { max: 100 }));
        assert_eq!(extract(body, &parse_pointer(""), 101 * RECORD_OVERHEAD).unwrap().records.len(), 101);
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(|number| json!(number)),
            ".*".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 64, 8, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::btree_map(".*", inner, 0..6).prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn records_equal_those_of_a_whole_parse(records in prop::collection::vec(value(), 0..8), beside in value(), pretty: bool) {
            let document = json!({"before": beside, "data": {"results": records}, "after": [beside]});
            let text = if pretty { serde_json::to_string_pretty(&document) } else { serde_json::to_string(&document) }.unwrap();
            let found = page("/data/results", &text).unwrap();
            let parsed: Vec<Value> = found.iter().map(|record| serde_json::from_str(record).unwrap()).collect();
            prop_assert_eq!(Value::from(parsed), serde_json::from_str::<Value>(&text).unwrap()["data"]["results"].clone());
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = extract(Bytes::from(bytes), &parse_pointer("/a/0"), 1 << 20);
        }
    }
}
