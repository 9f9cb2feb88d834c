//! The consumer reads the topic and forms micro-batches.
//!
//! Guarantees:
//! * **No record is skipped.** The group's offset of a partition is committed only up to the
//!   contiguous end of what is settled. A partition starts at the group's commit, at the journal's
//!   checkpoint where that is of the same epoch and further on, or at its start offset. A commit
//!   outside of what the topic holds stops the pipeline; it is never reset silently.
//! * **No record is dropped to keep up.** A batch in flight holds its bytes of the budget until it
//!   is settled. Without budget the consumer pauses its partitions and keeps polling, so it stays
//!   in the group however long the table is unavailable.
//! * **Write timestamps are a function of the log**
//!   ([`WriteClock`](forebay_dataplane::write_clock::WriteClock)). A record gets the same timestamp
//!   in every batch and process. The clock is in the metadata of the commits.
//! * **A topic that is deleted and created again is read from its start.** Commits carry the
//!   topic's id, which is checked about once a second.
//! * **Partitions are handed over in order.** The consumer waits up to 10 s for what is in flight
//!   of a revoked partition, and commits it. It commits nothing of a lost partition, and what
//!   settles later has no effect.
//!
//! Does not guarantee:
//! * That a record is read once. What was in flight at a crash is read again and written with the
//!   same timestamp.
//! * That memory stays within the budget alone: beside it there is one record, and up to 8 MiB that
//!   Kafka's client fetches ahead.
//! * That records of an open transaction, or behind one, are read before it ends. They are not lag;
//!   the partition reports how many offsets are held back.
//!
//! ```text
//!  actor.rs         shell: topic, thread, drain       poll.rs, poll/      the loop on its thread
//!  params.rs        what it is built from             client.rs           Kafka's client and its callbacks
//!  state.rs         pure: positions, what to commit   committer.rs        commits, on a thread of its own
//!  batch_builder.rs pure: the batch being filled      backpressure.rs     the wait for budget
//!  start_offset.rs  pure: where a partition starts    offset_reset.rs     pure: what a replay changes
//!  reset_handle.rs  how others request a reset        error.rs            what fails, and its class
//! ```

mod actor;
pub(crate) mod batch_builder;
mod budget_wait;
mod client;
mod commit_thread;
mod error;
pub(crate) mod offset_reset;
mod params;
mod poll;
mod reset_handle;
pub(crate) mod start_offset;
pub(crate) mod state;

#[cfg(test)]
mod state_tests;
#[cfg(test)]
mod tests;

pub(crate) use actor::Consumer;
pub(crate) use error::ConsumerError;
pub(crate) use params::ConsumerParams;
pub(crate) use reset_handle::{ResetError, ResetHandle, ResetRequest};
pub(crate) use start_offset::preview_start;
