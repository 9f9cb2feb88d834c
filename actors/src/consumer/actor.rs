//! The shell: makes sure of the topic, runs the poll loop on its thread, tells it to drain.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use forebay_schemas::offset::{Offset, Partition};
use forebay_schemas::pipeline::BatchSection;
use forebay_schemas::topic::TopicId;
use futures_util::future::BoxFuture;
use rdkafka::ClientConfig;

use super::error::ConsumerError;
use super::poll;
use super::set_back::Desk;
use crate::ledger::Ledger;
use crate::message::PolledBatch;
use crate::telemetry::{Need, Telemetry};
use forebay_kernel::{Actor, Backoff, Budget, Cx, Exit, Lease, Mailbox, SharedClock};
use forebay_schemas::failure::Class;

/// Delays between attempts to make sure of the topic.
const ENSURE_BACKOFF: Backoff = Backoff { min: Duration::from_millis(200), max: Duration::from_secs(30) };

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

/// The consumer. Nothing is posted to it.
#[derive(Debug)]
pub struct Consumer {
    params: Arc<ConsumerParams>,
    drain: Arc<AtomicBool>,
    reading: bool,
    attempts: u32,
}

impl Consumer {
    /// One incarnation; it starts where the group has committed.
    pub fn new(params: ConsumerParams) -> Self {
        Self { params: Arc::new(params), drain: Arc::default(), reading: false, attempts: 0 }
    }

    fn ensure(&mut self, cx: &mut Cx<'_, Self>) {
        cx.offload((self.params.ensure)(), |consumer, answer, cx| match answer {
            Ok(()) => {
                if consumer.attempts > 0 {
                    cx.progress().clear();
                }
                consumer.params.telemetry.there(Need::Topics);
                consumer.read(cx);
            }
            Err(error) if error.class() == Class::Transient => {
                if consumer.attempts == 0 {
                    tracing::warn!(topic = consumer.params.topic, %error, "waiting for the topic");
                }
                let delay = ENSURE_BACKOFF.delay(consumer.attempts, rand::random());
                consumer.attempts = consumer.attempts.saturating_add(1);
                cx.progress().waiting(format!("{error} (attempt {}, next in {:.1} s)", consumer.attempts, delay.as_secs_f64()));
                cx.after(delay, Self::ensure);
            }
            Err(error) => cx.exit(error.into()),
        });
    }

    fn read(&mut self, cx: &mut Cx<'_, Self>) {
        self.reading = true;
        let (params, drain, progress) = (Arc::clone(&self.params), Arc::clone(&self.drain), cx.progress());
        cx.thread(
            "consumer",
            move |cancel| poll::run(&params, &progress, &drain, &cancel),
            |_, end, cx| cx.exit(end.map_or_else(Exit::from, |()| Exit::Shutdown)),
        );
    }
}

impl Actor for Consumer {
    type Message = Infallible;

    fn started(&mut self, cx: &mut Cx<'_, Self>) {
        self.ensure(cx);
    }

    fn handle(&mut self, message: Infallible, _: &mut Cx<'_, Self>) {
        match message {}
    }

    fn stopping(&mut self, cx: &mut Cx<'_, Self>) {
        self.drain.store(true, Ordering::Relaxed);
        if !self.reading {
            cx.exit(Exit::Shutdown);
        }
    }
}
