//! The shell of the fetcher: fetches when the state says so, hands pages to the producer, records
//! in the ledger.
//!
//! Guarantees:
//! * No page is requested before the budget has room for the largest one.
//! * Where the API gives cursors, no page is requested before all but `fetch_ahead` of the pages
//!   of its run before it are in Kafka, with their cursors on disk.
//! * A run that was accepted stays open in the ledger until it ends, so the next incarnation
//!   continues it.
//!
//! Does not guarantee that a page fetched again gives the same records: the API decides that.

use std::sync::Arc;
use std::time::{Duration, Instant};

use forebay_schemas::error_class::Classified as _;
use forebay_schemas::event::Event;
use forebay_schemas::pipeline::Pipeline;
use forebay_schemas::run::{RunError, Stop};
use forebay_schemas::source_read::Position;
use tokio::sync::watch;
use uuid::Uuid;

use super::client::Client;
use super::deliveries::Deliveries;
use super::error::FetchError;
use super::handle::ScheduledFetches;
use super::page::PagePaths;
use super::page_fetcher::{FetchedPage, HANDOFF_RETRY_INTERVAL, PageFetcher};
use super::pagination::PageLimits;
use super::schedule::Schedule;
use super::state::{Effect, Failure, Patience, State};
use super::watermark::{FetchPass, MarkReader, PageMarks, Seen};
use crate::failpoint::point;
use crate::ledger::{Command, Ledger};
use crate::message::{Page, PageContent, PageProduced, PageRefused, Receipt};
use crate::telemetry::{Stage, Telemetry};
use forebay_kernel::{Actor, Budget, Cx, Exit, MailboxSlot, Outage, SharedClock, millis};

/// A message to the fetcher.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum FetcherMessage {
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
pub(crate) struct FetcherParams {
    /// The pipeline file; it has `[fetcher]`.
    pub pipeline: Arc<Pipeline>,
    /// When to fetch without a trigger.
    pub schedule: Schedule,
    /// The mailbox of the producer's current incarnation.
    pub producer: MailboxSlot<Page>,
    /// The budget of the edge to the producer.
    pub budget: Budget,
    /// Holds the runs and cursors, and records what happens to pages.
    pub ledger: Arc<Ledger>,
    /// How scheduled fetches ended.
    pub scheduled: watch::Sender<ScheduledFetches>,
    /// Totals.
    pub telemetry: Arc<Telemetry>,
    /// The clock.
    pub clock: SharedClock,
}

/// A page on its way to the topic.
#[derive(Clone)]
struct Delivery {
    run: Uuid,
    content: Arc<PageContent>,
    /// The parts of the page that are in Kafka already.
    earlier: PageProduced,
    /// When it was handed over first.
    since: Instant,
}

/// Fetches pages from an API.
pub(crate) struct Fetcher {
    params: FetcherParams,
    state: State,
    /// `None` until the client is built.
    pages: Option<PageFetcher>,
    deliveries: Deliveries<Delivery, Result<PageProduced, PageRefused>>,
    /// The run of each page that is with the producer.
    unsettled: watch::Sender<Vec<Uuid>>,
    /// Reports the current error.
    outage: Outage,
    /// How the last fetch was cut short, if it was. Logged once for consecutive fetches that end
    /// alike.
    cut_short: Option<Stop>,
    /// Whether the last page had records without a mark.
    has_unmarked: bool,
    /// The number of the last timer that was set. Earlier timers are ignored.
    timer: u64,
    stopping: bool,
}

impl Fetcher {
    /// A fetcher of the pipeline's API. Starts with the open runs of the ledger.
    pub(crate) fn new(params: FetcherParams) -> Self {
        let open = params.ledger.open_runs().into_iter().map(|run| (run, params.ledger.read_of(run)));
        let mut state = State::new(params.schedule, params.clock.now(), open);
        if let Some(section) = &params.pipeline.fetcher {
            let (start, limits) = PageLimits::of(section);
            let patience = Patience { max_wait: section.max_wait.0, max_attempts: section.max_attempts };
            state = state.with_patience(patience).with_cursors(start, limits).with_fetch_ahead(section.fetch_ahead as usize);
            state = state.with_max_active(section.max_active_runs as usize).with_interval(section.rate_limit.map(|rate| rate.interval));
        }
        Self {
            params,
            state,
            pages: None,
            deliveries: Deliveries::default(),
            unsettled: watch::Sender::default(),
            outage: Outage::default(),
            cut_short: None,
            has_unmarked: false,
            timer: 0,
            stopping: false,
        }
    }

