//! Runs: one fetch that somebody asked for, until its records are readable in the table.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::offset::Ranges;
use crate::read::{Position, ReadMode};
use crate::rejects::Rejects;

mod max_rejected;

pub use max_rejected::{MaxRejected, ParseMaxRejectedError, Tried};

/// Where a run stands. `Succeeded` means end to end: the written offsets have passed the run's last produced offset on every
/// partition, so each record is in the table or in the dead-letter topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// Accepted; the fetcher has not begun.
    Requested,
    /// The fetcher is at work on it.
    Running,
    /// All of it is in the topic; the rest of the pipeline is writing it.
    Draining,
    /// All of it is readable in the table, or is a dead letter.
    Succeeded,
    /// It ended without success; `error` says why.
    Failed,
    /// Somebody called it off.
    Cancelled,
}

impl RunState {
    /// Whether the state is final, so that a client need not know every state.
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }
}

/// How many records of a run reached which stage. All that were fetched are in the topic or rejected before it, and all of a run that succeeded
/// which are in the topic are written, filtered, rejected after it, or counted `elsewhere`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct RunCounts {
    /// Pages the API answered.
    pub pages: u64,
    /// Records found in them.
    pub fetched: u64,
    /// Records that Kafka acknowledged in the topic.
    pub produced: u64,
    /// Records that became dead letters, at any stage.
    pub rejected: u64,
    /// The part of `rejected` that never reached the topic.
    #[serde(default)]
    pub refused: u64,
    /// Records of which the SQL gave no row: its WHERE left them out, or its `unnest` found nothing.
    #[serde(default)]
    pub filtered: u64,
    /// Records whose rows are all in the table.
    #[serde(default)]
    pub written: u64,
    /// Rows of the run that the table acknowledged.
    #[serde(default)]
    pub rows: u64,
    /// Of a run that is over: records in the topic that this process did not count, because another one of the group had their partition.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub elsewhere: u64,
    /// Of a run that is over: records that were counted beyond those produced, because a page that was under way in a crash was produced again.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub again: u64,
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl RunCounts {
    /// Whether nothing is counted.
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }

    /// Records of the topic whose end is counted.
    fn settled(&self) -> u64 {
        let rejected = self.rejected.saturating_sub(self.refused);
        self.written.saturating_add(self.filtered).saturating_add(rejected)
    }
}

/// What became of records of a run in a micro-batch, once all before them is written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct RunWritten {
    /// The run.
    pub run: uuid::Uuid,
    /// As in [`RunCounts`].
    pub filtered: u64,
    /// Dead letters out of the topic.
    pub rejected: u64,
    /// As in [`RunCounts`].
    pub written: u64,
    /// As in [`RunCounts`].
    pub rows: u64,
    /// Why records were rejected.
    #[serde(default, skip_serializing_if = "Rejects::is_empty")]
    pub rejects: Rejects,
}

impl RunWritten {
    /// Adds what became of others of the same run.
    pub fn merge(&mut self, other: &Self) {
        self.filtered = self.filtered.saturating_add(other.filtered);
        self.rejected = self.rejected.saturating_add(other.rejected);
        self.written = self.written.saturating_add(other.written);
        self.rows = self.rows.saturating_add(other.rows);
        self.rejects.merge(&other.rejects);
    }
}

/// Why a run failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct RunError {
    /// A bounded set of words: `fetch`, `produce`, `consume`, `transform`, `write`, `rejected` (more records are dead letters than may be).
    pub stage: String,
    /// What happened, and what to do.
    pub message: String,
    /// Whether the same run may succeed when it is tried again.
    pub retryable: bool,
}

/// Why a fetch asked for no further page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    /// The last page names no next cursor, or the pipeline file names no place of one.
    NoNext,
    /// The last page says by `cursor.has_more` that it is the last.
    HasMoreFalse,
    /// `cursor.max_empty_pages` pages in a row had no records, and the last of them names a further one.
    EmptyPage,
    /// `max_pages` pages are read, and the last of them names a further one.
    MaxPages,
    /// The last page names the cursor it was asked with as the next one.
    SameCursor,
    /// The last page names a cursor as the next one that an earlier page was asked with.
    CursorCycle,
}

