//! The shell: asks the API when the state says so, hands pages to the producer and tells the runs' ledger. Guarantee: no page is asked for
//! before the budget has room for it, nor, where the API gives cursors, before the page before it is in Kafka and the ledger has that on the
//! disk; a run accepted is reported as open until it ends, so the next incarnation fetches it again, from where the ledger says that it is.
//! Not guaranteed: that a page fetched again gives the same records; that is the API's to say.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use forebay_schemas::failure::Classified;
use forebay_schemas::pipeline::{FetcherSection, Pipeline};
use forebay_schemas::read::Position;
use forebay_schemas::run::{RunError, Stop};
use futures_util::future::BoxFuture;
use uuid::Uuid;

use super::client::Client;
use super::error::FetchError;
use super::page::{self, Extracted, Ways};
use super::paging::{Limits, Said};
use super::state::{Effect, Failure, Report, Schedule, State};
use crate::failpoint::{point, point_async};
use crate::message::{BadRecord, Page, PageProduced, PageRefused, RECORD_OVERHEAD, Receipt};
use crate::telemetry::{Stage, Telemetry};
use forebay_kernel::{Actor, Budget, Credit, Cx, Exit, Lease, Mailbox, SharedClock, Slot};

/// Between two tries to hand a page to a producer that is being restarted.
const HAND_OVER: Duration = Duration::from_millis(100);
/// Answers from this size on are taken apart on a thread that may be busy for long.
const LARGE: usize = 256 << 10;

/// What the fetcher is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FetcherMessage {
    /// Somebody asks for a run.
    Trigger {
        /// Its identifier; the same run is fetched once however often it is asked for.
        run: Uuid,
    },
    /// Somebody calls a run off.
    Cancel {
        /// Its identifier.
        run: Uuid,
    },
    /// No more scheduled fetches; triggered ones go on.
    Hold,
    /// What [`RunReports::is_paused`] says may have changed.
    Pause,
}

/// Whom the fetcher tells what happens to runs, and to the pages of scheduled fetches. A run that an incarnation had begun is told of again
/// by the next, from `started` on.
pub trait RunReports: Send + Sync {
    /// The triggered runs that are asked for and not wholly in Kafka, oldest first: what an incarnation begins with.
    fn open(&self) -> Vec<Uuid>;
    /// The fetcher is at work on it.
    fn started(&self, run: Uuid);
    /// A page of it is here; `cursor` is what it was asked with.
    fn fetched(&self, run: Uuid, records: u64, cursor: Option<&str>);
    /// The page that was asked for at `asked` is in Kafka; `cursor` is what the next is to be asked with, if that changed.
    fn produced(&self, run: Uuid, page: &PageProduced, asked: &Position, cursor: Option<&str>);
    /// Where the next page of a fetch is that begins, or goes on in another incarnation: each page that was reported as produced is before it.
    fn begins(&self, run: Uuid) -> Position;
    /// The query parameters that a run sets for its pages; none of a scheduled fetch.
    fn params(&self, run: Uuid) -> BTreeMap<String, String>;
    /// Whether no page is to be asked for.
    fn is_paused(&self) -> bool;
    /// Waits until all that was told so far outlives the process; an error says why it can't.
    fn settled(&self) -> BoxFuture<'_, Result<(), String>>;
    /// All of it is in Kafka, and why no further page was asked for.
    fn finished(&self, run: Uuid, stop: Option<Stop>);
    /// It ended without success.
    fn failed(&self, run: Uuid, error: RunError);
    /// The API is left alone for a while.
    fn throttled(&self, wait: Duration, reason: String);
    /// A scheduled fetch is in Kafka, and why no further page was asked for; nothing when the schedule was put on hold.
    fn scheduled_done(&self, stop: Option<Stop>);
    /// A scheduled fetch gave nothing that can be produced, and asking again at once would give the same.
    fn scheduled_failed(&self, error: RunError);
}

/// What a fetcher is connected to.
#[derive(Clone)]
pub struct Connections {
    /// The producer's mailbox, set anew by each of its incarnations.
    pub producer: Slot<Mailbox<Lease<Page>>>,
    /// The budget of the edge to the producer.
    pub budget: Budget,
    /// Who is told of runs.
    pub reports: Arc<dyn RunReports>,
    /// Totals.
    pub telemetry: Arc<Telemetry>,
    /// The clock.
    pub clock: SharedClock,
}

/// Asks an API for pages.
pub struct Fetcher {
    pipeline: Arc<Pipeline>,
    schedule: Schedule,
    to: Connections,
    state: State,
    asks: Option<Asks>,
    note: Option<String>,
    /// How the last fetch was cut short, if it was; said once for all those that end alike.
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
    reports: Arc<dyn RunReports>,
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
    /// A fetcher of the pipeline's API.
    pub fn new(pipeline: Arc<Pipeline>, schedule: Schedule, to: Connections) -> Self {
        let mut state = State::new(schedule, to.clock.now(), to.reports.open());
        if let Some(table) = &pipeline.fetcher
            && let Some(cursor) = &table.cursor
        {
            let limits = Limits { max_pages: table.max_pages, max_empty_pages: cursor.max_empty_pages };
            state = state.with_cursors(cursor.start.clone(), limits);
        }
        Self { pipeline, schedule, to, state, asks: None, note: None, cut: None, wake: 0, stopping: false }
    }

    fn table(&self) -> &FetcherSection {
        self.pipeline.fetcher.as_ref().expect("a pipeline that ingests has [fetcher]")
    }

