//! The shell: pages in, receipts out. Guarantee: a page's lease is held until Kafka has acknowledged every record of it, and its receipt
//! settled then; pages are sent in the order they come. Not guaranteed: that a page which was under way when an incarnation ended is
//! not in the topic; its receipt says abandoned, and producing it again is harmless.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use forebay_schemas::pipeline::Pipeline;
use forebay_schemas::topic::TopicId;

use super::client::{Client, PageEnd, Target};
use super::error::ProduceError;
use super::key::Recipe;
use crate::broker::{self, Access, BrokerError};
use crate::failpoint::point;
use crate::ledger::Ledger;
use crate::message::{Page, PageRefused};
use crate::telemetry::{Need, Telemetry};
use forebay_kernel::{Actor, Backoff, Cx, Exit, Lease, Progress, Working};
use forebay_schemas::failure::{Class, Classified};

/// Between two tries to find or make the topic.
const BACKOFF: Backoff = Backoff { min: Duration::from_millis(100), max: Duration::from_secs(10) };

/// Puts pages into the topic.
pub struct Producer {
    pipeline: Arc<Pipeline>,
    access: Access,
    telemetry: Arc<Telemetry>,
    ledger: Arc<Ledger>,
    client: Option<Client>,
    waiting: VecDeque<Lease<Page>>,
    sending: bool,
    in_flight: usize,
    working: Option<Working>,
    stopping: bool,
}

impl Producer {
    /// A producer for the pipeline's topic. The ledger is told which topic that is before anything is put into it. The caller hands its mailbox
    /// to the fetchers.
    pub fn new(pipeline: Arc<Pipeline>, access: Access, telemetry: Arc<Telemetry>, ledger: Arc<Ledger>) -> Self {
        Self {
            pipeline,
            access,
            telemetry,
            ledger,
            client: None,
            waiting: VecDeque::new(),
            sending: false,
            in_flight: 0,
            working: None,
            stopping: false,
        }
    }

    fn connect(&mut self, cx: &mut Cx<'_, Self>) {
        let table = self.pipeline.producer.as_ref().expect("a pipeline that ingests has [producer]");
        let kafka = &self.pipeline.kafka;
        let target = Target {
            recipe: Recipe::new(&self.pipeline.meta.name, &kafka.topic, &table.key),
            topic: kafka.topic.clone(),
            dead_letter_topic: kafka.dead_letter_topic(),
            max_record_bytes: table.max_record_bytes.as_usize(),
        };
        match Client::new(&self.access, target, cx.progress()) {
            Ok((client, breaks)) => {
                self.client = Some(client);
                cx.spawn(breaks, |_, why, cx| {
                    if let Ok(why) = why {
                        cx.exit(Exit::Failed(format!("kafka's idempotent producer can't go on: {why}")));
                    }
                });
                self.send_next(cx);
            }
            Err(error) => cx.exit(Exit::Fatal(error.to_string())),
        }
    }

    /// Sends the next page, one at a time, for their order; it waits for room on a thread of the pool.
    fn send_next(&mut self, cx: &mut Cx<'_, Self>) {
        let Some(client) = self.client.clone().filter(|_| !self.sending) else { return };
        let Some(page) = self.waiting.pop_front() else { return self.rest(cx) };
        self.sending = true;
        self.in_flight += 1;
        self.working.get_or_insert_with(|| cx.progress().working());
        cx.compute(
            move || {
                point("producer::before_produce");
                let end = client.produce(&page.body);
                (page, end)
            },
            |actor, (page, end), cx| {
                actor.sending = false;
                cx.spawn(end, |actor, end, cx| {
                    let topic = &actor.pipeline.kafka.topic;
                    let end = end.unwrap_or_else(|_| Err(ProduceError::Stopped { topic: topic.clone() }));
                    actor.ended(page, end, cx);
                });
                actor.send_next(cx);
            },
        );
    }

    /// Sends a page again of which Kafka has refused a record, to find out which.
    fn send_in_parts(&mut self, page: Lease<Page>, cx: &mut Cx<'_, Self>) {
        let Some(client) = self.client.clone() else { return };
        self.in_flight += 1;
        cx.compute(
            move || {
                let end = client.produce_in_parts(&page.body);
                (page, end)
            },
            |actor, (page, end), cx| actor.ended(page, end, cx),
        );
    }

