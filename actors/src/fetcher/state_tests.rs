use forebay_schemas::run::StopReason;

use super::super::pagination::NextCursor;
use super::*;

const EVERY: Duration = Duration::from_secs(10);

struct Rig {
    state: State,
    start: Instant,
    next: u128,
    /// The ledger's cursor of the read that all fetches of the test belong to.
    stored: Option<String>,
}

/// Runs have numbers: triggered ones from the test, scheduled ones from 1,001.
impl Rig {
    fn new(schedule: Schedule) -> Self {
        let start = Instant::now();
        Self { state: State::new(schedule, start, []), start, next: 1_000, stored: None }
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
                Effect::Record(Command::PageProduced { cursor: Some(next), .. }) => self.stored = Some(next.clone()),
                Effect::Fetch(_) => drop(self.state.position(|| Position::of(self.stored.as_deref()))),
                _ => {}
            }
        }
        effects
    }
    /// The cursor of the page to fetch; without one, that of the ledger.
    fn cursor(&self) -> Option<&str> {
        self.state.cursor().or(self.stored.as_deref())
    }
    fn wake(&mut self, seconds: f64) -> Vec<Effect> {
        let (now, fresh) = (self.at(seconds), self.fresh());
        let effects = self.state.wake(now, fresh);
        self.carry_out(effects)
    }
    /// For an API that gives cursors.
    fn with_cursor(schedule: Schedule, start: Option<&str>, max_pages: u32) -> Self {
        let rig = Self::new(schedule);
        let limits = PageLimits { max_pages, max_empty_pages: 2 };
        Self { state: rig.state.with_cursors(start.map(str::to_owned), limits), ..rig }
    }
    fn trigger(&mut self, run: u128, seconds: f64) -> Vec<Effect> {
        let (now, fresh) = (self.at(seconds), self.fresh());
        let effects = self.state.trigger(Uuid::from_u128(run), now, fresh);
        self.carry_out(effects)
    }
    fn cancel(&mut self, run: u128, seconds: f64) -> Vec<Effect> {
        let (now, fresh) = (self.at(seconds), self.fresh());
        let effects = self.state.cancel(Uuid::from_u128(run), now, fresh);
        self.carry_out(effects)
    }
    fn fetched(&mut self, seconds: f64) -> (bool, Vec<Effect>) {
        let (now, fresh) = (self.at(seconds), self.fresh());
        let (produce, effects) = self.state.fetched(100, now, fresh, PageInfo::default());
        (produce, self.carry_out(effects))
    }
    /// A page arrives with this many records and next cursor.
    fn page(&mut self, records: u64, next: Option<&str>, seconds: f64) -> Vec<Effect> {
        let (now, fresh) = (self.at(seconds), self.fresh());
        let next = next.map_or(NextCursor::Absent, |next| NextCursor::Cursor(next.to_owned()));
        // Pages have different records.
        let info = PageInfo { next, digest: fresh.as_u64_pair().1, ..PageInfo::default() };
        let (produce, effects) = self.state.fetched(records, now, fresh, info);
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
        let effects = self.state.failed(failure, 0.0, now, fresh);
        self.carry_out(effects)
    }
    fn produced(&mut self, seconds: f64) -> Vec<Effect> {
        let (now, fresh) = (self.at(seconds), self.fresh());
        let effects = self.state.produced(PageProduced::default(), now, fresh);
        self.carry_out(effects)
    }
    /// A scheduled fetch from start to end.
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
        Effect::Record(Command::FailRun { run: failed, error }) if *failed == Uuid::from_u128(run) => Some(error),
        _ => None,
    })
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
    let effects = rig.state.refused(PageRefused("too big".into()), now, fresh);
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

