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

use super::state::Command;

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

/// A command the state does not allow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// There is no such run.
    #[error("no run has the id {0}; `GET /v1/runs` lists them")]
    Unknown(Uuid),
    /// It has ended.
    #[error("run {0} has ended as {1:?}")]
    Ended(Uuid, RunState),
    /// It is not in a state for this.
    #[error("run {0} is {1:?}; that can't be said of it now")]
    OutOfTurn(Uuid, RunState),
    /// Too many are open.
    #[error("{OPEN_MOST} runs are open already; try again when some have ended")]
    TooMany,
    /// The key is empty or too long, or the attempt is 0.
    #[error("a run's key has 1 to {KEY_MOST} characters, and attempts count from 1")]
    BadKey,
    /// The key and attempt mean a run that was asked for with something else.
    #[error("run {0} was asked for with other params, labels, lease, read or max_rejected")]
    Mismatch(Uuid),
    /// The pipeline is meant to fetch nothing.
    #[error("the pipeline is {0}")]
    Paused(&'static str),
}

/// Every run that is open, and the last that ended. Serialises to the list of them, in the order they were asked for.
#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
#[serde(from = "Vec<Run>", into = "Vec<Run>")]
pub struct Runs {
    runs: HashMap<Uuid, Run>,
    /// The attempts at a key, in the order they were asked for.
    by_key: HashMap<String, Vec<Uuid>>,
    /// In the order they were asked for.
    order: VecDeque<Uuid>,
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
        let checkpoint = |of: fn(&Run) -> &Option<Position>| last.filter(of_now).and_then(|last| of(last).clone());
        let (began, position) = (checkpoint(|last| &last.began), checkpoint(|last| &last.position));
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

#[cfg(test)]
mod tests {
    use forebay_schemas::offset::Range;
    use forebay_schemas::run::{Cancelled, RunWritten};

    use super::*;

    fn now() -> DateTime<Utc> {
        DateTime::UNIX_EPOCH
    }

    fn id(n: u128) -> Uuid {
        Uuid::from_u128(n)
    }

    fn request(runs: &mut Runs, key: &str, attempt: u32, fresh: u128) -> Accepted {
        let accepted = runs.request(key, attempt, &RunSpec::default(), id(fresh)).unwrap();
        if let Accepted::New(run) = accepted {
            runs.evolve(&Event::RunRequested { run, key: key.into(), attempt, spec: RunSpec::default(), from: None, began: None }, now());
        }
        accepted
    }

    fn submit(runs: &mut Runs, command: Command) -> Result<(), Rejection> {
        // What a state adds is where a run begins, and whose cursor moves.
        let events = match command {
            Command::Start { run } => runs.start(run, runs.get(run).and_then(|run| run.position.clone()).unwrap_or_default())?,
            Command::PageProduced { run, ranges, produced, rejected, cursor, rejects, .. } => {
                runs.running_or_scheduled(run)?;
                vec![Event::PageProduced { run, ranges, produced, rejected, cursor, moves: None, rejects }]
            }
            command => runs.decide(command)?,
        };
        for event in events {
            runs.evolve(&event, now());
        }
        Ok(())
    }

    fn written(runs: &mut Runs, partition: Partition, offset: Offset) {
        for event in runs.complete(Some(&BTreeMap::from([(partition, offset)]))) {
            runs.evolve(&event, now());
        }
    }

    fn produced(runs: &mut Runs, run: Uuid, partition: Partition, range: Range) {
        let mut ranges = Ranges::default();
        ranges.add(partition, range);
        submit(runs, Command::Start { run }).unwrap();
        submit(runs, Command::PageFetched { run, records: range.len(), cursor: None }).unwrap();
        let (asked, rejects) = (Position::Begin, Rejects::default());
        submit(runs, Command::PageProduced { run, ranges, produced: range.len(), rejected: 0, asked, cursor: None, rejects }).unwrap();
        submit(runs, Command::AllProduced { run, stop: None }).unwrap();
    }

