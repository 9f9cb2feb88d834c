//! The state that outlives the process, pure: the fold of the journal's events.
//!
//! Guarantee: [`State::evolve`] takes every event and never fails, so any journal that decodes can be folded; folding on from a snapshot gives
//! the same as folding from the start. [`State::decide`] gives events that leave a state which makes sense after each of them.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use forebay_schemas::desired::Desired;
use forebay_schemas::event::{Event, Recorded, StartOrigin};
use forebay_schemas::offset::{Checkpoint, Epoch, Offset, Partition, RangeSet};
use forebay_schemas::read::{Position, Read};
use forebay_schemas::topic::TopicId;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::command::Command;
use super::cursors::{Cursors, Source};
use super::error::Rejection;
use super::runs::Runs;

/// Everything that is known from the journal.
#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// The last event in it; 0 before the first.
    pub seq: u64,
    /// The process that runs the pipeline, or did last.
    pub process: Process,
    /// The topic that the partitions are of.
    pub topic: String,
    /// The id of that topic, as far as Kafka has said.
    #[serde(default)]
    pub topic_id: Option<TopicId>,
    /// The ids of topics of that name that there were before, the last 16.
    #[serde(default)]
    pub topic_ids_before: Vec<TopicId>,
    /// The consumer group that they are read by.
    pub group: String,
    /// The SQL in use.
    pub sql: Option<Sql>,
    /// What is known of each partition.
    pub partitions: BTreeMap<Partition, PartitionState>,
    /// Sums over all of history.
    pub totals: Totals,
    /// The last incarnation of each actor, of the process that runs or did last.
    pub actors: BTreeMap<String, ActorState>,
    /// The runs.
    pub runs: Runs,
    /// Where each read of the source is: never past a page of it that is not in the topic, but where somebody has set it so.
    #[serde(default, alias = "cursor")]
    pub cursors: Cursors,
    /// The source that they are of.
    #[serde(default)]
    pub source: Source,
    /// What the pipeline is meant to do.
    #[serde(default)]
    pub desired: Desired,
    /// The dead letters that are in the topic again.
    #[serde(default)]
    pub redriven: RangeSet,
}

/// A process.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// How many there have been.
    pub starts: u64,
    /// When it began.
    pub started_at: Option<DateTime<Utc>>,
    /// Of which version it is.
    pub version: String,
    /// The parts of the tree it runs.
    pub roles: Vec<String>,
    /// Whether it ended, and cleanly; none while it runs, and after it was killed.
    pub stopped: Option<bool>,
}

/// The SQL in use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "as in the event")]
pub struct Sql {
    pub fingerprint: String,
    pub sql: String,
}

/// What is known of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionState {
    /// How far it is written.
    pub written: Checkpoint,
    /// What the group has committed in this epoch.
    pub committed: Option<Offset>,
    /// Whether this process reads it.
    pub assigned: bool,
    /// Whether another does, and what that has committed was looked at after the last run had come to wait.
    #[serde(default)]
    pub seen: bool,
    /// Whether its place is of a topic that was recreated since, so that nothing but its write clock still means anything.
    #[serde(default)]
    pub recreated: bool,
}

/// Sums over all of history.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Pages fetched, and the records in them.
    pub pages: u64,
    /// Records fetched.
    pub fetched: u64,
    /// Records acknowledged in the topic.
    pub produced: u64,
    /// Dead letters on the way into the topic.
    pub refused: u64,
    /// Micro-batches written.
    pub batches: u64,
    /// Rows in them; a record written again after a crash counts again.
    pub rows: u64,
    /// Dead letters out of them.
    pub rejected: u64,
    /// Restarts of actors.
    pub restarts: u64,
}

/// The last incarnation of an actor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActorState {
    /// Which.
    pub incarnation: u64,
    /// Whether it lives.
    pub up: bool,
    /// Why the last one ended.
    pub last_exit: Option<String>,
}

/// How many ids of topics that are gone are remembered, so that a broker that has not heard of the new one is not believed.
const IDS_KEPT: usize = 16;

const BEGUN_AGAIN: &str = "its group's offsets were removed or moved before this run was written";
const RECREATED: &str = "the topic was deleted and created again before this run was written";

