//! The whole pipeline with the embedded broker and store. Needs no server and no network.

#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod support;

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use support::source_api::{Answer, TestApi};
use support::{Job, Running, TIMEOUT, forebay, output, user};

#[test]
fn the_demo_ends_with_matching_counts_and_a_readable_table() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = forebay();
    command.args(["demo", "--duration", "5s", "--json", "--rate", "500"]).current_dir(dir.path());
    let end = output(command);
    assert!(end.status.success(), "{}", String::from_utf8_lossy(&end.stderr));
    let summary: Value = serde_json::from_slice(&end.stdout).unwrap();
    let count = |key: &str| summary[key].as_u64().unwrap();
    assert!(count("written") > 500, "{summary}");
    assert_eq!(
        (count("fetched"), count("produced"), count("consumed")),
        (count("written"), count("written"), count("written")),
        "{summary}"
    );
    assert_eq!((count("rejected"), count("restarts")), (0, 0));
    assert!(summary["latency_ms"]["p50"].as_f64().unwrap() > 0.0 && summary["latency_ms"]["p99"].is_number());

    let mut command = forebay();
    command
        .args(["query", "-c", ".forebay/demo/forebay.toml", "--json", "SELECT count(*) AS n, count(address) AS a FROM users_stream"])
        .current_dir(dir.path());
    let rows: Value = serde_json::from_slice(&output(command).stdout).unwrap();
    assert_eq!((rows["n"].as_u64().unwrap(), rows["a"].as_u64().unwrap()), (count("written"), count("written")));
}

/// The path below `folder`, and the permission bits, of every entry in it.
fn modes(folder: &Path) -> BTreeMap<PathBuf, u32> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).unwrap().map(Result::unwrap) {
            let metadata = entry.metadata().unwrap();
            found.insert(entry.path().strip_prefix(folder).unwrap().to_owned(), metadata.permissions().mode() & 0o7777);
            if metadata.is_dir() {
                folders.push(entry.path());
            }
        }
    }
    found
}

#[test]
fn every_file_of_the_data_directory_is_its_owners_alone_whatever_the_umask() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join(".forebay/demo/data");
    let run = format!("umask 000; exec {} demo --listen 127.0.0.1:0 --json", env!("CARGO_BIN_EXE_forebay"));
    let mut command = Command::new("sh");
    command.args(["-c", &run]);
    let running = Running::of(command, dir.path(), String::new());
    let until = Instant::now() + TIMEOUT;
    // SQLite removes the last two of these when it closes them.
    let wanted = ["LOCK", "journal", "broker", "broker/port", "broker/kafka.db", "store.db", "store.db-wal", "store.db-shm"];
    while !wanted.iter().all(|name| data.join(name).exists()) {
        assert!(Instant::now() < until, "{wanted:?} are not all in {:?}: {}", modes(&data).keys(), running.log());
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(data.metadata().unwrap().permissions().mode() & 0o7777, 0o700);
    let while_it_runs = modes(&data);
    assert!(running.stop().success());
    for (path, mode) in while_it_runs.into_iter().chain(modes(&data)) {
        let expected = if ["journal", "broker"].iter().any(|name| path == Path::new(name)) { 0o700 } else { 0o600 };
        assert_eq!(mode, expected, "the mode of {} is {mode:04o}", path.display());
    }
}

#[test]
fn bad_records_of_the_demo_become_dead_letters_and_none_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = forebay();
    command.args(["demo", "--duration", "3s", "--json", "--rate", "500", "--bad-every", "7"]).current_dir(dir.path());
    let end = output(command);
    assert!(end.status.success(), "{}", String::from_utf8_lossy(&end.stderr));
    let summary: Value = serde_json::from_slice(&end.stdout).unwrap();
    let count = |key: &str| summary[key].as_u64().unwrap();
    let broken = count("fetched") / 7;
    assert!(broken > 20, "{summary}");
    assert_eq!((count("rejected"), count("written")), (broken, count("fetched") - broken), "{summary}");
    // Every fifth of them, from the fourth, has no key and never reaches the topic.
    let keyless = (broken + 1) / 5;
    assert_eq!((count("produced"), count("consumed")), (count("fetched") - keyless, count("fetched") - keyless), "{summary}");

    let mut command = forebay();
    command.args(["query", "-c", ".forebay/demo/forebay.toml", "--json", "SELECT count(*) AS n FROM users_stream"]).current_dir(dir.path());
    let rows: Value = serde_json::from_slice(&output(command).stdout).unwrap();
    assert_eq!(rows["n"].as_u64().unwrap(), count("written"));
}

