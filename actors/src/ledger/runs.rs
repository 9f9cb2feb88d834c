//! The state of runs, pure: what a command may do, and what an event changes.
//!
//! Guarantee: one key and attempt is one run, for as long as it is remembered; a terminal run never changes; a run succeeds only when every
//! partition it produced to is written past its last record. Bounded: [`OPEN_MOST`] runs not ended, [`ENDED_KEPT`] ended ones remembered.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use chrono::{DateTime, Utc};
use forebay_schemas::event::Event;
use forebay_schemas::offset::{Offset, Partition, Ranges};
use forebay_schemas::read::{Position, Read, ReadMode};
use forebay_schemas::rejects::Rejects;
use forebay_schemas::run::{REJECTED, Run, RunCounts, RunError, RunSpec, RunState};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::command::Command;
use super::error::Rejection;

/// The most runs that may be open at once.
pub const OPEN_MOST: usize = 1_000;
/// How many ended runs are remembered.
pub const ENDED_KEPT: usize = 10_000;
/// The longest key, in characters.
pub const KEY_MOST: usize = 512;

/// What a request for a run came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accepted {
    /// A new run.
    New(Uuid),
    /// The run that the key and attempt already mean, or the active run of an earlier attempt.
    Same(Uuid),
}

impl Accepted {
    /// The run.
    pub fn id(self) -> Uuid {
        match self {
            Self::New(id) | Self::Same(id) => id,
        }
    }
}

/// Every run that is open, and the last that ended. Serialises to the list of them, in the order they were asked for.
#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
#[serde(from = "Vec<Run>", into = "Vec<Run>")]
pub struct Runs {
    runs: HashMap<Uuid, Run>,
    /// The attempts at a key, in the order they were asked for.
    pub(super) by_key: HashMap<String, Vec<Uuid>>,
    /// In the order they were asked for.
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
    /// A run.
    pub fn get(&self, id: Uuid) -> Option<&Run> {
        self.runs.get(&id)
    }

    /// How many have not ended.
    pub fn open_count(&self) -> usize {
        self.open
    }

    /// The last runs asked for, newest first.
    pub fn recent(&self, most: usize) -> Vec<Run> {
        self.recent_where(most, |_| true)
    }

    /// The last of those that are wanted, newest first.
    pub fn recent_where(&self, most: usize, wanted: impl Fn(&Run) -> bool) -> Vec<Run> {
        self.order.iter().rev().filter_map(|id| self.runs.get(id)).filter(|run| wanted(run)).take(most).cloned().collect()
    }

    /// The runs that are not wholly in the topic yet, oldest first.
    pub fn unfetched(&self) -> Vec<Uuid> {
        let unfetched = |run: &&Run| matches!(run.state, RunState::Requested | RunState::Running);
        self.open().filter(unfetched).map(|run| run.id).collect()
    }

    /// What a request for a run comes to; `fresh` is the identifier a new one would get.
    ///
    /// The same key and attempt is the same run. A higher attempt attaches to an open run, and is a new one after an ended run.
    ///
    /// # Errors
    /// When too many runs are open, the key is no key, or it means a run that was asked for with another `spec`.
    pub fn request(&self, key: &str, attempt: u32, spec: &RunSpec, fresh: Uuid) -> Result<Accepted, Rejection> {
        if key.is_empty() || key.chars().count() > KEY_MOST || attempt == 0 {
            return Err(Rejection::BadKey);
        }
        let attempts = || self.by_key.get(key).into_iter().flatten().filter_map(|id| self.runs.get(id));
        let same = |run: &Run| {
            // Who does not say how many may be rejected means what the run has.
            let max_rejected = spec.max_rejected.or(run.spec.max_rejected);
            let is_same = run.spec == RunSpec { max_rejected, ..spec.clone() };
            if is_same { Ok(Accepted::Same(run.id)) } else { Err(Rejection::Mismatch(run.id)) }
        };
        if let Some(known) = attempts().rev().find(|run| run.attempt == attempt) {
            return same(known);
        }
        match attempts().next_back() {
            Some(last) if !last.terminal || attempt < last.attempt => same(last),
            _ if self.open >= OPEN_MOST => Err(Rejection::TooMany),
            _ => Ok(Accepted::New(fresh)),
        }
    }

