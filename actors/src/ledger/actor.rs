//! The shell: a child that ends as fatal when the journal has failed, for nothing may go on whose traces would be lost.

use std::convert::Infallible;
use std::sync::Arc;

use super::Ledger;
use crate::kernel::{Actor, Cx, Exit};

/// Watches the journal. Nothing is posted to it.
pub struct Keeper {
    ledger: Arc<Ledger>,
}

impl Keeper {
    /// Watches the journal of `ledger`.
    pub fn new(ledger: Arc<Ledger>) -> Self {
        Self { ledger }
    }
}

impl Actor for Keeper {
    type Message = Infallible;

    fn started(&mut self, cx: &mut Cx<'_, Self>) {
        let ledger = Arc::clone(&self.ledger);
        cx.offload(async move { ledger.failed().await }, |_, why, cx| {
            cx.exit(Exit::Fatal(format!("{why}; what was acknowledged is safe: free the disk, or mend it, and start again")));
        });
    }

    fn handle(&mut self, message: Infallible, _: &mut Cx<'_, Self>) {
        match message {}
    }

    fn stopping(&mut self, cx: &mut Cx<'_, Self>) {
        cx.exit(Exit::Shutdown);
    }
}
