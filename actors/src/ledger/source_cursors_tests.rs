//! The positions of reads and runs, and whose cursor a page advances.

use forebay_schemas::event::decode;
use forebay_schemas::offset::Ranges;
use forebay_schemas::run::{RunError, RunSpec, RunState};
use forebay_schemas::source_read::{Position, Read, ReadMode};

use uuid::Uuid;

use super::tests::{open, start, wait};
use super::*;
use forebay_kernel::SystemClock;

pub(super) fn params(params: &[(&str, &str)]) -> std::collections::BTreeMap<String, String> {
    params.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// A started run with these params and read mode.
fn run_of(ledger: &Ledger, (key, attempt): (&str, u32), of: &[(&str, &str)], read: Option<ReadMode>) -> Uuid {
    let run = ledger.request(key, attempt, RunSpec { params: params(of), read, ..RunSpec::default() }).unwrap().id();
    ledger.submit(Command::StartRun { run }).unwrap();
    run
}

/// A page of a fetch at its position; `cursor` requests the next one.
fn page(ledger: &Ledger, run: Uuid, cursor: Option<&str>) {
    page_at(ledger, run, ledger.next_position(run), cursor).unwrap();
}

fn page_at(ledger: &Ledger, run: Uuid, asked: Position, cursor: Option<&str>) -> Result<(), Rejection> {
    let next = cursor.map(|cursor| Position::of(Some(cursor)));
    ledger.submit(Command::page_produced(run, Ranges::default(), 0, (asked, u64::MAX), next))
}

#[test]
fn a_page_that_was_requested_before_the_cursor_was_set_does_not_move_it() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path()).unwrap();
    start(&ledger, "t");
    let run = run_of(&ledger, ("k", 1), &[], None);
    let requested = ledger.last_event();
    let page = |requested: u64, next: &str| {
        let next = Some(Position::of(Some(next)));
        ledger.submit(Command::page_produced(run, Ranges::default(), 0, (Position::Begin, requested), next)).unwrap();
    };
    let set = |read: Read| Command::SetCursor { read, to: Position::Begin, by: "admin".into(), reason: "to be read again".into() };
    ledger.submit(set(Read::of(&params(&[("a", "1")])))).unwrap();
    page(requested, "1");
    assert_eq!(kept(&ledger, &[]).as_deref(), Some("1"), "the cursor of another read was set");
    ledger.submit(set(Read::default())).unwrap();
    let requested = ledger.last_event();
    ledger.submit(set(Read::default())).unwrap();
    ledger.submit(set(Read::of(&params(&[("a", "1")])))).unwrap();
    page(requested, "1");
    assert_eq!(kept(&ledger, &[]), None, "although it was at the start already, and another one was set since");
    page(ledger.last_event(), "1");
    assert_eq!(kept(&ledger, &[]).as_deref(), Some("1"));
}

/// A complete run: pages with these cursors, in the topic and in the table.
fn whole(ledger: &Ledger, run: Uuid, cursors: &[&str]) {
    cursors.iter().for_each(|cursor| page(ledger, run, Some(cursor)));
    page(ledger, run, None);
    ledger.submit(Command::RunProduced { run, stop: None }).unwrap();
    assert_eq!(ledger.run(run).unwrap().state, RunState::Succeeded);
}

/// The cursor of a read.
fn kept(ledger: &Ledger, of: &[(&str, &str)]) -> Option<String> {
    ledger.cursors().position(&Read::of(&params(of))).cursor().map(str::to_owned)
}

fn set(ledger: &Ledger, of: &[(&str, &str)], to: Option<&str>) {
    let (read, to) = (Read::of(&params(of)), Position::of(to));
    ledger.submit(Command::SetCursor { read, to, by: "admin".into(), reason: "the API rejects it".into() }).unwrap();
}

