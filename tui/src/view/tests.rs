//! Tests of all screens: text and styles at each size class, and no panic at any size after any
//! keys.

use std::sync::Arc;
use std::time::{Duration, Instant};

use forebay_schemas::api::{ChangePlan, PlanRequest, RecordView, Records};
use forebay_schemas::dead_letter_filter::DeadLetterFilter;
use forebay_schemas::dead_letters::{DeadLetter, DeadLetters};
use forebay_schemas::event::{Recorded, decode};
use forebay_schemas::offset::Offset;
use forebay_schemas::snapshot::Snapshot;
use proptest::prelude::*;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;
use serde::Deserialize as _;
use serde_json::Value;

use super::draw;
use crate::input::BINDINGS;
use crate::state::line_editor::EditKey;
use crate::state::{Action, ApiResponse, List, Model, RowId, Screen, SourceKind, Update};
use crate::test_data;
use crate::theme::{Options, Palette, Theme};

const SIZES: [(u16, u16); 4] = [(120, 34), (80, 24), (60, 16), (20, 5)];
const PLAIN: Options = Options { palette: Palette::Mono, ascii: false };

/// A model with a minute of snapshots, a history of events, and responses of the API.
fn busy(now: Instant) -> Model {
    model_of(updates(120), now)
}

fn model_of(updates: impl IntoIterator<Item = Update>, now: Instant) -> Model {
    let mut model = Model::new(SourceKind::Process, true, true);
    updates.into_iter().for_each(|update| model.update(update, now));
    model
}

/// A history of events, snapshots after it, and responses of the API.
fn updates(snapshots: i64) -> Vec<Update> {
    let mut updates = vec![Update::Events(test_data::history(600).into_iter().map(Arc::new).collect())];
    updates.extend((0..=snapshots).map(|n| Update::Snapshot(Arc::new(test_data::measured(test_data::later(n * 500))))));
    let record = |partition: i32, offset: i64| RecordView {
        partition,
        offset: Offset(offset),
        timestamp_ms: 1_795_516_266_000 + offset,
        key: Some(format!("user-{offset}")),
        value: serde_json::json!({ "id": offset, "name": { "first": "Ada", "last": "L." }, "email": "***" }),
        value_bytes: 412,
        truncated: false,
        headers: [("forebay-run".to_owned(), "manual 3".to_owned())].into(),
        headers_left_out: None,
    };
    let records = Records { topic: "users_stream".to_owned(), records: (0..6).map(|n| record(n % 2, 100 + i64::from(n))).collect() };
    updates.push(Update::Response(ApiResponse::Records(Ok(records))));
    let letter = |n: i64, stage: &str, reason: &str| DeadLetter {
        record: record(0, n),
        stage: stage.to_owned(),
        reason: reason.to_owned(),
        sql_fingerprint: Some("9f2c".to_owned()),
        origin: Some((1, Offset(40 + n))),
        handled: false,
    };
    let letters = vec![
        letter(2, "transform", "id is null"),
        letter(1, "write", "column dob: \"soon\" is no timestamp"),
        letter(0, "transform", "id is null"),
    ];
    let letters = DeadLetters { topic: "users_stream.dlq".to_owned(), total: 12, read: 3, letters };
    updates.push(Update::Response(ApiResponse::DeadLetters(Ok(Box::new(letters)))));
    updates.push(Update::Response(ApiResponse::Logs(Ok(test_data::logs()))));
    let who = forebay_schemas::api::WhoAmI { role: forebay_schemas::api::Role::Admin, by: "loopback".to_owned() };
    updates.push(Update::Response(ApiResponse::WhoAmI(Ok(who))));
    updates
}

fn screen(model: &Model, options: Options, now: Instant, (width, height): (u16, u16)) -> Buffer {
    let theme = Theme::new(options);
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, model, &theme, now)).unwrap();
    terminal.backend().buffer().clone()
}

fn lines(buffer: &Buffer) -> Vec<String> {
    let row = |row: &[ratatui::buffer::Cell]| row.iter().map(ratatui::buffer::Cell::symbol).collect::<String>().trim_end().to_owned();
    buffer.content().chunks(usize::from(buffer.area.width)).map(row).collect()
}

