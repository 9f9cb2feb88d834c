//! The shell: follows the journal for as long as the incarnation lives.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use forebay_schemas::lineage::{Dataset, Job};
use forebay_schemas::pipeline::{ContactPoints, Pipeline};

use super::follow::{Follow, begin};
use super::receiver::Receiver;
use crate::fetcher::without_query;
use crate::ledger::Ledger;
use forebay_dataplane::store::{EMBEDDED_FILE, TableSpec};
use forebay_kernel::{Cx, Exit, Service};

/// How long it may still tell when it is asked to stop.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// What telling of runs needs.
#[derive(Clone)]
pub(crate) struct LineageParts {
    /// The pipeline file, which has `[lineage]`.
    pub pipeline: Arc<Pipeline>,
    /// The table, if the pipeline writes.
    pub table: Option<Arc<TableSpec>>,
    /// Knows the runs.
    pub ledger: Arc<Ledger>,
    /// Where its journal is.
    pub journal: PathBuf,
}

/// The actor that tells of runs. Nothing is posted to it.
pub(crate) struct Lineage {
    parts: LineageParts,
    begun: bool,
}

impl Lineage {
    /// Tells of the runs of `parts`.
    pub(crate) fn new(parts: LineageParts) -> Self {
        Self { parts, begun: false }
    }

    fn follow(&self, cx: &Cx<'_, Self>) -> Option<Follow> {
        let LineageParts { pipeline, table, ledger, journal } = &self.parts;
        let lineage = pipeline.lineage.as_ref()?;
        let receiver = match Receiver::new(pipeline, lineage) {
            Ok(receiver) => receiver,
            Err(why) => {
                // Not an exit: whoever looks on beside it would go down with it.
                tracing::error!(why, "runs are not told of");
                cx.progress().waiting(why);
                return None;
            }
        };
        Some(Follow {
            job: job_of(pipeline, table.as_deref(), &lineage.namespace),
            receiver,
            ledger: Arc::clone(ledger),
            journal: journal.clone(),
            place: pipeline.data_dir().join("lineage.place"),
            progress: cx.progress(),
        })
    }
}

impl Service for Lineage {
    fn started(&mut self, cx: &mut Cx<'_, Self>) {
        if let Some(follow) = self.follow(cx) {
            self.begun = true;
            let from = begin(&follow.place, self.parts.ledger.last_event());
            cx.offload(follow.run(from), |_, never, _| match never {});
        }
    }

    /// What is not told by then is told by the next process.
    fn stopping(&mut self, cx: &mut Cx<'_, Self>) {
        if self.begun && cx.progress().note().is_none() {
            cx.after(LAST_WORDS, |_, cx| cx.exit(Exit::Shutdown));
        } else {
            cx.exit(Exit::Shutdown);
        }
    }
}

/// What is the same for all runs.
pub(super) fn job_of(pipeline: &Pipeline, table: Option<&TableSpec>, namespace: &str) -> Job {
    let dataset = |namespace: String, name: &str| Dataset { namespace, name: name.to_owned(), fields: Vec::new() };
    let source = pipeline.fetcher.as_ref().and_then(|fetcher| {
        let url = reqwest::Url::parse(&fetcher.url).ok()?;
        let bare = without_query(&url);
        let path = url.path().to_owned();
        Some(dataset(bare.strip_suffix(&path).unwrap_or(&bare).to_owned(), &path))
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
