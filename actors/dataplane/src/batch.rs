//! A micro-batch before and after the SQL.

use std::fmt;
use std::ops::Range as Slice;
use std::time::Duration;

use datafusion::arrow::array::RecordBatch;
use forebay_schemas::offset::{Offset, Partition};

use crate::Reason;

/// Records as they came out of the topic.
#[derive(Debug, Default)]
pub struct RawBatch {
    /// Keys, values and headers, one after the other.
    pub arena: Vec<u8>,
    /// The records, in the order they were read; within a partition by offset.
    pub records: Vec<RawRecord>,
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

/// A record that [`RawBatch::push`] copies into a batch.
#[derive(Debug, Clone, Copy, Default)]
pub struct NewRecord<'a> {
    /// Its partition.
    pub partition: Partition,
    /// Its offset.
    pub offset: Offset,
    /// Its timestamp in the topic, milliseconds since the epoch; 0 when it has none.
    pub timestamp_ms: i64,
    /// The timestamp its row is written with, microseconds since the epoch; see [`write_clock`](crate::write_clock).
    pub write_ts: i64,
    /// Its key, if it has one.
    pub key: Option<&'a [u8]>,
    /// Its value; none for a tombstone.
    pub value: Option<&'a [u8]>,
    /// Its headers, as [`headers::put`](crate::headers::put) encodes them; empty when it has none.
    pub headers: &'a [u8],
}

impl RawBatch {
    /// Appends a copy of a record.
    ///
    /// # Panics
    /// When the arena would exceed 4 GiB. Kafka's largest record is under 2 GiB, and the caller limits the rest.
    pub fn push(&mut self, record: &NewRecord<'_>) {
        let mut put = |bytes: &[u8]| {
            let index = |at: usize| u32::try_from(at).expect("the arena of a batch is smaller than 4 GiB");
            let from = index(self.arena.len());
            self.arena.extend_from_slice(bytes);
            from..index(self.arena.len())
        };
        let (key, value, headers) = (record.key.map(&mut put), record.value.map(&mut put), put(record.headers));
        let &NewRecord { partition, offset, timestamp_ms, write_ts, .. } = record;
        self.records.push(RawRecord { partition, offset, timestamp_ms, write_ts, key, value, headers });
    }

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

/// Some records of a batch after the SQL: their rows and their rejects.
#[derive(Debug)]
pub struct RowBatch {
    /// The rows, a column a column of the SELECT.
    pub rows: RecordBatch,
    /// For each row the index of its record in [`RawBatch::records`].
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
