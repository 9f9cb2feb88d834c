//! Windows: a run for each part of a range of time, each with its own pages and cursor. Embedded;
//! needs no server.

#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod support;

use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::control_api::ControlApi;
use support::source_api::{Answer, TestApi, query_number, query_value};
use support::{Job, stderr, user};

/// Users of each day.
const USERS: u32 = 5;
/// Users on a page.
const SIZE: u32 = 2;

/// The users of a day or a shop, in pages with the cursors 2 and 4.
fn page_of(group: u32, path: &str) -> Answer {
    let from = query_number(path, "after").unwrap_or_default();
    let users: Vec<String> = (from..(from + SIZE).min(USERS)).map(|n| user(group * 100 + n, 1)).collect();
    let next = Some(from + SIZE).filter(|next| *next < USERS).map_or(Value::Null, Value::from);
    Answer::ok(format!("{{\"results\": [{}], \"next\": {next}}}", users.join(",")))
}

/// The users of the day that a request names.
fn page(path: &str) -> Answer {
    page_of(query_value(path, "from").unwrap().rsplit('-').next().unwrap().parse().unwrap(), path)
}

/// The requests of the days from the first to the last, each from its first page.
fn pages(days: std::ops::RangeInclusive<u32>) -> Vec<String> {
    let day = |day: u32| ["", "&after=2", "&after=4"].map(|after| format!("/?from=2026-01-{day:02}&to=2026-01-{:02}{after}", day + 1));
    days.flat_map(day).collect()
}

const LINES: &str = "query = { from = \"{{ window.start }}\", to = \"{{ window.end }}\" }\nwindow = { format = \"date\" }\n\
                     paging = { kind = \"cursor\", next = \"/next\", param = \"after\" }";
/// The first four days of January.
const DAYS: [&str; 10] = ["trigger", "--from", "2026-01-01", "--to", "2026-01-05", "--window", "1d", "--key", "january", "--wait"];

fn job(api: &TestApi) -> Job {
    Job::new("embedded", "embedded").fetching(&api.url, None).with_fetcher(LINES)
}

fn rows(job: &Job) -> u64 {
    job.query("SELECT count(*) AS n FROM users_stream")[0]["n"].as_u64().unwrap()
}

/// Runs a command that prints one object.
fn object(job: &Job, args: &[&str]) -> (Option<i32>, Value) {
    let end = job.forebay(&[args, &["--json"]].concat());
    let text = String::from_utf8_lossy(&end.stdout);
    (end.status.code(), serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text}\n{}", stderr(&end))))
}

#[test]
fn each_window_is_a_run_with_its_own_pages_and_cursor_and_none_is_read_twice() {
    let api = TestApi::by_path(|_, path| page(path));
    let job = job(&api);
    let running = job.start(&[], &[]);
    running.snapshot();
    let (code, summary) = object(&job, &DAYS);
    assert_eq!((code, &summary["windows"], &summary["requested"]), (Some(0), &json!(4), &json!(4)), "{summary}");
    assert_eq!((&summary["states"], summary.get("error")), (&json!({ "succeeded": 4 }), None));
    assert_eq!((api.asked(), rows(&job)), (pages(1..=4), u64::from(4 * USERS)), "each page once, each day from its first");
    let runs = summary["runs"].as_array().unwrap();
    assert_eq!(runs[1]["window"], json!({ "start": "2026-01-02T00:00:00Z", "end": "2026-01-03T00:00:00Z" }));
    assert_eq!((&runs[1]["key"], &runs[1]["counts"]["fetched"]), (&json!("january/2026-01-02T00:00:00Z"), &json!(USERS)));

    let again = job.forebay(&DAYS);
    let text = String::from_utf8_lossy(&again.stdout);
    assert!(again.status.success() && text.contains("4 windows: 4 succeeded; 0 requested now; 20 fetched"), "{text}\n{}", stderr(&again));
    let longer = DAYS.map(|word| if word == "2026-01-05" { "2026-01-07" } else { word });
    assert_eq!(object(&job, &longer).1["requested"], 2);
    assert_eq!(api.asked(), pages(5..=6), "only the windows that are new");
    let hours = DAYS.map(|word| if word == "1d" { "2d" } else { word });
    let wider = job.forebay(&hours);
    assert!(wider.status.code() == Some(1) && stderr(&wider).contains("other params, window"), "{}", stderr(&wider));

    let cursors = String::from_utf8_lossy(&job.forebay(&["cursor", "show"]).stdout).into_owned();
    assert_eq!((cursors.lines().count(), cursors.matches("\"4\"").count()), (6, 6), "{cursors}");
    let third = ["--from", "2026-01-03", "--to", "2026-01-04"];
    let one = String::from_utf8_lossy(&job.forebay(&[&["cursor", "show"], &third[..]].concat()).stdout).into_owned();
    assert!(one.starts_with("window=2026-01-03T00:00:00Z/2026-01-04T00:00:00Z  \"4\""), "{one}");
    let reset = [&["cursor", "reset"], &third[..], &["--reason", "corrected", "--yes"]].concat();
    assert!(job.forebay(&reset).status.success());
    let new = DAYS.map(|word| if word == "january" { "corrected" } else { word });
    assert_eq!(object(&job, &new).1["requested"], 4);
    let last = |day: u32| pages(day..=day).pop().unwrap();
    assert_eq!(api.asked(), [vec![last(1), last(2)], pages(3..=3), vec![last(4)]].concat(), "the reset window alone starts over");
    let shown = String::from_utf8_lossy(&job.forebay(&["runs", "--limit", "1"]).stdout).into_owned();
    assert!(shown.contains("window 2026-01-04T00:00:00Z/2026-01-05T00:00:00Z"), "{shown}");
    assert!(running.stop().success());
}

