//! How to reach Kafka: the configuration of every client.
//!
//! Guarantees:
//! * Secrets are revealed here, once, and shown nowhere.
//! * The properties that the pipeline's guarantees rest on take precedence over the file's.
//!
//! Does not guarantee that a broker answers.

use parking_lot::Mutex;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use forebay_schemas::pipeline::{Pipeline, Property};
use rdkafka::admin::AdminClient;
use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::statistics::{Broker, Statistics};
use rdkafka::types::RDKafkaErrorCode;

use super::embedded;
use super::error::{BrokerError, ConnectionError, is_unreachable};

/// The smallest send queue of librdkafka. A larger `producer.max_record_bytes` enlarges it.
const MIN_QUEUE_KIB: u64 = 32 << 10;
/// The bytes of key, headers and framing, added to the value for the largest message of the client.
const MAX_MESSAGE_OVERHEAD: u64 = 64 << 10;
/// The largest record that is copied from one topic to another. Brokers accept 1 MiB by default.
const MAX_COPIED_RECORD_BYTES: u64 = 64 << 20;
/// Events of a client that are polled to find its last connection error.
const MAX_EVENTS: usize = 64;
/// The limit of librdkafka for `message.max.bytes`.
const MAX_MESSAGE_BYTES: u64 = 1_000_000_000;

/// How to reach Kafka: one path for the external and the embedded broker.
#[derive(Clone)]
pub struct Access(Arc<Inner>);

/// A client for metadata requests. It joins no group.
pub(super) type MetadataClient = Arc<BaseConsumer<LogContext>>;

struct Inner {
    base: ClientConfig,
    servers: String,
    description: String,
    max_record_bytes: u64,
    embedded: Option<PathBuf>,
    metadata_client: Mutex<Option<MetadataClient>>,
}

impl Access {
    /// Access to the pipeline's broker. `embedded` is the address of the embedded broker, in this
    /// process or another one on the same data directory. It is required when the file sets
    /// `kafka.bootstrap = "embedded"`.
    ///
    /// # Errors
    /// When a secret can't be read, or the required address is missing.
    pub fn new(pipeline: &Pipeline, embedded: Option<&embedded::Address>) -> Result<Self, BrokerError> {
        let kafka = &pipeline.kafka;
        let (servers, description, data_dir) = if kafka.is_embedded() {
            let data_dir = pipeline.data_dir();
            let Some(address) = embedded else { return Err(BrokerError::NotRunning { data_dir }) };
            (address.to_string(), format!("embedded ({address})"), Some(data_dir))
        } else {
            (kafka.bootstrap.clone(), kafka.bootstrap.clone(), None)
        };
        let mut base = ClientConfig::new();
        base.set_log_level(RDKafkaLogLevel::Info)
            .set("client.id", format!("forebay-{}", pipeline.meta.name))
            // Reconnects within seconds of a broker's return; librdkafka's default limit is 10 s.
            .set("reconnect.backoff.ms", "50")
            .set("reconnect.backoff.max.ms", "2000")
            .set("socket.keepalive.enable", "true")
            .set("socket.nagle.disable", "true")
            .set("allow.auto.create.topics", "false");
        for (name, value) in &kafka.properties {
            let value = match value {
                Property::Plain(text) => text.clone(),
                Property::Secret(secret) => {
                    secret.reveal(&pipeline.source.path).map_err(|cause| BrokerError::Secret { property: name.clone(), cause })?
                }
            };
            base.set(name, value);
        }
        base.set("bootstrap.servers", &servers);
        let max_record_bytes = max_record_bytes(pipeline);
        Ok(Self(Arc::new(Inner { base, servers, description, max_record_bytes, embedded: data_dir, metadata_client: Mutex::default() })))
    }

    /// A producer's properties: acknowledged by all in-sync replicas, idempotent, retried for ever,
    /// and partitioned like Java's clients.
    pub fn producer(&self) -> ClientConfig {
        self.producer_config(self.0.max_record_bytes)
    }

    /// The properties of a producer that copies records from another topic. The topic, not the
    /// client, limits their size.
    pub fn copy_producer(&self) -> ClientConfig {
        self.producer_config(MAX_COPIED_RECORD_BYTES.max(self.0.max_record_bytes))
    }

    fn producer_config(&self, record: u64) -> ClientConfig {
        let message = record.saturating_add(MAX_MESSAGE_OVERHEAD).min(MAX_MESSAGE_BYTES);
        // On loopback a codec costs more than it saves, and the embedded broker decompresses every
        // record.
        let codec = if self.is_embedded() { "none" } else { "lz4" };
        let mut config = self.with_defaults(&[
            ("linger.ms", "5"),
            ("compression.type", codec),
            ("queue.buffering.max.kbytes", &MIN_QUEUE_KIB.max(message.div_ceil(512)).to_string()),
            ("message.max.bytes", &message.to_string()),
        ]);
        config
            .set("acks", "all")
            // Statistics detect a broker that is connected and does not answer.
            .set("statistics.interval.ms", "1000")
            .set("enable.idempotence", "true")
            // For ever: a time-out would leave a gap, or the record in the topic after all.
            .set("message.timeout.ms", "0")
            .set("partitioner", "murmur2_random");
        config
    }

