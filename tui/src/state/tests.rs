//! Tests of the whole model.

use std::sync::Arc;
use std::time::{Duration, Instant};

use forebay_schemas::api::LogLine;
use forebay_schemas::offset::Offset;
use forebay_schemas::snapshot::ActorState;
use proptest::prelude::*;

use super::*;
use crate::test_data::{self, any_events};

fn model(now: Instant) -> Model {
    let mut model = Model::new(SourceKind::Process, false, false);
    model.update(Update::Snapshot(Arc::new(test_data::busy())), now);
    model
}

fn arcs(events: &[Recorded]) -> Vec<Arc<Recorded>> {
    events.iter().cloned().map(Arc::new).collect()
}

fn with_history(events: usize) -> Model {
    let now = Instant::now();
    let mut model = Model::new(SourceKind::Process, false, false);
    model.update(Update::Events(arcs(&test_data::history(events))), now);
    model.update(Update::Snapshot(Arc::new(test_data::busy())), now);
    model
}

#[test]
fn a_model_is_connecting_then_live_then_stale_then_live_again() {
    let now = Instant::now();
    let mut model = Model::new(SourceKind::Process, false, false);
    assert_eq!(model.link(now), Link::Connecting(None));
    model.update(Update::SourceFailed("refused".to_owned()), now);
    assert_eq!(model.link(now), Link::Connecting(Some("refused".to_owned())));
    model.update(Update::Snapshot(Arc::new(test_data::busy())), now);
    assert_eq!(model.link(now + Duration::from_millis(1_999)), Link::Live);
    model.update(Update::SourceFailed("timed out".to_owned()), now);
    let later = now + Duration::from_secs(12);
    assert_eq!(model.link(later), Link::Stale(Duration::from_secs(12), Some("timed out".to_owned())));
    model.update(Update::Snapshot(Arc::new(test_data::busy())), later);
    assert_eq!(model.link(later), Link::Live);
}

#[test]
fn a_frozen_view_keeps_its_moment_while_snapshots_arrive() {
    let now = Instant::now();
    let mut model = model(now);
    model.perform(Action::Freeze);
    model.update(Update::Snapshot(Arc::new(test_data::later(30_000))), now);
    assert_eq!(model.shown().newest().unwrap().at, test_data::busy().at);
    assert_eq!(model.behind().unwrap().1.num_seconds(), 30);
    model.perform(Action::Freeze);
    assert_eq!(model.shown().newest().unwrap().at, test_data::later(30_000).at);
    assert_eq!(model.behind(), None);
}

#[test]
fn there_is_nothing_to_freeze_before_the_first_snapshot() {
    let mut model = Model::new(SourceKind::Process, false, false);
    model.perform(Action::Freeze);
    model.perform(Action::Step(-1));
    assert!(model.frozen().is_none());
}

#[test]
fn the_selection_stays_on_its_item_while_rows_come_and_go() {
    let now = Instant::now();
    let mut model = model(now);
    model.perform(Action::Show(Screen::Batches));
    model.perform(Action::Move(1));
    assert_eq!(model.selected(), Some(RowId::Batch(4_710)));
    let mut next = test_data::later(500);
    let mut newer = next.batches[0].clone();
    newer.id = 4_712;
    next.batches.insert(0, newer);
    model.update(Update::Snapshot(Arc::new(next)), now);
    assert_eq!((model.selected(), model.cursor(List::Batches)), (Some(RowId::Batch(4_710)), 2));
    model.perform(Action::First);
    assert_eq!(model.selected(), Some(RowId::Batch(4_712)));
}

#[test]
fn the_cursor_stays_within_the_rows_and_each_list_has_its_own() {
    let mut model = model(Instant::now());
    model.perform(Action::Move(-1));
    assert_eq!(model.cursor(List::Partitions), 0);
    model.perform(Action::Last);
    assert_eq!(model.cursor(List::Partitions), 3);
    model.perform(Action::Move(1));
    model.perform(Action::Move(-1));
    assert_eq!(model.cursor(List::Partitions), 2);
    model.perform(Action::NextPanel);
    assert_eq!((model.list(), model.cursor(List::Actors)), (List::Actors, 8), "the writer, which waits");
    model.perform(Action::PreviousPanel);
    assert_eq!((model.list(), model.cursor(List::Partitions)), (List::Partitions, 2));
    model.perform(Action::PreviousPanel);
    assert_eq!(model.list(), List::Batches);
}

