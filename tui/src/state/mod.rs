//! The model of the monitor: a fold over snapshots, events, API responses and keys.
//!
//! Guarantees:
//! * The fold is pure: the same inputs and times give the same model. There is no terminal, no
//!   clock (times are arguments) and no I/O (it is requested with an [`Effect`]).
//! * Memory is bounded: a window of snapshots, five minutes of samples, 50,000 events and 2,000 log
//!   lines.
//!
//! Does not guarantee meaningful rates across a restart of the process; they start again.

pub(crate) mod event_history;
mod findings;
mod history;
pub(crate) mod line_editor;
mod lists;
pub(crate) mod logs;
pub(crate) mod operation_dialog;
mod perform_action;
pub(crate) mod projection;
pub(crate) mod prompt;
mod rates;
mod sampled_snapshots;
mod screen;
mod stage_times;
mod time_travel;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use forebay_schemas::api::{BatchTrace, ChangePlan, Logs, PlanRequest, RecordView, Records, Role, WhoAmI};
use forebay_schemas::dead_letters::DeadLetters;
use forebay_schemas::event::Recorded;
use forebay_schemas::snapshot::{ActorState, Snapshot};

use event_history::Timeline;
pub(crate) use findings::{Finding, findings, plain_findings};
pub(crate) use history::{Point, span};
pub(crate) use lists::batch_took;
pub(crate) use logs::{Gap, LogBuffer, StoredLine};
use operation_dialog::{ConfirmedOperation, Dialog, Permission, PlanStatus};
pub(crate) use perform_action::Action;
use projection::Projection;
use prompt::Prompt;
pub(crate) use rates::{Pressure, SnapshotWindow, Trend, downstream, progress};
use sampled_snapshots::Samples;
pub(crate) use screen::{List, RowId, Screen};
pub(crate) use stage_times::{StageTimes, stage_times};
pub(crate) use time_travel::{Frozen, blank, record_path};

/// A source is stale after this silence: four missed snapshots.
const STALE_TIMEOUT: Duration = Duration::from_secs(2);
/// The maximum number of records in memory.
const MAX_RECORDS: usize = 500;

/// The kind of source.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) enum SourceKind {
    /// A running process.
    #[default]
    Process,
    /// A journal, whether a process is writing it or not.
    Journal,
    /// A recording at this multiple of its speed.
    Recording(f64),
}

/// An input of the model.
#[derive(Debug)]
pub(crate) enum Update {
    /// A snapshot of the pipeline.
    Snapshot(Arc<Snapshot>),
    /// Events in sequence.
    Events(Vec<Arc<Recorded>>),
    /// The journal was replaced; its events start again.
    JournalReplaced,
    /// The source failed and is being retried.
    SourceFailed(String),
    /// A response of the API.
    Response(ApiResponse),
    /// A recording has ended.
    Finished,
}

/// A request to the API.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum ApiRequest {
    WhoAmI,
    Batch(u64),
    Records,
    DeadLetters,
    /// The log lines after this one.
    Logs(u64),
    /// A plan for the named pipeline.
    Plan(String, PlanRequest),
    /// A permitted and confirmed operation.
    Operate(ConfirmedOperation),
}

/// A response of the API.
#[derive(Debug)]
pub(crate) enum ApiResponse {
    WhoAmI(Result<WhoAmI, String>),
    Batch(u64, Result<Box<BatchTrace>, String>),
    Records(Result<Records, String>),
    DeadLetters(Result<Box<DeadLetters>, String>),
    Logs(Result<Logs, String>),
    Plan(Result<Box<ChangePlan>, String>),
    /// The result of an operation, in one line.
    Operated(Result<String, String>),
}

/// Work to be done outside the model.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Effect {
    Request(ApiRequest),
    /// Copy to the clipboard of the terminal.
    Copy(String),
    /// Save the contents to the named file.
    Save(String, String),
    Redraw,
    Theme(String),
    /// Retry the source now, without waiting for its delay.
    Reconnect,
    Mouse(bool),
}

