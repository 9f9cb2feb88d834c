//! Fields of an API that the schema does not have: reported once, counted, and rejected if the file
//! says so. Embedded; needs no server.

#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod support;

use serde_json::Value;
use support::source_api::{Answer, TestApi};
use support::{Job, user};

/// A page of two users; the second one has a field that the schema lacks.
fn with_new_field() -> Answer {
    let second = user(2, 1).replacen('{', "{\"loyalty\":{\"tier\":1},", 1);
    Answer::ok(format!("{{\"results\":[{},{second}]}}", user(1, 1)))
}

#[test]
fn a_new_field_is_in_one_event_and_in_the_status_metrics_and_doctor() {
    let api = TestApi::start(|_| with_new_field());
    let job = Job::new("embedded", "embedded").fetching(&api.url, Some("50ms"));
    let running = job.start(&[], &[]);
    let drifted = |s: &Value| s["drift"].as_array().is_some_and(|drift| drift.iter().any(|seen| seen["field"] == "/loyalty"));
    let snapshot = running.wait_until("the field is seen", |s| drifted(s) && s["totals"]["written"].as_u64().unwrap() > 20);
    let kinds: Vec<_> = snapshot["drift"].as_array().unwrap().iter().filter(|seen| seen["field"] == "/loyalty").collect();
    assert_eq!(kinds.len(), 1);
    assert_eq!(kinds[0]["kind"], "object");
    assert_eq!(snapshot["totals"]["rejected"], 0);
    let status = String::from_utf8(job.forebay(&["status"]).stdout).unwrap();
    assert!(status.contains("fields that the schema does not have") && status.contains("/loyalty (object), first in p"), "{status}");
    let metrics = support::control_api::ControlApi::new(running.url()).get("/metrics");
    assert!(metrics.body.as_str().unwrap().contains("forebay_drifted_fields"), "{metrics:?}");
    assert!(running.stop().success());
    let again = job.run_until_idle();
    assert_eq!(again["rejected"], 0);
    let events: Vec<_> = job.events("SchemaDrifted");
    let fields: Vec<&Value> = events.iter().flat_map(|event| event["data"]["fields"].as_array().unwrap()).collect();
    assert_eq!(fields.iter().filter(|seen| seen["field"] == "/loyalty").count(), 1, "{fields:?}");
    let doctor = job.forebay(&["doctor"]);
    let said = format!("{}{}", String::from_utf8_lossy(&doctor.stdout), String::from_utf8_lossy(&doctor.stderr));
    assert!(said.contains("the schema does not have /cell, /id, /nat and 13 more"), "{said}");
}

#[test]
fn with_drift_reject_a_record_with_a_new_field_is_a_dead_letter() {
    let api = TestApi::start(|_| with_new_field());
    let job = Job::new("embedded", "embedded").fetching(&api.url, Some("1h"));
    let path = job.write();
    let text = std::fs::read_to_string(&path).unwrap().replace("[transformer]\n", "[transformer]\ndrift = \"reject\"\n");
    std::fs::write(&path, text).unwrap();
    let mut command = support::forebay();
    command.args(["run", "--until-idle", "--json", "-c"]).arg(&path);
    let end = support::output(command);
    assert_eq!(end.status.code(), Some(6), "every record has a field that the schema lacks");
    let log = support::stderr(&end);
    assert!(log.contains("records with them are dead letters") && log.contains("is not in the schema"), "{log}");
    let summary = String::from_utf8(end.stdout).unwrap();
    assert!(summary.contains("\"rejected\":2"), "{summary}");
}
