//! When to fetch, and for whom. Pure: it is told the time, the jitter and what happened, and says what to do.
//!
//! Guarantee: at most one fetch at a time, scheduled or triggered; a fixed grid of scheduled fetches, of which missed ones are not made up
//! for; every triggered run ends in exactly one report, unless it is cancelled or the process stops; an API that asks to be left alone is
//! left alone by all. Where the API gives cursors a fetch goes page after page; it has a position of its own, which moves only when its
//! page is in Kafka. Each fetch that ends says why, and whether it was cut short. Where a fetch begins is not kept here: the ledger is asked
//! when it does. While paused no page is asked for, and nothing that is under way is forgotten. Not guaranteed: that a triggered run starts
//! soon, since those before it go first.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use forebay_schemas::event::Event;
use forebay_schemas::read::Position;
use forebay_schemas::run::{RunError, Stop};
use uuid::Uuid;

use super::paging::{Limits, Said, Trail, Turn};
use crate::ledger::Command;
use crate::message::{PageProduced, PageRefused};
use forebay_kernel::{Backoff, millis};
use forebay_schemas::failure::Class;

/// Triggered runs that may wait.
pub const MOST_WAITING: usize = 1_000;
/// How long a triggered run, or the one fetch of [`Schedule::Once`], tries an API that is away before it is reported failed.
pub const RUN_PATIENCE: Duration = Duration::from_secs(300);
/// Between two tries of an API that is away.
const BACKOFF: Backoff = Backoff { min: Duration::from_millis(500), max: Duration::from_secs(60) };

/// When to fetch without being asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Schedule {
    /// At once, and then on a fixed grid.
    Every(Duration),
    /// Once, at once.
    Once,
    /// Never.
    OnTrigger,
}

/// What to do.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Effect {
    /// Fetch the page at [`State::position`] for a run, once all that was reported is kept, and say what came of it.
    Fetch(Uuid),
    /// Call [`State::wake`] at this time. Replaces the previous `WakeAt`.
    WakeAt(Instant),
    /// Submit the command to the ledger.
    Record(Command),
    /// A scheduled fetch ended. `Ok`: all of it is in Kafka, and why it stopped (`None` when the schedule was stopped). `Err`: it
    /// produced nothing, and an immediate retry would not help. It is not a run, so the ledger does not record its end.
    ScheduledFetchEnded(Result<Option<Stop>, RunError>),
    /// Show this failure until the next success.
    Failing(String),
    /// Fetches succeed again.
    Recovered,
}

/// A fetch that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    /// Whether asking again may help.
    pub class: Class,
    /// Whether the same run may succeed when it is asked for again later.
    pub retryable: bool,
    /// How long the API asks to be left alone.
    pub retry_after: Option<Duration>,
    /// What happened.
    pub message: String,
}

/// The state of the fetcher.
#[derive(Debug)]
pub(crate) struct State {
    schedule: Schedule,
    /// The next point of the grid; none when nothing is scheduled any more.
    tick: Option<Instant>,
    /// The scheduled fetch that failed and is tried again.
    retry: Option<Retry>,
    waiting: VecDeque<Uuid>,
    current: Option<Work>,
    /// The API asked to be left alone until then.
    quiet_until: Option<Instant>,
    /// What the first page of a read is asked with.
    start: Option<String>,
    /// How far one fetch goes.
    limits: Limits,
    /// What the fetch after the last one that was cut short is asked with, and the pages before: one that goes on there is in the same
    /// circle, if it is one.
    cut: Option<(Option<String>, Trail)>,
    failing: bool,
    schedule_stopped: bool,
    paused: bool,
    stopping: bool,
}

/// A scheduled fetch that goes on later, where its read is then: another fetch of the read, or somebody, may have moved that.
#[derive(Debug)]
struct Retry {
    at: Instant,
    /// When its next page was first asked for.
    since: Instant,
    /// How often its next page was tried.
    attempt: u32,
    /// The pages of it that are in Kafka.
    trail: Trail,
}

#[derive(Debug)]
struct Work {
    run: Uuid,
    triggered: bool,
    cancelled: bool,
    /// When the page was first asked for.
    since: Instant,
    /// How often the page was tried.
    attempt: u32,
    /// The pages of the fetch so far.
    trail: Trail,
    /// Where the page is; none until it was asked where the fetch begins.
    position: Option<Position>,
    /// What follows from the page once it is in Kafka.
    turn: Option<Turn>,
    phase: Phase,
}

