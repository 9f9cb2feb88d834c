//! The egress of a process: the consumer, the transformer and the writer, with a minimal shell
//! around their states.

use std::collections::BTreeMap;
use std::time::SystemTime;

use forebay_schemas::event::{Event, Start};
use forebay_schemas::offset::{Checkpoint, Epoch, Offset, Partition, Ranges, WriteTimestamp};
use forebay_schemas::pipeline::{BatchSection, Bytes};
use forebay_schemas::run::RunWritten;
use rand::Rng;
use rand::seq::SliceRandom;
use uuid::Uuid;

use super::Fault;
use super::api::Content;
use super::broker::{At, Stored};
use super::invariants::{self, Checked, Invariant, Violation, violation};
use super::process::{Live, Process};
use super::store::Write;
use super::world::{CommitRequest, Env};
use crate::consumer::batch_builder::{Incoming, Limits};
use crate::consumer::offset_reset::{OffsetReset, PartitionReset, ResetBasis, offset_reset, reset_target};
use crate::consumer::start_offset::{ResolvedStart, resolve_start};
use crate::consumer::state::{Admission, Commit, CommitSchedule, MAX_IN_FLIGHT, State as Consumer};
use crate::ledger::Command;
use crate::writer::state::WriteQueue;
use forebay_dataplane::commit_metadata::{CommitMetadata, largest_clock};

/// A batch in flight.
#[derive(Debug)]
pub(super) struct Batch {
    id: u64,
    ranges: Ranges,
    /// The writes that are not acknowledged yet.
    left: Vec<Write>,
    rows: u64,
    rejected: u64,
    attempts: u64,
    /// The run of each record, and whether the record is a dead letter.
    of_runs: Vec<(Partition, Uuid, bool)>,
    pub(super) stage: Stage,
}

/// The stage of a batch in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Raw,
    Waiting,
    UnderWay,
}

pub(super) fn new_consumer(env: &Env) -> Consumer {
    let table = BatchSection { max_records: env.scenario.max_records, max_bytes: Bytes(1 << 16), ..Default::default() };
    Consumer::new(Limits::new(&table))
}

impl Process {
    /// Assigns partitions, as in `Loop::assigned` and `Client::resolve_starts`.
    pub(super) fn assigned(&mut self, who: usize, env: &mut Env, partitions: &[Partition]) -> Checked {
        self.observe_topic(who, env)?;
        let live = self.live();
        if live.consumer.assigned().next().is_none() {
            live.begun_with = live.recreations;
        } else if live.begun_with != live.recreations {
            // This incarnation ends, and the next one is assigned them again.
            return Ok(());
        }
        let topic = (!env.has(Fault::IgnoreTopicId)).then(|| env.broker.topic_id());
        live.consumer.set_topic(topic);
        let known = live.ledger.checkpoints();
        // As in `Client::resolve_starts`.
        let largest = largest_clock(env.broker.metadata(), &known).max(live.consumer.latest_clock());
        let largest = if env.has(Fault::NewPartitionClockZero) { WriteTimestamp::default() } else { largest };
        let mut starts = BTreeMap::new();
        for &partition in partitions {
            let log = env.broker.log(partition);
            let (start_offset, end_offset, committed) = (log.begin(), log.readable(), env.broker.committed(partition));
            let fresh = Epoch::new(env.rng.random());
            let known = known.get(&partition).copied();
            let found = match resolve_start(committed, known, (start_offset, end_offset), topic, fresh, largest) {
                Ok(found) => found,
                Err(out) => {
                    return violation(Invariant::Liveness, || {
                        format!("[{partition}] has no start: {out:?}, of {start_offset}..{end_offset}")
                    });
                }
            };
            let ResolvedStart { mut start, committed } = self.as_the_fault_has_it(env, found, known);
            if committed.is_none() {
                env.broker.commit(partition, start.checkpoint, CommitMetadata::new(&start.checkpoint, topic).to_string())?;
            }
            if env.has(Fault::ForgetClock) {
                start.checkpoint.write_clock = WriteTimestamp::default();
            }
            env.note(|| format!("  [{partition}] starts at {start:?}"));
            let live = self.live();
            live.consumer.assign(partition, start.checkpoint, committed.unwrap_or(start.checkpoint.offset));
            live.positions.insert(partition, start.checkpoint.offset);
            live.epochs.insert(partition, start.checkpoint.epoch);
            env.broker.owners[partition as usize] = Some(who);
            starts.insert(partition, start);
        }
        self.submit(who, env, Command::AssignPartitions { starts: starts.into_iter().collect() })
    }

