//! What is wrong with a record, in words: in full, and without its values.

/// Stands in the place of what is not shown.
pub const MASK: &str = "***";

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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masked_it_says_the_same_without_the_quote() {
        let reason = Reason::quoting("\"x\"", |value| format!("must be a number, but is {value}")).within(|text| format!("`/age` {text}"));
        assert_eq!(reason.full(), "`/age` must be a number, but is \"x\"");
        assert_eq!(reason.masked(), "`/age` must be a number, but is ***");
        let plain = Reason::plain("has no value");
        assert_eq!(plain.full(), plain.masked());
    }
}
