//! The state of runs: what a command may do, and what an event changes. Pure.
//!
//! Guarantees:
//! * One key and attempt is one run, for as long as the run is remembered.
//! * A run that has ended never changes.
//! * A run succeeds only when every partition that it produced to is written past its last record.
//! * At most `MAX_OPEN_RUNS` runs are open, and [`MAX_ENDED_RUNS`] ended ones are remembered.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use chrono::{DateTime, Utc};
use forebay_schemas::event::Event;
use forebay_schemas::offset::{Offset, Partition, Ranges};
use forebay_schemas::rejects::Rejects;
use forebay_schemas::run::{REJECTED, Run, RunCounts, RunError, RunSpec, RunState};
use forebay_schemas::source_read::{Position, Read, ReadMode};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::command::Command;
use super::error::{MAX_KEY_CHARS, MAX_OPEN_RUNS, Rejection};

/// The number of ended runs that are remembered.
pub const MAX_ENDED_RUNS: usize = 10_000;

/// The run that a request results in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accepted {
    /// A new run.
    New(Uuid),
    /// The existing run of the key and attempt, or the open run of an earlier attempt.
    Same(Uuid),
}

impl Accepted {
    /// Returns the run's id.
    pub fn id(self) -> Uuid {
        match self {
            Self::New(id) | Self::Same(id) => id,
        }
    }
}

/// The open runs and the last ended ones. Serializes to a list, in the order in which they were
/// requested.
#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
#[serde(from = "Vec<Run>", into = "Vec<Run>")]
pub struct Runs {
    runs: HashMap<Uuid, Run>,
    /// The attempts of each key, in the order in which they were requested.
    pub(super) by_key: HashMap<String, Vec<Uuid>>,
    /// In the order in which they were requested.
    pub(super) order: VecDeque<Uuid>,
    open: usize,
}

impl From<Vec<Run>> for Runs {
    fn from(list: Vec<Run>) -> Self {
        let mut runs = Self::default();
        for run in list {
            runs.open += usize::from(!run.terminal);
            runs.by_key.entry(run.key.clone()).or_default().push(run.id);
            runs.order.push_back(run.id);
            runs.runs.insert(run.id, run);
        }
        runs
    }
}

impl From<Runs> for Vec<Run> {
    fn from(mut runs: Runs) -> Self {
        runs.order.iter().filter_map(|id| runs.runs.remove(id)).collect()
    }
}

impl Runs {
    /// Returns a run.
    pub fn get(&self, id: Uuid) -> Option<&Run> {
        self.runs.get(&id)
    }

    /// Returns the number of open runs.
    pub fn open_count(&self) -> usize {
        self.open
    }

    /// Returns the last `limit` runs, newest first.
    pub fn recent(&self, limit: usize) -> Vec<Run> {
        self.recent_where(limit, |_| true)
    }

    /// Returns the last `limit` runs that match, newest first.
    pub fn recent_where(&self, limit: usize, matches: impl Fn(&Run) -> bool) -> Vec<Run> {
        self.order.iter().rev().filter_map(|id| self.runs.get(id)).filter(|run| matches(run)).take(limit).cloned().collect()
    }

    /// Returns the runs that are not completely in the topic yet, oldest first.
    pub fn unfetched(&self) -> Vec<Uuid> {
        let unfetched = |run: &&Run| matches!(run.state, RunState::Requested | RunState::Running);
        self.open().filter(unfetched).map(|run| run.id).collect()
    }

    /// Returns the run that a request results in; `fresh` is the id of a new one.
    ///
    /// The same key and attempt is the same run. A higher attempt attaches to an open run, and is a
    /// new run after an ended one.
    ///
    /// # Errors
    /// When too many runs are open, the key is invalid, or it names a run that was requested with
    /// another `spec`.
    pub fn request(&self, key: &str, attempt: u32, spec: &RunSpec, fresh: Uuid) -> Result<Accepted, Rejection> {
        if key.is_empty() || key.chars().count() > MAX_KEY_CHARS || attempt == 0 {
            return Err(Rejection::BadKey);
        }
        let attempts = || self.by_key.get(key).into_iter().flatten().filter_map(|id| self.runs.get(id));
        let same = |run: &Run| {
            // A request without `max_rejected` takes that of the run.
            let max_rejected = spec.max_rejected.or(run.spec.max_rejected);
            let is_same = run.spec == RunSpec { max_rejected, ..spec.clone() };
            if is_same { Ok(Accepted::Same(run.id)) } else { Err(Rejection::Mismatch(run.id)) }
        };
        if let Some(known) = attempts().rev().find(|run| run.attempt == attempt) {
            return same(known);
        }
        match attempts().next_back() {
            Some(last) if !last.terminal || attempt < last.attempt => same(last),
            _ if self.open >= MAX_OPEN_RUNS => Err(Rejection::TooMany),
            _ => Ok(Accepted::New(fresh)),
        }
    }