#[test]
fn the_cursor_of_the_last_page_in_the_topic_outlives_the_process() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path()).unwrap();
    start(&ledger, "t");
    let run = ledger.request("k", 1, RunSpec::default()).unwrap().id();
    assert!(page_at(&ledger, run, Position::Begin, Some("never")).is_err(), "a page out of turn moves nothing");
    assert_eq!(kept(&ledger, &[]), None);
    ledger.submit(Command::StartRun { run }).unwrap();
    ledger.submit(Command::PageFetched { run, records: 3, cursor: Some("0".into()) }).unwrap();
    assert_eq!(kept(&ledger, &[]), None, "a fetched page is not in the topic yet");
    page(&ledger, run, Some("3"));
    page(&ledger, run, None);
    assert_eq!(kept(&ledger, &[]).as_deref(), Some("3"), "the last page has no cursor");
    page(&ledger, Uuid::now_v7(), Some("6"));
    assert_eq!(kept(&ledger, &[]).as_deref(), Some("6"), "a scheduled fetch continues there");
    wait(ledger.flushed()).unwrap();
    drop(ledger);
    assert_eq!(kept(&open(dir.path()).unwrap(), &[]).as_deref(), Some("6"));
}

#[test]
fn a_read_returns_to_its_start_with_its_last_page_and_the_run_keeps_its_position() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path()).unwrap();
    start(&ledger, "t");
    let last_page = |run: Uuid, asked: Position| {
        ledger.submit(Command::page_produced(run, Ranges::default(), 1, (asked, u64::MAX), Some(Position::Begin))).unwrap();
    };
    let run = run_of(&ledger, ("k", 1), &[], None);
    page(&ledger, run, Some("2"));
    page(&ledger, run, Some("3"));
    assert_eq!(kept(&ledger, &[]).as_deref(), Some("3"));
    last_page(run, Position::of(Some("3")));
    assert_eq!(kept(&ledger, &[]), None, "the next fetch begins at the first page");
    assert_eq!(ledger.next_position(run), Position::of(Some("3")), "a crash before the end of the run repeats its last page only");
    set(&ledger, &[], Some("2"));
    last_page(run, Position::of(Some("3")));
    assert_eq!(kept(&ledger, &[]).as_deref(), Some("2"), "a cursor set meanwhile stays");
    wait(ledger.flushed()).unwrap();
    drop(ledger);
    assert_eq!(kept(&open(dir.path()).unwrap(), &[]).as_deref(), Some("2"));
}

#[test]
fn each_set_of_params_and_the_schedule_has_its_own_cursor() {
    let ledger = Ledger::in_memory(SystemClock::shared());
    let (one, other) = ([("day", "1")], [("day", "2")]);
    whole(&ledger, run_of(&ledger, ("one", 1), &one, None), &["2", "3"]);
    let run = run_of(&ledger, ("other", 1), &other, None);
    assert_eq!(ledger.next_position(run), Position::Begin, "its read has not started");
    assert_eq!(ledger.next_position(Uuid::now_v7()), Position::Begin, "neither has that of the schedule");
    page(&ledger, run, Some("2"));
    page(&ledger, Uuid::now_v7(), Some("20"));
    assert_eq!((kept(&ledger, &one), kept(&ledger, &other), kept(&ledger, &[])), (Some("3".into()), Some("2".into()), Some("20".into())));
    let next = run_of(&ledger, ("one, later", 1), &one, None);
    assert_eq!(ledger.next_position(next), Position::of(Some("3")), "a new key of the same read continues at its cursor");
}

