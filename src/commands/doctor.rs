//! `forebay doctor`: checks that `forebay run` would find what it needs.
//!
//! Asks servers. Writes nothing but a probe file, which it removes.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use forebay_actors::pipeline::{Blueprint, Probe, probe};
use forebay_actors::{ProcessClock, broker, data_dir};
use forebay_dataplane::store::Store;
use forebay_kernel::Clock as _;
use forebay_schemas::metrics::alerts::DISK_BYTES;
use forebay_schemas::pipeline::{Bytes, CassandraSection, FetcherSection, Pipeline};
use forebay_schemas::snapshot::NodeView;
use serde_json::json;

use crate::commands::flags::ReadFlags;
use crate::error::CliError;
use crate::global::{Global, load_pipeline};
use crate::output::{Label, Output};
use crate::runtime::block_on;
use crate::server_timeout::{in_time, kafka_name, store_in_time};

/// Flags of `doctor`.
#[derive(clap::Args)]
#[command(after_help = "\
Asks Kafka and Cassandra, fetches the first page of the source API as a fetch would (and \
keeps nothing of it), and tries the data directory, its disk and the port of the pipeline's \
API. Exits with 3 when something is missing.

Examples:
  forebay doctor
  forebay doctor --param day=2026-01-01      ask the API as a run with that param would
  forebay doctor --from 2026-01-01 --to 2026-01-02
                                             as a run for that window would
  forebay doctor -c forebay.toml --json")]
pub(crate) struct Args {
    /// Give up on a server after this long
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = humantime::parse_duration)]
    timeout: Duration,
    #[command(flatten)]
    read: ReadFlags,
}

/// The result of one check.
struct Finding {
    what: String,
    result: Result<String, String>,
}

/// Runs the command.
pub(crate) fn doctor(global: &Global, output: &Output, args: &Args) -> Result<(), CliError> {
    let pipeline = load_pipeline(global)?;
    let findings = block_on(async {
        let blueprint = Blueprint::new(pipeline)?;
        let pipeline = &blueprint.pipeline;
        let mut findings = vec![
            Finding { what: format!("pipeline file {}", pipeline.source.path.display()), result: Ok("valid".into()) },
            data_dir(&pipeline.data_dir()),
            disk(&pipeline.data_dir()),
            api_port(pipeline),
            kafka(pipeline, args.timeout).await,
        ];
        if pipeline.writes() {
            findings.push(store(&blueprint, args.timeout).await);
        }
        if let Some(fetcher) = &pipeline.fetcher {
            findings.push(source_api(&blueprint, fetcher, args).await);
        }
        Ok::<_, CliError>(findings)
    })?;
    let missing = findings.iter().filter(|finding| finding.result.is_err()).count();
    if output.json() {
        let findings: Vec<_> = findings
            .iter()
            .map(|Finding { what, result }| json!({ "what": what, "ok": result.is_ok(), "says": result.as_ref().unwrap_or_else(|error| error) }))
            .collect();
        output.print_json(&json!({ "ok": missing == 0, "findings": findings }));
    } else {
        for Finding { what, result } in &findings {
            match result {
                Ok(answer) => output.labelled(Label::Good, "ok     ", &format!("{what}: {answer}")),
                Err(error) => output.labelled(Label::Bad, "missing", &format!("{what}: {error}")),
            }
        }
    }
    match missing {
        0 => Ok(()),
        _ if output.json() => Err(CliError::silent(3)),
        n => Err(CliError::environment(format!("{n} of {} checks failed", findings.len()), "each line above has the remedy")),
    }
}

fn data_dir(path: &Path) -> Finding {
    Finding {
        what: format!("data directory {}", path.display()),
        result: data_dir::probe(path)
            .map(|()| "writable".into())
            .map_err(|error| format!("{error}; set [pipeline] data_dir to a writable directory")),
    }
}

fn disk(path: &Path) -> Finding {
    let result = match forebay_actors::telemetry::free_bytes(path) {
        None => Ok("free space unknown".into()),
        Some(free) if free < DISK_BYTES => {
            Err(format!("{} free; the journal and the embedded broker and store need at least {}", Bytes(free), Bytes(DISK_BYTES)))
        }
        Some(free) => Ok(format!("{} free", Bytes(free))),
    };
    Finding { what: format!("disk of {}", path.display()), result }
}

