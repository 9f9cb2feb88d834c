//! The ledger over a journal on the disk.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use forebay_schemas::desired::DesiredState;
use forebay_schemas::event::{Event, Start, StartOrigin};
use forebay_schemas::offset::{Checkpoint, Epoch, Offset, Partition, Range, Ranges, WriteTimestamp};
use forebay_schemas::rejects::Rejects;
use forebay_schemas::run::{Cancelled, RunSpec, RunState};
use forebay_schemas::source_read::{Position, Read, ReadMode};
use forebay_schemas::topic_id::TopicId;
use proptest::prelude::*;
use uuid::Uuid;

use super::fold::restore;
use super::source_cursors_tests::params;
use super::*;
use crate::journal::{self, Journal, RealDisk, Settings, frame, segment, snapshot};
use forebay_kernel::{ManualClock, SystemClock};

fn settings(segment_bytes: u64) -> Settings {
    Settings { pipeline: "users".into(), segment_bytes, keep_bytes: 1 << 20 }
}

pub(super) fn open(folder: &Path) -> Result<Ledger, LedgerError> {
    Ledger::open(folder, RealDisk, settings(64 << 10), SystemClock::shared())
}

pub(super) fn start(ledger: &Ledger, topic: &str) {
    let command = Command::StartProcess { version: "0".into(), roles: vec!["egress".into()], topic: topic.into(), group: "g".into() };
    ledger.submit(command).unwrap();
}

pub(super) fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
}

pub(super) fn range(from: i64, to: i64) -> Range {
    Range { from: Offset(from), to: Offset(to) }
}

fn checkpoint(offset: i64, clock: i64, epoch: u32) -> Checkpoint {
    Checkpoint { offset: Offset(offset), write_clock: WriteTimestamp::from_micros(clock), epoch: Epoch::new(epoch) }
}

fn assigned(partition: Partition, offset: i64, epoch: u32, origin: StartOrigin) -> Command {
    let start = Start { checkpoint: checkpoint(offset, 0, epoch), origin };
    Command::AssignPartitions { starts: [(partition, start)].into_iter().collect() }
}

fn written(ledger: &Ledger, partition: Partition, offset: i64, epoch: u32) {
    ledger.record(batch(partition, offset, epoch));
}

fn batch(partition: Partition, offset: i64, epoch: u32) -> Event {
    let checkpoint = checkpoint(offset, offset * 16, epoch);
    Event::BatchWritten {
        batch: 1,
        ranges: Ranges::default(),
        rows: 1,
        rejected: 0,
        wait_micros: 1,
        transform_micros: 1,
        write_micros: 1,
        written: [(partition, checkpoint)].into_iter().collect(),
        runs: Vec::new(),
    }
}

/// A run that produced `range` of partition 0.
fn produced(ledger: &Ledger, key: &str, range: Range) -> Uuid {
    let run = ledger.request(key, 1, RunSpec::default()).unwrap().id();
    let mut ranges = Ranges::default();
    ranges.add(0, range);
    ledger.submit(Command::StartRun { run }).unwrap();
    ledger.submit(Command::PageFetched { run, records: range.len(), cursor: None }).unwrap();
    ledger.submit(Command::page_produced(run, ranges, range.len(), (Position::Begin, u64::MAX), None)).unwrap();
    ledger.submit(Command::RunProduced { run, stop: None }).unwrap();
    run
}

#[test]
fn a_reopened_ledger_has_the_same_state() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path()).unwrap();
    start(&ledger, "t");
    ledger.submit(assigned(0, 0, 7, StartOrigin::Earliest)).unwrap();
    let done = produced(&ledger, "done", range(0, 10));
    let open_run = ledger.request("open", 1, RunSpec::default()).unwrap().id();
    written(&ledger, 0, 10, 7);
    assert_eq!(ledger.run(done).unwrap().state, RunState::Succeeded);
    let before = ledger.state();
    drop(ledger);
    let again = open(dir.path()).unwrap();
    assert_eq!(again.state(), before);
    assert_eq!(again.open_runs(), [open_run]);
    assert_eq!(again.request("done", 1, RunSpec::default()).unwrap(), Accepted::Same(done), "a key outlives the process");
    assert_eq!(again.checkpoints()[&0], checkpoint(10, 160, 7));
}