/// How fresh the newest snapshot is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Link {
    /// There is no snapshot yet; with the error of the source.
    Connecting(Option<String>),
    Live,
    /// The age of the newest snapshot, with the error of the source.
    Stale(Duration, Option<String>),
}

/// Data from the API other than snapshots and events.
#[derive(Debug, Default)]
pub(crate) struct ApiData {
    pub(crate) trace: Option<(u64, Result<Box<BatchTrace>, String>)>,
    /// Newest first.
    pub(crate) records: VecDeque<RecordView>,
    pub(crate) records_error: Option<String>,
    pub(crate) dead_letters: Option<Result<Box<DeadLetters>, String>>,
    /// The pipeline's number of dead letters when they were requested.
    dead_letters_total: u64,
    pub(crate) logs: LogBuffer,
    /// Whether a snapshot arrived since records were requested; they are requested at most once per
    /// snapshot.
    records_due: bool,
    /// Whether a request for records or dead letters is pending.
    records_requested: bool,
    dead_letters_requested: bool,
}

/// A message that is shown until the next key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) text: String,
    pub(crate) good: bool,
}

/// The order of a list's rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Sort {
    pub(crate) by: usize,
    pub(crate) reverse: bool,
}

/// Everything that the view draws from.
#[derive(Debug, Default)]
pub(crate) struct Model {
    kind: SourceKind,
    /// Whether there is an API.
    has_api: bool,
    live_window: SnapshotWindow,
    samples: Samples,
    timeline: Timeline,
    frozen: Option<Box<Frozen>>,
    last_update: Option<Instant>,
    source_error: Option<String>,
    finished: bool,
    operate: bool,
    /// Whether responses are recorded. If so, log lines are requested on every screen.
    pub(crate) recorded: bool,
    role: Option<Role>,
    pub(crate) api_data: ApiData,

    pub(crate) screen: Screen,
    focus: usize,
    selected: [Option<RowId>; List::COUNT],
    /// The last row of the selected item, for when the item is gone.
    last_rows: [usize; List::COUNT],
    sorts: [Sort; List::COUNT],
    filters: [String; List::COUNT],
    matches: lists::EventMatches,
    pub(crate) follow: bool,
    pub(crate) details: Vec<RowId>,
    pub(crate) scroll: usize,
    pub(crate) prompt: Option<Prompt>,
    pub(crate) dialog: Option<Dialog>,
    pub(crate) help: Option<usize>,
    pub(crate) message: Option<Message>,
    pub(crate) marker: Option<u64>,
    mouse: bool,
    effects: Vec<Effect>,
    pub(crate) quit: bool,
}

impl Model {
    /// Creates the model of a source. `operate` says whether the user wants to change the pipeline.
    pub(crate) fn new(kind: SourceKind, has_api: bool, operate: bool) -> Self {
        let mut model = Self { kind, has_api, operate, follow: true, ..Self::default() };
        if has_api && operate {
            model.effects.push(Effect::Request(ApiRequest::WhoAmI));
        }
        model
    }

    /// Handles an input.
    pub(crate) fn update(&mut self, update: Update, now: Instant) {
        match update {
            Update::Snapshot(snapshot) => self.add_snapshot(snapshot, now),
            Update::Events(events) => self.add_events(&events, now),
            Update::JournalReplaced => {
                self.timeline = Timeline::default();
                self.matches = lists::EventMatches::default();
                self.marker = None;
                // Responses so far belong to the previous pipeline. Pending requests stay pending.
                let ApiData { dead_letters_total, records_requested, dead_letters_requested, .. } = self.api_data;
                self.api_data = ApiData { dead_letters_total, records_requested, dead_letters_requested, ..ApiData::default() };
                if self.kind == SourceKind::Journal {
                    self.live_window = SnapshotWindow::default();
                }
            }
            Update::SourceFailed(why) => self.source_error = Some(why),
            Update::Response(response) => self.handle_response(response),
            Update::Finished => self.finished = true,
        }
        self.request_missing_data();
    }

