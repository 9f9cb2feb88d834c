//! What a consumer is built from.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use forebay_kernel::{Budget, Lease, Mailbox, SharedClock};
use forebay_schemas::offset::{Offset, Partition};
use forebay_schemas::pipeline::BatchSection;
use forebay_schemas::topic_id::TopicId;
use futures_util::future::BoxFuture;
use rdkafka::ClientConfig;

use super::error::ConsumerError;
use super::reset_handle::ResetHandle;
use crate::ledger::Ledger;
use crate::message::PolledBatch;
use crate::telemetry::Telemetry;

/// Ensures that the topic exists. Called again after a back-off while the error is transient.
pub(crate) type EnsureTopic = Arc<dyn Fn() -> BoxFuture<'static, Result<(), ConsumerError>> + Send + Sync>;

/// Returns the group's offsets and commit metadata, where the broker stores the metadata but does
/// not return it over the wire; empty for other brokers. Called on the poll thread, at each
/// assignment.
pub(crate) type StoredMetadata = Arc<dyn Fn() -> Result<BTreeMap<Partition, (Offset, String)>, String> + Send + Sync>;

/// Returns the topic's id; `None` from a broker without topic ids. Called on the poll thread, at
/// each assignment.
pub(crate) type TopicIdLookup = Arc<dyn Fn() -> Result<Option<TopicId>, String> + Send + Sync>;

/// What a consumer is built from.
#[derive(Clone)]
pub(crate) struct ConsumerParams {
    /// The client's properties. Those that the consumer's guarantees depend on are overridden.
    pub kafka: ClientConfig,
    /// The topic.
    pub topic: String,
    /// The consumer group.
    pub group: String,
    /// When a batch is sealed.
    pub batch: BatchSection,
    /// The bytes of records that may be read and not yet written.
    pub budget: Budget,
    /// Where batches go.
    pub to: Mailbox<Lease<PolledBatch>>,
    /// Where it reports its state.
    pub telemetry: Arc<Telemetry>,
    /// The clock.
    pub clock: SharedClock,
    /// Where it reads checkpoints, and records events.
    pub ledger: Arc<Ledger>,
    /// Ensures that the topic exists.
    pub ensure_topic: EnsureTopic,
    /// Returns commit metadata that the broker does not return.
    pub stored_metadata: StoredMetadata,
    /// Returns the topic's id.
    pub topic_id: TopicIdLookup,
    /// Where offset resets are requested.
    pub resets: ResetHandle,
}

impl fmt::Debug for ConsumerParams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The properties may hold secrets.
        f.debug_struct("ConsumerParams")
            .field("topic", &self.topic)
            .field("group", &self.group)
            .field("batch", &self.batch)
            .finish_non_exhaustive()
    }
}
