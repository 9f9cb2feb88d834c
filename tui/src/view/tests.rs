//! The whole screen, as text at each class of size, and at every size without a panic.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ratatui::Terminal;
use ratatui::backend::TestBackend;

use super::draw;
use crate::fixture;
use crate::state::{Action, Model, Panel};
use crate::theme::{Options, Theme};

const PLAIN: Options = Options { colour: false, ascii: false };

/// A minute of looks.
fn busy(now: Instant) -> Model {
    let mut model = Model::default();
    for n in 0..120 {
        model.look(Arc::new(fixture::later(n * 500)), now);
    }
    // The age of batches and restarts stays readable.
    model.look(Arc::new(fixture::later(60_000)), now);
    model
}

fn screen(model: &Model, options: Options, now: Instant, (width, height): (u16, u16)) -> TestBackend {
    let theme = Theme::new(options);
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, model, &theme, now)).unwrap();
    terminal.backend().clone()
}

#[test]
fn a_large_terminal_shows_everything_at_once() {
    let now = Instant::now();
    insta::assert_snapshot!(screen(&busy(now), PLAIN, now, (120, 34)));
}

#[test]
fn an_ordinary_terminal_shows_the_path_in_words_and_a_panel_at_a_time() {
    let now = Instant::now();
    let mut model = busy(now);
    model.act(Action::Focus(Panel::Partitions));
    insta::assert_snapshot!(screen(&model, PLAIN, now, (80, 24)));
}

#[test]
fn a_small_terminal_shows_the_path_and_a_table() {
    let now = Instant::now();
    let mut model = busy(now);
    model.act(Action::Focus(Panel::Batches));
    insta::assert_snapshot!(screen(&model, PLAIN, now, (60, 16)));
}

#[test]
fn the_smallest_terminal_shows_a_line_a_fact() {
    let now = Instant::now();
    insta::assert_snapshot!(screen(&busy(now), PLAIN, now, (20, 5)));
}

#[test]
fn ascii_and_colours_and_a_long_silence_are_seen() {
    let now = Instant::now();
    let mut model = busy(now);
    model.trouble("no answer from http://127.0.0.1:7070/v1/snapshot: connection refused".to_owned());
    model.act(Action::Help);
    let screen = screen(&model, Options { colour: true, ascii: true }, now + Duration::from_secs(12), (120, 34));
    assert!(screen.to_string().is_ascii(), "{screen}");
    insta::assert_snapshot!(screen);
}

#[test]
fn before_the_first_look_the_screen_says_what_it_waits_for() {
    let now = Instant::now();
    let mut model = Model::default();
    model.trouble("no answer from http://127.0.0.1:7070/v1/snapshot: connection refused".to_owned());
    let screen = screen(&model, PLAIN, now, (80, 24)).to_string();
    assert!(screen.contains("CONNECTING") && screen.contains("connection refused"), "{screen}");
}

#[test]
fn a_frozen_screen_says_so_and_how_far_the_pipeline_has_gone_on() {
    let now = Instant::now();
    let mut model = busy(now);
    model.act(Action::Freeze);
    model.look(Arc::new(fixture::later(72_000)), now);
    let screen = screen(&model, PLAIN, now, (120, 34)).to_string();
    assert!(screen.contains("FROZEN +12 s"), "{screen}");
}

#[test]
fn without_colour_the_screen_has_none() {
    let now = Instant::now();
    let screen = screen(&busy(now), PLAIN, now, (120, 34));
    assert!(screen.buffer().content.iter().all(|cell| cell.fg == ratatui::style::Color::Reset && cell.bg == ratatui::style::Color::Reset));
}

#[test]
fn the_view_draws_at_every_size_with_every_panel_and_never_panics() {
    let now = Instant::now();
    let mut quiet = Model::default();
    quiet.look(Arc::new(fixture::quiet()), now);
    for mut model in [Model::default(), quiet, busy(now)] {
        for width in (0..=14).chain((15..=140).step_by(5)) {
            for height in (0..=8).chain((9..=45).step_by(3)) {
                model.act(Action::NextPanel);
                model.act(Action::Last);
                if width % 2 == 0 {
                    model.act(Action::Help);
                }
                screen(&model, Options { colour: true, ascii: height % 2 == 0 }, now, (width, height));
            }
        }
    }
}
