//! Writes one micro-batch, from checked rows to the last acknowledgement.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use forebay_schemas::error_class::{Class, Classified};
use forebay_schemas::offset::Partition;
use forebay_schemas::pipeline::Pipeline;
use forebay_schemas::rejects::Rejects;
use forebay_schemas::run::RunWritten;

use super::dead_letters::{DeadLetters, Undelivered};
use super::error::WriterError;
use super::outages::{OutageGuard, Outages};
use super::state::{BACKOFF, first_rejects};
use crate::failpoint::point_async;
use crate::ledger::Ledger;
use crate::message::{BatchPart, PartOutcome, SharedBatch};
use crate::telemetry::Telemetry;
use forebay_dataplane::run_counts::{self, BatchOutcome};
use forebay_dataplane::store::{Refusal, RowSet, Store, TableSpec};
use forebay_dataplane::{RawBatch, Reject, RejectStage, RowBatch, reject_counts};
use forebay_kernel::{Progress, Retry, SharedClock};

/// A part of a batch whose rows have been checked.
pub(super) struct CheckedPart {
    pub(super) batch: Arc<SharedBatch>,
    /// The index of its record, for each row.
    pub(super) origin: Vec<u32>,
    /// The rows that fit the table.
    pub(super) rows: RowSet,
    /// The records rejected so far.
    pub(super) rejects: Vec<Reject>,
    /// Time spent on JSON, SQL and checks.
    pub(super) transform: Duration,
}

/// Checks the rows of a part against the table. CPU work.
pub(super) fn check(spec: &TableSpec, clock: &SharedClock, part: BatchPart) -> Result<CheckedPart, WriterError> {
    let start = clock.now();
    let BatchPart { batch, rows: RowBatch { rows, origin, write_ts, mut rejects, transform, new_fields: _ } } = part;
    let (rows, refusals) = RowSet::check(spec, &rows, &write_ts)?;
    rejects.extend(refusals.into_iter().map(|refusal| reject(&origin, refusal)));
    Ok(CheckedPart { batch, origin, rows, rejects, transform: transform + clock.now().saturating_duration_since(start) })
}

fn reject(origin: &[u32], Refusal { row, reason }: Refusal) -> Reject {
    Reject { record: origin.get(row as usize).copied().unwrap_or_default(), stage: RejectStage::Write, reason }
}

/// Counts the reasons of dead letters, one per record.
pub(super) fn count_reasons(rejects: &[Reject]) -> Rejects {
    let mut counts = Rejects::default();
    let first = first_rejects(rejects, &mut HashSet::new());
    first.iter().for_each(|reject| reject_counts::add(&mut counts, reject.stage, &reject.reason));
    counts
}

/// A part that has been written, and the batch if that was its last part.
pub(super) struct WrittenPart {
    pub(super) part: CheckedPart,
    pub(super) batch: Option<WrittenBatch>,
}

/// A batch all of whose parts have been written.
pub(super) struct WrittenBatch {
    /// The sum over its parts.
    pub(super) outcome: PartOutcome,
    /// What became of the records of open runs.
    pub(super) runs: Vec<(Partition, RunWritten)>,
}

/// What a batch needs to be written.
pub(super) struct BatchWriter {
    pub(super) store: Store,
    pub(super) dead_letters: DeadLetters,
    pub(super) telemetry: Arc<Telemetry>,
    pub(super) clock: SharedClock,
    pub(super) progress: Progress,
    pub(super) outages: Arc<Outages>,
    /// Knows which runs are open.
    pub(super) ledger: Arc<Ledger>,
}

/// Connects to the store and prepares the table, retrying until that succeeds. Returns the plan of
/// the table with what the store knows.
pub(super) async fn connect(pipeline: &Pipeline, spec: &TableSpec, outages: &Arc<Outages>) -> Result<(Store, TableSpec), WriterError> {
    let outage = outages.guard();
    let mut retry = Retry::new(BACKOFF);
    loop {
        match Store::connect_to_write(pipeline, spec).await {
            Ok(connected) => return Ok(connected),
            Err(error) => wait(&outage, &mut retry, error.into(), false).await?,
        }
    }
}

/// Waits before the next attempt. Returns the error if a retry can't help.
async fn wait(outage: &OutageGuard, retry: &mut Retry, error: WriterError, progressed: bool) -> Result<(), WriterError> {
    if error.class() != Class::Transient {
        return Err(error);
    }
    if progressed {
        retry.reset();
    }
    let delay = retry.failed(rand::random());
    outage.report(&error, retry.note(&error, delay));
    outage.pause(delay).await;
    Ok(())
}