    /// A page of run 1, fetched and produced.
    fn page(runs: &mut Runs, range: Range, cursor: Option<&str>) {
        let mut ranges = Ranges::default();
        ranges.add(0, range);
        submit(runs, Command::PageFetched { run: id(1), records: range.len(), cursor: None }).unwrap();
        let cursor = cursor.map(str::to_owned);
        let (asked, rejects) = (Position::Begin, Rejects::default());
        submit(runs, Command::PageProduced { run: id(1), ranges, produced: range.len(), rejected: 0, asked, cursor, rejects }).unwrap();
    }

    #[test]
    fn the_same_key_and_attempt_is_the_same_run() {
        let mut runs = Runs::default();
        assert_eq!(request(&mut runs, "k", 1, 1), Accepted::New(id(1)));
        assert_eq!(request(&mut runs, "k", 1, 2), Accepted::Same(id(1)));
        submit(&mut runs, Command::Cancel { run: id(1), cancelled: Cancelled::default() }).unwrap();
        assert_eq!(request(&mut runs, "k", 1, 2), Accepted::Same(id(1)), "ended or not");
    }

    #[test]
    fn a_higher_attempt_attaches_to_an_open_run_and_starts_anew_after_an_ended_one() {
        let mut runs = Runs::default();
        request(&mut runs, "k", 1, 1);
        assert_eq!(request(&mut runs, "k", 2, 2), Accepted::Same(id(1)));
        submit(&mut runs, Command::Cancel { run: id(1), cancelled: Cancelled::default() }).unwrap();
        assert_eq!(request(&mut runs, "k", 3, 3), Accepted::New(id(3)));
        assert_eq!(request(&mut runs, "k", 1, 4), Accepted::Same(id(1)));
    }

    #[test]
    fn a_key_that_is_asked_for_with_something_else_is_refused_and_names_the_run() {
        let mut runs = Runs::default();
        request(&mut runs, "k", 1, 1);
        let other = RunSpec { lease_seconds: Some(30), ..RunSpec::default() };
        for attempt in [1, 2] {
            assert_eq!(runs.request("k", attempt, &other, id(2)), Err(Rejection::Mismatch(id(1))), "attempt {attempt}");
        }
        submit(&mut runs, Command::Cancel { run: id(1), cancelled: Cancelled::default() }).unwrap();
        assert_eq!(runs.request("k", 1, &other, id(2)), Err(Rejection::Mismatch(id(1))), "ended or not");
        assert_eq!(runs.request("k", 2, &other, id(2)), Ok(Accepted::New(id(2))), "a new run is another one");
    }

    #[test]
    fn a_run_succeeds_only_when_its_last_record_is_written() {
        let mut runs = Runs::default();
        request(&mut runs, "k", 1, 1);
        produced(&mut runs, id(1), 2, Range { from: 10, to: 20 });
        assert_eq!(runs.get(id(1)).unwrap().state, RunState::Draining);
        written(&mut runs, 2, 19);
        assert_eq!(runs.get(id(1)).unwrap().state, RunState::Draining);
        written(&mut runs, 2, 20);
        let run = runs.get(id(1)).unwrap();
        assert!(run.terminal && run.state == RunState::Succeeded && run.counts.produced == 10);
    }

    #[test]
    fn a_run_whose_records_are_written_already_succeeds() {
        let mut runs = Runs::default();
        request(&mut runs, "k", 1, 1);
        produced(&mut runs, id(1), 0, Range { from: 40, to: 50 });
        written(&mut runs, 0, 50);
        assert_eq!(runs.get(id(1)).unwrap().state, RunState::Succeeded);
    }

    #[test]
    fn a_run_without_records_succeeds() {
        let mut runs = Runs::default();
        request(&mut runs, "k", 1, 1);
        submit(&mut runs, Command::Start { run: id(1) }).unwrap();
        submit(&mut runs, Command::AllProduced { run: id(1), stop: None }).unwrap();
        written(&mut runs, 0, 0);
        assert_eq!(runs.get(id(1)).unwrap().state, RunState::Succeeded);
    }

