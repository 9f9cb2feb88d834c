//! Several fetches at the same time.

use super::*;

/// Two fetches at a time, for an API that gives cursors.
fn two_active(schedule: Schedule) -> Rig {
    let rig = Rig::with_cursor(schedule, None, 100);
    Rig { state: rig.state.with_max_active(2), ..rig }
}

/// The runs whose pages are requested, in order.
fn requested(effects: &[Effect]) -> Vec<u128> {
    let run = |effect: &Effect| if let Effect::Fetch(run) = effect { Some(run.as_u128()) } else { None };
    effects.iter().filter_map(run).collect()
}

impl Rig {
    /// What follows concerns this run.
    fn of(&mut self, run: u128) -> &mut Self {
        self.run = Uuid::from_u128(run);
        self
    }
}

#[test]
fn runs_of_different_reads_are_fetched_side_by_side_up_to_the_limit() {
    let mut rig = two_active(Schedule::OnTrigger);
    assert_eq!(requested(&rig.trigger(11, 0.0)), [11]);
    assert_eq!(requested(&rig.trigger(12, 0.0)), [12]);
    assert_eq!(rig.trigger(13, 0.0), []);
    assert_eq!(requested(&rig.of(12).whole_page(Some("a"), 1.0)), [12]);
    rig.stored = None;
    let effects = rig.of(11).whole_page(None, 2.0);
    assert!(finished(&effects, 11).is_some(), "{effects:?}");
    assert_eq!(requested(&effects), [13]);
    assert_eq!((rig.state.cursor(Uuid::from_u128(12)), rig.state.cursor(Uuid::from_u128(13))), (Some("a"), None), "each has its own");
}

#[test]
fn runs_of_one_read_wait_for_each_other_and_let_others_pass() {
    let mut rig = two_active(Schedule::Every(EVERY));
    assert_eq!(requested(&rig.wake(0.0)).len(), 1, "the scheduled fetch is of the read without params");
    let scheduled = rig.run.as_u128();
    assert_eq!(rig.trigger(1, 0.0), []);
    assert_eq!(requested(&rig.trigger(11, 0.0)), [11]);
    assert_eq!(rig.trigger(21, 0.0), []);
    assert_eq!(rig.trigger(12, 0.0), []);
    assert_eq!(requested(&rig.of(11).whole_page(None, 1.0)), [21]);
    let effects = rig.of(scheduled).whole_page(None, 2.0);
    assert!(scheduled_done(&effects), "{effects:?}");
    assert_eq!(requested(&effects), [1]);
}

#[test]
fn one_rate_limit_holds_for_all_fetches_and_they_take_turns() {
    let mut rig = two_active(Schedule::OnTrigger);
    rig.state =
        std::mem::replace(&mut rig.state, State::new(Schedule::OnTrigger, rig.start, [])).with_interval(Some(Duration::from_secs(1)));
    assert_eq!(requested(&rig.trigger(11, 0.0)), [11]);
    assert_eq!(rig.trigger(12, 0.0), [Effect::WakeAt(rig.at(1.0))]);
    assert_eq!(rig.of(11).page(1, Some("a"), 0.5)[1..], [Effect::WakeAt(rig.at(1.0))]);
    rig.produced(0.6);
    let mut turns = Vec::new();
    for second in 1..=5 {
        let effects = rig.wake(f64::from(second));
        turns.extend(requested(&effects));
        assert_eq!(rig.wake(f64::from(second)), [Effect::WakeAt(rig.at(f64::from(second) + 1.0))], "one request a second");
        rig.whole_page(Some(&second.to_string()), f64::from(second) + 0.1);
    }
    assert_eq!(turns, [11, 12, 11, 12, 11]);
}

#[test]
fn what_the_api_asks_of_one_holds_back_all_also_after_an_earlier_request_has_succeeded() {
    let mut rig = two_active(Schedule::OnTrigger);
    rig.trigger(11, 0.0);
    rig.trigger(12, 0.0);
    assert_eq!(wakes_at(&rig.of(11).failed(Class::Transient, Some(30), 1.0)), Some(rig.at(30.0 + 1.0)));
    let effects = rig.of(12).whole_page(Some("a"), 2.0);
    assert_eq!((requested(&effects), wakes_at(&effects)), (vec![], Some(rig.at(31.0))));
    assert_eq!(requested(&rig.wake(31.0)), [11, 12]);
}