#[test]
fn flushed_events_are_in_a_copy_of_the_folder() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path()).unwrap();
    for n in 0..20 {
        let run = ledger.request(&format!("k{n}"), 1, RunSpec::default()).unwrap().id();
        wait(ledger.flushed()).unwrap();
        let state = fold(dir.path(), u64::MAX).unwrap();
        assert!(state.runs.get(run).is_some(), "run {n}");
    }
}

#[test]
fn the_desired_state_outlives_the_process_and_is_recorded_once() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path()).unwrap();
    let desire = |ledger: &Ledger, state, reason: &str| {
        ledger.submit(Command::SetDesiredState { state, by: "operator".into(), reason: reason.into() }).unwrap();
        ledger.last_event()
    };
    let open_run = ledger.request("open", 1, RunSpec::default()).unwrap();
    let first = desire(&ledger, DesiredState::Paused, "upgrade");
    assert_eq!(desire(&ledger, DesiredState::Paused, "again"), first, "it is paused already");
    assert!(ledger.is_paused() && ledger.ingest_stopped());
    assert_eq!(ledger.request("new", 1, RunSpec::default()), Err(Rejection::Paused("paused")));
    assert_eq!(ledger.request("open", 1, RunSpec::default()), Ok(Accepted::Same(open_run.id())), "an existing run is returned");
    wait(ledger.flushed()).unwrap();
    drop(ledger);
    let again = open(dir.path()).unwrap();
    let desired = again.desired();
    assert_eq!((desired.state, desired.by.as_str(), desired.reason.as_str()), (DesiredState::Paused, "operator", "upgrade"));
    assert!(again.is_paused() && desired.since.is_some());
    assert_eq!(again.open_runs(), [open_run.id()], "a run open while paused stays open");
    desire(&again, DesiredState::Drained, "drain");
    assert!(!again.is_paused() && again.ingest_stopped());
    desire(&again, DesiredState::Running, "resume");
    assert!(!again.ingest_stopped() && again.request("new", 1, RunSpec::default()).is_ok());
}

#[test]
fn a_run_is_cancelled_when_its_lease_expires() {
    let clock = Arc::new(ManualClock::default());
    let ledger = Ledger::in_memory(clock.clone());
    let leased = RunSpec { lease_seconds: Some(30), ..RunSpec::default() };
    let run = ledger.request("leased", 1, leased).unwrap().id();
    let other = ledger.request("other", 1, RunSpec::default()).unwrap().id();
    drop(ledger.renew_lease(run));
    let hearing = ledger.renew_lease(run);
    clock.advance(Duration::from_secs(100));
    assert_eq!(ledger.cancel_overdue(), Vec::<Uuid>::new(), "a client waits for it");
    drop(hearing);
    clock.advance(Duration::from_secs(29));
    assert_eq!(ledger.cancel_overdue(), Vec::<Uuid>::new());
    clock.advance(Duration::from_secs(1));
    assert_eq!(ledger.cancel_overdue(), [run]);
    let cancelled = ledger.run(run).unwrap().cancelled.unwrap();
    assert_eq!((cancelled.by.as_str(), cancelled.reason.as_str()), ("lease", "its lease of 30s expired"));
    assert_eq!(ledger.run(other).unwrap().state, RunState::Requested);
    assert_eq!(ledger.cancel_overdue(), Vec::<Uuid>::new());
}

#[test]
fn redriven_dead_letters_are_known_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path()).unwrap();
    let letters = [(0, range(3, 7))].into_iter().collect();
    ledger.record(Event::LettersRedriven { letters, records: 4, by: "admin".into(), reason: "the SQL accepts them now".into() });
    drop(ledger);
    let redriven = open(dir.path()).unwrap().redriven();
    assert_eq!(redriven.without(0, range(0, 10)), [range(0, 3), range(7, 10)]);
}

