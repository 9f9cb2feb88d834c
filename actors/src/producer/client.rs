//! The producing client. Guarantee: acknowledged by all replicas in sync, each record once however often librdkafka sends it, in the order
//! of the page a partition; a page ends when each of its records is answered for; a record that is too large, for the file or for Kafka, costs that
//! record. Not guaranteed: that the records of a page that failed are not in the topic; producing it again gives them the same keys and identifiers.

use parking_lot::Mutex;
use std::ops::Range as Slice;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use forebay_schemas::pipeline;
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
use super::key::{Planned, Recipe};
use super::state::{Destination, Tally};
use crate::broker::{self, Access, BrokerError, Quiet, dead_letter::is_too_large, silence, silent_for};
use crate::message::{Page, PageProduced, PageRefused};
use forebay_dataplane::dead_letter::{DeadLetter, Truncation};
use forebay_dataplane::{Reason, RejectStage, dead_letter, run_counts};
use forebay_kernel::Progress;

/// How long to wait for room in librdkafka's queue before looking again.
const QUEUE_FULL: Duration = Duration::from_millis(2);

/// What becomes of a page.
pub(super) type PageEnd = Result<PageProduced, ProduceError>;

/// A producing client; cheap to clone. The last clone to go takes its unsent records with it, on a thread of its own.
#[derive(Clone)]
pub(super) struct Client(Arc<Inner>);

struct Inner {
    producer: Option<ThreadedProducer<Context>>,
    context: Context,
    recipe: Recipe,
    topic: String,
    dead_letter_topic: String,
    max_record_bytes: usize,
}

/// Where the client produces to, and how.
#[derive(Debug, Clone)]
pub(super) struct Target {
    /// How records become keys and identifiers.
    pub recipe: Recipe,
    /// The topic.
    pub topic: String,
    /// The dead-letter topic.
    pub dead_letter_topic: String,
    /// The largest record, bytes.
    pub max_record_bytes: usize,
}

impl Client {
    /// A client, which tells `progress` of a broker that is away; and where it says why it can't go on.
    ///
    /// # Errors
    /// When librdkafka refuses the properties.
    pub(super) fn new(access: &Access, target: Target, progress: Progress) -> Result<(Self, oneshot::Receiver<String>), BrokerError> {
        let (broken, breaks) = oneshot::channel();
        let context = Context(Arc::new(Shared {
            kafka: access.describe(),
            progress,
            quiet: Quiet::default(),
            away: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
            broken: Mutex::new(Some(broken)),
        }));
        let producer =
            access.producer().create_with_context(context.clone()).map_err(|cause| BrokerError::Properties(cause.to_string()))?;
        let Target { recipe, topic, dead_letter_topic, max_record_bytes } = target;
        Ok((Self(Arc::new(Inner { producer: Some(producer), context, recipe, topic, dead_letter_topic, max_record_bytes })), breaks))
    }

    /// Sends a page, waiting for room in the queue: call it where a thread may wait. The receiver gets the page's end.
    pub(super) fn produce(&self, page: &Page) -> oneshot::Receiver<PageEnd> {
        self.0.send_all(page, 0..page.records.len(), None)
    }

    /// Sends a page of which Kafka has refused a record, and waits for its end: in parts, each when the one before it is acknowledged, so that the order
    /// stays, down to the one record that is refused alone, which becomes a dead letter. What was acknowledged the first time is in the topic twice.
    pub(super) fn produce_in_parts(&self, page: &Page) -> PageEnd {
        self.0.send_part(page, 0..page.records.len())
    }

    /// Whether no broker is reachable, as far as the client knows.
    pub(super) fn is_away(&self) -> bool {
        self.0.context.0.away.load(Ordering::Relaxed)
    }

    /// Gives up on records that wait for room in the queue.
    pub(super) fn stop(&self) {
        self.0.context.0.stopped.store(true, Ordering::Relaxed);
    }
}

/// How the one record of a part is sent that was refused before.
struct Amended {
    /// What is wrong with it; none when it was a letter already.
    reason: Option<Reason>,
    truncation: Truncation,
}

