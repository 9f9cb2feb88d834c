//! Tells others of runs, as events of OpenLineage: HTTP -> topic -> table.
//!
//! Guarantee: the pipeline never waits for it. It reads the journal behind the pipeline, so nothing is queued in memory: while the receiver is away, what
//! is to be told stays in the journal. The place up to which all is told is kept in `data_dir/lineage.place`, so the next process goes on there, and an
//! event is told at least once; the first process of a data directory begins with what happens from then on. Not guaranteed: once only; and events
//! that `[journal] keep` has removed meanwhile, or that the receiver refuses as they are (a status of 4xx), which the log names.
//!
//! * `actor`: the shell.    * `follow`: from the journal to the receiver, and the place.    * `receiver`: an address, or a file.
//! * [`forebay_schemas::lineage`]: what an event is.

mod actor;
mod follow;
mod receiver;
#[cfg(test)]
mod tests;

pub(crate) use actor::{Lineage, LineageParts};
