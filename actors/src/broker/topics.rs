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
use super::error::{BrokerError, is_denied};
use super::request::{REQUEST_TIMEOUT, ask};
use forebay_dataplane::dead_letter;

/// How long a new topic may take until each partition has a leader.
const ELECTION: Duration = Duration::from_secs(15);
/// Between two looks at a topic that is being made.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// Whose clock a record's timestamp is of.
const TIMESTAMPS: &str = "message.timestamp.type";
/// The largest record batch.
pub(super) const LARGEST: &str = "max.message.bytes";
/// Records up to this size fit the brokers' own limit, with room for key and headers.
const USUAL_RECORD: u64 = 1_000_000;
/// The brokers' own limit, where nobody has set another one.
const USUAL_LARGEST: u64 = 1_048_588;

/// The topic as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicState {
    /// Its name.
    pub topic: String,
    /// Its partitions.
    pub partitions: i32,
    /// What the file asks to make it with; another number is no error, since the topic may be older than the file.
    pub asked: i32,
    /// Whether this call made it.
    pub made: bool,
}

/// `users_stream, 4 partitions`, and what differs from the file.
impl fmt::Display for TopicState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {} partitions", self.topic, self.partitions)?;
        if self.partitions != self.asked {
            write!(f, " (kafka.partitions says {}; the topic's own number counts)", self.asked)?;
        }
        Ok(())
    }
}

/// A topic as it is made where it is missing.
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

/// The topic of a pipeline, and the dead-letter topic, of one partition, which takes a letter of any record that the topic takes.
pub fn wanted_topics(pipeline: &Pipeline) -> [WantedTopic; 2] {
    let kafka = &pipeline.kafka;
    let mut settings = vec![(TIMESTAMPS, "LogAppendTime".to_owned())];
    let largest = max_record_bytes(pipeline);
    let topic_takes = if largest > USUAL_RECORD { largest.saturating_add(64 << 10) } else { USUAL_LARGEST };
    let dead_settings = vec![settings[0].clone(), (LARGEST, with_room(topic_takes).to_string())];
    if largest > USUAL_RECORD {
        settings.push((LARGEST, topic_takes.to_string()));
    }
    let wanted = |name, partitions, settings| WantedTopic { name, partitions, replication: kafka.replication, settings };
    [wanted(kafka.topic.clone(), kafka.partitions, settings), wanted(kafka.dead_letter_topic(), 1, dead_settings)]
}

/// What a dead-letter topic is to take where the topic takes records of `largest` bytes.
pub(super) fn with_room(largest: u64) -> u64 {
    largest.saturating_add(dead_letter::MAX_OVERHEAD_BYTES as u64)
}

