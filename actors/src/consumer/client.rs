//! The consumer's Kafka client: its properties, its callbacks, and the calls of the poll loop.
//!
//! Guarantees that callbacks do nothing but queue an [`Event`], which the poll loop handles. Kafka
//! waits for the answer to an assignment or a revocation, so the delay is harmless.
//!
//! Does not guarantee that a client closes in time. One that does not is leaked with a warning: its
//! broker is unavailable, and the group evicts the member by itself.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::thread::Builder;
use std::time::Duration;

use forebay_schemas::offset::{Checkpoint, Epoch, Offset, Partition, WriteTimestamp};
use forebay_schemas::topic_id::TopicId;
use parking_lot::Mutex;
use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::message::BorrowedMessage;
use rdkafka::statistics::Statistics;
use rdkafka::topic_partition_list::{Offset as Position, TopicPartitionList, TopicPartitionListElem};
use rdkafka::types::{RDKafkaErrorCode, RDKafkaRespErr};

use super::error::{ClientError, ConsumerError};
use super::params::{ConsumerParams, StoredMetadata, TopicIdLookup};
use super::start_offset::{CommittedOffset, OutOfRange, ResolvedStart, resolve_start};
use super::state::Commit;
use crate::broker::{BrokerLoss, properties_problem, silent_for};
use forebay_dataplane::commit_metadata::{CommitMetadata, largest_clock};

/// How long a request to Kafka may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);
/// How long closing may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);

/// Something that Kafka's client reported.
#[derive(Debug)]
pub(super) enum Event {
    /// Partitions were assigned; answered with [`Client::assign`].
    Assigned(Vec<Partition>),
    /// Partitions were revoked; answered with [`Client::unassign`]. Lost partitions may be assigned
    /// to others already.
    Revoked { partitions: Vec<Partition>, lost: bool },
    /// An error, and its text.
    Error(KafkaError, String),
    /// Every record of a partition before an offset was returned, and the partition ends there for
    /// now. The client skips transaction markers, aborted records and compacted ones silently, so
    /// the offset may be later than that after the last record.
    PartitionEnd { partition: Partition, offset: Offset },
    /// Offsets of partitions, whether any broker is connected, and how long one has not answered a
    /// request, when that is long.
    Statistics { offsets: Vec<PartitionOffsets>, connected: bool, silent: Option<Duration> },
    /// The client has no broker left and will not connect again.
    BrokersLost,
}

/// The offsets that Kafka holds of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PartitionOffsets {
    pub(super) partition: Partition,
    pub(super) start_offset: Offset,
    /// The last stable offset: that of the next record, or of the first one of an open transaction.
    pub(super) end_offset: Offset,
    /// The number of offsets from there on that can't be read before the transaction ends.
    pub(super) held_back: u64,
}

/// An assigned partition: where it starts, and what Kafka holds of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct AssignedPartition {
    pub(super) partition: Partition,
    pub(super) resolved: ResolvedStart,
    pub(super) start_offset: Offset,
    pub(super) end_offset: Offset,
}

/// Returns the client's properties: the caller's, and those that the guarantees depend on.
fn configure(base: &ClientConfig, group: &str) -> ClientConfig {
    let mut config = base.clone();
    for (key, value) in [
        ("group.id", group),
        // Only the poll loop knows what is settled.
        ("enable.auto.commit", "false"),
        ("enable.auto.offset.store", "false"),
        // Starts are explicit; a reset by the client would skip or repeat records silently.
        ("auto.offset.reset", "error"),
        ("partition.assignment.strategy", "cooperative-sticky"),
        ("isolation.level", "read_committed"),
        // Nothing else reports the end of a partition, whose last offset may be one that no
        // consumer is given.
        ("enable.partition.eof", "true"),
        ("check.crcs", "true"),
        // Bounds the prefetch, and resumes it soon after it was full.
        ("queued.max.messages.kbytes", "8192"),
        ("fetch.queue.backoff.ms", "10"),
        ("fetch.min.bytes", "1"),
        ("statistics.interval.ms", "1000"),
    ] {
        config.set(key, value);
    }
    if base.get("fetch.wait.max.ms").is_none() {
        config.set("fetch.wait.max.ms", "100");
    }
    config
}

