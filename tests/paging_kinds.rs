//! Each kind of paging against one API, from its first page to its last, killed between its pages
//! and on a long read at any point. Embedded; needs no server.

#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod support;

use std::os::unix::process::ExitStatusExt as _;
use std::process::Output;
use std::time::Duration;

use serde_json::{Value, json};
use support::source_api::{Answer, TestApi, query_number};
use support::{Job, stderr, user};

/// Users of the API.
const USERS: u32 = 5;
/// Users of the API whose read is long: a thousand pages.
const MANY: u32 = 2_000;
/// Users on a page.
const SIZE: u32 = 2;

/// The users from `from` on, as a page with further keys.
fn page(from: u32, more: &str) -> Answer {
    page_of(USERS, from, more)
}

/// The same, of this many users.
fn page_of(users: u32, from: u32, more: &str) -> Answer {
    let users: Vec<String> = (from..(from + SIZE).min(users)).map(|n| user(n, 1)).collect();
    Answer::ok(format!("{{\"results\": [{}]{more}}}", users.join(",")))
}

/// The API: the first segment of the path is the kind of paging that it has there.
fn api() -> TestApi {
    api_of(USERS)
}

/// The same, with this many users.
fn api_of(users: u32) -> TestApi {
    TestApi::by_body(move |_, path, headers, body| {
        let page = |from, more: &str| page_of(users, from, more);
        // Where the page after this one begins, if there is one.
        let next = |from: u32| Some(from + SIZE).filter(|next| *next < users);
        let header = |name: &str| headers.iter().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ").map(str::to_owned));
        let of = |name: &str| query_number(path, name);
        match path[1..].split(['/', '?']).next().unwrap() {
            "cursor" => {
                let from = of("after").unwrap_or(0);
                page(from, &format!(", \"next\": {}", next(from).map_or(Value::Null, Value::from)))
            }
            "header" => {
                let from = header("x-after").map_or(0, |after| after.parse().unwrap());
                next(from).into_iter().fold(page(from, ""), |page, next| page.with(&format!("X-Next: {next}")))
            }
            "path" => {
                let from = path.rsplit('/').next().unwrap().parse().unwrap();
                page(from, &format!(", \"next\": {}", next(from).map_or(Value::Null, Value::from)))
            }
            "body" => {
                assert_eq!((headers[0].as_str(), header("content-type").as_deref()), ("POST", Some("application/json")));
                let body: Value = serde_json::from_str(body).unwrap();
                assert_eq!((&body["query"], &body["limit"]), (&json!("users"), &json!(SIZE)));
                let from = body.get("after").map_or(0, |after| after.as_str().unwrap().parse().unwrap());
                page(from, &format!(", \"next\": {}", next(from).map_or(Value::Null, Value::from)))
            }
            "next_url" => {
                let from = of("from").unwrap_or(0);
                page(from, &next(from).map(|next| format!(", \"links\": {{\"next\": \"next_url?from={next}\"}}")).unwrap_or_default())
            }
            "link" => {
                let from = of("from").unwrap_or(0);
                let link = |next| format!("Link: </link?from=0>; rel=first, </link?from={next}>; title=\"a, b\"; rel=\"next\"");
                next(from).into_iter().fold(page(from, ""), |page, next| page.with(&link(next)))
            }
            "page" => page((of("page").unwrap() - 1) * SIZE, ""),
            "offset" => {
                assert_eq!(of("limit"), Some(SIZE));
                page(of("offset").unwrap(), &format!(", \"total\": {users}"))
            }
            "last_record" => page(of("since").map_or(0, |since| since + 1), ""),
            kind => panic!("{kind}"),
        }
    })
}

fn job(api: &TestApi, path: &str, lines: &str) -> Job {
    Job::new("embedded", "embedded").fetching(&format!("{}{path}", api.url), None).with_fetcher(lines)
}

fn rows(job: &Job) -> u64 {
    job.query("SELECT count(*) AS n FROM users_stream")[0]["n"].as_u64().unwrap()
}

fn run(job: &Job, failpoint: &str) -> Output {
    let env = if failpoint.is_empty() { vec![] } else { vec![("FAILPOINTS", failpoint)] };
    job.forebay_with(&["run", "--until-idle", "--json"], &env)
}

