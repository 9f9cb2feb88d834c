//! A model of the journal, and the ledger on it: events are appended, and durable later; a crash
//! loses a suffix of what is not durable.

use chrono::{DateTime, Utc};
use forebay_schemas::event::{Event, Recorded, decode};

use super::invariants::{Checked, Invariant, violation};
use crate::ledger::State;

/// A process's journal; it outlives the process.
#[derive(Debug, Default)]
pub(super) struct Journal {
    events: Vec<Recorded>,
    durable: usize,
}

impl Journal {
    pub(super) fn append(&mut self, recorded: Recorded) {
        self.events.push(recorded);
    }

    /// How many events are not durable.
    pub(super) fn loose(&self) -> usize {
        self.events.len() - self.durable
    }

    /// The last durable event.
    pub(super) fn durable(&self) -> u64 {
        self.durable as u64
    }

    /// So many more events become durable.
    pub(super) fn sync(&mut self, more: usize) {
        self.durable = (self.durable + more).min(self.events.len());
    }

    /// The events after the first `events`.
    pub(super) fn after(&self, events: usize) -> impl Iterator<Item = &Event> {
        self.events.iter().skip(events).map(|recorded| &recorded.event)
    }

    /// A crash: of what is not durable, only the first `kept` are still there.
    pub(super) fn crash(&mut self, kept: usize) {
        self.events.truncate(self.durable + kept);
        self.durable = self.events.len();
    }

    /// The fold of all there is, leaving out one event by its place if a fault says so.
    pub(super) fn fold(&self, without: Option<usize>) -> State {
        let mut state = State::default();
        for (at, event) in self.events.iter().enumerate() {
            if Some(at) != without {
                state.evolve(event);
            }
        }
        state
    }

    /// The fold by way of the bytes: every event is encoded and decoded, and after `cut` events the
    /// state is, as in a snapshot.
    fn fold_of_bytes(&self, cut: usize) -> State {
        let mut state = State::default();
        for (at, event) in self.events.iter().enumerate() {
            if at == cut {
                let json = serde_json::to_vec(&state).expect("a state is JSON");
                state = serde_json::from_slice(&json).expect("a state reads back");
            }
            state.evolve(&decode(&event.encode()).expect("an event reads back"));
        }
        state
    }

    /// See [`Invariant::FoldIsState`]. `cut` is where the bytes are gone through, if they are.
    pub(super) fn check(&self, live: &State, cut: Option<usize>) -> Checked {
        if self.fold(None) != *live {
            return violation(Invariant::FoldIsState, || {
                format!("the fold of {} events is not the state of the ledger", self.events.len())
            });
        }
        if let Some(cut) = cut
            && self.fold_of_bytes(cut) != *live
        {
            return violation(Invariant::FoldIsState, || format!("the fold by a snapshot of event {cut} is not the state of the ledger"));
        }
        Ok(())
    }

    pub(super) fn len(&self) -> usize {
        self.events.len()
    }
}

/// The next event of a ledger.
pub(super) fn next(ledger: &State, at: DateTime<Utc>, event: Event) -> Recorded {
    Recorded::new(ledger.seq + 1, at, event)
}
