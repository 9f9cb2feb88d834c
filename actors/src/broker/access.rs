//! How to reach Kafka. Guarantee: secrets are revealed here, once, and shown nowhere; the properties the pipeline's guarantees rest on
//! win over those of the file. Not guaranteed: that anybody is there.

use parking_lot::Mutex;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
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
use super::error::BrokerError;

/// What librdkafka keeps of records on their way to the broker, at least; a larger `producer.max_record_bytes` makes it larger.
const QUEUE_KIB: u64 = 32 << 10;
/// What a record's key, headers and framing weigh at most beside its value, for the largest message the client lets out.
const MESSAGE_OVERHEAD: u64 = 64 << 10;
/// The largest record that goes from one topic into another; brokers take 1 MiB unless told otherwise.
const LARGEST_AGAIN: u64 = 64 << 20;
/// How many events of a client are served to learn of its trouble.
const EVENTS: usize = 64;
/// The most librdkafka allows for `message.max.bytes`.
const LARGEST_MESSAGE: u64 = 1_000_000_000;

/// How to reach Kafka: one path for the external and the embedded broker.
#[derive(Clone)]
pub struct Access(Arc<Inner>);

struct Inner {
    base: ClientConfig,
    servers: String,
    description: String,
    max_record_bytes: u64,
    embedded: Option<PathBuf>,
    asking: OnceLock<BaseConsumer<Quiet>>,
}

impl Access {
    /// Access to the pipeline's broker. `embedded` is where the broker inside this process, or of another command on the same data
    /// directory, listens; needed when the file says `kafka.bootstrap = "embedded"`.
    ///
    /// # Errors
    /// When a secret can't be had, or the embedded broker's address is needed and not given.
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
            // Against a broker that comes back, seconds count; librdkafka's own limit is 10 s.
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
        Ok(Self(Arc::new(Inner { base, servers, description, max_record_bytes, embedded: data_dir, asking: OnceLock::new() })))
    }

    /// A producer's properties: acknowledged by all replicas in sync, idempotent, tried again for ever, and keys in the partitions
    /// where Java's clients put them.
    pub fn producer(&self) -> ClientConfig {
        self.producer_of(self.0.max_record_bytes)
    }

    /// The same for records that were in a topic already, whoever wrote them: how large one may be is for the topic to say.
    pub fn producer_again(&self) -> ClientConfig {
        self.producer_of(LARGEST_AGAIN.max(self.0.max_record_bytes))
    }

    fn producer_of(&self, record: u64) -> ClientConfig {
        let message = record.saturating_add(MESSAGE_OVERHEAD).min(LARGEST_MESSAGE);
        // On loopback a codec costs more than it saves, and the embedded broker undoes it record by record.
        let codec = if self.is_embedded() { "none" } else { "lz4" };
        let mut config = self.with_defaults(&[
            ("linger.ms", "5"),
            ("compression.type", codec),
            ("queue.buffering.max.kbytes", &QUEUE_KIB.max(message.div_ceil(512)).to_string()),
            ("message.max.bytes", &message.to_string()),
        ]);
        config
            .set("acks", "all")
            // By these a broker that is connected and does not answer is found out.
            .set("statistics.interval.ms", "1000")
            .set("enable.idempotence", "true")
            // For ever: a time-out would leave a gap, and may leave the record in the topic all the same.
            .set("message.timeout.ms", "0")
            .set("partitioner", "murmur2_random");
        config
    }

    /// What every consumer of `group` needs; it adds what it reads by.
    ///
    /// The embedded broker answers a fetch of an idle topic only after half of `fetch.wait.max.ms`, so a record waits up to that long
    /// and an idle consumer costs CPU in the inverse: at 10 ms a quarter of a core, at 20 ms half of that. 20 ms adds 5 ms to a lone
    /// record on average, and leaves a laptop cool.
    ///
    /// A process that was killed keeps its partitions until its session times out: 10 s, not librdkafka's 45 s, and 6 s with the embedded
    /// broker, where nobody but the next process of the same pipeline waits for them.
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

    /// Where Kafka is, as a person would write it: `host:port,…` or `embedded (127.0.0.1:PORT)`.
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

    /// The one client that asks about topics, made at the first question. It is no member of a group.
    pub(super) fn asking(&self) -> Result<&BaseConsumer<Quiet>, BrokerError> {
        if let Some(asking) = self.0.asking.get() {
            return Ok(asking);
        }
        let mut config = self.0.base.clone();
        // The end of a partition is where its reading ends.
        config.set("isolation.level", "read_committed");
        let asking = config.create_with_context(Quiet::default()).map_err(|cause| self.error("make a client", cause, None))?;
        Ok(self.0.asking.get_or_init(|| asking))
    }

    /// A short-lived client for which open transactions end nothing: its end of a partition is the high watermark.
    pub(super) fn asking_for_all(&self) -> Result<BaseConsumer<Quiet>, BrokerError> {
        let mut config = self.0.base.clone();
        config.set("isolation.level", "read_uncommitted");
        config.create_with_context(Quiet::default()).map_err(|cause| self.error("make a client", cause, None))
    }

    /// A client that makes topics, or asks for their settings, for the moment.
    pub(super) fn making(&self) -> Result<AdminClient<Quiet>, BrokerError> {
        self.0.base.create_with_context(Quiet::default()).map_err(|cause| self.error("make a client", cause, None))
    }

    /// The error of a call to this broker; `by` is the client that made it, for what it heard of its connections.
    pub(crate) fn error(&self, what: &str, cause: KafkaError, by: Option<&BaseConsumer<Quiet>>) -> BrokerError {
        let trouble = by.and_then(|client| {
            // Serves what has come of errors; there are no messages, since nothing is assigned.
            for _ in 0..EVENTS {
                let _ = client.poll(Duration::ZERO);
            }
            client.context().trouble()
        });
        BrokerError::of(&self.0.servers, what, cause, trouble)
    }

    /// The properties that every client has, and these where the file doesn't say otherwise.
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

