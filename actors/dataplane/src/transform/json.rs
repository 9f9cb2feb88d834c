//! A cursor over the JSON text of one record.
//!
//! Guarantee: it accepts exactly RFC 8259, and neither more nor less in the values that nobody asked for; it never goes back, never
//! allocates for valid text, and a nesting deeper than [`MAX_DEPTH`] is an error, not a full stack. Not guaranteed: that names in an
//! object are unique; the decoder looks at those it knows.

use crate::Reason;
use std::borrow::Cow;

/// How deep a value may nest.
pub(super) const MAX_DEPTH: usize = 128;
/// How many characters of a value an error shows.
const SHOWN: usize = 60;

/// What is wrong with a record: boxed, since it is rare and the way without it should be narrow.
pub(super) type Result<T> = std::result::Result<T, Box<Bad>>;

/// What is wrong with a record.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Bad {
    /// It is not JSON.
    Syntax(Reason),
    /// The value at this path, innermost step first, is not what the schema says.
    Unfit { path: Vec<String>, why: Reason },
}

impl Bad {
    /// Says nothing of the value.
    pub(super) fn unfit(why: impl Into<String>) -> Box<Self> {
        Self::because(Reason::plain(why))
    }

    fn because(why: Reason) -> Box<Self> {
        Box::new(Self::Unfit { path: Vec::new(), why })
    }

    /// The same, seen from the object or array around it.
    pub(super) fn within(mut self: Box<Self>, step: impl Into<String>) -> Box<Self> {
        if let Self::Unfit { path, .. } = &mut *self {
            path.push(step.into());
        }
        self
    }

    /// For a person to read.
    pub(super) fn reason(self) -> Reason {
        match self {
            Self::Syntax(why) => why.within(|why| format!("not JSON: {why}")),
            Self::Unfit { path, why } if path.is_empty() => why.within(|why| format!("the record {why}")),
            Self::Unfit { path, why } => {
                let pointer: String = path.iter().rev().map(|step| format!("/{}", forebay_schemas::json_pointer::escape(step))).collect();
                why.within(|why| format!("`{pointer}` {why}"))
            }
        }
    }
}

/// A string as it stands between its quotes, its escapes checked.
#[derive(Clone, Copy)]
pub(super) struct Text<'a> {
    pub(super) raw: &'a [u8],
    escaped: bool,
}

/// A number as it is written.
#[derive(Clone, Copy)]
pub(super) struct Number<'a> {
    pub(super) raw: &'a str,
    /// Whether it is written without fraction and exponent.
    pub(super) plain: bool,
}

