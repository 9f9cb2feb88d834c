//! The writer: rows into the table, bad records into the dead-letter topic.
//!
//! Guarantees:
//! * A micro-batch, which arrives in one or more parts, is settled once each of its records is a
//!   row that the table acknowledged, was filtered out by the SQL, or is a dead letter that Kafka
//!   acknowledged. Its budget is released only then; the budget of a part's rows is released when
//!   the part is done.
//! * A dead letter has the key and value of its record. A value that does not fit is truncated, and
//!   the dead letter says so.
//! * Transient failures are retried forever. Only what failed is retried, with a back-off of 100 ms
//!   to 10 s, and the status note says why.
//! * A row that the table can never take becomes a dead letter. The rest of its batch is written.
//! * A restart costs only time: what was in flight is read again and written with the same
//!   timestamps.
//!
//! Does not guarantee:
//! * That a dead letter is in its topic once. After a crash between the dead letter and the commit
//!   of its offset it is produced again; the headers `forebay-topic`, `forebay-partition` and
//!   `forebay-offset` identify it.
//! * That batches are settled in order.
//!
//! ```text
//!  Lease<BatchPart> ─▶ check rows ─▶ dead letters ─▶ write ⟲ ─▶ late dead letters ─▶ settle, release the budget
//!                                    (topic.dead)     (store)
//! ```

mod actor;
mod batch_write;
mod dead_letters;
mod error;
mod outages;
pub(crate) mod state;
#[cfg(test)]
mod tests;

pub(crate) use self::actor::{Writer, WriterParams};
pub(crate) use self::dead_letters::RecreateTopic;
