//! Writes one micro-batch of rows.
//!
//! Guarantees:
//! * In the end each row is written, rejected or unwritten.
//! * A row is rejected only if the server's message says that it is at fault, or a trial shows it
//!   (see [`suspect_row`]). Other refused rows are unwritten, with the error to wait for.
//! * A trial writes the control row again with its own values and timestamp, which changes nothing.
//!   If the row or its table has a time to live, that row's time starts over.
//!
//! Does not guarantee that a failed request had no effect.

use std::ops::Range;
use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use scylla::client::session::Session;
use scylla::cluster::Node;
use scylla::errors::ExecutionError;
use scylla::policies::load_balancing::{NodeIdentifier, SingleTargetLoadBalancingPolicy};
use scylla::serialize::row::SerializeRow;
use scylla::statement::prepared::PreparedStatement;
use tokio::sync::{MutexGuard, SemaphorePermit};

use super::driver_error::{self, RequestFailure};
use super::row_requests::{self, EncodedRow, RequestRows};
use super::suspect_row::{self, Answer, RowTrial, Step, SuspectRow, Verdict};
use super::{Inner, MAX_BATCH_BYTES, Table, replica_sets, server_message, unlogged_batch};
use crate::store::WriteOutcome;
use crate::store::error::{RetryReason, StoreError};
use crate::store::row_check::{Refusal, RowSet};
use crate::store::values::Value;
use forebay_schemas::error_class::{Class, Classified};

/// The largest row that is kept as the control row, in bytes.
const MAX_CONTROL_ROW_BYTES: u32 = 16 << 10;

/// The outcome of a request.
pub(super) enum RequestOutcome {
    /// All its rows were acknowledged. `one` is one of them.
    Written { rows: u64, one: Option<u32> },
    /// Both halves are to be sent separately.
    Split(Range<usize>, Range<usize>),
    /// The server will never accept the row.
    Refused(Refusal),
    /// Refused, and whether the rows are at fault is unknown.
    Suspect { range: Range<usize>, is_value_limit: bool, error: StoreError },
    /// Failed. The error's class decides what follows.
    Failed(Range<usize>, StoreError),
}

/// What to do with a request of several rows if its refusal does not say whether a row is at fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OnRefusal {
    /// Report it as a whole.
    Report,
    /// Split it into halves.
    Split,
}

/// The state of a micro-batch while it is written.
struct BatchWrite<'a> {
    session: Arc<Session>,
    table: &'a Table,
    rows: RowSet,
    on_progress: &'a (dyn Fn() + Send + Sync),
    outcome: WriteOutcome,
    unwritten: Vec<Range<usize>>,
    failure: Option<StoreError>,
    suspects: Vec<(Range<usize>, bool, StoreError)>,
    /// A row that was written.
    sample: Option<u32>,
}

/// The outcome of the trials of suspect rows.
#[derive(Default)]
struct TrialOutcome {
    written: u64,
    refused: Vec<Refusal>,
    /// Rows to retry, and the error.
    unwritten: Option<(Vec<u32>, StoreError)>,
}

impl Inner {
    pub(super) async fn write(&self, rows: &RowSet, on_progress: &(dyn Fn() + Send + Sync)) -> Result<WriteOutcome, StoreError> {
        let table = self.table.read().clone();
        let Some(table) = table else {
            return Err(StoreError::Unrecoverable { server: self.server.clone(), message: "the table was not prepared".to_owned() });
        };
        // Released as soon as all requests are sent, so that the next batch can send while these
        // are answered.
        let turn = self.turn.lock().await;
        if let Err(failure) = self.reconnect().await {
            return Ok(WriteOutcome { unwritten: Some((rows.clone(), failure)), ..WriteOutcome::default() });
        }
        let session = self.session();
        let mut groups = replica_sets(&session, &self.keyspace, &table, rows);
        let group = groups.as_mut().map(|group| group as &mut dyn FnMut(u32) -> u32);
        let (rows, ranges) = row_requests::plan_requests(rows, group, self.batch_rows, MAX_BATCH_BYTES);
        let mut batch = BatchWrite {
            session,
            table: &table,
            rows,
            on_progress,
            outcome: WriteOutcome::default(),
            unwritten: Vec::new(),
            failure: None,
            suspects: Vec::new(),
            sample: None,
        };
        self.send_all(&mut batch, ranges, OnRefusal::Report, Some(turn)).await?;
        self.split_suspects(&mut batch).await?;
        self.try_suspects(&mut batch).await?;
        Ok(self.finish(batch))
    }

