//! Events of the journal: decisions and facts, at the rate of pages, micro-batches and lifecycle
//! changes. Never records, samples or secrets.
//!
//! In the journal an event is one object:
//! `{"seq":7,"at":"…","v":1,"type":"RunStarted","data":{…}}`. `v` is the version of its type's data
//! ([`Event::version`]).
//!
//! Guarantees:
//! * [`decode`] reads every version that was ever written, and returns the newest one
//!   (`upcast.rs`). No other code knows of old versions.
//! * Each version has a line in `fixtures/events.v*.ndjson`, which decodes forever.

mod display;
mod plausible_timestamps;
mod upcast;

pub use plausible_timestamps::{PLAUSIBLE_MILLIS, is_plausible, why_implausible};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::desired::DesiredState;
use crate::drift::DriftedField;
use crate::offset::{ByPartition, Checkpoint, Offset, Partition, Range, Ranges};
use crate::rejects::Rejects;
use crate::run::{Cancelled, RunError, RunSpec, RunWritten, Stop};
use crate::source_read::{Position, Read, Validators};
use crate::topic_id::TopicId;
use crate::watermark::Pass;

/// Defines [`Event`], so that each type is named once, together with the version of its data.
macro_rules! events {
    ($(#[$meta:meta])* pub enum Event { $($(#[$doc:meta])* $kind:ident = $version:literal $fields:tt,)* }) => {
        $(#[$meta])*
        pub enum Event {
            $($(#[$doc])* $kind $fields,)*
        }

        impl Event {
            /// The names of all types, in the order of their declaration.
            pub const KINDS: &'static [&'static str] = &[$(stringify!($kind)),*];

            /// The name of its type, as in the journal.
            pub fn kind(&self) -> &'static str {
                match self {
                    $(Self::$kind { .. } => stringify!($kind),)*
                }
            }

            /// The version of its data that is written today.
            pub fn version(&self) -> u32 {
                match self {
                    $(Self::$kind { .. } => $version,)*
                }
            }
        }

        /// The version of a type's data that is written today; 1 for an unknown type.
        fn version_of(kind: &str) -> u32 {
            let versions = [$((stringify!($kind), $version)),*];
            versions.iter().find(|(known, _)| *known == kind).map_or(1, |(_, version)| *version)
        }
    };
}

events! {
    /// What happened.
    #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
    #[cfg_attr(test, derive(schemars::JsonSchema))]
    #[serde(tag = "type", content = "data")]
    #[allow(missing_docs, reason = "`run` is the fetch, `actor` a path in the tree; the variants explain the rest")]
    pub enum Event {
        /// A process started to run the pipeline, with these parts of the tree, on this topic and
        /// as a member of this group. The group is empty if the pipeline ends at the topic.
        PipelineStarted = 2 { version: String, roles: Vec<String>, topic: String, group: String },
        /// The process ended. `clean`: it was asked to, and everything in flight was settled.
        PipelineStopped = 1 { clean: bool },
        /// The SQL that turns records into rows from here on. Dead letters carry its fingerprint.
        TransformActivated = 1 { sql: String, fingerprint: String },
        /// A client requested a run under a key. `from`: where a run starts that reads again;
        /// absent, it starts at the cursor of its read. `began`: where the first attempt at the key
        /// started, if there was one.
        RunRequested = 4 {
            run: Uuid,
            key: String,
            attempt: u32,
            #[serde(flatten)]
            spec: RunSpec,
            #[serde(default, skip_serializing_if = "Option::is_none")]
            from: Option<Position>,
            #[serde(default, skip_serializing_if = "Option::is_none")]
            began: Option<Position>,
        },
        /// The fetcher started to work on the run. After a restart it starts again, from the page
        /// that it had reached. Version 1 did not say from where.
        RunStarted = 2 {
            run: Uuid,
            #[serde(default, skip_serializing_if = "Option::is_none")]
            at: Option<Position>,
        },
        /// The source answered a page. `cursor` is the cursor of the request.
        PageFetched = 2 {
            run: Uuid,
            records: u64,
            #[serde(default, skip_serializing_if = "Option::is_none")]
            cursor: Option<String>,
        },
        /// Kafka acknowledged a page: the number of records in the topic and their ranges, and the
        /// number of dead letters and their reasons. `cursor` is the cursor of the fetch's next
        /// page, absent if unchanged. `moves` is the read whose cursor moves there; without
        /// `cursor`, it returns to its start, because the page was the last one.
        PageProduced = 3 {
            run: Uuid,
            ranges: Ranges,
            produced: u64,
            rejected: u64,
            #[serde(default, skip_serializing_if = "Option::is_none")]
            cursor: Option<String>,
            #[serde(default, skip_serializing_if = "Option::is_none")]
            moves: Option<Read>,
            #[serde(default, skip_serializing_if = "Rejects::is_empty")]
            rejects: Rejects,
        },
        /// The source changed to this one, identified by a hash of its address and its cursor
        /// settings. Its reads continue where they were when it was last fetched from.
        SourceNamed = 1 { source: String },
        /// An operator set the cursor of a read, or reset the read to its start.
        CursorSet = 1 { read: Read, from: Position, to: Position, by: String, reason: String },
        /// The cursor of a read was dropped, because too many others moved since. The next fetch of
        /// that read starts over.
        CursorForgotten = 1 { read: Read, cursor: String },
        /// An incremental read went on. With `pass`, everything behind `at` is being read, and a
        /// part of it is in Kafka; without, it is read up to `at`, the watermark, absent when no
        /// record had one. `seen` are then hashes of the records that the next fetch asks for
        /// again and does not produce again.
        WatermarkMoved = 1 {
            run: Uuid,
            read: Read,
            #[serde(default, skip_serializing_if = "Option::is_none")]
            at: Option<String>,
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pass: Option<Pass>,
            #[serde(default, skip_serializing_if = "Vec::is_empty")]
            seen: Vec<String>,
        },
        /// The whole answer to a read is in Kafka. The next fetch asks whether it has changed since
        /// it said this of itself. Without either: another answer is on its way to Kafka, and until
        /// it is there a fetch asks without a condition.
        ValidatorsKept = 1 { run: Uuid, read: Read, validators: Validators },
        /// All records of the run are in the topic; `stop` says why no further page was requested.
        /// Version 1 did not say why.
        RunProduced = 2 {
            run: Uuid,
            #[serde(default, skip_serializing_if = "Option::is_none")]
            stop: Option<Stop>,
        },
        /// Every record of the run is readable in the table, or is a dead letter.
        RunSucceeded = 1 { run: Uuid },
        /// The run ended without success.
        RunFailed = 1 { run: Uuid, error: RunError },
        /// An operator cancelled the run.
        RunCancelled = 2 {
            run: Uuid,
            #[serde(flatten)]
            cancelled: Cancelled,
        },
        /// An operator set the desired state of the pipeline.
        StateDesired = 1 { state: DesiredState, by: String, reason: String },
        /// An operator requested the restart of an actor.
        ActorRestartRequested = 1 { actor: String, by: String, reason: String },
        /// Dead letters of these ranges of the dead-letter topic were produced to the topic again.
        LettersRedriven = 1 { letters: Ranges, records: u64, by: String, reason: String },
        /// Dead letters of these ranges of the dead-letter topic were dropped: they are not
        /// redriven.
        LettersDropped = 1 { letters: Ranges, records: u64, by: String, reason: String },
        /// The source asked for a pause, or was unreachable.
        SourceThrottled = 1 { millis: u64, reason: String },
        /// A micro-batch is in the table: its offsets, its rows and dead letters, and the
        /// microseconds of its stages. `written`: the partitions whose written offset it moved.
        /// While earlier batches are in flight, it moves none. `runs`: what became of the records
        /// of open runs up to those offsets, of this batch and of earlier ones, so no record is in
        /// two events of one epoch.
        BatchWritten = 3 {
            batch: u64,
            ranges: Ranges,
            rows: u64,
            rejected: u64,
            wait_micros: u64,
            transform_micros: u64,
            write_micros: u64,
            written: Checkpoints,
            #[serde(default, skip_serializing_if = "Vec::is_empty")]
            runs: Vec<RunWritten>,
        },
        /// Kafka confirmed that the group has committed these offsets.
        OffsetsCommitted = 1 { offsets: Offsets },
        /// The group assigned partitions to this process. It reads each from this checkpoint.
        PartitionsAssigned = 2 { starts: Starts },
        /// The group revoked partitions from this process.
        PartitionsRevoked = 1 { partitions: Vec<Partition> },
        /// The topic's id in Kafka; the first one in this journal.
        TopicIdentified = 1 { id: TopicId },
        /// The topic was deleted and created again under the same name, so old offsets mean other
        /// records or none. All its partitions are read from their start. Runs that had started
        /// before have failed, retryable.
        TopicRecreated = 1 { from: TopicId, to: TopicId },
        /// What the group has committed for partitions of other processes, observed while a run
        /// waits for them.
        PartitionsSeen = 1 {
            #[serde(rename = "places")]
            checkpoints: Checkpoints,
        },
        /// An operator reset the offsets of partitions. `from`: the first unwritten offsets before.
        OffsetsReset = 1 { by: String, reason: String, from: Offsets, to: Checkpoints },
        /// Records that can no longer be read, and that this pipeline has not written as far as it
        /// knows.
        RangeLost = 1 { partition: Partition, range: Range, reason: String },
        /// A record's own timestamp was ignored as implausible: it lies before the year 2000 or
        /// after
        /// 2099. The record is written in the order of its offset. Only the first one of a
        ///       partition in an assignment.
        TimestampClamped = 1 { partition: Partition, offset: Offset, timestamp_ms: i64 },
        /// Records have fields that the schema does not have, with the first record of each. Each
        /// field is in one event.
        SchemaDrifted = 1 { fields: Vec<DriftedField> },
        /// An incarnation of an actor started.
        ChildStarted = 1 { actor: String, incarnation: u64 },
        /// An incarnation of an actor exited, and why.
        ChildExited = 1 { actor: String, incarnation: u64, exit: String },
        /// An actor is stalled: it should make progress and makes none.
        ChildStuck = 1 { actor: String, silent_millis: u64 },
        /// A supervisor will restart these actors after a delay.
        RestartScheduled = 1 { actor: String, delay_millis: u64, affected: Vec<String> },
        /// A supervisor counted more restarts than it allows.
        IntensityExceeded = 1 { actor: String, restarts: u64, within_millis: u64 },
        /// A supervisor gave up and escalated to its parent.
        Escalated = 1 { actor: String, reason: String },
    }
}

/// Where an assigned partition is read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Start {
    /// The checkpoint.
    #[serde(flatten)]
    pub checkpoint: Checkpoint,
    /// How it was found.
    pub origin: StartOrigin,
}

/// How the start of a partition was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum StartOrigin {
    /// The group's commit.
    Group,
    /// This journal, which is ahead of the group's commit.
    Journal,
    /// The start of the partition, which was never read before.
    #[serde(rename = "begin")]
    Earliest,
    /// The start of the partition, again: the group's offset belongs to a topic that was deleted
    /// and created again, or the group has no offset although this journal has one.
    #[serde(rename = "again")]
    Reset,
}

