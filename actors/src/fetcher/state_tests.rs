//! When the state fetches: schedules, triggers, retries and stops. Pages are in `pages`.

use std::collections::BTreeMap;

use forebay_schemas::offset::Ranges;
use forebay_schemas::run::StopReason;

use super::super::pagination::NextCursor;
use super::*;

const EVERY: Duration = Duration::from_secs(10);

struct Rig {
    state: State,
    start: Instant,
    next: u128,
    /// The run whose page was requested last.
    run: Uuid,
    /// The ledger's cursor of the read that all fetches of the test belong to.
    stored: Option<String>,
}

/// Runs have numbers: triggered ones from the test, scheduled ones from 1,001.
impl Rig {
    fn new(schedule: Schedule) -> Self {
        let start = Instant::now();
        Self { state: State::new(schedule, start, []), start, next: 1_000, run: Uuid::nil(), stored: None }
    }
    fn at(&self, seconds: f64) -> Instant {
        self.start + Duration::from_secs_f64(seconds)
    }
    fn fresh(&mut self) -> Uuid {
        self.next += 1;
        Uuid::from_u128(self.next)
    }
    /// Does what the shell does: stores the cursor, and says where a fetch starts.
    fn carry_out(&mut self, effects: Vec<Effect>) -> Vec<Effect> {
        for effect in &effects {
            match effect {
                Effect::Record(Command::PageProduced { next: Some(next), .. }) => self.stored = next.cursor().map(str::to_owned),
                Effect::Fetch(run) => {
                    self.run = *run;
                    self.state.fetch_mut(*run).unwrap().position(0, || Position::of(self.stored.as_deref()));
                }
                _ => {}
            }
        }
        effects
    }
    /// The cursor of the page to fetch; without one, that of the ledger.
    fn cursor(&self) -> Option<&str> {
        self.state.cursor(self.run).or(self.stored.as_deref())
    }
    fn wake(&mut self, seconds: f64) -> Vec<Effect> {
        let (now, fresh) = (self.at(seconds), self.fresh());
        let effects = self.state.wake(now, fresh);
        self.carry_out(effects)
    }
    /// For an API that gives cursors.
    fn with_cursor(schedule: Schedule, start: Option<&str>, max_pages: u32) -> Self {
        let rig = Self::new(schedule);
        let limits = PageLimits { max_pages, max_empty_pages: 2, ..PageLimits::ONE_PAGE };
        Self { state: rig.state.with_cursors(start.map(str::to_owned), limits), ..rig }
    }
    fn trigger(&mut self, run: u128, seconds: f64) -> Vec<Effect> {
        let (now, fresh) = (self.at(seconds), self.fresh());
        let effects = self.state.trigger(Uuid::from_u128(run), read_of(run), now, fresh);
        self.carry_out(effects)
    }
    fn cancel(&mut self, run: u128, seconds: f64) -> Vec<Effect> {
        let (now, fresh) = (self.at(seconds), self.fresh());
        let effects = self.state.cancel(Uuid::from_u128(run), now, fresh);
        self.carry_out(effects)
    }
    fn fetched(&mut self, seconds: f64) -> (bool, Vec<Effect>) {
        let (now, fresh) = (self.at(seconds), self.fresh());
        let (produce, effects) = self.state.fetched(self.run, 100, now, fresh, PageInfo::default());
        (produce, self.carry_out(effects))
    }
    /// A page arrives with this many records and next cursor.
    fn page(&mut self, records: u64, next: Option<&str>, seconds: f64) -> Vec<Effect> {
        let (now, fresh) = (self.at(seconds), self.fresh());
        let next = next.map_or(NextCursor::Absent, |next| NextCursor::Cursor(next.to_owned()));
        // Pages have different records.
        let info = PageInfo { next, digest: fresh.as_u64_pair().1, ..PageInfo::default() };
        let (produce, effects) = self.state.fetched(self.run, records, now, fresh, info);
        assert!(produce);
        self.carry_out(effects)
    }
    /// A page arrives and is produced.
    fn whole_page(&mut self, next: Option<&str>, seconds: f64) -> Vec<Effect> {
        self.page(100, next, seconds);
        self.produced(seconds)
    }
    fn failed(&mut self, class: Class, retry_after: Option<u64>, seconds: f64) -> Vec<Effect> {
        let (now, fresh) = (self.at(seconds), self.fresh());
        let retryable = class == Class::Transient;
        let failure = Failure { class, retryable, retry_after: retry_after.map(Duration::from_secs), message: "no".into() };
        let effects = self.state.failed(self.run, failure, 0.0, now, fresh);
        self.carry_out(effects)
    }
    fn produced(&mut self, seconds: f64) -> Vec<Effect> {
        let (now, fresh) = (self.at(seconds), self.fresh());
        let effects = self.state.produced(self.run, PageProduced::default(), now, fresh);
        self.carry_out(effects)
    }
    /// A scheduled fetch from start to end.
    fn whole_fetch(&mut self, start: f64, end: f64) -> Vec<Effect> {
        assert!(fetches(&self.wake(start)), "a fetch is due at {start}");
        assert!(self.fetched(end).0);
        self.produced(end)
    }
}

