//! Receipts, and the commits that follow from them.
//!
//! Guarantee: a commit names only what the state says is written; one is on its way at a time; the last one of partitions that go is waited
//! for, and so is what is in flight of them, but neither for ever. Not guaranteed: that either is done by then.

use std::thread;
use std::time::{Duration, Instant};

use forebay_schemas::event::{Event, Offsets};
use forebay_schemas::offset::Partition;
use rdkafka::error::RDKafkaErrorCode;
use tokio::sync::oneshot::error::TryRecvError;

use super::super::committer::Answer;
use super::super::error::ConsumerError;
use super::super::state::Commit;
use super::{End, Loop, STEP, Sent};
use crate::failpoint::point;
use crate::message::BatchDone;
use forebay_kernel::micros;

/// How long the batches in flight of partitions that are taken away may take; well below the session time-out.
pub(super) const DRAIN_WITHIN: Duration = Duration::from_secs(10);
/// How long the last commit of partitions that go may take.
const COMMIT_WITHIN: Duration = Duration::from_secs(5);

impl Loop<'_> {
    /// Takes in the receipts of batches that have settled.
    pub(super) fn collect(&mut self) -> Result<(), End> {
        let mut at = 0;
        while let Some(sent) = self.sent.get_mut(at) {
            match sent.end.try_recv() {
                Ok(done) => {
                    let sent = self.sent.remove(at);
                    self.settled(sent, done);
                    self.quiet = 0;
                }
                Err(TryRecvError::Empty) => at += 1,
                Err(TryRecvError::Closed) => return Err(ConsumerError::Downstream.into()),
            }
        }
        Ok(())
    }

    /// A batch is done: what is known of its partitions moves on, here and in the ledger.
    fn settled(&mut self, Sent { id, ranges, waited, .. }: Sent, done: BatchDone) {
        let telemetry = &self.params.telemetry;
        let settled = self.state.settled(id, done.runs);
        telemetry.consumed.add(settled.records);
        for (partition, checkpoint) in &settled.moved {
            telemetry.partition(*partition, |view| view.written = view.written.max(checkpoint.offset));
            self.show_oldest(*partition);
        }
        let of_runs = !settled.runs.is_empty();
        self.params.ledger.saw(Event::BatchWritten {
            batch: id,
            ranges,
            rows: done.rows,
            rejected: done.rejected,
            wait_micros: micros(waited),
            transform_micros: micros(done.transform),
            write_micros: micros(done.write),
            written: settled.moved.into_iter().collect(),
            runs: settled.runs,
        });
        if of_runs {
            self.told = self.params.ledger.last_event();
        }
    }

    /// Commits what was written since the last time, when it is time for that.
    pub(super) fn commit(&mut self) -> Result<(), End> {
        if let Some(answer) = self.committer.answer()? {
            self.committed(&answer);
        }
        let now = self.now();
        if !self.pace.is_due(now, self.state.in_flight() == 0) || !self.is_kept() {
            return Ok(());
        }
        let commits = self.state.to_commit();
        self.ask_to_commit(commits, now)
    }

    /// Whether what was told of runs is on the disk; a journal that has failed ends the process, and keeps nobody waiting.
    fn is_kept(&self) -> bool {
        self.told == 0 || self.params.ledger.is_durable(self.told).unwrap_or(true)
    }

    pub(super) fn ask_to_commit(&mut self, commits: Vec<Commit>, now: Instant) -> Result<(), End> {
        if commits.is_empty() {
            return Ok(());
        }
        point("consumer::before_commit");
        self.state.asked(&commits);
        self.pace.sent(now);
        Ok(self.committer.ask(commits)?)
    }

    pub(super) fn committed(&mut self, answer: &Answer) {
        match &answer.result {
            Ok(()) => {
                for &Commit { partition, checkpoint, .. } in &answer.commits {
                    self.state.confirmed(partition, checkpoint.offset);
                }
                let offsets: Offsets = answer.commits.iter().map(|commit| (commit.partition, commit.checkpoint.offset)).collect();
                self.params.telemetry.committed(offsets.0.iter().map(|(&partition, &offset)| (partition, offset)));
                self.params.ledger.saw(Event::OffsetsCommitted { offsets });
                self.pace.confirmed();
                point("consumer::after_commit");
            }
            Err(error) => {
                match error.rdkafka_error_code() {
                    // A rebalance is on; what stays with this consumer is committed after it.
                    Some(RDKafkaErrorCode::IllegalGeneration | RDKafkaErrorCode::RebalanceInProgress) => {
                        tracing::debug!(group = self.params.group, %error, "kafka did not commit during a rebalance");
                    }
                    _ => tracing::warn!(group = self.params.group, %error, "kafka did not commit; it is asked again"),
                }
                self.state.refused();
                self.pace.failed(self.now(), rand::random());
            }
        }
    }

    /// Commits what was written of `partitions`, and waits for the answer, but not for ever.
    pub(super) fn commit_last(&mut self, partitions: &[Partition]) -> Result<(), End> {
        let deadline = self.now() + COMMIT_WITHIN;
        loop {
            if !self.pace.is_outstanding() {
                let commits = self.state.unconfirmed(partitions);
                if commits.is_empty() {
                    return Ok(());
                }
                if self.is_kept() {
                    self.ask_to_commit(commits, self.now())?;
                }
            }
            if self.now() >= deadline {
                tracing::warn!(
                    ?partitions,
                    "kafka did not commit in {COMMIT_WITHIN:?}; who gets the partitions next writes the rest again"
                );
                return Ok(());
            }
            self.look_around()?;
            if let Some(answer) = self.committer.wait(10 * STEP)? {
                self.committed(&answer);
                if answer.result.is_err() {
                    thread::sleep(10 * STEP);
                }
            }
        }
    }

    /// Waits until nothing of `partitions` is in flight any more, or until the deadline.
    pub(super) fn drain(&mut self, partitions: &[Partition], deadline: Option<Instant>) -> Result<(), End> {
        loop {
            self.look_around()?;
            if !self.state.flies_of(partitions) {
                return Ok(());
            }
            if deadline.is_some_and(|at| self.now() >= at) {
                tracing::warn!(
                    ?partitions,
                    "batches in flight were not written in {DRAIN_WITHIN:?}; who gets the partitions next writes them again"
                );
                return Ok(());
            }
            thread::sleep(STEP);
        }
    }
}
