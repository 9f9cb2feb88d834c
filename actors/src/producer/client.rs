//! The Kafka client of the producer.
//!
//! Guarantees:
//! * All in-sync replicas acknowledge a record, and it is written once however often librdkafka
//!   sends it.
//! * The records of a page keep their order within a partition.
//! * A page is done when each of its records is acknowledged or failed.
//! * A record that is too large, for the pipeline file or for Kafka, costs only that record.
//!
//! Does not guarantee that the records of a failed page are not in the topic. Producing it again
//! gives them the same keys and identifiers.

use std::ops::Range as Slice;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use forebay_schemas::offset::Offset;
use forebay_schemas::pipeline;
use parking_lot::Mutex;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;
use rdkafka::message::{Header, Message, OwnedHeaders};
use rdkafka::producer::{BaseRecord, DeliveryResult, ProducerContext, ThreadedProducer};
use rdkafka::statistics::Statistics;
use rdkafka::types::RDKafkaErrorCode as Code;
use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;
use uuid::Uuid;

use super::error::ProduceError;
use super::keyed_record::{KeyExtractor, KeyedRecord};
use super::state::{DeliveryTracker, Destination};
use crate::broker::{
    self, Access, BROKERS_LOST, BrokerError, BrokerLoss, LogContext, dead_letter_headers::is_too_large, silence, silent_for,
};
use crate::message::{Page, PageProduced, PageRefused};
use forebay_dataplane::dead_letter::{DeadLetter, Truncation};
use forebay_dataplane::{Reason, RejectStage, dead_letter, run_counts};
use forebay_kernel::Progress;

/// The interval between checks for room in librdkafka's queue, and for the outcome of a part.
const QUEUE_POLL_INTERVAL: Duration = Duration::from_millis(2);

/// The outcome of a page.
pub(super) type PageOutcome = Result<PageProduced, ProduceError>;

/// A producing client; cheap to clone. Dropping the last clone discards its unsent records, on a
/// thread of its own.
#[derive(Clone)]
pub(super) struct Client(Arc<Inner>);

struct Inner {
    producer: Option<ThreadedProducer<Context>>,
    context: Context,
    keys: KeyExtractor,
    topic: String,
    dead_letter_topic: String,
    max_record_bytes: usize,
}

/// What the client produces to.
#[derive(Debug, Clone)]
pub(super) struct Target {
    /// Extracts keys and identifiers.
    pub keys: KeyExtractor,
    /// The topic.
    pub topic: String,
    /// The dead-letter topic.
    pub dead_letter_topic: String,
    /// The largest record, bytes.
    pub max_record_bytes: usize,
}

impl Client {
    /// Creates a client, which reports an unreachable broker to `progress`. The receiver gets the
    /// reason when it fails.
    ///
    /// # Errors
    /// When librdkafka refuses the properties.
    pub(super) fn new(access: &Access, target: Target, progress: Progress) -> Result<(Self, oneshot::Receiver<String>), BrokerError> {
        let (broken, breaks) = oneshot::channel();
        let context = Context(Arc::new(Shared {
            kafka: access.describe(),
            progress,
            quiet: LogContext::default(),
            unreachable: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
            broken: Mutex::new(Some(broken)),
            loss: BrokerLoss::default(),
        }));
        let producer =
            access.producer().create_with_context(context.clone()).map_err(|cause| access.error("create a producer", cause, None))?;
        let Target { keys, topic, dead_letter_topic, max_record_bytes } = target;
        Ok((Self(Arc::new(Inner { producer: Some(producer), context, keys, topic, dead_letter_topic, max_record_bytes })), breaks))
    }

    /// Sends a page. Blocks while the queue is full. The receiver gets the outcome of the page.
    pub(super) fn produce(&self, page: &Page) -> oneshot::Receiver<PageOutcome> {
        self.0.send_all(page, 0..page.content.records.len(), None)
    }

    /// Sends a page with a refused record in parts, and blocks until the outcome. A part is sent
    /// when the one before it is acknowledged, so the order is kept. The record that is refused
    /// alone becomes a dead letter. What was acknowledged the first time is in the topic twice.
    pub(super) fn produce_in_parts(&self, page: &Page) -> PageOutcome {
        self.0.send_part(page, 0..page.content.records.len())
    }

