//! The state of runs: requests, pages, ends, and limits.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use forebay_schemas::event::Event;
use forebay_schemas::offset::{Offset, Partition, Range, Ranges};
use forebay_schemas::rejects::Rejects;
use forebay_schemas::run::{Cancelled, RunError, RunSpec, RunState, RunWritten};
use forebay_schemas::source_read::Position;
use uuid::Uuid;

use super::command::Command;
use super::error::MAX_OPEN_RUNS;
use super::error::Rejection;
use super::runs::{Accepted, MAX_ENDED_RUNS, Runs};
use super::tests::range;

fn now() -> DateTime<Utc> {
    DateTime::UNIX_EPOCH
}

fn id(n: u128) -> Uuid {
    Uuid::from_u128(n)
}

fn request(runs: &mut Runs, key: &str, attempt: u32, fresh: u128) -> Accepted {
    let accepted = runs.request(key, attempt, &RunSpec::default(), id(fresh)).unwrap();
    if let Accepted::New(run) = accepted {
        runs.evolve(&Event::RunRequested { run, key: key.into(), attempt, spec: RunSpec::default(), from: None, began: None }, now());
    }
    accepted
}

fn submit(runs: &mut Runs, command: Command) -> Result<(), Rejection> {
    // `State` adds the position that a run starts at, and whose cursor moves.
    let events = match command {
        Command::StartRun { run } => runs.start(run, runs.get(run).and_then(|run| run.position.clone()).unwrap_or_default())?,
        Command::PageProduced { run, ranges, produced, rejected, next, rejects, .. } => {
            runs.running_or_scheduled(run)?;
            let cursor = next.and_then(|next| next.cursor().map(str::to_owned));
            vec![Event::PageProduced { run, ranges, produced, rejected, cursor, moves: None, rejects }]
        }
        command => runs.decide(command)?,
    };
    for event in events {
        runs.evolve(&event, now());
    }
    Ok(())
}

fn written(runs: &mut Runs, partition: Partition, offset: i64) {
    for event in runs.completed(Some(&BTreeMap::from([(partition, Offset(offset))]))) {
        runs.evolve(&event, now());
    }
}

fn produced(runs: &mut Runs, run: Uuid, partition: Partition, range: Range) {
    let mut ranges = Ranges::default();
    ranges.add(partition, range);
    submit(runs, Command::StartRun { run }).unwrap();
    submit(runs, Command::PageFetched { run, records: range.len(), cursor: None }).unwrap();
    submit(runs, Command::page_produced(run, ranges, range.len(), (Position::Begin, u64::MAX), None)).unwrap();
    submit(runs, Command::RunProduced { run, stop: None }).unwrap();
}

/// A page of run 1, fetched and produced.
fn page(runs: &mut Runs, range: Range, cursor: Option<&str>) {
    let mut ranges = Ranges::default();
    ranges.add(0, range);
    submit(runs, Command::PageFetched { run: id(1), records: range.len(), cursor: None }).unwrap();
    let next = cursor.map(|cursor| Position::of(Some(cursor)));
    submit(runs, Command::page_produced(id(1), ranges, range.len(), (Position::Begin, u64::MAX), next)).unwrap();
}

#[test]
fn the_same_key_and_attempt_is_the_same_run() {
    let mut runs = Runs::default();
    assert_eq!(request(&mut runs, "k", 1, 1), Accepted::New(id(1)));
    assert_eq!(request(&mut runs, "k", 1, 2), Accepted::Same(id(1)));
    submit(&mut runs, Command::CancelRun { run: id(1), cancelled: Cancelled::default() }).unwrap();
    assert_eq!(request(&mut runs, "k", 1, 2), Accepted::Same(id(1)), "ended or not");
}

#[test]
fn a_higher_attempt_attaches_to_an_open_run_and_is_new_after_an_ended_one() {
    let mut runs = Runs::default();
    request(&mut runs, "k", 1, 1);
    assert_eq!(request(&mut runs, "k", 2, 2), Accepted::Same(id(1)));
    submit(&mut runs, Command::CancelRun { run: id(1), cancelled: Cancelled::default() }).unwrap();
    assert_eq!(request(&mut runs, "k", 3, 3), Accepted::New(id(3)));
    assert_eq!(request(&mut runs, "k", 1, 4), Accepted::Same(id(1)));
}