#[test]
fn rows_are_filtered_and_sorted() {
    let mut model = model(Instant::now());
    model.perform(Action::Show(Screen::Actors));
    model.perform(Action::Filter);
    "waiting".chars().for_each(|c| model.press(line_editor::EditKey::Char(c)));
    assert_eq!(model.selected(), Some(RowId::Actor("root/egress/writer".to_owned())));
    assert_eq!(model.len(List::Actors), 1);
    model.press(line_editor::EditKey::Escape);
    assert_eq!(model.len(List::Actors), 13);
    model.perform(Action::Show(Screen::Topics));
    model.perform(Action::Sort);
    let first = |model: &Model| model.visible_rows(List::Partitions)[0];
    assert_eq!(first(&model), 3, "the greatest lag");
    model.perform(Action::Reverse);
    assert_eq!(first(&model), 2);
}

#[test]
fn an_earlier_moment_is_shown_as_events_decided_it_and_the_rest_as_unknown() {
    let mut model = with_history(60);
    let restart = (0..60).find(|&at| model.timeline().get(at).is_some_and(|event| event.event.kind() == "RestartScheduled")).unwrap();
    model.go_to_index(restart);
    let snapshot = model.shown().newest().unwrap();
    let writer = snapshot.actors.iter().find(|actor| actor.path == "root/egress/writer").unwrap();
    assert_eq!((writer.state, writer.incarnation), (ActorState::Restarting, 1));
    assert!(!model.measured(), "no snapshot was taken then");
    assert!(snapshot.edges.is_empty() && snapshot.store.is_none());
    model.perform(Action::Step(1));
    let snapshot = model.shown().newest().unwrap();
    let writer = snapshot.actors.iter().find(|actor| actor.path == "root/egress/writer").unwrap();
    assert_eq!((writer.state, writer.incarnation), (ActorState::Up, 2));
    model.perform(Action::Live);
    assert!(model.measured() && model.frozen().is_none());
}

#[test]
fn an_earlier_moment_shows_measurements_if_a_sample_is_near() {
    let now = Instant::now();
    let mut model = Model::new(SourceKind::Process, false, false);
    let history = test_data::history(200);
    model.update(Update::Events(arcs(&history)), now);
    for second in 0..20 {
        let mut snapshot = test_data::later(second * 1_000);
        snapshot.started_at = history[0].at;
        snapshot.at = history[0].at + chrono::TimeDelta::seconds(second);
        model.update(Update::Snapshot(Arc::new(snapshot)), now);
    }
    model.go_to_index(100);
    assert!(model.measured());
    let snapshot = model.shown().newest().unwrap();
    assert_eq!(snapshot.at, history[0].at + chrono::TimeDelta::seconds(10));
    assert_eq!(snapshot.totals, model.projection().totals, "events decide totals");
    assert!(!snapshot.edges.is_empty() && model.shown().rate(|snapshot| snapshot.totals.pages).is_some());
}

#[test]
fn steps_over_batches_and_minutes_stop_at_both_ends() {
    let mut model = with_history(400);
    model.perform(Action::StepBatch(false));
    assert!(matches!(model.frozen().unwrap().event.as_ref().unwrap().event, forebay_schemas::event::Event::BatchWritten { .. }));
    let seq = model.frozen().unwrap().seq;
    model.perform(Action::StepBatch(false));
    model.perform(Action::StepBatch(true));
    assert_eq!(model.frozen().unwrap().seq, seq);
    model.perform(Action::StepSeconds(-60));
    assert_eq!(model.frozen().unwrap().seq, 1, "the history is 40 s long");
    model.perform(Action::Step(-1));
    assert_eq!(model.frozen().unwrap().seq, 1);
    model.perform(Action::Step(1_000));
    assert_eq!(model.frozen().unwrap().seq, 400);
}

