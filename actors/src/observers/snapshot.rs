//! The snapshot of a running pipeline, from what its parts publish.
//!
//! Guarantees:
//! * Taking a snapshot waits for no actor and asks no server.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use forebay_schemas::pipeline::Paging;
use forebay_schemas::snapshot::{CursorView, Latency, Snapshot, SourceView};
use forebay_schemas::source_read::Read;

use crate::ledger::{Cursors, Ledger};
use crate::telemetry::{Need, Telemetry, memory};
use forebay_kernel::{ActorTree, Budget, SharedClock};

/// The most runs in a snapshot.
const MAX_RUNS: usize = 50;
/// The most reads of the source in a snapshot.
const MAX_READS: usize = 10;
/// The most characters of a cursor in a snapshot.
const MAX_CURSOR_CHARS: usize = 256;

/// Takes snapshots of a running pipeline. Cheap to clone, and usable from any thread.
#[derive(Clone)]
pub struct SnapshotSource(pub(crate) Arc<Sources>);

/// What a snapshot is made of.
pub(crate) struct Sources {
    pub(crate) pipeline: String,
    pub(crate) topic: String,
    pub(crate) table: String,
    pub(crate) kafka: String,
    pub(crate) cassandra: String,
    pub(crate) roles: Vec<String>,
    pub(crate) started_at: DateTime<Utc>,
    pub(crate) clock: SharedClock,
    pub(crate) telemetry: Arc<Telemetry>,
    pub(crate) actor_tree: ActorTree,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) edges: Vec<Budget>,
    pub(crate) trigger_micros: Option<u64>,
    /// How the source paginates, if it does.
    pub(crate) paging: Option<Paging>,
}

impl SnapshotSource {
    /// What the process needs from servers and does not have yet.
    pub fn missing(&self) -> Vec<Need> {
        self.0.telemetry.missing()
    }

    /// The pipeline as it is now.
    pub fn snapshot(&self) -> Snapshot {
        let from = &self.0;
        let end_to_end = from.telemetry.end_to_end();
        let millis = |micros: u64| micros as f64 / 1_000.0;
        Snapshot {
            pipeline: from.pipeline.clone(),
            version: env!("CARGO_PKG_VERSION").into(),
            started_at: from.started_at,
            at: from.clock.wall().into(),
            roles: from.roles.clone(),
            kafka: from.kafka.clone(),
            cassandra: from.cassandra.clone(),
            topic: from.topic.clone(),
            table: from.table.clone(),
            totals: from.telemetry.totals(),
            partitions: from.telemetry.partitions(),
            latency_ms: Latency { p50: millis(end_to_end.p50_micros), p99: millis(end_to_end.p99_micros) },
            batches: from.telemetry.batches(),
            actors: from.actor_tree.actors(),
            runs: from.ledger.recent(MAX_RUNS),
            edges: from.edges.iter().map(Budget::view).collect(),
            seq: from.ledger.last_event(),
            desired: from.ledger.desired(),
            stages: from.telemetry.stages(),
            source: from.telemetry.source_view().map(|view| from.with_cursors(view)),
            store: from.telemetry.store_view(),
            alerts: from.telemetry.alerts(),
            memory_bytes: memory::resident_bytes(),
            end_to_end,
            durable_seq: from.ledger.durable_seq(),
            run_totals: from.ledger.run_totals(),
            trigger_micros: from.trigger_micros,
            disk: from.telemetry.disk(),
            rejects: from.telemetry.reject_counts(),
            drift: from.telemetry.drift(),
        }
    }
}

impl Sources {
    fn with_cursors(&self, view: SourceView) -> SourceView {
        let Some(paging) = &self.paging else { return view };
        let cursors = self.ledger.cursors();
        let cursor = cursors.position(&Read::default());
        let cursor = cursor.cursor().or(paging.start.as_deref()).map(truncated);
        let mut newest = cursors_of(&cursors, MAX_READS);
        newest.iter_mut().for_each(|view| view.cursor = truncated(&view.cursor));
        SourceView { cursor, reads: cursors.len() as u64, cursors: newest, ..view }
    }
}

/// The reads whose cursor moved last, newest first, with their whole cursors.
pub fn cursors_of(cursors: &Cursors, limit: usize) -> Vec<CursorView> {
    let newest = cursors.newest_first().into_iter().take(limit);
    newest.map(|(read, known)| CursorView { read: read.text().to_owned(), cursor: known.cursor.clone(), moved_at: known.at }).collect()
}

fn truncated(cursor: &str) -> String {
    cursor.chars().take(MAX_CURSOR_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_cursor_is_truncated() {
        assert_eq!(truncated(&"ä".repeat(1_000)).chars().count(), MAX_CURSOR_CHARS);
        assert_eq!(truncated("7"), "7");
    }
}
