//! The progress of one incarnation, for the watchdog and for the status note.
//!
//! Guarantee: reporting costs an atomic addition, or a short lock for a note, from any thread.
//!
//! Does not guarantee that the watchdog notices an actor that holds no [`Working`] guard: only an
//! actor that owes progress can be late with it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

/// The progress of one incarnation. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Progress(Arc<Counters>);

#[derive(Debug, Default)]
struct Counters {
    ticks: AtomicU64,
    owed: AtomicU64,
    /// Odd while the actor thread is inside the actor.
    turns: AtomicU64,
    /// Messages posted to the incarnation, and those it has handled.
    posted: AtomicU64,
    handled: AtomicU64,
    note: Mutex<Option<String>>,
}

/// The actor owes progress while this exists.
#[derive(Debug)]
#[must_use = "progress is owed only while the guard is held"]
pub struct Working(Arc<Counters>);

/// The counters of a [`Progress`] at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sample {
    /// How many ticks there were.
    pub(super) ticks: u64,
    /// Whether the actor owes progress and is not waiting for a server.
    pub(super) owes: bool,
    /// How often the actor thread entered or left the actor; odd while it is inside.
    pub(super) turns: u64,
}

impl Progress {
    /// Reports progress.
    pub fn tick(&self) {
        self.0.ticks.fetch_add(1, Ordering::Relaxed);
    }

    /// Owes progress until the guard is dropped: the actor must tick from time to time or be
    /// waiting. Don't hold it while waiting for budget: a slow downstream is the downstream's
    /// fault.
    pub fn working(&self) -> Working {
        self.tick();
        self.0.owed.fetch_add(1, Ordering::Relaxed);
        Working(Arc::clone(&self.0))
    }

    /// Waits for something outside, such as an unreachable server; `note` says what. No progress is
    /// owed until [`Progress::clear`].
    pub fn waiting(&self, note: impl Into<String>) {
        *self.0.note.lock() = Some(note.into());
    }

    /// Stops waiting.
    pub fn clear(&self) {
        self.tick();
        *self.0.note.lock() = None;
    }

    /// What the incarnation waits for, if anything.
    pub fn note(&self) -> Option<String> {
        self.0.note.lock().clone()
    }

    /// A message enters the mailbox.
    pub(super) fn posted(&self) {
        self.0.posted.fetch_add(1, Ordering::Relaxed);
    }

    /// A message left the mailbox, or was not accepted.
    pub(super) fn handled(&self) {
        self.0.handled.fetch_add(1, Ordering::Relaxed);
    }

    /// The number of messages in the mailbox.
    pub(super) fn queued(&self) -> u64 {
        let handled = self.0.handled.load(Ordering::Relaxed);
        self.0.posted.load(Ordering::Relaxed).saturating_sub(handled)
    }

    /// The actor thread enters or leaves the actor.
    pub(super) fn turn(&self) {
        self.0.turns.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn sample(&self) -> Sample {
        let waits = self.0.note.lock().is_some();
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
