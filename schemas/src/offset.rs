//! Offsets and ranges of a topic.
//!
//! A range is half-open, `[from, to)`, everywhere: its `to` is the offset that a consumer commits to say that all before it is done.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, de};

/// The number of a partition of a topic, from 0.
pub type Partition = i32;

/// The position of a record in its partition, from 0.
pub type Offset = i64;

/// A half-open range of offsets of one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Range {
    /// The first offset in the range.
    pub from: Offset,
    /// The first offset after the range.
    pub to: Offset,
}

impl Range {
    /// The range of the one record at `offset`.
    pub fn of(offset: Offset) -> Self {
        Self { from: offset, to: offset + 1 }
    }

    /// How many offsets lie in the range; on a compacted topic fewer records may.
    pub fn len(&self) -> u64 {
        u64::try_from(self.to - self.from).unwrap_or(0)
    }

    /// Whether no offset lies in the range.
    pub fn is_empty(&self) -> bool {
        self.to <= self.from
    }

    /// The smallest range that holds both.
    pub fn cover(self, other: Self) -> Self {
        Self { from: self.from.min(other.from), to: self.to.max(other.to) }
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}..{})", self.from, self.to)
    }
}

/// Something for each of some partitions, in order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct ByPartition<T>(pub BTreeMap<Partition, T>);

impl<T> Default for ByPartition<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T> FromIterator<(Partition, T)> for ByPartition<T> {
    fn from_iter<I: IntoIterator<Item = (Partition, T)>>(items: I) -> Self {
        Self(items.into_iter().collect())
    }
}

/// By hand, since JSON's keys are text and serde's tagged types do not turn them into numbers.
impl<'de, T: Deserialize<'de>> Deserialize<'de> for ByPartition<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let texts = BTreeMap::<String, T>::deserialize(deserializer)?;
        let number = |(text, value): (String, T)| match text.parse() {
            Ok(partition) => Ok((partition, value)),
            Err(_) => Err(de::Error::custom(format!("{text:?} is not the number of a partition"))),
        };
        texts.into_iter().map(number).collect::<Result<_, _>>().map(Self)
    }
}

/// One range a partition: what a page produced, what a batch holds, what a run waits for.
pub type Ranges = ByPartition<Range>;

impl ByPartition<Range> {
    /// Widens the range of `partition` to hold `range`.
    pub fn add(&mut self, partition: Partition, range: Range) {
        self.0.entry(partition).and_modify(|have| *have = have.cover(range)).or_insert(range);
    }

    /// Widens every range by those of `other`.
    pub fn merge(&mut self, other: &Self) {
        for (&partition, &range) in &other.0 {
            self.add(partition, range);
        }
    }

    /// Whether `written`, the first unwritten offset a partition, has passed the end of every range.
    pub fn passed_by(&self, written: &BTreeMap<Partition, Offset>) -> bool {
        self.0.iter().all(|(partition, range)| written.get(partition).is_some_and(|&at| at >= range.to))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_passed_only_when_every_partition_is() {
        let mut produced = Ranges::default();
        produced.add(0, Range { from: 3, to: 9 });
        produced.add(1, Range::of(4));
        assert!(!produced.passed_by(&BTreeMap::from([(0, 9)])));
        assert!(!produced.passed_by(&BTreeMap::from([(0, 9), (1, 4)])));
        assert!(produced.passed_by(&BTreeMap::from([(0, 9), (1, 5)])));
    }

    #[test]
    fn ranges_grow_to_cover_what_is_added() {
        let mut ranges = Ranges::default();
        ranges.add(0, Range { from: 5, to: 7 });
        ranges.add(0, Range { from: 9, to: 12 });
        assert_eq!(ranges.0[&0], Range { from: 5, to: 12 });
        assert_eq!(ranges.0[&0].to_string(), "[5..12)");
        assert_eq!(ranges.0[&0].len(), 7);
    }
}
