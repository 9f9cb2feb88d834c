//! Runs: one fetch that a client requested, until its records are readable in the table.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::offset::Ranges;
use crate::rejects::Rejects;
use crate::source_read::{Position, ReadMode, ReadParams};
use crate::window::Window;

mod max_rejected;
pub(crate) mod run_params;

pub use max_rejected::{MaxRejected, ParseMaxRejectedError, Tried};

/// The state of a run. `Succeeded` means end to end: the written offsets have passed the run's last
/// produced offset on every partition, so each record is in the table or in the dead-letter topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// Accepted; not yet started.
    Requested,
    /// The fetcher is working on it.
    Running,
    /// All its records are in the topic; the rest of the pipeline is writing them.
    Draining,
    /// Every record is readable in the table, or is a dead letter.
    Succeeded,
    /// It ended without success; `error` says why.
    Failed,
    /// An operator cancelled it, or its lease expired.
    Cancelled,
}

impl RunState {
    /// Whether the state is final, so that a client need not know every state.
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }
}

/// How many records of a run reached which stage. Every fetched record is in the topic or was
/// rejected before it. Once a run has succeeded, every record of it in the topic is written,
/// filtered, rejected after it, or counted in `elsewhere`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct RunCounts {
    /// Pages that the source answered.
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
    /// Records without a row: the SQL's WHERE excluded them, or its `unnest` was empty.
    #[serde(default)]
    pub filtered: u64,
    /// Records whose rows are all in the table.
    #[serde(default)]
    pub written: u64,
    /// Rows of the run that the table acknowledged.
    #[serde(default)]
    pub rows: u64,
    /// Once the run is over: records in the topic that this process did not count, because another
    /// process of the group had their partition.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub elsewhere: u64,
    /// Once the run is over: records counted in excess of those produced, because a page that was
    /// in progress during a crash was produced again.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub again: u64,
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl RunCounts {
    /// Whether all counts are zero.
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }

    /// Records of the topic that are settled.
    fn settled(&self) -> u64 {
        let rejected = self.rejected.saturating_sub(self.refused);
        self.written.saturating_add(self.filtered).saturating_add(rejected)
    }
}

/// What became of a run's records in a micro-batch, counted once all records before them are
/// written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct RunWritten {
    /// The run.
    pub run: uuid::Uuid,
    /// See [`RunCounts`].
    pub filtered: u64,
    /// Dead letters of records in the topic.
    pub rejected: u64,
    /// See [`RunCounts`].
    pub written: u64,
    /// See [`RunCounts`].
    pub rows: u64,
    /// Why records were rejected.
    #[serde(default, skip_serializing_if = "Rejects::is_empty")]
    pub rejects: Rejects,
}

impl RunWritten {
    /// Adds the counts of other records of the same run.
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
    /// One of `fetch`, `produce`, `consume`, `transform`, `write`, `rejected` (more dead letters
    /// than allowed).
    pub stage: String,
    /// What happened, and what to do.
    pub message: String,
    /// Whether the same run may succeed when retried.
    pub retryable: bool,
}

/// Why a fetch requested no further page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    /// The last page has no next cursor or URL, or the pipeline file does not configure paging.
    NoNext,
    /// The last page says by `has_more` that it is the last.
    HasMoreFalse,
    /// The last page has no records, where such a page is the last; or `max_empty_pages`
    /// consecutive pages had none, although the last one has a next cursor.
    EmptyPage,
    /// `max_pages` pages were read, although the last one has a next cursor.
    MaxPages,
    /// The last page's next cursor is the one it was requested with.
    SameCursor,
    /// The last page's next cursor is one that an earlier page was requested with.
    CursorCycle,
    /// The last page has fewer records than a full page.
    ShortPage,
    /// The total that the last page names is reached.
    Total,
    /// The last page has the records of an earlier page, so the source seems to ignore the page
    /// number or the offset.
    SamePage,
}

impl StopReason {
    /// Its name in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoNext => "no_next",
            Self::HasMoreFalse => "has_more_false",
            Self::EmptyPage => "empty_page",
            Self::MaxPages => "max_pages",
            Self::SameCursor => "same_cursor",
            Self::CursorCycle => "cursor_cycle",
            Self::ShortPage => "short_page",
            Self::Total => "total",
            Self::SamePage => "same_page",
        }
    }
}

/// How a fetch ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Stop {
    /// Why no further page was requested.
    pub reason: StopReason,
    /// Whether the source has no more records, as far as it says. False: the fetch was cut short,
    /// and `detail` says what is left and what to do.
    pub complete: bool,
    /// The cursor of the source's next page, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    /// Details of the end; may be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
}

/// The reason and its details.
impl std::fmt::Display for Stop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{}", if self.complete { "" } else { "cut short, " }, self.reason.as_str())?;
        if self.detail.is_empty() { Ok(()) } else { write!(f, ": {}", self.detail) }
    }
}

