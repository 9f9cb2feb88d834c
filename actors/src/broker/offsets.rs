//! Offsets: where a topic starts and ends, what a group has committed, and what transactions hold
//! back.
//!
//! Guarantees:
//! * Every call ends within its time-out, with an answer or with an error of a known class.
//!
//! Does not guarantee that the answer is still true.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use forebay_schemas::offset::{Offset, Partition, Range};
use forebay_schemas::topic_id::TopicId;
use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::types::RDKafkaErrorCode as Code;

use super::access::{Access, LogContext};
use super::blocking::{REQUEST_TIMEOUT, run_blocking};
use super::error::BrokerError;
use super::topics::existing;
use super::{embedded, topic_id_request};

/// What a group has committed for a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// The first unsettled offset.
    pub offset: Offset,
    /// The commit metadata; may be empty.
    pub metadata: String,
}

/// The id of a topic, which changes when the topic is deleted and re-created. `None` from a broker
/// without topic ids.
///
/// # Errors
/// As [`ends`].
pub async fn topic_id(access: &Access, topic: &str) -> Result<Option<TopicId>, BrokerError> {
    let topic = topic.to_owned();
    run_blocking(access, move |access| topic_id_now(access, &topic, REQUEST_TIMEOUT)).await
}

/// As [`topic_id`], blocking the caller's thread.
///
/// # Errors
/// As [`ends`].
pub fn topic_id_now(access: &Access, topic: &str, timeout: Duration) -> Result<Option<TopicId>, BrokerError> {
    let client = access.metadata_client()?;
    topic_id_request::topic_id(client.client(), topic, timeout).map_err(|cause| match cause.rdkafka_error_code() {
        Some(Code::UnknownTopicOrPartition) => BrokerError::NoTopic { servers: access.servers().to_owned(), topic: topic.to_owned() },
        _ => access.error("report the id of the topic", cause, Some(&client)),
    })
}

/// The offsets that an open transaction holds back, per partition: from its first offset to the
/// high watermark. They can't be read before the transaction commits, aborts or times out.
///
/// # Errors
/// As [`ends`].
pub async fn held_back(access: &Access, topic: &str) -> Result<BTreeMap<Partition, Range>, BrokerError> {
    let topic = topic.to_owned();
    run_blocking(access, move |access| held_back_now(access, &topic)).await
}

pub(super) fn held_back_now(access: &Access, topic: &str) -> Result<BTreeMap<Partition, Range>, BrokerError> {
    // The high watermarks come first: records written between the two requests would otherwise
    // look held back.
    let uncommitted = access.uncommitted_client()?;
    let mut high = BTreeMap::new();
    for (partition, _) in existing(access, topic)? {
        let ends = uncommitted.fetch_watermarks(topic, partition, REQUEST_TIMEOUT);
        let (_, end) = ends.map_err(|cause| access.error("report the ends of the topic", cause, Some(&uncommitted)))?;
        high.insert(partition, Offset(end));
    }
    let readable = ends_now(access, topic)?;
    let held = |(partition, to): (Partition, Offset)| {
        let held = Range { from: readable.get(&partition)?.1, to };
        (!held.is_empty()).then_some((partition, held))
    };
    Ok(high.into_iter().filter_map(held).collect())
}

/// The start offset and the last stable offset of each partition. The latter is the offset of the
/// next record, or the first one of an open transaction.
///
/// # Errors
/// Transient while the broker is unavailable or the topic is missing, fatal when it denies this
/// client.
pub async fn ends(access: &Access, topic: &str) -> Result<BTreeMap<Partition, (Offset, Offset)>, BrokerError> {
    let topic = topic.to_owned();
    run_blocking(access, move |access| ends_now(access, &topic)).await
}

pub(super) fn ends_now(access: &Access, topic: &str) -> Result<BTreeMap<Partition, (Offset, Offset)>, BrokerError> {
    let client = access.metadata_client()?;
    let deadline = Instant::now() + REQUEST_TIMEOUT;
    let mut ends = BTreeMap::new();
    for (partition, _) in existing(access, topic)? {
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        let watermarks = client.fetch_watermarks(topic, partition, left);
        let (start, end) = watermarks.map_err(|cause| access.error("report the ends of the topic", cause, Some(&client)))?;
        ends.insert(partition, (Offset(start), Offset(end)));
    }
    Ok(ends)
}

