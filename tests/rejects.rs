//! A bad record costs only that record, at every stage, and a run counts them. Embedded; needs no
//! server.

#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod support;

use serde_json::Value;
use support::source_api::{Answer, TestApi};
use support::{Job, bad_user, stderr, user};

/// A page of these records.
fn page(records: &[String]) -> Answer {
    Answer::ok(format!("{{\"results\":[{}],\"info\":{{\"next\":null}}}}", records.join(",")))
}

/// The last dead letters, newest first.
fn letters(job: &Job) -> Vec<Value> {
    let end = job.forebay(&["dlq", "--json"]);
    assert!(end.status.success(), "{}", stderr(&end));
    String::from_utf8_lossy(&end.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A header of a dead letter.
fn header<'a>(letter: &'a Value, name: &str) -> &'a str {
    letter["record"]["headers"][name].as_str().unwrap_or_else(|| panic!("no {name} in {letter:#}"))
}

#[test]
fn a_record_with_nan_is_a_dead_letter_and_the_fetch_continues() {
    let api = TestApi::by_path(|_, path| {
        let second = path.contains("since=2");
        let users: Vec<String> = if second {
            (10..13).map(|n| user(n, 1)).collect()
        } else {
            let nan = user(1, 1).replace("\"age\":30", "\"age\":NaN");
            let text = user(2, 1).replace("Main Street", "Main\nStreet");
            vec![user(0, 1), nan, text, user(3, 1)]
        };
        Answer::ok(format!("{{\"results\":[{}],\"info\":{{\"next\":{}}}}}", users.join(","), if second { "null" } else { "2" }))
    });
    let cursor = "[fetcher.cursor]\nnext = \"/info/next\"\nparam = \"since\"";
    let job = Job::new("embedded", "embedded").fetching(&api.url, None).with(cursor);
    let summary = job.run_until_idle();
    let counts = ["fetched", "produced", "rejected", "written"].map(|key| summary[key].as_u64().unwrap());
    assert_eq!(counts, [7, 5, 2, 5], "{summary}");
    assert_eq!(api.asked(), ["/", "/?since=2"]);
    let running = job.start(&[], &[]);
    running.snapshot();
    let letters = letters(&job);
    let reasons: Vec<&str> = letters.iter().rev().map(|letter| letter["reason"].as_str().unwrap()).collect();
    assert!(reasons[0].contains("NaN is no JSON, at line 1, column "), "{reasons:?}");
    assert!(reasons[1].contains("control character"), "{reasons:?}");
    assert!(letters.iter().all(|letter| letter["stage"] == "produce"), "{letters:#?}");
    assert!(running.stop().success());
}

#[test]
fn a_record_too_large_is_a_truncated_dead_letter_and_the_fetch_continues() {
    let large = user(1, 1).replace("Main Street", &"x".repeat(1_200_000));
    let body = large.clone();
    let api = TestApi::by_path(move |_, path| {
        let second = path.contains("since=2");
        let users = if second { vec![user(10, 1)] } else { vec![user(0, 1), body.clone(), user(2, 1)] };
        Answer::ok(format!("{{\"results\":[{}],\"info\":{{\"next\":{}}}}}", users.join(","), if second { "null" } else { "2" }))
    });
    let cursor = "[fetcher.cursor]\nnext = \"/info/next\"\nparam = \"since\"";
    let job = Job::new("embedded", "embedded").fetching(&api.url, None).with(cursor);
    let summary = job.run_until_idle();
    let counts = ["fetched", "produced", "rejected", "written"].map(|key| summary[key].as_u64().unwrap());
    assert_eq!(counts, [4, 3, 1, 3], "{summary}");
    let running = job.start(&[], &[]);
    running.snapshot();
    let letters = letters(&job);
    assert_eq!((letters.len(), &letters[0]["record"]["key"]), (1, &support::user_id(1).into()));
    assert!(letters[0]["reason"].as_str().unwrap().contains("over producer.max_record_bytes"), "{:#}", letters[0]["reason"]);
    assert_eq!(header(&letters[0], "forebay-value-bytes"), large.len().to_string());
    assert_eq!(header(&letters[0], "forebay-value-cut"), "1000000");
    assert_eq!(header(&letters[0], "forebay-value-sha256").len(), 64);

    let end = job.forebay(&["dlq", "redrive", "--reason", "again", "--yes"]);
    assert!(end.status.success(), "{}", stderr(&end));
    assert!(String::from_utf8_lossy(&end.stdout).contains("0 records are in the topic again"), "{end:?}");
    assert!(stderr(&end).contains("1 dead letters remain: their value is truncated"), "{}", stderr(&end));
    assert!(running.stop().success());
}

