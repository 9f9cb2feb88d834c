//! The whole pipeline with real Kafka and Cassandra.

#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod support;

use std::collections::{BTreeMap, BTreeSet};

use forebay_test_services::{Cassandra, Kafka, tools};
use rdkafka::admin::{NewTopic, TopicReplication};
use support::source_api::{Answer, TestApi};
use support::{Job, Running, admin, committed, ends, plan, produce, read_all, unique, user, user_id, users};

fn job() -> Job {
    Job::new(Kafka::shared().bootstrap(), &Cassandra::shared().contact_point())
}

fn count(job: &Job) -> u64 {
    Cassandra::shared().count(&format!("{}.users_stream", job.keyspace))
}

#[test]
fn fetched_records_are_rows_in_cassandra_and_readable_in_kafka() {
    let api = TestApi::start(|_| Answer::users(0, 200));
    let job = job().fetching(&api.url, Some("1h"));
    let summary = job.run_until_idle();
    assert_eq!((&summary["fetched"], &summary["produced"], &summary["consumed"]), (&200.into(), &200.into(), &200.into()));
    assert_eq!((&summary["written"], &summary["rejected"], &summary["restarts"]), (&200.into(), &0.into(), &0.into()));
    assert_eq!(count(&job), 200);

    let read: BTreeSet<String> = Kafka::shared().console_consumer(&job.topic, 200).into_iter().collect();
    let sent: BTreeSet<String> = (0..200).map(|n| user(n, 1)).collect();
    assert_eq!(read, sent, "the topic holds the API's own bytes");

    let row = Cassandra::shared().cqlsh(&format!(
        "SELECT first_name, address, post_code, dob FROM {}.users_stream WHERE id = {}",
        job.keyspace,
        user_id(7)
    ));
    assert!(row.contains("First7") && row.contains("7 Main Street, Zürich, ZH, Switzerland") && row.contains("8007"), "{row}");
    assert!(row.contains("1992-03-08 15:13:16.688"), "{row}");
}

#[test]
fn kafkas_own_consumer_reads_the_embedded_broker() {
    let api = TestApi::start(|_| Answer::users(0, 50));
    let job = Job::new("embedded", "embedded").fetching(&api.url, Some("1h"));
    let running = job.start(&[], &[]);
    running.wait_until("everything is written", |s| s["totals"]["written"] == 50);
    let read: BTreeSet<String> = tools::console_consumer(&running.broker(), &job.topic, 50).into_iter().collect();
    assert_eq!(read, (0..50).map(|n| user(n, 1)).collect());
    assert!(running.stop().success());
    assert_eq!(job.query("SELECT count(*) AS n FROM users_stream")[0]["n"], 50);
}

#[test]
fn the_newest_version_of_a_key_wins_and_each_key_is_one_row() {
    let job = job();
    Kafka::shared().create_topic(&job.topic, 4);
    let versions = (1..=3).flat_map(|version| (0..500).map(move |n| (user_id(n), user(n, version).into_bytes())));
    produce(Kafka::shared().bootstrap(), &job.topic, versions);
    let summary = job.run_until_idle();
    assert_eq!(summary["consumed"], 1_500);
    assert_eq!(count(&job), 500);
    let old =
        Cassandra::shared().cqlsh(&format!("SELECT count(*) FROM {}.users_stream WHERE last_name = 'Last3' ALLOW FILTERING", job.keyspace));
    assert!(old.contains("500"), "{old}");
}

#[test]
fn a_topic_filled_by_another_client_is_written_completely() {
    let job = job();
    Kafka::shared().create_topic(&job.topic, 4);
    produce(Kafka::shared().bootstrap(), &job.topic, users(100_000));
    let summary = job.run_until_idle();
    assert_eq!((&summary["consumed"], &summary["written"]), (&100_000.into(), &100_000.into()));
    assert_eq!(count(&job), 100_000);
    assert_eq!(job.run_until_idle()["consumed"], 0, "a second run finds nothing left");
}