impl StopReason {
    /// The word for it, as in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoNext => "no_next",
            Self::HasMoreFalse => "has_more_false",
            Self::EmptyPage => "empty_page",
            Self::MaxPages => "max_pages",
            Self::SameCursor => "same_cursor",
            Self::CursorCycle => "cursor_cycle",
        }
    }
}

/// How a fetch ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Stop {
    /// Why no further page was asked for.
    pub reason: StopReason,
    /// Whether the source has no more to give, as far as it says. False: the fetch was cut short, and `detail` says what is left and what to do.
    pub complete: bool,
    /// What the source's next page is asked with, where it names one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    /// What is to be known of the end; empty when that is nothing.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
}

/// The reason, and what is to be known of it.
impl std::fmt::Display for Stop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{}", if self.complete { "" } else { "cut short, " }, self.reason.as_str())?;
        if self.detail.is_empty() { Ok(()) } else { write!(f, ": {}", self.detail) }
    }
}

/// What a client asks of a run, beside its key. The same key and attempt with another one is a mistake, and refused.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct RunSpec {
    /// Query parameters of the API's address for the pages of this run; only those that `[fetcher] params` names. At most 16, of 1,024
    /// characters each.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub params: BTreeMap<String, String>,
    /// Whose run it is, such as `dag_id` and `run_id`; at most 16, of 256 characters each.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Call the run off when nobody has asked for it, by `PUT` or `GET /v1/runs/{id}`, for so many seconds: 10 to 86,400.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_seconds: Option<u32>,
    /// Whether it goes on where its read is, or reads again; absent: it goes on, and a new attempt after one that succeeded whole reads
    /// again from where the first attempt at the key began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read: Option<ReadMode>,
    /// The most records that may become dead letters, as a number or as a share of those fetched such as `"5%"`: a run with more fails once it is
    /// complete. Absent: `[fetcher] max_rejected`; without that a run fails of which every record is rejected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_rejected: Option<MaxRejected>,
}

/// A run, as `GET /v1/runs/{id}` answers it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Run {
    /// The identifier that Forebay gave it.
    pub id: uuid::Uuid,
    /// The key its client gave it; the same key is the same run.
    pub key: String,
    /// The client's attempt at it, from 1.
    pub attempt: u32,
    /// What was asked for.
    #[serde(flatten)]
    pub spec: RunSpec,
    /// Where it stands.
    pub state: RunState,
    /// Whether `state` is final.
    pub terminal: bool,
    /// How far its records are.
    pub counts: RunCounts,
    /// The part of `counts` that is behind `position`, so that it is not fetched again when the run is begun again.
    #[serde(default, skip_serializing_if = "RunCounts::is_nothing")]
    pub kept: RunCounts,
    /// Why records of it are dead letters, the most frequent reason first.
    #[serde(default, skip_serializing_if = "Rejects::is_empty")]
    pub rejects: Rejects,
    /// The part of `rejects` that is behind the source's cursor.
    #[serde(default, skip_serializing_if = "Rejects::is_empty")]
    pub kept_rejects: Rejects,
    /// What it produced, a range a partition.
    pub ranges: Ranges,
    /// Why it asked for no further page, and whether it was cut short; absent until all of it is in the topic, and where it failed before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop: Option<Stop>,
    /// Whether it reads again what was read before; the cursor of its read stays where it is.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub again: bool,
    /// Where the first attempt at its key began; absent before it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub began: Option<Position>,
    /// Where its next page is; absent before it has begun, and when it has succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<Position>,
    /// Why it failed, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<RunError>,
    /// When it was asked for.
    pub requested_at: DateTime<Utc>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<DateTime<Utc>>,
    /// Who called it off, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancelled: Option<Cancelled>,
}