/// The read of a run: without params for those below 10, else with its last digit.
fn read_of(run: u128) -> Read {
    if run < 10 { Read::default() } else { Read::of(&BTreeMap::from([("n".to_owned(), (run % 10).to_string())])) }
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
        Effect::Record(Command::FailRun { run: failed, error }) if *failed == Uuid::from_u128(run) => Some(error),
        _ => None,
    })
}

fn moved(run: u128, asked: Option<&str>, next: Option<&str>) -> Effect {
    let (run, asked, next) = (Uuid::from_u128(run), Position::of(asked), next.map(|next| Position::of(Some(next))));
    Effect::Record(Command::page_produced(run, Ranges::default(), 0, (asked, 0), next))
}
/// How a run stopped, if it is all produced.
fn finished(effects: &[Effect], run: u128) -> Option<&Stop> {
    effects.iter().find_map(|effect| match effect {
        Effect::Record(Command::RunProduced { run: finished, stop }) if *finished == Uuid::from_u128(run) => stop.as_ref(),
        _ => None,
    })
}
/// Why a complete run stopped.
fn ends(effects: &[Effect], run: u128, asked: Option<&str>) -> StopReason {
    assert_eq!(effects[0], moved(run, asked, None));
    let stop = finished(effects, run).unwrap_or_else(|| panic!("{effects:?}"));
    assert!(effects.len() == 2 && stop.complete, "{effects:?}");
    stop.reason
}
/// Whether a scheduled fetch was produced.
fn scheduled_done(effects: &[Effect]) -> bool {
    effects.iter().any(|effect| matches!(effect, Effect::ScheduledFetchEnded(Ok(_))))
}

#[test]
fn scheduled_fetches_keep_to_a_grid_however_long_they_take() {
    let mut rig = Rig::new(Schedule::Every(EVERY));
    assert_eq!(wakes_at(&rig.whole_fetch(0.0, 3.0)), Some(rig.at(10.0)));
    assert_eq!(wakes_at(&rig.whole_fetch(10.1, 14.0)), Some(rig.at(20.0)));
}

