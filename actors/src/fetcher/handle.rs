//! The fetcher as the rest of the process sees it: a handle to trigger it, and how its scheduled
//! fetches ended.
//!
//! Does not guarantee delivery: a message that finds the fetcher down is dropped. The next
//! incarnation reads the open runs and the desired state from the ledger, so nothing is lost.

use forebay_schemas::run::{RunError, Stop};
use uuid::Uuid;

use super::FetcherMessage;
use forebay_kernel::{Mailbox, MailboxSlot};

/// Sends messages to the current incarnation of the fetcher. Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct FetcherHandle(MailboxSlot<FetcherMessage>);

impl FetcherHandle {
    /// Sets the mailbox of a new incarnation.
    pub(crate) fn set(&self, mailbox: Mailbox<FetcherMessage>) {
        self.0.set(mailbox);
    }

    /// A run was requested.
    pub(crate) fn trigger(&self, run: Uuid) {
        self.post(FetcherMessage::Trigger { run });
    }

    /// A run was cancelled.
    pub(crate) fn cancel(&self, run: Uuid) {
        self.post(FetcherMessage::Cancel { run });
    }

    /// The desired state of the pipeline has changed.
    pub(crate) fn desired_state_changed(&self) {
        self.post(FetcherMessage::DesiredStateChanged);
    }

    /// Starts no more scheduled fetches. Triggered runs are still fetched.
    pub(crate) fn stop_schedule(&self) {
        self.post(FetcherMessage::StopSchedule);
    }

    fn post(&self, message: FetcherMessage) {
        if let Some(mailbox) = self.0.try_get() {
            // Fails if the incarnation has ended. The next one reads the ledger.
            let _ = mailbox.post(message);
        }
    }
}

/// How the scheduled fetches of this process ended. They are not runs, so the ledger does not
/// record it.
#[derive(Debug, Clone, Default)]
pub(crate) struct ScheduledFetches {
    /// Fetches whose pages are all in Kafka.
    pub(crate) done: u64,
    /// Why the last of them stopped; `None` when the schedule was stopped.
    pub(crate) stop: Option<Stop>,
    /// Why the last fetch that produced nothing failed.
    pub(crate) failed: Option<RunError>,
}
