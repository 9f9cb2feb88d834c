//! Access to Kafka: an external cluster, or the broker inside this process, through one interface.
//! Every Kafka client of the crate is configured by [`Access`].
//!
//! Guarantees:
//! * The pipeline file can't override the properties that the pipeline's guarantees rest on:
//!   acknowledgement by all replicas, idempotence, Java's partitioner.
//! * Every call that blocks has a time-out and runs off the caller's thread.
//! * No message and no `Debug` output contains a secret.
//!
//! Does not guarantee that an existing topic has the timestamps or the partitions of the file;
//! [`TopicState`] reports what it has.
//!
//! The embedded broker keeps every acknowledged record and commit when the process is killed, but
//! not when the power fails: its log is synced at checkpoints. It does not return the metadata of a
//! commit over the wire, so [`committed_with_metadata`] reads that from its file.

mod access;
mod blocking;
mod cluster_state;
pub(crate) mod dead_letter_headers;
pub mod embedded;
mod embedded_retention;
mod error;
mod offsets;
mod property_checks;
mod property_names;
pub mod reader;
pub(crate) mod record_headers;
#[cfg(test)]
pub(crate) mod test_producer;
#[cfg(test)]
pub(crate) mod tests;
mod topic_id_request;
mod topics;

pub use access::{Access, LogContext};
pub(crate) use access::{BROKERS_LOST, BrokerLoss, LossContext, silence, silent_for};
pub use cluster_state::{ClusterState, TopicDescription, inspect, reachable};
pub use embedded::EmbeddedBroker;
pub use error::BrokerError;
pub(crate) use error::properties_problem;
pub use offsets::{
    Committed, commit, committed, committed_with_metadata, ends, held_back, kept_commits, offsets_at, topic_id, topic_id_now,
};
pub use property_checks::check_properties;
pub use topics::{TopicState, WantedTopic, ensure_dead_letter_topic, ensure_topics, wanted_topics};