/// Each run of cells with the same style and its text, because `TestBackend` shows text only.
fn styles(buffer: &Buffer) -> String {
    let mut out = String::new();
    for (y, row) in buffer.content().chunks(usize::from(buffer.area.width)).enumerate() {
        let mut runs: Vec<(String, String)> = Vec::new();
        for cell in row {
            let colour = if cell.fg == ratatui::style::Color::Reset { String::new() } else { format!("{} ", cell.fg) };
            let style =
                format!("{colour}{:?}", cell.modifier).replace("Modifier", "").replace("(0x0)", "").replace("NONE", "").trim().to_owned();
            assert_eq!(cell.bg, ratatui::style::Color::Reset, "no role has a background");
            match runs.last_mut() {
                Some((last, text)) if *last == style => text.push_str(cell.symbol()),
                _ => runs.push((style, cell.symbol().to_owned())),
            }
        }
        for (style, text) in runs.into_iter().filter(|(style, text)| !style.is_empty() && !text.trim().is_empty()) {
            out += &format!("{y:>2} {style}: {}\n", text.trim_end());
        }
    }
    out
}

#[test]
fn every_screen_at_four_sizes() {
    let now = Instant::now();
    for shown in Screen::ALL {
        let mut model = busy(now);
        model.perform(Action::Show(shown));
        for size in SIZES {
            let text = lines(&screen(&model, PLAIN, now, size)).join("\n");
            insta::assert_snapshot!(format!("{}_{}x{}", shown.name().replace(' ', "_"), size.0, size.1), text);
        }
    }
}

#[test]
fn every_screen_in_three_palettes() {
    let now = Instant::now();
    for shown in Screen::ALL {
        let mut model = busy(now);
        model.perform(Action::Show(shown));
        let all = [Palette::Dark, Palette::Mono, Palette::Light];
        let text: String = all
            .iter()
            .map(|&palette| format!("== {palette:?}\n{}", styles(&screen(&model, Options { palette, ascii: false }, now, (100, 28)))))
            .collect();
        insta::assert_snapshot!(format!("{}_styles", shown.name().replace(' ', "_")), text);
    }
}

#[test]
fn every_page() {
    let now = Instant::now();
    let pages = [
        RowId::Partition(1),
        RowId::Actor("root/egress/writer".to_owned()),
        RowId::Run(test_data::uuid_of(3)),
        RowId::Batch(4_710),
        RowId::Record(1, Offset(101)),
        RowId::DeadLetter(0, Offset(1)),
        RowId::Event(55),
        RowId::Alert("ForebayLagGrows".to_owned()),
        RowId::Node("10.0.0.3:9042".to_owned()),
        RowId::Log(test_data::logs().since, 9),
    ];
    for page in pages {
        let mut model = busy(now);
        model.open(page.clone());
        let name: String = page.title().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).take(24).collect();
        insta::assert_snapshot!(format!("page_{name}"), lines(&screen(&model, PLAIN, now, (100, 30))).join("\n"));
    }
}

#[test]
fn the_header_marks_an_earlier_moment_and_unknown_values_are_marked() {
    let now = Instant::now();
    let mut model = busy(now);
    model.perform(Action::Freeze);
    model.perform(Action::StepBatch(false));
    insta::assert_snapshot!(lines(&screen(&model, PLAIN, now, (120, 34))).join("\n"));
    model.perform(Action::Show(Screen::Store));
    let text = lines(&screen(&model, PLAIN, now, (120, 34))).join("\n");
    assert!(text.contains("‖ FROZEN") && text.contains("unknown at that time"), "{text}");
}

