//! The shell: a child that ends as fatal when the journal has failed, for nothing may go on whose traces would be lost; and that looks at what the
//! group has committed for as long as a run waits for partitions that other processes read; and calls off runs whose lease is over.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use forebay_schemas::event::Places;
use futures_util::future::BoxFuture;

use uuid::Uuid;

use super::{Command, Ledger};
use crate::kernel::{Actor, Cx, Exit};

/// How often it looks, while a run waits.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Asks what the group has committed, in lineages.
pub type Lookout = Arc<dyn Fn() -> BoxFuture<'static, Result<Places, String>> + Send + Sync>;

/// Told of a run that was called off, so that nobody goes on with it.
pub type CallOff = Arc<dyn Fn(Uuid) + Send + Sync>;

/// Watches the journal, the group for runs, and their leases. Nothing is posted to it.
pub struct Keeper {
    ledger: Arc<Ledger>,
    lookout: Lookout,
    call_off: CallOff,
}

impl Keeper {
    /// Watches the journal of `ledger`.
    pub fn new(ledger: Arc<Ledger>, lookout: Lookout, call_off: CallOff) -> Self {
        Self { ledger, lookout, call_off }
    }

    fn look(&mut self, cx: &mut Cx<'_, Self>) {
        self.ledger.call_off_overdue().into_iter().for_each(|run| (self.call_off)(run));
        if !self.ledger.waits_for_others() {
            cx.after(LOOK_EVERY, Self::look);
            return;
        }
        cx.offload((self.lookout)(), |keeper, seen, cx| {
            match seen {
                Ok(places) => {
                    if let Err(rejection) = keeper.ledger.submit(Command::Seen { places }) {
                        tracing::error!(%rejection, "the ledger does not take what the group has committed");
                    }
                }
                Err(trouble) => tracing::debug!(trouble, "can't look at what the group has committed"),
            }
            cx.after(LOOK_EVERY, Self::look);
        });
    }
}

impl Actor for Keeper {
    type Message = Infallible;

    fn started(&mut self, cx: &mut Cx<'_, Self>) {
        let ledger = Arc::clone(&self.ledger);
        cx.offload(async move { ledger.failed().await }, |_, why, cx| {
            cx.exit(Exit::Fatal(format!("{why}; what was acknowledged is safe: free the disk, or mend it, and start again")));
        });
        self.look(cx);
    }

    fn handle(&mut self, message: Infallible, _: &mut Cx<'_, Self>) {
        match message {}
    }

    fn stopping(&mut self, cx: &mut Cx<'_, Self>) {
        cx.exit(Exit::Shutdown);
    }
}