    fn as_the_fault_has_it(&self, env: &Env, found: ResolvedStart, known: Option<Checkpoint>) -> ResolvedStart {
        match known {
            Some(checkpoint) if env.has(Fault::JournalWins) && checkpoint.offset > found.start.checkpoint.offset => {
                ResolvedStart { start: Start { checkpoint, ..found.start }, ..found }
            }
            _ => found,
        }
    }

    /// Polls some records, as in `Loop::read`.
    pub(super) fn poll(&mut self, env: &mut Env) {
        for _ in 0..env.rng.random_range(1..=env.scenario.burst) {
            let live = self.live.as_mut().expect("up");
            let count = live.positions.len().max(1);
            let skip = env.rng.random_range(0..count);
            let ready = |(&partition, &position): (&Partition, &Offset)| {
                next(env, partition, position).map(|(offset, stored)| (partition, offset, stored))
            };
            let Some((partition, offset, stored)) = live.positions.iter().cycle().skip(skip).take(count).find_map(ready) else { return };
            let key = stored.content.key.filter(|_| !stored.content.unkeyed).map(u16::to_be_bytes);
            let key = key.as_ref().map(<[u8; 2]>::as_slice);
            let value = stored.content.value();
            let record = Incoming { partition, offset, timestamp_ms: stored.stamp, key, value: Some(&value), headers: &[] };
            if !self.admit(env, &record) {
                return;
            }
            // Sometimes the client returns a record twice.
            let again = env.rng.random_ratio(1, 32);
            self.live().positions.insert(partition, if again { offset } else { offset + 1 });
        }
    }

    /// Kafka's client reports the end of a partition, as in `Client::poll` and `Loop::reach_ends`.
    pub(super) fn end(&mut self, env: &mut Env) {
        let Some((partition, end)) = self.live().reached_end(env) else { return };
        let live = self.live();
        live.positions.insert(partition, end);
        let written = live.consumer.reach_end(partition, end);
        env.note(|| format!("  [{partition}] ends at {end}: {written:?}"));
    }

    /// As in `Loop::admit`, with unlimited budget.
    fn admit(&mut self, env: &mut Env, record: &Incoming<'_>) -> bool {
        let live = self.live();
        if live.consumer.admission(record.partition, record.offset) != Admission::Accept {
            return true;
        }
        if !live.consumer.builder().fits(record) {
            self.send(env);
        }
        if self.live().consumer.in_flight() >= MAX_IN_FLIGHT && !env.has(Fault::UnboundedFlights) {
            self.send(env);
            return false;
        }
        let (now, topic) = (env.now(), env.broker.topic());
        // The client reads any topic of that name.
        self.live().read_from.insert((record.partition, record.offset), topic);
        let _ = self.live().consumer.accept(record, || now);
        if self.live().consumer.builder().is_full() {
            self.send(env);
        }
        true
    }

    /// Seals the batch and sends it, as in `Loop::send`.
    pub(super) fn send(&mut self, env: &mut Env) {
        let live = self.live();
        let Some(cut) = live.consumer.seal() else { return };
        let bytes = |at: &Option<std::ops::Range<u32>>| at.as_ref().map(|at| &cut.contents.raw.arena[at.start as usize..at.end as usize]);
        let writes = cut.contents.raw.records.iter().map(|record| {
            let content = Content::read(bytes(&record.key), bytes(&record.value).expect("a record has a value"));
            let epoch = live.epochs.get(&record.partition).copied().unwrap_or_default();
            let topic = live.read_from.remove(&(record.partition, record.offset)).unwrap_or_default();
            let at = At { topic, partition: record.partition, offset: record.offset };
            let key = content.key.unwrap_or_default();
            let ts = if env.has(Fault::TieAcrossPartitions) { record.write_ts & !15 } else { record.write_ts };
            Write { at, epoch, key, event: content.event, bad: content.bad, ts }
        });
        let left: Vec<_> = writes.collect();
        let of_run = |write: &Write| env.oracle.of_runs.get(&write.at).map(|&run| (write.at.partition, run, write.bad));
        let of_runs = left.iter().filter_map(of_run).collect();
        env.note(|| format!("  batch {} is sealed: {:?}", cut.id, cut.ranges.0));
        live.batches.push(Batch { id: cut.id, ranges: cut.ranges, left, rows: 0, rejected: 0, attempts: 0, of_runs, stage: Stage::Raw });
    }

