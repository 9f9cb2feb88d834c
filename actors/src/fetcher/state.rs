//! When to fetch, and for which run. Pure: the caller passes the time, the jitter and what
//! happened, and carries out the effects.
//!
//! Guarantees:
//! * At most one fetch is under way, scheduled or triggered.
//! * Scheduled fetches keep to a fixed grid. Missed ticks are not made up for.
//! * Exactly one end is recorded of every triggered run, unless it is cancelled or the process
//!   stops.
//! * An API that asks to be left alone gets no request until then, for any run. A run that would
//!   wait for longer than [`Patience`] allows fails at once, and can be retried.
//! * Where the API paginates, a fetch reads page after page. Its position moves only once the page
//!   is in Kafka.
//! * Each fetch that ends says why, and whether it was cut short.
//! * While paused, no page is requested, and nothing under way is lost.
//!
//! The ledger, not this state, knows where a fetch starts; see [`State::position`].
//!
//! Does not guarantee that a triggered run starts soon: runs are fetched in the order of their
//! triggers.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use forebay_schemas::event::Event;
use forebay_schemas::pipeline::HumanDuration;
use forebay_schemas::run::{RunError, Stop};
use forebay_schemas::source_read::Position;
use uuid::Uuid;

use super::pagination::{NextStep, PageHistory, PageInfo, PageLimits};
use super::schedule::{Schedule, Ticks};
use crate::ledger::Command;
use crate::message::{PageProduced, PageRefused};
use forebay_kernel::{Backoff, Retry, millis};
use forebay_schemas::error_class::Class;

/// The most triggered runs that wait.
const MAX_WAITING_RUNS: usize = 1_000;
/// The delays between attempts at one page.
const BACKOFF: Backoff = Backoff { min: Duration::from_millis(500), max: Duration::from_secs(60) };

/// What the caller must do.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Effect {
    /// Fetch the page at [`State::position`] for this run, once everything recorded so far is
    /// durable, and call [`State::fetched`] or [`State::failed`].
    Fetch(Uuid),
    /// Call [`State::wake`] at this time. Replaces the previous `WakeAt`.
    WakeAt(Instant),
    /// Submit the command to the ledger.
    Record(Command),
    /// A scheduled fetch ended. `Ok`: all of it is in Kafka, and why it stopped (`None` when the
    /// schedule was stopped). `Err`: it produced nothing, and an immediate retry would not help. It
    /// is not a run, so the ledger does not record its end.
    ScheduledFetchEnded(Result<Option<Stop>, RunError>),
    /// Show the note until the next success, and log the error unless it is the one logged last.
    Failing { error: String, note: String },
    /// Fetches succeed again.
    Recovered,
}

/// How long a triggered run, or the one fetch of [`Schedule::Once`], retries a page before it
/// fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Patience {
    /// The longest time from the first request to the last, and the longest wait for a rate limit.
    pub max_wait: Duration,
    /// The most requests. `None`: as many as fit into the time.
    pub max_attempts: Option<u32>,
}

/// A fetch that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    /// Whether a retry may help.
    pub class: Class,
    /// Whether the same run may succeed when it is requested again later.
    pub retryable: bool,
    /// How long the API asks to get no request.
    pub retry_after: Option<Duration>,
    /// What failed.
    pub message: String,
}

/// The state of the fetcher.
#[derive(Debug)]
pub(crate) struct State {
    schedule: Schedule,
    ticks: Ticks,
    /// The scheduled fetch that failed and will be retried.
    retry: Option<PendingRetry>,
    /// The triggered runs that have not started, oldest first.
    waiting: VecDeque<Uuid>,
    current: Option<Fetch>,
    /// No request before this time, as the API asked.
    throttled_until: Option<Instant>,
    /// The cursor of a read's first page.
    start: Option<String>,
    limits: PageLimits,
    patience: Patience,
    /// The cursor that the next fetch continues at after one that was cut short, and the pages of
    /// that one. A fetch that continues there may be in the same cycle of cursors.
    cut_short: Option<(Option<String>, PageHistory)>,
    failing: bool,
    schedule_stopped: bool,
    paused: bool,
    stopping: bool,
}

