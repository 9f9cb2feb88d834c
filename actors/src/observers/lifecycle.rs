//! Records the lifecycle of actors in the journal, and counts restarts.

use std::sync::Arc;

use forebay_schemas::event::Event;

use crate::ledger::Ledger;
use crate::telemetry::Telemetry;
use forebay_kernel::{LifecycleEvent, LifecycleKind, LifecycleListener, millis};

/// Records what happens in the supervision tree.
pub(crate) struct LifecycleRecorder {
    pub(crate) telemetry: Arc<Telemetry>,
    pub(crate) ledger: Arc<Ledger>,
}

impl LifecycleListener for LifecycleRecorder {
    fn on_event(&self, event: &LifecycleEvent) {
        if matches!(event.kind, LifecycleKind::Started { incarnation } if incarnation > 1) {
            self.telemetry.restarts.add(1);
        }
        let actor = event.path.clone();
        self.ledger.record(match event.kind.clone() {
            LifecycleKind::Started { incarnation } => Event::ChildStarted { actor, incarnation },
            LifecycleKind::Exited { incarnation, exit } => Event::ChildExited { actor, incarnation, exit: exit.to_string() },
            LifecycleKind::RestartScheduled { delay, affected } => Event::RestartScheduled { actor, delay_millis: millis(delay), affected },
            LifecycleKind::IntensityExceeded { restarts, within } => {
                Event::IntensityExceeded { actor, restarts: restarts.into(), within_millis: millis(within) }
            }
            LifecycleKind::Escalated { reason } => Event::Escalated { actor, reason },
            LifecycleKind::Stuck { silent } => Event::ChildStuck { actor, silent_millis: millis(silent) },
        });
    }
}
