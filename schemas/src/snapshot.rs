//! The state of a whole pipeline at one moment: drawn by the monitor, printed by `status`, answered
//! by `GET /v1/snapshot`.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::desired::Desired;
use crate::drift::DriftedField;
use crate::offset::{Offset, Partition, Ranges};
use crate::rejects::Rejects;
use crate::run::{Run, Stop};

/// A whole pipeline at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Snapshot {
    /// The name in the pipeline file.
    pub pipeline: String,
    /// The version of the program.
    pub version: String,
    /// When the process started.
    pub started_at: DateTime<Utc>,
    /// When the snapshot was taken.
    pub at: DateTime<Utc>,
    /// The roles of this process: `ingest`, `egress`, `api`.
    pub roles: Vec<String>,
    /// Kafka's address, for display; `embedded (127.0.0.1:PORT)` if it is inside the process.
    pub kafka: String,
    /// The store's address: contact points, or `embedded (FILE)`.
    pub cassandra: String,
    /// The topic that the records pass through.
    pub topic: String,
    /// The table that they end in.
    pub table: String,
    /// Totals since the process started.
    pub totals: Totals,
    /// The partitions, in order.
    pub partitions: Vec<PartitionView>,
    /// Latency from producing to writing, over the last minutes.
    pub latency_ms: Latency,
    /// The last batches, newest first.
    pub batches: Vec<BatchView>,
    /// The supervision tree, depth first: parents before their children.
    pub actors: Vec<ActorView>,
    /// The runs, newest first.
    pub runs: Vec<Run>,
    /// The edges between actors, and how full their budgets are.
    pub edges: Vec<EdgeView>,
    /// The last event decided; 0 without a journal.
    #[serde(default)]
    pub seq: u64,
    /// The desired state.
    #[serde(default)]
    pub desired: Desired,
    /// The stages, in order: `fetch`, `produce`, `wait`, `transform`, `write`, `commit`.
    #[serde(default)]
    pub stages: Vec<StageView>,
    /// The API that is fetched from; absent if this process does not fetch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<SourceView>,
    /// The store; absent if this process does not write.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<StoreView>,
    /// The firing alerts, by the same rules as the shipped Prometheus alerts.
    #[serde(default)]
    pub alerts: Vec<AlertView>,
    /// The process's resident memory in bytes; 0 if the system does not report it.
    #[serde(default)]
    pub memory_bytes: u64,
    /// Latency from a record's timestamp in the topic until its row was acknowledged, as a stage.
    #[serde(default)]
    pub end_to_end: StageView,
    /// The last event on disk; 0 without a journal.
    #[serde(default)]
    pub durable_seq: u64,
    /// How many runs are open, and how many ended since the process started.
    #[serde(default)]
    pub run_totals: RunTotals,
    /// `[consumer] batch.max_wait` in microseconds; 0 if no batch waits for more records. Absent if
    /// this process does not read the topic, and in older recordings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trigger_micros: Option<u64>,
    /// Dead letters by reason since the process started, the most frequent first, without the
    /// records' values; `forebay dlq` shows the dead letters.
    #[serde(default, skip_serializing_if = "Rejects::is_empty")]
    pub rejects: Rejects,
    /// Fields of records that the schema does not have, since the process started, in the order in
    /// which they were seen; at most 100.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub drift: Vec<DriftedField>,
    /// Disk usage of the process; absent before the first measurement, and in older recordings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<DiskView>,
}

/// The disk usage of a process, and the space left.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct DiskView {
    /// Bytes available to the process on the file system of its data directory; absent if the
    /// system does not report it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub free_bytes: Option<u64>,
    /// The size of that file system in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_bytes: Option<u64>,
    /// The size of the journal in bytes.
    pub journal_bytes: u64,
    /// The embedded broker's topics; absent with a real broker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic: Option<TopicDiskView>,
    /// The size of the embedded table in bytes; absent with Cassandra.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table_bytes: Option<u64>,
}

/// The disk usage of the embedded broker's topics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct TopicDiskView {
    /// The size of its files in bytes, including free space in them.
    pub bytes: u64,
    /// `[kafka] retention.bytes`: the limit for records. The files grow beyond it while more than
    /// that waits to be written, and don't shrink.
    pub limit_bytes: u64,
    /// Records removed since the process started because they exceeded `[kafka] retention`.
    pub removed_records: u64,
}

/// Counts of runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct RunTotals {
    /// Runs that have not ended.
    pub open: u64,
    /// Runs that succeeded since the process started.
    pub succeeded: u64,
    /// Runs that failed since the process started.
    pub failed: u64,
    /// Runs that were cancelled since the process started.
    pub cancelled: u64,
}

