//! The live view of Forebay: one pipeline on a terminal, now and back in time, and the same facts as plain text.
//!
//! It knows the public API and nothing else of the pipeline, so it works the same inside the process, from another machine, over a folder of
//! events and over a recording. What is shown comes from a [`Source`]; `state` folds it, with no terminal and no clock; `view` draws what was
//! folded, a file a screen; `input` is the one table of keys; `app` is the one loop; `term` gives the terminal back whatever happens.
//!
//! Guarantee: it changes nothing in the pipeline unless it was started to operate, the API lets it, and somebody says why in a dialog; it draws
//! at any size of terminal, and restores the terminal on return, error and panic. Not guaranteed: that every snapshot of the process is drawn; a
//! slow terminal skips to the newest.

mod app;
#[doc(hidden)]
pub mod bench;
mod error;
mod input;
#[doc(hidden)]
pub mod pictures;
mod source;
mod state;
mod status;
mod terminal;
mod text;
mod theme;
mod view;

#[cfg(test)]
mod test_data;

pub use app::{Exit, Setup, frame, live, screens};
pub use error::{SourceError, root_cause};
pub use source::{Api, EventReader, Source};
pub use status::{is_healthy, status_text};
pub use theme::{Options, Palette};
