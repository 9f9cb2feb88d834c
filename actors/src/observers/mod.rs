//! What observes a running pipeline without holding it up; the folder mirrors the supervisor of the
//! same name.
//!
//! Guarantees:
//! * No actor of the data path waits for an observer.
//! * The pipeline continues when its observers end.

mod alerts;
mod journal_feed;
mod lifecycle;
mod lineage;
mod snapshot;
mod traces;

pub(crate) use alerts::Alerts;
pub(crate) use lifecycle::LifecycleRecorder;
pub(crate) use lineage::{Lineage, LineageParams};
pub(crate) use snapshot::Sources;
pub use snapshot::{SnapshotSource, cursors_of};
pub(crate) use traces::{Traces, TracesParams};