#[test]
fn a_new_attempt_after_a_success_reads_again_and_moves_no_cursor() {
    let ledger = Ledger::in_memory(SystemClock::shared());
    let of = [("day", "1")];
    whole(&ledger, run_of(&ledger, ("before", 1), &of, None), &["2", "3"]);
    whole(&ledger, run_of(&ledger, ("task", 1), &of, None), &["4", "5"]);
    whole(&ledger, run_of(&ledger, ("after", 1), &of, None), &["6"]);
    for attempt in [2, 3] {
        let cleared = run_of(&ledger, ("task", attempt), &of, None);
        assert_eq!(ledger.next_position(cleared), Position::of(Some("3")), "the start of the first attempt, not of the previous one");
        assert!(ledger.run(cleared).unwrap().again);
        whole(&ledger, cleared, &["4", "5", "6"]);
        assert_eq!(kept(&ledger, &of).as_deref(), Some("6"));
    }
}

#[test]
fn a_new_attempt_continues_after_a_cut_and_reads_again_after_a_complete_one() {
    use forebay_schemas::run::{Stop, StopReason};
    let ledger = Ledger::in_memory(SystemClock::shared());
    let first = run_of(&ledger, ("task", 1), &[], None);
    page(&ledger, first, Some("2"));
    page(&ledger, first, Some("3"));
    let stop = Stop { reason: StopReason::MaxPages, complete: false, cursor: Some("3".into()), detail: String::new() };
    ledger.submit(Command::RunProduced { run: first, stop: Some(stop) }).unwrap();
    assert_eq!(ledger.run(first).unwrap().state, RunState::Succeeded);
    let second = run_of(&ledger, ("task", 2), &[], None);
    assert_eq!((ledger.next_position(second), ledger.run(second).unwrap().again), (Position::of(Some("3")), false));
    whole(&ledger, second, &["4"]);
    let cleared = run_of(&ledger, ("task", 3), &[], None);
    assert_eq!((ledger.next_position(cleared), ledger.run(cleared).unwrap().again), (Position::Begin, true));
}

#[test]
fn a_new_attempt_after_a_failure_continues_at_its_cursor_or_position() {
    let ledger = Ledger::in_memory(SystemClock::shared());
    let fail_as = |run, retryable| {
        let error = RunError { stage: "fetch".into(), message: "no".into(), retryable };
        ledger.submit(Command::FailRun { run, error }).unwrap();
    };
    let fail = |run| fail_as(run, true);
    let first = run_of(&ledger, ("task", 1), &[], None);
    page(&ledger, first, Some("2"));
    fail(first);
    let second = run_of(&ledger, ("task", 2), &[], None);
    assert_eq!((ledger.next_position(second), ledger.run(second).unwrap().again), (Position::of(Some("2")), false));
    whole(&ledger, second, &["3"]);
    let cleared = run_of(&ledger, ("task", 3), &[], None);
    assert_eq!(ledger.next_position(cleared), Position::Begin);
    page(&ledger, cleared, Some("2"));
    fail(cleared);
    let retried = run_of(&ledger, ("task", 4), &[], None);
    assert_eq!(ledger.next_position(retried), Position::of(Some("2")), "no other run reads the rest");
    whole(&ledger, retried, &["3"]);
    let cleared = run_of(&ledger, ("task", 5), &[], None);
    assert_eq!(ledger.next_position(cleared), Position::Begin, "the start of the first attempt");
    page(&ledger, cleared, Some("2"));
    fail_as(cleared, false);
    let over = run_of(&ledger, ("task", 6), &[], None);
    assert_eq!((ledger.next_position(over), ledger.run(over).unwrap().again), (Position::Begin, true), "a rejected cursor stays rejected");
    assert_eq!(kept(&ledger, &[]).as_deref(), Some("3"));
}

#[test]
fn a_run_reads_again_or_continues_as_its_spec_says() {
    let ledger = Ledger::in_memory(SystemClock::shared());
    whole(&ledger, run_of(&ledger, ("task", 1), &[], None), &["2", "3"]);
    let again = run_of(&ledger, ("task", 2), &[], Some(ReadMode::Again));
    assert_eq!(ledger.next_position(again), Position::Begin);
    whole(&ledger, again, &["2", "3", "4"]);
    assert_eq!(kept(&ledger, &[]).as_deref(), Some("3"), "it does not move the cursor, not even forward");
    assert_eq!(ledger.next_position(run_of(&ledger, ("task", 3), &[], Some(ReadMode::Continue))), Position::of(Some("3")));
    let other = RunSpec { read: Some(ReadMode::Again), ..RunSpec::default() };
    assert!(matches!(ledger.request("task", 3, other), Err(Rejection::Mismatch(_))), "the same key and attempt is the same run");
}

