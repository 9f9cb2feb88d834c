//! Going back: any event that is held, and the pipeline as it was then.
//!
//! Guarantee: what events decide (runs, actors, how far partitions are written and committed, batches) is exactly that of the event; what no
//! event holds is that of a look taken within two seconds before it, and marked as unknown where there is none. What comes meanwhile is kept
//! and changes nothing on the screen.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use forebay_schemas::event::{Event, Recorded};
use forebay_schemas::snapshot::{RunTotals, Snapshot, StageView};
use forebay_schemas::summary::Latency;

use super::folded::Folded;
use super::timeline::Timeline;
use super::world::World;
use super::{Model, RowId};

/// A moment that was gone back to.
#[derive(Debug, Clone)]
pub(crate) struct Then {
    /// The event; 0 where there is no journal.
    pub(crate) seq: u64,
    pub(crate) at: DateTime<Utc>,
    /// When the next event came, or the newest look before one went back.
    pub(crate) until: DateTime<Utc>,
    /// The event itself; none where there is no journal.
    pub(crate) event: Option<Arc<Recorded>>,
    pub(crate) folded: Folded,
    pub(crate) world: World,
    /// Whether what no event holds is known.
    pub(crate) measured: bool,
}

/// What stays of a look when all that can change is taken away; made up from events when there was none.
pub(crate) fn blank(look: Option<&Snapshot>, world: &World) -> Snapshot {
    let epoch = world.at.unwrap_or_default();
    let mut blank = look.cloned().unwrap_or_else(|| Snapshot {
        pipeline: if world.group.is_empty() { "journal".to_owned() } else { world.group.clone() },
        version: world.version.clone(),
        started_at: world.started_at.unwrap_or(epoch),
        at: epoch,
        roles: world.roles.clone(),
        kafka: String::new(),
        cassandra: String::new(),
        topic: world.topic.clone(),
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
        let Some(look) = self.seen.newest() else { return };
        let event = self.timeline.len().checked_sub(1).and_then(|last| self.timeline.get(last)).cloned();
        self.then = Some(Box::new(Then {
            seq: event.as_ref().map_or(look.seq, |event| event.seq),
            at: look.at,
            until: look.at,
            event,
            folded: self.seen.clone(),
            world: self.timeline.head().clone(),
            measured: true,
        }));
    }

    /// Back to now.
    pub(crate) fn live(&mut self) {
        self.then = None;
        self.follow = true;
    }

    /// Where the moment that is shown is among the events.
    pub(crate) fn place(&self) -> Option<usize> {
        match &self.then {
            Some(then) => self.timeline.index_of(then.seq),
            None => self.timeline.len().checked_sub(1),
        }
    }

    /// Goes to the event at a place.
    pub(crate) fn go(&mut self, index: usize) {
        let Some(event) = self.timeline.get(index).cloned() else { return };
        // The next event after the one that is shown costs one step, not a thousand.
        let next = self.then.take().filter(|then| self.timeline.index_of(then.seq).is_some_and(|place| place + 1 == index));
        let world = match next {
            Some(then) => {
                let mut world = then.world;
                world.apply(&event);
                world
            }
            None => self.timeline.world_at(index),
        };
        let head = self.timeline.head();
        let (folded, measured) = match self.samples.folded_at(event.at) {
            Some(mut folded) => {
                if let Some(look) = folded.newest() {
                    let at = look.at;
                    let mut shown = world.over(look, head);
                    // Rates are taken over the times of looks.
                    shown.at = at;
                    folded.replace(Arc::new(shown));
                }
                (folded, true)
            }
            None => (Folded::of(Arc::new(world.over(&blank(self.seen.newest(), head), head))), false),
        };
        let newest = || self.seen.newest().map_or(event.at, |look| look.at);
        let until = self.timeline.get(index + 1).map_or_else(newest, |next| next.at).max(event.at);
        self.then = Some(Box::new(Then { seq: event.seq, at: event.at, until, event: Some(event), folded, world, measured }));
        self.selected[super::List::Events as usize] = self.then.as_ref().map(|then| RowId::Event(then.seq));
    }

    /// So many events on, or back.
    pub(crate) fn step(&mut self, by: isize) {
        let (Some(place), Some(last)) = (self.place(), self.timeline.len().checked_sub(1)) else {
            return self.say_bad("there are no events to step through".to_owned());
        };
        if by > 0 && self.then.is_none() {
            return;
        }
        self.go(place.saturating_add_signed(by).min(last));
    }

    /// To the next batch, or the one before.
    pub(crate) fn step_batch(&mut self, forward: bool) {
        let Some(place) = self.place() else { return self.say_bad("there are no events to step through".to_owned()) };
        match self.timeline.find(place, forward, |event| matches!(event, Event::BatchWritten { .. })) {
            Some(index) => self.go(index),
            None => self.say_bad(format!("no batch {} is held", if forward { "after this" } else { "before this" })),
        }
    }

    /// So many seconds on, or back.
    pub(crate) fn step_seconds(&mut self, seconds: i64) {
        let Some(at) = self.place().and_then(|place| self.timeline.get(place)).map(|event| event.at) else {
            return self.say_bad("there are no events to step through".to_owned());
        };
        if let Some(index) = self.timeline.index_at(at + TimeDelta::seconds(seconds)) {
            self.go(index);
        }
    }

    /// To the last event up to a sequence.
    pub(crate) fn go_to(&mut self, seq: u64) {
        match self.timeline.index_of(seq).or((self.timeline.len() > 0).then_some(0)) {
            Some(index) => self.go(index),
            None => self.say_bad("there are no events to go back to".to_owned()),
        }
    }

    /// How far what is shown is behind: events, and time.
    pub(crate) fn behind(&self) -> Option<(u64, TimeDelta)> {
        let then = self.then.as_ref()?;
        let newest = self.seen.newest().map_or(then.at, |look| look.at).max(self.timeline.head().at.unwrap_or(then.at));
        Some((self.timeline.head().seq.saturating_sub(then.seq), (newest - then.at).max(TimeDelta::zero())))
    }
}

/// What a record went through, as far as events that are held tell.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Way {
    /// The page that it came with.
    pub(crate) page: Option<Arc<Recorded>>,
    /// The batch that wrote it.
    pub(crate) batch: Option<Arc<Recorded>>,
    /// The commit that passed it.
    pub(crate) committed: Option<Arc<Recorded>>,
}

/// What the record at a place of the topic went through.
pub(crate) fn way_of(timeline: &Timeline, partition: i32, offset: i64) -> Way {
    let mut way = Way::default();
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
