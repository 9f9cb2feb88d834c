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
//! * Where the API paginates, a fetch reads page after page. It requests the next page before up to
//!   [`State::with_fetch_ahead`] earlier ones are in Kafka, and its position moves past a page only
//!   once that page and all before it are.
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
use forebay_schemas::source_read::{Position, Validators};
use uuid::Uuid;

use super::pagination::{NextStep, PageHistory, PageInfo, PageLimits};
use super::schedule::{Schedule, Ticks};
use super::watermark::{FetchPass, PageMarks};
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
    /// Fetch the page at [`State::position`] for this run, and call [`State::fetched`] or
    /// [`State::failed`].
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
    /// The most pages that are requested before an earlier one is in Kafka.
    fetch_ahead: usize,
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
    /// When the page was first requested.
    since: Instant,
    /// The attempts at the page.
    retry: Retry,
    /// The pages so far.
    history: PageHistory,
    /// The position of the page; `None` until [`State::position`] asks where the fetch starts.
    position: Option<Position>,
    /// The last event of the ledger when the page was requested.
    requested: u64,
    /// What it asks for, where the source is incremental.
    pass: Option<FetchPass>,
    /// The pages that are not in Kafka yet, oldest first.
    unsettled: VecDeque<Unsettled>,
    phase: Phase,
}

/// A page that arrived and is not in Kafka yet.
#[derive(Debug)]
struct Unsettled {
    /// The position that it was requested at.
    asked: Position,
    /// The last event of the ledger then.
    requested: u64,
    /// The cursor that it was requested with.
    cursor: Option<String>,
    records: u64,
    /// The marks of its records.
    marks: PageMarks,
    /// What it said of itself.
    validators: Option<Validators>,
    /// What follows from it.
    step: NextStep,
}

/// What a fetch does about its next page.
#[derive(Debug)]
enum Phase {
    /// It is requested.
    Requested,
    /// It is requested at this time, or when the pipeline resumes or pages are settled after that.
    Due(Instant),
    /// There is none to request. The fetch ends once its pages are settled.
    Last(End),
    /// It is requested, and will be discarded: the fetch has ended.
    Discarded,
}

/// How a fetch ends whose pages are settled.
#[derive(Debug)]
enum End {
    /// All of it is in Kafka, and its last page says why it stops; `None` when the schedule was
    /// stopped.
    Stopped(Option<Stop>),
    /// The request of its next page failed, and so does the run.
    Failed(RunError),
    /// A scheduled fetch will be retried.
    Retried(PendingRetry),
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
            fetch_ahead: 0,
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

    /// Requests up to this many pages before an earlier one is in Kafka, in place of none.
    pub(crate) fn with_fetch_ahead(self, fetch_ahead: usize) -> Self {
        Self { fetch_ahead, ..self }
    }

    /// How many of the pages in Kafka need not be on disk when the next page is requested, so that
    /// a crash repeats at most the requests ahead.
    pub(crate) fn need_not_be_durable(&self) -> usize {
        self.fetch_ahead.saturating_sub(self.unsettled())
    }

    /// How many pages of the fetch under way have arrived and are not in Kafka yet.
    pub(crate) fn unsettled(&self) -> usize {
        self.current.as_ref().map_or(0, |fetch| fetch.unsettled.len())
    }

    /// What the fetch under way asks for; `start` says so at its first page.
    pub(crate) fn pass(&mut self, start: impl FnOnce() -> FetchPass) -> Option<&FetchPass> {
        self.current.as_mut().map(|fetch| &*fetch.pass.get_or_insert_with(start))
    }

    /// Whether the page to fetch is the first of its fetch.
    pub(crate) fn is_first(&self) -> bool {
        self.current.as_ref().is_none_or(|fetch| fetch.history.is_first())
    }

    /// The position of the page to fetch, whose request follows event `requested`. `start` says
    /// where a fetch starts.
    pub(crate) fn position(&mut self, requested: u64, start: impl FnOnce() -> Position) -> Position {
        let Some(fetch) = &mut self.current else { return Position::default() };
        fetch.requested = requested;
        fetch.position.get_or_insert_with(start).clone()
    }

    /// The cursor of the page to fetch.
    pub(crate) fn cursor(&self) -> Option<&str> {
        let position = self.current.as_ref()?.position.as_ref()?;
        position.cursor().or(self.start.as_deref())
    }

    /// Whether nothing is being fetched or produced.
    pub(crate) fn is_idle(&self) -> bool {
        self.current.as_ref().is_none_or(|fetch| fetch.unsettled.is_empty() && matches!(fetch.phase, Phase::Due(_)))
    }