#[test]
fn a_journal_alone_is_shown_as_it_grows() {
    let now = Instant::now();
    let mut model = Model::new(SourceKind::Journal, false, false);
    let history = test_data::history(300);
    model.update(Update::Events(arcs(&history[..200])), now);
    let snapshot = model.newest().unwrap();
    assert_eq!((snapshot.topic.as_str(), snapshot.seq, snapshot.runs.is_empty()), ("users_stream", 200, false));
    assert!(model.shown().rate(|snapshot| snapshot.totals.written).is_some_and(|rate| rate > 0.0));
    model.update(Update::Events(arcs(&history[200..])), now);
    assert_eq!(model.newest().unwrap().seq, 300);
    assert!(!model.measured());
}

#[test]
fn the_filter_of_the_journal_also_applies_to_new_events() {
    let now = Instant::now();
    let mut model = Model::new(SourceKind::Journal, false, false);
    let history = test_data::history(300);
    model.update(Update::Events(arcs(&history[..150])), now);
    model.set_filter(List::Events, "ChildExited".to_owned());
    model.update(Update::Events(arcs(&history[150..])), now);
    let expected: Vec<u64> = history.iter().filter(|event| event.event.kind() == "ChildExited").map(|event| event.seq).collect();
    let rows: Vec<u64> = (0..model.len(List::Events)).map(|row| model.event_row(row).unwrap().seq).collect();
    assert_eq!(rows, expected);
}

#[test]
fn a_replaced_journal_starts_a_new_history() {
    let mut model = with_history(50);
    model.update(Update::JournalReplaced, Instant::now());
    assert_eq!(model.timeline().len(), 0);
    model.update(Update::Events(arcs(&test_data::history(3))), Instant::now());
    assert_eq!(model.timeline().head().seq, 3);
}

#[test]
fn dead_letters_are_requested_again_when_there_are_more() {
    let now = Instant::now();
    let mut model = Model::new(SourceKind::Process, true, false);
    let snapshot = |rejected: u64| {
        let mut snapshot = test_data::busy();
        snapshot.totals.rejected = rejected;
        Update::Snapshot(Arc::new(snapshot))
    };
    let answer = |total: u64| {
        Update::Response(ApiResponse::DeadLetters(Ok(Box::new(DeadLetters {
            topic: "users_stream.dead".to_owned(),
            total,
            read: 0,
            letters: Vec::new(),
        }))))
    };
    let asked =
        |model: &mut Model| model.effects().iter().filter(|effect| matches!(effect, Effect::Request(ApiRequest::DeadLetters))).count();
    model.update(snapshot(12), now);
    model.perform(Action::Show(Screen::DeadLetters));
    assert_eq!(asked(&mut model), 1);
    model.update(answer(12), now);
    model.update(snapshot(12), now);
    assert_eq!(asked(&mut model), 0, "there are no more");
    model.update(snapshot(13), now);
    model.update(snapshot(14), now);
    assert_eq!(asked(&mut model), 1, "one question at a time");
    assert!(matches!(&model.api_data.dead_letters, Some(Ok(letters)) if letters.total == 12));
    model.update(answer(13), now);
    assert!(matches!(&model.api_data.dead_letters, Some(Ok(letters)) if letters.total == 13));
    assert_eq!(asked(&mut model), 1, "there was one more by then");
}

#[test]
fn records_and_dead_letters_of_another_pipeline_are_dropped() {
    let now = Instant::now();
    let mut model = Model::new(SourceKind::Process, true, false);
    let page = |key: &str| {
        let record = RecordView {
            partition: 0,
            offset: Offset(7),
            timestamp_ms: 1,
            key: Some(key.to_owned()),
            value: serde_json::Value::Null,
            value_bytes: 4,
            truncated: false,
            headers: Default::default(),
            headers_left_out: None,
        };
        Update::Response(ApiResponse::Records(Ok(Records { topic: "users_stream".to_owned(), records: vec![record] })))
    };
    let letters = DeadLetters { topic: "users_stream.dead".to_owned(), total: 3, read: 0, letters: Vec::new() };
    model.update(page("before"), now);
    model.update(Update::Response(ApiResponse::DeadLetters(Ok(Box::new(letters)))), now);
    model.update(Update::JournalReplaced, now);
    assert!(model.api_data.dead_letters.is_none());
    model.update(page("after"), now);
    let keys: Vec<_> = model.api_data.records.iter().map(|record| record.key.as_deref()).collect();
    assert_eq!(keys, [Some("after")]);
}

