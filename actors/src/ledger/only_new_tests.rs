//! Reads that ask only for what is new: their watermarks and their validators.

use forebay_schemas::event::Event;
use forebay_schemas::offset::Ranges;
use forebay_schemas::rejects::Rejects;
use forebay_schemas::run::RunSpec;
use forebay_schemas::source_read::{Position, Read, ReadMode, Validators};
use forebay_schemas::watermark::Pass;
use uuid::Uuid;

use super::*;
use forebay_kernel::SystemClock;

fn ledger() -> Ledger {
    let ledger = Ledger::in_memory(SystemClock::shared());
    ledger.submit(Command::NameSource { source: "one".into() }).unwrap();
    ledger
}

/// A started run of the read without params.
fn run_of(ledger: &Ledger, key: &str, attempt: u32, read: Option<ReadMode>) -> Uuid {
    let run = ledger.request(key, attempt, RunSpec { read, ..RunSpec::default() }).unwrap().id();
    ledger.submit(Command::StartRun { run }).unwrap();
    run
}

/// A page of a fetch at its position.
fn page(ledger: &Ledger, run: Uuid, next: Option<Position>, progress: Option<PassProgress>, validators: Option<Validators>) {
    let (asked, requested) = (ledger.next_position(run), ledger.last_event());
    let (ranges, rejects) = (Ranges::default(), Rejects::default());
    let (progress, validators) = (progress.map(Box::new), validators.map(Box::new));
    let page = Command::PageProduced { run, ranges, produced: 1, rejected: 0, asked, requested, next, rejects, progress, validators };
    ledger.submit(page).unwrap();
}

/// The first page of a pass, which has another one.
fn first_page(ledger: &Ledger, run: Uuid) {
    let pass = Some(Pass { began: chrono::DateTime::UNIX_EPOCH, asked: None, reached: Some("1".into()) });
    page(ledger, run, Some(Position::of(Some("2"))), Some(PassProgress { pass, ..PassProgress::default() }), None);
}

/// The last page of a pass.
fn last_page(ledger: &Ledger, run: Uuid) {
    page(ledger, run, Some(Position::Begin), Some(PassProgress { at: Some("9".into()), ..PassProgress::default() }), None);
}

/// What an answer with this `ETag` says.
fn tag(etag: &str) -> Option<Validators> {
    Some(Validators { etag: Some(etag.to_owned()), last_modified: None })
}

#[test]
fn a_run_whose_pass_is_complete_begins_another_one_after_a_crash() {
    let ledger = ledger();
    let run = run_of(&ledger, "k", 1, None);
    first_page(&ledger, run);
    assert_eq!(ledger.next_position(run), Position::of(Some("2")), "a crash before the end continues the pass");
    last_page(&ledger, run);
    assert_eq!(ledger.next_position(run), Position::Begin, "page 2 would be asked for from the new watermark");
    assert_eq!(ledger.watermark_of(run).unwrap().at.as_deref(), Some("9"));
}

#[test]
fn a_cleared_run_that_began_within_a_pass_reads_again_from_the_first_page() {
    let ledger = ledger();
    first_page(&ledger, Uuid::now_v7());
    let run = run_of(&ledger, "task", 1, None);
    assert_eq!(ledger.next_position(run), Position::of(Some("2")));
    last_page(&ledger, run);
    ledger.submit(Command::RunProduced { run, stop: None }).unwrap();
    let cleared = run_of(&ledger, "task", 2, None);
    assert!(ledger.run(cleared).unwrap().again);
    assert_eq!(ledger.next_position(cleared), Position::Begin, "page 2 was one of what was new then");
}

#[test]
fn a_source_that_is_fetched_from_again_begins_its_passes_over() {
    let ledger = ledger();
    first_page(&ledger, Uuid::now_v7());
    for source in ["other", "one"] {
        ledger.submit(Command::NameSource { source: source.into() }).unwrap();
    }
    let next = Uuid::now_v7();
    assert_eq!((ledger.next_position(next), ledger.watermark_of(next)), (Position::Begin, None));
}

#[test]
fn validators_are_forgotten_when_another_answer_comes_and_known_when_it_is_in_kafka() {
    let ledger = ledger();
    page(&ledger, run_of(&ledger, "one", 1, None), None, None, tag("1"));
    let scheduled = Uuid::now_v7();
    assert_eq!(ledger.validators_of(scheduled), tag("1"));
    assert_eq!(ledger.forget_validators(scheduled, tag("1")), None, "the same answer again changes nothing");
    let again = run_of(&ledger, "again", 1, Some(ReadMode::Again));
    assert_eq!(ledger.forget_validators(again, tag("2")), Some(ledger.last_event()), "also by a run that reads again");
    page(&ledger, again, None, None, tag("2"));
    assert_eq!(ledger.validators_of(scheduled), None, "the topic may have any of the two answers");
    assert_eq!(ledger.forget_validators(scheduled, tag("2")), None, "there is nothing left to forget");
    page(&ledger, scheduled, None, None, tag("2"));
    assert_eq!(ledger.validators_of(scheduled), tag("2"));
}

#[test]
fn a_reset_makes_a_conditional_fetch_ask_without_a_condition() {
    let ledger = ledger();
    let scheduled = Uuid::now_v7();
    page(&ledger, scheduled, None, None, tag("1"));
    let reset = |read| Command::SetCursor { read, to: Position::Begin, by: "admin".into(), reason: "the topic was deleted".into() };
    ledger.submit(reset(Read::of(&[("a".to_owned(), "1".to_owned())].into()))).unwrap();
    assert_eq!(ledger.validators_of(scheduled), tag("1"), "that was another read");
    ledger.submit(reset(Read::default())).unwrap();
    assert_eq!(ledger.validators_of(scheduled), None);
}

#[test]
fn a_snapshot_of_a_version_with_one_set_cursor_is_read() {
    let mut old = serde_json::to_value(State::default()).unwrap();
    old["cursor_set"] = serde_json::json!(["a=1", 7]);
    let mut state: State = serde_json::from_value(old).unwrap();
    assert!(!state.cursor_set.is_empty());
    let started = Event::PipelineStarted { version: "1".into(), roles: vec![], topic: "t".into(), group: "g".into() };
    state.evolve(&forebay_schemas::event::Recorded::new(1, chrono::DateTime::UNIX_EPOCH, started));
    assert!(state.cursor_set.is_empty(), "no page is under way in a new process");
}