    fn ended(&mut self, page: Lease<Page>, end: PageEnd, cx: &mut Cx<'_, Self>) {
        self.in_flight -= 1;
        match end {
            Ok(produced) => {
                point("producer::after_produce");
                self.telemetry.produced.add(produced.produced);
                self.telemetry.rejected.add(produced.rejected);
                self.telemetry.refused.add(produced.rejected);
                if let Some(said) = self.telemetry.rejects(&produced.rejects) {
                    let topic = self.pipeline.kafka.dead_letter_topic();
                    let (records, stage, reason) = (said.records, said.top.stage, said.top.reason);
                    tracing::warn!(run = %page.body.run, records, topic, stage, reason, "records became dead letters; forebay dlq shows them");
                }
                page.body.receipt.settle(Ok(produced));
            }
            Err(ProduceError::Refused(refused)) => self.refuse(page, refused),
            Err(error @ ProduceError::Record { .. }) => {
                tracing::warn!(run = %page.body.run, %error, "the page is produced again in parts, to find out which record it is");
                return self.send_in_parts(page, cx);
            }
            Err(error) => {
                // The receipt is dropped, which says that the page was abandoned.
                cx.exit(error.into());
                return;
            }
        }
        self.rest(cx);
    }

    fn refuse(&self, page: Lease<Page>, refused: PageRefused) {
        tracing::warn!(run = %page.body.run, %refused, "page is refused");
        page.body.receipt.settle(Err(refused));
    }

    /// Rests when nothing is left to do, for good when asked to stop.
    fn rest(&mut self, cx: &mut Cx<'_, Self>) {
        if self.in_flight > 0 || !self.waiting.is_empty() {
            return;
        }
        self.working = None;
        if self.stopping {
            cx.exit(Exit::Shutdown);
        }
    }
}

impl Actor for Producer {
    type Message = Lease<Page>;

    fn started(&mut self, cx: &mut Cx<'_, Self>) {
        let ready = ready(self.access.clone(), self.pipeline.clone(), cx.progress());
        cx.offload(ready, |actor, ready, cx| match ready {
            Ok(topic) => {
                // A broker that has not heard of a newer topic says nothing new; the next look does.
                let _ = actor.ledger.saw_topic(topic);
                actor.telemetry.there(Need::Topics);
                actor.connect(cx);
            }
            Err(fatal) => cx.exit(Exit::Fatal(fatal)),
        });
    }

    fn handle(&mut self, page: Lease<Page>, cx: &mut Cx<'_, Self>) {
        self.waiting.push_back(page);
        self.send_next(cx);
    }

    /// Waits for what Kafka is being sent, unless it is away; what is lost is produced again after the start.
    fn stopping(&mut self, cx: &mut Cx<'_, Self>) {
        self.stopping = true;
        if self.client.as_ref().is_none_or(Client::is_away) {
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

/// Makes sure of the topic, for as long as it takes, and says which it is; none from a broker that gives no ids. The error is one that trying again
/// won't mend.
async fn ready(access: Access, pipeline: Arc<Pipeline>, progress: Progress) -> Result<Option<TopicId>, String> {
    let mut said = String::new();
    let mut attempt = 0_u32;
    loop {
        match ensured(&access, &pipeline).await {
            Ok(topic) => {
                progress.clear();
                return Ok(topic);
            }
            Err(error) if error.class() == Class::Fatal => return Err(error.to_string()),
            Err(error) => {
                let error = error.to_string();
                // A broker that starts with this process is away for a moment; that is no news.
                if attempt > 3 && error != said {
                    tracing::warn!(%error, "topic is not ready; trying again");
                    said.clone_from(&error);
                }
                progress.waiting(error);
                let delay = BACKOFF.delay(attempt, rand::random());
                tokio::time::sleep(delay).await;
                attempt = attempt.saturating_add(1);
            }
        }
    }
}

async fn ensured(access: &Access, pipeline: &Pipeline) -> Result<Option<TopicId>, BrokerError> {
    broker::ensure_topics(access, pipeline).await?;
    broker::topic_id(access, &pipeline.kafka.topic).await
}