fn api_port(pipeline: &Pipeline) -> Finding {
    let listen = &pipeline.api.listen;
    if let Some(socket) = pipeline.api.socket() {
        let path = pipeline.relative(Path::new(socket));
        let result = match UnixStream::connect(&path) {
            Ok(_) => Err("in use; is this pipeline running already? Else set [api] listen to another path".into()),
            Err(_) => Ok("free".into()),
        };
        return Finding { what: format!("API socket {}", path.display()), result };
    }
    Finding {
        what: format!("API port {listen}"),
        result: TcpListener::bind(listen)
            .map(|_| "free".into())
            .map_err(|error| format!("{error}; is this pipeline running already? Else set [api] listen to another port")),
    }
}

async fn kafka(pipeline: &Pipeline, timeout: Duration) -> Finding {
    if pipeline.kafka.is_embedded() {
        let result = if cfg!(feature = "embedded-broker") {
            Ok("starts with the pipeline".into())
        } else {
            Err("not in this build; name a Kafka cluster in [kafka] bootstrap".into())
        };
        return Finding { what: kafka_name(pipeline), result };
    }
    let topic = &pipeline.kafka.topic;
    let result = in_time(timeout, "[kafka] bootstrap", broker::inspect(pipeline)).await;
    let result = result.map(|look| match look.topics.first().and_then(|(_, there)| there.as_ref()) {
        None => format!("answers; topic {topic} is created at the first run"),
        Some(there) => {
            let warnings: String = look.warnings().into_iter().map(|warning| format!("; {warning}")).collect();
            format!("answers; topic {topic} has {} partitions{warnings}", there.ends.len())
        }
    });
    Finding { what: kafka_name(pipeline), result }
}

async fn store(blueprint: &Blueprint, timeout: Duration) -> Finding {
    let table = blueprint.table.as_deref();
    let answer = async {
        let store = Store::connect(&blueprint.pipeline, None).await?;
        if let Some(table) = table.filter(|table| !table.create) {
            store.prepare(table).await?;
        }
        Ok(store.probe()().map(|status| status.nodes).unwrap_or_default())
    };
    let transport = blueprint.pipeline.cassandra.as_ref().filter(|table| !table.is_embedded()).map(CassandraSection::transport);
    let result = store_in_time(timeout, answer).await.map(|nodes| match transport {
        None => "answers".to_owned(),
        Some(transport) => format!("answers; {transport}; {}", nodes_by_datacenter(&nodes)),
    });
    Finding { what: format!("Cassandra {}", Store::describe_of(&blueprint.pipeline)), result }
}

/// The number of nodes that are sent requests, by datacenter.
fn nodes_by_datacenter(nodes: &[NodeView]) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    nodes.iter().for_each(|node| *counts.entry(&node.datacenter).or_default() += 1);
    let counts = counts.iter().map(|(name, count)| format!("{count} in datacenter {name}"));
    format!("nodes: {}", counts.collect::<Vec<_>>().join(", "))
}

/// Fetches the first page, and reads it as the fetcher, the producer and the transformer would.
async fn source_api(blueprint: &Blueprint, fetcher: &FetcherSection, args: &Args) -> Finding {
    let params = args.read.read_params();
    let answer = async {
        let page = probe(blueprint, &params, ProcessClock.wall()).await.unwrap_or_else(|| Ok(Probe::default()));
        page.map_err(|error| format!("{error}; check [fetcher]"))
    };
    let result = in_time(args.timeout, "[fetcher] url", answer).await.and_then(|probe| judge(&probe));
    Finding { what: format!("API {}", fetcher.url), result }
}

/// The most fields that the schema does not have that are shown.
const MAX_SHOWN_FIELDS: usize = 3;

/// Judges the first page. Some bad records are reported; only bad records are a mistake in the
/// pipeline file.
fn judge(probe: &Probe) -> Result<String, String> {
    let Probe { records, has_next, rejected, reason, new_fields, rows } = probe;
    let next = if *has_next { ", and names a next page" } else { "" };
    let bad = reason.as_ref().map(|reason| format!("; {rejected} would be dead letters, the first: {reason}")).unwrap_or_default();
    let drift = match new_fields.len() {
        0 => String::new(),
        1..=MAX_SHOWN_FIELDS => format!("; the schema does not have {}", new_fields.join(", ")),
        all => format!("; the schema does not have {} and {} more", new_fields[..MAX_SHOWN_FIELDS].join(", "), all - MAX_SHOWN_FIELDS),
    };
    match (records, rows) {
        (0, _) => Ok(format!("answers a page without records{next}; keys, schema and SQL are not tested")),
        (records, _) if rejected == records => {
            Err(format!("answers {records} records, and each would be a dead letter, the first: {}", reason.as_deref().unwrap_or_default()))
        }
        (records, Some(rows)) => Ok(format!("answers {records} records, which give {rows} rows{next}{bad}{drift}")),
        (records, None) => Ok(format!("answers {records} records, each with a key{next}{bad}")),
    }
}
