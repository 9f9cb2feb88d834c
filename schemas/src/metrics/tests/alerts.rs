//! When alerts fire and when they do not.

use super::super::alerts::{AlertEvaluator, MAX_SAMPLES, RULES};
use super::*;

/// The names of what is wrong after looks from second 0 on, one every ten seconds, the last one at `last`.
fn fired(last: i64, change: impl Fn(i64, &mut Snapshot)) -> Vec<String> {
    let mut evaluator = AlertEvaluator::default();
    let mut alerts = Vec::new();
    for second in (0..=last).step_by(10) {
        let mut look = look(second);
        change(second, &mut look);
        // The fixture has a lag; what is written goes on but where a test says otherwise.
        alerts = evaluator.evaluate(&look);
    }
    alerts.into_iter().map(|alert| alert.name).collect()
}

fn goes_on(second: i64, look: &mut Snapshot) {
    look.stages[4].count += u64::try_from(second).unwrap();
}

fn none() -> Vec<String> {
    Vec::new()
}

#[test]
fn a_pipeline_that_goes_on_is_well() {
    assert_eq!(fired(1_200, goes_on), none());
}

#[test]
fn a_lag_that_grows_is_told_after_its_time_and_one_that_shrinks_is_not() {
    let grows = |second, look: &mut Snapshot| {
        goes_on(second, look);
        look.partitions[0].end = 2_000 + second * 10;
    };
    assert_eq!(fired(290, grows), none());
    assert_eq!(fired(320, grows), ["ForebayLagGrows"]);
    let shrinks = |second, look: &mut Snapshot| {
        goes_on(second, look);
        look.partitions[0].end = 200_000 - second * 10;
    };
    assert_eq!(fired(600, shrinks), none());
    let of_others = |second, look: &mut Snapshot| {
        grows(second, look);
        look.partitions[0].assigned = false;
    };
    assert_eq!(fired(320, of_others), none());
}

#[test]
fn a_record_that_waits_long_is_told_with_its_partition() {
    let old = |second, look: &mut Snapshot| {
        goes_on(second, look);
        look.partitions[1].behind_ms = 301_000;
    };
    assert_eq!(fired(110, old), none());
    assert_eq!(fired(120, old), ["ForebayLagOld"]);
    let mut evaluator = AlertEvaluator::default();
    let alerts: Vec<_> = [0, 60, 120]
        .map(|second| {
            let mut look = look(second);
            old(second, &mut look);
            evaluator.evaluate(&look)
        })
        .into();
    let alert = &alerts[2][0];
    assert_eq!(alert.summary, "users_stream[1] is 301 s behind");
    assert_eq!((alert.severity.as_str(), alert.since), ("critical", look(0).at));
    assert!(!alert.remedy.is_empty());
}

#[test]
fn nothing_written_while_there_is_lag_is_told_unless_that_is_what_was_asked_for() {
    assert_eq!(fired(60, |_, _| {}), none());
    assert_eq!(fired(80, |_, _| {}), ["ForebayNothingWritten"]);
    assert_eq!(fired(600, |_, look| look.desired.state = crate::desired::DesiredState::Paused), none());
    let nothing_to_do = |_, look: &mut Snapshot| look.partitions.iter_mut().for_each(|view| view.written = view.end);
    assert_eq!(fired(600, nothing_to_do), none());
}

#[test]
fn dead_letters_are_told_when_they_come_and_are_forgotten_after_five_minutes() {
    let at_100 = |second, look: &mut Snapshot| {
        goes_on(second, look);
        look.totals.rejected = if second < 100 { 1 } else { 8 };
    };
    assert_eq!(fired(90, at_100), none());
    assert_eq!(fired(100, at_100), ["ForebayDeadLetters"]);
    assert_eq!(fired(500, at_100), none());
}

#[test]
fn what_happened_before_the_first_look_happened_since_the_start() {
    let mut first = look(0);
    first.started_at = first.at - TimeDelta::seconds(4);
    let names: Vec<_> = AlertEvaluator::default().evaluate(&first).into_iter().map(|alert| alert.name).collect();
    assert_eq!(names, ["ForebayDeadLetters"]);
}

