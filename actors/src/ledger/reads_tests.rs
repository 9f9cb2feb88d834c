//! Where reads and runs are, and whose cursor a page moves.

use forebay_schemas::event::decode;
use forebay_schemas::offset::Ranges;
use forebay_schemas::read::{Position, Read, ReadMode};
use forebay_schemas::rejects::Rejects;
use forebay_schemas::run::{RunError, RunSpec, RunState};

use uuid::Uuid;

use super::tests::{begin, open, wait};
use super::*;
use forebay_kernel::SystemClock;

pub(super) fn params(params: &[(&str, &str)]) -> std::collections::BTreeMap<String, String> {
    params.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// A run with these params, and whether it is to read again.
fn run_of(ledger: &Ledger, (key, attempt): (&str, u32), of: &[(&str, &str)], read: Option<ReadMode>) -> Uuid {
    let run = ledger.request(key, attempt, RunSpec { params: params(of), read, ..RunSpec::default() }).unwrap().id();
    ledger.submit(Command::Start { run }).unwrap();
    run
}

/// A page of a fetch, from where that is; `cursor` is what the next one is to be asked for with.
fn page(ledger: &Ledger, run: Uuid, cursor: Option<&str>) {
    page_at(ledger, run, ledger.begins(run), cursor).unwrap();
}

fn page_at(ledger: &Ledger, run: Uuid, asked: Position, cursor: Option<&str>) -> Result<(), Rejection> {
    let cursor = cursor.map(str::to_owned);
    ledger.submit(Command::PageProduced {
        run,
        ranges: Ranges::default(),
        produced: 0,
        rejected: 0,
        asked,
        cursor,
        rejects: Rejects::default(),
    })
}

/// All of a run: pages up to the one that says these cursors, in the topic and in the table.
fn whole(ledger: &Ledger, run: Uuid, cursors: &[&str]) {
    cursors.iter().for_each(|cursor| page(ledger, run, Some(cursor)));
    page(ledger, run, None);
    ledger.submit(Command::AllProduced { run, stop: None }).unwrap();
    assert_eq!(ledger.run(run).unwrap().state, RunState::Succeeded);
}

/// Where a read is.
fn kept(ledger: &Ledger, of: &[(&str, &str)]) -> Option<String> {
    ledger.cursors().position(&Read::of(&params(of))).cursor().map(str::to_owned)
}

fn set(ledger: &Ledger, of: &[(&str, &str)], to: Option<&str>) {
    let (read, to) = (Read::of(&params(of)), Position::of(to));
    ledger.submit(Command::SetCursor { read, to, by: "admin".into(), reason: "the API refuses it".into() }).unwrap();
}

#[test]
fn the_cursor_is_that_of_the_last_page_in_the_topic_and_outlives_the_process() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path()).unwrap();
    begin(&ledger, "t");
    let run = ledger.request("k", 1, RunSpec::default()).unwrap().id();
    assert!(page_at(&ledger, run, Position::Begin, Some("never")).is_err(), "a page that is out of turn moves nothing");
    assert_eq!(kept(&ledger, &[]), None);
    ledger.submit(Command::Start { run }).unwrap();
    ledger.submit(Command::PageFetched { run, records: 3, cursor: Some("0".into()) }).unwrap();
    assert_eq!(kept(&ledger, &[]), None, "a page that is fetched is not in the topic");
    page(&ledger, run, Some("3"));
    page(&ledger, run, None);
    assert_eq!(kept(&ledger, &[]).as_deref(), Some("3"), "the last page moves it no further");
    page(&ledger, Uuid::now_v7(), Some("6"));
    assert_eq!(kept(&ledger, &[]).as_deref(), Some("6"), "and a scheduled fetch goes on from there");
    wait(ledger.settled()).unwrap();
    drop(ledger);
    assert_eq!(kept(&open(dir.path()).unwrap(), &[]).as_deref(), Some("6"));
}

#[test]
fn runs_with_other_params_and_the_schedule_each_have_a_cursor_of_their_own() {
    let ledger = Ledger::in_memory(SystemClock::shared());
    let (one, other) = ([("day", "1")], [("day", "2")]);
    whole(&ledger, run_of(&ledger, ("one", 1), &one, None), &["2", "3"]);
    let run = run_of(&ledger, ("other", 1), &other, None);
    assert_eq!(ledger.begins(run), Position::Begin, "nothing of its read was read");
    assert_eq!(ledger.begins(Uuid::now_v7()), Position::Begin, "nor of the schedule's");
    page(&ledger, run, Some("2"));
    page(&ledger, Uuid::now_v7(), Some("20"));
    assert_eq!((kept(&ledger, &one), kept(&ledger, &other), kept(&ledger, &[])), (Some("3".into()), Some("2".into()), Some("20".into())));
    let next = run_of(&ledger, ("one, later", 1), &one, None);
    assert_eq!(ledger.begins(next), Position::of(Some("3")), "a new key of the same read goes on where that is");
}

