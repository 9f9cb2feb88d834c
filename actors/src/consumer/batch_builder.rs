//! The micro-batch that is being filled: one arena of bytes, no allocation a record.
//!
//! Pure. Guarantee: a record added is in the batch that is cut next, whole, in the order added; the batch's weight is the sum of its
//! records' weights. Not guaranteed: the limits; who adds asks [`Forming::fits`] first.

use std::time::Instant;

use crate::message::RECORD_OVERHEAD;
use forebay_dataplane::write_clock::WriteClock;
use forebay_dataplane::{NewRecord, RawBatch};
use forebay_schemas::offset::{Offset, Partition, Range};
use forebay_schemas::pipeline::BatchSection;

/// No batch is larger, whatever the limits say: places in the arena are 32 bits.
const LARGEST_ARENA: usize = 1 << 30;

/// A record as it came out of the topic.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Incoming<'a> {
    pub(crate) partition: Partition,
    pub(crate) offset: Offset,
    /// Milliseconds since the epoch, if the topic keeps any.
    pub(crate) timestamp_ms: Option<i64>,
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) value: Option<&'a [u8]>,
    /// As [`headers`](forebay_dataplane::arena_headers) puts them.
    pub(crate) headers: &'a [u8],
}

impl Incoming<'_> {
    fn bytes(&self) -> usize {
        self.key.map_or(0, <[u8]>::len) + self.value.map_or(0, <[u8]>::len) + self.headers.len()
    }

    /// What it takes of the budget.
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
    pub(crate) fn of(table: &BatchSection) -> Self {
        Self { records: table.max_records.max(1), bytes: table.max_bytes.as_usize().clamp(1, LARGEST_ARENA) }
    }
}

/// What one batch holds of one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) partition: Partition,
    /// The assignment under which it was read.
    pub(crate) generation: u64,
    pub(crate) range: Range,
    /// The timestamp of its first record, if the topic keeps any.
    pub(crate) first_ms: Option<i64>,
    /// The write clock after its last record.
    pub(crate) clock: WriteClock,
    /// How many of its records have no key.
    pub(crate) unkeyed: u64,
}

/// A batch as it was cut.
#[derive(Debug, Default)]
pub(crate) struct Filled {
    pub(crate) raw: RawBatch,
    pub(crate) pieces: Vec<Piece>,
    pub(crate) weight: usize,
}

/// The batch that is being filled.
#[derive(Debug)]
pub(crate) struct Forming {
    limits: Limits,
    filled: Filled,
    since: Option<Instant>,
    /// Bytes and records of the batch before, which this one is expected to reach.
    before: (usize, usize),
}

impl Forming {
    pub(crate) fn new(limits: Limits) -> Self {
        Self { limits, filled: Filled::default(), since: None, before: (0, 0) }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.filled.raw.records.is_empty()
    }

    /// Whether it is to be cut now.
    pub(crate) fn is_full(&self) -> bool {
        self.filled.raw.records.len() >= self.limits.records || self.filled.raw.arena.len() >= self.limits.bytes
    }

    /// Whether `record` fits in; a record larger than the limit fits into an empty batch, alone.
    pub(crate) fn fits(&self, record: &Incoming<'_>) -> bool {
        self.is_empty() || (!self.is_full() && self.filled.raw.arena.len() + record.bytes() <= self.limits.bytes)
    }

    pub(crate) fn weight(&self) -> usize {
        self.filled.weight
    }

    /// When its first record came.
    pub(crate) fn since(&self) -> Option<Instant> {
        self.since
    }

    pub(crate) fn pieces(&self) -> &[Piece] {
        &self.filled.pieces
    }

    /// Starts a piece and gives its index, by which [`add`](Self::add) finds it.
    pub(crate) fn start_piece(&mut self, piece: Piece) -> usize {
        self.filled.pieces.push(piece);
        self.filled.pieces.len() - 1
    }

    /// Adds a record to a piece. `now` is asked for the first record only.
    pub(crate) fn add(&mut self, record: &Incoming<'_>, piece: usize, clock: WriteClock, write_ts: i64, now: impl FnOnce() -> Instant) {
        if self.since.is_none() {
            self.since = Some(now());
            self.filled.raw.arena.reserve(self.before.0);
            self.filled.raw.records.reserve(self.before.1);
        }
        let filled = &mut self.filled;
        let &Incoming { partition, offset, timestamp_ms, key, value, headers } = record;
        filled.raw.push(&NewRecord { partition, offset, timestamp_ms: timestamp_ms.unwrap_or(0), write_ts, key, value, headers });
        filled.weight += record.weight();
        let piece = &mut filled.pieces[piece];
        piece.range.to = record.offset + 1;
        piece.clock = clock;
        piece.unkeyed += u64::from(record.key.is_none());
    }

    /// Takes what there is, in vectors that hold little more, since the budget counts what is in them; none when there is nothing.
    pub(crate) fn cut(&mut self) -> Option<(Filled, Instant)> {
        let since = self.since.take()?;
        let mut filled = std::mem::take(&mut self.filled);
        fit(&mut filled.raw.arena);
        fit(&mut filled.raw.records);
        self.before = (filled.raw.arena.len(), filled.raw.records.len());
        Some((filled, since))
    }
}

/// Gives back what is more than an eighth too much.
fn fit<T>(vector: &mut Vec<T>) {
    if vector.capacity() - vector.len() > vector.len() / 8 {
        vector.shrink_to_fit();
    }
}
