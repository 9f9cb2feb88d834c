//! Events of the journal: decisions and visible facts, at the rate of pages, micro-batches and lifecycles; never records, samples or secrets.
//!
//! In the journal an event is one object, `{"seq":7,"at":"…","v":1,"type":"RunStarted","data":{…}}`. `v` is the version of its type's data; [`decode`] brings
//! every version that was ever written to the newest one, so nobody else knows of old ones.

use std::fmt;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::offset::{Partition, Ranges};
use crate::run::RunError;

/// The version that every type has so far.
pub const VERSION: u32 = 1;

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", content = "data")]
#[allow(missing_docs, reason = "`run` is the run it happened to, `actor` the path in the tree; the rest is said at the variant")]
pub enum Event {
    /// A process began to run the pipeline, with these parts of the tree.
    PipelineStarted { version: String, roles: Vec<String> },
    /// The process ended; `clean` when it was asked to and all in flight was settled.
    PipelineStopped { clean: bool },
    /// The SQL that turns records into rows from here on; its fingerprint is in dead letters.
    TransformActivated { sql: String, fingerprint: String },
    /// Somebody asked for a run, under a key.
    RunRequested { run: Uuid, key: String, attempt: u32 },
    /// The fetcher is at work on it.
    RunStarted { run: Uuid },
    /// The API answered a page of so many records.
    PageFetched { run: Uuid, records: u64 },
    /// Kafka acknowledged a page: so many records in the topic, at these ranges, and so many dead letters.
    PageProduced { run: Uuid, ranges: Ranges, produced: u64, rejected: u64 },
    /// All of the run is in the topic.
    RunProduced { run: Uuid },
    /// All of it is readable in the table, or a dead letter.
    RunSucceeded { run: Uuid },
    /// It ended without success.
    RunFailed { run: Uuid, error: RunError },
    /// Somebody called it off.
    RunCancelled { run: Uuid },
    /// A micro-batch is in the table: its offsets, its rows and dead letters, and the microseconds of its stages.
    BatchWritten { batch: u64, ranges: Ranges, rows: u64, rejected: u64, wait_micros: u64, transform_micros: u64, write_micros: u64 },
    /// The group gave this process partitions.
    PartitionsAssigned { partitions: Vec<Partition> },
    /// The group took partitions from this process.
    PartitionsRevoked { partitions: Vec<Partition> },
    /// An incarnation of an actor began.
    ChildStarted { actor: String, incarnation: u64 },
    /// An incarnation of an actor ended, and why.
    ChildExited { actor: String, incarnation: u64, exit: String },
    /// A supervisor will restart these actors after a delay.
    RestartScheduled { actor: String, delay_millis: u64, affected: Vec<String> },
    /// A supervisor counted more restarts than it allows.
    IntensityExceeded { actor: String, restarts: u64, within_millis: u64 },
    /// A supervisor gave up and told its parent.
    Escalated { actor: String, reason: String },
}

impl Event {
    /// The run it happened to, if it is an event of a run.
    pub fn run(&self) -> Option<Uuid> {
        match self {
            Self::RunRequested { run, .. }
            | Self::RunStarted { run }
            | Self::PageFetched { run, .. }
            | Self::PageProduced { run, .. }
            | Self::RunProduced { run }
            | Self::RunSucceeded { run }
            | Self::RunFailed { run, .. }
            | Self::RunCancelled { run } => Some(*run),
            _ => None,
        }
    }
}