#[test]
fn after_a_crash_a_run_continues_at_its_own_position() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path()).unwrap();
    whole(&ledger, run_of(&ledger, ("before", 1), &[], None), &["2", "3", "4"]);
    let again = run_of(&ledger, ("again", 1), &[], Some(ReadMode::Again));
    page(&ledger, again, Some("2"));
    let next = run_of(&ledger, ("next", 1), &[], None);
    page(&ledger, next, Some("5"));
    drop(ledger);
    let ledger = open(dir.path()).unwrap();
    page(&ledger, Uuid::now_v7(), Some("6"));
    for (run, at) in [(again, "2"), (next, "5")] {
        assert_eq!(ledger.next_position(run), Position::of(Some(at)));
        ledger.submit(Command::StartRun { run }).unwrap();
        assert_eq!(ledger.next_position(run), Position::of(Some(at)));
    }
    page(&ledger, next, Some("5b"));
    assert_eq!(kept(&ledger, &[]).as_deref(), Some("6"), "a fetch that was overtaken moves it nowhere");
}

#[test]
fn a_running_fetch_does_not_overwrite_a_cursor_that_was_set() {
    let ledger = Ledger::in_memory(SystemClock::shared());
    let scheduled = Uuid::now_v7();
    page(&ledger, scheduled, Some("2"));
    set(&ledger, &[], None);
    page_at(&ledger, scheduled, Position::of(Some("2")), Some("3")).unwrap();
    assert_eq!(kept(&ledger, &[]), None, "the read is at its start, as it was set");
    page_at(&ledger, Uuid::now_v7(), Position::Begin, Some("2")).unwrap();
    assert_eq!(kept(&ledger, &[]).as_deref(), Some("2"), "the next fetch starts there and moves it");
    let run = run_of(&ledger, ("k", 1), &[], None);
    set(&ledger, &[], Some("9"));
    page(&ledger, run, Some("3"));
    assert_eq!(
        (kept(&ledger, &[]).as_deref(), ledger.next_position(run)),
        (Some("9"), Position::of(Some("3"))),
        "the run continues at its position"
    );
}

#[test]
fn another_source_has_its_own_reads_and_the_earlier_ones_are_restored() {
    let ledger = Ledger::in_memory(SystemClock::shared());
    let fetch = |source: &str| ledger.submit(Command::NameSource { source: source.into() }).unwrap();
    let positions = |run| (ledger.next_position(run), kept(&ledger, &[]));
    fetch("one");
    whole(&ledger, run_of(&ledger, ("before", 1), &[], None), &["2"]);
    whole(&ledger, run_of(&ledger, ("task", 1), &[], None), &["3"]);
    let (open, again) = (run_of(&ledger, ("open", 1), &[], None), run_of(&ledger, ("again", 1), &[], Some(ReadMode::Again)));
    page(&ledger, open, Some("4"));
    page(&ledger, again, Some("2"));
    fetch("other");
    assert_eq!(positions(open), (Position::Begin, None), "a cursor of another source does not count");
    assert_eq!(ledger.next_position(again), Position::Begin);
    assert_eq!(
        ledger.next_position(run_of(&ledger, ("task", 2), &[], None)),
        Position::Begin,
        "neither does the start of the first attempt"
    );
    page(&ledger, Uuid::now_v7(), Some("b"));
    for n in 0..cursors::MAX_PREVIOUS_SOURCES - 1 {
        fetch(&n.to_string());
    }
    fetch("one");
    assert_eq!(kept(&ledger, &[]).as_deref(), Some("4"));
    fetch("other");
    assert_eq!(kept(&ledger, &[]).as_deref(), Some("b"));
}

