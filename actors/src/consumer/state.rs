//! The consumer's pure state: positions, in-flight ranges, the contiguous written offset of each
//! partition, and when to commit or pause.
//!
//! Guarantees, in whatever order batches settle and partitions come and go:
//! * [`State::to_commit`] never names an offset past an unsettled record, or one lower than was
//!   committed under the same assignment.
//! * When everything is settled, it names the end of what was read. That end may lie behind offsets
//!   that no consumer is given, such as transaction markers, once [`State::reach_end`] reports
//!   them. The write clock advances past them, too.
//! * A batch that settles after its partition was revoked changes nothing: each assignment is a
//!   generation of its own.
//! * A record is accepted once in an assignment: one below the position is a duplicate.
//!
//! Does not guarantee that offsets are consecutive: a topic with compaction or transactions has
//! gaps.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use forebay_dataplane::commit_metadata::CommitMetadata;
use forebay_dataplane::write_clock::{Lane, WriteClock};
use forebay_kernel::{Backoff, Retry};
use forebay_schemas::offset::{Checkpoint, Epoch, Offset, Partition, Range, Ranges, WriteTimestamp};
use forebay_schemas::run::RunWritten;
use forebay_schemas::topic_id::TopicId;

use super::batch_builder::{BatchBuilder, BatchContents, Incoming, Limits, PartitionSlice};

/// The number of batches that may be in flight. One more is sealed when partitions are revoked in
/// the middle of a batch.
pub(crate) const MAX_IN_FLIGHT: usize = 64;
/// How long a record waits for budget before the partitions are paused. So long a wait without
/// polling is harmless, and a pause discards what was fetched ahead.
pub(crate) const BUDGET_WAIT_TIMEOUT: Duration = Duration::from_millis(250);
/// The shortest time between two commits while batches are in flight.
const COMMIT_INTERVAL: Duration = Duration::from_millis(200);
/// The shortest time between two commits while none is: the end is committed soon, and a slow
/// stream of records not one by one.
const IDLE_COMMIT_INTERVAL: Duration = Duration::from_millis(20);
/// Delays after failed commits.
const COMMIT_BACKOFF: Backoff = Backoff { min: COMMIT_INTERVAL, max: Duration::from_secs(5) };

/// Whether a polled record is accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Admission {
    Accept,
    /// Its partition is not assigned.
    Unassigned,
    /// It was accepted before.
    Duplicate,
}

/// A commit of one partition: everything before the checkpoint is settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Commit {
    pub(crate) partition: Partition,
    pub(crate) checkpoint: Checkpoint,
    /// The topic that it belongs to; `None` where the broker has no topic ids.
    pub(crate) topic: Option<TopicId>,
}

impl Commit {
    pub(crate) fn metadata(&self) -> String {
        CommitMetadata::new(&self.checkpoint, self.topic).to_string()
    }
}

/// A batch that is in flight from now on.
#[derive(Debug)]
pub(crate) struct SealedBatch {
    pub(crate) id: u64,
    pub(crate) contents: BatchContents,
    pub(crate) ranges: Ranges,
    /// When its first record was added.
    pub(crate) since: Instant,
}

/// What a settled batch changes.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Settled {
    pub(crate) records: u64,
    /// The new checkpoint of each partition whose contiguous written offset advanced.
    pub(crate) advanced: Vec<(Partition, Checkpoint)>,
    /// The counts of the runs whose records those checkpoints have passed, one for each run.
    pub(crate) runs: Vec<RunWritten>,
}

/// An assigned partition.
#[derive(Debug)]
struct PartitionState {
    generation: u64,
    /// The epoch of the commits that this assignment continues.
    epoch: Epoch,
    /// The offset after the last accepted record, or a later one that is known to be the end.
    position: Offset,
    lane: Lane,
    clock: WriteClock,
    /// The number of implausible timestamps under this assignment.
    clamped: u64,
    /// The index of its slice of the batch being filled.
    slice: Option<usize>,
    /// Its slices in flight, in order.
    in_flight: VecDeque<PartitionProgress>,
    written: Offset,
    written_clock: WriteClock,
    /// The highest offset that Kafka has confirmed, or the start: no commit is needed below it.
    confirmed: Offset,
    /// The highest offset that a commit was requested for.
    requested: Offset,
}

