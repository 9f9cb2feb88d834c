//! The one writer of events.

use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use forebay_schemas::desired::{Desired, DesiredState};
use forebay_schemas::event::{Event, Recorded};
use forebay_schemas::offset::{Checkpoint, Offset, Partition, RangeSet};
use forebay_schemas::read::Position;
use forebay_schemas::run::{Cancelled, MaxRejected, Run, RunSpec};
use forebay_schemas::snapshot::RunTotals;
use forebay_schemas::topic::TopicId;
use tokio::sync::watch;
use uuid::Uuid;

use super::command::Command;
use super::cursors::Cursors;
use super::error::{LedgerError, Rejection};
use super::fold::fold;
use super::run_leases::Leases;
use super::runs::Accepted;
use super::state::State;
use crate::journal::{Disk, Durable, Journal, JournalError, Settings, frame};
use forebay_kernel::SharedClock;

/// Holds the state and decides on commands, one at a time.
pub struct Ledger {
    inner: Mutex<Inner>,
    changed: watch::Sender<u64>,
    durable: watch::Receiver<Durable>,
    clock: SharedClock,
    /// Whether the consumer is to read nothing; beside the state, for it is asked for all the time.
    paused: AtomicBool,
    /// How often the topic was found to be recreated since the process started; beside the state, as `paused` is.
    recreations: AtomicU64,
    /// Whether any run is open; asked for with each batch.
    any_open: AtomicBool,
    leases: Mutex<Leases>,
    /// Of runs that don't say otherwise.
    max_rejected: Option<MaxRejected>,
}

struct Inner {
    state: State,
    /// How far each partition was written when the topic was last found to be the one that is known here; none before Kafka was asked.
    looked: Option<BTreeMap<Partition, Offset>>,
    /// Runs that ended since the process started.
    ended: RunTotals,
    journal: Option<Journal>,
}

impl Ledger {
    /// A ledger that forgets all when it goes; for tests of those who use one, and for telling what a journal costs.
    pub fn in_memory(clock: SharedClock) -> Self {
        let (_, durable) = watch::channel(Durable::Upto(u64::MAX));
        Self::of(State::default(), None, durable, clock)
    }

    /// The ledger of the journal in a folder; a new one where there is none. Whoever calls holds the lock that makes it the only writer.
    ///
    /// # Errors
    /// When the journal is damaged, of another pipeline or of a newer version, or the disk refuses.
    pub fn open<D: Disk>(folder: &Path, disk: D, settings: Settings, clock: SharedClock) -> Result<Self, LedgerError> {
        // Read first: a journal that can't be folded is left as it was found.
        let state = fold(folder, u64::MAX)?;
        let (journal, next) = Journal::open(folder, disk, settings)?;
        debug_assert_eq!(state.seq + 1, next, "what was folded is what will be appended to");
        let durable = journal.durable();
        Ok(Self::of(state, Some(journal), durable, clock))
    }

    fn of(state: State, journal: Option<Journal>, durable: watch::Receiver<Durable>, clock: SharedClock) -> Self {
        Self {
            paused: AtomicBool::new(state.desired.state == DesiredState::Paused),
            any_open: AtomicBool::new(state.runs.any_open()),
            changed: watch::Sender::new(state.seq),
            recreations: AtomicU64::new(0),
            inner: Mutex::new(Inner { state, looked: None, ended: RunTotals::default(), journal }),
            durable,
            clock,
            leases: Mutex::default(),
            max_rejected: None,
        }
    }

    /// The same, whose runs may have so many records rejected where they don't say otherwise.
    #[must_use]
    pub fn with_max_rejected(self, max_rejected: Option<MaxRejected>) -> Self {
        Self { max_rejected, ..self }
    }

    /// Asks for a run: a new one, or the one that the key and attempt already mean. A new one that does not say how many of its records may be rejected
    /// gets what [`Ledger::with_max_rejected`] was told.
    ///
    /// # Errors
    /// When too many runs are open, the key is no key or means a run with another spec, or it is a new run and the pipeline is not meant to fetch.
    pub fn request(&self, key: &str, attempt: u32, mut spec: RunSpec) -> Result<Accepted, Rejection> {
        let mut inner = self.inner.lock();
        let accepted = inner.state.runs.request(key, attempt, &spec, Uuid::now_v7())?;
        if let Accepted::New(id) = accepted {
            match inner.state.desired.state {
                DesiredState::Running => {}
                DesiredState::Paused => return Err(Rejection::Paused("paused")),
                DesiredState::Drained => return Err(Rejection::Paused("drained")),
            }
            spec.max_rejected = spec.max_rejected.or(self.max_rejected);
            let requested = inner.state.runs.requested(id, (key, attempt), spec, inner.state.source.since);
            self.apply(&mut inner, vec![requested]);
        }
        Ok(accepted)
    }

