//! The Kafka client of the consumer: its properties, its callbacks, and where a partition starts.
//!
//! Guarantee: nothing happens inside a callback; each becomes an [`Event`] that the poll loop handles when it holds all it needs. Kafka waits for
//! the answer to an assignment or a revocation, so handling it a moment later is as good. Not guaranteed: that a client closes in time; one
//! that does not is left behind with a warning, for its broker is away and the group will notice by itself.

use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant};

use forebay_schemas::offset::{Checkpoint, Epoch, Offset, Partition};
use forebay_schemas::topic::TopicId;
use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::message::BorrowedMessage;
use rdkafka::statistics::Statistics;
use rdkafka::topic_partition_list::{Offset as Position, TopicPartitionList, TopicPartitionListElem};
use rdkafka::types::{RDKafkaErrorCode, RDKafkaRespErr};

use super::error::{ConsumerError, Trouble};
use super::params::{ConsumerParams, KeptMetadata, WhichTopic};
use super::start_offset::{Committed, Found, OutOfRange, find};
use super::state::Commit;
use crate::broker::silent_for;
use forebay_dataplane::commit_metadata::{CommitMetadata, largest_clock};

/// How long one question to Kafka may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// How long closing may take.
const CLOSE_WITHIN: Duration = Duration::from_secs(10);

/// Something that Kafka told.
#[derive(Debug)]
pub(super) enum Event {
    /// Partitions are given to this consumer; it must answer with [`Client::assign`].
    Assigned(Vec<Partition>),
    /// Partitions are taken from it; it must answer with [`Client::unassign`]. When they are lost, others may have them already.
    Revoked { partitions: Vec<Partition>, lost: bool },
    /// An error, and what is known of it.
    Trouble(KafkaError, String),
    /// Every record of a partition before an offset was given, and it ends there for now. Markers of transactions, records of aborted ones and those
    /// that compaction has removed are passed over without a word, so the offset may be after the last record that was given.
    End { partition: Partition, offset: Offset },
    /// What Kafka holds of partitions; whether any broker is connected; and for how long one owes an answer, when that is long.
    Statistics { ends: Vec<Ends>, connected: bool, silent: Option<Duration> },
}

/// What Kafka holds of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ends {
    pub(super) partition: Partition,
    pub(super) begin: Offset,
    /// Where reading ends: the offset that the next record gets, or the first one of a transaction that is open.
    pub(super) end: Offset,
    /// How many offsets from there on were written all the same; they can't be read before the transaction ends.
    pub(super) held_back: u64,
}

/// Where an assigned partition starts, and what Kafka holds of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Assigned {
    pub(super) partition: Partition,
    pub(super) found: Found,
    pub(super) begin: Offset,
    pub(super) end: Offset,
}

