//! The closing summary of `demo` and `run --until-idle`.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::offset::{Partition, Range};
use crate::run::Stop;
use crate::snapshot::Latency;

/// What a process did from start to end. Serializes to one JSON object with stable keys.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Records found in the source's pages.
    pub fetched: u64,
    /// Records that Kafka acknowledged in the topic.
    pub produced: u64,
    /// Records read from the topic and settled: written, filtered out by the SQL, or dead letters.
    pub consumed: u64,
    /// Rows that the table acknowledged.
    pub written: u64,
    /// Records that went to the dead-letter topic.
    pub rejected: u64,
    /// Restarts of actors.
    pub restarts: u64,
    /// From a record's timestamp in the topic until its row was acknowledged.
    pub latency_ms: Latency,
    /// How the last scheduled fetch ended, or the one fetch of `run --until-idle`; absent if there
    /// was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop: Option<Stop>,
    /// What transactions that were open at the end of `run --until-idle` held back, per partition;
    /// absent if there was none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub held_back: Vec<HeldBack>,
}

/// Offsets of a partition that can't be read until a transaction ends: its own, and those after its
/// first record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldBack {
    /// The partition.
    pub partition: Partition,
    /// The first offset of the open transaction, and the partition's end offset.
    #[serde(flatten)]
    pub range: Range,
}

/// `an open transaction at offset 7 of partition 0 holds back 3 offsets`.
impl fmt::Display for HeldBack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { partition, range } = self;
        write!(f, "an open transaction at offset {} of partition {partition} holds back {} offsets", range.from, range.len())
    }
}
