//! What ties the tree to what is outside of it: the fetcher's mailbox of the moment, and what the fetcher and the kernel tell the ledger.

use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use forebay_schemas::event::Event;
use forebay_schemas::read::Position;
use forebay_schemas::run::{RunError, Stop};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::sync::watch;
use uuid::Uuid;

use crate::api::Triggers;
use crate::fetcher::{FetcherMessage, RunReports};
use crate::ledger::{Command, Ledger};
use crate::message::PageProduced;
use forebay_kernel::{Mailbox, millis};

/// The fetcher of the moment, for those outside the tree.
#[derive(Clone, Default)]
pub(super) struct FetcherLink(Arc<Mutex<Option<Mailbox<FetcherMessage>>>>);

impl FetcherLink {
    pub(super) fn set(&self, mailbox: Mailbox<FetcherMessage>) {
        *self.0.lock() = Some(mailbox);
    }

    /// A message that finds the fetcher down is not lost: its next incarnation asks the ledger for the open runs.
    pub(super) fn post(&self, message: FetcherMessage) {
        if let Some(mailbox) = &*self.0.lock() {
            let _ = mailbox.post(message);
        }
    }
}

impl Triggers for FetcherLink {
    fn trigger(&self, run: Uuid) {
        self.post(FetcherMessage::Trigger { run });
    }

    fn cancel(&self, run: Uuid) {
        self.post(FetcherMessage::Cancel { run });
    }

    fn pause(&self) {
        self.post(FetcherMessage::Pause);
    }
}

/// What has become of the fetches that nobody asked for.
#[derive(Debug, Clone, Default)]
pub(super) struct Fetches {
    pub(super) done: u64,
    /// How the last of them ended.
    pub(super) stop: Option<Stop>,
    pub(super) failed: Option<RunError>,
}

/// Tells the ledger what the fetcher says.
pub(super) struct Reports {
    pub(super) ledger: Arc<Ledger>,
    pub(super) fetches: watch::Sender<Fetches>,
}

impl Reports {
    /// A report on a run that has ended meanwhile (cancelled, say) changes nothing.
    fn submit(&self, command: Command) {
        if let Err(rejection) = self.ledger.submit(command) {
            tracing::debug!(%rejection, "a report on a run came out of turn");
        }
    }
}

impl RunReports for Reports {
    fn started(&self, run: Uuid) {
        self.submit(Command::Start { run });
    }

    fn fetched(&self, run: Uuid, records: u64, cursor: Option<&str>) {
        self.submit(Command::PageFetched { run, records, cursor: cursor.map(str::to_owned) });
    }

    fn produced(&self, run: Uuid, page: &PageProduced, asked: &Position, cursor: Option<&str>) {
        let PageProduced { ranges, produced, rejected, rejects } = page.clone();
        let (asked, cursor) = (asked.clone(), cursor.map(str::to_owned));
        self.submit(Command::PageProduced { run, ranges, produced, rejected, asked, cursor, rejects });
    }

    fn begins(&self, run: Uuid) -> Position {
        self.ledger.begins(run)
    }

    fn params(&self, run: Uuid) -> BTreeMap<String, String> {
        self.ledger.params(run)
    }

    fn is_paused(&self) -> bool {
        self.ledger.is_held()
    }

    fn settled(&self) -> BoxFuture<'_, Result<(), String>> {
        self.ledger.settled().map(|settled| settled.map_err(|failed| failed.to_string())).boxed()
    }

    fn finished(&self, run: Uuid, stop: Option<Stop>) {
        self.submit(Command::AllProduced { run, stop });
    }

    fn failed(&self, run: Uuid, error: RunError) {
        self.submit(Command::Fail { run, error });
    }

    fn open(&self) -> Vec<Uuid> {
        self.ledger.open_runs()
    }

    fn throttled(&self, wait: Duration, reason: String) {
        self.ledger.saw(Event::SourceThrottled { millis: millis(wait), reason });
    }

    fn scheduled_done(&self, stop: Option<Stop>) {
        self.fetches.send_modify(|fetches| (fetches.done, fetches.stop) = (fetches.done + 1, stop));
    }

    fn scheduled_failed(&self, error: RunError) {
        self.fetches.send_modify(|fetches| fetches.failed = Some(error));
    }
}
