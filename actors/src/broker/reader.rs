//! Reads records of a topic for whoever wants to look at them, by a client of the moment.
//!
//! Guarantee: what is read moves no group's offset and joins no group; a read ends within `PATIENCE`, or with so many records or bytes as it was
//! allowed. Not guaranteed: that all that was wanted has come by then; whoever needs all asks on from where it ends.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use forebay_schemas::offset::{Offset, Partition, Range};
use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers as _, Message as _};

use super::access::{Access, Quiet};
use super::admin::ask;
use super::error::BrokerError;

/// How long a read may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest wait in one poll.
const STEP: Duration = Duration::from_millis(50);

/// How much one read may give.
#[derive(Debug, Clone, Copy)]
pub struct Most {
    /// Records.
    pub records: usize,
    /// Bytes of keys and values; one record more than fits is given.
    pub bytes: usize,
}

/// A record as it is in a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Its partition.
    pub partition: Partition,
    /// Its offset.
    pub offset: Offset,
    /// Its timestamp, milliseconds since the epoch; none without one.
    pub timestamp_ms: Option<i64>,
    /// Its key, if it has one.
    pub key: Option<Vec<u8>>,
    /// Its value; none for a tombstone.
    pub value: Option<Vec<u8>>,
    /// Its headers, in order.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

impl Stored {
    /// The text of the last header of a name.
    pub fn header(&self, name: &str) -> Option<&str> {
        let of_name = self.headers.iter().rev().find(|(other, _)| other == name)?;
        std::str::from_utf8(of_name.1.as_deref()?).ok()
    }
}

/// Reads ranges of a topic's partitions, each in order, at most one of a partition. A range is wholly read when its last record is there, or Kafka says
/// that the partition ends.
///
/// # Errors
/// Transient while the broker is away; fatal when it refuses this client.
pub async fn read(access: &Access, topic: &str, wanted: BTreeMap<Partition, Range>, most: Most) -> Result<Vec<Stored>, BrokerError> {
    let topic = topic.to_owned();
    ask(access, move |access| read_now(access, &topic, wanted, most)).await
}

fn read_now(access: &Access, topic: &str, mut wanted: BTreeMap<Partition, Range>, most: Most) -> Result<Vec<Stored>, BrokerError> {
    wanted.retain(|_, range| !range.is_empty());
    if wanted.is_empty() || most.records == 0 {
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
    let consumer: BaseConsumer<Quiet> =
        config.create_with_context(Quiet::default()).map_err(|cause| access.error("make a client", cause, None))?;
    let mut list = TopicPartitionList::with_capacity(wanted.len());
    for (partition, range) in &wanted {
        list.add_partition_offset(topic, *partition, rdkafka::Offset::Offset(range.from)).expect("an offset to read is not negative");
    }
    consumer.assign(&list).map_err(|cause| access.error("be read", cause, None))?;
    let deadline = Instant::now() + PATIENCE;
    let (mut records, mut bytes, mut trouble) = (Vec::new(), 0, None);
    while !wanted.is_empty() && records.len() < most.records && bytes < most.bytes && Instant::now() < deadline {
        match consumer.poll(STEP) {
            None => {}
            Some(Ok(message)) => {
                let (partition, offset) = (message.partition(), message.offset());
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
            Some(Err(cause)) => trouble = Some(cause),
        }
    }
    match trouble {
        Some(cause) if records.is_empty() && !wanted.is_empty() => Err(access.error("be read", cause, Some(&consumer))),
        _ => {
            records.sort_by_key(|record| (record.partition, record.offset));
            Ok(records)
        }
    }
}

fn stored(message: &BorrowedMessage<'_>) -> Stored {
    let headers = message.headers().map_or_else(Vec::new, |headers| {
        // A header whose name is not UTF-8 is left out, as the consumer does; the client can't give it.
        (0..headers.count())
            .filter_map(|at| headers.try_get(at))
            .map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec)))
            .collect()
    });
    Stored {
        partition: message.partition(),
        offset: message.offset(),
        timestamp_ms: message.timestamp().to_millis(),
        key: message.key().map(<[u8]>::to_vec),
        value: message.payload().map(<[u8]>::to_vec),
        headers,
    }
}
