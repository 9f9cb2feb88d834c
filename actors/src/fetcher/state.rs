//! When to fetch, and for whom. Pure: it is told the time, the jitter and what happened, and says what to do.
//!
//! Guarantee: at most one fetch at a time, scheduled or triggered; a fixed grid of scheduled fetches, of which missed ones are not made
//! up for; every triggered run ends in exactly one report, unless it is cancelled; an API that asks to be left alone is left alone by
//! all. Not guaranteed: that a triggered run starts soon, since those before it go first.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use forebay_schemas::run::RunError;
use uuid::Uuid;

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
    /// Fetch a page for a run, and say what came of it.
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
    /// A page of it, or of a scheduled fetch, is here, of so many records.
    Fetched(Uuid, u64),
    /// The page is in Kafka.
    Produced(Uuid, PageProduced),
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
    /// When the scheduled fetch that failed is tried again, and how often it was.
    retry: Option<(Instant, u32)>,
    waiting: VecDeque<Uuid>,
    current: Option<Work>,
    /// The API asked to be left alone until then.
    quiet_until: Option<Instant>,
    troubled: bool,
    stopping: bool,
}

#[derive(Debug)]
struct Work {
    run: Uuid,
    triggered: bool,
    cancelled: bool,
    /// When it was begun.
    since: Instant,
    attempt: u32,
    phase: Phase,
}

#[derive(Debug, PartialEq, Eq)]
enum Phase {
    Fetching,
    BackingOff(Instant),
    Producing,
}

impl State {
    /// A fetcher that begins `now`; `open` are the runs that an incarnation before this one had accepted and not ended.
    pub(crate) fn new(schedule: Schedule, now: Instant, open: impl IntoIterator<Item = Uuid>) -> Self {
        let tick = (schedule != Schedule::OnTrigger).then_some(now);
        let waiting = open.into_iter().collect();
        Self { schedule, tick, retry: None, waiting, current: None, quiet_until: None, troubled: false, stopping: false }
    }

    /// Whether nothing is being fetched or produced.
    pub(crate) fn is_idle(&self) -> bool {
        self.current.as_ref().is_none_or(|work| matches!(work.phase, Phase::BackingOff(_)))
    }

    /// Nothing more is begun by the schedule.
    pub(crate) fn hold(&mut self) {
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
        if self.stopping {
            return effects;
        }
        if let Some(work) = &mut self.current {
            match work.phase {
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
            self.begin(run, true, 0, now);
            effects.extend([Effect::Report(Report::Started(run)), Effect::Fetch(run)]);
            return effects;
        }
        match self.due() {
            Some(due) if due > now => effects.push(Effect::WakeAt(due)),
            Some(_) => {
                let attempt = self.retry.take().map_or(0, |(_, attempt)| attempt);
                self.advance_tick(now);
                self.begin(fresh, false, attempt, now);
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
            Some(work) if work.run == run && matches!(work.phase, Phase::BackingOff(_)) => {
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

    /// A page came. Says whether it is to be produced.
    pub(crate) fn fetched(&mut self, records: u64, now: Instant, fresh: Uuid) -> (bool, Vec<Effect>) {
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
        effects.push(Effect::Report(Report::Fetched(work.run, records)));
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
            let wait = Duration::from_millis(u64::try_from((again - now).as_millis()).unwrap_or(u64::MAX));
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
            self.retry = Some((again, work.attempt + 1));
        } else {
            effects.push(Effect::Report(Report::ScheduledFailed(error("fetch", failure.message, false))));
        }
        effects.extend(self.wake(now, fresh));
        effects
    }

    /// The page is in Kafka.
    pub(crate) fn produced(&mut self, page: PageProduced, now: Instant, fresh: Uuid) -> Vec<Effect> {
        let Some(work) = self.current.take() else { return Vec::new() };
        let mut effects = Vec::new();
        if !work.cancelled {
            effects.push(Effect::Report(Report::Produced(work.run, page)));
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

    fn begin(&mut self, run: Uuid, triggered: bool, attempt: u32, now: Instant) {
        self.current = Some(Work { run, triggered, cancelled: false, since: now, attempt, phase: Phase::Fetching });
    }

    /// When the next scheduled fetch may begin: a failed one again, else at the grid's next point.
    fn due(&self) -> Option<Instant> {
        self.retry.map(|(at, _)| at).or(self.tick)
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
            self.state.fetched(100, now, fresh)
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

    #[test]
    fn runs_of_an_incarnation_before_are_fetched_first() {
        let start = Instant::now();
        let mut state = State::new(Schedule::Every(EVERY), start, [Uuid::from_u128(7)]);
        assert!(fetch_of(&state.wake(start, Uuid::from_u128(1)), 7));
    }
}
