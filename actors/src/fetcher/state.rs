//! When to fetch, and for which run. Pure: the caller passes the time, the jitter and what
//! happened, and carries out the effects.
//!
//! Guarantees:
//! * At most [`State::with_max_active`] fetches are under way, scheduled or triggered, and at most
//!   one of each read.
//! * Scheduled fetches keep to a fixed grid. Missed ticks are not made up for.
//! * Exactly one end is recorded of every triggered run, unless it is cancelled or the process
//!   stops.
//! * An API that asks to be left alone gets no request until then, for any run. A run that would
//!   wait for longer than [`Patience`] allows fails at once, and can be retried.
//! * No request follows another sooner than the interval of the rate limit, whichever run asks for
//!   it. A second attempt within one request, after a refusal, counts with the first. Fetches that
//!   are due take turns.
//! * Where the API paginates, a fetch reads page after page. It requests the next page before up to
//!   [`State::with_fetch_ahead`] earlier ones are in Kafka, and its position moves past a page only
//!   once that page and all before it are.
//! * Each fetch that ends says why, and whether it was cut short.
//! * While paused, no page is requested, and nothing under way is lost.
//!
//! The ledger, not this state, knows where a fetch starts; see [`ActiveFetch::position`].
//!
//! Does not guarantee that a triggered run starts soon: runs of one read are fetched in the order
//! of their triggers. Nor that requests which wait for the budget are sent at that interval: what
//! is counted is when they may be sent.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use forebay_schemas::event::Event;
use forebay_schemas::pipeline::HumanDuration;
use forebay_schemas::run::{RunError, Stop};
use forebay_schemas::source_read::{Position, Read};
use uuid::Uuid;

use super::active_fetch::{ActiveFetch, End, PendingRetry, Phase, Unsettled};
use super::pagination::{NextStep, PageHistory, PageInfo, PageLimits};
use super::schedule::{Schedule, Ticks};
use crate::ledger::Command;
use crate::message::{PageProduced, PageRefused};
use forebay_kernel::millis;
use forebay_schemas::error_class::Class;

/// The most triggered runs that wait.
const MAX_WAITING_RUNS: usize = 1_000;

/// What the caller must do.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Effect {
    /// Fetch the page at [`ActiveFetch::position`] for this run, and call [`State::fetched`] or
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
    /// The triggered runs that have not started, and their reads, oldest first.
    waiting: VecDeque<(Uuid, Read)>,
    /// The fetches under way, the one that has requested a page last at the end.
    fetches: Vec<ActiveFetch>,
    max_active: usize,
    /// No request before this time, as the API asked or as the rate limit says.
    throttled_until: Option<Instant>,
    /// The least time between two requests.
    interval: Option<Duration>,
    /// The cursor of a read's first page.
    start: Option<String>,
    limits: PageLimits,
    patience: Patience,
    /// The most pages of a fetch that are requested before an earlier one is in Kafka.
    fetch_ahead: usize,
    /// The read of a fetch that was cut short, the cursor that its next fetch continues at, and the
    /// pages of that one. A fetch that continues there may be in the same cycle of cursors.
    cut_short: Option<(Read, Option<String>, PageHistory)>,
    failing: bool,
    schedule_stopped: bool,
    paused: bool,
    stopping: bool,
}

