//! Which dead letters are in the topic again: ranges of offsets a partition of the dead-letter topic, pure.
//!
//! Guarantee: an offset that was added is held, and no other; ranges that touch are one, so what is kept grows with the holes between acts of
//! people, not with letters.

use std::collections::BTreeMap;

use forebay_schemas::offset::{Partition, Range, Ranges};
use serde::{Deserialize, Serialize};

/// Sets of offsets, a partition each; the ranges of one are in order and don't touch.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Redriven(BTreeMap<Partition, Vec<Range>>);

impl Redriven {
    /// Adds ranges.
    pub fn add(&mut self, letters: &Ranges) {
        for (&partition, &range) in letters.0.iter().filter(|(_, range)| !range.is_empty()) {
            let ranges = self.0.entry(partition).or_default();
            let (apart, touching): (Vec<Range>, Vec<Range>) =
                ranges.iter().partition(|other| other.to < range.from || range.to < other.from);
            *ranges = apart;
            ranges.push(touching.into_iter().fold(range, Range::cover));
            ranges.sort_unstable_by_key(|range| range.from);
        }
    }

    /// What of a range of a partition is not held, in order.
    pub fn without(&self, partition: Partition, range: Range) -> Vec<Range> {
        let (mut left, mut from) = (Vec::new(), range.from);
        for held in self.0.get(&partition).into_iter().flatten() {
            let gap = Range { from, to: held.from.min(range.to) };
            if !gap.is_empty() {
                left.push(gap);
            }
            from = from.max(held.to);
        }
        let rest = Range { from, to: range.to };
        if !rest.is_empty() {
            left.push(rest);
        }
        left
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn range(from: i64, to: i64) -> Range {
        Range { from, to }
    }

    fn adding(ranges: &[(i64, i64)]) -> Redriven {
        let mut redriven = Redriven::default();
        ranges.iter().for_each(|&(from, to)| redriven.add(&[(0, range(from, to))].into_iter().collect()));
        redriven
    }

    #[test]
    fn what_is_left_of_a_range_are_the_gaps_between_those_that_were_redriven() {
        let redriven = adding(&[(10, 20), (30, 40)]);
        assert_eq!(redriven.without(0, range(0, 50)), [range(0, 10), range(20, 30), range(40, 50)]);
        assert_eq!(redriven.without(0, range(15, 35)), [range(20, 30)]);
        assert_eq!(redriven.without(0, range(12, 18)), []);
        assert_eq!(redriven.without(1, range(12, 18)), [range(12, 18)], "another partition");
    }

    #[test]
    fn ranges_that_touch_are_one() {
        assert_eq!(adding(&[(10, 20), (30, 40), (20, 30)]), adding(&[(10, 40)]));
    }

    proptest! {
        #[test]
        fn an_offset_is_left_exactly_when_it_was_never_added(ranges in prop::collection::vec((0..50i64, 0..50i64), 0..12)) {
            let redriven = adding(&ranges);
            let left = redriven.without(0, range(0, 60));
            for offset in 0..60 {
                let added = ranges.iter().any(|&(from, to)| (from..to).contains(&offset));
                prop_assert_eq!(left.iter().any(|range| (range.from..range.to).contains(&offset)), !added);
            }
        }
    }
}
