//! What observes a running pipeline without holding it up; the folder mirrors the supervisor of the same name.
//!
//! Guarantees:
//! * No actor of the data path waits for an observer.
//! * When the observers end, the pipeline goes on.

mod alerts;
mod export;
mod lifecycle;
mod lineage;
mod snapshot;
mod traces;

pub(crate) use alerts::Alerts;
pub(crate) use lifecycle::LifecycleRecorder;
pub(crate) use lineage::{Lineage, LineageParts};
pub(crate) use snapshot::Sources;
pub use snapshot::{Viewer, cursors_of};
pub(crate) use traces::{Traces, TracesParts};
