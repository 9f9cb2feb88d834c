//! Where messages are posted.
//!
//! Guarantee: the messages of one sender are handled in the order they were posted; a message that is not handled, because the incarnation ends
//! first, is dropped or comes back, and gives its [`Lease`](super::Lease) and its receipt back by that. Not guaranteed: a limit. A full actix
//! mailbox takes messages all the same (`actix_behaviour` has the proof), so the limit is the budget that whoever posts must hold.

use std::fmt;
use std::sync::Arc;

/// Where messages for one incarnation of an actor are posted, from any thread. Holding it does not keep the incarnation alive.
pub struct Mailbox<M>(pub(super) Arc<dyn Post<M>>);

impl<M: Send + 'static> Mailbox<M> {
    /// Puts `m` into the mailbox. Never waits and is never refused for want of room: whoever posts holds the budget that is the limit.
    ///
    /// # Errors
    /// The message comes back when the incarnation has ended. A message that was posted just before is dropped with the mailbox.
    pub fn post(&self, m: M) -> Result<(), Closed<M>> {
        self.0.post(m)
    }

    /// Whether the incarnation still takes messages.
    pub fn is_open(&self) -> bool {
        self.0.is_open()
    }

    /// A mailbox without an actor, and what has been posted to it: to test whoever posts.
    #[cfg(feature = "testing")]
    pub fn probe() -> (Self, tokio::sync::mpsc::UnboundedReceiver<M>) {
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

/// The incarnation has ended; here is the message back.
#[derive(thiserror::Error)]
#[error("the actor it was posted to has ended")]
pub struct Closed<M>(pub M);

impl<M> fmt::Debug for Closed<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Closed")
    }
}

/// A mailbox whose actor's type is forgotten.
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
