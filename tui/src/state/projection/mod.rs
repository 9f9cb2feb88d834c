//! The state of a pipeline according to its journal: a fold of the events.
//!
//! Guarantees:
//! * The fold is pure and total: no event fails, in any order.
//! * Every collection is bounded.
//! * Folding from the start and folding from a copy on the way give the same projection.
//!
//! Does not cover events before the first one it was given. [`Projection::is_complete`] says
//! whether that was the start of the process.

mod diff;
mod overlay;

use std::collections::{BTreeMap, VecDeque};

use chrono::{DateTime, TimeDelta, Utc};
use forebay_schemas::desired::Desired;
use forebay_schemas::event::{Event, Recorded};
use forebay_schemas::offset::{Offset, Partition};
use forebay_schemas::rejects::Rejects;
use forebay_schemas::run::{REJECTED, Run, RunCounts, RunState};
use forebay_schemas::snapshot::{ActorState, ActorView, BatchView, Totals};
use uuid::Uuid;

/// The maximum number of runs.
pub(crate) const MAX_RUNS: usize = 200;
/// The maximum number of batches.
pub(crate) const MAX_BATCHES: usize = 128;
/// The maximum number of restarts.
pub(crate) const MAX_RESTARTS: usize = 128;
/// The maximum number of actors; a supervision tree has a few dozen.
const MAX_ACTORS: usize = 1_024;
/// The maximum number of partitions.
const MAX_PARTITIONS: usize = 10_000;

/// How far a partition has been produced, written and committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PartitionProgress {
    /// The end offset after this process's last record; −1 if it produced none.
    pub(crate) produced: Offset,
    /// The contiguous written offset; −1 if unknown.
    pub(crate) written: Offset,
    /// The offset that the group committed; −1 if unknown.
    pub(crate) committed: Offset,
    /// Whether the partition is assigned to this process.
    pub(crate) assigned: bool,
}

impl Default for PartitionProgress {
    fn default() -> Self {
        Self { produced: Offset::UNKNOWN, written: Offset::UNKNOWN, committed: Offset::UNKNOWN, assigned: false }
    }
}

/// The restart of an actor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Restart {
    /// The event of the exit.
    pub(crate) seq: u64,
    /// When the incarnation ended.
    pub(crate) at: DateTime<Utc>,
    /// The path of the actor.
    pub(crate) actor: String,
    /// The incarnation that ended.
    pub(crate) incarnation: u64,
    /// Why it ended.
    pub(crate) why: String,
    /// When the next incarnation started; `None` if it has not yet.
    pub(crate) restarted_at: Option<DateTime<Utc>>,
}

impl Restart {
    /// The time between exit and restart.
    pub(crate) fn downtime(&self) -> Option<TimeDelta> {
        self.restarted_at.map(|back| back - self.at)
    }
}

/// The active SQL.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Sql {
    pub(crate) fingerprint: String,
    pub(crate) text: std::sync::Arc<str>,
}

/// The folded events.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Projection {
    /// The last event; 0 before the first.
    pub(crate) seq: u64,
    /// When the last event was recorded.
    pub(crate) at: Option<DateTime<Utc>>,
    /// When the process started, if that event is known.
    pub(crate) started_at: Option<DateTime<Utc>>,
    /// When the process stopped, if it did.
    pub(crate) stopped_at: Option<DateTime<Utc>>,
    pub(crate) version: String,
    pub(crate) roles: Vec<String>,
    pub(crate) topic: String,
    pub(crate) group: String,
    pub(crate) sql: Sql,
    pub(crate) desired: Desired,
    pub(crate) totals: Totals,
    pub(crate) partitions: BTreeMap<Partition, PartitionProgress>,
    /// By path, parents before children: a slash sorts before every other character.
    pub(crate) actors: BTreeMap<Path, ActorView>,
    /// Oldest first.
    pub(crate) runs: VecDeque<Run>,
    /// Oldest first.
    pub(crate) batches: VecDeque<BatchView>,
    /// Oldest first.
    pub(crate) restarts: VecDeque<Restart>,
    /// How often the source throttled, and for how many milliseconds in total.
    pub(crate) throttled: (u64, u64),
    /// The number of ranges that can no longer be read.
    pub(crate) lost: u64,
}

/// A path that sorts in the order of the tree.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Path(Vec<String>);

impl Path {
    fn new(path: &str) -> Self {
        Self(path.split('/').map(str::to_owned).collect())
    }
}

