//! A model of Kafka: one topic at a time, its logs, one group's commits, and who owns what.

use std::collections::BTreeMap;

use forebay_schemas::event::Place;
use forebay_schemas::offset::{Offset, Partition};

use super::api::Content;
use super::invariants::{Broken, Invariant, Kept, broken};
use crate::consumer::start::{Committed, mark_of};

/// Where a record is: the topic's number in the history, its partition, its offset.
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
}

/// A place of a log: a record, or a gap as the markers of transactions leave it.
#[derive(Debug, Clone, Copy)]
struct Slot {
    stored: Option<Stored>,
    /// Whether its effect is in the store.
    done: bool,
}

/// A partition's log.
#[derive(Debug, Default)]
pub(super) struct Log {
    begin: Offset,
    slots: Vec<Slot>,
    /// All before is done: what was found by earlier checks.
    done_to: usize,
}

impl Log {
    pub(super) fn begin(&self) -> Offset {
        self.begin
    }

    pub(super) fn end(&self) -> Offset {
        self.slots.len() as Offset
    }

    fn append(&mut self, stored: Option<Stored>) -> Offset {
        self.slots.push(Slot { stored, done: stored.is_none() });
        self.end() - 1
    }

    /// The first record at `from` or after it.
    pub(super) fn next(&self, from: Offset) -> Option<(Offset, Stored)> {
        let from = from.max(self.begin) as usize;
        self.slots.get(from..)?.iter().enumerate().find_map(|(at, slot)| slot.stored.map(|stored| ((from + at) as Offset, stored)))
    }

    pub(super) fn at(&self, offset: Offset) -> Option<Stored> {
        self.slots.get(offset as usize)?.stored
    }

    pub(super) fn is_done(&self, offset: Offset) -> bool {
        self.slots.get(offset as usize).is_some_and(|slot| slot.done)
    }

    /// The first offset whose effect is not in the store.
    pub(super) fn undone(&mut self) -> Offset {
        while self.slots.get(self.done_to).is_some_and(|slot| slot.done) {
            self.done_to += 1;
        }
        self.done_to as Offset
    }

    /// Retention: what is before `to` can't be read any more.
    pub(super) fn remove_to(&mut self, to: Offset) {
        self.begin = self.begin.max(to);
    }
}

/// How records are dated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dating {
    /// As the broker does it: rising, and with room for a thousand steps of the write clock between two.
    Append,
    /// As anybody does it: back and forth, absurd, or not at all.
    Wild,
}

/// The broker.
#[derive(Debug)]
pub(super) struct Broker {
    topics: Vec<Vec<Log>>,
    group: BTreeMap<Partition, (Place, String)>,
    /// Which process reads a partition; none while it is handed over.
    pub(super) owners: Vec<Option<usize>>,
    /// Which process is to read a partition.
    pub(super) wanted: Vec<usize>,
    pub(super) generation: u64,
    dating: Dating,
    last_stamp: i64,
}

impl Broker {
    pub(super) fn new(partitions: usize, dating: Dating) -> Self {
        Self {
            topics: vec![(0..partitions).map(|_| Log::default()).collect()],
            group: BTreeMap::new(),
            owners: vec![None; partitions],
            wanted: vec![0; partitions],
            generation: 1,
            dating,
            last_stamp: 0,
        }
    }

    /// The number of the topic that there is now.
    pub(super) fn topic(&self) -> u32 {
        self.topics.len() as u32 - 1
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

    pub(super) fn committed(&self, partition: Partition) -> Option<Committed> {
        self.group.get(&partition).map(|(place, metadata)| Committed { offset: place.offset, mark: mark_of(metadata) })
    }

    /// Appends a record, now and then after a gap. `roll` is random.
    pub(super) fn append(&mut self, partition: Partition, content: Content, now_ms: i64, roll: u32) -> Offset {
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
                _ => Some(now_ms - 5_000 + i64::from(roll % 10_000)),
            },
        };
        let log = self.log_mut(partition);
        if roll.is_multiple_of(41) {
            log.append(None);
        }
        log.append(Some(Stored { content, stamp }))
    }

    /// The effect of a record is in the store.
    pub(super) fn mark_done(&mut self, at: At) {
        if let Some(slot) =
            self.topics[at.topic as usize].get_mut(at.partition as usize).and_then(|log| log.slots.get_mut(at.offset as usize))
        {
            slot.done = true;
        }
    }

    /// Whether a record's effect is, or was, in the store.
    pub(super) fn was_done(&self, at: At) -> bool {
        self.topics[at.topic as usize].get(at.partition as usize).is_some_and(|log| log.is_done(at.offset))
    }

    /// Takes a commit, and checks it: see [`Invariant::CommitsCoverTheWritten`].
    pub(super) fn commit(&mut self, partition: Partition, place: Place, metadata: String) -> Kept {
        let undone = self.log_mut(partition).undone();
        if place.offset > undone {
            return broken(Invariant::CommitsCoverTheWritten, || {
                format!("[{partition}] is committed up to {}, and {undone} is not written", place.offset)
            });
        }
        if let Some((before, _)) = self.group.get(&partition).filter(|(before, _)| before.lineage == place.lineage)
            && before.offset > place.offset
        {
            return Err(Broken {
                invariant: Invariant::CommitsCoverTheWritten,
                what: format!(
                    "the commit of [{partition}] goes back from {} to {} in lineage {}",
                    before.offset, place.offset, place.lineage
                ),
            });
        }
        self.group.insert(partition, (place, metadata));
        Ok(())
    }

    /// The group's offsets are removed.
    pub(super) fn remove_offsets(&mut self) {
        self.group.clear();
    }

    /// The topic is made anew, with as many partitions.
    pub(super) fn make_anew(&mut self) {
        let logs = (0..self.partitions()).map(|_| Log::default()).collect();
        self.topics.push(logs);
        self.group.clear();
    }

    pub(super) fn add_partition(&mut self, reader: usize) {
        let topic = self.topics.len() - 1;
        self.topics[topic].push(Log::default());
        self.owners.push(None);
        self.wanted.push(reader);
    }

    /// How many offsets of a partition the group has yet to commit.
    pub(super) fn lag(&self, partition: Partition) -> Offset {
        let log = self.log(partition);
        log.end() - self.group.get(&partition).map_or(log.begin(), |(place, _)| place.offset)
    }
}