#[test]
fn an_actor_that_restarts_often_waits_long_is_stuck_or_down_is_told_by_its_name() {
    let restarts = |second: i64, look: &mut Snapshot| {
        goes_on(second, look);
        look.actors[1].restarts = u64::try_from(second / 20).unwrap();
    };
    assert_eq!(fired(60, restarts), none());
    assert_eq!(fired(80, restarts), ["ForebayActorRestarts"]);
    let is = |state| {
        move |second, look: &mut Snapshot| {
            goes_on(second, look);
            look.actors[1].state = state;
        }
    };
    assert_eq!(fired(50, is(ActorState::Stuck)), none());
    assert_eq!(fired(60, is(ActorState::Stuck)), ["ForebayActorStuck"]);
    assert_eq!(fired(290, is(ActorState::Waiting)), none());
    assert_eq!(fired(300, is(ActorState::Waiting)), ["ForebayActorWaits"]);
    assert_eq!(fired(60, is(ActorState::Ended)), ["ForebayActorEnded"]);
    assert_eq!(fired(600, is(ActorState::Restarting)), none(), "that is what supervision is for");
}

#[test]
fn a_condition_that_pauses_begins_anew() {
    let flickers = |second: i64, look: &mut Snapshot| {
        goes_on(second, look);
        look.actors[1].state = if second % 50 == 0 { ActorState::Up } else { ActorState::Stuck };
    };
    assert_eq!(fired(590, flickers), none());
}

#[test]
fn an_api_that_fails_more_than_it_answers_is_told() {
    let fails = |ok: u64, bad: u64| {
        move |second: i64, look: &mut Snapshot| {
            goes_on(second, look);
            let turns = u64::try_from(second / 10).unwrap();
            look.source.as_mut().unwrap().statuses = [("2xx".to_owned(), ok * turns), ("5xx".to_owned(), bad * turns)].into();
        }
    };
    assert_eq!(fired(290, fails(1, 3)), none());
    assert_eq!(fired(320, fails(1, 3)), ["ForebaySourceFails"]);
    assert_eq!(fired(600, fails(3, 1)), none());
}

#[test]
fn a_fetch_that_was_cut_short_is_told_until_one_is_whole() {
    let cut = |second, look: &mut Snapshot| {
        goes_on(second, look);
        let detail = if second < 100 { "3 pages were read" } else { "" };
        let stop = crate::run::Stop {
            reason: crate::run::StopReason::MaxPages,
            complete: second >= 100,
            cursor: Some("7".to_owned()),
            detail: detail.to_owned(),
        };
        look.source.as_mut().unwrap().stop = Some(stop);
    };
    assert_eq!(fired(0, cut), ["ForebayFetchCutShort"]);
    assert_eq!(fired(90, cut), ["ForebayFetchCutShort"]);
    assert_eq!(fired(100, cut), none());
    let mut first = look(0);
    cut(0, &mut first);
    let alerts = AlertEvaluator::default().evaluate(&first);
    assert_eq!(alerts[0].summary, "the last fetch was cut short, max_pages: 3 pages were read");
}

#[test]
fn a_budget_without_room_a_store_that_is_tried_again_a_slow_disk_and_much_memory_are_told() {
    let blocked = |share: u64| {
        move |second: i64, look: &mut Snapshot| {
            goes_on(second, look);
            look.edges[0].blocked_micros = u64::try_from(second).unwrap() * share * 10_000;
        }
    };
    assert_eq!(fired(320, blocked(95)), ["ForebayBudgetExhausted"]);
    assert_eq!(fired(600, blocked(80)), none());
    let retries = |second: i64, look: &mut Snapshot| {
        goes_on(second, look);
        look.totals.write_retries = u64::try_from(second).unwrap();
    };
    assert_eq!(fired(20, retries), ["ForebayStoreRetries"]);
    let slow = |second, look: &mut Snapshot| {
        goes_on(second, look);
        look.seq = 20_000;
    };
    assert_eq!(fired(60, slow), ["ForebayJournalBehind"]);
    let full = |second, look: &mut Snapshot| {
        goes_on(second, look);
        look.memory_bytes = (1 << 30) + 401;
    };
    assert_eq!(fired(300, full), ["ForebayMemory"]);
}

#[test]
fn every_rule_that_can_be_judged_is_and_all_have_their_words() {
    for rule in RULES {
        assert!(rule.name.starts_with("Forebay") && !rule.summary.is_empty() && rule.remedy.ends_with('.'), "{}", rule.name);
    }
}

#[test]
fn memory_stays_bounded_however_often_it_is_looked() {
    let mut evaluator = AlertEvaluator::default();
    for second in 0..5_000 {
        evaluator.evaluate(&look(second));
    }
    assert!(evaluator.looks() <= MAX_SAMPLES && evaluator.looks() > 100, "{}", evaluator.looks());
}