/// How long one stage takes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct StageView {
    /// Its name.
    pub stage: String,
    /// How often it ran since the process started.
    pub count: u64,
    /// Its total duration in microseconds.
    pub sum_micros: u64,
    /// Percentiles over the last minutes, in microseconds; 0 if there are no measurements.
    pub p50_micros: u64,
    /// See `p50_micros`.
    pub p95_micros: u64,
    /// See `p50_micros`.
    pub p99_micros: u64,
    /// The maximum over the last minutes.
    pub max_micros: u64,
    /// Since the process started: how often it took at most this many microseconds; ascending and
    /// cumulative.
    pub buckets: Vec<(u64, u64)>,
}

/// The API that records come from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct SourceView {
    /// Its address without user, password and query.
    pub url: String,
    /// The number of responses by status class: `2xx`, `304`, `3xx`, `4xx`, `429`, `5xx`; `none`
    /// for requests without a response.
    pub statuses: BTreeMap<String, u64>,
    /// How long fetching was suspended since the process started, because the API asked for it or
    /// failed, in microseconds.
    pub throttled_micros: u64,
    /// The cursor of the next page of the read without params, if the API has cursors; truncated if
    /// long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    /// The number of reads that are not at their start.
    #[serde(default)]
    pub reads: u64,
    /// The last ones that moved, newest first; `GET /v1/cursors` lists all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cursors: Vec<CursorView>,
    /// How the last fetch ended, of a run or of the schedule; absent before the first one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop: Option<Stop>,
}

/// The position of a read of the source.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct CursorView {
    /// The params of its fetches as a URL query, sorted by name; empty without params.
    pub read: String,
    /// The cursor of its next page; truncated in a snapshot if long.
    pub cursor: String,
    /// When it moved there; absent if unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moved_at: Option<DateTime<Utc>>,
}

/// How far an incremental read of the source has got.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct WatermarkView {
    /// The params of its fetches as a URL query, sorted by name; empty without params.
    pub read: String,
    /// The watermark: everything up to it is in the topic. Absent before the first complete fetch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watermark: Option<String>,
    /// The largest value so far, while a fetch is not complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reached: Option<String>,
    /// When it last moved.
    pub moved_at: DateTime<Utc>,
}

/// The store that rows are written to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct StoreView {
    /// `cassandra` or `embedded`.
    pub kind: String,
    /// The consistency level of writes; empty for the embedded store.
    pub consistency: String,
    /// Statements that were sent and not yet answered.
    pub in_flight: u64,
    /// Statements acknowledged since the process started; a CQL batch counts as one.
    pub statements: u64,
    /// Retries by reason: `write_timeout`, `unavailable`, `overloaded`, `connection`, `policy`,
    /// `disk_full`, `other`.
    pub retries: BTreeMap<String, u64>,
    /// The nodes; one for the embedded store.
    pub nodes: Vec<NodeView>,
}

/// A node of the store.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct NodeView {
    /// Its address.
    pub address: String,
    /// Its data centre.
    pub datacenter: String,
    /// Its rack.
    pub rack: String,
    /// Whether it is connected.
    pub up: bool,
    /// Connections to it as reported by the driver: those it keeps to a node that is up, 0 to one
    /// that is down.
    pub connections: u64,
}

/// A firing alert.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct AlertView {
    /// The rule, as in the Prometheus file: `ForebayLagGrows`.
    pub name: String,
    /// `warning` or `critical`.
    pub severity: String,
    /// What is wrong, with numbers.
    pub summary: String,
    /// The remedy.
    pub remedy: String,
    /// When it started.
    pub since: DateTime<Utc>,
}

/// Totals since the process started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Totals {
    /// Pages that the source answered.
    pub pages: u64,
    /// Failed fetches; each was retried.
    pub fetch_failures: u64,
    /// Records found in the pages.
    pub fetched: u64,
    /// Those of them that were left out, since the overlap of an incremental read had them in an
    /// earlier fetch.
    #[serde(default)]
    pub repeated: u64,
    /// Records that Kafka acknowledged in the topic.
    pub produced: u64,
    /// Records read from the topic and settled: written, filtered out or dead letters.
    pub consumed: u64,
    /// Rows that the table acknowledged.
    pub written: u64,
    /// Records that went to the dead-letter topic.
    pub rejected: u64,
    /// Failed attempts to write; each was retried.
    pub write_retries: u64,
    /// Restarts of actors.
    pub restarts: u64,
}

/// One partition of the topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct PartitionView {
    /// Its number.
    pub partition: Partition,
    /// The first offset that Kafka holds.
    pub begin: Offset,
    /// Where reading ends: the end offset, or the first offset of an open transaction.
    pub end: Offset,
    /// Everything before it is in the table or a dead letter; −1 if this process does not know.
    pub written: Offset,
    /// The group's committed offset; −1 without one.
    pub committed: Offset,
    /// Whether the partition is assigned to this process.
    pub assigned: bool,
    /// Whether the consumer paused it for lack of budget.
    pub paused: bool,
    /// Records read since the process started whose timestamp lies before the year 2000 or after
    /// 2099. It is likely a mistake, such as seconds or nanoseconds, and is ignored, so that it
    /// does not decide which row is the newest.
    #[serde(default)]
    pub clamped: u64,
    /// Records without a key, read since the process started. Those of one row may be in several
    /// partitions; the row that wins need not be the newest.
    #[serde(default)]
    pub unkeyed: u64,
    /// The age of the oldest unwritten record in the topic, in milliseconds: 0 without lag, −1 if
    /// unknown.
    #[serde(default = "unknown")]
    pub behind_ms: i64,
    /// The number of offsets from `end` that an open transaction holds back: they are in the topic
    /// but can't be read until it ends.
    #[serde(default)]
    pub held_back: u64,
}