#[test]
fn the_state_at_any_event_is_the_fold_up_to_it() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path()).unwrap();
    start(&ledger, "t");
    let run = produced(&ledger, "k", range(0, 3));
    ledger.submit(assigned(0, 0, 1, StartOrigin::Earliest)).unwrap();
    written(&ledger, 0, 3, 1);
    drop(ledger);
    let states: Vec<_> = (0..=8).map(|seq| fold(dir.path(), seq).unwrap().runs.get(run).map(|run| run.state)).collect();
    use RunState::{Draining, Requested, Running, Succeeded};
    let expected =
        [None, None, Some(Requested), Some(Running), Some(Running), Some(Running), Some(Draining), Some(Draining), Some(Succeeded)];
    assert_eq!(states[..8], expected[..8]);
    assert_eq!(fold(dir.path(), 9).unwrap().runs.get(run).unwrap().state, Succeeded);
}

fn id(bits: u128) -> Option<TopicId> {
    TopicId::from_bits(bits)
}

#[test]
fn started_runs_fail_when_the_topic_is_recreated_and_later_ones_do_not() {
    let ledger = Ledger::in_memory(SystemClock::shared());
    start(&ledger, "t");
    assert_eq!(
        (ledger.observe_topic(id(1)), ledger.observe_topic(id(1))),
        (Some(0), Some(0)),
        "the first id does not differ from an earlier one"
    );
    ledger.submit(assigned(0, 0, 1, StartOrigin::Earliest)).unwrap();
    let waits = produced(&ledger, "waits", range(0, 10));
    let elsewhere = ledger.request("its pages are in flight", 1, RunSpec::default()).unwrap().id();
    ledger.submit(Command::StartRun { run: elsewhere }).unwrap();
    let requested = ledger.request("not begun", 1, RunSpec::default()).unwrap().id();
    assert_eq!(ledger.observe_topic(id(2)), Some(1));
    for run in [waits, elsewhere] {
        let error = ledger.run(run).unwrap().error.unwrap();
        assert!(error.retryable && error.message.contains("the topic was re-created"), "{error:?}");
    }
    assert_eq!(ledger.run(requested).unwrap().state, RunState::Requested);
    assert_eq!(ledger.observe_topic(id(1)), None, "a broker that does not know it yet is ignored");
    // What is written of the earlier topic does not count for the new one, except for the clock.
    written(&ledger, 0, 50, 1);
    let new = produced(&ledger, "new", range(0, 10));
    assert_eq!(ledger.run(new).unwrap().state, RunState::Draining);
    assert_eq!(ledger.checkpoints()[&0].write_clock.micros(), 800);
    ledger.submit(assigned(0, 0, 2, StartOrigin::Reset)).unwrap();
    assert_eq!(ledger.run(new).unwrap().state, RunState::Draining, "it is in the new topic, which is read from its start");
    written(&ledger, 0, 10, 2);
    ledger.confirm_topic(id(2), ledger.written());
    assert_eq!(ledger.run(new).unwrap().state, RunState::Succeeded);
}

#[test]
fn a_run_succeeds_once_the_topic_is_confirmed_after_its_last_record_was_written() {
    let ledger = Ledger::in_memory(SystemClock::shared());
    start(&ledger, "t");
    ledger.submit(assigned(0, 0, 1, StartOrigin::Earliest)).unwrap();
    ledger.confirm_topic(id(1), ledger.written());
    let run = produced(&ledger, "k", range(0, 10));
    let before = ledger.written();
    written(&ledger, 0, 10, 1);
    assert_eq!(ledger.run(run).unwrap().state, RunState::Draining, "what was read may be of another topic");
    ledger.confirm_topic(id(1), before);
    assert_eq!(ledger.run(run).unwrap().state, RunState::Draining, "the check began before it was written");
    wait(ledger.topic_check_due(Duration::from_secs(3_600)));
    ledger.confirm_topic(id(2), ledger.written());
    assert_eq!(ledger.run(run).unwrap().state, RunState::Failed, "it is another topic");
    ledger.submit(assigned(0, 0, 2, StartOrigin::Reset)).unwrap();
    let run = produced(&ledger, "again", range(0, 10));
    written(&ledger, 0, 10, 2);
    assert_eq!(ledger.run(run).unwrap().state, RunState::Draining, "the check that found the topic does not confirm its written offsets");
    ledger.confirm_topic(id(2), ledger.written());
    assert_eq!(ledger.run(run).unwrap().state, RunState::Succeeded);
}

