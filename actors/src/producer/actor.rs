//! The shell of the producer: pages in, receipts out.
//!
//! Guarantees:
//! * A page is held until Kafka has acknowledged every record of it; then its receipt is settled.
//! * Pages are sent in the order in which they arrive. When one is sent again in parts, the pages
//!   that were sent after it are sent again after it, so that the newest record of a key stays the
//!   last one of the topic.
//!
//! Does not guarantee that a page under way when an incarnation ends is not in the topic. Its
//! receipt says abandoned, and producing it again is harmless.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use forebay_schemas::pipeline::Pipeline;
use forebay_schemas::topic_id::TopicId;

use super::client::{Client, PageOutcome, Target};
use super::error::ProduceError;
use super::keyed_record::KeyExtractor;
use crate::broker::{self, Access, BrokerError};
use crate::failpoint::point;
use crate::ledger::Ledger;
use crate::message::{Page, PageRefused};
use crate::telemetry::{Need, Telemetry};
use forebay_kernel::{Actor, Backoff, Cx, Exit, Outage, Progress, Retry, Working};
use forebay_schemas::error_class::{Class, Classified as _};

/// The delays between attempts to find or create the topic.
const BACKOFF: Backoff = Backoff { min: Duration::from_millis(100), max: Duration::from_secs(10) };

/// A page to send.
struct Queued {
    page: Page,
    /// Whether Kafka has refused a record of it, so that it is sent in parts to find that one.
    in_parts: bool,
}

/// Writes pages to the topic.
pub(crate) struct Producer {
    pipeline: Arc<Pipeline>,
    access: Access,
    telemetry: Arc<Telemetry>,
    ledger: Arc<Ledger>,
    client: Option<Client>,
    waiting: VecDeque<Queued>,
    sending: bool,
    /// The number of the page that was sent last.
    sent: u64,
    in_flight: usize,
    /// The pages to send again, by their number, once no page is in flight. Nothing else is sent
    /// until then.
    again: BTreeMap<u64, Queued>,
    working: Option<Working>,
    stopping: bool,
}

impl Producer {
    /// A producer for the pipeline's topic. It records the id of the topic in the ledger before it
    /// writes to it.
    pub(crate) fn new(pipeline: Arc<Pipeline>, access: Access, telemetry: Arc<Telemetry>, ledger: Arc<Ledger>) -> Self {
        Self {
            pipeline,
            access,
            telemetry,
            ledger,
            client: None,
            waiting: VecDeque::new(),
            sending: false,
            sent: 0,
            in_flight: 0,
            again: BTreeMap::new(),
            working: None,
            stopping: false,
        }
    }

    fn connect(&mut self, cx: &mut Cx<'_, Self>) {
        let section = self.pipeline.producer.as_ref().expect("a pipeline that ingests has [producer]");
        let kafka = &self.pipeline.kafka;
        let target = Target {
            keys: KeyExtractor::new(&self.pipeline.meta.name, &kafka.topic, &section.key),
            topic: kafka.topic.clone(),
            dead_letter_topic: kafka.dead_letter_topic(),
            max_record_bytes: section.max_record_bytes.as_usize(),
        };
        match Client::new(&self.access, target, cx.progress()) {
            Ok((client, breaks)) => {
                self.client = Some(client);
                cx.spawn(breaks, |_, reason, cx| {
                    if let Ok(reason) = reason {
                        cx.exit(Exit::Failed(format!("kafka's idempotent producer failed: {reason}")));
                    }
                });
                self.send_next(cx);
            }
            Err(error) => cx.exit(Exit::Fatal(error.to_string())),
        }
    }

    /// Sends the next page, one at a time to keep their order, on a thread that may wait for room
    /// in the queue.
    fn send_next(&mut self, cx: &mut Cx<'_, Self>) {
        let Some(client) = self.client.clone().filter(|_| !self.sending) else { return };
        if !self.again.is_empty() {
            if self.in_flight > 0 {
                return;
            }
            let again = std::mem::take(&mut self.again).into_values().rev();
            again.for_each(|queued| self.waiting.push_front(queued));
        }
        let Some(Queued { page, in_parts }) = self.waiting.pop_front() else { return self.rest(cx) };
        self.sending = true;
        self.in_flight += 1;
        self.sent += 1;
        let number = self.sent;
        self.working.get_or_insert_with(|| cx.progress().working());
        if in_parts {
            cx.compute(
                move || {
                    let end = client.produce_in_parts(&page);
                    (page, end)
                },
                move |actor, (page, end), cx| {
                    actor.sending = false;
                    actor.ended(number, page, end, cx);
                },
            );
            return;
        }
        cx.compute(
            move || {
                point("producer::before_produce");
                let end = client.produce(&page);
                (page, end)
            },
            move |actor, (page, end), cx| {
                actor.sending = false;
                cx.spawn(end, move |actor, end, cx| {
                    let topic = &actor.pipeline.kafka.topic;
                    let end = end.unwrap_or_else(|_| Err(ProduceError::Stopped { topic: topic.clone() }));
                    actor.ended(number, page, end, cx);
                });
                actor.send_next(cx);
            },
        );
    }