fn unknown() -> i64 {
    -1
}

impl PartitionView {
    /// A partition of which nothing is known.
    pub fn unknown(partition: Partition) -> Self {
        Self {
            partition,
            begin: Offset(0),
            end: Offset::UNKNOWN,
            written: Offset::UNKNOWN,
            committed: Offset::UNKNOWN,
            assigned: false,
            paused: false,
            clamped: 0,
            unkeyed: 0,
            behind_ms: -1,
            held_back: 0,
        }
    }

    /// The readable records of the partition that are not yet written.
    pub fn lag(&self) -> u64 {
        let done = self.written.max(self.committed).max(self.begin);
        self.end.since(done)
    }
}

/// One micro-batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct BatchView {
    /// Its number in this process, from 1.
    pub id: u64,
    /// When it was written.
    pub at: DateTime<Utc>,
    /// Records read from the topic.
    pub records: u64,
    /// Rows written.
    pub rows: u64,
    /// Records that became dead letters.
    pub rejected: u64,
    /// Microseconds from the arrival of its first record until it was sealed.
    pub wait_micros: u64,
    /// Microseconds for JSON, SQL and checks.
    pub transform_micros: u64,
    /// Microseconds until the last row was acknowledged.
    pub write_micros: u64,
    /// Microseconds from then until Kafka confirmed the commit; 0 while it has not.
    #[serde(default)]
    pub commit_micros: u64,
    /// The offsets it holds, one range per partition.
    #[serde(default)]
    pub ranges: Ranges,
    /// Retries of writes.
    #[serde(default)]
    pub retries: u64,
}

/// One node of the supervision tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ActorView {
    /// Its path from the root, such as `root/egress/writer`.
    pub path: String,
    /// Its state.
    pub state: ActorState,
    /// Its incarnation, from 1; each restart adds one.
    pub incarnation: u64,
    /// When this incarnation started.
    pub since: DateTime<Utc>,
    /// Why the previous incarnation exited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_exit: Option<String>,
    /// Its own note, such as `waiting for cassandra 127.0.0.1:9042: connection refused (attempt 4,
    /// next in 2.1 s)`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// Restarts since the process started.
    #[serde(default)]
    pub restarts: u64,
    /// Messages waiting in its mailbox.
    #[serde(default)]
    pub mailbox: u64,
}

/// The state of an actor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ActorState {
    /// Running.
    Up,
    /// Running, but waiting for a server.
    Waiting,
    /// Running, but without progress for longer than its watchdog allows.
    Stuck,
    /// Down; its restart is scheduled.
    Restarting,
    /// Down for good.
    Ended,
}

/// The bytes in flight between two actors, and their budget.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct EdgeView {
    /// Its name, such as `consumer -> writer`.
    pub name: String,
    /// The bytes in flight.
    pub used_bytes: u64,
    /// The budget in bytes.
    pub budget_bytes: u64,
    /// Microseconds that the upstream actor has waited for budget since the process started.
    pub blocked_micros: u64,
}

/// Percentiles of a duration, in milliseconds; zero without measurements.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Latency {
    /// The median.
    pub p50: f64,
    /// The 99th percentile.
    pub p99: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_of_the_first_version_decodes_and_missing_values_are_unknown() {
        let first = r#"{
            "pipeline": "users", "version": "0.0.1", "started_at": "2026-01-01T00:00:00Z", "at": "2026-01-01T00:00:01Z",
            "roles": ["egress"], "kafka": "k", "cassandra": "c", "topic": "t", "table": "t",
            "totals": { "pages": 1, "fetch_failures": 0, "fetched": 1, "produced": 1, "consumed": 1, "written": 1, "rejected": 0,
                        "write_retries": 0, "restarts": 0 },
            "partitions": [], "latency_ms": { "p50": 1.0, "p99": 2.0 }, "batches": [], "actors": [], "runs": [], "edges": []
        }"#;
        let snapshot: Snapshot = serde_json::from_str(first).unwrap();
        assert_eq!((snapshot.trigger_micros, snapshot.seq, snapshot.stages.len()), (None, 0, 0));
        let again = serde_json::to_value(&snapshot).unwrap();
        assert!(again.get("trigger_micros").is_none(), "an unknown value stays absent: {again}");
    }
}
