//! Faults while the pipeline runs, with real Kafka and Cassandra: actors panic, a writer stalls,
//! servers go down and return, networks fail, the processor is busy. The rows are complete each
//! time, and the supervisor follows its strategy.

#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use forebay_test_services::{Cassandra, CommitlogSync, Kafka, NetworkFault, Proxy};
use serde_json::Value;
use support::oracle::{Topic, finish, rows};
use support::resources::{Resources, assert_bounded, process_bytes, recovered};
use support::source_api::{Answer, TestApi};
use support::{Job, Running, committed, ends, now_ms, produce, stderr, user, users};

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
    running.wait_until("records flow", |s| written(s) > 500);
    let resources = Resources::of(&running);
    kafka.kill();
    let snapshot = running.wait_until("the unreachable Kafka is reported", |s| says(s, "kafka"));
    assert!(snapshot["totals"]["restarts"].as_u64().unwrap() <= 2, "waiting is not a failure");
    kafka.restart();
    recovered(&running, "a restart of Kafka", 500);
    resources.assert_bounded(&running);
    complete(running, &job, kafka.bootstrap(), Cassandra::shared());
}

#[test]
fn a_cassandra_restart_loses_no_row() {
    let mut cassandra = Cassandra::start(CommitlogSync::Batch);
    let kafka = Kafka::shared();
    let api = TestApi::start(|n| Answer::users(n * 10, n * 10 + 10));
    let job = Job::new(kafka.bootstrap(), &cassandra.contact_point()).fetching(&api.url, Some("20ms"));
    let running = job.start(&[], &[]);
    running.wait_until("records flow", |s| written(s) > 500);
    let resources = Resources::of(&running);
    cassandra.kill();
    running.wait_until("the unreachable Cassandra is reported", |s| says(s, "cassandra"));
    cassandra.restart();
    recovered(&running, "a restart of Cassandra", 500);
    assert_eq!(running.snapshot()["totals"]["restarts"], 0, "waiting is not a failure");
    resources.assert_bounded(&running);
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
    running.wait_until("records flow", |s| written(s) > 500);
    let resources = Resources::of(&running);
    kafka.pause();
    std::thread::sleep(REPORT_TIMEOUT);
    let snapshot = running.snapshot();
    for actor in ["root/egress/consumer", "root/ingest/producer"] {
        let actor = Running::actor(&snapshot, actor);
        assert!(actor["note"].as_str().unwrap_or_default().contains("has not answered for"), "{actor:#}");
    }
    kafka.resume();
    recovered(&running, "a freeze of Kafka", 500);
    running.wait_until("it is reported no longer", |s| !says(s, "has not answered"));
    resources.assert_bounded(&running);
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

fn written(snapshot: &Value) -> u64 {
    snapshot["totals"]["written"].as_u64().unwrap()
}

/// Every fault of a network.
const NETWORK_FAULTS: [NetworkFault; 9] = [
    NetworkFault::Slow { delay: Duration::from_millis(200), bandwidth: 125_000 },
    NetworkFault::Sliced,
    NetworkFault::Silent,
    NetworkFault::LostAnswers,
    NetworkFault::LostRequests,
    NetworkFault::HalfOpen,
    NetworkFault::ResetAfter(10_000),
    NetworkFault::ResetAfter(1_500),
    NetworkFault::Reset,
];

/// Runs a load during which each fault of the network holds for some seconds. Asserts that records
/// flow again soon, that broken connections are closed, that nothing restarts, and that the table
/// follows from the topic. Returns the number of records that were produced, and of those in the
/// topic.
fn through_network_faults(bootstrap: &str, contact_point: &str, proxy: &Proxy) -> (u64, u64) {
    let api = TestApi::start(Answer::versions);
    let job = Job::new(bootstrap, contact_point)
        .fetching(&api.url, Some("20ms"))
        .batches("{ max_records = 50 }", "8MiB")
        // When Kafka's client gives up a silent connection; a minute by default.
        .with("[kafka.properties]\n\"socket.timeout.ms\" = \"10000\"");
    let running = job.start(&["--json"], &[]);
    running.wait_until("records flow", |s| written(s) > 200);
    let resources = Resources::of(&running);
    for fault in NETWORK_FAULTS {
        proxy.set(fault);
        std::thread::sleep(Duration::from_secs(2));
        proxy.set(NetworkFault::None);
        recovered(&running, &format!("{fault:?}"), 200);
        resources.assert_bounded(&running);
    }
    let summary = running.stop_with_summary();
    assert_eq!(summary["restarts"], 0, "{summary}");
    let mut topic = Topic::of(bootstrap, &job);
    finish(&job, &mut topic);
    (summary["produced"].as_u64().unwrap(), topic.len())
}

#[test]
fn network_faults_before_cassandra_lose_and_mix_no_row() {
    let (kafka, cassandra) = (Kafka::shared(), Cassandra::shared());
    let proxy = cassandra.proxy();
    through_network_faults(kafka.bootstrap(), &proxy.address(), &proxy);
}

#[test]
fn network_faults_before_kafka_lose_and_repeat_no_record() {
    let (kafka, proxy) = Kafka::start_behind_proxy();
    let (produced, in_topic) = through_network_faults(kafka.bootstrap(), &Cassandra::shared().contact_point(), &proxy);
    assert_eq!(produced, in_topic, "each record is in the topic once, although answers were lost");
}

#[test]
fn a_cassandra_frozen_under_load_stops_the_consumer_at_its_budget_and_loses_no_row() {
    const RECORDS: u32 = 20_000;
    const BUDGET: u64 = 2 << 20;
    let mut cassandra = Cassandra::start(CommitlogSync::Batch);
    let kafka = Kafka::shared();
    let job = Job::new(kafka.bootstrap(), &cassandra.contact_point()).batches("{ max_records = 100, max_bytes = \"1MiB\" }", "2MiB");
    kafka.create_topic(&job.topic, 4);
    produce(kafka.bootstrap(), &job.topic, users(RECORDS));
    let running = job.start(&["--roles", "egress,api"], &[]);
    running.wait_until("rows are written", |s| written(s) > 0);
    cassandra.pause();
    running.wait_until("the consumer has stopped", |s| s["partitions"].as_array().unwrap().iter().all(|p| p["paused"] == true));
    let memory = process_bytes(running.id(), "VmRSS");
    for _ in 0..15 {
        std::thread::sleep(Duration::from_secs(1));
        let snapshot = running.snapshot();
        assert!(snapshot["edges"][0]["used_bytes"].as_u64().unwrap() <= BUDGET, "{snapshot:#}");
        assert!(snapshot["partitions"].as_array().unwrap().iter().all(|p| p["assigned"] == true), "it left its group");
    }
    let growth = process_bytes(running.id(), "VmRSS").saturating_sub(memory);
    assert!(growth < 16 << 20, "{growth} bytes more while nothing was written");
    cassandra.resume();
    running.wait_until("everything is written", |s| s["totals"]["consumed"] == RECORDS);
    assert_eq!(running.snapshot()["totals"]["restarts"], 0, "waiting is not a failure");
    complete(running, &job, kafka.bootstrap(), &cassandra);
}

#[test]
fn a_killed_cassandra_with_a_periodic_commit_log_loses_only_its_last_writes_and_a_replay_restores_them() {
    /// The period between two syncs, and the time from a record's timestamp to its row.
    const BOUND: Duration = Duration::from_secs(10 + 2);
    let mut cassandra = Cassandra::start(CommitlogSync::Periodic);
    let kafka = Kafka::shared();
    let api = TestApi::start(|n| Answer::users(n * 10, n * 10 + 10));
    let job = Job::new(kafka.bootstrap(), &cassandra.contact_point()).fetching(&api.url, Some("50ms"));
    let running = job.start(&[], &[]);
    running.wait_until("records flow", |s| written(s) > 0);
    std::thread::sleep(BOUND + Duration::from_secs(3));
    cassandra.kill();
    let since = (now_ms() - i64::try_from(BOUND.as_millis()).unwrap()) * 1_000;
    running.wait_until("it is noticed", |s| says(s, "cassandra"));
    cassandra.restart();
    let before = written(&running.snapshot());
    running.wait_until("records flow again", |s| written(s) > before + 100);
    assert!(running.stop().success());

    let replay = || job.forebay(&["run", "--until-idle", "--roles", "egress"]);
    assert!(replay().status.success());
    let mut topic = Topic::of(kafka.bootstrap(), &job);
    topic.read();
    let (table, expected) = (rows(&job), topic.rows());
    let lost: Vec<i64> = expected.iter().filter(|(user, _)| !table.contains_key(user)).map(|(_, row)| row.write_ts).collect();
    eprintln!(
        "{} of {} rows are lost, the oldest {:?} ms after the bound",
        lost.len(),
        expected.len(),
        lost.iter().min().map(|ts| (ts - since) / 1_000)
    );
    assert!(expected.values().any(|row| row.write_ts < since), "some rows are older than the bound");
    assert!(lost.iter().all(|write_ts| *write_ts >= since), "a row that was written before the bound is lost");
    let end = job.forebay(&["replay", "--from", "begin", "--reason", "lost rows", "--yes"]);
    assert!(end.status.success(), "{}", stderr(&end));
    assert!(replay().status.success());
    assert_eq!(rows(&job).into_keys().collect::<Vec<_>>(), expected.into_keys().collect::<Vec<_>>());
}

#[test]
fn a_starved_process_keeps_its_partitions_and_loses_nothing() {
    let kafka = Kafka::shared();
    let api = TestApi::start(Answer::versions);
    let job = Job::new(kafka.bootstrap(), &Cassandra::shared().contact_point()).fetching(&api.url, Some("20ms"));
    let running = job.start(&[], &[]);
    let before = written(&running.wait_until("records flow", |s| written(s) > 200));
    // It shares one core with six loops that never wait, and has the lowest priority.
    let pid = running.id().to_string();
    for command in [["taskset", "-acp", "0", &pid], ["renice", "-n", "5", &pid]] {
        assert!(std::process::Command::new(command[0]).args(&command[1..]).output().unwrap().status.success(), "{command:?}");
    }
    let busy_while_the_test_runs = format!("while kill -0 {}; do :; done", std::process::id());
    let busy = || std::process::Command::new("taskset").args(["-c", "0", "sh", "-c", &busy_while_the_test_runs]).spawn().unwrap();
    let mut busy: Vec<_> = (0..6).map(|_| busy()).collect();
    for _ in 0..15 {
        std::thread::sleep(Duration::from_secs(1));
        let snapshot = running.snapshot();
        assert!(snapshot["partitions"].as_array().unwrap().iter().all(|p| p["assigned"] == true), "it left its group");
    }
    let snapshot = running.snapshot();
    busy.iter_mut().for_each(|child| {
        child.kill().unwrap();
        child.wait().unwrap();
    });
    assert!(written(&snapshot) > before, "it makes progress");
    assert_eq!(snapshot["totals"]["restarts"], 0, "slow is not stalled");
    assert!(running.stop().success());
    finish(&job, &mut Topic::of(kafka.bootstrap(), &job));
}

#[test]
fn a_pipeline_paused_resumed_and_restarted_in_a_loop_loses_and_repeats_nothing() {
    let kafka = Kafka::shared();
    let api = TestApi::start(Answer::versions);
    let job = Job::new(kafka.bootstrap(), &Cassandra::shared().contact_point()).fetching(&api.url, Some("20ms"));
    let running = job.start(&["--json"], &[]);
    running.wait_until("records flow", |s| written(s) > 200);
    let resources = Resources::of(&running);
    for actor in ["root/egress/writer", "root/ingest/fetcher", "root/egress/consumer", "root/ingest/producer"] {
        for command in [&["pause"][..], &["actors", "restart", actor], &["resume"], &["drain"], &["resume"]] {
            let end = job.forebay(&[command, &["--reason", "to see"]].concat());
            assert!(end.status.success(), "{command:?}: {}", stderr(&end));
        }
    }
    recovered(&running, "the last restart of an actor", 200);
    resources.assert_bounded(&running);
    let live = running.snapshot()["desired"].clone();
    assert!(running.stop().success());
    let mut topic = Topic::of(kafka.bootstrap(), &job);
    finish(&job, &mut topic);
    let folded: Value = serde_json::from_slice(&job.forebay(&["journal", "state", "--json"]).stdout).unwrap();
    assert_eq!(folded["desired"], live, "the journal folds to the state of the process");
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

/// Checks what the process holds, stops it, writes what is left in the topic, and compares the
/// table with the topic.
fn complete(running: Running, job: &Job, bootstrap: &str, cassandra: &Cassandra) {
    assert_bounded(&running);
    assert!(running.stop().success());
    let rest = job.forebay(&["run", "--until-idle", "--roles", "egress", "--json"]);
    assert!(rest.status.success(), "{}", String::from_utf8_lossy(&rest.stderr));
    assert_eq!(committed(bootstrap, &job.group, &job.topic, 4), ends(bootstrap, &job.topic, 4));
    assert_eq!(cassandra.count(&format!("{}.users_stream", job.keyspace)), distinct(bootstrap, &job.topic));
}
