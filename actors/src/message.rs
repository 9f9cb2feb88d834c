//! What the actors send each other. Each travels in a [`Lease`](crate::kernel::Lease), and each carries a [`Receipt`] by which whoever
//! sent it first learns its end: settled, or abandoned because an actor on the way went down.

use std::fmt;
use std::ops::Range as Slice;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use datafusion::arrow::array::RecordBatch;
use forebay_schemas::offset::{Offset, Partition, Ranges};
use forebay_schemas::rejects::Rejects;
use forebay_schemas::run::RunWritten;
use tokio::sync::oneshot;
use uuid::Uuid;

pub mod client_headers;
pub mod headers;
pub mod letter;
#[cfg(test)]
pub(crate) mod raw_produce;
mod reason;
pub mod rejects;
pub mod runs;
pub(crate) mod whole;

pub use reason::{MASK, Reason};
pub use whole::{Share, Whole};

/// A fixed number of bytes that each record weighs in a budget beside its key and value, for what Forebay keeps about it.
pub const RECORD_OVERHEAD: usize = 64;

/// A page of records on its way from the API into the topic.
#[derive(Debug)]
pub struct Page {
    /// The fetch that found it: a run's identifier, or one made for a scheduled fetch. Goes into the header [`runs::RUN`].
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

/// A micro-batch as it came out of the topic.
#[derive(Debug)]
pub struct RawBatch {
    /// Its number in this process, from 1.
    pub id: u64,
    /// Keys, values and headers, one after the other.
    pub arena: Vec<u8>,
    /// The records, in the order they were read; within a partition by offset.
    pub records: Vec<RawRecord>,
    /// The offsets it covers, a range a partition; on a compacted topic more than there are records.
    pub ranges: Ranges,
    /// From the first record's arrival until the batch was cut.
    pub waited: Duration,
    /// When it was cut.
    pub cut_at: Instant,
    /// Settled when every record's effect is done.
    pub receipt: Receipt<BatchDone>,
}

/// One record in a [`RawBatch`].
#[derive(Debug, Clone)]
pub struct RawRecord {
    /// Its partition.
    pub partition: Partition,
    /// Its offset.
    pub offset: Offset,
    /// Its timestamp in the topic, milliseconds since the epoch.
    pub timestamp_ms: i64,
    /// The timestamp its row is written with, microseconds; strictly rising in a partition and a function of its prefix alone.
    pub write_ts: i64,
    /// Where its key is in the arena, if it has one.
    pub key: Option<Slice<u32>>,
    /// Where its value is in the arena; none for a tombstone.
    pub value: Option<Slice<u32>>,
    /// Where its headers are in the arena, as [`headers`] puts them; empty when it has none.
    pub headers: Slice<u32>,
}

impl RawBatch {
    /// A record's key, if it has one.
    pub fn key(&self, record: &RawRecord) -> Option<&[u8]> {
        record.key.as_ref().map(|at| &self.arena[at.start as usize..at.end as usize])
    }

    /// A record's headers as [`headers`] puts them.
    pub fn headers(&self, record: &RawRecord) -> &[u8] {
        &self.arena[record.headers.start as usize..record.headers.end as usize]
    }

    /// A record's value; none for a tombstone.
    pub fn value(&self, record: &RawRecord) -> Option<&[u8]> {
        record.value.as_ref().map(|at| &self.arena[at.start as usize..at.end as usize])
    }
}

/// A micro-batch after the SQL, or a part of it: the rows and the rejects of some of its records, of no others and of these all.
#[derive(Debug)]
pub struct RowBatch {
    /// What it was made of; a dead letter's bytes come from here.
    pub raw: Arc<Whole>,
    /// The rows, a column a column of the SELECT.
    pub rows: RecordBatch,
    /// For each row the index of its record in `raw.records`.
    pub origin: Vec<u32>,
    /// For each row the timestamp it is written with, microseconds.
    pub write_ts: Vec<i64>,
    /// Records that gave no row because they are bad.
    pub rejects: Vec<Reject>,
    /// Time spent on JSON and SQL.
    pub transform: Duration,
}

/// A record that can't become a row, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reject {
    /// Its index in `raw.records`.
    pub record: u32,
    /// Where it was found to be bad.
    pub stage: Stage,
    /// What is wrong.
    pub reason: Reason,
}

/// Where a record was found to be bad. Goes into the dead letter's header `forebay-stage`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// On the way into the topic: it has no key, say.
    Produce,
    /// Its bytes are not JSON, or do not fit the schema.
    Decode,
    /// The SQL fails on it.
    Transform,
    /// Its row does not fit the table.
    Write,
}

impl Stage {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Produce => "produce",
            Self::Decode => "decode",
            Self::Transform => "transform",
            Self::Write => "write",
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
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