    fn act(&mut self, effects: Vec<Effect>, cx: &mut Cx<'_, Self>) {
        for effect in effects {
            match effect {
                Effect::Fetch(run) => self.fetch(run, cx),
                Effect::WakeAt(at) => self.wake_at(at, cx),
                Effect::Record(command) => self.record(command),
                Effect::ScheduledFetchEnded(end) => self.scheduled_fetch_ended(end),
                Effect::Failing { error, note } => {
                    if self.outage.report(&cx.progress(), &error, note) {
                        tracing::warn!(error, "fetch failed");
                    }
                }
                Effect::Recovered => {
                    self.outage.clear(&cx.progress());
                    tracing::info!("fetches succeed again");
                }
            }
        }
        // Those of a fetch that has ended stay with the producer.
        self.deliveries.retain(|page| self.state.unsettled(page.run) > 0);
        let runs: Vec<Uuid> = self.deliveries.pages().map(|page| page.run).collect();
        self.unsettled.send_if_modified(|pages| {
            *pages != runs && {
                *pages = runs;
                true
            }
        });
        if self.stopping && self.state.is_idle() {
            cx.exit(Exit::Shutdown);
        }
    }

    fn wake_at(&mut self, at: Instant, cx: &mut Cx<'_, Self>) {
        self.timer += 1;
        let timer = self.timer;
        cx.after(at.saturating_duration_since(self.params.clock.now()), move |actor, cx| {
            if actor.timer == timer {
                let effects = actor.state.wake(actor.params.clock.now(), Uuid::now_v7());
                actor.act(effects, cx);
            }
        });
    }

    fn fetch(&mut self, run: Uuid, cx: &mut Cx<'_, Self>) {
        let Some(pages) = self.pages.clone() else { return };
        let ledger = &self.params.ledger;
        let durable = self.state.durable_before(run, ledger.last_event());
        let Some(fetch) = self.state.fetch_mut(run) else { return };
        let start = || if pages.paths.is_paged { ledger.next_position(run) } else { Position::Begin };
        let position = fetch.position(ledger.last_event(), start);
        let is_first = fetch.is_first();
        let (mut params, mut seen) = (ledger.params(run), Seen::default());
        if pages.client.is_conditional() {
            params.validators = ledger.validators_of(run);
        }
        if let Some(reader) = &pages.marks {
            let (now, is_first_page) = (self.params.clock.wall().into(), position == Position::Begin);
            let pass = fetch.pass(|| FetchPass::of_fetch(reader.section(), ledger.watermark_of(run), is_first_page, now));
            (params.watermark, seen) = (pass.asked().map(str::to_owned), pass.seen());
        }
        let cursor = self.state.cursor(run).map(str::to_owned);
        tracing::debug!(%run, api = pages.client.api(), cursor, "fetching");
        let progress = cx.progress();
        cx.offload(
            async move {
                pages.wait_durable(durable).await?;
                let credit = pages.budget.reserve(pages.max_page_bytes).await;
                let _working = progress.working();
                let page = pages.fetch(run, credit, &params, cursor.as_deref(), is_first, &seen).await;
                page.map_err(|error| error.at(&position, &params))
            },
            move |actor, page, cx| actor.fetched(run, page, cx),
        );
    }