    /// The properties of every consumer of `group`. The caller adds how it reads.
    ///
    /// The embedded broker answers a fetch of an idle topic after half of `fetch.wait.max.ms`. A
    /// record waits up to that long, and the CPU use of an idle consumer is inverse to it: a
    /// quarter of a core at 10 ms, half of that at 20 ms. 20 ms adds 5 ms to a lone record on
    /// average.
    ///
    /// A killed process keeps its partitions until its session times out: after 10 s, not
    /// librdkafka's 45 s, and after 6 s with the embedded broker, where only the next process of
    /// the same pipeline waits for them.
    pub fn consumer(&self, group: &str) -> ClientConfig {
        let defaults: &[(&str, &str)] = if self.is_embedded() {
            &[("fetch.wait.max.ms", "20"), ("session.timeout.ms", "6000"), ("heartbeat.interval.ms", "1500")]
        } else {
            &[("session.timeout.ms", "10000"), ("heartbeat.interval.ms", "3000")]
        };
        let mut config = self.with_defaults(defaults);
        config.set("group.id", group);
        config
    }

    /// Kafka's address for display: `host:port,…` or `embedded (127.0.0.1:PORT)`.
    pub fn describe(&self) -> String {
        self.0.description.clone()
    }

    /// Whether the broker is the one inside a Forebay process.
    pub fn is_embedded(&self) -> bool {
        self.0.embedded.is_some()
    }

    /// The bootstrap servers.
    pub(super) fn servers(&self) -> &str {
        &self.0.servers
    }

    /// The data directory of the embedded broker.
    pub(super) fn embedded_in(&self) -> Option<&PathBuf> {
        self.0.embedded.as_ref()
    }

    /// The shared client for metadata requests, created on first use and after a request that no
    /// broker answered.
    pub(super) fn metadata_client(&self) -> Result<MetadataClient, BrokerError> {
        let mut shared = self.0.metadata_client.lock();
        if let Some(client) = &*shared {
            return Ok(Arc::clone(client));
        }
        let mut config = self.0.base.clone();
        // The end of a partition is then the last stable offset, where reading ends.
        config.set("isolation.level", "read_committed");
        let client = config.create_with_context(LogContext::default()).map_err(|cause| self.error("create a client", cause, None))?;
        Ok(Arc::clone(shared.insert(Arc::new(client))))
    }

    /// A new client that reads uncommitted records: its end of a partition is the high watermark.
    pub(super) fn uncommitted_client(&self) -> Result<BaseConsumer<LogContext>, BrokerError> {
        let mut config = self.0.base.clone();
        config.set("isolation.level", "read_uncommitted");
        config.create_with_context(LogContext::default()).map_err(|cause| self.error("create a client", cause, None))
    }

    /// A new admin client.
    pub(super) fn admin_client(&self) -> Result<AdminClient<LogContext>, BrokerError> {
        self.0.base.create_with_context(LogContext::default()).map_err(|cause| self.error("create a client", cause, None))
    }

    /// The error of a failed call. `client` made the call and may know a connection error.
    ///
    /// The shared client is given up when no broker answered: it may have dropped every broker, see
    /// [`BrokerLoss`].
    pub(crate) fn error(&self, what: &str, cause: KafkaError, client: Option<&BaseConsumer<LogContext>>) -> BrokerError {
        if let Some(client) = client.filter(|_| cause.rdkafka_error_code().is_some_and(is_unreachable)) {
            self.0.metadata_client.lock().take_if(|shared| std::ptr::eq(&raw const **shared, client));
        }
        let connection_error = client.and_then(|client| {
            // Serves pending error events. There are no messages, since nothing is assigned.
            for _ in 0..MAX_EVENTS {
                let _ = client.poll(Duration::ZERO);
            }
            client.context().connection_error()
        });
        BrokerError::new(&self.0.servers, what, cause, connection_error)
    }

    /// The properties of every client, and these where the file does not set them.
    fn with_defaults(&self, defaults: &[(&str, &str)]) -> ClientConfig {
        let mut config = self.0.base.clone();
        for (name, value) in defaults {
            if config.get(name).is_none() {
                config.set(*name, *value);
            }
        }
        config
    }
}

/// The largest record of a pipeline, bytes.
pub(super) fn max_record_bytes(pipeline: &Pipeline) -> u64 {
    pipeline.producer.as_ref().map_or(1_000_000, |producer| producer.max_record_bytes.0)
}

/// Shows the address and no property, since one may be a secret.
impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Access({})", self.0.description)
    }
}

