//! Reads and cursors: params, runs that read again, cursors that are set. Embedded; needs no
//! server.

#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod support;

use std::process::Output;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use serde_json::{Value, json};
use support::control_api::ControlApi;
use support::source_api::{Answer, TestApi};
use support::{Job, Running, stderr, user};

/// Users on a page.
const PAGE: u32 = 10;
/// Users of a day.
const DAY: u32 = 30;

/// A request to the API of days.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ask {
    /// 0 without the param.
    day: u32,
    since: u32,
}

fn ask(path: &str) -> Ask {
    let of = |name: &str| path.split(['?', '&']).find_map(|pair| pair.strip_prefix(name)?.parse().ok()).unwrap_or(0);
    Ask { day: of("day="), since: of("since=") }
}

/// A page of the users of a day, in a version, with the number of users before the next page, if
/// any.
fn page(Ask { day, since }: Ask, version: u32) -> Answer {
    let users: Vec<_> = (since..(since + PAGE).min(DAY)).map(|n| user(day * 1_000 + n, version)).collect();
    let next = if since + PAGE < DAY { json!(since + PAGE) } else { Value::Null };
    Answer::ok(format!("{{\"results\":[{}],\"info\":{{\"next\":{next}}}}}", users.join(",")))
}

/// An API of days whose users have the version that the test sets, and a job that fetches from it.
fn days(version: &Arc<AtomicU32>) -> (TestApi, Job) {
    let version = Arc::clone(version);
    let api = TestApi::by_path(move |_, path| page(ask(path), version.load(Ordering::SeqCst)));
    let job = job(&api);
    (api, job)
}

const FETCHER: &str = "params = [\"day\"]\ncursor = { next = \"/info/next\", param = \"since\" }";

fn job(api: &TestApi) -> Job {
    Job::new("embedded", "embedded").fetching(&api.url, None).with_fetcher(FETCHER)
}

fn up(job: &Job, env: &[(&str, &str)]) -> Running {
    let running = job.start(&[], env);
    running.wait_until("the topic exists", |s| !s["partitions"].as_array().unwrap().is_empty());
    running
}

/// Requests a run, waits for its end, and returns it.
#[track_caller]
fn run(job: &Job, args: &[&str]) -> Value {
    let end = job.forebay(&[&["trigger", "--wait", "--json"], args].concat());
    assert!(end.status.success(), "{}", stderr(&end));
    serde_json::from_slice(&end.stdout).unwrap()
}

fn asked(api: &TestApi) -> Vec<(u32, u32)> {
    api.asked().iter().map(|path| ask(path)).map(|Ask { day, since }| (day, since)).collect()
}

fn pages(day: u32) -> Vec<(u32, u32)> {
    [0, 10, 20].map(|since| (day, since)).to_vec()
}

/// Number of rows by version.
fn versions(job: &Job) -> Vec<(String, u64)> {
    let rows = job.query("SELECT last_name AS version, count(*) AS n FROM users_stream GROUP BY last_name ORDER BY last_name");
    rows.iter().map(|row| (row["version"].as_str().unwrap().to_owned(), row["n"].as_u64().unwrap())).collect()
}

fn out(end: &Output) -> String {
    assert!(end.status.success(), "{}", stderr(end));
    String::from_utf8_lossy(&end.stdout).into_owned()
}

#[test]
fn each_set_of_params_is_a_read_of_its_own_with_all_its_pages() {
    let (api, job) = days(&Arc::new(AtomicU32::new(1)));
    let running = up(&job, &[]);
    for day in [1, 2] {
        let run = run(&job, &["--param", &format!("day={day}")]);
        assert_eq!((&run["counts"]["fetched"], asked(&api)), (&json!(DAY), pages(day)));
    }
    assert_eq!((run(&job, &[])["counts"]["fetched"].as_u64(), asked(&api)), (Some(DAY.into()), pages(0)));
    run(&job, &["--param", "day=1"]);
    assert_eq!(asked(&api), [(1, 20)], "another run of a read continues at its cursor");
    assert_eq!(versions(&job), [("Last1".to_owned(), u64::from(3 * DAY))]);
    let source = running.snapshot()["source"].clone();
    assert_eq!((&source["reads"], &source["cursors"][0]["read"], &source["cursor"]), (&json!(3), &json!(""), &json!("20")));
    let status = out(&job.forebay(&["status"]));
    assert!(status.contains("3 reads; last advanced: no params at \"20\", day=2 at \"20\""), "{status}");
    assert!(running.stop().success());
    let plan = out(&job.forebay(&["plan"]));
    assert!(plan.contains("continues with since=20, 2 reads with params have their own cursors"), "{plan}");
}

