//! Reads over the whole program, embedded: an API whose pages are filtered by a param, runs that read again, cursors that are set. No
//! server.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod support;

use std::process::Output;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use serde_json::{Value, json};
use support::control_api::Http;
use support::source_api::{Answer, TestApi};
use support::{Job, Running, said, user};

/// Users on a page.
const PAGE: u32 = 10;
/// Users of a day.
const DAY: u32 = 30;

/// What a request of the API of days asks for.
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

/// A page of the users of a day, in a version, and the number of users before the next page; none after the last.
fn page(Ask { day, since }: Ask, version: u32) -> Answer {
    let users: Vec<_> = (since..(since + PAGE).min(DAY)).map(|n| user(day * 1_000 + n, version)).collect();
    let next = if since + PAGE < DAY { json!(since + PAGE) } else { Value::Null };
    Answer::ok(format!("{{\"results\":[{}],\"info\":{{\"next\":{next}}}}}", users.join(",")))
}

/// An API of days whose users are in a version that the test chooses, and a job that fetches from it.
fn days(version: &Arc<AtomicU32>) -> (TestApi, Job) {
    let version = Arc::clone(version);
    let api = TestApi::answering(move |_, path| page(ask(path), version.load(Ordering::SeqCst)));
    let job = job(&api);
    (api, job)
}

fn job(api: &TestApi) -> Job {
    let lines = "params = [\"day\"]\ncursor = { next = \"/info/next\", param = \"since\" }";
    Job::new("embedded", "embedded").fetching(&api.url, None).with_fetcher(lines)
}

fn up(job: &Job, env: &[(&str, &str)]) -> Running {
    let running = job.start(&[], env);
    running.wait_until("it has its topic", |s| !s["partitions"].as_array().unwrap().is_empty());
    running
}

/// Asks for a run, waits for its end, and gives it.
#[track_caller]
fn run(job: &Job, args: &[&str]) -> Value {
    let end = job.forebay(&[&["trigger", "--wait", "--json"], args].concat());
    assert!(end.status.success(), "{}", said(&end));
    serde_json::from_slice(&end.stdout).unwrap()
}

fn asked(api: &TestApi) -> Vec<(u32, u32)> {
    api.asked().iter().map(|path| ask(path)).map(|Ask { day, since }| (day, since)).collect()
}

fn pages(day: u32) -> Vec<(u32, u32)> {
    [0, 10, 20].map(|since| (day, since)).to_vec()
}

/// How many rows there are of each version.
fn versions(job: &Job) -> Vec<(String, u64)> {
    let rows = job.query("SELECT last_name AS version, count(*) AS n FROM users_stream GROUP BY last_name ORDER BY last_name");
    rows.iter().map(|row| (row["version"].as_str().unwrap().to_owned(), row["n"].as_u64().unwrap())).collect()
}

fn out(end: &Output) -> String {
    assert!(end.status.success(), "{}", said(end));
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
    assert_eq!(asked(&api), [(1, 20)], "another run of a read goes on where that is");
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
    assert_eq!(asked(&api), [(0, 20)], "what says so goes on");
    attempt("4", &["--read", "again"]);
    assert_eq!((asked(&api), versions(&job)), (pages(0), vec![("Last3".to_owned(), u64::from(DAY))]));
    run(&job, &[]);
    assert_eq!(asked(&api), [(0, 20)], "reading again has not moved the cursor");
    assert!(running.stop().success());
}

#[test]
fn a_run_killed_while_reading_again_continues_at_its_own_page() {
    let (api, job) = days(&Arc::new(AtomicU32::new(1)));
    let running = up(&job, &[("FAILPOINTS", "fetcher::after_fetch=4*off->return(kill)")]);
    run(&job, &["--key", "daily"]);
    let again = ["trigger", "--key", "daily", "--attempt", "2", "--wait", "--json"];
    assert!(!job.forebay(&again).status.success(), "nobody is there any more to say how the run ends");
    running.end_by_kill("after the second page came again");
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
    assert_eq!(job.forebay(&[&reset[..], &["--yes"]].concat()).status.code(), Some(2), "why, it asks");
    out(&job.forebay(&[&reset[..], &["--reason", "corrected at the source", "--yes"]].concat()));
    assert_eq!(show(&[]), [at("", "20")]);
    asked(&api);
    run(&job, &["--param", "day=1"]);
    assert_eq!(asked(&api), pages(1), "the next fetch of the read begins at its begin");
    let wrong = job.forebay(&["cursor", "reset", "--param", "nat=ch"]);
    assert!(!wrong.status.success() && said(&wrong).contains("no run can set \"nat\""), "{}", said(&wrong));
    assert!(running.stop().success());

    let set = ["cursor", "set", "10"];
    let dry = job.forebay(&set);
    assert!(said(&dry).contains("dry run: nothing was changed") && show(&[]).contains(&at("", "20")), "{}", said(&dry));
    out(&job.forebay(&[&set[..], &["--reason", "its second page again", "--yes"]].concat()));
    assert!(show(&[]).contains(&at("", "10")));
    let nothing = job.forebay(&[&set[..], &["--reason", "once more", "--yes"]].concat());
    assert!(out(&nothing).contains("already") && said(&nothing).contains("nothing to do"));
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
    assert!(plan.contains("the source is another one"), "{plan}");
    assert!(said(&other.forebay(&["cursor", "show"])).contains("every read is at its start"));
    other.run_until_idle();
    assert_eq!(asked(&api), pages(0));
    let back = other.fetching(&api.url, None);
    back.run_until_idle();
    assert_eq!(asked(&api), [(0, 20)], "changed back, it goes on where it was");
}

#[test]
fn a_cursor_reset_during_a_fetch_stays_reset() {
    let (came, go_on) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let api = {
        let (came, go_on) = (Arc::clone(&came), Arc::clone(&go_on));
        TestApi::answering(move |_, path| {
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
    out(&job.forebay(&["cursor", "reset", "--reason", "from the begin", "--yes"]));
    go_on.store(true, Ordering::SeqCst);
    assert_eq!(run(&job, &["--key", "k"])["counts"]["fetched"], DAY, "the fetch under way goes on where it is");
    assert!(said(&job.forebay(&["cursor", "show"])).contains("every read is at its start"));
    asked(&api);
    run(&job, &[]);
    assert_eq!(asked(&api), pages(0));
    assert!(running.stop().success());
}

fn wait_for(flag: &AtomicBool) {
    let until = std::time::Instant::now() + support::PATIENCE;
    while !flag.load(Ordering::SeqCst) {
        assert!(std::time::Instant::now() < until, "waited in vain");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

#[test]
fn a_cursor_rejected_by_the_source_is_reported_with_the_remedy() {
    let expired = Arc::new(AtomicBool::new(false));
    let api = {
        let expired = Arc::clone(&expired);
        TestApi::answering(move |_, path| match ask(path) {
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
    let said = said(&end);
    assert!(said.contains("answered 410 Gone to cursor \"20\": cursor expired"), "{said}");
    assert!(said.contains("`forebay cursor reset --param day=1`"), "{said}");
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
    let http = Http::new(running.url());
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
