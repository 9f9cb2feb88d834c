//! Offsets: where a topic starts and ends, what a group has committed, and what transactions hold back.
//!
//! Guarantees:
//! * Every call ends within its time-out, with an answer or with an error of a known class.
//!
//! Does not guarantee that the answer is still true.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use forebay_schemas::offset::{Offset, Partition, Range};
use forebay_schemas::topic::TopicId;
use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::types::RDKafkaErrorCode as Code;

use super::access::{Access, Quiet};
use super::error::BrokerError;
use super::request::{REQUEST_TIMEOUT, ask};
use super::topics::existing;
use super::{describe_topic, embedded};

/// What a group has committed for a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// The first offset that isn't done.
    pub offset: Offset,
    /// What the committer wrote beside it; empty when nothing.
    pub metadata: String,
}

/// The id of a topic, which changes when the topic is deleted and created again; none from a broker that gives no ids.
///
/// # Errors
/// As [`ends`].
pub async fn topic_id(access: &Access, topic: &str) -> Result<Option<TopicId>, BrokerError> {
    let topic = topic.to_owned();
    ask(access, move |access| topic_id_now(access, &topic, REQUEST_TIMEOUT)).await
}

/// The same on the caller's thread, which waits for it.
///
/// # Errors
/// As [`ends`].
pub fn topic_id_now(access: &Access, topic: &str, within: Duration) -> Result<Option<TopicId>, BrokerError> {
    let asking = access.asking()?;
    describe_topic::topic_id(asking.client(), topic, within).map_err(|cause| match cause.rdkafka_error_code() {
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
        let ends = written.fetch_watermarks(topic, partition, REQUEST_TIMEOUT);
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
    let deadline = Instant::now() + REQUEST_TIMEOUT;
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
        let answer = asking.offsets_for_times(wanted, REQUEST_TIMEOUT);
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
        .committed_offsets(wanted, REQUEST_TIMEOUT)
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