    /// Sends requests and processes their answers, until all are answered or one fails. The
    /// remaining rows are then unwritten.
    async fn send_all(
        &self,
        batch: &mut BatchWrite<'_>,
        mut remaining: Vec<Range<usize>>,
        on_refusal: OnRefusal,
        mut turn: Option<MutexGuard<'_, ()>>,
    ) -> Result<(), StoreError> {
        remaining.reverse();
        let (session, table, rows) = (Arc::clone(&batch.session), batch.table, batch.rows.clone());
        let mut sent_requests = FuturesUnordered::new();
        loop {
            if batch.failure.is_none()
                && sent_requests.len() < self.in_flight
                && let Some(range) = remaining.pop()
            {
                let part = RequestRows { rows: rows.clone(), range };
                tokio::select! {
                    biased;
                    permit = self.request_slots.acquire() => sent_requests.push(self.send(&session, table, part, on_refusal, permit.ok())),
                    Some(sent) = sent_requests.next() => {
                        remaining.push(part.range);
                        batch.take(sent, &mut remaining)?;
                    }
                }
                continue;
            }
            if remaining.is_empty() || batch.failure.is_some() {
                turn = None;
            }
            match sent_requests.next().await {
                Some(sent) => batch.take(sent, &mut remaining)?,
                None => break,
            }
        }
        drop(turn);
        batch.unwritten.extend(remaining);
        Ok(())
    }

    /// Sends one request.
    pub(super) async fn send(
        &self,
        session: &Session,
        table: &Table,
        part: RequestRows,
        on_refusal: OnRefusal,
        permit: Option<SemaphorePermit<'_>>,
    ) -> RequestOutcome {
        let (range, count) = (part.range.clone(), part.len());
        let result = if count == 1 {
            session.execute_unpaged(&table.insert, &part).await.map(|_| ())
        } else if count == table.full_batch.statements.len() {
            session.batch(&table.full_batch, &part).await.map(|_| ())
        } else {
            session.batch(&unlogged_batch(&table.insert, count), &part).await.map(|_| ())
        };
        drop(permit);
        let failure = match result {
            Ok(()) => return RequestOutcome::Written { rows: count as u64, one: part.rows().first().copied() },
            Err(error) => self.classify(&error),
        };
        let is_value_limit = matches!(failure, RequestFailure::ValueLimit(_));
        let halves = || {
            let (first, second) = part.halves();
            // Without the server's message, which may quote a value.
            tracing::debug!(rows = count, "batch refused; splitting it");
            RequestOutcome::Split(first, second)
        };
        match (failure, part.rows()) {
            (RequestFailure::BatchTooLarge(error) | RequestFailure::RowLimit(error), [row]) => {
                RequestOutcome::Refused(Refusal { row: *row, reason: error.row_reason() })
            }
            (RequestFailure::BatchTooLarge(_) | RequestFailure::RowLimit(_), _) => halves(),
            (RequestFailure::ValueLimit(_) | RequestFailure::UnknownRefusal(_), [_, _, ..]) if on_refusal == OnRefusal::Split => halves(),
            (RequestFailure::ValueLimit(error) | RequestFailure::UnknownRefusal(error), _) => {
                RequestOutcome::Suspect { range, is_value_limit, error }
            }
            (RequestFailure::Other(error), _) => RequestOutcome::Failed(range, error),
        }
    }

    fn classify(&self, error: &ExecutionError) -> RequestFailure {
        if matches!(error, ExecutionError::ConnectionPoolError(_)) {
            self.disconnected.store(true, std::sync::atomic::Ordering::Relaxed);
        }
        driver_error::write_failure(&self.server, error)
    }

    /// Splits refused requests until each suspect row is alone, unless the server also refuses the
    /// control row.
    async fn split_suspects(&self, batch: &mut BatchWrite<'_>) -> Result<(), StoreError> {
        if batch.failure.is_some() || batch.suspects.iter().all(|(range, ..)| range.len() <= 1) {
            return Ok(());
        }
        let control = self.control_row(batch);
        let refused = match &control {
            Some(control) => self.refuses_control_row(batch, control).await,
            None => Ok(false),
        };
        match refused {
            Ok(false) => {}
            Ok(true) => {
                batch.failure = batch.suspects.first().map(|(.., error)| self.rows_not_at_fault(batch, error));
                return Ok(());
            }
            Err(failure) => {
                batch.failure = Some(failure);
                return Ok(());
            }
        }
        let (alone, whole): (Vec<_>, Vec<_>) = std::mem::take(&mut batch.suspects).into_iter().partition(|(range, ..)| range.len() <= 1);
        batch.suspects = alone;
        let ranges = whole.into_iter().map(|(range, ..)| range).collect();
        self.send_all(batch, ranges, OnRefusal::Split, None).await
    }

    /// Returns whether all tried nodes refuse the control row.
    async fn refuses_control_row(&self, batch: &BatchWrite<'_>, control: &EncodedRow) -> Result<bool, StoreError> {
        let mut failure = None;
        for node in nodes(&batch.session) {
            let (answer, error) = self.write_to_node(batch, &insert_by(&batch.session, batch.table, &node), control).await?;
            match answer {
                Answer::Accepted => return Ok(false),
                Answer::Refused => {}
                Answer::Failed => failure = error,
            }
        }
        failure.map_or(Ok(true), Err)
    }

