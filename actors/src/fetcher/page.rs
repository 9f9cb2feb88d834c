//! From the bytes of an answer to records. Guarantee: one pass; the answer is JSON from its first byte to its last, and each record is a
//! slice of it, byte for byte as the API sent it; no nesting overflows the stack. Not guaranteed: that a record is an object.

use bytes::Bytes;
use forebay_schemas::read::CURSOR_MOST;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::pointer::{Leaf, Pointer, kind};
use crate::message::RECORD_OVERHEAD;

/// How much of an answer a message shows, to either side of the place.
const EXCERPT: usize = 40;

/// The byte order mark that some servers begin with.
const BOM: &[u8] = b"\xEF\xBB\xBF";

/// An answer that holds no page of records; the same bytes give the same error.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PageError {
    /// It isn't JSON.
    #[error("the answer is not JSON: {cause} at line {line}, column {column}, near {excerpt}")]
    NotJson {
        /// What the parser says.
        cause: String,
        /// The line, from 1.
        line: usize,
        /// The column, from 1; 0 at a line's end.
        column: usize,
        /// What is written there.
        excerpt: String,
    },
    /// The pointer leads nowhere.
    #[error("fetcher.records = \"{pointer}\" finds nothing in the answer: {cause}")]
    NotFound {
        /// The pointer.
        pointer: String,
        /// Which part is missing, and what is there instead.
        cause: String,
    },
    /// The pointer leads to something else than an array.
    #[error("fetcher.records = \"{pointer}\" leads to {kind}, not to an array of records")]
    NotArray {
        /// The pointer.
        pointer: String,
        /// What it leads to.
        kind: &'static str,
    },
    /// So many records that what is kept about each outweighs the page.
    #[error("the page has more than {most} records; ask the API for smaller pages, or raise fetcher.max_page_bytes")]
    TooMany {
        /// The most there may be.
        most: usize,
    },
    /// The pointer to the next cursor leads to something that can't be one.
    #[error("fetcher.cursor.next = \"{pointer}\" leads to {found}, not to a string or a number")]
    NotCursor {
        /// The pointer.
        pointer: String,
        /// What it leads to.
        found: &'static str,
    },
    /// The next cursor is too long to be one.
    #[error("fetcher.cursor.next = \"{pointer}\" leads to {bytes} bytes; a cursor has {CURSOR_MOST} at most")]
    LongCursor {
        /// The pointer.
        pointer: String,
        /// How long it is.
        bytes: usize,
    },
}

/// The cursor of the next page, out of an answer that [`extract`] has found to be JSON; none when there is nothing more: the pointer leads
/// nowhere, to null or to an empty string. A number is given as the API wrote it.
///
/// A second look at the answer, up to the cursor: it skips what it passes, at the speed of memory beside that of the network.
///
/// # Errors
/// When the pointer leads to anything else than a string or a number.
pub(crate) fn next_cursor(body: &[u8], pointer: &Pointer) -> Result<Option<String>, PageError> {
    let Some(value) = pointer.find_first(body.strip_prefix(BOM).unwrap_or(body)) else { return Ok(None) };
    let not_cursor = |found| Err(PageError::NotCursor { pointer: pointer.to_string(), found });
    let text = value.get();
    let cursor = match kind(text.as_bytes()) {
        "null" => return Ok(None),
        "a number" => text.trim().to_owned(),
        "a string" => match serde_json::from_str::<String>(text) {
            Ok(cursor) => cursor,
            Err(_) => return not_cursor("a string that is not Unicode"),
        },
        other => return not_cursor(other),
    };
    if cursor.len() > CURSOR_MOST {
        return Err(PageError::LongCursor { pointer: pointer.to_string(), bytes: cursor.len() });
    }
    Ok(Some(cursor).filter(|cursor| !cursor.is_empty()))
}

