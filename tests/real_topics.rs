//! Unusual topics, with real Kafka and Cassandra: deleted and re-created while the pipeline runs,
//! and written in transactions.

#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod support;

use std::collections::BTreeMap;

use forebay_test_services::{Cassandra, Kafka};
use rdkafka::ClientConfig;
use rdkafka::admin::{NewTopic, TopicReplication};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use serde_json::{Value, json};
use support::source_api::{Answer, TestApi};
use support::{Job, TIMEOUT, admin, committed, ends, produce, stderr, user, user_id, users, version, versions};

fn job() -> Job {
    Job::new(Kafka::shared().bootstrap(), &Cassandra::shared().contact_point())
}

/// Deletes a topic and creates it again at once.
fn recreate(topic: &str, partitions: i32) {
    admin(Kafka::shared().bootstrap(), async |kafka, options| {
        assert!(kafka.delete_topics(&[topic], options).await.unwrap()[0].is_ok());
        loop {
            let made = kafka.create_topics(&[NewTopic::new(topic, partitions, TopicReplication::Fixed(1))], options).await.unwrap();
            if made[0].is_ok() {
                return;
            }
        }
    });
}

fn sum(look: &Value, of: &str) -> i64 {
    look["partitions"].as_array().unwrap().iter().map(|partition| partition[of].as_i64().unwrap()).sum()
}

fn lag(look: &Value) -> i64 {
    let behind = |p: &Value| (p["end"].as_i64().unwrap() - p["written"].as_i64().unwrap().max(p["committed"].as_i64().unwrap())).max(0);
    look["partitions"].as_array().unwrap().iter().map(behind).sum()
}

#[test]
fn a_topic_recreated_while_running_is_read_from_earliest_and_its_rows_win() {
    let job = job();
    let kafka = Kafka::shared();
    kafka.create_topic(&job.topic, 4);
    produce(kafka.bootstrap(), &job.topic, users(100));
    let running = job.start(&[], &[]);
    running.wait_until("everything is written and committed", |s| s["totals"]["consumed"] == 100 && sum(s, "committed") == 100);
    recreate(&job.topic, 4);
    // More records than before, so that the old offsets are within the new topic.
    produce(kafka.bootstrap(), &job.topic, version(300, 2));
    running.wait_until("the log reports it", |_| running.log().contains("WARN topic was deleted and created again"));
    // Records that were read from the old offsets before that are read again.
    running.wait_until("the new topic is read from the earliest offset", |s| {
        let begun = s["partitions"].as_array().unwrap().iter().all(|partition| partition["assigned"] == true);
        begun && s["totals"]["restarts"].as_u64() >= Some(1) && sum(s, "written") == 300 && sum(s, "committed") == 300 && lag(s) == 0
    });
    assert!(running.stop().success());
    assert_eq!(versions(&job), BTreeMap::from([("Last2".into(), 300)]));
    let recreated = job.events("TopicRecreated");
    assert_eq!(recreated.len(), 1, "{recreated:?}");
    assert_ne!(recreated[0]["data"]["from"], recreated[0]["data"]["to"]);
    let starts = job.events("PartitionsAssigned").pop().unwrap();
    assert!(starts["data"]["starts"].as_object().unwrap().values().all(|start| start["origin"] == "again"), "{starts}");
    assert_eq!(job.run_until_idle()["consumed"], 0, "and the next start continues there");
}

#[test]
fn a_run_whose_topic_was_deleted_fails_retryable_in_every_process() {
    let api = TestApi::start(|_| Answer::users(0, 30));
    let job = job().fetching(&api.url, None);
    let running = job.start(&["--roles", "ingest,api"], &[]);
    running.snapshot();
    let trigger = |key: &str| {
        let end = job.forebay(&["trigger", "--key", key, "--json"]);
        assert!(end.status.success(), "{}", stderr(&end));
    };
    let newest = |s: &Value| s["runs"][0]["state"].as_str().unwrap_or_default().to_owned();
    trigger("before");
    running.wait_until("it is in the topic", |s| newest(s) == "draining");
    recreate(&job.topic, 4);
    let look = running.wait_until("the run has ended", |s| newest(s) == "failed");
    assert_eq!(look["runs"][0]["error"]["retryable"], true, "{look:#}");
    trigger("after");
    running.wait_until("it is in the topic", |s| newest(s) == "draining");
    // Another process reads the new topic.
    let twin = job.twin();
    let other = twin.start(&["--roles", "egress"], &[]);
    running.wait_until("the other process has written it", |s| newest(s) == "succeeded");
    assert!(other.stop().success() && running.stop().success());
    assert_eq!(versions(&job), BTreeMap::from([("Last1".into(), 30)]));
}

