//! `forebay init --from URL`: from an API that nobody prepared for to rows. Embedded; needs no
//! server.

#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod support;

use std::process::Output;

use serde_json::{Value, json};
use support::source_api::{Answer, TestApi};
use support::{forebay, output, stderr};

/// Runs the program in a folder.
fn run(dir: &tempfile::TempDir, args: &[&str]) -> Output {
    let mut command = forebay();
    command.args(args).current_dir(dir.path()).env("FOREBAY_TEST_TOKEN", "tok-1234");
    output(command)
}

/// Makes the API of the drafted pipeline listen on a socket, so that tests can run side by side.
fn listen_apart(dir: &tempfile::TempDir, file: &str) {
    let path = dir.path().join(file);
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(path, text + "\n[api]\nlisten = \"unix:api.sock\"\n").unwrap();
}

/// The rows of a query.
fn rows(dir: &tempfile::TempDir, sql: &str) -> Vec<Value> {
    let end = run(dir, &["query", "--json", sql]);
    assert!(end.status.success(), "{}", stderr(&end));
    String::from_utf8(end.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn orders_behind_a_bearer_token_become_rows_without_a_file_written_by_hand() {
    let order = |n: u32| {
        json!({ "id": format!("o-{n}"), "total": f64::from(n) * 1.5, "paid": n.is_multiple_of(2), "placedAt": "2026-11-30T10:00:00Z",
            "customer": { "name": format!("Customer {n}"), "vip": null }, "lines": [{ "sku": "a", "count": n }] })
    };
    let api = TestApi::by_request(move |_, path, headers| {
        if !headers.iter().any(|header| header.eq_ignore_ascii_case("authorization: Bearer tok-1234")) {
            return Answer::of("401 Unauthorized", "who are you?");
        }
        let page = path.split("cursor=").nth(1).and_then(|text| text.parse::<u32>().ok()).unwrap_or(0);
        let orders: Vec<_> = (page * 10..page * 10 + 10).map(order).collect();
        let next = if page < 2 { json!((page + 1).to_string()) } else { Value::Null };
        Answer::ok(json!({ "data": { "orders": orders }, "meta": { "next_cursor": next } }).to_string())
    });
    let (dir, url) = (tempfile::tempdir().unwrap(), format!("{}v1/orders", api.url));

    let refused = run(&dir, &["init", "--from", &url]);
    assert_eq!(refused.status.code(), Some(3));
    assert!(stderr(&refused).contains("401 Unauthorized: who are you?"), "{}", stderr(&refused));

    let end = run(&dir, &["init", "--from", &url, "--header", "Authorization=Bearer env:FOREBAY_TEST_TOKEN"]);
    let notes = stderr(&end);
    assert!(end.status.success(), "{notes}");
    for note in [
        "records: /data/orders has 10",
        "key: /id, a guess: its 10 values differ",
        "because the response has /meta/next_cursor; its second page has 10 other records",
        "left out of the schema: /customer/vip: it is null in every record",
        "left out of the SQL: /lines is an array of objects",
    ] {
        assert!(notes.contains(note), "{note}\n{notes}");
    }
    listen_apart(&dir, "forebay.toml");
    let end = run(&dir, &["run", "--until-idle", "--json"]);
    assert!(end.status.success(), "{}", stderr(&end));
    let rows = rows(&dir, "SELECT id, total, paid, customer_name FROM orders_stream");
    assert_eq!(rows.len(), 30);
    assert!(rows.contains(&json!({ "id": "o-29", "total": 43.5, "paid": false, "customer_name": "Customer 29" })), "{rows:?}");
    let again = run(&dir, &["init", "--from", &url]);
    assert_eq!(again.status.code(), Some(3), "the token is asked for first");
}

#[test]
fn an_api_of_columns_becomes_a_row_per_time() {
    let api = TestApi::start(|_| {
        Answer::ok(
            r#"{"latitude": 47.4, "hourly_units": {"time": "iso8601", "temperature_2m": "C"},
                "hourly": {"time": ["2026-11-30T00:00", "2026-11-30T01:00"], "temperature_2m": [1.5, null]}}"#
                .to_owned(),
        )
    });
    let dir = tempfile::tempdir().unwrap();
    let end = run(&dir, &["init", "weather", "--json", "--from", &format!("{}v1/forecast?latitude=47.4", api.url)]);
    let written: Value = serde_json::from_slice(&end.stdout).unwrap();
    assert_eq!(written["written"], json!(["weather/forebay.toml", "weather/forecast.schema.json"]));
    let notes: Vec<_> = written["notes"].as_array().unwrap().iter().map(|note| note.as_str().unwrap()).collect();
    let expected = [
        "records: /hourly has columns of 2 values",
        "key: /time, a guess: its 2 values differ",
        "2 columns, of a schema inferred from 2 records",
        "text, because it is a time without a zone: time; \"format\": \"date-time-local\" in the schema makes it a time",
        "paging: none found, so a fetch is one page; docs/SOURCES.md has the kinds",
    ];
    assert_eq!(notes, expected);
    listen_apart(&dir, "weather/forebay.toml");
    let end = run(&dir, &["run", "--until-idle", "--json", "-c", "weather/forebay.toml"]);
    assert!(end.status.success(), "{}", stderr(&end));
    let end = run(&dir, &["query", "--json", "-c", "weather/forebay.toml", "SELECT time, temperature_2m FROM forecast_stream"]);
    let mut lines: Vec<_> = std::str::from_utf8(&end.stdout).unwrap().lines().map(str::to_owned).collect();
    lines.sort_unstable();
    assert_eq!(lines.len(), 2);
    let first: Value = serde_json::from_str(&lines[0]).unwrap();
    assert_eq!(first, json!({ "time": "2026-11-30T00:00", "temperature_2m": 1.5 }));
}

#[test]
fn a_guess_whose_second_page_repeats_the_first_is_dropped_and_what_is_unknown_is_asked_for() {
    let same = TestApi::start(|_| Answer::ok(r#"{"page": 1, "items": [{"id": 1}, {"id": 2}]}"#.to_owned()));
    let dir = tempfile::tempdir().unwrap();
    let end = run(&dir, &["init", "--from", &format!("{}items", same.url)]);
    assert!(end.status.success(), "{}", stderr(&end));
    assert!(stderr(&end).contains("its second page repeats records of the first"), "{}", stderr(&end));
    assert!(!std::fs::read_to_string(dir.path().join("forebay.toml")).unwrap().contains("paging"));

    let unnamed = TestApi::start(|_| Answer::ok(r#"[{"color": "red", "size": 1}, {"color": "blue", "size": 1}]"#.to_owned()));
    let end = run(&dir, &["init", "--from", &unnamed.url, "--force"]);
    assert_eq!(end.status.code(), Some(2));
    assert!(stderr(&end).contains("no field of the records looks like their key"), "{}", stderr(&end));
    assert!(stderr(&end).contains("name it: --key /color"), "{}", stderr(&end));
    let end = run(&dir, &["init", "--from", &unnamed.url, "--force", "--key", "/color", "--name", "paints"]);
    assert!(end.status.success(), "{}", stderr(&end));
    assert!(std::fs::read_to_string(dir.path().join("forebay.toml")).unwrap().contains("name = \"paints\""));
}
