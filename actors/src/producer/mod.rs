//! The producer: pages into the topic, each record with its key.
//!
//! Guarantee: a page's receipt is settled only when Kafka has acknowledged every record of it with all replicas in sync, in the topic or
//! in the dead-letter topic; records of a page keep their order within a partition; keys land in the partitions where Java's clients
//! put them. Each record carries the headers `forebay-run` (the fetch it came by) and `forebay-event-id` (a function of its content). A
//! record without a key, one that is no object or no JSON, and one over the limit or that Kafka refuses for its size becomes a dead letter with its
//! reason, and the rest of its page goes on; a value that does not fit there is cut, see [`letter`](crate::message::letter).
//!
//! Not guaranteed: that a record is in the topic once. A page whose producer went down on the way is produced again; its records carry
//! the same key and identifier and die in the upsert.
//!
//! ```text
//! Lease<Page> ─▶ waiting ─▶ client.produce (a thread of the pool; waits while the queue is full) ─▶ librdkafka ─▶ Kafka
//!                                                              Tally ◀── delivery reports, in any order ──┘
//!                                              receipt, lease ◀──┘ when every record is answered for
//! ```

mod actor;
mod client;
mod error;
pub(crate) mod key;
pub(crate) mod state;
#[cfg(test)]
mod tests;

pub use actor::Producer;
pub use error::ProduceError;