    /// Decides on a command and applies what follows.
    ///
    /// # Errors
    /// When the state does not allow it; nothing has changed then.
    pub fn submit(&self, command: Command) -> Result<(), Rejection> {
        let mut inner = self.inner.lock();
        let events = inner.state.decide(command)?;
        self.apply(&mut inner, events);
        Ok(())
    }

    /// Keeps a fact.
    pub fn saw(&self, event: Event) {
        self.apply(&mut self.inner.lock(), vec![event]);
    }

    fn apply(&self, inner: &mut Inner, mut events: Vec<Event>) {
        let (mut lines, mut count, mut urgent) = (Vec::new(), 0, false);
        for event in &events {
            self.recreations.fetch_add(u64::from(matches!(event, Event::TopicRecreated { .. })), Ordering::Relaxed);
            forget_looks(event, &mut inner.looked);
        }
        while !events.is_empty() {
            for event in events {
                say(&event);
                count_end(&event, &mut inner.ended);
                urgent |= is_waited_for(&event);
                let recorded = Recorded::new(inner.state.seq + 1, self.clock.wall().into(), event);
                frame::encode(&recorded.encode(), &mut lines);
                inner.state.evolve(&recorded);
                count += 1;
            }
            events = inner.state.due(inner.looked.as_ref());
        }
        if count == 0 {
            return;
        }
        self.paused.store(inner.state.desired.state == DesiredState::Paused, Ordering::Relaxed);
        self.any_open.store(inner.state.runs.any_open(), Ordering::Relaxed);
        if let Some(journal) = &inner.journal {
            journal.append(lines, count, urgent);
            if journal.wants_snapshot() {
                journal.snapshot(inner.state.seq, serde_json::to_vec(&inner.state).expect("a state is JSON"));
            }
        }
        self.changed.send_replace(inner.state.seq);
    }

    /// Waits until all that was decided so far is on the disk.
    ///
    /// # Errors
    /// When the journal has failed: nobody knows then what is.
    pub async fn settled(&self) -> Result<(), JournalError> {
        let upto = self.last_event();
        let mut durable = self.durable.clone();
        let there = |durable: &Durable| !matches!(durable, Durable::Upto(seq) if *seq < upto);
        // Its writer is gone, which is looked at below.
        let _ = durable.wait_for(there).await;
        match self.is_durable(upto) {
            Ok(true) => Ok(()),
            Ok(false) => Err(JournalError::Closed("its writer is gone".into())),
            Err(failed) => Err(failed),
        }
    }

    /// Whether an event and all before it are on the disk, or there is no journal. For who can't wait as [`Ledger::settled`] does.
    ///
    /// # Errors
    /// When the journal has failed.
    pub fn is_durable(&self, event: u64) -> Result<bool, JournalError> {
        match &*self.durable.borrow() {
            Durable::Upto(seq) => Ok(*seq >= event),
            Durable::Failed(why) => Err(JournalError::Closed(why.clone())),
        }
    }

    /// Waits until the journal fails, and says why.
    pub async fn failed(&self) -> String {
        let mut durable = self.durable.clone();
        let failed = durable.wait_for(|durable| matches!(durable, Durable::Failed(_))).await;
        let why = failed.ok().and_then(|durable| match &*durable {
            Durable::Failed(why) => Some(why.clone()),
            Durable::Upto(_) => None,
        });
        match why {
            Some(why) => why,
            // It was closed in order, or there is none.
            None => std::future::pending().await,
        }
    }

    /// Keeps the end of the process, and closes the journal: all that was appended is on the disk then, or it has failed. Waits for the disk.
    pub fn close(&self, clean: bool) {
        let mut inner = self.inner.lock();
        if inner.journal.is_some() {
            self.apply(&mut inner, vec![Event::PipelineStopped { clean }]);
            inner.journal = None;
        }
    }

    /// A run by its identifier.
    pub fn run(&self, id: Uuid) -> Option<Run> {
        self.inner.lock().state.runs.get(id).cloned()
    }

