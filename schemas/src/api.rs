//! Requests and answers of the control API, except runs ([`crate::run`]), the snapshot
//! ([`crate::snapshot`]) and events ([`crate::event`]).
//!
//! Only additive changes: a client ignores keys that it does not know, and a key is never removed.

use std::collections::BTreeMap;
use std::str::FromStr;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::dead_letter_filter::{self, DeadLetterFilter};
use crate::desired::{Desired, DesiredState};
use crate::event::Offsets;
use crate::offset::{Offset, Partition, Ranges};
use crate::run::Run;
use crate::snapshot::{ActorView, AlertView, BatchView, CursorView, PartitionView, WatermarkView};
use crate::source_read::Position;
use crate::window::Window;

/// The role of a caller of the API. Each role includes the ones before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// May read.
    Viewer,
    /// May also request and cancel runs, and pause, resume and drain.
    Operator,
    /// May also restart actors and apply plans.
    Admin,
}

/// `GET /v1/whoami`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct WhoAmI {
    /// The caller's role.
    pub role: Role,
    /// How the caller was identified: `loopback`, `socket` or `token`.
    pub by: String,
}

/// `GET /v1/version`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Version {
    /// Always `forebay`.
    pub name: String,
    /// The version of the program.
    pub version: String,
    /// The version of the API, `v1`.
    pub api: String,
}

/// A pipeline of this process: `GET /v1/pipelines/{pipeline}`; `GET /v1/pipelines` lists them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct PipelineView {
    /// The name in the pipeline file.
    pub name: String,
    /// The desired state.
    pub desired: Desired,
    /// The roles of this process.
    pub roles: Vec<String>,
    /// Where records come from, without user, password or query; absent if the pipeline starts at
    /// the topic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// The topic.
    pub topic: String,
    /// `keyspace.table`; empty if the pipeline ends at the topic.
    pub table: String,
    /// The consumer group; empty if the pipeline ends at the topic.
    pub group: String,
    /// Records of the topic that are not yet written.
    pub lag: u64,
    /// The fetch parameters that a run may set: `[fetcher] params`.
    #[serde(default)]
    pub params: Vec<String>,
}

/// The answer of `GET /v1/pipelines`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Pipelines {
    /// The pipelines of this process.
    pub pipelines: Vec<PipelineView>,
}

/// The body of `PUT /v1/pipelines/{pipeline}/state`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct StateRequest {
    /// The new desired state.
    pub state: DesiredState,
    /// The reason: 1 to 500 characters; the journal keeps it.
    #[cfg_attr(test, schemars(length(min = 1, max = 500)))]
    pub reason: String,
}

/// A body with only a reason: `POST /v1/runs/{id}/cancel` (optional there) and `POST
/// /v1/actors/{path}/restart`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Reason {
    /// The reason: up to 500 characters, at least one for a restart; the journal keeps it.
    #[serde(default)]
    #[cfg_attr(test, schemars(length(max = 500)))]
    pub reason: String,
}

/// The change to plan: the body of `POST /v1/pipelines/{pipeline}/plans`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(tag = "action", rename_all = "snake_case", deny_unknown_fields)]
pub enum PlanRequest {
    /// Reset offsets, so that records are read again.
    Replay {
        /// Where to.
        from: ReplayFrom,
    },
    /// Produce dead letters to the topic again, as new records.
    Redrive {
        /// Which ones, as ranges of the dead-letter topic; absent: all that it holds now.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(test, schemars(schema_with = "crate::openapi_tests::ranges"))]
        letters: Option<Ranges>,
        /// Which of those; absent: all of them.
        #[serde(default, deserialize_with = "dead_letter_filter::object", skip_serializing_if = "DeadLetterFilter::is_empty")]
        only: DeadLetterFilter,
    },
    /// Drop dead letters: they are not redriven. They stay in the dead-letter topic.
    Drop {
        /// Which ones, as ranges of the dead-letter topic; absent: all that it holds now.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(test, schemars(schema_with = "crate::openapi_tests::ranges"))]
        letters: Option<Ranges>,
        /// Which of those; absent: all of them.
        #[serde(default, deserialize_with = "dead_letter_filter::object", skip_serializing_if = "DeadLetterFilter::is_empty")]
        only: DeadLetterFilter,
    },
    /// Set the cursor of a read.
    Cursor {
        /// The params of the read, out of `[fetcher] params`; none: the read of scheduled fetches
        /// and of runs without params.
        #[serde(default, deserialize_with = "crate::run::run_params::scalars", skip_serializing_if = "BTreeMap::is_empty")]
        #[cfg_attr(test, schemars(schema_with = "crate::openapi_tests::params"))]
        params: BTreeMap<String, String>,
        /// The window of the read, where the source is read by windows.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        window: Option<Window>,
        /// Where its next fetch starts.
        to: Position,
    },
}

