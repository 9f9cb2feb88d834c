//! Statements, retries and nodes of the store.
//!
//! Guarantees:
//! * Counts cover the whole process, over all connections.
//! * Taking a view sends no request.
//!
//! Does not guarantee nodes before the first connection, nor that a node shown as up answers the
//! next request.

use std::collections::BTreeMap;
use std::fmt;

use forebay_dataplane::store::{StoreProbe, StoreStatus};
use forebay_schemas::snapshot::StoreView;

/// The store that this process writes to.
#[derive(Default)]
pub(super) struct StoreMeter {
    pub(super) kind: String,
    pub(super) consistency: String,
    pub(super) statements: u64,
    pub(super) retries: BTreeMap<&'static str, u64>,
    pub(super) probe: Option<StoreProbe>,
}

impl StoreMeter {
    pub(super) fn view(&self) -> StoreView {
        let StoreStatus { in_flight, nodes } = self.probe.as_ref().and_then(|probe| probe()).unwrap_or_default();
        StoreView {
            kind: self.kind.clone(),
            consistency: self.consistency.clone(),
            in_flight,
            statements: self.statements,
            retries: self.retries.iter().map(|(&reason, &count)| (reason.to_owned(), count)).collect(),
            nodes,
        }
    }
}

impl fmt::Debug for StoreMeter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreMeter").field("kind", &self.kind).field("statements", &self.statements).finish_non_exhaustive()
    }
}
