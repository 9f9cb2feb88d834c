//! The process is killed, stopped and frozen under load, with real Kafka and a Cassandra that syncs
//! before it answers.
//!
//! Invariants, however the process dies:
//! - Each record before a committed offset is in the table, at least as new, or is a dead letter;
//!   checked while the process is dead.
//! - Committed offsets never go back.
//! - A page is complete in the topic once the fetcher has requested the next one.
//! - When everything is written, the table follows from the topic: for each key the record with the
//!   highest offset, each row from one write, with the timestamp that the partition's prefix gives
//!   it.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a failed unwrap fails the test, which prints how to repeat it")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use forebay_actors::POINTS;
use forebay_test_services::{Cassandra, CommitlogSync, Kafka};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::Value;
use support::oracle::{PARTITIONS, Topic, assert_commits, assert_same, finish, rows};
use support::source_api::{Answer, TestApi, users_of_page};
use support::{Job, Running, TIMEOUT, committed, ends, produce, user, user_id};

const INTO_THE_TOPIC: &[&str] = &["fetcher::before_fetch", "fetcher::after_fetch", "producer::before_produce", "producer::after_produce"];
const OUT_OF_THE_TOPIC: &[&str] = &["consumer::before_send", "consumer::after_send", "consumer::before_assign", "consumer::after_assign"];
const INTO_THE_TABLE: &[&str] =
    &["transformer::before_transform", "transformer::after_transform", "writer::before_write", "writer::after_write"];
const DEAD_LETTERS: &[&str] = &["writer::before_dead_letter", "writer::after_dead_letter"];
const SETTLE_AND_COMMIT: &[&str] = &["writer::before_settle", "writer::after_settle", "consumer::before_commit", "consumer::after_commit"];
const REVOKE: &[&str] = &["consumer::before_revoke", "consumer::after_revoke"];
const JOURNAL: &[&str] =
    &["journal::before_append", "journal::after_append", "journal::after_sync", "journal::before_snapshot", "journal::after_snapshot"];

/// Only a replay reaches it: `a_replay_interrupted_before_its_commit_has_no_effect`.
const REPLAY: &[&str] = &["consumer::before_set_back"];

/// How often a failpoint is passed before the process is killed there: often enough that records
/// are in flight everywhere.
fn passes(point: &str) -> u32 {
    match point {
        "journal::before_snapshot" | "journal::after_snapshot" => 0,
        "consumer::before_assign" | "consumer::after_assign" | "consumer::before_revoke" | "consumer::after_revoke" => 0,
        "writer::before_dead_letter" | "writer::after_dead_letter" => 3,
        "consumer::before_commit" | "consumer::after_commit" => 10,
        _ if INTO_THE_TOPIC.contains(&point) => 120,
        _ => 40,
    }
}

fn cassandra() -> &'static Cassandra {
    static CASSANDRA: OnceLock<Cassandra> = OnceLock::new();
    CASSANDRA.get_or_init(|| Cassandra::start(CommitlogSync::Batch))
}

/// A short session time-out, so that the next process soon gets the partitions of the last one.
const SHORT_SESSION: &str = "[kafka.properties]\n\"session.timeout.ms\" = \"2000\"\n\"heartbeat.interval.ms\" = \"500\"";

/// How long a stop under load may take.
const MAX_STOP: Duration = Duration::from_secs(10);
/// Delays one write in four, so that batches finish out of order, and some are always in flight.
const SLOW_WRITES: &str = "writer::before_write=25%sleep(200)";

/// A pipeline that is started several times.
struct CrashTest {
    job: Job,
    api: TestApi,
    topic: Topic,
    committed: BTreeMap<i32, i64>,
    /// The first page that the current process requested.
    asked: u32,
}

impl CrashTest {
    fn new() -> Self {
        let api = TestApi::start(Answer::versions);
        let bootstrap = Kafka::shared().bootstrap();
        let job = Job::new(bootstrap, &cassandra().contact_point())
            .fetching(&api.url, Some("20ms"))
            .batches("{ max_records = 50 }", "8MiB")
            .with(SHORT_SESSION)
            // Small, so that snapshots are written, too.
            .with("[journal]\nsegment = \"64KiB\"");
        let topic = Topic::of(bootstrap, &job);
        Self { job, api, topic, committed: BTreeMap::new(), asked: 0 }
    }

    fn start(&mut self, failpoints: &str) -> Running {
        self.asked = self.api.requests();
        self.job.start(&["--json"], &[("FAILPOINTS", failpoints)])
    }

    /// Runs a process that is killed at a failpoint. A failpoint of a revocation needs another
    /// process that takes the partitions.
    fn killed_at(&mut self, point: &str) {
        let action = match passes(point) {
            0 => format!("{point}=return(kill)"),
            passes => format!("{point}={passes}*off->return(kill)"),
        };
        // A failpoint takes one action only.
        let running = self.start(&if SLOW_WRITES.starts_with(point) { action } else { format!("{SLOW_WRITES};{action}") });
        let rival = REVOKE.contains(&point).then(|| {
            running.wait_until("records flow", |s| s["totals"]["written"].as_u64().unwrap() > 0);
            let rival = self.job.twin();
            let running = rival.start(&["--roles", "egress"], &[]);
            (rival, running)
        });
        running.end_by_kill(point);
        self.assert_invariants(point);
        if let Some((_rival, running)) = rival {
            assert!(running.stop().success());
        }
    }