    /// The transformer finishes a batch, and the writer starts it when it may.
    pub(super) fn transform(&mut self) {
        let live = self.live();
        if let Some(batch) = live.batches.iter_mut().find(|batch| batch.stage == Stage::Raw) {
            batch.stage = Stage::Waiting;
            live.queue.push(batch.id);
        }
        live.begin_writes();
    }

    /// Some writes of a batch reach the store, and some acknowledgements return.
    pub(super) fn write(&mut self, who: usize, env: &mut Env) -> Checked {
        let live = self.live.as_mut().expect("up");
        let under_way = || live.batches.iter().enumerate().filter(|(_, batch)| batch.stage == Stage::UnderWay).map(|(at, _)| at);
        let count = under_way().count();
        let Some(at) = (count > 0).then(|| env.rng.random_range(0..count)).and_then(|nth| under_way().nth(nth)) else { return Ok(()) };
        let batch = &mut live.batches[at];
        if env.has(Fault::SettleBeforeWrite) {
            env.late_writes.extend(batch.left.drain(..).map(|write| (who, write)));
        }
        batch.left.shuffle(&mut env.rng);
        for _ in 0..env.rng.random_range(0..=batch.left.len()) {
            let Some(&write) = batch.left.last() else { break };
            env.write(write)?;
            batch.attempts += u64::from(!write.bad);
            if env.faults_enabled && env.rng.random_ratio(1, 12) {
                // The acknowledgement is lost, so the row is written again.
                break;
            }
            batch.left.pop();
            if write.bad {
                batch.rejected += 1;
            } else {
                batch.rows += 1;
            }
        }
        if !batch.left.is_empty() {
            return Ok(());
        }
        let batch = live.batches.remove(at);
        live.queue.finish_one();
        live.begin_writes();
        self.settle(who, env, batch)
    }

    /// As in `Loop::settled`.
    fn settle(&mut self, who: usize, env: &mut Env, batch: Batch) -> Checked {
        let live = self.live();
        let of_runs = batch.of_runs.into_iter().filter(|(_, run, _)| live.ledger.runs.is_open(*run));
        let mut of_runs: Vec<_> = of_runs.map(|(partition, run, bad)| (partition, count_of(run, bad))).collect();
        let out_of_turn = if env.has(Fault::CountOutOfTurn) { std::mem::take(&mut of_runs) } else { Vec::new() };
        let mut settled = live.consumer.settle(batch.id, of_runs);
        settled.runs.extend(out_of_turn.into_iter().map(|(_, of_run)| of_run));
        let rows = if env.has(Fault::CountAttempts) { batch.attempts } else { batch.rows };
        live.acknowledged = (live.acknowledged.0 + batch.rows, live.acknowledged.1 + batch.rejected);
        live.counted = (live.counted.0 + rows, live.counted.1 + batch.rejected);
        let written = settled.advanced.into_iter().collect();
        let event = Event::BatchWritten {
            batch: batch.id,
            ranges: batch.ranges,
            rows,
            rejected: batch.rejected,
            wait_micros: 0,
            transform_micros: 0,
            write_micros: 0,
            written,
            runs: settled.runs,
        };
        self.apply(who, env, vec![event])?;
        invariants::metrics(self.live())
    }

    /// Returns what is to be committed now: of revoked partitions once they are drained, or of all
    /// partitions when it is due.
    pub(super) fn to_commit(&self, env: &Env) -> Vec<Commit> {
        let Some(live) = self.live.as_ref().filter(|live| !live.schedule.is_outstanding()) else { return Vec::new() };
        if !live.revoking.is_empty() {
            return if live.consumer.has_in_flight(&live.revoking) { Vec::new() } else { live.consumer.unconfirmed(&live.revoking) };
        }
        let due = live.schedule.is_due(env.now(), live.consumer.in_flight() == 0);
        if due { live.consumer.to_commit() } else { Vec::new() }
    }

    /// Requests a commit.
    pub(super) fn ask(&mut self, who: usize, env: &mut Env) {
        let mut commits = self.to_commit(env);
        if commits.is_empty() {
            return;
        }
        let now = env.now();
        let live = self.live();
        live.consumer.commit_requested(&commits);
        live.schedule.requested(now);
        if env.has(Fault::CommitOnePast) {
            commits.iter_mut().for_each(|commit| commit.checkpoint.offset = commit.checkpoint.offset + 1);
        }
        env.commit_requests.push(CommitRequest { who, incarnation: live.incarnation, generation: live.generation, commits });
    }

