//! Finds the records that keep a response from being JSON.
//!
//! Guarantees:
//! * Only records are bad: elements of an array that the pointer leads to, or, where it has a `*`,
//!   the values that it leads to. They are not JSON by themselves, and their start and end are
//!   clear from strings, brackets and commas.
//! * Nothing outside of them is changed, so parsing the result finds whatever else is wrong with
//!   the response.
//! * It takes one pass, which recurses no deeper than the pointer, in the memory of the response
//!   and its bad records.
//!
//! Does not guarantee that a record with unpaired quotes or brackets is separated from its
//! neighbours. The whole response is an error then, as a truncated one is.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use serde_json::value::RawValue;

use forebay_dataplane::Reason;
use forebay_schemas::json_pointer::JsonPointer;

use crate::text::json_lookup::ALL;

/// How many bytes of a record a reason quotes on each side of the position.
const EXCERPT_BYTES: usize = 20;
/// The longest literal that a reason names.
const MAX_WORD_BYTES: usize = 16;
/// Literals of other languages that JSON does not have, and misspellings of its own, in lower case.
const WORDS: [&str; 10] = ["nan", "infinity", "inf", "undefined", "none", "true", "false", "null", "nil", "na"];

/// A response without its bad records.
#[derive(Debug)]
pub(super) struct Blanked {
    /// The response, with each bad record replaced by a 0 or an empty object, and spaces.
    pub(super) body: Bytes,
    /// The bad records, each with its index, in order.
    pub(super) bad: Vec<(usize, Bytes)>,
}

/// Takes the bad records out of a response; `None` when it finds none.
pub(super) fn blank_out(body: Bytes, pointer: &JsonPointer) -> Option<Blanked> {
    let ranges = bad_ranges(&body, pointer);
    // A record that is a value of its own becomes an empty object, which needs room.
    if ranges.is_empty() || ranges.iter().any(|range| range.is_leaf && range.bytes.len() < 2) {
        return None;
    }
    let bad = ranges.iter().map(|range| (range.index, Bytes::copy_from_slice(&body[range.bytes.clone()]))).collect();
    let mut body = body.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..]));
    for BadRange { bytes, is_leaf, .. } in ranges {
        let bytes = &mut body[bytes];
        bytes.fill(b' ');
        let with: &[u8] = if is_leaf { b"{}" } else { b"0" };
        bytes[..with.len()].copy_from_slice(with);
    }
    Some(Blanked { body: body.freeze(), bad })
}

/// Why a bad record is rejected.
pub(super) fn reason(record: &[u8]) -> Reason {
    if let Err(not_text) = std::str::from_utf8(record) {
        let at = not_text.valid_up_to();
        let byte = record.get(at).copied().unwrap_or_default();
        return Reason::quoting(&format!("0x{byte:02X}"), |byte| {
            format!("the record is not JSON, which is UTF-8: byte {} is {byte}", at + 1)
        });
    }
    let Err(cause) = serde_json::from_slice::<&RawValue>(record) else { return Reason::plain("the record is not JSON") };
    let (line, column) = (cause.line(), cause.column());
    if let Some(word) = word_at(record, index_of(record, line, column)) {
        return Reason::plain(format!("the record is not JSON: {word} is no JSON, at line {line}, column {column}"));
    }
    let text = cause.to_string();
    let message = text.split(" at line ").next().unwrap_or_default();
    let near = index_of(record, line, column);
    let near = &record[near.saturating_sub(EXCERPT_BYTES)..(near + EXCERPT_BYTES).min(record.len())];
    let near = format!("{:?}", String::from_utf8_lossy(near));
    Reason::quoting(&near, |near| format!("the record is not JSON: {message} at line {line}, column {column}, near {near}"))
}

/// The index of the byte at a line and column, each from 1.
fn index_of(text: &[u8], line: usize, column: usize) -> usize {
    let start: usize = text.split_inclusive(|&byte| byte == b'\n').take(line.saturating_sub(1)).map(<[u8]>::len).sum();
    (start + column.saturating_sub(1)).min(text.len())
}

