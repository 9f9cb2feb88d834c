//! The actor of the ledger.
//!
//! * It exits as `Fatal` when the journal fails, so that no effect goes unrecorded.
//! * It asks Kafka about once a second for the topic's id, and at once when a run waits for nothing
//!   else.
//! * It reads the group's committed offsets while a run waits for partitions that other processes
//!   read.
//! * It cancels runs whose lease has expired.

use std::sync::Arc;
use std::time::Duration;

use forebay_kernel::{Cx, Exit, Service};
use forebay_schemas::event::Checkpoints;
use forebay_schemas::topic_id::TopicId;
use futures_util::future::BoxFuture;
use uuid::Uuid;

use super::command::Command;
use super::ledger::Ledger;

/// How often the topic is checked.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// The same while a run waits for partitions that other processes read.
const OTHERS_CHECK_INTERVAL: Duration = Duration::from_millis(500);
/// The delay after a failed check.
const RETRY_DELAY: Duration = Duration::from_millis(500);

/// What Kafka says about the topic.
#[derive(Debug, Clone, Default)]
pub struct TopicState {
    /// The topic's id; `None` from a broker without topic ids.
    pub topic: Option<TopicId>,
    /// The group's committed checkpoints of that topic, where they were requested.
    pub checkpoints: Checkpoints,
}

/// Asks Kafka for the topic's id, and, when the argument is true, for the group's commits.
pub type InspectTopic = Arc<dyn Fn(bool) -> BoxFuture<'static, Result<TopicState, String>> + Send + Sync>;

/// Notifies the fetcher of a cancelled run, so that it stops fetching.
pub type CancelRun = Arc<dyn Fn(Uuid) + Send + Sync>;

/// Monitors the journal, the topic and the leases of runs. It takes no messages.
pub struct LedgerMonitor {
    ledger: Arc<Ledger>,
    inspect_topic: InspectTopic,
    cancel_run: CancelRun,
    /// Whether the topic was checked at all.
    has_checked: bool,
}

impl LedgerMonitor {
    /// Monitors `ledger`.
    pub fn new(ledger: Arc<Ledger>, inspect_topic: InspectTopic, cancel_run: CancelRun) -> Self {
        Self { ledger, inspect_topic, cancel_run, has_checked: false }
    }

    fn check(&mut self, cx: &mut Cx<'_, Self>) {
        self.ledger.cancel_overdue().into_iter().for_each(|run| (self.cancel_run)(run));
        let (ledger, inspect_topic) = (Arc::clone(&self.ledger), Arc::clone(&self.inspect_topic));
        let others = self.ledger.waits_for_others();
        let interval = match std::mem::replace(&mut self.has_checked, true) {
            false => Duration::ZERO,
            true if others => OTHERS_CHECK_INTERVAL,
            true => CHECK_INTERVAL,
        };
        let check = async move {
            ledger.topic_check_due(interval).await;
            // Read before the request: what is written while it is under way may be of an earlier
            // topic than the one that Kafka reports.
            let written = ledger.written();
            (inspect_topic(others).await, written)
        };
        cx.offload(check, |monitor, (state, written), cx| {
            let ledger = &monitor.ledger;
            match state {
                Ok(TopicState { topic, checkpoints }) => {
                    ledger.confirm_topic(topic, written);
                    if ledger.observe_topic(topic).is_none() {
                        // The brokers do not agree on the topic yet.
                        cx.after(RETRY_DELAY, Self::check);
                        return;
                    }
                    if !checkpoints.0.is_empty()
                        && let Err(error) = ledger.submit(Command::ObserveCommitted { checkpoints })
                    {
                        tracing::error!(%error, "the ledger rejected the group's commits");
                    }
                    monitor.check(cx);
                }
                Err(error) => {
                    tracing::debug!(error, "failed to read the topic's id or the group's commits; retrying");
                    cx.after(RETRY_DELAY, Self::check);
                }
            }
        });
    }
}

impl Service for LedgerMonitor {
    fn started(&mut self, cx: &mut Cx<'_, Self>) {
        let ledger = Arc::clone(&self.ledger);
        cx.offload(async move { ledger.failed().await }, |_, error, cx| {
            cx.exit(Exit::Fatal(format!("{error}; what was acknowledged is safe: free or repair the disk, and start again")));
        });
        self.check(cx);
    }
}
