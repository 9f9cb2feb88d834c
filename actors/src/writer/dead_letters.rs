//! Produces bad records to the dead-letter topic.
//!
//! Guarantees:
//! * [`DeadLetters::send`] returns only the records that Kafka did not acknowledge.
//! * Key, value and headers are the record's own. Further headers name the reason and the record's
//!   origin: see [`dead_letter`].
//! * A dead letter that the topic refuses for its size is sent again with less of its value, so no
//!   size of a record is fatal.
//! * A dead-letter topic that was deleted is re-created.
//!
//! Does not guarantee that a record that was returned is not in the topic.

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::OwnedHeaders;
use rdkafka::producer::{DeliveryFuture, FutureProducer, FutureRecord, Producer};

use super::error::WriterError;
use crate::broker::{self, BROKERS_LOST, LossContext, dead_letter_headers::is_too_large};
use forebay_dataplane::dead_letter::{DeadLetter, Truncation};
use forebay_dataplane::{RawBatch, RawRecord, Reject, arena_headers, dead_letter};

/// How many dead letters are in flight at a time.
const MAX_IN_FLIGHT: usize = 1_000;
/// No further dead letter is sent while values of this many bytes are in flight, since Kafka's
/// client keeps a copy of each until it is acknowledged.
const MAX_IN_FLIGHT_BYTES: usize = 1 << 20;
/// How long an acknowledgement may take before the wait is reported. The dead letters stay in
/// flight.
const ACK_TIMEOUT: Duration = Duration::from_secs(5);

/// Creates the dead-letter topic if it is missing, and returns whether it was.
pub(crate) type RecreateTopic = Arc<dyn Fn() -> BoxFuture<'static, Result<bool, String>> + Send + Sync>;

/// A producer, and whether it has a broker left.
type DeadLetterProducer = (FutureProducer<LossContext>, LossContext);

/// The producer to the dead-letter topic, created when there is something to send.
pub(super) struct DeadLetters {
    /// The dead-letter topic.
    pub(super) topic: String,
    /// The topic of the records.
    pub(super) source: String,
    /// A short hash of the SQL.
    pub(super) sql: String,
    config: ClientConfig,
    recreate_topic: RecreateTopic,
    producer: Mutex<Option<DeadLetterProducer>>,
}

/// A dead letter to send.
struct Outgoing {
    reject: Reject,
    truncation: Truncation,
    /// Whether it is sent in a batch of its own.
    alone: bool,
}

/// What Kafka did not acknowledge, and why.
pub(super) struct Undelivered {
    /// The records, in order.
    pub(super) rejects: Vec<Reject>,
    /// The first error.
    pub(super) error: WriterError,
}

impl DeadLetters {
    pub(super) fn new(config: ClientConfig, recreate_topic: RecreateTopic, topic: String, source: String, sql: String) -> Self {
        Self { topic, source, sql, config, recreate_topic, producer: Mutex::default() }
    }

