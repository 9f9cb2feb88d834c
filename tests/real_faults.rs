//! Faults while the pipeline runs, with real Kafka and Cassandra: actors panic, a writer stalls,
//! servers go down and return. The rows are complete each time, and the supervisor follows its
//! strategy.

#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use forebay_test_services::{Cassandra, CommitlogSync, Kafka};
use serde_json::Value;
use support::source_api::{Answer, TestApi};
use support::{Job, Running, committed, ends, produce, user, users};

/// Pages of the source API in a panic test, and users per page.
const PAGES: u32 = 20;
const PAGE: u32 = 100;

/// Runs a load in which one actor panics, and returns the restarts by actor.
fn panic_at(failpoint: &str, times_before: u32) -> BTreeMap<String, u64> {
    // Each page is served repeatedly, as by an API that does not remember its clients.
    let api = TestApi::start(|n| Answer::users(n % PAGES * PAGE, (n % PAGES + 1) * PAGE));
    let job = Job::new(Kafka::shared().bootstrap(), &Cassandra::shared().contact_point())
        .fetching(&api.url, Some("50ms"))
        .batches("{ max_records = 50 }", "8MiB")
        .with("[supervisor]\nbackoff_min = \"10ms\"");
    let running = job.start(&[], &[("FAILPOINTS", &format!("{failpoint}={times_before}*off->1*panic(on purpose)->off"))]);
    let panicked = |s: &Value| s["actors"].as_array().unwrap().iter().any(|a| a["last_exit"].as_str().unwrap_or("").contains("on purpose"));
    let all_up = |s: &Value| s["actors"].as_array().unwrap().iter().all(|a| a["state"] == "up");
    running.wait_until("the actor has panicked and is back", |s| panicked(s) && all_up(s));
    let asked = api.requests();
    let snapshot = running.wait_until("every page was served again", |_| api.requests() > asked + PAGES);
    complete(running, &job, Kafka::shared().bootstrap(), Cassandra::shared());
    assert_eq!(Cassandra::shared().count(&format!("{}.users_stream", job.keyspace)), u64::from(PAGES * PAGE), "no row is missing");
    let restarts = |a: &Value| (a["path"].as_str().unwrap().to_owned(), a["incarnation"].as_u64().unwrap() - 1);
    snapshot["actors"].as_array().unwrap().iter().map(restarts).filter(|(_, restarts)| *restarts > 0).collect()
}

fn restarts(of: &[&str]) -> BTreeMap<String, u64> {
    of.iter().map(|path| ((*path).to_owned(), 1)).collect()
}

#[test]
fn a_panic_in_the_writer_restarts_writer_transformer_and_consumer() {
    let expected = restarts(&["root/egress/writer", "root/egress/transformer", "root/egress/consumer"]);
    assert_eq!(panic_at("writer::before_write", 5), expected);
}

#[test]
fn a_panic_after_the_rows_are_written_loses_and_repeats_nothing() {
    let expected = restarts(&["root/egress/writer", "root/egress/transformer", "root/egress/consumer"]);
    assert_eq!(panic_at("writer::after_write", 5), expected);
}

#[test]
fn a_panic_in_the_transformer_restarts_transformer_and_consumer() {
    assert_eq!(panic_at("transformer::before_transform", 5), restarts(&["root/egress/transformer", "root/egress/consumer"]));
}

#[test]
fn a_panic_in_the_consumer_restarts_the_consumer_alone() {
    assert_eq!(panic_at("consumer::before_send", 5), restarts(&["root/egress/consumer"]));
}

#[test]
fn a_panic_in_the_producer_restarts_producer_and_fetcher() {
    assert_eq!(panic_at("producer::before_produce", 5), restarts(&["root/ingest/producer", "root/ingest/fetcher"]));
}

#[test]
fn a_panic_in_the_fetcher_restarts_the_fetcher_alone() {
    assert_eq!(panic_at("fetcher::after_fetch", 5), restarts(&["root/ingest/fetcher"]));
}

