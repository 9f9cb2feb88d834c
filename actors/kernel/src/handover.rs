//! How a child started earlier hands something to one started later: its mailbox, as a rule.
//!
//! Guarantee: `get` gives what was last set, so under `rest_for_one` a child always gets the mailbox of the present incarnation. Not
//! guaranteed: that this incarnation still lives; posting to it tells.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// A cell that is set anew at each incarnation of whoever hands over. Clones share it.
pub struct Handover<T>(Arc<Mutex<Option<T>>>);

impl<T> Clone for Handover<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Default for Handover<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<T: Clone> Handover<T> {
    /// Hands over `t`, in the place of what was handed over before.
    pub fn set(&self, t: T) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(t);
    }

    /// What was handed over last.
    ///
    /// # Panics
    /// When nothing was: whoever gets must be started after whoever sets.
    pub fn get(&self) -> T {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone().expect("whoever hands over is started before whoever takes")
    }
}

impl<T> fmt::Debug for Handover<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handover").finish_non_exhaustive()
    }
}
