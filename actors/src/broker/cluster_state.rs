//! The topics and the group of a pipeline in Kafka, before anything runs. For `plan` and `doctor`.
//!
//! Guarantees:
//! * Inspecting creates nothing: no topic, no group, and not the topic of group offsets.
//! * It reads the file of an embedded broker that does not run.
//!
//! Does not guarantee settings and members: they are unknown when the caller lacks the ACL to read
//! them.

use std::collections::BTreeMap;

use forebay_schemas::offset::{Offset, Partition, Range};
use forebay_schemas::pipeline::Pipeline;
use forebay_schemas::topic_id::TopicId;
use rdkafka::consumer::Consumer as _;
use rdkafka::types::RDKafkaErrorCode as Code;

use super::access::Access;
use super::blocking::{REQUEST_TIMEOUT, run_blocking};
use super::embedded::{self, Address};
use super::error::BrokerError;
use super::offsets::{self, Committed};
use super::topics::{self, WantedTopic, settings, wanted_topics};

/// The topic of group offsets. The first request about a group creates it.
const OFFSETS_TOPIC: &str = "__consumer_offsets";

/// The state of a pipeline in Kafka.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterState {
    /// The topic and the dead-letter topic: how each would be created, and how it is.
    pub topics: Vec<(WantedTopic, Option<TopicDescription>)>,
    /// The committed offsets of the group; empty without a group.
    pub committed: BTreeMap<Partition, Committed>,
    /// The number of members of the group, if known.
    pub members: Option<usize>,
}

/// An existing topic.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TopicDescription {
    /// Its id; `None` from a broker without topic ids, and while the embedded broker does not run.
    pub id: Option<TopicId>,
    /// The start offset and the last stable offset of each partition.
    pub ends: BTreeMap<Partition, (Offset, Offset)>,
    /// The offsets that open transactions hold back.
    pub held_back: BTreeMap<Partition, Range>,
    /// Its known settings.
    pub settings: BTreeMap<String, String>,
}

impl ClusterState {
    /// Warnings about the settings of existing topics: that a record may be lost with one broker,
    /// or that a dead letter may hold only the beginning of its record.
    pub fn warnings(&self) -> Vec<String> {
        self.topics.iter().filter_map(durability_warning).chain(self.truncation_warning()).collect()
    }

    /// A warning when the dead-letter topic does not accept the dead letter of every record that
    /// the topic accepts.
    fn truncation_warning(&self) -> Option<String> {
        let largest = |there: &Option<TopicDescription>| there.as_ref()?.number(topics::MAX_MESSAGE_BYTES_CONFIG);
        let [(records, topic), (dead, dead_letters)] = self.topics.as_slice() else { return None };
        let (needed, limit) = (topics::dead_letter_limit(largest(topic)?), largest(dead_letters)?);
        (limit < needed).then(|| {
            let (records, dead, largest) = (&records.name, &dead.name, topics::MAX_MESSAGE_BYTES_CONFIG);
            format!("{dead} accepts {limit} bytes, and the dead letter of the largest record of {records} has {needed}: its value is truncated; set {largest} of {dead} to {needed}")
        })
    }
}

impl TopicDescription {
    fn number(&self, setting: &str) -> Option<u64> {
        self.settings.get(setting)?.parse().ok()
    }
}

/// A warning when the file wants several replicas of a topic and one of them is enough to
/// acknowledge a record.
fn durability_warning((wanted, there): &(WantedTopic, Option<TopicDescription>)) -> Option<String> {
    let needed = topics::min_in_sync(wanted.replication)?;
    let setting = topics::MIN_IN_SYNC_CONFIG;
    let replicas = there.as_ref()?.number(setting)?;
    (replicas < u64::from(needed)).then(|| {
        let name = &wanted.name;
        format!("{name} acknowledges a record that one broker has, and it is lost with that broker; set {setting} of {name} to {needed}")
    })
}

/// How to reach a pipeline's Kafka from another process; `None` when it is embedded and not
/// running.
///
/// # Errors
/// When a secret can't be read.
pub fn reachable(pipeline: &Pipeline) -> Result<Option<Access>, BrokerError> {
    if !pipeline.kafka.is_embedded() {
        return Access::new(pipeline, None).map(Some);
    }
    let address = Address::of_running(&pipeline.data_dir()).ok();
    address.map(|address| Access::new(pipeline, Some(&address))).transpose()
}

/// Inspects the topics and the group of a pipeline.
///
/// # Errors
/// When Kafka is unavailable or denies this client, or the embedded broker's file can't be read.
pub async fn inspect(pipeline: &Pipeline) -> Result<ClusterState, BrokerError> {
    let Some(access) = reachable(pipeline)? else { return inspect_file(pipeline).await };
    let mut topics = Vec::new();
    for wanted in wanted_topics(pipeline) {
        let there = topic(&access, &wanted.name).await?;
        topics.push((wanted, there));
    }
    let is_there = topics.first().is_some_and(|(_, there)| there.is_some());
    let group = pipeline.consumer.as_ref().map(|consumer| consumer.group.clone()).filter(|_| is_there);
    let (committed, members) = match group {
        None => (BTreeMap::new(), Some(0)),
        Some(group) => {
            let topic = pipeline.kafka.topic.clone();
            run_blocking(&access, move |access| group_now(access, &group, &topic)).await?
        }
    };
    Ok(ClusterState { topics, committed, members })
}