    /// Returns the event of a new run, with the position that it starts at when it reads again.
    ///
    /// * A run with `read = again` starts at the first page of its read.
    /// * After a complete success, as when a task is cleared, a new attempt reads again from where
    ///   the key's first attempt started.
    /// * After a failed attempt that read again, the new one continues at its position, since no
    ///   other run reads the rest. It starts over when a retry would fail the same way.
    /// * Any other attempt continues at the cursor of its read.
    ///
    /// A run that ended before `since` was of another source, so its position does not count. Where
    /// the source is incremental, a run that reads again asks for everything, and the start of an
    /// attempt that asked for what was new is of another list of pages: it begins at the first one.
    pub fn requested(
        &self,
        run: Uuid,
        (key, attempt): (&str, u32),
        spec: RunSpec,
        since: Option<DateTime<Utc>>,
        is_incremental: bool,
    ) -> Event {
        let last = self.by_key.get(key).and_then(|attempts| attempts.last()).and_then(|id| self.runs.get(id));
        let is_of_source = |run: &&Run| since.is_none_or(|since| run.ended_at.is_some_and(|ended| ended >= since));
        let position = |of: fn(&Run) -> &Option<Position>| last.filter(is_of_source).and_then(|last| of(last).clone());
        let (began, position) = (position(|last| &last.began).filter(|_| !is_incremental), position(|last| &last.position));
        let from = match (spec.read, last) {
            (Some(ReadMode::Again), _) => Some(Position::Begin),
            (Some(ReadMode::Continue), _) | (None, None) => None,
            (None, Some(last)) if is_whole(last) => Some(began.clone().unwrap_or_default()),
            (None, Some(last)) if last.again => {
                let starts_over = last.error.as_ref().is_some_and(|error| !error.retryable);
                Some(if starts_over { began.clone() } else { position }.unwrap_or_default())
            }
            (None, Some(_)) => None,
        };
        Event::RunRequested { run, key: key.to_owned(), attempt, spec, from, began }
    }

    /// Returns the events of the start of a run at a page, or of its continuation after a restart.
    ///
    /// # Errors
    /// When the run does not exist, or is in the topic already.
    pub fn start(&self, run: Uuid, at: Position) -> Result<Vec<Event>, Rejection> {
        match self.unended(run)?.state {
            RunState::Requested | RunState::Running => Ok(vec![Event::RunStarted { run, at: Some(at) }]),
            state => Err(Rejection::InvalidState(run, state)),
        }
    }

    /// Checks that a page may belong to `run`: a running run, or a scheduled fetch, which is no
    /// run.
    ///
    /// # Errors
    /// When it is a run that is not running.
    pub fn running_or_scheduled(&self, run: Uuid) -> Result<(), Rejection> {
        if self.runs.contains_key(&run) { self.running(run).map(drop) } else { Ok(()) }
    }

    /// Returns whether a page of a run with params moved the single cursor that early versions had.
    /// Its position belongs to no read.
    pub fn is_of_single_cursor(&self, run: Uuid, moves: &Read) -> bool {
        moves.is_plain() && self.runs.get(&run).is_some_and(|run| !run.spec.params.is_empty())
    }

    fn unended(&self, id: Uuid) -> Result<&Run, Rejection> {
        match self.runs.get(&id) {
            None => Err(Rejection::Unknown(id)),
            Some(run) if run.terminal => Err(Rejection::Ended(id, run.state)),
            Some(run) => Ok(run),
        }
    }