    /// Asserts the invariants of any time, after a process has ended.
    fn assert_invariants(&mut self, after: &str) {
        assert_commits(&self.job, &mut self.topic, &mut self.committed, after);
        self.assert_pages_produced(after);
    }

    /// Asserts that every page of this process is in the topic, except the last, which may have
    /// been in flight.
    fn assert_pages_produced(&self, after: &str) {
        let there: BTreeSet<(u32, u32)> = self.topic.records.iter().map(|record| (record.user, record.version)).collect();
        let pages = self.asked..self.api.requests().saturating_sub(1).max(self.asked);
        for page in pages {
            assert!(users_of_page(page).all(|user| there.contains(&(user, page))), "{after}: page {page} is not in the topic");
        }
    }

    /// Runs a process without a kill, and compares the whole table with the whole topic.
    fn finish(mut self) {
        let (before, asked) = (self.topic.len(), self.api.requests());
        let running = self.start("");
        running.wait_until("records flow", |s| s["totals"]["written"].as_u64().unwrap() > 0 && self.api.requests() > asked + 30);
        let summary = running.stop_with_summary();
        assert_eq!(summary["restarts"], 0, "{summary}");
        self.assert_invariants("after SIGTERM");
        assert_eq!(summary["produced"], self.topic.len() - before, "{summary}");
        finish(&self.job, &mut self.topic);
    }
}

fn killed_at(points: &[&str]) {
    let mut crash_test = CrashTest::new();
    for point in points {
        crash_test.killed_at(point);
    }
    crash_test.finish();
}

#[test]
fn a_kill_during_fetch_or_produce_loses_no_page() {
    killed_at(INTO_THE_TOPIC);
}

#[test]
fn a_kill_during_assignment_or_read_commits_nothing_unwritten() {
    killed_at(OUT_OF_THE_TOPIC);
}

#[test]
fn a_kill_around_a_write_repeats_the_same_write() {
    killed_at(INTO_THE_TABLE);
}

#[test]
fn a_kill_around_a_dead_letter_loses_neither_letters_nor_rows() {
    killed_at(DEAD_LETTERS);
}

#[test]
fn a_kill_around_a_commit_continues_at_the_commit() {
    killed_at(SETTLE_AND_COMMIT);
}

#[test]
fn a_kill_during_revocation_leaves_everything_to_the_next_owner() {
    killed_at(REVOKE);
}

#[test]
fn a_kill_during_a_journal_write_leaves_a_readable_journal() {
    killed_at(JOURNAL);
}

#[test]
fn the_process_is_killed_at_every_failpoint() {
    let killed = [INTO_THE_TOPIC, OUT_OF_THE_TOPIC, INTO_THE_TABLE, DEAD_LETTERS, SETTLE_AND_COMMIT, REVOKE, JOURNAL, REPLAY].concat();
    assert_eq!(killed.iter().collect::<BTreeSet<_>>(), POINTS.iter().collect());
}

#[test]
fn kills_at_random_moments_lose_and_repeat_nothing() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let kills = number("CHAOS_KILLS").unwrap_or(4);
    let seed = number("FOREBAY_SEED").unwrap_or_else(rand::random);
    eprintln!("{kills} kills with seed {seed}; again with: FOREBAY_SEED={seed} CHAOS_KILLS={kills} make crashes");
    let mut moments = StdRng::seed_from_u64(seed);
    let mut crash_test = CrashTest::new();
    for kill in 1..=kills {
        let running = crash_test.start(SLOW_WRITES);
        if kill == 1 {
            running.wait_until("there is a table", |s| s["totals"]["written"].as_u64().unwrap() > 0);
        }
        // A process has no partitions for the first seconds.
        let moment = Duration::from_millis(moments.random_range(200..6_000));
        std::thread::sleep(moment);
        running.signal("-KILL");
        running.end_by_kill("from outside");
        crash_test.assert_invariants(&format!("kill {kill} with seed {seed}"));
        let committed: i64 = crash_test.committed.values().sum();
        eprintln!(
            "kill {kill} of {kills}, {moment:?} after the start: {} records in the topic, {committed} committed",
            crash_test.topic.len()
        );
    }
    crash_test.finish();
}