/// How long a request may be unanswered until the broker is reported as silent. Shorter than
/// librdkafka's time-out of 60 s, and longer than any answer of a working broker, which answers a
/// fetch within `fetch.wait.max.ms`.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a connected broker has left a request unanswered, if longer than [`SILENCE_TIMEOUT`]:
/// it is frozen, or the network lost it. The coordinator's connection does not count, since joining
/// a group waits for other members.
pub(crate) fn silent_for(statistics: &Statistics) -> Option<Duration> {
    let has_pending = |broker: &&Broker| broker.state == "UP" && broker.source != "logical" && broker.waitresp_cnt > 0;
    // −1 on a connection that has received nothing yet.
    let idle = |broker: &Broker| Duration::from_micros(u64::try_from(broker.rxidle.min(broker.stateage)).unwrap_or(0));
    statistics.brokers.values().filter(has_pending).map(idle).filter(|idle| *idle >= SILENCE_TIMEOUT).max()
}

/// The message for a silent broker.
pub(crate) fn silence(kafka: &str, silent: Duration) -> String {
    format!("kafka {kafka} is connected and has not answered for {} s", silent.as_secs())
}

/// Why a client is replaced that has no broker left.
pub(crate) const BROKERS_LOST: &str = "its client has dropped every broker, since kafka named none, and does not return to the bootstrap \
                                       servers; a new client does";

/// Detects a client that has no broker left, by its statistics.
///
/// librdkafka 2.10 and later drops the brokers that are missing in the metadata, and then starts
/// again from the bootstrap servers. A broker that its controller has fenced, as after a freeze,
/// names none; the new start can get lost then, and the client never connects again: see
/// <https://github.com/confluentinc/librdkafka/issues/5301>.
#[derive(Debug, Default)]
pub(crate) struct BrokerLoss(AtomicU32);

impl BrokerLoss {
    /// Whether these statistics, and those before them, show no broker. The time between two is
    /// longer than a new start takes.
    pub(crate) fn is_shown_by(&self, statistics: &Statistics) -> bool {
        let has_broker = statistics.brokers.values().any(|broker| matches!(broker.source.as_str(), "configured" | "learned"));
        if has_broker {
            self.0.store(0, Ordering::Relaxed);
            return false;
        }
        self.0.fetch_add(1, Ordering::Relaxed) > 0
    }
}

/// The context of a producer that only has to know whether it can still deliver.
#[derive(Debug, Clone, Default)]
pub(crate) struct LossContext(Arc<(BrokerLoss, AtomicBool)>);

impl LossContext {
    /// Whether the client has no broker left.
    pub(crate) fn is_lost(&self) -> bool {
        self.0.1.load(Ordering::Relaxed)
    }
}

impl ClientContext for LossContext {
    fn stats(&self, statistics: Statistics) {
        self.0.1.store(self.0.0.is_shown_by(&statistics), Ordering::Relaxed);
    }
}

/// A client context that forwards librdkafka's log to `tracing` at debug level, and keeps the last
/// connection error, since a failed call says only "transport failure".
#[derive(Debug, Clone, Default)]
pub struct LogContext {
    connection_error: Arc<Mutex<Option<ConnectionError>>>,
}

impl LogContext {
    /// The last connection error of librdkafka.
    pub fn connection_error(&self) -> Option<ConnectionError> {
        self.connection_error.lock().clone()
    }

    /// Strips the broker and the state from an error reason of librdkafka, such as
    /// `127.0.0.1:9092/bootstrap: Connect to ipv4#… failed: Connection refused (after 0ms in state
    /// CONNECT)`.
    pub fn reason_text(reason: &str) -> &str {
        let reason = reason.split_once(": ").map_or(reason, |(_, rest)| rest);
        reason.split_once(" (after ").map_or(reason, |(rest, _)| rest)
    }
}

impl ClientContext for LogContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        tracing::debug!(target: "librdkafka", ?level, facility, "{line}");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(target: "librdkafka", %error, "{reason}");
        // "All brokers down" follows the errors of each broker and says less.
        if let Some(code) = error.rdkafka_error_code().filter(|code| *code != RDKafkaErrorCode::AllBrokersDown) {
            *self.connection_error.lock() = Some(ConnectionError { code, reason: Self::reason_text(reason).to_owned() });
        }
    }
}

impl rdkafka::consumer::ConsumerContext for LogContext {}

#[cfg(test)]
mod tests {
    use super::*;

    fn statistics(source: &str) -> Statistics {
        let broker = Broker { source: source.to_owned(), ..Broker::default() };
        Statistics { brokers: [("a broker".to_owned(), broker)].into(), ..Statistics::default() }
    }

    #[test]
    fn a_client_has_lost_its_brokers_when_two_statistics_in_a_row_show_none() {
        let loss = BrokerLoss::default();
        let shown: Vec<bool> = ["configured", "logical", "learned", "logical", "logical", "configured"]
            .map(|source| loss.is_shown_by(&statistics(source)))
            .into();
        assert_eq!(shown, [false, false, false, false, true, false]);
    }

    #[test]
    fn a_producer_that_has_no_broker_left_says_so() {
        let context = LossContext::default();
        context.stats(statistics("logical"));
        assert!(!context.is_lost());
        context.stats(statistics("logical"));
        assert!(context.is_lost());
    }
}
