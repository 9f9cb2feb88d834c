//! The digits column of a number: next to the column or field of a number, it holds the number's
//! digits as text.

const SUFFIX: &str = "#digits";

/// Returns the name of a number's digits column.
pub(crate) fn digits_column(name: &str) -> String {
    format!("{name}{SUFFIX}")
}

/// Returns the name of the number that a digits column belongs to.
pub(crate) fn number_of(name: &str) -> Option<&str> {
    name.strip_suffix(SUFFIX)
}
