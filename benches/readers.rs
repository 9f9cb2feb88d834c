//! The cost of a thousand slow readers of `GET /v1/events`: rows/s and memory with and without
//! them, in the same process, against real Kafka and real Cassandra on this machine.
//!
//! Each round pauses the pipeline, fills the topic, and measures from the resume until everything
//! is in the table. Rounds with and without readers alternate. `make bench` prints each round, and
//! the ratio of each pair of rounds, because the servers share the machine and vary by more than
//! the difference.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark fails with unwrap and prints")]

#[path = "../tests/support/mod.rs"]
mod support;

use std::time::{Duration, Instant};

use forebay_test_services::{Cassandra, CommitlogSync, Kafka, Size};
use serde_json::{Value, json};
use support::{Job, Running, produce, user, user_id};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

/// Concurrent readers.
const READERS: usize = 1_000;
/// How much a reader reads at a time, and how often: 512 bytes a second, far less than is written.
const READ_BYTES: usize = 512;
const READ_INTERVAL: Duration = Duration::from_secs(1);
/// How long the process has to close the connections of readers that left.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// Records per round.
const RECORDS: u32 = 60_000;
/// Pairs of rounds after the warm-up.
const ROUNDS: u32 = 16;

fn main() {
    let kafka = Kafka::start_sized(Size::Bench, None);
    let cassandra = Cassandra::start_sized(CommitlogSync::Periodic, Size::Bench, None);
    let job = Job::new(kafka.bootstrap(), &cassandra.contact_point());
    kafka.create_topic(&job.topic, 4);
    let running = job.start(&[], &[]);
    running.snapshot();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        let mut bench = Bench { job: &job, running: &running, bootstrap: kafka.bootstrap(), http: reqwest::Client::new(), produced: 0 };
        let (mut ratios, mut peak) = (Vec::new(), [0; 2]);
        for round in 0..=ROUNDS {
            let mut took = [Duration::ZERO; 2];
            for with_readers in if round % 2 == 0 { [0, 1] } else { [1, 0] } {
                let readers = if with_readers == 1 { bench.readers().await } else { Vec::new() };
                let memory;
                (took[with_readers], memory) = bench.round().await;
                peak[with_readers] = peak[with_readers].max(memory);
                let kind = if round == 0 { "warm-up" } else { "round" };
                let rate = f64::from(RECORDS) / took[with_readers].as_secs_f64();
                println!("{kind} {round}: {} readers: {rate:.0} rows/s, peak {} MB resident", readers.len(), memory / 1_000_000);
                readers.iter().for_each(JoinHandle::abort);
                // The next round must start without them.
                tokio::time::sleep(CLOSE_TIMEOUT).await;
            }
            if round > 0 {
                ratios.push(took[0].as_secs_f64() / took[1].as_secs_f64());
            }
        }
        ratios.sort_by(f64::total_cmp);
        let at = |part: usize| ratios[(ratios.len() - 1) * part / 4];
        println!(
            "throughput with {READERS} slow readers relative to without, {} pairs of rounds: median {:.3}, quartiles {:.3} and {:.3}",
            ratios.len(),
            at(2),
            at(1),
            at(3)
        );
        println!(
            "peak resident memory without readers: {} MB, with readers: {} MB; {} MB of it are pages of the program file",
            peak[0] / 1_000_000,
            peak[1] / 1_000_000,
            bench.status("RssFile:") / 1_000_000
        );
    });
}

struct Bench<'a> {
    job: &'a Job,
    running: &'a Running,
    bootstrap: &'a str,
    http: reqwest::Client,
    produced: u32,
}

impl Bench<'_> {
    /// Measures from the resume until a filled topic is in the table: the time, and the peak
    /// resident memory.
    async fn round(&mut self) -> (Duration, u64) {
        self.set_state("paused").await;
        let (from, to) = (self.produced, self.produced + RECORDS);
        produce(self.bootstrap, &self.job.topic, (from..to).map(|n| (user_id(n), user(n, 1).into_bytes())));
        self.produced = to;
        let (began, mut peak) = (Instant::now(), 0);
        self.set_state("running").await;
        while self.snapshot().await["totals"]["written"].as_u64().unwrap() < u64::from(to) {
            peak = peak.max(self.memory());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        (began.elapsed(), peak)
    }

    async fn set_state(&self, state: &str) {
        let url = format!("{}/v1/pipelines/users/state", self.running.url());
        let answer = self.http.put(url).json(&json!({ "state": state, "reason": "a benchmark round" })).send().await.unwrap();
        assert!(answer.status().is_success(), "{answer:?}");
    }

    async fn snapshot(&self) -> Value {
        self.http.get(format!("{}/v1/snapshot", self.running.url())).send().await.unwrap().json().await.unwrap()
    }

    /// Starts readers of all events, each connected and answered.
    async fn readers(&self) -> Vec<JoinHandle<()>> {
        let address = self.running.url().trim_start_matches("http://").to_owned();
        let mut readers = Vec::new();
        for _ in 0..READERS {
            let mut stream = TcpStream::connect(&address).await.unwrap();
            let request = format!("GET /v1/events?from=1 HTTP/1.1\r\nHost: {address}\r\n\r\n");
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut head = [0; 15];
            stream.read_exact(&mut head).await.unwrap();
            assert_eq!(&head, b"HTTP/1.1 200 OK", "{}", self.running.log());
            readers.push(tokio::spawn(async move {
                let mut buffer = [0; READ_BYTES];
                while stream.read_exact(&mut buffer).await.is_ok() {
                    tokio::time::sleep(READ_INTERVAL).await;
                }
            }));
        }
        readers
    }

    /// The resident memory of the process, in bytes.
    fn memory(&self) -> u64 {
        self.status("VmRSS:")
    }

    /// A field of `/proc/PID/status` in bytes (`man 5 proc_pid_status`).
    fn status(&self, field: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.running.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
    }
}
