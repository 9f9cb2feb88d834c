//! A fetch under way: its position, its pages that are not in Kafka yet, and how it ends. Pure.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use forebay_kernel::{Backoff, Retry};
use forebay_schemas::run::{RunError, Stop};
use forebay_schemas::source_read::{Position, Read, Validators};
use uuid::Uuid;

use super::pagination::{NextStep, PageHistory};
use super::state::Effect;
use super::watermark::{FetchPass, PageMarks};
use crate::ledger::Command;

/// The delays between attempts at one page.
const BACKOFF: Backoff = Backoff { min: Duration::from_millis(500), max: Duration::from_secs(60) };

/// The fetch of a run, or of the schedule.
#[derive(Debug)]
pub(crate) struct ActiveFetch {
    pub(super) run: Uuid,
    /// No other fetch of it is under way.
    pub(super) read: Read,
    pub(super) triggered: bool,
    /// When the page was first requested.
    pub(super) since: Instant,
    /// The attempts at the page.
    pub(super) retry: Retry,
    /// The pages so far.
    pub(super) history: PageHistory,
    /// Where the fetch that it continues would have continued. From elsewhere on, that one's pages
    /// are not its own: an operator has set the cursor.
    continues_at: Option<Position>,
    /// The position of the page; `None` until [`ActiveFetch::position`] asks where the fetch
    /// starts.
    pub(super) position: Option<Position>,
    /// The last event of the ledger when the page was requested.
    pub(super) requested: u64,
    /// What it asks for, where the source is incremental.
    pub(super) pass: Option<FetchPass>,
    /// The pages that are not in Kafka yet, oldest first.
    pub(super) unsettled: VecDeque<Unsettled>,
    /// The events of its pages in Kafka that may not be on disk yet, oldest first; at most twice as
    /// many as are fetched ahead, and one.
    recorded: VecDeque<u64>,
    pub(super) phase: Phase,
}

/// A page that arrived and is not in Kafka yet.
#[derive(Debug)]
pub(super) struct Unsettled {
    /// The position that it was requested at.
    pub(super) asked: Position,
    /// The last event of the ledger then.
    pub(super) requested: u64,
    /// The cursor that it was requested with.
    pub(super) cursor: Option<String>,
    pub(super) records: u64,
    /// The marks of its records.
    pub(super) marks: PageMarks,
    /// What it said of itself.
    pub(super) validators: Option<Validators>,
    /// What follows from it.
    pub(super) step: NextStep,
}

/// What a fetch does about its next page.
#[derive(Debug)]
pub(super) enum Phase {
    /// It is requested.
    Requested,
    /// It is requested at this time, or when the pipeline resumes, pages are settled or the rate
    /// limit allows it after that.
    Due(Instant),
    /// There is none to request. The fetch ends once its pages are settled.
    Last(End),
    /// It is requested, and will be discarded: the fetch has ended.
    Discarded,
}

/// How a fetch ends whose pages are settled.
#[derive(Debug)]
pub(super) enum End {
    /// All of it is in Kafka, and its last page says why it stops; `None` when the schedule was
    /// stopped.
    Stopped(Option<Stop>),
    /// The request of its next page failed, and so does the run.
    Failed(RunError),
    /// A scheduled fetch will be retried.
    Retried(Box<PendingRetry>),
}

/// A scheduled fetch that will be retried. It continues where its read is by then: another fetch of
/// the same read, or an operator, may move the cursor meanwhile.
#[derive(Debug)]
pub(super) struct PendingRetry {
    pub(super) at: Instant,
    /// When its next page was first requested.
    pub(super) since: Instant,
    /// The attempts at its next page.
    pub(super) retry: Retry,
    /// Its pages that are in Kafka.
    pub(super) history: PageHistory,
    /// Where it would continue.
    pub(super) position: Option<Position>,
}

impl ActiveFetch {
    /// A fetch whose first page is due `now`.
    pub(super) fn new(run: Uuid, read: Read, triggered: bool, now: Instant) -> Self {
        Self {
            run,
            read,
            triggered,
            since: now,
            retry: Retry::new(BACKOFF),
            history: PageHistory::default(),
            continues_at: None,
            position: None,
            requested: 0,
            pass: None,
            unsettled: VecDeque::new(),
            recorded: VecDeque::new(),
            phase: Phase::Due(now),
        }
    }

    /// Continues a fetch that failed.
    pub(super) fn retried(self, failed: PendingRetry) -> Self {
        Self { since: failed.since, retry: failed.retry, history: failed.history, continues_at: failed.position, ..self }
    }

    /// Whether the page to fetch is the first of its fetch. Call [`ActiveFetch::position`] before.
    pub(crate) fn is_first(&self) -> bool {
        self.history.is_first()
    }

    /// The position of the page to fetch, whose request follows event `requested`. `start` says
    /// where the fetch starts.
    pub(crate) fn position(&mut self, requested: u64, start: impl FnOnce() -> Position) -> Position {
        self.requested = requested;
        let (continues_at, history) = (&mut self.continues_at, &mut self.history);
        let start = || {
            let start = start();
            if continues_at.take().is_some_and(|at| at != start) {
                *history = PageHistory::default();
            }
            start
        };
        self.position.get_or_insert_with(start).clone()
    }

    /// What the fetch asks for; `start` says so at its first page.
    pub(crate) fn pass(&mut self, start: impl FnOnce() -> FetchPass) -> &FetchPass {
        self.pass.get_or_insert_with(start)
    }

    /// How many of its pages have arrived and are not in Kafka yet.
    pub(crate) fn unsettled(&self) -> usize {
        self.unsettled.len()
    }

    /// A page of it is in Kafka; `event` of the ledger says so.
    pub(crate) fn recorded(&mut self, event: u64) {
        self.recorded.push_back(event);
    }

    /// The event that must be on disk before the next page is requested, so that a crash repeats at
    /// most `fetch_ahead` requests; 0 when there is none. Before the fetch knows where it starts,
    /// it is the `last` event of the ledger.
    pub(super) fn durable_before(&mut self, fetch_ahead: usize, last: u64) -> u64 {
        if self.position.is_none() {
            return last;
        }
        let need_not = fetch_ahead.saturating_sub(self.unsettled.len());
        let waited = self.recorded.len().saturating_sub(need_not);
        self.recorded.drain(..waited).next_back().unwrap_or_default()
    }

    /// Whether it has no page left to request or to settle.
    pub(super) fn is_over(&self) -> bool {
        self.unsettled.is_empty() && matches!(self.phase, Phase::Last(_))
    }

    /// Whether nothing of it is being fetched or produced.
    pub(super) fn is_idle(&self) -> bool {
        self.unsettled.is_empty() && matches!(self.phase, Phase::Due(_))
    }

    /// The record of the oldest page, whose predecessors are in Kafka. It is due only then, since
    /// what a restart fetches again must not be counted.
    pub(super) fn oldest_fetched(&self) -> Option<Effect> {
        let oldest = self.unsettled.front()?;
        let (records, cursor) = (oldest.records, oldest.cursor.clone());
        Some(Effect::Record(Command::PageFetched { run: self.run, records, cursor }))
    }
}