/// What a client requests, apart from the key. Another spec for the same key and attempt is an
/// error.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct RunSpec {
    /// Values for the pages of this run, out of `[fetcher] params`; at most 16, of up to 1,024
    /// characters each. A number, true or false of the request is kept as its text.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub params: BTreeMap<String, String>,
    /// The time that the run reads. It has one exactly if `[fetcher]` names `{{ window.start }}` or
    /// `{{ window.end }}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<Window>,
    /// Labels that identify the client's task, such as `dag_id` and `run_id`; at most 16, of up to
    /// 256 characters each.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Cancel the run if no client has asked for it, by `PUT` or `GET /v1/runs/{id}`, for this many
    /// seconds: 10 to 86,400.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_seconds: Option<u32>,
    /// Whether the run continues its read or reads again. Absent: it continues, but a new attempt
    /// after a complete success reads again from where the key's first attempt started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read: Option<ReadMode>,
    /// The maximum number of dead letters, or a share of the fetched records such as `"5%"`. A run
    /// with more fails once it is complete. Absent: `[fetcher] max_rejected`; without that, a run
    /// fails if every record is rejected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_rejected: Option<MaxRejected>,
}

/// A run, as `GET /v1/runs/{id}` answers it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Run {
    /// The identifier assigned by Forebay.
    pub id: uuid::Uuid,
    /// The client's key; the same key means the same run.
    pub key: String,
    /// The client's attempt, from 1.
    pub attempt: u32,
    /// The request.
    #[serde(flatten)]
    pub spec: RunSpec,
    /// Its state.
    pub state: RunState,
    /// Whether `state` is final.
    pub terminal: bool,
    /// Its counts.
    pub counts: RunCounts,
    /// The part of `counts` that precedes `position`, so it is not fetched again if the run
    /// restarts.
    #[serde(default, skip_serializing_if = "RunCounts::is_nothing")]
    pub kept: RunCounts,
    /// Its dead letters by reason, the most frequent first.
    #[serde(default, skip_serializing_if = "Rejects::is_empty")]
    pub rejects: Rejects,
    /// The part of `rejects` that precedes the source's cursor.
    #[serde(default, skip_serializing_if = "Rejects::is_empty")]
    pub kept_rejects: Rejects,
    /// The records it produced, one range per partition.
    pub ranges: Ranges,
    /// Why it requested no further page, and whether it was cut short; absent until all its records
    /// are in the topic, and if it failed before that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop: Option<Stop>,
    /// Whether it reads again what was read before; the cursor of its read does not move.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub again: bool,
    /// Where the key's first attempt started; absent before that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub began: Option<Position>,
    /// The position of its next page; absent before it has started, and once it has succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<Position>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<RunError>,
    /// When it was requested.
    pub requested_at: DateTime<Utc>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<DateTime<Utc>>,
    /// Who cancelled it, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancelled: Option<Cancelled>,
}

/// The error stage of a run that failed because too many records were rejected.
pub const REJECTED: &str = "rejected";

impl Run {
    /// Starts or restarts at the cursor. The counts return to what they were when a page last moved
    /// the cursor, since everything after it is fetched again; without cursors, everything is.
    /// Written records stay counted.
    pub fn begin(&mut self) {
        let kept = &self.kept;
        let counts = &mut self.counts;
        (counts.pages, counts.fetched, counts.produced) = (kept.pages, kept.fetched, kept.produced);
        counts.rejected = counts.rejected.saturating_sub(counts.refused).saturating_add(kept.refused);
        counts.refused = kept.refused;
        self.rejects.retain(|each| each.stage != PRODUCE);
        self.rejects.merge(&self.kept_rejects);
    }

    /// Counts a fetched page.
    pub fn page_fetched(&mut self, records: u64) {
        self.counts.pages = self.counts.pages.saturating_add(1);
        self.counts.fetched = self.counts.fetched.saturating_add(records);
    }

    /// Counts a page that is in Kafka; `moved` if the cursor has moved past it.
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

    /// Counts settled records.
    pub fn records_settled(&mut self, settled: &RunWritten) {
        let counts = &mut self.counts;
        counts.filtered = counts.filtered.saturating_add(settled.filtered);
        counts.rejected = counts.rejected.saturating_add(settled.rejected);
        counts.written = counts.written.saturating_add(settled.written);
        counts.rows = counts.rows.saturating_add(settled.rows);
        self.rejects.merge(&settled.rejects);
    }

    /// Everything that it produced is settled, here or in another process.
    pub fn complete(&mut self) {
        let (produced, settled) = (self.counts.produced, self.counts.settled());
        self.counts.elsewhere = produced.saturating_sub(settled);
        self.counts.again = settled.saturating_sub(produced);
    }