    /// The runs, newest first.
    pub fn recent(&self, most: usize) -> Vec<Run> {
        self.recent_where(most, |_| true)
    }

    /// The runs that are wanted, newest first.
    pub fn recent_where(&self, most: usize, wanted: impl Fn(&Run) -> bool) -> Vec<Run> {
        self.inner.lock().state.runs.recent_where(most, wanted)
    }

    /// The runs that a fetcher has yet to end, oldest first: what its next incarnation begins with.
    pub fn open_runs(&self) -> Vec<Uuid> {
        self.inner.lock().state.runs.unfetched()
    }

    /// Where the next page of a fetch is; one that is no run is of the read without params.
    pub fn begins(&self, run: Uuid) -> Position {
        self.inner.lock().state.begins(run)
    }

    /// Where each read of the source is.
    pub fn cursors(&self) -> Cursors {
        self.inner.lock().state.cursors.clone()
    }

    /// How far each partition of the topic is written, as far as is known here.
    pub fn checkpoints(&self) -> BTreeMap<Partition, Checkpoint> {
        self.inner.lock().state.checkpoints()
    }

    /// Kafka says which topic there is now; none when it gives no ids. Says how often it was recreated since the process started, as
    /// [`Ledger::recreations`]; none when the answer is of a broker that does not know yet of the topic that others know of.
    pub fn saw_topic(&self, id: Option<TopicId>) -> Option<u64> {
        let mut inner = self.inner.lock();
        if let Some(id) = id {
            // From the first answer on nothing is taken to be of that topic but what a later answer is about.
            inner.looked.get_or_insert_with(BTreeMap::new);
            let events = inner.state.decide(Command::Identified { id }).unwrap_or_default();
            self.apply(&mut inner, events);
            if inner.state.topic_id != Some(id) {
                return None;
            }
        }
        Some(self.recreations())
    }

    /// The same, of a look that began when the partitions were `written` so far: runs that waited for no more than that have succeeded.
    pub fn looked_at_topic(&self, id: Option<TopicId>, written: BTreeMap<Partition, Offset>) {
        let before = self.recreations();
        // Where this look, or another since, has found a newer topic, what was written says nothing of it.
        if self.saw_topic(id) != Some(before) {
            return;
        }
        let mut inner = self.inner.lock();
        inner.looked = id.map(|_| written);
        let due = inner.state.due(inner.looked.as_ref());
        self.apply(&mut inner, due);
    }

    /// How often the topic was found to be recreated since the process started. Cheap.
    pub fn recreations(&self) -> u64 {
        self.recreations.load(Ordering::Relaxed)
    }

    /// Waits until the topic is to be looked at: a run waits for nothing else, or `every` has passed.
    pub async fn look_is_due(&self, every: Duration) {
        let mut changes = self.watch();
        let waits = async {
            // The ledger is held, so its changes go on.
            while !self.waits_for_a_look() && changes.changed().await.is_ok() {}
        };
        // Either is a reason to look.
        let _ = tokio::time::timeout(every, waits).await;
    }

    fn waits_for_a_look(&self) -> bool {
        let inner = self.inner.lock();
        inner.looked.is_some() && !inner.state.due(None).is_empty()
    }

    /// How far each partition is written, offsets alone.
    pub fn written(&self) -> BTreeMap<Partition, Offset> {
        self.inner.lock().state.written()
    }

    /// What the pipeline is meant to do.
    pub fn desired(&self) -> Desired {
        self.inner.lock().state.desired.clone()
    }

    /// Whether the consumer is to read nothing.
    pub fn is_paused(&self) -> bool {
        self.paused.load(Ordering::Relaxed)
    }

    /// Whether any run is open, whose records are to be counted.
    pub fn any_open(&self) -> bool {
        self.any_open.load(Ordering::Relaxed)
    }

    /// Whether a run is known and has not ended.
    pub fn is_open(&self, run: Uuid) -> bool {
        self.inner.lock().state.runs.is_open(run)
    }

    /// Whether the fetcher is to ask for nothing.
    pub fn is_held(&self) -> bool {
        self.inner.lock().state.desired.state != DesiredState::Running
    }

    /// The parameters of a run, for its pages; none of a fetch that nobody asked for.
    pub fn params(&self, run: Uuid) -> BTreeMap<String, String> {
        self.inner.lock().state.runs.get(run).map(|run| run.spec.params.clone()).unwrap_or_default()
    }

