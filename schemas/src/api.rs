//! What the control API takes and answers, beside runs ([`crate::run`]), the snapshot ([`crate::snapshot`]) and events ([`crate::event`]).
//!
//! Additive changes only: a client ignores keys that it does not know, and a key that is there once stays.

use std::collections::BTreeMap;
use std::str::FromStr;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::desired::{Desired, DesiredState};
use crate::event::Offsets;
use crate::offset::{Offset, Partition, Ranges};
use crate::read::Position;
use crate::run::Run;
use crate::snapshot::{ActorView, AlertView, BatchView, CursorView, PartitionView};

/// What a caller of the API may do. Each may do what those before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Look.
    Viewer,
    /// Ask for runs and call them off; pause, resume and drain.
    Operator,
    /// Restart actors, apply plans.
    Admin,
}

/// `GET /v1/whoami`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct WhoAmI {
    /// What the caller may do.
    pub role: Role,
    /// How it is known: `loopback`, `socket` or `token`.
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
    /// What it is meant to do.
    pub desired: Desired,
    /// The parts of the tree this process runs.
    pub roles: Vec<String>,
    /// Where records come from; absent where the pipeline begins at the topic. Without user, password or query.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// The topic.
    pub topic: String,
    /// `keyspace.table`; empty where the pipeline ends at the topic.
    pub table: String,
    /// The consumer group; empty where the pipeline ends at the topic.
    pub group: String,
    /// Records of the topic that are not written yet.
    pub lag: u64,
    /// The parameters of a fetch that a run may set: `[fetcher] params`.
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
    /// What it is meant to do from now on.
    pub state: DesiredState,
    /// Why: 1 to 500 characters; it is kept in the journal.
    #[cfg_attr(test, schemars(length(min = 1, max = 500)))]
    pub reason: String,
}

/// The body of what asks only why: `POST /v1/runs/{id}/cancel` (optional there) and `POST /v1/actors/{path}/restart`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Reason {
    /// Why: up to 500 characters, of a restart one at least; it is kept in the journal.
    #[serde(default)]
    #[cfg_attr(test, schemars(length(max = 500)))]
    pub reason: String,
}

/// What is to be planned: the body of `POST /v1/pipelines/{pipeline}/plans`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(tag = "action", rename_all = "snake_case", deny_unknown_fields)]
pub enum PlanRequest {
    /// Read records again from an earlier place on.
    Replay {
        /// From where.
        from: ReplayFrom,
    },
    /// Put dead letters into the topic again, as new records.
    Redrive {
        /// Which, as ranges of the dead-letter topic; absent: all that it holds now.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(test, schemars(schema_with = "crate::openapi_tests::ranges"))]
        letters: Option<Ranges>,
    },
    /// Set the cursor of a read.
    Cursor {
        /// The params that make the read, of those that `[fetcher] params` names; none: the read of scheduled fetches and of runs without
        /// params.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        #[cfg_attr(test, schemars(schema_with = "crate::openapi_tests::params"))]
        params: BTreeMap<String, String>,
        /// Where its next fetch begins.
        to: Position,
    },
}

/// From where records are read again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ReplayFrom {
    /// The first record that Kafka holds.
    Begin,
    /// These offsets; partitions that are not named stay where they are.
    #[cfg_attr(test, schemars(schema_with = "crate::openapi_tests::offsets"))]
    Offsets(Offsets),
    /// The first record of each partition with this timestamp or a later one.
    Time(DateTime<Utc>),
}

/// Text that says no place to read from again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is neither earliest, nor PARTITION:OFFSET,…, nor a time such as 2026-11-24T06:00:00Z")]
pub struct ParseReplayFromError;

/// As a person types it: `earliest` (or `begin`), `0:1200,3:900`, or a time of RFC 3339.
impl FromStr for ReplayFrom {
    type Err = ParseReplayFromError;

    fn from_str(text: &str) -> Result<Self, ParseReplayFromError> {
        if matches!(text, "earliest" | "begin") {
            return Ok(Self::Begin);
        }
        if let Ok(time) = text.parse() {
            return Ok(Self::Time(time));
        }
        let pair = |pair: &str| {
            let (partition, offset) = pair.split_once(':')?;
            Some((partition.trim().parse().ok()?, offset.trim().parse().ok().filter(|offset: &i64| *offset >= 0)?))
        };
        text.split(',').map(pair).collect::<Option<Offsets>>().map(Self::Offsets).ok_or(ParseReplayFromError)
    }
}

/// A plan: what would be done, exactly, and the hash that says that it still would.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(rename = "Plan"))]
pub struct ChangePlan {
    /// Its identifier.
    pub id: Uuid,
    /// What was asked for.
    pub request: PlanRequest,
    /// Of all that it would do. Another hash when it is applied: things have moved on, and 409 is the answer.
    pub hash: String,
    /// What would be done, a line each, for a person.
    pub effects: Vec<String>,
    /// How many records would be read or produced again.
    pub records: u64,
    /// The ranges of the topic, or of the dead-letter topic, that it is about.
    pub ranges: Ranges,
    /// It can be applied until then.
    pub expires_at: DateTime<Utc>,
}

