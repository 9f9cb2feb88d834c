//! Offsets of a topic: ranges and sets of them, and the checkpoints of partitions.
//!
//! A range is half-open, `[from, to)`, everywhere: `to` is the offset that a consumer commits once
//! all records before it are done.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::{Add, Sub};

use serde::{Deserialize, Deserializer, Serialize, de};

/// The number of a partition of a topic, from 0.
pub type Partition = i32;

/// The position of a record in its partition, from 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(inline))]
#[serde(transparent)]
pub struct Offset(pub i64);

impl Offset {
    /// Stands for an offset that is not known, in a snapshot for example.
    pub const UNKNOWN: Self = Self(-1);

    /// The number.
    pub const fn value(self) -> i64 {
        self.0
    }

    /// The number of offsets from `from` up to this one; 0 when this one is not after it.
    pub fn since(self, from: Self) -> u64 {
        u64::try_from(self - from).unwrap_or(0)
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The distance between two offsets is a plain number, and so is what is added to one. Arithmetic
/// saturates: a request or a journal may contain any number.
impl Add<i64> for Offset {
    type Output = Self;

    fn add(self, records: i64) -> Self {
        Self(self.0.saturating_add(records))
    }
}

impl Sub<i64> for Offset {
    type Output = Self;

    fn sub(self, records: i64) -> Self {
        Self(self.0.saturating_sub(records))
    }
}

impl Sub for Offset {
    type Output = i64;

    fn sub(self, from: Self) -> i64 {
        self.0.saturating_sub(from.0)
    }
}

/// The timestamp that a row is written with, in microseconds since 1970. In Cassandra the latest
/// one of a cell wins.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(inline))]
#[serde(transparent)]
pub struct WriteTimestamp(i64);

impl WriteTimestamp {
    /// From microseconds since 1970.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Microseconds since 1970.
    pub const fn micros(self) -> i64 {
        self.0
    }
}

impl fmt::Display for WriteTimestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One continuous history of a group's offsets on a partition. A reset of the offsets, or a
/// re-created topic, starts another one.
///
/// Epochs are random numbers, only compared for equality; 0 is never one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(inline))]
#[serde(transparent)]
pub struct Epoch(u32);

impl Epoch {
    /// The epoch of this number.
    pub const fn new(number: u32) -> Self {
        Self(number)
    }

    /// The number.
    pub const fn value(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How far a partition is written: where a restart continues.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Checkpoint {
    /// The first unwritten offset.
    pub offset: Offset,
    /// The write timestamp of the record before it; 0 before the first record.
    #[serde(rename = "clock")]
    pub write_clock: WriteTimestamp,
    /// The epoch of the group's commits that the offset belongs to.
    #[serde(rename = "lineage")]
    pub epoch: Epoch,
}

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

    /// The number of offsets in the range; 0 if it is reversed. A compacted topic may hold fewer
    /// records.
    pub fn len(&self) -> u64 {
        self.to.since(self.from)
    }

    /// Whether the range holds no offset.
    pub fn is_empty(&self) -> bool {
        self.to <= self.from
    }

    /// The smallest range that covers both.
    pub fn cover(self, other: Self) -> Self {
        Self { from: self.from.min(other.from), to: self.to.max(other.to) }
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}..{})", self.from, self.to)
    }
}

/// One item per partition, ordered by partition.
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

/// Written by hand: JSON keys are text, and serde's tagged types don't turn them into numbers.
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

/// One range per partition: what a page produced, what a batch holds, what a run waits for.
pub type Ranges = ByPartition<Range>;

impl ByPartition<Range> {
    /// Widens the range of `partition` to cover `range`.
    pub fn add(&mut self, partition: Partition, range: Range) {
        self.0.entry(partition).and_modify(|have| *have = have.cover(range)).or_insert(range);
    }

    /// Widens each range to cover that of `other`.
    pub fn merge(&mut self, other: &Self) {
        for (&partition, &range) in &other.0 {
            self.add(partition, range);
        }
    }

