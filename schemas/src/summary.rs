//! The closing summary of `demo` and `run --until-idle`.

use serde::{Deserialize, Serialize};

/// What a process did from its start to its end. Serialises to one JSON object; its keys are stable.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Records found in the pages of the API.
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
    /// From the record's timestamp in the topic until its row was acknowledged.
    pub latency_ms: Latency,
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