#[test]
fn bad_records_are_dead_letters_with_reasons_and_the_rest_are_rows() {
    let job = job();
    Kafka::shared().create_topic(&job.topic, 4);
    let bad: BTreeMap<u32, (Vec<u8>, &str)> = BTreeMap::from([
        (100, (b"not json".to_vec(), "decode")),
        (200, (br#"{"gender":"female""#.to_vec(), "decode")),
        (300, (b"\xff\xfe{}".to_vec(), "decode")),
        (400, (b"[1,2,3]".to_vec(), "decode")),
        (500, (b"".to_vec(), "decode")),
        (600, (user(600, 1).replace("\"1992-03-08T15:13:16.688Z\"", "\"some day\"").into_bytes(), "decode")),
        (700, (user(700, 1).replace(&user_id(700), "not-a-uuid").into_bytes(), "decode")),
    ]);
    let records = (0..1_000).map(|n| (user_id(n), bad.get(&n).map_or_else(|| user(n, 1).into_bytes(), |(bytes, _)| bytes.clone())));
    let bootstrap = Kafka::shared().bootstrap();
    produce(bootstrap, &job.topic, records);

    let summary = job.run_until_idle();
    assert_eq!((&summary["written"], &summary["rejected"], &summary["consumed"]), (&993.into(), &7.into(), &1_000.into()));
    assert_eq!(count(&job), 993);
    assert_eq!(committed(bootstrap, &job.group, &job.topic, 4), ends(bootstrap, &job.topic, 4));

    let letters = read_all(bootstrap, &format!("{}.dead", job.topic), 1);
    assert_eq!(letters.len(), 7);
    for (key, value, headers) in letters {
        let key = String::from_utf8(key.unwrap()).unwrap();
        let n = u32::from_str_radix(&key[..8], 16).unwrap();
        let (bytes, stage) = &bad[&n];
        assert_eq!(value.as_ref(), Some(bytes), "the bytes are untouched");
        assert_eq!(&headers["forebay-stage"], stage, "{headers:?}");
        assert_eq!(headers["forebay-topic"], job.topic);
        assert!(
            headers["forebay-reason"].len() > 10 && headers.contains_key("forebay-offset") && headers.contains_key("forebay-partition")
        );
    }
}

#[test]
fn a_redriven_record_equals_the_original_to_its_last_header() {
    let job = job().with_partitions(1);
    let running = job.start(&[], &[]);
    running.wait_until("it reads the topic", |s| s["partitions"].as_array().unwrap().iter().any(|p| p["assigned"] == true));
    support::assert_redriven_unchanged(&job, &running, Kafka::shared().bootstrap());
    assert!(running.stop().success());
}

#[test]
fn a_large_bad_record_of_another_client_is_a_dead_letter() {
    let job = job();
    let (kafka, dead) = (Kafka::shared().bootstrap(), format!("{}.dead", job.topic));
    admin(kafka, async |kafka, options| {
        let topic = |name| NewTopic::new(name, 1, TopicReplication::Fixed(1)).set("max.message.bytes", "6000000");
        kafka.create_topics(&[topic(&job.topic), topic(&dead)], options).await.unwrap();
    });
    let broken = format!("{{\"gender\": \"{}\"", "x".repeat(5_000_000));
    produce(kafka, &job.topic, [("k".to_owned(), broken.clone().into_bytes())].into_iter().chain(users(3)));
    let end = job.run_until_idle();
    assert_eq!((&end["written"], &end["rejected"]), (&3.into(), &1.into()), "{end}");
    let letters = support::read_records(kafka, &dead, 1);
    assert_eq!((letters.len(), letters[0].value.as_deref()), (1, Some(broken.as_bytes())));
}

/// Incompressible text of `bytes` bytes.
fn noise(bytes: usize) -> String {
    let mut state = 7_u64;
    let next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from(b'0' + u8::try_from(state >> 58).unwrap())
    };
    std::iter::repeat_with(next).map(|letter| if letter == '\\' { 'z' } else { letter }).take(bytes).collect()
}

/// A record of `bytes` bytes that is not JSON.
fn broken(bytes: usize) -> Vec<u8> {
    format!("{{\"gender\": \"{}", noise(bytes - 12)).into_bytes()
}

#[test]
fn a_bad_record_of_the_topic_s_maximum_size_fits_the_dead_letter_topic() {
    let job = job();
    let (kafka, dead) = (Kafka::shared().bootstrap(), format!("{}.dead", job.topic));
    // Created by the first start, as the dead-letter topic is.
    assert_eq!(job.run_until_idle()["rejected"], 0);
    let largest = [1_048_393, 1_048_380].map(broken);
    produce(kafka, &job.topic, largest.iter().map(|value| ("k".to_owned(), value.clone())).chain(users(3)));
    let end = job.run_until_idle();
    assert_eq!((&end["written"], &end["rejected"]), (&3.into(), &2.into()), "{end}");
    let letters = support::read_records(kafka, &dead, 1);
    let mut values: Vec<_> = letters.iter().map(|letter| letter.value.clone().unwrap()).collect();
    // Two batches may be written in either order.
    values.sort_by_key(|value| std::cmp::Reverse(value.len()));
    assert_eq!(values, largest, "complete: the dead-letter topic allows more than the topic");
}

#[test]
fn a_truncated_dead_letter_is_redriven_from_the_topic() {
    let job = job().with_partitions(1);
    let (kafka, dead) = (Kafka::shared().bootstrap(), format!("{}.dead", job.topic));
    Kafka::shared().create_topic(&job.topic, 1);
    Kafka::shared().create_topic(&dead, 1);
    let broken = broken(1_048_393);
    produce(kafka, &job.topic, [("k".to_owned(), broken.clone())].into_iter().chain(users(3)));
    let running = job.start(&[], &[]);
    running.wait_until("there is a dead letter", |s| s["totals"]["rejected"] == 1 && s["totals"]["written"] == 3);
    let letters = support::read_records(kafka, &dead, 1);
    let header = |name: &str| {
        let value = letters[0].headers.iter().find(|(other, _)| other == name).and_then(|(_, value)| value.clone());
        String::from_utf8(value.unwrap_or_default()).unwrap()
    };
    let value = letters[0].value.as_deref().unwrap();
    assert!(letters.len() == 1 && broken.starts_with(value) && value.len() > 900_000, "{} letters", letters.len());
    assert_eq!((header("forebay-value-bytes"), header("forebay-value-cut")), (broken.len().to_string(), value.len().to_string()));

    let end = job.forebay(&["dlq", "redrive", "--reason", "again", "--yes"]);
    assert!(String::from_utf8_lossy(&end.stdout).contains("done: 1 records"), "{end:?}");
    running.wait_until("it is rejected again", |s| s["totals"]["rejected"] == 2);
    let again = support::read_records(kafka, &job.topic, 1).pop().unwrap();
    assert_eq!((again.key.as_deref(), again.value), (Some(&b"k"[..]), Some(broken)), "complete, from the topic");
    assert!(running.stop().success());
}

#[test]
fn a_deleted_dead_letter_topic_is_created_again() {
    let job = job().with_partitions(1);
    let (kafka, dead) = (Kafka::shared().bootstrap(), format!("{}.dead", job.topic));
    let running = job.start(&[], &[]);
    running.wait_until("it reads the topic", |s| s["partitions"].as_array().unwrap().iter().any(|p| p["assigned"] == true));
    produce(kafka, &job.topic, [("k".to_owned(), b"{".to_vec())].into_iter());
    running.wait_until("there is a dead letter", |s| s["totals"]["rejected"] == 1);
    admin(kafka, async |kafka, options| kafka.delete_topics(&[&dead], options).await.unwrap());
    produce(kafka, &job.topic, [("k".to_owned(), b"[".to_vec())].into_iter());
    running.wait_until("there is another dead letter", |s| s["totals"]["rejected"] == 2);
    assert!(running.log().contains("the dead-letter topic was missing and was re-created"), "{}", running.log());
    let letters = support::read_records(kafka, &dead, 1);
    assert_eq!(letters.iter().map(|letter| letter.value.as_deref().unwrap()).collect::<Vec<_>>(), [b"["]);
    assert!(running.stop().success());
}

#[test]
fn a_record_over_the_topic_limit_is_a_dead_letter_and_its_page_continues() {
    let api = TestApi::start(|n| match n {
        0 => Answer::ok(format!("{{\"results\":[{},{},{}]}}", user(1, 1), user(2, 1).replace("Main Street", &noise(200_000)), user(3, 1))),
        _ => Answer::users(3, 3),
    });
    let job = job().with_partitions(1).fetching(&api.url, None);
    admin(Kafka::shared().bootstrap(), async |kafka, options| {
        let topic = NewTopic::new(&job.topic, 1, TopicReplication::Fixed(1)).set("max.message.bytes", "100000");
        kafka.create_topics(&[topic], options).await.unwrap();
    });
    let end = job.run_until_idle();
    assert_eq!(["fetched", "produced", "rejected", "written"].map(|key| end[key].as_u64().unwrap()), [3, 2, 1, 2], "{end}");
}

#[test]
fn two_processes_share_the_partitions() {
    let job = job().batches("{ max_records = 100 }", "8MiB");
    Kafka::shared().create_topic(&job.topic, 4);
    let twin = job.twin();
    let (one, two) = (job.start(&["--roles", "egress,api"], &[]), twin.start(&["--roles", "egress,api"], &[]));
    let assigned = |s: &serde_json::Value| s["partitions"].as_array().unwrap().iter().filter(|p| p["assigned"] == true).count();
    one.wait_until("it has half of the partitions", |s| assigned(s) == 2);
    two.wait_until("it has the other half", |s| assigned(s) == 2);
    produce(Kafka::shared().bootstrap(), &job.topic, users(2_000));
    let written = |running: &Running| running.snapshot()["totals"]["written"].as_u64().unwrap();
    one.wait_until("everything is written", |s| s["totals"]["written"].as_u64().unwrap() + written(&two) >= 2_000);
    assert!(written(&one) > 0 && written(&two) > 0);
    assert!(two.stop().success());
    one.wait_until("it has them all", |s| assigned(s) == 4);
    assert!(one.stop().success());
    assert_eq!(count(&job), 2_000);
}

#[test]
fn a_triggered_run_succeeds_once_its_rows_are_readable() {
    let api = TestApi::start(|n| Answer::users(n * 10, n * 10 + 10));
    let job = job().fetching(&api.url, None);
    let running = job.start(&[], &[]);
    running.snapshot();
    let key = unique("run");
    let trigger = || {
        let end = job.forebay(&["trigger", "--wait", "--json", "--key", &key]);
        assert!(end.status.success(), "{}", String::from_utf8_lossy(&end.stderr));
        serde_json::from_slice::<serde_json::Value>(&end.stdout).unwrap()
    };
    let run = trigger();
    assert_eq!((&run["state"], &run["counts"]["produced"]), (&"succeeded".into(), &10.into()));
    assert_eq!(count(&job), 10, "readable as soon as the run has succeeded");
    assert_eq!(trigger()["id"], run["id"], "the same key is the same run");
    assert_eq!(api.requests(), 1);
    let snapshot = running.snapshot();
    let store = &snapshot["store"];
    let node = &store["nodes"][0];
    let kind = (&store["kind"], &store["consistency"], &node["address"], &node["up"]);
    assert_eq!(kind, (&"cassandra".into(), &"LOCAL_QUORUM".into(), &Cassandra::shared().contact_point().into(), &true.into()));
    assert!(store["statements"].as_u64().unwrap() > 0 && store["in_flight"] == 0 && node["connections"].as_u64().unwrap() > 0, "{store}");
    assert_eq!(snapshot["run_totals"]["succeeded"], 1);
    assert!(running.stop().success());
}

#[test]
fn a_run_of_an_ingest_process_succeeds_once_another_process_wrote_it() {
    let api = TestApi::start(|n| Answer::users(n * 40, n * 40 + 40));
    let job = job().fetching(&api.url, None);
    let twin = job.twin();
    let fetching = job.start(&["--roles", "ingest,api"], &[]);
    fetching.snapshot();
    let first = job.forebay(&["trigger", "--wait", "--timeout", "3s", "--key", "first"]);
    assert_eq!(first.status.code(), Some(5), "no process writes it yet: {}", String::from_utf8_lossy(&first.stderr));
    let writing = twin.start(&["--roles", "egress"], &[]);
    for key in ["first", "second"] {
        let end = job.forebay(&["trigger", "--wait", "--timeout", "60s", "--key", key]);
        assert!(end.status.success(), "{}", String::from_utf8_lossy(&end.stderr));
    }
    assert_eq!(count(&job), 80, "readable as soon as the runs have succeeded");
    assert!(fetching.stop().success() && writing.stop().success());
}

#[test]
fn a_table_that_does_not_fit_is_reported_and_nothing_is_skipped() {
    let job = job();
    let (keyspace, cassandra) = (&job.keyspace, Cassandra::shared());
    cassandra.cqlsh(&format!("CREATE KEYSPACE {keyspace} WITH replication = {{'class': 'SimpleStrategy', 'replication_factor': 1}}"));
    cassandra.cqlsh(&format!("CREATE TABLE {keyspace}.users_stream (id uuid PRIMARY KEY, first_name int)"));
    Kafka::shared().create_topic(&job.topic, 4);
    produce(Kafka::shared().bootstrap(), &job.topic, users(10));
    let end = job.forebay(&["run", "--until-idle"]);
    assert_eq!(end.status.code(), Some(70));
    let stderr = String::from_utf8_lossy(&end.stderr);
    assert!(stderr.contains("first_name") && stderr.contains("int") && stderr.contains("text"), "{stderr}");
    assert!(committed(Kafka::shared().bootstrap(), &job.group, &job.topic, 4).is_empty());
}

#[test]
fn plan_shows_first_run_next_run_and_changed_sql_and_creates_nothing() {
    let api = TestApi::start(|n| Answer::users(n * 40, n * 40 + 40));
    let job = job().fetching(&api.url, None);
    let (kafka, cassandra) = (Kafka::shared(), Cassandra::shared());
    // Everything that a plan could create.
    let all = || {
        let keyspaces = cassandra.cqlsh("SELECT keyspace_name FROM system_schema.keyspaces");
        let tables = cassandra.cqlsh(&format!("SELECT table_name FROM system_schema.tables WHERE keyspace_name = '{}'", job.keyspace));
        let mine = |names: Vec<String>| names.into_iter().filter(|name| name.contains(&job.topic)).collect::<Vec<_>>();
        let keyspace = keyspaces.contains(&job.keyspace);
        (mine(kafka.topics()), mine(groups(kafka.bootstrap())), keyspace, tables, job.dir().join(".forebay").exists())
    };
    let before = all();
    assert!(before.0.is_empty() && before.1.is_empty() && !before.2 && !before.4, "{before:?}");
    let (code, first) = plan(&job, &[]);
    assert_eq!((code, all()), (0, before), "{first:#}");
    let steps = |plan: &serde_json::Value| {
        [&plan["topics"][0]["step"], &plan["topics"][1]["step"], &plan["table"]["keyspace_step"], &plan["table"]["step"]]
            .map(ToString::to_string)
    };
    assert_eq!(steps(&first), ["\"make\""; 4], "{first:#}");
    assert_eq!(first["topics"][0]["settings"][0], serde_json::json!({ "name": "message.timestamp.type", "asked": "LogAppendTime" }));
    assert!(first["table"]["cql"][1].as_str().unwrap().starts_with("CREATE TABLE"), "{first:#}");
    let tombstones = first["table"]["columns"].as_array().unwrap().iter().filter(|column| column["tombstone"] == true).count();
    let check: serde_json::Value = serde_json::from_slice(&job.forebay(&["check", "--json"]).stdout).unwrap();
    assert_eq!(tombstones, check["tombstones"].as_array().unwrap().len());
    let doctor = job.forebay(&["doctor"]);
    let stderr = String::from_utf8_lossy(&doctor.stderr);
    assert!(stderr.contains("is created at the first run"), "{stderr}");

    let running = job.start(&[], &[]);
    running.snapshot();
    let trigger = |key: &str| {
        let end = job.forebay(&["trigger", "--wait", "--key", key]);
        assert!(end.status.success(), "{}", String::from_utf8_lossy(&end.stderr));
    };
    trigger("one");
    let (code, while_running) = plan(&job, &[]);
    assert_eq!(
        (code, &while_running["group"]["members"], &while_running["group"]["name"]),
        (0, &1.into(), &job.group.as_str().into()),
        "{while_running:#}"
    );
    assert!(running.stop().success());
    let made = all();
    let (code, next) = plan(&job, &[]);
    assert_eq!((code, &next["changes"], all()), (0, &serde_json::json!([]), made), "{next:#}");
    assert_eq!(steps(&next), ["\"keep\""; 4]);
    assert_eq!(
        (&next["topics"][0]["differences"], &next["topics"][0]["settings"][0]["there"]),
        (&serde_json::json!([]), &"LogAppendTime".into())
    );
    let committed = committed(kafka.bootstrap(), &job.group, &job.topic, 4);
    for start in next["group"]["partitions"].as_array().unwrap() {
        let partition = i32::try_from(start["partition"].as_i64().unwrap()).unwrap();
        assert_eq!((start["from"].as_i64(), &start["origin"]), (committed.get(&partition).copied(), &"group".into()), "{next:#}");
    }

    let job = job.with_sql("gender,", "upper(gender) AS gender,");
    produce(kafka.bootstrap(), &job.topic, users(5));
    let (code, other) = plan(&job, &[]);
    assert_eq!((code, &other["sql"]["changed"], &other["sql"]["before"]), (0, &true.into(), &next["sql"]["fingerprint"]), "{other:#}");
    assert!(other["sql"]["follows"].as_str().unwrap().contains("5 offsets wait"), "{other:#}");
    let job = job.with_sql("gender,", "gender AS sex, 1 AS email_2,");
    let (code, unfit) = plan(&job, &[]);
    assert_eq!((code, unfit["problems"].as_array().unwrap().len()), (1, 2), "each column is named: {unfit:#}");
    assert!(unfit["problems"][0].as_str().unwrap().contains("ALTER TABLE"), "{unfit:#}");
    assert_eq!(unfit["table"]["untouched"], serde_json::json!(["gender"]));
}

/// The consumer groups of Kafka.
fn groups(bootstrap: &str) -> Vec<String> {
    use rdkafka::consumer::{BaseConsumer, Consumer as _};
    let asker: BaseConsumer = rdkafka::ClientConfig::new().set("bootstrap.servers", bootstrap).create().unwrap();
    let list = asker.fetch_group_list(None, std::time::Duration::from_secs(20)).unwrap();
    list.groups().iter().map(|group| group.name().to_owned()).collect()
}
