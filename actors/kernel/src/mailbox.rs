//! Where messages are posted.
//!
//! Guarantees:
//! * The messages of one sender are handled in the order in which they were posted.
//! * A message that is not handled because the incarnation ends first is dropped or returned, which
//!   releases its [`Lease`](super::Lease) and its receipt.
//!
//! Does not guarantee a limit. A full actix mailbox accepts messages all the same
//! (`actix_behaviour_tests` proves it), so the limit is the budget that senders must hold.

use std::fmt;
use std::sync::Arc;

/// Posts messages to one incarnation of an actor, from any thread. It does not keep the incarnation
/// alive.
pub struct Mailbox<M>(pub(super) Arc<dyn Post<M>>);

impl<M: Send + 'static> Mailbox<M> {
    /// Posts `m`. Never waits, and never fails for lack of room: the limit is the budget that the
    /// sender holds.
    ///
    /// # Errors
    /// Returns the message if the incarnation has ended. A message that was posted just before is
    /// dropped with the mailbox.
    pub fn post(&self, m: M) -> Result<(), Closed<M>> {
        self.0.post(m)
    }

    /// Whether the incarnation still accepts messages.
    pub fn is_open(&self) -> bool {
        self.0.is_open()
    }

    /// A mailbox without an actor, and the messages posted to it, to test a sender.
    #[cfg(feature = "testing")]
    pub fn probe() -> (Self, tokio::sync::mpsc::UnboundedReceiver<M>) {
        // Unbounded because a post never waits; a test posts only a few messages.
        let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
        (Self(Arc::new(sender)), receiver)
    }
}

impl<M> Clone for Mailbox<M> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<M> fmt::Debug for Mailbox<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mailbox").field("open", &self.0.is_open()).finish()
    }
}

/// The incarnation has ended; this is the message.
#[derive(thiserror::Error)]
#[error("the receiving actor has ended")]
pub struct Closed<M>(pub M);

impl<M> fmt::Debug for Closed<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Closed")
    }
}

/// A mailbox with its actor's type erased.
pub(super) trait Post<M>: Send + Sync {
    fn post(&self, m: M) -> Result<(), Closed<M>>;
    fn is_open(&self) -> bool;
}

#[cfg(feature = "testing")]
impl<M: Send> Post<M> for tokio::sync::mpsc::UnboundedSender<M> {
    fn post(&self, m: M) -> Result<(), Closed<M>> {
        self.send(m).map_err(|error| Closed(error.0))
    }

    fn is_open(&self) -> bool {
        !self.is_closed()
    }
}