/// The committed offsets of a group. A partition without one is absent.
///
/// # Errors
/// As [`ends`].
pub async fn committed(access: &Access, group: &str, topic: &str) -> Result<BTreeMap<Partition, Offset>, BrokerError> {
    let (group, topic) = (group.to_owned(), topic.to_owned());
    let committed = run_blocking(access, move |access| committed_now(access, &group, &topic)).await?;
    Ok(committed.into_iter().map(|(partition, committed)| (partition, committed.offset)).collect())
}

/// The committed offsets of a group, with their metadata.
///
/// # Errors
/// As [`ends`].
pub async fn committed_with_metadata(access: &Access, group: &str, topic: &str) -> Result<BTreeMap<Partition, Committed>, BrokerError> {
    let (group, topic) = (group.to_owned(), topic.to_owned());
    run_blocking(access, move |access| committed_with_metadata_now(access, &group, &topic)).await
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

/// The first offset of each partition whose record has this timestamp (milliseconds since 1970) or
/// a later one. A partition without one is absent.
///
/// # Errors
/// As [`ends`].
pub async fn offsets_at(access: &Access, topic: &str, millis: i64) -> Result<BTreeMap<Partition, Offset>, BrokerError> {
    // Kafka reads negative timestamps as special offsets.
    let (topic, millis) = (topic.to_owned(), millis.max(0));
    run_blocking(access, move |access| {
        let client = access.metadata_client()?;
        let mut wanted = TopicPartitionList::new();
        for (partition, _) in existing(access, &topic)? {
            wanted.add_partition_offset(&topic, partition, rdkafka::Offset::Offset(millis)).expect("a time since 1970 is a valid offset");
        }
        let answer = client.offsets_for_times(wanted, REQUEST_TIMEOUT);
        let answer = answer.map_err(|cause| access.error("find offsets by timestamp", cause, Some(&client)))?;
        let found = |element: rdkafka::topic_partition_list::TopicPartitionListElem<'_>| match element.offset() {
            rdkafka::Offset::Offset(offset) => Some((element.partition(), Offset(offset))),
            _ => None,
        };
        Ok(answer.elements().into_iter().filter_map(found).collect())
    })
    .await
}

/// Commits offsets with metadata for a group without members.
///
/// # Errors
/// As [`ends`], and while the group has members.
pub async fn commit(access: &Access, group: &str, topic: &str, commits: Vec<(Partition, Offset, String)>) -> Result<(), BrokerError> {
    let (group, topic) = (group.to_owned(), topic.to_owned());
    run_blocking(access, move |access| {
        let consumer: BaseConsumer<LogContext> = access
            .consumer(&group)
            .create_with_context(LogContext::default())
            .map_err(|cause| access.error("create a client", cause, None))?;
        let mut list = TopicPartitionList::with_capacity(commits.len());
        for (partition, offset, metadata) in &commits {
            let mut element = list.add_partition(&topic, *partition);
            element.set_offset(rdkafka::Offset::Offset(offset.value())).expect("an offset to commit is not negative");
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
    let consumer: BaseConsumer<LogContext> =
        access.consumer(group).create_with_context(LogContext::default()).map_err(|cause| access.error("create a client", cause, None))?;
    let mut wanted = TopicPartitionList::with_capacity(partitions.len());
    for (partition, _) in partitions {
        wanted.add_partition(topic, partition);
    }
    let answer = consumer
        .committed_offsets(wanted, REQUEST_TIMEOUT)
        .map_err(|cause| access.error("report the offsets of the group", cause, Some(&consumer)))?;
    let mut committed = BTreeMap::new();
    for element in answer.elements() {
        element.error().map_err(|cause| access.error("report the offsets of the group", cause, None))?;
        if let rdkafka::Offset::Offset(offset) = element.offset() {
            committed.insert(element.partition(), Committed { offset: Offset(offset), metadata: element.metadata().to_owned() });
        }
    }
    Ok(committed)
}

/// The committed offsets and metadata in the file of the embedded broker. Empty for an external
/// broker, which returns them over the wire. Blocks on the file.
///
/// # Errors
/// When the embedded broker's file can't be read.
pub fn kept_commits(access: &Access, group: &str, topic: &str) -> Result<BTreeMap<Partition, (Offset, String)>, BrokerError> {
    access.embedded_in().map_or_else(|| Ok(BTreeMap::new()), |data_dir| embedded::commits(data_dir, group, topic))
}