/// The slice of one partition in a batch in flight.
#[derive(Debug)]
struct PartitionProgress {
    batch: u64,
    to: Offset,
    /// The timestamp of the first record, where the topic has timestamps.
    first_ms: Option<i64>,
    clock: WriteClock,
    settled: bool,
    /// The counts of runs, once it is settled. They are reported when the written offset passes the
    /// slice, so that a start that reads it again counts it once.
    runs: Vec<RunWritten>,
}

#[derive(Debug)]
struct InFlightBatch {
    id: u64,
    records: u64,
    /// Its partitions, and the generation of each.
    slices: Vec<(Partition, u64)>,
}

/// The state of one incarnation.
#[derive(Debug)]
pub(crate) struct State {
    partitions: BTreeMap<Partition, PartitionState>,
    topic: Option<TopicId>,
    generation: u64,
    builder: BatchBuilder,
    in_flight: VecDeque<InFlightBatch>,
    last_id: u64,
}

impl State {
    pub(crate) fn new(limits: Limits) -> Self {
        let builder = BatchBuilder::new(limits);
        Self { partitions: BTreeMap::new(), topic: None, generation: 0, builder, in_flight: VecDeque::new(), last_id: 0 }
    }

    pub(crate) fn builder(&self) -> &BatchBuilder {
        &self.builder
    }