#[test]
fn runs_fail_when_the_offsets_or_the_topic_of_the_group_change() {
    let ledger = Ledger::in_memory(SystemClock::shared());
    start(&ledger, "t");
    ledger.submit(assigned(0, 0, 1, StartOrigin::Earliest)).unwrap();
    let first = produced(&ledger, "first", range(0, 10));
    ledger.submit(assigned(0, 0, 2, StartOrigin::Reset)).unwrap();
    let failed = ledger.run(first).unwrap();
    assert!(failed.state == RunState::Failed && failed.error.unwrap().retryable);
    let second = produced(&ledger, "second", range(0, 10));
    start(&ledger, "another");
    assert!(ledger.run(second).unwrap().error.unwrap().message.contains("another"));
    assert!(ledger.checkpoints().is_empty(), "checkpoints are of a topic");
}

#[test]
fn runs_fail_when_another_process_has_started_an_epoch() {
    // Another process was assigned the partition after the group's offsets were removed, or this
    // one was and crashed before it was durable.
    let ledger = Ledger::in_memory(SystemClock::shared());
    start(&ledger, "t");
    ledger.submit(assigned(0, 0, 1, StartOrigin::Earliest)).unwrap();
    let run = produced(&ledger, "k", range(0, 10));
    ledger.submit(assigned(0, 20, 2, StartOrigin::Group)).unwrap();
    assert_eq!(ledger.run(run).unwrap().state, RunState::Failed, "the records up to 20 are not those that it produced");
}

#[test]
fn earlier_written_offsets_count_only_once_the_partition_is_assigned_again() {
    // Until the assignment the topic may be another one, whose offsets name other records.
    let ledger = Ledger::in_memory(SystemClock::shared());
    start(&ledger, "t");
    ledger.submit(assigned(0, 100, 1, StartOrigin::Group)).unwrap();
    start(&ledger, "t");
    let runs = [produced(&ledger, "first", range(0, 5)), produced(&ledger, "second", range(5, 9))];
    assert!(runs.iter().all(|&run| ledger.run(run).unwrap().state == RunState::Draining));
    ledger.submit(assigned(0, 100, 1, StartOrigin::Group)).unwrap();
    assert!(runs.iter().all(|&run| ledger.run(run).unwrap().state == RunState::Succeeded));
}

#[test]
fn a_run_waits_for_later_commits_of_partitions_that_others_read() {
    let ledger = Ledger::in_memory(SystemClock::shared());
    start(&ledger, "t");
    let seen = |offset| Command::ObserveCommitted { checkpoints: [(0, checkpoint(offset, 0, 3))].into_iter().collect() };
    ledger.submit(seen(50)).unwrap();
    assert!(!ledger.waits_for_others());
    let run = produced(&ledger, "k", range(40, 45));
    assert_eq!(ledger.run(run).unwrap().state, RunState::Draining, "an earlier commit may be of another topic");
    assert!(ledger.waits_for_others());
    ledger.submit(seen(44)).unwrap();
    assert_eq!(ledger.run(run).unwrap().state, RunState::Draining);
    ledger.submit(seen(45)).unwrap();
    assert_eq!(ledger.run(run).unwrap().state, RunState::Succeeded);
    assert!(!ledger.waits_for_others());
}

#[test]
fn the_groups_commits_do_not_change_assigned_partitions() {
    let ledger = Ledger::in_memory(SystemClock::shared());
    start(&ledger, "t");
    ledger.submit(assigned(0, 5, 1, StartOrigin::Group)).unwrap();
    ledger.submit(Command::ObserveCommitted { checkpoints: [(0, checkpoint(50, 0, 1))].into_iter().collect() }).unwrap();
    assert_eq!(ledger.checkpoints()[&0].offset, Offset(5));
}

