//! The shell: asks the API when the state says so, hands pages to the producer and tells the runs' ledger. Guarantee: no page is asked for
//! before the budget has room for it, nor, where the API gives cursors, before the page before it is in Kafka and the ledger has that on the
//! disk; a run accepted is reported as open until it ends, so the next incarnation fetches it again, from where the ledger says that it is.
//! Not guaranteed: that a page fetched again gives the same records; that is the API's to say.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use forebay_schemas::event::Event;
use forebay_schemas::failure::Classified;
use forebay_schemas::pipeline::{FetcherSection, Pipeline};
use forebay_schemas::read::Position;
use forebay_schemas::run::{RunError, Stop};
use tokio::sync::watch;
use uuid::Uuid;

use super::client::Client;
use super::error::FetchError;
use super::handle::ScheduledFetches;
use super::page::{self, Extracted, Ways};
use super::paging::{Limits, Said};
use super::state::{Effect, Failure, Schedule, State};
use crate::failpoint::{point, point_async};
use crate::ledger::{Command, Ledger};
use crate::message::{BadRecord, Page, PageProduced, PageRefused, RECORD_OVERHEAD, Receipt};
use crate::telemetry::{Stage, Telemetry};
use forebay_kernel::{Actor, Budget, Credit, Cx, Exit, Lease, Mailbox, SharedClock, Slot};

/// Between two tries to hand a page to a producer that is being restarted.
const HAND_OVER: Duration = Duration::from_millis(100);
/// Answers from this size on are taken apart on a thread that may be busy for long.
const LARGE: usize = 256 << 10;

/// A message to the fetcher.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FetcherMessage {
    /// Fetch a run. A run is fetched once, however often it is triggered.
    Trigger {
        /// The run's identifier.
        run: Uuid,
    },
    /// A run was cancelled.
    Cancel {
        /// The run's identifier.
        run: Uuid,
    },
    /// Start no more scheduled fetches. Triggered runs are still fetched.
    StopSchedule,
    /// The desired state of the pipeline has changed; read it from the ledger.
    DesiredStateChanged,
}

/// The inputs of a fetcher.
#[derive(Clone)]
pub struct FetcherParams {
    /// The pipeline file; it has `[fetcher]`.
    pub pipeline: Arc<Pipeline>,
    /// When to fetch without a trigger.
    pub schedule: Schedule,
    /// The producer's mailbox, replaced by each of its incarnations.
    pub producer: Slot<Mailbox<Lease<Page>>>,
    /// The budget of the edge to the producer.
    pub budget: Budget,
    /// Holds the runs, and records what happens to their pages and to those of scheduled fetches.
    pub ledger: Arc<Ledger>,
    /// How scheduled fetches ended.
    pub scheduled: watch::Sender<ScheduledFetches>,
    /// Totals.
    pub telemetry: Arc<Telemetry>,
    /// The clock.
    pub clock: SharedClock,
}

/// Fetches pages from an API.
pub struct Fetcher {
    params: FetcherParams,
    state: State,
    asks: Option<Asks>,
    note: Option<String>,
    /// How the last fetch was cut short, if it was. Logged once for consecutive fetches that end alike.
    cut: Option<Stop>,
    wake: u64,
    stopping: bool,
}

/// What one fetch needs.
#[derive(Clone)]
struct Asks {
    client: Client,
    ways: Ways,
    max_page_bytes: usize,
    budget: Budget,
    ledger: Arc<Ledger>,
    clock: SharedClock,
}

/// The records of a page, and which of them are no JSON.
#[derive(Clone)]
struct Found {
    records: Vec<Bytes>,
    bad: Vec<BadRecord>,
}

/// A page, and the budget it holds.
struct Fetched {
    found: Found,
    said: Said,
    /// From asking for it until its records were found.
    took: Duration,
    credit: Credit,
}

