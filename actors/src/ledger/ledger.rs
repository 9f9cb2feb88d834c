//! The ledger: holds the state, and is the only writer of events.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use forebay_schemas::desired::{Desired, DesiredState};
use forebay_schemas::event::{Event, Recorded};
use forebay_schemas::offset::{Checkpoint, Offset, Partition, Range, RangeSet};
use forebay_schemas::run::{Cancelled, MaxRejected, Run, RunSpec};
use forebay_schemas::snapshot::{RunTotals, WatermarkView};
use forebay_schemas::source_read::{Position, Read, ReadParams, Validators};
use forebay_schemas::topic_id::TopicId;
use parking_lot::Mutex;
use tokio::sync::watch;
use uuid::Uuid;

use super::client_leases::RunLeases;
use super::command::Command;
use super::cursors::Cursors;
use super::error::{LedgerError, Rejection};
use super::fold::fold;
use super::runs::Accepted;
use super::state::State;
use super::watermarks::Watermark;
use crate::journal::{Disk, Durable, Journal, JournalError, Settings, frame};
use forebay_kernel::SharedClock;

/// Holds the state and decides on commands, one at a time.
pub struct Ledger {
    inner: Mutex<Inner>,
    changed: watch::Sender<u64>,
    durable: watch::Receiver<Durable>,
    clock: SharedClock,
    /// Whether the pipeline is paused. A copy outside of the lock, since the consumer checks it at
    /// each turn.
    paused: AtomicBool,
    /// How often the topic was re-created since the process started; outside of the lock, as
    /// `paused` is.
    recreations: AtomicU64,
    /// Whether any run is open; outside of the lock, since it is checked for each batch.
    has_open_runs: AtomicBool,
    leases: Mutex<RunLeases>,
    /// The default for runs that do not set it.
    max_rejected: Option<MaxRejected>,
}

struct Inner {
    state: State,
    /// The written offset of each partition at the last confirmation that the topic is still the
    /// same; `None` before the first.
    confirmed: Option<BTreeMap<Partition, Offset>>,
    /// The runs that ended since the process started.
    ended: RunTotals,
    journal: Option<Journal>,
}

impl Ledger {
    /// A ledger without a journal, for tests and for measuring what a journal costs.
    pub fn in_memory(clock: SharedClock) -> Self {
        let (_, durable) = watch::channel(Durable::UpTo(u64::MAX));
        Self::new(State::default(), None, durable, clock)
    }

    /// Opens the journal in a folder, or creates one. The caller holds the lock that makes it the
    /// only writer.
    ///
    /// # Errors
    /// When the journal is damaged, belongs to another pipeline or to a newer version, or can't be
    /// written.
    pub fn open<D: Disk>(folder: &Path, disk: D, settings: Settings, clock: SharedClock) -> Result<Self, LedgerError> {
        // Fold first: a journal that can't be folded is left unchanged.
        let state = fold(folder, u64::MAX)?;
        let (journal, next) = Journal::open(folder, disk, settings)?;
        debug_assert_eq!(state.seq + 1, next, "the journal continues after the folded events");
        let durable = journal.durable();
        Ok(Self::new(state, Some(journal), durable, clock))
    }

    fn new(state: State, journal: Option<Journal>, durable: watch::Receiver<Durable>, clock: SharedClock) -> Self {
        Self {
            paused: AtomicBool::new(state.desired.state == DesiredState::Paused),
            has_open_runs: AtomicBool::new(state.runs.has_open()),
            changed: watch::Sender::new(state.seq),
            recreations: AtomicU64::new(0),
            inner: Mutex::new(Inner { state, confirmed: None, ended: RunTotals::default(), journal }),
            durable,
            clock,
            leases: Mutex::default(),
            max_rejected: None,
        }
    }

    /// Sets the number of rejected records that a run may have when it does not set one itself.
    #[must_use]
    pub fn with_max_rejected(self, max_rejected: Option<MaxRejected>) -> Self {
        Self { max_rejected, ..self }
    }

