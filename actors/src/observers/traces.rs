//! Tells a collector of batches and runs, as spans over OTLP/HTTP with the JSON encoding. Off unless the pipeline file has `[traces]`.
//!
//! Guarantee: the pipeline never waits for it; it reads the journal behind the pipeline and holds `SPANS_MOST` spans at most. Not guaranteed: that a span
//! arrives. One that the collector does not take at the first try is left out, and what happened while nobody followed is not told of.

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use forebay_schemas::event::{Event, Recorded};
use forebay_schemas::pipeline::{Pipeline, TracesSection};
use forebay_schemas::traces::Tracer;
use reqwest::redirect::Policy;
use reqwest::{Client, Url};
use serde_json::Value;

use crate::fetcher::without_query;
use crate::ledger::Ledger;
use crate::observers::export::{Tail, upto};
use forebay_dataplane::store::Store;
use forebay_kernel::{Cx, Progress, Service};

/// How long the collector may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How long spans are gathered.
const GATHER: Duration = Duration::from_secs(1);
/// The most spans in one request, and in memory.
const SPANS_MOST: usize = 1_024;

/// What telling of spans needs.
#[derive(Clone)]
pub(crate) struct TracesParts {
    /// The pipeline file, which has `[traces]`.
    pub pipeline: Arc<Pipeline>,
    /// Knows the runs.
    pub ledger: Arc<Ledger>,
    /// Where its journal is.
    pub journal: PathBuf,
}

/// The actor that tells of spans. Nothing is posted to it.
pub(crate) struct Traces {
    parts: TracesParts,
}

impl Traces {
    /// Tells of the batches and runs of `parts`.
    pub(crate) fn new(parts: TracesParts) -> Self {
        Self { parts }
    }
}

impl Service for Traces {
    fn started(&mut self, cx: &mut Cx<'_, Self>) {
        let TracesParts { pipeline, ledger, journal } = self.parts.clone();
        let Some(table) = &pipeline.traces else { return };
        match collector(table) {
            Ok((client, url)) => {
                let follow = Follow { tracer: tracer(&pipeline), client, url, ledger, journal, progress: cx.progress() };
                cx.offload(follow.run(), |_, never, _| match never {});
            }
            Err(why) => {
                // Not an exit: whoever looks on beside it would go down with it.
                tracing::error!(why, "no spans are told of");
                cx.progress().waiting(why);
            }
        }
    }
}

fn collector(table: &TracesSection) -> Result<(Client, Url), String> {
    let url = Url::parse(&table.url).map_err(|cause| format!("traces.url is no address: {cause}"))?;
    let client =
        Client::builder().user_agent(concat!("forebay/", env!("CARGO_PKG_VERSION"))).timeout(TIMEOUT).redirect(Policy::none()).build();
    Ok((client.map_err(|cause| format!("no HTTP client: {cause}"))?, url))
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

struct Follow {
    tracer: Tracer,
    client: Client,
    url: Url,
    ledger: Arc<Ledger>,
    journal: PathBuf,
    progress: Progress,
}

/// Events that spans are made of.
fn traced(recorded: Recorded) -> Option<Recorded> {
    let ends = matches!(
        recorded.event,
        Event::BatchWritten { .. } | Event::RunSucceeded { .. } | Event::RunFailed { .. } | Event::RunCancelled { .. }
    );
    ends.then_some(recorded)
}

impl Follow {
    async fn run(self) -> Infallible {
        let mut durable = self.ledger.durable();
        let mut tail = Tail::new(&self.journal, self.ledger.last_event() + 1);
        let mut said = false;
        loop {
            let upto = upto(&mut durable, tail.read()).await;
            tokio::time::sleep(GATHER).await;
            let reading = tokio::task::spawn_blocking(move || (tail.next(upto, traced), tail));
            // Only at the end of the process is it not done.
            let Ok((found, back)) = reading.await else { return std::future::pending().await };
            tail = back;
            let told = match found {
                Ok(found) => {
                    let mut spans: Vec<Value> = found.iter().flat_map(|recorded| self.spans(recorded)).collect();
                    spans.truncate(SPANS_MOST);
                    self.tell(&spans).await
                }
                Err(why) => {
                    tail = Tail::new(&self.journal, self.ledger.last_event() + 1);
                    Err(why)
                }
            };
            match told {
                Ok(()) if said => {
                    tracing::info!("spans are told of again");
                    self.progress.clear();
                    said = false;
                }
                Ok(()) => {}
                Err(why) => {
                    if !said {
                        tracing::warn!(why, "spans are left out");
                        said = true;
                    }
                    self.progress.waiting(why);
                }
            }
        }
    }

    fn spans(&self, recorded: &Recorded) -> Vec<Value> {
        let Some(run) = recorded.event.run() else { return self.tracer.batch(recorded) };
        self.ledger.run(run).map(|run| self.tracer.run(&run, recorded.at)).into_iter().collect()
    }

    async fn tell(&self, spans: &[Value]) -> Result<(), String> {
        if spans.is_empty() {
            return Ok(());
        }
        let to = without_query(&self.url);
        let sent = self.client.post(self.url.clone()).json(&self.tracer.request(spans)).send().await;
        let status = sent.map_err(|cause| format!("{to}: {}", cause.without_url()))?.status();
        if status.is_success() { Ok(()) } else { Err(format!("{to} answered {status}")) }
    }
}
