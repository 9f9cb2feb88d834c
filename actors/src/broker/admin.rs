//! Questions about topics and groups, and the making of topics. Guarantee: every call ends within its time-out, in an answer or in an
//! error of a known class. Not guaranteed: that the answer is still true.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use forebay_schemas::offset::{Offset, Partition, Range};
use forebay_schemas::pipeline::Pipeline;
use forebay_schemas::topic::TopicId;
use rdkafka::TopicPartitionList;
use rdkafka::admin::{AdminOptions, NewTopic, TopicReplication};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::IsError;
use rdkafka::types::RDKafkaErrorCode as Code;

use super::access::{Access, Quiet, max_record_bytes};
use super::error::{BrokerError, is_denied};
use super::look::settings;
use super::{describe, embedded};
use forebay_dataplane::dead_letter;

/// The time-out of one question.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);
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

/// What a group has committed for a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// The first offset that isn't done.
    pub offset: Offset,
    /// What the committer wrote beside it; empty when nothing.
    pub metadata: String,
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

/// The id of a topic, which changes when the topic is deleted and created again; none from a broker that gives no ids.
///
/// # Errors
/// As [`ends`].
pub async fn topic_id(access: &Access, topic: &str) -> Result<Option<TopicId>, BrokerError> {
    let topic = topic.to_owned();
    ask(access, move |access| topic_id_now(access, &topic, PATIENCE)).await
}

/// The same on the caller's thread, which waits for it.
///
/// # Errors
/// As [`ends`].
pub fn topic_id_now(access: &Access, topic: &str, within: Duration) -> Result<Option<TopicId>, BrokerError> {
    let asking = access.asking()?;
    describe::topic_id(asking.client(), topic, within).map_err(|cause| match cause.rdkafka_error_code() {
        Some(Code::UnknownTopicOrPartition) => BrokerError::NoTopic { servers: access.servers().to_owned(), topic: topic.to_owned() },
        _ => access.error("say which topic it is", cause, Some(asking)),
    })
}

/// What an open transaction holds back of a topic, a partition: its first offset, and how many offsets from there on were written. They can't be read
/// before the transaction ends, by commit or abort or by its time-out.
///
/// # Errors
/// As [`ends`].
pub async fn held_back(access: &Access, topic: &str) -> Result<BTreeMap<Partition, Range>, BrokerError> {
    let topic = topic.to_owned();
    ask(access, move |access| held_back_now(access, &topic)).await
}

pub(super) fn held_back_now(access: &Access, topic: &str) -> Result<BTreeMap<Partition, Range>, BrokerError> {
    // Asked first: what is written between the two questions would else look as if it were held back.
    let written = access.asking_for_all()?;
    let mut high = BTreeMap::new();
    for (partition, _) in existing(access, topic)? {
        let ends = written.fetch_watermarks(topic, partition, PATIENCE);
        let (_, end) = ends.map_err(|cause| access.error("say where the topic ends", cause, Some(&written)))?;
        high.insert(partition, end);
    }
    let readable = ends_now(access, topic)?;
    let held = |(partition, to): (Partition, Offset)| {
        let held = Range { from: readable.get(&partition)?.1, to };
        (!held.is_empty()).then_some((partition, held))
    };
    Ok(high.into_iter().filter_map(held).collect())
}

/// The first offset Kafka still holds and the end of what can be read, a partition: the offset the next record gets, or the first one of a
/// transaction that is open.
///
/// # Errors
/// Transient while the broker is away or the topic is missing; fatal when it refuses this client.
pub async fn ends(access: &Access, topic: &str) -> Result<BTreeMap<Partition, (Offset, Offset)>, BrokerError> {
    let topic = topic.to_owned();
    ask(access, move |access| ends_now(access, &topic)).await
}

pub(super) fn ends_now(access: &Access, topic: &str) -> Result<BTreeMap<Partition, (Offset, Offset)>, BrokerError> {
    let asking = access.asking()?;
    let deadline = Instant::now() + PATIENCE;
    let mut ends = BTreeMap::new();
    for (partition, _) in existing(access, topic)? {
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        let watermarks = asking.fetch_watermarks(topic, partition, left);
        ends.insert(partition, watermarks.map_err(|cause| access.error("say where the topic ends", cause, Some(asking)))?);
    }
    Ok(ends)
}

/// What a group has committed; a partition it hasn't committed is absent.
///
/// # Errors
/// As [`ends`].
pub async fn committed(access: &Access, group: &str, topic: &str) -> Result<BTreeMap<Partition, Offset>, BrokerError> {
    let (group, topic) = (group.to_owned(), topic.to_owned());
    let committed = ask(access, move |access| committed_now(access, &group, &topic)).await?;
    Ok(committed.into_iter().map(|(partition, committed)| (partition, committed.offset)).collect())
}

/// What a group has committed, with its metadata.
///
/// # Errors
/// As [`ends`].
pub async fn committed_with_metadata(access: &Access, group: &str, topic: &str) -> Result<BTreeMap<Partition, Committed>, BrokerError> {
    let (group, topic) = (group.to_owned(), topic.to_owned());
    ask(access, move |access| committed_with_metadata_now(access, &group, &topic)).await
}

pub(super) fn committed_with_metadata_now(
    access: &Access,
    group: &str,
    topic: &str,
) -> Result<BTreeMap<Partition, Committed>, BrokerError> {
    let mut committed = committed_now(access, group, topic)?;
    for (partition, (offset, metadata)) in kept_commits(access, group, topic)? {
        committed.insert(partition, Committed { offset, metadata });
    }
    Ok(committed)
}

