//! The producer against the embedded broker.
#![cfg(feature = "embedded-broker")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use forebay_schemas::offset::{Offset, Range};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::{Headers, Message, OwnedMessage};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use tokio::sync::oneshot;
use uuid::Uuid;

use super::Producer;
use super::client::{Client, PageOutcome, Target};
use super::error::ProduceError;
use super::keyed_record::KeyExtractor;
use crate::broker::tests::{Served, pick, read};
use crate::broker::{Access, EmbeddedBroker};
use crate::ledger::Ledger;
use crate::message::{BadRecord, Page, PageContent, PageProduced, PageRefused, Receipt};
use crate::telemetry::Telemetry;
use forebay_dataplane::Reason;
use forebay_kernel::testing::{eventually, with_tree};
use forebay_kernel::{Budget, ChildSpec, Credit, Exit, MailboxSlot, Progress, Restart, SystemClock};
use forebay_schemas::error_class::{Class, Classified as _};

const RUN: Uuid = Uuid::from_u128(7);
type End = oneshot::Receiver<Result<PageProduced, PageRefused>>;

fn page(records: &[&str]) -> (Page, End) {
    page_with(records, Vec::new(), Budget::new("fetcher -> producer", 1_000).try_reserve(700).unwrap())
}

fn page_with(records: &[&str], bad: Vec<BadRecord>, credit: Credit) -> (Page, End) {
    let (receipt, end) = Receipt::new();
    let records = records.iter().map(|record| Bytes::copy_from_slice(record.as_bytes())).collect();
    let content = PageContent::new(records, bad, credit);
    (Page { run: RUN, content: Arc::new(content), receipt }, end)
}

fn client(access: &Access, max_record_bytes: usize) -> Client {
    let target = Target {
        keys: KeyExtractor::new("users", "users_stream", "/id"),
        topic: "users_stream".into(),
        dead_letter_topic: "users_stream.dead".into(),
        max_record_bytes,
    };
    Client::new(access, target, Progress::default()).unwrap().0
}

async fn produce(client: &Client, records: &[&str]) -> PageOutcome {
    let (client, (page, _)) = (client.clone(), page(records));
    tokio::task::spawn_blocking(move || client.produce(&page)).await.unwrap().await.unwrap()
}

async fn produce_in_parts(client: &Client, records: &[&str]) -> PageOutcome {
    let (client, (page, _)) = (client.clone(), page(records));
    tokio::task::spawn_blocking(move || client.produce_in_parts(&page)).await.unwrap()
}

fn headers(message: &OwnedMessage) -> BTreeMap<String, String> {
    let headers = message.headers().unwrap().iter();
    headers.map(|header| (header.key.to_owned(), String::from_utf8(header.value.unwrap().to_vec()).unwrap())).collect()
}

