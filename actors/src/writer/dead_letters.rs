//! Bad records on their way into the dead-letter topic.
//!
//! Guarantee: [`DeadLetters::send`] gives only what Kafka did not acknowledge back. Key, value and headers are the record's own, and more headers say
//! what is wrong and where the record comes from: see [`letter`]. A letter that the topic refuses for its size goes again with less of the value, so
//! no size of a record is fatal. A dead-letter topic that was removed is made again. Not guaranteed: that a letter given back is not in the topic.

use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::future::BoxFuture;
use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::OwnedHeaders;
use rdkafka::producer::{DeliveryFuture, FutureProducer, FutureRecord, Producer};

use super::error::WriterError;
use crate::broker::{self, dead_letter::is_too_large};
use forebay_dataplane::dead_letter::{DeadLetter, Truncation};
use forebay_dataplane::{RawBatch, RawRecord, Reject, arena_headers, dead_letter};

/// How many letters are on their way at a time.
const AT_ONCE: usize = 1_000;
/// How many bytes of values, beside one: Kafka's client keeps a copy of each until it is acknowledged.
const AT_ONCE_BYTES: usize = 1 << 20;
/// How long Kafka may take before the wait is said. The letters stay on their way meanwhile.
const PATIENCE: Duration = Duration::from_secs(5);

/// Makes the dead-letter topic where it is missing, and says whether it was.
pub type Remake = Arc<dyn Fn() -> BoxFuture<'static, Result<bool, String>> + Send + Sync>;

/// The producer into the dead-letter topic; made when there is something to send.
pub(super) struct DeadLetters {
    /// The dead-letter topic.
    pub(super) topic: String,
    /// The topic the records come from.
    pub(super) source: String,
    /// A short hash of the SQL.
    pub(super) sql: String,
    config: ClientConfig,
    remake: Remake,
    producer: Mutex<Option<FutureProducer>>,
}

/// A letter that is to be sent.
struct Outgoing {
    reject: Reject,
    truncation: Truncation,
    /// Whether no other letter may be in its batch.
    alone: bool,
}

/// What Kafka did not take, and why.
pub(super) struct Undelivered {
    /// The letters, in order.
    pub(super) letters: Vec<Reject>,
    /// The first trouble.
    pub(super) trouble: WriterError,
}

impl DeadLetters {
    pub(super) fn new(config: ClientConfig, remake: Remake, topic: String, source: String, sql: String) -> Self {
        Self { topic, source, sql, config, remake, producer: Mutex::default() }
    }

    /// Sends letters and waits for their acknowledgements. `late` is told when that takes long.
    pub(super) async fn send(
        &self,
        raw: &RawBatch,
        letters: Vec<Reject>,
        now: SystemTime,
        late: &(dyn Fn(WriterError) + Send + Sync),
    ) -> Result<(), Undelivered> {
        let producer = match self.producer() {
            Ok(producer) => producer,
            Err(error) => return Err(Undelivered { letters, trouble: self.trouble(&error) }),
        };
        let mut waiting: VecDeque<Outgoing> =
            letters.into_iter().map(|reject| Outgoing { reject, truncation: Truncation::NONE, alone: false }).collect();
        let mut undelivered = Vec::new();
        let mut trouble: Option<KafkaError> = None;
        while !waiting.is_empty() && trouble.is_none() {
            let mut on_their_way: Vec<(Outgoing, Result<DeliveryFuture, KafkaError>)> = Vec::new();
            let mut bytes = 0;
            let may_follow = |before: &Vec<(Outgoing, _)>, bytes: usize, next: &Outgoing| {
                before.is_empty()
                    || (before.len() < AT_ONCE && bytes < AT_ONCE_BYTES && !next.alone && before.iter().all(|(before, _)| !before.alone))
            };
            while let Some(outgoing) = waiting.pop_front_if(|next| may_follow(&on_their_way, bytes, next)) {
                bytes += raw.value(&raw.records[outgoing.reject.record as usize]).map_or(0, <[u8]>::len);
                let sent = producer.send_result(self.record(raw, &outgoing, now)).map_err(|(error, _)| error);
                let failed = sent.is_err();
                on_their_way.push((outgoing, sent));
                if failed {
                    break;
                }
            }
            for (outgoing, sent) in on_their_way {
                let failed = match sent {
                    Err(error) => error,
                    Ok(delivery) => match self.patiently(delivery, late).await {
                        Ok(Ok(_)) => continue,
                        Ok(Err((error, _))) => error,
                        Err(_) => KafkaError::Canceled,
                    },
                };
                let is_too_large = failed.rdkafka_error_code().is_some_and(is_too_large);
                match is_too_large.then(|| self.smaller(raw, &outgoing)).flatten() {
                    Some(smaller) => waiting.push_back(smaller),
                    None => {
                        undelivered.push(outgoing.reject);
                        trouble.get_or_insert(failed);
                    }
                }
            }
        }
        let Some(error) = trouble else { return Ok(()) };
        undelivered.extend(waiting.into_iter().map(|outgoing| outgoing.reject));
        undelivered.sort_by_key(|letter| letter.record);
        if producer.client().fatal_error().is_some() {
            // A producer that lost its place in a partition can't find it again; a new one starts afresh, and the letters go again.
            *self.producer.lock() = None;
            drop_elsewhere(producer);
        }
        Err(Undelivered { letters: undelivered, trouble: self.trouble(&error) })
    }