    /// Pauses or resumes. While paused no page is requested; the pages under way are still
    /// produced.
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
                Phase::Due(_) if self.schedule_stopped && !fetch.triggered => {
                    fetch.phase = Phase::Last(End::Stopped(None));
                    return self.go_on(now, fresh);
                }
                Phase::Due(until) if until > now => effects.push(Effect::WakeAt(until)),
                Phase::Due(_) if fetch.unsettled.len() <= self.fetch_ahead => {
                    if fetch.retry.attempts() == 0 {
                        fetch.since = now;
                    }
                    fetch.phase = Phase::Requested;
                    effects.push(Effect::Fetch(fetch.run));
                }
                _ => {}
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

    /// A run was cancelled: nothing more is recorded of it. Its pages that are being produced stay
    /// in Kafka.
    pub(crate) fn cancel(&mut self, run: Uuid, now: Instant, fresh: Uuid) -> Vec<Effect> {
        self.waiting.retain(|&waiting| waiting != run);
        match &self.current {
            Some(fetch) if fetch.run == run => self.discard(now, fresh),
            _ => Vec::new(),
        }
    }

    /// A page arrived with this many records. Returns whether to produce it.
    pub(crate) fn fetched(&mut self, records: u64, now: Instant, fresh: Uuid, mut info: PageInfo) -> (bool, Vec<Effect>) {
        let (marks, validators) = (std::mem::take(&mut info.marks), info.validators.take());
        let cursor = self.cursor().map(str::to_owned);
        let Some(fetch) = &mut self.current else { return (false, Vec::new()) };
        let mut effects = self.failing.then_some(Effect::Recovered).into_iter().collect::<Vec<_>>();
        self.failing = false;
        self.throttled_until = info.wait.map(|wait| now + wait);
        if matches!(fetch.phase, Phase::Discarded) {
            self.current = None;
            effects.extend(self.wake(now, fresh));
            return (false, effects);
        }
        if fetch.history.is_first()
            && let Some((_, history)) = self.cut_short.take_if(|(at, _)| *at == cursor)
        {
            fetch.history = history.continued();
        }
        let step = fetch.history.next_step(self.limits, cursor.as_deref(), records, info);
        let asked = fetch.position.take().unwrap_or_default();
        fetch.phase = match &step {
            NextStep::Continue(next) => {
                fetch.position = Some(Position::Cursor(next.clone()));
                fetch.retry.reset();
                Phase::Due(now)
            }
            NextStep::Stop(stop, _) => Phase::Last(End::Stopped(Some(stop.clone()))),
        };
        fetch.unsettled.push_back(Unsettled { asked, requested: fetch.requested, cursor, records, marks, validators, step });
        if fetch.unsettled.len() == 1 {
            effects.extend(fetch.oldest_fetched());
        }
        if matches!(fetch.phase, Phase::Due(_))
            && let Some(until) = self.throttled_until.filter(|&until| until > now)
        {
            let (wait, max_wait) = (until - now, self.patience.max_wait);
            fetch.phase = if fetch.triggered && wait > max_wait {
                let message = format!("the API's rate limit is used up; {}", out_of_time(wait, max_wait));
                Phase::Last(End::Failed(run_error("fetch", message, true)))
            } else {
                Phase::Due(until)
            };
        }
        effects.extend(self.wake(now, fresh));
        (true, effects)
    }