#[test]
fn a_stalled_writer_stops_the_consumer_at_its_budget_within_its_group() {
    // Records of equal weight: key, value and 64 bytes each. A batch is ten of them, the budget
    // thirty-five.
    let kafka = Kafka::shared();
    let value = user(1, 1);
    let weight = user_key(0).len() + value.len() + 64;
    let budget = weight * 35;
    let job = Job::new(kafka.bootstrap(), &Cassandra::shared().contact_point())
        .batches(&format!("{{ max_records = 10, max_bytes = \"{}\" }}", weight * 10), &budget.to_string())
        .with("[kafka.properties]\n\"session.timeout.ms\" = \"6000\"\n\"max.poll.interval.ms\" = \"7000\"");
    kafka.create_topic(&job.topic, 4);
    produce(kafka.bootstrap(), &job.topic, (0..1_000).map(|n| (user_key(n), value.clone().into_bytes())));
    let running = job.start(&["--roles", "egress,api"], &[("FAILPOINTS", "writer::before_write=8*sleep(15000)->off")]);
    let used = |s: &Value| s["edges"][0]["used_bytes"].as_u64().unwrap();
    let full = |s: &Value| used(s) == budget as u64;
    running.wait_until("the budget is used to the byte", full);
    for _ in 0..10 {
        std::thread::sleep(Duration::from_secs(1));
        let snapshot = running.snapshot();
        assert!(full(&snapshot), "{} of {budget}", used(&snapshot));
        let partitions = snapshot["partitions"].as_array().unwrap();
        assert!(partitions.iter().all(|p| p["assigned"] == true), "it left its group");
    }
    running.wait_until("everything is written after the stall", |s| s["totals"]["consumed"] == 1_000);
    assert_eq!(running.snapshot()["totals"]["restarts"], 0);
    assert!(running.stop().success());
}

fn user_key(n: u32) -> String {
    format!("{n:06}")
}

#[test]
fn a_kafka_restart_loses_no_record() {
    let mut kafka = Kafka::start();
    let api = TestApi::start(|n| Answer::users(n * 10, n * 10 + 10));
    let job = Job::new(kafka.bootstrap(), &Cassandra::shared().contact_point()).fetching(&api.url, Some("20ms"));
    let running = job.start(&[], &[]);
    running.wait_until("records flow", |s| s["totals"]["written"].as_u64().unwrap() > 500);
    kafka.kill();
    let snapshot = running.wait_until("the unreachable Kafka is reported", |s| says(s, "kafka"));
    assert!(snapshot["totals"]["restarts"].as_u64().unwrap() <= 2, "waiting is not a failure");
    kafka.restart();
    let before = running.snapshot()["totals"]["written"].as_u64().unwrap();
    running.wait_until("records flow again", |s| s["totals"]["written"].as_u64().unwrap() > before + 500);
    complete(running, &job, kafka.bootstrap(), Cassandra::shared());
}

#[test]
fn a_cassandra_restart_loses_no_row() {
    let mut cassandra = Cassandra::start(CommitlogSync::Batch);
    let kafka = Kafka::shared();
    let api = TestApi::start(|n| Answer::users(n * 10, n * 10 + 10));
    let job = Job::new(kafka.bootstrap(), &cassandra.contact_point()).fetching(&api.url, Some("20ms"));
    let running = job.start(&[], &[]);
    running.wait_until("records flow", |s| s["totals"]["written"].as_u64().unwrap() > 500);
    cassandra.kill();
    running.wait_until("the unreachable Cassandra is reported", |s| says(s, "cassandra"));
    cassandra.restart();
    let before = running.snapshot()["totals"]["written"].as_u64().unwrap();
    let snapshot = running.wait_until("records flow again", |s| s["totals"]["written"].as_u64().unwrap() > before + 500);
    assert_eq!(snapshot["totals"]["restarts"], 0, "waiting is not a failure");
    complete(running, &job, kafka.bootstrap(), &cassandra);
}

/// Maximum time to report a frozen server: ten seconds, plus the time of a poll.
const REPORT_TIMEOUT: Duration = Duration::from_secs(11);

#[test]
fn a_frozen_kafka_is_reported_within_ten_seconds_and_loses_no_record() {
    let mut kafka = Kafka::start();
    let api = TestApi::start(|n| Answer::users(n * 10, n * 10 + 10));
    let job = Job::new(kafka.bootstrap(), &Cassandra::shared().contact_point()).fetching(&api.url, Some("20ms"));
    let running = job.start(&[], &[]);
    running.wait_until("records flow", |s| s["totals"]["written"].as_u64().unwrap() > 500);
    kafka.pause();
    std::thread::sleep(REPORT_TIMEOUT);
    let snapshot = running.snapshot();
    for actor in ["root/egress/consumer", "root/ingest/producer"] {
        let actor = Running::actor(&snapshot, actor);
        assert!(actor["note"].as_str().unwrap_or_default().contains("has not answered for"), "{actor:#}");
    }
    kafka.resume();
    let before = running.snapshot()["totals"]["written"].as_u64().unwrap();
    running.wait_until("records flow again", |s| s["totals"]["written"].as_u64().unwrap() > before + 500);
    running.wait_until("it is reported no longer", |s| !says(s, "has not answered"));
    complete(running, &job, kafka.bootstrap(), Cassandra::shared());
}

