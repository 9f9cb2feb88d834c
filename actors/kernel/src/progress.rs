//! What an actor lets others know of how it gets on: for the watchdog and for the status note.
//!
//! Guarantee: telling costs an atomic addition, or a short lock for a note; from any thread. Not guaranteed: that the watchdog sees an actor that
//! never says it is working: only who owes progress can be late with it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// How one incarnation gets on. Clones tell of the same incarnation.
#[derive(Debug, Clone, Default)]
pub struct Progress(Arc<Pulse>);

#[derive(Debug, Default)]
struct Pulse {
    ticks: AtomicU64,
    owed: AtomicU64,
    /// Odd while the actor thread is inside the actor.
    turns: AtomicU64,
    /// Messages posted to the incarnation, and those it has handled.
    posted: AtomicU64,
    handled: AtomicU64,
    note: Mutex<Option<String>>,
}

/// Progress is owed while this is held.
#[derive(Debug)]
#[must_use = "progress is owed only while the guard is held"]
pub struct Working(Arc<Pulse>);

/// One look at a [`Progress`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sample {
    /// How often something moved.
    pub(super) ticks: u64,
    /// Whether the actor owes progress and is not waiting for a server.
    pub(super) owes: bool,
    /// How often the actor thread entered or left the actor; odd while it is inside.
    pub(super) turns: u64,
}

impl Progress {
    /// Something moved.
    pub fn tick(&self) {
        self.0.ticks.fetch_add(1, Ordering::Relaxed);
    }

    /// Owes progress until the guard is dropped: it must tick from time to time, or be said to wait. Not to be held while waiting for budget:
    /// that a downstream is slow is the downstream's to answer for.
    pub fn working(&self) -> Working {
        self.tick();
        self.0.owed.fetch_add(1, Ordering::Relaxed);
        Working(Arc::clone(&self.0))
    }

    /// Waits for something outside, such as a server that is away; `note` says for what. Owes no progress until [`Progress::clear`].
    pub fn waiting(&self, note: impl Into<String>) {
        *self.0.note.lock().unwrap_or_else(PoisonError::into_inner) = Some(note.into());
    }

    /// Waits no longer.
    pub fn clear(&self) {
        self.tick();
        *self.0.note.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// What it waits for, if it waits.
    pub fn note(&self) -> Option<String> {
        self.0.note.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A message goes into the mailbox.
    pub(super) fn posted(&self) {
        self.0.posted.fetch_add(1, Ordering::Relaxed);
    }

    /// A message came out of the mailbox, or did not get into it.
    pub(super) fn handled(&self) {
        self.0.handled.fetch_add(1, Ordering::Relaxed);
    }

    /// Messages that wait in the mailbox.
    pub(super) fn queued(&self) -> u64 {
        let handled = self.0.handled.load(Ordering::Relaxed);
        self.0.posted.load(Ordering::Relaxed).saturating_sub(handled)
    }

    /// The actor thread enters or leaves the actor.
    pub(super) fn turn(&self) {
        self.0.turns.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn sample(&self) -> Sample {
        let waits = self.0.note.lock().unwrap_or_else(PoisonError::into_inner).is_some();
        Sample {
            ticks: self.0.ticks.load(Ordering::Relaxed),
            owes: self.0.owed.load(Ordering::Relaxed) > 0 && !waits,
            turns: self.0.turns.load(Ordering::Relaxed),
        }
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        self.0.ticks.fetch_add(1, Ordering::Relaxed);
        self.0.owed.fetch_sub(1, Ordering::Relaxed);
    }
}
