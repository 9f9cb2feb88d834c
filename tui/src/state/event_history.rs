//! The events in memory, and the projection at each of them.
//!
//! Guarantees:
//! * There are at most [`MAX_EVENTS`] events, and one projection per block of [`BLOCK_SIZE`].
//! * The projection at an event takes at most [`BLOCK_SIZE`] folds.
//! * A known event is ignored, so a reconnect may repeat some.

use std::collections::VecDeque;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use forebay_schemas::event::{Event, Recorded};

use super::projection::Projection;

/// The maximum number of events in memory.
pub(crate) const MAX_EVENTS: usize = 50_000;
/// The number of events per stored projection.
pub(crate) const BLOCK_SIZE: usize = 1_000;

#[derive(Debug, Clone)]
struct Block {
    /// The projection before its first event.
    before: Arc<Projection>,
    events: Vec<Arc<Recorded>>,
}

/// The events and their projections.
#[derive(Debug, Clone, Default)]
pub(crate) struct Timeline {
    blocks: VecDeque<Block>,
    head: Projection,
    /// The number of events that were dropped.
    pub(crate) dropped: u64,
}

impl Timeline {
    /// Adds an event. Returns whether it is new.
    pub(crate) fn push(&mut self, recorded: Arc<Recorded>) -> bool {
        if recorded.seq <= self.head.seq {
            return false;
        }
        if self.blocks.back().is_none_or(|block| block.events.len() >= BLOCK_SIZE) {
            self.blocks.push_back(Block { before: Arc::new(self.head.clone()), events: Vec::with_capacity(BLOCK_SIZE) });
            if self.blocks.len() > MAX_EVENTS / BLOCK_SIZE {
                self.blocks.pop_front();
                self.dropped += BLOCK_SIZE as u64;
            }
        }
        self.head.apply(&recorded);
        if let Some(block) = self.blocks.back_mut() {
            block.events.push(recorded);
        }
        true
    }

    /// The projection at the newest event.
    pub(crate) fn head(&self) -> &Projection {
        &self.head
    }

    /// The number of events in memory.
    pub(crate) fn len(&self) -> usize {
        self.blocks.len().saturating_sub(1) * BLOCK_SIZE + self.blocks.back().map_or(0, |block| block.events.len())
    }

    /// The event at an index, oldest first.
    pub(crate) fn get(&self, index: usize) -> Option<&Arc<Recorded>> {
        self.blocks.get(index / BLOCK_SIZE)?.events.get(index % BLOCK_SIZE)
    }

    /// The index of the last event up to a sequence number; `None` if all are later.
    pub(crate) fn index_of(&self, seq: u64) -> Option<usize> {
        let block = self.blocks.partition_point(|block| block.events.first().is_some_and(|first| first.seq <= seq)).checked_sub(1)?;
        let within = self.blocks[block].events.partition_point(|event| event.seq <= seq).checked_sub(1)?;
        Some(block * BLOCK_SIZE + within)
    }

    /// The index of the first event at or after a time; the last one if all are earlier.
    pub(crate) fn index_at(&self, at: DateTime<Utc>) -> Option<usize> {
        let last = self.len().checked_sub(1)?;
        // Clocks may step back, so the order by time is only nearly right. That is enough to
        // navigate.
        let (mut low, mut high) = (0, last);
        while low < high {
            let middle = usize::midpoint(low, high);
            if self.get(middle).is_some_and(|event| event.at < at) { low = middle + 1 } else { high = middle }
        }
        Some(low)
    }

    /// The projection after the event at an index.
    pub(crate) fn projection_at(&self, index: usize) -> Projection {
        let Some(block) = self.blocks.get(index / BLOCK_SIZE) else { return self.head.clone() };
        let mut projection = Projection::clone(&block.before);
        block.events.iter().take(index % BLOCK_SIZE + 1).for_each(|event| projection.apply(event));
        projection
    }

    /// The nearest event in a direction that satisfies a condition.
    pub(crate) fn find(&self, from: usize, forward: bool, condition: impl Fn(&Event) -> bool) -> Option<usize> {
        let matches = |&index: &usize| self.get(index).is_some_and(|event| condition(&event.event));
        if forward { (from + 1..self.len()).find(matches) } else { (0..from.min(self.len())).rev().find(matches) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_data::any_events;
    use proptest::prelude::*;

    fn timeline(events: &[Recorded]) -> Timeline {
        let mut timeline = Timeline::default();
        for event in events {
            timeline.push(Arc::new(event.clone()));
        }
        timeline
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn the_projection_at_an_event_is_the_fold_from_the_start(events in any_events(1..2_500), at in 0.0..1.0_f64) {
            let timeline = timeline(&events);
            prop_assert_eq!(timeline.len(), events.len());
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index below a few thousand")]
            let index = (at * events.len() as f64) as usize;
            let mut projection = Projection::default();
            events[..=index].iter().for_each(|event| projection.apply(event));
            prop_assert_eq!(timeline.projection_at(index), projection);
        }

        #[test]
        fn an_event_is_found_by_its_sequence_and_counts_once(events in any_events(1..200)) {
            let mut timeline = timeline(&events);
            let head = timeline.head().clone();
            for (index, event) in events.iter().enumerate() {
                prop_assert_eq!(timeline.index_of(event.seq), Some(index));
                prop_assert!(!timeline.push(Arc::new(event.clone())));
            }
            prop_assert_eq!(timeline.head(), &head);
            prop_assert_eq!(timeline.index_of(0), None);
        }
    }

    #[test]
    fn events_are_bounded_and_the_projection_at_the_oldest_is_right() {
        let mut timeline = Timeline::default();
        let mut projection = Projection::default();
        let mut at_oldest = None;
        let total = MAX_EVENTS as u64 + 2_500;
        for seq in 1..=total {
            let event =
                Recorded::new(seq, DateTime::UNIX_EPOCH, Event::ChildStarted { actor: format!("root/{}", seq % 7), incarnation: seq });
            projection.apply(&event);
            timeline.push(Arc::new(event));
            if seq == 3_001 {
                at_oldest = Some(projection.clone());
            }
        }
        assert_eq!((timeline.len(), timeline.dropped), (MAX_EVENTS - 500, 3_000));
        assert_eq!(timeline.get(0).unwrap().seq, 3_001);
        assert_eq!(Some(timeline.projection_at(0)), at_oldest);
        assert_eq!(timeline.head(), &projection);
    }
}