#[derive(Debug, PartialEq, Eq)]
enum Phase {
    Fetching,
    BackingOff(Instant),
    /// The next page waits for the pipeline to be resumed.
    Paused,
    Producing,
}

impl State {
    /// A fetcher that begins `now`; `open` are the runs that an incarnation before this one had accepted and not ended.
    pub(crate) fn new(schedule: Schedule, now: Instant, open: impl IntoIterator<Item = Uuid>) -> Self {
        let tick = (schedule != Schedule::OnTrigger).then_some(now);
        let waiting = open.into_iter().collect();
        Self {
            schedule,
            tick,
            retry: None,
            waiting,
            current: None,
            quiet_until: None,
            start: None,
            limits: Limits::ONE,
            cut: None,
            failing: false,
            schedule_stopped: false,
            paused: false,
            stopping: false,
        }
    }

    /// The same for an API that gives cursors: the first page of a read is asked for with `start`, and a fetch goes as far as its limits.
    pub(crate) fn with_cursors(self, start: Option<String>, limits: Limits) -> Self {
        Self { start, limits, ..self }
    }

    /// Whether the page that is to be fetched is the first of its fetch.
    pub(crate) fn is_first(&self) -> bool {
        self.current.as_ref().is_none_or(|work| work.trail.is_first())
    }

    /// Where the page is that is to be fetched; the first of a fetch is where `begins` says.
    pub(crate) fn position(&mut self, begins: impl FnOnce() -> Position) -> Position {
        self.current.as_mut().map(|work| work.position.get_or_insert_with(begins).clone()).unwrap_or_default()
    }

    /// What the page that is to be fetched is asked with.
    pub(crate) fn cursor(&self) -> Option<&str> {
        let position = self.current.as_ref()?.position.as_ref()?;
        position.cursor().or(self.start.as_deref())
    }

    /// Whether nothing is being fetched or produced.
    pub(crate) fn is_idle(&self) -> bool {
        self.current.as_ref().is_none_or(|work| matches!(work.phase, Phase::BackingOff(_) | Phase::Paused))
    }

    /// No page is asked for while it is paused. The page that is under way is produced.
    pub(crate) fn set_paused(&mut self, paused: bool, now: Instant, fresh: Uuid) -> Vec<Effect> {
        if !paused && self.paused {
            // The time of the pause is not the API's.
            self.current.iter_mut().for_each(|work| work.since = now);
            self.retry.iter_mut().for_each(|retry| retry.since = now);
        }
        self.paused = paused;
        self.wake(now, fresh)
    }

    /// Nothing more is begun by the schedule: no fetch, and no further page of the one under way.
    pub(crate) fn stop_schedule(&mut self) {
        self.schedule_stopped = true;
        self.tick = None;
        self.retry = None;
    }

    /// Nothing more is begun.
    pub(crate) fn stop(&mut self) {
        self.stopping = true;
    }

    /// The time has come, or something changed. `fresh` names a scheduled fetch, should one begin.
    pub(crate) fn wake(&mut self, now: Instant, fresh: Uuid) -> Vec<Effect> {
        let mut effects = Vec::new();
        if self.stopping || self.paused {
            return effects;
        }
        if let Some(work) = &mut self.current {
            match work.phase {
                Phase::Paused => {
                    work.phase = Phase::Fetching;
                    effects.push(Effect::Fetch(work.run));
                }
                Phase::BackingOff(until) if until > now => effects.push(Effect::WakeAt(until)),
                Phase::BackingOff(_) => {
                    work.phase = Phase::Fetching;
                    effects.push(Effect::Fetch(work.run));
                }
                Phase::Fetching | Phase::Producing => {}
            }
            return effects;
        }
        if let Some(until) = self.quiet_until.filter(|&until| until > now) {
            if !self.waiting.is_empty() || self.due().is_some() {
                effects.push(Effect::WakeAt(until));
            }
            return effects;
        }
        if let Some(run) = self.waiting.pop_front() {
            self.begin(run, true, None, now);
            effects.extend([Effect::Record(Command::Start { run }), Effect::Fetch(run)]);
            return effects;
        }
        match self.due() {
            Some(due) if due > now => effects.push(Effect::WakeAt(due)),
            Some(_) => {
                let before = self.retry.take();
                self.advance_tick(now);
                self.begin(fresh, false, before, now);
                effects.push(Effect::Fetch(fresh));
            }
            None => {}
        }
        effects
    }

