//! Builds a micro-batch in one arena of bytes, without an allocation per record.
//!
//! Pure.
//!
//! Guarantees:
//! * A record that is added is in the next sealed batch, whole and in order.
//! * The weight of a batch is the sum of the weights of its records.
//!
//! Does not enforce the limits: callers check [`BatchBuilder::fits`] first.

use std::time::Instant;

use forebay_dataplane::write_clock::WriteClock;
use forebay_dataplane::{NewRecord, RawBatch};
use forebay_schemas::offset::{Offset, Partition, Range};
use forebay_schemas::pipeline::BatchSection;

use crate::message::RECORD_OVERHEAD;

/// The size of the largest arena, whatever the limits say: positions in an arena have 32 bits.
const MAX_ARENA_BYTES: usize = 1 << 30;

/// A record as it was polled.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Incoming<'a> {
    pub(crate) partition: Partition,
    pub(crate) offset: Offset,
    /// Milliseconds since the Unix epoch, where the topic has timestamps.
    pub(crate) timestamp_ms: Option<i64>,
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) value: Option<&'a [u8]>,
    /// Encoded by [`arena_headers`](forebay_dataplane::arena_headers).
    pub(crate) headers: &'a [u8],
}

impl Incoming<'_> {
    fn bytes(&self) -> usize {
        self.key.map_or(0, <[u8]>::len) + self.value.map_or(0, <[u8]>::len) + self.headers.len()
    }

    /// Returns the bytes of budget that it takes.
    pub(crate) fn weight(&self) -> usize {
        self.bytes() + RECORD_OVERHEAD
    }
}

/// When a batch is full.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    records: usize,
    bytes: usize,
}

impl Limits {
    pub(crate) fn new(section: &BatchSection) -> Self {
        Self { records: section.max_records.max(1), bytes: section.max_bytes.as_usize().clamp(1, MAX_ARENA_BYTES) }
    }
}

/// The records of one partition in a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PartitionSlice {
    pub(crate) partition: Partition,
    /// The assignment under which they were read.
    pub(crate) generation: u64,
    pub(crate) range: Range,
    /// The timestamp of the first record, where the topic has timestamps.
    pub(crate) first_ms: Option<i64>,
    /// The write clock after the last record.
    pub(crate) clock: WriteClock,
    /// The number of records without a key.
    pub(crate) unkeyed: u64,
}

/// The records of a batch.
#[derive(Debug, Default)]
pub(crate) struct BatchContents {
    pub(crate) raw: RawBatch,
    pub(crate) slices: Vec<PartitionSlice>,
    pub(crate) weight: usize,
}

/// The batch that is being filled.
#[derive(Debug)]
pub(crate) struct BatchBuilder {
    limits: Limits,
    contents: BatchContents,
    since: Option<Instant>,
    /// Bytes and records of the previous batch: the sizes to reserve.
    previous: (usize, usize),
}

impl BatchBuilder {
    pub(crate) fn new(limits: Limits) -> Self {
        Self { limits, contents: BatchContents::default(), since: None, previous: (0, 0) }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.contents.raw.records.is_empty()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.contents.raw.records.len() >= self.limits.records || self.contents.raw.arena.len() >= self.limits.bytes
    }

    /// Returns whether `record` fits. A record larger than the limit fits into an empty batch,
    /// alone.
    pub(crate) fn fits(&self, record: &Incoming<'_>) -> bool {
        self.is_empty() || (!self.is_full() && self.contents.raw.arena.len() + record.bytes() <= self.limits.bytes)
    }

    pub(crate) fn weight(&self) -> usize {
        self.contents.weight
    }

    /// Returns when the first record was added.
    pub(crate) fn since(&self) -> Option<Instant> {
        self.since
    }

    pub(crate) fn slices(&self) -> &[PartitionSlice] {
        &self.contents.slices
    }

    /// Starts a slice and returns its index for [`add`](Self::add).
    pub(crate) fn start_slice(&mut self, slice: PartitionSlice) -> usize {
        self.contents.slices.push(slice);
        self.contents.slices.len() - 1
    }

    /// Adds a record to a slice. `now` is called for the first record only.
    pub(crate) fn add(&mut self, record: &Incoming<'_>, slice: usize, clock: WriteClock, write_ts: i64, now: impl FnOnce() -> Instant) {
        if self.since.is_none() {
            self.since = Some(now());
            self.contents.raw.arena.reserve(self.previous.0);
            self.contents.raw.records.reserve(self.previous.1);
        }
        let contents = &mut self.contents;
        let &Incoming { partition, offset, timestamp_ms, key, value, headers } = record;
        contents.raw.push(&NewRecord { partition, offset, timestamp_ms: timestamp_ms.unwrap_or(0), write_ts, key, value, headers });
        contents.weight += record.weight();
        let slice = &mut contents.slices[slice];
        slice.range.to = record.offset + 1;
        slice.clock = clock;
        slice.unkeyed += u64::from(record.key.is_none());
    }

    /// Takes the contents and the time of the first record; `None` when it is empty.
    ///
    /// The vectors hold little spare capacity, since the budget counts only what is in them.
    pub(crate) fn seal(&mut self) -> Option<(BatchContents, Instant)> {
        let since = self.since.take()?;
        let mut contents = std::mem::take(&mut self.contents);
        shrink(&mut contents.raw.arena);
        shrink(&mut contents.raw.records);
        self.previous = (contents.raw.arena.len(), contents.raw.records.len());
        Some((contents, since))
    }
}

/// Frees the spare capacity when it is more than an eighth.
fn shrink<T>(vector: &mut Vec<T>) {
    if vector.capacity() - vector.len() > vector.len() / 8 {
        vector.shrink_to_fit();
    }
}