/// Where to reset offsets to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ReplayFrom {
    /// The first record that Kafka holds.
    #[serde(rename = "begin")]
    Earliest,
    /// These offsets; other partitions keep theirs.
    #[cfg_attr(test, schemars(schema_with = "crate::openapi_tests::offsets"))]
    Offsets(Offsets),
    /// The first record of each partition with this timestamp or a later one.
    Time(DateTime<Utc>),
}

/// The text is not a position to replay from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected earliest, PARTITION:OFFSET,… or a time such as 2026-11-24T06:00:00Z")]
pub struct ParseReplayFromError;

/// As typed by a person: `earliest` (or `begin`), `0:1200,3:900`, or an RFC 3339 time.
impl FromStr for ReplayFrom {
    type Err = ParseReplayFromError;

    fn from_str(text: &str) -> Result<Self, ParseReplayFromError> {
        if matches!(text, "earliest" | "begin") {
            return Ok(Self::Earliest);
        }
        if let Ok(time) = text.parse() {
            return Ok(Self::Time(time));
        }
        let pair = |pair: &str| {
            let (partition, offset) = pair.split_once(':')?;
            Some((partition.trim().parse().ok()?, Offset(offset.trim().parse().ok().filter(|offset| *offset >= 0)?)))
        };
        text.split(',').map(pair).collect::<Option<Offsets>>().map(Self::Offsets).ok_or(ParseReplayFromError)
    }
}

/// A planned change: exactly what it would do, and a hash that detects whether it still would.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(rename = "Plan"))]
pub struct ChangePlan {
    /// The plan's identifier.
    pub id: Uuid,
    /// The request.
    pub request: PlanRequest,
    /// The hash of everything that the plan would do. If it differs when the plan is applied, the
    /// answer is 409.
    pub hash: String,
    /// What the plan would do, one line per effect.
    pub effects: Vec<String>,
    /// The number of records that would be read or produced again.
    pub records: u64,
    /// The affected ranges of the topic, or of the dead-letter topic.
    pub ranges: Ranges,
    /// When the plan expires.
    pub expires_at: DateTime<Utc>,
}

/// The body of `POST /v1/plans/{id}/apply`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ApplyRequest {
    /// The plan's hash.
    #[cfg_attr(test, schemars(length(max = 100)))]
    pub hash: String,
    /// The reason: 1 to 500 characters; the journal keeps it.
    #[cfg_attr(test, schemars(length(min = 1, max = 500)))]
    pub reason: String,
}

/// The result of applying a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Applied {
    /// The plan.
    pub plan: Uuid,
    /// The number of records that are read again, or were produced again.
    pub records: u64,
    /// Dead letters that were skipped: their value is truncated, and the topic no longer holds the
    /// record.
    #[serde(default)]
    pub cut: u64,
}

/// The answer of `GET /v1/batches`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Batches {
    /// The last batches of this process, newest first.
    pub batches: Vec<BatchView>,
}

/// One batch in full detail: `GET /v1/batches/{id}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct BatchTrace {
    /// The batch.
    pub batch: BatchView,
    /// Its stages, by start time.
    pub spans: Vec<BatchSpan>,
    /// The SQL that transformed it.
    pub sql: String,
    /// The SQL's fingerprint, as in dead letters.
    pub fingerprint: String,
    /// The SQL's query plan, one operator per line, indented.
    pub plan: String,
    /// The first records that it rejected, with their reasons.
    pub rejects: Vec<BatchReject>,
}

/// One stage of a batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct BatchSpan {
    /// `wait`, `transform`, `write`, `commit`.
    pub stage: String,
    /// Microseconds from the arrival of the batch's first record.
    pub start_micros: u64,
    /// Its duration in microseconds.
    pub micros: u64,
    /// Details, such as `3 statements, 1 retry`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
}