    /// Somebody asks for a run.
    pub(crate) fn trigger(&mut self, run: Uuid, now: Instant, fresh: Uuid) -> Vec<Effect> {
        let known = self.waiting.contains(&run) || self.current.as_ref().is_some_and(|work| work.run == run);
        if known {
            return Vec::new();
        }
        if self.waiting.len() >= MOST_WAITING {
            let message = format!("{MOST_WAITING} runs are waiting to be fetched already; try again when some are done");
            return vec![Effect::Record(Command::Fail { run, error: error("fetch", message, true) })];
        }
        self.waiting.push_back(run);
        self.wake(now, fresh)
    }

    /// Somebody calls a run off: nothing more is reported of it. What is being produced of it already, stays produced.
    pub(crate) fn cancel(&mut self, run: Uuid, now: Instant, fresh: Uuid) -> Vec<Effect> {
        self.waiting.retain(|&waiting| waiting != run);
        match &mut self.current {
            Some(work) if work.run == run && matches!(work.phase, Phase::BackingOff(_) | Phase::Paused) => {
                self.current = None;
                self.wake(now, fresh)
            }
            Some(work) if work.run == run => {
                work.cancelled = true;
                Vec::new()
            }
            _ => Vec::new(),
        }
    }

    /// A page came, and said what it says of the next one. Says whether it is to be produced.
    pub(crate) fn fetched(&mut self, records: u64, now: Instant, fresh: Uuid, said: Said) -> (bool, Vec<Effect>) {
        let asked = self.cursor().map(str::to_owned);
        let Some(work) = &mut self.current else { return (false, Vec::new()) };
        let mut effects = self.failing.then_some(Effect::Recovered).into_iter().collect::<Vec<_>>();
        self.failing = false;
        self.quiet_until = None;
        if work.cancelled {
            self.current = None;
            effects.extend(self.wake(now, fresh));
            return (false, effects);
        }
        work.phase = Phase::Producing;
        if work.trail.is_first()
            && let Some((_, before)) = self.cut.take_if(|(at, _)| *at == asked)
        {
            work.trail = before.gone_on();
        }
        work.turn = Some(work.trail.turn(self.limits, asked.as_deref(), records, said));
        effects.push(Effect::Record(Command::PageFetched { run: work.run, records, cursor: asked }));
        (true, effects)
    }

    /// No page came. `jitter` in [0, 1) spreads the tries of many.
    pub(crate) fn failed(&mut self, failure: Failure, jitter: f64, now: Instant, fresh: Uuid) -> Vec<Effect> {
        let Some(mut work) = self.current.take() else { return Vec::new() };
        let asked = failure.retry_after.map(|wait| now + wait);
        self.quiet_until = asked;
        let delay = now + BACKOFF.delay(work.attempt, jitter);
        let again = asked.map_or(delay, |asked| asked.max(delay));
        let mut effects = Vec::new();
        let transient = failure.class == Class::Transient;
        if transient {
            let wait = Duration::from_millis(millis(again - now));
            let next = forebay_schemas::pipeline::HumanDuration(wait);
            effects.push(Effect::Failing(format!("{} (attempt {}, next in {next})", failure.message, work.attempt + 1)));
            let throttled = Event::SourceThrottled { millis: millis(wait), reason: failure.message.clone() };
            effects.push(Effect::Record(Command::Saw(throttled)));
        } else {
            effects.push(Effect::Failing(failure.message.clone()));
        }
        self.failing = true;
        if work.cancelled {
            effects.extend(self.wake(now, fresh));
            return effects;
        }
        let is_patient = transient && again - work.since <= RUN_PATIENCE;
        let failed = error("fetch", failure.message, failure.retryable);
        if work.triggered {
            if is_patient {
                work.attempt += 1;
                work.phase = Phase::BackingOff(again);
                self.current = Some(work);
            } else {
                effects.push(Effect::Record(Command::Fail { run: work.run, error: failed }));
            }
        } else if is_patient || transient && self.schedule != Schedule::Once {
            self.retry = Some(Retry { at: again, since: work.since, attempt: work.attempt + 1, trail: work.trail });
        } else {
            effects.push(Effect::ScheduledFetchEnded(Err(failed)));
        }
        effects.extend(self.wake(now, fresh));
        effects
    }

