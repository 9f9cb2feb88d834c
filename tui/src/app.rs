//! The one loop: keys and updates in, frames out.
//!
//! Guarantee: a key is taken before any update and drawn at once; updates are drawn ten times a second at most, and nothing is drawn while
//! nothing changes. It ends when the user leaves or the caller says so, and has given the terminal back by then.

use std::io;
use std::path::PathBuf;
use std::pin::pin;
use std::time::{Duration, Instant};

use crossterm::event::EventStream;
use futures_util::{FutureExt as _, StreamExt as _};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use tokio::time::MissedTickBehavior;

use crate::error::SourceError;
use crate::source::{Feed, Recorder, Source};
use crate::state::{Effect, Link, Model, Screen, Update};
use crate::terminal;
use crate::theme::{Options, Theme};
use crate::{input, view};

/// The least time between two frames that updates cause.
const FRAME_INTERVAL: Duration = Duration::from_millis(100);
/// The least time between two frames that keys cause.
const KEY_FRAME_INTERVAL: Duration = Duration::from_millis(25);
/// How often it is looked whether silence is to be shown, and a recording is flushed.
const TICK_INTERVAL: Duration = Duration::from_millis(500);
/// The most keys that one frame answers, so that a pasted text cannot keep it from being drawn.
const MAX_KEYS_PER_FRAME: usize = 64;
/// The most updates that are taken in before keys are looked at again.
const MAX_UPDATES_PER_TURN: usize = 8;

/// How a view is to be.
#[derive(Debug)]
pub struct Setup {
    /// Where what is shown comes from.
    pub source: Source,
    /// How it may draw.
    pub options: Options,
    /// Whether whoever looks wants to change things; the API decides whether they may.
    pub operate: bool,
    /// A file to record into.
    pub record: Option<PathBuf>,
    /// The screen to begin with, by its name; the overview when there is none.
    pub screen: Option<String>,
}

impl Setup {
    /// A view that only looks.
    pub fn new(source: Source, options: Options) -> Self {
        Self { source, options, operate: false, record: None, screen: None }
    }

    fn model(&self) -> Model {
        let mut model = Model::new(self.source.kind(), self.source.has_api(), self.operate);
        model.recorded = self.record.is_some();
        if let Some(screen) = Screen::ALL.into_iter().find(|screen| self.screen.as_deref() == Some(screen.name())) {
            model.show(screen);
        }
        model
    }
}

/// The names of the screens, as [`Setup::screen`] takes them.
pub fn screens() -> [&'static str; 11] {
    Screen::ALL.map(Screen::name)
}

/// How the view ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// The user left it.
    Quit,
    /// What the caller waited for has come.
    Completed,
}

fn source_error(error: SourceError) -> io::Error {
    io::Error::other(error)
}

