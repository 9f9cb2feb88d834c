//! The actor that turns records into rows: JSON to Arrow columns, then the pipeline's SQL.
//!
//! The work itself is [`forebay_dataplane::transform`]; this actor runs it on the blocking pool and
//! paces it.
//!
//! Guarantees:
//! * Batches are transformed one at a time, in the order in which they arrived.
//! * A part is sent only once its rows hold their bytes of the row budget.
//! * A stop does not wait for a computation.
//! * Fields that the schema does not have are reported, once each.

mod actor;
mod drift;
#[cfg(test)]
mod tests;

pub(crate) use actor::Transformer;
pub(crate) use drift::DriftReporter;
