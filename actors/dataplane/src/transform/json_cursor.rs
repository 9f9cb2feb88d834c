//! A cursor over the JSON text of one record.
//!
//! Guarantees:
//! * It accepts exactly RFC 8259, also in values that are skipped.
//! * It never moves back, and allocates nothing for valid text.
//! * Nesting deeper than [`MAX_DEPTH`] is an error, not a stack overflow.
//!
//! Does not guarantee that the names in an object are unique; the decoder checks those it knows.

use super::decode_error::{DecodeError, Result};
use super::json_scalar::{JsonNumber, JsonString};
use crate::Reason;

/// The limit for the depth of nesting.
pub(super) const MAX_DEPTH: usize = 128;
/// The limit for the characters of a value that an error quotes.
const MAX_QUOTED_CHARS: usize = 60;

/// A position in the JSON text of a record, and the column bytes that the record may still take.
#[derive(Clone)]
pub(super) struct JsonCursor<'a> {
    text: &'a str,
    at: usize,
    /// How many bytes of columns the record may still take; `None` once it exceeded that.
    room: Option<usize>,
    /// The index of the record in its batch.
    record: u32,
}

impl<'a> JsonCursor<'a> {
    pub(super) fn new(text: &'a str, room: usize) -> Self {
        Self { text, at: 0, room: Some(room), record: 0 }
    }

    /// A cursor over the record with this index in its batch.
    pub(super) fn of_record(text: &'a str, room: usize, record: u32) -> Self {
        Self { record, ..Self::new(text, room) }
    }

    /// The index of the record in its batch.
    pub(super) fn record(&self) -> u32 {
        self.record
    }

    /// Reserves bytes of columns, or fails when the record exceeds its limit.
    #[inline]
    pub(super) fn take_room(&mut self, bytes: usize) -> Result<()> {
        self.room = self.room.and_then(|room| room.checked_sub(bytes));
        match self.room {
            Some(_) => Ok(()),
            None => Err(DecodeError::invalid("exceeds the limit for a record's columns")),
        }
    }

    /// Returns how many bytes of columns are left; `None` when the record exceeded its limit.
    pub(super) fn room(&self) -> Option<usize> {
        self.room
    }

    #[inline]
    fn byte(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// Skips white space and returns the next byte without consuming it. `expected` is for the
    /// error at the end of the text.
    #[inline]
    pub(super) fn peek(&mut self, expected: &str) -> Result<u8> {
        loop {
            match self.byte() {
                Some(b' ' | b'\n' | b'\r' | b'\t') => self.at += 1,
                Some(byte) => return Ok(byte),
                None => return Err(self.unexpected(expected)),
            }
        }
    }

    /// Consumes this byte, after white space.
    #[inline]
    pub(super) fn take(&mut self, byte: u8, expected: &str) -> Result<()> {
        if self.peek(expected)? != byte {
            return Err(self.unexpected(expected));
        }
        self.at += 1;
        Ok(())
    }

    /// Checks that nothing but white space follows.
    pub(super) fn end(&mut self) -> Result<()> {
        match self.peek("") {
            Ok(_) => Err(self.unexpected("the end of the record")),
            Err(_) => Ok(()),
        }
    }

    /// The error that something else than `expected` follows.
    pub(super) fn unexpected(&self, expected: &str) -> Box<DecodeError> {
        let found = self.text[floor(self.text, self.at)..].chars().next();
        let context = format!("at byte {} expected {expected}", self.at);
        Box::new(DecodeError::Syntax(match found {
            Some(found) => Reason::quoting(&format!("{found:?}"), |found| format!("{context}, found {found}")),
            None => Reason::plain(format!("{context}, but the record ends")),
        }))
    }

    /// Skips a value and returns the error that it is not `expected`.
    pub(super) fn invalid(&mut self, expected: &str) -> Box<DecodeError> {
        let start = self.at;
        match self.skip(0) {
            Ok(()) => self.invalid_since(start, expected),
            Err(error) => error,
        }
    }

    /// Returns the error that the value from `start` to the cursor is not `expected`.
    pub(super) fn invalid_since(&self, start: usize, expected: &str) -> Box<DecodeError> {
        DecodeError::because(Reason::quoting(&shorten(&self.text[start..self.at]), |value| format!("must be {expected}, but is {value}")))
    }

    /// Returns the position of the cursor, in bytes.
    pub(super) fn position(&self) -> usize {
        self.at
    }

    /// Returns the text from `start` to the cursor.
    pub(super) fn since(&self, start: usize) -> &'a str {
        &self.text[start..self.at]
    }

    /// Consumes this word.
    pub(super) fn literal(&mut self, word: &'static str) -> Result<()> {
        for byte in word.bytes() {
            if self.byte() != Some(byte) {
                return Err(self.unexpected(&format!("`{word}`")));
            }
            self.at += 1;
        }
        Ok(())
    }