/// The stage of the error of a run that failed because too many of its records were rejected.
pub const REJECTED: &str = "rejected";

impl Run {
    /// It begins, or begins again: at the cursor, and so do its counts. They go back to what they were when a page of it last moved the cursor, for all
    /// since then is fetched again. Without cursors that is nothing, and all of it. What is written of it stays counted.
    pub fn begin(&mut self) {
        let kept = &self.kept;
        let counts = &mut self.counts;
        (counts.pages, counts.fetched, counts.produced) = (kept.pages, kept.fetched, kept.produced);
        counts.rejected = counts.rejected.saturating_sub(counts.refused).saturating_add(kept.refused);
        counts.refused = kept.refused;
        self.rejects.retain(|each| each.stage != PRODUCE);
        self.rejects.merge(&self.kept_rejects);
    }

    /// A page of it came.
    pub fn page_fetched(&mut self, records: u64) {
        self.counts.pages = self.counts.pages.saturating_add(1);
        self.counts.fetched = self.counts.fetched.saturating_add(records);
    }

    /// A page of it is in Kafka, and the cursor has moved past it or not.
    pub fn page_produced(&mut self, ranges: &Ranges, (produced, refused): (u64, u64), rejects: &Rejects, moved: bool) {
        self.ranges.merge(ranges);
        let counts = &mut self.counts;
        counts.produced = counts.produced.saturating_add(produced);
        counts.refused = counts.refused.saturating_add(refused);
        counts.rejected = counts.rejected.saturating_add(refused);
        self.rejects.merge(rejects);
        if moved {
            let RunCounts { pages, fetched, produced, refused, .. } = self.counts;
            self.kept = RunCounts { pages, fetched, produced, rejected: refused, refused, ..RunCounts::default() };
            self.kept_rejects = self.rejects.clone();
            self.kept_rejects.retain(|each| each.stage == PRODUCE);
        }
    }

    /// Records of it are settled.
    pub fn records_settled(&mut self, settled: &RunWritten) {
        let counts = &mut self.counts;
        counts.filtered = counts.filtered.saturating_add(settled.filtered);
        counts.rejected = counts.rejected.saturating_add(settled.rejected);
        counts.written = counts.written.saturating_add(settled.written);
        counts.rows = counts.rows.saturating_add(settled.rows);
        self.rejects.merge(&settled.rejects);
    }

    /// All that it produced is settled, here or elsewhere.
    pub fn complete(&mut self) {
        let (produced, settled) = (self.counts.produced, self.counts.settled());
        self.counts.elsewhere = produced.saturating_sub(settled);
        self.counts.again = settled.saturating_sub(produced);
    }

    /// Why it has failed though all of it is settled, if it has: more of its records are rejected than may be. `is_read` when the pipeline reads the
    /// topic; else a record in it has arrived.
    pub fn too_many_rejected(&self, is_read: bool) -> Option<RunError> {
        let RunCounts { fetched, produced, rejected, filtered, written, .. } = self.counts;
        let elsewhere = produced.saturating_sub(self.counts.settled());
        let good = if is_read { written.saturating_add(filtered).saturating_add(elsewhere) } else { produced };
        let tried = Tried { records: fetched.max(rejected), good, rejected };
        let message = MaxRejected::judge(self.spec.max_rejected, tried, &self.rejects)?;
        Some(RunError { stage: REJECTED.to_owned(), message, retryable: false })
    }
}

/// The stage at which records are rejected before they reach the topic.
const PRODUCE: &str = "produce";

/// Who called a run off, and why.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Cancelled {
    /// Who: the caller's role, such as `operator`, or `lease` when its client was gone.
    pub by: String,
    /// Why.
    pub reason: String,
}