/// The records of an answer, at most `max_page_bytes / RECORD_OVERHEAD` of them.
///
/// # Errors
/// When the answer isn't JSON, the pointer leads to no array in it, or the array is too long.
pub(crate) fn extract(body: &Bytes, pointer: &Pointer, max_page_bytes: usize) -> Result<Vec<Bytes>, PageError> {
    let body = if body.starts_with(BOM) { body.slice(BOM.len()..) } else { body.clone() };
    let most = (max_page_bytes / RECORD_OVERHEAD).max(1);
    let mut leaf = Records { body: &body, most, found: Found::Nothing };
    pointer.visit(&body, &mut leaf).map_err(|cause| not_json(&body, &cause))?;
    match leaf.found {
        Found::Records(records) if records.len() > most => Err(PageError::TooMany { most }),
        Found::Records(records) => Ok(records),
        Found::Other(kind) => Err(PageError::NotArray { pointer: pointer.to_string(), kind }),
        Found::Nothing => Err(PageError::NotFound { pointer: pointer.to_string(), cause: pointer.explain(&body) }),
    }
}

fn not_json(body: &[u8], cause: &serde_json::Error) -> PageError {
    let said = cause.to_string();
    let said = said.split(" at line ").next().unwrap_or_default().to_owned();
    PageError::NotJson { cause: said, line: cause.line(), column: cause.column(), excerpt: excerpt(body, cause.line(), cause.column()) }
}

/// What is written around a line and column, on one line.
fn excerpt(body: &[u8], line: usize, column: usize) -> String {
    let start: usize = body.split_inclusive(|&byte| byte == b'\n').take(line.saturating_sub(1)).map(<[u8]>::len).sum();
    let at = (start + column).min(body.len());
    let shown = &body[at.saturating_sub(EXCERPT)..(at + EXCERPT).min(body.len())];
    format!("{:?}", String::from_utf8_lossy(shown))
}

