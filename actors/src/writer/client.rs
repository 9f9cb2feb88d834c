//! One micro-batch, from checked rows to the last acknowledgement.

use parking_lot::Mutex;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use forebay_schemas::offset::Partition;
use forebay_schemas::pipeline::Pipeline;
use forebay_schemas::rejects::Rejects;
use forebay_schemas::run::RunWritten;
use tokio::sync::Notify;
use tokio::time::sleep;

use super::dead_letters::{DeadLetters, Undelivered};
use super::error::WriterError;
use super::state::{Attempts, Outages, Say, letters};
use crate::failpoint::point_async;
use crate::ledger::Ledger;
use crate::message::{BatchPart, Share, SharedBatch};
use crate::telemetry::Telemetry;
use forebay_dataplane::run_counts::{self, BatchOutcome};
use forebay_dataplane::store::{Refusal, RowSet, Store, TableSpec};
use forebay_dataplane::{RawBatch, Reject, RejectStage, RowBatch, reject_counts};
use forebay_kernel::{Progress, SharedClock};
use forebay_schemas::failure::{Class, Classified};

/// Who waits for what, and the status note that says so.
pub(super) struct Waiting {
    progress: Progress,
    outages: Mutex<Outages>,
    /// Woken when a server is back, so that who waits for it need not wait on.
    back: Notify,
    number: AtomicU64,
}

impl Waiting {
    pub(super) fn new(progress: Progress) -> Self {
        Self { progress, outages: Mutex::default(), back: Notify::new(), number: AtomicU64::new(0) }
    }

    /// Whether somebody waits.
    pub(super) fn any(&self) -> bool {
        self.outages.lock().any()
    }

    pub(super) fn ticket(self: &Arc<Self>) -> Ticket {
        Ticket { number: self.number.fetch_add(1, Ordering::Relaxed), waiting: Arc::clone(self) }
    }
}

/// One who may wait; waits no longer when it is dropped.
pub(super) struct Ticket {
    number: u64,
    waiting: Arc<Waiting>,
}

impl Ticket {
    pub(super) fn say(&self, trouble: &WriterError, note: String) {
        let said = trouble.to_string();
        let say = self.waiting.outages.lock().wait(self.number, &said);
        self.waiting.progress.waiting(note);
        if say == Say::New {
            tracing::warn!(trouble = said, "waiting, and trying again");
        }
    }

    async fn pause(&self, delay: Duration) {
        tokio::select! {
            () = sleep(delay) => {}
            () = self.waiting.back.notified() => {}
        }
    }

