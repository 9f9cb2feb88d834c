//! One look at a whole pipeline: what the monitor draws, `status` prints and `GET /v1/snapshot` answers.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::offset::{Offset, Partition};
use crate::run::Run;
use crate::summary::Latency;

/// A whole pipeline at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
}

/// Totals since the process started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
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
pub struct PartitionView {
    /// Its number.
    pub partition: Partition,
    /// The first offset Kafka still holds.
    pub begin: Offset,
    /// The offset the next record will get.
    pub end: Offset,
    /// All before it is in the table or a dead letter; −1 when this process does not know.
    pub written: Offset,
    /// What the consumer group has committed; −1 when nothing is.
    pub committed: Offset,
    /// Whether this process has the partition.
    pub assigned: bool,
    /// Whether the consumer has paused it for want of budget.
    pub paused: bool,
    /// Records read since the process started whose timestamp lies after the year 2099: a mistake (nanoseconds, say), which counts as none so
    /// that it does not decide which row is the newest.
    #[serde(default)]
    pub clamped: u64,
}

impl PartitionView {
    /// Records in the partition that are not yet written.
    pub fn lag(&self) -> u64 {
        let done = self.written.max(self.committed).max(self.begin);
        u64::try_from(self.end - done).unwrap_or(0)
    }
}

/// One micro-batch, when it was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
}

/// One node of the supervision tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
}

/// What an actor is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
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