    /// Sends dead letters and waits for their acknowledgements. Calls `overdue` when that takes
    /// long.
    pub(super) async fn send(
        &self,
        raw: &RawBatch,
        rejects: Vec<Reject>,
        now: SystemTime,
        overdue: &(dyn Fn(WriterError) + Send + Sync),
    ) -> Result<(), Undelivered> {
        let (producer, context) = match self.producer() {
            Ok(producer) => producer,
            Err(error) => return Err(Undelivered { rejects, error: self.writer_error(&error) }),
        };
        let mut waiting: VecDeque<Outgoing> =
            rejects.into_iter().map(|reject| Outgoing { reject, truncation: Truncation::NONE, alone: false }).collect();
        let mut undelivered = Vec::new();
        let mut first_error: Option<KafkaError> = None;
        while !waiting.is_empty() && first_error.is_none() {
            let mut in_flight: Vec<(Outgoing, Result<DeliveryFuture, KafkaError>)> = Vec::new();
            let mut bytes = 0;
            let fits = |before: &Vec<(Outgoing, _)>, bytes: usize, next: &Outgoing| {
                before.is_empty()
                    || (before.len() < MAX_IN_FLIGHT
                        && bytes < MAX_IN_FLIGHT_BYTES
                        && !next.alone
                        && before.iter().all(|(before, _)| !before.alone))
            };
            while let Some(outgoing) = waiting.pop_front_if(|next| fits(&in_flight, bytes, next)) {
                bytes += raw.value(&raw.records[outgoing.reject.record as usize]).map_or(0, <[u8]>::len);
                let sent = producer.send_result(self.record(raw, &outgoing, now)).map_err(|(error, _)| error);
                let failed = sent.is_err();
                in_flight.push((outgoing, sent));
                if failed {
                    break;
                }
            }
            for (outgoing, sent) in in_flight {
                let failed = match sent {
                    Err(error) => error,
                    Ok(delivery) => match self.acknowledgement(&context, delivery, overdue).await {
                        Some(Ok(Ok(_))) => continue,
                        Some(Ok(Err((error, _)))) => error,
                        Some(Err(_)) | None => KafkaError::Canceled,
                    },
                };
                let is_too_large = failed.rdkafka_error_code().is_some_and(is_too_large);
                match is_too_large.then(|| self.shrink(raw, &outgoing)).flatten() {
                    Some(shrunk) => waiting.push_back(shrunk),
                    None => {
                        undelivered.push(outgoing.reject);
                        first_error.get_or_insert(failed);
                    }
                }
            }
        }
        let Some(error) = first_error else { return Ok(()) };
        undelivered.extend(waiting.into_iter().map(|outgoing| outgoing.reject));
        undelivered.sort_by_key(|reject| reject.record);
        if producer.client().fatal_error().is_some() || context.is_lost() {
            // An idempotent producer whose sequence is broken can't continue, nor one without a
            // broker. A new one starts over, and the records are sent again.
            *self.producer.lock() = None;
            drop_in_background(producer);
        }
        Err(Undelivered { rejects: undelivered, error: self.writer_error(&error) })
    }

    /// How a dead letter that was refused for its size is sent again: first alone, since the batch
    /// may have been too large, then with less of its value. None if its value can't be truncated
    /// further.
    fn shrink(&self, raw: &RawBatch, outgoing: &Outgoing) -> Option<Outgoing> {
        let (reject, alone) = (outgoing.reject.clone(), true);
        if !outgoing.alone {
            return Some(Outgoing { reject, truncation: outgoing.truncation, alone });
        }
        let record = &raw.records[reject.record as usize];
        let truncation = outgoing.truncation.next(raw.value(record))?;
        let (topic, partition, offset) = (&self.topic, record.partition, record.offset.value());
        tracing::warn!(topic, partition, offset, "dead letter too large for its topic; sending it with its value truncated");
        Some(Outgoing { reject, truncation, alone })
    }

    /// Waits for an acknowledgement. `None` when the producer has no broker left.
    async fn acknowledgement<F: Future + Unpin>(
        &self,
        context: &LossContext,
        mut delivery: F,
        overdue: &(dyn Fn(WriterError) + Send + Sync),
    ) -> Option<F::Output> {
        loop {
            match tokio::time::timeout(ACK_TIMEOUT, &mut delivery).await {
                Ok(output) => return Some(output),
                Err(_) if context.is_lost() => {
                    tracing::warn!(topic = self.topic, "the producer of dead letters failed: {BROKERS_LOST}");
                    return None;
                }
                Err(_) => overdue(WriterError::Kafka { topic: self.topic.clone(), reason: self.overdue_reason().await }),
            }
        }
    }

