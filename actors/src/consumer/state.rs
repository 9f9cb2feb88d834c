//! What the consumer knows and decides, without Kafka: positions, ranges in flight, the contiguous written end of each partition, what may be
//! committed and when, when to pause.
//!
//! Pure. Guarantees, whatever the order in which batches settle and partitions come and go:
//! * What [`State::to_commit`] names is never past a record that is not settled, never lower than what was committed under the same
//!   assignment, and is the end of what was read when everything is settled: also where that ends in offsets that no consumer is given, such as
//!   the markers of transactions, once [`State::ends_at`] has them. The write clock is of the last record all the same.
//! * What settles after its partition was taken away changes nothing: each assignment is a generation of its own.
//! * A record is taken once in an assignment: one below the position is refused.
//!
//! Not guaranteed: that a record above the position is the next one there is; a compacted topic, or one with transactions, has gaps.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use forebay_schemas::offset::{Checkpoint, Epoch, Offset, Partition, Range, Ranges, WriteTimestamp};
use forebay_schemas::run::RunWritten;
use forebay_schemas::topic::TopicId;

use super::batch_builder::{Filled, Forming, Incoming, Limits, Piece};
use forebay_dataplane::write_clock::{Lane, WriteClock};
use forebay_kernel::Backoff;

/// Batches in flight, at most; one more when partitions are taken away in the middle of a batch.
pub(crate) const MOST_IN_FLIGHT: usize = 64;
/// How long a record may wait for budget before partitions are paused: harmless without polling, and a pause throws away what was fetched ahead.
pub(crate) const PATIENCE: Duration = Duration::from_millis(250);
/// The least time between two commits while batches are in flight.
const COMMIT_EVERY: Duration = Duration::from_millis(200);
/// The least time between two commits when nothing is: an end is committed soon, and a slow stream of single records not one by one.
const COMMIT_EVERY_IDLE: Duration = Duration::from_millis(20);
/// Delays after commits that failed.
const COMMIT_BACKOFF: Backoff = Backoff { min: COMMIT_EVERY, max: Duration::from_secs(5) };

/// What is to become of a record that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It is the next one.
    Take,
    /// Its partition is not assigned any more.
    Foreign,
    /// It was taken already.
    Repeated,
}

/// What to commit of a partition: all before the place is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Commit {
    pub(crate) partition: Partition,
    pub(crate) checkpoint: Checkpoint,
    /// The topic that it is of; none where the broker gives no ids.
    pub(crate) topic: Option<TopicId>,
}

/// A batch that was cut and is in flight now.
#[derive(Debug)]
pub(crate) struct Cut {
    pub(crate) id: u64,
    pub(crate) filled: Filled,
    pub(crate) ranges: Ranges,
    /// When its first record came.
    pub(crate) since: Instant,
}

/// What came of a batch that settled.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Settled {
    pub(crate) records: u64,
    /// The new contiguous written end of each partition whose end moved.
    pub(crate) moved: Vec<(Partition, Checkpoint)>,
    /// What became of the records of runs which those ends have passed, one each run.
    pub(crate) runs: Vec<RunWritten>,
}

/// One assigned partition.
#[derive(Debug)]
struct Track {
    generation: u64,
    /// The epoch of the group's commits that this assignment goes on.
    epoch: Epoch,
    /// The offset after the last record taken, or a later one that is known to be the end.
    position: Offset,
    lane: Lane,
    clock: WriteClock,
    /// How many timestamps were not believed under this assignment.
    clamped: u64,
    /// Its piece of the forming batch.
    piece: Option<usize>,
    /// Its pieces in flight, in order.
    flying: VecDeque<Leg>,
    written: Offset,
    written_clock: WriteClock,
    /// The highest end Kafka has confirmed, or the start: below it nothing need be committed.
    confirmed: Offset,
    /// The highest end Kafka was asked to commit.
    asked: Offset,
}

