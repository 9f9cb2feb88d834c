//! Strings and numbers as they are written in JSON text, and their values.

use std::borrow::Cow;

/// The text between the quotes of a string. Its escapes are valid.
#[derive(Clone, Copy)]
pub(super) struct JsonString<'a> {
    pub(super) raw: &'a [u8],
    /// Whether it has escapes.
    pub(super) escaped: bool,
}

/// The text of a number.
#[derive(Clone, Copy)]
pub(super) struct JsonNumber<'a> {
    pub(super) raw: &'a str,
    /// Whether the text has neither a fraction nor an exponent.
    pub(super) plain: bool,
}

impl<'a> JsonString<'a> {
    /// Appends the text with its escapes resolved.
    #[inline]
    pub(super) fn append_to(self, out: &mut Vec<u8>) {
        if self.escaped { self.resolve(out) } else { out.extend_from_slice(self.raw) }
    }

    /// Returns the text with its escapes resolved.
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
                    let character = char::from_u32(unit).expect("the cursor checked that surrogates come in pairs");
                    out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                }
                itself => out.push(itself),
            }
        }
        out.extend_from_slice(rest);
    }
}

fn hex(digits: &[u8]) -> u32 {
    digits[..4].iter().fold(0, |value, byte| value * 16 + char::from(*byte).to_digit(16).expect("the cursor checked the digits"))
}

impl JsonNumber<'_> {
    /// Returns the value when it is an integer in range. `1.0` and `1e3` are integers, as in JSON
    /// Schema.
    #[inline]
    pub(super) fn integer(self) -> Option<i64> {
        /// Up to here, every integer is a distinct float.
        const EXACT: f64 = 9_007_199_254_740_992.0;
        if self.plain {
            return self.raw.parse().ok();
        }
        let value: f64 = self.raw.parse().ok()?;
        #[allow(clippy::cast_possible_truncation, reason = "an integer in range")]
        (value.fract() == 0.0 && value.abs() < EXACT).then_some(value as i64)
    }

    /// Returns the value when it is finite. `-0.0` becomes `0.0`.
    #[inline]
    pub(super) fn float(self) -> Option<f64> {
        self.raw.parse().ok().filter(|value: &f64| value.is_finite()).map(|value: f64| value + 0.0)
    }
}
