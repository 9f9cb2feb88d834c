//! When to fetch, and for whom. Pure: it is told the time, the jitter and what happened, and says what to do.
//!
//! Guarantee: at most one fetch at a time, scheduled or triggered; a fixed grid of scheduled fetches, of which missed ones are not made
//! up for; every triggered run ends in exactly one report, unless it is cancelled or the process stops; an API that asks to be left alone
//! is left alone by all. Where the API gives cursors a fetch goes page after page; the cursor moves only when its page is in Kafka, and is one
//! for all fetches. While paused no page is asked for, and nothing that is under way is forgotten. Not guaranteed: that a triggered run starts soon, since those before it go first.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use forebay_schemas::run::RunError;
use uuid::Uuid;

use crate::kernel::clock::millis;
use crate::kernel::{Backoff, Class};
use crate::message::{PageProduced, PageRefused};

/// Triggered runs that may wait.
pub const MOST_WAITING: usize = 1_000;
/// How long a triggered run tries an API that is away before it is reported failed.
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
    /// Fetch the page at [`State::cursor`] for a run, once all that was reported is kept, and say what came of it.
    Fetch(Uuid),
    /// Call [`State::wake`] at that time. Replaces the wish before it.
    WakeAt(Instant),
    /// Tell others.
    Report(Report),
    /// Say that the API is away, or answers nonsense, until the next success.
    Trouble(String),
    /// The trouble is over.
    Well,
}

/// What happens to a run, or to a scheduled fetch.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Report {
    /// The fetcher is at work on the run.
    Started(Uuid),
    /// A page of it, or of a scheduled fetch, is here, of so many records; and what it was asked with.
    Fetched(Uuid, u64, Option<String>),
    /// The page is in Kafka; and what the next one is to be asked with, if that changed.
    Produced(Uuid, PageProduced, Option<String>),
    /// All of the run is in Kafka.
    Finished(Uuid),
    /// The run failed.
    Failed(Uuid, RunError),
    /// The API is left alone for so long, and why.
    Throttled(Duration, String),
    /// A scheduled fetch is in Kafka.
    ScheduledDone,
    /// A scheduled fetch gave no page, and asking again at once would give none.
    ScheduledFailed(RunError),
}

/// A fetch that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    /// Whether asking again may help.
    pub class: Class,
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
    /// What the next page is asked with.
    cursor: Option<String>,
    /// Pages in one fetch, at most.
    max_pages: u32,
    troubled: bool,
    held: bool,
    paused: bool,
    stopping: bool,
}