#[test]
fn log_lines_of_a_moment_end_there_and_an_empty_log_says_why() {
    let now = Instant::now();
    let text = |model: &Model| lines(&screen(model, PLAIN, now, (120, 34))).join("\n");
    let mut model = busy(now);
    model.perform(Action::Show(Screen::Logs));
    model.perform(Action::Freeze);
    let mut later = test_data::logs();
    later.lines = vec![test_data::log_line(1_000, "said after that")];
    model.update(Update::Response(ApiResponse::Logs(Ok(later))), now);
    let frozen = text(&model);
    assert!(frozen.contains("; 1 more since then") && frozen.contains("run succeeded") && !frozen.contains("said after"), "{frozen}");
    model.perform(Action::Live);
    assert!(text(&model).contains("said after that"));
    let why = |kind, has_api| {
        let mut model = Model::new(kind, has_api, false);
        model.update(Update::Snapshot(Arc::new(test_data::busy())), now);
        model.perform(Action::Show(Screen::Logs));
        text(&model)
    };
    assert!(why(SourceKind::Journal, false).contains("a journal holds no log lines"));
    assert!(why(SourceKind::Recording(1.0), false).contains("this recording has no log lines up to here"));
    assert!(why(SourceKind::Process, false).contains("this process has none"));
    assert!(why(SourceKind::Process, true).contains("no log lines yet"));
}

#[test]
fn help_palette_and_dialog_cover_the_screen() {
    let now = Instant::now();
    let mut model = busy(now);
    model.perform(Action::Help);
    insta::assert_snapshot!("help", lines(&screen(&model, PLAIN, now, (100, 60))).join("\n"));
    model.perform(Action::Back);
    model.perform(Action::Palette);
    "re".chars().for_each(|c| model.press(EditKey::Char(c)));
    model.press(EditKey::Tab);
    insta::assert_snapshot!("palette", lines(&screen(&model, PLAIN, now, (80, 24))).join("\n"));
    model.press(EditKey::Escape);
    model.perform(Action::Show(Screen::Runs));
    model.perform(Action::Cancel);
    "too old".chars().for_each(|c| model.press(EditKey::Char(c)));
    insta::assert_snapshot!("dialog", lines(&screen(&model, PLAIN, now, (80, 24))).join("\n"));
}

#[test]
fn a_plan_is_shown_in_full_if_there_is_room_and_the_fields_always() {
    let now = Instant::now();
    let shown = |partitions: usize, size: (u16, u16)| {
        let mut model = busy(now);
        model.perform(Action::Redrive);
        let effect =
            |n| format!("users_stream.dead p{n}: letters [0..1,200) into users_stream again, 1,200 of them at the very most, not one more");
        let plan = ChangePlan {
            id: test_data::uuid_of(9),
            request: PlanRequest::Redrive { letters: None, only: DeadLetterFilter::default() },
            hash: "h".to_owned(),
            effects: (0..partitions).map(effect).collect(),
            records: 1_200,
            ranges: Default::default(),
            expires_at: Default::default(),
        };
        model.update(Update::Response(ApiResponse::Plan(Ok(Box::new(plan)))), now);
        lines(&screen(&model, PLAIN, now, size)).join("\n")
    };
    let text = shown(4, (80, 24));
    assert_eq!((text.matches("p3: letters").count(), text.matches("not one more").count()), (1, 4), "{text}");
    for size in [(120, 34), (80, 24), (40, 12)] {
        let text = shown(64, size);
        for part in ["1,200 records", "and ", "reason", "type users", "enter applies"] {
            assert!(text.contains(part), "{part} at {size:?}:\n{text}");
        }
    }
}

#[test]
fn the_trigger_is_shown_if_it_is_known_and_not_zero() {
    let now = Instant::now();
    let shown = |trigger_micros: Option<u64>, screen_of: Screen, size: (u16, u16)| {
        let mut model = Model::new(SourceKind::Process, false, false);
        model.update(Update::Snapshot(Arc::new(forebay_schemas::snapshot::Snapshot { trigger_micros, ..test_data::busy() })), now);
        model.perform(Action::Show(screen_of));
        lines(&screen(&model, PLAIN, now, size)).join("\n")
    };
    let trigger = Some(5_000);
    assert!(shown(trigger, Screen::Batches, (120, 34)).contains("2 of the last 4 took longer than the trigger 5 ms"));
    assert!(shown(trigger, Screen::Batches, (70, 20)).contains("2 of 4 over trigger 5 ms"));
    assert!(shown(trigger, Screen::Overview, (120, 34)).contains("readable; trigger 5 ms"));
    assert!(shown(trigger, Screen::Overview, (200, 50)).contains("a batch, trigger 5 ms"));
    for unknown in [None, Some(0)] {
        for shown_of in [Screen::Batches, Screen::Overview] {
            assert!(!shown(unknown, shown_of, (200, 50)).contains("trigger"), "{unknown:?}");
        }
    }
}