    /// Returns the number of batches in flight.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Returns the assigned partitions, in order.
    pub(crate) fn assigned(&self) -> impl Iterator<Item = Partition> + '_ {
        self.partitions.keys().copied()
    }

    pub(crate) fn is_assigned(&self, partition: Partition) -> bool {
        self.partitions.contains_key(&partition)
    }

    /// Sets the id of the topic that is read.
    pub(crate) fn set_topic(&mut self, topic: Option<TopicId>) {
        self.topic = topic;
    }

    pub(crate) fn topic(&self) -> Option<TopicId> {
        self.topic
    }

    /// Assigns a partition that is read from `start`; Kafka has confirmed the offset `confirmed`.
    pub(crate) fn assign(&mut self, partition: Partition, start: Checkpoint, confirmed: Offset) {
        self.generation += 1;
        let clock = WriteClock::from_micros(start.write_clock.micros()).unwrap_or_default();
        let state = PartitionState {
            generation: self.generation,
            epoch: start.epoch,
            position: start.offset,
            lane: Lane::of(partition),
            clock,
            clamped: 0,
            slice: None,
            in_flight: VecDeque::new(),
            written: start.offset,
            written_clock: clock,
            confirmed,
            requested: confirmed,
        };
        self.partitions.insert(partition, state);
    }

    /// Revokes partitions. The caller seals the batch first when it holds records of them.
    pub(crate) fn revoke(&mut self, partitions: &[Partition]) {
        debug_assert!(!self.has_pending(partitions), "a batch is sealed before its partitions are revoked");
        for partition in partitions {
            self.partitions.remove(partition);
        }
    }

    /// Returns whether the batch being filled holds records of any of `partitions`.
    pub(crate) fn has_pending(&self, partitions: &[Partition]) -> bool {
        self.builder.slices().iter().any(|slice| partitions.contains(&slice.partition))
    }

    /// Returns whether batches in flight hold records of any of `partitions`.
    pub(crate) fn has_in_flight(&self, partitions: &[Partition]) -> bool {
        partitions.iter().any(|partition| self.partitions.get(partition).is_some_and(|state| !state.in_flight.is_empty()))
    }

    /// Returns whether the record at `offset` is accepted.
    pub(crate) fn admission(&self, partition: Partition, offset: Offset) -> Admission {
        match self.partitions.get(&partition) {
            None => Admission::Unassigned,
            Some(state) if offset < state.position => Admission::Duplicate,
            Some(_) => Admission::Accept,
        }
    }

    /// Adds an accepted record to the batch. `now` is called for the first record of a batch only.
    ///
    /// When the record's timestamp is implausible, it returns how many were so in the partition
    /// under this assignment.
    pub(crate) fn accept(&mut self, record: &Incoming<'_>, now: impl FnOnce() -> Instant) -> Option<u64> {
        let state = self.partitions.get_mut(&record.partition)?;
        let slice = *state.slice.get_or_insert_with(|| {
            let range = Range { from: state.position, to: state.position };
            let (partition, first_ms) = (record.partition, record.timestamp_ms);
            let slice = PartitionSlice { partition, generation: state.generation, range, first_ms, clock: state.clock, unkeyed: 0 };
            self.builder.start_slice(slice)
        });
        state.clock.skip(state.lane, record.offset - state.position);
        let tick = state.clock.advance(state.lane, record.timestamp_ms);
        state.position = record.offset + 1;
        state.clamped += u64::from(tick.clamped);
        self.builder.add(record, slice, state.clock, tick.write_ts, now);
        tick.clamped.then_some(state.clamped)
    }

    /// Seals the batch, which is in flight from then on; `None` when it is empty.
    pub(crate) fn seal(&mut self) -> Option<SealedBatch> {
        let (contents, since) = self.builder.seal()?;
        self.last_id += 1;
        let id = self.last_id;
        let mut ranges = Ranges::default();
        for slice in &contents.slices {
            ranges.add(slice.partition, slice.range);
            let state = self.partitions.get_mut(&slice.partition).filter(|state| state.generation == slice.generation);
            if let Some(state) = state {
                state.slice = None;
                let PartitionSlice { range, first_ms, clock, .. } = *slice;
                state.in_flight.push_back(PartitionProgress { batch: id, to: range.to, first_ms, clock, settled: false, runs: Vec::new() });
            }
        }
        let slices = contents.slices.iter().map(|slice| (slice.partition, slice.generation)).collect();
        self.in_flight.push_back(InFlightBatch { id, records: contents.raw.records.len() as u64, slices });
        Some(SealedBatch { id, contents, ranges, since })
    }

    /// Settles a batch. `run_counts` are the counts of its runs.
    ///
    /// Its slices of partitions that were revoked since, or assigned again, are ignored.
    pub(crate) fn settle(&mut self, id: u64, mut run_counts: Vec<(Partition, RunWritten)>) -> Settled {
        let Some(batch) = self.in_flight.iter().position(|batch| batch.id == id).and_then(|at| self.in_flight.remove(at)) else {
            return Settled::default();
        };
        let mut advanced = Vec::with_capacity(batch.slices.len());
        let mut runs: Vec<RunWritten> = Vec::new();
        for (partition, generation) in batch.slices {
            let Some(state) = self.partitions.get_mut(&partition).filter(|state| state.generation == generation) else { continue };
            if let Some(slice) = state.in_flight.iter_mut().find(|slice| slice.batch == id) {
                slice.settled = true;
                slice.runs.extend(run_counts.extract_if(.., |(of, _)| *of == partition).map(|(_, counts)| counts));
            }
            let before = state.written;
            while let Some(slice) = state.in_flight.pop_front_if(|slice| slice.settled) {
                (state.written, state.written_clock) = (slice.to, slice.clock);
                for counts in slice.runs {
                    match runs.iter_mut().find(|known| known.run == counts.run) {
                        Some(known) => known.merge(&counts),
                        None => runs.push(counts),
                    }
                }
            }
            state.catch_up();
            if state.written > before {
                advanced.push((partition, state.checkpoint()));
            }
        }
        Settled { records: batch.records, advanced, runs }
    }

    /// The partition has no more records before `offset` than those already polled. Returns the new
    /// checkpoint when that advances it.
    pub(crate) fn reach_end(&mut self, partition: Partition, offset: Offset) -> Option<Checkpoint> {
        let state = self.partitions.get_mut(&partition)?;
        if state.position < offset {
            state.clock.skip(state.lane, offset - state.position);
            state.position = offset;
        }
        state.catch_up().then(|| state.checkpoint())
    }

    /// Returns the timestamp of the oldest unwritten record of a partition, if there is one and it
    /// has a timestamp.
    pub(crate) fn oldest_unwritten(&self, partition: Partition) -> Option<i64> {
        let state = self.partitions.get(&partition)?;
        match (state.in_flight.front(), state.slice) {
            (Some(slice), _) => slice.first_ms,
            (None, Some(slice)) => self.builder.slices()[slice].first_ms,
            (None, None) => None,
        }
    }

    /// Returns the largest write timestamp of any record of an assigned partition; 0 when there is
    /// none.
    pub(crate) fn latest_clock(&self) -> WriteTimestamp {
        WriteTimestamp::from_micros(self.partitions.values().map(|state| state.clock.micros()).max().unwrap_or(0))
    }

    /// Returns the checkpoint up to which an assigned partition is written.
    pub(crate) fn written(&self, partition: Partition) -> Option<Checkpoint> {
        self.partitions.get(&partition).map(PartitionState::checkpoint)
    }

    /// Returns what is written, and no commit was requested for.
    pub(crate) fn to_commit(&self) -> Vec<Commit> {
        let due = self.partitions.iter().filter(|(_, state)| state.written > state.requested);
        due.map(|(&partition, state)| Commit { partition, checkpoint: state.checkpoint(), topic: self.topic }).collect()
    }

    /// Returns what is written of `partitions` and Kafka has not confirmed, for a last commit
    /// before they are revoked.
    pub(crate) fn unconfirmed(&self, partitions: &[Partition]) -> Vec<Commit> {
        let states = partitions.iter().filter_map(|partition| self.partitions.get(partition).map(|state| (*partition, state)));
        states
            .filter(|(_, state)| state.written > state.confirmed)
            .map(|(partition, state)| Commit { partition, checkpoint: state.checkpoint(), topic: self.topic })
            .collect()
    }

    /// The commits were requested.
    pub(crate) fn commit_requested(&mut self, commits: &[Commit]) {
        for commit in commits {
            if let Some(state) = self.partitions.get_mut(&commit.partition) {
                state.requested = state.requested.max(commit.checkpoint.offset);
            }
        }
    }

    /// Kafka confirmed a commit.
    pub(crate) fn commit_confirmed(&mut self, partition: Partition, offset: Offset) {
        if let Some(state) = self.partitions.get_mut(&partition) {
            // A late result of an earlier assignment may name more than this one has requested.
            state.confirmed = state.confirmed.max(offset.min(state.requested));
        }
    }

    /// A commit failed: what is not confirmed is requested again.
    pub(crate) fn commit_failed(&mut self) {
        for state in self.partitions.values_mut() {
            state.requested = state.confirmed;
        }
    }
}

