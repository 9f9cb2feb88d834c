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
use serde::Deserialize as _;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::page_error::PageError;
use super::{body_hints, columns, malformed_records};
use crate::message::{BadRecord, RECORD_OVERHEAD};
use crate::text::json_lookup::{ALL, JsonLookup as _, Leaf, contents, kind};

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
    /// Whether the only record is an object that the pointer leads to.
    pub(crate) is_object: bool,
    /// The response as JSON: as it arrived, except that each bad record is a 0 or an empty object.
    /// Look up other fields here.
    pub(crate) body: Bytes,
}

/// What the pointer leads to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Shape {
    /// An array of records, or one object that is a record, unless it seems to hold the records.
    #[default]
    List,
    /// One object that is a record.
    Object,
    /// An object of equally long arrays.
    Columns,
}

/// Extracts the records of a response, at most `max_page_bytes / RECORD_OVERHEAD` of them.
///
/// # Errors
/// When the response without its bad records is not JSON, the pointer leads to no records, or there
/// are too many.
pub(crate) fn extract(body: Bytes, pointer: &JsonPointer, shape: Shape, max_page_bytes: usize) -> Result<Extracted, PageError> {
    let body = if body.starts_with(BOM) { body.slice(BOM.len()..) } else { body };
    let max = (max_page_bytes / RECORD_OVERHEAD).max(1);
    if shape == Shape::Columns {
        let value: Result<&RawValue, _> = serde_json::from_slice(&body);
        value.map_err(|cause| not_json(&body, &cause))?;
        let records = columns::records(&body, pointer, max, max_page_bytes)?;
        return Ok(Extracted { records, body, ..Extracted::default() });
    }
    match parse(&body, pointer, shape, max) {
        Ok((records, is_object)) => Ok(Extracted { records, bad: Vec::new(), is_object, body }),
        Err(error @ PageError::NotJson { .. }) => {
            let malformed_records::Blanked { body, bad } = malformed_records::blank_out(body, pointer).ok_or(error)?;
            let (mut records, is_object) = parse(&body, pointer, shape, max)?;
            let reasons = bad.into_iter().filter_map(|(at, bytes)| {
                let reason = malformed_records::reason(&bytes);
                *records.get_mut(at)? = bytes;
                Some(BadRecord { index: at, reason })
            });
            let bad = reasons.collect();
            Ok(Extracted { records, bad, is_object, body })
        }
        Err(error) => Err(error),
    }
}

/// Extracts the records of a response that is JSON, and whether they are the object that the
/// pointer leads to.
fn parse(body: &Bytes, pointer: &JsonPointer, shape: Shape, max: usize) -> Result<(Vec<Bytes>, bool), PageError> {
    let all = pointer.tokens().iter().any(|token| token == ALL);
    let mut leaf = Records { body, max, all, records: Vec::new(), found: false, other: None };
    let visited = if all { pointer.visit_all(body, &mut leaf) } else { pointer.visit(body, &mut leaf).map(|()| false) };
    leaf.found |= visited.map_err(|cause| not_json(body, &cause))?;
    let not_array = |kind, remedy| Err(PageError::NotArray { pointer: pointer.to_string(), kind, remedy });
    let Records { records, found, other, .. } = leaf;
    match other {
        Some("null") => Ok((Vec::new(), false)),
        Some("an object") => {
            let object = pointer.find_first(body).expect("the pointer leads to an object");
            match holds_list(object) {
                Some(list) if shape == Shape::List => not_array("an object", object_remedy(pointer, object, &list)),
                _ => Ok((vec![body.slice_ref(object.get().as_bytes())], true)),
            }
        }
        Some(kind) => not_array(kind, String::new()),
        None if found && shape == Shape::Object => not_array("an array", ". It is no record: write the pointer alone".to_owned()),
        None if found && records.len() > max => Err(PageError::TooMany { max }),
        None if found => Ok((records, false)),
        None if !all && pointer.meets_null(body) => Ok((Vec::new(), false)),
        None => Err(PageError::NotFound { pointer: pointer.to_string(), cause: explain(body, pointer) }),
    }
}

