//! The ledger: what was decided and what was seen of runs, as events; the state of runs is their fold.
//!
//! [`state`] is pure: `decide(state, command) -> events | rejection` and `evolve(state, event)`. [`Ledger`] is the one place that holds
//! the state, gives each event its sequence number and tells those who wait that something changed.
//!
//! Guarantee: events are applied one after the other, each decided on the state the one before it left. Not guaranteed yet: that they
//! outlive the process.

pub mod state;

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, Utc};
use forebay_schemas::event::Event;
use forebay_schemas::offset::{Offset, Partition};
use forebay_schemas::run::Run;
use tokio::sync::watch;
use uuid::Uuid;

pub use state::{Accepted, Command, Rejection, Runs};

use crate::kernel::SharedClock;

/// Holds the state of runs and decides on commands, one at a time.
pub struct Ledger {
    runs: Mutex<Runs>,
    sequence: watch::Sender<u64>,
    clock: SharedClock,
}

impl Ledger {
    /// An empty ledger.
    pub fn new(clock: SharedClock) -> Self {
        Self { runs: Mutex::default(), sequence: watch::Sender::new(0), clock }
    }

    fn now(&self) -> DateTime<Utc> {
        self.clock.wall().into()
    }

    fn runs(&self) -> MutexGuard<'_, Runs> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for a run: a new one, or the one that the key and attempt already mean.
    ///
    /// # Errors
    /// When too many runs are open, or the key is no key.
    pub fn request(&self, key: &str, attempt: u32) -> Result<Accepted, Rejection> {
        let mut runs = self.runs();
        let accepted = runs.request(key, attempt, Uuid::now_v7())?;
        if let Accepted::New(id) = accepted {
            let event = Event::RunRequested { run: id, key: key.to_owned(), attempt };
            self.apply(&mut runs, &[event]);
        }
        Ok(accepted)
    }

    /// Decides on a command and applies what follows.
    ///
    /// # Errors
    /// When the state does not allow it; nothing has changed then.
    pub fn submit(&self, command: Command) -> Result<(), Rejection> {
        let mut runs = self.runs();
        let events = runs.decide(command)?;
        self.apply(&mut runs, &events);
        Ok(())
    }

    /// Tells the ledger how far each partition is written, so that runs that wait for it succeed.
    pub fn written(&self, written: &BTreeMap<Partition, Offset>) {
        let mut runs = self.runs();
        let events = runs.written(written);
        self.apply(&mut runs, &events);
    }

    fn apply(&self, runs: &mut Runs, events: &[Event]) {
        if events.is_empty() {
            return;
        }
        let now = self.now();
        for event in events {
            match event.run() {
                Some(run) => tracing::info!(%run, "{event}"),
                None => tracing::info!("{event}"),
            }
            runs.evolve(event, now);
        }
        self.sequence.send_modify(|sequence| *sequence += events.len() as u64);
    }

    /// A run by its identifier.
    pub fn run(&self, id: Uuid) -> Option<Run> {
        self.runs().get(id).cloned()
    }

    /// The runs, newest first.
    pub fn recent(&self, most: usize) -> Vec<Run> {
        self.runs().recent(most)
    }

    /// The runs that a fetcher has yet to end, oldest first: what its next incarnation begins with.
    pub fn open(&self) -> Vec<Uuid> {
        self.runs().unfetched()
    }

    /// Changes with each event; for those who wait for a run to move.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.sequence.subscribe()
    }
}