    /// The event of a new run: where it begins when it reads again.
    ///
    /// A run that is told to reads again from the begin of its read. So does a new attempt at a key whose last one succeeded whole (a task is
    /// cleared to be done again), but from where the first began. After one that did not, a run that read again goes on where that one was, for
    /// nobody else reads the rest of it, or begins over where asking the same again would not help; any other goes on where its read is. What
    /// ended before `since` was of another source, so where it was says nothing.
    pub fn requested(&self, run: Uuid, (key, attempt): (&str, u32), spec: RunSpec, since: Option<DateTime<Utc>>) -> Event {
        let last = self.by_key.get(key).and_then(|attempts| attempts.last()).and_then(|id| self.runs.get(id));
        let of_now = |run: &&Run| since.is_none_or(|since| run.ended_at.is_some_and(|ended| ended >= since));
        let position = |of: fn(&Run) -> &Option<Position>| last.filter(of_now).and_then(|last| of(last).clone());
        let (began, position) = (position(|last| &last.began), position(|last| &last.position));
        let from = match (spec.read, last) {
            (Some(ReadMode::Again), _) => Some(Position::Begin),
            (Some(ReadMode::Continue), _) | (None, None) => None,
            (None, Some(last)) if is_whole(last) => Some(began.clone().unwrap_or_default()),
            (None, Some(last)) if last.again => {
                let over = last.error.as_ref().is_some_and(|error| !error.retryable);
                Some(if over { began.clone() } else { position }.unwrap_or_default())
            }
            (None, Some(_)) => None,
        };
        Event::RunRequested { run, key: key.to_owned(), attempt, spec, from, began }
    }

    /// The events of the begin of a run, or of its going on after a restart, at a page.
    ///
    /// # Errors
    /// When there is no such run, or it is in the topic already.
    pub fn start(&self, run: Uuid, at: Position) -> Result<Vec<Event>, Rejection> {
        match self.unended(run)?.state {
            RunState::Requested | RunState::Running => Ok(vec![Event::RunStarted { run, at: Some(at) }]),
            state => Err(Rejection::OutOfTurn(run, state)),
        }
    }

    /// Whether a page may be of this: a run that is under way, or a fetch that nobody asked for, which is no run.
    ///
    /// # Errors
    /// When it is a run that is not under way.
    pub fn running_or_scheduled(&self, run: Uuid) -> Result<(), Rejection> {
        if self.runs.contains_key(&run) { self.running(run).map(drop) } else { Ok(()) }
    }