/// A scheduled fetch that will be retried. It continues where its read is by then: another fetch of
/// the same read, or an operator, may move the cursor meanwhile.
#[derive(Debug)]
struct PendingRetry {
    at: Instant,
    /// When its next page was first requested.
    since: Instant,
    /// The attempts at its next page.
    retry: Retry,
    /// Its pages that are in Kafka.
    history: PageHistory,
}

/// The fetch under way.
#[derive(Debug)]
struct Fetch {
    run: Uuid,
    triggered: bool,
    cancelled: bool,
    /// When the page was first requested.
    since: Instant,
    /// The attempts at the page.
    retry: Retry,
    /// The pages so far.
    history: PageHistory,
    /// The position of the page; `None` until [`State::position`] asks where the fetch starts.
    position: Option<Position>,
    /// What follows the page once it is in Kafka.
    next_step: Option<NextStep>,
    phase: Phase,
}

#[derive(Debug, PartialEq, Eq)]
enum Phase {
    Fetching,
    BackingOff(Instant),
    /// The next page waits for the pipeline to resume.
    Paused,
    Producing,
}

impl State {
    /// A fetcher that starts `now`. `open` are the runs that earlier incarnations accepted and did
    /// not end.
    pub(crate) fn new(schedule: Schedule, now: Instant, open: impl IntoIterator<Item = Uuid>) -> Self {
        Self {
            schedule,
            ticks: Ticks::new(schedule, now),
            retry: None,
            waiting: open.into_iter().collect(),
            current: None,
            throttled_until: None,
            start: None,
            limits: PageLimits::ONE_PAGE,
            patience: Patience { max_wait: Duration::from_secs(300), max_attempts: None },
            cut_short: None,
            failing: false,
            schedule_stopped: false,
            paused: false,
            stopping: false,
        }
    }

    /// For an API that paginates: `start` is the cursor of a read's first page, and `limits` bound
    /// one fetch.
    pub(crate) fn with_cursors(self, start: Option<String>, limits: PageLimits) -> Self {
        Self { start, limits, ..self }
    }

    /// With this patience in place of five minutes.
    pub(crate) fn with_patience(self, patience: Patience) -> Self {
        Self { patience, ..self }
    }

    /// Whether the page to fetch is the first of its fetch.
    pub(crate) fn is_first(&self) -> bool {
        self.current.as_ref().is_none_or(|fetch| fetch.history.is_first())
    }

    /// The position of the page to fetch. `start` says where a fetch starts.
    pub(crate) fn position(&mut self, start: impl FnOnce() -> Position) -> Position {
        self.current.as_mut().map(|fetch| fetch.position.get_or_insert_with(start).clone()).unwrap_or_default()
    }

    /// The cursor of the page to fetch.
    pub(crate) fn cursor(&self) -> Option<&str> {
        let position = self.current.as_ref()?.position.as_ref()?;
        position.cursor().or(self.start.as_deref())
    }

    /// Whether nothing is being fetched or produced.
    pub(crate) fn is_idle(&self) -> bool {
        self.current.as_ref().is_none_or(|fetch| matches!(fetch.phase, Phase::BackingOff(_) | Phase::Paused))
    }

    /// Pauses or resumes. While paused no page is requested; the page under way is still produced.
    pub(crate) fn set_paused(&mut self, paused: bool, now: Instant, fresh: Uuid) -> Vec<Effect> {
        if !paused && self.paused {
            // The pause does not count against the timeout of a page.
            self.current.iter_mut().for_each(|fetch| fetch.since = now);
            self.retry.iter_mut().for_each(|retry| retry.since = now);
        }
        self.paused = paused;
        self.wake(now, fresh)
    }