impl BatchWriter {
    /// Sends the dead letters, writes the rows, then sends the dead letters of rows that the table
    /// refused.
    pub(super) async fn run(&self, mut part: CheckedPart) -> Result<WrittenPart, WriterError> {
        let _working = self.progress.working();
        let (start, outage) = (self.clock.now(), self.outages.guard());
        let mut sent = HashSet::new();
        self.send_dead_letters(&outage, &part.batch, &part.rejects, &mut sent).await?;

        point_async("writer::before_write").await;
        let (rows, refused, retries) = self.write(&outage, &part.rows).await?;
        point_async("writer::after_write").await;

        let refused_rows: HashSet<u32> = refused.iter().map(|refusal| refusal.row).collect();
        let late: Vec<Reject> = refused.into_iter().map(|refusal| reject(&part.origin, refusal)).collect();
        self.send_dead_letters(&outage, &part.batch, &late, &mut sent).await?;
        part.rejects.extend(late);
        let write = self.since(start);
        point_async("writer::before_settle").await;
        let written = part.rows.rows().iter().filter(|row| !refused_rows.contains(row));
        let outcome = PartOutcome {
            rows,
            rejected: sent.len() as u64,
            retries,
            transform: part.transform,
            write,
            written: written.filter_map(|row| part.origin.get(*row as usize).copied()).collect(),
            rejects: std::mem::take(&mut part.rejects),
        };
        let batch = part.batch.part_done(outcome).map(|sum| WrittenBatch { runs: self.count_by_run(&part.batch, &sum), outcome: sum });
        Ok(WrittenPart { part, batch })
    }

    /// What became of the records of open runs.
    fn count_by_run(&self, raw: &RawBatch, sum: &PartOutcome) -> Vec<(Partition, RunWritten)> {
        if !self.ledger.has_open_runs() {
            return Vec::new();
        }
        let written: Vec<u32> = (0..).take(sum.written.len()).collect();
        let outcome = BatchOutcome { origin: &sum.written, written: &written, rejects: &sum.rejects };
        run_counts::count_by_run(raw, outcome, |run| self.ledger.is_run_open(run))
    }

    fn since(&self, start: Instant) -> Duration {
        self.clock.now().saturating_duration_since(start)
    }

    /// Writes rows until each is acknowledged or refused. Returns the number of acknowledged rows,
    /// the refused ones, and the number of retries.
    async fn write(&self, outage: &OutageGuard, rows: &RowSet) -> Result<(u64, Vec<Refusal>, u64), WriterError> {
        let mut retry = Retry::new(BACKOFF);
        let mut left = rows.clone();
        let (mut written, mut refused, mut retries) = (0, Vec::new(), 0);
        loop {
            let outcome = self.store.write(&left, &|| self.progress.tick()).await?;
            let progressed = outcome.written > 0;
            written += outcome.written;
            refused.extend(outcome.rejected);
            self.telemetry.statements(outcome.statements);
            let Some((unwritten, error)) = outcome.unwritten else {
                outage.clear();
                self.outages.wake_all();
                return Ok((written, refused, retries));
            };
            left = unwritten;
            retries += 1;
            self.telemetry.retried(error.reason().as_str());
            wait(outage, &mut retry, error.into(), progressed).await?;
        }
    }

    /// Sends the dead letters of records that have none yet, until Kafka has acknowledged them all.
    async fn send_dead_letters(
        &self,
        outage: &OutageGuard,
        raw: &RawBatch,
        rejects: &[Reject],
        sent: &mut HashSet<u32>,
    ) -> Result<(), WriterError> {
        let mut left = first_rejects(rejects, sent);
        if left.is_empty() {
            return Ok(());
        }
        point_async("writer::before_dead_letter").await;
        let mut retry = Retry::new(BACKOFF);
        let overdue = |error: WriterError| outage.report(&error, error.to_string());
        while let Err(Undelivered { rejects, error }) = self.dead_letters.send(raw, left.clone(), self.clock.wall(), &overdue).await {
            let progressed = rejects.len() < left.len();
            left = rejects;
            wait(outage, &mut retry, error, progressed).await?;
        }
        outage.clear();
        point_async("writer::after_dead_letter").await;
        Ok(())
    }
}
