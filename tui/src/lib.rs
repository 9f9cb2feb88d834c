//! The live view of Forebay: one pipeline on one screen, and the same facts as plain text.
//!
//! It knows [`Snapshot`](forebay_schemas::snapshot::Snapshot) and nothing else of the pipeline, so it works the same inside the process
//! and from another machine. Looks come from a [`Source`]; `state` folds them, with no terminal and no clock; `view` draws what was
//! folded; `app` is the one loop over keys, looks and ticks; `term` gives the terminal back whatever happens.
//!
//! Guarantee: it never writes to the pipeline, draws at any size of terminal, and restores the terminal on return, error and panic.
//! Not guaranteed: that every look of the process is drawn; a slow terminal skips to the newest.

mod app;
mod error;
mod input;
mod source;
mod state;
mod status;
mod term;
mod text;
mod theme;
mod view;

#[cfg(test)]
mod fixture;

pub use app::{Ended, live};
pub use error::SourceError;
pub use source::Source;
pub use status::once;
pub use theme::Options;