    /// Why no acknowledgement has arrived. A topic that was deleted is re-created; what is in
    /// flight goes to it.
    async fn overdue_reason(&self) -> String {
        match (self.recreate_topic)().await {
            Ok(true) => {
                tracing::warn!(
                    topic = self.topic,
                    "the dead-letter topic was missing and was re-created; the dead letters it held are lost"
                );
                "the topic was missing and was re-created; no acknowledgement yet".to_owned()
            }
            Ok(false) => "no acknowledgement yet".to_owned(),
            Err(error) => format!("no acknowledgement yet, and {error}"),
        }
    }

    fn producer(&self) -> Result<DeadLetterProducer, KafkaError> {
        let mut producer = self.producer.lock();
        if let Some(producer) = &*producer {
            return Ok(producer.clone());
        }
        let context = LossContext::default();
        Ok(producer.insert((self.config.create_with_context(context.clone())?, context)).clone())
    }

    fn record<'a>(
        &'a self,
        raw: &'a RawBatch,
        Outgoing { reject, truncation, .. }: &'a Outgoing,
        now: SystemTime,
    ) -> FutureRecord<'a, [u8], [u8]> {
        let record = &raw.records[reject.record as usize];
        let dead = DeadLetter {
            key: raw.key(record),
            value: raw.value(record),
            stage: reject.stage,
            reason: &reject.reason,
            truncation: *truncation,
            unreadable_headers: arena_headers::count_unreadable(raw.headers(record)),
        };
        let mut record = FutureRecord::to(&self.topic).headers(self.headers(raw, record, &dead));
        (record.key, record.payload) = (dead.key(), dead.value());
        record.timestamp = now.duration_since(UNIX_EPOCH).ok().and_then(|since| i64::try_from(since.as_millis()).ok());
        record
    }

    fn headers(&self, raw: &RawBatch, record: &RawRecord, dead: &DeadLetter<'_>) -> OwnedHeaders {
        let origin = [
            (dead_letter::TOPIC, self.source.as_str()),
            (dead_letter::PARTITION, &record.partition.to_string()),
            (dead_letter::OFFSET, &record.offset.to_string()),
            (dead_letter::TIMESTAMP, &record.timestamp_ms.to_string()),
            (dead_letter::SQL, &self.sql),
        ];
        broker::dead_letter_headers::headers(dead, arena_headers::read(raw.headers(record)), &origin)
    }

    fn writer_error(&self, error: &KafkaError) -> WriterError {
        let remedy = match error.rdkafka_error_code() {
            Some(code) if is_too_large(code) => {
                // Without its value a dead letter is smaller than any useful limit, so retry until
                // the limit is raised.
                let reason = format!("{error}, even without the value: raise max.message.bytes of that topic to 4096 or more");
                return WriterError::Kafka { topic: self.topic.clone(), reason };
            }
            Some(RDKafkaErrorCode::InvalidRecord) => {
                Some("dead letters of records without a key have no key: set its cleanup.policy to delete")
            }
            Some(
                RDKafkaErrorCode::TopicAuthorizationFailed
                | RDKafkaErrorCode::ClusterAuthorizationFailed
                | RDKafkaErrorCode::SaslAuthenticationFailed
                | RDKafkaErrorCode::Authentication,
            ) => Some("grant the user of [kafka.properties] write access to it"),
            _ if matches!(error, KafkaError::ClientConfig(..) | KafkaError::ClientCreation(_)) => Some("correct [kafka.properties]"),
            _ => None,
        };
        let (topic, reason) = (self.topic.clone(), error.to_string());
        match remedy {
            Some(remedy) => WriterError::KafkaRefuses { topic, reason, remedy },
            None => WriterError::Kafka { topic, reason },
        }
    }
}

/// Dropping a producer waits up to a second for its thread and for what is in flight.
fn drop_in_background(producer: FutureProducer<LossContext>) {
    thread::spawn(move || drop(producer));
}

impl Drop for DeadLetters {
    fn drop(&mut self) {
        if let Some((producer, _)) = self.producer.get_mut().take() {
            drop_in_background(producer);
        }
    }
}