#[test]
fn a_frozen_cassandra_is_reported_within_ten_seconds_even_when_idle() {
    let mut cassandra = Cassandra::start(CommitlogSync::Batch);
    let kafka = Kafka::shared();
    let job = Job::new(kafka.bootstrap(), &cassandra.contact_point());
    kafka.create_topic(&job.topic, 4);
    produce(kafka.bootstrap(), &job.topic, users(100));
    let running = job.start(&["--roles", "egress,api"], &[]);
    running.wait_until("everything is written", |s| s["totals"]["written"] == 100);
    cassandra.pause();
    std::thread::sleep(REPORT_TIMEOUT);
    let writer = Running::actor(&running.snapshot(), "root/egress/writer");
    assert!(writer["note"].as_str().unwrap_or_default().contains("no node is connected"), "{writer:#}");
    cassandra.resume();
    running.wait_until("it is reported no longer", |s| !says(s, "cassandra"));
    produce(kafka.bootstrap(), &job.topic, (100..200).map(|n| (support::user_id(n), user(n, 1).into_bytes())));
    running.wait_until("the rest is written", |s| s["totals"]["written"] == 200);
    assert!(running.stop().success());
}

#[test]
fn a_start_waits_for_unreachable_servers() {
    let mut cassandra = Cassandra::start(CommitlogSync::Batch);
    let kafka = Kafka::shared();
    let job = Job::new(kafka.bootstrap(), &cassandra.contact_point());
    kafka.create_topic(&job.topic, 4);
    produce(kafka.bootstrap(), &job.topic, users(100));
    cassandra.kill();
    let running = job.start(&["--roles", "egress,api"], &[]);
    let snapshot = running.wait_until("it waits", |s| says(s, "cassandra"));
    assert_eq!(Running::actor(&snapshot, "root/egress/writer")["state"], "waiting");
    cassandra.restart();
    running.wait_until("everything is written", |s| s["totals"]["written"] == 100);
    assert!(running.stop().success());
}

#[test]
fn a_run_retries_an_unreachable_source_until_it_returns() {
    let api = TestApi::start(|n| if n < 3 { Answer::unavailable() } else { Answer::users(0, 40) });
    let job = Job::new(Kafka::shared().bootstrap(), &Cassandra::shared().contact_point()).fetching(&api.url, Some("1h"));
    let summary = job.run_until_idle();
    assert_eq!((&summary["fetched"], &summary["written"], &summary["restarts"]), (&40.into(), &40.into(), &0.into()));
    assert_eq!(api.requests(), 4);
}

/// Whether an actor's note mentions a server.
fn says(snapshot: &Value, server: &str) -> bool {
    let notes = snapshot["actors"].as_array().unwrap().iter().filter_map(|actor| actor["note"].as_str());
    notes.into_iter().any(|note| note.to_lowercase().contains(server))
}

/// Distinct keys in a topic.
fn distinct(bootstrap: &str, topic: &str) -> u64 {
    let keys: BTreeSet<_> = support::read_all(bootstrap, topic, 4).into_iter().map(|(key, ..)| key).collect();
    keys.len() as u64
}

/// Stops the pipeline, writes what is left in the topic, and compares the table with the topic.
fn complete(running: Running, job: &Job, bootstrap: &str, cassandra: &Cassandra) {
    assert!(running.stop().success());
    let rest = job.forebay(&["run", "--until-idle", "--roles", "egress", "--json"]);
    assert!(rest.status.success(), "{}", String::from_utf8_lossy(&rest.stderr));
    assert_eq!(committed(bootstrap, &job.group, &job.topic, 4), ends(bootstrap, &job.topic, 4));
    assert_eq!(cassandra.count(&format!("{}.users_stream", job.keyspace)), distinct(bootstrap, &job.topic));
}
