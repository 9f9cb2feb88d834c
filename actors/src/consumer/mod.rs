//! The consumer: out of the topic, in micro-batches.
//!
//! Guarantees:
//! * **Nothing is skipped.** The group's offset of a partition is committed only up to the contiguous end of what is settled. A start is the
//!   group's commit, or the journal's written end where that belongs to the same commits and is further on, or the begin of the partition; a
//!   commit that the topic no longer holds is a loud end, never a silent reset.
//! * **Nothing is dropped to keep up.** A batch in flight holds its bytes of the budget until its effect is done. Without budget the partitions
//!   are paused, and polling goes on, so the group keeps this member however long the table is away.
//! * **Write timestamps follow from the log.** See [`WriteClock`]: the same record gets the same one, in whichever batch and process. The clock
//!   travels in the metadata of the commits.
//! * **A topic that was deleted and created again is read from its begin.** Its id is in each commit, and is looked at about once a second.
//! * **Partitions go in order.** When some are taken away, what is in flight of them is waited for (up to 10 s) and committed before they go. When
//!   they are lost nothing is committed, and what settles late changes nothing.
//!
//! Not guaranteed: that a record is read once. What was in flight at a crash is read again, and written again with the same
//! timestamp. Beside the budget it keeps one record in hand, and Kafka's client up to 8 MiB that it fetched ahead. Records in an open transaction, and
//! those behind it, are not read before it ends; they are no lag until then, and the partition says how many they are.
//!
//! ```text
//!  actor.rs   shell: topic, thread, drain          poll.rs + poll/  the loop on its thread   client.rs  Kafka's client and callbacks
//!  state.rs   pure: positions, flights, commits    forming.rs  pure: the batch being filled    committer.rs  commits, on a thread of their own
//!  intake.rs  the wait for budget                  write_clock.rs  pure: what rows are written with    start.rs  pure: where a partition starts
//!  set_back.rs  a replay's question to it
//! ```

mod actor;
mod backpressure;
pub(crate) mod batch_builder;
mod client;
mod committer;
mod error;
mod offset_reset;
mod params;
mod poll;
pub(crate) mod start_offset;
pub(crate) mod state;

#[cfg(test)]
mod state_tests;
#[cfg(test)]
mod tests;

pub use actor::Consumer;
pub use error::ConsumerError;
pub use offset_reset::{Desk, NotSetBack, SetBack};
pub use params::{ConsumerParams, Ensure, KeptMetadata, WhichTopic};
pub use start_offset::would_start;
