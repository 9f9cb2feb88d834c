//! `forebay doctor`: whether `forebay run` would find what it needs. Asks servers, writes nothing but a file that it removes again.

use std::net::TcpListener;
use std::path::Path;
use std::time::{Duration, SystemTime};

use forebay_actors::broker;
use forebay_actors::fetcher::without_secrets;
use forebay_actors::pipeline::{Blueprint, Probe, probe};
use forebay_dataplane::store::{Store, StoreError};
use forebay_schemas::metrics::alerts::DISK_BYTES;
use forebay_schemas::pipeline::{Bytes, FetcherTable, Pipeline};
use serde_json::json;

use crate::Global;
use crate::end::End;
use crate::talk::Talk;

/// Flags of `doctor`.
#[derive(clap::Args)]
#[command(after_help = "\
Asks Kafka and Cassandra, takes the first page of the API as a fetch would (nothing of it is kept), tries the data directory, its disk and
the API's port. Exit code 3 when something is missing.

Examples:
  forebay doctor
  forebay doctor -c forebay.toml --json")]
pub(crate) struct Args {
    /// The longest wait for one server
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = humantime::parse_duration)]
    timeout: Duration,
}

/// One thing looked at.
struct Finding {
    what: String,
    found: Result<String, String>,
}

/// Runs the command.
pub(crate) fn doctor(global: &Global, talk: &Talk, args: &Args) -> Result<(), End> {
    let pipeline = crate::load_pipeline(global)?;
    let findings = crate::block_on(async {
        let blueprint = Blueprint::draw(pipeline)?;
        let pipeline = &blueprint.pipeline;
        let mut findings = vec![
            Finding { what: format!("pipeline file {}", pipeline.source.path.display()), found: Ok("it makes sense".into()) },
            data_dir(&pipeline.data_dir()),
            room(&pipeline.data_dir()),
            api_port(pipeline),
            kafka(pipeline, args.timeout).await,
        ];
        if pipeline.writes() {
            findings.push(store(&blueprint, args.timeout).await);
        }
        if let Some(fetcher) = &pipeline.fetcher {
            findings.push(api(&blueprint, fetcher, args.timeout).await);
        }
        Ok::<_, End>(findings)
    })?;
    let missing = findings.iter().filter(|finding| finding.found.is_err()).count();
    if talk.json() {
        let findings: Vec<_> = findings
            .iter()
            .map(|Finding { what, found }| json!({ "what": what, "ok": found.is_ok(), "says": found.as_ref().unwrap_or_else(|says| says) }))
            .collect();
        talk.data(&json!({ "ok": missing == 0, "findings": findings }).to_string());
    } else {
        for Finding { what, found } in &findings {
            match found {
                Ok(says) => talk.say(&format!("{} {what}: {says}", talk.green("ok     "))),
                Err(says) => talk.say(&format!("{} {what}: {says}", talk.red("missing"))),
            }
        }
    }
    match missing {
        0 => Ok(()),
        _ if talk.json() => Err(End::silent(3)),
        n => Err(End::environment(format!("{n} of {} things are missing", findings.len()), "each line above says what to do")),
    }
}

fn data_dir(path: &Path) -> Finding {
    let probe = path.join(".probe");
    let tried = std::fs::create_dir_all(path).and_then(|()| std::fs::write(&probe, b"probe")).and_then(|()| std::fs::remove_file(&probe));
    Finding {
        what: format!("data directory {}", path.display()),
        found: tried
            .map(|()| "can be written".into())
            .map_err(|cause| format!("{cause}; set [pipeline] data_dir to a folder that you may write to")),
    }
}

fn api_port(pipeline: &Pipeline) -> Finding {
    let listen = &pipeline.api.listen;
    if let Some(socket) = pipeline.api.socket() {
        let path = pipeline.relative(std::path::Path::new(socket));
        let found = match std::os::unix::net::UnixStream::connect(&path) {
            Ok(_) => Err("somebody listens there; is this pipeline running already? Else set [api] listen to another path".into()),
            Err(_) => Ok("is free".into()),
        };
        return Finding { what: format!("API socket {}", path.display()), found };
    }
    Finding {
        what: format!("API port {listen}"),
        found: TcpListener::bind(listen)
            .map(|_| "is free".into())
            .map_err(|cause| format!("{cause}; is this pipeline running already? Else set [api] listen to another port")),
    }
}

