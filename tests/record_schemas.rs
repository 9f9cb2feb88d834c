//! Record schemas as people and registries write them, through the whole program. Embedded; needs
//! no server.

#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod support;

use serde_json::{Value, json};
use support::source_api::{Answer, TestApi};
use support::{Job, stderr};

/// An API with these records on one page. The producer's key is `/login/uuid`.
fn api(records: &[Value]) -> TestApi {
    let keyed = |(at, record): (usize, &Value)| {
        let mut record = record.clone();
        record["login"] = json!({ "uuid": at.to_string() });
        record.to_string()
    };
    let records: Vec<String> = records.iter().enumerate().map(keyed).collect();
    let body = format!("{{\"results\":[{}]}}", records.join(","));
    TestApi::start(move |_| Answer::ok(body.clone()))
}

/// The reasons of the dead letters, oldest first.
fn reasons(job: &Job) -> Vec<String> {
    let running = job.start(&[], &[]);
    running.snapshot();
    let end = job.forebay(&["dlq", "--json"]);
    assert!(end.status.success(), "{}", stderr(&end));
    let letters = String::from_utf8_lossy(&end.stdout);
    let reason = |line: &str| serde_json::from_str::<Value>(line).unwrap()["reason"].as_str().unwrap().to_owned();
    let mut reasons: Vec<String> = letters.lines().map(reason).collect();
    reasons.reverse();
    assert!(running.stop().success());
    reasons
}

const ORDER: &str = r##"{
  "$schema": "http://json-schema.org/draft-07/schema#",
  "$ref": "#/definitions/Order",
  "definitions": {
    "Order": {
      "title": "Order",
      "type": "object",
      "additionalProperties": false,
      "required": ["id", "state"],
      "properties": {
        "id": { "type": "string", "pattern": "^A[0-9]+$" },
        "state": { "enum": ["open", "paid"] },
        "total": { "oneOf": [{ "type": "null" }, { "$ref": "#/definitions/Money" }] },
        "code": { "type": ["string", "number", "boolean"] }
      }
    },
    "Money": { "type": "number", "minimum": 0, "javaType": "java.math.BigDecimal" }
  }
}"##;