    fn fetched(&mut self, run: Uuid, page: Result<FetchedPage, FetchError>, cx: &mut Cx<'_, Self>) {
        let (now, fresh) = (self.params.clock.now(), Uuid::now_v7());
        cx.progress().tick();
        match page {
            Ok(FetchedPage { content, earlier, info, took }) => {
                point("fetcher::after_fetch");
                let count = earlier.produced + earlier.rejected + info.marks.repeated + content.records.len() as u64;
                self.report_marks(&info.marks);
                if let Some(wait) = info.wait.filter(|wait| !wait.is_zero()) {
                    let reason = "the API's rate limit is used up, by the headers of its answer".to_owned();
                    self.record(Command::Record(Event::SourceThrottled { millis: millis(wait), reason }));
                }
                self.params.telemetry.pages.add(1);
                self.params.telemetry.fetched.add(count);
                self.params.telemetry.answered(if info.is_unchanged { "304" } else { "2xx" });
                self.params.telemetry.stage(Stage::Fetch, took);
                let (produce, effects) = self.state.fetched(run, count, now, fresh, info);
                if produce {
                    self.deliveries.push(Delivery { run, content: Arc::new(content), earlier, since: now });
                    self.deliver(cx);
                }
                self.act(effects, cx);
            }
            Err(error) => {
                self.params.telemetry.fetch_failures.add(1);
                if let Some(class) = error.status_class() {
                    self.params.telemetry.answered(class);
                }
                // The message goes into the log and the journal.
                let error = if self.params.pipeline.api.mask.is_empty() { error } else { error.masked() };
                let (class, retryable, retry_after) = (error.class(), error.is_retryable(), error.retry_after());
                let failure = Failure { class, retryable, retry_after, message: error.to_string() };
                let effects = self.state.failed(run, failure, rand::random(), now, fresh);
                self.act(effects, cx);
            }
        }
    }

    /// Counts the records that were left out of a page, and logs those that have no mark, once for
    /// consecutive pages with such.
    fn report_marks(&mut self, marks: &PageMarks) {
        self.params.telemetry.repeated.add(marks.repeated);
        let has_unmarked = marks.unmarked > 0;
        if has_unmarked && !self.has_unmarked {
            let field = self.pages.as_ref().and_then(|pages| pages.marks.as_ref()).map(|reader| &reader.section().field);
            tracing::warn!(records = marks.unmarked, field, "records have no mark; they are read, and do not move the watermark");
        }
        self.has_unmarked = has_unmarked;
    }

    /// Hands pages to the producer.
    fn deliver(&mut self, cx: &mut Cx<'_, Self>) {
        for (attempt, Delivery { run, content, .. }) in self.deliveries.take_unsent() {
            let (receipt, outcome) = Receipt::new();
            // A page that comes back drops its receipt, which says abandoned.
            let _ = self.params.producer.get().post(Page { run, content, receipt });
            cx.spawn(outcome, move |actor, outcome, cx| actor.delivered(attempt, outcome.ok(), cx));
        }
    }

    fn delivered(&mut self, attempt: u64, outcome: Option<Result<PageProduced, PageRefused>>, cx: &mut Cx<'_, Self>) {
        cx.progress().tick();
        if self.deliveries.ended(attempt, outcome) {
            tracing::debug!("page was abandoned; handing it and those after it over again");
            cx.after(HANDOFF_RETRY_INTERVAL, |actor, cx| {
                actor.deliveries.resume();
                actor.deliver(cx);
            });
        }
        while let Some((page, outcome)) = self.deliveries.settled() {
            let (now, fresh) = (self.params.clock.now(), Uuid::now_v7());
            let effects = match outcome {
                Ok(mut produced) => {
                    produced.merge(&page.earlier);
                    self.params.telemetry.stage(Stage::Produce, now.saturating_duration_since(page.since));
                    self.state.produced(page.run, produced, now, fresh)
                }
                Err(refused) => {
                    self.params.telemetry.fetch_failures.add(1);
                    self.state.refused(page.run, refused, now, fresh)
                }
            };
            self.act(effects, cx);
        }
    }

