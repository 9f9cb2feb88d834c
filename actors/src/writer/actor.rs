//! The shell: receives batches, has them checked and written, settles them.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use chrono::{DateTime, Utc};
use forebay_schemas::pipeline::Pipeline;
use forebay_schemas::snapshot::BatchView;
use rdkafka::ClientConfig;

use super::client::{Client, Ticket, Waiting, WholeWritten, Written, check, connect, reasons};
use super::dead_letters::{DeadLetters, Remake};
use super::error::WriterError;
use super::state::Desk;
use crate::failpoint::point;
use crate::ledger::Ledger;
use crate::message::{BatchDone, BatchPart, Share};
use crate::telemetry::{Need, Telemetry};
use forebay_dataplane::store::{Store, TableSpec};
use forebay_kernel::{Actor, Credit, Cx, Exit, Lease, SharedClock, micros};

/// How often a writer that should stop looks whether waiting on makes sense.
const LOOK: Duration = Duration::from_millis(100);
/// How often a writer looks whether its store is connected, so that a store that is away is said while there is nothing to write, too.
const LOOK_AT_STORE: Duration = Duration::from_secs(1);

/// What a writer is made of.
#[derive(Clone)]
pub struct WriterParts {
    /// The pipeline file.
    pub pipeline: Arc<Pipeline>,
    /// The table, planned for the SELECT that the rows come from.
    pub spec: Arc<TableSpec>,
    /// How to reach the dead-letter topic: an idempotent producer's configuration, with `acks=all`.
    pub dead_letters: ClientConfig,
    /// Makes the dead-letter topic where it is missing.
    pub remake: Remake,
    /// A short hash of the SQL, for the dead letters' header `forebay-sql`.
    pub sql_fingerprint: String,
    /// Knows which runs are open.
    pub ledger: Arc<Ledger>,
    /// What others see.
    pub telemetry: Arc<Telemetry>,
    /// Tells the time.
    pub clock: SharedClock,
}

/// The writer.
pub struct Writer {
    parts: WriterParts,
    desk: Desk<Lease<BatchPart>>,
    /// There once the store is connected and the table prepared.
    client: Option<Arc<Client>>,
    /// There once the incarnation began.
    waiting: Option<Arc<Waiting>>,
    /// Says that the store is away while there is nothing to write.
    idle: Option<Ticket>,
}

impl Writer {
    /// A writer that connects when it starts. Batches may come before that.
    pub fn new(parts: WriterParts) -> Self {
        Self { parts, desk: Desk::default(), client: None, waiting: None, idle: None }
    }

    fn connected(&mut self, store: Result<Store, WriterError>, waiting: Arc<Waiting>, cx: &mut Cx<'_, Self>) {
        let store = match store {
            Ok(store) => store,
            Err(error) => return cx.exit(error.into()),
        };
        tracing::info!(table = self.parts.spec.table, store = store.describe(), "connected, and the table is as it should be");
        let WriterParts { pipeline, dead_letters, remake, sql_fingerprint, ledger, telemetry, clock, .. } = self.parts.clone();
        let topic = pipeline.kafka.dead_letter_topic();
        self.parts.telemetry.connected(store.glance());
        self.parts.telemetry.there(Need::Table);
        self.client = Some(Arc::new(Client {
            store,
            dead_letters: DeadLetters::new(dead_letters, remake, topic, pipeline.kafka.topic.clone(), sql_fingerprint),
            telemetry,
            clock,
            progress: cx.progress(),
            waiting,
            ledger,
        }));
        self.advance(cx);
        self.look_at_store(cx);
    }

    fn look_at_store(&mut self, cx: &mut Cx<'_, Self>) {
        if let (Some(client), Some(ticket)) = (&self.client, &self.idle) {
            match client.store.unreachable() {
                Some(error) => {
                    let error = WriterError::from(error);
                    ticket.say(&error, error.to_string());
                }
                None => ticket.over(),
            }
        }
        cx.after(LOOK_AT_STORE, Self::look_at_store);
    }

