//! The shell: receives batches, has them checked and written, and settles them.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use chrono::{DateTime, Utc};
use forebay_schemas::pipeline::Pipeline;
use forebay_schemas::snapshot::BatchView;
use rdkafka::ClientConfig;

use super::batch_write::{BatchWriter, WrittenBatch, WrittenPart, check, connect, count_reasons};
use super::dead_letters::{DeadLetters, RecreateTopic};
use super::error::WriterError;
use super::outages::{OutageGuard, Outages};
use super::state::WriteQueue;
use crate::failpoint::point;
use crate::ledger::Ledger;
use crate::message::{BatchDone, BatchPart, PartOutcome};
use crate::telemetry::{Need, Telemetry};
use forebay_dataplane::store::{Store, TableSpec};
use forebay_kernel::{Actor, Credit, Cx, Exit, Lease, SharedClock, micros};

/// How often a stopping writer checks whether waiting is still worthwhile.
const STOP_CHECK_INTERVAL: Duration = Duration::from_millis(100);
/// How often the writer checks its connection, so that an unreachable store is reported while there
/// is nothing to write as well.
const STORE_CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// What a writer is built from.
#[derive(Clone)]
pub(crate) struct WriterParams {
    /// The pipeline file.
    pub pipeline: Arc<Pipeline>,
    /// The table, planned for the columns of the SELECT.
    pub spec: Arc<TableSpec>,
    /// The configuration of an idempotent producer with `acks=all`, for the dead-letter topic.
    pub dead_letters: ClientConfig,
    /// Creates the dead-letter topic if it is missing.
    pub recreate_topic: RecreateTopic,
    /// A short hash of the SQL, for the header `forebay-sql` of dead letters.
    pub sql_fingerprint: String,
    /// Knows which runs are open.
    pub ledger: Arc<Ledger>,
    /// The metrics.
    pub telemetry: Arc<Telemetry>,
    /// The clock.
    pub clock: SharedClock,
}

/// The writer.
pub(crate) struct Writer {
    params: WriterParams,
    queue: WriteQueue<Lease<BatchPart>>,
    /// Set once the store is connected and the table prepared.
    batch_writer: Option<Arc<BatchWriter>>,
    /// Set once the incarnation has started.
    outages: Option<Arc<Outages>>,
    /// Reports an unreachable store while there is nothing to write.
    idle_outage: Option<OutageGuard>,
}

impl Writer {
    /// A writer that connects when it starts. Batches may arrive before that.
    pub(crate) fn new(params: WriterParams) -> Self {
        Self { params, queue: WriteQueue::default(), batch_writer: None, outages: None, idle_outage: None }
    }

    fn connected(&mut self, connected: Result<(Store, TableSpec), WriterError>, outages: Arc<Outages>, cx: &mut Cx<'_, Self>) {
        let (store, spec) = match connected {
            Ok(connected) => connected,
            Err(error) => return cx.exit(error.into()),
        };
        self.params.spec = Arc::new(spec);
        tracing::info!(table = self.params.spec.table, store = store.describe(), "connected; table schema verified");
        let WriterParams { pipeline, dead_letters, recreate_topic, sql_fingerprint, ledger, telemetry, clock, .. } = self.params.clone();
        let topic = pipeline.kafka.dead_letter_topic();
        self.params.telemetry.connected(store.probe());
        self.params.telemetry.found(Need::Table);
        self.batch_writer = Some(Arc::new(BatchWriter {
            store,
            dead_letters: DeadLetters::new(dead_letters, recreate_topic, topic, pipeline.kafka.topic.clone(), sql_fingerprint),
            telemetry,
            clock,
            progress: cx.progress(),
            outages,
            ledger,
        }));
        self.advance(cx);
        self.check_store(cx);
    }

    fn check_store(&mut self, cx: &mut Cx<'_, Self>) {
        if let (Some(writer), Some(outage)) = (&self.batch_writer, &self.idle_outage) {
            match writer.store.unreachable() {
                Some(error) => {
                    let error = WriterError::from(error);
                    outage.report(&error, error.to_string());
                }
                None => outage.clear(),
            }
        }
        cx.after(STORE_CHECK_INTERVAL, Self::check_store);
    }