    /// The dead letters that are in the topic again.
    pub fn redriven(&self) -> RangeSet {
        self.inner.lock().state.redriven.clone()
    }

    /// Somebody asks for a run, and goes on asking until what this gives is dropped: its lease is kept.
    pub fn hear(&self, run: Uuid) -> Hearing<'_> {
        self.leases.lock().asked(run, self.clock.now());
        Hearing { ledger: self, run }
    }

    /// Calls off the runs that nobody has asked for in all of their lease, and says which.
    pub fn call_off_overdue(&self) -> Vec<Uuid> {
        let leased = self.inner.lock().state.runs.leased();
        let overdue = self.leases.lock().overdue(&leased, self.clock.now());
        let call_off = |(run, lease): (Uuid, Duration)| {
            let reason = format!("nobody has asked for it for {lease:?}");
            let command = Command::Cancel { run, cancelled: Cancelled { by: "lease".into(), reason } };
            self.submit(command).is_ok().then_some(run)
        };
        overdue.into_iter().filter_map(call_off).collect()
    }

    /// Whether a run waits for partitions that other processes read.
    pub fn waits_for_others(&self) -> bool {
        self.inner.lock().state.waits_for_others()
    }

    /// All of the state.
    pub fn state(&self) -> State {
        self.inner.lock().state.clone()
    }

    /// The last event that was decided; 0 before the first.
    pub fn last_event(&self) -> u64 {
        self.inner.lock().state.seq
    }

    /// The last event that is on the disk; 0 without a journal.
    pub fn durable_seq(&self) -> u64 {
        match &*self.durable.borrow() {
            Durable::Upto(u64::MAX) | Durable::Failed(_) => 0,
            Durable::Upto(seq) => *seq,
        }
    }

    /// How many runs are open, and how many ended since the process started.
    pub fn run_totals(&self) -> RunTotals {
        let inner = self.inner.lock();
        RunTotals { open: inner.state.runs.open_count() as u64, ..inner.ended }
    }

    /// How far the journal is on the disk.
    pub fn durable(&self) -> watch::Receiver<Durable> {
        self.durable.clone()
    }

    /// Changes with each event; for those who wait for a run to move.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}

/// Somebody asks for a run for as long as it is held.
#[must_use = "a lease is kept only for as long as it is held"]
pub struct Hearing<'a> {
    ledger: &'a Ledger,
    run: Uuid,
}

impl Drop for Hearing<'_> {
    fn drop(&mut self) {
        self.ledger.leases.lock().left(self.run, self.ledger.clock.now());
    }
}

/// Whether somebody waits for it, so that it must be on the disk at once.
pub(crate) fn is_waited_for(event: &Event) -> bool {
    !matches!(event, Event::BatchWritten { .. } | Event::OffsetsCommitted { .. } | Event::PageFetched { .. })
}

/// What was found of a partition's records counts no more when the topic is another one, or the partition is read from elsewhere.
pub(crate) fn forget_looks(event: &Event, looked: &mut Option<BTreeMap<Partition, Offset>>) {
    let Some(looked) = looked else { return };
    match event {
        Event::TopicRecreated { .. } => looked.clear(),
        Event::PartitionsAssigned { starts } => looked.retain(|partition, _| !starts.0.contains_key(partition)),
        Event::OffsetsReset { to, .. } => looked.retain(|partition, _| !to.0.contains_key(partition)),
        _ => {}
    }
}

fn count_end(event: &Event, ended: &mut RunTotals) {
    match event {
        Event::RunSucceeded { .. } => ended.succeeded += 1,
        Event::RunFailed { .. } => ended.failed += 1,
        Event::RunCancelled { .. } => ended.cancelled += 1,
        _ => {}
    }
}

/// Into the log: what happens to runs and partitions; the kernel speaks of actors, and batches are too many.
fn say(event: &Event) {
    match event {
        Event::PageFetched { .. } | Event::PageProduced { .. } => tracing::debug!("{event}"),
        Event::PartitionsAssigned { .. } | Event::PartitionsRevoked { .. } | Event::OffsetsReset { .. } | Event::CursorSet { .. } => {
            tracing::info!("{event}");
        }
        Event::RangeLost { .. } | Event::TopicRecreated { .. } | Event::CursorForgotten { .. } => tracing::warn!("{event}"),
        _ => match event.run() {
            Some(run) => tracing::info!(%run, "{event}"),
            None => tracing::debug!("{event}"),
        },
    }
}
