//! The shell: a child that ends as fatal when the journal has failed, for nothing may go on whose traces would be lost; that asks Kafka about once a
//! second which topic there is, and at once when a run waits for nothing else; that looks at what the group has committed for as long as a run waits
//! for partitions that other processes read; and that calls off runs whose lease is over.

use std::sync::Arc;
use std::time::Duration;

use forebay_schemas::event::Checkpoints;
use forebay_schemas::topic::TopicId;
use futures_util::future::BoxFuture;

use uuid::Uuid;

use super::{Command, Ledger};
use forebay_kernel::{Cx, Exit, Service};

/// How often it looks.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The same while a run waits for partitions that other processes read.
const LOOK_AT_OTHERS_EVERY: Duration = Duration::from_millis(500);
/// The least time after a look that gave no answer.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// What Kafka says at a look.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// The topic that there is now; none from a broker that gives no ids.
    pub topic: Option<TopicId>,
    /// What the group has committed of that topic, in epochs, where that was asked for.
    pub checkpoints: Checkpoints,
}

/// Asks which topic there is, and, where that is wanted, what the group has committed of it.
pub type Lookout = Arc<dyn Fn(bool) -> BoxFuture<'static, Result<Seen, String>> + Send + Sync>;

/// Told of a run that was called off, so that nobody goes on with it.
pub type CallOff = Arc<dyn Fn(Uuid) + Send + Sync>;

/// Watches the journal, the group for runs, and their leases. Nothing is posted to it.
pub struct Keeper {
    ledger: Arc<Ledger>,
    lookout: Lookout,
    call_off: CallOff,
    /// Whether it has looked at all.
    looked: bool,
}

impl Keeper {
    /// Watches the journal of `ledger`.
    pub fn new(ledger: Arc<Ledger>, lookout: Lookout, call_off: CallOff) -> Self {
        Self { ledger, lookout, call_off, looked: false }
    }

    fn look(&mut self, cx: &mut Cx<'_, Self>) {
        self.ledger.call_off_overdue().into_iter().for_each(|run| (self.call_off)(run));
        let (ledger, lookout) = (Arc::clone(&self.ledger), Arc::clone(&self.lookout));
        let others = self.ledger.waits_for_others();
        let every = match std::mem::replace(&mut self.looked, true) {
            false => Duration::ZERO,
            true if others => LOOK_AT_OTHERS_EVERY,
            true => LOOK_EVERY,
        };
        let look = async move {
            ledger.look_is_due(every).await;
            // Before the question: what is written while it is on its way is of the topic of before as well as of the one that the answer names.
            let written = ledger.written();
            (lookout(others).await, written)
        };
        cx.offload(look, |keeper, (seen, written), cx| {
            let ledger = &keeper.ledger;
            match seen {
                Ok(Seen { topic, checkpoints }) => {
                    ledger.looked_at_topic(topic, written);
                    if ledger.saw_topic(topic).is_none() {
                        // Brokers that do not agree yet are not asked without a pause.
                        cx.after(LOOK_AGAIN, Self::look);
                        return;
                    }
                    if !checkpoints.0.is_empty()
                        && let Err(rejection) = ledger.submit(Command::Seen { checkpoints })
                    {
                        tracing::error!(%rejection, "the ledger does not take what the group has committed");
                    }
                    keeper.look(cx);
                }
                Err(trouble) => {
                    tracing::debug!(trouble, "can't look at the topic, or at what the group has committed");
                    cx.after(LOOK_AGAIN, Self::look);
                }
            }
        });
    }
}

impl Service for Keeper {
    fn started(&mut self, cx: &mut Cx<'_, Self>) {
        let ledger = Arc::clone(&self.ledger);
        cx.offload(async move { ledger.failed().await }, |_, why, cx| {
            cx.exit(Exit::Fatal(format!("{why}; what was acknowledged is safe: free the disk, or mend it, and start again")));
        });
        self.look(cx);
    }
}
