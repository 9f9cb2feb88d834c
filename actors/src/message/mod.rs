//! What the actors send each other. Each travels in a [`Lease`](forebay_kernel::Lease), and each carries a [`Receipt`] by which whoever
//! sent it first learns its end: settled, or abandoned because an actor on the way went down.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use forebay_dataplane::{RawBatch, Reason, RowBatch};
use forebay_schemas::offset::{Partition, Ranges};
use forebay_schemas::rejects::Rejects;
use forebay_schemas::run::RunWritten;
use tokio::sync::oneshot;
use uuid::Uuid;

mod shared_batch;

pub use shared_batch::{Share, SharedBatch};

/// A fixed number of bytes that each record weighs in a budget beside its key and value, for what Forebay keeps about it.
pub const RECORD_OVERHEAD: usize = 64;

/// A page of records on its way from the API into the topic.
#[derive(Debug)]
pub struct Page {
    /// The fetch that found it: a run's identifier, or one made for a scheduled fetch. Goes into the header [`RUN_HEADER`](forebay_dataplane::run_counts::RUN_HEADER).
    pub run: Uuid,
    /// Each record's own bytes, as the API sent them; slices of one buffer, but for bad ones.
    pub records: Vec<Bytes>,
    /// The records that are no JSON, in order.
    pub bad: Vec<BadRecord>,
    /// Settled when Kafka has acknowledged every record.
    pub receipt: Receipt<Result<PageProduced, PageRefused>>,
}

/// A record of a page that is no JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadRecord {
    /// Its index among the page's records.
    pub at: usize,
    /// What is wrong, and where in the record.
    pub reason: Reason,
}

/// A page whose records Kafka has acknowledged, each in the topic or in the dead-letter topic.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PageProduced {
    /// Where in the topic.
    pub ranges: Ranges,
    /// How many records are in the topic.
    pub produced: u64,
    /// How many are in the dead-letter topic.
    pub rejected: u64,
    /// Why.
    pub rejects: Rejects,
}

impl PageProduced {
    /// Adds another part of the same page.
    pub fn merge(&mut self, other: &Self) {
        self.ranges.merge(&other.ranges);
        self.produced += other.produced;
        self.rejected += other.rejected;
        self.rejects.merge(&other.rejects);
    }
}

/// A page that can't be produced as it is: trying the same bytes again gives the same.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PageRefused(pub String);

/// A micro-batch as the consumer sends it.
#[derive(Debug)]
pub struct PolledBatch {
    /// Its number in this process, from 1.
    pub id: u64,
    /// Its records.
    pub raw: RawBatch,
    /// The offsets it covers, a range a partition; on a compacted topic more than there are records.
    pub ranges: Ranges,
    /// From the first record's arrival until the batch was sealed.
    pub waited: Duration,
    /// When it was sealed.
    pub sealed_at: Instant,
    /// Settled when every record's effect is done.
    pub receipt: Receipt<BatchDone>,
}

/// A part of a micro-batch after the SQL: the rows and the rejects of some of its records, of no others and of these all.
#[derive(Debug)]
pub struct BatchPart {
    /// The batch; a dead letter's bytes come from here.
    pub batch: Arc<SharedBatch>,
    /// What the SQL made of the part's records.
    pub rows: RowBatch,
}

/// A micro-batch whose every record is a row in the table, filtered out by the SQL, or an acknowledged dead letter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BatchDone {
    /// Rows the table acknowledged.
    pub rows: u64,
    /// Dead letters.
    pub rejected: u64,
    /// Time spent on JSON, SQL and checks.
    pub transform: Duration,
    /// Time until the last acknowledgement.
    pub write: Duration,
    /// What became of the records of open runs, by partition.
    pub runs: Vec<(Partition, RunWritten)>,
}

/// The sender's way to learn the end of a message. Dropped unsettled, it says that the message was abandoned.
#[derive(Debug)]
pub struct Receipt<T>(oneshot::Sender<T>);

impl<T> Receipt<T> {
    /// A receipt, and the end at which its settling shows; an error there means abandoned.
    pub fn new() -> (Self, oneshot::Receiver<T>) {
        let (sender, receiver) = oneshot::channel();
        (Self(sender), receiver)
    }

    /// Says the end. Nobody may be listening any more, which is no failure.
    pub fn settle(self, end: T) {
        let _ = self.0.send(end);
    }
}
