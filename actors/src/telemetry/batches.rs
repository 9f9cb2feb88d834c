//! The last batches, and which of them Kafka has confirmed.
//!
//! Pure.
//!
//! Guarantees:
//! * A batch is confirmed once, when every offset in it is committed.
//! * Both lists are bounded.
//!
//! Does not guarantee that every batch is confirmed: a batch is dropped when its partitions are
//! revoked first, or when [`MAX_PENDING`] later batches are pending.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use forebay_kernel::micros;
use forebay_schemas::offset::{Offset, Partition, Ranges};
use forebay_schemas::snapshot::BatchView;

/// Written batches that a snapshot shows.
const MAX_BATCHES: usize = 64;
/// Written batches that wait for their commit.
const MAX_PENDING: usize = 1_024;

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
    /// Adds a written batch.
    pub(super) fn written(&mut self, batch: BatchView, now: Instant) {
        self.serial += 1;
        self.pending.drain(..(self.pending.len() + 1).saturating_sub(MAX_PENDING));
        self.pending.push_back(Pending { serial: self.serial, ranges: batch.ranges.clone(), written: now });
        self.kept.truncate(MAX_BATCHES - 1);
        self.kept.push_front((self.serial, batch));
    }

    /// Applies a confirmed commit. Returns, for each batch that it completes, the time since the
    /// batch was written.
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

    /// Drops the pending batches of revoked partitions, whose commits this process no longer sees.
    pub(super) fn revoked(&mut self, partitions: &[Partition]) {
        self.pending.retain(|pending| !partitions.iter().any(|partition| pending.ranges.0.contains_key(partition)));
    }

    /// The last batches, newest first.
    pub(super) fn views(&self) -> Vec<BatchView> {
        self.kept.iter().map(|(_, view)| view.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use forebay_schemas::offset::Range;

    use super::*;

    fn batch(id: u64, ranges: &[(Partition, i64)]) -> BatchView {
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
            ranges: ranges.iter().map(|&(partition, to)| (partition, Range { from: Offset(0), to: Offset(to) })).collect(),
            retries: 0,
        }
    }

    fn committed(batches: &mut Batches, now: Instant, offsets: &[(Partition, i64)]) -> Vec<Duration> {
        batches.committed(now, &offsets.iter().map(|&(partition, offset)| (partition, Offset(offset))).collect())
    }

    #[test]
    fn a_batch_is_confirmed_once_all_its_partitions_are() {
        let (mut batches, now) = (Batches::default(), Instant::now());
        batches.written(batch(1, &[(0, 10), (1, 5)]), now);
        batches.written(batch(2, &[(0, 20)]), now);
        assert!(committed(&mut batches, now, &[(0, 15)]).is_empty());
        let later = now + Duration::from_millis(7);
        assert_eq!(committed(&mut batches, later, &[(0, 15), (1, 5)]), [Duration::from_millis(7)]);
        assert!(committed(&mut batches, later, &[(0, 15), (1, 5)]).is_empty(), "once");
        assert_eq!(batches.views().iter().map(|view| (view.id, view.commit_micros)).collect::<Vec<_>>(), [(2, 0), (1, 7_000)]);
    }

    #[test]
    fn batches_of_revoked_partitions_wait_for_no_commit() {
        let (mut batches, now) = (Batches::default(), Instant::now());
        batches.written(batch(1, &[(0, 10), (1, 5)]), now);
        batches.revoked(&[1]);
        assert!(committed(&mut batches, now, &[(0, 10), (1, 5)]).is_empty());
    }

    #[test]
    fn both_lists_are_bounded_and_a_batch_no_longer_shown_is_still_confirmed() {
        let (mut batches, now) = (Batches::default(), Instant::now());
        for id in 0..5_000 {
            batches.written(batch(id, &[(0, 10)]), now);
        }
        assert_eq!((batches.views().len(), batches.pending.len()), (MAX_BATCHES, MAX_PENDING));
        assert_eq!(committed(&mut batches, now, &[(0, 10)]).len(), MAX_PENDING);
    }
}
