//! The status of a connected store, read without asking the server.
//!
//! Does not guarantee:
//! * that a node which is reported as up answers the next request
//! * any node before the first connection

use std::sync::Arc;

use forebay_schemas::snapshot::NodeView;

/// The status of a connected store.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoreStatus {
    /// Statements that were sent and not yet answered.
    pub in_flight: u64,
    /// Its nodes.
    pub nodes: Vec<NodeView>,
}

/// Reads the status of a connected store without waiting. Returns `None` once the store is dropped.
pub type StoreProbe = Arc<dyn Fn() -> Option<StoreStatus> + Send + Sync>;