#[test]
fn missed_ticks_become_one_fetch_and_the_grid_continues() {
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
fn a_fetch_once_schedule_fetches_once() {
    let mut rig = Rig::new(Schedule::Once);
    let end = rig.whole_fetch(0.0, 1.0);
    assert!(matches!(end.last(), Some(Effect::ScheduledFetchEnded(Ok(Some(stop)))) if stop.reason == StopReason::NoNext), "{end:?}");
    assert_eq!(rig.wake(100.0), []);
}

#[test]
fn a_fetcher_without_a_schedule_waits_for_triggers() {
    let mut rig = Rig::new(Schedule::OnTrigger);
    assert_eq!(rig.wake(0.0), []);
    let effects = rig.trigger(1, 5.0);
    assert_eq!(effects, [Effect::Record(Command::StartRun { run: Uuid::from_u128(1) }), Effect::Fetch(Uuid::from_u128(1))]);
}

#[test]
fn triggered_runs_wait_for_each_other_and_for_a_scheduled_fetch() {
    let mut rig = Rig::new(Schedule::Every(EVERY));
    assert!(fetches(&rig.wake(0.0)));
    assert_eq!(rig.trigger(1, 1.0), []);
    assert_eq!(rig.trigger(2, 1.0), []);
    assert_eq!(rig.trigger(1, 1.0), [], "it is already waiting");
    assert!(rig.fetched(2.0).0);
    assert!(fetch_of(&rig.produced(3.0), 1));
    assert!(rig.fetched(4.0).0);
    let effects = rig.produced(5.0);
    assert!(finished(&effects[1..], 1).is_some());
    assert!(fetch_of(&effects, 2));
}

#[test]
fn runs_beyond_the_limit_of_the_queue_fail_as_retryable() {
    let mut rig = Rig::new(Schedule::OnTrigger);
    for run in 1..=MAX_WAITING_RUNS as u128 + 1 {
        assert!(run_error(&rig.trigger(run, 0.0), run).is_none());
    }
    assert!(run_error(&rig.trigger(5_000, 0.0), 5_000).unwrap().retryable);
}

#[test]
fn a_scheduled_fetch_backs_off_and_ticks_do_not_shorten_the_delays() {
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
    assert_eq!(effects[0], Effect::Recovered);
    assert!(rig.produced(now).iter().any(|effect| matches!(effect, Effect::WakeAt(_))));
}

#[test]
fn a_rejected_scheduled_fetch_waits_for_the_next_tick() {
    let mut rig = Rig::new(Schedule::Every(EVERY));
    assert!(fetches(&rig.wake(0.0)));
    let effects = rig.failed(Class::Rejected, None, 1.0);
    assert_eq!(wakes_at(&effects), Some(rig.at(10.0)));
    assert!(effects.iter().any(|effect| matches!(effect, Effect::ScheduledFetchEnded(Err(error)) if !error.retryable)));
}

#[test]
fn a_triggered_run_precedes_a_scheduled_fetch_that_is_backing_off() {
    let mut rig = Rig::new(Schedule::Every(EVERY));
    assert!(fetches(&rig.wake(0.0)));
    rig.failed(Class::Transient, None, 0.0);
    assert!(fetch_of(&rig.trigger(1, 0.1), 1));
}

#[test]
fn retry_after_holds_back_every_fetch() {
    let mut rig = Rig::new(Schedule::Every(EVERY));
    assert!(fetches(&rig.wake(0.0)));
    assert_eq!(wakes_at(&rig.failed(Class::Transient, Some(30), 0.0)), Some(rig.at(30.0)));
    assert_eq!(rig.trigger(1, 1.0), [Effect::WakeAt(rig.at(30.0))]);
    assert!(fetch_of(&rig.wake(30.0), 1));
}

#[test]
fn a_rejected_run_fails_immediately() {
    let mut rig = Rig::new(Schedule::OnTrigger);
    rig.trigger(1, 0.0);
    assert!(!run_error(&rig.failed(Class::Rejected, None, 1.0), 1).unwrap().retryable);
}

#[test]
fn a_triggered_run_retries_for_five_minutes_and_fails_as_retryable() {
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
fn a_run_that_would_wait_beyond_its_timeout_fails_immediately() {
    let mut rig = Rig::new(Schedule::OnTrigger);
    rig.trigger(1, 0.0);
    assert!(run_error(&rig.failed(Class::Transient, Some(600), 0.0), 1).unwrap().retryable);
}

#[test]
fn a_refused_page_fails_the_run_as_not_retryable() {
    let mut rig = Rig::new(Schedule::OnTrigger);
    rig.trigger(1, 0.0);
    assert!(rig.fetched(1.0).0);
    let (now, fresh) = (rig.at(2.0), rig.fresh());
    let effects = rig.state.refused(rig.run, PageRefused("too big".into()), now, fresh);
    let error = run_error(&effects, 1).unwrap();
    assert_eq!((error.stage.as_str(), error.retryable), ("produce", false));
}

#[test]
fn nothing_more_is_recorded_of_a_cancelled_run() {
    let mut rig = Rig::new(Schedule::OnTrigger);
    rig.trigger(1, 0.0);
    rig.trigger(2, 0.0);
    rig.trigger(3, 0.0);
    rig.cancel(2, 0.5);
    rig.cancel(1, 0.5);
    let (produce, effects) = rig.fetched(1.0);
    assert!(!produce, "its page is dropped");
    assert!(fetch_of(&effects, 3), "the run after the cancelled one starts");
    rig.failed(Class::Transient, None, 1.0);
    assert_eq!(rig.cancel(3, 1.1), [], "nothing is left to fetch");
    assert!(rig.state.is_idle());
}

#[test]
fn a_stopping_fetcher_finishes_its_page_and_starts_nothing_more() {
    let mut rig = Rig::new(Schedule::OnTrigger);
    rig.trigger(1, 0.0);
    rig.trigger(2, 0.0);
    rig.state.stop();
    assert!(rig.fetched(1.0).0);
    assert!(!fetches(&rig.produced(2.0)));
    assert!(rig.state.is_idle());
}

#[test]
fn a_fetch_once_schedule_fails_after_five_minutes_as_retryable() {
    let mut rig = Rig::new(Schedule::Once);
    assert!(fetches(&rig.wake(0.0)));
    let mut now = 0.0;
    let error = loop {
        let effects = rig.failed(Class::Transient, None, now);
        let failed =
            effects.iter().find_map(|effect| if let Effect::ScheduledFetchEnded(Err(error)) = effect { Some(error) } else { None });
        if let Some(error) = failed {
            break error.clone();
        }
        now = (wakes_at(&effects).unwrap() - rig.start).as_secs_f64();
        assert!(fetches(&rig.wake(now)));
    };
    assert!(error.retryable && now > 200.0 && now <= 300.0, "gave up at {now}");
}

#[test]
fn a_rejected_run_may_be_retryable_later() {
    let mut rig = Rig::new(Schedule::OnTrigger);
    rig.trigger(1, 0.0);
    let (now, fresh) = (rig.at(1.0), rig.fresh());
    let failure = Failure { class: Class::Rejected, retryable: true, retry_after: None, message: "the secret is old".into() };
    let effects = rig.state.failed(rig.run, failure, 0.0, now, fresh);
    assert!(run_error(&effects, 1).unwrap().retryable && !fetches(&effects));
}

#[test]
fn open_runs_of_earlier_incarnations_are_fetched_first() {
    let start = Instant::now();
    let mut state = State::new(Schedule::Every(EVERY), start, [(Uuid::from_u128(7), Read::default())]);
    assert!(fetch_of(&state.wake(start, Uuid::from_u128(1)), 7));
}

/// A page that names a next one, and how long the API asks to get no request.
fn limited_page(rig: &mut Rig, wait: u64, seconds: f64) -> Vec<Effect> {
    let (now, fresh) = (rig.at(seconds), rig.fresh());
    let (next, wait) = (NextCursor::Cursor(format!("{seconds}")), Some(Duration::from_secs(wait)));
    assert!(rig.state.fetched(rig.run, 1, now, fresh, PageInfo { next, wait, digest: fresh.as_u64_pair().1, ..PageInfo::default() }).0);
    rig.produced(seconds)
}

#[test]
fn the_next_page_waits_until_a_used_up_limit_is_reset_and_its_patience_begins_then() {
    let mut rig = Rig::with_cursor(Schedule::OnTrigger, None, 10);
    rig.trigger(1, 0.0);
    let effects = limited_page(&mut rig, 250, 1.0);
    assert!(!fetches(&effects) && rig.state.is_idle());
    assert_eq!(wakes_at(&effects), Some(rig.at(251.0)));
    assert!(!fetches(&rig.trigger(2, 2.0)), "no other run either");
    assert!(!fetches(&rig.wake(250.0)));
    assert!(fetch_of(&rig.wake(251.0), 1));
    let effects = rig.failed(Class::Transient, Some(200), 252.0);
    assert!(run_error(&effects, 1).is_none() && wakes_at(&effects) == Some(rig.at(452.0)), "{effects:?}");
}

#[test]
fn a_used_up_limit_of_the_last_page_holds_back_the_next_fetch() {
    let mut rig = Rig::new(Schedule::Every(EVERY));
    rig.wake(0.0);
    let (now, fresh) = (rig.at(1.0), rig.fresh());
    let info = PageInfo { wait: Some(Duration::from_secs(30)), ..PageInfo::default() };
    assert!(rig.state.fetched(rig.run, 1, now, fresh, info).0);
    rig.produced(1.0);
    assert!(!fetches(&rig.wake(10.0)), "a tick is due");
    assert!(fetches(&rig.wake(31.0)));
}

#[test]
fn a_run_that_would_wait_beyond_its_patience_fails_with_the_wait_and_the_key() {
    let mut rig = Rig::with_cursor(Schedule::OnTrigger, None, 10);
    rig.state = std::mem::replace(&mut rig.state, State::new(Schedule::OnTrigger, rig.start, []))
        .with_patience(Patience { max_wait: Duration::from_secs(60), max_attempts: None });
    rig.trigger(1, 0.0);
    let effects = limited_page(&mut rig, 3_600, 1.0);
    let error = run_error(&effects, 1).unwrap();
    let asks = "it asks to get no request for 1h, and fetcher.max_wait is 1m: retry the run after that, or raise fetcher.max_wait";
    assert_eq!((error.message.as_str(), error.retryable), (&*format!("the API's rate limit is used up; {asks}"), true));
    let effects = rig.trigger(2, 1.5);
    let error = run_error(&effects, 2).unwrap();
    assert!(error.retryable && error.message.starts_with("no request is sent, for the API's rate limit; "), "{error:?}");
    rig.wake(3_601.0);
    assert!(fetches(&rig.trigger(3, 3_602.0)));
    let effects = rig.failed(Class::Transient, Some(3_600), 3_603.0);
    assert_eq!(run_error(&effects, 3).unwrap().message, format!("no; {asks}"));
}

#[test]
fn a_run_makes_at_most_as_many_attempts_as_the_file_allows() {
    let mut rig = Rig::new(Schedule::OnTrigger);
    rig.state = State::new(Schedule::OnTrigger, rig.start, [])
        .with_patience(Patience { max_wait: Duration::from_secs(300), max_attempts: Some(2) });
    rig.trigger(1, 0.0);
    assert!(run_error(&rig.failed(Class::Transient, None, 1.0), 1).is_none());
    rig.wake(10.0);
    assert!(run_error(&rig.failed(Class::Transient, None, 11.0), 1).unwrap().retryable);
}

#[path = "state_page_tests.rs"]
mod pages;

#[path = "state_side_by_side_tests.rs"]
mod side_by_side;
