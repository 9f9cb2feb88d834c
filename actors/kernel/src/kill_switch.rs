//! Ends an incarnation from outside.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::Exit;

/// Ends an incarnation from any thread, the next time the actor thread runs.
#[derive(Clone)]
pub(super) struct KillSwitch(Arc<Mutex<Option<oneshot::Sender<Exit>>>>);

impl KillSwitch {
    /// The switch, and what receives the exit.
    pub(super) fn new() -> (Self, oneshot::Receiver<Exit>) {
        let (sender, receiver) = oneshot::channel();
        (Self(Arc::new(Mutex::new(Some(sender)))), receiver)
    }

    /// Ends the incarnation with this exit. Does nothing if it has ended or is being killed.
    pub(super) fn kill(&self, exit: Exit) {
        if let Some(kill) = self.0.lock().take() {
            // Fails if the incarnation has ended.
            let _ = kill.send(exit);
        }
    }
}
