//! When alerts fire, and when they don't.

use super::super::alerts::{AlertEvaluator, MAX_SAMPLES, RULES};
use super::*;

/// The alerts that fire as of second `last`, after one snapshot every ten seconds.
fn fired(last: i64, change: impl Fn(i64, &mut Snapshot)) -> Vec<String> {
    let mut evaluator = AlertEvaluator::default();
    let mut alerts = Vec::new();
    for second in (0..=last).step_by(10) {
        let mut snapshot = snapshot_at(second);
        change(second, &mut snapshot);
        // The fixture has a lag. Batches are written unless a test says otherwise.
        alerts = evaluator.evaluate(&snapshot);
    }
    alerts.into_iter().map(|alert| alert.name).collect()
}

fn progress(second: i64, snapshot: &mut Snapshot) {
    snapshot.stages[4].count += u64::try_from(second).unwrap();
}

fn none() -> Vec<String> {
    Vec::new()
}

#[test]
fn no_alert_fires_for_a_pipeline_that_makes_progress() {
    assert_eq!(fired(1_200, progress), none());
}

#[test]
fn a_growing_lag_fires_after_its_time_and_a_shrinking_one_does_not() {
    let grows = |second, snapshot: &mut Snapshot| {
        progress(second, snapshot);
        snapshot.partitions[0].end = Offset(2_000 + second * 10);
    };
    assert_eq!(fired(290, grows), none());
    assert_eq!(fired(320, grows), ["ForebayLagGrows"]);
    let shrinks = |second, snapshot: &mut Snapshot| {
        progress(second, snapshot);
        snapshot.partitions[0].end = Offset(200_000 - second * 10);
    };
    assert_eq!(fired(600, shrinks), none());
    let of_others = |second, snapshot: &mut Snapshot| {
        grows(second, snapshot);
        snapshot.partitions[0].assigned = false;
    };
    assert_eq!(fired(320, of_others), none());
}

#[test]
fn an_old_record_fires_with_its_partition() {
    let old = |second, snapshot: &mut Snapshot| {
        progress(second, snapshot);
        snapshot.partitions[1].behind_ms = 301_000;
    };
    assert_eq!(fired(110, old), none());
    assert_eq!(fired(120, old), ["ForebayLagOld"]);
    let mut evaluator = AlertEvaluator::default();
    let alerts: Vec<_> = [0, 60, 120]
        .map(|second| {
            let mut snapshot = snapshot_at(second);
            old(second, &mut snapshot);
            evaluator.evaluate(&snapshot)
        })
        .into();
    let alert = &alerts[2][0];
    assert_eq!(alert.summary, "users_stream[1] is 301 s behind");
    assert_eq!((alert.severity.as_str(), alert.since), ("critical", snapshot_at(0).at));
    assert!(!alert.remedy.is_empty());
}

#[test]
fn lag_without_writes_fires_unless_the_pipeline_is_paused() {
    assert_eq!(fired(60, |_, _| {}), none());
    assert_eq!(fired(80, |_, _| {}), ["ForebayNothingWritten"]);
    assert_eq!(fired(600, |_, snapshot| snapshot.desired.state = crate::desired::DesiredState::Paused), none());
    let nothing_to_do = |_, snapshot: &mut Snapshot| snapshot.partitions.iter_mut().for_each(|view| view.written = view.end);
    assert_eq!(fired(600, nothing_to_do), none());
}

#[test]
fn dead_letters_fire_at_once_and_for_five_minutes() {
    let at_100 = |second, snapshot: &mut Snapshot| {
        progress(second, snapshot);
        snapshot.totals.rejected = if second < 100 { 1 } else { 8 };
    };
    assert_eq!(fired(90, at_100), none());
    assert_eq!(fired(100, at_100), ["ForebayDeadLetters"]);
    assert_eq!(fired(500, at_100), none());
}

#[test]
fn counts_before_the_first_snapshot_count_from_the_start() {
    let mut first = snapshot_at(0);
    first.started_at = first.at - TimeDelta::seconds(4);
    let names: Vec<_> = AlertEvaluator::default().evaluate(&first).into_iter().map(|alert| alert.name).collect();
    assert_eq!(names, ["ForebayDeadLetters"]);
}

#[test]
fn actors_that_restart_often_wait_stall_or_end_fire_by_name() {
    let restarts = |second: i64, snapshot: &mut Snapshot| {
        progress(second, snapshot);
        snapshot.actors[1].restarts = u64::try_from(second / 20).unwrap();
    };
    assert_eq!(fired(60, restarts), none());
    assert_eq!(fired(80, restarts), ["ForebayActorRestarts"]);
    let is = |state| {
        move |second, snapshot: &mut Snapshot| {
            progress(second, snapshot);
            snapshot.actors[1].state = state;
        }
    };
    assert_eq!(fired(50, is(ActorState::Stuck)), none());
    assert_eq!(fired(60, is(ActorState::Stuck)), ["ForebayActorStuck"]);
    assert_eq!(fired(290, is(ActorState::Waiting)), none());
    assert_eq!(fired(300, is(ActorState::Waiting)), ["ForebayActorWaits"]);
    assert_eq!(fired(60, is(ActorState::Ended)), ["ForebayActorEnded"]);
    assert_eq!(fired(600, is(ActorState::Restarting)), none(), "supervision handles it");
}