/// A transactional producer.
struct Transactional {
    producer: BaseProducer,
    topic: String,
}

impl Transactional {
    fn of(job: &Job) -> Self {
        let (bootstrap, topic) = (Kafka::shared().bootstrap(), job.topic.clone());
        let config = ClientConfig::new().set("bootstrap.servers", bootstrap).set("transactional.id", &topic).clone();
        let producer: BaseProducer = config.create().unwrap();
        producer.init_transactions(TIMEOUT).unwrap();
        Self { producer, topic }
    }

    /// Begins a transaction, and produces users to partitions.
    fn begin(&self, records: &[(i32, u32)]) -> &Self {
        self.producer.begin_transaction().unwrap();
        for &(partition, n) in records {
            let (key, value) = (user_id(n), user(n, 1));
            let record = BaseRecord::to(&self.topic).partition(partition).key(&key).payload(&value);
            self.producer.send(record).map_err(|(error, _)| error).unwrap();
        }
        self.producer.flush(TIMEOUT).unwrap();
        self
    }

    fn commit(&self) {
        self.producer.commit_transaction(TIMEOUT).unwrap();
    }

    fn abort(&self) {
        self.producer.abort_transaction(TIMEOUT).unwrap();
    }
}

/// Produces a user to a partition, without a transaction.
fn plain(job: &Job, partition: i32, n: u32) {
    let producer: BaseProducer = ClientConfig::new().set("bootstrap.servers", Kafka::shared().bootstrap()).create().unwrap();
    let (key, value) = (user_id(n), user(n, 1));
    let record = BaseRecord::to(&job.topic).partition(partition).key(&key).payload(&value);
    producer.send(record).map_err(|(error, _)| error).unwrap();
    producer.flush(TIMEOUT).unwrap();
}

#[test]
fn a_transactional_topic_has_no_lag_and_open_transactions_are_reported() {
    let job = job().with_partitions(2);
    let bootstrap = Kafka::shared().bootstrap();
    Kafka::shared().create_topic(&job.topic, 2);
    let transactions = Transactional::of(&job);
    transactions.begin(&[(0, 1), (1, 2)]).commit();
    transactions.begin(&[(0, 3), (1, 4)]).abort();
    transactions.begin(&[(0, 5), (1, 6)]).commit();
    plain(&job, 1, 7);
    // Partition 0 ends with a marker, partition 1 with a record.
    let summary = job.run_until_idle();
    assert_eq!((&summary["consumed"], &summary["held_back"]), (&5.into(), &Value::Null));
    let rows = |expected: u64| assert_eq!(Cassandra::shared().count(&format!("{}.users_stream", job.keyspace)), expected);
    rows(5);
    assert_eq!(ends(bootstrap, &job.topic, 2), BTreeMap::from([(0, 6), (1, 7)]));
    assert_eq!(committed(bootstrap, &job.group, &job.topic, 2), ends(bootstrap, &job.topic, 2), "Kafka's own tools show no lag either");
    let running = job.start(&[], &[]);
    running.wait_until("it has no lag", |s| lag(s) == 0 && sum(s, "end") == 13);

    transactions.begin(&[(0, 8)]);
    plain(&job, 0, 9);
    let look = running.wait_until("held_back is reported", |s| sum(s, "held_back") == 2);
    assert_eq!((lag(&look), sum(&look, "end")), (0, 13), "unreadable records are not lag");
    let message = "an open transaction at offset 6 of partition 0 holds back 2 offsets";
    let status = job.forebay(&["status"]);
    assert!(String::from_utf8_lossy(&status.stdout).contains(message), "{}", String::from_utf8_lossy(&status.stdout));
    assert!(running.stop().success());
    let summary = job.run_until_idle();
    assert_eq!((&summary["consumed"], &summary["held_back"]), (&0.into(), &json!([{ "partition": 0, "from": 6, "to": 8 }])));
    let plan = job.forebay(&["plan"]);
    assert!(String::from_utf8_lossy(&plan.stdout).contains(message), "{}", String::from_utf8_lossy(&plan.stdout));

    let running = job.start(&[], &[]);
    running.wait_until("it has no lag", |s| lag(s) == 0 && sum(s, "held_back") == 2);
    transactions.commit();
    running.wait_until("everything is read and nothing is held back", |s| {
        s["totals"]["consumed"] == 2 && lag(s) == 0 && sum(s, "held_back") == 0
    });
    assert!(running.stop().success());
    rows(7);
}
