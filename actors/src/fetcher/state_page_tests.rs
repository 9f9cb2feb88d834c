//! Which page the state fetches next: cursors, cycles, limits and pauses.

use super::*;

#[test]
fn the_cursor_moves_when_a_page_is_in_kafka_and_the_next_page_follows() {
    let mut rig = Rig::with_cursor(Schedule::OnTrigger, Some("0"), 100);
    rig.trigger(1, 0.0);
    assert_eq!(rig.cursor(), Some("0"));
    let fetched = rig.page(100, Some("100"), 1.0);
    assert_eq!(fetched, [Effect::Record(Command::PageFetched { run: Uuid::from_u128(1), records: 100, cursor: Some("0".into()) })]);
    assert_eq!(rig.stored, None, "it is not in Kafka yet");
    assert_eq!(rig.produced(2.0), [moved(1, None, Some("100")), Effect::Fetch(Uuid::from_u128(1))]);
    assert_eq!(rig.cursor(), Some("100"));
    assert!(fetch_of(&rig.whole_page(Some("200"), 3.0), 1));
    assert_eq!(ends(&rig.whole_page(None, 4.0), 1, Some("200")), StopReason::NoNext);
    assert_eq!(rig.cursor(), Some("200"), "the last page does not move it");
    assert!(fetch_of(&rig.trigger(2, 5.0), 2), "the next fetch continues there");
    assert_eq!(rig.state.cursor(rig.run), Some("200"));
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
    assert_eq!(rig.state.cursor(rig.run), Some("100"), "a cursor set meanwhile does not move the fetch");
    rig.failed(Class::Transient, None, 2.0);
    assert!(fetch_of(&rig.wake(10.0), 1));
    assert_eq!(rig.state.cursor(rig.run), Some("100"), "not even after a failure");
    let effects = rig.whole_page(None, 11.0);
    assert!(effects[0] == moved(1, Some("100"), None) && finished(&effects, 1).is_some(), "{effects:?}");
    assert_eq!(rig.state.cursor(rig.run), Some("7"), "the next one starts there");
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
fn a_fetch_whose_cursor_is_reset_while_it_waits_for_a_retry_is_in_no_cycle() {
    let mut rig = Rig::with_cursor(Schedule::Every(EVERY), None, 100);
    assert!(fetches(&rig.wake(0.0)));
    rig.whole_page(Some("a"), 1.0);
    rig.whole_page(Some("b"), 2.0);
    rig.failed(Class::Transient, Some(3), 3.0);
    rig.stored = None;
    assert!(fetches(&rig.wake(6.0)));
    assert!(fetches(&rig.whole_page(Some("a"), 7.0)), "it reads from the first page, which names the next one as before");
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
    let (produce, effects) =
        rig.state.fetched(rig.run, 100, now, fresh, PageInfo { next: NextCursor::Cursor("c".into()), ..PageInfo::default() });
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
    let effects = rig.state.refused(rig.run, PageRefused("too big".into()), now, fresh);
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
        assert!(
            matches!(&effects[..], [Effect::Record(Command::PageProduced { next: Some(next), .. })] if next.cursor() == Some("b")),
            "{effects:?}"
        );
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
    rig.state.fetched(rig.run, 100, now, fresh, PageInfo { next, ..PageInfo::default() });
    finished(&rig.produced(1.0), 1).unwrap().clone()
}

/// For an API whose pages the fetcher counts from 1.
fn counting(schedule: Schedule) -> Rig {
    let rig = Rig::new(schedule);
    let counted = Some(crate::fetcher::pagination::Counted::Page { start: 1, step: 1 });
    let limits = PageLimits { max_pages: 100, counted, restarts: true, ..PageLimits::ONE_PAGE };
    Rig { state: rig.state.with_cursors(Some("1".to_owned()), limits), ..rig }
}

#[test]
fn a_complete_read_of_counted_pages_begins_again_at_its_first_page() {
    let mut rig = counting(Schedule::OnTrigger);
    rig.trigger(1, 0.0);
    assert_eq!(rig.state.cursor(rig.run), Some("1"));
    assert_eq!(rig.whole_page(None, 1.0), [moved(1, None, Some("2")), Effect::Fetch(Uuid::from_u128(1))]);
    assert_eq!(rig.state.cursor(rig.run), Some("2"));
    rig.page(0, None, 2.0);
    let effects = rig.produced(2.0);
    let Effect::Record(Command::PageProduced { asked, next, .. }) = &effects[0] else { panic!("{effects:?}") };
    assert_eq!((asked, next), (&Position::of(Some("2")), &Some(Position::Begin)));
    assert_eq!(finished(&effects, 1).map(|stop| (stop.reason, stop.complete)), Some((StopReason::EmptyPage, true)));
    assert_eq!(rig.stored, None);
    rig.trigger(2, 3.0);
    assert_eq!(rig.state.cursor(rig.run), Some("1"));
}

#[test]
fn a_read_of_counted_pages_that_was_not_complete_continues_at_its_page() {
    let mut rig = counting(Schedule::OnTrigger);
    rig.trigger(1, 0.0);
    rig.whole_page(None, 1.0);
    rig.whole_page(None, 2.0);
    assert!(run_error(&rig.failed(Class::Rejected, None, 3.0), 1).is_some());
    rig.trigger(2, 4.0);
    assert_eq!(rig.state.cursor(rig.run), Some("3"));
}

/// A fetch that requests two pages before an earlier one is in Kafka; its first page is requested.
fn two_ahead(schedule: Schedule) -> Rig {
    let rig = Rig::with_cursor(schedule, None, 100);
    Rig { state: rig.state.with_fetch_ahead(2), ..rig }
}

#[test]
fn pages_are_requested_before_earlier_ones_are_in_kafka_up_to_the_limit() {
    let mut rig = two_ahead(Schedule::OnTrigger);
    rig.trigger(1, 0.0);
    for next in ["a", "b"] {
        assert!(fetch_of(&rig.page(100, Some(next), 1.0), 1));
        assert_eq!(rig.state.cursor(rig.run), Some(next));
    }
    assert_eq!(rig.page(100, Some("c"), 2.0), [], "three pages are not in Kafka");
    let run = Uuid::from_u128(1);
    let fetched = |cursor: &str| Effect::Record(Command::PageFetched { run, records: 100, cursor: Some(cursor.into()) });
    assert_eq!(rig.produced(3.0), [moved(1, None, Some("a")), fetched("a"), Effect::Fetch(run)]);
    assert_eq!(rig.state.cursor(rig.run), Some("c"));
    assert_eq!(rig.page(100, None, 4.0), [], "the last page has no next one");
    assert_eq!(rig.produced(5.0), [moved(1, Some("a"), Some("b")), fetched("b")]);
    assert_eq!(rig.produced(5.0), [moved(1, Some("b"), Some("c")), fetched("c")]);
    assert_eq!(ends(&rig.produced(6.0), 1, Some("c")), StopReason::NoNext);
    assert!(rig.state.is_idle());
}

#[test]
fn a_request_that_fails_for_good_ends_the_run_once_its_earlier_pages_are_in_kafka() {
    let mut rig = two_ahead(Schedule::OnTrigger);
    rig.trigger(1, 0.0);
    rig.page(100, Some("a"), 1.0);
    assert!(run_error(&rig.failed(Class::Rejected, None, 2.0), 1).is_none());
    let effects = rig.produced(3.0);
    assert!(effects[0] == moved(1, None, Some("a")) && run_error(&effects, 1).is_some(), "{effects:?}");
    assert_eq!(rig.stored.as_deref(), Some("a"));
}

#[test]
fn a_scheduled_fetch_is_retried_at_the_page_that_failed_once_its_earlier_pages_are_in_kafka() {
    let mut rig = two_ahead(Schedule::Every(EVERY));
    rig.wake(0.0);
    rig.page(100, Some("a"), 1.0);
    assert!(!fetches(&rig.failed(Class::Transient, None, 2.0)) && !fetches(&rig.wake(5.0)));
    assert!(fetches(&rig.produced(6.0)), "its delay has passed meanwhile");
    assert_eq!(rig.state.cursor(rig.run), Some("a"));
    assert!(!fetches(&rig.whole_page(Some("b"), 7.0)) || rig.state.cursor(rig.run) == Some("b"), "no cycle is suspected");
}

#[test]
fn a_refused_page_discards_what_was_fetched_after_it() {
    let mut rig = two_ahead(Schedule::OnTrigger);
    rig.trigger(1, 0.0);
    rig.trigger(2, 0.0);
    rig.page(100, Some("a"), 1.0);
    rig.page(100, Some("b"), 1.0);
    let (now, fresh) = (rig.at(2.0), rig.fresh());
    let effects = rig.state.refused(rig.run, PageRefused("no".into()), now, fresh);
    assert!(run_error(&effects, 1).is_some() && !fetches(&effects), "a request is still under way: {effects:?}");
    assert_eq!((rig.state.unsettled(rig.run), rig.state.is_idle()), (0, false));
    let (produce, effects) = rig.fetched(3.0);
    assert!(!produce && fetch_of(&effects, 2), "{effects:?}");
}

#[test]
fn a_cancelled_run_records_nothing_more_of_its_pages() {
    let mut rig = two_ahead(Schedule::OnTrigger);
    rig.trigger(1, 0.0);
    rig.page(100, Some("a"), 1.0);
    assert_eq!(rig.cancel(1, 2.0), []);
    assert_eq!(rig.produced(3.0), []);
    assert!(!rig.fetched(4.0).0);
    assert!(rig.state.is_idle());
}

#[test]
fn a_stop_waits_for_the_pages_under_way_and_requests_no_more() {
    let mut rig = two_ahead(Schedule::OnTrigger);
    rig.trigger(1, 0.0);
    rig.page(100, Some("a"), 1.0);
    rig.state.stop();
    assert!(!rig.state.is_idle());
    assert!(!fetches(&rig.page(100, Some("b"), 2.0)));
    rig.produced(3.0);
    assert!(!rig.state.is_idle());
    let effects = rig.produced(4.0);
    assert!(rig.state.is_idle() && finished(&effects, 1).is_none() && rig.stored.as_deref() == Some("b"), "{effects:?}");
}

#[test]
fn a_stopped_schedule_ends_its_fetch_once_its_pages_are_in_kafka() {
    let mut rig = two_ahead(Schedule::Every(EVERY));
    rig.wake(0.0);
    rig.page(100, Some("a"), 1.0);
    rig.state.stop_schedule();
    assert!(!fetches(&rig.page(100, Some("b"), 2.0)));
    assert!(!scheduled_done(&rig.produced(3.0)));
    assert!(scheduled_done(&rig.produced(4.0)));
}
