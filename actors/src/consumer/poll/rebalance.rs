//! The group's and the broker's word: assignments, revocations, errors, statistics.
//!
//! Guarantee: partitions that are taken away go after what is in flight of them was waited for and committed; an assignment is answered only when
//! it is known where each partition starts, however long Kafka needs to tell. Not guaranteed: that others wait as long; the group
//! puts out who is later than its rebalance time-out.

use std::time::{Duration, Instant};

use forebay_schemas::event::{Event, StartOrigin, why_implausible};
use forebay_schemas::offset::Partition;
use rdkafka::error::KafkaError;

use super::super::batch_builder::{Incoming, Piece};
use super::super::client::{Assigned, Ends, Event as Told};
use super::super::error::{ConsumerError, Trouble};
use super::super::start_offset::Found;
use super::commit::DRAIN_WITHIN;
use super::{End, Loop};
use crate::broker::silence;
use crate::failpoint::point;
use crate::ledger::Command;
use forebay_kernel::Backoff;
use forebay_schemas::failure::{Class, Classified};

/// Delays between questions for where assigned partitions start.
const FIND_BACKOFF: Backoff = Backoff { min: Duration::from_millis(200), max: Duration::from_secs(5) };

/// An assignment whose starts Kafka has not yet told.
pub(super) struct Unanswered {
    partitions: Vec<Partition>,
    attempts: u32,
    not_before: Instant,
}

/// What is being waited for outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Note {
    Brokers,
    Silent,
    Topic,
}

