//! What a thousand readers of `GET /v1/events` who read slowly cost the pipeline: rows/s and memory with them and without, in the same process,
//! against real Kafka and real Cassandra on this machine.
//!
//! Each round pauses the pipeline, fills the topic, and measures from the resume until all of it is in the table. Rounds with and without
//! readers alternate. `make bench` prints each round, and the ratio of the pairs of rounds: the servers share the machine and vary by more than what is asked.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a bench fails by the one and speaks by the other")]

#[path = "../tests/support/mod.rs"]
mod support;

use std::time::{Duration, Instant};

use forebay_test_services::{Cassandra, CommitlogSync, Kafka, Size};
use serde_json::{Value, json};
use support::{Job, Running, produce, user, user_id};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

/// Readers at once.
const READERS: usize = 1_000;
/// How much a reader reads at a time, and how long it waits then: 512 bytes a second, far less than happens.
const PIECE: usize = 512;
const BETWEEN: Duration = Duration::from_secs(1);
/// How long the process has to let readers go.
const GONE_WITHIN: Duration = Duration::from_secs(2);
/// Records a round.
const RECORDS: u32 = 60_000;
/// Pairs of rounds after the one that warms the servers up.
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
        let (mut ratios, mut most) = (Vec::new(), [0; 2]);
        for round in 0..=ROUNDS {
            let mut took = [Duration::ZERO; 2];
            for crowd in if round % 2 == 0 { [0, 1] } else { [1, 0] } {
                let readers = if crowd == 1 { bench.readers().await } else { Vec::new() };
                let memory;
                (took[crowd], memory) = bench.round().await;
                most[crowd] = most[crowd].max(memory);
                let kind = if round == 0 { "warm-up" } else { "round" };
                let rate = f64::from(RECORDS) / took[crowd].as_secs_f64();
                println!("{kind} {round}: {} readers: {rate:.0} rows/s, at most {} MB resident", readers.len(), memory / 1_000_000);
                readers.iter().for_each(JoinHandle::abort);
                // The next round is to begin without them.
                tokio::time::sleep(GONE_WITHIN).await;
            }
            if round > 0 {
                ratios.push(took[0].as_secs_f64() / took[1].as_secs_f64());
            }
        }
        ratios.sort_by(f64::total_cmp);
        let at = |part: usize| ratios[(ratios.len() - 1) * part / 4];
        println!(
            "throughput with {READERS} slow readers over throughput without, of {} pairs of rounds: median {:.3}, quartiles {:.3} and {:.3}",
            ratios.len(),
            at(2),
            at(1),
            at(3)
        );
        println!(
            "at most resident without readers: {} MB, with them: {} MB; {} MB of it are pages of the program's file",
            most[0] / 1_000_000,
            most[1] / 1_000_000,
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
    /// From the resume until all of a filled topic is in the table: how long it takes, and the most memory that the process has meanwhile.
    async fn round(&mut self) -> (Duration, u64) {
        self.desire("paused").await;
        let (from, to) = (self.produced, self.produced + RECORDS);
        produce(self.bootstrap, &self.job.topic, (from..to).map(|n| (user_id(n), user(n, 1).into_bytes())));
        self.produced = to;
        let (began, mut most) = (Instant::now(), 0);
        self.desire("running").await;
        while self.snapshot().await["totals"]["written"].as_u64().unwrap() < u64::from(to) {
            most = most.max(self.memory());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        (began.elapsed(), most)
    }

    async fn desire(&self, state: &str) {
        let url = format!("{}/v1/pipelines/users/state", self.running.url());
        let answer = self.http.put(url).json(&json!({ "state": state, "reason": "a round of a bench" })).send().await.unwrap();
        assert!(answer.status().is_success(), "{answer:?}");
    }

    async fn snapshot(&self) -> Value {
        self.http.get(format!("{}/v1/snapshot", self.running.url())).send().await.unwrap().json().await.unwrap()
    }

    /// Readers of all events from the first on, each connected and answered.
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
                let mut piece = [0; PIECE];
                while stream.read_exact(&mut piece).await.is_ok() {
                    tokio::time::sleep(BETWEEN).await;
                }
            }));
        }
        readers
    }

    /// Bytes that the process has in memory.
    fn memory(&self) -> u64 {
        self.status("VmRSS:")
    }

    /// Bytes, as the system tells them of the process (`man 5 proc_pid_status`).
    fn status(&self, what: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.running.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(what)).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
    }
}