#[test]
fn a_key_requested_with_another_spec_is_rejected_and_names_the_run() {
    let mut runs = Runs::default();
    request(&mut runs, "k", 1, 1);
    let other = RunSpec { lease_seconds: Some(30), ..RunSpec::default() };
    for attempt in [1, 2] {
        assert_eq!(runs.request("k", attempt, &other, id(2)), Err(Rejection::Mismatch(id(1))), "attempt {attempt}");
    }
    submit(&mut runs, Command::CancelRun { run: id(1), cancelled: Cancelled::default() }).unwrap();
    assert_eq!(runs.request("k", 1, &other, id(2)), Err(Rejection::Mismatch(id(1))), "ended or not");
    assert_eq!(runs.request("k", 2, &other, id(2)), Ok(Accepted::New(id(2))), "a new attempt is a new run");
}

#[test]
fn a_run_succeeds_only_when_its_last_record_is_written() {
    let mut runs = Runs::default();
    request(&mut runs, "k", 1, 1);
    produced(&mut runs, id(1), 2, range(10, 20));
    assert_eq!(runs.get(id(1)).unwrap().state, RunState::Draining);
    written(&mut runs, 2, 19);
    assert_eq!(runs.get(id(1)).unwrap().state, RunState::Draining);
    written(&mut runs, 2, 20);
    let run = runs.get(id(1)).unwrap();
    assert!(run.terminal && run.state == RunState::Succeeded && run.counts.produced == 10);
}

#[test]
fn a_run_whose_records_are_already_written_succeeds() {
    let mut runs = Runs::default();
    request(&mut runs, "k", 1, 1);
    produced(&mut runs, id(1), 0, range(40, 50));
    written(&mut runs, 0, 50);
    assert_eq!(runs.get(id(1)).unwrap().state, RunState::Succeeded);
}

#[test]
fn a_run_without_records_succeeds() {
    let mut runs = Runs::default();
    request(&mut runs, "k", 1, 1);
    submit(&mut runs, Command::StartRun { run: id(1) }).unwrap();
    submit(&mut runs, Command::RunProduced { run: id(1), stop: None }).unwrap();
    written(&mut runs, 0, 0);
    assert_eq!(runs.get(id(1)).unwrap().state, RunState::Succeeded);
}

#[test]
fn a_run_stores_why_it_stopped_and_whether_it_was_cut_short() {
    use forebay_schemas::run::{Stop, StopReason};
    let mut runs = Runs::default();
    request(&mut runs, "k", 1, 1);
    submit(&mut runs, Command::StartRun { run: id(1) }).unwrap();
    let stop = Stop { reason: StopReason::MaxPages, complete: false, cursor: Some("7".into()), detail: "more".into() };
    submit(&mut runs, Command::RunProduced { run: id(1), stop: Some(stop.clone()) }).unwrap();
    written(&mut runs, 0, 0);
    let run = runs.get(id(1)).unwrap();
    assert_eq!((run.state, run.cut_short()), (RunState::Succeeded, Some(&stop)), "what it read is written, and it was cut short");
    let again: Runs = serde_json::from_str(&serde_json::to_string(&runs).unwrap()).unwrap();
    assert_eq!(again, runs);
}

#[test]
fn a_restarted_run_counts_from_its_first_page_and_waits_for_all_it_produced() {
    let mut runs = Runs::default();
    request(&mut runs, "k", 1, 1);
    for range in [range(0, 10), range(20, 30)] {
        submit(&mut runs, Command::StartRun { run: id(1) }).unwrap();
        page(&mut runs, range, None);
    }
    let run = runs.get(id(1)).unwrap();
    assert_eq!((run.counts.fetched, run.counts.produced, run.ranges.0[&0]), (10, 10, range(0, 30)));
}

#[test]
fn a_restarted_run_keeps_only_the_counts_of_pages_behind_the_cursor() {
    let mut runs = Runs::default();
    request(&mut runs, "k", 1, 1);
    submit(&mut runs, Command::StartRun { run: id(1) }).unwrap();
    page(&mut runs, range(0, 10), Some("10"));
    page(&mut runs, range(10, 20), Some("20"));
    submit(&mut runs, Command::PageFetched { run: id(1), records: 10, cursor: Some("20".into()) }).unwrap();
    let counts = |runs: &Runs| runs.get(id(1)).unwrap().counts;
    assert_eq!((counts(&runs).pages, counts(&runs).fetched, counts(&runs).produced), (3, 30, 20));
    submit(&mut runs, Command::StartRun { run: id(1) }).unwrap();
    assert_eq!((counts(&runs).pages, counts(&runs).fetched, counts(&runs).produced), (2, 20, 20), "the third was not produced");
    page(&mut runs, range(20, 30), None);
    submit(&mut runs, Command::StartRun { run: id(1) }).unwrap();
    assert_eq!(counts(&runs).pages, 2, "the third is in the topic, but moved no cursor, so it is fetched again");
    page(&mut runs, range(30, 40), None);
    assert_eq!((counts(&runs).pages, counts(&runs).fetched, counts(&runs).produced), (3, 30, 30));
}