impl State {
    /// The first unwritten offset of each partition.
    pub fn written(&self) -> BTreeMap<Partition, Offset> {
        self.partitions.iter().map(|(&partition, state)| (partition, state.written.offset)).collect()
    }

    /// How far each partition is written.
    pub fn checkpoints(&self) -> BTreeMap<Partition, Checkpoint> {
        self.partitions.iter().map(|(&partition, state)| (partition, state.written)).collect()
    }

    /// The events that follow from a command.
    ///
    /// # Errors
    /// When the state does not allow the command.
    pub fn decide(&self, command: Command) -> Result<Vec<Event>, Rejection> {
        Ok(match command {
            Command::Begin { version, roles, topic, group } => {
                let mut events = Vec::new();
                if !self.topic.is_empty() && self.topic != topic {
                    events = self.runs.bereft(|_| true, &format!("the pipeline reads topic {topic} now, not {}", self.topic));
                }
                events.push(Event::PipelineStarted { version, roles, topic, group });
                events
            }
            Command::Activate { sql, fingerprint } => match &self.sql {
                Some(active) if active.fingerprint == fingerprint => vec![],
                _ => vec![Event::TransformActivated { sql, fingerprint }],
            },
            Command::Identified { id } => match self.topic_id {
                None => vec![Event::TopicIdentified { id }],
                Some(from) if from == id || self.topic_ids_before.contains(&id) => vec![],
                Some(from) => {
                    let mut events = self.runs.recreated(RECREATED);
                    events.push(Event::TopicRecreated { from, to: id });
                    events
                }
            },
            Command::Assigned { starts } => {
                // The runs of a topic that was recreated have failed by that; those that are open have begun since.
                let known = |partition| !self.partitions.get(&partition).is_some_and(|known| known.recreated);
                let again = |partition| {
                    let start = starts.0.get(&partition).filter(|_| known(partition));
                    start.is_some_and(|start| start.origin == StartOrigin::Reset || self.is_another(partition, start.checkpoint.epoch))
                };
                let mut events = self.runs.bereft(again, BEGUN_AGAIN);
                events.push(Event::PartitionsAssigned { starts });
                events
            }
            Command::Seen { mut checkpoints } => {
                checkpoints.0.retain(|partition, _| self.partitions.get(partition).is_none_or(|known| !known.assigned));
                if checkpoints.0.is_empty() {
                    return Ok(vec![]);
                }
                let again =
                    |partition| checkpoints.0.get(&partition).is_some_and(|checkpoint| self.is_another(partition, checkpoint.epoch));
                let mut events = self.runs.bereft(again, BEGUN_AGAIN);
                events.push(Event::PartitionsSeen { checkpoints });
                events
            }
            Command::Desire { state, .. } if state == self.desired.state => vec![],
            Command::Desire { state, by, reason } => vec![Event::StateDesired { state, by, reason }],
            Command::Fetch { source } if source == self.source.name => vec![],
            Command::Fetch { source } => vec![Event::SourceNamed { source }],
            Command::SetCursor { read, to, by, reason } => match self.cursors.position(&read) {
                from if from == to => vec![],
                from => vec![Event::CursorSet { read, from, to, by, reason }],
            },
            Command::Start { run } => self.runs.start(run, self.begins(run))?,
            Command::PageProduced { run, ranges, produced, rejected, asked, cursor, rejects } => {
                self.runs.running_or_scheduled(run)?;
                let moves = self.moved_by(run, &asked).filter(|_| cursor.is_some());
                vec![Event::PageProduced { run, ranges, produced, rejected, cursor, moves, rejects }]
            }
            Command::Saw(event) => vec![event],
            command => self.runs.decide(command)?,
        })
    }

    /// Whether a partition is known by another epoch: somebody else, or this process before a crash that the journal does not know of, has begun
    /// again.
    fn is_another(&self, partition: Partition, epoch: Epoch) -> bool {
        self.partitions.get(&partition).is_some_and(|known| known.written.epoch != epoch && !known.recreated)
    }