/// The body of `POST /v1/plans/{id}/apply`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ApplyRequest {
    /// The plan's.
    #[cfg_attr(test, schemars(length(max = 100)))]
    pub hash: String,
    /// Why: 1 to 500 characters; it is kept in the journal.
    #[cfg_attr(test, schemars(length(min = 1, max = 500)))]
    pub reason: String,
}

/// What applying a plan came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Applied {
    /// The plan.
    pub plan: Uuid,
    /// Records that are read again, or were produced again.
    pub records: u64,
    /// Dead letters that were left: their value is cut, and the topic does not hold the record any more.
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

/// One batch in all detail: `GET /v1/batches/{id}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct BatchTrace {
    /// The batch.
    pub batch: BatchView,
    /// What was done for it, in the order of its beginning.
    pub spans: Vec<BatchSpan>,
    /// The SQL it went through.
    pub sql: String,
    /// The SQL's fingerprint, which stands in dead letters.
    pub fingerprint: String,
    /// The plan of the SQL, a line an operator, indented.
    pub plan: String,
    /// The first of the records it rejected, with the reason of each.
    pub rejects: Vec<BatchReject>,
}

/// A part of the way of a batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct BatchSpan {
    /// `wait`, `transform`, `write`, `commit`.
    pub stage: String,
    /// Microseconds from the arrival of the batch's first record.
    pub start_micros: u64,
    /// How long it took.
    pub micros: u64,
    /// More about it, such as `3 statements, 1 retry`.
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
    /// Why; with `***` for what it quotes of the record where `[api] mask` is set.
    pub reason: String,
}

/// The answer of `GET /v1/cursors`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Cursors {
    /// The reads of the source that are not at their begin, the one that moved last first.
    pub cursors: Vec<CursorView>,
    /// How many there are in all.
    pub total: u64,
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
    /// The supervision tree, depth first: a parent before its children.
    pub actors: Vec<ActorView>,
}

/// The answer of `GET /v1/alerts`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Alerts {
    /// What is wrong now.
    pub alerts: Vec<AlertView>,
}

/// A topic of the pipeline: the answer of `GET /v1/topics` lists the topic and the dead-letter topic.
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

/// A record as it is in a topic. What `[api] mask` names is `"***"`.
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
    /// Its value: what its JSON says, or a text when it is none; cut when it is long, and `truncated` says so.
    pub value: Value,
    /// Bytes of the value in the topic.
    pub value_bytes: u64,
    /// Whether the value is cut.
    #[serde(default)]
    pub truncated: bool,
    /// Its headers.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// How many more headers it has, whose names are not UTF-8, so that they can't be shown; absent when none.
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

/// A dead letter: the record as it was, and why it is none of the rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct DeadLetter {
    /// The record in the dead-letter topic.
    pub record: RecordView,
    /// Where it was found to be bad: `produce`, `decode`, `transform`, `write`.
    pub stage: String,
    /// Why; with `***` for what it quotes of the record where `[api] mask` is set.
    pub reason: String,
    /// The fingerprint of the SQL that it did not pass, if it came so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sql_fingerprint: Option<String>,
    /// Where it was in the topic: partition and offset; absent when it never was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<(Partition, Offset)>,
}

/// The answer of `GET /v1/dlq`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct DeadLetters {
    /// The dead-letter topic.
    pub topic: String,
    /// How many it holds in all.
    pub total: u64,
    /// The last of them, newest first.
    pub letters: Vec<DeadLetter>,
}

/// How grave a log line is; the later ones are graver. Lines below `INFO` are not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "UPPERCASE")]
pub enum LogLevel {
    /// It goes on as it should.
    Info,
    /// It goes on, but not as it should.
    Warn,
    /// Something was given up.
    Error,
}

impl LogLevel {
    /// Every level.
    pub const ALL: [Self; 3] = [Self::Info, Self::Warn, Self::Error];
    /// The words for them, as a query and the command line have them.
    pub const NAMES: &'static [&'static str] = &["info", "warn", "error"];

    /// Its word.
    pub fn as_str(self) -> &'static str {
        Self::NAMES[self as usize]
    }

    /// The level of a word, if it is one.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|level| level.as_str() == name)
    }
}

/// A line of the log: what `--log-format json` writes of it, and its place.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct LogLine {
    /// Its place among the lines that this process has kept, from 1 on.
    pub seq: u64,
    /// When, in microseconds.
    pub timestamp: DateTime<Utc>,
    /// How grave it is.
    pub level: LogLevel,
    /// The part of the program, such as `forebay_actors::writer::client`.
    pub target: String,
    /// What happened, in words that may change.
    pub message: String,
    /// The pipeline, once its file is read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pipeline: Option<String>,
    /// How often the same line was left out since it was last said.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub repeated: u64,
    /// Whether a part of it is cut; `…` stands where.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cut: bool,
    /// What it is about, such as `error`, `actor`, `run`, `topic`: keys of the line itself.
    #[serde(flatten)]
    pub fields: Map<String, Value>,
}

/// Whether a count says nothing.
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
    /// How far this answer tells, lines of other levels included: the `after` to go on with.
    pub upto: u64,
    /// How many lines after `after` are not kept any more, of whatever level.
    pub lost: u64,
    /// When this process began to count its lines. Another time: another process, whose lines begin at 1 again.
    pub since: DateTime<Utc>,
}
