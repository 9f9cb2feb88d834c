//! Memory and time are bounded, whatever the records: the built program with hostile ones, its ends embedded.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod support;

use serde_json::{Value, json};
use support::{Job, Running, produce, user_id};

/// What the process may have resident beside the budget of the consumer and [`ROWS`].
const BESIDE: u64 = 150_000_000;
/// What hostile rows of 8 MiB each may take beside both: as columns, as values of the SQL, as rows that wait for the table, and as copies that
/// the embedded store and Kafka's client make of them. Measured, not derived: 214 to 238 MB in all were resident in the runs of this test.
const ROWS: u64 = 96 << 20;
/// The budget of the consumer, when it is left out.
const BUDGET: u64 = 32 << 20;

/// The most that a process has had resident so far, in bytes (`man 5 proc_pid_status`).
fn peak(running: &Running) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", running.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

/// A job whose SQL makes of each record what its number says, in every way that is known to make much of little.
fn hostile_job(bootstrap: &str) -> Job {
    let optional: Vec<String> = (0..64).map(|n| format!(r#""field{n}":{{"type":"integer"}}"#)).collect();
    let schema = format!(
        r#"{{"type":"object","required":["id"],"properties":{{
            "id":{{"type":"string"}}, "n":{{"type":"integer"}}, "text":{{"type":"string"}}, "more":{{"type":"string"}},
            "texts":{{"type":"array","items":{{"type":"string"}}}},
            "objects":{{"type":"array","items":{{"type":"object","properties":{{{}}}}}}},
            "deep":{{"type":"array","items":{{"type":"array","items":{{"type":"array","items":{{"type":"array","items":{{"type":"boolean"}}}}}}}}}}
        }}}}"#,
        optional.join(",")
    );
    let columns: Vec<String> = (0..10).map(|n| format!("upper(text) AS upper{n}, text AS text{n}")).collect();
    let sql = format!(
        "SELECT id, repeat('ab', n) AS repeated, lpad(more, n) AS padded, array_repeat(more, n) AS many, replace(text, 'x', more) AS replaced,
                levenshtein(text, more) AS distance, item, {}
         FROM (SELECT id, n, text, more, unnest(texts) AS item FROM users_stream) AS t",
        columns.join(", ")
    );
    Job::new(bootstrap, "embedded").of_records(&schema, &sql)
}

/// One record of each hostile kind, by its place.
fn hostile(n: u32) -> Value {
    let id = user_id(n);
    let few = json!(["a"]);
    match n % 10 {
        // Empty objects, each with 64 absent fields: 170 times its size as columns.
        0 => json!({"id": id, "texts": few, "objects": vec![json!({}); 300_000]}),
        // The same with fewer, so that a record passes and a batch would not.
        1 => json!({"id": id, "texts": few, "objects": vec![json!({}); 10_000]}),
        2 => json!({"id": id, "texts": few, "n": 800_000_000, "more": "a"}),
        3 => json!({"id": id, "texts": few, "n": 200_000, "more": "a"}),
        // The same text in ten columns, and ten times made anew.
        4 => json!({"id": id, "texts": few, "text": "y".repeat(900_000)}),
        5 => json!({"id": id, "texts": few, "text": "y".repeat(390_000)}),
        6 => json!({"id": id, "texts": few, "text": "x".repeat(450_000), "more": "y".repeat(450_000)}),
        7 => json!({"id": id, "texts": vec!["a"; 16], "text": "y".repeat(900_000)}),
        8 => json!({"id": id, "texts": few, "deep": vec![vec![vec![vec![true]; 2]; 30]; 1_000]}),
        _ => json!({"id": id, "texts": few, "n": 10, "text": "good", "more": "good"}),
    }
}

#[test]
fn resident_memory_is_bounded_with_hostile_records() {
    // The broker is in a process of its own, so that what it holds of records is not counted.
    let elsewhere = Job::new("embedded", "embedded");
    let broker = elsewhere.start(&["--roles", "api"], &[]);
    let job = hostile_job(&broker.broker());
    let running = job.start(&[], &[]);
    running.wait_until("it is up", |s| s["partitions"].as_array().is_some_and(|partitions| partitions.len() == 4));
    let idle = peak(&running);
    let records = 300;
    produce(&broker.broker(), &job.topic, (0..records).map(|n| (user_id(n), hostile(n).to_string().into_bytes())));
    let end = running.wait_until("each record is rows or a dead letter", |s| {
        s["partitions"].as_array().unwrap().iter().map(|p| p["committed"].as_u64().unwrap_or(0)).sum::<u64>() >= u64::from(records)
    });
    let most = peak(&running);
    eprintln!("idle {} MB, at most {} MB, broker {}", idle / 1_000_000, most / 1_000_000, peak(&broker) / 1_000_000);
    assert!(most < BESIDE + BUDGET + ROWS, "{} MB resident, {} MB idle: {end:#}", most / 1_000_000, idle / 1_000_000);
    assert_eq!(end["actors"].as_array().unwrap().iter().map(|actor| actor["incarnation"].as_u64().unwrap()).max(), Some(1), "{end:#}");
    assert!(running.stop().success());
    // The good ones are all there, and so are those that are merely large.
    let ids: Vec<Value> = job.query("SELECT DISTINCT id FROM own ORDER BY id").into_iter().map(|mut row| row["id"].take()).collect();
    let good = |n: &u32| [1, 3, 5, 8, 9].contains(&(n % 10));
    assert!((0..records).filter(good).all(|n| ids.contains(&json!(user_id(n)))), "{ids:?}");
    assert_eq!(end["totals"]["rejected"], u64::from(records) - ids.len() as u64);
}

#[test]
#[cfg(feature = "failpoints")]
fn sigterm_ends_the_process_despite_an_endless_computation() {
    let job = Job::new("embedded", "embedded");
    let running = job.start(&[], &[("FAILPOINTS", "transformer::before_transform=sleep(86400000)")]);
    produce(&running.broker(), &job.topic, support::users(1));
    running.wait_until("the record is in the SQL", |s| s["edges"][0]["used_bytes"].as_u64() > Some(0));
    // It fails when the process has not ended in the patience of a test, which is far more than supervisors give their actors.
    assert!(running.stop().success());
    // It is written by the next one.
    job.run_until_idle();
    assert_eq!(job.query("SELECT count(*) AS n FROM users_stream")[0]["n"], 1);
}