impl Inner {
    /// Sends the records of a part of a page; the receiver gets the part's end. `amended` is for the record of a part of one.
    fn send_all(&self, page: &Page, part: Slice<usize>, amended: Option<&Amended>) -> oneshot::Receiver<PageEnd> {
        let (sender, end) = oneshot::channel();
        let tally = Arc::new(Mutex::new((Tally::default(), Some(sender))));
        let topic = Arc::new(Delivery { page: tally.clone(), to: Destination::Topic });
        let dead = Arc::new(Delivery { page: tally, to: Destination::DeadLetters });
        let run = page.run.as_hyphenated().to_string();
        let first = part.start;
        let mut bad = page.bad.iter().skip_while(|bad| bad.index < first).peekable();
        let mut scratch = Vec::new();
        let mut cut_short = None;
        for at in part {
            let record = &page.records[at];
            let mut planned = match bad.next_if(|bad| bad.index == at) {
                Some(bad) => self.recipe.letter(record, bad.reason.clone(), &mut scratch),
                None => self.recipe.plan(record, &mut scratch),
            };
            if let Planned::Record { key, event } = planned {
                let amended = amended.and_then(|amended| amended.reason.clone());
                let too_large = || (record.len() > self.max_record_bytes).then(|| too_large(record.len(), self.max_record_bytes));
                planned = match amended.or_else(too_large) {
                    Some(reason) => Planned::DeadLetter { key: Some(key), reason, event },
                    None => Planned::Record { key, event },
                };
            }
            let mut text = Uuid::encode_buffer();
            let sent = match planned {
                Planned::Record { key, event } => self.send(&self.topic, &topic, (Some(&key), record), || {
                    own_headers(&run, event, &mut text)
                        .into_iter()
                        .fold(OwnedHeaders::new_with_capacity(2), |all, (key, value)| all.insert(Header { key, value }))
                }),
                Planned::DeadLetter { key, reason, event } => {
                    let truncation = amended.map_or(Truncation::to(self.max_record_bytes), |amended| amended.truncation);
                    let it = DeadLetter {
                        key: key.as_deref(),
                        value: Some(record),
                        stage: RejectStage::Produce,
                        reason: &reason,
                        truncation,
                        unreadable_headers: 0,
                    };
                    dead.page.lock().0.because(&reason);
                    self.send(&self.dead_letter_topic, &dead, (it.key(), it.value().unwrap_or_default()), || {
                        broker::dead_letter::headers(
                            &it,
                            own_headers(&run, event, &mut text).into_iter(),
                            &[(dead_letter::TOPIC, &self.topic)],
                        )
                    })
                }
            };
            if let Err(error) = sent {
                cut_short = Some(error);
                break;
            }
        }
        topic.settle(|tally| tally.seal(cut_short));
        end
    }