fn push_bounded<T>(queue: &mut VecDeque<T>, max: usize, item: T) {
    if queue.len() >= max {
        queue.pop_front();
    }
    queue.push_back(item);
}

impl Projection {
    /// Whether the start of the process is known, so that the totals are complete.
    pub(crate) fn is_complete(&self) -> bool {
        self.started_at.is_some()
    }

    /// Folds an event.
    pub(crate) fn apply(&mut self, recorded: &Recorded) {
        self.seq = recorded.seq;
        self.at = Some(recorded.at);
        let at = recorded.at;
        match &recorded.event {
            Event::PipelineStarted { version, roles, topic, group } => {
                (self.started_at, self.stopped_at) = (Some(at), None);
                (self.version, self.roles, self.topic, self.group) = (version.clone(), roles.clone(), topic.clone(), group.clone());
                self.totals = Totals::default();
                self.actors.clear();
                for progress in self.partitions.values_mut() {
                    progress.assigned = false;
                }
            }
            Event::PipelineStopped { .. } => self.stopped_at = Some(at),
            Event::TransformActivated { sql, fingerprint } => {
                self.sql = Sql { fingerprint: fingerprint.clone(), text: sql.as_str().into() };
            }
            Event::StateDesired { state, by, reason } => {
                self.desired = Desired { state: *state, by: by.clone(), reason: reason.clone(), since: Some(at) };
            }
            Event::SourceThrottled { millis, .. } => {
                self.throttled = (self.throttled.0 + 1, self.throttled.1.saturating_add(*millis));
                self.totals.fetch_failures += 1;
            }
            Event::RangeLost { .. } => self.lost += 1,
            Event::BatchWritten { .. } => self.batch_written(at, &recorded.event),
            Event::OffsetsCommitted { offsets } => {
                for (&partition, &offset) in &offsets.0 {
                    self.partition(partition, |progress| progress.committed = offset);
                }
            }
            Event::PartitionsAssigned { starts } => {
                for (&partition, start) in &starts.0 {
                    self.partition(partition, |progress| {
                        progress.assigned = true;
                        progress.written = progress.written.max(start.checkpoint.offset);
                    });
                }
            }
            Event::PartitionsRevoked { partitions } => {
                for &partition in partitions {
                    self.partition(partition, |progress| progress.assigned = false);
                }
            }
            Event::PartitionsSeen { checkpoints } => {
                for (&partition, seen) in &checkpoints.0 {
                    self.partition(partition, |progress| progress.committed = progress.committed.max(seen.offset));
                }
            }
            Event::OffsetsReset { to, .. } => {
                for (&partition, reset) in &to.0 {
                    self.partition(partition, |progress| (progress.written, progress.committed) = (reset.offset, reset.offset));
                }
            }
            Event::TopicRecreated { .. } => self.partitions.clear(),
            Event::TimestampClamped { .. }
            | Event::ActorRestartRequested { .. }
            | Event::LettersRedriven { .. }
            | Event::LettersDropped { .. }
            | Event::TopicIdentified { .. } => {}
            event if event.run().is_some() => self.run(at, event),
            event => self.actor(recorded.seq, at, event),
        }
    }

    fn partition(&mut self, partition: Partition, change: impl FnOnce(&mut PartitionProgress)) {
        if self.partitions.len() < MAX_PARTITIONS || self.partitions.contains_key(&partition) {
            let progress = self.partitions.entry(partition).or_default();
            change(progress);
            // A journal may contain any number.
            for offset in [&mut progress.produced, &mut progress.written, &mut progress.committed] {
                *offset = (*offset).max(Offset::UNKNOWN);
            }
        }
    }

    fn batch_written(&mut self, at: DateTime<Utc>, event: &Event) {
        let Event::BatchWritten { batch, ranges, rows, rejected, wait_micros, transform_micros, write_micros, written, runs } = event
        else {
            return;
        };
        for (&partition, to) in &written.0 {
            self.partition(partition, |progress| progress.written = progress.written.max(to.offset));
        }
        for settled in runs {
            if let Some(run) = self.find_run(settled.run) {
                run.records_settled(settled);
            }
        }
        let records: u64 = ranges.0.values().fold(0, |sum, range| sum.saturating_add(range.len()));
        let totals = &mut self.totals;
        totals.consumed = totals.consumed.saturating_add(records);
        totals.written = totals.written.saturating_add(*rows);
        totals.rejected = totals.rejected.saturating_add(*rejected);
        let view = BatchView {
            id: *batch,
            at,
            records,
            rows: *rows,
            rejected: *rejected,
            wait_micros: *wait_micros,
            transform_micros: *transform_micros,
            write_micros: *write_micros,
            commit_micros: 0,
            ranges: ranges.clone(),
            retries: 0,
        };
        push_bounded(&mut self.batches, MAX_BATCHES, view);
    }

