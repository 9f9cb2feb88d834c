//! Events of Kafka's client: assignments, revocations, errors, statistics.
//!
//! Guarantees:
//! * Revoked partitions are drained and committed before they are released.
//! * An assignment is answered only when it is known where each partition starts, however long
//!   Kafka takes to say.
//!
//! Does not guarantee that the group waits that long: it evicts members that exceed the rebalance
//! timeout.

use std::time::{Duration, Instant};

use forebay_kernel::{Backoff, Retry};
use forebay_schemas::error_class::{Class, Classified};
use forebay_schemas::event::{Event, StartOrigin, why_implausible};
use forebay_schemas::offset::Partition;
use rdkafka::error::KafkaError;

use super::super::batch_builder::{Incoming, PartitionSlice};
use super::super::client::{AssignedPartition, Event as ClientEvent, PartitionOffsets};
use super::super::error::{ClientError, ConsumerError};
use super::super::start_offset::ResolvedStart;
use super::commit::DRAIN_TIMEOUT;
use super::{Loop, LoopExit};
use crate::broker::{BROKERS_LOST, silence};
use crate::failpoint::point;
use crate::ledger::Command;

/// Delays between attempts to resolve where assigned partitions start.
const RESOLVE_BACKOFF: Backoff = Backoff { min: Duration::from_millis(200), max: Duration::from_secs(5) };

/// An assignment whose starts are not resolved yet.
pub(super) struct PendingAssignment {
    partitions: Vec<Partition>,
    retry: Retry,
    not_before: Instant,
}

/// What the consumer waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WaitReason {
    Unreachable,
    Silent,
    TopicMissing,
}

