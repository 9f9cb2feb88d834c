//! A shared cell in which a child publishes something to children started later, usually its
//! mailbox.
//!
//! Guarantee: [`Slot::get`] returns what was last set, so under `rest_for_one` a child always gets
//! the mailbox of the current incarnation.
//!
//! Does not guarantee that this incarnation is still running. Posting to its mailbox fails if it is
//! not.

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;

/// A cell that each incarnation of the publishing child sets again. Clones share it.
pub struct Slot<T>(Arc<Mutex<Option<T>>>);

impl<T> Clone for Slot<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Default for Slot<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<T: Clone> Slot<T> {
    /// Publishes `t` in place of the previous value.
    pub fn set(&self, t: T) {
        *self.0.lock() = Some(t);
    }

    /// The value that was last set, if any was.
    pub fn try_get(&self) -> Option<T> {
        self.0.lock().clone()
    }

    /// The value that was last set.
    ///
    /// # Panics
    /// If nothing was set: the child that gets must be started after the child that sets.
    pub fn get(&self) -> T {
        self.try_get().expect("a slot is set before a later child gets it")
    }
}

impl<T> fmt::Debug for Slot<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot").finish_non_exhaustive()
    }
}