/// A line for a person.
impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PipelineStarted { version, roles } => write!(f, "pipeline started by version {version} as {}", roles.join(", ")),
            Self::PipelineStopped { clean: true } => f.write_str("pipeline stopped, all in flight settled"),
            Self::PipelineStopped { clean: false } => f.write_str("pipeline stopped with work in flight, which is read again"),
            Self::TransformActivated { fingerprint, .. } => write!(f, "SQL {fingerprint} is active"),
            Self::RunRequested { key, attempt, .. } => write!(f, "run {key:?} requested, attempt {attempt}"),
            Self::RunStarted { .. } => f.write_str("run started"),
            Self::PageFetched { records, .. } => write!(f, "page of {records} records fetched"),
            Self::PageProduced { produced, rejected, .. } => write!(f, "page produced: {produced} records, {rejected} rejected"),
            Self::RunProduced { .. } => f.write_str("run is in the topic"),
            Self::RunSucceeded { .. } => f.write_str("run succeeded"),
            Self::RunFailed { error, .. } => write!(f, "run failed at {}: {}", error.stage, error.message),
            Self::RunCancelled { .. } => f.write_str("run cancelled"),
            Self::BatchWritten { batch, ranges, rows, rejected, wait_micros, transform_micros, write_micros } => {
                write!(f, "batch {batch} written: {rows} rows, {rejected} rejected")?;
                for (partition, range) in &ranges.0 {
                    write!(f, ", p{partition} {range}")?;
                }
                write!(f, "; wait {wait_micros} µs, sql {transform_micros} µs, write {write_micros} µs")
            }
            Self::PartitionsAssigned { partitions } => write!(f, "partitions {partitions:?} assigned"),
            Self::PartitionsRevoked { partitions } => write!(f, "partitions {partitions:?} revoked"),
            Self::ChildStarted { actor, incarnation } => write!(f, "{actor} started, incarnation {incarnation}"),
            Self::ChildExited { actor, incarnation, exit } => write!(f, "{actor} ended, incarnation {incarnation}: {exit}"),
            Self::RestartScheduled { delay_millis, affected, .. } => write!(f, "restart of {} in {delay_millis} ms", affected.join(", ")),
            Self::IntensityExceeded { actor, restarts, within_millis } => {
                write!(f, "{actor}: {restarts} restarts in {within_millis} ms are too many")
            }
            Self::Escalated { actor, reason } => write!(f, "{actor} gives up: {reason}"),
        }
    }
}

/// An event with its place in the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recorded {
    /// Its sequence, from 1.
    pub seq: u64,
    /// When it was decided.
    pub at: DateTime<Utc>,
    /// The version of its data.
    pub v: u32,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// An event that this version can't read.
#[derive(Debug, thiserror::Error)]
#[error("event {seq} can't be read: {why}; the version that wrote it, or a newer one, can")]
pub struct Undecodable {
    /// Its sequence; 0 when not even that can be read.
    pub seq: u64,
    /// Why not.
    pub why: String,
}

/// An event out of the JSON of a journal's line, brought to the newest version.
///
/// # Errors
/// When its type or version is not known here, or its data is not what the version says.
pub fn decode(json: &[u8]) -> Result<Recorded, Undecodable> {
    let value: Value = serde_json::from_slice(json).map_err(|cause| Undecodable { seq: 0, why: cause.to_string() })?;
    let seq = value["seq"].as_u64().unwrap_or(0);
    let version = value["v"].as_u64().unwrap_or(0);
    if version == 0 || version > u64::from(VERSION) {
        return Err(Undecodable { seq, why: format!("{} has version {version}", value["type"]) });
    }
    serde_json::from_value(value).map_err(|cause| Undecodable { seq, why: cause.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_the_fixture_of_version_1_decodes_and_encodes_to_itself() {
        let fixture = include_str!("../fixtures/events.v1.ndjson");
        for line in fixture.lines() {
            let recorded = decode(line.as_bytes()).unwrap_or_else(|error| panic!("{line}: {error}"));
            assert_eq!(serde_json::to_string(&recorded).unwrap(), line);
            assert!(!recorded.event.to_string().is_empty());
        }
        // One line a type, so that a new type comes with its line.
        assert_eq!(fixture.lines().count(), 20);
    }

    #[test]
    fn an_unknown_type_and_a_newer_version_are_refused_by_their_sequence() {
        let newer = decode(br#"{"seq":9,"at":"2026-01-01T00:00:00Z","v":2,"type":"RunStarted","data":{}}"#).unwrap_err();
        assert_eq!(newer.seq, 9);
        let unknown = decode(br#"{"seq":8,"at":"2026-01-01T00:00:00Z","v":1,"type":"RunPainted","data":{}}"#).unwrap_err();
        assert!(unknown.seq == 8 && unknown.why.contains("RunPainted"), "{unknown}");
    }
}