#[test]
fn an_interrupted_condition_starts_over() {
    let flickers = |second: i64, snapshot: &mut Snapshot| {
        progress(second, snapshot);
        snapshot.actors[1].state = if second % 50 == 0 { ActorState::Up } else { ActorState::Stuck };
    };
    assert_eq!(fired(590, flickers), none());
}

#[test]
fn a_source_that_mostly_fails_fires() {
    let fails = |ok: u64, bad: u64| {
        move |second: i64, snapshot: &mut Snapshot| {
            progress(second, snapshot);
            let turns = u64::try_from(second / 10).unwrap();
            snapshot.source.as_mut().unwrap().statuses = [("2xx".to_owned(), ok * turns), ("5xx".to_owned(), bad * turns)].into();
        }
    };
    assert_eq!(fired(290, fails(1, 3)), none());
    assert_eq!(fired(320, fails(1, 3)), ["ForebaySourceFails"]);
    assert_eq!(fired(600, fails(3, 1)), none());
}

#[test]
fn a_fetch_that_was_cut_short_fires_until_one_is_complete() {
    let cut = |second, snapshot: &mut Snapshot| {
        progress(second, snapshot);
        let detail = if second < 100 { "3 pages were read" } else { "" };
        let stop = crate::run::Stop {
            reason: crate::run::StopReason::MaxPages,
            complete: second >= 100,
            cursor: Some("7".to_owned()),
            detail: detail.to_owned(),
        };
        snapshot.source.as_mut().unwrap().stop = Some(stop);
    };
    assert_eq!(fired(0, cut), ["ForebayFetchCutShort"]);
    assert_eq!(fired(90, cut), ["ForebayFetchCutShort"]);
    assert_eq!(fired(100, cut), none());
    let mut first = snapshot_at(0);
    cut(0, &mut first);
    let alerts = AlertEvaluator::default().evaluate(&first);
    assert_eq!(alerts[0].summary, "the last fetch was cut short, max_pages: 3 pages were read");
}

#[test]
fn exhausted_budgets_retries_a_slow_disk_and_high_memory_fire() {
    let blocked = |share: u64| {
        move |second: i64, snapshot: &mut Snapshot| {
            progress(second, snapshot);
            snapshot.edges[0].blocked_micros = u64::try_from(second).unwrap() * share * 10_000;
        }
    };
    assert_eq!(fired(320, blocked(95)), ["ForebayBudgetExhausted"]);
    assert_eq!(fired(600, blocked(80)), none());
    let retries = |second: i64, snapshot: &mut Snapshot| {
        progress(second, snapshot);
        snapshot.totals.write_retries = u64::try_from(second).unwrap();
    };
    assert_eq!(fired(20, retries), ["ForebayStoreRetries"]);
    let slow = |second, snapshot: &mut Snapshot| {
        progress(second, snapshot);
        snapshot.seq = 20_000;
    };
    assert_eq!(fired(60, slow), ["ForebayJournalBehind"]);
    let full = |second, snapshot: &mut Snapshot| {
        progress(second, snapshot);
        snapshot.memory_bytes = (1 << 30) + 401;
    };
    assert_eq!(fired(300, full), ["ForebayMemory"]);
}

#[test]
fn an_alert_fires_after_its_time_though_the_clock_was_set_back_by_an_hour() {
    let mut evaluator = AlertEvaluator::default();
    let mut fires = |second| {
        let mut snapshot = snapshot_at(second);
        snapshot.partitions[1].behind_ms = 301_000;
        evaluator.evaluate(&snapshot).iter().any(|alert| alert.name == "ForebayLagOld")
    };
    assert!(!(5_000..5_100).step_by(10).any(&mut fires));
    assert!(!(1_500..1_620).step_by(10).any(&mut fires));
    assert!(fires(1_620));
}

#[test]
fn every_rule_has_its_texts() {
    for rule in RULES {
        assert!(rule.name.starts_with("Forebay") && !rule.summary.is_empty() && rule.remedy.ends_with('.'), "{}", rule.name);
    }
}

#[test]
fn memory_is_bounded_however_many_snapshots_are_evaluated() {
    let mut evaluator = AlertEvaluator::default();
    for second in 0..5_000 {
        evaluator.evaluate(&snapshot_at(second));
    }
    assert!(evaluator.samples() <= MAX_SAMPLES && evaluator.samples() > 100, "{}", evaluator.samples());
}
