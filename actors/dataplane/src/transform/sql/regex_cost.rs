//! Estimates the size of the automaton of a regular expression from its text.

/// The memory of a state, in bytes.
pub(super) const STATE_BYTES: u64 = 64;
/// The states of a Unicode class such as `\w`.
const CLASS: u64 = 200;
/// The states of a class of few characters, or of all but a few.
const SMALL_CLASS: u64 = 8;
/// An upper bound: a larger expression fails to compile.
const MAX_STATES: u64 = 1_000_000;

/// Estimates the number of states of a regular expression; a repeated part counts once per
/// repetition. Matching takes at most this many steps per byte.
pub(super) fn states(pattern: &str) -> u64 {
    let mut groups = vec![Group::default()];
    let mut rest = pattern.chars();
    while let Some(c) = rest.next() {
        let states = match c {
            '\\' => match rest.next() {
                Some('p' | 'P' | 'w' | 'W' | 'd' | 'D' | 's' | 'S' | 'b' | 'B') => CLASS,
                _ => SMALL_CLASS,
            },
            '[' => class(&mut rest),
            '.' => SMALL_CLASS,
            '(' => {
                groups.push(Group::default());
                continue;
            }
            ')' if groups.len() > 1 => groups.pop().map_or(0, |group| group.sum),
            '{' => {
                if let Some(group) = groups.last_mut() {
                    group.repeat(&mut rest);
                }
                continue;
            }
            '*' | '+' | '?' | '|' | '^' | '$' => continue,
            _ => c.len_utf8() as u64,
        };
        if let Some(group) = groups.last_mut() {
            group.last = states;
            group.sum = group.sum.saturating_add(states);
        }
    }
    groups.iter().fold(1, |sum: u64, group| sum.saturating_add(group.sum)).min(MAX_STATES)
}

#[derive(Default)]
struct Group {
    sum: u64,
    /// The last part, to which a repetition applies.
    last: u64,
}

impl Group {
    /// Applies a repetition: the largest number up to the closing brace is the count.
    fn repeat(&mut self, rest: &mut std::str::Chars<'_>) {
        let (mut times, mut number) = (1_u64, 0_u64);
        for c in rest.by_ref() {
            match c.to_digit(10) {
                Some(digit) => number = number.saturating_mul(10).saturating_add(digit.into()),
                None => number = 0,
            }
            times = times.max(number);
            if c == '}' {
                break;
            }
        }
        let repeated = self.last.saturating_mul(times);
        self.sum = self.sum.saturating_add(repeated - self.last);
        self.last = repeated;
    }
}

/// Consumes a class up to its closing bracket, and returns its states.
fn class(rest: &mut std::str::Chars<'_>) -> u64 {
    let (mut first, mut open, mut large) = (true, 1_u32, false);
    while let Some(c) = rest.next() {
        match c {
            '^' if first => continue,
            ']' if !first => {
                open -= 1;
                if open == 0 {
                    break;
                }
            }
            '[' => {
                open += 1;
                large = true;
            }
            '\\' => large |= rest.next().is_some_and(char::is_alphabetic),
            other => large |= !other.is_ascii(),
        }
        first = false;
    }
    if large { CLASS } else { SMALL_CLASS }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repetitions_multiply_also_when_nested() {
        assert_eq!(states("abc"), 4);
        assert_eq!(states("a{10}"), 11);
        assert_eq!(states("(a{10}b){2,100}"), 1_101);
        assert_eq!(states("[0-9a-f]{8}"), 65);
        assert_eq!(states(r"\w{1000}"), 200_001);
        assert_eq!(states(&"(".repeat(3)), 1);
        assert_eq!(states("((((a{1000}){1000}){1000}){1000})"), MAX_STATES);
        assert_eq!(states("a{99999999999999999999999999}"), MAX_STATES);
    }

    #[test]
    fn text_that_is_no_expression_is_handled() {
        for text in ["[", "[]", "[^", "\\", "{", "a{", ")", "[[:", "a{1,", "é[é]"] {
            assert!(states(text) >= 1, "{text}");
        }
    }
}