#[test]
fn without_a_consumer_a_run_succeeds_when_it_is_in_the_topic() {
    let ledger = Ledger::in_memory(SystemClock::shared());
    ledger.submit(Command::StartProcess { version: "0".into(), roles: vec![], topic: "t".into(), group: String::new() }).unwrap();
    let run = produced(&ledger, "k", range(0, 3));
    assert_eq!(ledger.run(run).unwrap().state, RunState::Succeeded);
}

#[test]
fn a_batch_of_another_epoch_advances_nothing() {
    let ledger = Ledger::in_memory(SystemClock::shared());
    start(&ledger, "t");
    ledger.submit(assigned(0, 5, 1, StartOrigin::Earliest)).unwrap();
    written(&ledger, 0, 50, 9);
    assert_eq!(ledger.checkpoints()[&0].offset, Offset(5));
}

#[test]
fn journals_of_another_pipeline_a_newer_version_or_without_a_start_are_rejected() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()).unwrap());
    let other = Ledger::open(dir.path(), RealDisk, Settings { pipeline: "orders".into(), ..settings(1) }, SystemClock::shared());
    assert!(other.is_err_and(|error| error.to_string().contains("its own data_dir")));

    let newer = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(newer.path(), RealDisk, settings(1 << 20)).unwrap();
    let mut line = Vec::new();
    frame::encode(br#"{"seq":1,"at":"2030-01-01T00:00:00Z","v":9,"type":"RunStarted","data":{}}"#, &mut line);
    journal.append(line, 1, true);
    drop(journal);
    assert!(open(newer.path()).is_err_and(|error| error.to_string().contains("newer")));

    let headless = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(headless.path()).unwrap();
    let mut text = Vec::new();
    frame::encode(br#"{"segment":4,"format":1,"first":100,"pipeline":"users"}"#, &mut text);
    frame::encode(br#"{"seq":100,"at":"2026-01-01T00:00:00Z","v":1,"type":"PipelineStopped","data":{"clean":true}}"#, &mut text);
    std::fs::write(headless.path().join(journal::segment::file_name(100)), text).unwrap();
    assert!(open(headless.path()).is_err_and(|error| matches!(error, LedgerError::MissingStart { first: 100, .. })));
}

#[test]
fn a_failed_journal_acknowledges_nothing() {
    // The next segment can't be created: the names of all candidates are taken.
    let dir = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(dir.path(), RealDisk, settings(1), SystemClock::shared()).unwrap();
    for first in 2..5 {
        std::fs::create_dir_all(dir.path().join(format!("{first:020}.half")).join("x")).unwrap();
    }
    for n in 0..3 {
        ledger.request(&format!("k{n}"), 1, RunSpec::default()).unwrap();
        let _ = wait(ledger.flushed());
    }
    assert!(wait(async { tokio::time::timeout(Duration::from_secs(20), ledger.failed()).await }).is_ok());
    assert!(wait(ledger.flushed()).is_err());
}

/// A step of a history.
#[derive(Debug, Clone)]
enum Happening {
    Request(u8),
    /// An operator sets the cursor of one of two reads.
    Cursor(u8),
    Run(u8, u8),
    Assigned(Partition, u32),
    Written(Partition, i64, u32),
    Revoked(Partition),
    Started(bool),
    Exited,
    Desired(u8),
}

fn happenings() -> impl Strategy<Value = Vec<Happening>> {
    let one = prop_oneof![
        2 => (0..6u8).prop_map(Happening::Request),
        1 => (0..4u8).prop_map(Happening::Cursor),
        6 => (0..6u8, 0..6u8).prop_map(|(run, what)| Happening::Run(run, what)),
        2 => (0..3, 1..3u32).prop_map(|(partition, epoch)| Happening::Assigned(partition, epoch)),
        4 => (0..3, 0..40i64, 1..3u32).prop_map(|(partition, offset, epoch)| Happening::Written(partition, offset, epoch)),
        1 => (0..3).prop_map(Happening::Revoked),
        1 => any::<bool>().prop_map(Happening::Started),
        1 => Just(Happening::Exited),
        1 => (0..3u8).prop_map(Happening::Desired),
    ];
    prop::collection::vec(one, 1..120)
}

fn happen(ledger: &Ledger, happening: &Happening) {
    let run = |n: u8| ledger.recent(100).get(usize::from(n)).map(|run| run.id);
    match *happening {
        Happening::Request(key) => {
            let read = [None, Some(ReadMode::Again), Some(ReadMode::Continue)][usize::from(key % 3)];
            let spec = RunSpec { params: params(&[("key", &(key % 2).to_string())]), read, ..RunSpec::default() };
            drop(ledger.request(&format!("k{}", key % 4), 1 + u32::from(key), spec));
        }
        Happening::Cursor(key) => {
            let (read, to) = (Read::of(&params(&[("key", &(key % 2).to_string())])), Position::of((key > 1).then_some("set")));
            ledger.submit(Command::SetCursor { read, to, by: "admin".into(), reason: "why".into() }).unwrap();
        }
        Happening::Run(n, what) => {
            let Some(run) = run(n) else { return };
            let mut ranges = Ranges::default();
            ranges.add(i32::from(n % 3), range(0, 1 + i64::from(n)));
            let _ = ledger.submit(match what {
                0 => Command::StartRun { run },
                1 => Command::PageFetched { run, records: 3, cursor: None },
                2 => {
                    let (asked, next) =
                        (ledger.next_position(run), (n > 2).then(|| Position::of((n > 3).then(|| format!("cursor{n}")).as_deref())));
                    Command::PageProduced {
                        run,
                        ranges,
                        produced: 3,
                        rejected: 1,
                        asked,
                        requested: u64::MAX,
                        next,
                        rejects: Rejects::default(),
                        progress: None,
                        validators: None,
                    }
                }
                3 => Command::RunProduced { run, stop: None },
                4 => Command::FailRun {
                    run,
                    error: forebay_schemas::run::RunError { stage: "fetch".into(), message: "no".into(), retryable: true },
                },
                _ => Command::CancelRun { run, cancelled: Cancelled::default() },
            });
        }
        Happening::Assigned(partition, epoch) => {
            let origin = if epoch == 2 { StartOrigin::Reset } else { StartOrigin::Group };
            ledger.submit(assigned(partition, 0, epoch, origin)).unwrap();
        }
        Happening::Written(partition, offset, epoch) => written(ledger, partition, offset, epoch),
        Happening::Revoked(partition) => ledger.record(Event::PartitionsRevoked { partitions: vec![partition] }),
        Happening::Started(another) => start(ledger, if another { "another" } else { "t" }),
        Happening::Desired(n) => {
            let state = [DesiredState::Running, DesiredState::Paused, DesiredState::Drained][usize::from(n)];
            ledger.submit(Command::SetDesiredState { state, by: "operator".into(), reason: "why".into() }).unwrap();
        }
        Happening::Exited => ledger.record(Event::ChildExited { actor: "root/x".into(), incarnation: 1, exit: "panicked".into() }),
    }
}

#[test]
fn a_commit_behind_the_journal_in_the_same_epoch_moves_nothing_back() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path()).unwrap();
    start(&ledger, "t");
    ledger.submit(assigned(0, 0, 1, StartOrigin::Earliest)).unwrap();
    written(&ledger, 0, 7, 1);
    ledger.record(Event::PartitionsRevoked { partitions: vec![0] });
    ledger.submit(Command::ObserveCommitted { checkpoints: [(0, checkpoint(4, 0, 1))].into_iter().collect() }).unwrap();
    assert_eq!(ledger.checkpoints()[&0].offset, Offset(7), "a start at 4 would count its records twice");
    ledger.submit(Command::ObserveCommitted { checkpoints: [(0, checkpoint(9, 0, 1))].into_iter().collect() }).unwrap();
    assert_eq!(ledger.checkpoints()[&0].offset, Offset(9), "another process has written more");
}