/// The consumer's properties: those the caller brings for its broker, and those that the guarantees rest on.
fn configure(base: &ClientConfig, group: &str) -> ClientConfig {
    let mut config = base.clone();
    for (key, value) in [
        ("group.id", group),
        // What is done is known here alone.
        ("enable.auto.commit", "false"),
        ("enable.auto.offset.store", "false"),
        // A start is always explicit; anything else is a record skipped or read again unseen.
        ("auto.offset.reset", "error"),
        ("partition.assignment.strategy", "cooperative-sticky"),
        ("isolation.level", "read_committed"),
        // Where a partition ends is said by nothing else: its last offset may be one that no consumer is given.
        ("enable.partition.eof", "true"),
        ("check.crcs", "true"),
        // Bounded, and asked for again soon after it was full.
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

/// What a broker keeps of commits and does not give back over the wire.
type Kept = BTreeMap<Partition, (Offset, String)>;

/// What the group has committed of a partition.
fn committed_of(commit: &TopicPartitionListElem<'_>, kept: &Kept) -> Option<Committed> {
    let Position::Offset(offset) = commit.offset() else { return None };
    let kept = kept.get(&commit.partition()).filter(|(at, _)| *at == offset).map(|(_, metadata)| metadata.as_str());
    Some(Committed { offset, metadata: CommitMetadata::parse(kept.unwrap_or(commit.metadata())) })
}

/// The callbacks.
struct Callbacks {
    topic: String,
    events: Mutex<VecDeque<Event>>,
    /// Whether there are events, so that the loop need not take the lock to know.
    any: AtomicBool,
    /// Nobody handles events any more: rebalances are answered at once.
    closing: AtomicBool,
    /// The offset of the end that is being reported; −1 for none.
    end: AtomicI64,
}

impl Callbacks {
    fn tell(&self, event: Event) {
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
        let connected = statistics.brokers.values().any(|broker| broker.state == "UP");
        let partitions = statistics.topics.get(&self.topic).map(|topic| topic.partitions.values());
        let known = partitions.into_iter().flatten().filter(|partition| partition.lo_offset >= 0 && partition.hi_offset >= 0);
        let ends = known.map(|known| {
            // A broker that knows no transactions says no last stable offset.
            let end = if known.ls_offset >= 0 { known.ls_offset.min(known.hi_offset) } else { known.hi_offset };
            let held_back = u64::try_from(known.hi_offset - end).unwrap_or(0);
            Ends { partition: known.partition, begin: known.lo_offset, end, held_back }
        });
        let ends = ends.collect();
        self.tell(Event::Statistics { ends, connected, silent: silent_for(&statistics) });
    }

    /// Of an end of a partition the client gives the offset here, and the partition as the result of the poll that this is called in.
    fn error(&self, error: KafkaError, reason: &str) {
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::PartitionEOF) {
            self.end.store(end_of(reason).unwrap_or(-1), Ordering::Relaxed);
        } else {
            self.tell(Event::Trouble(error, reason.to_owned()));
        }
    }
}

/// The offset out of what librdkafka says at the end of a partition, `Fetch from broker 1 reached end of partition at offset 7 (HighwaterMark 9)`, as
/// its place for it is not given on by the Rust client. A text that says none costs nothing but that the end is not known.
fn end_of(reason: &str) -> Option<Offset> {
    let (_, rest) = reason.split_once("end of partition at offset ")?;
    rest.split_once(' ').map_or(rest, |(offset, _)| offset).parse().ok()
}

impl ConsumerContext for Callbacks {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, what: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let assigned = what == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
        if self.closing.load(Ordering::Acquire) {
            let answer = if assigned { consumer.incremental_assign(list) } else { consumer.incremental_unassign(list) };
            if let Err(error) = answer {
                tracing::debug!(%error, "kafka did not take the answer to a rebalance while closing");
            }
            return;
        }
        let partitions = list.elements().iter().map(|element| element.partition()).collect();
        self.tell(match assigned {
            true => Event::Assigned(partitions),
            false => Event::Revoked { partitions, lost: consumer.assignment_lost() },
        });
    }
}

/// The client. Made, polled and dropped on the poll thread.
pub(super) struct Client {
    /// Always there until it is dropped.
    consumer: Option<BaseConsumer<Callbacks>>,
    topic: String,
    group: String,
    kept: KeptMetadata,
    which: WhichTopic,
}

impl Client {
    /// Makes the client and joins the group. It does not wait for a server.
    pub(super) fn connect(params: &ConsumerParams) -> Result<Self, ConsumerError> {
        let ConsumerParams { kafka, topic, group, kept, which, .. } = params;
        let callbacks = Callbacks {
            topic: topic.clone(),
            events: Mutex::default(),
            any: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            end: AtomicI64::new(-1),
        };
        let refused = |error: KafkaError| ConsumerError::Client { reason: error.to_string() };
        let consumer: BaseConsumer<Callbacks> = configure(kafka, group).create_with_context(callbacks).map_err(refused)?;
        let client =
            Self { consumer: Some(consumer), topic: topic.clone(), group: group.clone(), kept: Arc::clone(kept), which: Arc::clone(which) };
        client.consumer().subscribe(&[topic]).map_err(refused)?;
        Ok(client)
    }

    fn consumer(&self) -> &BaseConsumer<Callbacks> {
        self.consumer.as_ref().expect("the consumer is taken in drop only")
    }