#[test]
fn killed_in_the_middle_and_repeated_the_command_gets_the_rest() {
    let api = TestApi::by_path(|_, path| page(path));
    let job = job(&api).with_fetcher(&format!("fetch_ahead = 0\n{LINES}"));
    let running = job.start(&[], &[("FAILPOINTS", "fetcher::after_fetch=4*off->return(kill)")]);
    running.snapshot();
    assert_eq!(job.forebay(&DAYS).status.code(), Some(3), "the pipeline is gone");
    running.end_by_kill("after the second page of the second day");
    assert_eq!(api.asked(), pages(1..=2)[..5]);
    let running = job.start(&[], &[]);
    running.snapshot();
    let (code, summary) = object(&job, &DAYS);
    assert_eq!((code, &summary["states"]), (Some(0), &json!({ "succeeded": 4 })), "{summary}");
    assert_eq!((api.asked(), rows(&job)), (pages(1..=4)[4..].to_vec(), u64::from(4 * USERS)), "only the page that was not in Kafka");
    assert!(running.stop().success());
}

#[test]
fn windows_are_read_side_by_side_each_with_its_own_cursor_and_a_kill_loses_none() {
    let (now, most) = (AtomicU32::new(0), Arc::new(AtomicU32::new(0)));
    let seen = Arc::clone(&most);
    let api = TestApi::side_by_side(move |path| {
        seen.fetch_max(now.fetch_add(1, SeqCst) + 1, SeqCst);
        // The first requests wait for each other; a lack of them is found by the test.
        let until = Instant::now() + Duration::from_secs(10);
        while seen.load(SeqCst) < 3 && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(5));
        }
        now.fetch_sub(1, SeqCst);
        page(path)
    });
    let job = job(&api).with_fetcher(&format!("fetch_ahead = 0\nmax_active_runs = 3\n{LINES}"));
    let running = job.start(&[], &[("FAILPOINTS", "fetcher::after_fetch=5*off->return(kill)")]);
    running.snapshot();
    assert_eq!(job.forebay(&DAYS).status.code(), Some(3), "the pipeline is gone");
    running.end_by_kill("in the middle of three days");
    let before = api.asked();
    let running = job.start(&[], &[]);
    running.snapshot();
    let (code, summary) = object(&job, &DAYS);
    assert_eq!((code, &summary["states"]), (Some(0), &json!({ "succeeded": 4 })), "{summary}");
    assert_eq!((most.load(SeqCst), rows(&job)), (3, u64::from(4 * USERS)));
    let mut all = [before, api.asked()].concat();
    let repeated = all.len() - pages(1..=4).len();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all, pages(1..=4), "each page of each day");
    assert!(repeated <= 3, "{repeated} pages are requested again: at most one of each day under way");
    assert!(running.stop().success());
}

#[test]
fn a_window_that_failed_is_requested_again_by_the_same_command_and_the_others_are_not() {
    let refused = std::sync::atomic::AtomicBool::new(true);
    let api = TestApi::by_path(move |_, path| {
        if path.starts_with("/?from=2026-01-03") && refused.swap(false, std::sync::atomic::Ordering::SeqCst) {
            return Answer::of("400 Bad Request", "no such day");
        }
        page(path)
    });
    let job = job(&api);
    let running = job.start(&[], &[]);
    running.snapshot();
    let (code, summary) = object(&job, &DAYS);
    assert_eq!((code, &summary["states"]), (Some(1), &json!({ "failed": 1, "succeeded": 3 })));
    let error = summary["error"].as_str().unwrap();
    assert!(error.starts_with("1 of 4 windows did not succeed; 2026-01-03") && error.contains("no such day"), "{error}");
    api.asked();
    let again = job.forebay(&DAYS);
    assert!(again.status.success() && stderr(&again).contains("window 3 of 4: run "), "{}", stderr(&again));
    assert_eq!((api.asked(), rows(&job)), (pages(3..=3), u64::from(4 * USERS)));
    let (_, summary) = object(&job, &DAYS);
    assert_eq!((&summary["requested"], &summary["runs"][2]["attempt"]), (&json!(0), &json!(2)), "the second attempt is found");
    assert!(running.stop().success());
}

