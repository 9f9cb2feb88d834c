//! Resets the offsets of partitions that this consumer reads, which only the member of the group
//! that reads them can do.
//!
//! Guarantees:
//! * What was read before is written and committed first.
//! * The reset is durable in the journal before it is committed to Kafka.
//! * After a reset the incarnation ends, and the next one starts where the group says, as after a
//!   crash. A rejected request changes nothing, and the consumer keeps reading.

use std::thread;
use std::time::Duration;

use forebay_schemas::event::Event;
use forebay_schemas::offset::{Epoch, Partition};

use super::super::offset_reset::{OffsetReset, PartitionReset, ResetBasis, offset_reset, reset_target};
use super::super::reset_handle::{PendingReset, ResetError, ResetRequest};
use super::super::state::Commit;
use super::commit::DRAIN_TIMEOUT;
use super::{Loop, LoopExit, MIN_POLL_WAIT};
use crate::failpoint::point;

/// How long the journal may take to make the reset durable.
const JOURNAL_TIMEOUT: Duration = Duration::from_secs(10);

impl Loop<'_> {
    /// Answers a request for an offset reset, if there is one. Returns whether this incarnation
    /// ends.
    pub(super) fn handle_reset_request(&mut self) -> Result<bool, LoopExit> {
        // While an assignment is pending it is not known where its partitions start.
        if self.pending.is_some() {
            return Ok(false);
        }
        let Some(PendingReset { request, answer }) = self.params.resets.take() else { return Ok(false) };
        let result = self.reset(&request)?;
        let ends = matches!(result, Ok(1..) | Err(ResetError::Unconfirmed(_)));
        // The caller may have given up.
        let _ = answer.send(result);
        Ok(ends)
    }

    fn reset(&mut self, request: &ResetRequest) -> Result<Result<usize, ResetError>, LoopExit> {
        let partitions: Vec<Partition> = request.to.keys().copied().collect();
        let not_assigned: Vec<_> = partitions.iter().copied().filter(|partition| !self.state.is_assigned(*partition)).collect();
        if !not_assigned.is_empty() {
            return Ok(Err(ResetError::NotAssigned(not_assigned)));
        }
        self.send()?;
        self.drain(&partitions, Some(self.now() + DRAIN_TIMEOUT))?;
        self.commit_last(&partitions)?;
        if self.state.has_in_flight(&partitions) || !self.state.unconfirmed(&partitions).is_empty() {
            return Ok(Err(ResetError::InFlight));
        }
        let reset = match self.compute_reset(request, &partitions) {
            Ok(Some(reset)) => reset,
            Ok(None) => return Ok(Ok(0)),
            Err(error) => return Ok(Err(error)),
        };
        if let Err(error) = self.record_durably(reset.events)? {
            return Ok(Err(error));
        }
        Ok(self.commit_reset(&reset.commits).map(|()| reset.commits.len()))
    }

    /// Computes the reset; `None` when every partition stays where it is.
    fn compute_reset(&self, request: &ResetRequest, partitions: &[Partition]) -> Result<Option<OffsetReset>, ResetError> {
        let mut resets = Vec::new();
        for (&partition, &wanted) in &request.to {
            let offsets = self.client.offsets(partition).map_err(|error| ResetError::Unanswered(error.to_string()))?;
            let (start_offset, end_offset) = offsets;
            if start_offset > wanted {
                return Err(ResetError::Removed { partition, start_offset });
            }
            let from = self.state.written(partition).map(|written| written.offset);
            if let Some(to) = reset_target(from, wanted, offsets) {
                resets.push(PartitionReset { partition, from, to, end_offset, lost: None });
            }
        }
        if resets.is_empty() {
            return Ok(None);
        }
        let largest_clock = self.client.largest_clock(partitions, &self.params.ledger.checkpoints());
        let largest_clock = largest_clock.map_err(|error| ResetError::Unanswered(error.to_string()))?.max(self.state.latest_clock());
        let (epoch, topic, now) = (Epoch::new(rand::random()), self.state.topic(), self.params.clock.wall());
        Ok(Some(offset_reset(&resets, ResetBasis { epoch, topic, largest_clock, now }, &request.by, &request.reason)))
    }

    /// Records events, and waits until they are durable.
    fn record_durably(&mut self, events: Vec<Event>) -> Result<Result<(), ResetError>, LoopExit> {
        let ledger = &self.params.ledger;
        events.into_iter().for_each(|event| ledger.record(event));
        let (last, deadline) = (ledger.last_event(), self.now() + JOURNAL_TIMEOUT);
        loop {
            match self.params.ledger.is_durable(last) {
                Ok(true) => return Ok(Ok(())),
                Ok(false) if self.now() < deadline => {}
                Ok(false) => return Ok(Err(ResetError::Journal(format!("the journal did not sync within {JOURNAL_TIMEOUT:?}")))),
                Err(error) => return Ok(Err(ResetError::Journal(error.to_string()))),
            }
            self.tick()?;
            thread::sleep(MIN_POLL_WAIT);
        }
    }

    /// Commits the reset. This incarnation no longer reads the partitions.
    fn commit_reset(&mut self, commits: &[Commit]) -> Result<(), ResetError> {
        point("consumer::before_set_back");
        let partitions: Vec<_> = commits.iter().map(|commit| commit.partition).collect();
        let result = self.client.commit(commits).map_err(|error| ResetError::Unconfirmed(error.to_string()));
        if result.is_ok() {
            for Commit { partition, checkpoint, .. } in commits {
                self.params.telemetry.partition(*partition, |view| (view.written, view.committed) = (checkpoint.offset, checkpoint.offset));
            }
            tracing::info!(topic = self.params.topic, ?partitions, "offsets reset");
        }
        self.state.revoke(&partitions);
        self.released(&partitions);
        result
    }
}