enum Found {
    Nothing,
    Records(Vec<Bytes>),
    Other(&'static str),
}

struct Records<'b> {
    body: &'b Bytes,
    most: usize,
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
        while records.len() <= self.most {
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

    fn page(pointer: &str, body: &str) -> Result<Vec<String>, PageError> {
        let body = Bytes::copy_from_slice(body.as_bytes());
        let records = extract(&body, &Pointer::parse(pointer), 1 << 20)?;
        Ok(records.into_iter().map(|record| String::from_utf8(record.to_vec()).unwrap()).collect())
    }

    #[test]
    fn records_are_the_apis_own_bytes() {
        let records = page("/results", r#" {"info": {"n": 2}, "results": [ {"a" : 1.0} , {"b":"\u0041"}], "end": []} "#).unwrap();
        assert_eq!(records, [r#"{"a" : 1.0}"#, r#"{"b":"\u0041"}"#]);
        assert_eq!(page("", "\u{feff}[1, null]").unwrap(), ["1", "null"]);
        assert_eq!(page("", "[]").unwrap(), [""; 0]);
    }

    #[test]
    fn a_record_shares_the_bodys_buffer() {
        let body = Bytes::from_static(br#"[{"a":1}]"#);
        let records = extract(&body, &Pointer::parse(""), 1 << 20).unwrap();
        assert_eq!(records[0].as_ptr(), body[1..].as_ptr());
    }

    #[test]
    fn an_answer_that_is_not_json_says_where() {
        let error = page("/results", "{\"results\": [\n  {\"a\": 1},\n  oops\n]}").unwrap_err();
        let PageError::NotJson { line, column, ref excerpt, .. } = error else { panic!("{error}") };
        assert_eq!((line, column), (3, 3));
        assert!(excerpt.contains("oops"), "{excerpt}");
        assert!(matches!(page("", "<html>").unwrap_err(), PageError::NotJson { line: 1, .. }));
        assert!(matches!(page("", "").unwrap_err(), PageError::NotJson { .. }));
    }

    #[test]
    fn an_answer_cut_short_or_followed_by_more_is_not_json() {
        assert!(matches!(page("/r", r#"{"r": [1, 2], "info": {"#).unwrap_err(), PageError::NotJson { .. }));
        assert!(matches!(page("/r", r#"{"r": [1, 2]} {}"#).unwrap_err(), PageError::NotJson { .. }));
    }

    #[test]
    fn a_pointer_that_finds_nothing_says_what_is_there() {
        let error = page("/results", r#"{"error": "rate limited"}"#).unwrap_err();
        assert_eq!(
            error.to_string(),
            "fetcher.records = \"/results\" finds nothing in the answer: the answer has no `results`; it has `error`"
        );
    }

    #[test]
    fn a_pointer_to_something_else_than_an_array_says_to_what() {
        for (value, kind) in [("{}", "an object"), ("\"x\"", "a string"), ("-1", "a number"), ("null", "null"), ("true", "a boolean")] {
            let error = page("/r", &format!("{{\"r\": {value}}}")).unwrap_err();
            assert_eq!(error, PageError::NotArray { pointer: "/r".into(), kind });
        }
    }

    #[test]
    fn a_page_of_brackets_does_not_overflow_the_stack() {
        assert!(matches!(page("", &"[".repeat(1 << 20)).unwrap_err(), PageError::NotJson { .. }));
        let deep = ["[".repeat(1 << 19), "]".repeat(1 << 19)].concat();
        assert_eq!(page("/r", &format!(r#"{{"r": [{deep}]}}"#)).unwrap().len(), 1);
    }

    #[test]
    fn a_page_of_more_records_than_its_weight_allows_is_refused() {
        let body = Bytes::from(format!("[{}1]", "1,".repeat(100)));
        assert_eq!(extract(&body, &Pointer::parse(""), 100 * RECORD_OVERHEAD), Err(PageError::TooMany { most: 100 }));
        assert_eq!(extract(&body, &Pointer::parse(""), 101 * RECORD_OVERHEAD).unwrap().len(), 101);
    }

    fn next(pointer: &str, body: &str) -> Result<Option<String>, PageError> {
        next_cursor(body.as_bytes(), &Pointer::parse(pointer))
    }

    #[test]
    fn the_next_cursor_is_a_string_or_a_number_as_the_api_wrote_it() {
        let next = |value: &str| {
            next("/info/next", &format!("\u{feff}{{\"results\": [[]], \"info\": {{\"n\": 1, \"next\": {value} }}}}")).unwrap()
        };
        assert_eq!(next("\"a\\u0062/c =\"").as_deref(), Some("ab/c ="));
        assert_eq!(next("12345678901234567890123").as_deref(), Some("12345678901234567890123"));
        assert_eq!(next("1.50").as_deref(), Some("1.50"));
        assert_eq!(next("0").as_deref(), Some("0"));
    }

    #[test]
    fn null_nothing_and_an_empty_string_are_no_next_cursor() {
        for body in ["{\"info\": {\"next\": null}}", "{\"info\": {\"next\": \"\"}}", "{\"info\": {}}", "{\"info\": null}", "{}", "[]"] {
            assert_eq!(next("/info/next", body), Ok(None), "{body}");
        }
    }

    #[test]
    fn anything_else_is_an_error_that_names_the_pointer_and_what_is_there() {
        for (value, found) in
            [("{}", "an object"), ("[1]", "an array"), ("true", "a boolean"), ("\"\\ud800\"", "a string that is not Unicode")]
        {
            let error = next("/next", &format!("{{\"next\": {value}}}")).unwrap_err();
            assert_eq!(error.to_string(), format!("fetcher.cursor.next = \"/next\" leads to {found}, not to a string or a number"));
        }
        let long = next("/next", &format!("{{\"next\": \"{}\"}}", "x".repeat(5_000))).unwrap_err();
        assert_eq!(long.to_string(), "fetcher.cursor.next = \"/next\" leads to 5000 bytes; a cursor has 4096 at most");
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
            let _ = extract(&Bytes::from(bytes), &Pointer::parse("/a/0"), 1 << 20);
        }
    }
}
