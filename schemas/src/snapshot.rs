//! One look at a whole pipeline: what the monitor draws, `status` prints and `GET /v1/snapshot` answers.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::desired::Desired;
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
    /// When this look was taken.
    pub at: DateTime<Utc>,
    /// The parts of the tree this process runs: `ingest`, `egress`, `api`.
    pub roles: Vec<String>,
    /// Where Kafka is, as a person would write it; `embedded (127.0.0.1:PORT)` when it is inside the process.
    pub kafka: String,
    /// Where the table is: contact points, or `embedded (FILE)`.
    pub cassandra: String,
    /// The topic the records pass through.
    pub topic: String,
    /// The table they end in.
    pub table: String,
    /// Totals since the process started.
    pub totals: Totals,
    /// The state of each partition, in order.
    pub partitions: Vec<PartitionView>,
    /// Produced to written, over the last minutes.
    pub latency_ms: Latency,
    /// The last batches, newest first.
    pub batches: Vec<BatchView>,
    /// The supervision tree, depth first: a parent before its children.
    pub actors: Vec<ActorView>,
    /// The runs, newest first.
    pub runs: Vec<Run>,
    /// Each edge between two actors and how full its budget is.
    pub edges: Vec<EdgeView>,
    /// The last event that was decided; 0 without a journal.
    #[serde(default)]
    pub seq: u64,
    /// What the pipeline is meant to do.
    #[serde(default)]
    pub desired: Desired,
    /// The stages, in the order of the way: `fetch`, `produce`, `wait`, `transform`, `write`, `commit`.
    #[serde(default)]
    pub stages: Vec<StageView>,
    /// The API that is fetched from; absent where this process does not fetch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<SourceView>,
    /// The store; absent where this process does not write.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<StoreView>,
    /// What is wrong now, by the rules that the shipped Prometheus alerts have too.
    #[serde(default)]
    pub alerts: Vec<AlertView>,
    /// Bytes of memory that the process has in use (resident set); 0 where the system does not tell.
    #[serde(default)]
    pub memory_bytes: u64,
    /// From a record's timestamp in the topic until its row was acknowledged, as a stage of that name.
    #[serde(default)]
    pub end_to_end: StageView,
    /// The last event that is on the disk; 0 without a journal.
    #[serde(default)]
    pub durable_seq: u64,
    /// How many runs are open, and how many ended since the process started.
    #[serde(default)]
    pub run_totals: RunTotals,
    /// The trigger of micro-batches, `[consumer] batch.max_wait`, microseconds; 0 when no batch waits for more records. Absent where this process
    /// does not read the topic, and in older recordings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trigger_micros: Option<u64>,
    /// Why records are dead letters since the process started, the most frequent reason first, without the records' values; `forebay dlq` shows the
    /// letters.
    #[serde(default, skip_serializing_if = "Rejects::is_empty")]
    pub rejects: Rejects,
    /// What the process has on the disk; absent before it was first measured, and in older recordings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<DiskView>,
}

/// What a process has on the disk, and how much room is left there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct DiskView {
    /// Bytes that the process may still take on the file system of its data directory; absent where the system does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub free_bytes: Option<u64>,
    /// All bytes of that file system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_bytes: Option<u64>,
    /// Bytes of the journal.
    pub journal_bytes: u64,
    /// The embedded broker's topics; absent with a real broker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic: Option<TopicDiskView>,
    /// Bytes of the embedded table; absent with Cassandra.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table_bytes: Option<u64>,
}

/// The topics of the embedded broker on the disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct TopicDiskView {
    /// Bytes of its files, free room in them included.
    pub bytes: u64,
    /// `[kafka] retention.bytes`: what the records may take. The files can be larger while more than that waits to be written, and stay so.
    pub limit_bytes: u64,
    /// Records that were removed since the process started because they were over `[kafka] retention`.
    pub removed_records: u64,
}

/// How many runs there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct RunTotals {
    /// Runs that have not ended.
    pub open: u64,
    /// Runs that succeeded since the process started.
    pub succeeded: u64,
    /// Runs that failed since then.
    pub failed: u64,
    /// Runs that were called off since then.
    pub cancelled: u64,
}

