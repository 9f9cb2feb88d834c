//! A shared cell in which a child publishes its mailbox to children that start later.
//!
//! Guarantee: [`MailboxSlot::get`] returns the mailbox that was last set, so under `rest_for_one` a
//! child always gets the mailbox of the current incarnation.
//!
//! Does not guarantee that this incarnation is still running. Posting to its mailbox fails if it is
//! not.

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;

use super::Mailbox;

/// A cell that each incarnation of the publishing child sets again. Clones share it.
pub struct MailboxSlot<M>(Arc<Mutex<Option<Mailbox<M>>>>);

impl<M> Clone for MailboxSlot<M> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<M> Default for MailboxSlot<M> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<M> MailboxSlot<M> {
    /// Publishes `mailbox` in place of the previous one.
    pub fn set(&self, mailbox: Mailbox<M>) {
        *self.0.lock() = Some(mailbox);
    }

    /// The mailbox that was last set, if any was.
    pub fn try_get(&self) -> Option<Mailbox<M>> {
        self.0.lock().clone()
    }

    /// The mailbox that was last set.
    ///
    /// # Panics
    /// If none was set: the child that gets must be started after the child that sets.
    pub fn get(&self) -> Mailbox<M> {
        self.try_get().expect("a slot is set before a later child gets it")
    }
}

impl<M> fmt::Debug for MailboxSlot<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MailboxSlot").finish_non_exhaustive()
    }
}