/// Offsets and commit metadata that the broker stores but does not return over the wire.
type StoredCommits = BTreeMap<Partition, (Offset, String)>;

/// Returns the group's commit of a partition.
fn committed_of(commit: &TopicPartitionListElem<'_>, stored: &StoredCommits) -> Option<CommittedOffset> {
    let Position::Offset(offset) = commit.offset() else { return None };
    let offset = Offset(offset);
    let stored = stored.get(&commit.partition()).filter(|(at, _)| *at == offset).map(|(_, metadata)| metadata.as_str());
    Some(CommittedOffset { offset, metadata: CommitMetadata::parse(stored.unwrap_or(commit.metadata())) })
}

/// The callbacks.
struct Callbacks {
    topic: String,
    events: Mutex<VecDeque<Event>>,
    /// Whether there are events; spares the poll loop the lock.
    any: AtomicBool,
    /// The poll loop no longer handles events, so rebalances are answered in the callback.
    closing: AtomicBool,
    /// The offset of the partition end that the client reports next; −1 for none.
    end: AtomicI64,
    loss: BrokerLoss,
}

impl Callbacks {
    fn push(&self, event: Event) {
        self.events.lock().push_back(event);
        self.any.store(true, Ordering::Release);
    }
}

impl ClientContext for Callbacks {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        match level {
            RDKafkaLogLevel::Debug => tracing::debug!(target: "librdkafka", facility, "{message}"),
            RDKafkaLogLevel::Info | RDKafkaLogLevel::Notice => tracing::info!(target: "librdkafka", facility, "{message}"),
            _ => tracing::warn!(target: "librdkafka", facility, "{message}"),
        }
    }

    fn stats(&self, statistics: Statistics) {
        if self.loss.is_shown_by(&statistics) {
            self.push(Event::BrokersLost);
        }
        let connected = statistics.brokers.values().any(|broker| broker.state == "UP");
        let partitions = statistics.topics.get(&self.topic).map(|topic| topic.partitions.values());
        let known = partitions.into_iter().flatten().filter(|partition| partition.lo_offset >= 0 && partition.hi_offset >= 0);
        let offsets = known.map(|known| {
            // A broker without transactions reports no last stable offset.
            let end_offset = if known.ls_offset >= 0 { known.ls_offset.min(known.hi_offset) } else { known.hi_offset };
            let held_back = u64::try_from(known.hi_offset - end_offset).unwrap_or(0);
            PartitionOffsets {
                partition: known.partition,
                start_offset: Offset(known.lo_offset),
                end_offset: Offset(end_offset),
                held_back,
            }
        });
        let offsets = offsets.collect();
        self.push(Event::Statistics { offsets, connected, silent: silent_for(&statistics) });
    }

    /// At the end of a partition the client reports the offset here, and the partition as the
    /// result of the poll that calls this.
    fn error(&self, error: KafkaError, reason: &str) {
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::PartitionEOF) {
            self.end.store(end_of(reason).unwrap_or(-1), Ordering::Relaxed);
        } else {
            self.push(Event::Error(error, reason.to_owned()));
        }
    }
}

/// Parses the offset out of librdkafka's message `Fetch from broker 1 reached end of partition at
/// offset 7 (HighwaterMark 9)`.
///
/// The Rust client does not pass on the field that holds it. Without an offset in the message only
/// the partition's end stays unknown.
fn end_of(reason: &str) -> Option<i64> {
    let (_, rest) = reason.split_once("end of partition at offset ")?;
    rest.split_once(' ').map_or(rest, |(offset, _)| offset).parse().ok()
}

impl ConsumerContext for Callbacks {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, what: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let assigned = what == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
        if self.closing.load(Ordering::Acquire) {
            let answer = if assigned { consumer.incremental_assign(list) } else { consumer.incremental_unassign(list) };
            if let Err(error) = answer {
                tracing::debug!(%error, "kafka rejected the answer to a rebalance while closing");
            }
            return;
        }
        let partitions = list.elements().iter().map(|element| element.partition()).collect();
        self.push(match assigned {
            true => Event::Assigned(partitions),
            false => Event::Revoked { partitions, lost: consumer.assignment_lost() },
        });
    }
}

/// The client. It is created, polled and dropped on the poll thread.
pub(super) struct Client {
    /// `None` in `drop` only.
    consumer: Option<BaseConsumer<Callbacks>>,
    topic: String,
    group: String,
    stored_metadata: StoredMetadata,
    topic_id: TopicIdLookup,
}