    #[test]
    fn a_run_keeps_why_it_asked_for_no_further_page_and_whether_it_was_cut_short() {
        use forebay_schemas::run::{Stop, StopReason};
        let mut runs = Runs::default();
        request(&mut runs, "k", 1, 1);
        submit(&mut runs, Command::Start { run: id(1) }).unwrap();
        let stop = Stop { reason: StopReason::MaxPages, complete: false, cursor: Some("7".into()), detail: "more".into() };
        submit(&mut runs, Command::AllProduced { run: id(1), stop: Some(stop.clone()) }).unwrap();
        written(&mut runs, 0, 0);
        let run = runs.get(id(1)).unwrap();
        assert_eq!((run.state, run.cut_short()), (RunState::Succeeded, Some(&stop)), "what it read is readable, and it was not all");
        let again: Runs = serde_json::from_str(&serde_json::to_string(&runs).unwrap()).unwrap();
        assert_eq!(again, runs);
    }

    #[test]
    fn a_run_begun_again_counts_from_its_first_page_and_waits_for_all_it_produced() {
        let mut runs = Runs::default();
        request(&mut runs, "k", 1, 1);
        for range in [Range { from: 0, to: 10 }, Range { from: 20, to: 30 }] {
            submit(&mut runs, Command::Start { run: id(1) }).unwrap();
            page(&mut runs, range, None);
        }
        let run = runs.get(id(1)).unwrap();
        assert_eq!((run.counts.fetched, run.counts.produced, run.ranges.0[&0]), (10, 10, Range { from: 0, to: 30 }));
    }

    #[test]
    fn a_run_begun_again_keeps_the_counts_of_the_pages_behind_the_cursor_and_of_no_other() {
        let mut runs = Runs::default();
        request(&mut runs, "k", 1, 1);
        submit(&mut runs, Command::Start { run: id(1) }).unwrap();
        page(&mut runs, Range { from: 0, to: 10 }, Some("10"));
        page(&mut runs, Range { from: 10, to: 20 }, Some("20"));
        submit(&mut runs, Command::PageFetched { run: id(1), records: 10, cursor: Some("20".into()) }).unwrap();
        let counts = |runs: &Runs| runs.get(id(1)).unwrap().counts;
        assert_eq!((counts(&runs).pages, counts(&runs).fetched, counts(&runs).produced), (3, 30, 20));
        submit(&mut runs, Command::Start { run: id(1) }).unwrap();
        assert_eq!((counts(&runs).pages, counts(&runs).fetched, counts(&runs).produced), (2, 20, 20), "the third was not produced");
        page(&mut runs, Range { from: 20, to: 30 }, None);
        submit(&mut runs, Command::Start { run: id(1) }).unwrap();
        assert_eq!(counts(&runs).pages, 2, "the third is in the topic, but moved no cursor, so it is fetched again");
        page(&mut runs, Range { from: 30, to: 40 }, None);
        assert_eq!((counts(&runs).pages, counts(&runs).fetched, counts(&runs).produced), (3, 30, 30));
    }

    /// What became of records of run 1.
    fn settled(runs: &mut Runs, [filtered, rejected, written, rows]: [u64; 4]) {
        let mut rejects = Rejects::default();
        rejects.add("decode", "not JSON", rejected);
        let settled = RunWritten { run: id(1), filtered, rejected, written, rows, rejects };
        let event = Event::BatchWritten {
            batch: 1,
            ranges: Ranges::default(),
            rows,
            rejected,
            wait_micros: 0,
            transform_micros: 0,
            write_micros: 0,
            written: forebay_schemas::event::Checkpoints::default(),
            runs: vec![settled],
        };
        runs.evolve(&event, now());
    }