    /// How a letter that was refused for its size goes again: alone, for it may have been the batch of letters that was too large, and then with
    /// less of its value. Nothing when there is no less.
    fn smaller(&self, raw: &RawBatch, outgoing: &Outgoing) -> Option<Outgoing> {
        let (reject, alone) = (outgoing.reject.clone(), true);
        if !outgoing.alone {
            return Some(Outgoing { reject, truncation: outgoing.truncation, alone });
        }
        let record = &raw.records[reject.record as usize];
        let truncation = outgoing.truncation.next(raw.value(record))?;
        let (topic, partition, offset) = (&self.topic, record.partition, record.offset);
        tracing::warn!(topic, partition, offset, "the topic refuses a dead letter for its size; it goes again with its value cut");
        Some(Outgoing { reject, truncation, alone })
    }

    async fn patiently<F: Future + Unpin>(&self, mut delivery: F, late: &(dyn Fn(WriterError) + Send + Sync)) -> F::Output {
        loop {
            match tokio::time::timeout(PATIENCE, &mut delivery).await {
                Ok(output) => return output,
                Err(_) => late(WriterError::Kafka { topic: self.topic.clone(), what: self.why_late().await }),
            }
        }
    }

    /// Why no acknowledgement comes. A topic that is gone is made again; the letters on their way go into it.
    async fn why_late(&self) -> String {
        match (self.remake)().await {
            Ok(true) => {
                tracing::warn!(
                    topic = self.topic,
                    "the dead-letter topic was missing and is made again; the letters that were in it are gone"
                );
                "the topic was missing and is made again; no acknowledgement yet".to_owned()
            }
            Ok(false) => "no acknowledgement yet".to_owned(),
            Err(trouble) => format!("no acknowledgement yet, and {trouble}"),
        }
    }

    fn producer(&self) -> Result<FutureProducer, KafkaError> {
        let mut producer = self.producer.lock();
        if let Some(producer) = &*producer {
            return Ok(producer.clone());
        }
        let made: FutureProducer = self.config.create()?;
        Ok(producer.insert(made).clone())
    }

    fn record<'a>(
        &'a self,
        raw: &'a RawBatch,
        Outgoing { reject, truncation, .. }: &'a Outgoing,
        now: SystemTime,
    ) -> FutureRecord<'a, [u8], [u8]> {
        let record = &raw.records[reject.record as usize];
        let letter = DeadLetter {
            key: raw.key(record),
            value: raw.value(record),
            stage: reject.stage,
            reason: &reject.reason,
            truncation: *truncation,
            unreadable_headers: arena_headers::count_unreadable(raw.headers(record)),
        };
        let mut it = FutureRecord::to(&self.topic).headers(self.headers(raw, record, &letter));
        (it.key, it.payload) = (letter.key(), letter.value());
        it.timestamp = now.duration_since(UNIX_EPOCH).ok().and_then(|since| i64::try_from(since.as_millis()).ok());
        it
    }

    fn headers(&self, raw: &RawBatch, record: &RawRecord, letter: &DeadLetter<'_>) -> OwnedHeaders {
        let origin = [
            (dead_letter::TOPIC, self.source.as_str()),
            (dead_letter::PARTITION, &record.partition.to_string()),
            (dead_letter::OFFSET, &record.offset.to_string()),
            (dead_letter::TIMESTAMP, &record.timestamp_ms.to_string()),
            (dead_letter::SQL, &self.sql),
        ];
        broker::dead_letter::headers(letter, arena_headers::read(raw.headers(record)), &origin)
    }

    fn trouble(&self, error: &KafkaError) -> WriterError {
        let remedy = match error.rdkafka_error_code() {
            Some(code) if is_too_large(code) => {
                // The least letter of a record is smaller than any limit that is of use; it is waited for until the limit is.
                let what = format!("{error}, even without the value: raise max.message.bytes of that topic to 4096 or more");
                return WriterError::Kafka { topic: self.topic.clone(), what };
            }
            Some(RDKafkaErrorCode::InvalidRecord) => Some("letters of records without a key have none: set its cleanup.policy to delete"),
            Some(
                RDKafkaErrorCode::TopicAuthorizationFailed
                | RDKafkaErrorCode::ClusterAuthorizationFailed
                | RDKafkaErrorCode::SaslAuthenticationFailed
                | RDKafkaErrorCode::Authentication,
            ) => Some("let the user of [kafka.properties] write to it"),
            _ if matches!(error, KafkaError::ClientConfig(..) | KafkaError::ClientCreation(_)) => Some("mend [kafka.properties]"),
            _ => None,
        };
        let (topic, what) = (self.topic.clone(), error.to_string());
        match remedy {
            Some(remedy) => WriterError::KafkaRefuses { topic, what, remedy },
            None => WriterError::Kafka { topic, what },
        }
    }
}

/// Dropping a producer waits for its thread and for what it has in flight, up to a second.
fn drop_elsewhere(producer: FutureProducer) {
    thread::spawn(move || drop(producer));
}

impl Drop for DeadLetters {
    fn drop(&mut self) {
        if let Some(producer) = self.producer.get_mut().take() {
            drop_elsewhere(producer);
        }
    }
}
