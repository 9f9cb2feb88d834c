//! Where a start continues, with real Kafka and Cassandra: the journal and the group's offsets,
//! when both exist, when either is lost, and when the topic has changed. Each rule has a message
//! and a test.

#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod support;

use std::collections::BTreeMap;
use std::process::Command;

use forebay_test_services::{Cassandra, Kafka};
use rdkafka::admin::NewPartitions;
use serde_json::Value;
use support::source_api::{Answer, TestApi};
use support::{Job, admin, committed, ends, produce, stderr, user, user_id, users, version, versions};

fn job() -> Job {
    Job::new(Kafka::shared().bootstrap(), &Cassandra::shared().contact_point())
}

#[test]
fn a_run_survives_the_process_and_its_key_always_names_it() {
    let api = TestApi::start(|n| if n == 0 { Answer::unavailable() } else { Answer::users(0, 30) });
    let job = job().fetching(&api.url, None);
    let running = job.start(&[], &[]);
    running.snapshot();
    let trigger = |more: &[&str]| -> Value {
        let end = job.forebay(&[&["trigger", "--key", "daily", "--json"], more].concat());
        assert!(end.status.success(), "{}", stderr(&end));
        serde_json::from_slice(&end.stdout).unwrap()
    };
    let asked = trigger(&[]);
    running.kill();
    let running = job.start(&[], &[]);
    running.snapshot();
    let ended = trigger(&["--wait", "--timeout", "60s"]);
    assert_eq!((&ended["id"], &ended["state"], &ended["counts"]["produced"]), (&asked["id"], &"succeeded".into(), &30.into()));
    // The fold of the journal equals the state of the process.
    let live = running.snapshot()["runs"].clone();
    assert!(running.stop().success());
    let state: Value = serde_json::from_slice(&job.forebay(&["journal", "state", "--json"]).stdout).unwrap();
    assert_eq!(state["runs"], live);
    assert_eq!((&state["process"]["starts"], &state["process"]["stopped"]), (&2.into(), &true.into()));
}

#[test]
fn a_pipeline_without_its_journal_continues_at_the_group_s_offsets() {
    let job = job();
    let kafka = Kafka::shared();
    kafka.create_topic(&job.topic, 4);
    produce(kafka.bootstrap(), &job.topic, users(100));
    assert_eq!(job.run_until_idle()["consumed"], 100);
    std::fs::remove_dir_all(job.dir().join(".forebay/journal")).unwrap();
    produce(kafka.bootstrap(), &job.topic, version(50, 2));
    assert_eq!(job.run_until_idle()["consumed"], 50);
    assert_eq!(versions(&job), BTreeMap::from([("Last1".into(), 50), ("Last2".into(), 50)]));
}

