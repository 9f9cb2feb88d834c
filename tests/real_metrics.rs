//! `/metrics` under load, parsed with Prometheus' parsers and compared with the snapshot.

#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use forebay_test_services::prometheus;
use serde_json::Value;
use support::source_api::{Answer, TestApi};
use support::{Job, TIMEOUT, bad_user, user};

/// Type and value by name and labels.
type Samples = BTreeMap<(String, BTreeMap<String, String>), (String, f64)>;

/// Sends a GET request with an `Accept` header.
fn get(url: &str, path: &str, accept: &str) -> (String, String) {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let answer = client.get(format!("{url}{path}")).header("accept", accept).send().await.unwrap().error_for_status().unwrap();
        let kind = answer.headers()["content-type"].to_str().unwrap().to_owned();
        (kind, answer.text().await.unwrap())
    })
}

fn parsed(format: &str, text: &str) -> Samples {
    let mut samples = Samples::new();
    for line in prometheus::parse(format, text) {
        let (kind, name, labels, value): (String, String, BTreeMap<String, String>, f64) = serde_json::from_str(&line).unwrap();
        let before = samples.insert((name.clone(), labels.clone()), (kind, value));
        assert!(before.is_none(), "{name} has {labels:?} twice");
    }
    assert!(samples.len() > 100, "{text}");
    samples
}

fn scrape(url: &str) -> Samples {
    let (kind, text) = get(url, "/metrics", "text/plain");
    assert_eq!(kind, "text/plain; version=0.0.4; charset=utf-8");
    prometheus::check_metrics(&text);
    parsed("prometheus", &text)
}

fn value(samples: &Samples, name: &str, labels: &[(&str, &str)]) -> f64 {
    let has = |have: &BTreeMap<String, String>| labels.iter().all(|(label, value)| have.get(*label).is_some_and(|have| have == value));
    let found: Vec<f64> = samples.iter().filter(|((have, labels), _)| have == name && has(labels)).map(|(_, (_, value))| *value).collect();
    assert_eq!(found.len(), 1, "{name} {labels:?}: {found:?}");
    found[0]
}

#[test]
fn metrics_under_load_are_valid_monotonic_and_bounded() {
    let api = TestApi::start(|n| Answer::users(n * 50, n * 50 + 50));
    let job = Job::new("embedded", "embedded").fetching(&api.url, Some("20ms"));
    let running = job.start(&[], &[]);
    let written = |s: &Value| s["totals"]["written"].as_u64().unwrap();
    running.wait_until("records flow", |s| written(s) > 500);
    let first = scrape(running.url());
    let run = job.forebay(&["trigger", "--key", "a key that is not a label", "--wait"]);
    assert!(run.status.success(), "{run:?}");
    running.wait_until("more records flow", |s| written(s) > 5_000);
    let second = scrape(running.url());

    let mut rose = 0;
    for ((name, labels), (kind, before)) in &first {
        if kind != "counter" && kind != "histogram" {
            continue;
        }
        let (_, after) = second.get(&(name.clone(), labels.clone())).unwrap_or_else(|| panic!("{name} {labels:?} is gone"));
        assert!(after >= before, "{name} {labels:?} fell from {before} to {after}");
        rose += usize::from(after > before);
    }
    assert!(rose > 40, "only {rose} rose");

    // Time and load add no series, except the run's end and buckets of later stages.
    let series = |samples: &Samples| samples.keys().cloned().collect::<BTreeSet<_>>();
    let new: Vec<_> = series(&second).difference(&series(&first)).cloned().collect();
    assert!(new.iter().all(|(name, _)| name == "forebay_kafka_lag_seconds" || name.starts_with("forebay_http")), "{new:?}");
    let text = get(running.url(), "/metrics", "*/*").1;
    assert!(!text.contains("a key that is not a label") && text.lines().count() < 1_000, "{text}");
    assert_eq!(value(&second, "forebay_runs_ended_total", &[("state", "succeeded")]), 1.0);
    assert!(value(&second, "forebay_http_responses_total", &[("status_class", "2xx")]) > 10.0);
    assert!(value(&second, "forebay_memory_resident_bytes", &[]) > 1e6);
    for stage in ["fetch", "produce", "wait", "transform", "write", "commit"] {
        let of_stage = |suffix| value(&second, &format!("forebay_stage_duration_seconds_{suffix}"), &[("stage", stage)]);
        assert!(of_stage("count") > 3.0 && of_stage("sum") > 0.0, "{stage}");
    }
    assert_eq!(value(&second, "forebay_db_statements_total", &[("db_system", "embedded")]), {
        value(&second, "forebay_batches_total", &[])
    });

    let (kind, text) = get(running.url(), "/metrics", "application/openmetrics-text; version=1.0.0");
    assert!(kind.starts_with("application/openmetrics-text"), "{kind}");
    let open = parsed("openmetrics", &text);
    assert!(series(&open).is_superset(&series(&first)), "both formats have the same series");
    assert!(running.stop().success());
}