/// The value with hostile text in place of every text, and as a key of every map, where `read` can
/// still read it.
fn hostile<T: serde::Serialize>(value: &T, read: impl Fn(&Value) -> Option<T>) -> T {
    const TEXT: &str = "\x1b[31m\u{9b}\n\u{202e}forged\u{2066}\u{200f}";
    let mut changed = serde_json::to_value(value).unwrap();
    let mut paths = vec![String::new()];
    while let Some(path) = paths.pop() {
        let before = changed.clone();
        match changed.pointer_mut(&path).unwrap() {
            Value::String(text) => TEXT.clone_into(text),
            Value::Array(values) => paths.extend((0..values.len()).map(|at| format!("{path}/{at}"))),
            Value::Object(map) => {
                paths.extend(map.keys().map(|key| format!("{path}/{}", key.replace('~', "~0").replace('/', "~1"))));
                map.insert(TEXT.to_owned(), TEXT.into());
            }
            _ => {}
        }
        if read(&changed).is_none() {
            changed = before;
        }
    }
    read(&changed).unwrap()
}

fn hostile_update(update: Update) -> Update {
    fn plain<T: serde::Serialize + serde::de::DeserializeOwned>(value: &T) -> T {
        hostile(value, |changed| T::deserialize(changed).ok())
    }
    let event = |event: Arc<Recorded>| Arc::new(hostile(event.as_ref(), |changed| decode(changed.to_string().as_bytes()).ok()));
    match update {
        Update::Snapshot(snapshot) => Update::Snapshot(Arc::new(plain(snapshot.as_ref()))),
        Update::Events(events) => Update::Events(events.into_iter().map(event).collect()),
        Update::Response(ApiResponse::Records(Ok(records))) => Update::Response(ApiResponse::Records(Ok(plain(&records)))),
        Update::Response(ApiResponse::DeadLetters(Ok(letters))) => {
            Update::Response(ApiResponse::DeadLetters(Ok(Box::new(plain(&*letters)))))
        }
        Update::Response(ApiResponse::Logs(Ok(logs))) => Update::Response(ApiResponse::Logs(Ok(plain(&logs)))),
        other => other,
    }
}

#[test]
fn no_screen_or_page_draws_a_control_or_a_bidirectional_character() {
    let now = Instant::now();
    let mut model = model_of(updates(2).into_iter().map(hostile_update), now);
    let mut all = String::new();
    let mut draw = |model: &Model| {
        for size in [(200, 60), (60, 16)] {
            for line in lines(&screen(model, PLAIN, now, size)) {
                assert_eq!(forebay_schemas::printable(&line), line);
                all += &line;
            }
        }
    };
    for shown in Screen::ALL {
        model.perform(Action::Show(shown));
        draw(&model);
        for _ in 0..3 {
            model.perform(Action::Enter);
            draw(&model);
            model.perform(Action::Back);
            model.perform(Action::Move(1));
        }
    }
    assert!(all.matches("\\u{202e}forged").count() > 100, "{all}");
    let text = crate::status_text::status_text(&hostile(&test_data::busy(), |changed| Snapshot::deserialize(changed).ok()), PLAIN);
    assert!(text.lines().all(|line| forebay_schemas::printable(line) == line) && text.contains("\\u{202e}forged"), "{text}");
}

#[test]
fn ascii_mode_is_ascii_and_a_stale_view_says_so() {
    let now = Instant::now();
    let mut model = busy(now);
    for shown in Screen::ALL {
        model.perform(Action::Show(shown));
        let text = lines(&screen(&model, Options { ascii: true, ..PLAIN }, now, (120, 34))).join("\n");
        // The text of the event itself has a µs.
        assert!(text.replace('µ', "u").is_ascii(), "{text}");
    }
    model.update(Update::SourceFailed("timed out after 2 s".to_owned()), now);
    let text = lines(&screen(&model, PLAIN, now + Duration::from_secs(12), (120, 34))).join("\n");
    assert!(text.contains("! STALE 12 s") && text.contains("everything below is 12 s old: timed out after 2 s"), "{text}");
}

