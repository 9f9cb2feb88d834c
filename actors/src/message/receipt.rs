//! How a sender learns what became of its message.

use tokio::sync::oneshot;

/// Reports the outcome of a message to its sender. Dropping it reports that the message was
/// abandoned.
#[derive(Debug)]
pub(crate) struct Receipt<T>(oneshot::Sender<T>);

impl<T> Receipt<T> {
    /// A receipt, and where the sender waits for the outcome. An error there means abandoned.
    pub(crate) fn new() -> (Self, oneshot::Receiver<T>) {
        let (sender, receiver) = oneshot::channel();
        (Self(sender), receiver)
    }

    /// Reports the outcome.
    pub(crate) fn settle(self, outcome: T) {
        // Fails if the sender no longer waits.
        let _ = self.0.send(outcome);
    }
}