/// How long one stage of the way takes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct StageView {
    /// Its name.
    pub stage: String,
    /// How often it was gone through since the start.
    pub count: u64,
    /// All of it together, microseconds.
    pub sum_micros: u64,
    /// Percentiles over the last minutes, microseconds; 0 when there was none.
    pub p50_micros: u64,
    /// See `p50_micros`.
    pub p95_micros: u64,
    /// See `p50_micros`.
    pub p99_micros: u64,
    /// The longest over the last minutes.
    pub max_micros: u64,
    /// Since the start: how often it took at most so many microseconds; in ascending order, each counting all before it.
    pub buckets: Vec<(u64, u64)>,
}

/// The API that records come from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct SourceView {
    /// Its address without user, password and query.
    pub url: String,
    /// How often it answered with each class of status: `2xx`, `304`, `3xx`, `4xx`, `429`, `5xx`; and `none` when it did not answer.
    pub statuses: BTreeMap<String, u64>,
    /// How long it was left alone since the start because it asked for that or failed, microseconds.
    pub throttled_micros: u64,
    /// What the next page of the read without params is asked with, if the API gives cursors; cut when it is long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    /// How many reads are not at their begin.
    #[serde(default)]
    pub reads: u64,
    /// The last of them that moved, newest first; all of them: `GET /v1/cursors`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cursors: Vec<CursorView>,
    /// How the last fetch ended, of a run or of the schedule; absent before one has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop: Option<Stop>,
}

/// Where a read of the source is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct CursorView {
    /// The params of its fetches as the query of an address, sorted by name; empty without params.
    pub read: String,
    /// What its next page is asked with; in a snapshot cut when it is long.
    pub cursor: String,
    /// When it moved there; absent when that was not kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moved_at: Option<DateTime<Utc>>,
}

/// The store that rows go to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct StoreView {
    /// `cassandra` or `embedded`.
    pub kind: String,
    /// The consistency level of writes; empty when embedded.
    pub consistency: String,
    /// Statements that were sent and are not answered.
    pub in_flight: u64,
    /// Statements that were acknowledged since the start: a CQL batch is one.
    pub statements: u64,
    /// Attempts made again, by reason: `write_timeout`, `unavailable`, `overloaded`, `connection`, `policy`, `disk_full`, `other`.
    pub retries: BTreeMap<String, u64>,
    /// The nodes; one when embedded.
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
    /// Connections to it, as far as the driver tells: those it keeps to a node that is up, 0 to one that is down.
    pub connections: u64,
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct AlertView {
    /// The rule, as in the Prometheus file: `ForebayLagGrows`.
    pub name: String,
    /// `warning` or `critical`.
    pub severity: String,
    /// What is wrong, with its numbers.
    pub summary: String,
    /// What to do.
    pub remedy: String,
    /// Since when.
    pub since: DateTime<Utc>,
}

/// Totals since the process started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Totals {
    /// Pages the API answered.
    pub pages: u64,
    /// Fetches that failed, each tried again.
    pub fetch_failures: u64,
    /// Records found in the pages.
    pub fetched: u64,
    /// Records that Kafka acknowledged in the topic.
    pub produced: u64,
    /// Records read from the topic and settled: written, filtered out or dead letters.
    pub consumed: u64,
    /// Rows that the table acknowledged.
    pub written: u64,
    /// Records that went to the dead-letter topic.
    pub rejected: u64,
    /// Attempts to write that failed and were made again.
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
    /// The first offset Kafka still holds.
    pub begin: Offset,
    /// Where reading ends: the offset the next record will get, or the first one of a transaction that is open.
    pub end: Offset,
    /// All before it is in the table or a dead letter; −1 when this process does not know.
    pub written: Offset,
    /// What the consumer group has committed; −1 when nothing is.
    pub committed: Offset,
    /// Whether this process has the partition.
    pub assigned: bool,
    /// Whether the consumer has paused it for want of budget.
    pub paused: bool,
    /// Records read since the process started whose timestamp lies before the year 2000 or after 2099: a mistake (seconds or nanoseconds, say), which
    /// counts as none so that it does not decide which row is the newest.
    #[serde(default)]
    pub clamped: u64,
    /// Records read since the process started that have no key: those of one row may be in several partitions, and then its row is that of one of
    /// them, which need not be the newest.
    #[serde(default)]
    pub unkeyed: u64,
    /// How long ago the oldest record that is not written came into the topic, milliseconds: 0 without lag, −1 when not known.
    #[serde(default = "unknown")]
    pub behind_ms: i64,
    /// How many offsets from `end` on were written all the same: a transaction that is open holds them back, and they can't be read before it ends.
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
            begin: 0,
            end: -1,
            written: -1,
            committed: -1,
            assigned: false,
            paused: false,
            clamped: 0,
            unkeyed: 0,
            behind_ms: -1,
            held_back: 0,
        }
    }

    /// Records in the partition that can be read and are not yet written.
    pub fn lag(&self) -> u64 {
        let done = self.written.max(self.committed).max(self.begin);
        u64::try_from(self.end - done).unwrap_or(0)
    }
}

