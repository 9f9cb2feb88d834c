//! The time of day jumps by hours, ahead and back, while records flow. Embedded; needs no server.
//!
//! `actors/src/process_clock.rs` says what jumps: the clock of the program, from which it takes the
//! times of events and log lines, the start of a replay and the age of records. The timestamps of
//! records are of Kafka's client, whose clock is the machine's.

#![cfg(feature = "failpoints")]
#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod support;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use support::control_api::ControlApi;
use support::source_api::{Answer, TestApi, is_bad, users_of_page};
use support::{Job, Running, TIMEOUT, now_ms, stderr, user_id};

const HOUR: i64 = 3_600;

/// The file that shifts the clock of a program.
struct Clock(PathBuf);

impl Clock {
    fn of(job: &Job) -> Self {
        let clock = Self(job.dir().join("clock"));
        clock.shift(0);
        clock
    }

    fn failpoint(&self) -> String {
        format!("clock::wall=return({})", self.0.display())
    }

    /// Sets the clock to this many seconds after the machine's.
    fn shift(&self, seconds: i64) {
        let new = self.0.with_extension("new");
        std::fs::write(&new, seconds.to_string()).unwrap();
        std::fs::rename(new, &self.0).unwrap();
    }
}

/// How far the clock of a program is ahead of the machine's, in seconds.
fn ahead(snapshot: &Value) -> i64 {
    let at: DateTime<Utc> = snapshot["at"].as_str().unwrap().parse().unwrap();
    (at.timestamp_millis() - now_ms()) / 1_000
}

fn total(snapshot: &Value, what: &str) -> u64 {
    snapshot["totals"][what].as_u64().unwrap()
}

/// Waits until 200 more records are fetched and written.
fn flows(running: &Running, when: &str) {
    let before = running.snapshot();
    let more = |s: &Value, what| total(s, what) >= total(&before, what) + 200;
    running.wait_until(&format!("records flow {when}"), |s| more(s, "fetched") && more(s, "written"));
}

#[test]
fn jumps_of_the_clock_keep_schedules_runs_and_the_newest_rows() {
    let api = TestApi::start(Answer::versions);
    let job = Job::new("embedded", "embedded").fetching(&api.url, Some("20ms"));
    let clock = Clock::of(&job);
    let failpoint = clock.failpoint();
    let env = [("FAILPOINTS", failpoint.as_str())];
    let mut running = job.start(&[], &env);
    for (n, hours) in [0, 1, -1, 24, -24, 0].into_iter().enumerate() {
        clock.shift(hours * HOUR);
        running.wait_until("the clock has jumped", |s| (ahead(s) - hours * HOUR).abs() < 60);
        flows(&running, &format!("{hours} hours ahead"));
        let end = job.forebay(&["trigger", "--wait", "--json", "--key", &format!("run-{n}")]);
        assert!(end.status.success(), "{}", stderr(&end));
        // What is read again is written with timestamps after the time of day, now an hour ahead.
        if hours == 1 {
            let end = job.forebay(&["replay", "--from", "begin", "--reason", "to see", "--yes"]);
            assert!(end.status.success(), "{}", stderr(&end));
            flows(&running, "after a replay");
        }
        // The next process starts before the last event of the journal.
        if hours == 24 {
            running.kill();
            clock.shift(-HOUR);
            running = job.start(&[], &env);
            flows(&running, "after a start in the past");
        }
    }
    let exits: Vec<Value> = running.snapshot()["actors"].as_array().unwrap().iter().map(|actor| actor["last_exit"].clone()).collect();
    assert!(exits.iter().all(Value::is_null), "{exits:?}");
    assert!(!running.log().contains("panic"), "{}", running.log());
    assert!(running.stop().success());
    job.run_until_idle_with(&[]);

    let mut newest = BTreeMap::new();
    for page in 0..api.requests() {
        let good = users_of_page(page).enumerate().filter(|(at, _)| !is_bad(page, *at));
        newest.extend(good.map(|(_, user)| (user_id(user), format!("Last{page}"))));
    }
    let text = |row: &Value, column| row[column].as_str().unwrap().to_owned();
    let table: BTreeMap<_, _> =
        job.query("SELECT id, last_name FROM users_stream").iter().map(|row| (text(row, "id"), text(row, "last_name"))).collect();
    assert_eq!(table, newest);
}

/// A lease, in seconds; the shortest that is allowed.
const LEASE: u64 = 10;

#[test]
fn a_lease_neither_expires_early_nor_lives_on_when_the_clock_jumps() {
    let api = TestApi::start(|_| Answer::unavailable());
    let job = Job::new("embedded", "embedded").fetching(&api.url, None);
    let clock = Clock::of(&job);
    let running = job.start(&[], &[("FAILPOINTS", &clock.failpoint())]);
    running.wait_until("the topic exists", |s| !s["partitions"].as_array().unwrap().is_empty());
    let http = ControlApi::new(running.url());
    let run = http.put("/v1/pipelines/users/runs/left", &format!("{{\"lease_seconds\": {LEASE}}}")).body;
    let requested = Instant::now();
    // The list does not renew the leases of the runs in it.
    let state = || http.get("/v1/runs").body["runs"][0].clone();
    assert_eq!(state()["id"], run["id"]);
    for hours in [1, -1, 24, -24] {
        clock.shift(hours * HOUR);
        running.wait_until("the clock has jumped", |s| (ahead(s) - hours * HOUR).abs() < 60);
        let now = state();
        // A busy machine may take longer than the lease to get here.
        assert!(now["terminal"] == false || requested.elapsed() >= Duration::from_secs(LEASE), "{now:#}");
    }
    while state()["terminal"] == false {
        assert!(requested.elapsed() < TIMEOUT, "{:#}", state());
        std::thread::sleep(Duration::from_millis(100));
    }
    let end = state();
    assert_eq!((&end["state"], &end["cancelled"]["by"]), (&json!("cancelled"), &json!("lease")), "{end:#}");
    assert!(requested.elapsed() >= Duration::from_secs(LEASE), "{:?}", requested.elapsed());
    assert!(running.stop().success());
}
