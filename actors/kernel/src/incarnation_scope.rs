//! What belongs to one incarnation rather than to the actor's own state.
//!
//! Guarantee: an incarnation has not ended completely while a [`LifetimeGuard`] of it exists.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::mpsc;

use super::{Exit, Mailbox, Progress};

/// Delays the report of an incarnation's exit until it is dropped.
pub(super) type LifetimeGuard = mpsc::Sender<()>;

/// One incarnation, from its start to its exit.
pub(super) struct Lifetime<M> {
    pub(super) incarnation: u64,
    pub(super) mailbox: Mailbox<M>,
    pub(super) progress: Progress,
    pub(super) cancel: Cancel,
    exit: RefCell<Option<Exit>>,
    guard: RefCell<Option<LifetimeGuard>>,
    live: Cell<bool>,
}

impl<M> Lifetime<M> {
    /// An incarnation that has not started.
    pub(super) fn new(incarnation: u64, mailbox: Mailbox<M>, progress: Progress, guard: LifetimeGuard) -> Self {
        Self {
            incarnation,
            mailbox,
            progress,
            cancel: Cancel::default(),
            exit: RefCell::default(),
            guard: RefCell::new(Some(guard)),
            live: Cell::new(false),
        }
    }

    /// Allows the actor to act.
    pub(super) fn begin(&self) {
        self.live.set(true);
    }

    /// Whether the actor may act.
    pub(super) fn is_live(&self) -> bool {
        self.live.get()
    }

    /// The actor ends itself. The first exit wins.
    pub(super) fn end(&self, exit: Exit) {
        self.exit.borrow_mut().get_or_insert(exit);
        self.live.set(false);
        self.cancel.cancel();
    }

    /// Prevents the actor from acting again. Returns the exit it chose itself, if it did.
    pub(super) fn finish(&self) -> Option<Exit> {
        self.live.set(false);
        self.cancel.cancel();
        self.guard.borrow_mut().take();
        self.exit.borrow_mut().take()
    }

    pub(super) fn guard(&self) -> LifetimeGuard {
        self.guard.borrow().clone().expect("only a live incarnation starts work, and it holds its own guard")
    }
}

/// A flag that is set when the incarnation that started a thread ends.
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// Whether to stop.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
