//! What Kafka holds of a pipeline, for who wants to know before anything runs.
//!
//! Guarantee: a look makes nothing: no topic, no group, nor the topic in which Kafka keeps the offsets of groups. Where the embedded broker does not run
//! it is a look into its file. Not guaranteed: that who is denied to ask for settings or for members learns them; they are unknown then.

use std::collections::BTreeMap;

use forebay_schemas::offset::{Offset, Partition, Range};
use forebay_schemas::pipeline::Pipeline;
use forebay_schemas::topic::TopicId;
use rdkafka::consumer::Consumer as _;
use rdkafka::types::RDKafkaErrorCode as Code;

use super::access::Access;
use super::embedded::{self, Address};
use super::error::BrokerError;
use super::offsets::{self, Committed};
use super::request::{REQUEST_TIMEOUT, ask};
use super::topics::{self, WantedTopic, settings, wanted_topics};

/// Where Kafka keeps the offsets of groups. The first question about a group makes it.
const OFFSETS: &str = "__consumer_offsets";

/// What Kafka holds of a pipeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterState {
    /// The topic and the dead-letter topic: how each is made, and what is there.
    pub topics: Vec<(WantedTopic, Option<TopicDescription>)>,
    /// What the group has committed of the topic; nothing where the pipeline has none.
    pub committed: BTreeMap<Partition, Committed>,
    /// How many members the group has; none when that is not known.
    pub members: Option<usize>,
}

/// A topic that is there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TopicDescription {
    /// Its id; none from a broker that gives no ids, and where the embedded broker does not run.
    pub id: Option<TopicId>,
    /// Its partitions: the first offset that Kafka holds, and where reading ends.
    pub ends: BTreeMap<Partition, (Offset, Offset)>,
    /// What open transactions hold back.
    pub held_back: BTreeMap<Partition, Range>,
    /// Those of its settings that are known.
    pub settings: BTreeMap<String, String>,
}

impl ClusterState {
    /// What is to be said of a dead-letter topic that does not take every letter of a record that the topic takes: such a letter holds the
    /// beginning of its record only.
    pub fn cuts_letters(&self) -> Option<String> {
        let largest = |there: &Option<TopicDescription>| there.as_ref()?.settings.get(topics::LARGEST)?.parse::<u64>().ok();
        let [(records, topic), (dead, dead_letters)] = self.topics.as_slice() else { return None };
        let (room, has) = (topics::with_room(largest(topic)?), largest(dead_letters)?);
        (has < room).then(|| {
            let (records, dead, largest) = (&records.name, &dead.name, topics::LARGEST);
            format!("{dead} takes {has} bytes, and a letter of the largest record of {records} may have {room}: its value is cut then; set {largest} of {dead} to {room}")
        })
    }
}

/// Looks at the topics and the group of a pipeline.
///
/// # Errors
/// When Kafka is away or refuses, or the file of the embedded broker can't be read.
pub async fn inspect(pipeline: &Pipeline) -> Result<ClusterState, BrokerError> {
    let access = match pipeline.kafka.is_embedded() {
        false => Access::new(pipeline, None)?,
        true => match Address::of_running(&pipeline.data_dir()) {
            Ok(address) => Access::new(pipeline, Some(&address))?,
            Err(_) => return at_rest(pipeline).await,
        },
    };
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
            ask(&access, move |access| group_now(access, &group, &topic)).await?
        }
    };
    Ok(ClusterState { topics, committed, members })
}

async fn topic(access: &Access, name: &str) -> Result<Option<TopicDescription>, BrokerError> {
    let asked = name.to_owned();
    let ends = ask(access, move |access| match topics::partitions_of(access, &asked)?.is_empty() {
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
    let asking = access.asking()?;
    let offsets = asking.fetch_metadata(Some(OFFSETS), REQUEST_TIMEOUT);
    let offsets = offsets.map_err(|cause| access.error("say which topics there are", cause, Some(asking)))?;
    let code = offsets.topics().first().and_then(|topic| topic.error()).map(Code::from);
    if code == Some(Code::UnknownTopicOrPartition) {
        return Ok((BTreeMap::new(), Some(0)));
    }
    let committed = offsets::committed_with_metadata_now(access, group, topic)?;
    let members = asking.fetch_group_list(Some(group), REQUEST_TIMEOUT).ok();
    Ok((committed, members.map(|list| list.groups().iter().map(|group| group.members().len()).sum())))
}

/// What is in the file of an embedded broker that does not run.
async fn at_rest(pipeline: &Pipeline) -> Result<ClusterState, BrokerError> {
    let (data_dir, topic) = (pipeline.data_dir(), pipeline.kafka.topic.clone());
    let group = pipeline.consumer.as_ref().map(|consumer| consumer.group.clone());
    let wanted = wanted_topics(pipeline);
    let read = move || {
        let mut held = embedded::topics(&data_dir)?;
        let commits = match group.filter(|_| held.contains_key(&topic)) {
            Some(group) => embedded::commits(&data_dir, &group, &topic)?,
            None => BTreeMap::new(),
        };
        let look = |wanted: WantedTopic| {
            let there = held.remove(&wanted.name).map(|ends| TopicDescription { ends, ..TopicDescription::default() });
            (wanted, there)
        };
        let committed = |(partition, (offset, metadata))| (partition, Committed { offset, metadata });
        Ok(ClusterState {
            topics: wanted.into_iter().map(look).collect(),
            committed: commits.into_iter().map(committed).collect(),
            members: Some(0),
        })
    };
    tokio::task::spawn_blocking(read).await.unwrap_or_else(|failed| std::panic::resume_unwind(failed.into_panic()))
}