/// Where it leads; no property, for one may be a secret.
impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Access({})", self.0.description)
    }
}

/// How long a broker may leave a request without an answer until it is said to be silent. Shorter than librdkafka's own time-out of 60 s, and
/// longer than any answer of a broker that works: a fetch is answered within `fetch.wait.max.ms`.
const SILENT: Duration = Duration::from_secs(5);

/// How long a broker that is connected has sent nothing though it owes an answer, when that is longer than [`SILENT`]: it is frozen, or the
/// network lost it. The coordinator's connection is left out, since joining a group waits for other members.
pub(crate) fn silent_for(statistics: &Statistics) -> Option<Duration> {
    let owes = |broker: &&Broker| broker.state == "UP" && broker.source != "logical" && broker.waitresp_cnt > 0;
    // A connection that has sent nothing yet says −1.
    let idle = |broker: &Broker| Duration::from_micros(u64::try_from(broker.rxidle.min(broker.stateage)).unwrap_or(0));
    statistics.brokers.values().filter(owes).map(idle).filter(|idle| *idle >= SILENT).max()
}

/// What is said of a broker that is silent for that long.
pub(crate) fn silence(kafka: &str, silent: Duration) -> String {
    format!("kafka {kafka} is connected and has not answered for {} s", silent.as_secs())
}

/// A client's context that sends librdkafka's talk to `tracing` at debug level and keeps its last complaint about a connection, since
/// the errors of calls don't say more than "transport failure".
#[derive(Debug, Clone, Default)]
pub struct Quiet {
    trouble: Arc<Mutex<Option<String>>>,
}

impl Quiet {
    /// What librdkafka last said of a connection that failed.
    pub fn trouble(&self) -> Option<String> {
        self.trouble.lock().clone()
    }

    /// What a reason says besides who says it and when: librdkafka writes `127.0.0.1:9092/bootstrap: Connect to ipv4#… failed:
    /// Connection refused (after 0ms in state CONNECT)`.
    pub fn complaint(reason: &str) -> &str {
        let reason = reason.split_once(": ").map_or(reason, |(_, rest)| rest);
        reason.split_once(" (after ").map_or(reason, |(rest, _)| rest)
    }
}

impl ClientContext for Quiet {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        tracing::debug!(target: "librdkafka", ?level, facility, "{line}");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(target: "librdkafka", %error, "{reason}");
        // That all are down follows from what was said of each before, and says less.
        if error.rdkafka_error_code() != Some(RDKafkaErrorCode::AllBrokersDown) {
            *self.trouble.lock() = Some(Self::complaint(reason).to_owned());
        }
    }
}

impl rdkafka::consumer::ConsumerContext for Quiet {}