#[test]
fn a_second_demo_in_a_directory_leaves_the_first_one_alone() {
    let dir = tempfile::tempdir().unwrap();
    let demo = |duration: &'static str| {
        let mut command = forebay();
        command.args(["demo", "--duration", duration, "--json", "--rate", "500"]).current_dir(dir.path());
        command
    };
    let first = std::thread::spawn({
        let command = demo("6s");
        move || output(command)
    });
    let table = dir.path().join(".forebay/demo/data/store.db");
    while !table.exists() {
        assert!(!first.is_finished(), "the first demo ended early");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let second = output(demo("1s"));
    assert_eq!(second.status.code(), Some(3));
    let refused = String::from_utf8_lossy(&second.stdout).into_owned();
    assert!(refused.contains("another demo runs in") && refused.contains("--dir"), "{refused}");
    let first = first.join().unwrap();
    assert!(first.status.success(), "{}", String::from_utf8_lossy(&first.stderr));
    let summary: Value = serde_json::from_slice(&first.stdout).unwrap();
    let mut command = forebay();
    command.args(["query", "-c", ".forebay/demo/forebay.toml", "--json", "SELECT count(*) AS n FROM users_stream"]).current_dir(dir.path());
    let rows: Value = serde_json::from_slice(&output(command).stdout).unwrap();
    assert_eq!(rows["n"], summary["written"], "all rows of the first demo are kept");
}

#[test]
fn sighup_drains_like_sigterm() {
    let api = TestApi::start(|n| Answer::users(n * 100, n * 100 + 100));
    let job = Job::new("embedded", "embedded").fetching(&api.url, Some("50ms"));
    let running = job.start(&[], &[]);
    running.wait_until("records flow", |s| s["totals"]["written"].as_u64().unwrap() > 500);
    let status = running.stop_by("-HUP");
    assert!(status.success(), "{status}");
    assert_eq!(job.events("PipelineStopped").last().unwrap()["data"]["clean"], true);
}

#[test]
fn a_process_is_ready_only_once_topics_and_table_exist() {
    let ready = |running: &support::Running| support::control_api::ControlApi::new(running.url()).get("/readyz");
    let job = Job::new("127.0.0.1:9", "embedded");
    let away = job.start(&[], &[]);
    away.wait_until("it answers", |_| true);
    let not_yet = ready(&away);
    not_yet.problem(503, "pipeline.not_ready");
    assert!(not_yet.body["detail"].as_str().unwrap().contains("the topic and its dead-letter topic are not found yet"), "{not_yet:?}");
    let job = Job::new("embedded", "embedded");
    let there = job.start(&[], &[]);
    there.wait_until("it is ready", |_| ready(&there).status == 200);
    assert!(there.stop().success());
}

#[test]
fn the_embedded_topic_is_bounded_and_drops_only_written_records() {
    const PAGE: u32 = 500;
    let last = 60_000 / PAGE;
    let api = TestApi::start(move |n| Answer::users(n.min(last) * PAGE, (n.min(last) + 1) * PAGE));
    let job = Job::new("embedded", "embedded").fetching(&api.url, Some("20ms")).with("[kafka.retention]\nbytes = \"16MiB\"");
    let running = job.start(&[], &[]);
    let bytes = |s: &Value, key: &str| s["disk"]["topic"][key].as_u64().unwrap_or(0);
    let all = u64::from((last + 1) * PAGE);
    running.wait_until("all users are written and the first of their records are gone", |s| {
        s["totals"]["written"].as_u64().unwrap() >= all && bytes(s, "removed_records") > 10_000
    });
    running.wait_until("the topic is under its bound", |s| {
        let held: i64 = s["partitions"].as_array().unwrap().iter().map(|p| p["end"].as_i64().unwrap() - p["begin"].as_i64().unwrap()).sum();
        held < 40_000
    });
    assert!(running.stop().success());
    let rows = job.query("SELECT count(DISTINCT id) AS n FROM users_stream")[0]["n"].as_u64().unwrap();
    assert_eq!(rows, all, "removed records had been written");
    let summary = job.run_until_idle();
    assert_eq!(summary["restarts"], 0, "the next process continues after the removed records");
    let plan = support::plan(&job, &[]).1;
    assert_eq!(plan["retention"], serde_json::json!({ "bytes": 16 << 20, "seconds": 7 * 24 * 60 * 60 }));
}