/// Reads the API in one fetch, then in one that is killed at each of its pages, and then once more.
/// `asked` are the requests of a whole read, and `again` those of the fetch after it.
fn reads(path: &str, lines: &str, asked: &[&str], stop: &str, again: &[&str]) {
    let lines = &format!("fetch_ahead = 0\n{lines}");
    let api = api();
    let whole = job(&api, path, lines);
    let summary = whole.run_until_idle();
    assert_eq!(api.asked(), asked, "{lines}");
    assert_eq!((&summary["written"], &summary["stop"]), (&json!(USERS), &json!({ "reason": stop, "complete": true })));
    whole.run_until_idle();
    assert_eq!(api.asked(), again, "the fetch after a complete one: {lines}");

    let killed = job(&api, path, lines);
    for page in 0..asked.len() {
        let off = if page == 0 { String::new() } else { "1*off->".to_owned() };
        let end = run(&killed, &format!("fetcher::after_fetch={off}return(kill)"));
        assert_eq!(end.status.signal(), Some(9), "{}", stderr(&end));
        // The page before is not requested again once its successor was.
        let from = page.saturating_sub(1);
        assert_eq!(api.asked(), asked[from..=page], "killed at page {page}: {lines}");
    }
    let summary = killed.run_until_idle();
    assert_eq!(api.asked(), asked[asked.len() - 1..], "{lines}");
    assert_eq!((&summary["stop"]["complete"], rows(&killed)), (&json!(true), u64::from(USERS)), "{lines}");
    killed.run_until_idle();
    assert_eq!(api.asked(), again, "the fetch after a complete one: {lines}");
}

#[test]
fn a_cursor_in_the_body_is_sent_as_a_parameter() {
    let lines = "[fetcher.paging]\nkind = \"cursor\"\nnext = \"/next\"\nparam = \"after\"";
    reads("cursor", lines, &["/cursor", "/cursor?after=2", "/cursor?after=4"], "no_next", &["/cursor?after=4"]);
}

#[test]
fn a_cursor_in_a_header_is_sent_as_a_header() {
    let lines = "headers = { X-After = \"{{ cursor }}\" }\n[fetcher.paging]\nkind = \"cursor\"\nnext = { header = \"X-Next\" }\nnext_fetch = \"start\"";
    let api = api();
    let job = job(&api, "header", lines);
    for _ in 0..2 {
        let summary = job.run_until_idle();
        assert_eq!((&summary["stop"]["reason"], api.asked().len(), rows(&job)), (&json!("no_next"), 3, u64::from(USERS)));
    }
}

#[test]
fn a_cursor_is_sent_in_the_path() {
    let lines = "[fetcher.paging]\nkind = \"cursor\"\nnext = \"/next\"\nstart = 0";
    reads("path/{{ cursor }}", lines, &["/path/0", "/path/2", "/path/4"], "no_next", &["/path/4"]);
}

#[test]
fn a_cursor_is_sent_in_the_body_of_a_post() {
    let lines = "method = \"POST\"\nbody = { query = \"users\", limit = 2, after = \"{{ cursor }}\" }\n\
                 [fetcher.paging]\nkind = \"cursor\"\nnext = \"/next\"";
    reads("body", lines, &["/body", "/body", "/body"], "no_next", &["/body"]);
}

#[test]
fn a_url_in_the_body_is_followed() {
    let lines = "[fetcher.paging]\nkind = \"next_url\"\nnext = \"/links/next\"";
    let asked = ["/next_url", "/next_url?from=2", "/next_url?from=4"];
    reads("next_url", lines, &asked, "no_next", &asked);
}

#[test]
fn a_link_header_is_followed() {
    let asked = ["/link", "/link?from=2", "/link?from=4"];
    reads("link", "[fetcher.paging]\nkind = \"link\"", &asked, "no_next", &asked);
}

#[test]
fn pages_are_requested_by_their_number() {
    let lines = "[fetcher.paging]\nkind = \"page\"\nparam = \"page\"\nsize = 2";
    let asked = ["/page?page=1", "/page?page=2", "/page?page=3"];
    let api = api();
    let whole = job(&api, "page", lines);
    let summary = whole.run_until_idle();
    assert_eq!((&summary["stop"]["reason"], api.asked()), (&json!("short_page"), asked.map(str::to_owned).to_vec()));
    let lines = "[fetcher.paging]\nkind = \"page\"\nparam = \"page\"";
    let asked = [&asked[..], &["/page?page=4"]].concat();
    reads("page", lines, &asked, "empty_page", &asked);
}

