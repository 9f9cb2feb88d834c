//! Time travel: shows the pipeline at any event in memory.
//!
//! Guarantees:
//! * What events decide (runs, actors, batches, written and committed offsets) is exactly that of
//!   the event.
//! * What events do not contain is that of a snapshot at most two seconds older; if there is none,
//!   it is marked as unknown.
//! * Updates that arrive meanwhile are stored and do not change the screen.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use forebay_schemas::event::{Event, Recorded};
use forebay_schemas::offset::{Offset, Partition, Ranges};
use forebay_schemas::snapshot::{Latency, RunTotals, Snapshot, StageView};

use super::event_history::Timeline;
use super::projection::Projection;
use super::rates::SnapshotWindow;
use super::{Model, RowId};

/// The moment that is shown instead of the live view.
#[derive(Debug, Clone)]
pub(crate) struct Frozen {
    /// The event; 0 without a journal.
    pub(crate) seq: u64,
    pub(crate) at: DateTime<Utc>,
    /// The time of the next event, or of the newest snapshot when the view was frozen.
    pub(crate) until: DateTime<Utc>,
    /// The event itself; `None` without a journal.
    pub(crate) event: Option<Arc<Recorded>>,
    pub(crate) window: SnapshotWindow,
    pub(crate) projection: Projection,
    /// Whether the values that events do not contain are known.
    pub(crate) measured: bool,
}

/// A snapshot without anything that changes, derived from events if there is none.
pub(crate) fn blank(snapshot: Option<&Snapshot>, projection: &Projection) -> Snapshot {
    let epoch = projection.at.unwrap_or_default();
    let mut blank = snapshot.cloned().unwrap_or_else(|| Snapshot {
        pipeline: if projection.group.is_empty() { "journal".to_owned() } else { projection.group.clone() },
        version: projection.version.clone(),
        started_at: projection.started_at.unwrap_or(epoch),
        at: epoch,
        roles: projection.roles.clone(),
        kafka: String::new(),
        cassandra: String::new(),
        topic: projection.topic.clone(),
        table: String::new(),
        totals: forebay_schemas::snapshot::Totals::default(),
        partitions: Vec::new(),
        latency_ms: Latency::default(),
        batches: Vec::new(),
        actors: Vec::new(),
        runs: Vec::new(),
        edges: Vec::new(),
        seq: 0,
        desired: forebay_schemas::desired::Desired::default(),
        stages: Vec::new(),
        source: None,
        store: None,
        alerts: Vec::new(),
        memory_bytes: 0,
        end_to_end: StageView::default(),
        durable_seq: 0,
        run_totals: RunTotals::default(),
        trigger_micros: None,
        disk: None,
        rejects: forebay_schemas::rejects::Rejects::default(),
        drift: Vec::new(),
    });
    blank.latency_ms = Latency::default();
    blank.edges.clear();
    blank.stages.clear();
    blank.alerts.clear();
    (blank.source, blank.store, blank.memory_bytes) = (None, None, 0);
    blank
}

impl Model {
    /// Freezes the view at the newest snapshot.
    pub(crate) fn freeze(&mut self) {
        let Some(snapshot) = self.live_window.newest() else { return };
        let event = self.timeline.len().checked_sub(1).and_then(|last| self.timeline.get(last)).cloned();
        self.frozen = Some(Box::new(Frozen {
            seq: event.as_ref().map_or(snapshot.seq, |event| event.seq),
            at: snapshot.at,
            until: snapshot.at,
            event,
            window: self.live_window.clone(),
            projection: self.timeline.head().clone(),
            measured: true,
        }));
    }

    /// Returns to the live view.
    pub(crate) fn go_live(&mut self) {
        self.frozen = None;
        self.follow = true;
    }

    /// The index of the event that is shown.
    pub(crate) fn shown_index(&self) -> Option<usize> {
        match &self.frozen {
            Some(frozen) => self.timeline.index_of(frozen.seq),
            None => self.timeline.len().checked_sub(1),
        }
    }

