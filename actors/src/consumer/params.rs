//! What a consumer is built from.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use forebay_kernel::{Budget, Lease, Mailbox, SharedClock};
use forebay_schemas::offset::{Offset, Partition};
use forebay_schemas::pipeline::BatchSection;
use forebay_schemas::topic::TopicId;
use futures_util::future::BoxFuture;
use rdkafka::ClientConfig;

use super::error::ConsumerError;
use super::offset_reset::Desk;
use crate::ledger::Ledger;
use crate::message::PolledBatch;
use crate::telemetry::Telemetry;

/// Makes sure that the topic is there. Called again after a back-off while the error is transient.
pub type Ensure = Arc<dyn Fn() -> BoxFuture<'static, Result<(), ConsumerError>> + Send + Sync>;

/// The offset and metadata that the group has committed a partition, where the broker keeps them but does not give the metadata back over the
/// wire; empty for a broker that does. Called on the poll thread, at each assignment.
pub type KeptMetadata = Arc<dyn Fn() -> Result<BTreeMap<Partition, (Offset, String)>, String> + Send + Sync>;

/// Asks Kafka for the id of the topic; none from a broker that gives no ids. Called on the poll thread, at each assignment.
pub type WhichTopic = Arc<dyn Fn() -> Result<Option<TopicId>, String> + Send + Sync>;

/// What a consumer needs.
#[derive(Clone)]
pub struct ConsumerParams {
    /// How to reach the broker; what the consumer's guarantees rest on is set over it.
    pub kafka: ClientConfig,
    /// The topic.
    pub topic: String,
    /// The consumer group.
    pub group: String,
    /// When a batch is cut.
    pub batch: BatchSection,
    /// The most bytes of records that are read and not yet written.
    pub budget: Budget,
    /// Where batches go.
    pub to: Mailbox<Lease<PolledBatch>>,
    /// What others see.
    pub telemetry: Arc<Telemetry>,
    /// Tells the time.
    pub clock: SharedClock,
    /// Remembers what is written, and is told.
    pub ledger: Arc<Ledger>,
    /// Makes sure of the topic.
    pub ensure: Ensure,
    /// Where the write clock is when the broker does not give it back.
    pub kept: KeptMetadata,
    /// Which topic there is now.
    pub which: WhichTopic,
    /// Where it is asked to set partitions back.
    pub desk: Desk,
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
