//! Kafka, one path for an external cluster and for the broker inside this process: [`Access`] says how to reach it, and every client
//! of the crate is made from it.
//!
//! Guarantee: what a guarantee of the pipeline rests on (acknowledgement by all replicas, idempotence, Java's partitioner) is set here
//! and can't be changed by the pipeline file; every call that waits has a time-out and waits off the caller's thread; no message or
//! `Debug` form shows a secret. Not guaranteed: that a topic somebody else made has the timestamps or the partitions the file asks for;
//! [`TopicState`] says what is there.
//!
//! The embedded broker keeps every acknowledged record and commit through a kill of the process (not through a power cut: its log is
//! synced at checkpoints). It does not give back the metadata of a commit over the wire, so [`committed_with_metadata`] reads that from its file.

mod access;
pub(crate) mod client_headers;
pub(crate) mod dead_letter;
mod describe_topic;
pub mod embedded;
mod error;
mod inspect;
mod offsets;
#[cfg(test)]
pub(crate) mod raw_produce;
pub mod reader;
mod request;
mod retention;
#[cfg(test)]
pub(crate) mod tests;
mod topics;

pub use access::{Access, Quiet};
pub(crate) use access::{silence, silent_for};
pub use embedded::EmbeddedBroker;
pub use error::BrokerError;
pub use inspect::{ClusterState, TopicDescription, inspect};
pub use offsets::{
    Committed, commit, committed, committed_with_metadata, ends, held_back, kept_commits, offsets_at, topic_id, topic_id_now,
};
pub use topics::{TopicState, WantedTopic, ensure_dead_letter_topic, ensure_topics, wanted_topics};