async fn read_all(access: &Access, topic: &'static str, from: &'static [(i32, i64)], how_many: usize) -> Vec<OwnedMessage> {
    let access = access.clone();
    tokio::task::spawn_blocking(move || read(&access, topic, from, how_many)).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_is_done_when_all_of_it_is_in_the_partitions_of_java_clients() {
    let dir = tempfile::tempdir().unwrap();
    let served = Served::start(dir.path(), "").await;
    served.topics().await;
    let client = client(&served.access, 1_000_000);
    // Hashes from the tests of Kafka's own client: the first is even, the second odd.
    let records = [r#"{"id": "a-little-bit-long-string"}"#, r#"{"id":"a-little-bit-longer-string","n":1}"#, r#"{"id":21}"#];
    let produced = produce(&client, &records).await.unwrap();
    assert_eq!((produced.produced, produced.rejected), (3, 0));
    assert_eq!(produced.ranges.0, BTreeMap::from([(0, Range { from: Offset(0), to: Offset(2) }), (1, Range::of(Offset(0)))]));
    let messages = read_all(&served.access, "users_stream", &[(0, 0), (1, 0)], 3).await;
    for (key, value) in [("a-little-bit-long-string", records[0]), ("a-little-bit-longer-string", records[1]), ("21", records[2])] {
        let message = messages.iter().find(|message| message.key() == Some(key.as_bytes())).unwrap();
        assert_eq!(message.payload(), Some(value.as_bytes()), "the value is the bytes of the API");
        let headers = headers(message);
        assert_eq!(headers["forebay-run"], RUN.to_string());
        assert_eq!(Uuid::parse_str(&headers["forebay-event-id"]).unwrap().get_version_num(), 5);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn records_without_a_key_are_dead_letters_and_the_others_are_produced() {
    let dir = tempfile::tempdir().unwrap();
    let served = Served::start(dir.path(), "").await;
    served.topics().await;
    let client = client(&served.access, 1_000_000);
    let produced = produce(&client, &[r#"{"id":1}"#, r#"{"name":"x"}"#, "[]", r#"{"id":2}"#]).await.unwrap();
    assert_eq!((produced.produced, produced.rejected), (2, 2));
    let dead = read_all(&served.access, "users_stream.dead", &[(0, 0)], 2).await;
    assert_eq!(dead[0].payload(), Some(&br#"{"name":"x"}"#[..]));
    let headers_of_first = headers(&dead[0]);
    assert_eq!(headers_of_first["forebay-stage"], "produce");
    assert_eq!(headers_of_first["forebay-topic"], "users_stream");
    assert_eq!(headers_of_first["forebay-run"], RUN.to_string());
    assert!(headers_of_first["forebay-reason"].starts_with("the record has no key"), "{headers_of_first:?}");
    assert_eq!(headers(&dead[1])["forebay-reason"], "the record is an array, not an object");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_over_the_limit_is_a_truncated_dead_letter_and_costs_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let served = Served::start(dir.path(), "").await;
    served.topics().await;
    let client = client(&served.access, 100);
    let large = format!(r#"{{"id":2,"x":"{}"}}"#, "x".repeat(200));
    let produced = produce(&client, &[r#"{"id":1}"#, &large, r#"{"id":3}"#]).await.unwrap();
    assert_eq!((produced.produced, produced.rejected), (2, 1));
    let why = "1 at produce: the record is N B, over producer.max_record_bytes (N B): raise it and the topic's max.message.bytes, or ask the API for \
               smaller records";
    assert_eq!(produced.rejects.most_frequent().unwrap().to_string(), why);
    let dead = read_all(&served.access, "users_stream.dead", &[(0, 0)], 1).await;
    assert_eq!((dead[0].key(), dead[0].payload()), (Some(&b"2"[..]), Some(&large.as_bytes()[..100])));
    let headers = headers(&dead[0]);
    assert!(headers["forebay-reason"].starts_with("the record is 215 B, over producer.max_record_bytes (100 B)"), "{headers:?}");
    assert_eq!((headers["forebay-value-cut"].as_str(), headers["forebay-value-bytes"].as_str()), ("100", "215"));
    assert_eq!(headers["forebay-value-sha256"], forebay_dataplane::dead_letter::sha256(large.as_bytes()));
    assert_eq!(headers["forebay-run"], RUN.to_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_is_not_json_is_a_dead_letter_with_its_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let served = Served::start(dir.path(), "").await;
    served.topics().await;
    let client = client(&served.access, 1_000_000);
    let bad = vec![BadRecord { index: 1, reason: Reason::plain("NaN is no JSON") }];
    let credit = Budget::new("fetcher -> producer", 1).try_reserve(1).unwrap();
    let page = page_with(&[r#"{"id":1}"#, r#"{"id":2,"x":NaN}"#, r#"{"id":3}"#], bad, credit).0;
    let sending = client.clone();
    let produced = tokio::task::spawn_blocking(move || sending.produce(&page)).await.unwrap().await.unwrap().unwrap();
    assert_eq!((produced.produced, produced.rejected), (2, 1));
    let dead = read_all(&served.access, "users_stream.dead", &[(0, 0)], 1).await;
    assert_eq!(dead[0].payload(), Some(&br#"{"id":2,"x":NaN}"#[..]));
    assert_eq!(headers(&dead[0])["forebay-reason"], "NaN is no JSON");
}

type Mock = MockCluster<'static, DefaultProducerContext>;

/// A cluster that answers its first produce requests with an error, and the way to it.
fn failing(error: RDKafkaRespErr, times: usize) -> (Mock, Access) {
    let kafka = MockCluster::new(1).unwrap();
    kafka.create_topic("users_stream", 1, 1).unwrap();
    kafka.create_topic("users_stream.dead", 1, 1).unwrap();
    kafka.request_errors(RDKafkaApiKey::Produce, &vec![error; times]);
    let text = format!(
        "[pipeline]\nname = \"users\"\n[kafka]\nbootstrap = {:?}\ntopic = \"users_stream\"\n[fetcher]\nurl = \"http://127.0.0.1:1/\"\n[producer]\nkey = \"/id\"\n",
        kafka.bootstrap_servers()
    );
    let pipeline = forebay_schemas::pipeline::parse(std::path::Path::new("forebay.toml"), text).unwrap();
    let access = Access::new(&pipeline, None).unwrap();
    (kafka, access)
}

/// A cluster that refuses this many produce requests for their size.
fn refusing(times: usize) -> (Mock, Client) {
    let (kafka, access) = failing(RDKafkaRespErr::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE, times);
    (kafka, client(&access, 1_000_000))
}

/// The first records of a topic with one partition.
async fn first_of(kafka: &Mock, topic: &str, count: usize) -> Vec<OwnedMessage> {
    let reader: BaseConsumer =
        rdkafka::ClientConfig::new().set("bootstrap.servers", kafka.bootstrap_servers()).set("group.id", "g").create().unwrap();
    let mut from_the_start = rdkafka::TopicPartitionList::new();
    from_the_start.add_partition_offset(topic, 0, rdkafka::Offset::Beginning).unwrap();
    reader.assign(&from_the_start).unwrap();
    let mut first = Vec::new();
    while first.len() < count {
        first.push(eventually(|| reader.poll(Duration::from_millis(100)).map(|message| message.unwrap().detach())).await);
    }
    first
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_that_leave_the_outcome_open_are_retried_by_kafka_s_client() {
    for error in [
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT,
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS_AFTER_APPEND,
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_PRODUCER_ID,
    ] {
        let (kafka, access) = failing(error, 0);
        let client = client(&access, 1_000_000);
        assert!(produce(&client, &[r#"{"id":0}"#]).await.is_ok());
        kafka.request_errors(RDKafkaApiKey::Produce, &[error; 2]);
        let produced = produce(&client, &[r#"{"id":1}"#, r#"{"id":2}"#]).await;
        assert_eq!(produced.map(|page| page.produced), Ok(2), "{error:?}");
        let values: Vec<_> = first_of(&kafka, "users_stream", 3).await.iter().map(|it| it.payload().unwrap().to_vec()).collect();
        assert_eq!(values, [br#"{"id":0}"#, br#"{"id":1}"#, br#"{"id":2}"#], "{error:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_without_its_sequence_is_replaced_and_the_page_keeps_its_identifiers() {
    let (kafka, access) = failing(RDKafkaRespErr::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER, 1);
    let records = [r#"{"id":1}"#, r#"{"id":2}"#];
    let target = || client(&access, 1_000_000);
    let broken = produce(&target(), &records).await.unwrap_err();
    assert_eq!((broken.class(), matches!(broken, ProduceError::Broken { .. })), (Class::Transient, true), "{broken}");
    // The actor ends for it, and the supervisor starts one with a new client.
    for _ in 0..2 {
        assert_eq!(produce(&target(), &records).await.map(|page| page.produced), Ok(2));
    }
    let all = first_of(&kafka, "users_stream", 4).await;
    let identifiers: Vec<_> = all.iter().map(|message| headers(message)["forebay-event-id"].clone()).collect();
    assert_eq!(identifiers[..2], identifiers[2..]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_too_large_for_kafka_is_sent_in_parts_and_loses_no_record() {
    let (_kafka, client) = refusing(2);
    let records = [r#"{"id":1}"#, r#"{"id":2}"#, r#"{"id":3}"#];
    let end = produce(&client, &records).await;
    assert!(matches!(end, Err(ProduceError::Record { .. })), "{end:?}");
    // The whole page, which is refused again, and then its halves.
    let produced = produce_in_parts(&client, &records).await.unwrap();
    assert_eq!((produced.produced, produced.rejected), (3, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_kafka_refuses_alone_is_a_dead_letter_truncated_until_it_fits() {
    let (kafka, client) = refusing(3);
    // The record, its dead letter, and the dead letter with half of the value.
    let produced = produce_in_parts(&client, &[r#"{"id":1,"x":"0123456789"}"#]).await.unwrap();
    assert_eq!((produced.produced, produced.rejected), (0, 1));
    let dead_letter = first_of(&kafka, "users_stream.dead", 1).await.remove(0);
    assert_eq!((dead_letter.key(), dead_letter.payload()), (Some(&b"1"[..]), Some(&br#"{"id":"#[..])));
    let headers = headers(&dead_letter);
    assert_eq!((headers["forebay-value-cut"].as_str(), headers["forebay-value-bytes"].as_str()), ("6", "25"));
    assert!(headers["forebay-reason"].starts_with("the record is 25 B, and kafka refuses it as too large for users_stream"), "{headers:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_larger_than_the_queue_waits_for_room_and_keeps_its_order() {
    let dir = tempfile::tempdir().unwrap();
    let served = Served::start(dir.path(), "[kafka.properties]\n\"queue.buffering.max.messages\" = \"10\"\n").await;
    served.topics().await;
    let client = client(&served.access, 1_000_000);
    let records: Vec<String> = (0..500).map(|n| format!(r#"{{"id":"same","n":{n}}}"#)).collect();
    let records: Vec<&str> = records.iter().map(String::as_str).collect();
    assert_eq!(produce(&client, &records).await.unwrap().produced, 500);
    let messages = read_all(&served.access, "users_stream", &[(0, 0), (1, 0)], 500).await;
    let values: Vec<_> = messages.iter().map(|message| std::str::from_utf8(message.payload().unwrap()).unwrap()).collect();
    assert_eq!(values, records);
}

/// A broker with files under a directory, and a producer, as children of a tree.
struct Parts {
    broker: ChildSpec,
    producer: ChildSpec,
    mailbox: MailboxSlot<Page>,
    access: Access,
    telemetry: Arc<Telemetry>,
    budget: Budget,
}

fn parts(dir: &std::path::Path) -> Parts {
    parts_with(dir, "")
}

/// With these lines in `[kafka.properties]`.
fn parts_with(dir: &std::path::Path, properties: &str) -> Parts {
    let text = "[pipeline]\nname = \"users\"\ndata_dir = \"data\"\n[kafka]\nbootstrap = \"embedded\"\ntopic = \"users_stream\"\n\
                [fetcher]\nurl = \"http://127.0.0.1:1/\"\n[producer]\nkey = \"/id\"\n[kafka.properties]\n";
    let text = format!("{text}{properties}");
    let pipeline = Arc::new(forebay_schemas::pipeline::parse(&dir.join("forebay.toml"), text).unwrap());
    let address = pick(&pipeline.data_dir());
    let access = Access::new(&pipeline, Some(&address)).unwrap();
    let (mailbox, telemetry) = (MailboxSlot::default(), Arc::new(Telemetry::default()));
    let (of, reaching, counts) = (Arc::clone(&pipeline), access.clone(), Arc::clone(&telemetry));
    let broker = ChildSpec::actor("broker", Restart::Permanent, Duration::from_secs(1), move |_| {
        EmbeddedBroker::new(&of, address.clone(), reaching.clone(), Arc::clone(&counts), SystemClock::shared())
    });
    let (to, with, totals) = (mailbox.clone(), access.clone(), telemetry.clone());
    let producer = ChildSpec::actor("producer", Restart::Permanent, Duration::from_secs(5), move |mailbox| {
        to.set(mailbox.clone());
        Producer::new(pipeline.clone(), with.clone(), totals.clone(), Arc::new(Ledger::in_memory(SystemClock::shared())))
    });
    Parts { broker, producer, mailbox, access, telemetry, budget: Budget::new("fetcher -> producer", 1_000) }
}

#[test]
fn the_actor_creates_the_topic_settles_receipts_and_releases_the_budget() {
    let dir = tempfile::tempdir().unwrap();
    let Parts { broker, producer, mailbox, telemetry, budget, .. } = parts(dir.path());
    let ((produced, large), exit) = with_tree(vec![broker, producer], async |_, _| {
        let (good, end) = page_with(&[r#"{"id":1}"#, r#"{"id":2}"#, "null"], Vec::new(), budget.reserve(700).await);
        mailbox.get().post(good).unwrap();
        let produced = end.await.unwrap().unwrap();
        let large = format!(r#"{{"id":"{}"}}"#, "x".repeat(1_000_000));
        let (bad, end) = page_with(&[&large], Vec::new(), budget.reserve(700).await);
        mailbox.get().post(bad).unwrap();
        (produced, end.await.unwrap().unwrap())
    });
    assert_eq!((produced.produced, produced.rejected), (2, 1));
    assert_eq!((large.produced, large.rejected), (0, 1), "a record over the limit costs that record");
    assert_eq!((telemetry.produced.get(), telemetry.rejected.get(), budget.used()), (2, 2, 0));
    assert_eq!(telemetry.reject_counts().count(), 2);
    assert_eq!(exit, Exit::Shutdown);
}

#[test]
fn pages_sent_after_one_with_a_refused_record_are_sent_again_after_it() {
    let dir = tempfile::tempdir().unwrap();
    let Parts { broker, producer, mailbox, access, .. } = parts_with(dir.path(), "\"message.max.bytes\" = \"2000\"\n");
    let large = format!(r#"{{"id":1,"x":"{}"}}"#, "x".repeat(3_000));
    let ((first, second, messages), _) = with_tree(vec![broker, producer], async |_, _| {
        let (first, first_end) = page(&[r#"{"id":2,"v":1}"#, &large, r#"{"id":2,"v":2}"#]);
        let (second, second_end) = page(&[r#"{"id":2,"v":3}"#]);
        mailbox.get().post(first).unwrap();
        mailbox.get().post(second).unwrap();
        let ends = (first_end.await.unwrap().unwrap(), second_end.await.unwrap().unwrap());
        let topic = crate::broker::ends(&access, "users_stream").await.unwrap();
        let count = topic.values().map(|end| usize::try_from(end.1.0).unwrap()).sum();
        let messages = read_all(&access, "users_stream", &[(0, 0), (1, 0), (2, 0), (3, 0)], count).await;
        (ends.0, ends.1, messages)
    });
    assert_eq!((first.produced, first.rejected, second.produced), (2, 1, 1));
    let values: Vec<_> = messages.iter().map(|message| std::str::from_utf8(message.payload().unwrap()).unwrap()).collect();
    assert_eq!(values[values.len() - 2..], [r#"{"id":2,"v":2}"#, r#"{"id":2,"v":3}"#], "{values:?}");
}

#[test]
fn the_actor_reports_an_unreachable_broker_and_abandons_its_page_at_the_stop() {
    let dir = tempfile::tempdir().unwrap();
    let Parts { producer, mailbox, budget, .. } = parts(dir.path());
    let (good, end) = page_with(&[r#"{"id":1}"#], Vec::new(), budget.try_reserve(700).unwrap());
    let ((), exit) = with_tree(vec![producer], async |_, actor_tree| {
        mailbox.get().post(good).unwrap();
        let note = eventually(|| actor_tree.actors().into_iter().find_map(|actor| actor.note)).await;
        assert!(note.contains("is not reachable") && note.contains("refused"), "{note}");
    });
    assert_eq!(exit, Exit::Shutdown);
    assert!(end.blocking_recv().is_err(), "the receipt says abandoned");
    assert_eq!(budget.used(), 0);
}

#[test]
fn a_producer_that_starts_before_its_broker_waits_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let Parts { broker, producer, mailbox, access, .. } = parts(dir.path());
    with_tree(vec![producer, broker], async |_, _| {
        let (first, end) = page(&[r#"{"id":1}"#]);
        mailbox.get().post(first).unwrap();
        assert_eq!(end.await.unwrap().unwrap().produced, 1);
        assert_eq!(crate::broker::ends(&access, "users_stream").await.unwrap().len(), 4);
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn each_record_is_in_the_topic_once_after_the_broker_died_during_a_page() {
    let dir = tempfile::tempdir().unwrap();
    let served = Served::start(dir.path(), "").await;
    served.topics().await;
    let client = client(&served.access, 1_000_000);
    assert!(produce(&client, &[r#"{"id":0}"#]).await.is_ok());
    let access = served.access.clone();
    served.kill().await;
    let records: Vec<String> = (1..=200).map(|n| format!(r#"{{"id":{n}}}"#)).collect();
    let records: Vec<&str> = records.iter().map(String::as_str).collect();
    let (waiting, page) = (client.clone(), page(&records).0);
    let end = tokio::task::spawn_blocking(move || waiting.produce(&page)).await.unwrap();
    eventually(|| client.is_unreachable().then_some(())).await;
    let _served = Served::start(dir.path(), "").await;
    assert_eq!(end.await.unwrap().unwrap().produced, 200);
    assert!(!client.is_unreachable());
    let ends = crate::broker::ends(&access, "users_stream").await.unwrap();
    assert_eq!(ends.values().map(|(_, end)| end.value()).sum::<i64>(), 201);
}