    pub(super) fn over(&self) {
        let say = self.waiting.outages.lock().over(self.number);
        if say == Say::Passed {
            self.waiting.progress.clear();
            tracing::info!("the trouble has passed");
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.over();
    }
}

/// A batch whose rows are checked, or a part of one.
pub(super) struct Checked {
    pub(super) raw: Arc<SharedBatch>,
    /// For each row the index of its record.
    pub(super) origin: Vec<u32>,
    /// The rows that fit.
    pub(super) rows: RowSet,
    /// Records that are bad already.
    pub(super) rejects: Vec<Reject>,
    /// Time spent on JSON, SQL and checks.
    pub(super) transform: Duration,
}

/// Why records are dead letters.
pub(super) fn reasons(bad: &[Reject]) -> Rejects {
    let mut all = Rejects::default();
    let first = letters(bad, &mut HashSet::new());
    first.iter().for_each(|reject| reject_counts::add(&mut all, reject.stage, &reject.reason));
    all
}

/// Checks the rows of a batch against the table; CPU work.
pub(super) fn check(spec: &TableSpec, clock: &SharedClock, part: BatchPart) -> Result<Checked, WriterError> {
    let start = clock.now();
    let BatchPart { batch: raw, rows: RowBatch { rows, origin, write_ts, mut rejects, transform } } = part;
    let (rows, refusals) = RowSet::check(spec, &rows, &write_ts)?;
    rejects.extend(refusals.into_iter().map(|refusal| reject(&origin, refusal)));
    Ok(Checked { raw, origin, rows, rejects, transform: transform + clock.now().saturating_duration_since(start) })
}

fn reject(origin: &[u32], Refusal { row, reason }: Refusal) -> Reject {
    Reject { record: origin.get(row as usize).copied().unwrap_or_default(), stage: RejectStage::Write, reason }
}

/// What became of a part of a batch, and of the batch if that was its last.
pub(super) struct Written {
    pub(super) batch: Checked,
    pub(super) whole: Option<WholeWritten>,
}

/// What became of a batch.
pub(super) struct WholeWritten {
    pub(super) sum: Share,
    /// What became of the records of open runs.
    pub(super) runs: Vec<(Partition, RunWritten)>,
}

/// What a batch needs to be written.
pub(super) struct Client {
    pub(super) store: Store,
    pub(super) dead_letters: DeadLetters,
    pub(super) telemetry: Arc<Telemetry>,
    pub(super) clock: SharedClock,
    pub(super) progress: Progress,
    pub(super) waiting: Arc<Waiting>,
    /// Knows which runs are open.
    pub(super) ledger: Arc<Ledger>,
}

/// Connects to the store and prepares the table, however long that takes.
pub(super) async fn connect(pipeline: &Pipeline, spec: &TableSpec, waiting: &Arc<Waiting>) -> Result<Store, WriterError> {
    let ticket = waiting.ticket();
    let mut attempts = Attempts::default();
    loop {
        match Store::connect(pipeline, Some(spec)).await {
            Ok(store) => return Ok(store),
            Err(error) => wait(&ticket, &mut attempts, error.into(), false).await?,
        }
    }
}

/// Waits before the next attempt; gives the error back when there should be none.
async fn wait(ticket: &Ticket, attempts: &mut Attempts, trouble: WriterError, moved: bool) -> Result<(), WriterError> {
    if trouble.class() != Class::Transient {
        return Err(trouble);
    }
    let delay = attempts.failed(moved, rand::random());
    ticket.say(&trouble, attempts.note(&trouble.to_string(), delay));
    ticket.pause(delay).await;
    Ok(())
}

impl Client {
    /// Dead letters, rows, and the dead letters that only the table could tell.
    pub(super) async fn run(&self, mut batch: Checked) -> Result<Written, WriterError> {
        let _working = self.progress.working();
        let (start, ticket) = (self.clock.now(), self.waiting.ticket());
        let mut sent = HashSet::new();
        self.bury(&ticket, &batch.raw, &batch.rejects, &mut sent).await?;

        point_async("writer::before_write").await;
        let (rows, refused, retries) = self.write(&ticket, &batch.rows).await?;
        point_async("writer::after_write").await;

        let refused_rows: HashSet<u32> = refused.iter().map(|refusal| refusal.row).collect();
        let late: Vec<Reject> = refused.into_iter().map(|refusal| reject(&batch.origin, refusal)).collect();
        self.bury(&ticket, &batch.raw, &late, &mut sent).await?;
        batch.rejects.extend(late);
        let write = self.since(start);
        point_async("writer::before_settle").await;
        let written = batch.rows.rows().iter().filter(|row| !refused_rows.contains(row));
        let share = Share {
            rows,
            rejected: sent.len() as u64,
            retries,
            transform: batch.transform,
            write,
            written: written.filter_map(|row| batch.origin.get(*row as usize).copied()).collect(),
            rejects: std::mem::take(&mut batch.rejects),
        };
        let whole = batch.raw.done(share).map(|sum| WholeWritten { runs: self.of_runs(&batch.raw, &sum), sum });
        Ok(Written { batch, whole })
    }

    /// What became of the records of open runs.
    fn of_runs(&self, raw: &RawBatch, sum: &Share) -> Vec<(Partition, RunWritten)> {
        if !self.ledger.any_open() {
            return Vec::new();
        }
        let written: Vec<u32> = (0..).take(sum.written.len()).collect();
        let outcome = BatchOutcome { origin: &sum.written, written: &written, rejects: &sum.rejects };
        run_counts::count_by_run(raw, outcome, |run| self.ledger.is_open(run))
    }

    fn since(&self, start: Instant) -> Duration {
        self.clock.now().saturating_duration_since(start)
    }

    /// Rows that were acknowledged, those that were refused, and how often it was tried again.
    async fn write(&self, ticket: &Ticket, rows: &RowSet) -> Result<(u64, Vec<Refusal>, u64), WriterError> {
        let mut attempts = Attempts::default();
        let mut left = rows.clone();
        let (mut written, mut refused, mut retries) = (0, Vec::new(), 0);
        loop {
            let end = self.store.write(&left, &|| self.progress.tick()).await?;
            let moved = end.written > 0;
            written += end.written;
            refused.extend(end.rejected);
            self.telemetry.statements(end.statements);
            let Some((unwritten, trouble)) = end.unwritten else {
                ticket.over();
                self.waiting.back.notify_waiters();
                return Ok((written, refused, retries));
            };
            left = unwritten;
            retries += 1;
            self.telemetry.retried(trouble.reason().word());
            wait(ticket, &mut attempts, trouble.into(), moved).await?;
        }
    }

    async fn bury(&self, ticket: &Ticket, raw: &RawBatch, rejects: &[Reject], sent: &mut HashSet<u32>) -> Result<(), WriterError> {
        let mut left = letters(rejects, sent);
        if left.is_empty() {
            return Ok(());
        }
        point_async("writer::before_dead_letter").await;
        let mut attempts = Attempts::default();
        let late = |trouble: WriterError| ticket.say(&trouble, trouble.to_string());
        while let Err(Undelivered { letters, trouble }) = self.dead_letters.send(raw, left.clone(), self.clock.wall(), &late).await {
            let moved = letters.len() < left.len();
            left = letters;
            wait(ticket, &mut attempts, trouble, moved).await?;
        }
        ticket.over();
        point_async("writer::after_dead_letter").await;
        Ok(())
    }
}