#[derive(Debug)]
struct Leg {
    batch: u64,
    to: Offset,
    /// The timestamp of its first record, if the topic keeps any.
    first_ms: Option<i64>,
    clock: WriteClock,
    settled: bool,
    /// What became of the records of runs in it, once it is settled. Told when the written end passes it, so that a start that reads it again
    /// counts it once.
    runs: Vec<RunWritten>,
}

#[derive(Debug)]
struct Flight {
    id: u64,
    records: u64,
    legs: Vec<(Partition, u64)>,
}

/// What the consumer knows.
#[derive(Debug)]
pub(crate) struct State {
    tracks: BTreeMap<Partition, Track>,
    topic: Option<TopicId>,
    generation: u64,
    forming: Forming,
    flights: VecDeque<Flight>,
    last_id: u64,
}

impl State {
    pub(crate) fn new(limits: Limits) -> Self {
        Self { tracks: BTreeMap::new(), topic: None, generation: 0, forming: Forming::new(limits), flights: VecDeque::new(), last_id: 0 }
    }

    pub(crate) fn forming(&self) -> &Forming {
        &self.forming
    }

    /// How many batches are in flight.
    pub(crate) fn in_flight(&self) -> usize {
        self.flights.len()
    }

    /// The assigned partitions, in order.
    pub(crate) fn assigned(&self) -> impl Iterator<Item = Partition> + '_ {
        self.tracks.keys().copied()
    }

    pub(crate) fn is_assigned(&self, partition: Partition) -> bool {
        self.tracks.contains_key(&partition)
    }

    /// All that is read is of the topic of that id.
    pub(crate) fn reads(&mut self, topic: Option<TopicId>) {
        self.topic = topic;
    }

    /// The topic that is read.
    pub(crate) fn topic(&self) -> Option<TopicId> {
        self.topic
    }

    /// A partition is assigned to this consumer, and read from a place on, of which Kafka has `confirmed` so much.
    pub(crate) fn assign(&mut self, partition: Partition, start: Checkpoint, confirmed: Offset) {
        self.generation += 1;
        let clock = WriteClock::from_micros(start.write_clock.micros()).unwrap_or_default();
        let track = Track {
            generation: self.generation,
            epoch: start.epoch,
            position: start.offset,
            lane: Lane::of(partition),
            clock,
            clamped: 0,
            piece: None,
            flying: VecDeque::new(),
            written: start.offset,
            written_clock: clock,
            confirmed,
            asked: confirmed,
        };
        self.tracks.insert(partition, track);
    }

    /// Partitions are taken away. The forming batch must not hold any of them: cut it first.
    pub(crate) fn revoke(&mut self, partitions: &[Partition]) {
        debug_assert!(!self.forms_of(partitions), "a batch is cut before its partitions go");
        for partition in partitions {
            self.tracks.remove(partition);
        }
    }

    /// Whether the forming batch holds records of any of `partitions`.
    pub(crate) fn forms_of(&self, partitions: &[Partition]) -> bool {
        self.forming.pieces().iter().any(|piece| partitions.contains(&piece.partition))
    }

    /// Whether batches in flight hold records of any of `partitions`.
    pub(crate) fn flies_of(&self, partitions: &[Partition]) -> bool {
        partitions.iter().any(|partition| self.tracks.get(partition).is_some_and(|track| !track.flying.is_empty()))
    }

    /// What is to become of the record at `offset`.
    pub(crate) fn fate(&self, partition: Partition, offset: Offset) -> Fate {
        match self.tracks.get(&partition) {
            None => Fate::Foreign,
            Some(track) if offset < track.position => Fate::Repeated,
            Some(_) => Fate::Take,
        }
    }

    /// Adds a record whose fate is to be taken to the forming batch. `now` is asked for the batch's first record only. When the record's
    /// timestamp is not believed, gives how many were not in its partition under this assignment.
    pub(crate) fn take(&mut self, record: &Incoming<'_>, now: impl FnOnce() -> Instant) -> Option<u64> {
        let track = self.tracks.get_mut(&record.partition)?;
        let piece = *track.piece.get_or_insert_with(|| {
            let range = Range { from: track.position, to: track.position };
            let (partition, first_ms) = (record.partition, record.timestamp_ms);
            self.forming.start_piece(Piece { partition, generation: track.generation, range, first_ms, clock: track.clock, unkeyed: 0 })
        });
        let tick = track.clock.advance(track.lane, record.timestamp_ms);
        track.position = record.offset + 1;
        track.clamped += u64::from(tick.clamped);
        self.forming.add(record, piece, track.clock, tick.write_ts, now);
        tick.clamped.then_some(track.clamped)
    }

    /// Cuts the forming batch, if it holds anything; from then on it is in flight.
    pub(crate) fn cut(&mut self) -> Option<Cut> {
        let (filled, since) = self.forming.cut()?;
        self.last_id += 1;
        let id = self.last_id;
        let mut ranges = Ranges::default();
        for piece in &filled.pieces {
            ranges.add(piece.partition, piece.range);
            let track = self.tracks.get_mut(&piece.partition).filter(|track| track.generation == piece.generation);
            if let Some(track) = track {
                track.piece = None;
                let Piece { range, first_ms, clock, .. } = *piece;
                track.flying.push_back(Leg { batch: id, to: range.to, first_ms, clock, settled: false, runs: Vec::new() });
            }
        }
        let legs = filled.pieces.iter().map(|piece| (piece.partition, piece.generation)).collect();
        self.flights.push_back(Flight { id, records: filled.raw.records.len() as u64, legs });
        Some(Cut { id, filled, ranges, since })
    }

    /// A batch is done, and of the records of runs in it became this. What it held of partitions that are gone, or came back since, is ignored.
    pub(crate) fn settled(&mut self, id: u64, mut of_runs: Vec<(Partition, RunWritten)>) -> Settled {
        let Some(flight) = self.flights.iter().position(|flight| flight.id == id).and_then(|at| self.flights.remove(at)) else {
            return Settled::default();
        };
        let mut moved = Vec::with_capacity(flight.legs.len());
        let mut runs: Vec<RunWritten> = Vec::new();
        for (partition, generation) in flight.legs {
            let Some(track) = self.tracks.get_mut(&partition).filter(|track| track.generation == generation) else { continue };
            if let Some(leg) = track.flying.iter_mut().find(|leg| leg.batch == id) {
                leg.settled = true;
                leg.runs.extend(of_runs.extract_if(.., |(of, _)| *of == partition).map(|(_, of_run)| of_run));
            }
            let before = track.written;
            while let Some(leg) = track.flying.pop_front_if(|leg| leg.settled) {
                (track.written, track.written_clock) = (leg.to, leg.clock);
                for of_run in leg.runs {
                    match runs.iter_mut().find(|known| known.run == of_run.run) {
                        Some(known) => known.merge(&of_run),
                        None => runs.push(of_run),
                    }
                }
            }
            track.catch_up();
            if track.written > before {
                moved.push((partition, track.checkpoint()));
            }
        }
        Settled { records: flight.records, moved, runs }
    }

    /// Every record of a partition before `offset` was given to [`State::fate`], and there are no more for now. Gives the written end, when that moved
    /// by it.
    pub(crate) fn ends_at(&mut self, partition: Partition, offset: Offset) -> Option<Checkpoint> {
        let track = self.tracks.get_mut(&partition)?;
        track.position = track.position.max(offset);
        track.catch_up().then(|| track.checkpoint())
    }

    /// The timestamp of the oldest record of a partition that was read and is not written, if there is one and it has any.
    pub(crate) fn oldest_unwritten(&self, partition: Partition) -> Option<i64> {
        let track = self.tracks.get(&partition)?;
        match (track.flying.front(), track.piece) {
            (Some(leg), _) => leg.first_ms,
            (None, Some(piece)) => self.forming.pieces()[piece].first_ms,
            (None, None) => None,
        }
    }

    /// The largest write timestamp that a record of an assigned partition was given, microseconds; 0 when none was.
    pub(crate) fn latest_clock(&self) -> i64 {
        self.tracks.values().map(|track| track.clock.micros()).max().unwrap_or(0)
    }

    /// Up to where an assigned partition is written.
    pub(crate) fn written(&self, partition: Partition) -> Option<Checkpoint> {
        self.tracks.get(&partition).map(Track::checkpoint)
    }

    /// What is written and Kafka was not yet asked to commit.
    pub(crate) fn to_commit(&self) -> Vec<Commit> {
        let due = self.tracks.iter().filter(|(_, track)| track.written > track.asked);
        due.map(|(&partition, track)| Commit { partition, checkpoint: track.checkpoint(), topic: self.topic }).collect()
    }

    /// What is written of `partitions` and Kafka has not confirmed, for a last commit before they go.
    pub(crate) fn unconfirmed(&self, partitions: &[Partition]) -> Vec<Commit> {
        let tracks = partitions.iter().filter_map(|partition| self.tracks.get(partition).map(|track| (*partition, track)));
        tracks
            .filter(|(_, track)| track.written > track.confirmed)
            .map(|(partition, track)| Commit { partition, checkpoint: track.checkpoint(), topic: self.topic })
            .collect()
    }

    /// Kafka is asked for these commits.
    pub(crate) fn asked(&mut self, commits: &[Commit]) {
        for commit in commits {
            if let Some(track) = self.tracks.get_mut(&commit.partition) {
                track.asked = track.asked.max(commit.checkpoint.offset);
            }
        }
    }

    /// Kafka has confirmed a commit.
    pub(crate) fn confirmed(&mut self, partition: Partition, offset: Offset) {
        if let Some(track) = self.tracks.get_mut(&partition) {
            // A late answer to a commit of an earlier assignment may name more than this one has asked for.
            track.confirmed = track.confirmed.max(offset.min(track.asked));
        }
    }

    /// A commit failed: what is not confirmed is to be asked for again.
    pub(crate) fn refused(&mut self) {
        for track in self.tracks.values_mut() {
            track.asked = track.confirmed;
        }
    }
}