    /// Run 1 of ten records, of which so many are no records of the topic; it may have so many rejected.
    fn ten(max_rejected: &str, refused: u64) -> Runs {
        let mut runs = Runs::default();
        let max_rejected = (!max_rejected.is_empty()).then(|| max_rejected.parse().unwrap());
        let spec = RunSpec { max_rejected, ..RunSpec::default() };
        runs.evolve(&Event::RunRequested { run: id(1), key: "k".into(), attempt: 1, spec, from: None, began: None }, now());
        submit(&mut runs, Command::Start { run: id(1) }).unwrap();
        submit(&mut runs, Command::PageFetched { run: id(1), records: 10, cursor: None }).unwrap();
        let produced = 10 - refused;
        let ranges = [(0, Range { from: 0, to: i64::try_from(produced).unwrap() })].into_iter().collect();
        let mut rejects = Rejects::default();
        rejects.add("produce", "no key", refused);
        submit(
            &mut runs,
            Command::PageProduced { run: id(1), ranges, produced, rejected: refused, asked: Position::Begin, cursor: None, rejects },
        )
        .unwrap();
        submit(&mut runs, Command::AllProduced { run: id(1), stop: None }).unwrap();
        runs
    }

    #[test]
    fn the_counts_of_a_run_are_whole_and_say_what_was_counted_elsewhere() {
        let mut runs = ten("", 2);
        settled(&mut runs, [1, 1, 3, 6]);
        settled(&mut runs, [0, 1, 0, 0]);
        written(&mut runs, 0, 8);
        let run = runs.get(id(1)).unwrap();
        let of = run.counts;
        let all = [of.fetched, of.produced, of.rejected, of.refused, of.filtered, of.written, of.rows, of.elsewhere, of.again];
        assert_eq!(all, [10, 8, 4, 2, 1, 3, 6, 2, 0]);
        assert_eq!(of.fetched, of.produced + of.refused);
        assert_eq!(of.produced, of.filtered + (of.rejected - of.refused) + of.written + of.elsewhere);
        assert_eq!(run.state, RunState::Succeeded);
        let reasons: Vec<_> = run.rejects.iter().map(ToString::to_string).collect();
        assert_eq!(reasons, ["2 at produce: no key", "2 at decode: not JSON"]);
        let mut runs = ten("", 0);
        settled(&mut runs, [0, 0, 12, 12]);
        written(&mut runs, 0, 10);
        assert_eq!(runs.get(id(1)).unwrap().counts.again, 2, "a page was produced again");
    }

    #[test]
    fn a_run_of_which_too_many_records_are_rejected_fails_once_it_is_complete() {
        for (limit, rejected, fails) in
            [("", 9, false), ("", 10, true), ("3", 3, false), ("3", 4, true), ("30%", 3, false), ("30%", 4, true), ("100%", 10, false)]
        {
            let mut runs = ten(limit, 1);
            settled(&mut runs, [0, rejected - 1, 10 - rejected, 10 - rejected]);
            assert_eq!(runs.get(id(1)).unwrap().state, RunState::Draining, "not before all of it is settled");
            written(&mut runs, 0, 9);
            let run = runs.get(id(1)).unwrap();
            assert_eq!(run.state == RunState::Failed, fails, "{limit} of {rejected}: {run:?}");
            if fails {
                let RunError { stage, message, retryable } = run.error.clone().unwrap();
                assert_eq!((stage.as_str(), retryable), ("rejected", false));
                assert!(message.contains(&format!("{rejected} of 10")) && message.contains("at decode: not JSON"), "{message}");
                assert!(message.ends_with("`forebay dlq` shows them"), "{message}");
            }
        }
    }

    #[test]
    fn a_pipeline_that_ends_at_the_topic_fails_a_run_of_which_nothing_came_into_it() {
        for (refused, fails) in [(10, true), (9, false), (0, false)] {
            let mut runs = ten("", refused);
            for event in runs.complete(None) {
                runs.evolve(&event, now());
            }
            assert_eq!(runs.get(id(1)).unwrap().state == RunState::Failed, fails, "{refused}");
        }
    }

    #[test]
    fn what_was_rejected_elsewhere_is_not_known_and_fails_no_run() {
        let mut runs = ten("", 1);
        written(&mut runs, 0, 9);
        let run = runs.get(id(1)).unwrap();
        assert_eq!((run.state, run.counts.elsewhere), (RunState::Succeeded, 9));
    }