#[test]
fn a_new_attempt_after_success_reads_again_from_where_the_first_began_and_moves_no_cursor() {
    let ledger = Ledger::in_memory(SystemClock::shared());
    let of = [("day", "1")];
    whole(&ledger, run_of(&ledger, ("before", 1), &of, None), &["2", "3"]);
    whole(&ledger, run_of(&ledger, ("task", 1), &of, None), &["4", "5"]);
    whole(&ledger, run_of(&ledger, ("after", 1), &of, None), &["6"]);
    for attempt in [2, 3] {
        let cleared = run_of(&ledger, ("task", attempt), &of, None);
        assert_eq!(ledger.begins(cleared), Position::of(Some("3")), "where the first attempt began, not the one before this");
        assert!(ledger.run(cleared).unwrap().again);
        whole(&ledger, cleared, &["4", "5", "6"]);
        assert_eq!(kept(&ledger, &of).as_deref(), Some("6"));
    }
}

#[test]
fn a_new_attempt_after_one_that_was_cut_short_goes_on_and_one_after_the_whole_reads_again_from_the_first() {
    use forebay_schemas::run::{Stop, StopReason};
    let ledger = Ledger::in_memory(SystemClock::shared());
    let first = run_of(&ledger, ("task", 1), &[], None);
    page(&ledger, first, Some("2"));
    page(&ledger, first, Some("3"));
    let stop = Stop { reason: StopReason::MaxPages, complete: false, cursor: Some("3".into()), detail: String::new() };
    ledger.submit(Command::AllProduced { run: first, stop: Some(stop) }).unwrap();
    assert_eq!(ledger.run(first).unwrap().state, RunState::Succeeded);
    let second = run_of(&ledger, ("task", 2), &[], None);
    assert_eq!((ledger.begins(second), ledger.run(second).unwrap().again), (Position::of(Some("3")), false));
    whole(&ledger, second, &["4"]);
    let cleared = run_of(&ledger, ("task", 3), &[], None);
    assert_eq!((ledger.begins(cleared), ledger.run(cleared).unwrap().again), (Position::Begin, true));
}

#[test]
fn a_new_attempt_after_a_failure_goes_on_where_the_read_is_and_after_one_that_read_again_where_that_was() {
    let ledger = Ledger::in_memory(SystemClock::shared());
    let fail_as = |run, retryable| {
        let error = RunError { stage: "fetch".into(), message: "no".into(), retryable };
        ledger.submit(Command::Fail { run, error }).unwrap();
    };
    let fail = |run| fail_as(run, true);
    let first = run_of(&ledger, ("task", 1), &[], None);
    page(&ledger, first, Some("2"));
    fail(first);
    let second = run_of(&ledger, ("task", 2), &[], None);
    assert_eq!((ledger.begins(second), ledger.run(second).unwrap().again), (Position::of(Some("2")), false));
    whole(&ledger, second, &["3"]);
    let cleared = run_of(&ledger, ("task", 3), &[], None);
    assert_eq!(ledger.begins(cleared), Position::Begin);
    page(&ledger, cleared, Some("2"));
    fail(cleared);
    let retried = run_of(&ledger, ("task", 4), &[], None);
    assert_eq!(ledger.begins(retried), Position::of(Some("2")), "nobody else reads the rest again");
    whole(&ledger, retried, &["3"]);
    let cleared = run_of(&ledger, ("task", 5), &[], None);
    assert_eq!(ledger.begins(cleared), Position::Begin, "where the first attempt began");
    page(&ledger, cleared, Some("2"));
    fail_as(cleared, false);
    let over = run_of(&ledger, ("task", 6), &[], None);
    assert_eq!((ledger.begins(over), ledger.run(over).unwrap().again), (Position::Begin, true), "a cursor that is refused stays refused");
    assert_eq!(kept(&ledger, &[]).as_deref(), Some("3"));
}

#[test]
fn a_run_that_is_told_to_reads_again_from_the_begin_and_one_that_is_told_to_continue_does_after_success_too() {
    let ledger = Ledger::in_memory(SystemClock::shared());
    whole(&ledger, run_of(&ledger, ("task", 1), &[], None), &["2", "3"]);
    let again = run_of(&ledger, ("task", 2), &[], Some(ReadMode::Again));
    assert_eq!(ledger.begins(again), Position::Begin);
    whole(&ledger, again, &["2", "3", "4"]);
    assert_eq!(kept(&ledger, &[]).as_deref(), Some("3"), "it moves the cursor nowhere, not ahead either");
    assert_eq!(ledger.begins(run_of(&ledger, ("task", 3), &[], Some(ReadMode::Continue))), Position::of(Some("3")));
    let other = RunSpec { read: Some(ReadMode::Again), ..RunSpec::default() };
    assert!(matches!(ledger.request("task", 3, other), Err(Rejection::Mismatch(_))), "the same key and attempt is the same run");
}