    /// Starts as many batches as may be in progress.
    fn advance(&mut self, cx: &mut Cx<'_, Self>) {
        let Some(writer) = self.batch_writer.clone() else { return };
        while let Some(Lease { body, credit }) = self.queue.start_next() {
            let (spec, clock, writer) = (Arc::clone(&self.params.spec), Arc::clone(&self.params.clock), Arc::clone(&writer));
            cx.compute(
                move || check(&spec, &clock, body),
                move |_, checked, cx| match checked {
                    Ok(part) => {
                        cx.offload(async move { writer.run(part).await }, move |this: &mut Self, written, cx| {
                            this.written(written, credit, cx);
                        });
                    }
                    Err(error) => cx.exit(error.into()),
                },
            );
        }
    }

    fn written(&mut self, written: Result<WrittenPart, WriterError>, credit: Credit, cx: &mut Cx<'_, Self>) {
        self.queue.finish_one();
        match written {
            Ok(written) => settle(&self.params.telemetry, self.params.clock.wall(), written),
            Err(error) => return cx.exit(error.into()),
        }
        drop(credit);
        self.advance(cx);
    }

    /// Exits once nothing is left to do, or a server is unreachable: what it blocks is read again
    /// after the next start.
    fn exit_when_idle(&mut self, cx: &mut Cx<'_, Self>) {
        if self.queue.is_idle() || self.outages.as_ref().is_none_or(|outages| outages.any()) {
            cx.exit(Exit::Shutdown);
        } else {
            cx.after(STOP_CHECK_INTERVAL, Self::exit_when_idle);
        }
    }
}

impl Actor for Writer {
    type Message = Lease<BatchPart>;

    fn started(&mut self, cx: &mut Cx<'_, Self>) {
        let outages = Arc::new(Outages::new(cx.progress()));
        self.outages = Some(Arc::clone(&outages));
        self.idle_outage = Some(outages.guard());
        let (pipeline, spec, own) = (Arc::clone(&self.params.pipeline), Arc::clone(&self.params.spec), Arc::clone(&outages));
        cx.offload(async move { connect(&pipeline, &spec, &own).await }, move |this: &mut Self, connected, cx| {
            this.connected(connected, outages, cx);
        });
    }

    fn handle(&mut self, message: Lease<BatchPart>, cx: &mut Cx<'_, Self>) {
        self.queue.push(message);
        self.advance(cx);
    }

    fn stopping(&mut self, cx: &mut Cx<'_, Self>) {
        self.exit_when_idle(cx);
    }
}

/// Counts a written part and, if it was the last one, settles its batch: first the metrics, then
/// the receipt.
fn settle(telemetry: &Telemetry, now: SystemTime, written: WrittenPart) {
    let WrittenPart { part, batch } = written;
    let now_micros = micros(now.duration_since(UNIX_EPOCH).unwrap_or_default());
    telemetry.latencies(part.rows.rows().iter().filter_map(|&row| {
        let record = part.batch.records.get(*part.origin.get(row as usize)? as usize)?;
        let produced = u64::try_from(record.timestamp_ms).ok()?.checked_mul(1_000)?;
        Some(Duration::from_micros(now_micros.saturating_sub(produced)))
    }));
    let Some(WrittenBatch { outcome, runs }) = batch else { return };
    let PartOutcome { rows, rejected, retries, transform, write, rejects, .. } = outcome;
    telemetry.written.add(rows);
    telemetry.rejected.add(rejected);
    if let Some(said) = telemetry.rejects(&count_reasons(&rejects)) {
        let (records, stage, reason) = (said.records, said.top.stage, said.top.reason);
        tracing::warn!(records, stage, reason, "records became dead letters; forebay dlq shows them");
    }
    telemetry.batch(BatchView {
        id: part.batch.id,
        at: DateTime::<Utc>::from(now),
        records: part.batch.records.len() as u64,
        rows,
        rejected,
        wait_micros: micros(part.batch.waited),
        transform_micros: micros(transform),
        write_micros: micros(write),
        commit_micros: 0,
        ranges: part.batch.ranges.clone(),
        retries,
    });
    part.batch.settle(BatchDone { rows, rejected, transform, write, runs });
    point("writer::after_settle");
}