impl Track {
    fn checkpoint(&self) -> Checkpoint {
        Checkpoint { offset: self.written, write_clock: WriteTimestamp::from_micros(self.written_clock.micros()), epoch: self.epoch }
    }

    /// Where all that was taken is settled, the position is the written end. True when that moved it.
    fn catch_up(&mut self) -> bool {
        let moves = self.flying.is_empty() && self.piece.is_none() && self.written < self.position;
        if moves {
            self.written = self.position;
        }
        moves
    }
}

/// When to commit: one at a time, not too often, later when commits fail.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    outstanding: bool,
    last: Option<Instant>,
    failures: u32,
    not_before: Option<Instant>,
}

impl Pace {
    /// Whether a commit may be made now; `idle` when nothing is in flight.
    pub(crate) fn is_due(&self, now: Instant, idle: bool) -> bool {
        let every = if idle { COMMIT_EVERY_IDLE } else { COMMIT_EVERY };
        let rested = self.last.is_none_or(|last| now.saturating_duration_since(last) >= every);
        !self.outstanding && rested && self.not_before.is_none_or(|at| now >= at)
    }

    /// Whether a commit is on its way.
    pub(crate) fn is_outstanding(&self) -> bool {
        self.outstanding
    }

    /// A commit is on its way.
    pub(crate) fn sent(&mut self, now: Instant) {
        self.outstanding = true;
        self.last = Some(now);
    }

    /// The commit was confirmed.
    pub(crate) fn confirmed(&mut self) {
        *self = Self { last: self.last, ..Self::default() };
    }

    /// The commit failed.
    pub(crate) fn failed(&mut self, now: Instant, jitter: f64) {
        self.outstanding = false;
        self.not_before = Some(now + COMMIT_BACKOFF.delay(self.failures, jitter));
        self.failures = self.failures.saturating_add(1);
    }
}

/// How much budget must be free before paused partitions are resumed for a record of `weight`: a quarter, so that they are not paused
/// again at once.
pub(crate) fn to_resume(capacity: usize, weight: usize) -> usize {
    (capacity / 4).max(weight)
}