/// Why a pointer leads nowhere.
fn explain(body: &[u8], pointer: &JsonPointer) -> String {
    let way = pointer.tokens().iter().take_while(|token| *token != ALL);
    let way = way.fold(JsonPointer::default(), |way, token| way.child(token));
    match way.find_first(body) {
        Some(value) if way != *pointer => format!("`{way}` {}, and nothing in it has the rest of the pointer", contents(value)),
        _ => way.explain(body),
    }
}

/// The name of a member that is an array of objects. An object that has one is rarely a record.
fn holds_list(object: &RawValue) -> Option<String> {
    body_hints::members(object.get().as_bytes()).into_iter().find(|(_, value)| is_list(value)).map(|(name, _)| name)
}

fn is_list(value: &RawValue) -> bool {
    value.get().strip_prefix('[').is_some_and(|first| first.trim_start().starts_with('{'))
}

/// The remedy for an object in place of an array.
fn object_remedy(pointer: &JsonPointer, object: &RawValue, list: &str) -> String {
    format!(
        "; it {}. Write fetcher.records = \"{}\"; if the object itself is the record, records = {{ object = \"{pointer}\" }}",
        contents(object),
        pointer.child(list)
    )
}

/// Whether a text that is not JSON would be with more after it. The parser has another error for a
/// number that ends before its last digit.
pub(super) fn is_cut_short(text: &[u8], cause: &serde_json::Error) -> bool {
    let is_number = || text.last().is_some_and(|last| b"-+.eE".contains(last)) && cause.to_string().starts_with("invalid number");
    cause.is_eof() || is_number() && position(text, cause.line(), cause.column()) == text.len()
}

fn not_json(body: &[u8], cause: &serde_json::Error) -> PageError {
    if is_cut_short(body, cause) {
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
    let at = position(body, line, column);
    let shown = &body[at.saturating_sub(EXCERPT_BYTES)..(at + EXCERPT_BYTES).min(body.len())];
    format!("{:?}", String::from_utf8_lossy(shown))
}

/// The index after a line and column.
fn position(body: &[u8], line: usize, column: usize) -> usize {
    let start: usize = body.split_inclusive(|&byte| byte == b'\n').take(line.saturating_sub(1)).map(<[u8]>::len).sum();
    (start + column).min(body.len())
}

struct Records<'b> {
    body: &'b Bytes,
    max: usize,
    /// Whether the pointer has a `*`, and leads to several arrays or records.
    all: bool,
    records: Vec<Bytes>,
    /// Whether there was an array, or a record of several.
    found: bool,
    /// The type of anything else.
    other: Option<&'static str>,
}

impl<'de> Leaf<'de> for Records<'_> {
    fn take<D: Deserializer<'de>>(&mut self, deserializer: D) -> Result<(), D::Error> {
        if !self.all {
            return deserializer.deserialize_any(self);
        }
        let value = <&RawValue>::deserialize(deserializer)?;
        let json = value.get().as_bytes();
        match kind(json) {
            "an array" => {
                let mut elements = serde_json::Deserializer::from_slice(json);
                // Does not fail: it is JSON already.
                let _ = elements.deserialize_any(&mut *self);
            }
            "an object" => {
                self.found = true;
                if self.records.len() <= self.max {
                    self.records.push(self.body.slice_ref(json));
                }
            }
            "null" => self.found = true,
            kind => self.other = Some(kind),
        }
        Ok(())
    }
}