#[test]
fn a_topic_recreated_while_stopped_is_read_from_earliest_and_its_rows_win() {
    let job = job();
    let kafka = Kafka::shared();
    kafka.create_topic(&job.topic, 4);
    produce(kafka.bootstrap(), &job.topic, users(100));
    job.run_until_idle();
    admin(kafka.bootstrap(), async |kafka, options| kafka.delete_topics(&[&job.topic], options).await.unwrap());
    let until = std::time::Instant::now() + support::TIMEOUT;
    while kafka.topics().contains(&job.topic) {
        assert!(std::time::Instant::now() < until, "the topic is not deleted");
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
    kafka.create_topic(&job.topic, 4);
    // More records than before, so that the old written offset is within the new topic.
    produce(kafka.bootstrap(), &job.topic, version(200, 2));
    let end = job.forebay(&["run", "--until-idle", "--json"]);
    assert!(end.status.success(), "{}", stderr(&end));
    assert!(stderr(&end).contains("deleted and created again"), "{}", stderr(&end));
    assert_eq!(versions(&job), BTreeMap::from([("Last2".into(), 200)]));
    let starts = job.events("PartitionsAssigned").pop().unwrap();
    assert_eq!(starts["data"]["starts"]["0"]["origin"], "again");
    assert_eq!(job.events("TopicRecreated").len(), 1);
}

#[test]
fn records_lost_to_retention_stop_the_pipeline_until_a_replay() {
    let job = job();
    let kafka = Kafka::shared();
    kafka.create_topic(&job.topic, 1);
    produce(kafka.bootstrap(), &job.topic, users(100));
    job.run_until_idle();
    produce(kafka.bootstrap(), &job.topic, version(100, 2));
    admin(kafka.bootstrap(), async |kafka, options| {
        let mut upto = rdkafka::TopicPartitionList::new();
        upto.add_partition_offset(&job.topic, 0, rdkafka::Offset::Offset(150)).unwrap();
        kafka.delete_records(&upto, options).await.unwrap();
    });
    let stopped = job.forebay(&["run", "--until-idle", "--json"]);
    assert_eq!(stopped.status.code(), Some(70), "{}", stderr(&stopped));
    assert!(stderr(&stopped).contains("[150..200)") && stderr(&stopped).contains("forebay replay --from earliest"), "{}", stderr(&stopped));
    let dry = job.forebay(&["replay", "--from", "begin"]);
    assert!(dry.status.success() && String::from_utf8_lossy(&dry.stdout).contains("[100..150) are lost"), "{}", stderr(&dry));
    let done = job.forebay(&["replay", "--from", "begin", "--reason", "retention", "--yes"]);
    assert!(done.status.success(), "{}", stderr(&done));
    assert_eq!(job.run_until_idle()["consumed"], 50);
    let lost = job.events("RangeLost");
    assert_eq!(lost[0]["data"]["range"], serde_json::json!({ "from": 100, "to": 150 }));
}

#[test]
fn added_partitions_are_read_from_earliest() {
    let job = job().with("[kafka.properties]\n\"topic.metadata.refresh.interval.ms\" = \"1000\"");
    let kafka = Kafka::shared();
    kafka.create_topic(&job.topic, 2);
    produce(kafka.bootstrap(), &job.topic, users(50));
    let running = job.start(&[], &[]);
    running.wait_until("the first are written", |s| s["totals"]["consumed"] == 50);
    admin(kafka.bootstrap(), async |kafka, options| kafka.create_partitions(&[NewPartitions::new(&job.topic, 5)], options).await.unwrap());
    produce(kafka.bootstrap(), &job.topic, (50..200).map(|n| (user_id(n), user(n, 1).into_bytes())));
    running.wait_until("everything is written", |s| s["totals"]["consumed"] == 200);
    assert!(running.stop().success());
    assert_eq!(committed(kafka.bootstrap(), &job.group, &job.topic, 5), ends(kafka.bootstrap(), &job.topic, 5));
    assert_eq!(Cassandra::shared().count(&format!("{}.users_stream", job.keyspace)), 200);
}

#[test]
fn a_replay_overwrites_the_rows_of_the_old_sql() {
    let job = job();
    let kafka = Kafka::shared();
    kafka.create_topic(&job.topic, 4);
    produce(kafka.bootstrap(), &job.topic, users(100).chain(version(20, 2)));
    job.run_until_idle();
    let job = job.with_sql("name['last']", "upper(name['last'])");
    assert_eq!(job.run_until_idle()["consumed"], 0, "new SQL alone replays nothing");
    let dry = job.forebay(&["replay", "--from", "begin", "--json"]);
    let plan: Value = serde_json::from_slice(&dry.stdout).unwrap();
    assert_eq!(plan["done"], false);
    assert_eq!(job.run_until_idle()["consumed"], 0, "a dry run moves nothing");
    assert_eq!(job.forebay(&["replay", "--from", "begin", "--yes"]).status.code(), Some(2), "a reason is required");
    assert!(job.forebay(&["replay", "--from", "begin", "--yes", "--reason", "upper case"]).status.success());
    assert_eq!(job.run_until_idle()["consumed"], 120);
    assert_eq!(versions(&job), BTreeMap::from([("LAST1".into(), 80), ("LAST2".into(), 20)]));
    let reset = job.events("OffsetsReset").pop().unwrap();
    assert_eq!((&reset["data"]["reason"], &reset["data"]["by"]), (&"upper case".into(), &"forebay replay".into()));
    assert_eq!(job.events("TransformActivated").len(), 2);
}

#[test]
fn a_replay_needs_a_process_that_owns_all_partitions() {
    let job = job();
    let kafka = Kafka::shared();
    kafka.create_topic(&job.topic, 4);
    produce(kafka.bootstrap(), &job.topic, users(100).chain(version(20, 2)));
    let running = job.start(&[], &[]);
    let assigned = |s: &Value| s["partitions"].as_array().unwrap().iter().filter(|p| p["assigned"] == true).count();
    running.wait_until("everything is written", |s| s["totals"]["consumed"] == 120 && assigned(s) == 4);
    let replay = || job.forebay(&["replay", "--from", "begin", "--reason", "to see", "--yes"]);

    let twin = job.twin();
    let other = twin.start(&["--roles", "egress"], &[]);
    running.wait_until("another process owns some partitions", |s| assigned(s) == 2);
    let refused = replay();
    assert!(refused.status.code() == Some(1) && stderr(&refused).contains("does not read all the partitions"), "{}", stderr(&refused));
    assert!(other.stop().success());
    running.wait_until("it owns all partitions again", |s| assigned(s) == 4);

    let done = replay();
    assert!(done.status.success(), "{}", stderr(&done));
    let end = running.wait_until("everything is written again", |s| s["totals"]["consumed"] == 240);
    assert_eq!(end["totals"]["rejected"], 0);
    assert!(running.stop().success());
    assert_eq!(versions(&job), BTreeMap::from([("Last1".into(), 80), ("Last2".into(), 20)]));
    assert_eq!(committed(kafka.bootstrap(), &job.group, &job.topic, 4), ends(kafka.bootstrap(), &job.topic, 4));
    assert_eq!(job.events("OffsetsReset").len(), 1);
}

#[test]
fn offsets_set_by_kafka_s_tools_are_used() {
    let job = job();
    let kafka = Kafka::shared();
    kafka.create_topic(&job.topic, 1);
    produce(kafka.bootstrap(), &job.topic, users(100));
    job.run_until_idle();
    support::commit(kafka.bootstrap(), &job.group, &job.topic, &[(0, 40)]);
    assert_eq!(job.run_until_idle()["consumed"], 60, "the journal does not override Kafka's tools");
}

#[test]
fn a_full_disk_ends_the_process_with_an_error_and_loses_nothing() {
    let api = TestApi::start(|n| Answer::users(n * 10, n * 10 + 10));
    let job = job().fetching(&api.url, Some("20ms"));
    let path = job.write();
    let mut limited = Command::new("sh");
    // Maximum file size in blocks of 512 bytes. A write beyond it fails as on a full disk.
    limited.args(["-c", "trap '' XFSZ; ulimit -f 80; exec \"$0\" run -c \"$1\"", env!("CARGO_BIN_EXE_forebay")]).arg(path);
    limited.env("FOREBAY_LOG", "warn").current_dir(job.dir());
    let end = support::output(limited);
    assert_eq!(end.status.code(), Some(70), "{}", stderr(&end));
    assert!(stderr(&end).contains("the journal failed to write"), "{}", stderr(&end));
    let rest = job.forebay(&["run", "--until-idle", "--roles", "egress", "--json"]);
    assert!(rest.status.success(), "{}", stderr(&rest));
    let keys: std::collections::BTreeSet<_> =
        support::read_all(Kafka::shared().bootstrap(), &job.topic, 4).into_iter().map(|(key, ..)| key).collect();
    assert_eq!(Cassandra::shared().count(&format!("{}.users_stream", job.keyspace)), keys.len() as u64);
    assert!(job.forebay(&["journal", "verify"]).status.success());
}
