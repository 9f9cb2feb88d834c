//! Exports: runs as OpenLineage events to a file, batches and runs as spans to a collector.

#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod support;

use parking_lot::Mutex;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use support::source_api::{Answer, TestApi};
use support::{Job, TIMEOUT};

fn lines(file: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + TIMEOUT;
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(Instant::now() < end, "timed out waiting for {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn runs_are_exported_to_openlineage_and_missed_ones_by_the_next_process() {
    let api = TestApi::start(|n| if n < 2 { Answer::users(0, 7) } else { Answer::ok("{\"results\": 3}".into()) });
    let job =
        Job::new("embedded", "embedded").fetching(&format!("{}?key=secret", api.url), None).with("[lineage]\nfile = \"lineage.ndjson\"");
    let file = job.dir().join("lineage.ndjson");
    let running = job.start(&[], &[]);
    running.snapshot();
    assert!(job.forebay(&["trigger", "--key", "good", "--wait"]).status.success());
    let events = until("the run's end", || Some(lines(&file)).filter(|events| events.len() == 2));
    let words = |events: &[Value]| -> Vec<String> { events.iter().map(|event| event["eventType"].as_str().unwrap().to_owned()).collect() };
    assert_eq!(words(&events), ["START", "COMPLETE"]);
    let end = &events[1];
    assert_eq!((&end["job"]["name"], &end["inputs"][0]["name"]), (&"users".into(), &"/".into()));
    assert_eq!(end["outputs"][0]["outputFacets"]["outputStatistics"]["rowCount"], 7);
    assert_eq!(end["outputs"][1]["name"], format!("{0}.users_stream", job.keyspace));
    let fields = end["outputs"][1]["facets"]["schema"]["fields"].as_array().unwrap();
    assert!(fields.iter().any(|field| field["name"] == "id" && field["type"] == "uuid"), "{fields:?}");
    assert!(end["job"]["facets"]["sql"]["query"].as_str().unwrap().starts_with("SELECT"));
    running.kill();

    let running = job.start(&[], &[]);
    running.snapshot();
    assert!(job.forebay(&["trigger", "--key", "good too", "--wait"]).status.success());
    assert!(!job.forebay(&["trigger", "--key", "bad", "--wait"]).status.success());
    let events = until("the failure", || Some(lines(&file)).filter(|events| words(events).contains(&"FAIL".to_owned())));
    let fail = events.last().unwrap();
    assert!(fail["run"]["facets"]["errorMessage"]["message"].as_str().unwrap().starts_with("fetch: "), "{fail:#}");
    // An event may be exported twice after a kill, but none is missing.
    let mut once = events.iter().map(|event| (event["run"]["runId"].to_string(), event["eventType"].to_string())).collect::<Vec<_>>();
    once.sort();
    once.dedup();
    assert_eq!(once.len(), 6, "{once:?}");
    assert!(!std::fs::read_to_string(&file).unwrap().contains("secret"));
    assert!(running.stop().success());
}

/// Collects request bodies; rejects the first request.
fn collector() -> (String, Arc<Mutex<Vec<Value>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/v1/traces", listener.local_addr().unwrap());
    let bodies = Arc::new(Mutex::new(Vec::new()));
    let taken = Arc::clone(&bodies);
    std::thread::spawn(move || {
        for (number, stream) in listener.incoming().flatten().enumerate() {
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let (mut line, mut length) = (String::new(), 0);
            while reader.read_line(&mut line).unwrap_or(0) > 2 {
                if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
                line.clear();
            }
            let mut body = vec![0; length];
            if reader.read_exact(&mut body).is_err() {
                continue;
            }
            let status = if number == 0 { "503 Service Unavailable" } else { "200 OK" };
            if number > 0 {
                taken.lock().push(serde_json::from_slice(&body).unwrap());
            }
            let mut stream = stream;
            let _ = write!(stream, "HTTP/1.1 {status}\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{{}}");
        }
    });
    (url, bodies)
}

#[test]
fn a_collector_gets_spans_of_batches_and_runs_after_an_outage() {
    let (url, bodies) = collector();
    let api = TestApi::start(|n| Answer::users(n * 10, n * 10 + 10));
    let job = Job::new("embedded", "embedded").fetching(&api.url, Some("100ms")).with(&format!("[traces]\nurl = \"{url}\""));
    let running = job.start(&[], &[]);
    let spans = || -> Vec<Value> {
        let bodies = bodies.lock();
        bodies.iter().flat_map(|body: &Value| body["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().unwrap().clone()).collect()
    };
    until("spans of batches", || (spans().len() > 12).then_some(()));
    let run = job.forebay(&["trigger", "--key", "traced", "--wait", "--json"]);
    let run: Value = serde_json::from_str(String::from_utf8_lossy(&run.stdout).lines().last().unwrap()).unwrap();
    let id = run["id"].as_str().unwrap().replace('-', "");
    let of_run = until("the run's span", || spans().into_iter().find(|span| span["traceId"] == id));
    assert_eq!((&of_run["name"], &of_run["status"]["code"]), (&"run users".into(), &1.into()));
    let spans = spans();
    let roots: Vec<_> = spans.iter().filter(|span| span["name"] == format!("process {}", job.topic)).collect();
    assert!(!roots.is_empty());
    for root in roots {
        let under: Vec<_> = spans.iter().filter(|span| span["parentSpanId"] == root["spanId"]).map(|span| span["name"].clone()).collect();
        assert_eq!(under, ["wait".to_owned(), "transform".to_owned(), format!("INSERT {}.users_stream", job.keyspace)]);
    }
    assert!(running.stop().success());
}