/// An offset per partition.
pub type Offsets = ByPartition<Offset>;
/// A checkpoint per partition.
pub type Checkpoints = ByPartition<Checkpoint>;
/// A start per partition.
pub type Starts = ByPartition<Start>;

impl Event {
    /// The run of the event, if it belongs to a run or to a scheduled fetch.
    pub fn run(&self) -> Option<Uuid> {
        match self {
            Self::RunRequested { run, .. }
            | Self::RunStarted { run, .. }
            | Self::PageFetched { run, .. }
            | Self::PageProduced { run, .. }
            | Self::WatermarkMoved { run, .. }
            | Self::ValidatorsKept { run, .. }
            | Self::RunProduced { run, .. }
            | Self::RunSucceeded { run }
            | Self::RunFailed { run, .. }
            | Self::RunCancelled { run, .. } => Some(*run),
            _ => None,
        }
    }
}

/// An event with its position in the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Recorded {
    /// The sequence number, from 1.
    pub seq: u64,
    /// When it was decided.
    pub at: DateTime<Utc>,
    /// The version of its data.
    pub v: u32,
    /// The event.
    #[serde(flatten)]
    pub event: Event,
}

impl Recorded {
    /// An event at this position, in the newest version.
    pub fn new(seq: u64, at: DateTime<Utc>, event: Event) -> Self {
        Self { seq, at, v: event.version(), event }
    }