impl Client {
    /// Creates the client and joins the group, without waiting for a server.
    pub(super) fn connect(params: &ConsumerParams) -> Result<Self, ConsumerError> {
        let ConsumerParams { kafka, topic, group, stored_metadata, topic_id, .. } = params;
        let callbacks = Callbacks {
            topic: topic.clone(),
            events: Mutex::default(),
            any: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            end: AtomicI64::new(-1),
            loss: BrokerLoss::default(),
        };
        let refused = |error: KafkaError| ConsumerError::Client { reason: properties_problem(&error).unwrap_or_else(|| error.to_string()) };
        let consumer: BaseConsumer<Callbacks> = configure(kafka, group).create_with_context(callbacks).map_err(refused)?;
        let client = Self {
            consumer: Some(consumer),
            topic: topic.clone(),
            group: group.clone(),
            stored_metadata: Arc::clone(stored_metadata),
            topic_id: Arc::clone(topic_id),
        };
        client.consumer().subscribe(&[topic]).map_err(refused)?;
        Ok(client)
    }

    fn consumer(&self) -> &BaseConsumer<Callbacks> {
        self.consumer.as_ref().expect("the consumer is taken in drop only")
    }

    /// Returns the next record, waiting up to `wait` for it.
    ///
    /// Returns early when something else happens. Errors and ends of partitions are events.
    pub(super) fn poll(&self, mut wait: Duration) -> Option<BorrowedMessage<'_>> {
        loop {
            match self.consumer().poll(wait)? {
                Ok(message) => return Some(message),
                Err(KafkaError::PartitionEOF(partition)) => {
                    let callbacks = self.consumer().context();
                    let offset = callbacks.end.swap(-1, Ordering::Relaxed);
                    if offset >= 0 {
                        callbacks.push(Event::PartitionEnd { partition, offset: Offset(offset) });
                    }
                    // Other partitions may have records behind it.
                    wait = Duration::ZERO;
                }
                Err(_) => return None,
            }
        }
    }

    /// Returns the events since the last call.
    pub(super) fn events(&self) -> VecDeque<Event> {
        let callbacks = self.consumer().context();
        match callbacks.any.swap(false, Ordering::AcqRel) {
            true => std::mem::take(&mut *callbacks.events.lock()),
            false => VecDeque::new(),
        }
    }

    /// Returns the topic's id; `None` from a broker without topic ids.
    pub(super) fn topic_id(&self) -> Result<Option<TopicId>, ConsumerError> {
        (self.topic_id)().map_err(|reason| ConsumerError::Unanswered { reason })
    }

    /// Resolves where `partitions` start, from the group's commits and the `known` checkpoints.
    ///
    /// `topic` is the topic's id, `latest` the largest write clock of the partitions that are read
    /// already.
    pub(super) fn resolve_starts(
        &self,
        partitions: &[Partition],
        known: &BTreeMap<Partition, Checkpoint>,
        topic: Option<TopicId>,
        latest: WriteTimestamp,
    ) -> Result<Vec<AssignedPartition>, ConsumerError> {
        if partitions.is_empty() {
            return Ok(Vec::new());
        }
        let list = self.list(partitions.iter().copied());
        let commits =
            self.consumer().committed_offsets(list, REQUEST_TIMEOUT).map_err(|error| self.unanswered("committed offsets", &error))?;
        let stored = self.stored_commits()?;
        let mut committed = Vec::with_capacity(partitions.len());
        for commit in commits.elements() {
            commit.error().map_err(|error| self.unanswered("committed offsets", &error))?;
            committed.push((commit.partition(), committed_of(&commit, &stored)));
        }
        // A clock continues from its commit. Only where one is missing are the commits of all
        // partitions needed.
        let is_known = |metadata: CommitMetadata| !metadata.is_of_another_topic(topic);
        let largest = match committed.iter().all(|(_, committed)| committed.and_then(|committed| committed.metadata).is_some_and(is_known))
        {
            true => WriteTimestamp::default(),
            false => self.largest_clock(partitions, known)?.max(latest),
        };
        let mut assigned = Vec::with_capacity(partitions.len());
        for (partition, committed) in committed {
            let (start_offset, end_offset) = self.offsets(partition)?;
            let epoch = Epoch::new(rand::random());
            let known = known.get(&partition).copied();
            let resolved = resolve_start(committed, known, (start_offset, end_offset), topic, epoch, largest);
            let resolved = resolved.map_err(|OutOfRange(committed)| {
                let (group, topic) = (self.group.clone(), self.topic.clone());
                ConsumerError::OutOfRange { group, topic, partition, committed, start_offset, end_offset }
            })?;
            assigned.push(AssignedPartition { partition, resolved, start_offset, end_offset });
        }
        self.commit_new_epochs(&mut assigned, topic)?;
        Ok(assigned)
    }

    fn stored_commits(&self) -> Result<StoredCommits, ConsumerError> {
        (self.stored_metadata)().map_err(|reason| ConsumerError::Unanswered { reason })
    }

    /// Returns the largest write clock in the group's commits and the journal, over all partitions
    /// of the topic.
    pub(super) fn largest_clock(
        &self,
        assigned: &[Partition],
        known: &BTreeMap<Partition, Checkpoint>,
    ) -> Result<WriteTimestamp, ConsumerError> {
        let all: BTreeSet<Partition> = (0..self.partitions()?).chain(assigned.iter().copied()).collect();
        let commits = self.consumer().committed_offsets(self.list(all.into_iter()), REQUEST_TIMEOUT);
        let commits = commits.map_err(|error| self.unanswered("committed offsets", &error))?;
        let commits = commits.elements();
        if let Some(error) = commits.iter().find_map(|commit| commit.error().err()) {
            return Err(self.unanswered("committed offsets", &error));
        }
        let stored = self.stored_commits()?;
        let stored = stored.values().map(|(_, metadata)| metadata.as_str());
        Ok(largest_clock(commits.iter().map(|commit| commit.metadata()).chain(stored), known))
    }

    /// Returns the number of partitions of the topic.
    pub(super) fn partitions(&self) -> Result<Partition, ConsumerError> {
        let metadata = self.consumer().fetch_metadata(Some(&self.topic), REQUEST_TIMEOUT);
        let metadata = metadata.map_err(|error| self.unanswered("partitions of the topic", &error))?;
        let count = metadata.topics().iter().find(|topic| topic.name() == self.topic).map_or(0, |topic| topic.partitions().len());
        Ok(Partition::try_from(count).unwrap_or(Partition::MAX))
    }

    /// Commits the starts that begin an epoch, or whose commit lacks the topic id, before anything
    /// is read.
    ///
    /// So a checkpoint in the journal has a commit of its epoch in the group, unless somebody
    /// removed that.
    fn commit_new_epochs(&self, assigned: &mut [AssignedPartition], topic: Option<TopicId>) -> Result<(), ConsumerError> {
        let new = |assigned: &&mut AssignedPartition| assigned.resolved.committed.is_none();
        let commit = |new: &mut AssignedPartition| {
            let checkpoint = new.resolved.start.checkpoint;
            new.resolved.committed = Some(checkpoint.offset);
            Commit { partition: new.partition, checkpoint, topic }
        };
        let commits: Vec<_> = assigned.iter_mut().filter(new).map(commit).collect();
        if commits.is_empty() {
            return Ok(());
        }
        self.commit(&commits).map_err(|error| self.unanswered("commit of where to start", &error))
    }

    /// Returns the start offset and the end offset of a partition.
    pub(super) fn offsets(&self, partition: Partition) -> Result<(Offset, Offset), ConsumerError> {
        let offsets = self.consumer().fetch_watermarks(&self.topic, partition, REQUEST_TIMEOUT);
        let (start_offset, end_offset) = offsets.map_err(|error| self.unanswered("offsets of the topic", &error))?;
        Ok((Offset(start_offset), Offset(end_offset)))
    }

    fn unanswered(&self, what: &str, error: &KafkaError) -> ConsumerError {
        let reason = format!("{what}: {error}");
        match ClientError::new(error, &reason, &self.topic, &self.group) {
            ClientError::Exit(error) => error,
            _ => ConsumerError::Unanswered { reason },
        }
    }

    /// Answers an assignment: reads the partitions from their starts.
    pub(super) fn assign(&self, partitions: &[AssignedPartition]) -> Result<(), ConsumerError> {
        let start = |assigned: &AssignedPartition| Position::Offset(assigned.resolved.start.checkpoint.offset.value());
        let starts = partitions.iter().map(|assigned| (self.topic.clone(), assigned.partition, start(assigned)));
        self.answered("assign", self.consumer().incremental_assign(&starts.collect()))?;
        // The client remembers a pause of an earlier assignment.
        self.resume(partitions.iter().map(|assigned| assigned.partition))
    }

    /// Answers a revocation.
    pub(super) fn unassign(&self, partitions: &[Partition]) -> Result<(), ConsumerError> {
        self.answered("unassign", self.consumer().incremental_unassign(&self.list(partitions.iter().copied())))
    }

    /// Stops reading `partitions` and discards what was fetched ahead.
    pub(super) fn pause(&self, partitions: impl Iterator<Item = Partition>) -> Result<(), ConsumerError> {
        self.answered("pause", self.consumer().pause(&self.list(partitions)))
    }

    /// Continues after the last record that was returned.
    pub(super) fn resume(&self, partitions: impl Iterator<Item = Partition>) -> Result<(), ConsumerError> {
        self.answered("resume", self.consumer().resume(&self.list(partitions)))
    }

    /// Commits, and waits for the result. After an error any of `commits` may be missing.
    pub(super) fn commit(&self, commits: &[Commit]) -> KafkaResult<()> {
        self.consumer().commit(&self.checkpoints(commits), CommitMode::Sync)
    }

    fn checkpoints(&self, commits: &[Commit]) -> TopicPartitionList {
        let mut list = TopicPartitionList::with_capacity(commits.len());
        for commit in commits {
            let mut element = list.add_partition(&self.topic, commit.partition);
            element.set_offset(Position::Offset(commit.checkpoint.offset.value())).expect("an offset is not negative");
            element.set_metadata(commit.metadata());
        }
        list
    }

    fn list(&self, partitions: impl Iterator<Item = Partition>) -> TopicPartitionList {
        partitions.map(|partition| (self.topic.clone(), partition, Position::Invalid)).collect()
    }

    fn answered(&self, what: &str, result: KafkaResult<()>) -> Result<(), ConsumerError> {
        result.map_err(|error| ConsumerError::Broken { reason: format!("{what}: {error}") })
    }
}

