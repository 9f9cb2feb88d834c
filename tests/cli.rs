//! The command line as a new user meets it: wrong words, wrong files, and what it says to them. No server is needed.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod support;

use serde_json::Value;
use support::api::{Answer, TestApi};
use support::{Job, forebay, output, said};

#[test]
fn init_writes_files_that_check_accepts() {
    let dir = tempfile::tempdir().unwrap();
    let init = || {
        let mut command = forebay();
        command.arg("init").current_dir(dir.path());
        output(command)
    };
    assert!(init().status.success());
    let again = init();
    assert_eq!(again.status.code(), Some(2), "it writes over nothing unasked");
    assert!(said(&again).contains("--force"), "{}", said(&again));
    let mut command = forebay();
    command.args(["check", "--json"]).current_dir(dir.path());
    let end = output(command);
    assert!(end.status.success(), "{}", said(&end));
    let answer: Value = serde_json::from_slice(&end.stdout).unwrap();
    assert_eq!((&answer["ok"], &answer["columns"]["id"], &answer["columns"]["dob"]), (&true.into(), &"uuid".into(), &"timestamp".into()));
}

#[test]
fn a_mistake_in_the_file_is_shown_with_its_line_and_the_nearest_name() {
    let job = Job::new("embedded", "embedded").with("[supervisor]\nmax_restart = 3");
    let end = job.forebay(&["check"]);
    assert_eq!(end.status.code(), Some(2));
    let said = said(&end);
    assert!(said.contains("forebay.toml") && said.contains("max_restart = 3") && said.contains("did you mean `max_restarts`"), "{said}");
}

#[test]
fn sql_that_does_not_plan_is_shown_where_it_stands() {
    let job = Job::new("embedded", "embedded");
    let path = job.write();
    let text = std::fs::read_to_string(&path).unwrap().replace("gender", "gendr");
    std::fs::write(&path, text).unwrap();
    let mut command = forebay();
    command.args(["check", "-c"]).arg(path);
    let end = output(command);
    assert_eq!(end.status.code(), Some(2));
    assert!(said(&end).contains("gendr") && said(&end).contains("gender"), "{}", said(&end));
}

#[test]
fn a_primary_key_column_that_the_select_lacks_is_named() {
    let job = Job::new("embedded", "embedded");
    let path = job.write();
    let text = std::fs::read_to_string(&path).unwrap().replace("primary_key = [\"id\"]", "primary_key = [\"user_id\"]");
    std::fs::write(&path, text).unwrap();
    let mut command = forebay();
    command.args(["check", "--json", "-c"]).arg(path);
    let end = output(command);
    assert_eq!(end.status.code(), Some(2));
    let answer: Value = serde_json::from_slice(&end.stdout).unwrap();
    assert!(answer["error"]["message"].as_str().unwrap().contains("user_id") && answer["error"]["line"].is_number(), "{answer}");
}

#[test]
fn without_a_pipeline_file_it_says_how_to_get_one() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = forebay();
    command.arg("run").current_dir(dir.path());
    let end = output(command);
    assert_eq!(end.status.code(), Some(2));
    assert!(said(&end).contains("forebay init"), "{}", said(&end));
}

#[test]
fn without_a_running_pipeline_status_and_trigger_say_how_to_start_one() {
    let commands: [&[&str]; 11] = [
        &["status"],
        &["trigger"],
        &["runs"],
        &["topics"],
        &["actors"],
        &["dlq"],
        &["tap"],
        &["logs"],
        &["logs", "--follow", "--json"],
        &["pause", "--reason", "x"],
        &["dlq", "redrive"],
    ];
    for command in commands {
        let mut command_line = forebay();
        command_line.args(command).args(["--url", "http://127.0.0.1:9"]);
        let end = output(command_line);
        assert_eq!(end.status.code(), Some(3));
        let told = format!("{}{}", said(&end), String::from_utf8_lossy(&end.stdout));
        assert!(told.contains("forebay run"), "{told}");
    }
}

/// An answer about log lines, of the process that counts since then.
fn logs(since: &str, seqs: std::ops::Range<u64>, lost: u64) -> Answer {
    let line = |seq: u64| {
        let message = format!("line {seq} of {since}");
        serde_json::json!({
            "seq": seq, "timestamp": "2026-11-24T10:31:07.412345Z", "level": "WARN", "target": "forebay_actors::writer", "message": message,
            "error": "no answer\u{1b}[2J", "actor": "root/egress/writer",
        })
    };
    let since = format!("2026-11-24T08:00:0{since}Z");
    let (upto, lines) = (seqs.end - 1, seqs.map(line).collect::<Vec<_>>());
    Answer::ok(serde_json::json!({ "lines": lines, "upto": upto, "lost": lost, "since": since }).to_string())
}