/// A scheduled fetch that goes on later.
#[derive(Debug, Clone, Copy)]
struct Retry {
    at: Instant,
    /// How often its next page was tried.
    attempt: u32,
    /// The pages of it that are in Kafka.
    pages: u32,
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
    /// The pages before it that are in Kafka.
    pages: u32,
    /// What the page says the next one is to be asked with, if that is news.
    next: Option<String>,
    /// Whether the page says that there are more.
    more: bool,
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
            cursor: None,
            max_pages: 1,
            troubled: false,
            held: false,
            paused: false,
            stopping: false,
        }
    }

    /// The same for an API that gives cursors: its first page is asked for with `cursor`, and a fetch has `max_pages` pages at most.
    pub(crate) fn with_cursor(self, cursor: Option<String>, max_pages: u32) -> Self {
        Self { cursor, max_pages, ..self }
    }

    /// What the next page is asked with.
    pub(crate) fn cursor(&self) -> Option<&str> {
        self.cursor.as_deref()
    }

    /// Whether nothing is being fetched or produced.
    pub(crate) fn is_idle(&self) -> bool {
        self.current.as_ref().is_none_or(|work| matches!(work.phase, Phase::BackingOff(_) | Phase::Paused))
    }

    /// No page is asked for while it is paused. The page that is under way is produced.
    pub(crate) fn pause(&mut self, paused: bool, now: Instant, fresh: Uuid) -> Vec<Effect> {
        if !paused && self.paused {
            // The time of the pause is not the API's.
            self.current.iter_mut().for_each(|work| work.since = now);
        }
        self.paused = paused;
        self.wake(now, fresh)
    }

    /// Nothing more is begun by the schedule: no fetch, and no further page of the one under way.
    pub(crate) fn hold(&mut self) {
        self.held = true;
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
            self.begin(run, true, (0, 0), now);
            effects.extend([Effect::Report(Report::Started(run)), Effect::Fetch(run)]);
            return effects;
        }
        match self.due() {
            Some(due) if due > now => effects.push(Effect::WakeAt(due)),
            Some(_) => {
                let before = self.retry.take().map_or((0, 0), |retry| (retry.attempt, retry.pages));
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
            return vec![Effect::Report(Report::Failed(run, error("fetch", message, true)))];
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

    /// A page came, and said what to ask the next one with. Says whether it is to be produced.
    pub(crate) fn fetched(&mut self, records: u64, now: Instant, fresh: Uuid, next: Option<String>) -> (bool, Vec<Effect>) {
        let Some(work) = &mut self.current else { return (false, Vec::new()) };
        let mut effects = self.troubled.then_some(Effect::Well).into_iter().collect::<Vec<_>>();
        self.troubled = false;
        self.quiet_until = None;
        if work.cancelled {
            self.current = None;
            effects.extend(self.wake(now, fresh));
            return (false, effects);
        }
        work.phase = Phase::Producing;
        work.next = next.filter(|next| self.cursor.as_ref() != Some(next));
        work.more = work.next.is_some() && records > 0;
        effects.push(Effect::Report(Report::Fetched(work.run, records, self.cursor.clone())));
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
            let next = forebay_schemas::pipeline::Span(wait);
            effects.push(Effect::Trouble(format!("{} (attempt {}, next in {next})", failure.message, work.attempt + 1)));
            effects.push(Effect::Report(Report::Throttled(wait, failure.message.clone())));
        } else {
            effects.push(Effect::Trouble(failure.message.clone()));
        }
        self.troubled = true;
        if work.cancelled {
            effects.extend(self.wake(now, fresh));
            return effects;
        }
        if work.triggered {
            if transient && again - work.since <= RUN_PATIENCE {
                work.attempt += 1;
                work.phase = Phase::BackingOff(again);
                self.current = Some(work);
            } else {
                effects.push(Effect::Report(Report::Failed(work.run, error("fetch", failure.message, transient))));
            }
        } else if transient {
            self.retry = Some(Retry { at: again, attempt: work.attempt + 1, pages: work.pages });
        } else {
            effects.push(Effect::Report(Report::ScheduledFailed(error("fetch", failure.message, false))));
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
            let next = work.next.take();
            if next.is_some() {
                self.cursor.clone_from(&next);
            }
            effects.push(Effect::Report(Report::Produced(work.run, page, next)));
            work.pages += 1;
            let more = work.more && work.pages < self.max_pages && (work.triggered || !self.held);
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
            effects.push(Effect::Report(if work.triggered { Report::Finished(work.run) } else { Report::ScheduledDone }));
        }
        effects.extend(self.wake(now, fresh));
        effects
    }

    /// The page can't be produced; the same page can't be either.
    pub(crate) fn refused(&mut self, refused: PageRefused, now: Instant, fresh: Uuid) -> Vec<Effect> {
        let Some(work) = self.current.take() else { return Vec::new() };
        self.troubled = true;
        let mut effects = vec![Effect::Trouble(refused.0.clone())];
        let error = error("produce", refused.0, false);
        if !work.triggered {
            effects.push(Effect::Report(Report::ScheduledFailed(error)));
        } else if !work.cancelled {
            effects.push(Effect::Report(Report::Failed(work.run, error)));
        }
        effects.extend(self.wake(now, fresh));
        effects
    }

    fn begin(&mut self, run: Uuid, triggered: bool, (attempt, pages): (u32, u32), now: Instant) {
        let phase = Phase::Fetching;
        self.current = Some(Work { run, triggered, cancelled: false, since: now, attempt, pages, next: None, more: false, phase });
    }

    /// When the next scheduled fetch may begin: a failed one again, else at the grid's next point.
    fn due(&self) -> Option<Instant> {
        self.retry.map(|retry| retry.at).or(self.tick)
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
mod tests {
    use super::*;

    const EVERY: Duration = Duration::from_secs(10);

    struct Rig {
        state: State,
        start: Instant,
        next: u128,
    }

    /// Runs are numbered: triggered ones by the test, scheduled ones from 1,001.
    impl Rig {
        fn new(schedule: Schedule) -> Self {
            let start = Instant::now();
            Self { state: State::new(schedule, start, []), start, next: 1_000 }
        }
        fn at(&self, seconds: f64) -> Instant {
            self.start + Duration::from_secs_f64(seconds)
        }
        fn fresh(&mut self) -> Uuid {
            self.next += 1;
            Uuid::from_u128(self.next)
        }
        fn wake(&mut self, seconds: f64) -> Vec<Effect> {
            let (now, fresh) = (self.at(seconds), self.fresh());
            self.state.wake(now, fresh)
        }
        /// For an API that gives cursors.
        fn with_cursor(schedule: Schedule, cursor: Option<&str>, max_pages: u32) -> Self {
            let Self { state, start, next } = Self::new(schedule);
            Self { state: state.with_cursor(cursor.map(str::to_owned), max_pages), start, next }
        }
        fn trigger(&mut self, run: u128, seconds: f64) -> Vec<Effect> {
            let (now, fresh) = (self.at(seconds), self.fresh());
            self.state.trigger(Uuid::from_u128(run), now, fresh)
        }
        fn cancel(&mut self, run: u128, seconds: f64) -> Vec<Effect> {
            let (now, fresh) = (self.at(seconds), self.fresh());
            self.state.cancel(Uuid::from_u128(run), now, fresh)
        }
        fn fetched(&mut self, seconds: f64) -> (bool, Vec<Effect>) {
            let (now, fresh) = (self.at(seconds), self.fresh());
            self.state.fetched(100, now, fresh, None)
        }
        /// A page of so many records that says what the next one is to be asked with.
        fn page(&mut self, records: u64, next: Option<&str>, seconds: f64) -> Vec<Effect> {
            let (now, fresh) = (self.at(seconds), self.fresh());
            let (produce, effects) = self.state.fetched(records, now, fresh, next.map(str::to_owned));
            assert!(produce);
            effects
        }
        /// The same, from the answer until it is in Kafka.
        fn whole_page(&mut self, next: Option<&str>, seconds: f64) -> Vec<Effect> {
            self.page(100, next, seconds);
            self.produced(seconds)
        }
        fn failed(&mut self, class: Class, retry_after: Option<u64>, seconds: f64) -> Vec<Effect> {
            let (now, fresh) = (self.at(seconds), self.fresh());
            let failure = Failure { class, retry_after: retry_after.map(Duration::from_secs), message: "no".into() };
            self.state.failed(failure, 0.0, now, fresh)
        }
        fn produced(&mut self, seconds: f64) -> Vec<Effect> {
            let (now, fresh) = (self.at(seconds), self.fresh());
            self.state.produced(PageProduced::default(), now, fresh)
        }
        /// A scheduled fetch from its start to its end.
        fn whole_fetch(&mut self, start: f64, end: f64) -> Vec<Effect> {
            assert!(fetches(&self.wake(start)), "a fetch is due at {start}");
            assert!(self.fetched(end).0);
            self.produced(end)
        }
    }

    fn fetches(effects: &[Effect]) -> bool {
        effects.iter().any(|effect| matches!(effect, Effect::Fetch(_)))
    }
    fn fetch_of(effects: &[Effect], run: u128) -> bool {
        effects.contains(&Effect::Fetch(Uuid::from_u128(run)))
    }
    fn wakes_at(effects: &[Effect]) -> Option<Instant> {
        effects.iter().find_map(|effect| if let Effect::WakeAt(at) = effect { Some(*at) } else { None })
    }
    fn run_error(effects: &[Effect], run: u128) -> Option<&RunError> {
        effects.iter().find_map(|effect| match effect {
            Effect::Report(Report::Failed(failed, error)) if *failed == Uuid::from_u128(run) => Some(error),
            _ => None,
        })
    }

    #[test]
    fn scheduled_fetches_keep_to_a_grid_however_long_each_takes() {
        let mut rig = Rig::new(Schedule::Every(EVERY));
        assert_eq!(wakes_at(&rig.whole_fetch(0.0, 3.0)), Some(rig.at(10.0)));
        assert_eq!(wakes_at(&rig.whole_fetch(10.1, 14.0)), Some(rig.at(20.0)));
    }

    #[test]
    fn missed_ticks_become_one_fetch_at_once_and_the_grid_goes_on() {
        let mut rig = Rig::new(Schedule::Every(EVERY));
        assert!(fetches(&rig.wake(0.0)));
        assert!(rig.fetched(35.0).0);
        assert!(fetches(&rig.produced(35.0)), "three ticks were missed");
        assert!(rig.fetched(36.0).0);
        assert_eq!(wakes_at(&rig.produced(36.0)), Some(rig.at(40.0)));
    }

    #[test]
    fn a_tick_during_a_fetch_starts_no_second_one() {
        let mut rig = Rig::new(Schedule::Every(EVERY));
        assert!(fetches(&rig.wake(0.0)));
        assert!(!fetches(&rig.wake(10.0)));
        assert!(rig.fetched(11.0).0);
        assert!(!fetches(&rig.wake(12.0)), "it is being produced");
    }

    #[test]
    fn once_means_once() {
        let mut rig = Rig::new(Schedule::Once);
        let end = rig.whole_fetch(0.0, 1.0);
        assert_eq!(end.last(), Some(&Effect::Report(Report::ScheduledDone)));
        assert_eq!(rig.wake(100.0), []);
    }

    #[test]
    fn a_fetcher_without_a_schedule_waits_to_be_asked() {
        let mut rig = Rig::new(Schedule::OnTrigger);
        assert_eq!(rig.wake(0.0), []);
        let effects = rig.trigger(1, 5.0);
        assert_eq!(effects, [Effect::Report(Report::Started(Uuid::from_u128(1))), Effect::Fetch(Uuid::from_u128(1))]);
    }

    #[test]
    fn triggered_runs_wait_for_each_other_and_for_the_scheduled_fetch() {
        let mut rig = Rig::new(Schedule::Every(EVERY));
        assert!(fetches(&rig.wake(0.0)));
        assert_eq!(rig.trigger(1, 1.0), []);
        assert_eq!(rig.trigger(2, 1.0), []);
        assert_eq!(rig.trigger(1, 1.0), [], "the same run is the same run");
        assert!(rig.fetched(2.0).0);
        assert!(fetch_of(&rig.produced(3.0), 1));
        assert!(rig.fetched(4.0).0);
        let effects = rig.produced(5.0);
        assert_eq!(effects[1], Effect::Report(Report::Finished(Uuid::from_u128(1))));
        assert!(fetch_of(&effects, 2));
    }

    #[test]
    fn runs_beyond_the_queues_bound_are_refused_as_retryable() {
        let mut rig = Rig::new(Schedule::OnTrigger);
        for run in 1..=MOST_WAITING as u128 + 1 {
            assert!(run_error(&rig.trigger(run, 0.0), run).is_none());
        }
        assert!(run_error(&rig.trigger(5_000, 0.0), 5_000).unwrap().retryable);
    }

    #[test]
    fn a_scheduled_fetch_is_tried_again_with_longer_waits_and_ticks_do_not_shorten_them() {
        let mut rig = Rig::new(Schedule::Every(Duration::from_secs(1)));
        assert!(fetches(&rig.wake(0.0)));
        let mut now = 0.0;
        for wait in [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0] {
            let effects = rig.failed(Class::Transient, None, now);
            assert_eq!(wakes_at(&effects), Some(rig.at(now + wait)));
            now += wait;
            assert!(fetches(&rig.wake(now)));
        }
        let (produce, effects) = rig.fetched(now);
        assert!(produce);
        assert_eq!(effects[0], Effect::Well);
        assert!(rig.produced(now).iter().any(|effect| matches!(effect, Effect::WakeAt(_))));
    }

    #[test]
    fn a_scheduled_fetch_that_would_fail_the_same_way_waits_for_the_next_tick() {
        let mut rig = Rig::new(Schedule::Every(EVERY));
        assert!(fetches(&rig.wake(0.0)));
        let effects = rig.failed(Class::Rejected, None, 1.0);
        assert_eq!(wakes_at(&effects), Some(rig.at(10.0)));
        assert!(effects.iter().any(|effect| matches!(effect, Effect::Report(Report::ScheduledFailed(error)) if !error.retryable)));
    }

    #[test]
    fn a_triggered_run_goes_before_a_scheduled_fetch_that_is_backing_off() {
        let mut rig = Rig::new(Schedule::Every(EVERY));
        assert!(fetches(&rig.wake(0.0)));
        rig.failed(Class::Transient, None, 0.0);
        assert!(fetch_of(&rig.trigger(1, 0.1), 1));
    }

    #[test]
    fn an_api_that_asks_to_be_left_alone_is_left_alone_by_all() {
        let mut rig = Rig::new(Schedule::Every(EVERY));
        assert!(fetches(&rig.wake(0.0)));
        assert_eq!(wakes_at(&rig.failed(Class::Transient, Some(30), 0.0)), Some(rig.at(30.0)));
        assert_eq!(rig.trigger(1, 1.0), [Effect::WakeAt(rig.at(30.0))]);
        assert!(fetch_of(&rig.wake(30.0), 1));
    }

    #[test]
    fn a_triggered_run_fails_at_once_when_asking_again_would_not_help() {
        let mut rig = Rig::new(Schedule::OnTrigger);
        rig.trigger(1, 0.0);
        assert!(!run_error(&rig.failed(Class::Rejected, None, 1.0), 1).unwrap().retryable);
    }

    #[test]
    fn a_triggered_run_is_patient_for_five_minutes_and_then_fails_as_retryable() {
        let mut rig = Rig::new(Schedule::OnTrigger);
        rig.trigger(1, 0.0);
        let mut now = 0.0;
        let error = loop {
            let effects = rig.failed(Class::Transient, None, now);
            if let Some(error) = run_error(&effects, 1) {
                break error.clone();
            }
            now = (wakes_at(&effects).unwrap() - rig.start).as_secs_f64();
            assert!(fetch_of(&rig.wake(now), 1));
        };
        assert!(error.retryable);
        assert!(now > 200.0 && now <= 300.0, "gave up at {now}");
    }

    #[test]
    fn a_run_that_would_have_to_wait_longer_than_its_patience_fails_at_once() {
        let mut rig = Rig::new(Schedule::OnTrigger);
        rig.trigger(1, 0.0);
        assert!(run_error(&rig.failed(Class::Transient, Some(600), 0.0), 1).unwrap().retryable);
    }

    #[test]
    fn a_refused_page_fails_the_run_for_good() {
        let mut rig = Rig::new(Schedule::OnTrigger);
        rig.trigger(1, 0.0);
        assert!(rig.fetched(1.0).0);
        let (now, fresh) = (rig.at(2.0), rig.fresh());
        let effects = rig.state.refused(PageRefused("too big".into()), now, fresh);
        let error = run_error(&effects, 1).unwrap();
        assert_eq!((error.stage.as_str(), error.retryable), ("produce", false));
    }

    #[test]
    fn a_cancelled_run_is_not_heard_of_again() {
        let mut rig = Rig::new(Schedule::OnTrigger);
        rig.trigger(1, 0.0);
        rig.trigger(2, 0.0);
        rig.trigger(3, 0.0);
        rig.cancel(2, 0.5);
        rig.cancel(1, 0.5);
        let (produce, effects) = rig.fetched(1.0);
        assert!(!produce, "its page is dropped");
        assert!(fetch_of(&effects, 3), "and the one after the cancelled one begins");
        rig.failed(Class::Transient, None, 1.0);
        assert_eq!(rig.cancel(3, 1.1), [], "nothing is left to do");
        assert!(rig.state.is_idle());
    }

    #[test]
    fn a_fetcher_that_stops_lets_the_page_through_and_begins_nothing_more() {
        let mut rig = Rig::new(Schedule::OnTrigger);
        rig.trigger(1, 0.0);
        rig.trigger(2, 0.0);
        rig.state.stop();
        assert!(rig.fetched(1.0).0);
        assert!(!fetches(&rig.produced(2.0)));
        assert!(rig.state.is_idle());
    }

    fn moved(run: u128, next: Option<&str>) -> Effect {
        Effect::Report(Report::Produced(Uuid::from_u128(run), PageProduced::default(), next.map(str::to_owned)))
    }
    fn finished(run: u128) -> Effect {
        Effect::Report(Report::Finished(Uuid::from_u128(run)))
    }

    #[test]
    fn pages_follow_each_other_and_the_cursor_moves_when_a_page_is_in_kafka() {
        let mut rig = Rig::with_cursor(Schedule::OnTrigger, Some("0"), 100);
        rig.trigger(1, 0.0);
        assert_eq!(rig.state.cursor(), Some("0"));
        let fetched = rig.page(100, Some("100"), 1.0);
        assert_eq!(fetched, [Effect::Report(Report::Fetched(Uuid::from_u128(1), 100, Some("0".into())))]);
        assert_eq!(rig.state.cursor(), Some("0"), "it is not in Kafka yet");
        assert_eq!(rig.produced(2.0), [moved(1, Some("100")), Effect::Fetch(Uuid::from_u128(1))]);
        assert_eq!(rig.state.cursor(), Some("100"));
        assert!(fetch_of(&rig.whole_page(Some("200"), 3.0), 1));
        assert_eq!(rig.whole_page(None, 4.0), [moved(1, None), finished(1)]);
        assert_eq!(rig.state.cursor(), Some("200"), "the last page moves it no further");
        assert!(fetch_of(&rig.trigger(2, 5.0), 2), "and the next fetch goes on from there");
    }

    #[test]
    fn the_cursor_just_used_and_a_page_without_records_are_the_end_too() {
        let mut rig = Rig::with_cursor(Schedule::OnTrigger, None, 100);
        rig.trigger(1, 0.0);
        assert!(fetch_of(&rig.whole_page(Some("a"), 1.0), 1));
        assert_eq!(rig.whole_page(Some("a"), 2.0), [moved(1, None), finished(1)]);
        rig.trigger(2, 3.0);
        rig.page(0, Some("b"), 4.0);
        assert_eq!(rig.produced(5.0), [moved(2, Some("b")), finished(2)], "where to go on it says all the same");
    }

    #[test]
    fn a_scheduled_fetch_has_pages_too_and_is_done_once() {
        let mut rig = Rig::with_cursor(Schedule::Once, None, 100);
        assert!(fetches(&rig.wake(0.0)));
        let effects = rig.whole_page(Some("a"), 1.0);
        assert!(fetches(&effects) && !effects.contains(&Effect::Report(Report::ScheduledDone)));
        let effects = rig.whole_page(None, 2.0);
        assert!(!fetches(&effects) && effects.contains(&Effect::Report(Report::ScheduledDone)));
    }

    #[test]
    fn what_is_beyond_the_most_pages_waits_for_the_next_fetch() {
        let mut rig = Rig::with_cursor(Schedule::Every(EVERY), None, 2);
        assert!(fetches(&rig.wake(0.0)));
        assert!(fetches(&rig.whole_page(Some("a"), 1.0)));
        let end = rig.whole_page(Some("b"), 2.0);
        assert!(end.contains(&Effect::Report(Report::ScheduledDone)) && wakes_at(&end) == Some(rig.at(10.0)), "{end:?}");
        assert!(fetches(&rig.wake(10.0)));
        assert_eq!(rig.state.cursor(), Some("b"));
    }

    #[test]
    fn a_page_that_fails_in_the_midst_is_tried_again_by_itself_with_waits_from_the_first() {
        let mut rig = Rig::with_cursor(Schedule::OnTrigger, None, 100);
        rig.trigger(1, 0.0);
        rig.failed(Class::Transient, None, 0.0);
        assert!(fetch_of(&rig.wake(0.5), 1));
        assert!(fetch_of(&rig.whole_page(Some("a"), 299.0), 1));
        let effects = rig.failed(Class::Transient, None, 299.5);
        assert!(run_error(&effects, 1).is_none(), "its patience is for each page");
        assert_eq!(wakes_at(&effects), Some(rig.at(300.0)));
        assert!(fetch_of(&rig.wake(300.0), 1));
        assert_eq!(rig.state.cursor(), Some("a"));
        assert!(run_error(&rig.failed(Class::Rejected, None, 301.0), 1).is_some());
        rig.trigger(2, 302.0);
        assert_eq!(rig.state.cursor(), Some("a"), "the next run begins at the page that failed");
    }

    #[test]
    fn a_scheduled_fetch_that_fails_in_the_midst_goes_on_there_and_its_pages_count_on() {
        let mut rig = Rig::with_cursor(Schedule::Every(EVERY), None, 2);
        assert!(fetches(&rig.wake(0.0)));
        assert!(fetches(&rig.whole_page(Some("a"), 1.0)));
        assert_eq!(wakes_at(&rig.failed(Class::Transient, Some(3), 2.0)), Some(rig.at(5.0)));
        assert!(fetches(&rig.wake(5.0)));
        assert_eq!(rig.state.cursor(), Some("a"));
        assert!(rig.whole_page(Some("b"), 6.0).contains(&Effect::Report(Report::ScheduledDone)), "it was its second page");
    }

    #[test]
    fn a_run_cancelled_in_the_midst_asks_for_no_further_page_and_leaves_the_cursor_where_the_ledger_has_it() {
        let mut rig = Rig::with_cursor(Schedule::OnTrigger, None, 100);
        rig.trigger(1, 0.0);
        assert!(fetch_of(&rig.whole_page(Some("a"), 1.0), 1));
        rig.page(100, Some("b"), 2.0);
        rig.cancel(1, 2.5);
        assert_eq!(rig.produced(3.0), [], "a page of a cancelled run is not reported");
        assert_eq!(rig.state.cursor(), Some("a"), "so it moves no cursor");
        rig.trigger(2, 4.0);
        rig.trigger(3, 4.0);
        assert!(fetch_of(&rig.whole_page(Some("b"), 5.0), 2));
        rig.cancel(2, 5.5);
        let (now, fresh) = (rig.at(6.0), rig.fresh());
        let (produce, effects) = rig.state.fetched(100, now, fresh, Some("c".into()));
        assert!(!produce && fetch_of(&effects, 3));
        assert_eq!(rig.state.cursor(), Some("b"));
    }

    #[test]
    fn a_page_that_is_refused_in_the_midst_moves_no_cursor() {
        let mut rig = Rig::with_cursor(Schedule::OnTrigger, Some("a"), 100);
        rig.trigger(1, 0.0);
        rig.page(100, Some("b"), 1.0);
        let (now, fresh) = (rig.at(2.0), rig.fresh());
        let effects = rig.state.refused(PageRefused("too big".into()), now, fresh);
        assert!(run_error(&effects, 1).is_some());
        assert_eq!(rig.state.cursor(), Some("a"));
    }

    #[test]
    fn a_fetcher_that_stops_in_the_midst_neither_finishes_nor_fails_and_reports_the_page_it_had() {
        for schedule in [Schedule::OnTrigger, Schedule::Once] {
            let mut rig = Rig::with_cursor(schedule, None, 100);
            rig.wake(0.0);
            rig.trigger(1, 0.0);
            assert!(fetches(&rig.whole_page(Some("a"), 1.0)));
            rig.state.stop();
            assert!(!rig.state.is_idle());
            let effects = rig.whole_page(Some("b"), 2.0);
            assert!(matches!(&effects[..], [Effect::Report(Report::Produced(_, _, Some(next)))] if next == "b"), "{effects:?}");
            assert!(rig.state.is_idle());
        }
        let mut rig = Rig::with_cursor(Schedule::OnTrigger, None, 100);
        rig.trigger(1, 0.0);
        rig.state.stop();
        assert_eq!(rig.whole_page(None, 1.0), [moved(1, None), finished(1)], "its last page ends a run all the same");
    }

    #[test]
    fn a_schedule_on_hold_asks_for_no_further_page_and_a_run_does() {
        let mut rig = Rig::with_cursor(Schedule::Every(EVERY), None, 100);
        assert!(fetches(&rig.wake(0.0)));
        rig.state.hold();
        assert!(rig.whole_page(Some("a"), 1.0).contains(&Effect::Report(Report::ScheduledDone)));
        rig.trigger(1, 2.0);
        assert!(fetch_of(&rig.whole_page(Some("b"), 3.0), 1));
    }

    #[test]
    fn while_paused_no_page_is_asked_for_and_afterwards_all_goes_on_where_it_was() {
        let mut rig = Rig::with_cursor(Schedule::Every(EVERY), None, 100);
        rig.wake(0.0);
        let pause = |rig: &mut Rig, paused: bool, seconds: f64| {
            let (now, fresh) = (rig.at(seconds), rig.fresh());
            rig.state.pause(paused, now, fresh)
        };
        assert_eq!(pause(&mut rig, true, 0.5), []);
        assert!(!fetches(&rig.whole_page(Some("a"), 1.0)), "the page under way is produced, the next is not asked for");
        assert!(rig.state.is_idle());
        assert!(!fetches(&rig.trigger(1, 2.0)) && !fetches(&rig.wake(60.0)), "neither a run nor the schedule begins");
        assert!(fetches(&pause(&mut rig, false, 61.0)));
        assert_eq!(rig.state.cursor(), Some("a"));
        assert!(rig.whole_page(None, 62.0).contains(&Effect::Report(Report::Started(Uuid::from_u128(1)))), "and then the run has its turn");
    }

    #[test]
    fn a_run_that_is_called_off_while_paused_asks_for_nothing_when_resumed() {
        let mut rig = Rig::with_cursor(Schedule::OnTrigger, None, 100);
        rig.trigger(1, 0.0);
        let (now, fresh) = (rig.at(0.5), rig.fresh());
        rig.state.pause(true, now, fresh);
        rig.whole_page(Some("a"), 1.0);
        let (now, fresh) = (rig.at(2.0), rig.fresh());
        assert_eq!(rig.state.cancel(Uuid::from_u128(1), now, fresh), []);
        let (now, fresh) = (rig.at(3.0), rig.fresh());
        assert_eq!(rig.state.pause(false, now, fresh), []);
    }

    #[test]
    fn without_cursors_a_fetch_is_one_page_whatever_it_says() {
        let mut rig = Rig::new(Schedule::OnTrigger);
        rig.trigger(1, 0.0);
        assert_eq!(rig.whole_page(None, 1.0), [moved(1, None), finished(1)]);
    }

    #[test]
    fn runs_of_an_incarnation_before_are_fetched_first() {
        let start = Instant::now();
        let mut state = State::new(Schedule::Every(EVERY), start, [Uuid::from_u128(7)]);
        assert!(fetch_of(&state.wake(start, Uuid::from_u128(1)), 7));
    }
}
