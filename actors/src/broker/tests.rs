//! The embedded broker, through rdkafka.
#![cfg(feature = "embedded-broker")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use forebay_schemas::error_class::{Class, Classified};
use forebay_schemas::offset::Offset;
use forebay_schemas::pipeline::Pipeline;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Timestamp, TopicPartitionList};

use super::embedded::{Address, serve};
use super::*;

const TOPIC: &str = "users_stream";

/// A broker in a task, with its files in `data_dir`. Aborting the task stops it.
pub(crate) struct Served {
    pub(crate) access: Access,
    pub(crate) pipeline: Pipeline,
    task: tokio::task::JoinHandle<Result<(), BrokerError>>,
}

impl Served {
    /// Serves the broker of a pipeline whose file ends with `more`.
    pub(crate) async fn start(dir: &Path, more: &str) -> Self {
        let text = format!(
            "[pipeline]\nname = \"users\"\ndata_dir = \"data\"\n[kafka]\nbootstrap = \"embedded\"\ntopic = \"{TOPIC}\"\npartitions = 2\n\
             [fetcher]\nurl = \"http://127.0.0.1:1/\"\n[producer]\nkey = \"/id\"\n{more}"
        );
        let pipeline = forebay_schemas::pipeline::parse(&dir.join("forebay.toml"), text).unwrap();
        let address = pick(&pipeline.data_dir());
        let task = tokio::spawn(serve(address.clone(), pipeline.data_dir()));
        let access = Access::new(&pipeline, Some(&address)).unwrap();
        Self { access, pipeline, task }
    }

    /// Stops the broker without a shutdown, as a crash would.
    pub(crate) async fn kill(self) {
        self.task.abort();
        let _ = self.task.await;
    }