/// A record that a batch rejected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct BatchReject {
    /// Its partition in the topic.
    pub partition: Partition,
    /// Its offset.
    pub offset: Offset,
    /// `decode`, `transform` or `write`.
    pub stage: String,
    /// The reason; if `[api] mask` is set, values quoted from the record are `***`.
    pub reason: String,
}

/// The answer of `GET /v1/cursors`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Cursors {
    /// The reads of the source that are not at their start, last moved first.
    pub cursors: Vec<CursorView>,
    /// How many there are in total.
    pub total: u64,
    /// The watermarks of incremental reads.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub watermarks: Vec<WatermarkView>,
}

/// The answer of `GET /v1/runs`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Runs {
    /// The runs, newest first.
    pub runs: Vec<Run>,
}

/// The answer of `GET /v1/actors`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Actors {
    /// The supervision tree, depth first: parents before their children.
    pub actors: Vec<ActorView>,
}

/// The answer of `GET /v1/alerts`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Alerts {
    /// The alerts that are firing.
    pub alerts: Vec<AlertView>,
}

/// A topic of the pipeline: the answer of `GET /v1/topics` lists the topic and the dead-letter
/// topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct TopicView {
    /// Its name.
    pub name: String,
    /// `records` or `dead_letters`.
    pub kind: String,
    /// Its partitions, in order.
    pub partitions: Vec<PartitionView>,
}

/// The answer of `GET /v1/topics`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Topics {
    /// The topics.
    pub topics: Vec<TopicView>,
}

/// A record of a topic. Fields in `[api] mask` are `"***"`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct RecordView {
    /// Its partition.
    pub partition: Partition,
    /// Its offset.
    pub offset: Offset,
    /// Its timestamp in milliseconds since 1970; −1 without one.
    pub timestamp_ms: i64,
    /// Its key, as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Its value: parsed JSON, or a string if it is not JSON. A long one is truncated, see
    /// `truncated`.
    pub value: Value,
    /// The size of the value in the topic, in bytes.
    pub value_bytes: u64,
    /// Whether the value is truncated.
    #[serde(default)]
    pub truncated: bool,
    /// Its headers.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// The number of further headers, which can't be shown because their names are not UTF-8;
    /// absent if there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub headers_left_out: Option<u64>,
}

/// The answer of `GET /v1/records`: records of the topic.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Records {
    /// The topic.
    pub topic: String,
    /// The records, by partition and offset.
    pub records: Vec<RecordView>,
}

/// The level of a log line, least severe first. Lines below `INFO` are not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "UPPERCASE")]
pub enum LogLevel {
    /// Normal operation.
    Info,
    /// Something unexpected; operation continues.
    Warn,
    /// Something failed for good.
    Error,
}

impl LogLevel {
    /// All levels.
    pub const ALL: [Self; 3] = [Self::Info, Self::Warn, Self::Error];
    /// Their names in a query and on the command line.
    pub const NAMES: &'static [&'static str] = &["info", "warn", "error"];

    /// Its name.
    pub fn as_str(self) -> &'static str {
        Self::NAMES[self as usize]
    }

    /// The level with this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|level| level.as_str() == name)
    }
}

/// A log line: the fields that `--log-format json` writes, and its number.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct LogLine {
    /// Its number among the lines that this process has kept, from 1.
    pub seq: u64,
    /// When it was logged, in microseconds.
    pub timestamp: DateTime<Utc>,
    /// Its level.
    pub level: LogLevel,
    /// The module, such as `forebay_actors::writer::batch_write`.
    pub target: String,
    /// The message; its wording may change.
    pub message: String,
    /// The pipeline, once its file is read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pipeline: Option<String>,
    /// How often the same line was suppressed since it was last logged.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub repeated: u64,
    /// Whether a part of it is truncated, marked by `…`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cut: bool,
    /// Its other fields, such as `error`, `actor`, `run`, `topic`: keys of the line itself.
    #[serde(flatten)]
    pub fields: Map<String, Value>,
}

/// Whether a count is zero.
#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde wants it so")]
fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// The answer of `GET /v1/logs`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Logs {
    /// The lines, oldest first.
    pub lines: Vec<LogLine>,
    /// The last line that this answer covers, lines of other levels included: the next `after`.
    pub upto: u64,
    /// How many lines after `after` were dropped, of any level.
    pub lost: u64,
    /// When this process started to number its lines. If it changes, another process is answering,
    /// and its lines start at 1.
    pub since: DateTime<Utc>,
}