#[test]
fn a_stop_drains_and_the_next_run_continues() {
    let api = TestApi::start(|n| Answer::users(n * 100, n * 100 + 100));
    let job = Job::new("embedded", "embedded").fetching(&api.url, Some("50ms"));
    let running = job.start(&[], &[]);
    running.wait_until("records flow", |s| s["totals"]["written"].as_u64().unwrap() > 500);
    assert!(running.stop().success());
    let asked = u64::from(api.requests());
    let summary = job.run_until_idle();
    assert_eq!(summary["fetched"], 100);
    let rows = job.query("SELECT count(*) AS n FROM users_stream")[0]["n"].as_u64().unwrap();
    assert!(rows <= (asked + 1) * 100 && rows >= asked * 100, "{rows} rows of {asked} pages and one");
}

#[test]
fn a_killed_process_continues_where_it_was() {
    let api = TestApi::start(|n| Answer::users(n * 100, n * 100 + 100));
    let job = Job::new("embedded", "embedded").fetching(&api.url, Some("20ms"));
    for _ in 0..3 {
        let running = job.start(&[], &[]);
        running.wait_until("records flow", |s| s["totals"]["written"].as_u64().unwrap() > 300);
        running.signal("-KILL");
    }
    job.run_until_idle();
    let count = |statement: &str| job.query(statement)[0]["n"].as_u64().unwrap();
    let rows = count("SELECT count(*) AS n FROM users_stream");
    let keys = count("SELECT count(DISTINCT id) AS n FROM users_stream");
    assert!(rows == keys && rows > 900, "{rows} rows, {keys} keys");
}

/// Users on a page of [`paged`].
const PAGE: u32 = 20;

/// An API of `users` users, [`PAGE`] per page, whose cursor is the number of users before the page;
/// and a job that fetches from it.
fn paged(users: &Arc<AtomicU32>) -> (TestApi, Job) {
    let users = Arc::clone(users);
    let api = TestApi::by_path(move |_, path| {
        let since: u32 = path.rsplit_once("since=").expect("each request has the cursor").1.parse().unwrap();
        let to = (since + PAGE).min(users.load(Ordering::SeqCst));
        Answer::users_and_next(since, to, to)
    });
    let cursor = "[fetcher.cursor]\nnext = \"/info/next\"\nparam = \"since\"\nstart = \"0\"";
    let job = Job::new("embedded", "embedded").fetching(&format!("{}?since=none&limit=20", api.url), None).with(cursor);
    (api, job)
}

fn asked(since: impl IntoIterator<Item = u32>) -> Vec<String> {
    since.into_iter().map(|since| format!("/?limit=20&since={since}")).collect()
}

/// The number of rows, asserted to be the number of users.
fn rows(job: &Job) -> u64 {
    let count = |what: &str| job.query(&format!("SELECT count({what}) AS n FROM users_stream"))[0]["n"].as_u64().unwrap();
    let rows = count("*");
    assert_eq!(rows, count("DISTINCT id"));
    rows
}

#[test]
fn a_fetch_reads_all_pages_and_the_next_one_only_new_records() {
    let users = Arc::new(AtomicU32::new(5 * PAGE));
    let (api, job) = paged(&users);
    let counts = |summary: &Value| ["fetched", "produced", "written"].map(|key| summary[key].as_u64().unwrap());
    assert_eq!(counts(&job.run_until_idle()), [100; 3]);
    assert_eq!(api.asked(), asked([0, 20, 40, 60, 80, 100]), "the last page is empty");
    assert_eq!(rows(&job), 100);
    users.store(107, Ordering::SeqCst);
    assert_eq!(counts(&job.run_until_idle()), [7; 3]);
    assert_eq!(api.asked(), asked([100, 107]));
    assert_eq!(rows(&job), 107);
    let state: Value = serde_json::from_slice(&job.forebay(&["journal", "state", "--json"]).stdout).unwrap();
    assert_eq!(state["cursors"][""]["cursor"], "107");
}