#[test]
fn a_run_goes_on_at_its_own_page_after_a_crash_whatever_became_of_its_read() {
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
        assert_eq!(ledger.begins(run), Position::of(Some(at)));
        ledger.submit(Command::Start { run }).unwrap();
        assert_eq!(ledger.begins(run), Position::of(Some(at)));
    }
    page(&ledger, next, Some("5b"));
    assert_eq!(kept(&ledger, &[]).as_deref(), Some("6"), "and a fetch that was overtaken sets nobody back");
}

#[test]
fn a_cursor_that_is_set_while_a_fetch_is_under_way_is_not_overwritten_by_it() {
    let ledger = Ledger::in_memory(SystemClock::shared());
    let scheduled = Uuid::now_v7();
    page(&ledger, scheduled, Some("2"));
    set(&ledger, &[], None);
    page_at(&ledger, scheduled, Position::of(Some("2")), Some("3")).unwrap();
    assert_eq!(kept(&ledger, &[]), None, "the read is at its begin, as somebody said");
    page_at(&ledger, Uuid::now_v7(), Position::Begin, Some("2")).unwrap();
    assert_eq!(kept(&ledger, &[]).as_deref(), Some("2"), "the next fetch begins there, and moves it");
    let run = run_of(&ledger, ("k", 1), &[], None);
    set(&ledger, &[], Some("9"));
    page(&ledger, run, Some("3"));
    assert_eq!((kept(&ledger, &[]).as_deref(), ledger.begins(run)), (Some("9"), Position::of(Some("3"))), "the run goes on where it is");
    let last = ledger.last_event();
    set(&ledger, &[], Some("9"));
    assert_eq!(ledger.last_event(), last, "it is there already");
}

#[test]
fn another_source_has_reads_of_its_own_and_the_one_before_is_found_where_it_was() {
    let ledger = Ledger::in_memory(SystemClock::shared());
    let fetch = |source: &str| ledger.submit(Command::Fetch { source: source.into() }).unwrap();
    let places = |run| (ledger.begins(run), kept(&ledger, &[]));
    fetch("one");
    whole(&ledger, run_of(&ledger, ("before", 1), &[], None), &["2"]);
    whole(&ledger, run_of(&ledger, ("task", 1), &[], None), &["3"]);
    let (open, again) = (run_of(&ledger, ("open", 1), &[], None), run_of(&ledger, ("again", 1), &[], Some(ReadMode::Again)));
    page(&ledger, open, Some("4"));
    page(&ledger, again, Some("2"));
    fetch("other");
    assert_eq!(places(open), (Position::Begin, None), "what was a cursor there is none here");
    assert_eq!(ledger.begins(again), Position::Begin);
    assert_eq!(ledger.begins(run_of(&ledger, ("task", 2), &[], None)), Position::Begin, "nor is where the first attempt began");
    page(&ledger, Uuid::now_v7(), Some("b"));
    for n in 0..cursors::SOURCES_MOST - 1 {
        fetch(&n.to_string());
    }
    fetch("one");
    assert_eq!(kept(&ledger, &[]).as_deref(), Some("4"));
    fetch("other");
    assert_eq!(kept(&ledger, &[]).as_deref(), Some("b"));
}

#[test]
fn a_journal_in_which_the_source_has_no_name_is_of_the_one_that_the_file_has() {
    let ledger = Ledger::in_memory(SystemClock::shared());
    page(&ledger, Uuid::now_v7(), Some("2"));
    ledger.submit(Command::Fetch { source: "one".into() }).unwrap();
    assert_eq!(kept(&ledger, &[]).as_deref(), Some("2"));
}

#[test]
fn of_too_many_reads_the_one_that_moved_first_is_forgotten_which_is_said_and_the_one_without_params_never() {
    let ledger = Ledger::in_memory(SystemClock::shared());
    page(&ledger, Uuid::now_v7(), Some("plain"));
    let most = cursors::CURSORS_MOST;
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

/// A journal as versions before 0.2 wrote it, with the one cursor that all fetches had.
#[test]
fn an_old_journal_folds_and_its_one_cursor_is_that_of_the_read_without_params() {
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
    assert_eq!((of(&[("day", "1")]), state.begins(id(of_day))), (Position::Begin, Position::Begin), "nobody knows what of it was read");
    assert_eq!(state.begins(id(plain)), Position::of(Some("10")));

    let mut snapshot = serde_json::to_value(&state).unwrap();
    let fields = snapshot.as_object_mut().unwrap();
    for (old, cursor) in [(serde_json::json!("10"), Some("10")), (serde_json::Value::Null, None)] {
        fields.remove("cursors");
        fields.insert("cursor".into(), old);
        let state: State = serde_json::from_value(serde_json::Value::Object(fields.clone())).unwrap();
        assert_eq!(state.cursors.position(&Read::default()), Position::of(cursor));
    }
}
