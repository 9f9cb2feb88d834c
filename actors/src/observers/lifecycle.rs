//! Records the lifecycle of actors in the journal, and counts restarts.

use std::sync::Arc;

use forebay_schemas::event::Event;

use crate::ledger::Ledger;
use crate::telemetry::Telemetry;
use forebay_kernel::clock::millis;
use forebay_kernel::{Sighting, What, Witness};

/// Records what happens in the supervision tree.
pub(crate) struct LifecycleRecorder {
    pub(crate) telemetry: Arc<Telemetry>,
    pub(crate) ledger: Arc<Ledger>,
}

impl Witness for LifecycleRecorder {
    fn saw(&self, sighting: &Sighting) {
        if matches!(sighting.what, What::Started { incarnation } if incarnation > 1) {
            self.telemetry.restarts.add(1);
        }
        let actor = sighting.path.clone();
        self.ledger.saw(match sighting.what.clone() {
            What::Started { incarnation } => Event::ChildStarted { actor, incarnation },
            What::Exited { incarnation, exit } => Event::ChildExited { actor, incarnation, exit: exit.to_string() },
            What::RestartScheduled { delay, affected } => Event::RestartScheduled { actor, delay_millis: millis(delay), affected },
            What::IntensityExceeded { restarts, within } => {
                Event::IntensityExceeded { actor, restarts: restarts.into(), within_millis: millis(within) }
            }
            What::Escalated { reason } => Event::Escalated { actor, reason },
            What::Stuck { silent } => Event::ChildStuck { actor, silent_millis: millis(silent) },
        });
    }
}