impl State {
    /// A fetcher that starts `now`. `open` are the runs that earlier incarnations accepted and did
    /// not end, and their reads.
    pub(crate) fn new(schedule: Schedule, now: Instant, open: impl IntoIterator<Item = (Uuid, Read)>) -> Self {
        Self {
            schedule,
            ticks: Ticks::new(schedule, now),
            retry: None,
            waiting: open.into_iter().collect(),
            fetches: Vec::new(),
            max_active: 1,
            throttled_until: None,
            interval: None,
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

    /// Requests up to this many pages of a fetch before an earlier one is in Kafka, in place of
    /// none.
    pub(crate) fn with_fetch_ahead(self, fetch_ahead: usize) -> Self {
        Self { fetch_ahead, ..self }
    }

    /// With up to this many fetches of different reads at the same time, in place of one.
    pub(crate) fn with_max_active(self, max_active: usize) -> Self {
        Self { max_active, ..self }
    }

    /// With at least this time between two requests, if any.
    pub(crate) fn with_interval(self, interval: Option<Duration>) -> Self {
        Self { interval, ..self }
    }

    /// The fetch of a run, while it is under way.
    pub(crate) fn fetch_mut(&mut self, run: Uuid) -> Option<&mut ActiveFetch> {
        let at = self.index(run)?;
        Some(&mut self.fetches[at])
    }

    /// How many pages of the fetch of a run have arrived and are not in Kafka yet.
    pub(crate) fn unsettled(&self, run: Uuid) -> usize {
        self.fetch(run).map_or(0, ActiveFetch::unsettled)
    }

    /// The cursor of the page to fetch for a run.
    pub(crate) fn cursor(&self, run: Uuid) -> Option<&str> {
        let position = self.fetch(run)?.position.as_ref()?;
        position.cursor().or(self.start.as_deref())
    }

    /// The event that must be on disk before the next page of a run is requested; see
    /// [`ActiveFetch::durable_before`].
    pub(crate) fn durable_before(&mut self, run: Uuid, last: u64) -> u64 {
        let fetch_ahead = self.fetch_ahead;
        self.fetch_mut(run).map_or(0, |fetch| fetch.durable_before(fetch_ahead, last))
    }

    /// Whether nothing is being fetched or produced.
    pub(crate) fn is_idle(&self) -> bool {
        self.fetches.iter().all(ActiveFetch::is_idle)
    }

    /// Pauses or resumes. While paused no page is requested; the pages under way are still
    /// produced.
    pub(crate) fn set_paused(&mut self, paused: bool, now: Instant, fresh: Uuid) -> Vec<Effect> {
        if !paused && self.paused {
            // The pause does not count against the timeout of a page.
            self.fetches.iter_mut().for_each(|fetch| fetch.since = now);
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

    /// Ends what is over, and starts what is due. `fresh` becomes the identifier of a scheduled
    /// fetch, if one starts.
    pub(crate) fn wake(&mut self, now: Instant, fresh: Uuid) -> Vec<Effect> {
        let mut effects = self.end_fetches();
        if self.stopping || self.paused {
            return effects;
        }
        self.give_up(now);
        effects.extend(self.end_fetches());
        effects.extend(self.start_fetches(now, fresh));
        effects.extend(self.request_pages(now));
        effects.extend(self.next_wake(now).map(Effect::WakeAt));
        effects
    }

    /// Ends the fetches that have no page left to request or to settle.
    fn end_fetches(&mut self) -> Vec<Effect> {
        let over: Vec<_> = self.fetches.extract_if(.., |fetch| fetch.is_over()).collect();
        let mut effects = Vec::new();
        for ActiveFetch { run, triggered, phase, .. } in over {
            let Phase::Last(end) = phase else { continue };
            match end {
                End::Stopped(stop) if triggered => effects.push(Effect::Record(Command::RunProduced { run, stop })),
                End::Stopped(stop) => effects.push(Effect::ScheduledFetchEnded(Ok(stop))),
                End::Failed(error) if triggered => effects.push(Effect::Record(Command::FailRun { run, error })),
                End::Failed(error) => effects.push(Effect::ScheduledFetchEnded(Err(error))),
                End::Retried(retry) => self.retry = Some(*retry).filter(|_| !self.schedule_stopped),
            }
        }
        effects
    }

    /// Requests no further page of a scheduled fetch whose schedule is stopped, nor of a run that
    /// would wait for too long.
    fn give_up(&mut self, now: Instant) {
        let (throttled, max_wait) = (self.throttled(now), self.patience.max_wait);
        for fetch in self.fetches.iter_mut().filter(|fetch| matches!(fetch.phase, Phase::Due(_))) {
            if self.schedule_stopped && !fetch.triggered {
                fetch.phase = Phase::Last(End::Stopped(None));
            } else if let Some(until) = throttled.filter(|_| fetch.triggered) {
                let since = if fetch.retry.attempts() == 0 { now } else { fetch.since };
                if until.saturating_duration_since(since) > max_wait {
                    let message = format!("the API's rate limit is used up; {}", out_of_time(until - now, max_wait));
                    fetch.phase = Phase::Last(End::Failed(run_error("fetch", message, true)));
                }
            }
        }
    }

    /// Starts fetches of reads of which none is under way: the waiting runs, oldest first, then the
    /// scheduled fetch.
    fn start_fetches(&mut self, now: Instant, fresh: Uuid) -> Vec<Effect> {
        let mut effects = Vec::new();
        if !self.has_room() {
            return effects;
        }
        if let Some(until) = self.throttled(now) {
            let max_wait = self.patience.max_wait;
            if until - now > max_wait {
                let message = format!("no request is sent, for the API's rate limit; {}", out_of_time(until - now, max_wait));
                let fail = |(run, _)| Effect::Record(Command::FailRun { run, error: run_error("fetch", message.clone(), true) });
                effects.extend(self.waiting.drain(..).map(fail));
            }
            return effects;
        }
        while self.has_room()
            && let Some(at) = self.startable()
        {
            let (run, read) = self.waiting.remove(at).expect("it waits");
            self.fetches.push(ActiveFetch::new(run, read, true, now));
            effects.push(Effect::Record(Command::StartRun { run }));
        }
        if self.due().is_some_and(|due| due <= now) {
            self.ticks.advance(now);
            let fetch = ActiveFetch::new(fresh, Read::default(), false, now);
            self.fetches.push(match self.retry.take() {
                Some(failed) => fetch.retried(failed),
                None => fetch,
            });
        }
        effects
    }

    /// Requests the pages that are due, those of the fetch first that has waited longest.
    fn request_pages(&mut self, now: Instant) -> Vec<Effect> {
        let mut effects = Vec::new();
        let is_due = |fetch: &ActiveFetch, ahead| matches!(fetch.phase, Phase::Due(at) if at <= now) && fetch.unsettled() <= ahead;
        while self.throttled(now).is_none()
            && let Some(at) = self.fetches.iter().position(|fetch| is_due(fetch, self.fetch_ahead))
        {
            let mut fetch = self.fetches.remove(at);
            if fetch.retry.attempts() == 0 {
                fetch.since = now;
            }
            fetch.phase = Phase::Requested;
            effects.push(Effect::Fetch(fetch.run));
            self.fetches.push(fetch);
            self.throttle(self.interval, now);
        }
        effects
    }

    /// When the next page or fetch is due that waits for a time.
    fn next_wake(&self, now: Instant) -> Option<Instant> {
        let throttled = self.throttled(now);
        let later = |at: Instant| throttled.map_or(at, |until| until.max(at));
        let pages = self.fetches.iter().filter_map(|fetch| match fetch.phase {
            Phase::Due(at) => Some(later(at)).filter(|&at| at > now),
            _ => None,
        });
        let waiting = throttled.filter(|_| self.has_room() && self.startable().is_some());
        let scheduled = self.due().map(|due| throttled.unwrap_or(due));
        pages.chain(waiting).chain(scheduled).min()
    }

    /// Whether one more fetch may start.
    fn has_room(&self) -> bool {
        self.fetches.len() < self.max_active
    }

    /// The waiting run that may start first.
    fn startable(&self) -> Option<usize> {
        self.waiting.iter().position(|(_, read)| self.is_free(read))
    }

    /// Whether no fetch of a read is under way.
    fn is_free(&self, read: &Read) -> bool {
        self.fetches.iter().all(|fetch| fetch.read != *read)
    }

    /// Until when no request may be sent.
    fn throttled(&self, now: Instant) -> Option<Instant> {
        self.throttled_until.filter(|&until| until > now)
    }

    /// No request may be sent for so long.
    fn throttle(&mut self, wait: Option<Duration>, now: Instant) {
        self.throttled_until = self.throttled_until.max(wait.map(|wait| now + wait));
    }

    /// A run of a read was requested.
    pub(crate) fn trigger(&mut self, run: Uuid, read: Read, now: Instant, fresh: Uuid) -> Vec<Effect> {
        if self.fetch(run).is_some() || self.waiting.iter().any(|(waiting, _)| *waiting == run) {
            return Vec::new();
        }
        if self.waiting.len() >= MAX_WAITING_RUNS {
            let message = format!("{MAX_WAITING_RUNS} runs already wait to be fetched; retry when some have ended");
            return vec![Effect::Record(Command::FailRun { run, error: run_error("fetch", message, true) })];
        }
        self.waiting.push_back((run, read));
        self.wake(now, fresh)
    }

    /// A run was cancelled: nothing more is recorded of it. Its pages that are being produced stay
    /// in Kafka.
    pub(crate) fn cancel(&mut self, run: Uuid, now: Instant, fresh: Uuid) -> Vec<Effect> {
        self.waiting.retain(|(waiting, _)| *waiting != run);
        self.discard(run, now, fresh)
    }

    /// A page of a run arrived with this many records. Returns whether to produce it.
    pub(crate) fn fetched(&mut self, run: Uuid, records: u64, now: Instant, fresh: Uuid, mut info: PageInfo) -> (bool, Vec<Effect>) {
        let (marks, validators) = (std::mem::take(&mut info.marks), info.validators.take());
        let cursor = self.cursor(run).map(str::to_owned);
        let Some(at) = self.index(run) else { return (false, Vec::new()) };
        let mut effects = self.failing.then_some(Effect::Recovered).into_iter().collect::<Vec<_>>();
        self.failing = false;
        self.throttle(info.wait, now);
        let fetch = &mut self.fetches[at];
        if matches!(fetch.phase, Phase::Discarded) {
            self.fetches.remove(at);
            effects.extend(self.wake(now, fresh));
            return (false, effects);
        }
        if fetch.history.is_first()
            && let Some((.., history)) = self.cut_short.take_if(|(read, at, _)| *read == fetch.read && *at == cursor)
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
        effects.extend(self.wake(now, fresh));
        (true, effects)
    }

    /// No page of a run arrived. `jitter` in [0, 1) spreads the retries of many processes.
    pub(crate) fn failed(&mut self, run: Uuid, failure: Failure, jitter: f64, now: Instant, fresh: Uuid) -> Vec<Effect> {
        let Some(at) = self.index(run) else { return Vec::new() };
        self.throttle(failure.retry_after, now);
        let throttled = self.throttled(now);
        let fetch = &mut self.fetches[at];
        let delayed = now + fetch.retry.failed(jitter);
        let again = throttled.map_or(delayed, |until| until.max(delayed));
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
            self.fetches.remove(at);
            effects.extend(self.wake(now, fresh));
            return effects;
        }
        let Patience { max_wait, max_attempts } = self.patience;
        let has_time = again - fetch.since <= max_wait;
        let in_time = transient && has_time && max_attempts.is_none_or(|max| fetch.retry.attempts() < max);
        let message = match throttled.filter(|_| transient && !has_time) {
            Some(until) => format!("{}; {}", failure.message, out_of_time(until - now, max_wait)),
            None => failure.message,
        };
        fetch.phase = if fetch.triggered && in_time {
            Phase::Due(again)
        } else if !fetch.triggered && (in_time || transient && self.schedule != Schedule::Once) {
            let (retry, history) = (fetch.retry.clone(), std::mem::take(&mut fetch.history));
            let position = fetch.position.clone();
            Phase::Last(End::Retried(Box::new(PendingRetry { at: again, since: fetch.since, retry, history, position })))
        } else {
            Phase::Last(End::Failed(run_error("fetch", message, failure.retryable)))
        };
        effects.extend(self.wake(now, fresh));
        effects
    }

    /// The oldest page of a run is in Kafka. A fetch that the stop of the process interrupts is
    /// neither complete nor failed: its run continues in the next process.
    pub(crate) fn produced(&mut self, run: Uuid, page: PageProduced, now: Instant, fresh: Uuid) -> Vec<Effect> {
        let start = self.start.as_deref();
        let Some(fetch) = self.fetches.iter_mut().find(|fetch| fetch.run == run) else { return Vec::new() };
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
            self.cut_short = Some((fetch.read.clone(), cursor, std::mem::take(&mut fetch.history)));
        }
        let PageProduced { ranges, produced, rejected, rejects } = page;
        let is_complete = stop.is_some_and(|stop| stop.complete);
        let progress = fetch.pass.as_mut().and_then(|pass| pass.produced(marks, asked == Position::Begin, is_complete)).map(Box::new);
        let validators = validators.filter(|_| is_complete).map(Box::new);
        let page = Command::PageProduced { run, ranges, produced, rejected, asked, requested, next, rejects, progress, validators };
        let mut effects = vec![Effect::Record(page)];
        effects.extend(fetch.oldest_fetched());
        effects.extend(self.wake(now, fresh));
        effects
    }

    /// The oldest page of a run can't be produced, and neither can the same page later. What was
    /// fetched after it is discarded.
    pub(crate) fn refused(&mut self, run: Uuid, refused: PageRefused, now: Instant, fresh: Uuid) -> Vec<Effect> {
        let Some(fetch) = self.fetch(run) else { return Vec::new() };
        let error = run_error("produce", refused.0.clone(), false);
        let end = match fetch.triggered {
            true => Effect::Record(Command::FailRun { run, error }),
            false => Effect::ScheduledFetchEnded(Err(error)),
        };
        self.failing = true;
        let mut effects = vec![Effect::Failing { error: refused.0.clone(), note: refused.0 }, end];
        effects.extend(self.discard(run, now, fresh));
        effects
    }

    /// Ends the fetch of a run if it is under way, and discards the page that it has requested.
    fn discard(&mut self, run: Uuid, now: Instant, fresh: Uuid) -> Vec<Effect> {
        let Some(at) = self.index(run) else { return Vec::new() };
        let fetch = &mut self.fetches[at];
        if matches!(fetch.phase, Phase::Requested | Phase::Discarded) {
            fetch.unsettled.clear();
            fetch.phase = Phase::Discarded;
            return Vec::new();
        }
        self.fetches.remove(at);
        self.wake(now, fresh)
    }

    fn index(&self, run: Uuid) -> Option<usize> {
        self.fetches.iter().position(|fetch| fetch.run == run)
    }

    fn fetch(&self, run: Uuid) -> Option<&ActiveFetch> {
        Some(&self.fetches[self.index(run)?])
    }

    /// When the scheduled fetch may start: the retry of a failed one, else the next tick. `None`
    /// while there is no room for it.
    fn due(&self) -> Option<Instant> {
        let due = self.retry.as_ref().map(|retry| retry.at).or(self.ticks.next());
        due.filter(|_| self.has_room() && self.is_free(&Read::default()))
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