impl Fetcher {
    /// A fetcher of the pipeline's API. Starts with the open runs of the ledger.
    pub fn new(params: FetcherParams) -> Self {
        let mut state = State::new(params.schedule, params.clock.now(), params.ledger.open_runs());
        if let Some(table) = &params.pipeline.fetcher
            && let Some(cursor) = &table.cursor
        {
            let limits = Limits { max_pages: table.max_pages, max_empty_pages: cursor.max_empty_pages };
            state = state.with_cursors(cursor.start.clone(), limits);
        }
        Self { params, state, asks: None, note: None, cut: None, wake: 0, stopping: false }
    }

    fn act(&mut self, effects: Vec<Effect>, cx: &mut Cx<'_, Self>) {
        for effect in effects {
            match effect {
                Effect::Fetch(run) => self.fetch(run, cx),
                Effect::WakeAt(at) => self.wake_at(at, cx),
                Effect::Record(command) => self.record(command),
                Effect::ScheduledFetchEnded(end) => self.scheduled_fetch_ended(end),
                Effect::Failing(message) => {
                    if self.note.as_ref().is_none_or(|note| !same_trouble(note, &message)) {
                        tracing::warn!(error = message, "fetch failed");
                    }
                    cx.progress().waiting(message.clone());
                    self.note = Some(message);
                }
                Effect::Recovered => {
                    tracing::info!("fetches succeed again");
                    cx.progress().clear();
                    self.note = None;
                }
            }
        }
        if self.stopping && self.state.is_idle() {
            cx.exit(Exit::Shutdown);
        }
    }

    fn wake_at(&mut self, at: std::time::Instant, cx: &mut Cx<'_, Self>) {
        self.wake += 1;
        let wish = self.wake;
        cx.after(at.saturating_duration_since(self.params.clock.now()), move |actor, cx| {
            if actor.wake == wish {
                let effects = actor.state.wake(actor.params.clock.now(), Uuid::now_v7());
                actor.act(effects, cx);
            }
        });
    }

    fn fetch(&mut self, run: Uuid, cx: &mut Cx<'_, Self>) {
        let Some(asks) = self.asks.clone() else { return };
        let begins = || if asks.ways.next.is_some() { self.params.ledger.begins(run) } else { Position::Begin };
        let position = self.state.position(begins);
        let (cursor, params) = (self.state.cursor().map(str::to_owned), self.params.ledger.params(run));
        tracing::debug!(%run, api = asks.client.api(), cursor, "fetching");
        let (progress, is_first) = (cx.progress(), self.state.is_first());
        cx.offload(
            async move {
                asks.settled().await?;
                let credit = asks.budget.reserve(asks.max_page_bytes).await;
                let _working = progress.working();
                asks.page(credit, &params, cursor.as_deref(), is_first).await.map_err(|error| error.at(&position, &params))
            },
            move |actor, fetched, cx| actor.fetched(run, fetched, cx),
        );
    }

    fn fetched(&mut self, run: Uuid, fetched: Result<Fetched, FetchError>, cx: &mut Cx<'_, Self>) {
        let (now, fresh) = (self.params.clock.now(), Uuid::now_v7());
        cx.progress().tick();
        match fetched {
            Ok(Fetched { found, said, took, credit }) => {
                point("fetcher::after_fetch");
                let count = found.records.len() as u64;
                self.params.telemetry.pages.add(1);
                self.params.telemetry.fetched.add(count);
                self.params.telemetry.answered("2xx");
                self.params.telemetry.stage(Stage::Fetch, took);
                let (produce, effects) = self.state.fetched(count, now, fresh, said);
                self.act(effects, cx);
                if produce {
                    self.produce(run, found, credit, cx);
                }
            }
            Err(error) => {
                self.params.telemetry.fetch_failures.add(1);
                if let Some(class) = error.status_class() {
                    self.params.telemetry.answered(class);
                }
                // It goes into the log and the journal.
                let error = if self.params.pipeline.api.mask.is_empty() { error } else { error.masked() };
                let (class, retryable, retry_after) = (error.class(), error.is_retryable(), error.retry_after());
                let failure = Failure { class, retryable, retry_after, message: error.to_string() };
                let effects = self.state.failed(failure, rand::random(), now, fresh);
                self.act(effects, cx);
            }
        }
    }

