//! Finds the records that keep a response from being JSON.
//!
//! Guarantees:
//! * Only elements of the records' array are bad: those that are not JSON by themselves, and whose
//!   start and end are clear from strings, brackets and commas.
//! * Nothing outside of them is changed, so parsing the result finds whatever else is wrong with
//!   the response.
//! * It takes one pass without recursion, in the memory of the response and its bad records.
//!
//! Does not guarantee that a record with unpaired quotes or brackets is separated from its
//! neighbours. The whole response is an error then, as a truncated one is.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use serde_json::value::RawValue;

use forebay_dataplane::Reason;
use forebay_schemas::json_pointer::JsonPointer;

/// How many bytes of a record a reason quotes on each side of the position.
const EXCERPT_BYTES: usize = 20;
/// The longest literal that a reason names.
const MAX_WORD_BYTES: usize = 16;
/// Literals of other languages that JSON does not have, and misspellings of its own, in lower case.
const WORDS: [&str; 10] = ["nan", "infinity", "inf", "undefined", "none", "true", "false", "null", "nil", "na"];

/// A response without its bad records.
#[derive(Debug)]
pub(super) struct Blanked {
    /// The response, with each bad record replaced by a 0 and spaces.
    pub(super) body: Bytes,
    /// The bad records, each with its index, in order.
    pub(super) bad: Vec<(usize, Bytes)>,
}

/// Takes the bad records out of a response; `None` when it finds none.
pub(super) fn blank_out(body: Bytes, pointer: &JsonPointer) -> Option<Blanked> {
    let ranges = bad_elements(&body, pointer);
    if ranges.is_empty() {
        return None;
    }
    let bad = ranges.iter().map(|(at, range)| (*at, Bytes::copy_from_slice(&body[range.clone()]))).collect();
    let mut body = body.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..]));
    for (_, range) in ranges {
        body[range.clone()].fill(b' ');
        body[range.start] = b'0';
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

/// The elements of the records' array that are not JSON, each with its index, as far as the
/// response can be split.
fn bad_elements(json: &[u8], pointer: &JsonPointer) -> Vec<(usize, Range<usize>)> {
    let mut bad = Vec::new();
    let mut scan = Scan { json, at: 0 };
    if scan.find(pointer.tokens()).is_none() || scan.eat(b'[').is_none() {
        return bad;
    }
    for at in 0.. {
        let Some(element) = scan.value() else { break };
        if serde_json::from_slice::<&RawValue>(&json[element.clone()]).is_err() {
            if hides_a_boundary(&json[element.clone()]) {
                return Vec::new();
            }
            bad.push((at, element));
        }
        if scan.eat(b',').is_none() {
            break;
        }
    }
    bad
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

    /// Moves to the value that a pointer leads to.
    fn find(&mut self, parts: &[String]) -> Option<()> {
        let Some((part, rest)) = parts.split_first() else { return Some(()) };
        match self.peek()? {
            b'{' => {
                self.at += 1;
                loop {
                    if self.peek()? != b'"' {
                        return None;
                    }
                    let name = self.string()?;
                    let is_it = serde_json::from_slice::<String>(&self.json[name]).is_ok_and(|name| name == *part);
                    self.eat(b':')?;
                    if is_it {
                        return self.find(rest);
                    }
                    self.value()?;
                    self.eat(b',')?;
                }
            }
            b'[' => {
                self.at += 1;
                let wanted: usize = part.parse().ok().filter(|_| part.len() == 1 || !part.starts_with('0'))?;
                for _ in 0..wanted {
                    self.value()?;
                    self.eat(b',')?;
                }
                self.find(rest)
            }
            _ => None,
        }
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
