//! Work that an actor runs elsewhere: on the I/O runtime, the blocking pool or a thread.
//!
//! Guarantee: the incarnation is kept from ending until the work, everything it owns and its output
//! are dropped.
//!
//! Does not guarantee that the work ends when it is cancelled: a computation can't be aborted, and
//! a thread has to check its flag.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

use futures_util::FutureExt;
use tokio::sync::oneshot;
use tokio::task::AbortHandle;

use super::incarnation_scope::LifetimeGuard;

/// Work that runs elsewhere. Fields are dropped in this order if it never starts, so the guard goes
/// last.
pub(super) struct Task<W, T> {
    work: W,
    outcome: oneshot::Sender<thread::Result<T>>,
    guard: LifetimeGuard,
}

impl<W, T> Task<W, T> {
    pub(super) fn new(work: W, guard: LifetimeGuard) -> (Self, oneshot::Receiver<thread::Result<T>>) {
        let (outcome, receiver) = oneshot::channel();
        (Self { work, outcome, guard }, receiver)
    }

    pub(super) fn run(self)
    where
        W: FnOnce() -> T,
    {
        let Self { work, outcome, guard } = self;
        // The output comes back, and is dropped here, if the incarnation has ended.
        drop(outcome.send(catch_unwind(AssertUnwindSafe(work))));
        drop(guard);
    }

    pub(super) async fn run_async(self)
    where
        W: Future<Output = T>,
    {
        let Self { work, outcome, guard } = self;
        drop(outcome.send(AssertUnwindSafe(work).catch_unwind().await));
        drop(guard);
    }
}

/// Aborts a tokio task when it is dropped.
pub(super) struct AbortOnDrop(pub(super) Option<AbortHandle>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}