#[test]
fn logs_that_are_followed_come_once_each_and_what_is_missing_is_said() {
    let api = TestApi::start(|n| match n {
        0 => logs("1", 1..3, 0),
        1 => logs("1", 9..10, 6),
        2 => logs("2", 10..10, 0),
        3 => logs("2", 1..2, 0),
        _ => Answer::unavailable(),
    });
    let mut command = forebay();
    command.args(["logs", "--follow", "--level", "warn", "--limit", "2", "--url", &api.url]);
    let end = output(command);
    let lines = String::from_utf8(end.stdout.clone()).unwrap();
    let shown: Vec<&str> = lines.lines().filter_map(|line| line.split("  ").nth(2)).map(str::trim).collect();
    assert_eq!(shown, ["line 1 of 1", "line 2 of 1", "line 9 of 1", "line 1 of 2"], "{lines}");
    assert!(lines.starts_with("2026-11-24T10:31:07.412Z  WARN   line 1 of 1  error=\"no answer\\u001b[2J\"  actor=root/egress/writer\n"));
    assert!(said(&end).contains("6 lines are missing here") && said(&end).contains("another process answers now"), "{}", said(&end));
    assert_eq!(end.status.code(), Some(3), "it ends when the pipeline does not answer any more");
    let asked = api.asked();
    assert_eq!(asked[0], "/v1/logs?level=warn&limit=2");
    assert_eq!(asked[1], "/v1/logs?after=2&level=warn&limit=1000&wait=20000ms");
    assert_eq!(asked[2], "/v1/logs?after=9&level=warn&limit=1000&wait=20000ms");
    assert_eq!(asked[3], "/v1/logs?after=0&level=warn&limit=1000");
    assert_eq!(asked[4], "/v1/logs?after=1&level=warn&limit=1000&wait=20000ms");
}

#[test]
fn doctor_finds_what_is_missing_and_exits_with_3() {
    let job = Job::new("127.0.0.1:9", "127.0.0.1:9").fetching("http://127.0.0.1:9/", None);
    let end = job.forebay(&["doctor", "--timeout", "3s", "--json"]);
    assert_eq!(end.status.code(), Some(3));
    let answer: Value = serde_json::from_slice(&end.stdout).unwrap();
    let missing: Vec<&str> =
        answer["findings"].as_array().unwrap().iter().filter(|f| f["ok"] == false).map(|f| f["what"].as_str().unwrap()).collect();
    assert_eq!(missing.len(), 3, "{answer:#}");
    assert!(missing[0].starts_with("Kafka") && missing[1].starts_with("Cassandra") && missing[2].starts_with("API"));
}

#[test]
fn doctor_finds_nothing_missing_where_all_is_embedded() {
    let end = Job::new("embedded", "embedded").forebay(&["doctor"]);
    assert!(end.status.success(), "{}", said(&end));
}

#[test]
fn every_command_has_help_with_examples() {
    for command in [
        "demo", "run", "check", "doctor", "trigger", "runs", "pause", "drain", "resume", "status", "monitor", "topics", "actors", "dlq",
        "tap", "logs", "query", "init",
    ] {
        let mut command_line = forebay();
        command_line.args([command, "--help"]);
        let end = output(command_line);
        assert!(end.status.success());
        assert!(String::from_utf8_lossy(&end.stdout).contains("Examples:"), "{command}");
    }
}

#[test]
fn secrets_are_never_printed() {
    let job = Job::new("embedded", "embedded");
    let path = job.write();
    let text = std::fs::read_to_string(&path)
        .unwrap()
        .replace("[kafka]", "[kafka.properties]\n\"sasl.username\" = { env = \"FOREBAY_CANARY\" }\n[kafka]");
    std::fs::write(&path, text).unwrap();
    let mut command = forebay();
    command.args(["check", "-c"]).arg(path).env("FOREBAY_CANARY", "hunter2").env("FOREBAY_LOG", "trace");
    let end = output(command);
    let all = format!("{}{}", said(&end), String::from_utf8_lossy(&end.stdout));
    assert!(!all.contains("hunter2"), "{all}");
}