impl Loop<'_> {
    pub(super) fn handle_events(&mut self) -> Result<(), End> {
        for event in self.client.events() {
            match event {
                Told::Assigned(partitions) => {
                    self.unanswered = Some(Unanswered { partitions, attempts: 0, not_before: self.now() });
                }
                Told::Revoked { partitions, lost } => self.revoked(&partitions, lost)?,
                Told::Trouble(error, reason) => self.trouble(&error, &reason)?,
                Told::End { partition, offset } => drop(self.ends.insert(partition, offset)),
                Told::Statistics { ends, connected, silent } => {
                    self.show_ends(&ends);
                    if let Some(silent) = silent {
                        self.silent(silent);
                    } else if connected && matches!(self.note, Some(Note::Brokers | Note::Silent)) {
                        self.all_is_well();
                    }
                }
            }
        }
        self.reach_ends();
        match self.unanswered.take_if(|unanswered| unanswered.not_before <= self.params.clock.now()) {
            Some(unanswered) => self.assigned(unanswered),
            None => Ok(()),
        }
    }

    /// Partitions end where Kafka's client has said, unless a record before that is held until there is room for it.
    fn reach_ends(&mut self) {
        if self.ends.is_empty() || self.wait.is_some() {
            return;
        }
        for (partition, offset) in std::mem::take(&mut self.ends) {
            if let Some(checkpoint) = self.state.ends_at(partition, offset) {
                self.params.telemetry.partition(partition, |view| view.written = view.written.max(checkpoint.offset));
            }
        }
    }

    /// Where partitions start, of the topic that there is now. None when the topic was recreated since this incarnation began to read, which ends it.
    fn find(&mut self, partitions: &[Partition]) -> Result<Option<Vec<Assigned>>, ConsumerError> {
        let (topic, ledger) = (self.client.topic_id()?, &self.params.ledger);
        let Some(recreations) = ledger.saw_topic(topic) else {
            let reason = "its brokers do not agree yet which topic of that name there is".to_owned();
            return Err(ConsumerError::Unanswered { reason });
        };
        if self.state.assigned().next().is_none() {
            self.recreations = recreations;
            self.state.reads(topic);
        } else if self.recreations != recreations {
            return Ok(None);
        }
        self.client.find(partitions, &ledger.checkpoints(), topic, self.state.latest_clock()).map(Some)
    }

    /// Partitions were given to this consumer. Until Kafka has told where they start, it is asked again.
    pub(super) fn assigned(&mut self, unanswered: Unanswered) -> Result<(), End> {
        let found = match self.find(&unanswered.partitions) {
            Ok(Some(found)) => found,
            Ok(None) => return Ok(()),
            Err(error) if error.class() == Class::Transient => {
                self.waiting(Note::Brokers, &error.to_string());
                let not_before = self.now() + FIND_BACKOFF.delay(unanswered.attempts, rand::random());
                self.unanswered = Some(Unanswered { attempts: unanswered.attempts.saturating_add(1), not_before, ..unanswered });
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        point("consumer::before_assign");
        self.client.assign(&found)?;
        let paused = self.held.is_some() || self.wait.as_ref().is_some_and(|wait| wait.paused);
        if paused {
            self.client.pause(found.iter().map(|found| found.partition))?;
        }
        for &Assigned { partition, found: Found { start, committed }, begin, end } in &found {
            let committed = committed.unwrap_or(start.checkpoint.offset);
            self.state.assign(partition, start.checkpoint, committed);
            self.params.telemetry.partition(partition, |view| {
                (view.assigned, view.paused) = (true, paused);
                (view.begin, view.end) = (begin, end);
                // From the begin nothing of before counts: another topic may have been there.
                let from_begin = matches!(start.origin, StartOrigin::Earliest | StartOrigin::Reset);
                view.written = if from_begin { start.checkpoint.offset } else { view.written.max(start.checkpoint.offset) };
                view.committed = if from_begin { committed } else { view.committed.max(committed) };
            });
            if start.origin == StartOrigin::Reset {
                let (group, topic) = (&self.params.group, &self.params.topic);
                tracing::warn!(
                    "group {group} has no offset of {topic}[{partition}] as it is now, though it has read it before: the topic was deleted and created \
                     again, or the group's offsets were removed; it is read from its begin, offset {begin}"
                );
            }
        }
        if !found.is_empty() {
            let starts = found.iter().map(|assigned| (assigned.partition, assigned.found.start)).collect();
            if let Err(rejection) = self.params.ledger.submit(Command::Assigned { starts }) {
                tracing::error!(%rejection, "the ledger does not take an assignment");
            }
        }
        self.all_is_well();
        point("consumer::after_assign");
        Ok(())
    }

    /// Partitions were taken away: what is in flight of them is waited for and committed, unless others may have them already.
    pub(super) fn revoked(&mut self, partitions: &[Partition], lost: bool) -> Result<(), End> {
        tracing::debug!(?partitions, lost, "revoked");
        point("consumer::before_revoke");
        self.unanswered = None;
        self.ends.retain(|partition, _| !partitions.contains(partition));
        if let Some(wait) = &mut self.wait {
            wait.forget(partitions);
        }
        if self.state.forms_of(partitions) {
            self.send()?;
        }
        if !lost {
            self.drain(partitions, Some(self.now() + DRAIN_WITHIN))?;
            self.commit_last(partitions)?;
        }
        self.state.revoke(partitions);
        self.gone(partitions);
        self.client.unassign(partitions)?;
        point("consumer::after_revoke");
        Ok(())
    }

    /// Others may read these partitions from here on.
    pub(super) fn gone(&self, partitions: &[Partition]) {
        if !partitions.is_empty() {
            self.params.telemetry.gone(partitions);
            self.params.ledger.saw(Event::PartitionsRevoked { partitions: partitions.to_vec() });
        }
    }

    pub(super) fn trouble(&mut self, error: &KafkaError, reason: &str) -> Result<(), End> {
        match Trouble::of(error, reason, &self.params.topic, &self.params.group) {
            Trouble::Away => self.waiting(Note::Brokers, reason),
            Trouble::Missing => self.waiting(Note::Topic, reason),
            Trouble::Noise => tracing::warn!(%error, reason, "kafka's client reports"),
            Trouble::End(end) => return Err(end.into()),
        }
        Ok(())
    }

    /// A broker that is connected does not answer.
    fn silent(&mut self, silent: Duration) {
        let text = silence(self.params.kafka.get("bootstrap.servers").unwrap_or_default(), silent);
        self.say(Note::Silent, text);
    }

    pub(super) fn waiting(&mut self, note: Note, reason: &str) {
        let text = match note {
            Note::Topic => format!("kafka has no topic {}: {reason}", self.params.topic),
            _ => format!("kafka {} is not reachable: {reason}", self.params.kafka.get("bootstrap.servers").unwrap_or_default()),
        };
        self.say(note, text);
    }

    fn say(&mut self, note: Note, text: String) {
        if self.note.replace(note) != Some(note) {
            tracing::warn!("{text}");
        }
        self.progress.waiting(text);
    }

    pub(super) fn all_is_well(&mut self) {
        if self.note.take().is_some() {
            self.progress.clear();
            tracing::info!(topic = self.params.topic, "kafka answers again");
        }
    }

    /// Tells how far back the oldest record lies that is read and not written.
    pub(super) fn show_oldest(&self, partition: Partition) {
        self.params.telemetry.oldest_unwritten(partition, self.state.oldest_unwritten(partition));
    }

    pub(super) fn show_paused(&self, paused: bool) {
        for partition in self.state.assigned() {
            self.params.telemetry.partition(partition, |view| view.paused = paused);
        }
    }

    /// A record's timestamp was not believed, the `clamped`th of its partition under this assignment.
    pub(super) fn show_clamped(&self, record: &Incoming<'_>, clamped: u64) {
        let &Incoming { partition, offset, timestamp_ms, .. } = record;
        self.params.telemetry.partition(partition, |view| view.clamped += 1);
        if clamped == 1 {
            self.params.ledger.saw(Event::TimestampClamped { partition, offset, timestamp_ms: timestamp_ms.unwrap_or_default() });
            tracing::warn!(
                topic = self.params.topic,
                partition,
                offset,
                timestamp_ms,
                "a record's timestamp counts as none, for it lies {}. Others that follow in this partition are only counted",
                why_implausible(timestamp_ms.unwrap_or_default()).unwrap_or_default()
            );
        }
    }

    /// Counts the records of a batch that have no key. The first time it says what follows, where the topic has more than one partition.
    pub(super) fn show_unkeyed(&mut self, pieces: &[Piece]) {
        let mut unkeyed = 0;
        for piece in pieces.iter().filter(|piece| piece.unkeyed > 0) {
            unkeyed += piece.unkeyed;
            self.params.telemetry.partition(piece.partition, |view| view.unkeyed += piece.unkeyed);
        }
        // Where Kafka does not say how many partitions there are, it is said all the same.
        if unkeyed > 0 && !std::mem::replace(&mut self.said_unkeyed, true) && !matches!(self.client.partitions(), Ok(0 | 1)) {
            tracing::warn!(
                topic = self.params.topic,
                unkeyed,
                "records have no key, so those of one row may be in several partitions: its row is then that of one of them, whole, and need not be \
                 the newest; `unkeyed` of each partition counts them"
            );
        }
    }

    fn show_ends(&self, ends: &[Ends]) {
        for &Ends { partition, begin, end, held_back } in ends.iter().filter(|ends| self.state.is_assigned(ends.partition)) {
            self.params.telemetry.partition(partition, |view| {
                (view.begin, view.end) = (view.begin.max(begin), view.end.max(end));
                view.held_back = held_back;
            });
        }
    }
}