#[test]
fn a_run_has_a_window_exactly_if_the_requests_name_it() {
    let api = TestApi::by_path(|_, path| page(path));
    let job = job(&api);
    let check = stderr(&job.forebay(&["check"]));
    assert!(check.contains("each run needs a window"), "{check}");
    let end = job.forebay(&["run", "--until-idle"]);
    assert!(end.status.code() == Some(1) && stderr(&end).contains("`forebay trigger --from DATE"), "{}", stderr(&end));
    let (code, dry) = object(&job, &["fetch", "--dry-run", "--from", "2026-01-01", "--to", "2026-01-02"]);
    assert_eq!((code, &dry["request"]["url"]), (Some(0), &json!(format!("{}?from=2026-01-01&to=2026-01-02", api.url))));
    let scheduled = Job::new("embedded", "embedded").fetching(&api.url, Some("1h")).with_fetcher(LINES).forebay(&["check"]);
    assert!(scheduled.status.code() == Some(2) && stderr(&scheduled).contains("a scheduled fetch has no window"), "{}", stderr(&scheduled));
    let running = job.start(&[], &[]);
    running.snapshot();
    let http = ControlApi::new(running.url());
    let put = |key: &str, window: &Value| http.put(&format!("/v1/pipelines/users/runs/{key}"), &json!({ "window": window }).to_string());
    let day = |start: &str, end: &str| json!({ "start": start, "end": end });
    http.put("/v1/pipelines/users/runs/k", "").problem(422, "run.window");
    put("k", &day("2026-01-01T06:00:00Z", "2026-01-02T00:00:00Z")).problem(422, "run.window");
    put("k", &day("2026-01-02T00:00:00Z", "2026-01-02T00:00:00Z")).problem(422, "run.spec");
    put("k", &day("2026-01-01", "2026-01-02T00:00:00Z")).problem(400, "body");
    let made = put("k", &day("2026-01-01T01:00:00+01:00", "2026-01-02T00:00:00Z"));
    assert_eq!((made.status, &made.body["window"]), (201, &day("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z")));
    assert_eq!(put("k", &day("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z")).status, 200, "it is the same window");
    put("k", &day("2026-01-01T00:00:00Z", "2026-01-03T00:00:00Z")).problem(422, "run.payload_mismatch");
    let alone = job.forebay(&["trigger", "--wait"]);
    assert!(alone.status.code() == Some(1) && stderr(&alone).contains("--from DATE"), "{}", stderr(&alone));
    for args in [&["--from", "2026-01-01"][..], &["--window", "1d"], &["--from", "2026-01-01", "--to", "2026-01-02"]] {
        let end = job.forebay(&[&["trigger"], args].concat());
        assert!(end.status.code() == Some(2) && stderr(&end).contains("were not provided"), "{}", stderr(&end));
    }
    assert!(running.stop().success());

    let plain = Job::new("embedded", "embedded").fetching(&format!("{}?from=2026-01-01", api.url), None);
    let running = plain.start(&[], &[]);
    running.snapshot();
    let end = plain.forebay(&DAYS);
    assert!(end.status.code() == Some(1) && stderr(&end).contains("would read everything"), "{}", stderr(&end));
    assert!(running.stop().success());
}

#[test]
fn a_run_for_each_value_has_its_own_pages_and_the_command_resumes() {
    let api = TestApi::by_path(|_, path| page_of(query_number(path, "shop").unwrap(), path));
    let lines = "params = [\"shop\"]\npaging = { kind = \"cursor\", next = \"/next\", param = \"after\" }";
    let job = Job::new("embedded", "embedded").fetching(&api.url, None).with_fetcher(lines);
    let running = job.start(&[], &[]);
    running.snapshot();
    let (code, summary) = object(&job, &["trigger", "--each", "shop=7,8", "--key", "nightly", "--wait"]);
    assert_eq!((code, &summary["requested"], &summary["states"]), (Some(0), &json!(2), &json!({ "succeeded": 2 })), "{summary}");
    assert_eq!(summary["runs"][1]["key"], "nightly/8");
    let file = job.dir().join("shops.txt");
    std::fs::write(&file, "7\n8\n9\n").unwrap();
    let values = format!("shop=@{}", file.display());
    let again = job.forebay(&["trigger", "--each", &values, "--key", "nightly", "--wait"]);
    let text = String::from_utf8_lossy(&again.stdout);
    assert!(again.status.success() && text.contains("3 runs: 3 succeeded; 1 requested now; 15 fetched"), "{text}\n{}", stderr(&again));
    assert_eq!((api.asked().len(), rows(&job)), (9, 15), "each page once");
    let both = job.forebay(&["trigger", "--each", "shop=7", "--param", "shop=8"]);
    assert!(both.status.code() == Some(2) && stderr(&both).contains("both --each and --param set"), "{}", stderr(&both));
    assert!(running.stop().success());
}
