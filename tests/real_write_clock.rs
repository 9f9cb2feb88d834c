//! Which record a row is written from when its records are in several partitions, and after changes
//! by hand. With real Kafka and Cassandra.

#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod support;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use forebay_test_services::{Cassandra, Kafka};
use rdkafka::ClientConfig;
use rdkafka::admin::NewPartitions;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use serde_json::Value;
use support::{Job, TIMEOUT, TimedRecord, admin, now_ms, produce, produce_timed, stderr, user, user_id, version, versions};

fn job() -> Job {
    Job::new(Kafka::shared().bootstrap(), &Cassandra::shared().contact_point())
}

fn add_partitions(job: &Job, partitions: usize) {
    let kafka = Kafka::shared();
    admin(kafka.bootstrap(), async |kafka, options| {
        kafka.create_partitions(&[NewPartitions::new(&job.topic, partitions)], options).await.unwrap()
    });
    let until = Instant::now() + TIMEOUT;
    let asker: BaseConsumer = ClientConfig::new().set("bootstrap.servers", kafka.bootstrap()).create().unwrap();
    while asker.fetch_metadata(Some(&job.topic), TIMEOUT).unwrap().topics()[0].partitions().len() < partitions {
        assert!(Instant::now() < until, "the partitions are not added");
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// A topic of one partition with two versions of 50 users, and one record dated almost as far ahead
/// as Kafka allows.
fn ahead_of_time(job: &Job) {
    let kafka = Kafka::shared();
    kafka.create_topic(&job.topic, 1);
    let far = TimedRecord { key: Some("far".into()), value: user(99, 2), partition: 0, at: now_ms() + 50 * 60 * 1_000 };
    produce(kafka.bootstrap(), &job.topic, version(50, 1));
    produce_timed(kafka.bootstrap(), &job.topic, &[far]);
    produce(kafka.bootstrap(), &job.topic, version(50, 2));
}

#[test]
fn keys_moved_to_an_added_partition_have_their_newest_record() {
    let job = job();
    ahead_of_time(&job);
    job.run_until_idle();
    add_partitions(&job, 8);
    produce(Kafka::shared().bootstrap(), &job.topic, version(50, 3));
    job.run_until_idle();
    assert_eq!(versions(&job), BTreeMap::from([("Last2".into(), 1), ("Last3".into(), 50)]));
    // After a replay, their newest records win again.
    let done = job.forebay(&["replay", "--from", "begin", "--reason", "to see", "--yes"]);
    assert!(done.status.success(), "{}", stderr(&done));
    assert_eq!(job.run_until_idle()["consumed"], 151);
    assert_eq!(versions(&job), BTreeMap::from([("Last2".into(), 1), ("Last3".into(), 50)]));
}

#[test]
fn keys_moved_while_the_pipeline_runs_have_their_newest_record() {
    let job = job().with("[kafka.properties]\n\"topic.metadata.refresh.interval.ms\" = \"1000\"");
    ahead_of_time(&job);
    let running = job.start(&[], &[]);
    running.wait_until("the first are written", |s| s["totals"]["consumed"] == 101);
    add_partitions(&job, 8);
    produce(Kafka::shared().bootstrap(), &job.topic, version(50, 3));
    running.wait_until("everything is written", |s| s["totals"]["consumed"] == 151);
    assert!(running.stop().success());
    assert_eq!(versions(&job), BTreeMap::from([("Last2".into(), 1), ("Last3".into(), 50)]));
}

#[test]
fn records_without_a_key_are_never_mixed_in_one_row() {
    let job = job();
    let kafka = Kafka::shared();
    kafka.create_topic(&job.topic, 2);
    // Each user has one record per partition, in the same millisecond. The greater value of each
    // column is sometimes in the one, sometimes in the other.
    let begin = now_ms() - 10_000;
    let of = |partition: i32, version: u32| {
        (0..200).map(move |n| {
            let value = user(n, version).replace(&format!("First{n}"), if version == 1 { "old" } else { "new" });
            TimedRecord { key: None, value, partition, at: begin + i64::from(n) }
        })
    };
    produce_timed(kafka.bootstrap(), &job.topic, &of(0, 1).chain(of(1, 2)).collect::<Vec<_>>());
    let plan = job.forebay(&["plan"]);
    assert!(String::from_utf8_lossy(&plan.stdout).contains("is not known, for others produce them"), "{}", stderr(&plan));
    let running = job.start(&[], &[]);
    let end = running.wait_until("everything is written", |s| s["totals"]["consumed"] == 400);
    let unkeyed: Vec<&Value> = end["partitions"].as_array().unwrap().iter().map(|partition| &partition["unkeyed"]).collect();
    assert_eq!(unkeyed, [&Value::from(200), &Value::from(200)]);
    let log = running.log();
    assert!(running.stop().success());
    assert_eq!(log.matches("records have no key").count(), 1, "{log}");
    let rows = job.query("SELECT first_name, last_name FROM users_stream");
    let mixed = |row: &&Value| {
        !matches!((row["first_name"].as_str(), row["last_name"].as_str()), (Some("old"), Some("Last1")) | (Some("new"), Some("Last2")))
    };
    assert_eq!((rows.len(), rows.iter().filter(mixed).count()), (200, 0));
}

#[test]
fn a_replay_restores_rows_deleted_or_changed_by_hand() {
    let job = job();
    let (kafka, cassandra) = (Kafka::shared(), Cassandra::shared());
    kafka.create_topic(&job.topic, 2);
    produce(kafka.bootstrap(), &job.topic, version(20, 1));
    job.run_until_idle();
    let table = format!("{}.users_stream", job.keyspace);
    let by_hand = || {
        let delete = (0..5).map(|n| format!("DELETE FROM {table} WHERE id = {};", user_id(n)));
        let change = (5..10).map(|n| format!("UPDATE {table} SET last_name = 'by hand' WHERE id = {};", user_id(n)));
        cassandra.cqlsh(&delete.chain(change).collect::<String>());
        assert_eq!(versions(&job), BTreeMap::from([("Last1".into(), 10), ("by hand".into(), 5)]));
    };
    by_hand();
    let replay = || {
        let done = job.forebay(&["replay", "--from", "begin", "--reason", "deleted by mistake", "--yes"]);
        assert!(done.status.success(), "{}", stderr(&done));
    };
    replay();
    assert_eq!(job.run_until_idle()["consumed"], 20);
    assert_eq!(versions(&job), BTreeMap::from([("Last1".into(), 20)]));

    by_hand();
    let running = job.start(&[], &[]);
    running.wait_until("it reads", |s| s["partitions"].as_array().unwrap().iter().filter(|p| p["assigned"] == true).count() == 2);
    replay();
    running.wait_until("everything is written again", |s| s["totals"]["consumed"] == 20);
    assert!(running.stop().success());
    assert_eq!(versions(&job), BTreeMap::from([("Last1".into(), 20)]));
    // Also after a TRUNCATE, whose timestamp is later.
    cassandra.cqlsh(&format!("TRUNCATE {table};"));
    replay();
    job.run_until_idle();
    assert_eq!(versions(&job), BTreeMap::from([("Last1".into(), 20)]));
}