/// One micro-batch, when it was done.
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
    /// Microseconds from its first record's arrival until it was cut.
    pub wait_micros: u64,
    /// Microseconds of JSON, SQL and checks.
    pub transform_micros: u64,
    /// Microseconds until the last row was acknowledged.
    pub write_micros: u64,
    /// Microseconds from then until Kafka confirmed the commit; 0 while it has not.
    #[serde(default)]
    pub commit_micros: u64,
    /// The offsets it holds, a range a partition.
    #[serde(default)]
    pub ranges: Ranges,
    /// Attempts to write that were made again.
    #[serde(default)]
    pub retries: u64,
}

/// One node of the supervision tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ActorView {
    /// Its path from the root, such as `root/egress/writer`.
    pub path: String,
    /// What it is doing.
    pub state: ActorState,
    /// Its incarnation, from 1; each restart adds one.
    pub incarnation: u64,
    /// When this incarnation started.
    pub since: DateTime<Utc>,
    /// Why the incarnation before it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_exit: Option<String>,
    /// What it says of itself, such as `waiting for cassandra 127.0.0.1:9042: connection refused (attempt 4, next in 2.1 s)`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// Restarts since the process started.
    #[serde(default)]
    pub restarts: u64,
    /// Messages that wait in its mailbox.
    #[serde(default)]
    pub mailbox: u64,
}

/// What an actor is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ActorState {
    /// At work, or ready for it.
    Up,
    /// Up, but a server it needs is not there.
    Waiting,
    /// Up, but has made no progress for longer than its watchdog allows.
    Stuck,
    /// Down, its restart is scheduled.
    Restarting,
    /// Down for good.
    Ended,
}

/// The bytes in flight between two actors, against their budget.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct EdgeView {
    /// From whom to whom, such as `consumer -> writer`.
    pub name: String,
    /// The bytes in flight.
    pub used_bytes: u64,
    /// The most bytes that may be.
    pub budget_bytes: u64,
    /// Microseconds that the upstream actor has waited for budget since the start.
    pub blocked_micros: u64,
}

/// Percentiles of a duration, in milliseconds; zero when nothing was measured.
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
    fn a_look_of_the_first_version_decodes_and_what_it_did_not_tell_is_unknown() {
        let first = r#"{
            "pipeline": "users", "version": "0.0.1", "started_at": "2026-01-01T00:00:00Z", "at": "2026-01-01T00:00:01Z",
            "roles": ["egress"], "kafka": "k", "cassandra": "c", "topic": "t", "table": "t",
            "totals": { "pages": 1, "fetch_failures": 0, "fetched": 1, "produced": 1, "consumed": 1, "written": 1, "rejected": 0,
                        "write_retries": 0, "restarts": 0 },
            "partitions": [], "latency_ms": { "p50": 1.0, "p99": 2.0 }, "batches": [], "actors": [], "runs": [], "edges": []
        }"#;
        let look: Snapshot = serde_json::from_str(first).unwrap();
        assert_eq!((look.trigger_micros, look.seq, look.stages.len()), (None, 0, 0));
        let again = serde_json::to_value(&look).unwrap();
        assert!(again.get("trigger_micros").is_none(), "unknown is not told as if it were known: {again}");
    }
}