/// The first offset of each partition whose record has this timestamp (milliseconds since the epoch) or a later one; a partition without one is
/// absent.
///
/// # Errors
/// As [`ends`].
pub async fn offsets_at(access: &Access, topic: &str, millis: i64) -> Result<BTreeMap<Partition, Offset>, BrokerError> {
    // Before the epoch there are no records.
    let (topic, millis) = (topic.to_owned(), millis.max(0));
    ask(access, move |access| {
        let asking = access.asking()?;
        let mut wanted = TopicPartitionList::new();
        for (partition, _) in existing(access, &topic)? {
            wanted.add_partition_offset(&topic, partition, rdkafka::Offset::Offset(millis)).expect("a time since the epoch is an offset");
        }
        let answer = asking.offsets_for_times(wanted, PATIENCE);
        let answer = answer.map_err(|cause| access.error("say which records are of that time", cause, Some(asking)))?;
        let found = |element: rdkafka::topic_partition_list::TopicPartitionListElem<'_>| match element.offset() {
            rdkafka::Offset::Offset(offset) => Some((element.partition(), offset)),
            _ => None,
        };
        Ok(answer.elements().into_iter().filter_map(found).collect())
    })
    .await
}

/// Commits offsets with their metadata for a group that has no members.
///
/// # Errors
/// As [`ends`]; also while the group has members.
pub async fn commit(access: &Access, group: &str, topic: &str, commits: Vec<(Partition, Offset, String)>) -> Result<(), BrokerError> {
    let (group, topic) = (group.to_owned(), topic.to_owned());
    ask(access, move |access| {
        let consumer: BaseConsumer<Quiet> =
            access.consumer(&group).create_with_context(Quiet::default()).map_err(|cause| access.error("make a client", cause, None))?;
        let mut list = TopicPartitionList::with_capacity(commits.len());
        for (partition, offset, metadata) in &commits {
            let mut element = list.add_partition(&topic, *partition);
            element.set_offset(rdkafka::Offset::Offset(*offset)).expect("an offset to commit is not negative");
            element.set_metadata(metadata);
        }
        consumer.commit(&list, CommitMode::Sync).map_err(|cause| match cause.rdkafka_error_code() {
            Some(Code::UnknownMemberId | Code::IllegalGeneration | Code::RebalanceInProgress) => {
                BrokerError::GroupInUse { servers: access.servers().to_owned(), group: group.clone() }
            }
            _ => access.error("commit offsets", cause, Some(&consumer)),
        })
    })
    .await
}

fn committed_now(access: &Access, group: &str, topic: &str) -> Result<BTreeMap<Partition, Committed>, BrokerError> {
    let partitions = existing(access, topic)?;
    let consumer: BaseConsumer<Quiet> =
        access.consumer(group).create_with_context(Quiet::default()).map_err(|cause| access.error("make a client", cause, None))?;
    let mut wanted = TopicPartitionList::with_capacity(partitions.len());
    for (partition, _) in partitions {
        wanted.add_partition(topic, partition);
    }
    let answer = consumer
        .committed_offsets(wanted, PATIENCE)
        .map_err(|cause| access.error("say what the group has committed", cause, Some(&consumer)))?;
    let mut committed = BTreeMap::new();
    for element in answer.elements() {
        element.error().map_err(|cause| access.error("say what the group has committed", cause, None))?;
        if let rdkafka::Offset::Offset(offset) = element.offset() {
            committed.insert(element.partition(), Committed { offset, metadata: element.metadata().to_owned() });
        }
    }
    Ok(committed)
}

/// The offset and metadata a group has committed, as the embedded broker keeps them; empty for an external broker, which gives them back
/// over the wire. Reads a file: call it from a thread that may wait.
///
/// # Errors
/// When the embedded broker's file can't be read.
pub fn kept_commits(access: &Access, group: &str, topic: &str) -> Result<BTreeMap<Partition, (Offset, String)>, BrokerError> {
    access.embedded_in().map_or_else(|| Ok(BTreeMap::new()), |data_dir| embedded::commits(data_dir, group, topic))
}

/// Asks off the caller's thread.
pub(super) async fn ask<T: Send + 'static>(
    access: &Access,
    question: impl FnOnce(&Access) -> Result<T, BrokerError> + Send + 'static,
) -> Result<T, BrokerError> {
    let access = access.clone();
    match tokio::task::spawn_blocking(move || question(&access)).await {
        Ok(answer) => answer,
        Err(failed) => match failed.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => unreachable!("a blocking task that runs is never cancelled"),
        },
    }
}

/// Each partition of a topic and its leader, less than 0 for none; nothing when there is no such topic.
pub(super) fn partitions_of(access: &Access, topic: &str) -> Result<BTreeMap<Partition, i32>, BrokerError> {
    let asking = access.asking()?;
    let metadata =
        asking.fetch_metadata(Some(topic), PATIENCE).map_err(|cause| access.error("say which topics there are", cause, Some(asking)))?;
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
fn existing(access: &Access, topic: &str) -> Result<BTreeMap<Partition, i32>, BrokerError> {
    let partitions = partitions_of(access, topic)?;
    if partitions.is_empty() {
        return Err(BrokerError::NoTopic { servers: access.servers().to_owned(), topic: topic.to_owned() });
    }
    Ok(partitions)
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
        let options = AdminOptions::new().request_timeout(Some(PATIENCE)).operation_timeout(Some(PATIENCE));
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