    /// Decides which suspect rows are at fault.
    async fn try_suspects(&self, batch: &mut BatchWrite<'_>) -> Result<(), StoreError> {
        let suspects = std::mem::take(&mut batch.suspects);
        if batch.failure.is_some() {
            batch.unwritten.extend(suspects.into_iter().map(|(range, ..)| range));
            return Ok(());
        }
        let suspect_rows: Vec<SuspectRow> = suspects
            .into_iter()
            .flat_map(|(range, is_value_limit, error)| {
                batch.rows.rows().get(range.start).map(|&row| SuspectRow { row, is_value_limit, error })
            })
            .collect();
        let control = self.control_row(batch);
        let (settled, suspect_rows) = suspect_row::settle_by_value_limit(suspect_rows, batch.outcome.written, control.is_some());
        batch.outcome.rejected.extend(settled.iter().map(refusal));
        if suspect_rows.is_empty() {
            return Ok(());
        }
        let trials = match control {
            Some(control) => self.try_rows(batch, &control, suspect_rows).await?,
            None => {
                let failure = suspect_rows.first().map(|suspect| self.no_control_row(batch, &suspect.error));
                TrialOutcome {
                    unwritten: failure.map(|failure| (suspect_rows.iter().map(|suspect| suspect.row).collect(), failure)),
                    ..TrialOutcome::default()
                }
            }
        };
        batch.outcome.written += trials.written;
        batch.outcome.statements += trials.written;
        batch.outcome.rejected.extend(trials.refused);
        if let Some((rows, failure)) = trials.unwritten {
            let index_of = |row: &u32| batch.rows.rows().iter().position(|other| other == row);
            batch.unwritten.extend(rows.iter().filter_map(index_of).map(|at| at..at + 1));
            batch.failure = Some(failure);
        }
        Ok(())
    }

    /// Tries one suspect row after the other.
    async fn try_rows(
        &self,
        batch: &BatchWrite<'_>,
        control: &EncodedRow,
        suspect_rows: Vec<SuspectRow>,
    ) -> Result<TrialOutcome, StoreError> {
        let mut trials = TrialOutcome::default();
        let mut value_limit_proven = false;
        let mut suspect_rows = suspect_rows.into_iter();
        while let Some(suspect) = suspect_rows.next() {
            if suspect.is_value_limit && value_limit_proven {
                trials.refused.push(refusal(&suspect));
                continue;
            }
            let (verdict, failure) = self.try_row(batch, control, suspect.row).await?;
            let failure = match verdict {
                Verdict::AtFault => {
                    value_limit_proven |= suspect.is_value_limit;
                    trials.refused.push(refusal(&suspect));
                    continue;
                }
                Verdict::Written => {
                    trials.written += 1;
                    continue;
                }
                Verdict::NotAtFault => self.rows_not_at_fault(batch, &suspect.error),
                Verdict::Undecided => failure.unwrap_or_else(|| self.no_node()),
            };
            let left = std::iter::once(suspect.row).chain(suspect_rows.map(|suspect| suspect.row)).collect();
            trials.unwritten = Some((left, failure));
            break;
        }
        Ok(trials)
    }

    async fn try_row(&self, batch: &BatchWrite<'_>, control: &EncodedRow, row: u32) -> Result<(Verdict, Option<StoreError>), StoreError> {
        let nodes = nodes(&batch.session);
        let inserts: Vec<PreparedStatement> = nodes.iter().map(|node| insert_by(&batch.session, batch.table, node)).collect();
        let mut trial = RowTrial::new(inserts.len());
        let mut failure = None;
        loop {
            let (answer, error) = match trial.next() {
                Ok(Step::Control(node)) => self.write_to_node(batch, &inserts[node], control).await?,
                Ok(Step::Suspect(node)) => {
                    let at = batch.rows.rows().iter().position(|other| *other == row).unwrap_or_default();
                    self.write_to_node(batch, &inserts[node], &RequestRows { rows: batch.rows.clone(), range: at..at + 1 }).await?
                }
                Err(verdict) => return Ok((verdict, failure)),
            };
            failure = failure.or(error);
            trial.answer(answer);
        }
    }

