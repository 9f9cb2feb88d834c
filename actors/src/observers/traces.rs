//! Exports batches and runs as spans, over OTLP/HTTP with the JSON encoding, if the pipeline file
//! has `[traces]`.
//!
//! Guarantees:
//! * Nothing of the data path waits for the exporter. It reads the journal, and holds at most
//!   [`MAX_SPANS`] spans.
//!
//! Does not guarantee that a span arrives. A span that the collector does not accept at the first
//! attempt is left out, and so is what happened while no process exported.

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use forebay_schemas::event::{Event, Recorded};
use forebay_schemas::http_url::HttpUrl;
use forebay_schemas::pipeline::Pipeline;
use forebay_schemas::traces::Tracer;
use reqwest::Client;
use reqwest::redirect::Policy;
use serde_json::Value;

use crate::ledger::Ledger;
use crate::observers::journal_feed::JournalExporter;
use forebay_dataplane::store::Store;
use forebay_kernel::{Cx, Outage, Progress, Service};

/// How long the collector may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How long spans are gathered.
const GATHER: Duration = Duration::from_secs(1);
/// The most spans of one request, and in memory.
const MAX_SPANS: usize = 1_024;

/// The inputs of the exporter.
#[derive(Clone)]
pub(crate) struct TracesParams {
    /// The pipeline file, which has `[traces]`.
    pub pipeline: Arc<Pipeline>,
    /// Holds the runs.
    pub ledger: Arc<Ledger>,
    /// The folder of its journal.
    pub journal: PathBuf,
}

/// The actor that exports spans.
pub(crate) struct Traces {
    params: TracesParams,
}

impl Traces {
    /// Exports the batches and runs of a ledger.
    pub(crate) fn new(params: TracesParams) -> Self {
        Self { params }
    }
}

impl Service for Traces {
    fn started(&mut self, cx: &mut Cx<'_, Self>) {
        let TracesParams { pipeline, ledger, journal } = self.params.clone();
        let Some(table) = &pipeline.traces else { return };
        match client() {
            Ok(client) => {
                let url = table.url.clone();
                let exporter = TraceExporter { tracer: tracer(&pipeline), client, url, ledger, journal, progress: cx.progress() };
                cx.offload(exporter.run(), |_, never, _| match never {});
            }
            Err(error) => {
                // Not an exit: restarts would use up the limit of the other observers.
                tracing::error!(error, "trace export disabled");
                cx.progress().waiting(error);
            }
        }
    }
}

fn client() -> Result<Client, String> {
    let client =
        Client::builder().user_agent(concat!("forebay/", env!("CARGO_PKG_VERSION"))).timeout(TIMEOUT).redirect(Policy::none()).build();
    client.map_err(|cause| format!("can't create an HTTP client: {cause}"))
}

fn tracer(pipeline: &Pipeline) -> Tracer {
    Tracer {
        pipeline: pipeline.meta.name.clone(),
        version: env!("CARGO_PKG_VERSION").into(),
        topic: pipeline.kafka.topic.clone(),
        group: pipeline.consumer.as_ref().map(|consumer| consumer.group.clone()).unwrap_or_default(),
        store: Store::kind_of(pipeline).0.to_owned(),
        keyspace: pipeline.cassandra.as_ref().map(|table| table.keyspace.clone()).unwrap_or_default(),
        table: pipeline.writer.as_ref().map(|writer| writer.table.clone()).unwrap_or_default(),
    }
}

struct TraceExporter {
    tracer: Tracer,
    client: Client,
    url: HttpUrl,
    ledger: Arc<Ledger>,
    journal: PathBuf,
    progress: Progress,
}

/// The events that become spans.
fn has_spans(recorded: Recorded) -> Option<Recorded> {
    let ends = matches!(
        recorded.event,
        Event::BatchWritten { .. } | Event::RunSucceeded { .. } | Event::RunFailed { .. } | Event::RunCancelled { .. }
    );
    ends.then_some(recorded)
}

impl TraceExporter {
    async fn run(self) -> Infallible {
        let mut events = JournalExporter::new(&self.ledger, &self.journal, self.ledger.last_event() + 1);
        let mut outage = Outage::default();
        loop {
            let exported = match events.next(has_spans).await {
                Ok(found) => {
                    let mut spans: Vec<Value> = found.iter().flat_map(|recorded| self.spans(recorded)).collect();
                    spans.truncate(MAX_SPANS);
                    self.deliver(&spans).await
                }
                Err(error) => {
                    events.seek(self.ledger.last_event());
                    Err(error)
                }
            };
            match exported {
                Ok(()) => {
                    if outage.clear(&self.progress) {
                        tracing::info!("trace export recovered");
                    }
                }
                Err(error) => {
                    if outage.report(&self.progress, &error, error.clone()) {
                        tracing::warn!(error, "trace export failed; spans are left out");
                    }
                }
            }
            tokio::time::sleep(GATHER).await;
        }
    }

    fn spans(&self, recorded: &Recorded) -> Vec<Value> {
        let Some(run) = recorded.event.run() else { return self.tracer.batch(recorded) };
        self.ledger.run(run).map(|run| self.tracer.run(&run, recorded.at)).into_iter().collect()
    }

    async fn deliver(&self, spans: &[Value]) -> Result<(), String> {
        if spans.is_empty() {
            return Ok(());
        }
        let to = &self.url;
        let sent = self.client.post(self.url.reveal().clone()).json(&self.tracer.request(spans)).send().await;
        let status = sent.map_err(|cause| format!("{to}: {}", cause.without_url()))?.status();
        if status.is_success() { Ok(()) } else { Err(format!("{to} answered {status}")) }
    }
}