#[test]
fn metrics_at_rest_match_the_snapshot() {
    let bad_at = |n: u32| if n == 2 { bad_user(9, 2) } else { user(9 + n, 1) };
    let api = TestApi::start(move |n| match n {
        0..3 => Answer::ok(format!("{{\"results\":[{},{}]}}", user(n, 1), bad_at(n))),
        _ => Answer::unavailable(),
    });
    let job = Job::new("embedded", "embedded").fetching(&api.url, Some("50ms"));
    let running = job.start(&[], &[]);
    let snapshot = running.wait_until("everything is written and reported", |s| {
        let alerted = s["alerts"].as_array().unwrap().iter().any(|alert| alert["name"] == "ForebayDeadLetters");
        let commits = s["partitions"].as_array().unwrap().iter().all(|p| p["committed"] == p["end"] || p["end"] == 0);
        let failed = s["source"]["statuses"]["5xx"].as_u64().unwrap_or(0) > 0;
        s["totals"]["written"] == 5 && s["totals"]["rejected"] == 1 && alerted && commits && failed
    });
    let samples = scrape(running.url());
    let totals = &snapshot["totals"];
    for (name, total) in [
        ("forebay_pages_total", "pages"),
        ("forebay_records_fetched_total", "fetched"),
        ("messaging_client_sent_messages_total", "produced"),
        ("messaging_client_consumed_messages_total", "consumed"),
        ("forebay_rows_written_total", "written"),
        ("forebay_records_rejected_total", "rejected"),
    ] {
        assert_eq!(Some(value(&samples, name, &[])), totals[total].as_f64(), "{name}");
    }
    for partition in snapshot["partitions"].as_array().unwrap() {
        let number = partition["partition"].to_string();
        let of = |name: &str| value(&samples, name, &[("partition", &number), ("topic", &job.topic)]);
        assert_eq!((of("forebay_kafka_lag_records"), of("forebay_kafka_lag_seconds")), (0.0, 0.0));
        assert_eq!((partition["behind_ms"].as_i64(), Some(of("forebay_kafka_end_offset"))), (Some(0), partition["end"].as_f64()));
        assert_eq!(Some(of("forebay_kafka_written_offset")), partition["written"].as_f64());
    }
    for actor in snapshot["actors"].as_array().unwrap() {
        let path = actor["path"].as_str().unwrap();
        assert_eq!(value(&samples, "forebay_actor_restarts_total", &[("actor", path)]), 0.0);
        assert_eq!((&actor["restarts"], actor["mailbox"].as_u64().unwrap() < 3), (&0.into(), true), "{actor}");
    }
    for edge in snapshot["edges"].as_array().unwrap() {
        let name = edge["name"].as_str().unwrap();
        assert_eq!(Some(value(&samples, "forebay_edge_budget_bytes", &[("edge", name)])), edge["budget_bytes"].as_f64());
    }
    let batches = snapshot["batches"].as_array().unwrap();
    assert!(batches.iter().all(|batch| batch["commit_micros"].as_u64().unwrap() > 0 && !batch["ranges"].as_object().unwrap().is_empty()));
    assert_eq!(snapshot["source"]["url"], api.url.as_str());
    assert_eq!((&snapshot["store"]["kind"], snapshot["store"]["nodes"].as_array().unwrap().len()), (&"embedded".into(), 1));
    assert!(value(&samples, "forebay_http_responses_total", &[("status_class", "5xx")]) > 0.0);
    let until = Instant::now() + TIMEOUT;
    while value(&scrape(running.url()), "forebay_http_throttled_seconds_total", &[]) == 0.0 {
        assert!(Instant::now() < until, "a failing API is backed off from");
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(running.stop().success());
}

/// The shipped rules, on series that trigger them.
#[test]
fn promtool_accepts_the_alert_rules_and_they_fire() {
    let rules = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/grafana/alerts.yml");
    let report = prometheus::check_rules(&rules);
    assert!(report.contains("SUCCESS"), "{report}");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("test.yml");
    let series = |name: &str, labels: &str, values: &str| {
        let labels = format!("pipeline=\"users\",instance=\"a\",job=\"forebay\"{labels}");
        format!("      - {{ series: '{name}{{{labels}}}', values: '{values}' }}\n")
    };
    let input = [
        series("forebay_build_info", ",version=\"1\"", "1x40"),
        series("forebay_kafka_lag_records", ",topic=\"t\",partition=\"0\"", "2000+100x40"),
        series("forebay_kafka_lag_seconds", ",topic=\"t\",partition=\"0\"", "10+60x40"),
        series("forebay_batches_total", "", "7x40"),
        series("forebay_desired_state", ",state=\"paused\"", "0x40"),
        series("forebay_records_rejected_total", "", "0+1x40"),
        series("forebay_actor_restarts_total", ",actor=\"root/x\"", "0+1x40"),
        series("forebay_actor_state", ",actor=\"root/x\",state=\"stuck\"", "1x40"),
        series("forebay_actor_state", ",actor=\"root/y\",state=\"waiting\"", "1x40"),
        series("forebay_actor_state", ",actor=\"root/z\",state=\"ended\"", "1x40"),
        series("forebay_http_responses_total", ",status_class=\"5xx\"", "0+9x40"),
        series("forebay_http_responses_total", ",status_class=\"2xx\"", "0+1x40"),
        series("forebay_backpressure_seconds_total", ",edge=\"a -> b\"", "0+60x40"),
        series("forebay_db_retries_total", ",db_system=\"cassandra\",reason=\"overloaded\"", "0+9x40"),
        series("forebay_journal_last_sequence", "", "50000x40"),
        series("forebay_journal_durable_sequence", "", "10x40"),
        series("forebay_memory_resident_bytes", "", "9000000000x40"),
        series("forebay_edge_budget_bytes", ",edge=\"a -> b\"", "1000x40"),
        series("forebay_fetch_complete", "", "0x40"),
        series("forebay_disk_free_bytes", "", "1000x40"),
        series("forebay_disk_used_bytes", ",part=\"topics\"", "9000000000x40"),
        series("forebay_disk_retention_bytes", "", "1000000000x40"),
    ];
    let text = std::fs::read_to_string(&rules).unwrap();
    let names: Vec<_> = text.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(names.len() > 10, "{names:?}");
    let fire = |name: &&str| {
        format!(
            "      - {{ expr: 'count(ALERTS{{alertname=\"{name}\",alertstate=\"firing\"}})', eval_time: 30m, exp_samples: [{{ labels: '{{}}', value: 1 }}] }}\n"
        )
    };
    let fired: String = names.iter().filter(|name| **name != "ForebayDown").map(fire).collect();
    let well = "  - interval: 1m\n    input_series:\n      - { series: 'forebay_build_info{pipeline=\"users\"}', values: '1x40' }\n    promql_expr_test:\n      \
                - { expr: 'count(ALERTS)', eval_time: 30m, exp_samples: [] }\n";
    let gone = "  - interval: 1m\n    input_series: []\n    promql_expr_test:\n      \
                - { expr: 'count(ALERTS{alertname=\"ForebayDown\",alertstate=\"firing\"})', eval_time: 30m, exp_samples: [{ labels: '{}', value: 1 }] }\n";
    let text = format!(
        "rule_files: [{:?}]\nevaluation_interval: 30s\ntests:\n  - interval: 1m\n    input_series:\n{}    promql_expr_test:\n{fired}{well}{gone}",
        rules.display().to_string(),
        input.concat()
    );
    std::fs::write(&file, text).unwrap();
    prometheus::test_rules(&file);
}