#[test]
fn a_snapshot_of_another_version_is_used_only_where_events_are_missing() {
    let dir = tempfile::tempdir().unwrap();
    let open = || Ledger::open(dir.path(), RealDisk, settings(2_000), SystemClock::shared()).unwrap();
    let ledger = open();
    start(&ledger, "t");
    while snapshot::latest(dir.path(), u64::MAX).unwrap().is_none() {
        ledger.record(Event::ChildExited { actor: "root/x".into(), incarnation: 1, exit: "panicked".into() });
        wait(ledger.flushed()).unwrap();
    }
    let live = ledger.state();
    drop(ledger);
    // The other version counted restarts differently, and did not have `desired`.
    let found = snapshot::latest(dir.path(), u64::MAX).unwrap().unwrap();
    let mut state: serde_json::Value = serde_json::from_slice(&found.state).unwrap();
    state["totals"]["restarts"] = 1_000_000.into();
    state.as_object_mut().unwrap().remove("desired");
    let body = serde_json::json!({ "snapshot": 1, "seq": found.seq, "pipeline": "users", "state": state });
    let mut line = Vec::new();
    frame::encode(&serde_json::to_vec(&body).unwrap(), &mut line);
    std::fs::write(dir.path().join(format!("{:020}.snap", found.seq)), line).unwrap();

    assert_eq!(fold(dir.path(), u64::MAX).unwrap(), live);
    std::fs::remove_file(&segment::list(dir.path()).unwrap()[0].path).unwrap();
    assert!(fold(dir.path(), u64::MAX).unwrap().totals.restarts >= 1_000_000);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn the_fold_of_the_journal_equals_the_live_state_whatever_happens_and_wherever_snapshots_are(happenings in happenings()) {
        let dir = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(dir.path(), RealDisk, settings(2_000), SystemClock::shared()).unwrap();
        for happening in &happenings {
            happen(&ledger, happening);
        }
        let live = ledger.state();
        drop(ledger);
        prop_assert_eq!(&fold(dir.path(), u64::MAX).unwrap(), &live);
        if let Some(snapshot) = snapshot::latest(dir.path(), u64::MAX).unwrap() {
            prop_assert!(restore(&snapshot.state, true).is_some(), "a snapshot of this version is used");
        }
        // Without the snapshots the state is the same.
        for entry in std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.extension().is_some_and(|extension| extension == "snap") {
                std::fs::remove_file(entry).unwrap();
            }
        }
        prop_assert_eq!(&fold(dir.path(), u64::MAX).unwrap(), &live);
    }

    #[test]
    fn no_event_makes_a_run_that_has_ended_another(happenings in happenings()) {
        let ledger = Arc::new(Ledger::in_memory(SystemClock::shared()));
        let mut ended = std::collections::HashMap::new();
        for happening in &happenings {
            happen(&ledger, happening);
            for run in ledger.recent(1_000) {
                if let Some(before) = ended.get(&run.id) {
                    prop_assert_eq!(before, &run);
                } else if run.terminal {
                    ended.insert(run.id, run);
                }
            }
        }
    }
}

#[test]
fn a_page_below_a_confirmed_offset_waits_for_another_topic_check() {
    let page = |from| Event::PageProduced {
        run: Uuid::nil(),
        ranges: [(1, Range::of(Offset(from)))].into_iter().collect(),
        produced: 1,
        rejected: 0,
        cursor: None,
        moves: None,
        rejects: Rejects::default(),
    };
    let written = || Some(BTreeMap::from([(0, Offset(9)), (1, Offset(2))]));
    let mut confirmed = written();
    invalidate_confirmed(&page(2), &mut confirmed);
    assert_eq!(confirmed, written(), "a topic appends after what was written of it");
    invalidate_confirmed(&page(0), &mut confirmed);
    assert_eq!(confirmed, Some(BTreeMap::new()), "the topic may be a re-created one");
}