impl PartitionState {
    fn checkpoint(&self) -> Checkpoint {
        Checkpoint { offset: self.written, write_clock: WriteTimestamp::from_micros(self.written_clock.micros()), epoch: self.epoch }
    }

    /// Advances the written offset to the position when everything accepted is settled. Returns
    /// whether it advanced.
    fn catch_up(&mut self) -> bool {
        let advances = self.in_flight.is_empty() && self.slice.is_none() && self.written < self.position;
        if advances {
            (self.written, self.written_clock) = (self.position, self.clock);
        }
        advances
    }
}

/// When to commit: one commit at a time, not too often, and later when commits fail.
#[derive(Debug)]
pub(crate) struct CommitSchedule {
    outstanding: bool,
    last: Option<Instant>,
    retry: Retry,
    not_before: Option<Instant>,
}

impl Default for CommitSchedule {
    fn default() -> Self {
        Self { outstanding: false, last: None, retry: Retry::new(COMMIT_BACKOFF), not_before: None }
    }
}

impl CommitSchedule {
    /// Returns whether a commit may be requested now; `idle` when nothing is in flight.
    pub(crate) fn is_due(&self, now: Instant, idle: bool) -> bool {
        let interval = if idle { IDLE_COMMIT_INTERVAL } else { COMMIT_INTERVAL };
        let has_elapsed = self.last.is_none_or(|last| now.saturating_duration_since(last) >= interval);
        !self.outstanding && has_elapsed && self.not_before.is_none_or(|at| now >= at)
    }

    /// Returns whether a commit has no result yet.
    pub(crate) fn is_outstanding(&self) -> bool {
        self.outstanding
    }

    pub(crate) fn requested(&mut self, now: Instant) {
        self.outstanding = true;
        self.last = Some(now);
    }

    pub(crate) fn confirmed(&mut self) {
        *self = Self { last: self.last, ..Self::default() };
    }

    pub(crate) fn failed(&mut self, now: Instant, jitter: f64) {
        self.outstanding = false;
        self.not_before = Some(now + self.retry.failed(jitter));
    }
}

/// Returns the budget that must be free before paused partitions are resumed for a record of
/// `weight`: a quarter, so that they are not paused again at once.
pub(crate) fn bytes_to_resume(capacity: usize, weight: usize) -> usize {
    (capacity / 4).max(weight)
}
