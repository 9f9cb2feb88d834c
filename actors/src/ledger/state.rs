//! The state that outlives the process: the fold of the journal's events. Pure.
//!
//! Guarantees:
//! * [`State::evolve`] accepts every event and never fails, so any journal that decodes can be
//!   folded.
//! * Folding from a snapshot gives the same state as folding from the start.
//! * The events of [`State::decide`] leave a consistent state after each of them.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use forebay_schemas::desired::Desired;
use forebay_schemas::drift::MAX_DRIFTED_FIELDS;
use forebay_schemas::event::{Event, Recorded, StartOrigin};
use forebay_schemas::offset::{Checkpoint, Epoch, Offset, Partition, RangeSet};
use forebay_schemas::run::RunSpec;
use forebay_schemas::source_read::{Position, Read, Validators};
use forebay_schemas::topic_id::TopicId;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::command::{Command, PassProgress};
use super::cursors::{Cursors, CursorsSet, MAX_CURSORS, Source};
use super::error::Rejection;
use super::runs::Runs;
use super::watermarks::{Watermark, Watermarks};

/// Everything that the journal says.
#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// The sequence of the last event; 0 before the first.
    pub seq: u64,
    /// The current process, or the last one.
    pub process: Process,
    /// The topic of the partitions.
    pub topic: String,
    /// The id of that topic, once Kafka has reported it.
    #[serde(default)]
    pub topic_id: Option<TopicId>,
    /// The last 16 ids of earlier topics of that name.
    #[serde(default)]
    pub topic_ids_before: Vec<TopicId>,
    /// The consumer group.
    pub group: String,
    /// The SQL in use.
    pub sql: Option<Sql>,
    /// The state of each partition.
    pub partitions: BTreeMap<Partition, PartitionState>,
    /// Totals over the whole history.
    pub totals: Totals,
    /// The last incarnation of each actor in that process.
    pub actors: BTreeMap<String, ActorState>,
    /// The runs.
    pub runs: Runs,
    /// The cursor of each read. It is never past a page that is not in the topic, unless an
    /// operator set it.
    #[serde(default, alias = "cursor")]
    pub cursors: Cursors,
    /// The watermark of each incremental read.
    #[serde(default, skip_serializing_if = "Watermarks::is_empty")]
    pub watermarks: Watermarks,
    /// What the last whole answer to each read said of itself, where requests are conditional. At
    /// most [`MAX_CURSORS`] reads.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub validators: BTreeMap<Read, Validators>,
    /// The reads whose cursors operators set since the process started.
    #[serde(default, skip_serializing_if = "CursorsSet::is_empty")]
    pub cursor_set: CursorsSet,
    /// The source of the reads.
    #[serde(default)]
    pub source: Source,
    /// What an operator asked for: running, paused or drained.
    #[serde(default)]
    pub desired: Desired,
    /// The offsets of the dead letters that were redriven or dropped.
    #[serde(default)]
    pub redriven: RangeSet,
    /// The fields that records had and the schema did not, at most [`MAX_DRIFTED_FIELDS`].
    #[serde(default)]
    pub drifted: BTreeSet<String>,
}

/// A process.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// The number of processes so far.
    pub starts: u64,
    /// When it started.
    pub started_at: Option<DateTime<Utc>>,
    /// Its version.
    pub version: String,
    /// The roles that it runs.
    pub roles: Vec<String>,
    /// Whether it stopped cleanly; `None` while it runs, and after a kill.
    pub stopped: Option<bool>,
}

/// The SQL in use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "as in the event")]
pub struct Sql {
    pub fingerprint: String,
    pub sql: String,
}

/// The state of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionState {
    /// The checkpoint up to which it is written.
    pub written: Checkpoint,
    /// The group's committed offset in this epoch.
    pub committed: Option<Offset>,
    /// Whether this process reads it.
    pub assigned: bool,
    /// Whether another process reads it, and its commits were read since the last run began to
    /// wait.
    #[serde(default)]
    pub seen: bool,
    /// Whether the topic was re-created since, so that only the write clock of the checkpoint still
    /// counts.
    #[serde(default)]
    pub recreated: bool,
}

