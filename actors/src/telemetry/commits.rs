//! The last batches, and which of them Kafka has confirmed.
//!
//! Pure. Guarantee: a batch is confirmed once, when every offset it holds is committed; both lists are bounded. Not guaranteed: that each batch
//! is ever confirmed: not when its partitions go to others first, nor when [`PENDING_MOST`] later ones wait already.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use forebay_kernel::micros;
use forebay_schemas::offset::{Offset, Partition, Ranges};
use forebay_schemas::snapshot::BatchView;

/// How many finished batches are kept for a look.
const BATCHES_KEPT: usize = 64;
/// How many written batches wait for their commit at most.
const PENDING_MOST: usize = 1_024;

/// The last batches.
#[derive(Debug, Default)]
pub(super) struct Batches {
    /// Newest first.
    kept: VecDeque<(u64, BatchView)>,
    /// Oldest first.
    pending: VecDeque<Pending>,
    serial: u64,
}

#[derive(Debug)]
struct Pending {
    serial: u64,
    ranges: Ranges,
    written: Instant,
}

impl Batches {
    /// A batch was written.
    pub(super) fn written(&mut self, batch: BatchView, now: Instant) {
        self.serial += 1;
        self.pending.drain(..(self.pending.len() + 1).saturating_sub(PENDING_MOST));
        self.pending.push_back(Pending { serial: self.serial, ranges: batch.ranges.clone(), written: now });
        self.kept.truncate(BATCHES_KEPT - 1);
        self.kept.push_front((self.serial, batch));
    }

    /// Kafka has confirmed a commit: how long each batch that it completes waited for it, from written on.
    pub(super) fn committed(&mut self, now: Instant, committed: &BTreeMap<Partition, Offset>) -> Vec<Duration> {
        let mut spans = Vec::new();
        let kept = &mut self.kept;
        self.pending.retain(|pending| {
            if !pending.ranges.passed_by(committed) {
                return true;
            }
            let span = now.saturating_duration_since(pending.written);
            spans.push(span);
            if let Some((_, view)) = kept.iter_mut().find(|(serial, _)| *serial == pending.serial) {
                view.commit_micros = micros(span).max(1);
            }
            false
        });
        spans
    }

    /// Partitions go to others: nobody here learns of their commits.
    pub(super) fn gone(&mut self, partitions: &[Partition]) {
        self.pending.retain(|pending| !partitions.iter().any(|partition| pending.ranges.0.contains_key(partition)));
    }

    /// Newest first.
    pub(super) fn views(&self) -> Vec<BatchView> {
        self.kept.iter().map(|(_, view)| view.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use forebay_schemas::offset::Range;

    use super::*;

    fn batch(id: u64, ranges: &[(Partition, Offset)]) -> BatchView {
        BatchView {
            id,
            at: chrono::DateTime::UNIX_EPOCH,
            records: 1,
            rows: 1,
            rejected: 0,
            wait_micros: 0,
            transform_micros: 0,
            write_micros: 0,
            commit_micros: 0,
            ranges: ranges.iter().map(|&(partition, to)| (partition, Range { from: 0, to })).collect(),
            retries: 0,
        }
    }

    #[test]
    fn a_batch_is_confirmed_once_all_its_partitions_are() {
        let (mut batches, now) = (Batches::default(), Instant::now());
        batches.written(batch(1, &[(0, 10), (1, 5)]), now);
        batches.written(batch(2, &[(0, 20)]), now);
        assert!(batches.committed(now, &BTreeMap::from([(0, 15)])).is_empty());
        let later = now + Duration::from_millis(7);
        assert_eq!(batches.committed(later, &BTreeMap::from([(0, 15), (1, 5)])), [Duration::from_millis(7)]);
        assert!(batches.committed(later, &BTreeMap::from([(0, 15), (1, 5)])).is_empty(), "once");
        assert_eq!(batches.views().iter().map(|view| (view.id, view.commit_micros)).collect::<Vec<_>>(), [(2, 0), (1, 7_000)]);
    }

    #[test]
    fn batches_of_partitions_that_went_wait_for_no_commit() {
        let (mut batches, now) = (Batches::default(), Instant::now());
        batches.written(batch(1, &[(0, 10), (1, 5)]), now);
        batches.gone(&[1]);
        assert!(batches.committed(now, &BTreeMap::from([(0, 10), (1, 5)])).is_empty());
    }

    #[test]
    fn what_is_kept_is_bounded_and_confirmed_though_it_is_shown_no_more() {
        let (mut batches, now) = (Batches::default(), Instant::now());
        for id in 0..5_000 {
            batches.written(batch(id, &[(0, 10)]), now);
        }
        assert_eq!((batches.views().len(), batches.pending.len()), (BATCHES_KEPT, PENDING_MOST));
        assert_eq!(batches.committed(now, &BTreeMap::from([(0, 10)])).len(), PENDING_MOST);
    }
}