    fn produce(&mut self, run: Uuid, found: Found, credit: Credit, cx: &mut Cx<'_, Self>) {
        let (producer, budget, began) = (self.params.producer.clone(), self.params.budget.clone(), self.params.clock.now());
        cx.offload(deliver(run, found, credit, producer, budget), move |actor, end, cx| {
            let (now, fresh) = (actor.params.clock.now(), Uuid::now_v7());
            cx.progress().tick();
            let effects = match end {
                Ok(produced) => {
                    actor.params.telemetry.stage(Stage::Produce, now.saturating_duration_since(began));
                    actor.state.produced(produced, now, fresh)
                }
                Err(refused) => {
                    actor.params.telemetry.fetch_failures.add(1);
                    actor.state.refused(refused, now, fresh)
                }
            };
            actor.act(effects, cx);
        });
    }

    /// Submits a command to the ledger, and counts what it says of the API.
    fn record(&mut self, command: Command) {
        match &command {
            Command::AllProduced { stop, .. } => self.stopped(stop.as_ref()),
            Command::Saw(Event::SourceThrottled { millis, .. }) => self.params.telemetry.throttled(Duration::from_millis(*millis)),
            _ => {}
        }
        // A run may have ended meanwhile: cancelled, for instance.
        if let Err(rejection) = self.params.ledger.submit(command) {
            tracing::debug!(error = %rejection, "the ledger rejected a report on a run");
        }
    }

    fn scheduled_fetch_ended(&mut self, end: Result<Option<Stop>, RunError>) {
        match end {
            Ok(stop) => {
                self.stopped(stop.as_ref());
                self.params.scheduled.send_modify(|scheduled| (scheduled.done, scheduled.stop) = (scheduled.done + 1, stop));
            }
            Err(error) => self.params.scheduled.send_modify(|scheduled| scheduled.failed = Some(error)),
        }
    }

    /// Says how a fetch ended: what was cut short is in the log, once for all fetches in a row that end alike.
    fn stopped(&mut self, stop: Option<&Stop>) {
        let Some(stop) = stop else { return };
        self.params.telemetry.stopped(stop);
        let cut = (!stop.complete).then_some(stop);
        if let Some(cut) = cut
            && self.cut.as_ref().is_none_or(|before| before.reason != cut.reason)
        {
            tracing::warn!(reason = cut.reason.as_str(), cursor = cut.cursor, detail = cut.detail, "fetch was cut short");
        }
        self.cut = cut.cloned();
    }
}

impl Actor for Fetcher {
    type Message = FetcherMessage;

    fn started(&mut self, cx: &mut Cx<'_, Self>) {
        let FetcherParams { pipeline, schedule, budget, ledger, telemetry, clock, .. } = &self.params;
        let table = pipeline.fetcher.as_ref().expect("a pipeline that ingests has [fetcher]");
        match Client::new(pipeline, table) {
            Ok(client) => {
                tracing::info!(api = client.api(), ?schedule, "fetcher is up");
                telemetry.fetches_from(client.api());
                self.asks = Some(Asks {
                    client,
                    ways: Ways::of(table),
                    max_page_bytes: table.max_page_bytes.as_usize(),
                    budget: budget.clone(),
                    ledger: Arc::clone(ledger),
                    clock: clock.clone(),
                });
                let effects = self.state.set_paused(ledger.is_held(), clock.now(), Uuid::now_v7());
                self.act(effects, cx);
            }
            Err(error) => cx.exit(Exit::Fatal(error.to_string())),
        }
    }

