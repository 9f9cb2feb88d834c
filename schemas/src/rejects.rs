//! Counts of dead letters by reason.
//!
//! Guarantees:
//! * At most [`MAX_REASONS`] reasons and one entry for all others, the most frequent first.
//! * No count is lost.
//! * Reasons don't contain the records' values.
//!
//! Does not guarantee that a rare reason keeps its own entry: it may be counted among the others.

use serde::{Deserialize, Serialize};

/// The maximum number of separate reasons.
pub const MAX_REASONS: usize = 16;
/// The stage and the reason of the entry for all others.
const OTHER: (&str, &str) = ("other", "other reasons");

/// The number of dead letters with one reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct RejectCount {
    /// The stage that rejected the records: `produce`, `decode`, `transform`, `write`; `other` for
    /// all other reasons.
    pub stage: String,
    /// The reason, without the records' values and positions.
    pub reason: String,
    /// The number of records.
    pub count: u64,
}

/// Dead letters by reason, the most frequent first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct Rejects(Vec<RejectCount>);

impl Rejects {
    /// Counts dead letters.
    pub fn add(&mut self, stage: &str, reason: &str, count: u64) {
        let known = self.0.iter().position(|known| known.stage == stage && known.reason == reason);
        let separate = self.0.iter().filter(|known| !is_other(known)).count();
        let at = match known {
            Some(at) => at,
            None if separate < MAX_REASONS || (stage, reason) == OTHER => {
                self.0.push(RejectCount { stage: stage.to_owned(), reason: reason.to_owned(), count: 0 });
                self.0.len() - 1
            }
            None => {
                // Evicts the least frequent, so that a reason that appears late can still become
                // the most frequent.
                let least = self.0.iter().rposition(|known| !is_other(known)).expect("MAX_REASONS entries are not the one for all others");
                let gone = self.0.remove(least);
                self.add(OTHER.0, OTHER.1, gone.count);
                return self.add(stage, reason, count);
            }
        };
        self.0[at].count = self.0[at].count.saturating_add(count);
        let to = self.0[..at].iter().position(|before| before.count < self.0[at].count).unwrap_or(at);
        self.0[to..=at].rotate_right(1);
    }

    /// Adds all counts of `other`.
    pub fn merge(&mut self, other: &Self) {
        other.0.iter().for_each(|each| self.add(&each.stage, &each.reason, each.count));
    }

    /// Keeps only the entries that match.
    pub fn retain(&mut self, matches: impl Fn(&RejectCount) -> bool) {
        self.0.retain(matches);
    }

    /// Whether nothing is counted.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The number of records.
    pub fn count(&self) -> u64 {
        self.0.iter().fold(0, |sum, each| sum.saturating_add(each.count))
    }

    /// The entries, the most frequent first.
    pub fn iter(&self) -> impl Iterator<Item = &RejectCount> {
        self.0.iter()
    }

    /// The most frequent reason.
    pub fn most_frequent(&self) -> Option<&RejectCount> {
        self.0.iter().find(|each| !is_other(each)).or(self.0.first())
    }
}

fn is_other(each: &RejectCount) -> bool {
    (each.stage.as_str(), each.reason.as_str()) == OTHER
}

/// `12 at decode: \`/age\` must be a number`.
impl std::fmt::Display for RejectCount {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} at {}: {}", self.count, self.stage, self.reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_frequent_reason_comes_first_and_equal_reasons_add_up() {
        let mut rejects = Rejects::default();
        rejects.add("decode", "not JSON", 1);
        rejects.add("write", "null in the key", 2);
        rejects.add("decode", "not JSON", 4);
        assert_eq!(rejects.most_frequent().unwrap().to_string(), "5 at decode: not JSON");
        assert_eq!((rejects.count(), rejects.iter().count()), (7, 2));
        let mut all = Rejects::default();
        all.merge(&rejects);
        all.merge(&rejects);
        assert_eq!(all.iter().map(|each| each.count).collect::<Vec<_>>(), [10, 4]);
    }

    #[test]
    fn endless_reasons_are_bounded_and_lose_neither_counts_nor_a_late_frequent_one() {
        let mut rejects = Rejects::default();
        (0..1_000).for_each(|n| rejects.add("decode", &format!("reason {n}"), 1 + n % 3));
        (0..500).for_each(|_| rejects.add("write", "late", 5));
        assert_eq!(rejects.iter().count(), MAX_REASONS + 1);
        assert_eq!(rejects.count(), (0..1_000).map(|n| 1 + n % 3).sum::<u64>() + 2_500);
        assert_eq!(rejects.most_frequent().unwrap().to_string(), "2500 at write: late");
        let json = serde_json::to_string(&rejects).unwrap();
        assert_eq!(serde_json::from_str::<Rejects>(&json).unwrap(), rejects);
    }
}