#[test]
fn a_process_killed_between_pages_continues_at_the_cursor() {
    let (api, job) = paged(&Arc::new(AtomicU32::new(5 * PAGE)));
    let job = job.with_fetcher("fetch_ahead = 0");
    let running = job.start(&[], &[("FAILPOINTS", "fetcher::after_fetch=3*off->return(kill)")]);
    running.snapshot();
    let trigger = || job.forebay(&["trigger", "--key", "daily", "--wait", "--json"]);
    assert!(!trigger().status.success(), "the process that runs it is gone");
    running.end_by_kill("after the fourth page arrived");
    assert_eq!(api.asked(), asked([0, 20, 40, 60]));
    let running = job.start(&[], &[]);
    running.snapshot();
    let end = trigger();
    assert!(end.status.success(), "{end:?}");
    assert_eq!(api.asked(), asked([60, 80, 100]), "the fourth page had not been produced");
    let run: Value = serde_json::from_str(String::from_utf8_lossy(&end.stdout).lines().next().unwrap()).unwrap();
    let counts = ["pages", "fetched", "produced", "rejected", "filtered", "written"].map(|name| run["counts"][name].as_u64().unwrap());
    assert_eq!(counts, [6, 100, 100, 0, 0, 100], "{run}");
    assert!(running.stop().success());
    assert_eq!(rows(&job), 100);
}

#[test]
fn a_record_without_a_key_is_a_dead_letter_and_its_page_continues() {
    let keyless = user(7, 1).replace("\"uuid\"", "\"other\"");
    let api = TestApi::start(move |_| Answer::ok(format!("{{\"results\":[{},{keyless},{}]}}", user(1, 1), user(2, 1))));
    let job = Job::new("embedded", "embedded").fetching(&api.url, Some("1h"));
    let summary = job.run_until_idle();
    assert_eq!(
        (&summary["fetched"], &summary["produced"], &summary["rejected"], &summary["written"]),
        (&3.into(), &2.into(), &1.into(), &2.into())
    );
}

#[test]
fn a_page_that_is_not_json_fails_the_run_with_its_position() {
    let api = TestApi::start(|_| Answer::ok("{\"results\": [{\"a\": 1},\n oops".into()));
    let job = Job::new("embedded", "embedded").fetching(&api.url, None);
    let running = job.start(&[], &[]);
    running.snapshot();
    let end = job.forebay(&["trigger", "--wait", "--json"]);
    assert_eq!(end.status.code(), Some(1));
    let run: Value = serde_json::from_str(String::from_utf8_lossy(&end.stdout).lines().next().unwrap()).unwrap();
    assert_eq!((&run["state"], &run["error"]["retryable"], &run["error"]["stage"]), (&"failed".into(), &false.into(), &"fetch".into()));
    assert!(run["error"]["message"].as_str().unwrap().contains("line"), "{run}");
    assert!(running.stop().success());
}

#[test]
fn a_pointer_without_a_match_is_reported_with_the_existing_keys() {
    let api = TestApi::start(|_| Answer::ok("{\"data\": [], \"info\": {}}".into()));
    let job = Job::new("embedded", "embedded").fetching(&api.url, None);
    let running = job.start(&[], &[]);
    running.snapshot();
    let end = job.forebay(&["trigger", "--wait"]);
    assert_eq!(end.status.code(), Some(1));
    let stderr = String::from_utf8_lossy(&end.stderr);
    assert!(stderr.contains("/results") && stderr.contains("data"), "{stderr}");
    assert!(running.stop().success());
}

#[test]
fn a_second_process_on_the_same_data_directory_is_refused() {
    let job = Job::new("embedded", "embedded");
    let running = job.start(&[], &[]);
    running.snapshot();
    let end = job.forebay(&["run", "--until-idle", "--roles", "egress"]);
    assert_eq!(end.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&end.stderr).contains("data_dir"));
    let end = job.forebay(&["run"]);
    assert_eq!(end.status.code(), Some(3), "the API's port is also taken");
    assert!(running.stop().success());
}

#[test]
fn run_until_idle_fails_with_the_reason_of_a_failed_fetch() {
    let api = TestApi::start(|_| Answer::ok("<html>busy</html>".into()));
    let job = Job::new("embedded", "embedded").fetching(&api.url, None);
    let end = job.forebay(&["run", "--until-idle", "--json"]);
    assert_eq!(end.status.code(), Some(1), "{}", String::from_utf8_lossy(&end.stderr));
    let answer: Value = serde_json::from_slice(&end.stdout).unwrap();
    assert!(answer["error"]["message"].as_str().unwrap().contains("JSON"), "{answer}");
}