    /// Submits a command to the ledger, and counts what it says about the API.
    fn record(&mut self, command: Command) {
        match &command {
            Command::RunProduced { stop, .. } => self.fetch_ended(stop.as_ref()),
            Command::Record(Event::SourceThrottled { millis, .. }) => self.params.telemetry.throttled(Duration::from_millis(*millis)),
            _ => {}
        }
        let page_of = if let Command::PageProduced { run, .. } = &command { Some(*run) } else { None };
        // A run may have ended meanwhile: cancelled, for instance.
        if let Err(rejection) = self.params.ledger.submit(command) {
            tracing::debug!(error = %rejection, "the ledger rejected a report on a run");
        }
        if let Some(fetch) = page_of.and_then(|run| self.state.fetch_mut(run)) {
            fetch.recorded(self.params.ledger.last_event());
        }
    }

    fn scheduled_fetch_ended(&mut self, end: Result<Option<Stop>, RunError>) {
        match end {
            Ok(stop) => {
                self.fetch_ended(stop.as_ref());
                self.params.scheduled.send_modify(|scheduled| (scheduled.done, scheduled.stop) = (scheduled.done + 1, stop));
            }
            Err(error) => self.params.scheduled.send_modify(|scheduled| scheduled.failed = Some(error)),
        }
    }

    /// Counts why a fetch stopped. Logs one that was cut short, once for consecutive fetches that
    /// end alike.
    fn fetch_ended(&mut self, stop: Option<&Stop>) {
        let Some(stop) = stop else { return };
        self.params.telemetry.stopped(stop);
        let cut_short = (!stop.complete).then_some(stop);
        if let Some(stop) = cut_short
            && self.cut_short.as_ref().is_none_or(|before| before.reason != stop.reason)
        {
            tracing::warn!(reason = stop.reason.as_str(), cursor = stop.cursor, detail = stop.detail, "fetch was cut short");
        }
        self.cut_short = cut_short.cloned();
    }
}

impl Actor for Fetcher {
    type Message = FetcherMessage;

    fn started(&mut self, cx: &mut Cx<'_, Self>) {
        let FetcherParams { pipeline, schedule, producer, budget, ledger, telemetry, clock, .. } = &self.params;
        let section = pipeline.fetcher.as_ref().expect("a pipeline that ingests has [fetcher]");
        match Client::new(pipeline, section) {
            Ok(client) => {
                tracing::info!(api = client.api(), ?schedule, "fetcher is up");
                telemetry.fetches_from(client.api());
                self.pages = Some(PageFetcher {
                    client,
                    paths: PagePaths::of(section),
                    marks: section.incremental.as_ref().map(|section| Arc::new(MarkReader::new(section))),
                    counted_from: section.paging().filter(|paging| paging.next.is_counted()).and_then(|paging| paging.start),
                    max_page_bytes: section.max_page_bytes.as_usize(),
                    budget: budget.clone(),
                    producer: producer.clone(),
                    unsettled: self.unsettled.subscribe(),
                    ledger: Arc::clone(ledger),
                    clock: clock.clone(),
                });
                let effects = self.state.set_paused(ledger.ingest_stopped(), clock.now(), Uuid::now_v7());
                self.act(effects, cx);
            }
            Err(error) => cx.exit(Exit::Fatal(error.to_string())),
        }
    }

    fn handle(&mut self, message: FetcherMessage, cx: &mut Cx<'_, Self>) {
        let (now, fresh) = (self.params.clock.now(), Uuid::now_v7());
        let effects = match message {
            FetcherMessage::Trigger { run } => self.state.trigger(run, self.params.ledger.read_of(run), now, fresh),
            FetcherMessage::Cancel { run } => self.state.cancel(run, now, fresh),
            FetcherMessage::DesiredStateChanged => self.state.set_paused(self.params.ledger.ingest_stopped(), now, fresh),
            FetcherMessage::StopSchedule => {
                self.state.stop_schedule();
                return;
            }
        };
        self.act(effects, cx);
    }

    /// Lets the pages under way reach Kafka.
    fn stopping(&mut self, cx: &mut Cx<'_, Self>) {
        self.stopping = true;
        self.state.stop();
        if self.state.is_idle() {
            cx.exit(Exit::Shutdown);
        }
    }
}