    /// Goes to the event at an index.
    pub(crate) fn go_to_index(&mut self, index: usize) {
        let Some(event) = self.timeline.get(index).cloned() else { return };
        // Stepping to the next event folds one event, not a thousand.
        let next = self.frozen.take().filter(|frozen| self.timeline.index_of(frozen.seq).is_some_and(|shown| shown + 1 == index));
        let projection = match next {
            Some(frozen) => {
                let mut projection = frozen.projection;
                projection.apply(&event);
                projection
            }
            None => self.timeline.projection_at(index),
        };
        let head = self.timeline.head();
        let (window, measured) = match self.samples.window_at(event.at) {
            Some(mut window) => {
                if let Some(snapshot) = window.newest() {
                    let at = snapshot.at;
                    let mut shown = projection.overlay(snapshot, head);
                    // Rates need the timestamp of the snapshot.
                    shown.at = at;
                    window.replace(Arc::new(shown));
                }
                (window, true)
            }
            None => (SnapshotWindow::single(Arc::new(projection.overlay(&blank(self.live_window.newest(), head), head))), false),
        };
        let newest = || self.live_window.newest().map_or(event.at, |snapshot| snapshot.at);
        let until = self.timeline.get(index + 1).map_or_else(newest, |next| next.at).max(event.at);
        self.frozen = Some(Box::new(Frozen { seq: event.seq, at: event.at, until, event: Some(event), window, projection, measured }));
        self.selected[super::List::Events as usize] = self.frozen.as_ref().map(|frozen| RowId::Event(frozen.seq));
    }

    /// Steps by this many events.
    pub(crate) fn step(&mut self, by: isize) {
        let (Some(index), Some(last)) = (self.shown_index(), self.timeline.len().checked_sub(1)) else {
            return self.show_error("no events to step through".to_owned());
        };
        if by > 0 && self.frozen.is_none() {
            return;
        }
        self.go_to_index(index.saturating_add_signed(by).min(last));
    }

    /// Steps to the next batch, or to the previous one.
    pub(crate) fn step_batch(&mut self, forward: bool) {
        let Some(index) = self.shown_index() else { return self.show_error("no events to step through".to_owned()) };
        match self.timeline.find(index, forward, |event| matches!(event, Event::BatchWritten { .. })) {
            Some(index) => self.go_to_index(index),
            None => self.show_error(format!("no batch {} this one in memory", if forward { "after" } else { "before" })),
        }
    }

    /// Steps by this many seconds.
    pub(crate) fn step_seconds(&mut self, seconds: i64) {
        let Some(at) = self.shown_index().and_then(|index| self.timeline.get(index)).map(|event| event.at) else {
            return self.show_error("no events to step through".to_owned());
        };
        if let Some(index) = self.timeline.index_at(at + TimeDelta::seconds(seconds)) {
            self.go_to_index(index);
        }
    }

    /// Goes to the last event up to a sequence number.
    pub(crate) fn go_to_seq(&mut self, seq: u64) {
        match self.timeline.index_of(seq).or((self.timeline.len() > 0).then_some(0)) {
            Some(index) => self.go_to_index(index),
            None => self.show_error("no events to go back to".to_owned()),
        }
    }

    /// How far the view is behind: events, and time.
    pub(crate) fn behind(&self) -> Option<(u64, TimeDelta)> {
        let frozen = self.frozen.as_ref()?;
        let newest = self.live_window.newest().map_or(frozen.at, |snapshot| snapshot.at).max(self.timeline.head().at.unwrap_or(frozen.at));
        Some((self.timeline.head().seq.saturating_sub(frozen.seq), (newest - frozen.at).max(TimeDelta::zero())))
    }
}

/// The path of a record, as far as events in memory tell.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct RecordPath {
    /// The page with the record.
    pub(crate) page: Option<Arc<Recorded>>,
    /// The batch that wrote it.
    pub(crate) batch: Option<Arc<Recorded>>,
    /// The commit after it.
    pub(crate) committed: Option<Arc<Recorded>>,
}

/// Finds the path of the record at an offset.
pub(crate) fn record_path(timeline: &Timeline, partition: Partition, offset: Offset) -> RecordPath {
    let mut path = RecordPath::default();
    for index in (0..timeline.len()).rev() {
        let Some(recorded) = timeline.get(index) else { break };
        let contains = |ranges: &Ranges| ranges.0.get(&partition).is_some_and(|range| range.from <= offset && offset < range.to);
        match &recorded.event {
            Event::PageProduced { ranges, .. } if contains(ranges) => {
                path.page = Some(Arc::clone(recorded));
                break;
            }
            Event::BatchWritten { ranges, .. } if contains(ranges) => path.batch = Some(Arc::clone(recorded)),
            Event::OffsetsCommitted { offsets } if offsets.0.get(&partition).is_some_and(|&to| to > offset) => {
                path.committed = Some(Arc::clone(recorded));
            }
            _ => {}
        }
    }
    path
}
