//! What a value is checked for beyond its type: limits of numbers, lengths of text, and lists of
//! values.

use std::cmp::Ordering;

use serde_json::Number;

/// The limit for the values of a list that a message names.
const MAX_NAMED: usize = 10;

/// A condition on a value of a known type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bound {
    /// `minimum`
    AtLeast(Number),
    /// `exclusiveMinimum`
    MoreThan(Number),
    /// `maximum`
    AtMost(Number),
    /// `exclusiveMaximum`
    LessThan(Number),
    /// `minLength`, in characters.
    MinLength(usize),
    /// `maxLength`, in characters.
    MaxLength(usize),
    /// `enum` or `const` of text, in alphabetical order.
    Texts(Vec<String>),
    /// `enum` or `const` of numbers.
    Numbers(Vec<Number>),
    /// `enum` or `const` of one boolean.
    Boolean(bool),
}

impl Bound {
    /// Whether an integer meets the condition.
    pub fn allows_integer(&self, value: i64) -> bool {
        self.allows_number(|number| Some(compare_integer(value, number)))
    }

    /// Whether a number meets the condition.
    pub fn allows_float(&self, value: f64) -> bool {
        self.allows_number(|number| value.partial_cmp(&number.as_f64()?))
    }

    fn allows_number(&self, compare: impl Fn(&Number) -> Option<Ordering>) -> bool {
        match self {
            Self::AtLeast(limit) => compare(limit).is_some_and(Ordering::is_ge),
            Self::MoreThan(limit) => compare(limit).is_some_and(Ordering::is_gt),
            Self::AtMost(limit) => compare(limit).is_some_and(Ordering::is_le),
            Self::LessThan(limit) => compare(limit).is_some_and(Ordering::is_lt),
            Self::Numbers(numbers) => numbers.iter().any(|number| compare(number).is_some_and(Ordering::is_eq)),
            _ => true,
        }
    }

    /// Whether a text meets the condition.
    pub fn allows_text(&self, value: &str) -> bool {
        match self {
            Self::MinLength(limit) => value.len() >= *limit && value.chars().count() >= *limit,
            Self::MaxLength(limit) => value.len() <= *limit || value.chars().count() <= *limit,
            Self::Texts(texts) => texts.binary_search_by(|text| text.as_str().cmp(value)).is_ok(),
            _ => true,
        }
    }

    /// Whether a boolean meets the condition.
    pub fn allows_boolean(&self, value: bool) -> bool {
        !matches!(self, Self::Boolean(only) if *only != value)
    }

    /// Whether no value is in the list.
    pub(super) fn is_empty_list(&self) -> bool {
        matches!(self, Self::Texts(texts) if texts.is_empty()) || matches!(self, Self::Numbers(numbers) if numbers.is_empty())
    }

    /// The condition in words, for a sentence such as "must be at most 7".
    pub fn expected(&self) -> String {
        let list = |values: &[String]| {
            let named = values.iter().take(MAX_NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
            let more = values.len().saturating_sub(MAX_NAMED);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            if values.len() == 1 { named } else { format!("one of {named}{more}") }
        };
        match self {
            Self::AtLeast(limit) => format!("at least {limit}"),
            Self::MoreThan(limit) => format!("more than {limit}"),
            Self::AtMost(limit) => format!("at most {limit}"),
            Self::LessThan(limit) => format!("less than {limit}"),
            Self::MinLength(limit) => format!("text of at least {limit} characters"),
            Self::MaxLength(limit) => format!("text of at most {limit} characters"),
            Self::Texts(texts) => list(&texts.iter().map(|text| format!("{text:?}")).collect::<Vec<_>>()),
            Self::Numbers(numbers) => list(&numbers.iter().map(Number::to_string).collect::<Vec<_>>()),
            Self::Boolean(value) => value.to_string(),
        }
    }
}

/// Compares exactly, also where a double does not hold the integer.
fn compare_integer(value: i64, limit: &Number) -> Ordering {
    if let Some(limit) = limit.as_i64() {
        return value.cmp(&limit);
    }
    if limit.is_u64() {
        return Ordering::Less;
    }
    let limit = limit.as_f64().unwrap_or(f64::INFINITY);
    #[allow(clippy::cast_possible_truncation, reason = "saturates beyond the range of the value")]
    let floor = limit.floor() as i128;
    match i128::from(value).cmp(&floor) {
        Ordering::Equal if limit.fract() != 0.0 => Ordering::Less,
        ordering => ordering,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(text: &str) -> Number {
        text.parse().unwrap()
    }

    #[test]
    fn integers_are_compared_exactly_at_the_edges_of_doubles_and_of_64_bits() {
        for (bound, value, allowed) in [
            (Bound::AtLeast(number("9007199254740993")), 9_007_199_254_740_992, false),
            (Bound::AtMost(number("2.5")), 2, true),
            (Bound::AtMost(number("2.5")), 3, false),
            (Bound::AtLeast(number("-2.5")), -3, false),
            (Bound::AtLeast(number("-2.5")), -2, true),
            (Bound::LessThan(number("1e3")), 999, true),
            (Bound::LessThan(number("1e3")), 1_000, false),
            (Bound::MoreThan(number("0")), 0, false),
            (Bound::AtMost(number("18446744073709551615")), i64::MAX, true),
            (Bound::AtLeast(number("1e300")), i64::MAX, false),
            (Bound::AtLeast(number("-1e300")), i64::MIN, true),
        ] {
            assert_eq!(bound.allows_integer(value), allowed, "{bound:?} of {value}");
        }
    }

    #[test]
    fn lengths_are_counted_in_characters() {
        assert!(Bound::MaxLength(2).allows_text("é€") && !Bound::MaxLength(1).allows_text("é€"));
        assert!(Bound::MinLength(2).allows_text("é€") && !Bound::MinLength(3).allows_text("é€"));
    }

    #[test]
    fn a_long_list_is_named_in_part() {
        let texts = (10..25).map(|n| n.to_string()).collect();
        assert!(Bound::Texts(texts).expected().ends_with(r#""19" and 5 more"#));
        assert_eq!(Bound::Texts(vec!["a".to_owned()]).expected(), r#""a""#);
        assert_eq!(Bound::Numbers(vec![number("1"), number("2.5")]).expected(), "one of 1, 2.5");
    }
}