    /// Requests a run: a new one, or the existing one of the key and attempt. A new run without
    /// `max_rejected` gets the default.
    ///
    /// # Errors
    /// When too many runs are open, the key is invalid or names a run with another spec, or the run
    /// is new and the pipeline is paused or drained.
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
            let requested = inner.state.requested(id, (key, attempt), spec);
            self.apply(&mut inner, vec![requested]);
        }
        Ok(accepted)
    }

    /// Decides on a command and applies the resulting events.
    ///
    /// # Errors
    /// When the state does not allow it. Nothing has changed then.
    pub fn submit(&self, command: Command) -> Result<(), Rejection> {
        let mut inner = self.inner.lock();
        let events = inner.state.decide(command)?;
        self.apply(&mut inner, events);
        Ok(())
    }

    /// Records an event that needs no decision.
    pub fn record(&self, event: Event) {
        self.apply(&mut self.inner.lock(), vec![event]);
    }

    fn apply(&self, inner: &mut Inner, mut events: Vec<Event>) {
        let (mut lines, mut count, mut urgent) = (Vec::new(), 0, false);
        for event in &events {
            self.recreations.fetch_add(u64::from(matches!(event, Event::TopicRecreated { .. })), Ordering::Relaxed);
            invalidate_confirmed(event, &mut inner.confirmed);
        }
        while !events.is_empty() {
            for event in events {
                log(&event);
                count_end(&event, &mut inner.ended);
                urgent |= is_urgent(&event);
                let recorded = Recorded::new(inner.state.seq + 1, self.clock.wall().into(), event);
                frame::encode(&recorded.encode(), &mut lines);
                inner.state.evolve(&recorded);
                count += 1;
            }
            events = inner.state.due(inner.confirmed.as_ref());
        }
        if count == 0 {
            return;
        }
        self.paused.store(inner.state.desired.state == DesiredState::Paused, Ordering::Relaxed);
        self.has_open_runs.store(inner.state.runs.has_open(), Ordering::Relaxed);
        if let Some(journal) = &inner.journal {
            journal.append(lines, count, urgent);
            if journal.needs_snapshot() {
                journal.snapshot(inner.state.seq, serde_json::to_vec(&inner.state).expect("the state serializes"));
            }
        }
        self.changed.send_replace(inner.state.seq);
    }

    /// Waits until all events so far are durable.
    ///
    /// # Errors
    /// When the journal has failed: it is unknown then what is on the disk.
    pub async fn flushed(&self) -> Result<(), JournalError> {
        self.flushed_to(self.last_event()).await
    }

    /// Waits until an event and all before it are durable.
    ///
    /// # Errors
    /// As [`Ledger::flushed`].
    pub async fn flushed_to(&self, last: u64) -> Result<(), JournalError> {
        let mut durable = self.durable.clone();
        let is_durable = |durable: &Durable| !matches!(durable, Durable::UpTo(seq) if *seq < last);
        // An error means that the writer exited, which is checked below.
        let _ = durable.wait_for(is_durable).await;
        match self.is_durable(last) {
            Ok(true) => Ok(()),
            Ok(false) => Err(JournalError::Closed("its writer exited".into())),
            Err(failed) => Err(failed),
        }
    }

    /// Returns whether an event and all before it are durable, or there is no journal. Does not
    /// wait, unlike [`Ledger::flushed`].
    ///
    /// # Errors
    /// When the journal has failed.
    pub fn is_durable(&self, event: u64) -> Result<bool, JournalError> {
        match &*self.durable.borrow() {
            Durable::UpTo(seq) => Ok(*seq >= event),
            Durable::Failed(why) => Err(JournalError::Closed(why.clone())),
        }
    }

    /// Waits until the journal fails, and returns why.
    pub async fn failed(&self) -> String {
        let mut durable = self.durable.clone();
        let failed = durable.wait_for(|durable| matches!(durable, Durable::Failed(_))).await;
        let why = failed.ok().and_then(|durable| match &*durable {
            Durable::Failed(why) => Some(why.clone()),
            Durable::UpTo(_) => None,
        });
        match why {
            Some(why) => why,
            // The journal was closed, or there is none.
            None => std::future::pending().await,
        }
    }

    /// Records the end of the process and closes the journal. Blocks until everything is durable,
    /// or the journal has failed.
    pub fn close(&self, clean: bool) {
        let mut inner = self.inner.lock();
        if inner.journal.is_some() {
            self.apply(&mut inner, vec![Event::PipelineStopped { clean }]);
            inner.journal = None;
        }
    }

    /// Returns a run by its id.
    pub fn run(&self, id: Uuid) -> Option<Run> {
        self.inner.lock().state.runs.get(id).cloned()
    }

    /// Returns up to `limit` runs, newest first.
    pub fn recent(&self, limit: usize) -> Vec<Run> {
        self.recent_where(limit, |_| true)
    }

    /// Returns up to `limit` runs that match, newest first.
    pub fn recent_where(&self, limit: usize, matches: impl Fn(&Run) -> bool) -> Vec<Run> {
        self.inner.lock().state.runs.recent_where(limit, matches)
    }

    /// Returns the runs that the fetcher has not finished, oldest first. Its next incarnation
    /// starts with them.
    pub fn open_runs(&self) -> Vec<Uuid> {
        self.inner.lock().state.runs.unfetched()
    }

    /// Returns the read that a run belongs to.
    pub fn read_of(&self, run: Uuid) -> Read {
        self.inner.lock().state.read_of(run)
    }

    /// Returns the position of a fetch's next page. A scheduled fetch, which is no run, belongs to
    /// the read without params.
    pub fn next_position(&self, run: Uuid) -> Position {
        self.inner.lock().state.next_position(run)
    }

    /// Returns how far the incremental read of a run has got, unless the run reads again.
    pub fn watermark_of(&self, run: Uuid) -> Option<Watermark> {
        self.inner.lock().state.watermark_of(run).cloned()
    }

    /// Returns what the last whole answer to the read of a run said of itself, unless the run reads
    /// again.
    pub fn validators_of(&self, run: Uuid) -> Option<Validators> {
        self.inner.lock().state.validators_of(run).cloned()
    }

    /// Forgets what the last whole answer to the read of a run said of itself, unless this answer
    /// says the same. Returns the event that says so, if there was anything to forget.
    pub(crate) fn forget_validators(&self, run: Uuid, answer: Option<Validators>) -> Option<u64> {
        let mut inner = self.inner.lock();
        let events = inner.state.decide(Command::ForgetValidators { run, answer }).unwrap_or_default();
        let has_any = !events.is_empty();
        self.apply(&mut inner, events);
        has_any.then_some(inner.state.seq)
    }

    /// Returns how far each incremental read of the source has got.
    pub fn watermarks(&self) -> Vec<WatermarkView> {
        self.inner.lock().state.watermarks.views()
    }

    /// Returns the cursor of each read of the source.
    pub fn cursors(&self) -> Cursors {
        self.inner.lock().state.cursors.clone()
    }

    /// Returns the checkpoint up to which each partition is written, as far as the journal knows.
    pub fn checkpoints(&self) -> BTreeMap<Partition, Checkpoint> {
        self.inner.lock().state.checkpoints()
    }

    /// Takes the topic id that a broker reports; `None` when it has no topic ids.
    ///
    /// Returns [`Ledger::recreations`]; `None` when the broker does not know the current topic yet.
    pub fn observe_topic(&self, id: Option<TopicId>) -> Option<u64> {
        let mut inner = self.inner.lock();
        if let Some(id) = id {
            // From the first id on, a written offset counts only once a later id confirms the
            // topic.
            inner.confirmed.get_or_insert_with(BTreeMap::new);
            let events = inner.state.decide(Command::IdentifyTopic { id }).unwrap_or_default();
            self.apply(&mut inner, events);
            if inner.state.topic_id != Some(id) {
                return None;
            }
        }
        Some(self.recreations())
    }

    /// As [`Ledger::observe_topic`], for a check that began when the partitions were `written` up
    /// to these offsets. Runs that only wait for those offsets succeed.
    pub fn confirm_topic(&self, id: Option<TopicId>, written: BTreeMap<Partition, Offset>) {
        let before = self.recreations();
        // If this check or a later one found a newer topic, the offsets are not of that one.
        if self.observe_topic(id) != Some(before) {
            return;
        }
        let mut inner = self.inner.lock();
        inner.confirmed = id.map(|_| written);
        let due = inner.state.due(inner.confirmed.as_ref());
        self.apply(&mut inner, due);
    }

    /// Returns how often the topic was re-created since the process started. Takes no lock.
    pub fn recreations(&self) -> u64 {
        self.recreations.load(Ordering::Relaxed)
    }

    /// Waits until a check of the topic is due: a run waits for nothing else, or `interval` has
    /// passed.
    pub async fn topic_check_due(&self, interval: Duration) {
        let mut changes = self.watch();
        let waits = async {
            // The sender lives as long as the ledger.
            while !self.waits_for_topic_check() && changes.changed().await.is_ok() {}
        };
        // Both outcomes mean that it is due.
        let _ = tokio::time::timeout(interval, waits).await;
    }

    fn waits_for_topic_check(&self) -> bool {
        let inner = self.inner.lock();
        inner.confirmed.is_some() && !inner.state.due(None).is_empty()
    }

    /// Returns the offset up to which each partition is written.
    pub fn written(&self) -> BTreeMap<Partition, Offset> {
        self.inner.lock().state.written()
    }

    /// Returns the desired state of the pipeline.
    pub fn desired(&self) -> Desired {
        self.inner.lock().state.desired.clone()
    }

    /// Returns whether the pipeline is paused: the consumer reads nothing.
    pub fn is_paused(&self) -> bool {
        self.paused.load(Ordering::Relaxed)
    }

    /// Returns whether any run is open, so that records are counted by run.
    pub fn has_open_runs(&self) -> bool {
        self.has_open_runs.load(Ordering::Relaxed)
    }

    /// Returns whether a run exists and has not ended.
    pub fn is_run_open(&self, run: Uuid) -> bool {
        self.inner.lock().state.runs.is_open(run)
    }

    /// Returns whether the pipeline is paused or drained: the fetcher fetches nothing.
    pub fn ingest_stopped(&self) -> bool {
        self.inner.lock().state.desired.state != DesiredState::Running
    }

    /// Returns what a run sets for its pages; empty for a scheduled fetch.
    pub fn params(&self, run: Uuid) -> ReadParams {
        self.inner.lock().state.runs.get(run).map(|run| run.spec.read_params()).unwrap_or_default()
    }

    /// Returns the offsets of the dead letters that were redriven or dropped.
    pub fn redriven(&self) -> RangeSet {
        self.inner.lock().state.redriven.clone()
    }

    /// Renews the lease of a run, and holds it until the guard is dropped.
    pub fn renew_lease(&self, run: Uuid) -> LeaseGuard<'_> {
        self.leases.lock().hold(run, self.clock.now());
        LeaseGuard { ledger: self, run }
    }

    /// Cancels the runs whose lease has expired, and returns them.
    pub fn cancel_overdue(&self) -> Vec<Uuid> {
        let leased = self.inner.lock().state.runs.leased();
        let overdue = self.leases.lock().expired(&leased, self.clock.now());
        let cancel = |(run, lease): (Uuid, Duration)| {
            let reason = format!("its lease of {lease:?} expired");
            let command = Command::CancelRun { run, cancelled: Cancelled { by: "lease".into(), reason } };
            self.submit(command).is_ok().then_some(run)
        };
        overdue.into_iter().filter_map(cancel).collect()
    }

    /// Returns whether a run waits for partitions that other processes read.
    pub fn waits_for_others(&self) -> bool {
        self.inner.lock().state.waits_for_others()
    }

    /// Returns a copy of the state.
    pub fn state(&self) -> State {
        self.inner.lock().state.clone()
    }

    /// Returns the sequence of the last event; 0 before the first.
    pub fn last_event(&self) -> u64 {
        self.inner.lock().state.seq
    }

    /// Returns the sequence of the last durable event; 0 without a journal.
    pub fn durable_seq(&self) -> u64 {
        match &*self.durable.borrow() {
            Durable::UpTo(u64::MAX) | Durable::Failed(_) => 0,
            Durable::UpTo(seq) => *seq,
        }
    }

    /// Returns how many runs are open, and how many ended since the process started.
    pub fn run_totals(&self) -> RunTotals {
        let inner = self.inner.lock();
        RunTotals { open: inner.state.runs.open_count() as u64, ..inner.ended }
    }

    /// Watches how far the journal is durable.
    pub fn durable(&self) -> watch::Receiver<Durable> {
        self.durable.clone()
    }

    /// Watches the sequence of the last event.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}