async fn kafka(pipeline: &Pipeline, timeout: Duration) -> Finding {
    if pipeline.kafka.is_embedded() {
        let found = if cfg!(feature = "embedded-broker") {
            Ok("starts with the pipeline".into())
        } else {
            Err("this build has none; name a real one in [kafka] bootstrap".into())
        };
        return Finding { what: kafka_of(pipeline), found };
    }
    let topic = &pipeline.kafka.topic;
    let found = in_time(timeout, "[kafka] bootstrap", broker::look(pipeline)).await;
    let found = found.map(|look| match look.topics.first().and_then(|(_, there)| there.as_ref()) {
        None => format!("answers; topic {topic} is made at the first run"),
        Some(there) => {
            let cuts = look.cuts_letters().map(|cuts| format!("; {cuts}")).unwrap_or_default();
            format!("answers; topic {topic} has {} partitions{cuts}", there.ends.len())
        }
    });
    Finding { what: kafka_of(pipeline), found }
}

/// How Kafka is named.
pub(crate) fn kafka_of(pipeline: &Pipeline) -> String {
    if pipeline.kafka.is_embedded() { "Kafka, embedded".into() } else { format!("Kafka {}", pipeline.kafka.bootstrap) }
}

/// What the store answers; else why it does not, and what to do.
pub(crate) async fn store_in_time<T>(timeout: Duration, asked: impl Future<Output = Result<T, StoreError>>) -> Result<T, String> {
    let key = "[cassandra] contact_points";
    let asked = async {
        asked.await.map_err(|error| match error {
            StoreError::Unavailable { .. } => format!("{error}; start it, or name it in {key}"),
            error => error.to_string(),
        })
    };
    in_time(timeout, key, asked).await
}

/// What a server answers; else why it does not, and what to do. `key` is where the file names it.
pub(crate) async fn in_time<T, E: std::fmt::Display>(
    timeout: Duration,
    key: &str,
    asked: impl Future<Output = Result<T, E>>,
) -> Result<T, String> {
    match tokio::time::timeout(timeout, asked).await {
        Ok(answer) => answer.map_err(|error| error.to_string()),
        Err(_) => Err(format!("no answer in {timeout:?}; start it, or name it in {key}")),
    }
}

async fn store(blueprint: &Blueprint, timeout: Duration) -> Finding {
    let table = blueprint.table.as_deref();
    let asked = async {
        let store = Store::connect(&blueprint.pipeline, None).await?;
        match table {
            Some(table) if !table.create => store.prepare(table).await,
            _ => Ok(()),
        }
    };
    let found = store_in_time(timeout, asked).await.map(|()| "answers".into());
    Finding { what: format!("Cassandra {}", Store::describe_of(&blueprint.pipeline)), found }
}

/// The first page, asked for and read as the fetcher, the producer and the transformer would.
async fn api(blueprint: &Blueprint, fetcher: &FetcherTable, timeout: Duration) -> Finding {
    let asked = async {
        let taken = probe(blueprint, SystemTime::now()).await.unwrap_or_else(|| Ok(Probe::default()));
        taken.map_err(|error| format!("{error}; look at [fetcher]"))
    };
    let found = in_time(timeout, "[fetcher] url", asked).await.and_then(|probe| judged(&probe));
    Finding { what: format!("API {}", without_secrets(&fetcher.url)), found }
}

/// What came of the first page. That some of its records are bad is said; that all are is a mistake in the pipeline file.
fn judged(probe: &Probe) -> Result<String, String> {
    let Probe { records, has_next, rejected, reason, rows } = probe;
    let next = if *has_next { ", and names a next page" } else { "" };
    let bad = reason.as_ref().map(|reason| format!("; {rejected} would be dead letters, the first: {reason}")).unwrap_or_default();
    match (records, rows) {
        (0, _) => Ok(format!("answers a page without records{next}; keys, schema and SQL are not tried")),
        (records, _) if rejected == records => {
            Err(format!("answers {records} records, and each would be a dead letter, the first: {}", reason.as_deref().unwrap_or_default()))
        }
        (records, Some(rows)) => Ok(format!("answers {records} records, which make {rows} rows{next}{bad}")),
        (records, None) => Ok(format!("answers {records} records, each with a key{next}{bad}")),
    }
}

fn room(path: &Path) -> Finding {
    let found = match forebay_actors::telemetry::free_bytes(path) {
        None => Ok("the system does not say".into()),
        Some(free) if free < DISK_BYTES => {
            Err(format!("{} are left; the journal and the embedded ends need more than that to go on", Bytes(free)))
        }
        Some(free) => Ok(format!("{} are left", Bytes(free))),
    };
    Finding { what: format!("disk of {}", path.display()), found }
}