    /// Writes a row through one node. Fails only with a fatal error.
    async fn write_to_node(
        &self,
        batch: &BatchWrite<'_>,
        insert: &PreparedStatement,
        row: &(impl SerializeRow + Sync),
    ) -> Result<(Answer, Option<StoreError>), StoreError> {
        let permit = self.request_slots.acquire().await;
        let result = batch.session.execute_unpaged(insert, row).await;
        drop(permit);
        (batch.on_progress)();
        match result.map_err(|error| self.classify(&error)) {
            Ok(_) => Ok((Answer::Accepted, None)),
            Err(
                RequestFailure::BatchTooLarge(_)
                | RequestFailure::RowLimit(_)
                | RequestFailure::ValueLimit(_)
                | RequestFailure::UnknownRefusal(_),
            ) => Ok((Answer::Refused, None)),
            Err(RequestFailure::Other(error)) if error.class() == Class::Fatal => Err(error),
            Err(RequestFailure::Other(error)) => Ok((Answer::Failed, Some(error))),
        }
    }

    /// Returns a control row: one that this micro-batch has written, or the last one of an earlier
    /// batch.
    fn control_row(&self, batch: &BatchWrite<'_>) -> Option<EncodedRow> {
        let here = batch.sample.and_then(|row| EncodedRow::of(&batch.rows, row));
        here.or_else(|| self.control_row.read().clone())
    }

    fn finish(&self, batch: BatchWrite<'_>) -> WriteOutcome {
        let BatchWrite { rows, mut outcome, unwritten, failure, sample, .. } = batch;
        let small = sample.filter(|&row| rows.size(row) <= MAX_CONTROL_ROW_BYTES);
        if let Some(control) = small.and_then(|row| EncodedRow::of(&rows, row)) {
            *self.control_row.write() = Some(control);
        }
        if let Some(failure) = failure {
            let mut still: Vec<u32> = unwritten.into_iter().flat_map(|range| rows.rows()[range].to_vec()).collect();
            still.sort_unstable();
            outcome.unwritten = Some((rows.only(still), failure));
        }
        outcome
    }

    fn wait_for_cluster(&self, message: String) -> StoreError {
        StoreError::Unavailable { server: self.server.clone(), message, reason: RetryReason::Policy }
    }

    fn rows_not_at_fault(&self, batch: &BatchWrite<'_>, error: &StoreError) -> StoreError {
        let message = batch.masked(error);
        self.wait_for_cluster(format!(
            "it also refuses a row that it accepted before, so the rows are not at fault and are retried: {message}"
        ))
    }

    fn no_control_row(&self, batch: &BatchWrite<'_>, error: &StoreError) -> StoreError {
        let message = batch.masked(error);
        let none = "it has not accepted any row since this process started";
        self.wait_for_cluster(format!("{none}, so these rows may not be at fault and are retried: {message}"))
    }

    fn no_node(&self) -> StoreError {
        StoreError::Unavailable { server: self.server.clone(), message: "no node is connected".to_owned(), reason: RetryReason::Connection }
    }
}

impl BatchWrite<'_> {
    fn take(&mut self, sent: RequestOutcome, left: &mut Vec<Range<usize>>) -> Result<(), StoreError> {
        (self.on_progress)();
        match sent {
            RequestOutcome::Written { rows, one } => {
                self.outcome.written += rows;
                self.outcome.statements += 1;
                self.sample = one.or(self.sample);
            }
            RequestOutcome::Split(first, second) => left.extend([second, first]),
            RequestOutcome::Refused(refusal) => self.outcome.rejected.push(refusal),
            RequestOutcome::Suspect { range, is_value_limit, error } => self.suspects.push((range, is_value_limit, error)),
            RequestOutcome::Failed(range, error) => match error.class() {
                Class::Fatal => return Err(error),
                _ => {
                    self.unwritten.push(range);
                    self.failure.get_or_insert(error);
                }
            },
        }
        Ok(())
    }

    /// Returns the server's message without values of the rows.
    fn masked(&self, error: &StoreError) -> String {
        let StoreError::Refused { message, .. } = error else { return error.to_string() };
        let cells = self.rows.rows().iter().flat_map(|&row| self.rows.cells(row));
        server_message::mask_values(message, cells.filter_map(|cell| if let Value::Text(text) = cell { Some(text) } else { None }))
    }
}

fn refusal(suspect: &SuspectRow) -> Refusal {
    Refusal { row: suspect.row, reason: suspect.error.row_reason() }
}

/// Returns the nodes for a trial.
fn nodes(session: &Session) -> Vec<Arc<Node>> {
    session.get_cluster_state().get_nodes_info().iter().filter(|node| node.is_connected()).take(suspect_row::MAX_NODES).cloned().collect()
}

/// Returns the INSERT, restricted to this node.
fn insert_by(session: &Session, table: &Table, node: &Arc<Node>) -> PreparedStatement {
    let policy = SingleTargetLoadBalancingPolicy::new(NodeIdentifier::Node(Arc::clone(node)), None);
    let profile = session.get_default_execution_profile_handle().pointee_to_builder().load_balancing_policy(policy).build();
    let mut insert = table.insert.clone();
    insert.set_execution_profile_handle(Some(profile.into_handle()));
    insert
}
