//! The event loop: keys and updates in, frames out.
//!
//! Guarantees:
//! * Keys are handled before updates, and their effect is drawn at once.
//! * Updates cause at most ten frames a second; nothing is drawn while nothing changes.
//! * The loop ends when the user quits or the caller's future completes. The terminal is restored
//!   by then.

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

/// The minimum time between two frames caused by updates.
const FRAME_INTERVAL: Duration = Duration::from_millis(100);
/// The minimum time between two frames caused by keys.
const KEY_FRAME_INTERVAL: Duration = Duration::from_millis(25);
/// How often staleness is checked and a recording is flushed.
const TICK_INTERVAL: Duration = Duration::from_millis(500);
/// The maximum number of keys handled per frame, so that pasted text cannot delay drawing.
const MAX_KEYS_PER_FRAME: usize = 64;
/// The maximum number of updates handled before keys are read again.
const MAX_UPDATES_PER_TURN: usize = 8;

/// How the monitor starts.
#[derive(Debug)]
pub struct Setup {
    /// Where the data comes from.
    pub source: Source,
    /// Colours and symbols.
    pub options: Options,
    /// Whether the user wants to change the pipeline. The API decides whether that is permitted.
    pub operate: bool,
    /// The file to record to.
    pub record: Option<PathBuf>,
    /// The name of the first screen; the overview if `None`.
    pub screen: Option<String>,
}

impl Setup {
    /// A read-only monitor.
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

/// The names of the screens, as [`Setup::screen`] accepts them.
pub fn screens() -> [&'static str; 11] {
    Screen::ALL.map(Screen::name)
}

/// Why the monitor ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// The user quit.
    Quit,
    /// The caller's future completed.
    Completed,
}

fn source_error(error: SourceError) -> io::Error {
    io::Error::other(error)
}

/// Runs the monitor on the terminal until the user quits or `until` completes.
///
/// Requires a terminal on stdin and stdout and a tokio runtime with I/O and time. The caller must
/// send its own output, such as logs, elsewhere meanwhile.
///
/// # Errors
/// The terminal cannot be set up, read or written, or the recording cannot be opened or written.
/// The terminal is restored in any case.
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
    // When to draw the next frame; `None` while nothing has changed.
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
                    // The terminal is closed.
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
                        model.show_error("too many pending requests; try again".to_owned());
                    }
                }
            }
        }
        if model.quit {
            return Ok(Exit::Quit);
        }
    }
}

/// Handles a terminal event.
fn key(model: &mut Model, event: &crossterm::event::Event) {
    if model.is_typing() {
        if let Some(key) = input::edit_key(event) {
            model.press(key);
        }
    } else if let Some(action) = input::action(event, model.screen) {
        model.perform(action);
    }
}

/// Writes a selection to a new file; never overwrites an existing one.
fn save(model: &mut Model, path: &str, text: &str) {
    let written = std::fs::File::create_new(path).and_then(|mut file| io::Write::write_all(&mut file, text.as_bytes()));
    match written {
        Ok(()) => model.show_info(format!("written to {path}")),
        Err(cause) => model.show_error(format!("{path}: {cause}")),
    }
}

/// How long snapshots are collected for a printed frame, so that it has rates.
const SAMPLE_TIME: Duration = Duration::from_millis(1_300);
/// The timeout for reading a recording or a journal for a printed frame.
const READ_TIMEOUT: Duration = Duration::from_secs(60);

/// Renders one frame of `size` columns and rows as text, without colours and trailing spaces.
///
/// # Errors
/// The source does not answer, or the recording cannot be read.
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
            Err(_) => return Err(io::Error::other(last.unwrap_or_else(|| "nothing to show".to_owned()))),
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