/// Totals over the whole history.
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

/// The number of earlier topic ids that are remembered, so that a broker which does not know the
/// new topic yet is ignored.
const MAX_PREVIOUS_TOPIC_IDS: usize = 16;

const OFFSETS_CHANGED: &str = "the group's offsets were removed or reset before this run was written";
const RECREATED: &str = "the topic was re-created before this run was written";

impl State {
    /// Returns the first unwritten offset of each partition.
    pub fn written(&self) -> BTreeMap<Partition, Offset> {
        self.partitions.iter().map(|(&partition, state)| (partition, state.written.offset)).collect()
    }

    /// How far each partition is written.
    pub fn checkpoints(&self) -> BTreeMap<Partition, Checkpoint> {
        self.partitions.iter().map(|(&partition, state)| (partition, state.written)).collect()
    }

    /// Returns the events that follow from a command.
    ///
    /// # Errors
    /// When the state does not allow the command.
    pub fn decide(&self, command: Command) -> Result<Vec<Event>, Rejection> {
        Ok(match command {
            Command::StartProcess { version, roles, topic, group } => {
                let mut events = Vec::new();
                if !self.topic.is_empty() && self.topic != topic {
                    events = self.runs.invalidated(|_| true, &format!("the pipeline reads topic {topic} now, not {}", self.topic));
                }
                events.push(Event::PipelineStarted { version, roles, topic, group });
                events
            }
            Command::ActivateSql { sql, fingerprint } => match &self.sql {
                Some(active) if active.fingerprint == fingerprint => vec![],
                _ => vec![Event::TransformActivated { sql, fingerprint }],
            },
            Command::IdentifyTopic { id } => match self.topic_id {
                None => vec![Event::TopicIdentified { id }],
                Some(from) if from == id || self.topic_ids_before.contains(&id) => vec![],
                Some(from) => {
                    let mut events = self.runs.invalidated_by_recreation(RECREATED);
                    events.push(Event::TopicRecreated { from, to: id });
                    events
                }
            },
            Command::AssignPartitions { starts } => {
                // After a re-creation of the topic the runs of the earlier one have failed; the
                // open runs started since.
                let known = |partition| !self.partitions.get(&partition).is_some_and(|known| known.recreated);
                let is_lost = |partition| {
                    let start = starts.0.get(&partition).filter(|_| known(partition));
                    start.is_some_and(|start| start.origin == StartOrigin::Reset || self.is_another(partition, start.checkpoint.epoch))
                };
                let mut events = self.runs.invalidated(is_lost, OFFSETS_CHANGED);
                events.push(Event::PartitionsAssigned { starts });
                events
            }
            Command::ObserveCommitted { mut checkpoints } => {
                checkpoints.0.retain(|partition, _| self.partitions.get(partition).is_none_or(|known| !known.assigned));
                if checkpoints.0.is_empty() {
                    return Ok(vec![]);
                }
                let is_lost =
                    |partition| checkpoints.0.get(&partition).is_some_and(|checkpoint| self.is_another(partition, checkpoint.epoch));
                let mut events = self.runs.invalidated(is_lost, OFFSETS_CHANGED);
                events.push(Event::PartitionsSeen { checkpoints });
                events
            }
            Command::SeeFields { mut fields } => {
                fields.retain(|seen| !self.drifted.contains(&seen.field));
                fields.truncate(MAX_DRIFTED_FIELDS.saturating_sub(self.drifted.len()));
                if fields.is_empty() { vec![] } else { vec![Event::SchemaDrifted { fields }] }
            }
            Command::SetDesiredState { state, .. } if state == self.desired.state => vec![],
            Command::SetDesiredState { state, by, reason } => vec![Event::StateDesired { state, by, reason }],
            Command::NameSource { source } if source == self.source.name => vec![],
            Command::NameSource { source } => vec![Event::SourceNamed { source }],
            // Also to where it is: a page that is on its way to Kafka must not move it from there.
            Command::SetCursor { read, to, by, reason } => {
                vec![Event::CursorSet { from: self.cursors.position(&read), read, to, by, reason }]
            }
            Command::StartRun { run } => self.runs.start(run, self.next_position(run))?,
            Command::PageProduced { run, ranges, produced, rejected, asked, requested, next, rejects, progress, validators } => {
                self.runs.running_or_scheduled(run)?;
                let read = self.advanced_by(run, &asked, requested);
                let cursor = next.as_ref().and_then(|next| next.cursor().map(str::to_owned));
                let moves = read.clone().filter(|_| next.is_some());
                let is_new = |validators: &Validators| read.as_ref().is_some_and(|read| self.validators.get(read) != Some(validators));
                let kept = validators.map(|validators| *validators).filter(is_new).zip(read.clone());
                let kept = kept.map(|(validators, read)| Event::ValidatorsKept { run, read, validators });
                let moved = progress
                    .map(|progress| *progress)
                    .zip(read)
                    .map(|(PassProgress { at, pass, seen }, read)| Event::WatermarkMoved { run, read, at, pass, seen });
                [Event::PageProduced { run, ranges, produced, rejected, cursor, moves, rejects }]
                    .into_iter()
                    .chain(moved)
                    .chain(kept)
                    .collect()
            }
            Command::ForgetValidators { run, answer } => {
                let read = self.read_of(run);
                let is_another = self.validators.get(&read).is_some_and(|known| Some(known) != answer.as_ref());
                is_another.then(|| Event::ValidatorsKept { run, read, validators: Validators::default() }).into_iter().collect()
            }
            Command::Record(event) => vec![event],
            command => self.runs.decide(command)?,
        })
    }

