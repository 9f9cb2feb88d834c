//! The actor that serves the embedded broker and applies `[kafka] retention`.
//!
//! Guarantees:
//! * It exits as [`Exit::Failed`] when the broker stops, so that its supervisor restarts it on the
//!   same files and port.
//! * An acknowledged record outlives it.
//!
//! Does not guarantee answers while it starts; clients retry.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use forebay_schemas::pipeline::Pipeline;

use super::Address;
use crate::broker::access::Access;
use crate::broker::embedded_retention::{self, Removed, Retention};
use crate::telemetry::Telemetry;
use forebay_kernel::{Cx, Exit, Service, SharedClock};

/// The interval between two rounds of retention.
const RETENTION_INTERVAL: Duration = Duration::from_secs(10);

/// The embedded broker.
pub struct EmbeddedBroker {
    address: Address,
    data_dir: PathBuf,
    access: Access,
    retention: Retention,
    telemetry: Arc<Telemetry>,
    clock: SharedClock,
    /// The last logged error of retention.
    logged: Option<String>,
}

impl EmbeddedBroker {
    /// The broker of a pipeline. It listens at `address`, which `access` connects to.
    pub fn new(pipeline: &Pipeline, address: Address, access: Access, telemetry: Arc<Telemetry>, clock: SharedClock) -> Self {
        Self { address, data_dir: pipeline.data_dir(), access, retention: Retention::of(pipeline), telemetry, clock, logged: None }
    }

    /// Applies the retention, and schedules the next round.
    fn apply_retention(&mut self, cx: &mut Cx<'_, Self>) {
        let (access, retention, wall) = (self.access.clone(), self.retention.clone(), self.clock.wall());
        cx.offload(async move { embedded_retention::apply(&access, &retention, wall).await }, |broker, removed, cx| {
            match removed {
                Ok(Removed { records, dead_letters }) => {
                    broker.logged = None;
                    broker.telemetry.removed(records + dead_letters);
                    if records > 0 {
                        tracing::debug!(records, "retention removed written records");
                    }
                    if dead_letters > 0 {
                        tracing::warn!(records = dead_letters, "dead letters older than [kafka] retention.time were removed");
                    }
                }
                Err(error) => {
                    let error = error.to_string();
                    if broker.logged.as_ref() != Some(&error) {
                        tracing::warn!(%error, "[kafka] retention failed; retrying");
                    }
                    broker.logged = Some(error);
                }
            }
            cx.after(RETENTION_INTERVAL, Self::apply_retention);
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
        cx.after(RETENTION_INTERVAL, Self::apply_retention);
    }
}