    /// The page is in Kafka. A fetch that has more goes on with the next; one that stops in its midst is neither finished nor failed, and a run
    /// goes on in the next process.
    pub(crate) fn produced(&mut self, page: PageProduced, now: Instant, fresh: Uuid) -> Vec<Effect> {
        let Some(mut work) = self.current.take() else { return Vec::new() };
        let mut effects = Vec::new();
        if !work.cancelled {
            let asked = work.position.take().unwrap_or_default();
            let (next, stop) = match work.turn.take() {
                Some(Turn::On(next)) => (Some(next), None),
                Some(Turn::Stop(stop, next)) => {
                    (next.filter(|next| asked.cursor().or(self.start.as_deref()) != Some(next.as_str())), Some(stop))
                }
                None => (None, None),
            };
            let position = next.as_deref().map_or_else(|| asked.clone(), |next| Position::of(Some(next)));
            if stop.as_ref().is_some_and(|stop| !stop.complete) {
                self.cut = Some((position.cursor().or(self.start.as_deref()).map(str::to_owned), std::mem::take(&mut work.trail)));
            }
            work.position = Some(position);
            let PageProduced { ranges, produced, rejected, rejects } = page;
            let (run, cursor) = (work.run, next);
            effects.push(Effect::Record(Command::PageProduced { run, ranges, produced, rejected, asked, cursor, rejects }));
            let more = stop.is_none() && (work.triggered || !self.schedule_stopped);
            if more && self.stopping {
                return effects;
            }
            if more {
                (work.attempt, work.since) = (0, now);
                if self.paused {
                    work.phase = Phase::Paused;
                } else {
                    work.phase = Phase::Fetching;
                    effects.push(Effect::Fetch(work.run));
                }
                self.current = Some(work);
                return effects;
            }
            effects.push(match work.triggered {
                true => Effect::Record(Command::AllProduced { run: work.run, stop }),
                false => Effect::ScheduledFetchEnded(Ok(stop)),
            });
        }
        effects.extend(self.wake(now, fresh));
        effects
    }

    /// The page can't be produced; the same page can't be either.
    pub(crate) fn refused(&mut self, refused: PageRefused, now: Instant, fresh: Uuid) -> Vec<Effect> {
        let Some(work) = self.current.take() else { return Vec::new() };
        self.failing = true;
        let mut effects = vec![Effect::Failing(refused.0.clone())];
        let error = error("produce", refused.0, false);
        if !work.triggered {
            effects.push(Effect::ScheduledFetchEnded(Err(error)));
        } else if !work.cancelled {
            effects.push(Effect::Record(Command::Fail { run: work.run, error }));
        }
        effects.extend(self.wake(now, fresh));
        effects
    }

    /// Begins a fetch, or goes on with one that failed before.
    fn begin(&mut self, run: Uuid, triggered: bool, before: Option<Retry>, now: Instant) {
        let (since, attempt, trail) = before.map_or((now, 0, Trail::default()), |retry| (retry.since, retry.attempt, retry.trail));
        let (position, turn, phase) = (None, None, Phase::Fetching);
        self.current = Some(Work { run, triggered, cancelled: false, since, attempt, trail, position, turn, phase });
    }

    /// When the next scheduled fetch may begin: a failed one again, else at the grid's next point.
    fn due(&self) -> Option<Instant> {
        self.retry.as_ref().map(|retry| retry.at).or(self.tick)
    }

    /// Moves on to the grid's first point after `now`.
    fn advance_tick(&mut self, now: Instant) {
        self.tick = match (self.schedule, self.tick) {
            (Schedule::Every(every), Some(tick)) if tick <= now => {
                let passed = (now - tick).as_nanos() / every.as_nanos().max(1);
                let steps = u32::try_from(passed + 1).unwrap_or(u32::MAX);
                Some(every.checked_mul(steps).map_or(now + every, |ahead| tick + ahead).max(now))
            }
            (Schedule::Every(_), tick) => tick,
            (Schedule::Once | Schedule::OnTrigger, _) => None,
        };
    }
}

fn error(stage: &str, message: String, retryable: bool) -> RunError {
    RunError { stage: stage.to_owned(), message, retryable }
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