#[test]
fn sigterm_drains_and_nothing_is_read_twice() {
    let mut crash_test = CrashTest::new();
    let mut consumed = 0;
    for round in 0..3 {
        let running = crash_test.start(SLOW_WRITES);
        running.wait_until("records flow", |s| s["totals"]["written"].as_u64().unwrap() > 500);
        let began = Instant::now();
        let summary = running.stop_with_summary();
        let took = began.elapsed();
        assert!(took < MAX_STOP, "it took {took:?} to write and commit what was read; the limit is {MAX_STOP:?}");
        assert_eq!(summary["restarts"], 0, "{summary}");
        consumed += summary["consumed"].as_u64().unwrap();
        crash_test.assert_invariants(&format!("SIGTERM {round}"));
        let committed: i64 = crash_test.committed.values().sum();
        assert_eq!(u64::try_from(committed).unwrap(), consumed, "what was read is committed, and nothing was read twice");
    }
    let rest = finish(&crash_test.job, &mut crash_test.topic);
    assert_eq!(consumed + rest["consumed"].as_u64().unwrap(), crash_test.topic.len());
}

#[test]
fn processes_that_come_and_go_lose_and_repeat_nothing() {
    let mut crash_test = CrashTest::new();
    let running = crash_test.start(SLOW_WRITES);
    running.wait_until("records flow", |s| s["totals"]["written"].as_u64().unwrap() > 0);
    let mut had_partitions = 0;
    for round in 0..6 {
        let twin = crash_test.job.twin();
        let rival = twin.start(&["--roles", "egress,api"], &[("FAILPOINTS", SLOW_WRITES)]);
        // Longer than a rebalance every other time.
        std::thread::sleep(Duration::from_secs(if round % 2 == 0 { 2 } else { 5 }));
        had_partitions += rival.snapshot()["partitions"].as_array().unwrap().iter().filter(|p| p["assigned"] == true).count();
        match round % 4 {
            0 | 1 => assert!(rival.stop().success()),
            _ => rival.kill(),
        }
    }
    assert!(had_partitions > 0, "no partition moved");
    let summary = running.stop_with_summary();
    assert_eq!(summary["restarts"], 0, "{summary}");
    crash_test.assert_invariants("after the last process");
    finish(&crash_test.job, &mut crash_test.topic);
}

#[test]
fn late_writes_of_a_frozen_process_change_no_row() {
    const USERS: u32 = 400;
    let kafka = Kafka::shared();
    let job = Job::new(kafka.bootstrap(), &cassandra().contact_point())
        .batches("{ max_records = 20 }", "8MiB")
        .with("[kafka.properties]\n\"session.timeout.ms\" = \"6000\"\n\"heartbeat.interval.ms\" = \"1500\"");
    let all_in = |version: u32| {
        produce(kafka.bootstrap(), &job.topic, (0..USERS).map(|n| (user_id(n), user(n, version).into_bytes())));
    };
    kafka.create_topic(&job.topic, 4);
    kafka.create_topic(&format!("{}.dead", job.topic), 1);
    all_in(1);
    // Four batches are written at a time; the sleeping ones hold the first versions.
    let frozen = job.start(&["--roles", "egress,api"], &[("FAILPOINTS", "writer::before_write=6*off->8*sleep(5000)->off")]);
    let written = |s: &Value| s["totals"]["written"].as_u64().unwrap();
    let idle = |s: &Value| s["edges"].as_array().unwrap().iter().all(|edge| edge["used_bytes"] == 0);
    let asleep = frozen.wait_until("it holds batches", |s| written(s) >= 120 && !idle(s));
    frozen.signal("-STOP");

    all_in(2);
    let twin = job.twin();
    let heir = twin.start(&["--roles", "egress,api"], &[]);
    let ended = |s: &Value| s["partitions"].as_array().unwrap().iter().all(|p| p["assigned"] == true && p["committed"] == p["end"]);
    heir.wait_until("the other process has written everything", |s| ended(s) && written(s) > u64::from(USERS));
    let mut topic = Topic::of(kafka.bootstrap(), &job);
    topic.read();
    let (before, at) = (rows(&job), committed(kafka.bootstrap(), &job.group, &job.topic, PARTITIONS));
    assert_same(&before, &topic.rows());
    assert_eq!(at, ends(kafka.bootstrap(), &job.topic, PARTITIONS));

    frozen.signal("-CONT");
    let assigned = |s: &Value| s["partitions"].as_array().unwrap().iter().filter(|p| p["assigned"] == true).count();
    let woken = frozen.wait_until("it has written what it held", |s| written(s) > written(&asleep) && idle(s));
    frozen.wait_until("it has joined again", |s| idle(s) && assigned(s) == 2 && assigned(&heir.snapshot()) == 2);
    assert_eq!(rows(&job), before, "a late write changes neither value nor write time: {woken}");
    assert_eq!(committed(kafka.bootstrap(), &job.group, &job.topic, PARTITIONS), at, "a late commit is rejected");

    all_in(3);
    let until = Instant::now() + TIMEOUT;
    while committed(kafka.bootstrap(), &job.group, &job.topic, PARTITIONS) != ends(kafka.bootstrap(), &job.topic, PARTITIONS) {
        assert!(Instant::now() < until, "not all is written: {}\n{}", frozen.log(), heir.log());
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(frozen.stop().success() && heir.stop().success());
    finish(&job, &mut topic);
}
