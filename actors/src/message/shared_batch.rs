//! A micro-batch whose rows travel in one part or in several.
//!
//! Guarantee: [`SharedBatch::done`] gives the sums of all parts once, when every part that was sent is done and the last one has been sent; a batch of
//! which a part is lost never ends, so that its receipt says abandoned. Its bytes, and what they hold of the budget, are let go with the last
//! part. Not guaranteed: that parts are done in the order in which they were sent.

use parking_lot::Mutex;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use forebay_dataplane::{RawBatch, Reject};
use forebay_kernel::{Credit, Lease};
use forebay_schemas::offset::Ranges;

use super::{BatchDone, PolledBatch, Receipt};

/// A micro-batch, shared by the parts of its rows.
#[derive(Debug)]
pub struct SharedBatch {
    /// Its number in this process, from 1.
    pub id: u64,
    /// The offsets it covers, a range a partition.
    pub ranges: Ranges,
    /// From the first record's arrival until the batch was sealed.
    pub waited: Duration,
    raw: RawBatch,
    tally: Mutex<Tally>,
    receipt: Mutex<Option<Receipt<BatchDone>>>,
    /// What the batch holds of the budget.
    _credit: Credit,
}

/// What became of a part, or of a whole batch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Share {
    /// Rows that the table acknowledged.
    pub rows: u64,
    /// Dead letters that Kafka acknowledged.
    pub rejected: u64,
    /// Attempts to write that were made again.
    pub retries: u64,
    /// Time spent on JSON, SQL and checks.
    pub transform: Duration,
    /// Time spent on dead letters and writing; parts that are written at the same time count each.
    pub write: Duration,
    /// For each row that the table acknowledged the index of its record.
    pub written: Vec<u32>,
    /// Its dead letters.
    pub rejects: Vec<Reject>,
}

#[derive(Debug, Default)]
struct Tally {
    sent: u32,
    done: u32,
    all_sent: bool,
    sum: Share,
}

impl SharedBatch {
    /// A batch of which no part has been sent.
    pub fn new(batch: Lease<PolledBatch>) -> Arc<Self> {
        let Lease { body: PolledBatch { id, raw, ranges, waited, receipt, .. }, credit } = batch;
        Arc::new(Self { id, ranges, waited, raw, tally: Mutex::default(), receipt: Mutex::new(Some(receipt)), _credit: credit })
    }

    /// A part is about to be sent; `last` when no other follows.
    pub fn send(&self, last: bool) {
        let mut tally = self.tally.lock();
        tally.sent += 1;
        tally.all_sent |= last;
    }

    /// A part is done. The sums of all parts, when it was the last one.
    pub fn done(&self, share: Share) -> Option<Share> {
        let mut tally = self.tally.lock();
        let Tally { sent, done, all_sent, sum } = &mut *tally;
        *done += 1;
        sum.rows += share.rows;
        sum.rejected += share.rejected;
        sum.retries += share.retries;
        sum.transform += share.transform;
        sum.write += share.write;
        sum.written.extend(share.written);
        sum.rejects.extend(share.rejects);
        (*all_sent && done == sent).then(|| std::mem::take(sum))
    }

    /// Settles the batch's receipt, once all of it is done. The first end holds.
    pub fn settle(&self, end: BatchDone) {
        if let Some(receipt) = self.receipt.lock().take() {
            receipt.settle(end);
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
        PolledBatch {
            id: 1,
            raw: RawBatch::default(),
            ranges: Ranges::default(),
            waited: Duration::ZERO,
            sealed_at: std::time::Instant::now(),
            receipt: Receipt::new().0,
        }
    }

    #[test]
    fn a_batch_ends_when_all_its_parts_were_sent_and_are_done() {
        let batch = SharedBatch::new(Lease::new(empty(), Budget::new("test", 100).try_reserve(100).unwrap()));
        let share = || Share { rows: 2, rejected: 1, written: vec![7, 7], ..Share::default() };
        batch.send(false);
        assert_eq!(batch.done(share()), None, "another part follows");
        batch.send(false);
        batch.send(true);
        assert_eq!(batch.done(share()), None, "one is under way");
        assert_eq!(batch.done(share()), Some(Share { rows: 6, rejected: 3, written: vec![7; 6], ..Share::default() }));
    }

    #[test]
    fn a_batch_of_which_a_part_is_lost_does_not_end_and_its_budget_comes_home() {
        let budget = Budget::new("edge", 10);
        let (receipt, mut end) = Receipt::new();
        let batch = SharedBatch::new(Lease::new(PolledBatch { receipt, ..empty() }, budget.try_reserve(10).unwrap()));
        batch.send(false);
        batch.send(true);
        assert_eq!(batch.done(Share::default()), None);
        assert_eq!(budget.used(), 10);
        drop(batch);
        assert!(end.try_recv().is_err());
        assert_eq!(budget.used(), 0);
    }
}