fn moved(run: u128, asked: Option<&str>, next: Option<&str>) -> Effect {
    let PageProduced { ranges, produced, rejected, rejects } = PageProduced::default();
    let (run, asked, cursor) = (Uuid::from_u128(run), Position::of(asked), next.map(str::to_owned));
    Effect::Record(Command::PageProduced { run, ranges, produced, rejected, asked, cursor, rejects })
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
fn the_cursor_moves_when_a_page_is_in_kafka_and_the_next_page_follows() {
    let mut rig = Rig::with_cursor(Schedule::OnTrigger, Some("0"), 100);
    rig.trigger(1, 0.0);
    assert_eq!(rig.cursor(), Some("0"));
    let fetched = rig.page(100, Some("100"), 1.0);
    assert_eq!(fetched, [Effect::Record(Command::PageFetched { run: Uuid::from_u128(1), records: 100, cursor: Some("0".into()) })]);
    assert_eq!(rig.cursor(), Some("0"), "it is not in Kafka yet");
    assert_eq!(rig.produced(2.0), [moved(1, None, Some("100")), Effect::Fetch(Uuid::from_u128(1))]);
    assert_eq!(rig.cursor(), Some("100"));
    assert!(fetch_of(&rig.whole_page(Some("200"), 3.0), 1));
    assert_eq!(ends(&rig.whole_page(None, 4.0), 1, Some("200")), StopReason::NoNext);
    assert_eq!(rig.cursor(), Some("200"), "the last page does not move it");
    assert!(fetch_of(&rig.trigger(2, 5.0), 2), "the next fetch continues there");
    assert_eq!(rig.state.cursor(), Some("200"));
}

#[test]
fn the_same_cursor_ends_a_fetch_and_a_page_without_records_does_not() {
    let mut rig = Rig::with_cursor(Schedule::OnTrigger, None, 100);
    rig.trigger(1, 0.0);
    assert!(fetch_of(&rig.whole_page(Some("a"), 1.0), 1));
    assert_eq!(ends(&rig.whole_page(Some("a"), 2.0), 1, Some("a")), StopReason::SameCursor);
    rig.trigger(2, 3.0);
    rig.page(0, Some("b"), 4.0);
    assert_eq!(rig.produced(5.0), [moved(2, Some("a"), Some("b")), Effect::Fetch(Uuid::from_u128(2))]);
    assert_eq!(ends(&rig.whole_page(None, 6.0), 2, Some("b")), StopReason::NoNext);
}

#[test]
fn a_fetch_starts_where_the_ledger_says_and_continues_at_its_own_page() {
    let mut rig = Rig::with_cursor(Schedule::OnTrigger, Some("0"), 100);
    rig.trigger(1, 0.0);
    rig.trigger(2, 0.0);
    assert_eq!(rig.whole_page(Some("100"), 1.0), [moved(1, None, Some("100")), Effect::Fetch(Uuid::from_u128(1))]);
    rig.stored = Some("7".into());
    assert_eq!(rig.state.cursor(), Some("100"), "a cursor set meanwhile does not move the fetch");
    rig.failed(Class::Transient, None, 2.0);
    assert!(fetch_of(&rig.wake(10.0), 1));
    assert_eq!(rig.state.cursor(), Some("100"), "not even after a failure");
    let effects = rig.whole_page(None, 11.0);
    assert!(effects[0] == moved(1, Some("100"), None) && finished(&effects, 1).is_some(), "{effects:?}");
    assert_eq!(rig.state.cursor(), Some("7"), "the next one starts there");
}

#[test]
fn too_many_empty_pages_cut_a_run_short_and_the_next_continues_after_them() {
    let mut rig = Rig::with_cursor(Schedule::OnTrigger, None, 100);
    rig.trigger(1, 0.0);
    for next in ["a", "b"] {
        rig.page(0, Some(next), 1.0);
        assert!(fetch_of(&rig.produced(1.0), 1));
    }
    rig.page(0, Some("c"), 2.0);
    let effects = rig.produced(2.0);
    let stop = finished(&effects, 1).unwrap();
    assert_eq!((stop.reason, stop.complete, stop.cursor.as_deref()), (StopReason::EmptyPage, false, Some("c")));
    rig.trigger(2, 3.0);
    assert_eq!(rig.cursor(), Some("c"));
}

#[test]
fn in_a_cycle_each_scheduled_fetch_requests_one_page_until_the_cycle_is_gone() {
    let mut rig = Rig::with_cursor(Schedule::Every(EVERY), None, 100);
    let cut = |effects: &[Effect]| match effects.iter().find(|effect| matches!(effect, Effect::ScheduledFetchEnded(Ok(_)))) {
        Some(Effect::ScheduledFetchEnded(Ok(Some(stop)))) => Some((stop.reason, stop.complete)),
        _ => None,
    };
    rig.wake(0.0);
    for next in ["a", "b", "c"] {
        assert_eq!(cut(&rig.whole_page(Some(next), 1.0)), None);
    }
    assert_eq!(cut(&rig.whole_page(Some("a"), 2.0)), Some((StopReason::CursorCycle, false)));
    for tick in 1..4 {
        assert!(fetches(&rig.wake(f64::from(tick) * 10.0)));
        assert_eq!(rig.cursor(), Some("c"));
        let effects = rig.whole_page(Some("a"), f64::from(tick) * 10.0 + 1.0);
        assert_eq!((cut(&effects), fetches(&effects)), (Some((StopReason::CursorCycle, false)), false), "tick {tick}");
    }
    assert!(fetches(&rig.wake(40.0)));
    assert!(fetches(&rig.whole_page(Some("d"), 41.0)));
    assert_eq!(cut(&rig.whole_page(None, 42.0)), Some((StopReason::NoNext, true)));
}

#[test]
fn a_fetch_that_starts_elsewhere_does_not_inherit_the_cycle_of_another() {
    let mut rig = Rig::with_cursor(Schedule::OnTrigger, None, 2);
    rig.trigger(1, 0.0);
    rig.whole_page(Some("a"), 1.0);
    let effects = rig.whole_page(Some("b"), 2.0);
    assert_eq!(finished(&effects, 1).map(|stop| stop.reason), Some(StopReason::MaxPages));
    rig.stored = None;
    rig.trigger(2, 3.0);
    assert!(fetch_of(&rig.whole_page(Some("a"), 4.0), 2), "it reads from the first page");
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
    let effects = rig.state.failed(failure, 0.0, now, fresh);
    assert!(run_error(&effects, 1).unwrap().retryable && !fetches(&effects));
}

#[test]
fn a_scheduled_fetch_with_several_pages_ends_once() {
    let mut rig = Rig::with_cursor(Schedule::Once, None, 100);
    assert!(fetches(&rig.wake(0.0)));
    let effects = rig.whole_page(Some("a"), 1.0);
    assert!(fetches(&effects) && !scheduled_done(&effects));
    let effects = rig.whole_page(None, 2.0);
    assert!(!fetches(&effects) && scheduled_done(&effects));
}

#[test]
fn pages_beyond_max_pages_wait_for_the_next_fetch() {
    let mut rig = Rig::with_cursor(Schedule::Every(EVERY), None, 2);
    assert!(fetches(&rig.wake(0.0)));
    assert!(fetches(&rig.whole_page(Some("a"), 1.0)));
    let end = rig.whole_page(Some("b"), 2.0);
    assert!(scheduled_done(&end) && wakes_at(&end) == Some(rig.at(10.0)), "{end:?}");
    assert!(fetches(&rig.wake(10.0)));
    assert_eq!(rig.cursor(), Some("b"));
}

#[test]
fn a_later_page_is_retried_alone_with_delays_and_timeout_of_its_own() {
    let mut rig = Rig::with_cursor(Schedule::OnTrigger, None, 100);
    rig.trigger(1, 0.0);
    rig.failed(Class::Transient, None, 0.0);
    assert!(fetch_of(&rig.wake(0.5), 1));
    assert!(fetch_of(&rig.whole_page(Some("a"), 299.0), 1));
    let effects = rig.failed(Class::Transient, None, 299.5);
    assert!(run_error(&effects, 1).is_none(), "each page has the whole timeout");
    assert_eq!(wakes_at(&effects), Some(rig.at(300.0)));
    assert!(fetch_of(&rig.wake(300.0), 1));
    assert_eq!(rig.cursor(), Some("a"));
    assert!(run_error(&rig.failed(Class::Rejected, None, 301.0), 1).is_some());
    rig.trigger(2, 302.0);
    assert_eq!(rig.cursor(), Some("a"), "the next run starts at the page that failed");
}

#[test]
fn a_failed_scheduled_fetch_continues_at_its_page_and_keeps_counting() {
    let mut rig = Rig::with_cursor(Schedule::Every(EVERY), None, 2);
    assert!(fetches(&rig.wake(0.0)));
    assert!(fetches(&rig.whole_page(Some("a"), 1.0)));
    assert_eq!(wakes_at(&rig.failed(Class::Transient, Some(3), 2.0)), Some(rig.at(5.0)));
    assert!(fetches(&rig.wake(5.0)));
    assert_eq!(rig.cursor(), Some("a"));
    assert!(scheduled_done(&rig.whole_page(Some("b"), 6.0)), "it was its second page");
}

#[test]
fn a_cancelled_run_requests_no_further_page_and_moves_no_cursor() {
    let mut rig = Rig::with_cursor(Schedule::OnTrigger, None, 100);
    rig.trigger(1, 0.0);
    assert!(fetch_of(&rig.whole_page(Some("a"), 1.0), 1));
    rig.page(100, Some("b"), 2.0);
    rig.cancel(1, 2.5);
    assert_eq!(rig.produced(3.0), [], "a page of a cancelled run is not recorded");
    assert_eq!(rig.cursor(), Some("a"), "so it moves no cursor");
    rig.trigger(2, 4.0);
    rig.trigger(3, 4.0);
    assert!(fetch_of(&rig.whole_page(Some("b"), 5.0), 2));
    rig.cancel(2, 5.5);
    let (now, fresh) = (rig.at(6.0), rig.fresh());
    let (produce, effects) = rig.state.fetched(100, now, fresh, PageInfo { next: NextCursor::Cursor("c".into()), ..PageInfo::default() });
    assert!(!produce && fetch_of(&rig.carry_out(effects), 3));
    assert_eq!(rig.cursor(), Some("b"));
}

#[test]
fn a_refused_page_moves_no_cursor() {
    let mut rig = Rig::with_cursor(Schedule::OnTrigger, None, 100);
    rig.stored = Some("a".into());
    rig.trigger(1, 0.0);
    rig.page(100, Some("b"), 1.0);
    let (now, fresh) = (rig.at(2.0), rig.fresh());
    let effects = rig.state.refused(PageRefused("too big".into()), now, fresh);
    assert!(run_error(&effects, 1).is_some());
    assert_eq!(rig.cursor(), Some("a"));
}

#[test]
fn a_run_interrupted_by_a_stop_records_its_page_and_does_not_end() {
    for schedule in [Schedule::OnTrigger, Schedule::Once] {
        let mut rig = Rig::with_cursor(schedule, None, 100);
        rig.wake(0.0);
        rig.trigger(1, 0.0);
        assert!(fetches(&rig.whole_page(Some("a"), 1.0)));
        rig.state.stop();
        assert!(!rig.state.is_idle());
        let effects = rig.whole_page(Some("b"), 2.0);
        assert!(matches!(&effects[..], [Effect::Record(Command::PageProduced { cursor: Some(next), .. })] if next == "b"), "{effects:?}");
        assert!(rig.state.is_idle());
    }
    let mut rig = Rig::with_cursor(Schedule::OnTrigger, None, 100);
    rig.trigger(1, 0.0);
    rig.state.stop();
    assert_eq!(ends(&rig.whole_page(None, 1.0), 1, None), StopReason::NoNext, "its last page still ends a run");
}

#[test]
fn a_stopped_schedule_requests_no_further_page_and_a_run_does() {
    let mut rig = Rig::with_cursor(Schedule::Every(EVERY), None, 100);
    assert!(fetches(&rig.wake(0.0)));
    rig.state.stop_schedule();
    assert!(rig.whole_page(Some("a"), 1.0).contains(&Effect::ScheduledFetchEnded(Ok(None))), "the API did not end it");
    rig.trigger(1, 2.0);
    assert!(fetch_of(&rig.whole_page(Some("b"), 3.0), 1));
}

#[test]
fn while_paused_no_page_is_requested_and_the_fetch_resumes_where_it_was() {
    let mut rig = Rig::with_cursor(Schedule::Every(EVERY), None, 100);
    rig.wake(0.0);
    let pause = |rig: &mut Rig, paused: bool, seconds: f64| {
        let (now, fresh) = (rig.at(seconds), rig.fresh());
        let effects = rig.state.set_paused(paused, now, fresh);
        rig.carry_out(effects)
    };
    assert_eq!(pause(&mut rig, true, 0.5), []);
    assert!(!fetches(&rig.whole_page(Some("a"), 1.0)), "the page under way is produced, the next is not requested");
    assert!(rig.state.is_idle());
    assert!(!fetches(&rig.trigger(1, 2.0)) && !fetches(&rig.wake(60.0)), "neither a run nor the schedule starts");
    assert!(fetches(&pause(&mut rig, false, 61.0)));
    assert_eq!(rig.cursor(), Some("a"));
    assert!(rig.whole_page(None, 62.0).contains(&Effect::Record(Command::StartRun { run: Uuid::from_u128(1) })), "the run follows");
}

#[test]
fn a_run_cancelled_while_paused_requests_nothing_when_resumed() {
    let mut rig = Rig::with_cursor(Schedule::OnTrigger, None, 100);
    rig.trigger(1, 0.0);
    let (now, fresh) = (rig.at(0.5), rig.fresh());
    rig.state.set_paused(true, now, fresh);
    rig.whole_page(Some("a"), 1.0);
    let (now, fresh) = (rig.at(2.0), rig.fresh());
    assert_eq!(rig.state.cancel(Uuid::from_u128(1), now, fresh), []);
    let (now, fresh) = (rig.at(3.0), rig.fresh());
    assert_eq!(rig.state.set_paused(false, now, fresh), []);
}

#[test]
fn without_cursors_a_fetch_is_one_page() {
    let mut rig = Rig::new(Schedule::OnTrigger);
    rig.trigger(1, 0.0);
    assert!(fetched_with(&mut rig, NextCursor::NotConfigured).complete);
}

fn fetched_with(rig: &mut Rig, next: NextCursor) -> Stop {
    let (now, fresh) = (rig.at(1.0), rig.fresh());
    rig.state.fetched(100, now, fresh, PageInfo { next, ..PageInfo::default() });
    finished(&rig.produced(1.0), 1).unwrap().clone()
}

#[test]
fn open_runs_of_earlier_incarnations_are_fetched_first() {
    let start = Instant::now();
    let mut state = State::new(Schedule::Every(EVERY), start, [Uuid::from_u128(7)]);
    assert!(fetch_of(&state.wake(start, Uuid::from_u128(1)), 7));
}
