//! A model of Kafka: one topic at a time, its logs with transactions and compaction, one group's
//! commits, and the owners of partitions.

use std::collections::{BTreeMap, BTreeSet};

use forebay_schemas::offset::{Checkpoint, Offset, Partition};
use forebay_schemas::topic_id::TopicId;

use super::api::Content;
use super::invariants::{Checked, Invariant, Violation, violation};
use crate::consumer::start_offset::CommittedOffset;
use forebay_dataplane::commit_metadata::CommitMetadata;

/// The location of a record: the topic's number in the history, the partition and the offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct At {
    pub(super) topic: u32,
    pub(super) partition: Partition,
    pub(super) offset: Offset,
}

/// A record in a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stored {
    pub(super) content: Content,
    pub(super) stamp: Option<i64>,
    /// Its number among all records that were ever appended, over all partitions.
    pub(super) nth: u64,
}

/// An offset of a log: a record, or a transaction marker, which no consumer is given.
#[derive(Debug, Clone, Copy)]
struct Slot {
    stored: Option<Stored>,
    /// Whether its effect is in the store, or it has none.
    done: bool,
    /// Whether it was appended in a transaction.
    transactional: bool,
    /// Whether the transaction was aborted, so that no consumer is given it.
    aborted: bool,
    /// Whether compaction has removed it.
    compacted: bool,
}

/// A partition's log.
#[derive(Debug, Default)]
pub(super) struct Log {
    begin: Offset,
    slots: Vec<Slot>,
    /// Everything before it is done, as earlier checks found.
    done_to: usize,
    /// The first offset of the open transaction.
    open: Option<Offset>,
    /// A fault: the client returns records of open and aborted transactions.
    uncommitted: bool,
}

/// The index of an offset in the slots of its log.
fn index(offset: Offset) -> usize {
    offset.value() as usize
}

impl Log {
    pub(super) fn begin(&self) -> Offset {
        self.begin
    }

    pub(super) fn end(&self) -> Offset {
        Offset(self.slots.len() as i64)
    }

    /// Returns the last stable offset: that of the first record of an open transaction, or the end.
    pub(super) fn readable(&self) -> Offset {
        self.open.filter(|_| !self.uncommitted).unwrap_or_else(|| self.end())
    }

    fn append(&mut self, stored: Option<Stored>, transactional: bool) -> Offset {
        self.slots.push(Slot { stored, done: stored.is_none(), transactional, aborted: false, compacted: false });
        self.end() - 1
    }

    /// Returns the first record from `from` on that a consumer is given.
    pub(super) fn next(&self, from: Offset) -> Option<(Offset, Stored)> {
        let from = from.max(self.begin);
        let given = |slot: &Slot| slot.stored.filter(|_| !slot.compacted && (!slot.aborted || self.uncommitted));
        let slots = self.slots.get(index(from)..index(self.readable()))?;
        (0..).zip(slots).find_map(|(at, slot)| given(slot).map(|stored| (from + at, stored)))
    }

    /// Returns the record at an offset, compacted or not, unless its transaction was aborted.
    pub(super) fn at(&self, offset: Offset) -> Option<Stored> {
        let slot = self.slots.get(index(offset))?;
        slot.stored.filter(|_| !slot.aborted)
    }

    pub(super) fn is_done(&self, offset: Offset) -> bool {
        self.slots.get(index(offset)).is_some_and(|slot| slot.done)
    }

    /// Returns the first offset whose effect is not in the store.
    pub(super) fn undone(&mut self) -> Offset {
        while self.slots.get(self.done_to).is_some_and(|slot| slot.done) {
            self.done_to += 1;
        }
        Offset(self.done_to as i64)
    }

    /// Retention: removes what is before `to`.
    pub(super) fn remove_to(&mut self, to: Offset) {
        self.begin = self.begin.max(to);
    }

    /// Returns whether a transaction is open.
    pub(super) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Ends the open transaction. Its marker takes an offset.
    pub(super) fn close(&mut self, commit: bool) {
        let Some(from) = self.open.take() else { return };
        if !commit {
            for slot in self.slots[index(from)..].iter_mut().filter(|slot| slot.transactional) {
                (slot.done, slot.aborted) = (true, true);
            }
        }
        self.append(None, false);
    }