    /// Where the next page of a fetch is: a run that has begun, or that reads again, has a position of its own; any other fetch begins
    /// where its read is. A fetch that nobody asked for is of the read without params.
    pub fn begins(&self, run: Uuid) -> Position {
        let own = self.runs.get(run).and_then(|run| run.position.clone());
        own.unwrap_or_else(|| self.cursors.position(&self.read_of(run)))
    }

    /// The read whose cursor a page moves. Only from where it was asked for: the page of a run that is elsewhere (it reads again, or
    /// somebody has set the cursor meanwhile) moves none.
    fn moved_by(&self, run: Uuid, asked: &Position) -> Option<Read> {
        let again = self.runs.get(run).is_some_and(|run| run.again);
        Some(self.read_of(run)).filter(|read| !again && self.cursors.position(read) == *asked)
    }

    fn read_of(&self, run: Uuid) -> Read {
        self.runs.get(run).map(|run| Read::of(&run.spec.params)).unwrap_or_default()
    }

    /// The events that have become due by the last ones; to be asked until there are none. Partitions that this process neither reads nor has
    /// seen since don't count: nobody here knows whether the topic is still the one that was written. A pipeline that ends at the
    /// topic has nothing to wait for.
    ///
    /// `looked` is how far each partition was written when the topic was last found to be the one that is known here. What was written later does not
    /// count yet: it may be of another topic, in which the records of a run are not. None where the broker was not asked, or gives no ids.
    pub fn due(&self, looked: Option<&BTreeMap<Partition, Offset>>) -> Vec<Event> {
        if let Some((read, cursor)) = self.cursors.one_too_many() {
            return vec![Event::CursorForgotten { read: read.clone(), cursor: cursor.cursor.clone() }];
        }
        if !self.runs.any_open() {
            return Vec::new();
        }
        let current = self.partitions.iter().filter(|(_, state)| (state.assigned || state.seen) && !state.recreated);
        let certain = |(&partition, state): (&Partition, &PartitionState)| {
            // Of what others read only what was seen last counts, though this journal may know of more.
            let written = state.committed.filter(|_| state.seen).unwrap_or(state.written.offset);
            looked.map_or(Some(written), |looked| looked.get(&partition).map(|&at| at.min(written))).map(|at| (partition, at))
        };
        let current = current.filter_map(certain).collect();
        self.runs.complete(if self.group.is_empty() { None } else { Some(&current) })
    }

    /// Whether a run waits for partitions that other processes read.
    pub fn waits_for_others(&self) -> bool {
        let here = |partition: &Partition| self.partitions.get(partition).is_some_and(|state| state.assigned);
        !self.group.is_empty() && self.runs.draining().any(|run| !run.ranges.0.keys().all(here))
    }