    fn handle(&mut self, message: FetcherMessage, cx: &mut Cx<'_, Self>) {
        let (now, fresh) = (self.params.clock.now(), Uuid::now_v7());
        let effects = match message {
            FetcherMessage::Trigger { run } => self.state.trigger(run, now, fresh),
            FetcherMessage::Cancel { run } => self.state.cancel(run, now, fresh),
            FetcherMessage::DesiredStateChanged => self.state.set_paused(self.params.ledger.is_held(), now, fresh),
            FetcherMessage::StopSchedule => {
                self.state.stop_schedule();
                return;
            }
        };
        self.act(effects, cx);
    }

    /// Lets what is under way reach Kafka.
    fn stopping(&mut self, cx: &mut Cx<'_, Self>) {
        self.stopping = true;
        self.state.stop();
        if self.state.is_idle() {
            cx.exit(Exit::Shutdown);
        }
    }
}

impl Asks {
    /// Waits until the cursor that will be asked with outlives the process; without cursors there is nothing to wait for.
    async fn settled(&self) -> Result<(), FetchError> {
        match self.ways.next {
            Some(_) => self.ledger.settled().await.map_err(|error| FetchError::Journal(error.to_string())),
            None => Ok(()),
        }
    }

    async fn page(
        &self,
        mut credit: Credit,
        params: &BTreeMap<String, String>,
        cursor: Option<&str>,
        is_first: bool,
    ) -> Result<Fetched, FetchError> {
        point_async("fetcher::before_fetch").await;
        let began = self.clock.now();
        let answer = self.client.fetch(self.clock.wall(), params, cursor).await?;
        let bytes = answer.body.len();
        let (body, ways, most) = (answer.body.clone(), self.ways.clone(), self.max_page_bytes);
        let read = move || page::read(&body, &ways, is_first, most);
        let read = if bytes < LARGE {
            read()
        } else {
            tokio::task::spawn_blocking(read).await.unwrap_or_else(|failed| std::panic::resume_unwind(failed.into_panic()))
        };
        let (Extracted { records, bad, .. }, said) = self.client.page(&answer, read)?;
        drop(answer);
        let found = Found { records, bad };
        let took = self.clock.now().saturating_duration_since(began);
        // The records are slices of the body, so all of it stays; bad ones are copies of a part of it.
        let copies: usize = found.bad.iter().map(|bad| found.records[bad.index].len()).sum();
        let weight = bytes + copies + found.records.len() * RECORD_OVERHEAD;
        if weight <= credit.bytes() {
            credit.shrink_to(weight);
        } else {
            // Many small records weigh more than their bytes. Given back first, since two who hold and wait for more would wait for ever.
            drop(credit);
            credit = self.budget.reserve(weight).await;
        }
        Ok(Fetched { found, said, took, credit })
    }
}

/// Hands a page to the producer until one incarnation of it sees the page through.
async fn deliver(
    run: Uuid,
    found: Found,
    credit: Credit,
    producer: Slot<Mailbox<Lease<Page>>>,
    budget: Budget,
) -> Result<PageProduced, PageRefused> {
    let weight = credit.bytes();
    let mut credit = Some(credit);
    loop {
        let held = match credit.take() {
            Some(credit) => credit,
            None => budget.reserve(weight).await,
        };
        let (receipt, end) = Receipt::new();
        let Found { records, bad } = found.clone();
        let lease = Lease::new(Page { run, records, bad, receipt }, held);
        if producer.get().post(lease).is_ok()
            && let Ok(end) = end.await
        {
            return end;
        }
        tracing::debug!(%run, "page was abandoned; handing it over again");
        tokio::time::sleep(HAND_OVER).await;
    }
}

/// Whether two messages say the same but for the count of attempts.
fn same_trouble(one: &str, other: &str) -> bool {
    let cause = |text: &str| text.rsplit_once(" (attempt ").map_or(text.len(), |(cause, _)| cause.len());
    one[..cause(one)] == other[..cause(other)]
}

/// The schedule that the pipeline file asks for.
impl From<&FetcherSection> for Schedule {
    fn from(table: &FetcherSection) -> Self {
        table.every.map_or(Self::OnTrigger, |every| Self::Every(every.0))
    }
}
