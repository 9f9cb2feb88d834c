//! Events of the journal: decisions and visible facts, at the rate of pages, micro-batches and lifecycles; never records, samples or secrets.
//!
//! In the journal an event is one object, `{"seq":7,"at":"…","v":1,"type":"RunStarted","data":{…}}`. `v` is the version of its type's data
//! ([`Event::version`]); [`decode`] brings every version that was ever written to the newest one (`upcast.rs`), so nobody else knows of old
//! ones. What each version looks like stands in `fixtures/events.v*.ndjson`, and decodes for ever.

mod display;
mod timestamp_range;
mod upcast;

pub use timestamp_range::{PLAUSIBLE_MILLIS, is_plausible, why_implausible};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::desired::DesiredState;
use crate::offset::{ByPartition, Checkpoint, Offset, Partition, Range, Ranges};
use crate::read::{Position, Read};
use crate::rejects::Rejects;
use crate::run::{Cancelled, RunError, RunSpec, RunWritten, Stop};
use crate::topic::TopicId;

/// Defines [`Event`], so that each type is named once, with the version of its data that is written today.
macro_rules! events {
    ($(#[$meta:meta])* pub enum Event { $($(#[$doc:meta])* $kind:ident = $version:literal $fields:tt,)* }) => {
        $(#[$meta])*
        pub enum Event {
            $($(#[$doc])* $kind $fields,)*
        }

        impl Event {
            /// The names of all types, in the order of their declaration.
            pub const KINDS: &'static [&'static str] = &[$(stringify!($kind)),*];

            /// The name of its type, as it stands in the journal.
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

        /// The version of a type's data that is written today; 1 for a type that is not known.
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
    #[allow(missing_docs, reason = "`run` is the fetch it happened to, `actor` the path in the tree; the rest is said at the variant")]
    pub enum Event {
        /// A process began to run the pipeline, with these parts of the tree, on this topic and as a member of this group; the group is empty when
        /// the pipeline ends at the topic.
        PipelineStarted = 2 { version: String, roles: Vec<String>, topic: String, group: String },
        /// The process ended; `clean` when it was asked to and all in flight was settled.
        PipelineStopped = 1 { clean: bool },
        /// The SQL that turns records into rows from here on; its fingerprint is in dead letters.
        TransformActivated = 1 { sql: String, fingerprint: String },
        /// Somebody asked for a run, under a key. `from` is where it begins when it reads again what was read before; absent: at the cursor of
        /// its read. `began` is where the first attempt at the key did, if one has.
        RunRequested = 3 {
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
        /// The fetcher is at work on it, from here on; again after a restart, and then from the page on that it had come to. Version 1 did not
        /// say from where.
        RunStarted = 2 {
            run: Uuid,
            #[serde(default, skip_serializing_if = "Option::is_none")]
            at: Option<Position>,
        },
        /// The API answered a page of so many records; `cursor` is what it was asked with.
        PageFetched = 2 {
            run: Uuid,
            records: u64,
            #[serde(default, skip_serializing_if = "Option::is_none")]
            cursor: Option<String>,
        },
        /// Kafka acknowledged a page: so many records in the topic, at these ranges, and so many dead letters, for these reasons. `cursor` is what the next page
        /// of this fetch is to be asked with, absent when that did not change; `moves` is the read whose cursor becomes that.
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
        /// The source is this one from here on, by a hash of its address and of how it gives cursors: its reads are where they were when it was
        /// last fetched from.
        SourceNamed = 1 { source: String },
        /// Somebody set the cursor of a read, or set the read back to its begin.
        CursorSet = 1 { read: Read, from: Position, to: Position, by: String, reason: String },
        /// The cursor of a read is not kept any more, since too many moved after it: the next fetch of the read begins at its begin.
        CursorForgotten = 1 { read: Read, cursor: String },
        /// All of the run is in the topic, and why no further page was asked for; version 1 did not say that.
        RunProduced = 2 {
            run: Uuid,
            #[serde(default, skip_serializing_if = "Option::is_none")]
            stop: Option<Stop>,
        },
        /// All of it is readable in the table, or a dead letter.
        RunSucceeded = 1 { run: Uuid },
        /// It ended without success.
        RunFailed = 1 { run: Uuid, error: RunError },
        /// Somebody called it off.
        RunCancelled = 2 {
            run: Uuid,
            #[serde(flatten)]
            cancelled: Cancelled,
        },
        /// Somebody said what the pipeline is meant to do.
        StateDesired = 1 { state: DesiredState, by: String, reason: String },
        /// Somebody had an actor restarted.
        ActorRestartRequested = 1 { actor: String, by: String, reason: String },
        /// Dead letters of these ranges of the dead-letter topic are in the topic again, so many records.
        LettersRedriven = 1 { letters: Ranges, records: u64, by: String, reason: String },
        /// The API asked to be left alone for a while, or could not be reached.
        SourceThrottled = 1 { millis: u64, reason: String },
        /// A micro-batch is in the table: its offsets, its rows and dead letters, and the microseconds of its stages. `written` are the partitions
        /// whose written end moved by it; batches before it may still be in flight, and then none does. `runs` is what became of the records of open runs
        /// which those ends have passed by that, of this batch and of those before it; so no record is in two events of one lineage.
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
        /// The group gave this process partitions; it reads each from here on.
        PartitionsAssigned = 2 { starts: Starts },
        /// The group took partitions from this process.
        PartitionsRevoked = 1 { partitions: Vec<Partition> },
        /// The id that Kafka has given the topic; the first that this journal knows of.
        TopicIdentified = 1 { id: TopicId },
        /// The topic was deleted and created again with the same name: offsets of before mean other records now, or none. All of its partitions are read
        /// from their begin, and runs that had begun before have failed, retryable.
        TopicRecreated = 1 { from: TopicId, to: TopicId },
        /// What the group has committed of partitions that other processes read; looked at while a run waits for them.
        PartitionsSeen = 1 {
            #[serde(rename = "places")]
            checkpoints: Checkpoints,
        },
        /// Somebody moved the place from which partitions are read: `from` is the first unwritten offset before.
        OffsetsReset = 1 { by: String, reason: String, from: Offsets, to: Checkpoints },
        /// Records that can't be read any more, and were not written by this pipeline as far as it knows.
        RangeLost = 1 { partition: Partition, range: Range, reason: String },
        /// A record's own timestamp was not believed, for it lies before the year 2000 or after 2099; it is written in the order of its offset all the
        /// same. The first of its partition in an assignment.
        TimestampClamped = 1 { partition: Partition, offset: Offset, timestamp_ms: i64 },
        /// An incarnation of an actor began.
        ChildStarted = 1 { actor: String, incarnation: u64 },
        /// An incarnation of an actor ended, and why.
        ChildExited = 1 { actor: String, incarnation: u64, exit: String },
        /// An actor owes progress and has made none.
        ChildStuck = 1 { actor: String, silent_millis: u64 },
        /// A supervisor will restart these actors after a delay.
        RestartScheduled = 1 { actor: String, delay_millis: u64, affected: Vec<String> },
        /// A supervisor counted more restarts than it allows.
        IntensityExceeded = 1 { actor: String, restarts: u64, within_millis: u64 },
        /// A supervisor gave up and told its parent.
        Escalated = 1 { actor: String, reason: String },
    }
}

/// Where a partition is read from when it is assigned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Start {
    /// Where it is.
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
    /// What the group has committed.
    Group,
    /// This journal, which knows of more than the group.
    Journal,
    /// The partition's begin: nobody has read it before.
    #[serde(rename = "begin")]
    Earliest,
    /// The partition's begin once more: the group's offset is of a topic that was deleted and created again since, or the group has no offset
    /// though this journal knows of one.
    #[serde(rename = "again")]
    Reset,
}

/// An offset a partition.
pub type Offsets = ByPartition<Offset>;
/// A checkpoint a partition.
pub type Checkpoints = ByPartition<Checkpoint>;
/// A start a partition.
pub type Starts = ByPartition<Start>;

impl Event {
    /// The run it happened to, if it is an event of a run or of a scheduled fetch.
    pub fn run(&self) -> Option<Uuid> {
        match self {
            Self::RunRequested { run, .. }
            | Self::RunStarted { run, .. }
            | Self::PageFetched { run, .. }
            | Self::PageProduced { run, .. }
            | Self::RunProduced { run, .. }
            | Self::RunSucceeded { run }
            | Self::RunFailed { run, .. }
            | Self::RunCancelled { run, .. } => Some(*run),
            _ => None,
        }
    }
}

/// An event with its place in the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
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

impl Recorded {
    /// An event at its place, in the newest version.
    pub fn new(seq: u64, at: DateTime<Utc>, event: Event) -> Self {
        Self { seq, at, v: event.version(), event }
    }

    /// Its JSON, as it stands in the journal.
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("an event is JSON")
    }
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
        return Err(Undecodable { seq, why: format!("{kind} has version {v}") });
    }
    let event = if v == newest {
        // The tag stands before the data, so nothing is buffered; the envelope's keys are passed over.
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
