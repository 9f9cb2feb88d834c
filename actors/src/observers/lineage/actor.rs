//! The shell: exports for as long as the incarnation lives.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use forebay_schemas::lineage::{Dataset, Job};
use forebay_schemas::pipeline::{ContactPoints, Pipeline};

use super::exporter::{LineageExporter, first_to_export};
use super::sink::Sink;
use crate::ledger::Ledger;
use forebay_dataplane::store::{EMBEDDED_FILE, TableSpec};
use forebay_kernel::{Cx, Exit, Service};

/// How long it may still export after a stop was requested.
const STOP_GRACE: Duration = Duration::from_millis(200);

/// The inputs of the exporter.
#[derive(Clone)]
pub(crate) struct LineageParams {
    /// The pipeline file, which has `[lineage]`.
    pub pipeline: Arc<Pipeline>,
    /// The table, if the pipeline writes.
    pub table: Option<Arc<TableSpec>>,
    /// Holds the runs.
    pub ledger: Arc<Ledger>,
    /// The folder of its journal.
    pub journal: PathBuf,
}

/// The actor that exports runs.
pub(crate) struct Lineage {
    params: LineageParams,
    /// Whether it exports: the sink can be used.
    exporting: bool,
}

impl Lineage {
    /// Exports the runs of a ledger.
    pub(crate) fn new(params: LineageParams) -> Self {
        Self { params, exporting: false }
    }

    fn exporter(&self, cx: &Cx<'_, Self>) -> Option<LineageExporter> {
        let LineageParams { pipeline, table, ledger, journal } = &self.params;
        let lineage = pipeline.lineage.as_ref()?;
        let sink = match Sink::new(pipeline, lineage) {
            Ok(sink) => sink,
            Err(error) => {
                // Not an exit: restarts would use up the limit of the other observers.
                tracing::error!(error, "OpenLineage export disabled");
                cx.progress().waiting(error);
                return None;
            }
        };
        Some(LineageExporter {
            job: job_of(pipeline, table.as_deref(), &lineage.namespace),
            sink,
            ledger: Arc::clone(ledger),
            journal: journal.clone(),
            position_file: pipeline.data_dir().join("lineage.place"),
            progress: cx.progress(),
        })
    }
}

impl Service for Lineage {
    fn started(&mut self, cx: &mut Cx<'_, Self>) {
        if let Some(exporter) = self.exporter(cx) {
            self.exporting = true;
            let from = first_to_export(&exporter.position_file, self.params.ledger.last_event());
            cx.offload(exporter.run(from), |_, never, _| match never {});
        }
    }

    /// What is not exported by then is exported by the next process.
    fn stopping(&mut self, cx: &mut Cx<'_, Self>) {
        if self.exporting && cx.progress().note().is_none() {
            cx.after(STOP_GRACE, |_, cx| cx.exit(Exit::Shutdown));
        } else {
            cx.exit(Exit::Shutdown);
        }
    }
}

/// What all runs have in common.
pub(super) fn job_of(pipeline: &Pipeline, table: Option<&TableSpec>, namespace: &str) -> Job {
    let dataset = |namespace: String, name: &str| Dataset { namespace, name: name.to_owned(), fields: Vec::new() };
    let source = pipeline.fetcher.as_ref().map(|fetcher| {
        let url = fetcher.url.reveal();
        dataset(url.origin().ascii_serialization(), url.path())
    });
    let kafka = if pipeline.kafka.is_embedded() {
        "kafka://embedded".to_owned()
    } else {
        format!("kafka://{}", pipeline.kafka.bootstrap.split(',').next().unwrap_or_default().trim())
    };
    let table = pipeline.cassandra.as_ref().zip(table).map(|(cassandra, spec)| {
        let name = format!("{}.{}", cassandra.keyspace, spec.table);
        let fields = spec.columns.iter().map(|column| (column.name.clone(), column.cql.to_string())).collect();
        let namespace = match &cassandra.contact_points {
            ContactPoints::Servers(servers) => format!("cassandra://{}", servers.first().map_or("", String::as_str)),
            ContactPoints::Word(_) => format!("sqlite://{}", pipeline.data_dir().join(EMBEDDED_FILE).display()),
        };
        Dataset { fields, ..dataset(namespace, &name) }
    });
    Job {
        namespace: namespace.to_owned(),
        name: pipeline.meta.name.clone(),
        version: env!("CARGO_PKG_VERSION").into(),
        sql: pipeline.transformer.as_ref().map(|transformer| transformer.sql.clone()),
        source,
        topic: dataset(kafka, &pipeline.kafka.topic),
        table,
    }
}
