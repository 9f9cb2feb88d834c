//! A look at the whole pipeline, from what its parts let be seen. Taking one waits for no actor.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use forebay_schemas::pipeline::CursorSection;
use forebay_schemas::read::Read;
use forebay_schemas::snapshot::{CursorView, Latency, Snapshot, SourceView};

use crate::ledger::{Cursors, Ledger};
use crate::telemetry::{Need, Telemetry, memory};
use forebay_kernel::{ActorTree, Budget, SharedClock};

/// How many runs a look shows.
const RUNS_SHOWN: usize = 50;
/// How many reads of the source a look shows.
const READS_SHOWN: usize = 10;
/// The longest cursor that is shown, in characters.
const CURSOR_MOST: usize = 256;

/// Takes looks at a running pipeline; cheap to clone, usable from any thread.
#[derive(Clone)]
pub struct Viewer(pub(crate) Arc<Sources>);

/// Where a look comes from.
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
    /// How the source gives cursors, if it does.
    pub(crate) cursor: Option<CursorSection>,
}

impl Viewer {
    /// What the process needs outside of it and has not found yet.
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
            runs: from.ledger.recent(RUNS_SHOWN),
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
        }
    }
}

impl Sources {
    fn with_cursors(&self, view: SourceView) -> SourceView {
        let Some(table) = &self.cursor else { return view };
        let cursors = self.ledger.cursors();
        let cursor = cursors.position(&Read::default());
        let cursor = cursor.cursor().or(table.start.as_deref()).map(cut);
        let mut newest = cursors_of(&cursors, READS_SHOWN);
        newest.iter_mut().for_each(|view| view.cursor = cut(&view.cursor));
        SourceView { cursor, reads: cursors.len() as u64, cursors: newest, ..view }
    }
}

/// The reads that moved last, newest first, with their whole cursors.
pub fn cursors_of(cursors: &Cursors, most: usize) -> Vec<CursorView> {
    let newest = cursors.newest_first().into_iter().take(most);
    newest.map(|(read, known)| CursorView { read: read.text().to_owned(), cursor: known.cursor.clone(), moved_at: known.at }).collect()
}

fn cut(cursor: &str) -> String {
    cursor.chars().take(CURSOR_MOST).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_cursor_is_cut() {
        assert_eq!(cut(&"ä".repeat(1_000)).chars().count(), CURSOR_MOST);
        assert_eq!(cut("7"), "7");
    }
}