    /// Consumes a string. The cursor must be at its quote.
    #[inline]
    pub(super) fn string(&mut self) -> Result<JsonString<'a>> {
        self.at += 1;
        let start = self.at;
        let mut escaped = false;
        loop {
            self.at += plain_run(&self.text.as_bytes()[self.at..]);
            match self.byte() {
                Some(b'"') => {
                    let raw = &self.text.as_bytes()[start..self.at];
                    self.at += 1;
                    return Ok(JsonString { raw, escaped });
                }
                Some(b'\\') => {
                    escaped = true;
                    self.escape()?;
                }
                _ => return Err(self.unexpected("the end of a string, control characters escaped")),
            }
        }
    }

    fn escape(&mut self) -> Result<()> {
        self.at += 1;
        match self.byte() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 1,
            Some(b'u') => {
                let high = self.hex()?;
                if (0xD800..0xE000).contains(&high) {
                    let pair = high < 0xDC00 && self.text.as_bytes()[self.at..].starts_with(b"\\u");
                    self.at += usize::from(pair);
                    if !pair || !(0xDC00..0xE000).contains(&self.hex()?) {
                        return Err(self.unexpected("a whole pair of surrogates before"));
                    }
                }
            }
            _ => return Err(self.unexpected("an escape")),
        }
        Ok(())
    }

    /// Consumes `u` and the four digits after it.
    fn hex(&mut self) -> Result<u32> {
        self.at += 1;
        let mut value = 0;
        for _ in 0..4 {
            let digit = self.byte().and_then(|byte| char::from(byte).to_digit(16));
            value = value * 16 + digit.ok_or_else(|| self.unexpected("four hexadecimal digits"))?;
            self.at += 1;
        }
        Ok(value)
    }

    /// Consumes a number. The cursor must be at its first byte, a digit or a minus.
    #[inline]
    pub(super) fn number(&mut self) -> Result<JsonNumber<'a>> {
        let start = self.at;
        if self.byte() == Some(b'-') {
            self.at += 1;
        }
        match self.byte() {
            Some(b'0') => self.at += 1,
            _ => self.digits()?,
        }
        let whole = self.at;
        if self.byte() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.byte() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.byte() {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(JsonNumber { raw: &self.text[start..self.at], plain: whole == self.at })
    }

    #[inline]
    fn digits(&mut self) -> Result<()> {
        let start = self.at;
        while self.byte().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        if self.at == start { Err(self.unexpected("a digit")) } else { Ok(()) }
    }

    /// Skips any value, and checks its syntax.
    pub(super) fn skip(&mut self, depth: usize) -> Result<()> {
        match self.peek("a value")? {
            b'"' => self.string().map(|_| ()),
            b'-' | b'0'..=b'9' => self.number().map(|_| ()),
            b't' => self.literal("true"),
            b'f' => self.literal("false"),
            b'n' => self.literal("null"),
            b'{' | b'[' if depth == MAX_DEPTH => Err(DecodeError::invalid(format!("nests deeper than {MAX_DEPTH}"))),
            b'{' => self.members(|this, _| this.skip(depth + 1)),
            b'[' => self.items(|this, _| this.skip(depth + 1)),
            _ => Err(self.unexpected("a value")),
        }
    }

    /// Consumes an object. The cursor must be at its brace. `value` consumes the value of each
    /// member.
    #[inline]
    pub(super) fn members(&mut self, mut value: impl FnMut(&mut Self, JsonString<'a>) -> Result<()>) -> Result<()> {
        self.at += 1;
        if self.peek("`}` or a name")? == b'}' {
            self.at += 1;
            return Ok(());
        }
        loop {
            if self.peek("a name")? != b'"' {
                return Err(self.unexpected("a name"));
            }
            let name = self.string()?;
            self.take(b':', "`:`")?;
            value(self, name)?;
            match self.peek("`,` or `}`")? {
                b',' => self.at += 1,
                b'}' => break,
                _ => return Err(self.unexpected("`,` or `}`")),
            }
        }
        self.at += 1;
        Ok(())
    }

    /// Consumes an array. The cursor must be at its bracket. `value` consumes each item; it
    /// receives the index.
    #[inline]
    pub(super) fn items(&mut self, mut value: impl FnMut(&mut Self, usize) -> Result<()>) -> Result<()> {
        self.at += 1;
        if self.peek("`]` or a value")? == b']' {
            self.at += 1;
            return Ok(());
        }
        for index in 0.. {
            value(self, index)?;
            match self.peek("`,` or `]`")? {
                b',' => self.at += 1,
                b']' => break,
                _ => return Err(self.unexpected("`,` or `]`")),
            }
        }
        self.at += 1;
        Ok(())
    }
}