    /// Starts no more scheduled fetches, and requests no further page of the one under way.
    pub(crate) fn stop_schedule(&mut self) {
        self.schedule_stopped = true;
        self.ticks.stop();
        self.retry = None;
    }

    /// Starts nothing more.
    pub(crate) fn stop(&mut self) {
        self.stopping = true;
    }

    /// Starts what is due. `fresh` becomes the identifier of a scheduled fetch, if one starts.
    pub(crate) fn wake(&mut self, now: Instant, fresh: Uuid) -> Vec<Effect> {
        let mut effects = Vec::new();
        if self.stopping || self.paused {
            return effects;
        }
        if let Some(fetch) = &mut self.current {
            match fetch.phase {
                Phase::Paused => {
                    fetch.phase = Phase::Fetching;
                    effects.push(Effect::Fetch(fetch.run));
                }
                Phase::BackingOff(until) if until > now => effects.push(Effect::WakeAt(until)),
                Phase::BackingOff(_) => {
                    fetch.phase = Phase::Fetching;
                    effects.push(Effect::Fetch(fetch.run));
                }
                Phase::Fetching | Phase::Producing => {}
            }
            return effects;
        }
        if let Some(until) = self.throttled_until.filter(|&until| until > now) {
            let max_wait = self.patience.max_wait;
            if until - now > max_wait {
                let message = format!("no request is sent, for the API's rate limit; {}", out_of_time(until - now, max_wait));
                let fail = |run| Effect::Record(Command::FailRun { run, error: run_error("fetch", message.clone(), true) });
                effects.extend(self.waiting.drain(..).map(fail));
            }
            if !self.waiting.is_empty() || self.due().is_some() {
                effects.push(Effect::WakeAt(until));
            }
            return effects;
        }
        if let Some(run) = self.waiting.pop_front() {
            self.begin(run, true, None, now);
            effects.extend([Effect::Record(Command::StartRun { run }), Effect::Fetch(run)]);
            return effects;
        }
        match self.due() {
            Some(due) if due > now => effects.push(Effect::WakeAt(due)),
            Some(_) => {
                let retry = self.retry.take();
                self.ticks.advance(now);
                self.begin(fresh, false, retry, now);
                effects.push(Effect::Fetch(fresh));
            }
            None => {}
        }
        effects
    }

    /// A run was requested.
    pub(crate) fn trigger(&mut self, run: Uuid, now: Instant, fresh: Uuid) -> Vec<Effect> {
        let known = self.waiting.contains(&run) || self.current.as_ref().is_some_and(|fetch| fetch.run == run);
        if known {
            return Vec::new();
        }
        if self.waiting.len() >= MAX_WAITING_RUNS {
            let message = format!("{MAX_WAITING_RUNS} runs already wait to be fetched; retry when some have ended");
            return vec![Effect::Record(Command::FailRun { run, error: run_error("fetch", message, true) })];
        }
        self.waiting.push_back(run);
        self.wake(now, fresh)
    }

    /// A run was cancelled: nothing more is recorded of it. A page that is being produced stays in
    /// Kafka.
    pub(crate) fn cancel(&mut self, run: Uuid, now: Instant, fresh: Uuid) -> Vec<Effect> {
        self.waiting.retain(|&waiting| waiting != run);
        match &mut self.current {
            Some(fetch) if fetch.run == run && matches!(fetch.phase, Phase::BackingOff(_) | Phase::Paused) => {
                self.current = None;
                self.wake(now, fresh)
            }
            Some(fetch) if fetch.run == run => {
                fetch.cancelled = true;
                Vec::new()
            }
            _ => Vec::new(),
        }
    }