    /// Its JSON, as in the journal.
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("an event always serializes")
    }
}

/// An event that this version can't read.
#[derive(Debug, thiserror::Error)]
#[error("can't read event {seq}: {why}; use the version of Forebay that wrote it, or a newer one")]
pub struct Undecodable {
    /// Its sequence number; 0 if that is unreadable too.
    pub seq: u64,
    /// The reason.
    pub why: String,
}

/// Decodes an event from the JSON of a journal line, in the newest version.
///
/// # Errors
/// When the type or the version is unknown, or the data does not match its version.
pub fn decode(json: &[u8]) -> Result<Recorded, Undecodable> {
    #[derive(Deserialize)]
    struct Envelope<'a> {
        seq: u64,
        at: DateTime<Utc>,
        v: u32,
        #[serde(rename = "type")]
        kind: &'a str,
    }
    let Envelope { seq, at, v, kind } =
        serde_json::from_slice(json).map_err(|cause| Undecodable { seq: sequence_of(json), why: cause.to_string() })?;
    let newest = version_of(kind);
    if v == 0 || v > newest {
        return Err(Undecodable { seq, why: format!("unknown version {v} of {kind}") });
    }
    let event = if v == newest {
        // The tag precedes the data, so serde buffers nothing, and it skips the keys of the
        // envelope.
        serde_json::from_slice(json)
    } else {
        serde_json::from_slice::<Value>(json).and_then(|value| serde_json::from_value(upcast::newest(kind, v, value)))
    };
    let event = event.map_err(|cause| Undecodable { seq, why: cause.to_string() })?;
    Ok(Recorded { seq, at, v: newest, event })
}

fn sequence_of(json: &[u8]) -> u64 {
    serde_json::from_slice::<Value>(json).ok().and_then(|value| value["seq"].as_u64()).unwrap_or(0)
}

#[cfg(test)]
mod tests;
