use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use forebay_schemas::event::Event;
use forebay_schemas::run::{Cancelled, RunSpec};
use serde_json::Value;
use uuid::Uuid;

use super::actor::job_of;
use super::exporter::{LineageExporter, first_to_export, transition};
use super::sink::{Sink, SinkError};
use crate::journal::{RealDisk, Settings};
use crate::ledger::{Accepted, Command, Ledger};
use forebay_kernel::{Progress, SystemClock};

const PIPELINE: &str = r#"
[pipeline]
name = "users"
[kafka]
bootstrap = "kafka-1:9092,kafka-2:9092"
topic = "users_stream"
[fetcher]
url = "https://api.example:8443/v1/users?key=secret"
records = "/results"
[producer]
key = "/id"
[lineage]
file = "lineage.ndjson"
"#;

fn ledger(folder: &Path) -> Arc<Ledger> {
    let settings = Settings { pipeline: "users".into(), segment_bytes: 64 << 10, keep_bytes: 1 << 30 };
    Arc::new(Ledger::open(&folder.join("journal"), RealDisk, settings, SystemClock::shared()).unwrap())
}

fn request(ledger: &Ledger, key: &str) -> Uuid {
    let spec = RunSpec { labels: BTreeMap::from([("dag_id".to_owned(), "d".to_owned())]), ..RunSpec::default() };
    match ledger.request(key, 1, spec).unwrap() {
        Accepted::New(run) => run,
        Accepted::Same(run) => panic!("{run} was there"),
    }
}

fn cancel(ledger: &Ledger, run: Uuid) {
    ledger.submit(Command::CancelRun { run, cancelled: Cancelled { by: "operator".into(), reason: String::new() } }).unwrap();
}

fn exporter(folder: &Path, ledger: &Arc<Ledger>, sink: Sink) -> LineageExporter {
    let pipeline = forebay_schemas::pipeline::parse(&folder.join("forebay.toml"), PIPELINE.to_owned()).unwrap();
    LineageExporter {
        job: job_of(&pipeline, None, "forebay"),
        sink,
        ledger: Arc::clone(ledger),
        journal: folder.join("journal"),
        position_file: folder.join("lineage.place"),
        progress: Progress::default(),
    }
}

fn lines(file: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn exported(file: &Path) -> Vec<(String, String)> {
    let word = |value: &Value| value.as_str().unwrap().to_owned();
    lines(file).iter().map(|event| (word(&event["eventType"]), word(&event["run"]["runId"]))).collect()
}

async fn until(file: &Path, count: usize) {
    for _ in 0..2_000 {
        if lines(file).len() >= count {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("{:?}", exported(file));
}

#[tokio::test]
async fn runs_are_exported_as_they_happen_and_the_next_process_continues_at_the_position() {
    let dir = tempfile::tempdir().unwrap();
    let (file, place) = (dir.path().join("lineage.ndjson"), dir.path().join("lineage.place"));
    let ledger = ledger(dir.path());
    let before = request(&ledger, "before");
    let first = exporter(dir.path(), &ledger, Sink::File(file.clone()));
    let exporting = tokio::spawn(first.run(first_to_export(&place, ledger.last_event())));
    let first = request(&ledger, "first");
    cancel(&ledger, first);
    cancel(&ledger, before);
    until(&file, 3).await;
    let pair = |word: &str, run: Uuid| (word.to_owned(), run.to_string());
    let expected = [pair("START", first), pair("ABORT", first), pair("ABORT", before)];
    assert_eq!(exported(&file), expected, "events before the first process are not exported");
    assert_eq!(lines(&file)[0]["run"]["facets"]["tags"]["tags"][0]["key"], "dag_id");
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(!text.contains("secret") && text.contains("\"https://api.example:8443\""), "{text}");

    for _ in 0..1_000 {
        if first_to_export(&place, u64::MAX) > ledger.last_event() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    exporting.abort();
    let second = request(&ledger, "second");
    let from = first_to_export(&place, ledger.last_event());
    let exporting = tokio::spawn(exporter(dir.path(), &ledger, Sink::File(file.clone())).run(from));
    until(&file, 4).await;
    assert_eq!(exported(&file)[3], pair("START", second), "events while no process exported are exported later");
    exporting.abort();
}

#[tokio::test]
async fn an_unavailable_sink_gets_every_event_later_and_nothing_waits_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("missing folder").join("lineage.ndjson");
    let ledger = ledger(dir.path());
    let first = exporter(dir.path(), &ledger, Sink::File(file.clone()));
    let (progress, exporting) = (first.progress.clone(), tokio::spawn(first.run(1)));
    let runs: Vec<_> = (0..600).map(|n| request(&ledger, &format!("run {n}"))).collect();
    for _ in 0..2_000 {
        if progress.note().is_some() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(progress.note().unwrap().contains("attempt"), "{:?}", progress.note());
    std::fs::create_dir(file.parent().unwrap()).unwrap();
    until(&file, runs.len()).await;
    assert_eq!(progress.note(), None);
    let expected: Vec<_> = runs.iter().map(|run| ("START".to_owned(), run.to_string())).collect();
    assert_eq!(exported(&file), expected);
    exporting.abort();
}

#[tokio::test]
async fn a_refused_connection_is_retried_and_the_url_is_named_without_its_query() {
    let dir = tempfile::tempdir().unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let text = PIPELINE.replace("file = \"lineage.ndjson\"", &format!("url = \"http://127.0.0.1:{port}/api?key=secret\""));
    let pipeline = forebay_schemas::pipeline::parse(&dir.path().join("forebay.toml"), text).unwrap();
    let sink = Sink::new(&pipeline, pipeline.lineage.as_ref().unwrap()).unwrap();
    match sink.deliver(&Value::Null).await {
        Err(SinkError::Unavailable(error)) => {
            assert!(error.starts_with(&format!("http://127.0.0.1:{port}/api:")) && !error.contains("secret"), "{error}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_invalid_position_starts_with_what_happens_from_here_on() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("lineage.place");
    assert_eq!(first_to_export(&place, 7), 8, "there is none");
    for (text, from) in [("5\n", 6), ("7", 8), ("9", 8), ("nonsense", 8), ("", 8)] {
        std::fs::write(&place, text).unwrap();
        assert_eq!(first_to_export(&place, 7), from, "{text:?}");
    }
}

#[test]
fn only_the_start_and_the_end_of_a_run_are_exported() {
    use forebay_schemas::event::Recorded;
    let recorded = |event| Recorded::new(3, chrono::DateTime::UNIX_EPOCH, event);
    let run = Uuid::nil();
    for event in [Event::RunStarted { run, at: None }, Event::RunProduced { run, stop: None }, Event::PipelineStopped { clean: true }] {
        assert_eq!(transition(recorded(event)), None);
    }
    assert_eq!(transition(recorded(Event::RunSucceeded { run })).unwrap().seq, 3);
}
