//! From the bytes of an answer to records, and to what it says of the next page. Guarantee: one pass for the records; the answer is JSON from its
//! first byte to its last, and each record is a slice of it, byte for byte as the API sent it; no nesting overflows the stack. Where it is not JSON, and
//! only for records of it that are not, those are bad and the others are found as if the bad ones were not there: see [`split`]. Not guaranteed: that a
//! record is an object.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use bytes::Bytes;
use forebay_schemas::pipeline::FetcherSection;
use forebay_schemas::read::MAX_CURSOR_BYTES;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::paging::{Next, Said};
use super::pointer::{Leaf, Pointer, contents, kind};
use super::{hints, split};
use crate::message::{BadRecord, RECORD_OVERHEAD};

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
    /// It ends too soon.
    #[error("the answer is cut short: its JSON ends in its midst after {bytes} bytes, near {excerpt}")]
    CutShort {
        /// How long it is.
        bytes: usize,
        /// What it ends with.
        excerpt: String,
    },
    /// It is JSON line by line.
    #[error("the answer is NDJSON, one JSON value a line, which is not supported; ask the API for one JSON array of records")]
    LineDelimited,
    /// It holds no records, and says an error in words.
    #[error("the API answered an error in place of records: {said}")]
    Failure {
        /// The API's own words.
        said: String,
    },
    /// The pointer leads to something else than an array.
    #[error("fetcher.records = \"{pointer}\" leads to {kind}, not to an array of records{remedy}")]
    NotArray {
        /// The pointer.
        pointer: String,
        /// What it leads to.
        kind: &'static str,
        /// What to do; empty when that is plain.
        remedy: String,
    },
    /// The pointer to the next cursor leads nowhere, and one that is nearly the same would lead to one.
    #[error("fetcher.cursor.next = \"{pointer}\" finds nothing in the first page, which has `{near}`; write cursor.next = \"{near}\"")]
    NearCursor {
        /// The pointer.
        pointer: String,
        /// Where the answer has what it may mean.
        near: String,
    },
    /// The pointer to whether there is more leads to something that does not say it.
    #[error("fetcher.cursor.has_more = \"{pointer}\" leads to {found}, not to true or false")]
    NotMore {
        /// The pointer.
        pointer: String,
        /// What it leads to.
        found: &'static str,
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
    #[error("fetcher.cursor.next = \"{pointer}\" leads to {bytes} bytes; a cursor has {MAX_CURSOR_BYTES} at most")]
    LongCursor {
        /// The pointer.
        pointer: String,
        /// How long it is.
        bytes: usize,
    },
}

/// Where an answer has what is read of it.
#[derive(Debug, Clone)]
pub(crate) struct Ways {
    /// The array of records.
    pub records: Pointer,
    /// The next cursor, if the API gives cursors.
    pub next: Option<Pointer>,
    /// Whether there is a further page, if the pipeline file says where that is.
    pub has_more: Option<Pointer>,
}

impl Ways {
    /// Where the answers to a pipeline's fetches have what is read of them.
    pub(crate) fn of(table: &FetcherSection) -> Self {
        let cursor = table.cursor.as_ref();
        Self {
            records: Pointer::parse(&table.records),
            next: cursor.map(|cursor| Pointer::parse(&cursor.next)),
            has_more: cursor.and_then(|cursor| cursor.has_more.as_deref()).map(Pointer::parse),
        }
    }
}

/// The records of an answer, and what it says beside them. An answer that is empty, or has null where the array is expected, is a page without
/// records. The first page of a fetch is held to naming its next cursor where the pipeline file says.
///
/// # Errors
/// When it holds no page.
pub(crate) fn read(body: &Bytes, ways: &Ways, is_first: bool, max_page_bytes: usize) -> Result<(Extracted, Said), PageError> {
    let json = body.strip_prefix(BOM).unwrap_or(body);
    let mut said = Said { next: if ways.next.is_some() { Next::Absent } else { Next::NotSought }, ..Said::default() };
    if json.trim_ascii().is_empty() {
        return Ok((Extracted::default(), said));
    }
    let found = match extract(body.clone(), &ways.records, max_page_bytes) {
        Err(error @ (PageError::NotFound { .. } | PageError::NotArray { .. })) => {
            let said = hints::error_of(json).or_else(|| hints::message_of(json));
            return Err(said.map_or(error, |said| PageError::Failure { said }));
        }
        other => other?,
    };
    if found.records.is_empty()
        && let Some(said) = hints::error_of(json)
    {
        return Err(PageError::Failure { said });
    }
    let json = found.body.as_ref();
    if let Some(pointer) = &ways.next {
        said.next = next_cursor(json, pointer)?;
        if said.next == Next::Absent
            && is_first
            && let Some(near) = hints::near(pointer, &ways.records, json)
        {
            return Err(PageError::NearCursor { pointer: pointer.to_string(), near });
        }
        said.more = match &ways.has_more {
            Some(has_more) => more(json, has_more)?.map(|more| (has_more.to_string(), more)),
            None if matches!(said.next, Next::Cursor(_)) => None,
            None => hints::more_beside(pointer, json).map(|name| (name, true)),
        };
        said.digest = digest(&found.records);
    }
    Ok((found, said))
}

