//! Paging, and why a fetch stops. Embedded; needs no server.

#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod support;

use std::process::Output;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;
use support::source_api::{Answer, TestApi, query_number};
use support::{Job, stderr, user};

/// The users of a page, as JSON.
fn users(of: impl IntoIterator<Item = u32>) -> String {
    of.into_iter().map(|n| user(n, 1)).collect::<Vec<_>>().join(",")
}

/// A page of users, and other keys, such as `"next": 2`.
fn page(of: impl IntoIterator<Item = u32>, extra: &str) -> Answer {
    Answer::ok(format!("{{\"results\": [{}]{}{extra}}}", users(of), if extra.is_empty() { "" } else { ", " }))
}

/// A job that fetches from an API, with these lines in `[fetcher]`.
fn reading(api: &TestApi, lines: &str) -> Job {
    Job::new("embedded", "embedded").fetching(&api.url, None).with_fetcher(lines)
}

const CURSOR: &str = "cursor = { next = \"/next\", param = \"page\" }";

/// An API of pages with one user each, from page 1 to `last`; the cursor is the page number.
fn pages(last: u32) -> TestApi {
    TestApi::by_path(move |_, path| {
        let at = query_number(path, "page").unwrap_or(1);
        let next = if at < last { format!("\"next\": {}", at + 1) } else { "\"next\": null".to_owned() };
        page([at], &next)
    })
}

/// Runs `run --until-idle --json`; returns the exit code, the summary, and all output.
fn until_idle(job: &Job) -> (i32, Value, String) {
    let end = job.forebay(&["run", "--until-idle", "--json"]);
    let lines: Vec<Value> = lines(&end);
    let summary = lines.iter().find(|line| line.get("written").is_some()).cloned().unwrap_or_default();
    (end.status.code().unwrap(), summary, format!("{}{}", stderr(&end), String::from_utf8_lossy(&end.stdout)))
}

