//! `forebay doctor`: whether `forebay run` would find what it needs. Asks servers, writes nothing but a file that it removes again.

use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use forebay_actors::broker;
use forebay_actors::pipeline::Blueprint;
use forebay_actors::store::{Store, StoreError};
use forebay_schemas::pipeline::Pipeline;
use serde_json::json;

use crate::Global;
use crate::end::End;
use crate::talk::Talk;

/// Flags of `doctor`.
#[derive(clap::Args)]
#[command(after_help = "\
Asks Kafka, Cassandra and the API, tries the data directory and the API's port. Exit code 3 when something is missing.

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
            api_port(pipeline),
            kafka(pipeline, args.timeout).await,
        ];
        if pipeline.writes() {
            findings.push(store(&blueprint, args.timeout).await);
        }
        if let Some(fetcher) = &pipeline.fetcher {
            findings.push(api(&fetcher.url, args.timeout).await);
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
        Some(there) => format!("answers; topic {topic} has {} partitions", there.ends.len()),
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

async fn api(url: &str, timeout: Duration) -> Finding {
    let found = match reqwest::Client::new().get(url).timeout(timeout).send().await {
        Ok(answer) if answer.status().is_success() => Ok(format!("answers {}", answer.status())),
        Ok(answer) => Err(format!("answers {}; look at [fetcher] url and headers", answer.status())),
        Err(cause) => Err(format!("{}; look at [fetcher] url", forebay_tui::root_cause(&cause))),
    };
    Finding { what: format!("API {url}"), found }
}