    fn ended(&mut self, number: u64, page: Page, outcome: PageOutcome, cx: &mut Cx<'_, Self>) {
        self.in_flight -= 1;
        let follows_another = self.again.keys().next().is_some_and(|first| *first < number);
        match outcome {
            Ok(_) | Err(ProduceError::Refused(_)) if follows_another => {
                self.again.insert(number, Queued { page, in_parts: false });
            }
            Ok(produced) => {
                point("producer::after_produce");
                self.telemetry.produced.add(produced.produced);
                self.telemetry.rejected.add(produced.rejected);
                self.telemetry.refused.add(produced.rejected);
                if let Some(report) = self.telemetry.rejects(&produced.rejects) {
                    let topic = self.pipeline.kafka.dead_letter_topic();
                    let (records, stage, reason) = (report.records, report.top.stage, report.top.reason);
                    tracing::warn!(run = %page.run, records, topic, stage, reason, "records became dead letters; forebay dlq shows them");
                }
                page.receipt.settle(Ok(produced));
            }
            Err(ProduceError::Refused(refused)) => self.refuse(page, refused),
            Err(error @ ProduceError::Record { .. }) => {
                tracing::warn!(run = %page.run, %error, "kafka refused a record; sending the page in parts to find it");
                self.again.insert(number, Queued { page, in_parts: true });
            }
            Err(error) => {
                // Dropping the receipt says that the page was abandoned.
                cx.exit(error.into());
                return;
            }
        }
        self.send_next(cx);
    }

    fn refuse(&self, page: Page, refused: PageRefused) {
        tracing::warn!(run = %page.run, error = %refused, "page was refused");
        page.receipt.settle(Err(refused));
    }

    /// Goes idle when nothing is left to do, and exits if it is stopping.
    fn rest(&mut self, cx: &mut Cx<'_, Self>) {
        if self.in_flight > 0 || !self.waiting.is_empty() || !self.again.is_empty() {
            return;
        }
        self.working = None;
        if self.stopping {
            cx.exit(Exit::Shutdown);
        }
    }
}

impl Actor for Producer {
    type Message = Page;

    fn started(&mut self, cx: &mut Cx<'_, Self>) {
        let ready = topic_ready(self.access.clone(), self.pipeline.clone(), cx.progress());
        cx.offload(ready, |actor, ready, cx| match ready {
            Ok(topic) => {
                // A broker that does not know the newest topic yet changes nothing; the next check
                // does.
                let _ = actor.ledger.observe_topic(topic);
                actor.telemetry.found(Need::Topics);
                actor.connect(cx);
            }
            Err(fatal) => cx.exit(Exit::Fatal(fatal)),
        });
    }

    fn handle(&mut self, page: Page, cx: &mut Cx<'_, Self>) {
        self.waiting.push_back(Queued { page, in_parts: false });
        self.send_next(cx);
    }

    /// Waits for pages under way, unless Kafka is unreachable. A page that is lost is produced
    /// again after the start.
    fn stopping(&mut self, cx: &mut Cx<'_, Self>) {
        self.stopping = true;
        if self.client.as_ref().is_none_or(Client::is_unreachable) {
            cx.exit(Exit::Shutdown);
        } else {
            self.rest(cx);
        }
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        if let Some(client) = &self.client {
            client.stop();
        }
    }
}

/// Ensures that the topic exists, for as long as that takes. Returns its id; `None` from a broker
/// without topic ids. Fails only with an error that a retry won't fix.
async fn topic_ready(access: Access, pipeline: Arc<Pipeline>, progress: Progress) -> Result<Option<TopicId>, String> {
    let (mut retry, mut outage) = (Retry::new(BACKOFF), Outage::default());
    loop {
        match ensure_topics(&access, &pipeline).await {
            Ok(topic) => {
                progress.clear();
                return Ok(topic);
            }
            Err(error) if error.class() == Class::Fatal => return Err(error.to_string()),
            Err(error) => {
                // A broker that starts with this process is unreachable for a moment; that is not
                // worth a warning.
                if retry.attempts() <= 3 {
                    progress.waiting(error.to_string());
                } else if outage.report(&progress, &error, error.to_string()) {
                    tracing::warn!(%error, "topic is not ready; retrying");
                }
                tokio::time::sleep(retry.failed(rand::random())).await;
            }
        }
    }
}

async fn ensure_topics(access: &Access, pipeline: &Pipeline) -> Result<Option<TopicId>, BrokerError> {
    broker::ensure_topics(access, pipeline).await?;
    broker::topic_id(access, &pipeline.kafka.topic).await
}
