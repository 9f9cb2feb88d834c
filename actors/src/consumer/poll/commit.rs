//! Receipts of batches, and the offset commits that follow from them.
//!
//! Guarantees:
//! * A commit names only what the state reports as written.
//! * One commit is outstanding at a time.
//! * Partitions that are revoked are drained and committed first, each up to its timeout.

use std::thread;
use std::time::{Duration, Instant};

use forebay_kernel::micros;
use forebay_schemas::event::{Event, Offsets};
use forebay_schemas::offset::Partition;
use rdkafka::error::RDKafkaErrorCode;
use tokio::sync::oneshot::error::TryRecvError;

use super::super::commit_thread::CommitResult;
use super::super::error::ConsumerError;
use super::super::state::Commit;
use super::{Loop, LoopExit, MIN_POLL_WAIT, SentBatch};
use crate::failpoint::point;
use crate::message::BatchDone;

/// How long the batches in flight of revoked partitions may take; well below the session timeout.
pub(super) const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the last commit of revoked partitions may take.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(5);

impl Loop<'_> {
    /// Collects the receipts of settled batches.
    pub(super) fn collect(&mut self) -> Result<(), LoopExit> {
        let mut at = 0;
        while let Some(sent) = self.sent.get_mut(at) {
            match sent.done.try_recv() {
                Ok(done) => {
                    let sent = self.sent.remove(at);
                    self.settled(sent, done);
                    self.empty_polls = 0;
                }
                Err(TryRecvError::Empty) => at += 1,
                Err(TryRecvError::Closed) => return Err(ConsumerError::Downstream.into()),
            }
        }
        Ok(())
    }

    /// Advances the checkpoints that a settled batch moves, here and in the ledger.
    fn settled(&mut self, SentBatch { id, ranges, waited, .. }: SentBatch, done: BatchDone) {
        let telemetry = &self.params.telemetry;
        let settled = self.state.settle(id, done.runs);
        telemetry.consumed.add(settled.records);
        for (partition, checkpoint) in &settled.advanced {
            telemetry.partition(*partition, |view| view.written = view.written.max(checkpoint.offset));
            self.show_oldest(*partition);
        }
        let has_run_counts = !settled.runs.is_empty();
        self.params.ledger.record(Event::BatchWritten {
            batch: id,
            ranges,
            rows: done.rows,
            rejected: done.rejected,
            wait_micros: micros(waited),
            transform_micros: micros(done.transform),
            write_micros: micros(done.write),
            written: settled.advanced.into_iter().collect(),
            runs: settled.runs,
        });
        if has_run_counts {
            self.last_run_event = self.params.ledger.last_event();
        }
    }

    /// Takes the result of a commit, and requests the next one when it is due.
    pub(super) fn commit(&mut self) -> Result<(), LoopExit> {
        if let Some(result) = self.committer.try_result()? {
            self.committed(&result);
        }
        let now = self.now();
        if !self.schedule.is_due(now, self.state.in_flight() == 0) || !self.run_counts_are_durable() {
            return Ok(());
        }
        let commits = self.state.to_commit();
        self.request_commit(commits, now)
    }

    /// Returns whether the counts of runs are durable. A failed journal ends the process, so
    /// nothing waits for it.
    fn run_counts_are_durable(&self) -> bool {
        self.last_run_event == 0 || self.params.ledger.is_durable(self.last_run_event).unwrap_or(true)
    }

    fn request_commit(&mut self, commits: Vec<Commit>, now: Instant) -> Result<(), LoopExit> {
        if commits.is_empty() {
            return Ok(());
        }
        point("consumer::before_commit");
        self.state.commit_requested(&commits);
        self.schedule.requested(now);
        Ok(self.committer.request(commits)?)
    }

    fn committed(&mut self, CommitResult { commits, result }: &CommitResult) {
        match result {
            Ok(()) => {
                for &Commit { partition, checkpoint, .. } in commits {
                    self.state.commit_confirmed(partition, checkpoint.offset);
                }
                let offsets: Offsets = commits.iter().map(|commit| (commit.partition, commit.checkpoint.offset)).collect();
                self.params.telemetry.committed(offsets.0.iter().map(|(&partition, &offset)| (partition, offset)));
                self.params.ledger.record(Event::OffsetsCommitted { offsets });
                self.schedule.confirmed();
                point("consumer::after_commit");
            }
            Err(error) => {
                match error.rdkafka_error_code() {
                    // What stays assigned is committed after the rebalance.
                    Some(RDKafkaErrorCode::IllegalGeneration | RDKafkaErrorCode::RebalanceInProgress) => {
                        tracing::debug!(group = self.params.group, %error, "offset commit failed during a rebalance");
                    }
                    _ => tracing::warn!(group = self.params.group, %error, "offset commit failed; retrying"),
                }
                self.state.commit_failed();
                self.schedule.failed(self.now(), rand::random());
            }
        }
    }

    /// Commits what is written of `partitions`, and waits for the result up to [`COMMIT_TIMEOUT`].
    pub(super) fn commit_last(&mut self, partitions: &[Partition]) -> Result<(), LoopExit> {
        let deadline = self.now() + COMMIT_TIMEOUT;
        loop {
            if !self.schedule.is_outstanding() {
                let commits = self.state.unconfirmed(partitions);
                if commits.is_empty() {
                    return Ok(());
                }
                if self.run_counts_are_durable() {
                    self.request_commit(commits, self.now())?;
                }
            }
            if self.now() >= deadline {
                tracing::warn!(?partitions, "offset commit timed out after {COMMIT_TIMEOUT:?}; the next owner writes the rest again");
                return Ok(());
            }
            self.tick()?;
            if let Some(result) = self.committer.wait(10 * MIN_POLL_WAIT)? {
                self.committed(&result);
                if result.result.is_err() {
                    thread::sleep(10 * MIN_POLL_WAIT);
                }
            }
        }
    }

    /// Waits until nothing of `partitions` is in flight, or until the deadline.
    pub(super) fn drain(&mut self, partitions: &[Partition], deadline: Option<Instant>) -> Result<(), LoopExit> {
        loop {
            self.tick()?;
            if !self.state.has_in_flight(partitions) {
                return Ok(());
            }
            if deadline.is_some_and(|at| self.now() >= at) {
                tracing::warn!(
                    ?partitions,
                    "batches in flight were not written within {DRAIN_TIMEOUT:?}; the next owner writes them again"
                );
                return Ok(());
            }
            thread::sleep(MIN_POLL_WAIT);
        }
    }
}