    /// Applies an event.
    pub fn evolve(&mut self, recorded: &Recorded) {
        self.seq = recorded.seq;
        let totals = &mut self.totals;
        match &recorded.event {
            Event::PipelineStarted { version, roles, topic, group } => {
                if self.topic != *topic || self.group != *group {
                    self.partitions.clear();
                }
                if self.topic != *topic {
                    self.topic_id = None;
                    self.topic_ids_before.clear();
                }
                (self.topic, self.group) = (topic.clone(), group.clone());
                self.process = Process {
                    starts: self.process.starts + 1,
                    started_at: Some(recorded.at),
                    version: version.clone(),
                    roles: roles.clone(),
                    stopped: None,
                };
                self.actors.clear();
                self.partitions.values_mut().for_each(|partition| (partition.assigned, partition.seen) = (false, false));
            }
            Event::PipelineStopped { clean } => {
                self.process.stopped = Some(*clean);
                self.partitions.values_mut().for_each(|partition| partition.assigned = false);
            }
            Event::TransformActivated { sql, fingerprint } => {
                self.sql = Some(Sql { fingerprint: fingerprint.clone(), sql: sql.clone() });
            }
            Event::PageFetched { records, .. } => {
                totals.pages += 1;
                totals.fetched += records;
            }
            Event::PageProduced { run, produced, rejected, cursor, moves, .. } => {
                totals.produced += produced;
                totals.refused += rejected;
                if let (Some(cursor), Some(read)) = (cursor, moves)
                    && !self.runs.is_of_one_cursor(*run, read)
                {
                    self.cursors.put(read, &Position::Cursor(cursor.clone()), recorded.seq, recorded.at);
                }
            }
            Event::SourceNamed { source } => {
                let another = self.source.turn(source, recorded.at, &mut self.cursors);
                if another {
                    self.runs.forget_positions();
                }
            }
            Event::CursorSet { read, to, .. } => self.cursors.put(read, to, recorded.seq, recorded.at),
            Event::CursorForgotten { read, .. } => self.cursors.put(read, &Position::Begin, recorded.seq, recorded.at),
            Event::BatchWritten { rows, rejected, written, .. } => {
                totals.batches += 1;
                totals.rows += rows;
                totals.rejected += rejected;
                for (partition, checkpoint) in &written.0 {
                    if let Some(partition) = self.partitions.get_mut(partition).filter(|known| known.written.epoch == checkpoint.epoch) {
                        partition.written = *checkpoint;
                    }
                }
            }
            Event::OffsetsCommitted { offsets } => {
                for (partition, offset) in &offsets.0 {
                    if let Some(partition) = self.partitions.get_mut(partition) {
                        partition.committed = Some(*offset);
                    }
                }
            }
            Event::TopicIdentified { id } => self.topic_id = Some(*id),
            Event::TopicRecreated { from, to } => {
                self.topic_id = Some(*to);
                if self.topic_ids_before.len() >= IDS_KEPT {
                    self.topic_ids_before.remove(0);
                }
                self.topic_ids_before.push(*from);
                self.partitions.values_mut().for_each(|partition| partition.recreated = true);
            }
            Event::PartitionsAssigned { starts } => {
                for (&partition, start) in &starts.0 {
                    let before = self.partitions.get(&partition).filter(|known| known.written.epoch == start.checkpoint.epoch);
                    let committed = before.and_then(|known| known.committed);
                    let known = PartitionState { written: start.checkpoint, committed, assigned: true, seen: false, recreated: false };
                    self.partitions.insert(partition, known);
                }
            }
            Event::PartitionsRevoked { partitions } => {
                for partition in partitions {
                    if let Some(partition) = self.partitions.get_mut(partition) {
                        partition.assigned = false;
                    }
                }
            }
            Event::RunProduced { .. } => self.partitions.values_mut().for_each(|partition| partition.seen = false),
            Event::PartitionsSeen { checkpoints } => {
                for (&partition, &seen) in &checkpoints.0 {
                    // Within an epoch the larger counts, as at a start: what is written and not yet committed is written all the same.
                    let known = self.partitions.get(&partition).filter(|known| !known.recreated).map(|known| known.written);
                    let written = known.filter(|known| known.epoch == seen.epoch && known.offset > seen.offset).unwrap_or(seen);
                    let committed = Some(seen.offset);
                    self.partitions.insert(partition, PartitionState { written, committed, assigned: false, seen: true, recreated: false });
                }
            }
            Event::OffsetsReset { to, .. } => {
                for (&partition, &written) in &to.0 {
                    let known = PartitionState { written, committed: None, assigned: false, seen: false, recreated: false };
                    self.partitions.insert(partition, known);
                }
            }
            Event::StateDesired { state, by, reason } => {
                self.desired = Desired { state: *state, by: by.clone(), reason: reason.clone(), since: Some(recorded.at) };
            }
            Event::LettersRedriven { letters, .. } => self.redriven.add(letters),
            Event::ChildStarted { actor, incarnation } => {
                totals.restarts += u64::from(*incarnation > 1);
                let last_exit = self.actors.get(actor).and_then(|known| known.last_exit.clone());
                self.actors.insert(actor.clone(), ActorState { incarnation: *incarnation, up: true, last_exit });
            }
            Event::ChildExited { actor, incarnation, exit } => {
                self.actors.insert(actor.clone(), ActorState { incarnation: *incarnation, up: false, last_exit: Some(exit.clone()) });
            }
            _ => {}
        }
        self.runs.evolve(&recorded.event, recorded.at);
    }
}