#[derive(Clone)]
pub(super) struct Cursor<'a> {
    text: &'a str,
    at: usize,
    /// How many bytes of columns the record may still take; none once it took more than that.
    room: Option<usize>,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(text: &'a str, room: usize) -> Self {
        Self { text, at: 0, room: Some(room) }
    }

    /// Takes room for bytes of columns.
    #[inline]
    pub(super) fn take_room(&mut self, bytes: usize) -> Result<()> {
        self.room = self.room.and_then(|room| room.checked_sub(bytes));
        match self.room {
            Some(_) => Ok(()),
            None => Err(Bad::unfit("is where the record takes more bytes as columns than it may")),
        }
    }

    /// The room that is left; none when there was too little.
    pub(super) fn room(&self) -> Option<usize> {
        self.room
    }

    #[inline]
    fn byte(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// The next byte that is no white space, not yet consumed; `expected` is for the error when there is none.
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

    /// Consumes this very byte, after white space.
    #[inline]
    pub(super) fn take(&mut self, byte: u8, expected: &str) -> Result<()> {
        if self.peek(expected)? != byte {
            return Err(self.unexpected(expected));
        }
        self.at += 1;
        Ok(())
    }

    /// Nothing but white space may follow.
    pub(super) fn end(&mut self) -> Result<()> {
        match self.peek("") {
            Ok(_) => Err(self.unexpected("the end of the record")),
            Err(_) => Ok(()),
        }
    }

    pub(super) fn unexpected(&self, expected: &str) -> Box<Bad> {
        let found = self.text[floor(self.text, self.at)..].chars().next();
        let place = format!("at byte {} expected {expected}", self.at);
        Box::new(Bad::Syntax(match found {
            Some(found) => Reason::quoting(&format!("{found:?}"), |found| format!("{place}, found {found}")),
            None => Reason::plain(format!("{place}, but the record ends")),
        }))
    }

    /// The value that begins here is not what was expected of it.
    pub(super) fn unfit(&mut self, expected: &str) -> Box<Bad> {
        let start = self.at;
        match self.skip(0) {
            Ok(()) => self.unfit_from(start, expected),
            Err(bad) => bad,
        }
    }

    /// The value from there to here is not what was expected of it.
    pub(super) fn unfit_from(&self, start: usize, expected: &str) -> Box<Bad> {
        Bad::because(Reason::quoting(&shorten(&self.text[start..self.at]), |value| format!("must be {expected}, but is {value}")))
    }

    pub(super) fn position(&self) -> usize {
        self.at
    }

    /// The text from there to here.
    pub(super) fn since(&self, start: usize) -> &'a str {
        &self.text[start..self.at]
    }

    pub(super) fn literal(&mut self, word: &'static str) -> Result<()> {
        for byte in word.bytes() {
            if self.byte() != Some(byte) {
                return Err(self.unexpected(&format!("`{word}`")));
            }
            self.at += 1;
        }
        Ok(())
    }

    /// A string; the cursor is at its quote.
    #[inline]
    pub(super) fn string(&mut self) -> Result<Text<'a>> {
        self.at += 1;
        let start = self.at;
        let mut escaped = false;
        loop {
            self.at += plain_run(&self.text.as_bytes()[self.at..]);
            match self.byte() {
                Some(b'"') => {
                    let raw = &self.text.as_bytes()[start..self.at];
                    self.at += 1;
                    return Ok(Text { raw, escaped });
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

    /// The four digits after `u`, at which the cursor is.
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

    /// A number; the cursor is at its first byte, a digit or a minus.
    #[inline]
    pub(super) fn number(&mut self) -> Result<Number<'a>> {
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
        Ok(Number { raw: &self.text[start..self.at], plain: whole == self.at })
    }

    #[inline]
    fn digits(&mut self) -> Result<()> {
        let start = self.at;
        while self.byte().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        if self.at == start { Err(self.unexpected("a digit")) } else { Ok(()) }
    }

    /// Any value, checked and forgotten.
    pub(super) fn skip(&mut self, depth: usize) -> Result<()> {
        match self.peek("a value")? {
            b'"' => self.string().map(|_| ()),
            b'-' | b'0'..=b'9' => self.number().map(|_| ()),
            b't' => self.literal("true"),
            b'f' => self.literal("false"),
            b'n' => self.literal("null"),
            b'{' | b'[' if depth == MAX_DEPTH => Err(Bad::unfit(format!("nests deeper than {MAX_DEPTH}"))),
            b'{' => self.members(|this, _| this.skip(depth + 1)),
            b'[' => self.items(|this, _| this.skip(depth + 1)),
            _ => Err(self.unexpected("a value")),
        }
    }

    /// The members of an object, at whose brace the cursor is. `value` consumes the value of each.
    #[inline]
    pub(super) fn members(&mut self, mut value: impl FnMut(&mut Self, Text<'a>) -> Result<()>) -> Result<()> {
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

    /// The items of an array, at whose bracket the cursor is. `value` consumes each, and is told its index.
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

impl<'a> Text<'a> {
    /// Appends the text with its escapes resolved.
    #[inline]
    pub(super) fn append_to(self, out: &mut Vec<u8>) {
        if self.escaped { self.resolve(out) } else { out.extend_from_slice(self.raw) }
    }

    /// The text with its escapes resolved.
    pub(super) fn resolved(self) -> Cow<'a, [u8]> {
        if !self.escaped {
            return Cow::Borrowed(self.raw);
        }
        let mut out = Vec::with_capacity(self.raw.len());
        self.resolve(&mut out);
        Cow::Owned(out)
    }

    fn resolve(self, out: &mut Vec<u8>) {
        let mut rest = self.raw;
        while let Some(at) = rest.iter().position(|byte| *byte == b'\\') {
            out.extend_from_slice(&rest[..at]);
            let code = rest[at + 1];
            rest = &rest[at + 2..];
            match code {
                b'b' => out.push(8),
                b'f' => out.push(12),
                b'n' => out.push(b'\n'),
                b'r' => out.push(b'\r'),
                b't' => out.push(b'\t'),
                b'u' => {
                    let mut unit = hex(rest);
                    rest = &rest[4..];
                    if (0xD800..0xDC00).contains(&unit) {
                        unit = 0x1_0000 + ((unit - 0xD800) << 10) + (hex(&rest[2..]) - 0xDC00);
                        rest = &rest[6..];
                    }
                    let character = char::from_u32(unit).expect("surrogates were checked to come in pairs");
                    out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                }
                itself => out.push(itself),
            }
        }
        out.extend_from_slice(rest);
    }
}

fn hex(digits: &[u8]) -> u32 {
    digits[..4].iter().fold(0, |value, byte| value * 16 + char::from(*byte).to_digit(16).expect("digits were checked"))
}

impl Number<'_> {
    /// Its value, when it has no fraction and fits. `1.0` and `1e3` have none, as JSON Schema has it.
    #[inline]
    pub(super) fn integer(self) -> Option<i64> {
        /// Up to here every whole number is a float of its own.
        const EXACT: f64 = 9_007_199_254_740_992.0;
        if self.plain {
            return self.raw.parse().ok();
        }
        let value: f64 = self.raw.parse().ok()?;
        #[allow(clippy::cast_possible_truncation, reason = "whole and in range")]
        (value.fract() == 0.0 && value.abs() < EXACT).then_some(value as i64)
    }

    /// Its value, when it is finite; there is one zero.
    #[inline]
    pub(super) fn float(self) -> Option<f64> {
        self.raw.parse().ok().filter(|value: &f64| value.is_finite()).map(|value: f64| value + 0.0)
    }
}

/// How many bytes come before the first quote, backslash or control character; all of them when there is none.
#[inline]
fn plain_run(bytes: &[u8]) -> usize {
    const ONES: u64 = u64::MAX / 255;
    const HIGHS: u64 = ONES << 7;
    // The high bit of each byte that is zero; above the first such byte it may be set wrongly, which does not matter here.
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

/// A value for an error message, cut to a length that can be read.
fn shorten(value: &str) -> String {
    match value.char_indices().nth(SHOWN) {
        Some((at, _)) => format!("{}…", &value[..at]),
        None => value.to_owned(),
    }
}

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
        let mut json = Cursor::new(text, 0);
        json.skip(0).and_then(|()| json.end()).is_ok()
    }

    fn string_of(text: &str) -> String {
        String::from_utf8(Cursor::new(text, 0).string().unwrap().resolved().into_owned()).unwrap()
    }

    #[test]
    fn it_is_strict_where_other_parsers_are_not() {
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
    fn nesting_ends_in_an_error_and_not_in_a_full_stack() {
        assert!(accepts(&format!("{}{}", "[".repeat(MAX_DEPTH), "]".repeat(MAX_DEPTH))));
        let deep = "[".repeat(1_000_000);
        assert_eq!(Cursor::new(&deep, 0).skip(0).unwrap_err().reason().full(), "the record nests deeper than 128");
    }

    #[test]
    fn an_error_says_where_and_what() {
        let error = |text: &str| Cursor::new(text, 0).skip(0).unwrap_err().reason().full().to_owned();
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
        fn it_agrees_with_serde_json_on_what_is_json(text in "[\\[\\]{},:\"\\\\ untrefalsd0-9.eE+\\-\u{1}é]{0,24}") {
            prop_assert_eq!(accepts(&text), serde_json::from_str::<serde_json::Value>(&text).is_ok() || overflows(&text), "{}", text);
        }

        #[test]
        fn it_reads_strings_as_serde_json_does(text in "\\PC{0,40}|[\\x00-\\x7f]{0,40}") {
            let written = serde_json::to_string(&text).unwrap();
            prop_assert_eq!(string_of(&written), text);
        }
    }

    /// serde_json refuses numbers beyond a float; here they are JSON, and refused by the field that can't hold them.
    fn overflows(text: &str) -> bool {
        serde_json::from_str::<serde_json::Value>(text).is_err_and(|error| error.to_string().contains("out of range"))
            && serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()
    }
}
