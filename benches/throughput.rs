//! Throughput from the topic into the table: `forebay run --until-idle` on a topic that another
//! client filled, against real Kafka and real Cassandra on this machine, compared with a bare loop
//! that only writes the same rows, and with a run without a journal.
//!
//! `make bench` prints rows/s and client CPU per row for each round, and their ratios. Numbers of
//! different rounds or machines are not comparable.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark fails with unwrap and prints")]

#[path = "../tests/support/mod.rs"]
mod support;

use std::time::{Duration, Instant};

use forebay_test_services::{Cassandra, CommitlogSync, Kafka, Size};
use scylla::client::session_builder::SessionBuilder;
use scylla::statement::batch::{Batch, BatchType};
use support::resources::{children_cpu, own_cpu};
use support::{Job, produce, unique, user_id, users};
use uuid::Uuid;

/// Records per round.
const RECORDS: u32 = 100_000;
/// Rounds after the warm-up.
const ROUNDS: u32 = 6;
/// Rows per batch and batches in flight of the bare loop: the fastest found for one node on two
/// cores.
const BATCH_ROWS: usize = 50;
const IN_FLIGHT: usize = 8;

fn main() {
    let kafka = Kafka::start_sized(Size::Bench, None);
    let cassandra = Cassandra::start_sized(CommitlogSync::Periodic, Size::Bench, None);
    let (mut with, mut without) = (Duration::ZERO, Duration::ZERO);
    for round in 0..=ROUNDS {
        let bare = bare_loop(&cassandra.contact_point());
        // They take turns at going first, because the servers get slower as their files grow.
        let mut runs = [round % 2 == 0, round % 2 == 1].map(|journal| (journal, forebay(&kafka, &cassandra, journal)));
        runs.sort_by_key(|(journal, _)| *journal);
        let [(_, off), (_, on)] = runs;
        let kind = if round == 0 { "warm-up" } else { "round" };
        let ratio = |to: &Measured| to.took.as_secs_f64() / on.took.as_secs_f64();
        println!("{kind} {round}: forebay {on}; without a journal {off}; bare loop {bare}; ratios {:.2}, {:.2}", ratio(&off), ratio(&bare));
        if round > 0 {
            with += on.took;
            without += off.took;
        }
    }
    println!("throughput with the journal relative to without: {:.3}", without.as_secs_f64() / with.as_secs_f64());
}

/// Measures a run from a new topic into a new table.
fn forebay(kafka: &Kafka, cassandra: &Cassandra, journal: bool) -> Measured {
    let job = Job::new(kafka.bootstrap(), &cassandra.contact_point());
    kafka.create_topic(&job.topic, 4);
    produce(kafka.bootstrap(), &job.topic, users(RECORDS));
    let (began, cpu) = (Instant::now(), children_cpu());
    let off: &[(&str, &str)] = if journal { &[] } else { &[("FAILPOINTS", "journal=return")] };
    let summary = job.run_until_idle_with(off);
    let measured = Measured { took: began.elapsed(), cpu: children_cpu() - cpu };
    assert_eq!(summary["written"], RECORDS, "{summary}");
    measured
}

struct Measured {
    took: Duration,
    cpu: Duration,
}

impl std::fmt::Display for Measured {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let rows = f64::from(RECORDS);
        write!(f, "{:.0} rows/s, {:.1} µs of CPU per row", rows / self.took.as_secs_f64(), self.cpu.as_secs_f64() * 1e6 / rows)
    }
}

/// Measures a loop that writes as many rows of the same table without reading, parsing or
/// committing.
fn bare_loop(contact_point: &str) -> Measured {
    let keyspace = unique("bare");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let session = std::sync::Arc::new(SessionBuilder::new().known_node(contact_point).build().await.unwrap());
        let ddl = [
            format!("CREATE KEYSPACE {keyspace} WITH replication = {{'class': 'SimpleStrategy', 'replication_factor': 1}}"),
            format!(
                "CREATE TABLE {keyspace}.users_stream (id uuid PRIMARY KEY, first_name text, last_name text, gender text, address text, \
                 post_code text, email text, username text, phone text, picture text, dob timestamp, registered_date timestamp)"
            ),
        ];
        for statement in ddl {
            session.query_unpaged(statement, ()).await.unwrap();
        }
        let insert = format!(
            "INSERT INTO {keyspace}.users_stream (id, first_name, last_name, gender, address, post_code, email, username, phone, picture, dob, \
             registered_date) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) USING TIMESTAMP ?"
        );
        let insert = session.prepare(insert).await.unwrap();
        let mut batch = Batch::new(BatchType::Unlogged);
        (0..BATCH_ROWS).for_each(|_| batch.append_statement(insert.clone()));
        let batch = std::sync::Arc::new(batch);
        let (began, cpu) = (Instant::now(), own_cpu());
        let mut writers = tokio::task::JoinSet::new();
        for writer in 0..IN_FLIGHT {
            let (session, batch) = (session.clone(), batch.clone());
            writers.spawn(async move {
                let batches = RECORDS as usize / BATCH_ROWS;
                for number in (writer..batches).step_by(IN_FLIGHT) {
                    let values: Vec<_> = (0..BATCH_ROWS).map(|row| row_of(u32::try_from(number * BATCH_ROWS + row).unwrap())).collect();
                    session.batch(&batch, values).await.unwrap();
                }
            });
        }
        while let Some(end) = writers.join_next().await {
            end.unwrap();
        }
        Measured { took: began.elapsed(), cpu: own_cpu() - cpu }
    })
}

type Row = (
    Uuid,
    String,
    &'static str,
    &'static str,
    String,
    String,
    String,
    String,
    &'static str,
    &'static str,
    scylla::value::CqlTimestamp,
    scylla::value::CqlTimestamp,
    i64,
);

fn row_of(n: u32) -> Row {
    let time = scylla::value::CqlTimestamp(700_000_000_000);
    (
        user_id(n).parse().unwrap(),
        format!("First{n}"),
        "Last1",
        "female",
        format!("{n} Main Street, Zürich, ZH, Switzerland"),
        format!("{}", 8000 + n % 100),
        format!("user{n}@example.org"),
        format!("user{n}"),
        "1",
        "m",
        time,
        time,
        i64::from(n),
    )
}
