//! Work that an actor has done elsewhere: on the I/O runtime, the blocking pool or a thread.
//!
//! Guarantee: the incarnation is held until the work, and all that it owns or brings back, is dropped. Not guaranteed: that it ends when it is
//! cancelled; a computation can't be aborted, and a thread has to look.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use futures_util::FutureExt;
use tokio::sync::oneshot;
use tokio::task::AbortHandle;

use super::host::Held;

/// Work that is done elsewhere. What it owns and what it brings back is dropped before the hold, however it ends: fields are dropped in this
/// order when it never begins.
pub(super) struct Errand<W, T> {
    work: W,
    outcome: oneshot::Sender<thread::Result<T>>,
    held: Held,
}

impl<W, T> Errand<W, T> {
    pub(super) fn new(work: W, held: Held) -> (Self, oneshot::Receiver<thread::Result<T>>) {
        let (sender, receiver) = oneshot::channel();
        (Self { work, outcome: sender, held }, receiver)
    }

    pub(super) fn run(self)
    where
        W: FnOnce() -> T,
    {
        let Self { work, outcome, held } = self;
        // Nobody receives it any more when the incarnation has ended.
        drop(outcome.send(catch_unwind(AssertUnwindSafe(work))));
        drop(held);
    }

    pub(super) async fn attend(self)
    where
        W: Future<Output = T>,
    {
        let Self { work, outcome, held } = self;
        drop(outcome.send(AssertUnwindSafe(work).catch_unwind().await));
        drop(held);
    }
}

/// A task that is aborted when this is dropped.
pub(super) struct Abort(pub(super) Option<AbortHandle>);

impl Drop for Abort {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}

/// Turns true when the incarnation that started a thread ends.
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// Whether to stop.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