#[test]
fn pages_are_requested_by_their_offset_up_to_the_total() {
    let lines = "[fetcher.paging]\nkind = \"offset\"\nparam = \"offset\"\nsize = 2\nsize_param = \"limit\"\ntotal = \"/total\"";
    let asked = ["/offset?limit=2&offset=0", "/offset?limit=2&offset=2", "/offset?limit=2&offset=4"];
    reads("offset", lines, &asked, "total", &asked);
}

#[test]
fn pages_are_requested_by_the_last_record() {
    let lines = "[fetcher.paging]\nkind = \"last_record\"\nlast = \"/location/street/number\"\nparam = \"since\"";
    let asked = ["/last_record", "/last_record?since=1", "/last_record?since=3", "/last_record?since=4"];
    reads("last_record", lines, &asked, "no_next", &["/last_record?since=4"]);
}

/// The page that a path of the API asks for, from 0.
fn page_number(path: &str) -> u32 {
    let from = |name| query_number(path, name);
    match from("page") {
        Some(page) => page - 1,
        None if path.starts_with("/path") => path.rsplit('/').next().unwrap().parse::<u32>().unwrap() / SIZE,
        None => ["after", "from", "offset"].into_iter().find_map(from).or(from("since").map(|since| since + 1)).unwrap_or(0) / SIZE,
    }
}

/// Reads a thousand pages in processes that are killed at any point, and then in one that is not.
/// A kill costs the requests that are ahead of Kafka and the journal, and the one under way.
fn reads_on_after_kills(path: &str, lines: &str, ahead: u32) {
    let api = api_of(MANY);
    let job = job(&api, path, &format!("fetch_ahead = {ahead}\n{lines}"));
    let mut furthest = 0;
    for kill in 1..=4 {
        let before = api.requests();
        let running = job.start(&["--until-idle"], &[]);
        // Each kill is at another point between two requests.
        let (enough, until) = (190 + 13 * kill, std::time::Instant::now() + support::TIMEOUT);
        while api.requests() - before < enough {
            assert!(std::time::Instant::now() < until, "{path}: {}", running.log());
            std::thread::sleep(Duration::from_micros(u64::from(100 * kill)));
        }
        running.kill();
        let asked: Vec<u32> = api.asked().iter().map(|path| page_number(path)).collect();
        assert!(asked.is_sorted_by(|a, b| a + 1 == *b), "{path}: each page once and in order: {asked:?}");
        assert!(asked[0] <= furthest && asked[0] + ahead >= furthest, "{path}: {furthest} and then {}", asked[0]);
        furthest = asked[asked.len() - 1];
    }
    let summary = job.run_until_idle();
    assert_eq!((&summary["stop"]["complete"], rows(&job)), (&json!(true), u64::from(MANY)), "{path}: {summary}");
    assert!(page_number(&api.asked()[0]) + ahead >= furthest, "{path}");
}

#[test]
fn a_kill_at_any_point_of_a_long_read_loses_no_page_and_repeats_at_most_those_ahead() {
    reads_on_after_kills("cursor", "[fetcher.paging]\nkind = \"cursor\"\nnext = \"/next\"\nparam = \"after\"", 8);
    reads_on_after_kills("path/{{ cursor }}", "[fetcher.paging]\nkind = \"cursor\"\nnext = \"/next\"\nstart = 0", 3);
    reads_on_after_kills("next_url", "[fetcher.paging]\nkind = \"next_url\"\nnext = \"/links/next\"", 8);
    reads_on_after_kills("link", "[fetcher.paging]\nkind = \"link\"", 1);
    reads_on_after_kills("page", "[fetcher.paging]\nkind = \"page\"\nparam = \"page\"", 8);
    let offset = "kind = \"offset\"\nparam = \"offset\"\nsize = 2\nsize_param = \"limit\"\ntotal = \"/total\"";
    reads_on_after_kills("offset", &format!("[fetcher.paging]\n{offset}"), 64);
    let last = "kind = \"last_record\"\nlast = \"/location/street/number\"\nparam = \"since\"";
    reads_on_after_kills("last_record", &format!("[fetcher.paging]\n{last}"), 8);
}