    /// The result of a commit arrives, as in `Loop::committed`.
    pub(super) fn committed(&mut self, who: usize, env: &mut Env) -> Checked {
        let now = env.now();
        let live = self.live();
        let Some((commits, confirmed)) = live.answer.take() else { return Ok(()) };
        if !confirmed {
            if !env.has(Fault::NeverRetryCommit) {
                live.consumer.commit_failed();
            }
            live.schedule.failed(now, 0.5);
            return Ok(());
        }
        for commit in &commits {
            live.consumer.commit_confirmed(commit.partition, commit.checkpoint.offset);
        }
        live.schedule.confirmed();
        let offsets = commits.iter().map(|commit| (commit.partition, commit.checkpoint.offset)).collect();
        self.apply(who, env, vec![Event::OffsetsCommitted { offsets }])
    }

    /// Partitions are revoked. Nothing is polled until they are released.
    pub(super) fn revoke(&mut self, env: &mut Env, partitions: Vec<Partition>) {
        if self.live().consumer.has_pending(&partitions) {
            self.send(env);
        }
        self.live().revoking = partitions;
    }

    /// Returns whether the revoked partitions are written and committed.
    pub(super) fn is_drained(&self) -> bool {
        self.live.as_ref().is_some_and(|live| {
            !live.revoking.is_empty()
                && !live.consumer.has_in_flight(&live.revoking)
                && live.consumer.unconfirmed(&live.revoking).is_empty()
        })
    }

    /// Releases the revoked partitions, drained or not.
    pub(super) fn revoked(&mut self, who: usize, env: &mut Env) -> Checked {
        let partitions = std::mem::take(&mut self.live().revoking);
        self.gone(who, env, &partitions)
    }

    /// All its partitions are lost to others.
    pub(super) fn lost(&mut self, who: usize, env: &mut Env) -> Checked {
        let partitions: Vec<_> = self.live().consumer.assigned().collect();
        if self.live().consumer.has_pending(&partitions) {
            self.send(env);
        }
        self.live().revoking.clear();
        self.gone(who, env, &partitions)
    }

    fn gone(&mut self, who: usize, env: &mut Env, partitions: &[Partition]) -> Checked {
        let live = self.live();
        live.consumer.revoke(partitions);
        for partition in partitions {
            live.positions.remove(partition);
            let owner = &mut env.broker.owners[*partition as usize];
            *owner = owner.filter(|&owner| owner != who);
        }
        if partitions.is_empty() {
            Ok(())
        } else {
            self.apply(who, env, vec![Event::PartitionsRevoked { partitions: partitions.to_vec() }])
        }
    }

    /// Restarts the consumer, alone or with the actors behind it. Batches in flight may be written
    /// or not.
    pub(super) fn restart_consumer(&mut self, who: usize, env: &mut Env) -> Checked {
        self.abandon(who, env);
        let partitions: Vec<_> = self.live().consumer.assigned().collect();
        let consumer = new_consumer(env);
        let incarnation = env.next_incarnation();
        let live = self.live();
        (live.consumer, live.incarnation, live.schedule, live.answer, live.queue) =
            (consumer, incarnation, CommitSchedule::default(), None, WriteQueue::default());
        live.revoking.clear();
        live.positions.clear();
        live.read_from.clear();
        for partition in &partitions {
            let owner = &mut env.broker.owners[*partition as usize];
            *owner = owner.filter(|&owner| owner != who);
        }
        if partitions.is_empty() { Ok(()) } else { self.apply(who, env, vec![Event::PartitionsRevoked { partitions }]) }
    }