    /// The run, if it was requested. Pages of the schedule carry a run identifier without being a
    /// run.
    fn find_run(&mut self, id: Uuid) -> Option<&mut Run> {
        self.runs.iter_mut().rfind(|run| run.id == id)
    }

    /// The run; created if its request is unknown.
    fn run_or_new(&mut self, id: Uuid, at: DateTime<Utc>) -> &mut Run {
        let found = self.runs.iter().rposition(|run| run.id == id);
        let index = found.unwrap_or_else(|| {
            let run = Run {
                id,
                key: String::new(),
                attempt: 1,
                spec: forebay_schemas::run::RunSpec::default(),
                state: RunState::Requested,
                terminal: false,
                counts: RunCounts::default(),
                kept: RunCounts::default(),
                rejects: Rejects::default(),
                kept_rejects: Rejects::default(),
                ranges: forebay_schemas::offset::Ranges::default(),
                stop: None,
                again: false,
                began: None,
                position: None,
                error: None,
                requested_at: at,
                ended_at: None,
                cancelled: None,
            };
            push_bounded(&mut self.runs, MAX_RUNS, run);
            self.runs.len() - 1
        });
        &mut self.runs[index]
    }

    fn run(&mut self, at: DateTime<Utc>, event: &Event) {
        let Some(id) = event.run() else { return };
        let ends = |run: &mut Run, state: RunState| {
            (run.state, run.terminal, run.ended_at) = (state, true, Some(at));
        };
        match event {
            Event::RunRequested { key, attempt, spec, from, .. } => {
                let run = self.run_or_new(id, at);
                (run.key, run.attempt, run.spec, run.requested_at) = (key.clone(), *attempt, spec.clone(), at);
                run.again = from.is_some();
            }
            Event::RunStarted { .. } => {
                let run = self.run_or_new(id, at);
                run.state = RunState::Running;
                run.begin();
            }
            Event::PageFetched { records, .. } => {
                if let Some(run) = self.find_run(id) {
                    run.page_fetched(*records);
                }
                self.totals.pages += 1;
                self.totals.fetched = self.totals.fetched.saturating_add(*records);
            }
            Event::PageProduced { ranges, produced, rejected, cursor, rejects, .. } => {
                if let Some(run) = self.find_run(id) {
                    run.page_produced(ranges, (*produced, *rejected), rejects, cursor.is_some());
                }
                self.totals.produced = self.totals.produced.saturating_add(*produced);
                self.totals.rejected = self.totals.rejected.saturating_add(*rejected);
                for (&partition, range) in &ranges.0 {
                    self.partition(partition, |progress| progress.produced = progress.produced.max(range.to));
                }
            }
            Event::RunProduced { stop, .. } => {
                let run = self.run_or_new(id, at);
                run.state = RunState::Draining;
                run.stop.clone_from(stop);
            }
            Event::RunSucceeded { .. } => {
                let run = self.run_or_new(id, at);
                ends(run, RunState::Succeeded);
                run.complete();
            }
            Event::RunFailed { error, .. } => {
                let run = self.run_or_new(id, at);
                ends(run, RunState::Failed);
                run.error = Some(error.clone());
                if error.stage == REJECTED {
                    run.complete();
                }
            }
            Event::RunCancelled { cancelled, .. } => {
                let run = self.run_or_new(id, at);
                ends(run, RunState::Cancelled);
                run.cancelled = Some(cancelled.clone());
            }
            _ => {}
        }
    }

    fn actor_or_new(&mut self, path: &str, at: DateTime<Utc>) -> Option<&mut ActorView> {
        let key = Path::new(path);
        if self.actors.len() >= MAX_ACTORS && !self.actors.contains_key(&key) {
            return None;
        }
        Some(self.actors.entry(key).or_insert_with(|| ActorView {
            path: path.to_owned(),
            state: ActorState::Up,
            incarnation: 1,
            since: at,
            last_exit: None,
            note: None,
            restarts: 0,
            mailbox: 0,
        }))
    }