/// Users `0..good`, then `bad` bad ones.
fn users(good: u32, bad: u32) -> Answer {
    page(&(0..good).map(|n| user(n, 1)).chain((good..good + bad).map(|n| bad_user(n, 1))).collect::<Vec<_>>())
}

/// Runs `forebay trigger --wait --json`; returns the run and the exit code.
fn trigger(job: &Job, args: &[&str]) -> (Value, i32) {
    let end = job.forebay(&[&["trigger", "--wait", "--json"], args].concat());
    let run = String::from_utf8_lossy(&end.stdout).lines().next().map(|line| serde_json::from_str(line).unwrap());
    (run.unwrap_or_else(|| panic!("{}", stderr(&end))), end.status.code().unwrap())
}

fn counts<const N: usize>(of: &Value, names: [&str; N]) -> [u64; N] {
    names.map(|name| of[name].as_u64().unwrap_or_else(|| panic!("no {name} in {of}")))
}

#[test]
fn a_run_with_only_rejected_records_exits_with_6_and_the_main_reason() {
    let api = TestApi::start(|_| users(0, 5));
    let job = Job::new("embedded", "embedded").fetching(&api.url, None);
    let running = job.start(&[], &[]);
    running.snapshot();
    let (run, code) = trigger(&job, &[]);
    assert_eq!(
        (&run["state"], &run["error"]["stage"], &run["error"]["retryable"], code),
        (&"failed".into(), &"rejected".into(), &false.into(), 6)
    );
    let message = run["error"]["message"].as_str().unwrap();
    assert!(message.starts_with("every record was rejected, 5 of 5; ") && message.contains("forebay dlq"), "{message}");
    assert!(!message.contains(support::BAD_DATE), "a reason quotes no value: {message}");
    assert_eq!(counts(&run["counts"], ["fetched", "produced", "rejected", "refused", "written"]), [5, 5, 5, 0, 0]);
    let rejects = run["rejects"].as_array().unwrap();
    assert_eq!((rejects.len(), &rejects[0]["count"]), (1, &5.into()), "{run}");
    assert!(message.contains(rejects[0]["reason"].as_str().unwrap()), "{message}");

    let look = running.snapshot();
    assert_eq!(look["rejects"], run["rejects"]);
    let status = job.forebay(&["status"]);
    let status = String::from_utf8_lossy(&status.stdout);
    assert!(status.contains("forebay dlq shows them") && status.contains(rejects[0]["reason"].as_str().unwrap()), "{status}");
    let log = running.log();
    assert!(log.contains("records became dead letters; forebay dlq shows them") && log.contains("date"), "{log}");
    assert_eq!(trigger(&job, &["--max-rejected", "100%"]).1, 0, "100% is allowed");
    assert!(running.stop().success());

    let other = Job::new("embedded", "embedded").fetching(&api.url, None);
    let end = other.forebay(&["run", "--until-idle", "--json"]);
    assert_eq!(end.status.code(), Some(6), "{}", stderr(&end));
    let lines: Vec<Value> = String::from_utf8_lossy(&end.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[0]["rejected"], 5);
    assert!(lines[1]["error"]["message"].as_str().unwrap().starts_with("every record was rejected, 5 of 5"), "{lines:?}");
}