    /// A page arrived with this many records. Returns whether to produce it.
    pub(crate) fn fetched(&mut self, records: u64, now: Instant, fresh: Uuid, info: PageInfo) -> (bool, Vec<Effect>) {
        let asked = self.cursor().map(str::to_owned);
        let Some(fetch) = &mut self.current else { return (false, Vec::new()) };
        let mut effects = self.failing.then_some(Effect::Recovered).into_iter().collect::<Vec<_>>();
        self.failing = false;
        self.throttled_until = info.wait.map(|wait| now + wait);
        if fetch.cancelled {
            self.current = None;
            effects.extend(self.wake(now, fresh));
            return (false, effects);
        }
        fetch.phase = Phase::Producing;
        if fetch.history.is_first()
            && let Some((_, history)) = self.cut_short.take_if(|(at, _)| *at == asked)
        {
            fetch.history = history.continued();
        }
        fetch.next_step = Some(fetch.history.next_step(self.limits, asked.as_deref(), records, info));
        effects.push(Effect::Record(Command::PageFetched { run: fetch.run, records, cursor: asked }));
        (true, effects)
    }

    /// No page arrived. `jitter` in [0, 1) spreads the retries of many processes.
    pub(crate) fn failed(&mut self, failure: Failure, jitter: f64, now: Instant, fresh: Uuid) -> Vec<Effect> {
        let Some(mut fetch) = self.current.take() else { return Vec::new() };
        self.throttled_until = failure.retry_after.map(|wait| now + wait);
        let delayed = now + fetch.retry.failed(jitter);
        let again = self.throttled_until.map_or(delayed, |until| until.max(delayed));
        let mut effects = Vec::new();
        let transient = failure.class == Class::Transient;
        let error = failure.message.clone();
        if transient {
            let wait = Duration::from_millis(millis(again - now));
            effects.push(Effect::Failing { error: error.clone(), note: fetch.retry.note(&error, wait) });
            effects.push(Effect::Record(Command::Record(Event::SourceThrottled { millis: millis(wait), reason: error })));
        } else {
            effects.push(Effect::Failing { error: error.clone(), note: error });
        }
        self.failing = true;
        if fetch.cancelled {
            effects.extend(self.wake(now, fresh));
            return effects;
        }
        let Patience { max_wait, max_attempts } = self.patience;
        let has_time = again - fetch.since <= max_wait;
        let in_time = transient && has_time && max_attempts.is_none_or(|max| fetch.retry.attempts() < max);
        let asked = failure.retry_after.filter(|_| transient && !has_time);
        let message = match asked {
            Some(wait) => format!("{}; {}", failure.message, out_of_time(wait, max_wait)),
            None => failure.message,
        };
        let failed = run_error("fetch", message, failure.retryable);
        if fetch.triggered {
            if in_time {
                fetch.phase = Phase::BackingOff(again);
                self.current = Some(fetch);
            } else {
                effects.push(Effect::Record(Command::FailRun { run: fetch.run, error: failed }));
            }
        } else if in_time || transient && self.schedule != Schedule::Once {
            self.retry = Some(PendingRetry { at: again, since: fetch.since, retry: fetch.retry, history: fetch.history });
        } else {
            effects.push(Effect::ScheduledFetchEnded(Err(failed)));
        }
        effects.extend(self.wake(now, fresh));
        effects
    }