#[test]
fn the_journal_of_another_pipeline_is_refused_before_anything_starts() {
    let api = TestApi::start(|_| Answer::users(0, 5));
    let job = Job::new("embedded", "embedded").fetching(&api.url, None);
    job.run_until_idle();
    let path = job.write();
    let text = std::fs::read_to_string(&path).unwrap().replace("name = \"users\"", "name = \"orders\"");
    std::fs::write(&path, text).unwrap();
    let mut command = forebay();
    command.args(["run", "--until-idle", "-c"]).arg(path);
    let end = output(command);
    assert_eq!(end.status.code(), Some(3));
    let stderr = String::from_utf8_lossy(&end.stderr);
    assert!(stderr.contains("belongs to pipeline \"users\", not to \"orders\"") && stderr.contains("data_dir"), "{stderr}");
}

#[test]
fn the_journal_is_readable_whether_the_pipeline_runs_or_not() {
    let api = TestApi::start(|_| Answer::users(0, 5));
    let job = Job::new("embedded", "embedded").fetching(&api.url, None);
    let none = job.forebay(&["journal", "show"]);
    assert_eq!(none.status.code(), Some(3), "there is none yet");
    let running = job.start(&[], &[]);
    running.snapshot();
    assert!(job.forebay(&["trigger", "--key", "daily", "--wait"]).status.success());
    let text = |args: &[&str]| String::from_utf8(job.forebay(args).stdout).unwrap();
    let runs = text(&["journal", "show", "--type", "Run*"]);
    let kinds: Vec<&str> = runs.lines().map(|line| line.split_whitespace().nth(2).unwrap()).collect();
    assert_eq!(kinds, ["RunRequested", "RunStarted", "RunProduced", "RunSucceeded"]);
    assert!(running.stop().success());
    assert!(text(&["journal", "verify"]).starts_with("intact: "));
    let requested: Value = serde_json::from_str(&text(&["journal", "show", "--json", "--type", "RunRequested"])).unwrap();
    let before = requested["seq"].as_u64().unwrap() - 1;
    let state = |at: u64| -> Value { serde_json::from_str(&text(&["journal", "state", "--json", "--at", &at.to_string()])).unwrap() };
    assert_eq!(state(before)["runs"], serde_json::json!([]));
    assert_eq!(state(before + 1)["runs"][0]["state"], "requested");
    assert_eq!(job.forebay(&["journal", "state", "--at", "99999"]).status.code(), Some(2));
    let wrong = job.forebay(&["journal", "show", "--type", "RunRequeste"]);
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("did you mean RunRequested?"), "{wrong:?}");
}

#[test]
fn events_are_streamed_and_resume_after_last_event_id() {
    let api = TestApi::start(|_| Answer::users(0, 5));
    let job = Job::new("embedded", "embedded").fetching(&api.url, None);
    let running = job.start(&[], &[]);
    running.snapshot();
    let events = |header: &str, wanted: &str| {
        let (host, mut text) = (running.url().strip_prefix("http://").unwrap().to_owned(), String::new());
        let mut stream = std::net::TcpStream::connect(&host).unwrap();
        stream.set_read_timeout(Some(support::TIMEOUT)).unwrap();
        write!(stream, "GET /v1/events?from=1 HTTP/1.1\r\nHost: {host}\r\n{header}\r\n").unwrap();
        let mut lines = BufReader::new(stream).lines();
        while !text.contains(wanted) {
            text.push_str(&lines.next().unwrap_or_else(|| panic!("no {wanted} in {text}")).unwrap());
            text.push('\n');
        }
        text
    };
    let begin = events("", "\"PipelineStarted\"");
    assert!(begin.contains("200 OK") && begin.contains("text/event-stream") && begin.contains("\nid: 1\n"), "{begin}");
    assert!(job.forebay(&["trigger", "--key", "daily", "--wait"]).status.success());
    let all = events("", "\"RunSucceeded\"");
    let id: u64 = all.lines().filter_map(|line| line.strip_prefix("id: ")).next_back().unwrap().parse().unwrap();
    let rest = events(&format!("Last-Event-ID: {}\r\n", id - 1), "\"RunSucceeded\"");
    let ids: Vec<&str> = rest.lines().filter(|line| line.starts_with("id: ")).collect();
    assert_eq!(ids, [format!("id: {id}")], "no earlier event");
    let wrong = events("Last-Event-ID: x\r\n", "event.id");
    assert!(wrong.contains("400 Bad Request"), "{wrong}");
    assert!(running.stop().success());
}