/// The counts of settled records of run 1.
fn settled(runs: &mut Runs, [filtered, rejected, written, rows]: [u64; 4]) {
    let mut rejects = Rejects::default();
    rejects.add("decode", "not JSON", rejected);
    let settled = RunWritten { run: id(1), filtered, rejected, written, rows, rejects };
    let event = Event::BatchWritten {
        batch: 1,
        ranges: Ranges::default(),
        rows,
        rejected,
        wait_micros: 0,
        transform_micros: 0,
        write_micros: 0,
        written: forebay_schemas::event::Checkpoints::default(),
        runs: vec![settled],
    };
    runs.evolve(&event, now());
}

/// Run 1 of ten records, some of which the producer rejected, with a limit of rejected records.
fn ten(max_rejected: &str, refused: u64) -> Runs {
    let mut runs = Runs::default();
    let max_rejected = (!max_rejected.is_empty()).then(|| max_rejected.parse().unwrap());
    let spec = RunSpec { max_rejected, ..RunSpec::default() };
    runs.evolve(&Event::RunRequested { run: id(1), key: "k".into(), attempt: 1, spec, from: None, began: None }, now());
    submit(&mut runs, Command::StartRun { run: id(1) }).unwrap();
    submit(&mut runs, Command::PageFetched { run: id(1), records: 10, cursor: None }).unwrap();
    let produced = 10 - refused;
    let ranges = [(0, range(0, i64::try_from(produced).unwrap()))].into_iter().collect();
    let mut rejects = Rejects::default();
    rejects.add("produce", "no key", refused);
    submit(
        &mut runs,
        Command::PageProduced {
            run: id(1),
            ranges,
            produced,
            rejected: refused,
            asked: Position::Begin,
            requested: u64::MAX,
            next: None,
            rejects,
            progress: None,
            validators: None,
        },
    )
    .unwrap();
    submit(&mut runs, Command::RunProduced { run: id(1), stop: None }).unwrap();
    runs
}

#[test]
fn the_counts_of_a_run_are_complete_and_include_other_processes() {
    let mut runs = ten("", 2);
    settled(&mut runs, [1, 1, 3, 6]);
    settled(&mut runs, [0, 1, 0, 0]);
    written(&mut runs, 0, 8);
    let run = runs.get(id(1)).unwrap();
    let of = run.counts;
    let all = [of.fetched, of.produced, of.rejected, of.refused, of.filtered, of.written, of.rows, of.elsewhere, of.again];
    assert_eq!(all, [10, 8, 4, 2, 1, 3, 6, 2, 0]);
    assert_eq!(of.fetched, of.produced + of.refused);
    assert_eq!(of.produced, of.filtered + (of.rejected - of.refused) + of.written + of.elsewhere);
    assert_eq!(run.state, RunState::Succeeded);
    let reasons: Vec<_> = run.rejects.iter().map(ToString::to_string).collect();
    assert_eq!(reasons, ["2 at produce: no key", "2 at decode: not JSON"]);
    let mut runs = ten("", 0);
    settled(&mut runs, [0, 0, 12, 12]);
    written(&mut runs, 0, 10);
    assert_eq!(runs.get(id(1)).unwrap().counts.again, 2, "a page was produced again");
}

#[test]
fn a_run_with_too_many_rejected_records_fails_once_it_is_complete() {
    for (limit, rejected, fails) in
        [("", 9, false), ("", 10, true), ("3", 3, false), ("3", 4, true), ("30%", 3, false), ("30%", 4, true), ("100%", 10, false)]
    {
        let mut runs = ten(limit, 1);
        settled(&mut runs, [0, rejected - 1, 10 - rejected, 10 - rejected]);
        assert_eq!(runs.get(id(1)).unwrap().state, RunState::Draining, "not before everything is settled");
        written(&mut runs, 0, 9);
        let run = runs.get(id(1)).unwrap();
        assert_eq!(run.state == RunState::Failed, fails, "{limit} of {rejected}: {run:?}");
        if fails {
            let RunError { stage, message, retryable } = run.error.clone().unwrap();
            assert_eq!((stage.as_str(), retryable), ("rejected", false));
            assert!(message.contains(&format!("{rejected} of 10")) && message.contains("at decode: not JSON"), "{message}");
            assert!(message.ends_with("`forebay dlq` shows them"), "{message}");
        }
    }
}

#[test]
fn without_a_consumer_a_run_of_rejected_records_only_fails() {
    for (refused, fails) in [(10, true), (9, false), (0, false)] {
        let mut runs = ten("", refused);
        for event in runs.completed(None) {
            runs.evolve(&event, now());
        }
        assert_eq!(runs.get(id(1)).unwrap().state == RunState::Failed, fails, "{refused}");
    }
}