/// A hash of the records, for telling a page from the one before it.
fn digest(records: &[Bytes]) -> u64 {
    let mut hasher = DefaultHasher::new();
    records.iter().for_each(|record| record.hash(&mut hasher));
    hasher.finish()
}

/// Whether there is a further page; nothing when the pointer leads nowhere or to null.
fn more(json: &[u8], pointer: &Pointer) -> Result<Option<bool>, PageError> {
    let Some(value) = pointer.find_first(json) else { return Ok(None) };
    let text = value.get().trim_matches('"').to_ascii_lowercase();
    match (text.as_str(), kind(value.get().as_bytes())) {
        ("null" | "", _) => Ok(None),
        ("true" | "1", _) => Ok(Some(true)),
        ("false" | "0", _) => Ok(Some(false)),
        (_, found) => Err(PageError::NotMore { pointer: pointer.to_string(), found }),
    }
}

/// The cursor of the next page, out of an answer that [`extract`] has found to be JSON. A number is given as the API wrote it.
///
/// A second look at the answer, up to the cursor: it skips what it passes, at the speed of memory beside that of the network.
///
/// # Errors
/// When the pointer leads to anything else than a string or a number.
fn next_cursor(json: &[u8], pointer: &Pointer) -> Result<Next, PageError> {
    let Some(value) = pointer.find_first(json) else {
        return Ok(if pointer.meets_null(json) { Next::Nothing } else { Next::Absent });
    };
    let not_cursor = |found| Err(PageError::NotCursor { pointer: pointer.to_string(), found });
    let text = value.get();
    let cursor = match kind(text.as_bytes()) {
        "null" => return Ok(Next::Nothing),
        "a boolean" if text == "false" => return Ok(Next::Nothing),
        "a number" => text.trim().to_owned(),
        "a string" => match serde_json::from_str::<String>(text) {
            Ok(cursor) => cursor,
            Err(_) => return not_cursor("a string that is not Unicode"),
        },
        other => return not_cursor(other),
    };
    if cursor.len() > MAX_CURSOR_BYTES {
        return Err(PageError::LongCursor { pointer: pointer.to_string(), bytes: cursor.len() });
    }
    Ok(if cursor.trim().is_empty() { Next::Nothing } else { Next::Cursor(cursor) })
}

/// What an answer holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Extracted {
    /// The records, byte for byte.
    pub(crate) records: Vec<Bytes>,
    /// Those of them that are no JSON, in order.
    pub(crate) bad: Vec<BadRecord>,
    /// The answer as JSON: as it came, but that each bad record is a 0. What else is to be found in the answer is to be looked for here.
    pub(crate) body: Bytes,
}

/// The records of an answer, at most `max_page_bytes / RECORD_OVERHEAD` of them.
///
/// # Errors
/// When the answer without its bad records isn't JSON, the pointer leads to no array in it, or the array is too long.
pub(crate) fn extract(body: Bytes, pointer: &Pointer, max_page_bytes: usize) -> Result<Extracted, PageError> {
    let body = if body.starts_with(BOM) { body.slice(BOM.len()..) } else { body };
    let most = (max_page_bytes / RECORD_OVERHEAD).max(1);
    match sound(&body, pointer, most) {
        Ok(records) => Ok(Extracted { records, bad: Vec::new(), body }),
        Err(error @ PageError::NotJson { .. }) => {
            let split::Blanked { body, bad } = split::blank(body, pointer).ok_or(error)?;
            let mut records = sound(&body, pointer, most)?;
            let reasons = bad.into_iter().filter_map(|(at, bytes)| {
                let reason = split::wrong(&bytes);
                *records.get_mut(at)? = bytes;
                Some(BadRecord { index: at, reason })
            });
            let bad = reasons.collect();
            Ok(Extracted { records, bad, body })
        }
        Err(error) => Err(error),
    }
}

/// The records of an answer that is JSON.
fn sound(body: &Bytes, pointer: &Pointer, most: usize) -> Result<Vec<Bytes>, PageError> {
    let mut leaf = Records { body, most, found: Found::Nothing };
    pointer.visit(body, &mut leaf).map_err(|cause| not_json(body, &cause))?;
    match leaf.found {
        Found::Other("null") => Ok(Vec::new()),
        Found::Nothing if pointer.meets_null(body) => Ok(Vec::new()),
        Found::Records(records) if records.len() > most => Err(PageError::TooMany { most }),
        Found::Records(records) => Ok(records),
        Found::Other(kind) => {
            let remedy = if kind == "an object" { one_object(body, pointer) } else { String::new() };
            Err(PageError::NotArray { pointer: pointer.to_string(), kind, remedy })
        }
        Found::Nothing => Err(PageError::NotFound { pointer: pointer.to_string(), cause: pointer.explain(body) }),
    }
}

/// What to do about an object where an array is expected.
fn one_object(body: &[u8], pointer: &Pointer) -> String {
    let contents = pointer.find_first(body).map_or_else(String::new, |value| format!("; it {}", contents(value)));
    format!("{contents}. One object is not read as a record: ask the address that gives a list, or point fetcher.records to an array in it")
}

