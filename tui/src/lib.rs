//! The terminal monitor of Forebay: one pipeline, live or at an earlier moment, and the same facts
//! as plain text.
//!
//! It uses the public API only. It works the same inside the process, from another machine, on a
//! journal, and on a recording.
//!
//! * [`Source`] delivers snapshots, events and API responses.
//! * `state` folds them, without a terminal and without a clock.
//! * `view` draws the state, one file per screen.
//! * `input` is the table of keys, `app` the event loop.
//! * `terminal` restores the terminal.
//!
//! Guarantees:
//! * The pipeline changes only if the monitor was started with `--operate`, the API permits it, and
//!   the user enters a reason in a dialog.
//! * Every terminal size is drawn.
//! * The terminal is restored on return, error and panic.
//!
//! Does not guarantee that every snapshot is drawn; a slow terminal skips to the newest.

mod app;
#[doc(hidden)]
pub mod bench;
mod error;
mod input;
#[doc(hidden)]
pub mod pictures;
mod source;
mod state;
mod status_text;
mod terminal;
mod text;
mod theme;
mod view;

#[cfg(test)]
mod test_data;

pub use app::{Exit, Setup, frame, live, screens};
pub use error::{SourceError, root_cause};
pub use source::{Api, EventReader, Source, TlsFailure};
pub use status_text::{is_healthy, status_text};
pub use theme::{Options, Palette};