    fn actor(&mut self, seq: u64, at: DateTime<Utc>, event: &Event) {
        match event {
            Event::ChildStarted { actor, incarnation } => {
                if let Some(restart) = self.restarts.iter_mut().rev().find(|restart| restart.actor == *actor) {
                    restart.restarted_at.get_or_insert(at);
                }
                let Some(view) = self.actor_or_new(actor, at) else { return };
                (view.state, view.incarnation, view.since, view.note) = (ActorState::Up, *incarnation, at, None);
                view.restarts = incarnation.saturating_sub(1);
                if *incarnation > 1 {
                    self.totals.restarts += 1;
                }
            }
            Event::ChildExited { actor, incarnation, exit } => {
                let Some(view) = self.actor_or_new(actor, at) else { return };
                // An actor whose restart is scheduled is not ended for good.
                if view.state != ActorState::Restarting {
                    (view.state, view.note) = (ActorState::Ended, None);
                }
                (view.incarnation, view.since) = (*incarnation, at);
                view.last_exit = Some(exit.clone());
                let restart = Restart { seq, at, actor: actor.clone(), incarnation: *incarnation, why: exit.clone(), restarted_at: None };
                push_bounded(&mut self.restarts, MAX_RESTARTS, restart);
            }
            Event::ChildStuck { actor, silent_millis } => {
                let Some(view) = self.actor_or_new(actor, at) else { return };
                view.state = ActorState::Stuck;
                view.note = Some(format!("no progress for {silent_millis} ms"));
            }
            // `affected` has the names of children under the supervisor.
            Event::RestartScheduled { actor, delay_millis, affected } => {
                for name in affected.iter().take(MAX_ACTORS) {
                    let Some(view) = self.actor_or_new(&format!("{actor}/{name}"), at) else { continue };
                    view.state = ActorState::Restarting;
                    view.note = Some(format!("restarts in {delay_millis} ms"));
                }
            }
            Event::IntensityExceeded { actor, restarts, within_millis } => {
                let Some(view) = self.actor_or_new(actor, at) else { return };
                view.note = Some(format!("too many restarts: {restarts} in {within_millis} ms"));
            }
            Event::Escalated { actor, reason } => {
                let Some(view) = self.actor_or_new(actor, at) else { return };
                (view.state, view.note) = (ActorState::Ended, Some(format!("gave up: {reason}")));
            }
            _ => {}
        }
    }

    /// The restarts, without the exits of a process that was stopping.
    pub(crate) fn actual_restarts(&self) -> impl DoubleEndedIterator<Item = &Restart> {
        self.restarts.iter().filter(|restart| restart.restarted_at.is_some() || self.stopped_at.is_none())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn projection(events: impl IntoIterator<Item = Event>) -> Projection {
        let mut projection = Projection::default();
        for (seq, event) in (1..).zip(events) {
            projection.apply(&Recorded::new(seq, DateTime::from_timestamp_millis(1_000 * seq.cast_signed()).unwrap(), event));
        }
        projection
    }

    #[test]
    fn a_restart_has_its_reason_and_its_downtime() {
        let writer = || "root/egress/writer".to_owned();
        let projection = projection([
            Event::ChildStarted { actor: writer(), incarnation: 1 },
            Event::ChildExited { actor: writer(), incarnation: 1, exit: "failed: write timed out".to_owned() },
            Event::RestartScheduled { actor: "root/egress".to_owned(), delay_millis: 200, affected: vec!["writer".to_owned()] },
            Event::ChildStarted { actor: writer(), incarnation: 2 },
        ]);
        let restart = projection.restarts.back().unwrap();
        assert_eq!((restart.why.as_str(), restart.downtime().unwrap().num_seconds()), ("failed: write timed out", 2));
        let view = projection.actors.values().next().unwrap();
        assert_eq!((view.state, view.incarnation, view.restarts, view.note.as_deref()), (ActorState::Up, 2, 1, None));
        assert_eq!(projection.totals.restarts, 1);
    }

    #[test]
    fn pages_of_the_schedule_are_not_a_run() {
        let run = Uuid::nil();
        let pages = [Event::PageFetched { run, records: 5, cursor: None }];
        let projection = projection(pages);
        assert!(projection.runs.is_empty() && projection.totals.fetched == 5);
    }
}