/// Makes the topic and the dead-letter topic where they are missing, with the broker's timestamps, and waits until they have leaders.
///
/// # Errors
/// Transient while the broker is away; fatal when it refuses this client or the topic as the file asks for it.
pub async fn ensure_topics(access: &Access, pipeline: &Pipeline) -> Result<TopicState, BrokerError> {
    let (topic, asked) = (pipeline.kafka.topic.clone(), pipeline.kafka.partitions);
    let mut missing = Vec::new();
    for wanted in wanted_topics(pipeline) {
        if ask(access, {
            let name = wanted.name.clone();
            move |access| partitions_of(access, &name)
        })
        .await?
        .is_empty()
        {
            missing.push(wanted);
        }
    }
    let mut made = false;
    for wanted in &mut missing {
        if wanted.name != topic {
            give_room(access, &topic, wanted).await;
        }
        made |= make(access, wanted).await? && wanted.name == topic;
    }
    let deadline = Instant::now() + ELECTION;
    loop {
        let ready = ask(access, {
            let names: Vec<_> = missing.iter().map(|wanted| wanted.name.clone()).collect();
            let topic = topic.clone();
            move |access| {
                for name in &names {
                    if !is_led(&partitions_of(access, name)?) {
                        return Ok(None);
                    }
                }
                Ok(Some(partitions_of(access, &topic)?.len()))
            }
        })
        .await?;
        if let Some(partitions) = ready {
            let partitions = i32::try_from(partitions).unwrap_or(i32::MAX);
            let state = TopicState { topic, partitions, asked, made };
            if partitions == asked {
                tracing::info!(topic = state.topic, partitions, made, "topic is ready");
            } else {
                tracing::warn!(topic = state.topic, partitions, asked, "topic has another number of partitions than kafka.partitions says");
            }
            return Ok(state);
        }
        if Instant::now() >= deadline {
            return Err(BrokerError::NoTopic { servers: access.servers().to_owned(), topic });
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// Makes the dead-letter topic where it is missing, and says whether it was.
///
/// # Errors
/// As [`ensure_topics`].
pub async fn ensure_dead_letter_topic(access: &Access, pipeline: &Pipeline) -> Result<bool, BrokerError> {
    let [records, mut dead] = wanted_topics(pipeline);
    let name = dead.name.clone();
    if !ask(access, move |access| partitions_of(access, &name)).await?.is_empty() {
        return Ok(false);
    }
    give_room(access, &records.name, &mut dead).await;
    make(access, &dead).await
}

/// Has a dead-letter topic take more than the topic as that is set now. Where nobody may ask how it is set, what was wanted stays.
async fn give_room(access: &Access, topic: &str, dead: &mut WantedTopic) {
    if access.is_embedded() {
        return;
    }
    let Ok(settings) = settings(access, topic).await else { return };
    let Some(room) = settings.get(LARGEST).and_then(|largest| largest.parse().ok()).map(with_room) else { return };
    if let Some((_, largest)) = dead.settings.iter_mut().find(|(name, _)| *name == LARGEST)
        && largest.parse().is_ok_and(|wanted: u64| wanted < room)
    {
        *largest = room.to_string();
    }
}

/// Each partition of a topic and its leader, less than 0 for none; nothing when there is no such topic.
pub(super) fn partitions_of(access: &Access, topic: &str) -> Result<BTreeMap<Partition, i32>, BrokerError> {
    let asking = access.asking()?;
    let metadata = asking
        .fetch_metadata(Some(topic), REQUEST_TIMEOUT)
        .map_err(|cause| access.error("say which topics there are", cause, Some(asking)))?;
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

/// The partitions of a topic that must be there.
pub(super) fn existing(access: &Access, topic: &str) -> Result<BTreeMap<Partition, i32>, BrokerError> {
    let partitions = partitions_of(access, topic)?;
    if partitions.is_empty() {
        return Err(BrokerError::NoTopic { servers: access.servers().to_owned(), topic: topic.to_owned() });
    }
    Ok(partitions)
}

/// The settings of a topic that are known.
pub(super) async fn settings(access: &Access, topic: &str) -> Result<BTreeMap<String, String>, BrokerError> {
    let client = access.making()?;
    let options = AdminOptions::new().request_timeout(Some(REQUEST_TIMEOUT));
    let answer = client.describe_configs([&ResourceSpecifier::Topic(topic)], &options).await;
    let found = answer.map_err(|cause| access.error("say how a topic is set", cause, None))?.into_iter().find_map(Result::ok);
    let known = found.into_iter().flat_map(|resource| resource.entries);
    Ok(known.filter_map(|entry| Some((entry.name, entry.value?))).collect())
}

fn is_led(partitions: &BTreeMap<Partition, i32>) -> bool {
    !partitions.is_empty() && partitions.values().all(|&leader| leader >= 0)
}

/// Makes a topic; says whether it was this call that did. A broker that knows none of the settings makes it without.
async fn make(access: &Access, wanted: &WantedTopic) -> Result<bool, BrokerError> {
    let &WantedTopic { name: ref topic, partitions, replication, ref settings } = wanted;
    let mut settings = settings.as_slice();
    loop {
        let mut new = NewTopic::new(topic, partitions, TopicReplication::Fixed(replication));
        for (name, value) in settings {
            new = new.set(name, value);
        }
        let options = AdminOptions::new().request_timeout(Some(REQUEST_TIMEOUT)).operation_timeout(Some(REQUEST_TIMEOUT));
        let made = access.making()?.create_topics([&new], &options).await.map_err(|cause| access.error("make a topic", cause, None))?;
        return match made.into_iter().next() {
            Some(Ok(_)) | None => Ok(true),
            Some(Err((_, Code::TopicAlreadyExists))) => Ok(false),
            Some(Err((_, Code::InvalidConfig))) if !settings.is_empty() => {
                tracing::warn!(topic, ?settings, "broker knows not these settings of a topic; making it without them");
                settings = &[];
                continue;
            }
            Some(Err((_, code))) if is_denied(code) => {
                Err(BrokerError::Denied { servers: access.servers().to_owned(), cause: format!("making the topic {topic}: {code}") })
            }
            Some(Err((_, cause))) => Err(BrokerError::CantMakeTopic {
                servers: access.servers().to_owned(),
                topic: topic.clone(),
                partitions,
                replication,
                cause,
            }),
        };
    }
}