async fn topic(access: &Access, name: &str) -> Result<Option<TopicDescription>, BrokerError> {
    let asked = name.to_owned();
    let ends = run_blocking(access, move |access| match topics::partitions_of(access, &asked)?.is_empty() {
        true => Ok(None),
        false => {
            let id = offsets::topic_id_now(access, &asked, REQUEST_TIMEOUT)?;
            Ok(Some((id, offsets::ends_now(access, &asked)?, offsets::held_back_now(access, &asked)?)))
        }
    });
    let Some((id, ends, held_back)) = ends.await? else { return Ok(None) };
    // The embedded broker has no settings.
    let settings = if access.is_embedded() { BTreeMap::new() } else { settings(access, name).await? };
    Ok(Some(TopicDescription { id, ends, held_back, settings }))
}

fn group_now(access: &Access, group: &str, topic: &str) -> Result<(BTreeMap<Partition, Committed>, Option<usize>), BrokerError> {
    if access.is_embedded() {
        return Ok((offsets::committed_with_metadata_now(access, group, topic)?, None));
    }
    let client = access.metadata_client()?;
    let offsets = client.fetch_metadata(Some(OFFSETS_TOPIC), REQUEST_TIMEOUT);
    let offsets = offsets.map_err(|cause| access.error("list topics", cause, Some(&client)))?;
    let code = offsets.topics().first().and_then(|topic| topic.error()).map(Code::from);
    if code == Some(Code::UnknownTopicOrPartition) {
        return Ok((BTreeMap::new(), Some(0)));
    }
    let committed = offsets::committed_with_metadata_now(access, group, topic)?;
    let members = client.fetch_group_list(Some(group), REQUEST_TIMEOUT).ok();
    Ok((committed, members.map(|list| list.groups().iter().map(|group| group.members().len()).sum())))
}

/// The state in the file of an embedded broker that does not run.
async fn inspect_file(pipeline: &Pipeline) -> Result<ClusterState, BrokerError> {
    let (data_dir, topic) = (pipeline.data_dir(), pipeline.kafka.topic.clone());
    let group = pipeline.consumer.as_ref().map(|consumer| consumer.group.clone());
    let wanted = wanted_topics(pipeline);
    let read = move || {
        let mut existing = embedded::topics(&data_dir)?;
        let commits = match group.filter(|_| existing.contains_key(&topic)) {
            Some(group) => embedded::commits(&data_dir, &group, &topic)?,
            None => BTreeMap::new(),
        };
        let describe = |wanted: WantedTopic| {
            let there = existing.remove(&wanted.name).map(|ends| TopicDescription { ends, ..TopicDescription::default() });
            (wanted, there)
        };
        let committed = |(partition, (offset, metadata))| (partition, Committed { offset, metadata });
        Ok(ClusterState {
            topics: wanted.into_iter().map(describe).collect(),
            committed: commits.into_iter().map(committed).collect(),
            members: Some(0),
        })
    };
    tokio::task::spawn_blocking(read).await.unwrap_or_else(|failed| std::panic::resume_unwind(failed.into_panic()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(replication: i32, settings: [&[(&str, &str)]; 2]) -> ClusterState {
        let topic = |name: &str, settings: &[(&str, &str)]| {
            let wanted = WantedTopic { name: name.to_owned(), partitions: 1, replication, settings: Vec::new() };
            let settings = settings.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
            (wanted, Some(TopicDescription { settings, ..TopicDescription::default() }))
        };
        ClusterState {
            topics: vec![topic("users", settings[0]), topic("users.dead", settings[1])],
            committed: BTreeMap::new(),
            members: None,
        }
    }

    #[test]
    fn a_replicated_topic_that_one_broker_may_acknowledge_for_is_warned_of() {
        let (one, two): (&[_], &[_]) = (&[("min.insync.replicas", "1")], &[("min.insync.replicas", "2")]);
        let warnings = state(3, [one, two]).warnings();
        assert_eq!(
            warnings,
            ["users acknowledges a record that one broker has, and it is lost with that broker; set min.insync.replicas of users to 2"]
        );
        assert_eq!(state(3, [two, one]).warnings().len(), 1, "the dead-letter topic, too");
        assert!(state(3, [two, two]).warnings().is_empty());
        assert!(state(1, [one, one]).warnings().is_empty(), "there is no other broker to have the record");
        assert!(state(3, [&[], &[]]).warnings().is_empty(), "settings are unknown without the ACL to read them");
    }
}