/// The literal at an index, when it is one of [`WORDS`].
fn word_at(text: &[u8], at: usize) -> Option<&str> {
    let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'_');
    let from = text[..at].iter().rposition(|byte| !is_part(byte)).map_or(0, |before| before + 1);
    let to = text[at..].iter().position(|byte| !is_part(byte)).map_or(text.len(), |after| at + after);
    let word = std::str::from_utf8(&text[from..to]).ok().filter(|word| word.len() <= MAX_WORD_BYTES)?;
    WORDS.contains(&word.trim_start_matches(['-', '+']).to_ascii_lowercase().as_str()).then_some(word)
}

/// A record that is not JSON.
struct BadRange {
    /// Its index among the records.
    index: usize,
    bytes: Range<usize>,
    /// Whether the pointer leads to it, and not to an array around it.
    is_leaf: bool,
}

/// The records that are not JSON, as far as the response can be split.
fn bad_ranges(json: &[u8], pointer: &JsonPointer) -> Vec<BadRange> {
    let all = pointer.tokens().iter().any(|token| token == ALL);
    let mut finder = Finder { scan: Scan { json, at: 0 }, all, records: 0, bad: Vec::new(), is_unclear: false };
    let _ = finder.descend(pointer.tokens());
    if finder.is_unclear { Vec::new() } else { finder.bad }
}

/// Goes through the values that a pointer leads to, in the order of the response.
struct Finder<'a> {
    scan: Scan<'a>,
    /// Whether the pointer has a `*`.
    all: bool,
    /// The records so far.
    records: usize,
    bad: Vec<BadRange>,
    /// Whether a bad record may be more than one.
    is_unclear: bool,
}

impl Finder<'_> {
    /// Reads a value, and checks the records that the rest of the pointer leads to in it. `None`
    /// when there is nothing more to find, or the structure is unclear.
    fn descend(&mut self, parts: &[String]) -> Option<()> {
        let Some((part, rest)) = parts.split_first() else { return self.leaf() };
        let takes = |name: &str| part == ALL || name == part;
        match self.scan.peek()? {
            b'{' => {
                self.scan.at += 1;
                while self.scan.eat(b'}').is_none() {
                    let name = self.scan.name()?;
                    if takes(&name) {
                        self.descend(rest)?;
                        // Without a `*`, there is nothing more to find.
                        self.all.then_some(())?;
                    } else {
                        self.scan.value()?;
                    }
                    if self.scan.eat(b',').is_none() {
                        return self.scan.eat(b'}');
                    }
                }
            }
            b'[' => {
                self.scan.at += 1;
                for at in 0.. {
                    if self.scan.eat(b']').is_some() {
                        break;
                    }
                    if takes(&at.to_string()) {
                        self.descend(rest)?;
                        self.all.then_some(())?;
                    } else {
                        self.scan.value()?;
                    }
                    if self.scan.eat(b',').is_none() {
                        return self.scan.eat(b']');
                    }
                }
            }
            _ => {
                self.scan.value()?;
            }
        }
        Some(())
    }

    /// Checks the records of an array, or the object, that the pointer leads to.
    fn leaf(&mut self) -> Option<()> {
        if self.scan.peek()? != b'[' {
            let value = if self.all { self.scan.value()? } else { return None };
            let is_bad = self.is_bad(&value)?;
            if is_bad {
                self.bad.push(BadRange { index: self.records, bytes: value.clone(), is_leaf: true });
            }
            self.records += usize::from(is_bad || self.scan.json[value.start] == b'{');
            return Some(());
        }
        self.scan.at += 1;
        if self.scan.eat(b']').is_some() {
            return Some(());
        }
        loop {
            let element = self.scan.value()?;
            if self.is_bad(&element)? {
                self.bad.push(BadRange { index: self.records, bytes: element, is_leaf: false });
            }
            self.records += 1;
            if self.scan.eat(b',').is_none() {
                return self.scan.eat(b']');
            }
        }
    }

    /// Whether a value is not JSON; `None` when it may be more than one value.
    fn is_bad(&mut self, value: &Range<usize>) -> Option<bool> {
        let value = &self.scan.json[value.clone()];
        let is_bad = serde_json::from_slice::<&RawValue>(value).is_err();
        self.is_unclear = is_bad && hides_a_boundary(value);
        (!self.is_unclear).then_some(is_bad)
    }
}

