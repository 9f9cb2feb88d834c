//! The status of a connected store, read without asking the server.
//!
//! Does not guarantee that a node which is shown as up answers the next request, nor nodes before the first connection.

use std::sync::Arc;

use forebay_schemas::snapshot::NodeView;

/// What a connected store shows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Glimpse {
    /// Statements that were sent and are not answered.
    pub in_flight: u64,
    /// Its nodes.
    pub nodes: Vec<NodeView>,
}

/// Takes a glimpse of a connected store without waiting; none when it is gone.
pub type Glance = Arc<dyn Fn() -> Option<Glimpse> + Send + Sync>;
