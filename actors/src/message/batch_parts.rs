//! A micro-batch whose rows travel in one or more parts.
//!
//! Guarantees:
//! * [`SharedBatch::part_done`] returns the sum over all parts once, when the last part has been
//!   sent and every part is done.
//! * A batch that lost a part never completes, so its receipt reports it as abandoned.
//! * Its bytes and their budget are released with the last part.
//!
//! Does not guarantee that parts are done in the order in which they were sent.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use forebay_dataplane::{RawBatch, Reject};
use forebay_kernel::{Credit, Lease};
use forebay_schemas::offset::Ranges;
use parking_lot::Mutex;

use super::{BatchDone, PolledBatch, Receipt};

/// A micro-batch, shared by the parts of its rows.
#[derive(Debug)]
pub(crate) struct SharedBatch {
    /// The batch's number in this process, from 1.
    pub id: u64,
    /// The offsets it covers, one range per partition.
    pub ranges: Ranges,
    /// The time from the first record's arrival until the batch was sealed.
    pub waited: Duration,
    raw: RawBatch,
    parts: Mutex<Parts>,
    receipt: Mutex<Option<Receipt<BatchDone>>>,
    /// The batch's budget.
    _credit: Credit,
}

/// What became of a part, or of all parts of a batch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct PartOutcome {
    /// The rows that the table acknowledged.
    pub rows: u64,
    /// The dead letters that Kafka acknowledged.
    pub rejected: u64,
    /// The retries of writes.
    pub retries: u64,
    /// Time spent on JSON, SQL and checks.
    pub transform: Duration,
    /// Time spent on dead letters and writing. Parts that are written at the same time count
    /// separately.
    pub write: Duration,
    /// For each row that the table acknowledged, the index of its record.
    pub written: Vec<u32>,
    /// The dead letters.
    pub rejects: Vec<Reject>,
}

#[derive(Debug, Default)]
struct Parts {
    sent: u32,
    done: u32,
    all_sent: bool,
    sum: PartOutcome,
}

impl SharedBatch {
    /// A batch of which no part has been sent.
    pub(crate) fn new(batch: Lease<PolledBatch>) -> Arc<Self> {
        let Lease { body: PolledBatch { id, raw, ranges, waited, receipt, .. }, credit } = batch;
        Arc::new(Self { id, ranges, waited, raw, parts: Mutex::default(), receipt: Mutex::new(Some(receipt)), _credit: credit })
    }

    /// A part is about to be sent. `last` if no other follows.
    pub(crate) fn part_sent(&self, last: bool) {
        let mut parts = self.parts.lock();
        parts.sent += 1;
        parts.all_sent |= last;
    }

    /// A part is done. Returns the sum over all parts if it was the last one.
    pub(crate) fn part_done(&self, outcome: PartOutcome) -> Option<PartOutcome> {
        let mut parts = self.parts.lock();
        let Parts { sent, done, all_sent, sum } = &mut *parts;
        *done += 1;
        sum.rows += outcome.rows;
        sum.rejected += outcome.rejected;
        sum.retries += outcome.retries;
        sum.transform += outcome.transform;
        sum.write += outcome.write;
        sum.written.extend(outcome.written);
        sum.rejects.extend(outcome.rejects);
        (*all_sent && done == sent).then(|| std::mem::take(sum))
    }

    /// Settles the batch's receipt, once all parts are done. Only the first call has an effect.
    pub(crate) fn settle(&self, done: BatchDone) {
        if let Some(receipt) = self.receipt.lock().take() {
            receipt.settle(done);
        }
    }
}

impl Deref for SharedBatch {
    type Target = RawBatch;

    fn deref(&self) -> &RawBatch {
        &self.raw
    }
}

#[cfg(test)]
mod tests {
    use forebay_kernel::Budget;

    use super::*;

    fn empty() -> PolledBatch {
        PolledBatch { id: 1, raw: RawBatch::default(), ranges: Ranges::default(), waited: Duration::ZERO, receipt: Receipt::new().0 }
    }

    #[test]
    fn a_batch_is_done_when_all_its_parts_are_sent_and_done() {
        let batch = SharedBatch::new(Lease::new(empty(), Budget::new("test", 100).try_reserve(100).unwrap()));
        let outcome = || PartOutcome { rows: 2, rejected: 1, written: vec![7, 7], ..PartOutcome::default() };
        batch.part_sent(false);
        assert_eq!(batch.part_done(outcome()), None, "another part follows");
        batch.part_sent(false);
        batch.part_sent(true);
        assert_eq!(batch.part_done(outcome()), None, "one is in progress");
        assert_eq!(batch.part_done(outcome()), Some(PartOutcome { rows: 6, rejected: 3, written: vec![7; 6], ..PartOutcome::default() }));
    }

    #[test]
    fn a_batch_that_loses_a_part_is_abandoned_and_its_budget_released() {
        let budget = Budget::new("edge", 10);
        let (receipt, mut settled) = Receipt::new();
        let batch = SharedBatch::new(Lease::new(PolledBatch { receipt, ..empty() }, budget.try_reserve(10).unwrap()));
        batch.part_sent(false);
        batch.part_sent(true);
        assert_eq!(batch.part_done(PartOutcome::default()), None);
        assert_eq!(budget.used(), 10);
        drop(batch);
        assert!(settled.try_recv().is_err());
        assert_eq!(budget.used(), 0);
    }
}
