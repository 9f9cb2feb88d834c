//! Log lines as JSON: their keys, and no secret in them.

#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod support;

use serde_json::Value;
use support::Job;
use support::control_api::ControlApi;
use support::source_api::{Answer, TestApi};

const SECRET: &str = "hunter2-is-no-word";

#[test]
fn every_log_line_is_an_object_with_documented_keys_and_no_secret() {
    let api = TestApi::start(|n| if n == 1 { Answer::users(0, 5) } else { Answer::unavailable() });
    let url = format!("{}?key={SECRET}", api.url);
    let job = Job::new("embedded", "embedded").fetching(&url, Some("50ms"));
    let path = job.write();
    let text = std::fs::read_to_string(&path).unwrap();
    let text = text.replace("records = \"/results\"", "records = \"/results\"\nheaders = { x-key = { env = \"FOREBAY_TEST_SECRET\" } }");
    std::fs::write(&path, text).unwrap();
    let log = job.dir().join("json.log");
    let mut command = support::forebay();
    command.args(["run", "--log-format", "json", "-c"]).arg(&path);
    command.env("FOREBAY_TEST_SECRET", SECRET).env("FOREBAY_LOG", "forebay=debug,forebay_actors=debug");
    let mut child = command.stderr(std::fs::File::create(&log).unwrap()).spawn().unwrap();
    let until = std::time::Instant::now() + support::TIMEOUT;
    let lines = loop {
        let lines: Vec<String> = std::fs::read_to_string(&log).unwrap().lines().map(str::to_owned).collect();
        if lines.iter().any(|line| line.contains("fetch failed")) && lines.iter().any(|line| line.contains("fetches succeed again")) {
            break lines;
        }
        assert!(std::time::Instant::now() < until, "{lines:#?}");
        std::thread::sleep(std::time::Duration::from_millis(50));
    };
    let kept = ControlApi::new(&job.url()).get("/v1/logs?after=0&limit=1000").body;
    let bare = |line: &Value| {
        let mut line = line.as_object().unwrap().clone();
        line.retain(|key, _| key != "seq" && key != "timestamp");
        Value::Object(line)
    };
    // Threads that log at the same time may be in a different order in the two places.
    let written =
        || std::fs::read_to_string(&log).unwrap().lines().filter_map(|line| serde_json::from_str(line).ok()).collect::<Vec<Value>>();
    for line in kept["lines"].as_array().unwrap() {
        while !written().iter().any(|written| bare(written) == bare(line)) {
            assert!(std::time::Instant::now() < until, "the kept line is also written: {line}");
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    }
    assert!(kept.to_string().contains("fetch failed") && !kept.to_string().contains(SECRET), "{kept}");
    assert!(!kept.to_string().contains("DEBUG"), "{kept}");
    child.kill().unwrap();
    child.wait().unwrap();

    let mut with = std::collections::BTreeSet::new();
    // The kill may have cut the last line.
    for text in &lines[..lines.len() - 1] {
        assert!(!text.contains(SECRET), "{text}");
        let line: Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
        let timestamp = line["timestamp"].as_str().unwrap();
        let at = chrono::DateTime::parse_from_rfc3339(timestamp).unwrap();
        assert!(timestamp.ends_with('Z') && timestamp.len() == 27 && at.timestamp() > 1_700_000_000, "{timestamp}");
        assert!(["ERROR", "WARN", "INFO", "DEBUG"].contains(&line["level"].as_str().unwrap()), "{text}");
        assert!(line["target"].as_str().unwrap().starts_with("forebay"), "{text}");
        assert!(line["message"].is_string() && line["pipeline"] == "users", "{text}");
        for code in ["trouble", "why", "cause", "supervisor"] {
            assert!(line.get(code).is_none(), "{code} is not a documented key: {text}");
        }
        with.extend(line.as_object().unwrap().keys().cloned());
        if line["message"] == "fetch failed" {
            assert!(line["error"].as_str().unwrap().contains("503"), "{text}");
        }
    }
    for key in ["error", "actor", "topic", "run", "incarnation"] {
        assert!(with.contains(key), "no line has {key}: {with:?}");
    }
}