impl Drop for Client {
    /// Leaves the group and closes the client, on a thread of its own: librdkafka drops a request
    /// that reaches its group handler just after that has ended, and the caller waits for ever
    /// (`rd_kafka_cgrp_op_serve` in 2.12.1). The answer to the last revocation can be such a
    /// request.
    fn drop(&mut self) {
        let Some(consumer) = self.consumer.take() else { return };
        consumer.context().closing.store(true, Ordering::Release);
        let (done, closed) = sync_channel::<()>(1);
        let work = move || {
            close(&consumer);
            drop((consumer, done));
        };
        // Without a thread, dropping `work` closes the client here.
        if Builder::new().name("consumer-close".to_owned()).spawn(work).is_ok()
            && closed.recv_timeout(CLOSE_TIMEOUT) == Err(RecvTimeoutError::Timeout)
        {
            tracing::warn!(topic = self.topic, group = self.group, "the kafka consumer did not close within {CLOSE_TIMEOUT:?}; leaking it");
        }
    }
}

/// Leaves the group, and answers the revocation that comes with it, and one that was not answered
/// before.
fn close(consumer: &BaseConsumer<Callbacks>) {
    if let Err(error) = consumer.close_queue() {
        // A failed client has no membership to leave.
        tracing::debug!(%error, "the kafka consumer closed without leaving the group");
        return;
    }
    if let Err(error) = consumer.unassign() {
        tracing::debug!(%error, "the kafka consumer closed without giving up its partitions");
    }
    while !consumer.closed() {
        // Records that arrive now are not accepted; the next owner of the partition reads them.
        drop(consumer.poll(Duration::from_millis(100)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_offset_of_a_partition_end_is_parsed_from_the_clients_message() {
        assert_eq!(end_of("Fetch from broker 1 reached end of partition at offset 17 (HighwaterMark 19)"), Some(17));
        assert_eq!(end_of("Broker: No more messages"), None);
        assert_eq!(end_of("end of partition at offset INVALID"), None);
    }
}