    fn running(&self, id: Uuid) -> Result<&Run, Rejection> {
        match self.unended(id)? {
            run if run.state == RunState::Running => Ok(run),
            run => Err(Rejection::InvalidState(id, run.state)),
        }
    }

    /// Returns the events that follow from a command on a run; none for other commands.
    ///
    /// # Errors
    /// When the state does not allow the command.
    pub fn decide(&self, command: Command) -> Result<Vec<Event>, Rejection> {
        Ok(match command {
            Command::PageFetched { run, records, cursor } => {
                self.running_or_scheduled(run)?;
                vec![Event::PageFetched { run, records, cursor }]
            }
            Command::RunProduced { run, stop } => {
                self.running(run)?;
                vec![Event::RunProduced { run, stop }]
            }
            Command::FailRun { run, error } => {
                self.unended(run)?;
                vec![Event::RunFailed { run, error }]
            }
            Command::CancelRun { run, cancelled } => match self.runs.get(&run) {
                Some(known) if known.terminal => vec![],
                Some(_) => vec![Event::RunCancelled { run, cancelled }],
                None => return Err(Rejection::Unknown(run)),
            },
            _ => vec![],
        })
    }

    /// Returns the ends of the runs whose partitions are `written` past their records; without
    /// `written`, of all runs in the topic. A run with too many rejected records fails, others
    /// succeed.
    pub fn completed(&self, written: Option<&BTreeMap<Partition, Offset>>) -> Vec<Event> {
        let is_complete = |run: &&Run| written.is_none_or(|written| run.ranges.passed_by(written));
        let end = |run: &Run| match run.too_many_rejected(written.is_some()) {
            Some(error) => Event::RunFailed { run: run.id, error },
            None => Event::RunSucceeded { run: run.id },
        };
        self.draining().filter(is_complete).map(end).collect()
    }

    /// Returns the runs that are in the topic and wait for the table.
    pub fn draining(&self) -> impl Iterator<Item = &Run> {
        self.open().filter(|run| run.state == RunState::Draining)
    }

    /// Returns the failures of the runs that can't succeed, since what they produced to the `lost`
    /// partitions is not read.
    pub fn invalidated(&self, is_lost: impl Fn(Partition) -> bool, reason: &str) -> Vec<Event> {
        self.open().filter(|run| run.ranges.0.keys().any(|&partition| is_lost(partition))).map(|run| unwritten(run, reason)).collect()
    }

    /// Returns the failures of the runs that can't succeed, since the topic was re-created: all
    /// that have started, as a page may be partly lost.
    pub fn invalidated_by_recreation(&self, reason: &str) -> Vec<Event> {
        self.open().filter(|run| run.state != RunState::Requested).map(|run| unwritten(run, reason)).collect()
    }

    /// Returns whether a run exists and has not ended.
    pub fn is_open(&self, id: Uuid) -> bool {
        self.runs.get(&id).is_some_and(|run| !run.terminal)
    }

    /// Returns whether any run is open.
    pub fn has_open(&self) -> bool {
        self.open > 0
    }

    /// Returns the open runs with a lease, and its duration.
    pub fn leased(&self) -> Vec<(Uuid, Duration)> {
        let lease = |run: &Run| Some((run.id, Duration::from_secs(run.spec.lease_seconds?.into())));
        self.open().filter_map(lease).collect()
    }

    /// Returns the open runs, oldest first.
    fn open(&self) -> impl Iterator<Item = &Run> {
        self.order.iter().filter_map(|id| self.runs.get(id)).filter(|run| !run.terminal)
    }

