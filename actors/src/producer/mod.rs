//! The producer: writes pages to the topic, each record with its key.
//!
//! Guarantees:
//! * The receipt of a page is settled only once all in-sync replicas have acknowledged every record
//!   of it, in the topic or in the dead-letter topic.
//! * Records keep their order within a partition: in a page, and from page to page, whatever is
//!   sent again. Keys map to the partitions that Java clients use.
//! * Each record has the headers `forebay-run` (the fetch it came from) and `forebay-event-id` (a
//!   function of its content).
//! * A record that has no key, is not an object, is not JSON, exceeds the limit, or that Kafka
//!   refuses for its size becomes a dead letter with its reason. The rest of its page is produced.
//!   A value that is too large is truncated, see [`dead_letter`](forebay_dataplane::dead_letter).
//!
//! Does not guarantee that a record is in the topic once. A page whose producer went down on the
//! way is produced again; its records have the same key and identifier, and the upsert absorbs
//! them.
//!
//! ```text
//! Page ─▶ waiting ─▶ client.produce (on a thread that may block while the queue is full) ─▶ librdkafka ─▶ Kafka
//!                                              DeliveryTracker ◀── delivery reports, in any order ──┘
//!                                              receipt ◀──┘ when every record is acknowledged or failed
//! ```

mod actor;
mod client;
pub(crate) mod error;
mod keyed_record;
pub(crate) mod state;
#[cfg(test)]
mod tests;

pub(crate) use actor::Producer;
pub(crate) use keyed_record::{KeyExtractor, KeyedRecord};
