//! The topic and the dead-letter topic: how they are created, and what they are.
//!
//! Guarantees:
//! * Every call ends within its time-out, with an answer or with an error of a known class.
//!
//! Does not guarantee that the answer is still true.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use forebay_schemas::offset::Partition;
use forebay_schemas::pipeline::Pipeline;
use rdkafka::admin::{AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::consumer::Consumer as _;
use rdkafka::error::IsError;
use rdkafka::types::RDKafkaErrorCode as Code;

use super::access::{Access, max_record_bytes};
use super::blocking::{REQUEST_TIMEOUT, run_blocking};
use super::error::{BrokerError, is_denied};
use forebay_dataplane::dead_letter;

/// The time-out until each partition of a new topic has a leader.
const LEADER_TIMEOUT: Duration = Duration::from_secs(15);
/// The interval between checks for leaders.
const LEADER_POLL_INTERVAL: Duration = Duration::from_millis(20);
/// The topic setting that selects the source of record timestamps.
const TIMESTAMP_TYPE_CONFIG: &str = "message.timestamp.type";
/// The topic setting that limits a record batch.
pub(super) const MAX_MESSAGE_BYTES_CONFIG: &str = "max.message.bytes";
/// The topic setting for how many replicas must have a record before it is acknowledged.
pub(super) const MIN_IN_SYNC_CONFIG: &str = "min.insync.replicas";
/// Records up to this size fit the brokers' default limit, with room for key and headers.
const DEFAULT_MAX_RECORD_BYTES: u64 = 1_000_000;
/// The default limit of brokers for a record batch.
const DEFAULT_MAX_MESSAGE_BYTES: u64 = 1_048_588;

/// The topic as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicState {
    /// Its name.
    pub topic: String,
    /// Its partitions.
    pub partitions: i32,
    /// The partitions of the file. Another number is no error: the topic may be older than the
    /// file.
    pub wanted: i32,
    /// Whether this call created it.
    pub created: bool,
}

/// `users_stream, 4 partitions`, and the difference from the file.
impl fmt::Display for TopicState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {} partitions", self.topic, self.partitions)?;
        if self.partitions != self.wanted {
            write!(f, " (kafka.partitions is {}; the topic's number applies)", self.wanted)?;
        }
        Ok(())
    }
}

/// How a missing topic is created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedTopic {
    /// Its name.
    pub name: String,
    /// Its partitions.
    pub partitions: i32,
    /// Its replicas.
    pub replication: i32,
    /// Its settings, as Kafka names them.
    pub settings: Vec<(&'static str, String)>,
}

/// The topic of a pipeline, and its dead-letter topic. The latter has one partition and accepts the
/// dead letter of any record that the topic accepts.
pub fn wanted_topics(pipeline: &Pipeline) -> [WantedTopic; 2] {
    let kafka = &pipeline.kafka;
    let mut settings = vec![(TIMESTAMP_TYPE_CONFIG, "LogAppendTime".to_owned())];
    let largest = max_record_bytes(pipeline);
    let topic_limit = if largest > DEFAULT_MAX_RECORD_BYTES { largest.saturating_add(64 << 10) } else { DEFAULT_MAX_MESSAGE_BYTES };
    if let Some(replicas) = min_in_sync(kafka.replication) {
        settings.push((MIN_IN_SYNC_CONFIG, replicas.to_string()));
    }
    let mut dead_settings = settings.clone();
    dead_settings.push((MAX_MESSAGE_BYTES_CONFIG, dead_letter_limit(topic_limit).to_string()));
    if largest > DEFAULT_MAX_RECORD_BYTES {
        settings.push((MAX_MESSAGE_BYTES_CONFIG, topic_limit.to_string()));
    }
    let wanted = |name, partitions, settings| WantedTopic { name, partitions, replication: kafka.replication, settings };
    [wanted(kafka.topic.clone(), kafka.partitions, settings), wanted(kafka.dead_letter_topic(), 1, dead_settings)]
}

