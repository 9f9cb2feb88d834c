//! Fetches that ask only for what is new: since a watermark, or since the last answer. Embedded;
//! needs no server.

#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::Value;
use support::source_api::{Answer, TestApi, query_value};
use support::{Job, user};

/// Users on a page.
const SIZE: usize = 2;

/// The users of the API: the version of each, and when it changed.
type Users = Arc<Mutex<BTreeMap<u32, (u32, &'static str)>>>;

/// A page of the users that changed at a moment or after it.
fn page(users: &Users, path: &str) -> Answer {
    let since = query_value(path, "since").unwrap_or_default().replace("%3A", ":");
    let number: usize = query_value(path, "page").unwrap().parse().unwrap();
    let users = users.lock();
    let changed = users.iter().filter(|(_, (_, at))| *at >= since.as_str());
    let records = changed.skip((number - 1) * SIZE).take(SIZE).map(|(&n, &(version, at))| {
        let mut record: Value = serde_json::from_str(&user(n, version)).unwrap();
        record["updated_at"] = at.into();
        record.to_string()
    });
    Answer::ok(format!("{{\"results\":[{}]}}", records.collect::<Vec<_>>().join(",")))
}

fn api(users: &Users) -> (TestApi, Job) {
    let users = Arc::clone(users);
    let api = TestApi::by_path(move |_, path| page(&users, path));
    let lines = "fetch_ahead = 0\npaging = { kind = \"page\", param = \"page\", size = 2 }\n\
                 incremental = { field = \"/updated_at\", param = \"since\" }";
    let job = Job::new("embedded", "embedded").fetching(&api.url, None).with_fetcher(lines);
    (api, job)
}

fn five() -> Users {
    let at = ["2026-01-01T00:00:00Z", "2026-01-01T00:00:01Z", "2026-01-01T00:00:02Z", "2026-01-01T00:00:03Z", "2026-01-01T00:00:04Z"];
    Arc::new(Mutex::new((0..).zip(at.map(|at| (1, at))).collect()))
}

/// The first requests of the fetches, without their pages.
fn first_pages(asked: &[String]) -> Vec<String> {
    let of_first = asked.iter().filter(|path| query_value(path, "page") == Some("1"));
    of_first.map(|path| query_value(path, "since").unwrap_or("everything").replace("%3A", ":")).collect()
}

/// Reads the API once, changes every user, and kills the next fetch at its third page.
fn kill_between_pages(users: &Users, job: &Job) {
    job.run_until_idle();
    for n in 0..5 {
        users.lock().insert(n, (2, "2026-01-02T00:00:00Z"));
    }
    let killed = job.forebay_with(&["run", "--until-idle"], &[("FAILPOINTS", "fetcher::after_fetch=2*off->return(kill)")]);
    assert_eq!(killed.status.code(), None, "it is killed at its third page");
}

fn rows(job: &Job) -> Vec<Value> {
    job.query("SELECT id, last_name FROM users_stream")
}

#[test]
fn each_fetch_asks_from_the_watermark_and_no_record_is_in_the_topic_twice() {
    let users = five();
    let (api, job) = api(&users);
    let first = job.run_until_idle();
    assert_eq!((&first["fetched"], &first["produced"]), (&5.into(), &5.into()), "{first:#}");
    let second = job.run_until_idle();
    assert_eq!((&second["fetched"], &second["produced"]), (&5.into(), &0.into()), "they are in the overlap: {second:#}");
    users.lock().insert(2, (2, "2026-01-01T00:10:00Z"));
    let third = job.run_until_idle();
    assert_eq!((&third["fetched"], &third["produced"]), (&5.into(), &1.into()), "{third:#}");
    let fourth = job.run_until_idle();
    assert_eq!((&fourth["fetched"], &fourth["produced"]), (&1.into(), &0.into()), "{fourth:#}");
    let before = "2025-12-31T23:59:04Z";
    assert_eq!(first_pages(&api.asked()), ["everything", before, before, "2026-01-01T00:09:00Z"]);
    let rows = rows(&job);
    assert_eq!((rows.len(), rows.iter().filter(|row| row["last_name"] == "Last2").count()), (5, 1), "{rows:?}");
    let shown = String::from_utf8_lossy(&job.forebay(&["cursor", "show"]).stdout).into_owned();
    assert!(shown.starts_with("(no params)  watermark 2026-01-01T00:10:00Z  moved "), "{shown}");
}

#[test]
fn killed_between_two_pages_a_fetch_goes_on_with_what_it_asked_for() {
    let users = five();
    let (api, job) = api(&users);
    kill_between_pages(&users, &job);
    job.run_until_idle();
    let asked: Vec<_> = api
        .asked()
        .iter()
        .skip(3)
        .map(|path| (query_value(path, "page").unwrap().to_owned(), query_value(path, "since").is_some()))
        .collect();
    let pages = ["1", "2", "3", "3"].map(|page| (page.to_owned(), true));
    assert_eq!(asked[..4], pages, "it asks for the third page again, and for none before it");
    assert!(rows(&job).iter().all(|row| row["last_name"] == "Last2"));
    let moved = job.events("WatermarkMoved");
    assert_eq!(moved.last().unwrap()["data"]["at"], "2026-01-02T00:00:00Z", "{moved:#?}");
}

#[test]
fn a_reset_in_the_middle_begins_the_fetch_again_behind_the_same_watermark() {
    let users = five();
    let (api, job) = api(&users);
    kill_between_pages(&users, &job);
    assert!(job.forebay(&["cursor", "reset", "--reason", "the page has gone", "--yes"]).status.success());
    job.run_until_idle();
    let since = "2025-12-31T23:59:04Z";
    assert_eq!(first_pages(&api.asked()), ["everything", since, since]);
    assert!(rows(&job).iter().all(|row| row["last_name"] == "Last2"));
}

#[test]
fn a_dry_run_asks_as_the_first_fetch_does_and_finds_a_wrong_field() {
    let users = five();
    let (api, _) = api(&users);
    let dry_run = |field: &str| {
        let lines = format!(
            "paging = {{ kind = \"page\", param = \"page\" }}\n\
             incremental = {{ field = \"{field}\", param = \"since\", start = \"2026-01-01T00:00:03Z\" }}"
        );
        let job = Job::new("embedded", "embedded").fetching(&api.url, None).with_fetcher(&lines);
        serde_json::from_slice::<Value>(&job.forebay(&["fetch", "--dry-run", "--json"]).stdout).unwrap()
    };
    let good = dry_run("/updated_at");
    assert!(good["request"]["url"].as_str().unwrap().contains("since=2026-01-01T00%3A00%3A03Z"), "{good:#}");
    assert!(good["answer"]["records"] == 2 && good["rule"].as_str().unwrap().contains("begins at 2026-01-01T00:00:03Z"), "{good:#}");
    let wrong = dry_run("/changed_at");
    assert!(wrong["error"].as_str().unwrap().contains("the watermark would never move"), "{wrong:#}");
}

#[test]
fn an_answer_that_has_not_changed_is_not_sent_again_even_after_a_restart() {
    let version = Arc::new(Mutex::new(1));
    let (answers, of_api) = (Arc::clone(&version), Arc::new(Mutex::new(Vec::new())));
    let seen = Arc::clone(&of_api);
    let api = TestApi::by_request(move |_, _, headers| {
        let condition = headers.iter().find_map(|line| line.to_ascii_lowercase().strip_prefix("if-none-match: ").map(str::to_owned));
        seen.lock().push(condition.clone());
        let version = *answers.lock();
        match condition {
            Some(tag) if tag == format!("\"{version}\"") => Answer::of("304 Not Modified", ""),
            _ => Answer::ok(format!("{{\"results\":[{}]}}", user(1, version))).with(&format!("ETag: \"{version}\"")),
        }
    });
    let job = Job::new("embedded", "embedded").fetching(&api.url, None).with_fetcher("conditional = true");
    let fetched = |job: &Job| job.run_until_idle()["fetched"].as_u64().unwrap();
    assert_eq!([fetched(&job), fetched(&job)], [1, 0]);
    *version.lock() = 2;
    assert_eq!([fetched(&job), fetched(&job)], [1, 0]);
    let conditions = of_api.lock().clone();
    assert_eq!(conditions, [None, Some("\"1\"".to_owned()), Some("\"1\"".to_owned()), Some("\"2\"".to_owned())]);
    assert_eq!(job.query("SELECT last_name FROM users_stream")[0]["last_name"], "Last2");
}