impl<'de> Visitor<'de> for &mut Records<'_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JSON")
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut seq: S) -> Result<(), S::Error> {
        self.found = true;
        while self.records.len() <= self.max {
            let Some(record) = seq.next_element::<&RawValue>()? else { break };
            self.records.push(self.body.slice_ref(record.get().as_bytes()));
        }
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<(), M::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        self.other = Some("an object");
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        self.other = Some("a boolean");
        Ok(())
    }
    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        self.other = Some("a number");
        Ok(())
    }
    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        self.other = Some("a number");
        Ok(())
    }
    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        self.other = Some("a number");
        Ok(())
    }
    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        self.other = Some("a string");
        Ok(())
    }
    fn visit_unit<E>(self) -> Result<(), E> {
        self.other = Some("null");
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
        let Extracted { records, bad, .. } = extract(body, &parse_pointer(pointer), Shape::List, 1 << 20)?;
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
        let records = extract(body.clone(), &parse_pointer(""), Shape::List, 1 << 20).unwrap().records;
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
        for body in [
            r#"{"r": [-"#,
            r#"{"r": [1."#,
            r#"{"r": [1.5e"#,
            r#"{"r": [1.5e+"#,
            r#"{"r": [1, 2], "info": {"#,
            r#"{"r": [{"id": 1}, {"na"#,
            r#"{"r": ["#,
            r#"{"r": [1, "a"#,
            "{",
        ] {
            let error = page("/r", body).unwrap_err();
            assert!(matches!(error, PageError::CutShort { bytes, .. } if bytes == body.len()), "{error}");
        }
        for body in [r#"{"r": [1, 2]} {}"#, r#"{"r": [oops-"#, r#"{"r": [1, 2]}-"#] {
            assert!(matches!(page("/r", body).unwrap_err(), PageError::NotJson { .. }), "{body}");
        }
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
        let error = page("/data", r#"{"data": {"items": [{"id": 7}], "n": 1}}"#).unwrap_err();
        assert_eq!(
            error.to_string(),
            "fetcher.records = \"/data\" leads to an object, not to an array of records; it has `items`, `n`. Write fetcher.records = \
             \"/data/items\"; if the object itself is the record, records = { object = \"/data\" }"
        );
    }

    #[test]
    fn one_object_is_one_record_unless_it_seems_to_hold_the_records() {
        assert_eq!(page("/data", r#"{"data": {"id": 7, "tags": ["a"], "at": []}}"#).unwrap(), [r#"{"id": 7, "tags": ["a"], "at": []}"#]);
        assert_eq!(page("", r#" {"id": 7} "#).unwrap(), [r#"{"id": 7}"#]);
        let order = r#"{"id": 7, "lines": [{"n": 1}]}"#;
        let extracted = |body: &str| extract(Bytes::copy_from_slice(body.as_bytes()), &parse_pointer(""), Shape::Object, 1 << 20);
        assert_eq!(extracted(order).unwrap().records, [order]);
        assert!(extracted("[1]").unwrap_err().to_string().contains("leads to an array"));
        assert_eq!(extracted("null").unwrap().records, [""; 0]);
    }

    #[test]
    fn a_star_leads_to_the_records_of_every_member_and_every_element() {
        let body = r#"{"data": {"a": {"orders": [{"n": 1}, {"n": 2}]}, "b": {"orders": null}, "c": {"orders": {"n": 3}}, "d": {}}}"#;
        assert_eq!(page("/data/*/orders", body).unwrap(), [r#"{"n": 1}"#, r#"{"n": 2}"#, r#"{"n": 3}"#]);
        assert_eq!(page("/*", r#"{"x": {"n": 1}, "y": {"n": 2}}"#).unwrap(), [r#"{"n": 1}"#, r#"{"n": 2}"#]);
        assert_eq!(page("/*/*", r#"[[[1], [2, 3]], []]"#).unwrap(), ["1", "2", "3"]);
        for body in [r#"{"a": []}"#, r#"{"a": {}}"#, r#"{"a": null}"#, r#"{"a": [[], null]}"#] {
            assert_eq!(page("/a/*", body).unwrap(), [""; 0], "{body}");
        }
        assert_eq!(page("/*/*", "[[], []]").unwrap(), [""; 0]);
        let error = page("/data/*/orders", r#"{"data": {"a": {"order": []}}}"#).unwrap_err();
        assert!(error.to_string().contains("fetcher.records = \"/data/*/orders\" finds nothing in the answer"), "{error}");
        assert!(page("/a/*", r#"{"a": ["x"]}"#).unwrap_err().to_string().contains("leads to a string"));
        let many = format!("{{\"a\": [{}1], \"b\": [1, 2]}}", "1,".repeat(98));
        assert_eq!(
            extract(Bytes::from(many), &parse_pointer("/*"), Shape::List, 100 * RECORD_OVERHEAD),
            Err(PageError::TooMany { max: 100 })
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
        assert_eq!(extract(body.clone(), &parse_pointer(""), Shape::List, 100 * RECORD_OVERHEAD), Err(PageError::TooMany { max: 100 }));
        assert_eq!(extract(body, &parse_pointer(""), Shape::List, 101 * RECORD_OVERHEAD).unwrap().records.len(), 101);
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
            let _ = extract(Bytes::from(bytes), &parse_pointer("/a/0"), Shape::List, 1 << 20);
        }
    }
}