    /// Compaction: of the records before `to` only the newest of each key stays. Kafka does not
    /// compact behind an open transaction.
    pub(super) fn compact(&mut self, to: Offset) {
        let to = index(to.min(self.readable()));
        let mut newer = BTreeSet::new();
        for slot in self.slots[..to].iter_mut().rev().filter(|slot| !slot.aborted && !slot.compacted) {
            let Some(content) = slot.stored.map(|stored| stored.content).filter(|content| !content.bad) else { continue };
            if !newer.insert(content.key) {
                (slot.compacted, slot.done) = (true, true);
            }
        }
    }
}

/// How records get their timestamps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dating {
    /// By the broker: increasing, with room for a thousand steps of the write clock between two.
    Append,
    /// By producers: in any order, implausible, or missing.
    Wild,
}

/// The broker.
#[derive(Debug)]
pub(super) struct Broker {
    topics: Vec<Vec<Log>>,
    group: BTreeMap<Partition, (Checkpoint, String)>,
    /// The process that reads each partition; `None` during a handover.
    pub(super) owners: Vec<Option<usize>>,
    /// The process that should read each partition.
    pub(super) wanted: Vec<usize>,
    pub(super) generation: u64,
    pub(super) dating: Dating,
    last_stamp: i64,
    /// See [`Log::uncommitted`].
    uncommitted: bool,
    appended: u64,
}

impl Broker {
    pub(super) fn new(partitions: usize, dating: Dating, uncommitted: bool) -> Self {
        let log = |_| Log { uncommitted, ..Log::default() };
        Self {
            topics: vec![(0..partitions).map(log).collect()],
            group: BTreeMap::new(),
            owners: vec![None; partitions],
            wanted: vec![0; partitions],
            generation: 1,
            dating,
            last_stamp: 0,
            uncommitted,
            appended: 0,
        }
    }

    /// Returns the number of the current topic.
    pub(super) fn topic(&self) -> u32 {
        self.topics.len() as u32 - 1
    }

    /// Returns its id.
    pub(super) fn topic_id(&self) -> TopicId {
        TopicId::from_bits(self.topics.len() as u128).expect("there is a topic")
    }

    /// Returns whether timestamps increase, so that the row of a removed record is older than every
    /// later one.
    pub(super) fn dates_rise(&self) -> bool {
        self.dating == Dating::Append
    }

    pub(super) fn partitions(&self) -> usize {
        self.owners.len()
    }

    pub(super) fn each(&self) -> impl Iterator<Item = Partition> + use<> {
        0..self.owners.len() as Partition
    }

    pub(super) fn log(&self, partition: Partition) -> &Log {
        &self.topics[self.topics.len() - 1][partition as usize]
    }

    pub(super) fn log_mut(&mut self, partition: Partition) -> &mut Log {
        let topic = self.topics.len() - 1;
        &mut self.topics[topic][partition as usize]
    }

    pub(super) fn committed(&self, partition: Partition) -> Option<CommittedOffset> {
        self.group
            .get(&partition)
            .map(|(checkpoint, metadata)| CommittedOffset { offset: checkpoint.offset, metadata: CommitMetadata::parse(metadata) })
    }

    /// Returns the metadata of the group's commits.
    pub(super) fn metadata(&self) -> impl Iterator<Item = &str> {
        self.group.values().map(|(_, metadata)| metadata.as_str())
    }

    /// Returns the records of a key since the topic was created, even removed ones and dead
    /// letters, with partition and offset.
    pub(super) fn records_of(&self, key: u16) -> impl Iterator<Item = (Partition, Offset, Stored)> {
        self.each().flat_map(move |partition| {
            let log = self.log(partition);
            (0..log.end().value())
                .map(Offset)
                .filter_map(move |offset| Some((partition, offset, log.at(offset)?)))
                .filter(move |(.., it)| it.content.key == Some(key))
        })
    }

    /// Appends a record, sometimes after a gap. `roll` is random.
    pub(super) fn append(&mut self, partition: Partition, content: Content, now_ms: i64, roll: u32) -> Offset {
        let stored = Some(self.dated(content, now_ms, roll));
        let log = self.log_mut(partition);
        if roll.is_multiple_of(41) {
            log.append(None, false);
        }
        log.append(stored, false)
    }

