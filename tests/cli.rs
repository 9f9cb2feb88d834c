//! The command line as a new user meets it: wrong words, wrong files, and what it says to them. No server is needed.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod support;

use serde_json::Value;
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
    let commands: [&[&str]; 9] = [
        &["status"],
        &["trigger"],
        &["runs"],
        &["topics"],
        &["actors"],
        &["dlq"],
        &["tap"],
        &["pause", "--reason", "x"],
        &["dlq", "redrive"],
    ];
    for command in commands {
        let mut command_line = forebay();
        command_line.args(command).args(["--url", "http://127.0.0.1:9"]);
        let end = output(command_line);
        assert_eq!(end.status.code(), Some(3));
        assert!(said(&end).contains("forebay run"), "{}", said(&end));
    }
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
        "tap", "query", "init",
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