    /// Resets the offsets of all partitions, as in `Loop::reset`: each to its start, or to a random
    /// offset before what is written. Returns whether it could: the process must read all
    /// partitions and have nothing in flight. With faults enabled it may crash before Kafka gets
    /// the commit.
    pub(super) fn replay(&mut self, who: usize, env: &mut Env, to_start: bool) -> Result<bool, Violation> {
        let all: Vec<Partition> = env.broker.each().collect();
        let on_its_way = env.commit_requests.iter().any(|ask| ask.who == who);
        let live = self.live();
        let idle = live.batches.is_empty() && live.consumer.builder().is_empty() && live.consumer.unconfirmed(&all).is_empty();
        let quiet = idle && live.answer.is_none() && live.revoking.is_empty() && !live.fenced && !on_its_way;
        if !quiet
            || !all.iter().all(|&partition| live.consumer.is_assigned(partition) && env.broker.owners[partition as usize] == Some(who))
        {
            return Ok(false);
        }
        let epoch = Epoch::new(env.rng.random());
        let mut resets = Vec::new();
        for &partition in &all {
            let (start_offset, end_offset) = (env.broker.log(partition).begin(), env.broker.log(partition).end());
            let from = live.consumer.written(partition).map(|checkpoint| checkpoint.offset);
            let Some(written) = from.filter(|&written| start_offset < written) else { continue };
            let wanted = if to_start { start_offset } else { Offset(env.rng.random_range(start_offset.value()..written.value())) };
            if let Some(to) = reset_target(from, wanted, (start_offset, end_offset)) {
                resets.push(PartitionReset { partition, from, to, end_offset, lost: None });
            }
        }
        if resets.is_empty() {
            return Ok(true);
        }
        let largest_clock = largest_clock(env.broker.metadata(), &live.ledger.checkpoints()).max(live.consumer.latest_clock());
        let now = if env.has(Fault::ReplayWithoutWallClock) { SystemTime::UNIX_EPOCH } else { env.wall().into() };
        // A topic that was re-created meanwhile has another id, so the commit does not count for
        // it.
        let basis = ResetBasis { epoch, topic: live.consumer.topic(), largest_clock, now };
        let OffsetReset { events, commits } = offset_reset(&resets, basis, "operator", "test");
        env.oracle.order_is_lost();
        self.apply(who, env, events)?;
        env.urgent[who] = true;
        self.sync(who, env);
        if env.faults_enabled && env.rng.random_ratio(1, 4) {
            env.note(|| "  it ends before kafka gets the commit".to_owned());
        } else {
            for commit in commits {
                env.broker.commit(commit.partition, commit.checkpoint, commit.metadata())?;
            }
        }
        self.restart_consumer(who, env)?;
        Ok(true)
    }

    /// Abandons the batches in flight. Some of their writes still arrive.
    pub(super) fn abandon(&mut self, who: usize, env: &mut Env) {
        for batch in self.live().batches.drain(..) {
            for write in batch.left {
                if env.rng.random_bool(0.5) {
                    env.late_writes.push((who, write));
                }
            }
        }
    }
}

/// The counts of one record of a run.
fn count_of(run: Uuid, bad: bool) -> RunWritten {
    let (written, rejected) = if bad { (0, 1) } else { (1, 0) };
    RunWritten { run, written, rejected, rows: written, ..RunWritten::default() }
}

impl Live {
    fn begin_writes(&mut self) {
        while let Some(id) = self.queue.start_next() {
            if let Some(batch) = self.batches.iter_mut().find(|batch| batch.id == id) {
                batch.stage = Stage::UnderWay;
            }
        }
    }

    /// Returns a partition whose records were all polled, and the end that the consumer does not
    /// know yet.
    pub(super) fn reached_end(&self, env: &Env) -> Option<(Partition, Offset)> {
        let ended = |(&partition, &position): (&Partition, &Offset)| {
            let end = env.broker.log(partition).readable();
            (position < end && env.broker.log(partition).next(position).is_none()).then_some((partition, end))
        };
        self.positions.iter().find_map(ended).filter(|_| self.revoking.is_empty() && !env.has(Fault::EndAtLastRecord))
    }

    /// Returns whether the topic was re-created since the consumer started.
    pub(super) fn reads_recreated_topic(&self) -> bool {
        self.begun_with != self.recreations && self.revoking.is_empty() && self.consumer.assigned().next().is_some()
    }

    /// Returns whether a partition ends before the next position, as one of another topic may.
    pub(super) fn position_was_removed(&self, env: &Env) -> bool {
        self.revoking.is_empty() && self.positions.iter().any(|(&partition, &position)| position > env.broker.log(partition).end())
    }

    /// Returns whether there is a record to poll.
    pub(super) fn may_poll(&self, env: &Env) -> bool {
        let bounded = self.consumer.in_flight() < MAX_IN_FLIGHT || env.has(Fault::UnboundedFlights);
        bounded && self.revoking.is_empty() && self.positions.iter().any(|(&partition, &position)| next(env, partition, position).is_some())
    }
}

/// Returns the next record for the consumer.
fn next(env: &Env, partition: Partition, position: Offset) -> Option<(Offset, Stored)> {
    env.broker.log(partition).next(position).filter(|&(offset, _)| offset == position || !env.has(Fault::WaitForEveryOffset))
}
