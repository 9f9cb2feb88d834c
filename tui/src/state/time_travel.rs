//! Going back: any event that is held, and the pipeline as it was then.
//!
//! Guarantee: what events decide (runs, actors, how far partitions are written and committed, batches) is exactly that of the event; what no
//! event holds is that of a snapshot taken within two seconds before it, and marked as unknown where there is none. What comes meanwhile is kept
//! and changes nothing on the screen.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use forebay_schemas::event::{Event, Recorded};
use forebay_schemas::snapshot::{RunTotals, Snapshot, StageView};
use forebay_schemas::summary::Latency;

use super::projection::Projection;
use super::rates::SnapshotWindow;
use super::timeline::Timeline;
use super::{Model, RowId};

/// A moment that was gone back to.
#[derive(Debug, Clone)]
pub(crate) struct Frozen {
    /// The event; 0 where there is no journal.
    pub(crate) seq: u64,
    pub(crate) at: DateTime<Utc>,
    /// When the next event came, or the newest snapshot before one went back.
    pub(crate) until: DateTime<Utc>,
    /// The event itself; none where there is no journal.
    pub(crate) event: Option<Arc<Recorded>>,
    pub(crate) window: SnapshotWindow,
    pub(crate) projection: Projection,
    /// Whether what no event holds is known.
    pub(crate) measured: bool,
}

/// What stays of a snapshot when all that can change is taken away; made up from events when there was none.
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
        desired: forebay_schemas::api::Desired::default(),
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
    });
    blank.latency_ms = Latency::default();
    blank.edges.clear();
    blank.stages.clear();
    blank.alerts.clear();
    (blank.source, blank.store, blank.memory_bytes) = (None, None, 0);
    blank
}

impl Model {
    /// Holds what is shown now.
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

    /// Back to now.
    pub(crate) fn live(&mut self) {
        self.frozen = None;
        self.follow = true;
    }

    /// Where the moment that is shown is among the events.
    pub(crate) fn shown_index(&self) -> Option<usize> {
        match &self.frozen {
            Some(frozen) => self.timeline.index_of(frozen.seq),
            None => self.timeline.len().checked_sub(1),
        }
    }

    /// Goes to the event at a place.
    pub(crate) fn go_to_index(&mut self, index: usize) {
        let Some(event) = self.timeline.get(index).cloned() else { return };
        // The next event after the one that is shown costs one step, not a thousand.
        let next = self.frozen.take().filter(|frozen| self.timeline.index_of(frozen.seq).is_some_and(|place| place + 1 == index));
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
                    // Rates are taken over the times of snapshots.
                    shown.at = at;
                    window.replace(Arc::new(shown));
                }
                (window, true)
            }
            None => (SnapshotWindow::of(Arc::new(projection.overlay(&blank(self.live_window.newest(), head), head))), false),
        };
        let newest = || self.live_window.newest().map_or(event.at, |snapshot| snapshot.at);
        let until = self.timeline.get(index + 1).map_or_else(newest, |next| next.at).max(event.at);
        self.frozen = Some(Box::new(Frozen { seq: event.seq, at: event.at, until, event: Some(event), window, projection, measured }));
        self.selected[super::List::Events as usize] = self.frozen.as_ref().map(|frozen| RowId::Event(frozen.seq));
    }

    /// So many events on, or back.
    pub(crate) fn step(&mut self, by: isize) {
        let (Some(place), Some(last)) = (self.shown_index(), self.timeline.len().checked_sub(1)) else {
            return self.show_error("there are no events to step through".to_owned());
        };
        if by > 0 && self.frozen.is_none() {
            return;
        }
        self.go_to_index(place.saturating_add_signed(by).min(last));
    }

    /// To the next batch, or the one before.
    pub(crate) fn step_batch(&mut self, forward: bool) {
        let Some(place) = self.shown_index() else { return self.show_error("there are no events to step through".to_owned()) };
        match self.timeline.find(place, forward, |event| matches!(event, Event::BatchWritten { .. })) {
            Some(index) => self.go_to_index(index),
            None => self.show_error(format!("no batch {} is held", if forward { "after this" } else { "before this" })),
        }
    }

    /// So many seconds on, or back.
    pub(crate) fn step_seconds(&mut self, seconds: i64) {
        let Some(at) = self.shown_index().and_then(|place| self.timeline.get(place)).map(|event| event.at) else {
            return self.show_error("there are no events to step through".to_owned());
        };
        if let Some(index) = self.timeline.index_at(at + TimeDelta::seconds(seconds)) {
            self.go_to_index(index);
        }
    }

    /// To the last event up to a sequence.
    pub(crate) fn go_to_seq(&mut self, seq: u64) {
        match self.timeline.index_of(seq).or((self.timeline.len() > 0).then_some(0)) {
            Some(index) => self.go_to_index(index),
            None => self.show_error("there are no events to go back to".to_owned()),
        }
    }

    /// How far what is shown is behind: events, and time.
    pub(crate) fn behind(&self) -> Option<(u64, TimeDelta)> {
        let frozen = self.frozen.as_ref()?;
        let newest = self.live_window.newest().map_or(frozen.at, |snapshot| snapshot.at).max(self.timeline.head().at.unwrap_or(frozen.at));
        Some((self.timeline.head().seq.saturating_sub(frozen.seq), (newest - frozen.at).max(TimeDelta::zero())))
    }
}

/// What a record went through, as far as events that are held tell.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct RecordPath {
    /// The page that it came with.
    pub(crate) page: Option<Arc<Recorded>>,
    /// The batch that wrote it.
    pub(crate) batch: Option<Arc<Recorded>>,
    /// The commit that passed it.
    pub(crate) committed: Option<Arc<Recorded>>,
}

/// What the record at a place of the topic went through.
pub(crate) fn record_path(timeline: &Timeline, partition: i32, offset: i64) -> RecordPath {
    let mut way = RecordPath::default();
    for index in (0..timeline.len()).rev() {
        let Some(recorded) = timeline.get(index) else { break };
        let holds = |ranges: &forebay_schemas::offset::Ranges| {
            ranges.0.get(&partition).is_some_and(|range| range.from <= offset && offset < range.to)
        };
        match &recorded.event {
            Event::PageProduced { ranges, .. } if holds(ranges) => {
                way.page = Some(Arc::clone(recorded));
                break;
            }
            Event::BatchWritten { ranges, .. } if holds(ranges) => way.batch = Some(Arc::clone(recorded)),
            Event::OffsetsCommitted { offsets } if offsets.0.get(&partition).is_some_and(|&to| to > offset) => {
                way.committed = Some(Arc::clone(recorded));
            }
            _ => {}
        }
    }
    way
}