    /// Whether no broker is reachable, as far as the client knows.
    pub(super) fn is_unreachable(&self) -> bool {
        self.0.context.0.unreachable.load(Ordering::Relaxed)
    }

    /// Gives up records that wait for room in the queue.
    pub(super) fn stop(&self) {
        self.0.context.0.stopped.store(true, Ordering::Relaxed);
    }
}

/// How to send the one record of a part that was refused before.
struct Amended {
    /// Why it is rejected; `None` when it already was a dead letter.
    reason: Option<Reason>,
    truncation: Truncation,
}

impl Inner {
    /// Sends a part of a page. The receiver gets the outcome of the part. `amended` is for a part
    /// of one record.
    fn send_all(&self, page: &Page, part: Slice<usize>, amended: Option<&Amended>) -> oneshot::Receiver<PageOutcome> {
        let (sender, end) = oneshot::channel();
        let tracker = Arc::new(Mutex::new((DeliveryTracker::default(), Some(sender))));
        let topic = Arc::new(Delivery { page: tracker.clone(), to: Destination::Topic });
        let dead = Arc::new(Delivery { page: tracker, to: Destination::DeadLetters });
        let run = page.run.as_hyphenated().to_string();
        let first = part.start;
        let mut bad = page.content.bad.iter().skip_while(|bad| bad.index < first).peekable();
        let mut scratch = Vec::new();
        let mut error = None;
        for at in part {
            let record = &page.content.records[at];
            let mut keyed = match bad.next_if(|bad| bad.index == at) {
                Some(bad) => self.keys.dead_letter(record, bad.reason.clone(), &mut scratch),
                None => self.keys.extract(record, &mut scratch),
            };
            if let KeyedRecord::Record { key, event } = keyed {
                let amended = amended.and_then(|amended| amended.reason.clone());
                let too_large = || (record.len() > self.max_record_bytes).then(|| too_large(record.len(), self.max_record_bytes));
                keyed = match amended.or_else(too_large) {
                    Some(reason) => KeyedRecord::DeadLetter { key: Some(key), reason, event },
                    None => KeyedRecord::Record { key, event },
                };
            }
            let mut text = Uuid::encode_buffer();
            let sent = match keyed {
                KeyedRecord::Record { key, event } => self.send(&self.topic, &topic, (Some(&key), record), || {
                    record_headers(&run, event, &mut text)
                        .into_iter()
                        .fold(OwnedHeaders::new_with_capacity(2), |all, (key, value)| all.insert(Header { key, value }))
                }),
                KeyedRecord::DeadLetter { key, reason, event } => {
                    let truncation = amended.map_or(Truncation::to(self.max_record_bytes), |amended| amended.truncation);
                    let it = DeadLetter {
                        key: key.as_deref(),
                        value: Some(record),
                        stage: RejectStage::Produce,
                        reason: &reason,
                        truncation,
                        unreadable_headers: 0,
                    };
                    dead.page.lock().0.rejected(&reason);
                    self.send(&self.dead_letter_topic, &dead, (it.key(), it.value().unwrap_or_default()), || {
                        broker::dead_letter_headers::headers(
                            &it,
                            record_headers(&run, event, &mut text).into_iter(),
                            &[(dead_letter::TOPIC, &self.topic)],
                        )
                    })
                }
            };
            if let Err(cause) = sent {
                error = Some(cause);
                break;
            }
        }
        topic.settle(|tracker| tracker.seal(error));
        end
    }