    /// Whether `written`, the first unwritten offset per partition, has passed the end of every
    /// range.
    pub fn passed_by(&self, written: &BTreeMap<Partition, Offset>) -> bool {
        self.0.iter().all(|(partition, range)| written.get(partition).is_some_and(|&at| at >= range.to))
    }
}

/// Sets of offsets, one per partition. Ranges that touch are merged, so the size grows with the
/// gaps between ranges and not with the offsets.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RangeSet(BTreeMap<Partition, Vec<Range>>);

impl RangeSet {
    /// Adds the offsets of these ranges.
    pub fn add(&mut self, added: &Ranges) {
        for (&partition, &range) in added.0.iter().filter(|(_, range)| !range.is_empty()) {
            let ranges = self.0.entry(partition).or_default();
            let (apart, touching): (Vec<Range>, Vec<Range>) =
                ranges.iter().partition(|other| other.to < range.from || range.to < other.from);
            *ranges = apart;
            ranges.push(touching.into_iter().fold(range, Range::cover));
            ranges.sort_unstable_by_key(|range| range.from);
        }
    }

    /// The parts of a partition's range that are not in the set, in order.
    pub fn without(&self, partition: Partition, range: Range) -> Vec<Range> {
        let (mut gaps, mut from) = (Vec::new(), range.from);
        for member in self.0.get(&partition).into_iter().flatten() {
            let gap = Range { from, to: member.from.min(range.to) };
            if !gap.is_empty() {
                gaps.push(gap);
            }
            from = from.max(member.to);
        }
        let rest = Range { from, to: range.to };
        if !rest.is_empty() {
            gaps.push(rest);
        }
        gaps
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ranges_are_passed_only_if_every_partition_is() {
        let mut produced = Ranges::default();
        produced.add(0, range(3, 9));
        produced.add(1, range(4, 5));
        let is_passed = |written: &[(Partition, i64)]| {
            produced.passed_by(&written.iter().map(|&(partition, offset)| (partition, Offset(offset))).collect())
        };
        assert!(!is_passed(&[(0, 9)]));
        assert!(!is_passed(&[(0, 9), (1, 4)]));
        assert!(is_passed(&[(0, 9), (1, 5)]));
    }

    #[test]
    fn added_ranges_widen_the_range_of_their_partition() {
        let mut ranges = Ranges::default();
        ranges.add(0, range(5, 7));
        ranges.add(0, range(9, 12));
        assert_eq!(ranges.0[&0], range(5, 12));
        assert_eq!(ranges.0[&0].to_string(), "[5..12)");
        assert_eq!(ranges.0[&0].len(), 7);
    }

    fn range(from: i64, to: i64) -> Range {
        Range { from: Offset(from), to: Offset(to) }
    }

    fn set_of(ranges: &[(i64, i64)]) -> RangeSet {
        let mut set = RangeSet::default();
        ranges.iter().for_each(|&(from, to)| set.add(&[(0, range(from, to))].into_iter().collect()));
        set
    }

    #[test]
    fn a_range_without_a_set_is_the_gaps_of_the_set() {
        let set = set_of(&[(10, 20), (30, 40)]);
        assert_eq!(set.without(0, range(0, 50)), [range(0, 10), range(20, 30), range(40, 50)]);
        assert_eq!(set.without(0, range(15, 35)), [range(20, 30)]);
        assert_eq!(set.without(0, range(12, 18)), []);
        assert_eq!(set.without(1, range(12, 18)), [range(12, 18)], "another partition");
    }

    #[test]
    fn ranges_that_touch_are_merged() {
        assert_eq!(set_of(&[(10, 20), (30, 40), (20, 30)]), set_of(&[(10, 40)]));
    }

    #[test]
    fn a_checkpoint_has_the_keys_of_the_journal() {
        let json = r#"{"offset":9,"clock":77,"lineage":42}"#;
        let checkpoint = Checkpoint { offset: Offset(9), write_clock: WriteTimestamp::from_micros(77), epoch: Epoch::new(42) };
        assert_eq!(serde_json::to_string(&checkpoint).unwrap(), json);
        assert_eq!(serde_json::from_str::<Checkpoint>(json).unwrap(), checkpoint);
    }

    proptest! {
        #[test]
        fn an_offset_is_in_a_gap_exactly_if_it_was_never_added(ranges in prop::collection::vec((0..50_i64, 0..50_i64), 0..12)) {
            let gaps = set_of(&ranges).without(0, range(0, 60));
            for offset in 0..60 {
                let added = ranges.iter().any(|&(from, to)| (from..to).contains(&offset));
                prop_assert_eq!(gaps.iter().any(|range| (range.from..range.to).contains(&Offset(offset))), !added);
            }
        }
    }
}
