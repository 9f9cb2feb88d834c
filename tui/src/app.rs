//! The one loop: keys, looks and ticks in, frames out.
//!
//! Guarantee: a key is answered before a look; a frame is drawn after each of them and at least twice a second, so that silence shows.
//! It ends when the user leaves or the caller says so, and has given the terminal back by then.

use std::io;
use std::pin::pin;
use std::time::{Duration, Instant};

use crossterm::event::EventStream;
use futures_util::{FutureExt as _, StreamExt as _};
use tokio::time::MissedTickBehavior;

use crate::source::Source;
use crate::state::{Action, Model};
use crate::term::Screen;
use crate::theme::{Options, Theme};
use crate::{input, view};

/// The longest time between two frames.
const TICK: Duration = Duration::from_millis(500);
/// The most keys that one frame answers, so that a pasted text cannot keep it from being drawn.
const KEYS_A_FRAME: usize = 64;

/// How the view ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The user left it.
    Quit,
    /// What the caller waited for has come.
    Done,
}

/// Shows the live view on the terminal until the user leaves or `until` completes. It wants stdin and stdout to be a terminal, a tokio
/// runtime with I/O and time, and that nobody else writes to the terminal meanwhile: the caller sends logs elsewhere.
///
/// # Errors
/// The terminal cannot be taken, read or written. It is given back all the same.
pub async fn live(source: Source, options: Options, until: impl Future<Output = ()>) -> io::Result<Ended> {
    let theme = Theme::new(options);
    let mut screen = Screen::enter()?;
    let mut keys = EventStream::new();
    let mut looks = source.follow();
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut until = pin!(until);
    let mut model = Model::default();
    loop {
        screen.draw(|frame| view::draw(frame, &model, &theme, Instant::now()))?;
        tokio::select! {
            biased;
            () = &mut until => return Ok(Ended::Done),
            event = keys.next() => {
                let mut next = Some(event);
                let mut answered = 0;
                while let Some(event) = next {
                    // The terminal is gone.
                    let Some(event) = event else { return Ok(Ended::Quit) };
                    match input::action(&event?) {
                        Some(Action::Redraw) => screen.clear()?,
                        Some(action) => model.act(action),
                        None => {}
                    }
                    answered += 1;
                    next = if answered < KEYS_A_FRAME { keys.next().now_or_never() } else { None };
                }
            }
            look = looks.next() => match look {
                Ok(snapshot) => model.look(snapshot, Instant::now()),
                Err(why) => model.trouble(why),
            },
            _ = tick.tick() => {}
        }
        if model.quit {
            return Ok(Ended::Quit);
        }
    }
}
