//! Text from outside can't control the terminal of whoever reads it. Embedded; needs no server.

#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod support;

use serde_json::json;
use support::control_api::ControlApi;
use support::source_api::{Answer, TestApi};
use support::{Job, bad_user, output, user};

/// A title, a colour, a bell, a line of its own, C1 and a right-to-left override.
const HOSTILE: &str = "\x1b]0;owned\x07\x1b[31m\nforged line\r\u{9b}31m\u{202e}\u{2066}\x7f";

/// Asserts that text is free of what [`HOSTILE`] contains.
#[track_caller]
fn assert_printable(what: &str, text: &str) {
    let is_wrong = |c: char| c != '\n' && (c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'));
    let wrong: Vec<char> = text.chars().filter(|&c| is_wrong(c)).collect();
    assert!(wrong.is_empty(), "{what}: {wrong:?} in {text:?}");
    assert!(!text.lines().any(|line| line.trim_start().starts_with("forged line")), "{what}: {text}");
}

#[test]
fn text_from_outside_is_escaped_in_the_output_of_every_command() {
    let api = TestApi::start(|n| match n {
        0 => {
            let json = serde_json::to_string(HOSTILE).unwrap();
            let inside = json.trim_matches('"');
            let row = user(1, 1).replace("First1", inside);
            let unkeyed = user(2, 1).replace(&support::user_id(2), inside);
            let bad_date = bad_user(3, 1).replace(support::BAD_DATE, inside);
            Answer::ok(format!("{{\"results\":[{row},{unkeyed},{bad_date}],\"info\":{{\"next\":null}}}}"))
        }
        _ => Answer::of("400 Bad Request", HOSTILE),
    });
    let job = Job::new("embedded", "embedded").fetching(&api.url, None);
    let running = job.start(&[], &[]);
    running.snapshot();
    let check = |args: &[&str], shows: bool| {
        let end = job.forebay(args);
        let (out, err) = (String::from_utf8(end.stdout).unwrap(), String::from_utf8(end.stderr).unwrap());
        assert_printable(&format!("stdout of {args:?}"), &out);
        assert_printable(&format!("stderr of {args:?}"), &err);
        assert_eq!((out + &err).contains("\\x1b]0;owned"), shows, "{args:?} has the text");
    };
    // A run whose records are a row and two dead letters, and one that the API refuses.
    check(&["trigger", "--wait", "--key", HOSTILE], true);
    check(&["trigger", "--wait", "--key", "second"], true);
    check(&["tap"], true);
    check(&["dlq"], true);
    check(&["query", "SELECT first_name FROM users_stream"], true);
    check(&["query", &format!("SELECT 1 AS \"{HOSTILE}\"")], true);
    check(&["query", &format!("SELECT `{HOSTILE}` FROM users_stream")], true);
    check(&["runs"], true);
    check(&["status"], true);
    check(&["monitor", "--once", "--screen", "runs"], true);
    check(&["logs"], true);
    check(&["pause", "--reason", HOSTILE], true);
    check(&["status"], true);
    check(&["plan"], true);
    check(&["resume", "--reason", HOSTILE], true);
    check(&["journal", "show"], true);
    // Indented JSON has escapes of its own for some of the characters.
    let run = ControlApi::new(running.url()).get("/v1/runs").body["runs"][1]["id"].as_str().unwrap().to_owned();
    check(&["runs", "show", &run], false);
    // The error of the second run has the API's text, escaped as it arrived.
    check(&["journal", "state"], true);
    check(&["actors", "restart", "root/egress/writer", "--reason", HOSTILE], false);
    check(&["actors"], true);
    check(&["topics"], false);
    check(&["dlq", "redrive", "--reason", HOSTILE, "--yes"], false);
    let log = running.log();
    assert_printable("the log", &log);
    assert!(log.contains("\\x1b]0;owned"), "{log}");
    assert!(running.stop().success());
    check(&["replay", "--from", "begin"], false);

    // JSON is exact.
    let journal = job.forebay(&["journal", "show", "--json"]);
    let exact = serde_json::to_string(HOSTILE).unwrap();
    assert!(String::from_utf8(journal.stdout).unwrap().contains(&format!("\"reason\":{exact}")), "{exact}");
}

#[test]
fn an_error_of_another_servers_api_is_escaped() {
    let problem = json!({
        "type": HOSTILE, "title": HOSTILE, "status": 409, "detail": HOSTILE, "remedy": HOSTILE, "instance": HOSTILE,
    });
    let api = TestApi::start(move |_| Answer::of("409 Conflict", &problem.to_string()));
    let mut command = support::forebay();
    command.args(["status", "--url", api.url.trim_end_matches('/')]);
    let end = output(command);
    let err = support::stderr(&end);
    assert_printable("stderr", &err);
    assert!(end.status.code() == Some(1) && err.matches("\\x1b]0;owned").count() == 3, "title, detail and remedy: {err}");
}

#[test]
fn an_error_in_a_file_with_control_characters_is_escaped() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("forebay.toml");
    std::fs::write(&path, format!("[pipeline]\nname = \"{}\"\n", HOSTILE.replace('\n', ""))).unwrap();
    let mut command = support::forebay();
    command.arg("check").arg("-c").arg(&path);
    let end = output(command);
    let err = support::stderr(&end);
    assert_printable("check", &err);
    assert!(end.status.code() == Some(2) && err.contains("\\x1b]0;owned"), "{err}");
}