/// Whether a string of a bad element contains what separates two records. Its quotes are unpaired
/// then, and it is more than one record.
fn hides_a_boundary(element: &[u8]) -> bool {
    let mut scan = Scan { json: element, at: 0 };
    while let Some(quote) = memchr::memchr(b'"', &element[scan.at..]) {
        scan.at += quote;
        let Some(text) = scan.string() else { return true };
        let text = &element[text];
        let boundary =
            |comma: usize| text[..comma].trim_ascii_end().ends_with(b"}") && text[comma + 1..].trim_ascii_start().starts_with(b"{");
        if memchr::memchr_iter(b',', text).any(boundary) {
            return true;
        }
    }
    false
}

/// Reads JSON by its structure only.
struct Scan<'a> {
    json: &'a [u8],
    at: usize,
}

impl Scan<'_> {
    fn peek(&mut self) -> Option<u8> {
        let space = self.json[self.at..].iter().position(|byte| !byte.is_ascii_whitespace())?;
        self.at += space;
        Some(self.json[self.at])
    }

    fn eat(&mut self, byte: u8) -> Option<()> {
        (self.peek()? == byte).then(|| self.at += 1)
    }

    /// The name of a member, and the colon after it.
    fn name(&mut self) -> Option<String> {
        if self.peek()? != b'"' {
            return None;
        }
        let name = self.string()?;
        self.eat(b':')?;
        // A name that is not text is none that a pointer has.
        Some(serde_json::from_slice(&self.json[name]).unwrap_or_default())
    }

    /// A string, from quote to quote.
    fn string(&mut self) -> Option<Range<usize>> {
        let from = self.at;
        self.at += 1;
        loop {
            self.at += memchr::memchr2(b'"', b'\\', self.json.get(self.at..)?)?;
            match self.json[self.at] {
                b'"' => {
                    self.at += 1;
                    return Some(from..self.at);
                }
                // An escaped quote does not end the string.
                _ => self.at += 2,
            }
        }
    }

    /// A value up to the comma or bracket after it, whatever it contains; `None` when its end is
    /// unclear.
    fn value(&mut self) -> Option<Range<usize>> {
        match self.peek()? {
            b'"' => self.string(),
            b'{' | b'[' => self.nested(),
            _ => {
                let from = self.at;
                let length = self.json[from..].iter().position(|byte| matches!(byte, b',' | b']' | b'}' | b'{' | b'[' | b'"'))?;
                let length = self.json[from..from + length].trim_ascii_end().len();
                self.at = from + length;
                (length > 0).then_some(from..self.at)
            }
        }
    }

    /// An object or an array, to its closing bracket.
    fn nested(&mut self) -> Option<Range<usize>> {
        let from = self.at;
        let mut ends = Vec::new();
        loop {
            self.at += self.json.get(self.at..)?.iter().position(|byte| matches!(byte, b'"' | b'{' | b'[' | b'}' | b']' | b','))?;
            match self.json[self.at] {
                b'"' => {
                    self.string()?;
                    continue;
                }
                b'{' => ends.push(b'}'),
                b'[' => ends.push(b']'),
                b',' => {
                    self.at += 1;
                    // An object continues with a name. If another object follows, it has lost its
                    // closing bracket.
                    if ends.last() == Some(&b'}') && self.peek()? == b'{' {
                        return None;
                    }
                    continue;
                }
                end => {
                    if ends.pop() != Some(end) {
                        return None;
                    }
                }
            }
            self.at += 1;
            if ends.is_empty() {
                return Some(from..self.at);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::fetcher::page::{PagePaths, read};
    use crate::fetcher::page_error::PageError;
    use crate::fetcher::pagination::NextCursor;
    use crate::fetcher::records::{Extracted, Shape, extract};
    use crate::text::json_lookup::parse_pointer;

    fn taken(pointer: &str, body: &[u8]) -> Result<Extracted, PageError> {
        extract(Bytes::copy_from_slice(body), &parse_pointer(pointer), Shape::List, 1 << 20)
    }

    /// The indexes of the bad records, and the reason for the first.
    fn bad(body: &[u8]) -> (Vec<usize>, String) {
        let found = taken("/rows", body).unwrap();
        let reason = found.bad.first().map(|bad| bad.reason.full().to_owned()).unwrap_or_default();
        (found.bad.iter().map(|bad| bad.index).collect(), reason)
    }

    #[test]
    fn a_malformed_record_is_bad_with_a_reason_and_its_neighbours_are_records() {
        for (broken, reason) in [
            (&b"{\"a\": NaN}"[..], "the record is not JSON: NaN is no JSON, at line 1, column 7"),
            (b"{\"a\": -Infinity}", "the record is not JSON: -Infinity is no JSON, at line 1"),
            (b"{\"a\": [1, None]}", "the record is not JSON: None is no JSON, at line 1"),
            (b"{\"a\": nan}", "the record is not JSON: nan is no JSON, at line 1"),
            (b"{\"a\": \"\xe9t\xe9\"}", "the record is not JSON, which is UTF-8: byte 8 is 0xE9"),
            (b"{\"a\": \"one\ntwo\"}", "the record is not JSON: control character (\\u0000-\\u001F) found while parsing a string"),
            (b"{\"a\": \"\\x\"}", "the record is not JSON: invalid escape"),
            (b"{\"a\": 1,}", "the record is not JSON: key must be a string"),
            (b"{\"a\" 1}", "the record is not JSON: expected `:`"),
            (b"{a: 1}", "the record is not JSON: key must be a string"),
            (b"{\"a\": 01}", "the record is not JSON: invalid number"),
            (b"oops", "the record is not JSON: expected value"),
            (b"{'a': 'it is, so'}", "the record is not JSON: key must be a string"),
        ] {
            let body = [b"{\"n\": 1, \"rows\": [{\"a\": 1}, ", broken, b" , {\"a\": 3}], \"next\": \"c\"}"].concat();
            let found = taken("/rows", &body).unwrap();
            assert_eq!(found.records, [&b"{\"a\": 1}"[..], broken, b"{\"a\": 3}"], "{}", String::from_utf8_lossy(broken));
            let (at, found) = bad(&body);
            assert!(at == [1] && found.starts_with(reason), "{found}");
            let (records, next) = (parse_pointer("/rows"), Some(parse_pointer("/next")));
            let paths = PagePaths { records, lines: true, next, is_paged: true, key: "cursor", ..PagePaths::default() };
            let (_, info) = read(&Bytes::from(body), &paths, true, 1 << 20).unwrap();
            assert_eq!(info.next, NextCursor::Cursor("c".to_owned()), "the cursor after the records is found");
        }
    }

    #[test]
    fn masked_reasons_quote_nothing_of_the_record() {
        let reason = reason(b"{\"secret\": \"one\ntwo\"}");
        assert!(reason.full().contains("secret") && !reason.masked().contains("secret"), "{reason:?}");
    }

    #[test]
    fn what_is_no_fault_of_a_record_is_an_error_of_the_response() {
        for body in [
            // Outside of the records, also next to a bad one.
            "{\"n\": NaN, \"rows\": [{\"a\": 1}]}",
            "{\"rows\": [{\"a\": NaN}], \"n\": NaN}",
            // Truncated after a bad one.
            "{\"rows\": [{\"a\": NaN}, {\"a\"",
            "{\"rows\": [{\"a\": NaN}, {\"a\": 1}",
            // Unpaired quotes and brackets: the end of a record is unclear.
            "{\"rows\": [{\"a\": \"x\"y\"}, {\"good\": 1}, {\"a\": \"x\"y\"}]}",
            "{\"rows\": [{\"a\": [1}, {\"a\": 2}]}",
            "{\"rows\": [{\"a\": {\"b\": 1}, {\"a\": 2}}, {\"a\": 3}]}",
            "{\"rows\": [{\"a\": 1} {\"a\": 2}]}",
            "{\"rows\": [{\"a\": 1},, {\"a\": 2}]}",
            "{\"rows\": [{\"a\": 1},]}",
            "{\"rows\": [{\"a\": 1}]",
            "<html>busy</html>",
            "",
        ] {
            assert!(matches!(taken("/rows", body.as_bytes()), Err(PageError::NotJson { .. } | PageError::CutShort { .. })), "{body}");
        }
        let cut = taken("/rows", b"{\"rows\": [{\"a\": NaN}, {\"a\"").unwrap_err();
        assert!(matches!(cut, PageError::CutShort { .. }), "truncation outweighs a bad record: {cut}");
    }

    #[test]
    fn records_are_found_by_the_pointer_in_a_response_that_is_not_json() {
        let body = br#"{"x": {"rows": [1]}, "d": [[], {"r\u006fws": [{"a": NaN}, 7], "rows": []}]}"#;
        let found = taken("/d/1/rows", body).unwrap();
        assert_eq!((found.records.len(), found.bad[0].index, &found.records[1][..]), (2, 0, &b"7"[..]));
        assert_eq!(bad(br#"{"rows": [NaN, NaN, {"a": 1}, Infinity]}"#).0, [0, 1, 3]);
    }

    #[test]
    fn records_below_a_star_are_bad_each_by_itself() {
        let of = |pointer: &str, body: &str| {
            let found = taken(pointer, body.as_bytes()).unwrap();
            (found.records.len(), found.bad.iter().map(|bad| bad.index).collect::<Vec<_>>())
        };
        let shops = r#"{"shops": [{"orders": [{"n": 1}, {"n": NaN}]}, {"none": 0}, {"orders": null}, {"orders": [{"n": 3}, Infinity]}]}"#;
        assert_eq!(of("/shops/*/orders", shops), (4, vec![1, 3]));
        assert_eq!(of("/*", r#"{"a": {"n": 1}, "b": {"n": NaN}, "c": [{"n": 2}, {n}], "d": null, "e": {}}"#), (5, vec![1, 3]));
        assert_eq!(of("/*/*", r#"[[{"n": 1}, {"n": NaN}], [], [[undefined]]]"#), (3, vec![1, 2]));
        let found = taken("/*", br#"{"a": {"n": NaN}, "b": {"n": 1}}"#).unwrap();
        assert_eq!(found.records, [&br#"{"n": NaN}"#[..], br#"{"n": 1}"#]);
        for body in
            [r#"{"a": {"n": NaN}, "b": {"n": 1}"#, r#"{"a": {"n": NaN}, "b" 1}"#, r#"{"a": [{"x": "x"y"}, {"n": 1}, {"x": "x"y"}]}"#]
        {
            assert!(taken("/*", body.as_bytes()).is_err(), "{body}");
        }
    }

    #[test]
    fn unclosed_brackets_do_not_overflow_the_stack() {
        let deep = ["{\"rows\": [NaN, ", &"[".repeat(1 << 20)].concat();
        assert!(taken("/rows", deep.as_bytes()).is_err());
    }

    proptest! {
        #[test]
        fn bad_records_are_told_from_valid_ones_by_index(
            records in prop::collection::vec(prop_oneof![
                3 => prop_oneof![Just("{\"a\": \"}, {\"}"), Just("[1, {\"b\": []}]"), Just("null"), Just("{\"q\": \"\\\"\"}"), Just("-1.5")]
                    .prop_map(|sound| (false, sound)),
                1 => prop_oneof![Just("NaN"), Just("{\"a\": Infinity}"), Just("{\"a\": \"\t\"}"), Just("{\"b\": [1,]}"), Just("{a}")]
                    .prop_map(|broken| (true, broken)),
            ], 0..12),
            space in "[ \n]{0,2}",
        ) {
            let text: Vec<&str> = records.iter().map(|(_, text)| *text).collect();
            let body = format!("{{\"before\": [\"rows\"],{space}\"rows\":{space}[{}]{space}, \"after\": {{}}}}", text.join(&format!("{space},{space}")));
            let found = taken("/rows", body.as_bytes()).unwrap();
            prop_assert_eq!(&found.records, &text);
            let bad: Vec<usize> = (0..).zip(&records).filter(|(_, (is_bad, _))| *is_bad).map(|(at, _)| at).collect();
            prop_assert_eq!(found.bad.iter().map(|bad| bad.index).collect::<Vec<_>>(), bad);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(prop_oneof![
            any::<u8>(), Just(b'"'), Just(b'{'), Just(b'}'), Just(b'['), Just(b']'), Just(b','), Just(b':'), Just(b'\\'),
        ], 0..100)) {
            let body = [b"{\"rows\":[", &bytes[..]].concat();
            let _ = taken("/rows", &body);
            let _ = reason(&bytes);
        }
    }
}