/// Holds the lease of a run.
#[must_use = "the lease is held until the guard is dropped"]
pub struct LeaseGuard<'a> {
    ledger: &'a Ledger,
    run: Uuid,
}

impl Drop for LeaseGuard<'_> {
    fn drop(&mut self) {
        self.ledger.leases.lock().release(self.run, self.ledger.clock.now());
    }
}

/// Returns whether a caller waits for the event, so that it is synced at once.
pub(crate) fn is_urgent(event: &Event) -> bool {
    !matches!(event, Event::BatchWritten { .. } | Event::OffsetsCommitted { .. } | Event::PageFetched { .. })
}

/// Removes the confirmed offsets that no longer count: the topic is another one, or the partition
/// is read from another offset.
pub(crate) fn invalidate_confirmed(event: &Event, confirmed: &mut Option<BTreeMap<Partition, Offset>>) {
    let Some(confirmed) = confirmed else { return };
    match event {
        Event::TopicRecreated { .. } => confirmed.clear(),
        Event::PartitionsAssigned { starts } => confirmed.retain(|partition, _| !starts.0.contains_key(partition)),
        Event::OffsetsReset { to, .. } => confirmed.retain(|partition, _| !to.0.contains_key(partition)),
        // A topic appends after what was written of it, so this page may be in a re-created one.
        // Where it is not, because it was written before it was reported, another check costs a
        // request.
        Event::PageProduced { ranges, .. } => {
            let is_behind =
                |(partition, range): (&Partition, &Range)| confirmed.get(partition).is_some_and(|&written| range.from < written);
            if ranges.0.iter().any(is_behind) {
                confirmed.clear();
            }
        }
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

/// Logs events of runs and partitions. The kernel logs those of actors, and there are too many
/// batches.
fn log(event: &Event) {
    match event {
        Event::PageFetched { .. } | Event::PageProduced { .. } | Event::WatermarkMoved { .. } | Event::ValidatorsKept { .. } => {
            tracing::debug!("{event}");
        }
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