    /// Creates the topics, with retries while the broker starts.
    pub(crate) async fn topics(&self) -> TopicState {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            match ensure_topics(&self.access, &self.pipeline).await {
                Ok(state) => return state,
                Err(error) if Instant::now() > deadline => panic!("{error}"),
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    }
}

/// Picks an address as the program does, but not the default port, which parallel tests would
/// share.
pub(crate) fn pick(data_dir: &Path) -> Address {
    let port = std::net::TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
    let file = data_dir.join("broker/port");
    if !file.exists() {
        std::fs::create_dir_all(data_dir.join("broker")).unwrap();
        std::fs::write(file, port.to_string()).unwrap();
    }
    Address::pick(data_dir).unwrap().0
}

/// Reads records of a topic from these offsets.
pub(crate) fn read(access: &Access, topic: &str, from: &[(i32, i64)], how_many: usize) -> Vec<rdkafka::message::OwnedMessage> {
    let consumer: BaseConsumer = access.consumer("reader").create().unwrap();
    let mut assignment = TopicPartitionList::new();
    for &(partition, offset) in from {
        assignment.add_partition_offset(topic, partition, rdkafka::Offset::Offset(offset)).unwrap();
    }
    consumer.assign(&assignment).unwrap();
    let (mut read, deadline) = (Vec::new(), Instant::now() + Duration::from_secs(20));
    while read.len() < how_many && Instant::now() < deadline {
        if let Some(message) = consumer.poll(Duration::from_millis(100)) {
            read.push(message.unwrap().detach());
        }
    }
    read
}

fn produce(access: &Access, records: &[(&str, Option<&str>)]) {
    let producer: BaseProducer = access.producer().create().unwrap();
    for (key, value) in records {
        let headers =
            OwnedHeaders::new().insert(Header { key: "h", value: Some(*key) }).insert(Header { key: "none", value: None::<&str> });
        let record = BaseRecord::to(TOPIC).partition(0).key(*key).headers(headers);
        let record = if let Some(value) = value { record.payload(*value) } else { record };
        producer.send(record).map_err(|(error, _)| error).unwrap();
    }
    producer.flush(Duration::from_secs(20)).unwrap();
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_are_created_once_and_with_the_brokers_timestamps() {
    let dir = tempfile::tempdir().unwrap();
    let served = Served::start(dir.path(), "").await;
    assert_eq!(served.topics().await, TopicState { topic: TOPIC.into(), partitions: 2, wanted: 2, created: true });
    assert!(!served.topics().await.created);
    assert_eq!(ends(&served.access, TOPIC).await.unwrap(), BTreeMap::from([(0, (Offset(0), Offset(0))), (1, (Offset(0), Offset(0)))]));
    assert_eq!(ends(&served.access, "users_stream.dead").await.unwrap().len(), 1);
    assert!(matches!(ends(&served.access, "elsewhere").await, Err(BrokerError::NoTopic { .. })));
    let access = served.access.clone();
    let timestamp = blocking(move || {
        produce(&access, &[("a", Some("1"))]);
        read(&access, TOPIC, &[(0, 0)], 1)[0].timestamp()
    })
    .await;
    assert!(matches!(timestamp, Timestamp::LogAppendTime(ms) if ms > 1_600_000_000_000), "{timestamp:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_with_another_partition_count_is_used_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let served = Served::start(dir.path(), "").await;
    served.topics().await;
    let mut other = served.pipeline.clone();
    other.kafka.partitions = 7;
    let state = ensure_topics(&served.access, &other).await.unwrap();
    assert_eq!(state.to_string(), "users_stream, 2 partitions (kafka.partitions is 7; the topic's number applies)");
}

#[tokio::test(flavor = "multi_thread")]
async fn reading_resumes_at_every_offset_inside_a_batch() {
    let dir = tempfile::tempdir().unwrap();
    let served = Served::start(dir.path(), "").await;
    served.topics().await;
    let access = served.access.clone();
    blocking(move || {
        produce(&access, &[("a", Some("1")), ("b", None), ("c", Some("")), ("d", Some("4")), ("e", Some("5"))]);
        for from in 0..5_i64 {
            let records = read(&access, TOPIC, &[(0, from)], 5 - usize::try_from(from).unwrap());
            let offsets: Vec<_> = records.iter().map(Message::offset).collect();
            assert_eq!(offsets, (from..5).collect::<Vec<_>>());
        }
        let records = read(&access, TOPIC, &[(0, 0)], 5);
        assert_eq!(records[1].payload(), None, "a null value stays null");
        assert_eq!(records[2].payload(), Some(&b""[..]));
        assert_eq!(records[3].key(), Some(&b"d"[..]));
        let headers = records[3].headers().unwrap();
        assert_eq!((headers.get(0).key, headers.get(0).value), ("h", Some(&b"d"[..])));
        assert_eq!((headers.get(1).key, headers.get(1).value), ("none", None));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn records_and_commits_outlive_the_broker_and_its_port_stays() {
    let dir = tempfile::tempdir().unwrap();
    let served = Served::start(dir.path(), "").await;
    served.topics().await;
    let access = served.access.clone();
    blocking({
        let access = access.clone();
        move || produce(&access, &[("a", Some("1")), ("b", Some("2"))])
    })
    .await;
    commit(&access, "g", TOPIC, vec![(0, Offset(1), "clock=17".into())]).await.unwrap();
    let described = served.access.describe();
    assert_eq!(Address::of_running(&served.pipeline.data_dir()).unwrap().to_string(), served.access.servers());
    let data_dir = served.pipeline.data_dir();
    served.kill().await;
    assert!(matches!(Address::of_running(&data_dir), Err(BrokerError::NotRunning { .. })));

    let served = Served::start(dir.path(), "").await;
    assert_eq!(served.access.describe(), described);
    assert!(!served.topics().await.created);
    assert_eq!(ends(&served.access, TOPIC).await.unwrap()[&0], (Offset(0), Offset(2)));
    assert_eq!(committed(&served.access, "g", TOPIC).await.unwrap(), BTreeMap::from([(0, Offset(1))]));
    let access = served.access.clone();
    blocking(move || {
        produce(&access, &[("c", Some("3"))]);
        let values: Vec<_> = read(&access, TOPIC, &[(0, 1)], 2).iter().map(|record| record.payload().unwrap().to_vec()).collect();
        assert_eq!(values, [b"2", b"3"]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn commit_metadata_is_read_although_the_broker_does_not_return_it() {
    let dir = tempfile::tempdir().unwrap();
    let served = Served::start(dir.path(), "").await;
    served.topics().await;
    let access = served.access.clone();
    assert_eq!(committed_with_metadata(&access, "g", TOPIC).await.unwrap(), BTreeMap::new());
    for offset in [40, 41] {
        commit(&access, "g", TOPIC, vec![(1, Offset(offset), format!("forebay:1:{offset}"))]).await.unwrap();
    }
    let back = committed_with_metadata(&access, "g", TOPIC).await.unwrap();
    assert_eq!(back, BTreeMap::from([(1, Committed { offset: Offset(41), metadata: "forebay:1:41".into() })]));
    blocking(move || {
        // Over the wire it is empty. If this ever changes, reading the file can be deleted.
        let consumer: BaseConsumer = access.consumer("g").create().unwrap();
        let mut list = TopicPartitionList::new();
        list.add_partition(TOPIC, 1);
        let wire = consumer.committed_offsets(list, Duration::from_secs(5)).unwrap();
        assert_eq!((wire.elements()[0].offset(), wire.elements()[0].metadata()), (rdkafka::Offset::Offset(41), ""));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_keeps_its_id_until_it_is_re_created() {
    let dir = tempfile::tempdir().unwrap();
    let served = Served::start(dir.path(), "").await;
    served.topics().await;
    let first = topic_id(&served.access, TOPIC).await.unwrap().unwrap();
    let dead = topic_id(&served.access, &served.pipeline.kafka.dead_letter_topic()).await.unwrap();
    assert!(topic_id(&served.access, TOPIC).await.unwrap() == Some(first) && dead != Some(first));
    served.kill().await;
    let served = Served::start(dir.path(), "").await;
    served.topics().await;
    assert_eq!(topic_id(&served.access, TOPIC).await.unwrap(), Some(first));
    let deleted = served.access.admin_client().unwrap().delete_topics(&[TOPIC], &rdkafka::admin::AdminOptions::new()).await.unwrap();
    assert!(deleted.iter().all(Result::is_ok), "{deleted:?}");
    let error = topic_id(&served.access, TOPIC).await.unwrap_err();
    assert!(matches!(error, BrokerError::NoTopic { .. }), "{error}");
    assert!(served.topics().await.created);
    let second = topic_id(&served.access, TOPIC).await.unwrap();
    assert!(second.is_some() && second != Some(first));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_directory_with_a_space_in_its_path_serves_too() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("my data é#1");
    std::fs::create_dir(&home).unwrap();
    let served = Served::start(&home, "").await;
    served.topics().await;
    assert!(served.pipeline.data_dir().join("broker/kafka.db").exists());
    let access = served.access.clone();
    blocking({
        let access = access.clone();
        move || produce(&access, &[("a", Some("1"))])
    })
    .await;
    commit(&access, "g", TOPIC, vec![(0, Offset(1), "m".into())]).await.unwrap();
    assert_eq!(committed_with_metadata(&access, "g", TOPIC).await.unwrap()[&0].metadata, "m");
}

#[test]
fn the_previous_port_is_picked_again_unless_it_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    let first = pick(dir.path());
    assert_eq!(Address::pick(dir.path()).unwrap().0, first);
    let _taken = std::net::TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, first.port)).unwrap();
    assert_ne!(Address::pick(dir.path()).unwrap().0, first);
}

#[test]
fn a_port_claimed_by_another_process_is_not_picked() {
    let dir = tempfile::tempdir().unwrap();
    let first = pick(dir.path());
    let (again, claim) = Address::pick(dir.path()).unwrap();
    assert_eq!(again, first);
    assert_ne!(Address::pick(dir.path()).unwrap().0, first, "free, but claimed");
    drop(claim);
}

#[test]
fn access_shows_the_address_and_no_property() {
    let text = "[pipeline]\nname = \"users\"\n[kafka]\nbootstrap = \"a:1,b:2\"\ntopic = \"t\"\n[kafka.properties]\n\
                \"sasl.password\" = { env = \"PATH\" }\n\"linger.ms\" = \"0\"\n[fetcher]\nurl = \"http://x/\"\n[producer]\nkey = \"/id\"\n";
    let pipeline = forebay_schemas::pipeline::parse(Path::new("forebay.toml"), text.into()).unwrap();
    let access = Access::new(&pipeline, None).unwrap();
    assert_eq!((format!("{access:?}").as_str(), access.describe().as_str()), ("Access(a:1,b:2)", "a:1,b:2"));
    let producer = access.producer();
    assert_eq!(producer.get("sasl.password"), Some(std::env::var("PATH").unwrap().as_str()));
    assert_eq!((producer.get("linger.ms"), producer.get("acks")), (Some("0"), Some("all")));
    assert_eq!(access.consumer("g").get("fetch.wait.max.ms"), None);
}

#[test]
fn an_embedded_broker_that_does_not_run_is_reported_with_a_remedy() {
    let text = "[pipeline]\nname = \"users\"\n[kafka]\nbootstrap = \"embedded\"\ntopic = \"t\"\n[fetcher]\nurl = \"http://x/\"\n[producer]\nkey = \"/id\"\n";
    let pipeline = forebay_schemas::pipeline::parse(Path::new("dir/forebay.toml"), text.into()).unwrap();
    let error = Access::new(&pipeline, None).unwrap_err();
    assert!(error.to_string().starts_with("the embedded broker of dir/.forebay is not running; start it with `forebay run`"), "{error}");
}

#[test]
fn the_reason_of_a_connection_error_is_stripped() {
    let reason = "127.0.0.1:1/bootstrap: Connect to ipv4#127.0.0.1:1 failed: Connection refused (after 0ms in state CONNECT)";
    assert_eq!(LogContext::reason_text(reason), "Connect to ipv4#127.0.0.1:1 failed: Connection refused");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreachable_broker_is_named_with_the_reason() {
    let text = "[pipeline]\nname = \"users\"\n[kafka]\nbootstrap = \"127.0.0.1:1\"\ntopic = \"t\"\n[fetcher]\nurl = \"http://x/\"\n[producer]\nkey = \"/id\"\n";
    let pipeline = forebay_schemas::pipeline::parse(Path::new("forebay.toml"), text.into()).unwrap();
    let access = Access::new(&pipeline, None).unwrap();
    let error = ends(&access, "t").await.unwrap_err();
    assert_eq!(error.class(), Class::Transient);
    let text = error.to_string();
    assert!(text.starts_with("kafka 127.0.0.1:1 is not reachable") && text.contains("Connection refused"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_metadata_client_is_replaced_after_a_request_that_no_broker_answered() {
    let dir = tempfile::tempdir().unwrap();
    let served = Served::start(dir.path(), "").await;
    served.topics().await;
    let (access, before) = (served.access.clone(), served.access.metadata_client().unwrap());
    assert!(Arc::ptr_eq(&before, &access.metadata_client().unwrap()), "requests share it");
    served.kill().await;
    assert!(matches!(ends(&access, TOPIC).await, Err(BrokerError::Unreachable { .. })));
    assert!(!Arc::ptr_eq(&before, &access.metadata_client().unwrap()));
}