#[test]
fn a_cleared_task_reads_the_same_pages_again_and_keeps_the_cursor() {
    let version = Arc::new(AtomicU32::new(1));
    let (api, job) = days(&version);
    let running = up(&job, &[]);
    let attempt = |attempt: &str, more: &[&str]| run(&job, &[&["--key", "daily", "--attempt", attempt], more].concat());
    attempt("1", &[]);
    assert_eq!(asked(&api), pages(0));
    version.store(2, Ordering::SeqCst);
    let cleared = attempt("2", &[]);
    assert_eq!((&cleared["again"], &cleared["began"], asked(&api)), (&json!(true), &json!("begin"), pages(0)));
    assert_eq!(versions(&job), [("Last2".to_owned(), u64::from(DAY))], "the corrected names are in the table");
    version.store(3, Ordering::SeqCst);
    attempt("3", &["--read", "continue"]);
    assert_eq!(asked(&api), [(0, 20)], "--read continue continues");
    attempt("4", &["--read", "again"]);
    assert_eq!((asked(&api), versions(&job)), (pages(0), vec![("Last3".to_owned(), u64::from(DAY))]));
    run(&job, &[]);
    assert_eq!(asked(&api), [(0, 20)], "reading again does not move the cursor");
    assert!(running.stop().success());
}

#[test]
fn a_run_killed_while_reading_again_continues_at_its_own_page() {
    let (api, job) = days(&Arc::new(AtomicU32::new(1)));
    let job = job.with_fetcher(&format!("fetch_ahead = 0\n{FETCHER}"));
    let running = up(&job, &[("FAILPOINTS", "fetcher::after_fetch=4*off->return(kill)")]);
    run(&job, &["--key", "daily"]);
    let again = ["trigger", "--key", "daily", "--attempt", "2", "--wait", "--json"];
    assert!(!job.forebay(&again).status.success(), "the process that runs it is gone");
    running.end_by_kill("after the second page arrived again");
    assert_eq!(asked(&api), [pages(0), vec![(0, 0), (0, 10)]].concat());
    let running = up(&job, &[]);
    let ended: Value = serde_json::from_str(&out(&job.forebay(&again))).unwrap();
    assert_eq!((asked(&api), &ended["counts"]["fetched"]), (vec![(0, 10), (0, 20)], &json!(DAY)));
    assert!(running.stop().success());
}

#[test]
fn cursors_are_shown_and_set_online_and_offline_and_journaled() {
    let (api, job) = days(&Arc::new(AtomicU32::new(1)));
    let show = |more: &[&str]| -> Vec<(String, String)> {
        let text = out(&job.forebay(&[&["cursor", "show", "--json"], more].concat()));
        let view = |line: &str| serde_json::from_str::<Value>(line).unwrap();
        let pair = |view: Value| (view["read"].as_str().unwrap().to_owned(), view["cursor"].as_str().unwrap().to_owned());
        text.lines().map(view).map(pair).collect()
    };
    let at = |read: &str, cursor: &str| (read.to_owned(), cursor.to_owned());
    assert_eq!(show(&[]), [], "before there is a journal");
    let running = up(&job, &[]);
    run(&job, &["--param", "day=1"]);
    run(&job, &[]);
    assert_eq!(show(&[]), [at("", "20"), at("day=1", "20")]);
    assert_eq!(show(&["--param", "day=1"]), [at("day=1", "20")]);

    let reset = ["cursor", "reset", "--param", "day=1"];
    let dry = out(&job.forebay(&reset));
    assert!(dry.contains("the read of day=1: from cursor \"20\" to the start") && show(&["--param", "day=1"]).len() == 1, "{dry}");
    assert_eq!(job.forebay(&[&reset[..], &["--yes"]].concat()).status.code(), Some(2), "a reason is required");
    out(&job.forebay(&[&reset[..], &["--reason", "corrected at the source", "--yes"]].concat()));
    assert_eq!(show(&[]), [at("", "20")]);
    asked(&api);
    run(&job, &["--param", "day=1"]);
    assert_eq!(asked(&api), pages(1), "the next fetch of the read starts over");
    let wrong = job.forebay(&["cursor", "reset", "--param", "nat=ch"]);
    assert!(!wrong.status.success() && stderr(&wrong).contains("no run can set \"nat\""), "{}", stderr(&wrong));
    assert!(running.stop().success());

    let set = ["cursor", "set", "10"];
    let dry = job.forebay(&set);
    assert!(stderr(&dry).contains("dry run: nothing was changed") && show(&[]).contains(&at("", "20")), "{}", stderr(&dry));
    out(&job.forebay(&[&set[..], &["--reason", "its second page again", "--yes"]].concat()));
    assert!(show(&[]).contains(&at("", "10")));
    let nothing = job.forebay(&[&set[..], &["--reason", "once more", "--yes"]].concat());
    assert!(out(&nothing).contains("already") && stderr(&nothing).contains("nothing to do"));
    job.run_until_idle();
    assert_eq!(asked(&api), [(0, 10), (0, 20)]);
    let acts: Vec<_> = job.events("CursorSet").into_iter().map(|event| event["data"].clone()).collect();
    let act = |read: &str, from: &str, to: Value, by: &str, reason: &str| json!({ "read": read, "from": { "cursor": from }, "to": to, "by": by, "reason": reason });
    assert_eq!(
        acts,
        [
            act("day=1", "20", json!("begin"), "admin", "corrected at the source"),
            act("", "20", json!({ "cursor": "10" }), "forebay cursor", "its second page again"),
        ]
    );
}

