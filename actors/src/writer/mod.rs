//! The writer: rows into the table, bad records into the dead-letter topic.
//!
//! Guarantees:
//! * A micro-batch, which comes in one part or in several, is settled when each of its records is a row that the table acknowledged, was
//!   filtered out by the SQL, or is a dead letter that Kafka acknowledged with its key and value untouched; a value that does not fit is cut,
//!   and its letter says so. Its budget goes home only then; that of a part's rows when the part is done.
//! * Trouble that may pass is waited out: only what failed is tried again, with a back-off of 100 ms to 10 s, for ever, and the status note
//!   says for what. A row that the table will never take becomes a dead letter; the rest of its batch is written.
//! * A restart changes nothing but time: what was in flight is read again, and written with the same timestamps.
//!
//! Not guaranteed: that a dead letter is in its topic once. After a crash between the dead letter and the commit of its offset it is there
//! again; the headers `forebay-topic`, `forebay-partition` and `forebay-offset` tell that it is the same. Nor that batches are settled in order.
//!
//! ```text
//!  Lease<RowBatch> ─▶ check rows ─▶ dead letters ─▶ write ⟲ ─▶ late dead letters ─▶ settle, give the budget back
//!                                    (topic.dead)     (store)
//! ```

mod actor;
mod client;
mod dead_letters;
mod error;
pub(crate) mod state;
#[cfg(test)]
mod tests;

pub use self::actor::{Writer, WriterParts};
pub use self::dead_letters::Remake;
pub use self::error::WriterError;