    /// Returns whether the journal knows a partition in another epoch: another process, or this one
    /// before a crash that took its last events, has started one.
    fn is_another(&self, partition: Partition, epoch: Epoch) -> bool {
        self.partitions.get(&partition).is_some_and(|known| known.written.epoch != epoch && !known.recreated)
    }

    /// Returns the position of a fetch's next page.
    ///
    /// A run that has started, or that reads again, has its own position. Any other fetch starts at
    /// the cursor of its read. A scheduled fetch belongs to the read without params.
    pub fn next_position(&self, run: Uuid) -> Position {
        let own = self.runs.get(run).and_then(|run| run.position.clone());
        own.unwrap_or_else(|| self.cursors.position(&self.read_of(run)))
    }

    /// Returns the event of a new run; see [`Runs::requested`].
    pub fn requested(&self, run: Uuid, (key, attempt): (&str, u32), spec: RunSpec) -> Event {
        let is_incremental = self.watermarks.get(&Read::in_window(&spec.params, spec.window)).is_some();
        self.runs.requested(run, (key, attempt), spec, self.source.since, is_incremental)
    }

    /// Returns the read whose cursor a page advances, if any.
    ///
    /// A page advances the cursor only from the position that it was requested at. The page of a
    /// run that reads again, or whose cursor an operator has set since it was requested, advances
    /// none.
    fn advanced_by(&self, run: Uuid, asked: &Position, requested: u64) -> Option<Read> {
        self.continued_by(run).filter(|read| self.cursors.position(read) == *asked && !self.cursor_set.since(read, requested))
    }

    /// Returns how far the read of a run has got, unless the run reads again.
    pub fn watermark_of(&self, run: Uuid) -> Option<&Watermark> {
        self.watermarks.get(&self.continued_by(run)?)
    }

    /// Returns what the last whole answer to the read of a run said of itself, unless the run reads
    /// again.
    pub fn validators_of(&self, run: Uuid) -> Option<&Validators> {
        self.validators.get(&self.continued_by(run)?)
    }

    /// Returns the read of a run, unless the run reads again.
    fn continued_by(&self, run: Uuid) -> Option<Read> {
        let again = self.runs.get(run).is_some_and(|run| run.again);
        (!again).then(|| self.read_of(run))
    }

    /// Returns the read that a run belongs to.
    pub fn read_of(&self, run: Uuid) -> Read {
        self.runs.get(run).map(|run| Read::in_window(&run.spec.params, run.spec.window)).unwrap_or_default()
    }