    /// The error of a run whose records are all settled, but of which too many were rejected.
    /// `is_read`: the pipeline reads the topic; otherwise a record counts as good once it is in the
    /// topic.
    pub fn too_many_rejected(&self, is_read: bool) -> Option<RunError> {
        let RunCounts { fetched, produced, rejected, filtered, written, .. } = self.counts;
        let elsewhere = produced.saturating_sub(self.counts.settled());
        let good = if is_read { written.saturating_add(filtered).saturating_add(elsewhere) } else { produced };
        let tried = Tried { records: fetched.max(rejected), good, rejected };
        let message = MaxRejected::judge(self.spec.max_rejected, tried, &self.rejects)?;
        Some(RunError { stage: REJECTED.to_owned(), message, retryable: false })
    }
}

/// The stage that rejects records before they reach the topic.
const PRODUCE: &str = "produce";

/// Who cancelled a run, and why.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Cancelled {
    /// The caller's role, such as `operator`, or `lease` if the client disappeared.
    pub by: String,
    /// The reason.
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
    #[serde(default, deserialize_with = "run_params::scalars", skip_serializing_if = "BTreeMap::is_empty")]
    #[cfg_attr(test, schemars(schema_with = "crate::openapi_tests::params"))]
    pub params: BTreeMap<String, String>,
    /// See [`RunSpec`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<Window>,
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
    /// Why the fetch was cut short, if it was: the source has more records than were read.
    pub fn cut_short(&self) -> Option<&Stop> {
        self.stop.as_ref().filter(|stop| !stop.complete)
    }
}

/// A value of a run is out of range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum SpecError {
    #[error("{count} {what} exceed the limit of {MAX_SPEC_ENTRIES}")]
    Many { what: &'static str, count: usize },
    #[error("the name {name:?} in {what} must have 1 to {MAX_SPEC_NAME_CHARS} characters")]
    Name { what: &'static str, name: String },
    #[error("{what}.{name} has {length} characters; the limit is {max}")]
    Value { what: &'static str, name: String, length: usize, max: usize },
    #[error("lease_seconds is {0}; use 10 to 86400")]
    Lease(u32),
    #[error("the window {0} is empty or not in the years 1 to 9999; its start must be before its end")]
    Window(Window),
}

/// The maximum number of params, and of labels, of a run.
pub const MAX_SPEC_ENTRIES: usize = 16;
/// The maximum length of the name of a param or label, in characters.
pub const MAX_SPEC_NAME_CHARS: usize = 128;
/// The maximum length of a param, in characters.
pub const MAX_PARAM_CHARS: usize = 1_024;
/// The maximum length of a label, in characters.
pub const MAX_LABEL_CHARS: usize = 256;

impl RunSpec {
    /// Checks that all values are in range.
    ///
    /// # Errors
    /// The first value that is out of range.
    pub fn check(&self) -> Result<(), SpecError> {
        for (what, entries, max) in [("params", &self.params, MAX_PARAM_CHARS), ("labels", &self.labels, MAX_LABEL_CHARS)] {
            if entries.len() > MAX_SPEC_ENTRIES {
                return Err(SpecError::Many { what, count: entries.len() });
            }
            for (name, value) in entries {
                if !(1..=MAX_SPEC_NAME_CHARS).contains(&name.chars().count()) {
                    return Err(SpecError::Name { what, name: name.chars().take(MAX_SPEC_NAME_CHARS).collect() });
                }
                let length = value.chars().count();
                if length > max {
                    return Err(SpecError::Value { what, name: name.clone(), length, max });
                }
            }
        }
        if let Some(window) = self.window.filter(|window| !window.is_valid()) {
            return Err(SpecError::Window(window));
        }
        match self.lease_seconds {
            Some(seconds) if !(10..=86_400).contains(&seconds) => Err(SpecError::Lease(seconds)),
            _ => Ok(()),
        }
    }

    /// What it sets for the pages of the run.
    pub fn read_params(&self) -> ReadParams {
        ReadParams { values: self.params.clone(), window: self.window, ..ReadParams::default() }
    }
}

impl RunRequest {
    /// The spec, without the attempt.
    pub fn spec(self) -> RunSpec {
        let Self { params, window, labels, lease_seconds, read, max_rejected, .. } = self;
        RunSpec { params, window, labels, lease_seconds, read, max_rejected }
    }
}

fn first_attempt() -> u32 {
    1
}

impl Default for RunRequest {
    fn default() -> Self {
        let (params, labels) = (BTreeMap::new(), BTreeMap::new());
        Self { attempt: first_attempt(), params, window: None, labels, lease_seconds: None, read: None, max_rejected: None }
    }
}

/// An error of the API, after RFC 9457.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Problem {
    /// The stable type of the problem, such as `run.payload_mismatch`.
    #[serde(rename = "type")]
    pub kind: String,
    /// What went wrong, in one line.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What is wrong with this very request.
    pub detail: String,
    /// What to do.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub remedy: String,
    /// Whether the same request may succeed later.
    #[serde(default)]
    pub retryable: bool,
}
