//! Why a record is rejected: the full text, and a masked one without the record's values.

/// Replaces a value in masked text.
pub const MASK: &str = "***";
/// The limit for [`Reason::kind`], in bytes.
const MAX_KIND_BYTES: usize = 200;

/// What is wrong with a record, for a person to read.
///
/// The full text may quote the record, so it belongs only into the dead letter, next to the record
/// itself. The masked text names fields, types and positions, and has [`MASK`] for each quote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    full: String,
    masked: String,
}

impl Reason {
    /// A reason that quotes none of the record's values.
    pub fn plain(text: impl Into<String>) -> Self {
        let full = text.into();
        Self { masked: full.clone(), full }
    }

    /// A reason whose text contains `quote`, which is or may be a value of the record.
    ///
    /// `text` returns the text around the quote that it is given.
    pub fn quoting(quote: &str, text: impl Fn(&str) -> String) -> Self {
        Self { full: text(quote), masked: text(MASK) }
    }

    /// Wraps both texts: `around` returns the text around the one that it is given, and adds no
    /// value of the record.
    #[must_use]
    pub(crate) fn within(self, around: impl Fn(&str) -> String) -> Self {
        Self { full: around(&self.full), masked: around(&self.masked) }
    }

    /// Returns the full text.
    pub fn full(&self) -> &str {
        &self.full
    }

    /// Returns the masked text.
    pub fn masked(&self) -> &str {
        &self.masked
    }

    /// Returns the text that similar rejects share; see [`reason_kind`].
    pub(crate) fn kind(&self) -> String {
        reason_kind(&self.masked)
    }
}

/// Returns the text that similar rejects share: a masked reason with `N` for each number, in at
/// most 200 bytes.
pub fn reason_kind(masked: &str) -> String {
    let mut kind = String::with_capacity(masked.len().min(MAX_KIND_BYTES));
    let mut rest = masked;
    let (mut before, mut quoted) = (' ', false);
    while let Some(first) = rest.chars().next()
        && kind.len() + first.len_utf8() <= MAX_KIND_BYTES
    {
        // Text between quotes is a name or an example.
        quoted ^= first == '"';
        let is_name = quoted || before.is_alphanumeric() || before == '_';
        let digits = if is_name { 0 } else { digits(rest) };
        if digits > 0 && !rest[digits..].starts_with(|next: char| next.is_alphanumeric() || next == '_') {
            kind.push('N');
            (before, rest) = ('N', &rest[digits..]);
        } else {
            kind.push(first);
            (before, rest) = (first, &rest[first.len_utf8()..]);
        }
    }
    kind
}

/// Returns the length of the number that a text begins with, including commas and points between
/// digits.
fn digits(text: &str) -> usize {
    let bytes = text.as_bytes();
    let is_digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_digit);
    let mut end = 0;
    while is_digit(end) || (end > 0 && matches!(bytes.get(end), Some(b',' | b'.')) && is_digit(end + 1)) {
        end += 1;
    }
    end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_that_differ_only_in_values_and_positions_are_of_one_kind() {
        let kind = |text: &str| Reason::plain(text).kind();
        assert_eq!(kind("expected `,` at line 1 column 17"), kind("expected `,` at line 20 column 3"));
        assert_eq!(kind("the record is 976.6 KiB, over 1,000,000"), "the record is N KiB, over N");
        assert_eq!(kind("column address2, int64, x_1: `/items/3/v1`"), "column address2, int64, x_1: `/items/N/v1`", "names stay");
        let quoting = |value: &str| Reason::quoting(value, |value| format!("must be a number, but is {value}")).kind();
        assert_eq!(quoting("\"x\""), quoting("[7]"));
        let example = "must be a date-time such as \"1992-03-08T15:13:16.688Z\", at byte 7";
        assert_eq!(kind(example), "must be a date-time such as \"1992-03-08T15:13:16.688Z\", at byte N");
        assert!(kind(&"é1 ".repeat(500)).len() <= MAX_KIND_BYTES);
        assert_eq!(kind(""), "");
    }

    #[test]
    fn the_masked_text_is_the_full_text_without_the_quote() {
        let reason = Reason::quoting("\"x\"", |value| format!("must be a number, but is {value}")).within(|text| format!("`/age` {text}"));
        assert_eq!(reason.full(), "`/age` must be a number, but is \"x\"");
        assert_eq!(reason.masked(), "`/age` must be a number, but is ***");
        let plain = Reason::plain("has no value");
        assert_eq!(plain.full(), plain.masked());
    }
}