    /// Begins what may begin.
    fn advance(&mut self, cx: &mut Cx<'_, Self>) {
        let Some(client) = self.client.clone() else { return };
        while let Some(Lease { body, credit }) = self.desk.begin() {
            let (spec, clock, client) = (Arc::clone(&self.parts.spec), Arc::clone(&self.parts.clock), Arc::clone(&client));
            cx.compute(
                move || check(&spec, &clock, body),
                move |_, checked, cx| match checked {
                    Ok(batch) => {
                        cx.offload(async move { client.run(batch).await }, move |this: &mut Self, end, cx| this.ended(end, credit, cx));
                    }
                    Err(error) => cx.exit(error.into()),
                },
            );
        }
    }

    fn ended(&mut self, end: Result<Written, WriterError>, credit: Credit, cx: &mut Cx<'_, Self>) {
        self.desk.done();
        match end {
            Ok(written) => settle(&self.parts.telemetry, self.parts.clock.wall(), written),
            Err(error) => return cx.exit(error.into()),
        }
        drop(credit);
        self.advance(cx);
    }

    /// Ends once nothing is left to do, or nothing can be done: what a server that is away keeps from its end is read again next time.
    fn leave(&mut self, cx: &mut Cx<'_, Self>) {
        if self.desk.is_idle() || self.waiting.as_ref().is_none_or(|waiting| waiting.any()) {
            cx.exit(Exit::Shutdown);
        } else {
            cx.after(LOOK, Self::leave);
        }
    }
}

impl Actor for Writer {
    type Message = Lease<BatchPart>;

    fn started(&mut self, cx: &mut Cx<'_, Self>) {
        let waiting = Arc::new(Waiting::new(cx.progress()));
        self.waiting = Some(Arc::clone(&waiting));
        self.idle = Some(waiting.ticket());
        let (pipeline, spec, here) = (Arc::clone(&self.parts.pipeline), Arc::clone(&self.parts.spec), Arc::clone(&waiting));
        cx.offload(async move { connect(&pipeline, &spec, &here).await }, move |this: &mut Self, store, cx| {
            this.connected(store, waiting, cx);
        });
    }

    fn handle(&mut self, message: Lease<BatchPart>, cx: &mut Cx<'_, Self>) {
        self.desk.arrive(message);
        self.advance(cx);
    }

    fn stopping(&mut self, cx: &mut Cx<'_, Self>) {
        self.leave(cx);
    }
}

/// Tells what became of a batch when its last part is done, first to those who look on, then to whoever sent it.
fn settle(telemetry: &Telemetry, now: SystemTime, written: Written) {
    let Written { batch, whole } = written;
    let now_micros = micros(now.duration_since(UNIX_EPOCH).unwrap_or_default());
    telemetry.latencies(batch.rows.rows().iter().filter_map(|&row| {
        let record = batch.raw.records.get(*batch.origin.get(row as usize)? as usize)?;
        let produced = u64::try_from(record.timestamp_ms).ok()?.checked_mul(1_000)?;
        Some(Duration::from_micros(now_micros.saturating_sub(produced)))
    }));
    let Some(WholeWritten { sum, runs }) = whole else { return };
    let Share { rows, rejected, retries, transform, write, rejects, .. } = sum;
    telemetry.written.add(rows);
    telemetry.rejected.add(rejected);
    if let Some(said) = telemetry.rejects(&reasons(&rejects)) {
        let (records, stage, reason) = (said.records, said.top.stage, said.top.reason);
        tracing::warn!(records, stage, reason, "records became dead letters; forebay dlq shows them");
    }
    telemetry.batch(BatchView {
        id: batch.raw.id,
        at: DateTime::<Utc>::from(now),
        records: batch.raw.records.len() as u64,
        rows,
        rejected,
        wait_micros: micros(batch.raw.waited),
        transform_micros: micros(transform),
        write_micros: micros(write),
        commit_micros: 0,
        ranges: batch.raw.ranges.clone(),
        retries,
    });
    batch.raw.settle(BatchDone { rows, rejected, transform, write, runs });
    point("writer::after_settle");
}