#[test]
fn a_viewer_requests_nothing_that_changes_the_pipeline() {
    for operate in [false, true] {
        let mut model = Model::new(SourceKind::Process, true, operate);
        model.update(Update::Snapshot(Arc::new(test_data::busy())), Instant::now());
        model.update(Update::Response(ApiResponse::WhoAmI(Ok(WhoAmI { role: Role::Viewer, by: "token".to_owned() }))), Instant::now());
        for screen in Screen::ALL {
            model.perform(Action::Show(screen));
            for action in [Action::Pause, Action::Drain, Action::Restart, Action::Cancel, Action::Redrive] {
                model.perform(action);
                assert!(model.dialog.is_none() && model.message.as_ref().is_some_and(|message| !message.good), "{action:?} on {screen:?}");
            }
        }
        for command in ["pause", "resume", "drain", "restart writer", "cancel manual", "redrive", "replay earliest"] {
            model.perform(Action::Palette);
            command.chars().for_each(|c| model.press(line_editor::EditKey::Char(c)));
            model.press(line_editor::EditKey::Enter);
            assert!(model.dialog.is_none() && model.message.as_ref().is_some_and(|message| !message.good), "{command}");
        }
        let changes = |effect: &Effect| matches!(effect, Effect::Request(ApiRequest::Operate(_) | ApiRequest::Plan(..)));
        assert!(!model.effects().iter().any(changes));
    }
}

#[test]
fn log_lines_are_requested_on_their_screen_and_always_while_recording() {
    let requested = |model: &mut Model| {
        model.update(Update::Snapshot(Arc::new(test_data::busy())), Instant::now());
        model.effects().iter().any(|effect| matches!(effect, Effect::Request(ApiRequest::Logs(0))))
    };
    let mut model = Model::new(SourceKind::Process, true, false);
    assert!(!requested(&mut model));
    model.perform(Action::Show(Screen::Logs));
    assert_eq!(model.effects(), [Effect::Request(ApiRequest::Logs(0))]);
    let mut recorded = Model { recorded: true, ..Model::new(SourceKind::Process, true, false) };
    assert!(requested(&mut recorded) && !requested(&mut recorded), "once, until there is an answer");
}

#[test]
fn records_are_requested_once_per_snapshot() {
    let mut model = Model::new(SourceKind::Process, true, false);
    model.perform(Action::Show(Screen::Records));
    for _ in 0..2 {
        model.update(Update::Snapshot(Arc::new(test_data::busy())), Instant::now());
        assert_eq!(model.effects(), [Effect::Request(ApiRequest::Records)]);
        let none = Records { topic: "users_stream".to_owned(), records: Vec::new() };
        model.update(Update::Response(ApiResponse::Records(Ok(none))), Instant::now());
        assert_eq!(model.effects(), []);
    }
}

#[test]
fn the_log_follows_its_newest_line_until_the_cursor_leaves_it() {
    let mut model = with_history(600);
    model.update(Update::Response(ApiResponse::Logs(Ok(test_data::logs()))), Instant::now());
    model.perform(Action::Show(Screen::Logs));
    let since = test_data::logs().since;
    assert_eq!(model.selected(), Some(RowId::Log(since, 10)));
    model.perform(Action::Move(-1));
    model.update(
        Update::Response(ApiResponse::Logs(Ok(Logs { lines: vec![test_data::log_line(11, "x")], upto: 11, lost: 0, since }))),
        Instant::now(),
    );
    assert_eq!((model.selected(), model.follow), (Some(RowId::Log(since, 9)), false));
    model.perform(Action::Follow);
    assert_eq!(model.selected(), Some(RowId::Log(since, 11)));
    model.perform(Action::First);
    model.perform(Action::Level);
    assert_eq!(model.len(List::Logs), 3);
    model.perform(Action::Last);
    model.perform(Action::Enter);
    model.perform(Action::Enter);
    assert_eq!(model.details, [RowId::Log(since, 9), RowId::Actor("root/egress/writer".to_owned())]);
}