    /// The next record, waiting up to `wait` for it. Returns early when something else happened; errors, and ends of partitions, come as events.
    pub(super) fn poll(&self, mut wait: Duration) -> Option<BorrowedMessage<'_>> {
        loop {
            match self.consumer().poll(wait)? {
                Ok(message) => return Some(message),
                Err(KafkaError::PartitionEOF(partition)) => {
                    let callbacks = self.consumer().context();
                    let offset = callbacks.end.swap(-1, Ordering::Relaxed);
                    if offset >= 0 {
                        callbacks.tell(Event::End { partition, offset });
                    }
                    // Others may have records behind it.
                    wait = Duration::ZERO;
                }
                Err(_) => return None,
            }
        }
    }

    /// What has happened since the last call.
    pub(super) fn events(&self) -> VecDeque<Event> {
        let callbacks = self.consumer().context();
        match callbacks.any.swap(false, Ordering::AcqRel) {
            true => std::mem::take(&mut *callbacks.events.lock()),
            false => VecDeque::new(),
        }
    }

    /// The id of the topic as it is now; none from a broker that gives no ids.
    pub(super) fn topic_id(&self) -> Result<Option<TopicId>, ConsumerError> {
        (self.which)().map_err(|reason| ConsumerError::Unanswered { reason })
    }

    /// Looks up where `partitions` start, out of the group's commits and of what is `known` otherwise. The topic of that id is there, and `latest` is the
    /// largest write clock of the partitions that are read already.
    pub(super) fn find(
        &self,
        partitions: &[Partition],
        known: &BTreeMap<Partition, Checkpoint>,
        topic: Option<TopicId>,
        latest: i64,
    ) -> Result<Vec<Assigned>, ConsumerError> {
        if partitions.is_empty() {
            return Ok(Vec::new());
        }
        let list = self.list(partitions.iter().copied());
        let commits =
            self.consumer().committed_offsets(list, ANSWER_WITHIN).map_err(|error| self.unanswered("committed offsets", &error))?;
        let kept = self.kept()?;
        let mut committed = Vec::with_capacity(partitions.len());
        for commit in commits.elements() {
            commit.error().map_err(|error| self.unanswered("committed offsets", &error))?;
            committed.push((commit.partition(), committed_of(&commit, &kept)));
        }
        // What the commits say is gone on from; only where one says nothing are all the others asked for.
        let says = |metadata: CommitMetadata| !metadata.is_of_another_topic(topic);
        let largest = match committed.iter().all(|(_, committed)| committed.and_then(|committed| committed.metadata).is_some_and(says)) {
            true => 0,
            false => self.largest_clock(partitions, known)?.max(latest),
        };
        let mut found = Vec::with_capacity(partitions.len());
        for (partition, committed) in committed {
            let (begin, end) = self.ends(partition)?;
            let start = find(committed, known.get(&partition).copied(), (begin, end), topic, Epoch::new(rand::random()), largest);
            let start = start.map_err(|OutOfRange(committed)| {
                let (group, topic) = (self.group.clone(), self.topic.clone());
                ConsumerError::OutOfRange { group, topic, partition, committed, begin, end }
            })?;
            found.push(Assigned { partition, found: start, begin, end });
        }
        self.begin_epochs(&mut found, topic)?;
        Ok(found)
    }

    fn kept(&self) -> Result<Kept, ConsumerError> {
        (self.kept)().map_err(|reason| ConsumerError::Unanswered { reason })
    }

    /// The largest write clock that the group's commits and the journal know of any partition of the topic, `assigned` or not.
    pub(super) fn largest_clock(&self, assigned: &[Partition], known: &BTreeMap<Partition, Checkpoint>) -> Result<i64, ConsumerError> {
        let all: BTreeSet<Partition> = (0..self.partitions()?).chain(assigned.iter().copied()).collect();
        let commits = self.consumer().committed_offsets(self.list(all.into_iter()), ANSWER_WITHIN);
        let commits = commits.map_err(|error| self.unanswered("committed offsets", &error))?;
        let commits = commits.elements();
        if let Some(error) = commits.iter().find_map(|commit| commit.error().err()) {
            return Err(self.unanswered("committed offsets", &error));
        }
        let kept = self.kept()?;
        let kept = kept.values().map(|(_, metadata)| metadata.as_str());
        Ok(largest_clock(commits.iter().map(|commit| commit.metadata()).chain(kept), known))
    }

    /// How many partitions the topic has.
    pub(super) fn partitions(&self) -> Result<Partition, ConsumerError> {
        let metadata = self.consumer().fetch_metadata(Some(&self.topic), ANSWER_WITHIN);
        let metadata = metadata.map_err(|error| self.unanswered("partitions of the topic", &error))?;
        let count = metadata.topics().iter().find(|topic| topic.name() == self.topic).map_or(0, |topic| topic.partitions().len());
        Ok(Partition::try_from(count).unwrap_or(Partition::MAX))
    }

    /// Commits the starts that begin an epoch, or of which the group does not say the topic, before anything is read from them: a place in the journal
    /// always has a commit of its epoch in the group, unless somebody removed that.
    fn begin_epochs(&self, assigned: &mut [Assigned], topic: Option<TopicId>) -> Result<(), ConsumerError> {
        let new = |assigned: &&mut Assigned| assigned.found.committed.is_none();
        let commit = |new: &mut Assigned| {
            let checkpoint = new.found.start.checkpoint;
            new.found.committed = Some(checkpoint.offset);
            Commit { partition: new.partition, checkpoint, topic }
        };
        let commits: Vec<_> = assigned.iter_mut().filter(new).map(commit).collect();
        if commits.is_empty() {
            return Ok(());
        }
        self.commit(&commits).map_err(|error| self.unanswered("commit of where to start", &error))
    }

    /// The first offset Kafka holds of a partition, and where reading it ends.
    pub(super) fn ends(&self, partition: Partition) -> Result<(Offset, Offset), ConsumerError> {
        let ends = self.consumer().fetch_watermarks(&self.topic, partition, ANSWER_WITHIN);
        ends.map_err(|error| self.unanswered("offsets of the topic", &error))
    }

    fn unanswered(&self, what: &str, error: &KafkaError) -> ConsumerError {
        let reason = format!("{what}: {error}");
        match Trouble::of(error, &reason, &self.topic, &self.group) {
            Trouble::End(end) => end,
            _ => ConsumerError::Unanswered { reason },
        }
    }

    /// Answers an assignment: reads `found` from its starts on.
    pub(super) fn assign(&self, found: &[Assigned]) -> Result<(), ConsumerError> {
        let start = |assigned: &Assigned| Position::Offset(assigned.found.start.checkpoint.offset);
        let checkpoints = found.iter().map(|assigned| (self.topic.clone(), assigned.partition, start(assigned)));
        self.answered("assign", self.consumer().incremental_assign(&checkpoints.collect()))?;
        // Kafka's client keeps it when a partition was paused in an earlier assignment.
        self.resume(found.iter().map(|found| found.partition))
    }

    /// Answers a revocation.
    pub(super) fn unassign(&self, partitions: &[Partition]) -> Result<(), ConsumerError> {
        self.answered("unassign", self.consumer().incremental_unassign(&self.list(partitions.iter().copied())))
    }

    /// Reads nothing more of `partitions`. What was fetched ahead is thrown away.
    pub(super) fn pause(&self, partitions: impl Iterator<Item = Partition>) -> Result<(), ConsumerError> {
        self.answered("pause", self.consumer().pause(&self.list(partitions)))
    }

    /// Reads on from the record after the last one given.
    pub(super) fn resume(&self, partitions: impl Iterator<Item = Partition>) -> Result<(), ConsumerError> {
        self.answered("resume", self.consumer().resume(&self.list(partitions)))
    }

    /// Commits, and waits for the answer: an error means that any of `commits` may not be done.
    pub(super) fn commit(&self, commits: &[Commit]) -> KafkaResult<()> {
        self.consumer().commit(&self.checkpoints(commits), CommitMode::Sync)
    }

    fn checkpoints(&self, commits: &[Commit]) -> TopicPartitionList {
        let mut list = TopicPartitionList::with_capacity(commits.len());
        for Commit { partition, checkpoint, topic } in commits {
            let mut element = list.add_partition(&self.topic, *partition);
            element.set_offset(Position::Offset(checkpoint.offset)).expect("a checkpoint is not negative");
            element.set_metadata(CommitMetadata::new(checkpoint, *topic).to_string());
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
    /// Leaves the group. The revocation that comes with it, and one that was never answered, are answered here.
    fn drop(&mut self) {
        let Some(consumer) = self.consumer.take() else { return };
        consumer.context().closing.store(true, Ordering::Release);
        let until = Instant::now() + CLOSE_WITHIN;
        let closing = consumer.close_queue().and_then(|()| consumer.unassign());
        if let Err(error) = closing {
            // A client that broke does not leave; it has nothing to leave any more.
            tracing::debug!(%error, "the kafka consumer closes without leaving the group");
        } else {
            while !consumer.closed() {
                if Instant::now() > until {
                    tracing::warn!(
                        topic = self.topic,
                        group = self.group,
                        "the kafka consumer did not close in {CLOSE_WITHIN:?} and is left behind"
                    );
                    std::mem::forget(consumer);
                    return;
                }
                // Records that come now were never taken; who gets the partition next reads them.
                drop(consumer.poll(Duration::from_millis(100)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_offset_of_an_end_is_read_out_of_what_the_client_says() {
        assert_eq!(end_of("Fetch from broker 1 reached end of partition at offset 17 (HighwaterMark 19)"), Some(17));
        assert_eq!(end_of("Broker: No more messages"), None);
        assert_eq!(end_of("end of partition at offset INVALID"), None);
    }
}
