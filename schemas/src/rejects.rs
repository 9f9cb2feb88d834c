//! Why records are dead letters, counted.
//!
//! Guarantee: at most [`MAX_REASONS`] reasons and one more entry for all others, the most frequent first; no count is lost. Reasons are those without
//! the records' values. Not guaranteed: that a reason which was seldom when others came stands under its own name; its count is then among the others'.

use serde::{Deserialize, Serialize};

/// How many reasons are told apart.
pub const MAX_REASONS: usize = 16;
/// The stage and the reason of the entry for all others.
const OTHER: (&str, &str) = ("other", "other reasons");

/// How many records are dead letters for one reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct RejectCount {
    /// Where the records were found to be bad: `produce`, `decode`, `transform`, `write`; `other` for reasons that are not told apart.
    pub stage: String,
    /// What is wrong with them, without their values and places.
    pub reason: String,
    /// How many.
    pub count: u64,
}

/// Why records are dead letters, the most frequent reason first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct Rejects(Vec<RejectCount>);

impl Rejects {
    /// Counts records that are dead letters for a reason.
    pub fn add(&mut self, stage: &str, reason: &str, count: u64) {
        let known = self.0.iter().position(|known| known.stage == stage && known.reason == reason);
        let told_apart = self.0.iter().filter(|known| !is_other(known)).count();
        let at = match known {
            Some(at) => at,
            None if told_apart < MAX_REASONS || (stage, reason) == OTHER => {
                self.0.push(RejectCount { stage: stage.to_owned(), reason: reason.to_owned(), count: 0 });
                self.0.len() - 1
            }
            None => {
                // The least frequent makes room, so that a reason that comes late can still become the most frequent.
                let least = self.0.iter().rposition(|known| !is_other(known)).expect("so many reasons are told apart");
                let gone = self.0.remove(least);
                self.add(OTHER.0, OTHER.1, gone.count);
                return self.add(stage, reason, count);
            }
        };
        self.0[at].count = self.0[at].count.saturating_add(count);
        let to = self.0[..at].iter().position(|before| before.count < self.0[at].count).unwrap_or(at);
        self.0[to..=at].rotate_right(1);
    }

    /// Adds all that another one has counted.
    pub fn merge(&mut self, other: &Self) {
        other.0.iter().for_each(|each| self.add(&each.stage, &each.reason, each.count));
    }

    /// Keeps those that are wanted.
    pub fn retain(&mut self, wanted: impl Fn(&RejectCount) -> bool) {
        self.0.retain(wanted);
    }

    /// Whether nothing is counted.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many records are counted.
    pub fn count(&self) -> u64 {
        self.0.iter().fold(0, |sum, each| sum.saturating_add(each.count))
    }

    /// The reasons, the most frequent first.
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
    fn the_most_frequent_reason_comes_first_and_counts_of_the_same_add_up() {
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
    fn reasons_without_end_take_bounded_room_lose_no_count_and_hide_no_frequent_one_that_comes_late() {
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