    /// Returns the events that follow from the state. Callers apply them and call again until there
    /// are none.
    ///
    /// Partitions that this process neither reads nor has observed do not count: the topic may have
    /// been re-created since they were written. A pipeline that ends at the topic waits for none.
    ///
    /// `confirmed` are the written offsets at the last confirmation of the topic. What was written
    /// later does not count yet: it may be of another topic, which lacks the records of a run.
    /// `None` before the first check, and where the broker has no topic ids.
    pub fn due(&self, confirmed: Option<&BTreeMap<Partition, Offset>>) -> Vec<Event> {
        if let Some((read, cursor)) = self.cursors.excess() {
            return vec![Event::CursorForgotten { read: read.clone(), cursor: cursor.cursor.clone() }];
        }
        if !self.runs.has_open() {
            return Vec::new();
        }
        let current = self.partitions.iter().filter(|(_, state)| (state.assigned || state.seen) && !state.recreated);
        let certain = |(&partition, state): (&Partition, &PartitionState)| {
            // Of partitions that others read, only the observed commit counts, even when the
            // journal is further on.
            let written = state.committed.filter(|_| state.seen).unwrap_or(state.written.offset);
            confirmed.map_or(Some(written), |confirmed| confirmed.get(&partition).map(|&at| at.min(written))).map(|at| (partition, at))
        };
        let current = current.filter_map(certain).collect();
        self.runs.completed(if self.group.is_empty() { None } else { Some(&current) })
    }

    /// Returns whether a run waits for partitions that other processes read.
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
                self.cursor_set.clear();
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
                if let Some(read) = moves
                    && !self.runs.is_of_single_cursor(*run, read)
                {
                    // Without a cursor the read returns to its start.
                    self.cursors.put(read, &Position::of(cursor.as_deref()), recorded.seq, recorded.at);
                }
            }
            Event::WatermarkMoved { read, at, pass, seen, .. } => {
                let progress = PassProgress { at: at.clone(), pass: pass.clone(), seen: seen.clone() };
                self.watermarks.put(read, progress, recorded.seq, recorded.at);
            }
            Event::ValidatorsKept { read, validators, .. } if *validators == Validators::default() => {
                self.validators.remove(read);
            }
            Event::ValidatorsKept { read, validators, .. } => {
                self.validators.insert(read.clone(), validators.clone());
                if self.validators.len() > MAX_CURSORS
                    && let Some(other) = self.validators.keys().rfind(|known| *known != read && !known.is_plain()).cloned()
                {
                    // Its next fetch asks without a condition.
                    self.validators.remove(&other);
                }
            }
            Event::SourceNamed { source } => {
                if !self.source.name.is_empty() {
                    // The watermarks go, and a cursor means nothing without what its pass asks for.
                    for read in self.watermarks.reads() {
                        self.cursors.put(read, &Position::Begin, recorded.seq, recorded.at);
                    }
                }
                let has_changed = self.source.switch(source, recorded.at, &mut self.cursors);
                if has_changed {
                    self.watermarks.clear();
                    self.validators.clear();
                    self.runs.forget_positions();
                }
            }
            Event::CursorSet { read, to, .. } => {
                self.cursors.put(read, to, recorded.seq, recorded.at);
                if *to == Position::Begin {
                    self.watermarks.end_pass(read);
                }
                // It is to be read again, whether it has changed or not.
                self.validators.remove(read);
                self.cursor_set.put(read, recorded.seq);
            }
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
                if self.topic_ids_before.len() >= MAX_PREVIOUS_TOPIC_IDS {
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
                for (&partition, &observed) in &checkpoints.0 {
                    // Within an epoch the larger counts, as at a start: the journal may be ahead of
                    // the commit.
                    let known = self.partitions.get(&partition).filter(|known| !known.recreated).map(|known| known.written);
                    let written = known.filter(|known| known.epoch == observed.epoch && known.offset > observed.offset).unwrap_or(observed);
                    let committed = Some(observed.offset);
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
            Event::SchemaDrifted { fields } => self.drifted.extend(fields.iter().map(|seen| seen.field.clone())),
            Event::LettersRedriven { letters, .. } | Event::LettersDropped { letters, .. } => self.redriven.add(letters),
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
