//! What the view knows: a fold over snapshots, events, answers and keys.
//!
//! Guarantee: pure; the same snapshots, events, keys and moments give the same model. It has no terminal, no clock (moments are passed in), no
//! input or output (what it wants done it leaves as an [`Effect`]) and bounded memory: a window of snapshots, five minutes of samples, 50,000
//! events, 2,000 log lines. Not guaranteed: that rates mean anything across a restart of the process; they begin anew.

mod actions;
mod findings;
mod history;
pub(crate) mod line_editor;
mod lists;
pub(crate) mod logs;
pub(crate) mod operations;
pub(crate) mod projection;
pub(crate) mod prompt;
mod rates;
mod samples;
mod screen;
mod stage_times;
mod time_travel;
pub(crate) mod timeline;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use forebay_schemas::api::{BatchTrace, DeadLetters, Logs, Plan, PlanRequest, RecordView, Records, Role, WhoAmI};
use forebay_schemas::event::Recorded;
use forebay_schemas::snapshot::{ActorState, Snapshot};

pub(crate) use actions::Action;
pub(crate) use findings::{Finding, findings, plain_findings};
pub(crate) use history::{Point, span};
pub(crate) use lists::batch_took;
pub(crate) use logs::{Gap, LogBuffer, StoredLine};
use operations::{ConfirmedOperation, Dialog, Permission, PlanStatus};
use projection::Projection;
use prompt::Prompt;
pub(crate) use rates::{Pressure, SnapshotWindow, Trend, downstream, progress};
use samples::Samples;
pub(crate) use screen::{List, RowId, Screen};
pub(crate) use stage_times::{StageTimes, stage_times};
pub(crate) use time_travel::{Frozen, blank, record_path};
use timeline::Timeline;

/// A source that has said nothing for so long is stale: four snapshots missed.
const STALE_AFTER: Duration = Duration::from_secs(2);
/// The most records that are held.
const MAX_RECORDS: usize = 500;

/// Where what is shown comes from.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) enum SourceKind {
    /// A running process.
    #[default]
    Process,
    /// A folder of events, whether somebody writes it or not.
    Journal,
    /// A recording, so many times as fast as it was.
    Recording(f64),
}

/// Something new.
#[derive(Debug)]
pub(crate) enum Update {
    /// A snapshot at the pipeline.
    Snapshot(Arc<Snapshot>),
    /// Events, in sequence.
    Events(Vec<Arc<Recorded>>),
    /// The events begin anew: it is another journal.
    JournalReplaced,
    /// The source failed; it is asked again.
    SourceFailed(String),
    /// An answer of the API.
    Response(ApiResponse),
    /// A recording is over.
    Finished,
}

/// What is asked of the API.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum ApiRequest {
    WhoAmI,
    Batch(u64),
    Records,
    DeadLetters,
    /// Those after a line.
    Logs(u64),
    /// Of a pipeline.
    Plan(String, PlanRequest),
    /// Something that changes the pipeline; it has passed the gate.
    Operate(ConfirmedOperation),
}

/// What the API answered.
#[derive(Debug)]
pub(crate) enum ApiResponse {
    WhoAmI(Result<WhoAmI, String>),
    Batch(u64, Result<Box<BatchTrace>, String>),
    Records(Result<Records, String>),
    DeadLetters(Result<Box<DeadLetters>, String>),
    Logs(Result<Logs, String>),
    Plan(Result<Box<Plan>, String>),
    /// What came of an operation, in a line.
    Operated(Result<String, String>),
}

/// What is to be done outside the model.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Effect {
    Request(ApiRequest),
    /// To the clipboard of the terminal.
    Copy(String),
    /// A file, and what it is to hold.
    Save(String, String),
    Redraw,
    Theme(String),
    /// Look at once, not after the pause of a failing source.
    Reconnect,
    Mouse(bool),
}

/// How fresh the newest snapshot is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Link {
    /// There was no snapshot yet; why, if the source said.
    Connecting(Option<String>),
    Live,
    /// The newest snapshot is so old; why, if the source said.
    Stale(Duration, Option<String>),
}

/// What the API answered, as far as it is shown.
#[derive(Debug, Default)]
pub(crate) struct ApiData {
    pub(crate) trace: Option<(u64, Result<Box<BatchTrace>, String>)>,
    /// Newest first.
    pub(crate) records: VecDeque<RecordView>,
    pub(crate) records_error: Option<String>,
    pub(crate) dead_letters: Option<Result<Box<DeadLetters>, String>>,
    /// The dead letters of the pipeline when they were asked for.
    dead_letters_total: u64,
    pub(crate) logs: LogBuffer,
    /// Whether a snapshot came since records were asked for: they are asked for once a snapshot at most.
    records_due: bool,
    /// Whether records, letters were asked for and did not come yet.
    records_requested: bool,
    dead_letters_requested: bool,
}

/// A line that is said once, until the next key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) text: String,
    pub(crate) good: bool,
}

/// How the rows of a list are put.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Sort {
    pub(crate) by: usize,
    pub(crate) reverse: bool,
}

/// Everything the view draws from.
#[derive(Debug, Default)]
pub(crate) struct Model {
    kind: SourceKind,
    /// Whether there is an API to ask.
    has_api: bool,
    live_window: SnapshotWindow,
    samples: Samples,
    timeline: Timeline,
    frozen: Option<Box<Frozen>>,
    last_update: Option<Instant>,
    source_error: Option<String>,
    finished: bool,
    operate: bool,
    /// Whether what is answered is recorded, so that log lines are read on every screen.
    pub(crate) recorded: bool,
    role: Option<Role>,
    pub(crate) api_data: ApiData,

