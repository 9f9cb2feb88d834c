//! The operations of the writer that wait for a server, and the one status note that says so.
//!
//! Guarantees:
//! * An error is logged once, however many operations wait because of it.
//! * The note is cleared, and the recovery logged, when the last of them has stopped waiting.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use forebay_kernel::{Outage, Progress};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::sleep;

use super::error::WriterError;

/// The waiting operations.
pub(super) struct Outages {
    progress: Progress,
    waiting: Mutex<Waiting>,
    /// Wakes waiters when a server is available again, before their delay has passed.
    recovered: Notify,
    next_id: AtomicU64,
}

#[derive(Default)]
struct Waiting {
    operations: BTreeSet<u64>,
    outage: Outage,
}

impl Outages {
    pub(super) fn new(progress: Progress) -> Self {
        Self { progress, waiting: Mutex::default(), recovered: Notify::new(), next_id: AtomicU64::new(0) }
    }

    /// Whether an operation waits.
    pub(super) fn any(&self) -> bool {
        !self.waiting.lock().operations.is_empty()
    }

    /// Registers an operation that may have to wait.
    pub(super) fn guard(self: &Arc<Self>) -> OutageGuard {
        OutageGuard { id: self.next_id.fetch_add(1, Ordering::Relaxed), outages: Arc::clone(self) }
    }

    /// Wakes all waiters: a server is available.
    pub(super) fn wake_all(&self) {
        self.recovered.notify_waiters();
    }
}

/// One operation that may wait. It stops waiting when it is dropped.
pub(super) struct OutageGuard {
    id: u64,
    outages: Arc<Outages>,
}

impl OutageGuard {
    /// The operation waits because of `error`.
    pub(super) fn report(&self, error: &WriterError, note: String) {
        let mut waiting = self.outages.waiting.lock();
        waiting.operations.insert(self.id);
        if waiting.outage.report(&self.outages.progress, error, note) {
            tracing::warn!(%error, "write failed, retrying");
        }
    }

    /// Waits for `delay`, or until a server is available.
    pub(super) async fn pause(&self, delay: Duration) {
        tokio::select! {
            () = sleep(delay) => {}
            () = self.outages.recovered.notified() => {}
        }
    }

    /// The operation no longer waits.
    pub(super) fn clear(&self) {
        let mut waiting = self.outages.waiting.lock();
        if waiting.operations.remove(&self.id) && waiting.operations.is_empty() && waiting.outage.clear(&self.outages.progress) {
            tracing::info!("recovered");
        }
    }
}

impl Drop for OutageGuard {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_note_stays_until_the_last_operation_stops_waiting() {
        let progress = Progress::default();
        let outages = Arc::new(Outages::new(progress.clone()));
        let error = WriterError::Kafka { topic: "t.dead".to_owned(), reason: "no answer".to_owned() };
        let (first, second) = (outages.guard(), outages.guard());
        second.clear();
        assert!(!outages.any(), "an operation that does not wait changes nothing");
        first.report(&error, "first".to_owned());
        second.report(&error, "second".to_owned());
        assert_eq!(progress.note().as_deref(), Some("second"));
        first.clear();
        assert!(outages.any());
        assert_eq!(progress.note().as_deref(), Some("second"));
        drop(second);
        assert_eq!((outages.any(), progress.note()), (false, None));
    }
}