    fn send_part(&self, page: &Page, part: Slice<usize>) -> PageOutcome {
        let mut amended: Option<Amended> = None;
        loop {
            let end = self.wait(self.send_all(page, part.clone(), amended.as_ref()));
            let Err(ProduceError::Record { topic, bytes, cause }) = end else { return end };
            if part.len() > 1 {
                let middle = part.start + part.len() / 2;
                let mut produced = self.send_part(page, part.start..middle)?;
                produced.merge(&self.send_part(page, middle..part.end)?);
                return Ok(produced);
            }
            let record = page.content.records.get(part.start).map(Bytes::as_ref);
            let is_dead_letter = topic == self.dead_letter_topic;
            let Amended { reason, truncation } =
                amended.take().unwrap_or(Amended { reason: None, truncation: Truncation::to(self.max_record_bytes) });
            amended = if !is_dead_letter {
                Some(Amended { reason: Some(refused(&topic, bytes, cause)), truncation })
            } else {
                let shorter = if is_too_large(cause) { truncation.next(record) } else { None };
                shorter.map(|truncation| Amended { reason, truncation })
            };
            if amended.is_none() {
                let why = format!("kafka refuses the dead letter of a record for {topic}: {cause}; check the settings of that topic");
                return Err(PageRefused(why).into());
            }
        }
    }

    /// Blocks until the outcome of a part, or until the client is stopped.
    fn wait(&self, mut end: oneshot::Receiver<PageOutcome>) -> PageOutcome {
        let stopped = || Err(ProduceError::Stopped { topic: self.topic.clone() });
        loop {
            match end.try_recv() {
                Ok(end) => return end,
                Err(TryRecvError::Closed) => return stopped(),
                Err(TryRecvError::Empty) if self.context.0.stopped.load(Ordering::Relaxed) => return stopped(),
                Err(TryRecvError::Empty) => std::thread::sleep(QUEUE_POLL_INTERVAL),
            }
        }
    }

    fn send(
        &self,
        topic: &str,
        delivery: &Arc<Delivery>,
        (key, record): (Option<&[u8]>, &[u8]),
        headers: impl FnOnce() -> OwnedHeaders,
    ) -> Result<(), ProduceError> {
        let producer = self.producer.as_ref().expect("a client has its producer until it is dropped");
        let mut message: BaseRecord<'_, [u8], [u8], Arc<Delivery>> =
            BaseRecord::with_opaque_to(topic, delivery.clone()).payload(record).headers(headers());
        if let Some(key) = key {
            message = message.key(key);
        }
        delivery.page.lock().0.sent();
        loop {
            match producer.send(message) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(Code::QueueFull), back)) => {
                    message = back;
                    if self.context.0.stopped.load(Ordering::Relaxed) {
                        delivery.page.lock().0.unsent();
                        return Err(ProduceError::Stopped { topic: topic.to_owned() });
                    }
                    std::thread::sleep(QUEUE_POLL_INTERVAL);
                }
                Err((cause, _)) => {
                    delivery.page.lock().0.unsent();
                    return Err(match cause {
                        KafkaError::MessageProduction(code) => ProduceError::of_delivery(topic, record.len(), code),
                        cause => ProduceError::Broken { topic: topic.to_owned(), cause: cause.to_string() },
                    });
                }
            }
        }
    }
}

/// Dropping librdkafka's client joins its threads, which must not block the caller.
impl Drop for Inner {
    fn drop(&mut self) {
        self.context.0.stopped.store(true, Ordering::Relaxed);
        if let Some(producer) = self.producer.take() {
            std::thread::spawn(move || drop(producer));
        }
    }
}

/// Why a record over the limit is rejected.
fn too_large(bytes: usize, max: usize) -> Reason {
    let (bytes, max) = (pipeline::Bytes(bytes as u64), pipeline::Bytes(max as u64));
    Reason::plain(format!(
        "the record is {bytes}, over producer.max_record_bytes ({max}): raise it and the topic's max.message.bytes, or ask the API for smaller records"
    ))
}

/// Why a record that Kafka refuses is rejected.
fn refused(topic: &str, bytes: usize, cause: Code) -> Reason {
    let bytes = pipeline::Bytes(bytes as u64);
    Reason::plain(if is_too_large(cause) {
        format!(
            "the record is {bytes}, and kafka refuses it as too large for {topic}: raise the topic's max.message.bytes, or ask the API for smaller records"
        )
    } else {
        format!("kafka refuses the record for {topic}: {cause}")
    })
}