#[test]
fn an_empty_model_is_drawn_at_every_size() {
    let now = Instant::now();
    for kind in [SourceKind::Process, SourceKind::Journal, SourceKind::Recording(2.0)] {
        let mut model = Model::new(kind, false, false);
        for shown in Screen::ALL {
            model.perform(Action::Show(shown));
            SIZES.iter().for_each(|&size| drop(screen(&model, PLAIN, now, size)));
        }
    }
}

#[test]
fn every_screen_at_every_size() {
    let now = Instant::now();
    let mut model = busy(now);
    for (n, shown) in (0_u16..).zip(Screen::ALL) {
        model.perform(Action::Show(shown));
        for width in (1..160).step_by(7) {
            for height in (1..50).step_by(3) {
                drop(screen(&model, PLAIN, now, (width + n % 7, height)));
            }
        }
    }
}

#[derive(Debug, Clone)]
enum Input {
    Key(usize),
    Type(char),
    Edit(EditKey),
    Snapshot(i64),
}

fn any_input() -> impl Strategy<Value = Input> {
    let edits = prop_oneof![
        Just(EditKey::Enter),
        Just(EditKey::Escape),
        Just(EditKey::Tab),
        Just(EditKey::Up),
        Just(EditKey::Word),
        Just(EditKey::Backspace)
    ];
    prop_oneof![
        8 => (0..BINDINGS.len()).prop_map(Input::Key),
        2 => any::<char>().prop_map(Input::Type),
        2 => edits.prop_map(Input::Edit),
        1 => (0..100_000_i64).prop_map(Input::Snapshot),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_keys_at_any_size_do_not_panic(
        events in test_data::any_events(0..80),
        inputs in proptest::collection::vec((any_input(), 1..140_u16, 1..45_u16), 1..60),
        kind in prop_oneof![Just(SourceKind::Process), Just(SourceKind::Journal)],
    ) {
        let now = Instant::now();
        let mut model = if kind == SourceKind::Process { busy(now) } else { Model::new(kind, false, false) };
        model.update(Update::JournalReplaced, now);
        model.update(Update::Events(events.into_iter().map(Arc::new).collect()), now);
        for (input, width, height) in inputs {
            match input {
                Input::Key(at) if !model.is_typing() => model.perform(BINDINGS[at].action),
                Input::Type(c) => model.press(EditKey::Char(c)),
                Input::Edit(key) if model.is_typing() => model.press(key),
                Input::Snapshot(ms) => model.update(Update::Snapshot(Arc::new(test_data::later(ms))), now),
                Input::Key(_) | Input::Edit(_) => {}
            }
            drop(screen(&model, PLAIN, now, (width, height)));
            drop(model.effects());
        }
        for list in [List::Events, List::Partitions, List::Actors] {
            prop_assert!(model.cursor(list) <= model.len(list));
        }
    }
}

#[test]
fn a_run_that_was_cut_short_says_so_everywhere() {
    use forebay_schemas::run::{RunState, Stop, StopReason};
    let (now, mut snapshot) = (Instant::now(), test_data::busy());
    let run = &mut snapshot.runs[0];
    (run.state, run.terminal, run.error, run.cancelled) = (RunState::Succeeded, true, None, None);
    run.stop = Some(Stop { reason: StopReason::MaxPages, complete: false, cursor: Some("c7".into()), detail: "2 pages were read".into() });
    let summary = super::runs::summary(run);
    assert!(summary.ends_with("; stopped: cut short, max_pages: 2 pages were read"), "{summary}");
    let id = run.id;
    let mut model = Model::new(SourceKind::Process, true, true);
    model.update(Update::Snapshot(Arc::new(snapshot)), now);
    model.perform(Action::Show(Screen::Runs));
    let list = lines(&screen(&model, PLAIN, now, (160, 34))).join("\n");
    assert!(list.contains("cut short, max_pages"), "{list}");
    model.open(RowId::Run(id));
    let page = lines(&screen(&model, PLAIN, now, (120, 34))).join("\n");
    assert!(page.contains("cut short, max_pages: 2 pages were read") && page.contains("c7"), "{page}");
}