/// Returns how many replicas must have a record before it is acknowledged, for a topic with that
/// many; `None` for fewer than three, of which one may then be down.
///
/// With the broker's default of one, a record is acknowledged that the leader alone has, and lost
/// with it.
pub(super) fn min_in_sync(replication: i32) -> Option<u32> {
    (replication >= 3).then_some(2)
}

/// The `max.message.bytes` of a dead-letter topic for a topic that accepts `largest` bytes.
pub(super) fn dead_letter_limit(largest: u64) -> u64 {
    largest.saturating_add(dead_letter::MAX_OVERHEAD_BYTES as u64)
}

/// Creates the topic and the dead-letter topic if they are missing, with the broker's timestamps,
/// and waits until they have leaders.
///
/// # Errors
/// Transient while the broker is unavailable, fatal when it denies this client or rejects the topic
/// that the file asks for.
pub async fn ensure_topics(access: &Access, pipeline: &Pipeline) -> Result<TopicState, BrokerError> {
    let (topic, wanted_partitions) = (pipeline.kafka.topic.clone(), pipeline.kafka.partitions);
    let mut missing = Vec::new();
    for wanted in wanted_topics(pipeline) {
        if run_blocking(access, {
            let name = wanted.name.clone();
            move |access| partitions_of(access, &name)
        })
        .await?
        .is_empty()
        {
            missing.push(wanted);
        }
    }
    let mut created = false;
    for wanted in &mut missing {
        if wanted.name != topic {
            raise_limit(access, &topic, wanted).await;
        }
        created |= create(access, wanted).await? && wanted.name == topic;
    }
    let deadline = Instant::now() + LEADER_TIMEOUT;
    loop {
        let ready = run_blocking(access, {
            let names: Vec<_> = missing.iter().map(|wanted| wanted.name.clone()).collect();
            let topic = topic.clone();
            move |access| {
                for name in &names {
                    if !have_leaders(&partitions_of(access, name)?) {
                        return Ok(None);
                    }
                }
                Ok(Some(partitions_of(access, &topic)?.len()))
            }
        })
        .await?;
        if let Some(partitions) = ready {
            let partitions = i32::try_from(partitions).unwrap_or(i32::MAX);
            let state = TopicState { topic, partitions, wanted: wanted_partitions, created };
            if partitions == wanted_partitions {
                tracing::info!(topic = state.topic, partitions, created, "topic is ready");
            } else {
                tracing::warn!(topic = state.topic, partitions, wanted_partitions, "topic partition count differs from kafka.partitions");
            }
            return Ok(state);
        }
        if Instant::now() >= deadline {
            return Err(BrokerError::NoTopic { servers: access.servers().to_owned(), topic });
        }
        tokio::time::sleep(LEADER_POLL_INTERVAL).await;
    }
}

/// Creates the dead-letter topic if it is missing, and returns whether it was.
///
/// # Errors
/// As [`ensure_topics`].
pub async fn ensure_dead_letter_topic(access: &Access, pipeline: &Pipeline) -> Result<bool, BrokerError> {
    let [records, mut dead] = wanted_topics(pipeline);
    let name = dead.name.clone();
    if !run_blocking(access, move |access| partitions_of(access, &name)).await?.is_empty() {
        return Ok(false);
    }
    raise_limit(access, &records.name, &mut dead).await;
    create(access, &dead).await
}

/// Raises the limit of the dead-letter topic above the topic's present one. Leaves it unchanged if
/// the topic's configuration can't be read.
async fn raise_limit(access: &Access, topic: &str, dead: &mut WantedTopic) {
    if access.is_embedded() {
        return;
    }
    let Ok(settings) = settings(access, topic).await else { return };
    let Some(room) = settings.get(MAX_MESSAGE_BYTES_CONFIG).and_then(|largest| largest.parse().ok()).map(dead_letter_limit) else { return };
    if let Some((_, largest)) = dead.settings.iter_mut().find(|(name, _)| *name == MAX_MESSAGE_BYTES_CONFIG)
        && largest.parse().is_ok_and(|wanted: u64| wanted < room)
    {
        *largest = room.to_string();
    }
}