fn not_json(body: &[u8], cause: &serde_json::Error) -> PageError {
    if cause.is_eof() {
        return PageError::CutShort { bytes: body.len(), excerpt: excerpt(body, cause.line(), cause.column()) };
    }
    if hints::is_a_record_a_line(body) {
        return PageError::LineDelimited;
    }
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
        let Extracted { records, bad, .. } = extract(body, &Pointer::parse(pointer), 1 << 20)?;
        assert_eq!(bad, []);
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
        let records = extract(body.clone(), &Pointer::parse(""), 1 << 20).unwrap().records;
        assert_eq!(records[0].as_ptr(), body[1..].as_ptr());
    }

    #[test]
    fn an_answer_that_is_not_json_says_where() {
        let error = page("/results", "{\"results\": [\n  {\"a\": 1}],\n  oops\n}").unwrap_err();
        let PageError::NotJson { line, column, ref excerpt, .. } = error else { panic!("{error}") };
        assert_eq!((line, column), (3, 3));
        assert!(excerpt.contains("oops"), "{excerpt}");
        assert!(matches!(page("", "<html>").unwrap_err(), PageError::NotJson { line: 1, .. }));
    }

    #[test]
    fn an_answer_cut_short_is_told_from_one_that_is_followed_by_more() {
        for body in [r#"{"r": [1, 2], "info": {"#, r#"{"r": [{"id": 1}, {"na"#, r#"{"r": ["#, r#"{"r": [1, "a"#, "{"] {
            let error = page("/r", body).unwrap_err();
            assert!(matches!(error, PageError::CutShort { bytes, .. } if bytes == body.len()), "{error}");
        }
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
        for (value, found) in [("\"x\"", "a string"), ("-1", "a number"), ("true", "a boolean")] {
            let error = page("/r", &format!("{{\"r\": {value}}}")).unwrap_err();
            assert_eq!(error.to_string(), format!("fetcher.records = \"/r\" leads to {found}, not to an array of records"));
        }
        let error = page("/data", r#"{"data": {"id": 7, "name": "x"}}"#).unwrap_err();
        assert_eq!(
            error.to_string(),
            "fetcher.records = \"/data\" leads to an object, not to an array of records; it has `id`, `name`. One object is not read as a \
             record: ask the address that gives a list, or point fetcher.records to an array in it"
        );
    }

    #[test]
    fn a_page_of_brackets_does_not_overflow_the_stack() {
        assert!(matches!(page("", &"[".repeat(1 << 20)).unwrap_err(), PageError::CutShort { .. }));
        let deep = ["[".repeat(1 << 19), "]".repeat(1 << 19)].concat();
        assert_eq!(page("/r", &format!(r#"{{"r": [{deep}]}}"#)).unwrap().len(), 1);
    }

    #[test]
    fn a_page_of_more_records_than_its_weight_allows_is_refused() {
        let body = Bytes::from(format!("[{}1]", "1,".repeat(100)));
        assert_eq!(extract(body.clone(), &Pointer::parse(""), 100 * RECORD_OVERHEAD), Err(PageError::TooMany { most: 100 }));
        assert_eq!(extract(body, &Pointer::parse(""), 101 * RECORD_OVERHEAD).unwrap().records.len(), 101);
    }

    fn next(pointer: &str, body: &str) -> Result<Option<String>, PageError> {
        Ok(match next_cursor(body.as_bytes(), &Pointer::parse(pointer))? {
            Next::Cursor(cursor) => Some(cursor),
            _ => None,
        })
    }

    #[test]
    fn the_next_cursor_is_a_string_or_a_number_as_the_api_wrote_it() {
        let next = |value: &str| next("/info/next", &format!("{{\"results\": [[]], \"info\": {{\"n\": 1, \"next\": {value} }}}}")).unwrap();
        assert_eq!(next("\"a\\u0062/c =\"").as_deref(), Some("ab/c ="));
        assert_eq!(next("12345678901234567890123").as_deref(), Some("12345678901234567890123"));
        assert_eq!(next("1.50").as_deref(), Some("1.50"));
        assert_eq!(next("0").as_deref(), Some("0"));
    }

    #[test]
    fn null_false_an_empty_string_and_nothing_are_no_next_cursor() {
        let next = |body: &str| next_cursor(body.as_bytes(), &Pointer::parse("/info/next"));
        for value in ["null", "false", "\"\"", "\" \""] {
            assert_eq!(next(&format!("{{\"info\": {{\"next\": {value}}}}}")), Ok(Next::Nothing), "{value}");
        }
        assert_eq!(next("{\"info\": null}"), Ok(Next::Nothing));
        for body in ["{\"info\": {}}", "{}", "[]"] {
            assert_eq!(next(body), Ok(Next::Absent), "{body}");
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
            let _ = extract(Bytes::from(bytes), &Pointer::parse("/a/0"), 1 << 20);
        }
    }
}

#[cfg(test)]
#[path = "page_tests.rs"]
mod reading;
