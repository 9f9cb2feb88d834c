//! Kafka through another client: records, offsets, admin requests.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::producer::{BaseRecord, Producer as _, ThreadedProducer};

use super::{TIMEOUT, unique};

/// Produces records and waits until all are acknowledged.
pub(crate) fn produce(bootstrap: &str, topic: &str, records: impl Iterator<Item = (String, Vec<u8>)>) {
    let producer: ThreadedProducer<_> = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("acks", "all")
        .set("linger.ms", "20")
        .set("queue.buffering.max.messages", "1000000")
        // The topic limits the size of a record.
        .set("message.max.bytes", "67108864")
        .create()
        .unwrap();
    for (key, value) in records {
        let mut record = BaseRecord::to(topic).key(&key).payload(&value);
        loop {
            match producer.send(record) {
                Ok(()) => break,
                Err((_, back)) => {
                    record = back;
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
        }
    }
    producer.flush(TIMEOUT).unwrap();
}

/// A record with a partition and a timestamp of its producer.
pub(crate) struct TimedRecord {
    pub(crate) key: Option<String>,
    pub(crate) value: String,
    pub(crate) partition: i32,
    /// Timestamp in milliseconds since the epoch.
    pub(crate) at: i64,
}

/// Produces records with their timestamps, in order within each partition.
pub(crate) fn produce_timed(bootstrap: &str, topic: &str, records: &[TimedRecord]) {
    let producer: ThreadedProducer<_> = ClientConfig::new().set("bootstrap.servers", bootstrap).set("acks", "all").create().unwrap();
    for TimedRecord { key, value, partition, at } in records {
        let mut record: BaseRecord<'_, str, str> = BaseRecord::to(topic).payload(value.as_str()).partition(*partition).timestamp(*at);
        record.key = key.as_deref();
        producer.send(record).map_err(|(error, _)| error).unwrap();
    }
    producer.flush(TIMEOUT).unwrap();
}

/// The committed offsets of a group, by partition.
pub(crate) fn committed(bootstrap: &str, group: &str, topic: &str, partitions: i32) -> BTreeMap<i32, i64> {
    use rdkafka::consumer::{BaseConsumer, Consumer as _};
    let consumer: BaseConsumer = ClientConfig::new().set("bootstrap.servers", bootstrap).set("group.id", group).create().unwrap();
    let mut list = rdkafka::TopicPartitionList::new();
    (0..partitions).for_each(|partition| {
        list.add_partition(topic, partition);
    });
    let offsets = consumer.committed_offsets(list, Duration::from_secs(20)).unwrap();
    offsets.elements().iter().filter_map(|e| e.offset().to_raw().filter(|at| *at >= 0).map(|at| (e.partition(), at))).collect()
}

/// Sets the offsets of a group without members, as Kafka's tools do.
pub(crate) fn commit(bootstrap: &str, group: &str, topic: &str, offsets: &[(i32, i64)]) {
    use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
    let consumer: BaseConsumer = ClientConfig::new().set("bootstrap.servers", bootstrap).set("group.id", group).create().unwrap();
    let mut list = rdkafka::TopicPartitionList::new();
    for &(partition, offset) in offsets {
        list.add_partition_offset(topic, partition, rdkafka::Offset::Offset(offset)).unwrap();
    }
    consumer.commit(&list, CommitMode::Sync).unwrap();
}

/// The end offsets of a topic, by partition.
pub(crate) fn ends(bootstrap: &str, topic: &str, partitions: i32) -> BTreeMap<i32, i64> {
    use rdkafka::consumer::{BaseConsumer, Consumer as _};
    let consumer: BaseConsumer = ClientConfig::new().set("bootstrap.servers", bootstrap).create().unwrap();
    let end = |partition| consumer.fetch_watermarks(topic, partition, Duration::from_secs(20)).unwrap().1;
    (0..partitions).map(|partition| (partition, end(partition))).collect()
}

/// A record's key, value and headers.
pub(crate) type Read = (Option<Vec<u8>>, Option<Vec<u8>>, BTreeMap<String, String>);

/// Every record of a topic, with its headers as text by name.
pub(crate) fn read_all(bootstrap: &str, topic: &str, partitions: i32) -> Vec<Read> {
    let text = |(name, value): (String, Option<Vec<u8>>)| (name, String::from_utf8_lossy(&value.unwrap_or_default()).into_owned());
    let read = |record: RawRecord| (record.key, record.value, record.headers.into_iter().map(text).collect());
    read_records(bootstrap, topic, partitions).into_iter().map(read).collect()
}

/// Sends an admin request.
pub(crate) fn admin<T>(bootstrap: &str, change: impl AsyncFnOnce(&AdminClient<DefaultClientContext>, &AdminOptions) -> T) -> T {
    let client: AdminClient<_> = ClientConfig::new().set("bootstrap.servers", bootstrap).create().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(change(&client, &AdminOptions::new()))
}

/// A record with its exact bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RawRecord {
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) headers: Vec<(String, Option<Vec<u8>>)>,
}

/// Every record of a topic, with its exact bytes.
pub(crate) fn read_records(bootstrap: &str, topic: &str, partitions: i32) -> Vec<RawRecord> {
    use rdkafka::consumer::{BaseConsumer, Consumer as _};
    use rdkafka::message::{Headers as _, Message as _};
    let consumer: BaseConsumer =
        ClientConfig::new().set("bootstrap.servers", bootstrap).set("group.id", unique("reader")).create().unwrap();
    let ends = ends(bootstrap, topic, partitions);
    let mut list = rdkafka::TopicPartitionList::new();
    for partition in ends.keys() {
        list.add_partition_offset(topic, *partition, rdkafka::Offset::Beginning).unwrap();
    }
    consumer.assign(&list).unwrap();
    let total = usize::try_from(ends.values().sum::<i64>()).unwrap();
    let mut all = Vec::new();
    let until = Instant::now() + TIMEOUT;
    while all.len() < total {
        assert!(Instant::now() < until, "read {} of {total} records of {topic}", all.len());
        let Some(message) = consumer.poll(Duration::from_millis(200)) else { continue };
        let message = message.unwrap();
        let headers = message.headers().map_or_else(Vec::new, |headers| {
            headers.iter().map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec))).collect()
        });
        all.push(RawRecord { key: message.key().map(<[u8]>::to_vec), value: message.payload().map(<[u8]>::to_vec), headers });
    }
    all
}

/// Produces one record with its exact bytes.
pub(crate) fn produce_record(bootstrap: &str, topic: &str, record: &RawRecord) {
    use rdkafka::message::{Header, OwnedHeaders};
    let producer: ThreadedProducer<_> = ClientConfig::new().set("bootstrap.servers", bootstrap).set("acks", "all").create().unwrap();
    let add = |all: OwnedHeaders, (key, value): &(String, Option<Vec<u8>>)| all.insert(Header { key, value: value.as_deref() });
    let mut it: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(topic).headers(record.headers.iter().fold(OwnedHeaders::new(), add));
    (it.key, it.payload) = (record.key.as_deref(), record.value.as_deref());
    producer.send(it).map_err(|(error, _)| error).unwrap();
    producer.flush(TIMEOUT).unwrap();
}