    /// Appends a record in the open transaction, or starts one.
    pub(super) fn append_in_transaction(&mut self, partition: Partition, content: Content, now_ms: i64, roll: u32) {
        let stored = Some(self.dated(content, now_ms, roll));
        let log = self.log_mut(partition);
        let at = log.append(stored, true);
        log.open.get_or_insert(at);
    }

    fn dated(&mut self, content: Content, now_ms: i64, roll: u32) -> Stored {
        let stamp = match self.dating {
            Dating::Append => {
                self.last_stamp = now_ms.max(self.last_stamp + 20);
                Some(self.last_stamp)
            }
            Dating::Wild => match roll % 16 {
                0 => None,
                1 => Some(now_ms + 3_600_000),
                2 => Some(i64::MAX),
                3 => Some(-5),
                4 => Some(now_ms / 1_000),
                // Many in one millisecond, in every partition.
                5..=9 => Some(now_ms - now_ms % 4_000),
                _ => Some(now_ms - 5_000 + i64::from(roll % 10_000)),
            },
        };
        self.appended += 1;
        Stored { content, stamp, nth: self.appended }
    }

    /// Marks the effect of a record as stored.
    pub(super) fn mark_done(&mut self, at: At) {
        if let Some(slot) =
            self.topics[at.topic as usize].get_mut(at.partition as usize).and_then(|log| log.slots.get_mut(index(at.offset)))
        {
            slot.done = true;
        }
    }

    /// Returns whether a record's effect is, or was, in the store.
    pub(super) fn was_done(&self, at: At) -> bool {
        self.topics[at.topic as usize].get(at.partition as usize).is_some_and(|log| log.is_done(at.offset))
    }

    /// Accepts a commit and checks it: see [`Invariant::CommitsCoverTheWritten`]. One that names an
    /// earlier topic is not checked, since it does not count.
    pub(super) fn commit(&mut self, partition: Partition, checkpoint: Checkpoint, metadata: String) -> Checked {
        let topic = CommitMetadata::parse(&metadata).and_then(|metadata| metadata.topic);
        if topic.is_some_and(|topic| topic != self.topic_id()) {
            self.group.insert(partition, (checkpoint, metadata));
            return Ok(());
        }
        let undone = self.log_mut(partition).undone();
        if checkpoint.offset > undone {
            return violation(Invariant::CommitsCoverTheWritten, || {
                format!("[{partition}] is committed up to {}, and {undone} is not written", checkpoint.offset)
            });
        }
        if let Some((before, _)) = self.group.get(&partition).filter(|(before, _)| before.epoch == checkpoint.epoch)
            && before.offset > checkpoint.offset
        {
            return Err(Violation {
                invariant: Invariant::CommitsCoverTheWritten,
                what: format!(
                    "the commit of [{partition}] goes back from {} to {} in epoch {}",
                    before.offset, checkpoint.offset, checkpoint.epoch
                ),
            });
        }
        self.group.insert(partition, (checkpoint, metadata));
        Ok(())
    }

    /// Removes the group's offsets.
    pub(super) fn remove_offsets(&mut self) {
        self.group.clear();
    }

    /// Deletes the topic and creates it again, with as many partitions. Kafka removes the group's
    /// offsets with it, other brokers do not.
    pub(super) fn recreate(&mut self, forget_offsets: bool) {
        let logs = (0..self.partitions()).map(|_| Log { uncommitted: self.uncommitted, ..Log::default() }).collect();
        self.topics.push(logs);
        if forget_offsets {
            self.group.clear();
        }
    }

    pub(super) fn add_partition(&mut self, reader: usize) {
        let topic = self.topics.len() - 1;
        self.topics[topic].push(Log { uncommitted: self.uncommitted, ..Log::default() });
        self.owners.push(None);
        self.wanted.push(reader);
    }

    /// Returns the number of readable offsets that the group has not committed.
    pub(super) fn lag(&self, partition: Partition) -> i64 {
        let log = self.log(partition);
        log.readable() - self.group.get(&partition).map_or(log.begin(), |(checkpoint, _)| checkpoint.offset)
    }
}
