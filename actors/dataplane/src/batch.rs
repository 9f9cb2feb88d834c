//! A micro-batch before and after the SQL.

use std::fmt;
use std::ops::Range as Slice;
use std::time::Duration;

use datafusion::arrow::array::RecordBatch;
use forebay_schemas::json_pointer::JsonPointer;
use forebay_schemas::offset::{Offset, Partition};

use crate::Reason;

/// Records of a topic, before they are decoded. Their bytes lie in one arena.
#[derive(Debug, Default)]
pub struct RawBatch {
    /// The bytes of keys, values and headers, one after the other.
    pub arena: Vec<u8>,
    /// The records in the order in which they were read; within a partition, by offset.
    pub records: Vec<RawRecord>,
}

/// A record of a [`RawBatch`].
#[derive(Debug, Clone)]
pub struct RawRecord {
    /// The partition of the record.
    pub partition: Partition,
    /// The offset of the record.
    pub offset: Offset,
    /// The timestamp of the record in the topic, in milliseconds since the Unix epoch; 0 when it
    /// has none.
    pub timestamp_ms: i64,
    /// The timestamp that the row is written with, in microseconds since the Unix epoch; see
    /// [`write_clock`](crate::write_clock).
    pub write_ts: i64,
    /// The range of the key in the arena; `None` when the record has no key.
    pub key: Option<Slice<u32>>,
    /// The range of the value in the arena; `None` for a tombstone.
    pub value: Option<Slice<u32>>,
    /// The range of the headers in the arena, as [`arena_headers`](crate::arena_headers) encodes
    /// them; empty when there are none.
    pub headers: Slice<u32>,
}

/// A record that [`RawBatch::push`] copies into a batch.
#[derive(Debug, Clone, Copy, Default)]
pub struct NewRecord<'a> {
    /// The partition of the record, from 0.
    pub partition: Partition,
    /// The offset of the record, from 0.
    pub offset: Offset,
    /// The timestamp of the record in the topic, in milliseconds since the Unix epoch; 0 when it
    /// has none.
    pub timestamp_ms: i64,
    /// The timestamp that the row is written with, in microseconds since the Unix epoch; see
    /// [`write_clock`](crate::write_clock).
    pub write_ts: i64,
    /// The key, if there is one.
    pub key: Option<&'a [u8]>,
    /// The value; `None` for a tombstone.
    pub value: Option<&'a [u8]>,
    /// The headers, as [`arena_headers::append`](crate::arena_headers::append) encodes them; empty
    /// when there are none.
    pub headers: &'a [u8],
}

impl RawBatch {
    /// Appends a copy of a record.
    ///
    /// # Panics
    /// When the arena would reach 4 GiB. Kafka's largest record is under 2 GiB, and the caller
    /// bounds the number of records.
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

    /// Returns the key of a record of this batch, if it has one.
    ///
    /// # Panics
    /// This and the two below may panic when the record is of another batch.
    pub fn key(&self, record: &RawRecord) -> Option<&[u8]> {
        record.key.as_ref().map(|at| &self.arena[at.start as usize..at.end as usize])
    }

    /// Returns the encoded headers of a record of this batch;
    /// [`arena_headers::read`](crate::arena_headers::read) decodes them.
    pub fn headers(&self, record: &RawRecord) -> &[u8] {
        &self.arena[record.headers.start as usize..record.headers.end as usize]
    }

    /// Returns the value of a record of this batch; `None` for a tombstone.
    pub fn value(&self, record: &RawRecord) -> Option<&[u8]> {
        record.value.as_ref().map(|at| &self.arena[at.start as usize..at.end as usize])
    }
}

/// A part of a batch after the SQL: rows and rejects.
#[derive(Debug)]
pub struct RowBatch {
    /// The rows, with the columns of the SELECT.
    pub rows: RecordBatch,
    /// For each row, the index of its record in [`RawBatch::records`].
    pub origin: Vec<u32>,
    /// For each row, the timestamp that it is written with, in microseconds since the Unix epoch.
    pub write_ts: Vec<i64>,
    /// The records that the decoder or the SQL rejected, by index.
    pub rejects: Vec<Reject>,
    /// Fields that the schema does not have, of the records that were decoded for this part; each
    /// at least in the first record that has it.
    pub new_fields: Vec<NewField>,
    /// The time spent on decoding and SQL.
    pub transform: Duration,
}

/// A field that the schema does not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewField {
    /// The JSON pointer to it, with `*` for the items of an array.
    pub field: JsonPointer,
    /// The JSON type of its value: `boolean`, `number`, `string`, `array` or `object`.
    pub kind: &'static str,
    /// The index of the record in [`RawBatch::records`].
    pub record: u32,
}

/// A record that can't become a row, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reject {
    /// The index of the record in [`RawBatch::records`].
    pub record: u32,
    /// The stage that rejected the record.
    pub stage: RejectStage,
    /// What is wrong with the record.
    pub reason: Reason,
}

/// The stage that rejected a record. The dead letter has it in the header `forebay-stage`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RejectStage {
    /// Producing to the topic: the record has no key, for example.
    Produce,
    /// Decoding: the bytes are not JSON, or do not fit the schema.
    Decode,
    /// The SQL: an expression fails on the record, or produces too much of it.
    Transform,
    /// Writing: a row does not fit the table.
    Write,
}

impl RejectStage {
    /// The name of the stage, in lower case.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Produce => "produce",
            Self::Decode => "decode",
            Self::Transform => "transform",
            Self::Write => "write",
        }
    }
}

impl fmt::Display for RejectStage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
