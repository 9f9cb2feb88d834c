//! Bad records on their way into the dead-letter topic.
//!
//! Guarantee: [`DeadLetters::send`] gives only what Kafka did not acknowledge back. Key, value and headers are the record's own, and more headers say
//! what is wrong and where the record comes from: see [`letter`]. Not guaranteed: that a letter given back is not in the topic.

use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::OwnedHeaders;
use rdkafka::producer::{DeliveryFuture, FutureProducer, FutureRecord, Producer};

use super::error::WriterError;
use crate::message::{RawBatch, Reject, headers, letter};

/// How many letters are on their way at a time.
const AT_ONCE: usize = 1_000;
/// How long Kafka may take before the wait is said. The letters stay on their way meanwhile.
const PATIENCE: Duration = Duration::from_secs(5);

/// The producer into the dead-letter topic; made when there is something to send.
pub(super) struct DeadLetters {
    /// The dead-letter topic.
    pub(super) topic: String,
    /// The topic the records come from.
    pub(super) source: String,
    /// A short hash of the SQL.
    pub(super) sql: String,
    config: ClientConfig,
    producer: Mutex<Option<FutureProducer>>,
}

/// What Kafka did not take, and why.
pub(super) struct Undelivered {
    /// The letters, in order.
    pub(super) letters: Vec<Reject>,
    /// The first trouble.
    pub(super) trouble: WriterError,
}

impl DeadLetters {
    pub(super) fn new(config: ClientConfig, topic: String, source: String, sql: String) -> Self {
        Self { topic, source, sql, config, producer: Mutex::default() }
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
        let mut letters = letters.into_iter().peekable();
        let mut undelivered = Vec::new();
        let mut trouble: Option<KafkaError> = None;
        while letters.peek().is_some() && trouble.is_none() {
            let mut on_their_way: Vec<(Reject, DeliveryFuture)> = Vec::new();
            while on_their_way.len() < AT_ONCE
                && let Some(letter) = letters.next()
            {
                match producer.send_result(self.record(raw, &letter, now)) {
                    Ok(delivery) => on_their_way.push((letter, delivery)),
                    Err((error, _)) => {
                        undelivered.push(letter);
                        trouble = Some(error);
                        break;
                    }
                }
            }
            for (letter, delivery) in on_their_way {
                let failed = match self.patiently(delivery, late).await {
                    Ok(Ok(_)) => continue,
                    Ok(Err((error, _))) => error,
                    Err(_) => KafkaError::Canceled,
                };
                undelivered.push(letter);
                trouble.get_or_insert(failed);
            }
        }
        let Some(error) = trouble else { return Ok(()) };
        undelivered.extend(letters);
        undelivered.sort_by_key(|letter| letter.record);
        if producer.client().fatal_error().is_some() {
            // A producer that lost its place in a partition can't find it again; a new one starts afresh, and the letters go again.
            *self.producer.lock().unwrap_or_else(PoisonError::into_inner) = None;
            drop_elsewhere(producer);
        }
        Err(Undelivered { letters: undelivered, trouble: self.trouble(&error) })
    }

    async fn patiently<F: Future + Unpin>(&self, mut delivery: F, late: &(dyn Fn(WriterError) + Send + Sync)) -> F::Output {
        loop {
            match tokio::time::timeout(PATIENCE, &mut delivery).await {
                Ok(output) => return output,
                Err(_) => late(WriterError::Kafka { topic: self.topic.clone(), what: "no acknowledgement yet".to_owned() }),
            }
        }
    }

    fn producer(&self) -> Result<FutureProducer, KafkaError> {
        let mut producer = self.producer.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(producer) = &*producer {
            return Ok(producer.clone());
        }
        let made: FutureProducer = self.config.create()?;
        Ok(producer.insert(made).clone())
    }

    fn record<'a>(&'a self, raw: &'a RawBatch, letter: &Reject, now: SystemTime) -> FutureRecord<'a, [u8], [u8]> {
        let record = &raw.records[letter.record as usize];
        let mut it = FutureRecord::to(&self.topic).headers(self.headers(raw, letter));
        it.key = raw.key(record);
        it.payload = raw.value(record);
        it.timestamp = now.duration_since(UNIX_EPOCH).ok().and_then(|since| i64::try_from(since.as_millis()).ok());
        it
    }

    fn headers(&self, raw: &RawBatch, reject: &Reject) -> OwnedHeaders {
        let record = &raw.records[reject.record as usize];
        let origin = [
            (letter::TOPIC, self.source.as_str()),
            (letter::PARTITION, &record.partition.to_string()),
            (letter::OFFSET, &record.offset.to_string()),
            (letter::TIMESTAMP, &record.timestamp_ms.to_string()),
            (letter::SQL, &self.sql),
        ];
        letter::headers(headers::read(raw.headers(record)), (reject.stage, &reject.reason), &origin)
    }

    fn trouble(&self, error: &KafkaError) -> WriterError {
        let remedy = match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::MessageSizeTooLarge | RDKafkaErrorCode::InvalidRecord) => {
                Some("raise max.message.bytes of that topic above that of the source topic, for the headers")
            }
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
        if let Some(producer) = self.producer.get_mut().unwrap_or_else(PoisonError::into_inner).take() {
            drop_elsewhere(producer);
        }
    }
}