#[test]
fn max_rejected_fails_a_run_by_number_share_and_pipeline_file() {
    let api = TestApi::start(|_| users(9, 1));
    let job = Job::new("embedded", "embedded").fetching(&api.url, None).with_fetcher("max_rejected = \"5%\"");
    let running = job.start(&[], &[]);
    running.snapshot();
    for (args, code) in [
        (&[][..], 6),
        (&["--max-rejected", "10%"], 0),
        (&["--max-rejected", "9.9%"], 6),
        (&["--max-rejected", "1"], 0),
        (&["--max-rejected", "0"], 6),
    ] {
        let (run, ended) = trigger(&job, args);
        assert_eq!(ended, code, "{args:?}: {run}");
        assert_eq!(counts(&run["counts"], ["fetched", "rejected", "written"]), [10, 1, 9]);
    }
    let wrong = job.forebay(&["trigger", "--max-rejected", "5 %"]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(stderr(&wrong).contains("a number of records such as 10, or a share such as 5%"), "{}", stderr(&wrong));
    assert!(running.stop().success());
    assert_eq!(job.forebay(&["run", "--until-idle"]).status.code(), Some(6), "the limit of the file applies");
    assert_eq!(job.forebay(&["run", "--until-idle", "--max-rejected", "1"]).status.code(), Some(0));
}

#[test]
fn the_counts_of_a_run_add_up_with_where_and_rejects_at_every_stage() {
    let api = TestApi::start(|_| {
        let keyless = user(50, 1).replace("\"uuid\"", "\"other\"");
        let nan = user(51, 1).replace("\"age\":30", "\"age\":NaN");
        page(&(0..20).map(|n| user(n, 1)).chain([keyless, nan, bad_user(52, 1)]).collect::<Vec<_>>())
    });
    let job = Job::new("embedded", "embedded")
        .fetching(&api.url, None)
        .with_sql("FROM users_stream", "FROM users_stream WHERE gender = 'female'");
    let running = job.start(&[], &[]);
    running.snapshot();
    let (run, code) = trigger(&job, &[]);
    assert_eq!(code, 0, "{run}");
    let names = ["pages", "fetched", "produced", "refused", "rejected", "filtered", "written", "rows"];
    assert_eq!(counts(&run["counts"], names), [1, 23, 21, 2, 3, 10, 10, 10]);
    assert!(run["counts"].get("elsewhere").is_none() && run["counts"].get("again").is_none(), "{run}");
    let stages: Vec<_> = run["rejects"].as_array().unwrap().iter().map(|each| each["stage"].as_str().unwrap()).collect();
    assert_eq!(stages.iter().filter(|stage| **stage == "produce").count(), 2, "{run}");
    let line = job.forebay(&["trigger", "--wait"]);
    let line = String::from_utf8_lossy(&line.stdout);
    assert!(line.contains("23 fetched, 21 produced, 10 filtered, 3 rejected, 10 written"), "{line}");
    assert!(running.stop().success());
}

#[test]
fn a_journaled_batch_counts_once_despite_a_kill_before_its_commit() {
    let api = TestApi::start(|_| users(40, 2));
    let job = Job::new("embedded", "embedded").fetching(&api.url, None).batches("{ max_records = 5 }", "8MiB");
    let running = job.start(&[], &[("FAILPOINTS", "consumer::before_commit=return(kill)")]);
    running.snapshot();
    job.forebay(&["trigger", "--key", "daily"]);
    running.end_by_kill("before a commit");
    let running = job.start(&[], &[]);
    running.snapshot();
    let (run, code) = trigger(&job, &["--key", "daily"]);
    assert_eq!(code, 0, "{run}");
    let of = &run["counts"];
    let [produced, rejected, written, rows] = counts(of, ["produced", "rejected", "written", "rows"]);
    // A page in flight during the crash is fetched and produced again, and counted.
    let again = of.get("again").and_then(Value::as_u64).unwrap_or(0);
    assert_eq!(of.get("elsewhere"), None, "{run}");
    assert_eq!((produced, written + rejected, rows), (42, 42 + again, written), "{run}");
    assert!(running.stop().success());
}

#[test]
fn a_pipeline_without_a_source_counts_consumed_records() {
    let fetched = TestApi::start(|_| users(3, 2));
    let ingest = Job::new("embedded", "embedded").fetching(&fetched.url, None);
    let running = ingest.start(&["--roles", "ingest,api"], &[]);
    running.snapshot();
    ingest.forebay(&["trigger"]);
    running.wait_until("everything is in the topic", |s| s["totals"]["produced"] == 5);
    assert!(running.stop().success());
    let job = ingest.without_fetching();
    let end = job.forebay(&["run", "--until-idle", "--max-rejected", "1"]);
    assert_eq!(end.status.code(), Some(6), "{}", stderr(&end));
    assert!(stderr(&end).contains("too many records were rejected, 2 of 5, and max_rejected is 1"), "{}", stderr(&end));
}

/// One dead letter of the SQL (user 3), two of the decoder (10 and 11) and one of the fetcher (12).
fn four_bad_of_seven() -> TestApi {
    TestApi::start(|_| {
        let nan = user(12, 1).replace("\"age\":30", "\"age\":NaN");
        page(&(0..4).map(|n| user(n, 1)).chain([bad_user(10, 1), bad_user(11, 1), nan]).collect::<Vec<_>>())
    })
}

/// The dead letters of `forebay dlq` with these flags.
fn selected(job: &Job, flags: &[&str]) -> Vec<Value> {
    let end = job.forebay(&[&["dlq", "--json"], flags].concat());
    assert!(end.status.success(), "{}", stderr(&end));
    String::from_utf8_lossy(&end.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn text(job: &Job, args: &[&str]) -> String {
    let end = job.forebay(args);
    assert!(end.status.success(), "{args:?}: {}", stderr(&end));
    format!("{}{}", String::from_utf8_lossy(&end.stdout), stderr(&end))
}

#[test]
fn dead_letters_are_selected_counted_by_reason_compared_redriven_and_dropped() {
    let api = four_bad_of_seven();
    let broken = "concat(email, CAST(10 / (location['street']['number'] - 3) AS TEXT)) AS email,";
    let job = Job::new("embedded", "embedded").fetching(&api.url, None).with_sql("email,", broken);
    let running = job.start(&[], &[]);
    running.snapshot();
    let (run, code) = trigger(&job, &["--max-rejected", "100%"]);
    assert_eq!((code, counts(&run["counts"], ["fetched", "rejected", "written"])), (0, [7, 4, 3]), "{run}");

    let reasons: Value = serde_json::from_slice(&job.forebay(&["dlq", "reasons", "--json"]).stdout).unwrap();
    assert_eq!(counts(&reasons, ["total", "read", "left_out"]), [4, 4, 0], "{reasons:#}");
    let of = |at: usize| (reasons["reasons"][at]["stage"].as_str().unwrap(), reasons["reasons"][at]["count"].as_u64().unwrap());
    assert_eq!(of(0), ("decode", 2), "the most frequent first: {reasons:#}");
    assert_eq!(reasons["reasons"].as_array().unwrap().len(), 3);
    assert!(!reasons["reasons"][0]["reason"].as_str().unwrap().contains(support::BAD_DATE), "a reason quotes no value: {reasons:#}");
    assert!(reasons["reasons"][0]["example"].as_str().unwrap().contains(support::BAD_DATE), "an example does: {reasons:#}");

    let of_sql = selected(&job, &["--stage", "transform"]);
    assert_eq!((of_sql.len(), &of_sql[0]["record"]["key"], &of_sql[0]["handled"]), (1, &support::user_id(3).into(), &false.into()));
    assert_eq!(selected(&job, &["--matching", "nan IS no"]).len(), 1, "in any case");
    assert_eq!(selected(&job, &["--key", &support::user_id(10)]).len(), 1);
    assert_eq!(selected(&job, &["--stage", "decode", "--key", &support::user_id(3)]).len(), 0);
    let position = format!("{}:{}", of_sql[0]["record"]["partition"], of_sql[0]["record"]["offset"]);
    let shown = text(&job, &["dlq", "show", &position]);
    assert!(shown.contains("\"forebay-stage\": \"transform\"") && shown.contains("Main Street"), "{shown}");
    let nothing = job.forebay(&["dlq", "show", "0:999"]);
    assert!(!nothing.status.success() && stderr(&nothing).contains("has no dead letter 0:999"), "{}", stderr(&nothing));

    let dropped = text(&job, &["dlq", "drop", "--matching", "NaN", "--reason", "a test of the API", "--yes"]);
    assert!(dropped.contains("done: 1 dead letters are dropped"), "{dropped}");
    assert_eq!(selected(&job, &["--matching", "NaN"])[0]["handled"], true);
    let plan = text(&job, &["dlq", "redrive", "--stage", "decode"]);
    assert!(plan.contains("those at decode, at most 2") && plan.contains("overwrites what was written for its key since"), "{plan}");

    let mended = job.with_sql("email,", "email,");
    let diff = text(&mended, &["dlq", "diff"]);
    assert!(diff.contains("first_name = First3") && diff.contains("+ decode: "), "{diff}");
    assert!(diff.contains("1 would be rows now, 0 filtered out by the SQL, 3 still no rows; all 4 of"), "{diff}");
    let filtered = mended.with_sql("FROM users_stream", "FROM users_stream WHERE gender = 'female'");
    let one: Value = serde_json::from_slice(&filtered.forebay(&["dlq", "diff", &position, "--json"]).stdout).unwrap();
    assert_eq!(one["letters"][0]["now"]["rows"], serde_json::json!([]), "user 3 is not: {one}");
    let candidate = filtered.dir().join("candidate.sql");
    let shadow = |sql: &str, flags: &[&str]| {
        std::fs::write(&candidate, sql).unwrap();
        filtered.forebay(&[&["shadow", "--sql", candidate.to_str().unwrap()], flags].concat())
    };
    let topic = &filtered.topic;
    let columns = "login['uuid'] AS id, name['first'] AS first_name";
    let end = shadow(&format!("SELECT {columns} FROM {topic} WHERE gender = 'female'"), &["--json"]);
    let found: Value = serde_json::from_slice(&end.stdout).unwrap();
    assert_eq!((end.status.code(), counts(&found, ["compared", "differing", "newly_rejected"])), (Some(1), [6, 2, 0]), "{found:#}");
    let end = shadow(&format!("SELECT {columns}, 1 / (location['street']['number'] - 2) AS n FROM {topic}"), &[]);
    let shown = format!("{}{}", String::from_utf8_lossy(&end.stdout), stderr(&end));
    assert!(shown.contains("6 records of") && shown.contains("4 differ") && shown.contains("1 newly rejected"), "{shown}");
    assert!(shown.contains("- no row: the SQL filters it out") && shown.contains("+ transform: "), "{shown}");
    let end = shadow("SELECT nothing FROM nowhere", &[]);
    assert!(end.status.code() == Some(1) && stderr(&end).contains("candidate.sql"), "{}", stderr(&end));
    assert!(running.stop().success());

    let mended = filtered.with_sql("email,", "email,");
    let running = mended.start(&[], &[]);
    running.snapshot();
    let done = text(&mended, &["dlq", "redrive", "--stage", "transform", "--reason", "the SQL is mended", "--yes"]);
    assert!(done.contains("done: 1 records are in the topic again"), "{done}");
    running.wait_until("the row is there", |s| s["totals"]["written"].as_u64() == Some(1));
    let done = text(&mended, &["dlq", "redrive", "--reason", "once more", "--yes"]);
    assert!(done.contains("done: 2 records are in the topic again"), "neither the redriven nor the dropped one: {done}");
    assert!(running.stop().success());
    let events = |kind| mended.events(kind).len();
    assert_eq!((events("LettersDropped"), events("LettersRedriven") > 1), (1, true));
}