    /// No page arrived. `jitter` in [0, 1) spreads the retries of many processes.
    pub(crate) fn failed(&mut self, failure: Failure, jitter: f64, now: Instant, fresh: Uuid) -> Vec<Effect> {
        let Some(fetch) = &mut self.current else { return Vec::new() };
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
        if matches!(fetch.phase, Phase::Discarded) {
            self.current = None;
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
        fetch.phase = if fetch.triggered && in_time {
            Phase::Due(again)
        } else if !fetch.triggered && (in_time || transient && self.schedule != Schedule::Once) {
            let (retry, history) = (fetch.retry.clone(), std::mem::take(&mut fetch.history));
            Phase::Last(End::Retried(PendingRetry { at: again, since: fetch.since, retry, history }))
        } else {
            Phase::Last(End::Failed(run_error("fetch", message, failure.retryable)))
        };
        effects.extend(self.go_on(now, fresh));
        effects
    }

    /// The oldest page is in Kafka. A fetch that the stop of the process interrupts is neither
    /// complete nor failed: its run continues in the next process.
    pub(crate) fn produced(&mut self, page: PageProduced, now: Instant, fresh: Uuid) -> Vec<Effect> {
        let start = self.start.as_deref();
        let Some(fetch) = &mut self.current else { return Vec::new() };
        let Some(Unsettled { asked, requested, marks, validators, step, .. }) = fetch.unsettled.pop_front() else { return Vec::new() };
        let (next, stop) = match step {
            NextStep::Continue(next) => (Some(Position::Cursor(next)), None),
            // The read is complete, and its next fetch begins at its first page.
            NextStep::Stop(stop, _) if stop.complete && self.limits.restarts => {
                ((asked != Position::Begin).then_some(Position::Begin), Some(stop))
            }
            NextStep::Stop(stop, next) => {
                let next = next.filter(|next| asked.cursor().or(start) != Some(next.as_str()));
                (next.map(Position::Cursor), Some(stop))
            }
        };
        if stop.as_ref().is_some_and(|stop| !stop.complete) {
            let cursor = next.as_ref().unwrap_or(&asked).cursor().or(start).map(str::to_owned);
            self.cut_short = Some((cursor, std::mem::take(&mut fetch.history)));
        }
        let PageProduced { ranges, produced, rejected, rejects } = page;
        let run = fetch.run;
        let is_complete = stop.is_some_and(|stop| stop.complete);
        let progress = fetch.pass.as_mut().and_then(|pass| pass.produced(marks, asked == Position::Begin, is_complete)).map(Box::new);
        let validators = validators.filter(|_| is_complete).map(Box::new);
        let page = Command::PageProduced { run, ranges, produced, rejected, asked, requested, next, rejects, progress, validators };
        let mut effects = vec![Effect::Record(page)];
        effects.extend(fetch.oldest_fetched());
        effects.extend(self.go_on(now, fresh));
        effects
    }

    /// The oldest page can't be produced, and neither can the same page later. What was fetched
    /// after it is discarded.
    pub(crate) fn refused(&mut self, refused: PageRefused, now: Instant, fresh: Uuid) -> Vec<Effect> {
        let Some(fetch) = &self.current else { return Vec::new() };
        self.failing = true;
        let mut effects = vec![Effect::Failing { error: refused.0.clone(), note: refused.0.clone() }];
        let error = run_error("produce", refused.0, false);
        effects.push(match fetch.triggered {
            true => Effect::Record(Command::FailRun { run: fetch.run, error }),
            false => Effect::ScheduledFetchEnded(Err(error)),
        });
        effects.extend(self.discard(now, fresh));
        effects
    }

    /// Ends the fetch under way, and discards the page that it has requested.
    fn discard(&mut self, now: Instant, fresh: Uuid) -> Vec<Effect> {
        match &mut self.current {
            Some(fetch) if matches!(fetch.phase, Phase::Requested | Phase::Discarded) => {
                fetch.unsettled.clear();
                fetch.phase = Phase::Discarded;
                Vec::new()
            }
            _ => {
                self.current = None;
                self.wake(now, fresh)
            }
        }
    }

    /// Ends the fetch under way if it has no page left to request or to settle, and starts what is
    /// due.
    fn go_on(&mut self, now: Instant, fresh: Uuid) -> Vec<Effect> {
        let mut effects = Vec::new();
        if let Some(fetch) = self.current.take_if(|fetch| fetch.unsettled.is_empty() && matches!(fetch.phase, Phase::Last(_)))
            && let Phase::Last(end) = fetch.phase
        {
            match end {
                End::Stopped(stop) if fetch.triggered => effects.push(Effect::Record(Command::RunProduced { run: fetch.run, stop })),
                End::Stopped(stop) => effects.push(Effect::ScheduledFetchEnded(Ok(stop))),
                End::Failed(error) if fetch.triggered => effects.push(Effect::Record(Command::FailRun { run: fetch.run, error })),
                End::Failed(error) => effects.push(Effect::ScheduledFetchEnded(Err(error))),
                End::Retried(retry) => self.retry = Some(retry).filter(|_| !self.schedule_stopped),
            }
        }
        effects.extend(self.wake(now, fresh));
        effects
    }

    /// Starts a fetch, or continues one that failed.
    fn begin(&mut self, run: Uuid, triggered: bool, retry: Option<PendingRetry>, now: Instant) {
        let (since, retry, history) =
            retry.map_or_else(|| (now, Retry::new(BACKOFF), PageHistory::default()), |failed| (failed.since, failed.retry, failed.history));
        let (position, requested, pass, unsettled, phase) = (None, 0, None, VecDeque::new(), Phase::Requested);
        self.current = Some(Fetch { run, triggered, since, retry, history, position, requested, pass, unsettled, phase });
    }

    /// When the next scheduled fetch may start: the retry of a failed one, else the next tick.
    fn due(&self) -> Option<Instant> {
        self.retry.as_ref().map(|retry| retry.at).or(self.ticks.next())
    }
}

impl Fetch {
    /// The record of the oldest page, whose predecessors are in Kafka. It is due only then, since
    /// what a restart fetches again must not be counted.
    fn oldest_fetched(&self) -> Option<Effect> {
        let oldest = self.unsettled.front()?;
        let (records, cursor) = (oldest.records, oldest.cursor.clone());
        Some(Effect::Record(Command::PageFetched { run: self.run, records, cursor }))
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