#[test]
fn a_run_in_the_middle_of_its_pages_fails_when_another_is_told_to_wait_for_too_long() {
    let mut rig = two_active(Schedule::OnTrigger);
    rig.trigger(11, 0.0);
    rig.trigger(12, 0.0);
    rig.of(12).page(1, None, 1.0);
    assert!(run_error(&rig.of(11).failed(Class::Transient, Some(3_600), 1.0), 11).is_some());
    assert!(finished(&rig.of(12).produced(2.0), 12).is_some(), "it has no page left to request");
    rig.trigger(13, 3_700.0);
    rig.trigger(14, 3_700.0);
    rig.of(14).page(1, Some("a"), 3_701.0);
    let effects = rig.of(13).failed(Class::Transient, Some(3_600), 3_702.0);
    assert!(run_error(&effects, 13).is_some() && run_error(&effects, 14).is_none(), "a page of it is not in Kafka yet");
    let effects = rig.of(14).produced(3_703.0);
    assert!(run_error(&effects, 14).is_some_and(|error| error.retryable && error.message.starts_with("the API's rate limit is used up")));
}

#[test]
fn a_cancelled_or_refused_run_leaves_the_others_alone() {
    let mut rig = two_active(Schedule::OnTrigger);
    rig.trigger(11, 0.0);
    rig.trigger(12, 0.0);
    rig.of(12).page(1, Some("a"), 1.0);
    rig.cancel(11, 1.0);
    assert_eq!((rig.state.unsettled(Uuid::from_u128(11)), rig.state.unsettled(Uuid::from_u128(12))), (0, 1));
    assert!(!rig.of(11).fetched(2.0).0, "its page is dropped");
    rig.trigger(13, 2.0);
    assert!(rig.of(13).fetched(3.0).0);
    let (now, fresh) = (rig.at(3.0), rig.fresh());
    let effects = rig.state.refused(Uuid::from_u128(13), PageRefused("no".into()), now, fresh);
    assert!(run_error(&effects, 13).is_some());
    assert_eq!(requested(&rig.of(12).produced(4.0)), [12]);
}

#[test]
fn a_fetch_does_not_inherit_the_cycle_of_another_read_at_the_same_cursor() {
    let mut rig = two_active(Schedule::OnTrigger);
    rig.trigger(11, 0.0);
    for next in ["a", "b"] {
        rig.whole_page(Some(next), 1.0);
    }
    let effects = rig.whole_page(Some("a"), 2.0);
    assert_eq!(finished(&effects, 11).map(|stop| stop.reason), Some(StopReason::CursorCycle));
    rig.trigger(12, 3.0);
    assert!(fetch_of(&rig.whole_page(Some("a"), 4.0), 12), "that cycle is another read's");
}

#[test]
fn a_pause_a_stop_and_the_end_of_the_schedule_hold_for_all_fetches() {
    let mut rig = two_active(Schedule::Every(EVERY));
    rig.wake(0.0);
    let scheduled = rig.run.as_u128();
    rig.trigger(11, 0.0);
    rig.state.stop_schedule();
    assert!(scheduled_done(&rig.of(scheduled).whole_page(Some("a"), 1.0)));
    rig.trigger(12, 1.0);
    let (now, fresh) = (rig.at(2.0), rig.fresh());
    rig.state.set_paused(true, now, fresh);
    assert!(!fetches(&rig.of(11).whole_page(Some("a"), 3.0)) && !fetches(&rig.of(12).whole_page(Some("c"), 3.0)));
    assert!(rig.state.is_idle());
    let (now, fresh) = (rig.at(4.0), rig.fresh());
    assert_eq!(requested(&rig.state.set_paused(false, now, fresh)), [11, 12]);
    rig.state.stop();
    assert!(!fetches(&rig.of(11).whole_page(Some("b"), 5.0)) && !rig.state.is_idle());
    assert!(!fetches(&rig.of(12).whole_page(Some("d"), 5.0)) && rig.state.is_idle());
}