    /// The page is in Kafka. A fetch with a further page continues. One that the stop of the
    /// process interrupts is neither complete nor failed: its run continues in the next process.
    pub(crate) fn produced(&mut self, page: PageProduced, now: Instant, fresh: Uuid) -> Vec<Effect> {
        let Some(mut fetch) = self.current.take() else { return Vec::new() };
        let mut effects = Vec::new();
        if !fetch.cancelled {
            let asked = fetch.position.take().unwrap_or_default();
            let (next, stop) = match fetch.next_step.take() {
                Some(NextStep::Continue(next)) => (Some(Position::Cursor(next)), None),
                // The read is complete, and its next fetch begins at its first page.
                Some(NextStep::Stop(stop, _)) if stop.complete && self.limits.restarts => {
                    ((asked != Position::Begin).then_some(Position::Begin), Some(stop))
                }
                Some(NextStep::Stop(stop, next)) => {
                    let next = next.filter(|next| asked.cursor().or(self.start.as_deref()) != Some(next.as_str()));
                    (next.map(Position::Cursor), Some(stop))
                }
                None => (None, None),
            };
            let position = next.clone().unwrap_or_else(|| asked.clone());
            if stop.as_ref().is_some_and(|stop| !stop.complete) {
                let cursor = position.cursor().or(self.start.as_deref()).map(str::to_owned);
                self.cut_short = Some((cursor, std::mem::take(&mut fetch.history)));
            }
            fetch.position = Some(position);
            let PageProduced { ranges, produced, rejected, rejects } = page;
            let run = fetch.run;
            effects.push(Effect::Record(Command::PageProduced { run, ranges, produced, rejected, asked, next, rejects }));
            let more = stop.is_none() && (fetch.triggered || !self.schedule_stopped);
            if more && self.stopping {
                return effects;
            }
            if more {
                fetch.retry.reset();
                fetch.since = now;
                let throttled = self.throttled_until.filter(|&until| until > now);
                if let Some(until) = throttled.filter(|&until| fetch.triggered && until - now > self.patience.max_wait) {
                    let message = format!("the API's rate limit is used up; {}", out_of_time(until - now, self.patience.max_wait));
                    effects.push(Effect::Record(Command::FailRun { run: fetch.run, error: run_error("fetch", message, true) }));
                    effects.extend(self.wake(now, fresh));
                    return effects;
                }
                if self.paused {
                    fetch.phase = Phase::Paused;
                } else if let Some(until) = throttled {
                    fetch.since = until;
                    fetch.phase = Phase::BackingOff(until);
                    effects.push(Effect::WakeAt(until));
                } else {
                    fetch.phase = Phase::Fetching;
                    effects.push(Effect::Fetch(fetch.run));
                }
                self.current = Some(fetch);
                return effects;
            }
            effects.push(match fetch.triggered {
                true => Effect::Record(Command::RunProduced { run: fetch.run, stop }),
                false => Effect::ScheduledFetchEnded(Ok(stop)),
            });
        }
        effects.extend(self.wake(now, fresh));
        effects
    }

    /// The page can't be produced, and neither can the same page later.
    pub(crate) fn refused(&mut self, refused: PageRefused, now: Instant, fresh: Uuid) -> Vec<Effect> {
        let Some(fetch) = self.current.take() else { return Vec::new() };
        self.failing = true;
        let mut effects = vec![Effect::Failing { error: refused.0.clone(), note: refused.0.clone() }];
        let error = run_error("produce", refused.0, false);
        if !fetch.triggered {
            effects.push(Effect::ScheduledFetchEnded(Err(error)));
        } else if !fetch.cancelled {
            effects.push(Effect::Record(Command::FailRun { run: fetch.run, error }));
        }
        effects.extend(self.wake(now, fresh));
        effects
    }

    /// Starts a fetch, or continues one that failed.
    fn begin(&mut self, run: Uuid, triggered: bool, retry: Option<PendingRetry>, now: Instant) {
        let (since, retry, history) =
            retry.map_or_else(|| (now, Retry::new(BACKOFF), PageHistory::default()), |failed| (failed.since, failed.retry, failed.history));
        let (position, next_step, phase) = (None, None, Phase::Fetching);
        self.current = Some(Fetch { run, triggered, cancelled: false, since, retry, history, position, next_step, phase });
    }

    /// When the next scheduled fetch may start: the retry of a failed one, else the next tick.
    fn due(&self) -> Option<Instant> {
        self.retry.as_ref().map(|retry| retry.at).or(self.ticks.next())
    }
}

fn out_of_time(wait: Duration, max_wait: Duration) -> String {
    let (wait, max_wait) = (HumanDuration(Duration::from_secs(wait.as_secs())), HumanDuration(max_wait));
    format!("it asks to get no request for {wait}, and fetcher.max_wait is {max_wait}: retry the run after that, or raise fetcher.max_wait")
}

fn run_error(stage: &str, message: String, retryable: bool) -> RunError {
    RunError { stage: stage.to_owned(), message, retryable }
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