/// The body of `PUT /v1/pipelines/{pipeline}/runs/{key}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct RunRequest {
    /// The client's attempt, from 1.
    #[serde(default = "first_attempt")]
    #[cfg_attr(test, schemars(range(min = 1, max = 4_294_967_295_u32)))]
    pub attempt: u32,
    /// See [`RunSpec`].
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[cfg_attr(test, schemars(schema_with = "crate::openapi_tests::params"))]
    pub params: BTreeMap<String, String>,
    /// See [`RunSpec`].
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[cfg_attr(test, schemars(schema_with = "crate::openapi_tests::labels"))]
    pub labels: BTreeMap<String, String>,
    /// See [`RunSpec`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(range(min = 10, max = 86_400)))]
    pub lease_seconds: Option<u32>,
    /// See [`RunSpec`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read: Option<ReadMode>,
    /// See [`RunSpec`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_rejected: Option<MaxRejected>,
}

impl Run {
    /// How its fetch was cut short, if it was: the source has more than was read.
    pub fn cut_short(&self) -> Option<&Stop> {
        self.stop.as_ref().filter(|stop| !stop.complete)
    }
}

/// What of a run is out of its bounds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum SpecError {
    #[error("{count} {what} are more than {MAX_SPEC_ENTRIES}")]
    Many { what: &'static str, count: usize },
    #[error("the name {name:?} of one of the {what} has not 1 to {MAX_SPEC_NAME_CHARS} characters")]
    Name { what: &'static str, name: String },
    #[error("{what}.{name} has {length} characters, more than {most}")]
    Value { what: &'static str, name: String, length: usize, most: usize },
    #[error("lease_seconds = {0} is not in 10 to 86400")]
    Lease(u32),
}

/// The most params, and the most labels, of a run.
pub const MAX_SPEC_ENTRIES: usize = 16;
/// The most characters of the name of either.
pub const MAX_SPEC_NAME_CHARS: usize = 128;
/// The most characters of a param.
pub const MAX_PARAM_CHARS: usize = 1_024;
/// The most characters of a label.
pub const MAX_LABEL_CHARS: usize = 256;

impl RunSpec {
    /// Whether all of it is in its bounds.
    ///
    /// # Errors
    /// The first thing that is not.
    pub fn check(&self) -> Result<(), SpecError> {
        for (what, entries, most) in [("params", &self.params, MAX_PARAM_CHARS), ("labels", &self.labels, MAX_LABEL_CHARS)] {
            if entries.len() > MAX_SPEC_ENTRIES {
                return Err(SpecError::Many { what, count: entries.len() });
            }
            for (name, value) in entries {
                if !(1..=MAX_SPEC_NAME_CHARS).contains(&name.chars().count()) {
                    return Err(SpecError::Name { what, name: name.chars().take(MAX_SPEC_NAME_CHARS).collect() });
                }
                let length = value.chars().count();
                if length > most {
                    return Err(SpecError::Value { what, name: name.clone(), length, most });
                }
            }
        }
        match self.lease_seconds {
            Some(seconds) if !(10..=86_400).contains(&seconds) => Err(SpecError::Lease(seconds)),
            _ => Ok(()),
        }
    }
}

impl RunRequest {
    /// What it asks for, beside the attempt.
    pub fn spec(self) -> RunSpec {
        let Self { params, labels, lease_seconds, read, max_rejected, .. } = self;
        RunSpec { params, labels, lease_seconds, read, max_rejected }
    }
}

fn first_attempt() -> u32 {
    1
}

impl Default for RunRequest {
    fn default() -> Self {
        let (params, labels) = (BTreeMap::new(), BTreeMap::new());
        Self { attempt: first_attempt(), params, labels, lease_seconds: None, read: None, max_rejected: None }
    }
}

/// An error of the API, after RFC 9457.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Problem {
    /// A stable word for the kind of problem, such as `run.payload_mismatch`.
    #[serde(rename = "type")]
    pub kind: String,
    /// What went wrong, in a line.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What was wrong with this very request.
    pub detail: String,
    /// What to do.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub remedy: String,
    /// Whether the same request may succeed later.
    #[serde(default)]
    pub retryable: bool,
}
