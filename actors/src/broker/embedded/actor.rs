//! The actor that serves the embedded broker, and removes what is over `[kafka] retention`. Guarantee: it ends with [`Exit::Failed`] when the broker does, so that its supervisor
//! starts it again on the same files and port; an acknowledged record outlives it. Not guaranteed: that clients are answered while it
//! starts; they try again by themselves.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use forebay_schemas::pipeline::Pipeline;

use super::Address;
use crate::broker::access::Access;
use crate::broker::retention::{self, Keep, Removed};
use crate::telemetry::Telemetry;
use forebay_kernel::{Cx, Exit, Service, SharedClock};

/// How often it looks whether the topics are over their limits.
const RETAIN_EVERY: Duration = Duration::from_secs(10);

/// The embedded broker.
pub struct EmbeddedBroker {
    address: Address,
    data_dir: PathBuf,
    access: Access,
    keep: Keep,
    telemetry: Arc<Telemetry>,
    clock: SharedClock,
    /// The last trouble of a removal that was said.
    said: Option<String>,
}

impl EmbeddedBroker {
    /// The broker of a pipeline, to listen at `address`, which `access` reaches.
    pub fn new(pipeline: &Pipeline, address: Address, access: Access, telemetry: Arc<Telemetry>, clock: SharedClock) -> Self {
        Self { address, data_dir: pipeline.data_dir(), access, keep: Keep::of(pipeline), telemetry, clock, said: None }
    }

    /// Removes what is over `[kafka] retention`, and does so again after a while.
    fn retain(&mut self, cx: &mut Cx<'_, Self>) {
        let (access, keep, wall) = (self.access.clone(), self.keep.clone(), self.clock.wall());
        cx.offload(async move { retention::apply(&access, &keep, wall).await }, |broker, removed, cx| {
            match removed {
                Ok(Removed { records, letters }) => {
                    broker.said = None;
                    broker.telemetry.removed(records + letters);
                    if records > 0 {
                        tracing::debug!(records, "records that are written were removed: over [kafka] retention");
                    }
                    if letters > 0 {
                        tracing::warn!(records = letters, "dead letters older than [kafka] retention.time were removed");
                    }
                }
                Err(error) => {
                    let error = error.to_string();
                    if broker.said.as_ref() != Some(&error) {
                        tracing::warn!(%error, "records over [kafka] retention are not removed; trying again");
                    }
                    broker.said = Some(error);
                }
            }
            cx.after(RETAIN_EVERY, Self::retain);
        });
    }
}

impl Service for EmbeddedBroker {
    fn started(&mut self, cx: &mut Cx<'_, Self>) {
        tracing::info!(address = %self.address, data_dir = %self.data_dir.display(), "embedded broker is starting");
        cx.offload(super::serve(self.address.clone(), self.data_dir.clone()), |_, ended, cx| {
            cx.exit(match ended {
                Ok(()) => Exit::Failed("the embedded broker stopped serving".into()),
                Err(error) => error.into(),
            });
        });
        cx.after(RETAIN_EVERY, Self::retain);
    }
}