    fn add_snapshot(&mut self, snapshot: Arc<Snapshot>, now: Instant) {
        self.samples.add(&snapshot);
        self.live_window.push(snapshot);
        (self.last_update, self.source_error) = (Some(now), None);
        self.api_data.logs.snapshot_received();
        self.api_data.records_due = true;
    }

    fn add_events(&mut self, events: &[Arc<Recorded>], now: Instant) {
        let following = self.follow && self.frozen.is_none();
        for event in events {
            if self.timeline.push(Arc::clone(event)) {
                let first = self.timeline.get(0).map_or(0, |first| first.seq);
                self.matches.push(event, first);
                if self.kind == SourceKind::Journal {
                    self.add_derived_snapshot(false);
                }
            }
        }
        if self.kind == SourceKind::Journal {
            self.add_derived_snapshot(true);
            (self.last_update, self.source_error) = (Some(now), None);
        }
        if following {
            self.selected[List::Events as usize] = None;
        }
    }

    /// Derives snapshots from events where there are no others: one per second of event time, and
    /// one after the last event.
    fn add_derived_snapshot(&mut self, last: bool) {
        let head = self.timeline.head();
        let Some(at) = head.at else { return };
        let due = self.live_window.newest().is_none_or(|newest| (at - newest.at).num_milliseconds().abs() >= 1_000);
        if due || last {
            let snapshot = Arc::new(head.overlay(&blank(self.live_window.newest(), head), head));
            self.samples.add(&snapshot);
            self.live_window.push(snapshot);
        }
    }

    fn handle_response(&mut self, response: ApiResponse) {
        match response {
            ApiResponse::WhoAmI(Ok(who)) => self.role = Some(who.role),
            ApiResponse::WhoAmI(Err(why)) => self.show_error(format!("the API did not say what you may do: {why}")),
            ApiResponse::Batch(id, trace) => self.api_data.trace = Some((id, trace)),
            ApiResponse::Records(records) => {
                self.api_data.records_requested = false;
                match records {
                    Ok(records) => self.api_data.take_records(records),
                    Err(why) => self.api_data.records_error = Some(why),
                }
            }
            ApiResponse::DeadLetters(letters) => {
                self.api_data.dead_letters_requested = false;
                self.api_data.dead_letters = Some(letters);
            }
            ApiResponse::Logs(logs) => self.api_data.logs.response_received(logs),
            ApiResponse::Plan(plan) => {
                if let Some(dialog) = &mut self.dialog {
                    dialog.plan = plan.map_or_else(PlanStatus::Failed, |plan| PlanStatus::Ready(*plan));
                }
            }
            ApiResponse::Operated(Ok(done)) => self.show_info(done),
            ApiResponse::Operated(Err(why)) => self.show_error(why),
        }
    }

    /// Requests the data that the screen needs and the model lacks.
    pub(crate) fn request_missing_data(&mut self) {
        if !self.has_api {
            return;
        }
        let open = self.details.last().cloned();
        let mut requests = Vec::new();
        if let Some(RowId::Batch(id)) = open
            && self.api_data.trace.as_ref().is_none_or(|(of, _)| *of != id)
        {
            // This marks the request as pending.
            self.api_data.trace = Some((id, Err("loading".to_owned())));
            requests.push(ApiRequest::Batch(id));
        }
        let data = &mut self.api_data;
        let first = data.records.is_empty() && data.records_error.is_none();
        let wanted = first || (self.follow && self.frozen.is_none());
        if self.screen == Screen::Records && data.records_due && !data.records_requested && wanted {
            (data.records_due, data.records_requested) = (false, true);
            requests.push(ApiRequest::Records);
        }
        // The old ones stay until newer ones arrive.
        let rejected = self.live_window.newest().map_or(0, |snapshot| snapshot.totals.rejected);
        let wanted = data.dead_letters.is_none() || data.dead_letters_total != rejected;
        if self.screen == Screen::DeadLetters && wanted && !data.dead_letters_requested {
            (data.dead_letters_requested, data.dead_letters_total) = (true, rejected);
            requests.push(ApiRequest::DeadLetters);
        }
        if (self.screen == Screen::Logs || self.recorded)
            && let Some(after) = data.logs.next_request()
        {
            requests.push(ApiRequest::Logs(after));
        }
        self.effects.extend(requests.into_iter().map(Effect::Request));
    }