#[test]
fn a_page_after_the_last_that_is_refused_ends_the_read() {
    let api = TestApi::by_path(|_, path| match query_number(path, "page").unwrap() {
        at @ 1..=2 => page((at - 1) * SIZE, ""),
        _ => Answer::of("404 Not Found", "{\"detail\": \"Invalid page.\"}"),
    });
    let job = job(&api, "", "[fetcher.paging]\nkind = \"page\"\nparam = \"page\"");
    let summary = job.run_until_idle();
    assert_eq!(
        (&summary["written"], &summary["stop"]["reason"], &summary["stop"]["complete"]),
        (&json!(4), &json!("empty_page"), &json!(true))
    );
    assert!(summary["stop"]["detail"].as_str().unwrap().contains("404 Not Found"), "{summary}");
    let end = run(&job, "fetcher::after_fetch=2*off->return(kill)");
    assert_eq!(end.status.signal(), Some(9), "{}", stderr(&end));
    assert_eq!(job.run_until_idle()["stop"]["reason"], "empty_page", "also if it is the first page after a restart");
    let missing = TestApi::start(|_| Answer::of("404 Not Found", "{}"));
    let job = self::job(&missing, "", "[fetcher.paging]\nkind = \"page\"\nparam = \"page\"");
    assert_eq!(run(&job, "").status.code(), Some(1), "the first page must exist");
}

#[test]
fn an_api_that_ignores_the_page_number_is_reported_and_not_read_for_ever() {
    let api = TestApi::start(|_| page(0, ""));
    let job = job(&api, "", "[fetcher.paging]\nkind = \"page\"\nparam = \"pgae\"");
    let end = run(&job, "");
    let text = format!("{}{}", stderr(&end), String::from_utf8_lossy(&end.stdout));
    assert_eq!((end.status.code(), api.requests()), (Some(7), 2), "{text}");
    assert!(text.contains("same_page") && text.contains("fetcher.paging.param"), "{text}");
}

#[test]
fn a_next_page_on_an_allowed_host_gets_no_secret() {
    let files = TestApi::by_request(|_, _, headers| {
        let has = |name: &str| headers.iter().any(|line| line.to_ascii_lowercase().starts_with(name));
        assert!(has("x-version") && !has("authorization"), "{headers:?}");
        page(2, "")
    });
    let host = files.url.trim_end_matches('/').strip_prefix("http://").unwrap().to_owned();
    let url = files.url.clone();
    let api = TestApi::by_request(move |_, path, headers| {
        assert!(path.contains("key=S3cret") && headers.iter().any(|line| line.ends_with("Bearer x")), "{path} {headers:?}");
        page(0, "").with(&format!("Link: <{url}more?page=2&key=S3cret>; rel=next"))
    });
    let lines = "headers = { Authorization = { file = \"auth\" }, X-Version = \"1\" }\nquery = { key = { file = \"key\" } }";
    let refused = job(&api, "", &format!("{lines}\n[fetcher.paging]\nkind = \"link\""));
    let allowed = job(&api, "", &format!("{lines}\n[fetcher.paging]\nkind = \"link\"\nallowed_hosts = [\"{host}\"]"));
    for job in [&refused, &allowed] {
        support::write_secret(&job.dir().join("auth"), "Bearer x");
        support::write_secret(&job.dir().join("key"), "S3cret");
    }
    let end = run(&refused, "");
    assert_eq!((end.status.code(), files.requests()), (Some(1), 0));
    assert!(stderr(&end).contains("fetcher.paging.allowed_hosts"), "{}", stderr(&end));
    let summary = allowed.run_until_idle();
    assert_eq!((&summary["written"], files.asked()), (&json!(4), vec!["/more?page=2".to_owned()]));
    let journal = allowed.forebay(&["journal", "show", "--json"]);
    assert!(!String::from_utf8_lossy(&journal.stdout).contains("S3cret"), "a secret parameter is not stored with a URL");
}