/// Shows the live view on the terminal until the user leaves or `until` completes. It wants stdin and stdout to be a terminal, a tokio
/// runtime with I/O and time, and that nobody else writes to the terminal meanwhile: the caller sends logs elsewhere.
///
/// # Errors
/// The terminal cannot be taken, read or written, a recording not opened or written. The terminal is given back all the same.
pub async fn live(setup: Setup, until: impl Future<Output = ()>) -> io::Result<Exit> {
    let mut model = setup.model();
    let mut theme = Theme::new(setup.options);
    let mut recorder = setup.record.as_deref().map(Recorder::create).transpose()?;
    let mut feed = setup.source.follow().map_err(source_error)?;
    let mut screen = terminal::Screen::enter()?;
    let mut keys = EventStream::new();
    let mut tick = tokio::time::interval(TICK_INTERVAL);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut until = pin!(until);
    // When the next frame is to be drawn; none while nothing has changed.
    let mut due = Some(Instant::now());
    let mut drawn = Instant::now();
    loop {
        if due.is_some_and(|due| due <= Instant::now()) {
            screen.draw(|frame| view::draw(frame, &model, &theme, Instant::now()))?;
            (due, drawn) = (None, Instant::now());
        }
        let draw = async {
            match due {
                Some(due) => tokio::time::sleep_until(due.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = &mut until => return Ok(Exit::Completed),
            event = keys.next() => {
                let mut next = Some(event);
                let mut handled = 0;
                while let Some(event) = next {
                    // The terminal is gone.
                    let Some(event) = event else { return Ok(Exit::Quit) };
                    key(&mut model, &event?);
                    handled += 1;
                    next = if handled < MAX_KEYS_PER_FRAME { keys.next().now_or_never() } else { None };
                }
                due = Some(drawn + KEY_FRAME_INTERVAL);
            }
            () = draw => {}
            update = feed.next() => {
                let mut next = Some(update);
                for _ in 0..MAX_UPDATES_PER_TURN {
                    let Some(update) = next else { break };
                    if let Some(recorder) = &mut recorder {
                        recorder.write(&update)?;
                    }
                    model.update(update, Instant::now());
                    next = feed.ready();
                }
                if let Some(update) = next {
                    model.update(update, Instant::now());
                }
                due = due.or(Some(drawn + FRAME_INTERVAL));
            }
            _ = tick.tick() => {
                if let Some(recorder) = &mut recorder {
                    recorder.flush()?;
                }
                if model.link(Instant::now()) != Link::Live {
                    due = due.or(Some(drawn + FRAME_INTERVAL));
                }
            }
        }
        for effect in model.effects() {
            match effect {
                Effect::Redraw => screen.clear()?,
                Effect::Copy(text) => terminal::copy(&text)?,
                Effect::Mouse(on) => terminal::mouse(on)?,
                Effect::Theme(name) => theme = theme.with(theme.palette.named(&name)),
                Effect::Reconnect => feed.reconnect(),
                Effect::Save(path, text) => save(&mut model, &path, &text),
                Effect::Request(request) => {
                    if !feed.request(request) {
                        model.show_error("too many request at once; try again".to_owned());
                    }
                }
            }
        }
        if model.quit {
            return Ok(Exit::Quit);
        }
    }
}

/// What an event of the terminal does.
fn key(model: &mut Model, event: &crossterm::event::Event) {
    if model.is_typing() {
        if let Some(key) = input::edit_key(event) {
            model.press(key);
        }
    } else if let Some(action) = input::action(event, model.screen) {
        model.perform(action);
    }
}

/// Writes a selection; what is there already is not written over.
fn save(model: &mut Model, path: &str, text: &str) {
    let written = std::fs::File::create_new(path).and_then(|mut file| io::Write::write_all(&mut file, text.as_bytes()));
    match written {
        Ok(()) => model.show_info(format!("written to {path}")),
        Err(cause) => model.show_error(format!("{path}: {cause}")),
    }
}

/// How long snapshots are gathered for a frame that is printed, so that there are rates.
const SAMPLE_TIME: Duration = Duration::from_millis(1_300);
/// The longest that a recording or a folder is read for one.
const READ_TIMEOUT: Duration = Duration::from_secs(60);

/// One frame as text, its lines without trailing spaces: of `size` columns and rows, without colours.
///
/// # Errors
/// Nothing handled, or a recording can't be read.
pub async fn frame(setup: Setup, (width, height): (u16, u16)) -> io::Result<String> {
    let mut model = setup.model();
    let theme = Theme::new(Options { palette: crate::theme::Palette::Mono, ..setup.options });
    let finite = !matches!(setup.source, Source::Attached(_) | Source::InProcess { .. });
    let source = match setup.source {
        Source::Recording { path, .. } => Source::Recording { path, speed: 1_000.0 },
        source => source,
    };
    let journal = matches!(source, Source::Journal(_));
    let mut feed = source.follow().map_err(source_error)?;
    collect(&mut model, &mut feed, finite, journal).await?;
    let mut terminal = Terminal::new(TestBackend::new(width, height)).map_err(io::Error::other)?;
    terminal.draw(|frame| view::draw(frame, &model, &theme, Instant::now())).map_err(io::Error::other)?;
    let buffer = terminal.backend().buffer();
    let lines = buffer.content().chunks(usize::from(width).max(1)).map(|row| {
        let line: String = row.iter().map(ratatui::buffer::Cell::symbol).collect();
        line.trim_end().to_owned()
    });
    Ok(lines.collect::<Vec<_>>().join("\n").trim_end().to_owned())
}

async fn collect(model: &mut Model, feed: &mut Feed, finite: bool, journal: bool) -> io::Result<()> {
    let until = tokio::time::Instant::now() + if finite && !journal { READ_TIMEOUT } else { SAMPLE_TIME };
    let mut last = None;
    loop {
        let update = match tokio::time::timeout_at(until, feed.next()).await {
            Ok(Update::Finished) => return Ok(()),
            Ok(update) => update,
            Err(_) if model.newest().is_some() => return Ok(()),
            Err(_) => return Err(io::Error::other(last.unwrap_or_else(|| "nothing there to show".to_owned()))),
        };
        if let Update::SourceFailed(why) = &update {
            if model.newest().is_none() {
                return Err(io::Error::other(why.clone()));
            }
            last = Some(why.clone());
        }
        model.update(update, Instant::now());
        for effect in model.effects() {
            if let Effect::Request(request) = effect {
                feed.request(request);
            }
        }
    }
}