    /// Applies an event.
    pub fn evolve(&mut self, event: &Event, now: DateTime<Utc>) {
        if let Event::RunRequested { run, key, attempt, spec, from, began } = event {
            self.add(*run, (key, *attempt), spec, (from.clone(), began.clone()), now);
            return;
        }
        if let Event::BatchWritten { runs, .. } = event {
            for settled in runs {
                if let Some(run) = self.runs.get_mut(&settled.run).filter(|run| !run.terminal) {
                    run.records_settled(settled);
                }
            }
            return;
        }
        let is_of_single_cursor =
            matches!(event, Event::PageProduced { run, moves: Some(read), .. } if self.is_of_single_cursor(*run, read));
        let Some(run) = event.run().and_then(|id| self.runs.get_mut(&id)).filter(|run| !run.terminal) else { return };
        match event {
            Event::RunStarted { at, .. } => {
                run.state = RunState::Running;
                run.begin();
                run.began = run.began.take().or_else(|| at.clone());
                run.position = run.position.take().or_else(|| at.clone());
            }
            Event::PageFetched { records, .. } => run.page_fetched(*records),
            Event::PageProduced { ranges, produced, rejected, cursor, rejects, .. } => {
                let moved = cursor.as_deref().filter(|_| !is_of_single_cursor);
                run.page_produced(ranges, (*produced, *rejected), rejects, moved.is_some());
                if let Some(cursor) = moved {
                    run.position = Some(Position::of(Some(cursor)));
                }
            }
            // After a crash it begins another pass: a page of this one would be asked for from the
            // new watermark.
            Event::WatermarkMoved { pass: None, .. } => run.position = None,
            Event::RunProduced { stop, .. } => {
                run.state = RunState::Draining;
                run.stop.clone_from(stop);
            }
            Event::RunSucceeded { .. } => {
                run.state = RunState::Succeeded;
                run.complete();
            }
            Event::RunFailed { error, .. } => {
                run.state = RunState::Failed;
                run.error = Some(error.clone());
                if error.stage == REJECTED {
                    run.complete();
                }
            }
            Event::RunCancelled { cancelled, .. } => {
                run.state = RunState::Cancelled;
                run.cancelled = Some(cancelled.clone());
            }
            _ => {}
        }
        if run.state.is_terminal() {
            run.terminal = true;
            run.ended_at = Some(now);
            // It is kept only where the next attempt continues at it.
            run.position = run.position.take().filter(|_| run.again && !is_whole(run));
            self.open -= 1;
            self.forget_oldest();
        }
    }

    /// Resets the positions of open runs after a change of the source. Ended runs stay as they are.
    pub(super) fn forget_positions(&mut self) {
        for run in self.runs.values_mut().filter(|run| !run.terminal) {
            (run.began, run.kept, run.kept_rejects) = (None, RunCounts::default(), Rejects::default());
            run.position = run.again.then(Position::default);
        }
    }

    fn add(
        &mut self,
        id: Uuid,
        (key, attempt): (&str, u32),
        spec: &RunSpec,
        (from, began): (Option<Position>, Option<Position>),
        now: DateTime<Utc>,
    ) {
        let run = Run {
            id,
            key: key.to_owned(),
            attempt,
            spec: spec.clone(),
            state: RunState::Requested,
            terminal: false,
            counts: RunCounts::default(),
            kept: RunCounts::default(),
            rejects: Rejects::default(),
            kept_rejects: Rejects::default(),
            ranges: Ranges::default(),
            stop: None,
            again: from.is_some(),
            began,
            position: from,
            error: None,
            requested_at: now,
            ended_at: None,
            cancelled: None,
        };
        self.runs.insert(id, run);
        self.by_key.entry(key.to_owned()).or_default().push(id);
        self.order.push_back(id);
        self.open += 1;
    }

    /// Forgets the oldest ended run beyond [`MAX_ENDED_RUNS`].
    fn forget_oldest(&mut self) {
        if self.order.len() - self.open <= MAX_ENDED_RUNS {
            return;
        }
        let Some(at) = self.order.iter().position(|id| self.runs.get(id).is_some_and(|run| run.terminal)) else { return };
        if let Some(run) = self.order.remove(at).and_then(|id| self.runs.remove(&id))
            && let Some(attempts) = self.by_key.get_mut(&run.key)
        {
            attempts.retain(|id| *id != run.id);
            if attempts.is_empty() {
                self.by_key.remove(&run.key);
            }
        }
    }
}

/// Returns whether the run succeeded and read everything there was.
fn is_whole(run: &Run) -> bool {
    run.state == RunState::Succeeded && run.cut_short().is_none()
}

fn unwritten(run: &Run, reason: &str) -> Event {
    let error = RunError { stage: "consume".into(), message: reason.to_owned(), retryable: true };
    Event::RunFailed { run: run.id, error }
}
