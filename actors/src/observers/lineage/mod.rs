//! Exports runs as OpenLineage events: HTTP -> topic -> table.
//!
//! Guarantees:
//! * Nothing of the data path waits for the exporter. It reads the journal, so an unavailable sink
//!   costs no memory.
//! * Each event is delivered at least once. The position up to which all are delivered is in
//!   `data_dir/lineage.place`, and the next process continues there. The first process of a data
//!   directory starts with what happens from then on.
//!
//! Does not guarantee delivery once only, nor events that `[journal] keep` has removed meanwhile or
//! that the sink rejects (a 4xx status). The log names both.
//!
//! * `actor`: the shell. `exporter`: from the journal to the sink. `sink`: a URL, or a file.
//! * [`forebay_schemas::lineage`]: the events.

mod actor;
mod exporter;
mod sink;
#[cfg(test)]
mod tests;

pub(crate) use actor::{Lineage, LineageParams};