    pub(crate) screen: Screen,
    focus: usize,
    selected: [Option<RowId>; List::COUNT],
    /// Where the selected row was, for when it goes.
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
    /// Of a source; `asks` when there is an API to ask, `operate` when whoever looks wants to change things.
    pub(crate) fn new(kind: SourceKind, has_api: bool, operate: bool) -> Self {
        let mut model = Self { kind, has_api, operate, follow: true, ..Self::default() };
        if has_api && operate {
            model.effects.push(Effect::Request(ApiRequest::WhoAmI));
        }
        model
    }

    /// Something came.
    pub(crate) fn update(&mut self, update: Update, now: Instant) {
        match update {
            Update::Snapshot(snapshot) => self.add_snapshot(snapshot, now),
            Update::Events(events) => self.add_events(&events, now),
            Update::JournalReplaced => {
                self.timeline = Timeline::default();
                self.matches = lists::EventMatches::default();
                self.marker = None;
                // What was answered was of the pipeline before; what is asked for is still to come.
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
                    self.add_snapshot_of_events(false);
                }
            }
        }
        if self.kind == SourceKind::Journal {
            self.add_snapshot_of_events(true);
            (self.last_update, self.source_error) = (Some(now), None);
        }
        if following {
            self.selected[List::Events as usize] = None;
        }
    }

    /// Where there are only events, snapshots are made of them: one a second of their time, and one after the last.
    fn add_snapshot_of_events(&mut self, last: bool) {
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

    /// Asks the API for what the screen needs and has not.
    pub(crate) fn request_missing_data(&mut self) {
        if !self.has_api {
            return;
        }
        let page = self.details.last().cloned();
        let mut requests = Vec::new();
        if let Some(RowId::Batch(id)) = page
            && self.api_data.trace.as_ref().is_none_or(|(of, _)| *of != id)
        {
            // Its place is taken at once, so that it is asked for once.
            self.api_data.trace = Some((id, Err("asked for".to_owned())));
            requests.push(ApiRequest::Batch(id));
        }
        let data = &mut self.api_data;
        let first = data.records.is_empty() && data.records_error.is_none();
        let wanted = first || (self.follow && self.frozen.is_none());
        if self.screen == Screen::Records && data.records_due && !data.records_requested && wanted {
            (data.records_due, data.records_requested) = (false, true);
            requests.push(ApiRequest::Records);
        }
        // Those that are there stay until newer ones come.
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

    /// What is to be done, taken.
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
        let live = silent < STALE_AFTER || self.kind != SourceKind::Process;
        if live { Link::Live } else { Link::Stale(silent, self.source_error.clone()) }
    }

    pub(crate) fn kind(&self) -> SourceKind {
        self.kind
    }

    /// Whether a recording is over.
    pub(crate) fn is_finished(&self) -> bool {
        self.finished
    }

    /// Whether there is an API to ask.
    pub(crate) fn has_api(&self) -> bool {
        self.has_api
    }

    /// Whether the view was started to operate, and the role that the API said.
    pub(crate) fn permission(&self) -> Permission {
        Permission { operate: self.operate, role: self.role, live: self.frozen.is_none() && self.kind == SourceKind::Process }
    }

    /// What is on the screen: the newest snapshots, or those of the moment that was gone back to.
    pub(crate) fn shown(&self) -> &SnapshotWindow {
        self.frozen.as_ref().map_or(&self.live_window, |frozen| &frozen.window)
    }

    /// The newest snapshots, whatever is shown.
    pub(crate) fn newest(&self) -> Option<&Snapshot> {
        self.live_window.newest()
    }

    /// The projection at what is shown.
    pub(crate) fn projection(&self) -> &Projection {
        self.frozen.as_ref().map_or_else(|| self.timeline.head(), |frozen| &frozen.projection)
    }

    /// The moment that was gone back to; none when what is shown is now.
    pub(crate) fn frozen(&self) -> Option<&Frozen> {
        self.frozen.as_deref()
    }

    /// Whether the numbers that no event holds are those of the moment that is shown.
    pub(crate) fn measured(&self) -> bool {
        self.kind != SourceKind::Journal && self.frozen.as_ref().is_none_or(|frozen| frozen.measured)
    }

    /// The log lines up to there are those of what is shown; none when it is now.
    pub(crate) fn until(&self) -> Option<DateTime<Utc>> {
        self.frozen.as_ref().map(|frozen| frozen.until)
    }

    pub(crate) fn timeline(&self) -> &Timeline {
        &self.timeline
    }

    /// How many minutes of history are drawn.
    pub(crate) fn minutes(&self) -> i64 {
        self.shown().history().span() / 60
    }

    /// The snapshots, one a second, up to what is shown.
    pub(crate) fn sampled(&self) -> impl DoubleEndedIterator<Item = &Arc<Snapshot>> {
        let upto = self.frozen.as_ref().map(|frozen| frozen.at);
        self.samples.iter().filter(move |snapshot| upto.is_none_or(|upto| snapshot.at <= upto))
    }
}

impl ApiData {
    fn take_records(&mut self, records: Records) {
        self.records_error = None;
        for record in records.records {
            let place = (record.partition, record.offset);
            if !self.records.iter().any(|have| (have.partition, have.offset) == place) {
                self.records.push_front(record);
            }
        }
        self.records.make_contiguous().sort_by_key(|record| std::cmp::Reverse((record.timestamp_ms, record.offset, record.partition)));
        self.records.truncate(MAX_RECORDS);
    }
}

/// How bad a state is; 0 is well.
pub(crate) fn severity(state: ActorState) -> u8 {
    match state {
        ActorState::Up => 0,
        ActorState::Waiting => 1,
        ActorState::Stuck => 2,
        ActorState::Restarting => 3,
        ActorState::Ended => 4,
    }
}