    fn send_part(&self, page: &Page, part: Slice<usize>) -> PageEnd {
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
            let record = page.records.get(part.start).map(Bytes::as_ref);
            let is_letter = topic == self.dead_letter_topic;
            let Amended { reason, truncation } =
                amended.take().unwrap_or(Amended { reason: None, truncation: Truncation::to(self.max_record_bytes) });
            amended = if !is_letter {
                Some(Amended { reason: Some(refused(&topic, bytes, cause)), truncation })
            } else {
                let less = if is_too_large(cause) { truncation.next(record) } else { None };
                less.map(|truncation| Amended { reason, truncation })
            };
            if amended.is_none() {
                let why = format!("kafka refuses the dead letter of a record for {topic}: {cause}; look at the settings of that topic");
                return Err(PageRefused(why).into());
            }
        }
    }

    /// Waits for the end of a part, for as long as the client is not stopped.
    fn wait(&self, mut end: oneshot::Receiver<PageEnd>) -> PageEnd {
        let stopped = || Err(ProduceError::Stopped { topic: self.topic.clone() });
        loop {
            match end.try_recv() {
                Ok(end) => return end,
                Err(TryRecvError::Closed) => return stopped(),
                Err(TryRecvError::Empty) if self.context.0.stopped.load(Ordering::Relaxed) => return stopped(),
                Err(TryRecvError::Empty) => std::thread::sleep(QUEUE_FULL),
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
                    std::thread::sleep(QUEUE_FULL);
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

/// librdkafka waits for its threads when it goes, which the caller's thread must not.
impl Drop for Inner {
    fn drop(&mut self) {
        self.context.0.stopped.store(true, Ordering::Relaxed);
        if let Some(producer) = self.producer.take() {
            std::thread::spawn(move || drop(producer));
        }
    }
}

/// What is wrong with a record over the limit.
fn too_large(bytes: usize, most: usize) -> Reason {
    let (bytes, most) = (pipeline::Bytes(bytes as u64), pipeline::Bytes(most as u64));
    Reason::plain(format!(
        "the record is {bytes}, over producer.max_record_bytes ({most}): raise it and the topic's max.message.bytes, or ask the API for smaller records"
    ))
}

/// What is wrong with a record that Kafka refuses.
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

/// The headers that a record has in the topic; `text` is for that of its event.
fn own_headers<'a>(run: &'a str, event: Uuid, text: &'a mut [u8]) -> [(&'static str, Option<&'a [u8]>); 2] {
    let event: &str = event.as_hyphenated().encode_lower(text);
    [(run_counts::RUN_HEADER, Some(run.as_bytes())), (run_counts::EVENT_ID_HEADER, Some(event.as_bytes()))]
}

/// What a record carries through librdkafka: its page, and where it was sent. Two a page, shared by its records.
struct Delivery {
    page: Arc<Mutex<(Tally, Option<oneshot::Sender<PageEnd>>)>>,
    to: Destination,
}

impl Delivery {
    fn settle(&self, change: impl FnOnce(&mut Tally) -> Option<PageEnd>) {
        let mut page = self.page.lock();
        if let Some(end) = change(&mut page.0)
            && let Some(sender) = page.1.take()
        {
            let _ = sender.send(end);
        }
    }
}

/// Hears what librdkafka's threads say.
#[derive(Clone)]
struct Context(Arc<Shared>);

struct Shared {
    kafka: String,
    progress: Progress,
    quiet: Quiet,
    away: AtomicBool,
    stopped: AtomicBool,
    broken: Mutex<Option<oneshot::Sender<String>>>,
}

impl Context {
    fn broke(&self, why: String) {
        if let Some(sender) = self.0.broken.lock().take() {
            let _ = sender.send(why);
        }
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        self.0.quiet.log(level, facility, line);
    }

    fn stats(&self, statistics: Statistics) {
        if let Some(silent) = silent_for(&statistics) {
            self.wait(silence(&self.0.kafka, silent), "no answer");
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        match error.rdkafka_error_code() {
            Some(Code::Fatal) => self.broke(reason.to_owned()),
            Some(Code::AllBrokersDown) => {
                let cause = self.0.quiet.trouble().unwrap_or_else(|| reason.to_owned());
                self.wait(format!("kafka {} is not reachable: {cause}", self.0.kafka), &cause);
            }
            _ => self.0.quiet.error(error, reason),
        }
    }
}

impl Context {
    /// Remembers that records wait, and says so where that is news.
    fn wait(&self, note: String, cause: &str) {
        if !self.0.away.swap(true, Ordering::Relaxed) {
            tracing::warn!(kafka = self.0.kafka, cause, "kafka takes no records; they wait");
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
                if self.0.away.load(Ordering::Relaxed) && self.0.away.swap(false, Ordering::Relaxed) {
                    tracing::info!(kafka = self.0.kafka, "kafka takes records again");
                    self.0.progress.clear();
                }
                delivery.settle(|tally| tally.acked(delivery.to, message.partition(), message.offset()));
            }
            Err((error, message)) => {
                let code = error.rdkafka_error_code().unwrap_or(Code::Unknown);
                let error = ProduceError::of_delivery(message.topic(), message.payload_len(), code);
                delivery.settle(|tally| tally.failed(error));
            }
        }
    }
}