/// The leader of each partition of a topic, negative for none. Empty when the topic does not exist.
pub(super) fn partitions_of(access: &Access, topic: &str) -> Result<BTreeMap<Partition, i32>, BrokerError> {
    let client = access.metadata_client()?;
    let metadata =
        client.fetch_metadata(Some(topic), REQUEST_TIMEOUT).map_err(|cause| access.error("list topics", cause, Some(&client)))?;
    let Some(found) = metadata.topics().iter().find(|found| found.name() == topic) else { return Ok(BTreeMap::new()) };
    match found.error().map(Code::from) {
        Some(code) if is_denied(code) => {
            return Err(BrokerError::Denied { servers: access.servers().to_owned(), cause: format!("topic {topic}: {code}") });
        }
        Some(_) => return Ok(BTreeMap::new()),
        None => {}
    }
    let leader = |partition: &rdkafka::metadata::MetadataPartition| match partition.error() {
        Some(code) if code.is_error() => -1,
        _ => partition.leader(),
    };
    Ok(found.partitions().iter().map(|partition| (partition.id(), leader(partition))).collect())
}

/// The partitions of a topic that must exist.
pub(super) fn existing(access: &Access, topic: &str) -> Result<BTreeMap<Partition, i32>, BrokerError> {
    let partitions = partitions_of(access, topic)?;
    if partitions.is_empty() {
        return Err(BrokerError::NoTopic { servers: access.servers().to_owned(), topic: topic.to_owned() });
    }
    Ok(partitions)
}

/// The known settings of a topic.
pub(super) async fn settings(access: &Access, topic: &str) -> Result<BTreeMap<String, String>, BrokerError> {
    let client = access.admin_client()?;
    let options = AdminOptions::new().request_timeout(Some(REQUEST_TIMEOUT));
    let answer = client.describe_configs([&ResourceSpecifier::Topic(topic)], &options).await;
    let found =
        answer.map_err(|cause| access.error("describe the configuration of a topic", cause, None))?.into_iter().find_map(Result::ok);
    let known = found.into_iter().flat_map(|resource| resource.entries);
    Ok(known.filter_map(|entry| Some((entry.name, entry.value?))).collect())
}

fn have_leaders(partitions: &BTreeMap<Partition, i32>) -> bool {
    !partitions.is_empty() && partitions.values().all(|&leader| leader >= 0)
}

/// Creates a topic, without its settings if the broker rejects them. Returns whether this call
/// created it.
async fn create(access: &Access, wanted: &WantedTopic) -> Result<bool, BrokerError> {
    let &WantedTopic { name: ref topic, partitions, replication, ref settings } = wanted;
    let mut settings = settings.as_slice();
    loop {
        let mut new = NewTopic::new(topic, partitions, TopicReplication::Fixed(replication));
        for (name, value) in settings {
            new = new.set(name, value);
        }
        let options = AdminOptions::new().request_timeout(Some(REQUEST_TIMEOUT)).operation_timeout(Some(REQUEST_TIMEOUT));
        let made =
            access.admin_client()?.create_topics([&new], &options).await.map_err(|cause| access.error("create a topic", cause, None))?;
        return match made.into_iter().next() {
            Some(Ok(_)) | None => Ok(true),
            Some(Err((_, Code::TopicAlreadyExists))) => Ok(false),
            Some(Err((_, Code::InvalidConfig))) if !settings.is_empty() => {
                tracing::warn!(topic, ?settings, "broker rejects these topic settings; creating the topic without them");
                settings = &[];
                continue;
            }
            Some(Err((_, code))) if is_denied(code) => {
                Err(BrokerError::Denied { servers: access.servers().to_owned(), cause: format!("creating the topic {topic}: {code}") })
            }
            Some(Err((_, cause))) => {
                Err(BrokerError::CreateTopic { servers: access.servers().to_owned(), topic: topic.clone(), partitions, replication, cause })
            }
        };
    }
}