/// The headers of a record in the topic. `text` is the buffer of the event identifier.
fn record_headers<'a>(run: &'a str, event: Uuid, text: &'a mut [u8]) -> [(&'static str, Option<&'a [u8]>); 2] {
    let event: &str = event.as_hyphenated().encode_lower(text);
    [(run_counts::RUN_HEADER, Some(run.as_bytes())), (run_counts::EVENT_ID_HEADER, Some(event.as_bytes()))]
}

/// What a record carries through librdkafka: its page and its destination. The records of a page
/// share two of them.
struct Delivery {
    page: Arc<Mutex<(DeliveryTracker, Option<oneshot::Sender<PageOutcome>>)>>,
    to: Destination,
}

impl Delivery {
    fn settle(&self, change: impl FnOnce(&mut DeliveryTracker) -> Option<PageOutcome>) {
        let mut page = self.page.lock();
        if let Some(end) = change(&mut page.0)
            && let Some(sender) = page.1.take()
        {
            let _ = sender.send(end);
        }
    }
}

/// Receives the callbacks of librdkafka's threads.
#[derive(Clone)]
struct Context(Arc<Shared>);

struct Shared {
    kafka: String,
    progress: Progress,
    quiet: LogContext,
    unreachable: AtomicBool,
    stopped: AtomicBool,
    broken: Mutex<Option<oneshot::Sender<String>>>,
    loss: BrokerLoss,
}

impl Context {
    fn broke(&self, reason: String) {
        if let Some(sender) = self.0.broken.lock().take() {
            let _ = sender.send(reason);
        }
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        self.0.quiet.log(level, facility, line);
    }

    fn stats(&self, statistics: Statistics) {
        if self.0.loss.is_shown_by(&statistics) {
            self.broke(BROKERS_LOST.to_owned());
        }
        if let Some(silent) = silent_for(&statistics) {
            self.wait(silence(&self.0.kafka, silent), "no answer");
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        match error.rdkafka_error_code() {
            Some(Code::Fatal) => self.broke(reason.to_owned()),
            Some(Code::AllBrokersDown) => {
                let cause = self.0.quiet.connection_error().map_or_else(|| reason.to_owned(), |error| error.to_string());
                self.wait(format!("kafka {} is not reachable: {cause}", self.0.kafka), &cause);
            }
            _ => self.0.quiet.error(error, reason),
        }
    }
}

impl Context {
    /// Notes that records wait, and logs it once.
    fn wait(&self, note: String, cause: &str) {
        if !self.0.unreachable.swap(true, Ordering::Relaxed) {
            tracing::warn!(kafka = self.0.kafka, error = cause, "kafka accepts no records; they wait");
        }
        self.0.progress.waiting(note);
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = Arc<Delivery>;

    fn delivery(&self, result: &DeliveryResult<'_>, delivery: Arc<Delivery>) {
        match result {
            Ok(message) => {
                self.0.progress.tick();
                if self.0.unreachable.load(Ordering::Relaxed) && self.0.unreachable.swap(false, Ordering::Relaxed) {
                    tracing::info!(kafka = self.0.kafka, "kafka accepts records again");
                    self.0.progress.clear();
                }
                delivery.settle(|tracker| tracker.acked(delivery.to, message.partition(), Offset(message.offset())));
            }
            Err((error, message)) => {
                let code = error.rdkafka_error_code().unwrap_or(Code::Unknown);
                let error = ProduceError::of_delivery(message.topic(), message.payload_len(), code);
                delivery.settle(|tracker| tracker.failed(error));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_without_a_broker_breaks_at_the_second_statistics() {
        let (broken, mut breaks) = oneshot::channel();
        let context = Context(Arc::new(Shared {
            kafka: "kafka".to_owned(),
            progress: Progress::default(),
            quiet: LogContext::default(),
            unreachable: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
            broken: Mutex::new(Some(broken)),
            loss: BrokerLoss::default(),
        }));
        context.stats(Statistics::default());
        assert_eq!(breaks.try_recv(), Err(TryRecvError::Empty), "it may be about to start again from the bootstrap servers");
        context.stats(Statistics::default());
        assert_eq!(breaks.try_recv().as_deref(), Ok(BROKERS_LOST));
    }
}