    #[test]
    fn a_run_begun_again_forgets_what_was_rejected_on_its_way_into_the_topic_and_nothing_that_was_settled() {
        let mut runs = ten("", 2);
        settled(&mut runs, [1, 1, 0, 0]);
        submit(&mut runs, Command::Start { run: id(1) }).unwrap_err();
        let mut runs = Runs::default();
        request(&mut runs, "k", 1, 1);
        submit(&mut runs, Command::Start { run: id(1) }).unwrap();
        submit(&mut runs, Command::PageFetched { run: id(1), records: 3, cursor: None }).unwrap();
        let mut rejects = Rejects::default();
        rejects.add("produce", "no key", 1);
        let ranges = Ranges::default();
        submit(
            &mut runs,
            Command::PageProduced { run: id(1), ranges, produced: 2, rejected: 1, asked: Position::Begin, cursor: None, rejects },
        )
        .unwrap();
        settled(&mut runs, [1, 1, 0, 0]);
        submit(&mut runs, Command::Start { run: id(1) }).unwrap();
        let run = runs.get(id(1)).unwrap();
        assert_eq!((run.counts.rejected, run.counts.refused, run.counts.filtered), (1, 0, 1));
        assert_eq!(run.rejects.iter().map(ToString::to_string).collect::<Vec<_>>(), ["1 at decode: not JSON"]);
    }

    #[test]
    fn a_request_that_does_not_say_how_many_may_be_rejected_means_the_run_as_it_is() {
        let runs = ten("5%", 0);
        assert_eq!(runs.request("k", 1, &RunSpec::default(), id(2)), Ok(Accepted::Same(id(1))));
        let other = RunSpec { max_rejected: Some("6%".parse().unwrap()), ..RunSpec::default() };
        assert_eq!(runs.request("k", 1, &other, id(2)), Err(Rejection::Mismatch(id(1))));
    }

    #[test]
    fn runs_read_back_from_their_list_are_the_same() {
        let mut runs = Runs::default();
        request(&mut runs, "k", 1, 1);
        request(&mut runs, "other", 1, 2);
        submit(&mut runs, Command::Cancel { run: id(1), cancelled: Cancelled::default() }).unwrap();
        request(&mut runs, "k", 2, 3);
        let again: Runs = serde_json::from_str(&serde_json::to_string(&runs).unwrap()).unwrap();
        assert_eq!(again, runs);
        assert_eq!(request(&mut runs, "k", 3, 4), Accepted::Same(id(3)));
    }

    #[test]
    fn an_ended_run_takes_no_more_and_cancelling_it_is_no_error() {
        let mut runs = Runs::default();
        request(&mut runs, "k", 1, 1);
        let error = RunError { stage: "fetch".into(), message: "no".into(), retryable: false };
        submit(&mut runs, Command::Fail { run: id(1), error }).unwrap();
        assert_eq!(submit(&mut runs, Command::Start { run: id(1) }), Err(Rejection::Ended(id(1), RunState::Failed)));
        assert_eq!(submit(&mut runs, Command::Cancel { run: id(1), cancelled: Cancelled::default() }), Ok(()));
        assert_eq!(runs.get(id(1)).unwrap().state, RunState::Failed);
    }

    #[test]
    fn open_runs_and_remembered_runs_are_bounded() {
        let mut runs = Runs::default();
        for n in 0..OPEN_MOST {
            request(&mut runs, &format!("k{n}"), 1, n as u128);
        }
        assert_eq!(runs.request("more", 1, &RunSpec::default(), id(99_999)), Err(Rejection::TooMany));
        for n in 0..(ENDED_KEPT + 500) {
            let run = id(1_000_000 + n as u128);
            if n < OPEN_MOST {
                submit(&mut runs, Command::Cancel { run: id(n as u128), cancelled: Cancelled::default() }).unwrap();
            }
            runs.evolve(
                &Event::RunRequested { run, key: format!("later{n}"), attempt: 1, spec: RunSpec::default(), from: None, began: None },
                now(),
            );
            submit(&mut runs, Command::Cancel { run, cancelled: Cancelled::default() }).unwrap();
        }
        assert_eq!(runs.order.len(), ENDED_KEPT);
        assert_eq!(runs.by_key.len(), ENDED_KEPT);
    }
}
