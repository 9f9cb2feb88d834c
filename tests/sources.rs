//! Sources of many kinds, from the response to the table. Embedded; needs no server.

#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod support;

use std::process::Output;

use serde_json::{Value, json};
use support::source_api::{Answer, TestApi};
use support::{Running, forebay, output, stderr};

/// A pipeline of records with an integer `id` and an optional text and number.
struct Source {
    dir: tempfile::TempDir,
}

impl Source {
    /// A pipeline that fetches from a URL, with these lines in `[fetcher]`.
    fn new(url: &str, lines: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let text = format!(
            "[pipeline]\nname = \"sources\"\n[kafka]\nbootstrap = \"embedded\"\ntopic = \"items\"\npartitions = 1\n\
             [cassandra]\ncontact_points = \"embedded\"\nkeyspace = \"k\"\ncreate = true\n\
             [fetcher]\nurl = {url:?}\n{lines}\n[producer]\nkey = \"/id\"\n[consumer]\ngroup = \"items\"\n\
             [transformer]\nschema = \"schema.json\"\nsql = \"SELECT id, name, rate FROM items\"\n\
             [writer]\ntable = \"items\"\nprimary_key = [\"id\"]\n[api]\nlisten = \"unix:api.sock\"\n"
        );
        let schema = json!({ "type": "object", "required": ["id"], "properties": {
            "id": { "type": "integer" }, "name": { "type": ["string", "null"] }, "rate": { "type": ["number", "null"] },
        } });
        std::fs::write(dir.path().join("forebay.toml"), text).unwrap();
        std::fs::write(dir.path().join("schema.json"), schema.to_string()).unwrap();
        Self { dir }
    }

    fn forebay(&self, args: &[&str], env: &[(&str, &str)]) -> Output {
        let mut command = forebay();
        command.args(args).envs(env.iter().copied()).current_dir(self.dir.path());
        output(command)
    }

    /// The rows of the table after one fetch.
    fn rows(&self, env: &[(&str, &str)]) -> Value {
        let end = self.forebay(&["run", "--until-idle", "--json"], env);
        assert!(end.status.success(), "{}", stderr(&end));
        self.table()
    }

    /// Starts the pipeline.
    fn start(&self) -> Running {
        let mut command = forebay();
        command.arg("run");
        Running::of(command, self.dir.path(), format!("unix:{}", self.dir.path().join("api.sock").display()))
    }