/// Returns the number of bytes before the first quote, backslash or control character; all of them
/// when there is none.
#[inline]
fn plain_run(bytes: &[u8]) -> usize {
    const ONES: u64 = u64::MAX / 255;
    const HIGHS: u64 = ONES << 7;
    // Sets the high bit of each zero byte. Above the first such byte it may be set wrongly, which
    // does not matter here.
    let zeros = |word: u64| word.wrapping_sub(ONES) & !word & HIGHS;
    let mut at = 0;
    while let Some(chunk) = bytes[at..].first_chunk() {
        let word = u64::from_le_bytes(*chunk);
        let quote = zeros(word ^ (ONES * u64::from(b'"')));
        let backslash = zeros(word ^ (ONES * u64::from(b'\\')));
        let control = word.wrapping_sub(ONES * 0x20) & !word & HIGHS;
        let special = quote | backslash | control;
        if special != 0 {
            return at + special.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    let special = |byte: &u8| *byte == b'"' || *byte == b'\\' || *byte < 0x20;
    bytes[at..].iter().position(special).map_or(bytes.len(), |found| at + found)
}

/// Cuts a value to a readable length.
fn shorten(value: &str) -> String {
    match value.char_indices().nth(MAX_QUOTED_CHARS) {
        Some((at, _)) => format!("{}…", &value[..at]),
        None => value.to_owned(),
    }
}

/// Moves a position back to a character boundary.
fn floor(text: &str, mut at: usize) -> usize {
    at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn accepts(text: &str) -> bool {
        let mut json = JsonCursor::new(text, 0);
        json.skip(0).and_then(|()| json.end()).is_ok()
    }

    fn string_of(text: &str) -> String {
        String::from_utf8(JsonCursor::new(text, 0).string().unwrap().resolved().into_owned()).unwrap()
    }

    #[test]
    fn invalid_json_that_other_parsers_accept_is_rejected() {
        for text in [
            "",
            " ",
            "{",
            "}",
            "[1,]",
            "[,1]",
            "[1 2]",
            "{\"a\":1,}",
            "{\"a\" 1}",
            "{a:1}",
            "{\"a\":1 \"b\":2}",
            "01",
            "-",
            "1.",
            ".5",
            "1e",
            "+1",
            "nul",
            "truee",
            "\"\u{1}\"",
            "\"\\x\"",
            "\"\\u12\"",
            "\"\\ud800\"",
            "\"\\udc00\\ud800\"",
            "\"\\ud800\\n\"",
            "\"a",
            "1 2",
            "'a'",
            "NaN",
        ] {
            assert!(!accepts(text), "{text}");
        }
        for text in ["0", "-0.0e-5", " [ ] ", "{}", "{\"a\" : [ { } , null ] }\n", "\"\\ud83d\\ude00\\/\"", "1E+2"] {
            assert!(accepts(text), "{text}");
        }
    }

    #[test]
    fn deep_nesting_is_an_error_and_not_a_stack_overflow() {
        assert!(accepts(&format!("{}{}", "[".repeat(MAX_DEPTH), "]".repeat(MAX_DEPTH))));
        let deep = "[".repeat(1_000_000);
        assert_eq!(JsonCursor::new(&deep, 0).skip(0).unwrap_err().reason().full(), "the record nests deeper than 128");
    }

    #[test]
    fn an_error_names_the_position_and_what_was_expected() {
        let error = |text: &str| JsonCursor::new(text, 0).skip(0).unwrap_err().reason().full().to_owned();
        assert_eq!(error("{\"a\" 1}"), "not JSON: at byte 5 expected `:`, found '1'");
        assert_eq!(error("{\"a\":"), "not JSON: at byte 5 expected a value, but the record ends");
        assert_eq!(error("[tru]"), "not JSON: at byte 4 expected `true`, found ']'");
    }

    #[test]
    fn escapes_are_resolved() {
        assert_eq!(string_of(r#""a\"\\\/\b\f\n\r\té\ud83d\ude00z""#), "a\"\\/\u{8}\u{c}\n\r\té😀z");
    }

    proptest! {
        #[test]
        fn it_accepts_what_serde_json_accepts(text in "[\\[\\]{},:\"\\\\ untrefalsd0-9.eE+\\-\u{1}é]{0,24}") {
            prop_assert_eq!(accepts(&text), serde_json::from_str::<serde_json::Value>(&text).is_ok() || overflows(&text), "{}", text);
        }

        #[test]
        fn it_reads_strings_as_serde_json_does(text in "\\PC{0,40}|[\\x00-\\x7f]{0,40}") {
            let written = serde_json::to_string(&text).unwrap();
            prop_assert_eq!(string_of(&written), text);
        }
    }

    /// serde_json rejects numbers beyond the range of a float. Here they are JSON, and the field
    /// that can't hold them rejects them.
    fn overflows(text: &str) -> bool {
        serde_json::from_str::<serde_json::Value>(text).is_err_and(|error| error.to_string().contains("out of range"))
            && serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()
    }
}
