//! The state of a pipeline according to its journal: a fold of the events.
//!
//! Guarantees:
//! * The fold is pure and total: no event fails, in any order.
//! * Every collection is bounded.
//! * Folding from the start and folding from a copy on the way give the same projection.
//!
//! Does not cover events before the first one it was given. [`Projection::is_complete`] says
//! whether that was the start of the process.

use std::collections::{BTreeMap, VecDeque};

use chrono::{DateTime, TimeDelta, Utc};
use forebay_schemas::desired::Desired;
use forebay_schemas::event::{Event, Recorded};
use forebay_schemas::offset::{Offset, Partition, Range};
use forebay_schemas::rejects::Rejects;
use forebay_schemas::run::{REJECTED, Run, RunCounts, RunState};
use forebay_schemas::snapshot::{ActorState, ActorView, BatchView, PartitionView, Snapshot, Totals};
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
        Self { produced: -1, written: -1, committed: -1, assigned: false }
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
    fn of(path: &str) -> Self {
        Self(path.split('/').map(str::to_owned).collect())
    }
}

/// The number of offsets in a range; 0 if it is reversed.
pub(crate) fn range_len(range: Range) -> u64 {
    u64::try_from(range.to.saturating_sub(range.from)).unwrap_or(0)
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
            | Event::TopicIdentified { .. } => {}
            event if event.run().is_some() => self.run(at, event),
            event => self.actor(recorded.seq, at, event),
        }
    }

    fn partition(&mut self, partition: Partition, change: impl FnOnce(&mut PartitionProgress)) {
        if self.partitions.len() < MAX_PARTITIONS || self.partitions.contains_key(&partition) {
            let progress = self.partitions.entry(partition).or_default();
            change(progress);
            // Never trust the journal so far that arithmetic on its offsets could overflow.
            for offset in [&mut progress.produced, &mut progress.written, &mut progress.committed] {
                *offset = (*offset).max(-1);
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
        let records: u64 = ranges.0.values().fold(0, |sum, range| sum.saturating_add(range_len(*range)));
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
        let key = Path::of(path);
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

    /// Overlays these events on a snapshot of another time. Everything that events decide comes
    /// from the events, the rest from the snapshot. `now` is the projection at the newest event:
    /// what is unknown there has not changed since.
    pub(crate) fn overlay(&self, snapshot: &Snapshot, now: &Self) -> Snapshot {
        let mut shown = snapshot.clone();
        shown.seq = self.seq;
        shown.at = self.at.unwrap_or(shown.at);
        shown.started_at = self.started_at.or(now.started_at).unwrap_or(shown.started_at).min(shown.at);
        if !self.topic.is_empty() {
            shown.topic.clone_from(&self.topic);
        }
        if !self.version.is_empty() {
            (shown.version, shown.roles) = (self.version.clone(), self.roles.clone());
        }
        if self.is_complete() {
            shown.totals = self.totals;
        }
        shown.desired =
            if self.desired.since.is_some() || now.desired.since.is_some() { self.desired.clone() } else { snapshot.desired.clone() };
        shown.runs = self.runs.iter().rev().cloned().collect();
        shown.batches = self.batches.iter().rev().cloned().collect();
        shown.partitions = self.overlay_partitions(snapshot, now);
        shown.actors = self.overlay_actors(snapshot, now);
        shown
    }

    fn overlay_partitions(&self, snapshot: &Snapshot, now: &Self) -> Vec<PartitionView> {
        let mut all: BTreeMap<Partition, PartitionView> = snapshot.partitions.iter().map(|view| (view.partition, *view)).collect();
        for &partition in self.partitions.keys() {
            all.entry(partition).or_insert_with(|| PartitionView::unknown(partition));
        }
        for (partition, view) in &mut all {
            let (then, known_now) = (self.partitions.get(partition), now.partitions.get(partition));
            match then {
                None if known_now.is_none() => {}
                None => (view.end, view.written, view.committed, view.assigned) = (-1, -1, -1, false),
                Some(progress) => {
                    (view.written, view.committed, view.assigned) = (progress.written, progress.committed, progress.assigned);
                    view.end = progress.produced.max(progress.written).max(progress.committed);
                }
            }
            (view.paused, view.behind_ms) = (false, -1);
        }
        all.into_values().collect()
    }

    fn overlay_actors(&self, snapshot: &Snapshot, now: &Self) -> Vec<ActorView> {
        let mut all = Vec::with_capacity(snapshot.actors.len());
        let mut seen = std::collections::BTreeSet::new();
        for view in &snapshot.actors {
            let path = Path::of(&view.path);
            let mut view = view.clone();
            match self.actors.get(&path) {
                Some(then) => view = then.clone(),
                // The actor started later, or nothing happened to it in between.
                None if !now.actors.contains_key(&path) => {}
                None if self.is_complete() => continue,
                None => {
                    view.note = Some("unknown at this event".to_owned());
                    (view.last_exit, view.since) = (None, self.at.unwrap_or(view.since));
                    (view.incarnation, view.restarts, view.mailbox) = (0, 0, 0);
                }
            }
            seen.insert(path);
            all.push(view);
        }
        // Actors that no longer exist come after their siblings.
        for (path, view) in self.actors.iter().filter(|(path, _)| !seen.contains(path)) {
            let parent = &path.0[..path.0.len().saturating_sub(1)];
            let sibling = all.iter().rposition(|other| !parent.is_empty() && Path::of(&other.path).0.starts_with(parent));
            all.insert(sibling.map_or(all.len(), |sibling| sibling + 1), view.clone());
        }
        all
    }

    /// Every fact by its name, to compare two projections.
    fn facts(&self) -> BTreeMap<String, String> {
        let mut facts = BTreeMap::new();
        let mut add = |name: String, value: String| drop(facts.insert(name, value));
        for (partition, progress) in &self.partitions {
            add(format!("partition {partition} written"), crate::text::offset(progress.written));
            add(format!("partition {partition} committed"), crate::text::offset(progress.committed));
            add(format!("partition {partition} produced"), crate::text::offset(progress.produced));
            add(format!("partition {partition} assigned"), progress.assigned.to_string());
        }
        for view in self.actors.values() {
            add(format!("actor {}", view.path), format!("#{} {}", view.incarnation, crate::text::actor_state(view.state)));
        }
        for run in &self.runs {
            let key = if run.key.is_empty() { run.id.to_string() } else { run.key.clone() };
            let counts = format!("{} pages, {} fetched, {} produced", run.counts.pages, run.counts.fetched, run.counts.produced);
            add(format!("run {key}#{}", run.attempt), format!("{}, {counts}", crate::text::run_state(run.state)));
        }
        let totals = self.totals;
        let pairs = [
            ("fetched", totals.fetched),
            ("produced", totals.produced),
            ("consumed", totals.consumed),
            ("written", totals.written),
            ("rejected", totals.rejected),
            ("restarts", totals.restarts),
            ("batches", self.batches.back().map_or(0, |batch| batch.id)),
        ];
        for (name, value) in pairs {
            add(format!("total {name}"), crate::text::count(value));
        }
        add("SQL".to_owned(), self.sql.fingerprint.clone());
        add("desired".to_owned(), format!("{:?}", self.desired.state).to_lowercase());
        facts
    }

    /// What changed from this projection to a later one: name, before, after.
    pub(crate) fn diff(&self, later: &Self) -> Vec<(String, String, String)> {
        let (before, after) = (self.facts(), later.facts());
        let names: std::collections::BTreeSet<&String> = before.keys().chain(after.keys()).collect();
        let value = |facts: &BTreeMap<String, String>, name: &String| facts.get(name).cloned().unwrap_or_else(|| "-".to_owned());
        let all = names.into_iter().map(|name| (name.clone(), value(&before, name), value(&after, name)));
        all.filter(|(_, before, after)| before != after).collect()
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

    #[test]
    fn the_difference_of_two_projections_names_each_changed_fact() {
        let before = projection([Event::ChildStarted { actor: "root".to_owned(), incarnation: 1 }]);
        let mut after = before.clone();
        let ended = Event::ChildExited { actor: "root".to_owned(), incarnation: 1, exit: "shutdown".to_owned() };
        after.apply(&Recorded::new(2, DateTime::UNIX_EPOCH, ended));
        assert_eq!(before.diff(&after), [("actor root".to_owned(), "#1 up".to_owned(), "#1 ENDED".to_owned())]);
        assert_eq!(after.diff(&after), []);
    }
}