#[test]
fn a_journal_without_a_named_source_belongs_to_that_of_the_file() {
    let ledger = Ledger::in_memory(SystemClock::shared());
    page(&ledger, Uuid::now_v7(), Some("2"));
    ledger.submit(Command::NameSource { source: "one".into() }).unwrap();
    assert_eq!(kept(&ledger, &[]).as_deref(), Some("2"));
}

#[test]
fn the_read_that_moved_first_is_forgotten_and_the_one_without_params_never() {
    let ledger = Ledger::in_memory(SystemClock::shared());
    page(&ledger, Uuid::now_v7(), Some("plain"));
    let most = cursors::MAX_CURSORS;
    for n in 0..=most {
        let n = n.to_string();
        set(&ledger, &[("day", &n)], Some("2"));
        if n == "1" {
            set(&ledger, &[("day", "0")], Some("3"));
        }
    }
    assert_eq!(ledger.cursors().len(), most + 1);
    assert_eq!((kept(&ledger, &[("day", "1")]), kept(&ledger, &[("day", "0")]).as_deref()), (None, Some("3")));
    assert_eq!(kept(&ledger, &[]).as_deref(), Some("plain"));
}

/// A journal of a version before 0.2, with a single cursor for all fetches.
#[test]
fn the_single_cursor_of_an_old_journal_is_that_of_the_read_without_params() {
    let at = "\"at\":\"2026-11-24T10:20:30Z\"";
    let (plain, of_day) = ("0192f0c1-7a00-7000-8000-000000000001", "0192f0c1-7a00-7000-8000-000000000002");
    let requested = |seq: u64, run: &str, more: &str| {
        format!(r#"{{"seq":{seq},{at},"v":2,"type":"RunRequested","data":{{"run":"{run}","key":"k{seq}","attempt":1{more}}}}}"#)
    };
    let started = |seq: u64, run: &str| format!(r#"{{"seq":{seq},{at},"v":1,"type":"RunStarted","data":{{"run":"{run}"}}}}"#);
    let produced = |seq: u64, run: &str, cursor: &str| {
        format!(
            r#"{{"seq":{seq},{at},"v":2,"type":"PageProduced","data":{{"run":"{run}","ranges":{{}},"produced":1,"rejected":0,"cursor":"{cursor}"}}}}"#
        )
    };
    let mut state = State::default();
    for line in [
        requested(1, plain, ""),
        started(2, plain),
        produced(3, plain, "10"),
        requested(4, of_day, r#","params":{"day":"1"}"#),
        started(5, of_day),
        produced(6, of_day, "90"),
    ] {
        state.evolve(&decode(line.as_bytes()).unwrap());
    }
    let id = |text: &str| text.parse::<Uuid>().unwrap();
    let of = |of: &[(&str, &str)]| state.cursors.position(&Read::of(&params(of)));
    assert_eq!(of(&[]), Position::of(Some("10")), "a run with params does not move it");
    assert_eq!(
        (of(&[("day", "1")]), state.next_position(id(of_day))),
        (Position::Begin, Position::Begin),
        "it is unknown what was read of it"
    );
    assert_eq!(state.next_position(id(plain)), Position::of(Some("10")));

    let mut snapshot = serde_json::to_value(&state).unwrap();
    let fields = snapshot.as_object_mut().unwrap();
    for (old, cursor) in [(serde_json::json!("10"), Some("10")), (serde_json::Value::Null, None)] {
        fields.remove("cursors");
        fields.insert("cursor".into(), old);
        let state: State = serde_json::from_value(serde_json::Value::Object(fields.clone())).unwrap();
        assert_eq!(state.cursors.position(&Read::default()), Position::of(cursor));
    }
}
