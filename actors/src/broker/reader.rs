//! Reads records of a topic for display or a redrive, with a short-lived client.
//!
//! Guarantees:
//! * A read joins no group and moves no group's offset.
//! * A read ends within `REQUEST_TIMEOUT`, or at its [`ReadLimit`].
//!
//! Does not guarantee that every requested record has arrived by then. The caller continues from
//! the last one.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use forebay_dataplane::dead_letter;
use forebay_schemas::offset::{Offset, Partition, Range};
use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Message as _};

use super::access::{Access, LogContext};
use super::blocking::run_blocking;
use super::error::BrokerError;
use crate::broker::record_headers;

/// The time-out of a read.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// The time-out of one poll.
const POLL_TIMEOUT: Duration = Duration::from_millis(50);

/// The limits of one read.
#[derive(Debug, Clone, Copy)]
pub struct ReadLimit {
    /// Records.
    pub records: usize,
    /// Bytes of keys and values. The record that exceeds the limit is returned.
    pub bytes: usize,
}

/// A record of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRecord {
    /// Its partition.
    pub partition: Partition,
    /// Its offset.
    pub offset: Offset,
    /// Its timestamp, milliseconds since 1970, if it has one.
    pub timestamp_ms: Option<i64>,
    /// Its key, if it has one.
    pub key: Option<Vec<u8>>,
    /// Its value; `None` for a tombstone.
    pub value: Option<Vec<u8>>,
    /// Its headers, in order.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    /// The number of headers whose names are not UTF-8.
    pub unreadable_headers: u64,
}

impl StoredRecord {
    /// The text of the last header of that name.
    pub fn header(&self, name: &str) -> Option<&str> {
        let of_name = self.headers.iter().rev().find(|(other, _)| other == name)?;
        std::str::from_utf8(of_name.1.as_deref()?).ok()
    }

    /// The partition and offset of the record that this dead letter was made of; `None` if that one
    /// was never in the topic.
    pub fn origin(&self) -> Option<(Partition, Offset)> {
        Some((self.header(dead_letter::PARTITION)?.parse().ok()?, Offset(self.header(dead_letter::OFFSET)?.parse().ok()?)))
    }
}

/// Reads one range of each partition, in order. A range is complete when its last record has
/// arrived or Kafka reports the end of the partition.
///
/// # Errors
/// Transient while the broker is unavailable, fatal when it denies this client.
pub async fn read(
    access: &Access,
    topic: &str,
    wanted: BTreeMap<Partition, Range>,
    limit: ReadLimit,
) -> Result<Vec<StoredRecord>, BrokerError> {
    let topic = topic.to_owned();
    run_blocking(access, move |access| read_now(access, &topic, wanted, limit)).await
}

fn read_now(
    access: &Access,
    topic: &str,
    mut wanted: BTreeMap<Partition, Range>,
    limit: ReadLimit,
) -> Result<Vec<StoredRecord>, BrokerError> {
    wanted.retain(|_, range| !range.is_empty());
    if wanted.is_empty() || limit.records == 0 {
        return Ok(Vec::new());
    }
    let mut config = access.consumer("forebay-look");
    for (key, value) in [
        ("enable.auto.commit", "false"),
        ("enable.auto.offset.store", "false"),
        ("auto.offset.reset", "error"),
        ("enable.partition.eof", "true"),
        ("isolation.level", "read_committed"),
        ("queued.max.messages.kbytes", "4096"),
        ("fetch.wait.max.ms", "20"),
    ] {
        config.set(key, value);
    }
    let consumer: BaseConsumer<LogContext> =
        config.create_with_context(LogContext::default()).map_err(|cause| access.error("create a client", cause, None))?;
    let mut list = TopicPartitionList::with_capacity(wanted.len());
    for (partition, range) in &wanted {
        list.add_partition_offset(topic, *partition, rdkafka::Offset::Offset(range.from.value()))
            .expect("an offset to read is not negative");
    }
    consumer.assign(&list).map_err(|cause| access.error("read records", cause, None))?;
    let deadline = Instant::now() + REQUEST_TIMEOUT;
    let (mut records, mut bytes, mut failure) = (Vec::new(), 0, None);
    while !wanted.is_empty() && records.len() < limit.records && bytes < limit.bytes && Instant::now() < deadline {
        match consumer.poll(POLL_TIMEOUT) {
            None => {}
            Some(Ok(message)) => {
                let (partition, offset) = (message.partition(), Offset(message.offset()));
                let Some(range) = wanted.get(&partition) else { continue };
                if offset + 1 >= range.to {
                    let past = offset >= range.to;
                    wanted.remove(&partition);
                    if past {
                        continue;
                    }
                }
                let record = stored(&message);
                bytes += record.key.as_ref().map_or(0, Vec::len) + record.value.as_ref().map_or(0, Vec::len);
                records.push(record);
            }
            Some(Err(KafkaError::PartitionEOF(partition))) => drop(wanted.remove(&partition)),
            Some(Err(cause)) => failure = Some(cause),
        }
    }
    match failure {
        Some(cause) if records.is_empty() && !wanted.is_empty() => Err(access.error("read records", cause, Some(&consumer))),
        _ => {
            records.sort_by_key(|record| (record.partition, record.offset));
            Ok(records)
        }
    }
}

fn stored(message: &BorrowedMessage<'_>) -> StoredRecord {
    let mut headers = Vec::new();
    let put = |name: &str, value: Option<&[u8]>| headers.push((name.to_owned(), value.map(<[u8]>::to_vec)));
    let unreadable_headers = message.headers().map_or(0, |all| record_headers::each(all, put));
    StoredRecord {
        partition: message.partition(),
        offset: Offset(message.offset()),
        timestamp_ms: message.timestamp().to_millis(),
        key: message.key().map(<[u8]>::to_vec),
        value: message.payload().map(<[u8]>::to_vec),
        headers,
        unreadable_headers,
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::mocking::MockCluster;

    use super::*;
    use crate::broker::test_producer::produce;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_header_whose_name_is_not_utf_8_is_left_out_and_counted() {
        let cluster = MockCluster::new(1).unwrap();
        cluster.create_topic("t", 1, 1).unwrap();
        let servers = cluster.bootstrap_servers();
        let text = format!(
            "[pipeline]\nname = \"p\"\n[kafka]\nbootstrap = \"{servers}\"\ntopic = \"t\"\n[fetcher]\nurl = \"http://x/\"\n[producer]\nkey = \"/id\"\n"
        );
        let access = Access::new(&forebay_schemas::pipeline::parse(std::path::Path::new("f.toml"), text).unwrap(), None).unwrap();
        let values: Vec<Vec<u8>> = (0..500).map(|n| format!("{{\"n\":{n}}}").into_bytes()).collect();
        let values: Vec<&[u8]> = values.iter().map(Vec::as_slice).collect();
        produce(&servers, "t", 0, &values, &[(b"a", b"1"), (b"caf\xe9", b"2"), (b"b", b"\xff")]);
        let wanted = BTreeMap::from([(0, Range { from: Offset(0), to: Offset(500) })]);
        let records = read(&access, "t", wanted, ReadLimit { records: 1_000, bytes: 1 << 20 }).await.unwrap();
        assert_eq!(records.iter().map(|record| record.value.as_deref().unwrap()).collect::<Vec<_>>(), values);
        let left = [("a".to_owned(), Some(b"1".to_vec())), ("b".to_owned(), Some(vec![0xff]))];
        assert!(records.iter().all(|record| record.headers == left && record.unreadable_headers == 1), "{:?}", records[0]);
    }
}