fn lines(end: &Output) -> Vec<Value> {
    String::from_utf8_lossy(&end.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn rows(job: &Job) -> u64 {
    job.query("SELECT count(*) AS n FROM users_stream")[0]["n"].as_u64().unwrap()
}

#[test]
fn a_run_cut_short_is_reported_everywhere_and_the_next_one_continues() {
    let api = pages(5);
    let job = reading(&api, &format!("{CURSOR}\nmax_pages = 2"));
    let running = job.start(&[], &[]);
    running.snapshot();
    let trigger = |args: &[&str]| job.forebay(&[&["trigger", "--wait"], args].concat());
    let first = trigger(&["--key", "first", "--json"]);
    assert_eq!(first.status.code(), Some(7), "{}", stderr(&first));
    let [run, error] = &lines(&first)[..] else { panic!("{first:?}") };
    assert_eq!((&run["state"], &run["counts"]["pages"]), (&"succeeded".into(), &2.into()));
    assert_eq!(
        (&run["stop"]["reason"], &run["stop"]["complete"], &run["stop"]["cursor"]),
        (&"max_pages".into(), &false.into(), &"3".into())
    );
    assert!(error["error"]["message"].as_str().unwrap().contains("fetcher.max_pages"), "{error}");

    let listed = job.forebay(&["runs"]);
    assert!(String::from_utf8_lossy(&listed.stdout).contains("stopped: cut short, max_pages: 2 pages were read"), "{listed:?}");
    let snapshot = running.snapshot();
    assert_eq!((&snapshot["source"]["stop"]["reason"], &snapshot["runs"][0]["stop"]["complete"]), (&"max_pages".into(), &false.into()));
    running.wait_until("an alert fires", |look| {
        look["alerts"].as_array().unwrap().iter().any(|alert| alert["name"] == "ForebayFetchCutShort")
    });
    let status = job.forebay(&["status"]);
    assert!(String::from_utf8_lossy(&status.stdout).contains("max_pages"), "{status:?}");

    let second = trigger(&["--key", "second"]);
    assert_eq!(second.status.code(), Some(7));
    let stderr = stderr(&second);
    assert!(stderr.contains("cut short, max_pages") && stderr.contains("continues where this one ended"), "{stderr}");
    let third = trigger(&["--key", "third", "--json"]);
    assert!(third.status.success(), "{third:?}");
    assert_eq!(lines(&third)[0]["stop"], serde_json::json!({ "reason": "no_next", "complete": true }));
    assert_eq!(api.asked(), ["/", "/?page=2", "/?page=3", "/?page=4", "/?page=5"]);
    assert!(running.stop().success());
    assert_eq!(rows(&job), 5);
    let stops: Vec<Value> = job.events("RunProduced").into_iter().map(|event| event["data"]["stop"]["reason"].clone()).collect();
    assert_eq!(stops, ["max_pages", "max_pages", "no_next"]);
}

#[test]
fn run_until_idle_exits_with_7_after_a_fetch_cut_short() {
    let api = pages(3);
    let job = reading(&api, &format!("{CURSOR}\nmax_pages = 2"));
    let (code, summary, text) = until_idle(&job);
    assert_eq!((code, &summary["written"]), (7, &2.into()), "{text}");
    assert_eq!((&summary["stop"]["reason"], &summary["stop"]["complete"]), (&"max_pages".into(), &false.into()));
    let text = job.forebay(&["run", "--until-idle"]);
    assert!(text.status.success() && support::stderr(&text).contains("stopped: no_next"), "{}", support::stderr(&text));
    assert_eq!(rows(&job), 3);
}

#[test]
fn the_default_page_limit_does_not_end_a_read_of_many_pages() {
    let api = pages(230);
    let (code, summary, text) = until_idle(&reading(&api, CURSOR));
    assert_eq!((code, &summary["written"], &summary["stop"]["reason"]), (0, &230.into(), &"no_next".into()), "{text}");
}

#[test]
fn null_records_and_empty_pages_are_followed_to_the_last_page() {
    let api = TestApi::by_path(|_, path| match query_number(path, "page").unwrap_or(1) {
        1 => page([1, 2], "\"next\": 2"),
        2 => Answer::ok("{\"results\": null, \"next\": 3}".into()),
        3 => page([], "\"next\": 4"),
        4 => page([3], "\"next\": 5"),
        _ => Answer::ok("{\"results\": null, \"next\": null}".into()),
    });
    let job = reading(&api, CURSOR);
    for written in [3, 0] {
        let (code, summary, text) = until_idle(&job);
        assert_eq!((code, &summary["written"], &summary["stop"]["reason"]), (0, &written.into(), &"no_next".into()), "{text}");
    }
    assert_eq!(rows(&job), 3);
}

#[test]
fn a_fetch_stops_after_too_many_empty_pages() {
    let api = TestApi::by_path(|_, path| page([], &format!("\"next\": {}", query_number(path, "page").unwrap_or(1) + 1)));
    let job = reading(&api, "cursor = { next = \"/next\", param = \"page\", max_empty_pages = 3 }");
    let (code, summary, text) = until_idle(&job);
    assert_eq!((code, &summary["stop"]["reason"], api.requests()), (7, &"empty_page".into(), 4), "{text}");
}

#[test]
fn has_more_ends_a_read_and_more_without_a_cursor_is_incomplete() {
    let api = TestApi::by_path(|_, path| match query_number(path, "page").unwrap_or(1) {
        1 => page([1], "\"more\": true, \"next\": 2"),
        _ => page([2], "\"more\": false, \"next\": 3"),
    });
    let job = reading(&api, "cursor = { next = \"/next\", param = \"page\", has_more = \"/more\" }");
    let (code, summary, text) = until_idle(&job);
    assert_eq!((code, &summary["stop"]["reason"], api.requests()), (0, &"has_more_false".into(), 2), "{text}");
    let api = TestApi::start(|_| page([1], "\"has_more\": true, \"next\": null"));
    let (code, summary, text) = until_idle(&reading(&api, CURSOR));
    assert!(code == 7 && summary["stop"]["detail"].as_str().unwrap().contains("has_more"), "{text}");
}

#[test]
fn a_cursor_cycle_ends_the_run_and_then_one_page_is_fetched_at_a_time() {
    let circle = || {
        TestApi::by_path(|_, path| {
            let at = query_number(path, "page").unwrap_or(1);
            page([at], &format!("\"next\": {}", at % 3 + 1))
        })
    };
    let api = circle();
    let (code, summary, text) = until_idle(&reading(&api, CURSOR));
    assert_eq!((code, &summary["stop"]["reason"], &summary["written"]), (7, &"cursor_cycle".into(), &4.into()), "{text}");
    assert_eq!(api.asked(), ["/", "/?page=2", "/?page=3", "/?page=1"]);
    let api = circle();
    let job = Job::new("embedded", "embedded").fetching(&api.url, Some("100ms")).with_fetcher(CURSOR);
    let running = job.start(&[], &[]);
    running.wait_until("it was requested several times", |look| api.requests() >= 8 && look["source"]["stop"]["reason"] == "cursor_cycle");
    assert!(running.stop().success());
    let asked = api.asked();
    assert!(asked[4..].iter().all(|path| path == &asked[3]), "{asked:?}");
}

#[test]
fn a_next_cursor_that_is_a_url_is_followed_only_on_the_same_host() {
    let (host, seen) = (std::sync::Arc::new(std::sync::OnceLock::<String>::new()), std::sync::Arc::new(AtomicU32::new(0)));
    let (of_api, strict) = (std::sync::Arc::clone(&host), std::sync::Arc::clone(&seen));
    let api = TestApi::by_path(move |_, path| {
        if !path.contains("size=1") {
            strict.fetch_add(1, Ordering::SeqCst);
            return Answer::of("404 Not Found", "{\"detail\": \"Invalid page.\"}");
        }
        let at = query_number(path, "page").unwrap_or(1);
        let host = of_api.get().unwrap();
        page(
            [at],
            &if at < 3 { format!("\"next\": \"{host}people?page={}&size=1&key=S3cret\"", at + 1) } else { "\"next\": null".to_owned() },
        )
    });
    host.set(api.url.clone()).unwrap();
    let job = Job::new("embedded", "embedded").fetching(&format!("{}people?size=1&key=S3cret", api.url), None).with_fetcher(CURSOR);
    let (code, summary, text) = until_idle(&job);
    assert_eq!((code, &summary["written"], seen.load(Ordering::SeqCst)), (0, &3.into(), 0), "{text}");
    assert_eq!(api.asked()[1..], ["/people?page=2&size=1&key=S3cret", "/people?page=3&size=1&key=S3cret"]);
    let journal = job.forebay(&["journal", "show", "--json"]);
    assert!(!String::from_utf8_lossy(&journal.stdout).contains("S3cret"), "parameters of the file's url are not stored with a cursor");

    let api = TestApi::start(|_| page([1], "\"next\": \"http://elsewhere.example/people?page=2\""));
    let (code, _, text) = until_idle(&reading(&api, CURSOR));
    assert!(code == 1 && text.contains("the next cursor is a URL") && text.contains("elsewhere.example"), "{text}");
    assert_eq!(api.requests(), 1);
}

#[test]
fn a_misspelt_cursor_fails_at_the_first_page_and_names_the_right_one() {
    let api = TestApi::start(|_| page([1], "\"meta\": {\"next_page\": 2}"));
    let (code, _, text) = until_idle(&reading(&api, "cursor = { next = \"/meta/nextPage\", param = \"page\" }"));
    assert!(code == 1 && text.contains("/meta/next_page"), "{text}");
    let api = TestApi::by_path(|_, path| page([query_number(path, "page").unwrap_or(1)], "\"next\": 2"));
    let job = reading(&api, "cursor = { next = \"/next\", param = \"pgae\" }");
    let (code, summary, text) = until_idle(&job);
    assert_eq!((code, &summary["stop"]["reason"]), (7, &"same_cursor".into()), "the API ignores the parameter: {text}");
}

#[test]
fn an_unfollowed_link_to_a_next_page_cuts_the_run_short() {
    let api = TestApi::start(|_| page([1], "").with("Link: </?page=2>; rel=\"next\""));
    let (code, summary, text) = until_idle(&reading(&api, ""));
    assert!(code == 7 && text.contains("Link") && summary["written"] == 1, "{text}");
    assert_eq!((&summary["stop"]["reason"], &summary["stop"]["complete"]), (&"no_next".into(), &false.into()));
}

#[test]
fn transient_errors_of_the_source_are_retried_and_the_run_succeeds() {
    let api = TestApi::start(|n| match n {
        0 => Answer::of("403 Forbidden", "{\"message\": \"slow down\"}").with("Retry-After: 1"),
        1 => Answer::of("403 Forbidden", "{}").with("X-RateLimit-Remaining: 0").with("X-RateLimit-Reset: 1"),
        2 => Answer::ok("{\"results\": [{\"id\": 1}, {\"na".into()),
        3 => Answer::ok("{\"error\": {\"message\": \"backend timed out\"}}".into()),
        _ => page([1], ""),
    });
    let job = reading(&api, "");
    let (code, summary, text) = until_idle(&job);
    assert_eq!((code, &summary["written"], api.requests()), (0, &1.into(), 5), "{text}");
    let throttled = job.events("SourceThrottled");
    let reason = |n: usize| throttled[n]["data"]["reason"].as_str().unwrap().to_owned();
    assert!(reason(2).contains("cut short") && reason(3).contains("backend timed out"), "{throttled:?}");
}

#[test]
fn no_content_and_an_empty_body_are_a_page_without_records() {
    let api = TestApi::start(|n| match n {
        0 => Answer::of("204 No Content", ""),
        1 => Answer::ok(String::new()),
        _ => page([1], ""),
    });
    let job = reading(&api, "");
    for written in [0, 0, 1] {
        let (code, summary, text) = until_idle(&job);
        assert_eq!((code, &summary["written"], &summary["stop"]["complete"]), (0, &written.into(), &true.into()), "{text}");
    }
}

#[test]
fn a_renewed_token_is_sent_at_once_and_an_expired_one_is_retryable() {
    let api = TestApi::start(|_| page([1], ""));
    let job = reading(&api, "headers = { Authorization = { file = \"auth\" } }");
    let write = |token: &str| support::write_secret(&job.dir().join("auth"), token);
    write("Bearer a");
    let running = job.start(&[], &[]);
    running.snapshot();
    let trigger = || job.forebay(&["trigger", "--wait", "--json"]);
    assert!(trigger().status.success());
    write("Bearer b\n");
    assert!(trigger().status.success());
    std::fs::remove_file(job.dir().join("auth")).unwrap();
    std::thread::scope(|scope| {
        let waits = scope.spawn(trigger);
        running.wait_until("the fetcher reports what it waits for", |look| look["actors"].to_string().contains("secret file"));
        write("Bearer c");
        assert!(waits.join().unwrap().status.success(), "a briefly missing file is waited for");
    });
    assert!(running.stop().success());
    assert_eq!(api.tokens(), ["Bearer a", "Bearer b", "Bearer c"]);

    let refuses = TestApi::start(|_| Answer::of("401 Unauthorized", "{\"message\": \"expired\"}"));
    let job = reading(&refuses, "headers = { Authorization = { file = \"auth\" } }");
    support::write_secret(&job.dir().join("auth"), "Bearer a");
    let running = job.start(&[], &[]);
    running.snapshot();
    let end = job.forebay(&["trigger", "--wait", "--json"]);
    let run = &lines(&end)[0];
    assert_eq!((end.status.code(), &run["error"]["retryable"]), (Some(1), &true.into()), "{run}");
    assert_eq!(refuses.requests(), 1);
    assert!(running.stop().success());
}

#[test]
fn an_answer_that_is_not_a_list_is_reported_with_the_remedy() {
    let error_of = |body: &'static str| {
        let api = TestApi::start(move |_| Answer::ok(body.into()));
        let (code, _, text) = until_idle(&reading(&api, ""));
        assert_eq!(code, 1, "{text}");
        text
    };
    let nested = error_of("{\"results\": {\"rows\": [{\"id\": 7}]}}");
    assert!(nested.contains("leads to an object, not to an array of records"), "{nested}");
    assert!(error_of("{\"id\": 1}\n{\"id\": 2}\n").contains("NDJSON"));
    let api = TestApi::start(|_| Answer { kind: "application/x-ndjson", ..Answer::ok("{\"id\": 1}\n".into()) });
    let (code, _, text) = until_idle(&reading(&api, ""));
    assert!(code == 1 && text.contains("each line or row of the answer is a record, but fetcher.records"), "{text}");
}