#[test]
fn a_changed_url_is_a_new_source_whose_reads_start_over() {
    let (api, job) = days(&Arc::new(AtomicU32::new(1)));
    job.run_until_idle();
    assert_eq!(asked(&api), pages(0));
    let other = job.fetching(&format!("{}?limit=20", api.url), None);
    let plan = out(&other.forebay(&["plan"]));
    assert!(plan.contains("source changed: its reads continue"), "{plan}");
    assert!(stderr(&other.forebay(&["cursor", "show"])).contains("every read is at its start"));
    other.run_until_idle();
    assert_eq!(asked(&api), pages(0));
    let back = other.fetching(&api.url, None);
    back.run_until_idle();
    assert_eq!(asked(&api), [(0, 20)], "changed back, it continues where it was");
}

#[test]
fn a_cursor_reset_during_a_fetch_stays_reset() {
    let (came, go_on) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let api = {
        let (came, go_on) = (Arc::clone(&came), Arc::clone(&go_on));
        TestApi::by_path(move |_, path| {
            if ask(path).since == 10 {
                came.store(true, Ordering::SeqCst);
                wait_for(&go_on);
            }
            page(ask(path), 1)
        })
    };
    let job = job(&api);
    let running = up(&job, &[]);
    out(&job.forebay(&["trigger", "--key", "k"]));
    wait_for(&came);
    let is_at_start = || stderr(&job.forebay(&["cursor", "show"])).contains("every read is at its start");
    while is_at_start() {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    out(&job.forebay(&["cursor", "reset", "--reason", "from the begin", "--yes"]));
    go_on.store(true, Ordering::SeqCst);
    assert_eq!(run(&job, &["--key", "k"])["counts"]["fetched"], DAY, "the fetch in progress continues where it is");
    assert!(is_at_start());
    asked(&api);
    run(&job, &[]);
    assert_eq!(asked(&api), pages(0));
    assert!(running.stop().success());
}

fn wait_for(flag: &AtomicBool) {
    let until = std::time::Instant::now() + support::TIMEOUT;
    while !flag.load(Ordering::SeqCst) {
        assert!(std::time::Instant::now() < until, "timed out");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

#[test]
fn a_cursor_rejected_by_the_source_is_reported_with_the_remedy() {
    let expired = Arc::new(AtomicBool::new(false));
    let api = {
        let expired = Arc::clone(&expired);
        TestApi::by_path(move |_, path| match ask(path) {
            Ask { since: 20, .. } if expired.load(Ordering::SeqCst) => Answer::of("410 Gone", "cursor expired"),
            ask => page(ask, 1),
        })
    };
    let job = job(&api);
    let running = up(&job, &[]);
    run(&job, &["--param", "day=1"]);
    expired.store(true, Ordering::SeqCst);
    let end = job.forebay(&["trigger", "--wait", "--param", "day=1"]);
    assert_eq!(end.status.code(), Some(1));
    let stderr = stderr(&end);
    assert!(stderr.contains("answered 410 Gone to cursor \"20\": cursor expired"), "{stderr}");
    assert!(stderr.contains("`forebay cursor reset --param day=1`"), "{stderr}");
    out(&job.forebay(&["cursor", "reset", "--param", "day=1", "--reason", "it expired", "--yes"]));
    expired.store(false, Ordering::SeqCst);
    asked(&api);
    run(&job, &["--param", "day=1"]);
    assert_eq!(asked(&api), pages(1));
    assert!(running.stop().success());
}

#[test]
fn the_api_lists_and_sets_cursors_and_refuses_unreadable_ones() {
    let (_api, job) = days(&Arc::new(AtomicU32::new(1)));
    let running = up(&job, &[]);
    let http = ControlApi::new(running.url());
    run(&job, &["--param", "day=1"]);
    let cursors = http.get("/v1/cursors").body;
    assert_eq!((&cursors["total"], &cursors["cursors"][0]["cursor"]), (&json!(1), &json!("20")));
    let plans = "/v1/pipelines/users/plans";
    let plan = |params: Value, to: Value| http.post(plans, &json!({ "action": "cursor", "params": params, "to": to }).to_string());
    plan(json!({ "nat": "ch" }), json!("begin")).problem(422, "plan.spec");
    plan(json!({}), json!({ "cursor": "" })).problem(422, "plan.spec");
    plan(json!({}), json!({ "cursor": "x".repeat(5_000) })).problem(422, "plan.spec");
    plan(json!({}), json!("end")).problem(400, "body");
    http.put("/v1/pipelines/users/runs/k", "{\"read\": \"once\"}").problem(400, "body");
    let made = plan(json!({ "day": "1" }), json!("begin"));
    assert_eq!(made.status, 201);
    let apply = format!("/v1/plans/{}/apply", made.body["id"].as_str().unwrap());
    http.post(&apply, &json!({ "hash": made.body["hash"], "reason": "" }).to_string()).problem(422, "reason");
    assert_eq!(http.post(&apply, &json!({ "hash": made.body["hash"], "reason": "why" }).to_string()).status, 200);
    assert_eq!(http.get("/v1/cursors").body["total"], 0);
    assert!(running.stop().success());
}