    /// The rows of the table.
    fn table(&self) -> Value {
        let rows = self.forebay(&["query", "--json", "SELECT id, name, rate FROM items"], &[]);
        let mut rows: Vec<Value> =
            String::from_utf8(rows.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        rows.sort_by_key(|row| row["id"].as_i64());
        rows.into()
    }
}

/// An API that answers this body under this content type.
fn api(kind: &'static str, body: &'static str) -> TestApi {
    TestApi::start(move |_| Answer { kind, ..Answer::ok(body.to_owned()) })
}

#[test]
fn every_kind_of_body_becomes_rows() {
    let rows = json!([{ "id": 1, "name": "é, ü", "rate": 1.5 }, { "id": 2, "name": null, "rate": null }]);
    for (kind, body, lines) in [
        ("application/json", r#"[{"id": 1, "name": "é, ü", "rate": 1.5}, {"id": 2}]"#, ""),
        (
            "application/json",
            r#"{"a": {"items": [{"id": 1, "name": "é, ü", "rate": 1.5}]}, "b": {"items": [{"id": 2}]}}"#,
            "records = \"/*/items\"",
        ),
        ("application/json", r#"{"t": {"id": [1, 2], "name": ["é, ü", null], "rate": [1.5, null]}}"#, "records = { columns = \"/t\" }"),
        ("application/x-ndjson", "{\"id\": 1, \"name\": \"é, ü\", \"rate\": 1.5}\n{\"id\": 2}\n", ""),
        ("text/plain", "{\"id\": 1, \"name\": \"é, ü\", \"rate\": 1.5}\n{\"id\": 2}\n", ""),
        ("text/csv", "id,rate,name\r\n1,1.5,\"é, ü\"\r\n2,,\r\n", ""),
        ("application/vnd.ms-excel", "id;rate;name\n1;1.5;é, ü\n2;;\n", "format = \"csv\"\ndelimiter = \";\""),
    ] {
        let api = api(kind, body);
        assert_eq!(Source::new(&api.url, lines).rows(&[]), rows, "{kind} {lines}");
    }
    let one = api("application/json", r#"{"data": {"id": 7, "name": "BTC-EUR"}}"#);
    assert_eq!(Source::new(&one.url, "records = \"/data\"").rows(&[]), json!([{ "id": 7, "name": "BTC-EUR", "rate": null }]));
}

#[test]
fn a_token_of_the_environment_comes_after_its_prefix_and_check_refuses_one_that_is_not_set() {
    let api = TestApi::requiring_header("authorization: Token tok-1234", |_| Answer::ok(r#"[{"id": 1}]"#.to_owned()));
    let source = Source::new(&api.url, "headers = { Authorization = { prefix = \"Token \", env = \"FOREBAY_TEST_TOKEN\" } }");
    let refused = source.forebay(&["check"], &[]);
    let text = stderr(&refused);
    assert!(!refused.status.success(), "{text}");
    assert!(text.contains("fetcher.headers.Authorization") && text.contains("FOREBAY_TEST_TOKEN is not set"), "{text}");
    let env = [("FOREBAY_TEST_TOKEN", "tok-1234")];
    assert!(source.forebay(&["check"], &env).status.success());
    assert_eq!(source.rows(&env), json!([{ "id": 1, "name": null, "rate": null }]));
    assert_eq!(api.tokens(), ["Token tok-1234"]);
}

#[test]
fn a_status_ends_a_fetch_as_the_statuses_and_the_patience_of_the_file_say() {
    for (lines, status, text) in [
        ("", "404 Not Found", "answered 404 Not Found: no such report"),
        ("statuses = { retry = [404] }\nmax_attempts = 1", "404 Not Found", "answered 404 Not Found"),
        ("max_wait = \"1m\"", "429 Too Many Requests", "it asks to get no request for 2h, and fetcher.max_wait is 1m"),
        ("statuses = { final = [429] }", "429 Too Many Requests", "answered 429"),
    ] {
        let api = TestApi::start(move |_| Answer::of(status, "no such report").with("Retry-After: 7200.0"));
        // Without a limit, 404 is final.
        let plain = TestApi::start(move |_| Answer::of(status, "no such report"));
        let url = if status.starts_with("404") { &plain.url } else { &api.url };
        let source = Source::new(url, lines);
        let end = source.forebay(&["run", "--until-idle", "--json"], &[]);
        let shown = format!("{}{}", String::from_utf8_lossy(&end.stdout), stderr(&end));
        assert!(!end.status.success() && shown.contains(text), "{lines}: {shown}");
    }
}

#[test]
fn pages_of_rows_are_counted_and_a_place_beside_the_records_is_refused() {
    let pages = || {
        TestApi::by_path(|_, path| {
            let body = match path {
                path if path.contains("page=1") => "id,name\n1,a\n2,b\n",
                path if path.contains("page=2") => "id,name\n3,c\n",
                _ => "id,name\n",
            };
            Answer { kind: "text/csv", ..Answer::ok(body.to_owned()) }
        })
    };
    let counted = pages();
    let rows = Source::new(&counted.url, "paging = { kind = \"page\", param = \"page\", size = 2 }").rows(&[]);
    let row = |id: u32, name: &str| json!({ "id": id, "name": name, "rate": null });
    assert_eq!(rows, json!([row(1, "a"), row(2, "b"), row(3, "c")]));

    let named = pages();
    let source = Source::new(&named.url, "paging = { kind = \"cursor\", next = \"/next\", param = \"page\", start = 1 }");
    let end = source.forebay(&["run", "--until-idle", "--json"], &[]);
    assert!(!end.status.success());
    let text = String::from_utf8_lossy(&end.stdout).into_owned() + &stderr(&end);
    assert!(text.contains("each line or row of the answer is a record, so it has no place for fetcher.paging.next"), "{text}");
}

#[test]
fn fields_from_outside_are_added_to_each_record_and_none_is_overwritten_unasked() {
    let api = TestApi::by_path(|_, path| {
        let day: u32 = path.strip_prefix("/?day=2026-01-0").unwrap().parse().unwrap();
        Answer::ok(format!("[{{\"id\": {day}}}, {{\"id\": 1{day}, \"rate\": 1.5}}, {{\"id\": 2{day}, \"name\": \"own\"}}, {day}]"))
    });
    let lines = "params = [\"shop\"]\nquery = { day = \"{{ window.start }}\" }\nwindow = { format = \"date\" }\nmax_rejected = 2\n\
                 headers = { X-Shop = \"{{ params.shop }}\" }\n\
                 add = { name = \"{{ params.shop }} {{ window.start }}\", rate = { value = \"{{ params.shop | json }}\", replace = true } }";
    let source = Source::new(&api.url, lines);
    let running = source.start();
    running.snapshot();
    let days = ["trigger", "--from", "2026-01-01", "--to", "2026-01-03", "--window", "1d", "--param", "shop=7", "--wait", "--json"];
    let end = source.forebay(&days, &[]);
    let summary: Value = serde_json::from_slice(&end.stdout).unwrap_or_else(|_| panic!("{}", stderr(&end)));
    let row = |id: u32, day: u32| json!({ "id": id, "name": format!("7 2026-01-0{day}"), "rate": 7.0 });
    assert_eq!(source.table(), json!([row(1, 1), row(2, 2), row(11, 1), row(12, 2)]), "{summary}");
    let reasons = summary["runs"][0]["rejects"].to_string();
    assert!(reasons.contains("the record already has the field") && reasons.contains("adds fields to objects only"), "{reasons}");
    assert!(running.stop().success());
}

#[test]
fn a_header_of_the_answer_is_a_field_of_each_row_and_doctor_knows_it() {
    for (kind, body) in [("application/json", "[{\"id\": 1}, {\"id\": 2}]"), ("text/csv", "id\n1\n2\n")] {
        let api = TestApi::start(move |_| Answer { kind, ..Answer::ok(body.to_owned()) }.with("X-Region: eu\"1"));
        let source = Source::new(&api.url, "add = { name = { header = \"x-region\" }, rate = { header = \"X-None\" } }");
        let row = |id: u32| json!({ "id": id, "name": "eu\"1", "rate": null });
        assert_eq!(source.rows(&[]), json!([row(1), row(2)]), "{kind}");
        let keyed = Source::new(&api.url, "add = { id = { header = \"X-Region\" } }");
        let doctor = stderr(&keyed.forebay(&["doctor"], &[]));
        assert!(doctor.contains("each would be a dead letter, the first: the record already has the field \"id\""), "{doctor}");
    }
}