    fn act(&mut self, effects: Vec<Effect>, cx: &mut Cx<'_, Self>) {
        for effect in effects {
            match effect {
                Effect::Fetch(run) => self.fetch(run, cx),
                Effect::WakeAt(at) => self.wake_at(at, cx),
                Effect::Report(report) => self.report(report),
                Effect::Trouble(message) => {
                    if self.note.as_ref().is_none_or(|note| !same_trouble(note, &message)) {
                        tracing::warn!(trouble = message, "fetch failed");
                    }
                    cx.progress().waiting(message.clone());
                    self.note = Some(message);
                }
                Effect::Well => {
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
        cx.after(at.saturating_duration_since(self.to.clock.now()), move |actor, cx| {
            if actor.wake == wish {
                let effects = actor.state.wake(actor.to.clock.now(), Uuid::now_v7());
                actor.act(effects, cx);
            }
        });
    }

    fn fetch(&mut self, run: Uuid, cx: &mut Cx<'_, Self>) {
        let Some(asks) = self.asks.clone() else { return };
        let begins = || if asks.ways.next.is_some() { self.to.reports.begins(run) } else { Position::Begin };
        let position = self.state.position(begins);
        let (cursor, params) = (self.state.cursor().map(str::to_owned), self.to.reports.params(run));
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
        let (now, fresh) = (self.to.clock.now(), Uuid::now_v7());
        cx.progress().tick();
        match fetched {
            Ok(Fetched { found, said, took, credit }) => {
                point("fetcher::after_fetch");
                let count = found.records.len() as u64;
                self.to.telemetry.pages.add(1);
                self.to.telemetry.fetched.add(count);
                self.to.telemetry.answered("2xx");
                self.to.telemetry.stage(Stage::Fetch, took);
                let (produce, effects) = self.state.fetched(count, now, fresh, said);
                self.act(effects, cx);
                if produce {
                    self.produce(run, found, credit, cx);
                }
            }
            Err(error) => {
                self.to.telemetry.fetch_failures.add(1);
                if let Some(class) = error.status_class() {
                    self.to.telemetry.answered(class);
                }
                // It goes into the log and the journal.
                let error = if self.pipeline.api.mask.is_empty() { error } else { error.masked() };
                let (class, retryable, retry_after) = (error.class(), error.is_retryable(), error.retry_after());
                let failure = Failure { class, retryable, retry_after, message: error.to_string() };
                let effects = self.state.failed(failure, rand::random(), now, fresh);
                self.act(effects, cx);
            }
        }
    }

    fn produce(&mut self, run: Uuid, found: Found, credit: Credit, cx: &mut Cx<'_, Self>) {
        let (producer, budget, began) = (self.to.producer.clone(), self.to.budget.clone(), self.to.clock.now());
        cx.offload(deliver(run, found, credit, producer, budget), move |actor, end, cx| {
            let (now, fresh) = (actor.to.clock.now(), Uuid::now_v7());
            cx.progress().tick();
            let effects = match end {
                Ok(produced) => {
                    actor.to.telemetry.stage(Stage::Produce, now.saturating_duration_since(began));
                    actor.state.produced(produced, now, fresh)
                }
                Err(refused) => {
                    actor.to.telemetry.fetch_failures.add(1);
                    actor.state.refused(refused, now, fresh)
                }
            };
            actor.act(effects, cx);
        });
    }

    fn report(&mut self, report: Report) {
        if let Report::Finished(_, stop) | Report::ScheduledDone(stop) = &report {
            self.stopped(stop.as_ref());
        }
        let to = &self.to.reports;
        match report {
            Report::Started(run) => to.started(run),
            Report::Fetched(run, records, cursor) => to.fetched(run, records, cursor.as_deref()),
            Report::Produced(run, page, asked, cursor) => to.produced(run, &page, &asked, cursor.as_deref()),
            Report::Finished(run, stop) => to.finished(run, stop),
            Report::Failed(run, error) => to.failed(run, error),
            Report::Throttled(wait, reason) => {
                self.to.telemetry.throttled(wait);
                to.throttled(wait, reason);
            }
            Report::ScheduledDone(stop) => to.scheduled_done(stop),
            Report::ScheduledFailed(error) => to.scheduled_failed(error),
        }
    }

    /// Says how a fetch ended: what was cut short is in the log, once for all fetches in a row that end alike.
    fn stopped(&mut self, stop: Option<&Stop>) {
        let Some(stop) = stop else { return };
        self.to.telemetry.stopped(stop);
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
        let table = self.table();
        let max_page_bytes = table.max_page_bytes.as_usize();
        let ways = Ways::of(table);
        match Client::new(&self.pipeline, table) {
            Ok(client) => {
                tracing::info!(api = client.api(), schedule = ?self.schedule, "fetcher is up");
                self.to.telemetry.fetches_from(client.api());
                let (budget, reports, clock) = (self.to.budget.clone(), Arc::clone(&self.to.reports), self.to.clock.clone());
                self.asks = Some(Asks { client, ways, max_page_bytes, budget, reports, clock });
                let effects = self.state.pause(self.to.reports.is_paused(), self.to.clock.now(), Uuid::now_v7());
                self.act(effects, cx);
            }
            Err(error) => cx.exit(Exit::Fatal(error.to_string())),
        }
    }

    fn handle(&mut self, message: FetcherMessage, cx: &mut Cx<'_, Self>) {
        let (now, fresh) = (self.to.clock.now(), Uuid::now_v7());
        let effects = match message {
            FetcherMessage::Trigger { run } => self.state.trigger(run, now, fresh),
            FetcherMessage::Cancel { run } => self.state.cancel(run, now, fresh),
            FetcherMessage::Pause => self.state.pause(self.to.reports.is_paused(), now, fresh),
            FetcherMessage::Hold => {
                self.state.hold();
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
            Some(_) => self.reports.settled().await.map_err(FetchError::Journal),
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
        let copies: usize = found.bad.iter().map(|bad| found.records[bad.at].len()).sum();
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
