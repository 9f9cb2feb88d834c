//! A look at the whole pipeline, from what its parts let be seen. Taking one waits for no actor.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use forebay_schemas::snapshot::Snapshot;
use forebay_schemas::summary::Latency;

use crate::kernel::{Budget, Registry, SharedClock};
use crate::ledger::Ledger;
use crate::telemetry::{Telemetry, memory};

/// How many runs a look shows.
const RUNS_SHOWN: usize = 50;

/// Takes looks at a running pipeline; cheap to clone, usable from any thread.
#[derive(Clone)]
pub struct Viewer(pub(super) Arc<Sources>);

/// Where a look comes from.
pub(super) struct Sources {
    pub(super) pipeline: String,
    pub(super) topic: String,
    pub(super) table: String,
    pub(super) kafka: String,
    pub(super) cassandra: String,
    pub(super) roles: Vec<String>,
    pub(super) started_at: DateTime<Utc>,
    pub(super) clock: SharedClock,
    pub(super) telemetry: Arc<Telemetry>,
    pub(super) registry: Registry,
    pub(super) ledger: Arc<Ledger>,
    pub(super) edges: Vec<Budget>,
    pub(super) trigger_micros: Option<u64>,
}

impl Viewer {
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
            actors: from.registry.actors(),
            runs: from.ledger.recent(RUNS_SHOWN),
            edges: from.edges.iter().map(Budget::view).collect(),
            seq: from.ledger.last_event(),
            desired: from.ledger.desired(),
            stages: from.telemetry.stages(),
            source: from.telemetry.source_view(),
            store: from.telemetry.store_view(),
            alerts: from.telemetry.alerts(),
            memory_bytes: memory::resident_bytes(),
            end_to_end,
            durable_seq: from.ledger.durable_seq(),
            run_totals: from.ledger.run_totals(),
            trigger_micros: from.trigger_micros,
        }
    }
}