#[test]
fn records_rejected_by_other_processes_fail_no_run() {
    let mut runs = ten("", 1);
    written(&mut runs, 0, 9);
    let run = runs.get(id(1)).unwrap();
    assert_eq!((run.state, run.counts.elsewhere), (RunState::Succeeded, 9));
}

#[test]
fn a_restarted_run_forgets_rejected_pages_and_keeps_settled_counts() {
    let mut runs = ten("", 2);
    settled(&mut runs, [1, 1, 0, 0]);
    submit(&mut runs, Command::StartRun { run: id(1) }).unwrap_err();
    let mut runs = Runs::default();
    request(&mut runs, "k", 1, 1);
    submit(&mut runs, Command::StartRun { run: id(1) }).unwrap();
    submit(&mut runs, Command::PageFetched { run: id(1), records: 3, cursor: None }).unwrap();
    let mut rejects = Rejects::default();
    rejects.add("produce", "no key", 1);
    let ranges = Ranges::default();
    submit(
        &mut runs,
        Command::PageProduced {
            run: id(1),
            ranges,
            produced: 2,
            rejected: 1,
            asked: Position::Begin,
            requested: u64::MAX,
            next: None,
            rejects,
            progress: None,
            validators: None,
        },
    )
    .unwrap();
    settled(&mut runs, [1, 1, 0, 0]);
    submit(&mut runs, Command::StartRun { run: id(1) }).unwrap();
    let run = runs.get(id(1)).unwrap();
    assert_eq!((run.counts.rejected, run.counts.refused, run.counts.filtered), (1, 0, 1));
    assert_eq!(run.rejects.iter().map(ToString::to_string).collect::<Vec<_>>(), ["1 at decode: not JSON"]);
}

#[test]
fn a_request_without_max_rejected_names_the_run_as_it_is() {
    let runs = ten("5%", 0);
    assert_eq!(runs.request("k", 1, &RunSpec::default(), id(2)), Ok(Accepted::Same(id(1))));
    let other = RunSpec { max_rejected: Some("6%".parse().unwrap()), ..RunSpec::default() };
    assert_eq!(runs.request("k", 1, &other, id(2)), Err(Rejection::Mismatch(id(1))));
}

#[test]
fn runs_read_back_from_their_list_unchanged() {
    let mut runs = Runs::default();
    request(&mut runs, "k", 1, 1);
    request(&mut runs, "other", 1, 2);
    submit(&mut runs, Command::CancelRun { run: id(1), cancelled: Cancelled::default() }).unwrap();
    request(&mut runs, "k", 2, 3);
    let again: Runs = serde_json::from_str(&serde_json::to_string(&runs).unwrap()).unwrap();
    assert_eq!(again, runs);
    assert_eq!(request(&mut runs, "k", 3, 4), Accepted::Same(id(3)));
}

#[test]
fn an_ended_run_accepts_no_commands_and_may_be_cancelled() {
    let mut runs = Runs::default();
    request(&mut runs, "k", 1, 1);
    let error = RunError { stage: "fetch".into(), message: "no".into(), retryable: false };
    submit(&mut runs, Command::FailRun { run: id(1), error }).unwrap();
    assert_eq!(submit(&mut runs, Command::StartRun { run: id(1) }), Err(Rejection::Ended(id(1), RunState::Failed)));
    assert_eq!(submit(&mut runs, Command::CancelRun { run: id(1), cancelled: Cancelled::default() }), Ok(()));
    assert_eq!(runs.get(id(1)).unwrap().state, RunState::Failed);
}

#[test]
fn open_runs_and_remembered_runs_are_bounded() {
    let mut runs = Runs::default();
    for n in 0..MAX_OPEN_RUNS {
        request(&mut runs, &format!("k{n}"), 1, n as u128);
    }
    assert_eq!(runs.request("more", 1, &RunSpec::default(), id(99_999)), Err(Rejection::TooMany));
    for n in 0..(MAX_ENDED_RUNS + 500) {
        let run = id(1_000_000 + n as u128);
        if n < MAX_OPEN_RUNS {
            submit(&mut runs, Command::CancelRun { run: id(n as u128), cancelled: Cancelled::default() }).unwrap();
        }
        runs.evolve(
            &Event::RunRequested { run, key: format!("later{n}"), attempt: 1, spec: RunSpec::default(), from: None, began: None },
            now(),
        );
        submit(&mut runs, Command::CancelRun { run, cancelled: Cancelled::default() }).unwrap();
    }
    assert_eq!(runs.order.len(), MAX_ENDED_RUNS);
    assert_eq!(runs.by_key.len(), MAX_ENDED_RUNS);
}
