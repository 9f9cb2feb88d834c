//! The writer's pure state: which batches are in progress, and which records become dead letters.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use forebay_dataplane::Reject;
use forebay_kernel::Backoff;

/// Delays between attempts.
pub(crate) const BACKOFF: Backoff = Backoff { min: Duration::from_millis(100), max: Duration::from_secs(10) };
/// How many batches are in progress at a time: while one is being sent, one is checked and one is
/// settled. The rest wait, limited only by the budget that they hold.
pub(crate) const MAX_CONCURRENT_BATCHES: usize = 4;

/// Batches: waiting in arrival order, and in progress.
#[derive(Debug)]
pub(crate) struct WriteQueue<T> {
    waiting: VecDeque<T>,
    in_progress: usize,
}

impl<T> Default for WriteQueue<T> {
    fn default() -> Self {
        Self { waiting: VecDeque::new(), in_progress: 0 }
    }
}

impl<T> WriteQueue<T> {
    /// Adds a batch that has arrived.
    pub(crate) fn push(&mut self, batch: T) {
        self.waiting.push_back(batch);
    }

    /// Starts the next batch, if there is one and few enough are in progress.
    pub(crate) fn start_next(&mut self) -> Option<T> {
        if self.in_progress >= MAX_CONCURRENT_BATCHES {
            return None;
        }
        let batch = self.waiting.pop_front()?;
        self.in_progress += 1;
        Some(batch)
    }

    /// A batch is done.
    pub(crate) fn finish_one(&mut self) {
        self.in_progress = self.in_progress.saturating_sub(1);
    }

    /// Whether no batch waits or is in progress.
    pub(crate) fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.in_progress == 0
    }
}

/// One reject per record, the first, in record order: a record may give several rows, and several
/// may be bad. `sent` remembers the records whose dead letters are in the topic already.
pub(crate) fn first_rejects(rejects: &[Reject], sent: &mut HashSet<u32>) -> Vec<Reject> {
    let mut first: Vec<Reject> = rejects.iter().filter(|reject| sent.insert(reject.record)).cloned().collect();
    first.sort_by_key(|reject| reject.record);
    first
}

#[cfg(test)]
mod tests {
    use super::*;
    use forebay_dataplane::{Reason, RejectStage};

    #[test]
    fn batches_start_in_order_and_few_at_a_time() {
        let mut queue = WriteQueue::default();
        (0..6).for_each(|batch| queue.push(batch));
        let started: Vec<i32> = std::iter::from_fn(|| queue.start_next()).collect();
        assert_eq!(started, [0, 1, 2, 3]);
        queue.finish_one();
        assert_eq!((queue.start_next(), queue.start_next()), (Some(4), None));
        (0..5).for_each(|_| queue.finish_one());
        assert!(!queue.is_idle());
        assert_eq!(queue.start_next(), Some(5));
        queue.finish_one();
        assert!(queue.is_idle());
    }

    #[test]
    fn a_record_with_several_bad_rows_becomes_one_dead_letter() {
        let reject = |record, reason: &str| Reject { record, stage: RejectStage::Write, reason: Reason::plain(reason) };
        let mut sent = HashSet::new();
        let first = first_rejects(&[reject(7, "a"), reject(3, "b"), reject(7, "c")], &mut sent);
        assert_eq!(first, [reject(3, "b"), reject(7, "a")]);
        assert_eq!(first_rejects(&[reject(3, "late"), reject(9, "d")], &mut sent), [reject(9, "d")]);
    }
}