#[test]
fn the_params_of_a_run_are_numbers_and_booleans_too_and_fill_templates() {
    let api = TestApi::by_path(|_, path| {
        assert!(path.starts_with("/shops/7%2F8/users?active=true&limit=50"), "{path}");
        page(0, "")
    });
    let lines = "params = [\"shop\", \"active\", \"limit\"]\nquery = { limit = \"{{ params.limit }}\" }";
    let job = job(&api, "shops/{{ params.shop }}/users?active={{ params.active }}", lines);
    let running = job.start(&[], &[]);
    running.snapshot();
    let http = support::control_api::ControlApi::new(running.url());
    let request = |params: &str| http.put("/v1/pipelines/users/runs/k", &format!("{{\"params\": {params}}}"));
    let run = request("{\"shop\": \"7/8\", \"active\": true, \"limit\": 50}");
    assert_eq!((run.status, &run.body["params"]), (201, &json!({ "shop": "7/8", "active": "true", "limit": "50" })));
    assert_eq!(request("{\"shop\": \"7/8\", \"active\": \"true\", \"limit\": 50.0}").status, 200, "it is the same run");
    request("{\"shop\": \"7/8\", \"active\": true, \"limit\": 51}").problem(422, "run.payload_mismatch");
    request("{\"shop\": null}").problem(400, "body");
    let end = job.forebay(&["trigger", "--key", "k", "--param", "shop=7/8", "--param", "active=true", "--param", "limit=50", "--wait"]);
    assert!(end.status.success(), "{}", stderr(&end));
    let missing = job.forebay(&["trigger", "--wait"]);
    assert!(!missing.status.success() && stderr(&missing).contains("--param shop=VALUE"), "{}", stderr(&missing));
    assert!(running.stop().success());
}

#[test]
fn a_dry_run_shows_the_requests_and_the_answer_and_keeps_nothing() {
    let api = TestApi::by_path(|_, path| page((query_number(path, "page").unwrap() - 1) * SIZE, ", \"total\": 5"));
    let lines = "params = [\"day\"]\nquery = { day = \"{{ params.day }}\", appid = { file = \"key\" } }\nheaders = { X-Version = \"1\" }\n\
                 [fetcher.paging]\nkind = \"page\"\nparam = \"page\"\ntotal = \"/total\"";
    let job = job(&api, "", lines);
    support::write_secret(&job.dir().join("key"), "S3cret");
    let dry = |args: &[&str]| job.forebay(&[&["fetch", "--dry-run"], args].concat());
    let end = dry(&["--param", "day=2026-01-01", "--json"]);
    let shown: Value = serde_json::from_slice(&end.stdout).unwrap_or_else(|_| panic!("{}", stderr(&end)));
    let url = |page: u32| format!("{}?day=2026-01-01&page={page}&appid=***", api.url);
    assert_eq!(shown["request"], json!({ "method": "GET", "url": url(1), "headers": ["accept", "accept-encoding", "x-version"] }));
    assert_eq!((&shown["answer"]["status"], &shown["answer"]["records"]), (&json!(200), &json!(2)));
    assert_eq!((&shown["next"]["url"], shown.get("stop")), (&json!(url(2)), None));
    assert_eq!(shown["limits"]["fetcher.max_pages"], "100000");
    assert_eq!(api.asked(), ["/?day=2026-01-01&page=1&appid=S3cret"]);
    let text = String::from_utf8_lossy(&dry(&[]).stdout).into_owned();
    assert!(text.contains("first page: GET ") && text.contains("answer: 200") && text.contains("next page: GET "), "{text}");
    assert!(!text.contains("S3cret") && text.contains("or at the total at /total"), "{text}");
    assert_eq!(job.forebay(&["fetch"]).status.code(), Some(2), "a fetch of its own is a run");
    let wrong = dry(&["--param", "month=1"]);
    assert!(wrong.status.code() == Some(2) && stderr(&wrong).contains("[fetcher] params allows: day"), "{}", stderr(&wrong));
    assert!(!job.dir().join(".forebay").exists(), "nothing is written");

    let down = TestApi::start(|_| Answer::of("400 Bad Request", "no such day"));
    let end = self::job(&down, "", "").forebay(&["fetch", "--dry-run"]);
    assert_eq!(end.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&end.stdout).contains("first page: GET") && stderr(&end).contains("no such day"), "{}", stderr(&end));
}

#[test]
fn doctor_asks_with_the_same_request_and_check_explains_it() {
    let api = api();
    let lines = "method = \"POST\"\nbody = { query = \"users\", limit = 2, after = \"{{ cursor }}\" }\n\
                 [fetcher.paging]\nkind = \"cursor\"\nnext = \"/next\"";
    let job = job(&api, "body", lines);
    let doctor = job.forebay(&["doctor"]);
    assert!(stderr(&doctor).contains("answers 2 records, which give 2 rows, and names a next page"), "{}", stderr(&doctor));
    let check = job.forebay(&["check"]);
    let text = stderr(&check);
    assert!(text.contains("POST ") && text.contains("the next page is found by the cursor at /next, sent as {{ cursor }}"), "{text}");
    assert_eq!(api.asked(), ["/body"]);
}
