//! What is wrong with a record, in words: in full, and without its values.

/// Stands in the place of what is not shown.
pub const MASK: &str = "***";
/// The most bytes of what reasons have in common.
const KIND_MOST: usize = 200;

/// What is wrong with a record, for a person to read.
///
/// In full it may quote the record, and then belongs nowhere but into the dead letter, beside the record itself. Masked it names fields, types
/// and places, and has [`MASK`] where the record is quoted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    full: String,
    masked: String,
}

impl Reason {
    /// A reason that says nothing of the record's values.
    pub fn plain(text: impl Into<String>) -> Self {
        let full = text.into();
        Self { masked: full.clone(), full }
    }

    /// A reason in whose text `quote` stands, which is of the record or may be.
    pub fn quoting(quote: &str, text: impl Fn(&str) -> String) -> Self {
        Self { full: text(quote), masked: text(MASK) }
    }

    /// The same with more said around it, none of it of the record's values.
    #[must_use]
    pub fn within(self, around: impl Fn(&str) -> String) -> Self {
        Self { full: around(&self.full), masked: around(&self.masked) }
    }

    /// All of it.
    pub fn full(&self) -> &str {
        &self.full
    }

    /// It without the record's values.
    pub fn masked(&self) -> &str {
        &self.masked
    }

    /// What records that are wrong in the same way have in common: no values, nor numbers that say where, each an `N`; 200 bytes at most.
    pub fn kind(&self) -> String {
        let mut kind = String::with_capacity(self.masked.len().min(KIND_MOST));
        let mut rest = self.masked.as_str();
        let (mut before, mut quoted) = (' ', false);
        while let Some(first) = rest.chars().next()
            && kind.len() + first.len_utf8() <= KIND_MOST
        {
            // What stands between quotes is a name or an example.
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
}

/// How many bytes of a number a text begins with: digits, and commas and points between them.
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
    fn reasons_that_differ_in_values_and_places_only_are_of_one_kind() {
        let kind = |text: &str| Reason::plain(text).kind();
        assert_eq!(kind("expected `,` at line 1 column 17"), kind("expected `,` at line 20 column 3"));
        assert_eq!(kind("the record is 976.6 KiB, over 1,000,000"), "the record is N KiB, over N");
        assert_eq!(kind("column address2, int64, x_1: `/items/3/v1`"), "column address2, int64, x_1: `/items/N/v1`", "names stay");
        let quoting = |value: &str| Reason::quoting(value, |value| format!("must be a number, but is {value}")).kind();
        assert_eq!(quoting("\"x\""), quoting("[7]"));
        let example = "must be a date-time such as \"1992-03-08T15:13:16.688Z\", at byte 7";
        assert_eq!(kind(example), "must be a date-time such as \"1992-03-08T15:13:16.688Z\", at byte N");
        assert!(kind(&"é1 ".repeat(500)).len() <= KIND_MOST);
        assert_eq!(kind(""), "");
    }

    #[test]
    fn masked_it_says_the_same_without_the_quote() {
        let reason = Reason::quoting("\"x\"", |value| format!("must be a number, but is {value}")).within(|text| format!("`/age` {text}"));
        assert_eq!(reason.full(), "`/age` must be a number, but is \"x\"");
        assert_eq!(reason.masked(), "`/age` must be a number, but is ***");
        let plain = Reason::plain("has no value");
        assert_eq!(plain.full(), plain.masked());
    }
}