#[test]
fn a_violation_of_a_limit_is_a_dead_letter_and_check_names_what_is_not_enforced() {
    let records = [
        json!({ "id": "A1", "state": "open", "total": 7.5, "code": 7.5 }),
        json!({ "id": "A2", "state": "paid", "total": null, "code": "x" }),
        json!({ "id": "A3", "state": "void", "total": 1 }),
        json!({ "id": "A4", "state": "paid", "total": -1, "code": true }),
        json!({ "id": "not by the pattern", "state": "paid", "code": true }),
    ];
    let api = api(&records);
    let job = Job::new("embedded", "embedded")
        .with_partitions(1)
        .fetching(&api.url, None)
        .of_records(ORDER, "SELECT id, state, total, code FROM users_stream");
    let check = job.forebay(&["check", "--json"]);
    let answer: Value = serde_json::from_slice(&check.stdout).unwrap();
    assert_eq!(answer["columns"], json!({ "id": "text", "state": "text", "total": "double", "code": "text" }), "{}", stderr(&check));
    let warnings: Vec<_> = answer["warnings"].as_array().unwrap().iter().filter(|warning| warning["code"] == "not_enforced").collect();
    assert_eq!(warnings.len(), 2, "{answer}");
    assert!(
        warnings[0]["what"].as_str().unwrap().starts_with("the record's schema, line 8: `\"additionalProperties\": false`"),
        "{answer}"
    );
    assert!(warnings[1]["what"].as_str().unwrap().starts_with("the record's schema, line 11: `pattern` is not enforced"), "{answer}");

    let summary = job.run_until_idle();
    assert_eq!((summary["written"].as_u64(), summary["rejected"].as_u64()), (Some(3), Some(2)), "{summary}");
    let rows = job.query("SELECT id, total, code FROM own ORDER BY id");
    assert_eq!(
        rows,
        [
            json!({ "id": "A1", "total": 7.5, "code": "7.5" }),
            json!({ "id": "A2", "total": null, "code": "x" }),
            json!({ "id": "not by the pattern", "total": null, "code": "true" }),
        ]
    );
    assert_eq!(reasons(&job), [r#"`/state` must be one of "open", "paid", but is "void""#, "`/total` must be at least 0, but is -1"]);
}

#[test]
fn check_reports_all_refusals_of_a_schema_with_file_line_value_and_remedy() {
    let schema = ORDER.replace("\"#/definitions/Money\"", "\"money.json\"").replace("[\"string\", \"number\", \"boolean\"]", "\"decimal\"");
    let job = Job::new("embedded", "embedded").of_records(&schema, "SELECT id FROM users_stream");
    let end = job.forebay(&["check"]);
    assert_eq!(end.status.code(), Some(2));
    let text = stderr(&end);
    for part in [
        "users.schema.json:13:",
        "\"money.json\" is not in this file",
        "\"#/$defs/NAME\"",
        "users.schema.json:14:",
        "\"decimal\" is no type",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let end = job.forebay(&["check", "--json"]);
    let error = &serde_json::from_slice::<Value>(&end.stdout).unwrap()["error"];
    assert_eq!((&error["line"], &error["others"][0]["line"]), (&13.into(), &14.into()), "{error}");
    assert!(error["others"][0]["help"].as_str().is_some() && error["file"].as_str().unwrap().ends_with("users.schema.json"), "{error}");
}

#[test]
fn times_are_read_by_their_format_and_a_number_without_one_names_it() {
    let schema = json!({"type": "object", "required": ["id"], "properties": {
        "id": {"type": "string"},
        "made": {"type": "integer", "format": "epoch-millis"},
        "sent": {"type": "string", "format": "date-time-local", "x-timezone": "Asia/Singapore"},
        "paid": {"type": "string", "format": "date-time"},
        "seen": {"type": "integer"},
    }});
    let records = [
        json!({ "id": "a", "made": 1_700_000_000_123_i64, "sent": "2026-11-28 10:00:00", "paid": "2026-11-28T10:00:00Z", "seen": 1 }),
        json!({ "id": "b", "paid": 1_700_000_000_123_i64 }),
        json!({ "id": "c", "made": 1_700_000_000_123_000_i64 }),
    ];
    let api = api(&records);
    let sql = "SELECT id, made, sent, paid FROM users_stream";
    let job = Job::new("embedded", "embedded").with_partitions(1).fetching(&api.url, None).of_records(&schema.to_string(), sql);
    let summary = job.run_until_idle();
    assert_eq!((summary["written"].as_u64(), summary["rejected"].as_u64()), (Some(1), Some(2)), "{summary}");
    let rows = job.query("SELECT * FROM own");
    let row =
        json!({ "id": "a", "made": "2023-11-14T22:13:20.123Z", "sent": "2026-11-28T02:00:00.000Z", "paid": "2026-11-28T10:00:00.000Z" });
    assert_eq!(rows, [row]);
    let reasons = reasons(&job);
    assert!(reasons[0].ends_with("for numbers, write \"type\": \"integer\", \"format\": \"epoch-millis\" in the schema"), "{reasons:?}");
    assert!(reasons[1].starts_with("`/made` must be a time in milliseconds since 1970, in the years 1 to 9999"), "{reasons:?}");

    let declared = Job::new("embedded", "embedded").of_records(&schema.to_string(), "SELECT id, seen FROM users_stream");
    let path = declared.write();
    let text = std::fs::read_to_string(&path).unwrap().replace("[writer]\n", "[writer]\ncolumns = { seen = \"timestamp\" }\n");
    std::fs::write(&path, text).unwrap();
    let mut command = support::forebay();
    command.args(["check", "-c"]).arg(&path);
    let end = support::output(command);
    assert_eq!(end.status.code(), Some(2));
    let text = stderr(&end).split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(text.contains("\"format\": \"epoch-millis\"") && text.contains("to_timestamp_millis(seen)"), "{text}");
}

#[test]
fn a_whole_record_and_an_object_of_changing_keys_become_columns_of_json() {
    let schema = json!({"type": "object", "required": ["id"], "properties": {"id": {"type": "string"}, "data": {"type": "object"}}});
    let records =
        [json!({ "id": "a", "data": { "k1": [1, null] } }), json!({ "id": "b", "other": true }), json!({ "id": "c", "data": "x" })];
    let api = api(&records);
    let sql = "SELECT id, data, _value AS payload FROM users_stream";
    let job = Job::new("embedded", "embedded").with_partitions(1).fetching(&api.url, None).of_records(&schema.to_string(), sql);
    let check: Value = serde_json::from_slice(&job.forebay(&["check", "--json"]).stdout).unwrap();
    assert_eq!(check["columns"], json!({ "id": "text", "data": "text", "payload": "text" }), "{check}");
    let summary = job.run_until_idle();
    assert_eq!((summary["written"].as_u64(), summary["rejected"].as_u64()), (Some(2), Some(1)), "{summary}");
    let rows = job.query("SELECT * FROM own ORDER BY id");
    let of = |row: &Value, column: &str| -> Value { serde_json::from_str(row[column].as_str().unwrap()).unwrap() };
    assert_eq!(of(&rows[0], "data"), json!({ "k1": [1, null] }));
    assert_eq!(of(&rows[1], "payload"), json!({ "id": "b", "other": true, "login": { "uuid": "1" } }));
    assert_eq!(rows[1]["data"], Value::Null);
    assert_eq!(reasons(&job), ["`/data` must be an object, but is \"x\""]);
}