    /// Takes the pending effects.
    pub(crate) fn effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    pub(crate) fn show_info(&mut self, text: String) {
        self.message = Some(Message { text, good: true });
    }

    pub(crate) fn show_error(&mut self, text: String) {
        self.message = Some(Message { text, good: false });
    }

    /// How fresh the newest snapshot is.
    pub(crate) fn link(&self, now: Instant) -> Link {
        let Some(last_update) = self.last_update else { return Link::Connecting(self.source_error.clone()) };
        let silent = now.saturating_duration_since(last_update);
        let live = silent < STALE_TIMEOUT || self.kind != SourceKind::Process;
        if live { Link::Live } else { Link::Stale(silent, self.source_error.clone()) }
    }

    pub(crate) fn kind(&self) -> SourceKind {
        self.kind
    }

    /// Whether a recording has ended.
    pub(crate) fn is_finished(&self) -> bool {
        self.finished
    }

    /// Whether there is an API.
    pub(crate) fn has_api(&self) -> bool {
        self.has_api
    }

    /// What the user may do.
    pub(crate) fn permission(&self) -> Permission {
        Permission { operate: self.operate, role: self.role, live: self.frozen.is_none() && self.kind == SourceKind::Process }
    }

    /// The snapshots on the screen: the newest, or those of the moment that is shown.
    pub(crate) fn shown(&self) -> &SnapshotWindow {
        self.frozen.as_ref().map_or(&self.live_window, |frozen| &frozen.window)
    }

    /// The newest snapshot, even when an earlier moment is shown.
    pub(crate) fn newest(&self) -> Option<&Snapshot> {
        self.live_window.newest()
    }

    /// The projection at the moment that is shown.
    pub(crate) fn projection(&self) -> &Projection {
        self.frozen.as_ref().map_or_else(|| self.timeline.head(), |frozen| &frozen.projection)
    }

    /// The earlier moment that is shown; `None` while the view is live.
    pub(crate) fn frozen(&self) -> Option<&Frozen> {
        self.frozen.as_deref()
    }

    /// Whether the values that events do not contain are known for the moment that is shown.
    pub(crate) fn measured(&self) -> bool {
        self.kind != SourceKind::Journal && self.frozen.as_ref().is_none_or(|frozen| frozen.measured)
    }

    /// The time up to which log lines are shown; `None` while the view is live.
    pub(crate) fn until(&self) -> Option<DateTime<Utc>> {
        self.frozen.as_ref().map(|frozen| frozen.until)
    }

    pub(crate) fn timeline(&self) -> &Timeline {
        &self.timeline
    }

    /// The number of minutes in the charts.
    pub(crate) fn minutes(&self) -> i64 {
        self.shown().history().span() / 60
    }

    /// One snapshot per second, up to the moment that is shown.
    pub(crate) fn sampled_snapshots(&self) -> impl DoubleEndedIterator<Item = &Arc<Snapshot>> {
        let upto = self.frozen.as_ref().map(|frozen| frozen.at);
        self.samples.iter().filter(move |snapshot| upto.is_none_or(|upto| snapshot.at <= upto))
    }
}

impl ApiData {
    fn take_records(&mut self, records: Records) {
        self.records_error = None;
        for record in records.records {
            let key = (record.partition, record.offset);
            if !self.records.iter().any(|known| (known.partition, known.offset) == key) {
                self.records.push_front(record);
            }
        }
        self.records.make_contiguous().sort_by_key(|record| std::cmp::Reverse((record.timestamp_ms, record.offset, record.partition)));
        self.records.truncate(MAX_RECORDS);
    }
}

/// How bad a state is; 0 is good.
pub(crate) fn severity(state: ActorState) -> u8 {
    match state {
        ActorState::Up => 0,
        ActorState::Waiting => 1,
        ActorState::Stuck => 2,
        ActorState::Restarting => 3,
        ActorState::Ended => 4,
    }
}