    /// Whether a page moved the one cursor that all fetches had once, though it was of a run with params: where that came to says nothing
    /// of any read.
    pub fn is_of_one_cursor(&self, run: Uuid, moves: &Read) -> bool {
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
            run => Err(Rejection::OutOfTurn(id, run.state)),
        }
    }

    /// The events that follow from a command on a run; nothing from any other.
    ///
    /// # Errors
    /// When the state does not allow the command.
    pub fn decide(&self, command: Command) -> Result<Vec<Event>, Rejection> {
        Ok(match command {
            Command::PageFetched { run, records, cursor } => {
                self.running_or_scheduled(run)?;
                vec![Event::PageFetched { run, records, cursor }]
            }
            Command::AllProduced { run, stop } => {
                self.running(run)?;
                vec![Event::RunProduced { run, stop }]
            }
            Command::Fail { run, error } => {
                self.unended(run)?;
                vec![Event::RunFailed { run, error }]
            }
            Command::Cancel { run, cancelled } => match self.runs.get(&run) {
                Some(known) if known.terminal => vec![],
                Some(_) => vec![Event::RunCancelled { run, cancelled }],
                None => return Err(Rejection::Unknown(run)),
            },
            _ => vec![],
        })
    }

    /// The runs that are over now that the partitions are written so far; without that, all that are in the topic. A run of which more is rejected than
    /// may be has failed, the others have succeeded.
    pub fn complete(&self, written: Option<&BTreeMap<Partition, Offset>>) -> Vec<Event> {
        let is_complete = |run: &&Run| written.is_none_or(|written| run.ranges.passed_by(written));
        let end = |run: &Run| match run.too_many_rejected(written.is_some()) {
            Some(error) => Event::RunFailed { run: run.id, error },
            None => Event::RunSucceeded { run: run.id },
        };
        self.draining().filter(is_complete).map(end).collect()
    }

    /// The runs that are in the topic and wait for the table.
    pub fn draining(&self) -> impl Iterator<Item = &Run> {
        self.open().filter(|run| run.state == RunState::Draining)
    }

    /// The runs that can't succeed any more, since what they produced to these partitions is gone.
    pub fn bereft(&self, gone: impl Fn(Partition) -> bool, why: &str) -> Vec<Event> {
        self.open().filter(|run| run.ranges.0.keys().any(|&partition| gone(partition))).map(|run| unwritten(run, why)).collect()
    }

    /// The runs that can't succeed any more, since the topic was deleted and created again: all that have begun, for a page may be on its way of which
    /// a part is gone.
    pub fn recreated(&self, why: &str) -> Vec<Event> {
        self.open().filter(|run| run.state != RunState::Requested).map(|run| unwritten(run, why)).collect()
    }

    /// Whether a run is known and has not ended.
    pub fn is_open(&self, id: Uuid) -> bool {
        self.runs.get(&id).is_some_and(|run| !run.terminal)
    }

    /// Whether any run is open.
    pub fn any_open(&self) -> bool {
        self.open > 0
    }

    /// The open runs that are called off when nobody asks for them, each with how long that may be.
    pub fn leased(&self) -> Vec<(Uuid, Duration)> {
        let lease = |run: &Run| Some((run.id, Duration::from_secs(run.spec.lease_seconds?.into())));
        self.open().filter_map(lease).collect()
    }

    /// The runs that have not ended, oldest first.
    fn open(&self) -> impl Iterator<Item = &Run> {
        self.order.iter().filter_map(|id| self.runs.get(id)).filter(|run| !run.terminal)
    }

    /// Applies an event that was decided on this state.
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
        let of_one_cursor = matches!(event, Event::PageProduced { run, moves: Some(read), .. } if self.is_of_one_cursor(*run, read));
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
                let moved = cursor.as_deref().filter(|_| !of_one_cursor);
                run.page_produced(ranges, (*produced, *rejected), rejects, moved.is_some());
                if let Some(cursor) = moved {
                    run.position = Some(Position::of(Some(cursor)));
                }
            }
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
            // Only where the next attempt goes on at it is it of any use.
            run.position = run.position.take().filter(|_| run.again && !is_whole(run));
            self.open -= 1;
            self.forget_oldest();
        }
    }

    /// The source is another one: where open runs were in the one before says nothing. Those that have ended stay as they are.
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

    /// Forgets the oldest ended run when more than [`ENDED_KEPT`] are remembered.
    fn forget_oldest(&mut self) {
        if self.order.len() - self.open <= ENDED_KEPT {
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

/// Whether all that there was to read has been read, and is in the table.
fn is_whole(run: &Run) -> bool {
    run.state == RunState::Succeeded && run.cut_short().is_none()
}

fn unwritten(run: &Run, why: &str) -> Event {
    let error = RunError { stage: "consume".into(), message: why.to_owned(), retryable: true };
    Event::RunFailed { run: run.id, error }
}