impl Loop<'_> {
    pub(super) fn handle_events(&mut self) -> Result<(), LoopExit> {
        for event in self.client.events() {
            match event {
                ClientEvent::Assigned(partitions) => {
                    self.pending = Some(PendingAssignment { partitions, retry: Retry::new(RESOLVE_BACKOFF), not_before: self.now() });
                }
                ClientEvent::Revoked { partitions, lost } => self.revoked(&partitions, lost)?,
                ClientEvent::BrokersLost => return Err(ConsumerError::Broken { reason: BROKERS_LOST.to_owned() }.into()),
                ClientEvent::Error(error, text) => self.client_error(&error, &text)?,
                ClientEvent::PartitionEnd { partition, offset } => drop(self.ends.insert(partition, offset)),
                ClientEvent::Statistics { offsets, connected, silent } => {
                    self.show_offsets(&offsets);
                    if let Some(silent) = silent {
                        self.silent(silent);
                    } else if connected && matches!(self.waiting_for, Some(WaitReason::Unreachable | WaitReason::Silent)) {
                        self.recovered();
                    }
                }
            }
        }
        self.reach_ends();
        match self.pending.take_if(|pending| pending.not_before <= self.params.clock.now()) {
            Some(pending) => self.assigned(pending),
            None => Ok(()),
        }
    }

    /// Applies the reported ends of partitions, unless an earlier record is held for want of
    /// budget.
    fn reach_ends(&mut self) {
        if self.ends.is_empty() || self.wait.is_some() {
            return;
        }
        for (partition, offset) in std::mem::take(&mut self.ends) {
            if let Some(checkpoint) = self.state.reach_end(partition, offset) {
                self.params.telemetry.partition(partition, |view| view.written = view.written.max(checkpoint.offset));
            }
        }
    }

    /// Resolves where partitions start. `None` when the topic was re-created since this incarnation
    /// began to read it, which ends it.
    fn resolve_starts(&mut self, partitions: &[Partition]) -> Result<Option<Vec<AssignedPartition>>, ConsumerError> {
        let (topic, ledger) = (self.client.topic_id()?, &self.params.ledger);
        let Some(recreations) = ledger.observe_topic(topic) else {
            let reason = "the brokers do not agree yet on the id of the topic".to_owned();
            return Err(ConsumerError::Unanswered { reason });
        };
        if self.state.assigned().next().is_none() {
            self.recreations = recreations;
            self.state.set_topic(topic);
        } else if self.recreations != recreations {
            return Ok(None);
        }
        self.client.resolve_starts(partitions, &ledger.checkpoints(), topic, self.state.latest_clock()).map(Some)
    }

    /// Answers an assignment, or tries again later while Kafka does not say where the partitions
    /// start.
    fn assigned(&mut self, mut pending: PendingAssignment) -> Result<(), LoopExit> {
        let assigned = match self.resolve_starts(&pending.partitions) {
            Ok(Some(assigned)) => assigned,
            Ok(None) => return Ok(()),
            Err(error) if error.class() == Class::Transient => {
                self.waiting(WaitReason::Unreachable, &error.to_string());
                pending.not_before = self.now() + pending.retry.failed(rand::random());
                self.pending = Some(pending);
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        point("consumer::before_assign");
        self.client.assign(&assigned)?;
        let paused = self.paused.is_some() || self.wait.as_ref().is_some_and(|wait| wait.paused);
        if paused {
            self.client.pause(assigned.iter().map(|assigned| assigned.partition))?;
        }
        for &AssignedPartition { partition, resolved: ResolvedStart { start, committed }, start_offset, end_offset } in &assigned {
            let committed = committed.unwrap_or(start.checkpoint.offset);
            self.state.assign(partition, start.checkpoint, committed);
            self.params.telemetry.partition(partition, |view| {
                (view.assigned, view.paused) = (true, paused);
                (view.begin, view.end) = (start_offset, end_offset);
                // At a start from the beginning the earlier offsets may be of another topic.
                let is_from_start = matches!(start.origin, StartOrigin::Earliest | StartOrigin::Reset);
                view.written = if is_from_start { start.checkpoint.offset } else { view.written.max(start.checkpoint.offset) };
                view.committed = if is_from_start { committed } else { view.committed.max(committed) };
            });
            if start.origin == StartOrigin::Reset {
                let (group, topic) = (&self.params.group, &self.params.topic);
                tracing::warn!(
                    "group {group} has no offset of the current {topic}[{partition}], though it has read it before: the topic was re-created, or \
                     the group's offsets were removed; reading from the start offset {start_offset}"
                );
            }
        }
        if !assigned.is_empty() {
            let starts = assigned.iter().map(|assigned| (assigned.partition, assigned.resolved.start)).collect();
            if let Err(error) = self.params.ledger.submit(Command::AssignPartitions { starts }) {
                tracing::error!(%error, "the ledger rejected an assignment");
            }
        }
        self.recovered();
        point("consumer::after_assign");
        Ok(())
    }

    /// Releases revoked partitions: drains and commits them first, unless they are `lost` to others
    /// already.
    fn revoked(&mut self, partitions: &[Partition], lost: bool) -> Result<(), LoopExit> {
        tracing::debug!(?partitions, lost, "revoked");
        point("consumer::before_revoke");
        self.pending = None;
        self.ends.retain(|partition, _| !partitions.contains(partition));
        if let Some(wait) = &mut self.wait {
            wait.discard(partitions);
        }
        if self.state.has_pending(partitions) {
            self.send()?;
        }
        if !lost {
            self.drain(partitions, Some(self.now() + DRAIN_TIMEOUT))?;
            self.commit_last(partitions)?;
        }
        self.state.revoke(partitions);
        self.released(partitions);
        self.client.unassign(partitions)?;
        point("consumer::after_revoke");
        Ok(())
    }

    /// Others may read these partitions from now on.
    pub(super) fn released(&self, partitions: &[Partition]) {
        if !partitions.is_empty() {
            self.params.telemetry.revoked(partitions);
            self.params.ledger.record(Event::PartitionsRevoked { partitions: partitions.to_vec() });
        }
    }

    fn client_error(&mut self, error: &KafkaError, text: &str) -> Result<(), LoopExit> {
        match ClientError::new(error, text, &self.params.topic, &self.params.group) {
            ClientError::Unavailable => self.waiting(WaitReason::Unreachable, text),
            ClientError::TopicMissing => self.waiting(WaitReason::TopicMissing, text),
            ClientError::Ignored => tracing::warn!(%error, text, "kafka's client reports an error"),
            ClientError::Exit(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// A connected broker does not answer.
    fn silent(&mut self, silent: Duration) {
        let note = silence(self.params.kafka.get("bootstrap.servers").unwrap_or_default(), silent);
        self.wait_for(WaitReason::Silent, note);
    }

    fn waiting(&mut self, reason: WaitReason, error: &str) {
        let note = match reason {
            WaitReason::TopicMissing => format!("kafka has no topic {}: {error}", self.params.topic),
            _ => format!("kafka {} is not reachable: {error}", self.params.kafka.get("bootstrap.servers").unwrap_or_default()),
        };
        self.wait_for(reason, note);
    }

    /// Shows the note in the actor's status, and logs it once for each reason.
    fn wait_for(&mut self, reason: WaitReason, note: String) {
        if self.waiting_for.replace(reason) != Some(reason) {
            tracing::warn!("{note}");
        }
        self.progress.waiting(note);
    }

    /// Kafka works again, if it did not.
    pub(super) fn recovered(&mut self) {
        if self.waiting_for.take().is_some() {
            self.progress.clear();
            tracing::info!(topic = self.params.topic, "kafka recovered");
        }
    }

    /// Reports the timestamp of the oldest record that is read and not written.
    pub(super) fn show_oldest(&self, partition: Partition) {
        self.params.telemetry.oldest_unwritten(partition, self.state.oldest_unwritten(partition));
    }

    pub(super) fn show_paused(&self, paused: bool) {
        for partition in self.state.assigned() {
            self.params.telemetry.partition(partition, |view| view.paused = paused);
        }
    }

    /// Reports an implausible timestamp, the `clamped`th of its partition under this assignment.
    pub(super) fn show_clamped(&self, record: &Incoming<'_>, clamped: u64) {
        let &Incoming { partition, offset, timestamp_ms, .. } = record;
        self.params.telemetry.partition(partition, |view| view.clamped += 1);
        if clamped == 1 {
            self.params.ledger.record(Event::TimestampClamped { partition, offset, timestamp_ms: timestamp_ms.unwrap_or_default() });
            tracing::warn!(
                topic = self.params.topic,
                partition,
                offset = offset.value(),
                timestamp_ms,
                "implausible record timestamp ignored: it is {}; further ones of this partition are only counted",
                why_implausible(timestamp_ms.unwrap_or_default()).unwrap_or_default()
            );
        }
    }

    /// Counts the records of a batch that have no key, and logs the consequence once, where the
    /// topic has several partitions.
    pub(super) fn show_unkeyed(&mut self, slices: &[PartitionSlice]) {
        let mut unkeyed = 0;
        for slice in slices.iter().filter(|slice| slice.unkeyed > 0) {
            unkeyed += slice.unkeyed;
            self.params.telemetry.partition(slice.partition, |view| view.unkeyed += slice.unkeyed);
        }
        // It is logged as well where Kafka does not say how many partitions there are.
        if unkeyed > 0 && !std::mem::replace(&mut self.unkeyed_logged, true) && !matches!(self.client.partitions(), Ok(0 | 1)) {
            tracing::warn!(
                topic = self.params.topic,
                unkeyed,
                "records have no key, so the records of one row may be in several partitions: the row is that of one of them, and not \
                 necessarily the newest; `unkeyed` of each partition counts them"
            );
        }
    }

    fn show_offsets(&self, offsets: &[PartitionOffsets]) {
        let assigned = offsets.iter().filter(|offsets| self.state.is_assigned(offsets.partition));
        for &PartitionOffsets { partition, start_offset, end_offset, held_back } in assigned {
            self.params.telemetry.partition(partition, |view| {
                (view.begin, view.end) = (view.begin.max(start_offset), view.end.max(end_offset));
                view.held_back = held_back;
            });
        }
    }
}