#[test]
fn a_log_line_leads_to_its_moment_and_shows_the_lines_until_then() {
    let mut model = with_history(60);
    let at = |index: usize, millis: i64| model.timeline().get(index).unwrap().at + chrono::TimeDelta::milliseconds(millis);
    let times = [at(10, 5), at(30, 50), at(50, 0)];
    let lines = (1..).zip(times).map(|(seq, timestamp)| LogLine { timestamp, ..test_data::log_line(seq, "said") }).collect();
    let since = test_data::logs().since;
    model.update(Update::Response(ApiResponse::Logs(Ok(Logs { lines, upto: 3, lost: 0, since }))), Instant::now());
    model.perform(Action::Show(Screen::Logs));
    model.perform(Action::Move(-1));
    model.perform(Action::GoToSelected);
    let frozen = model.frozen().unwrap();
    assert_eq!((frozen.seq, model.len(List::Logs), model.selected()), (32, 2, Some(RowId::Log(since, 2))));
    model.perform(Action::Step(-1));
    assert_eq!(model.len(List::Logs), 2, "it was said before the next event");
    model.perform(Action::Step(-1));
    assert_eq!((model.len(List::Logs), model.selected()), (1, Some(RowId::Log(since, 1))));
    model.perform(Action::Live);
    assert_eq!(model.len(List::Logs), 3);
}

#[test]
fn an_operation_needs_a_reason_and_is_sent_once() {
    let mut model = Model::new(SourceKind::Process, true, true);
    assert_eq!(model.effects(), [Effect::Request(ApiRequest::WhoAmI)]);
    model.update(Update::Snapshot(Arc::new(test_data::busy())), Instant::now());
    model.update(Update::Response(ApiResponse::WhoAmI(Ok(WhoAmI { role: Role::Admin, by: "loopback".to_owned() }))), Instant::now());
    model.perform(Action::Pause);
    model.press(line_editor::EditKey::Enter);
    assert!(model.dialog.as_ref().unwrap().error.as_ref().unwrap().contains("enter a reason"));
    "night".chars().for_each(|c| model.press(line_editor::EditKey::Char(c)));
    model.press(line_editor::EditKey::Enter);
    let effects = model.effects();
    assert!(
        matches!(&effects[..], [Effect::Request(ApiRequest::Operate(order))] if order.reason == "night" && order.pipeline == "users"),
        "{effects:?}"
    );
    assert!(model.dialog.is_none());
    // Only a live view can be operated.
    model.perform(Action::Freeze);
    model.perform(Action::Pause);
    assert!(model.dialog.is_none());
}

#[test]
fn a_selection_is_exported_with_its_moment() {
    let mut model = with_history(40);
    model.perform(Action::Show(Screen::Journal));
    model.perform(Action::Export);
    let effects = model.effects();
    let [Effect::Save(name, text)] = &effects[..] else { panic!("{effects:?}") };
    assert_eq!(name, "forebay-event-40-at-40.json");
    let value: serde_json::Value = serde_json::from_str(text).unwrap();
    assert_eq!((value["seq"].as_u64(), value["selection"]["seq"].as_u64()), (Some(40), Some(40)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn stepping_back_and_forward_again_is_the_identity(events in any_events(2..400), from in 0.0..1.0_f64, by in 1..60_isize) {
        let now = Instant::now();
        let mut model = Model::new(SourceKind::Journal, false, false);
        model.update(Update::Events(arcs(&events)), now);
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index below a few hundred")]
        let from = (from * events.len() as f64) as usize;
        model.go_to_index(from);
        let (seq, projection, snapshot) = (model.frozen().unwrap().seq, model.projection().clone(), model.shown().newest().cloned());
        let by = by.min(from.cast_signed());
        (0..by).for_each(|_| model.perform(Action::Step(-1)));
        (0..by).for_each(|_| model.perform(Action::Step(1)));
        prop_assert_eq!(model.frozen().unwrap().seq, seq);
        prop_assert_eq!(model.projection(), &projection);
        prop_assert_eq!(model.shown().newest().cloned(), snapshot);
    }
}

#[test]
fn no_file_of_the_state_imports_the_view() {
    let module = ["view", "::"].concat();
    let mut folders = vec![std::path::PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/src/state"))];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            let import = text.lines().find(|line| line.contains(&module));
            assert_eq!(import, None, "{} imports the view", path.display());
        }
    }
}
