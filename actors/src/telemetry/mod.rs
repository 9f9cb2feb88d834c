//! What the actors let others see: totals, partitions, batches, how long stages take, the API, the store. Shared by all, never waited for.
//!
//! Guarantee: recording never blocks longer than a short lock and never fails; it is done once a page or batch, not once a record, but for a
//! record's age, of which a whole batch is recorded under one lock. Not guaranteed: that two numbers of one look were true at the same instant.
//!
//! * [`Meter`]: how long something takes.    * [`memory`]: what the process has in use.
//! * [`LogRing`]: the last lines of the log.

mod commits;
mod disk;
mod log;
pub mod memory;
mod meter;
mod rejects;
mod source;
mod store;

use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, UNIX_EPOCH};

use forebay_schemas::offset::{Offset, Partition};
use forebay_schemas::rejects::Rejects;
use forebay_schemas::run::Stop;
use forebay_schemas::snapshot::{AlertView, BatchView, DiskView, Latency, PartitionView, SourceView, StageView, StoreView, Totals};

pub use self::disk::{DataPlaces, free_bytes};
pub use self::log::LogRing;
pub use self::meter::{BOUNDS_MICROS, Meter};
pub use self::rejects::Said;

use self::commits::Batches;
use self::rejects::RejectMeter;
use self::source::Source;
use self::store::StoreMeter;
use forebay_dataplane::store::Glance;
use forebay_kernel::{SharedClock, SystemClock};

/// A counter that only rises.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// What it has come to.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A stage of the way of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// From asking the API for a page until its records are found in it.
    Fetch,
    /// From handing a page on until Kafka has acknowledged every record of it.
    Produce,
    /// From the arrival of a batch's first record until the batch is cut.
    Wait,
    /// JSON, SQL and checks of a batch.
    Transform,
    /// Until the last row of a batch is acknowledged.
    Write,
    /// From then until Kafka has confirmed the commit of all the batch holds.
    Commit,
}

impl Stage {
    /// Every stage, in the order of the way.
    pub const ALL: [Self; 6] = [Self::Fetch, Self::Produce, Self::Wait, Self::Transform, Self::Write, Self::Commit];

    /// Its name.
    pub fn word(self) -> &'static str {
        match self {
            Self::Fetch => "fetch",
            Self::Produce => "produce",
            Self::Wait => "wait",
            Self::Transform => "transform",
            Self::Write => "write",
            Self::Commit => "commit",
        }
    }
}

/// What the actors let others see.
pub struct Telemetry {
    /// Pages the API answered.
    pub pages: Counter,
    /// Fetches that failed.
    pub fetch_failures: Counter,
    /// Records found in pages.
    pub fetched: Counter,
    /// Records acknowledged in the topic.
    pub produced: Counter,
    /// Records settled out of the topic.
    pub consumed: Counter,
    /// Rows acknowledged by the table.
    pub written: Counter,
    /// Dead letters acknowledged.
    pub rejected: Counter,
    /// Those of them that never reached the topic.
    pub refused: Counter,
    /// Writes made again.
    pub write_retries: Counter,
    /// Restarts of actors.
    pub restarts: Counter,
    clock: SharedClock,
    partitions: Mutex<BTreeMap<Partition, Known>>,
    batches: Mutex<Batches>,
    stages: [Meter; Stage::ALL.len()],
    /// From a record's timestamp in the topic until its row was acknowledged.
    end_to_end: Meter,
    source: Mutex<Option<Source>>,
    store: Mutex<Option<StoreMeter>>,
    alerts: Mutex<Vec<AlertView>>,
    rejects: Mutex<RejectMeter>,
    disk: Mutex<Option<DiskView>>,
    /// Records that retention has removed.
    removed: Counter,
    /// What must be there before the process is ready, and whether it is.
    needs: Mutex<BTreeMap<Need, bool>>,
}

/// Something outside the process that must be there before it is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    /// The topic and the dead-letter topic, with a leader a partition.
    Topics,
    /// The table, with the columns that are written.
    Table,
}

impl Need {
    /// What is said while it is missing.
    pub fn missing(self) -> &'static str {
        match self {
            Self::Topics => "the topic and its dead-letter topic are not found yet",
            Self::Table => "the table is not found yet",
        }
    }
}

/// What is known of a partition.
#[derive(Debug, Clone, Copy)]
struct Known {
    view: PartitionView,
    /// The timestamp of the oldest record that was read and is not written, milliseconds since 1970.
    oldest_ms: Option<i64>,
}

impl Default for Telemetry {
    fn default() -> Self {
        Self::new(SystemClock::shared())
    }
}

impl fmt::Debug for Telemetry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Telemetry").field("totals", &self.totals()).finish_non_exhaustive()
    }
}

impl Telemetry {
    /// Nothing seen yet.
    pub fn new(clock: SharedClock) -> Self {
        let now = clock.now();
        Self {
            pages: Counter::default(),
            fetch_failures: Counter::default(),
            fetched: Counter::default(),
            produced: Counter::default(),
            consumed: Counter::default(),
            written: Counter::default(),
            rejected: Counter::default(),
            refused: Counter::default(),
            write_retries: Counter::default(),
            restarts: Counter::default(),
            partitions: Mutex::default(),
            batches: Mutex::default(),
            stages: std::array::from_fn(|_| Meter::new(now)),
            end_to_end: Meter::new(now),
            source: Mutex::default(),
            store: Mutex::default(),
            alerts: Mutex::default(),
            disk: Mutex::default(),
            removed: Counter::default(),
            needs: Mutex::default(),
            rejects: Mutex::default(),
            clock,
        }
    }

    fn now(&self) -> Instant {
        self.clock.now()
    }

    /// Changes what is known of a partition.
    pub fn partition(&self, partition: Partition, change: impl FnOnce(&mut PartitionView)) {
        self.known(partition, |known| change(&mut known.view));
    }

    /// The timestamp of the oldest record of a partition that was read and is not written; none when there is no such record.
    pub fn oldest_unwritten(&self, partition: Partition, timestamp_ms: Option<i64>) {
        self.known(partition, |known| known.oldest_ms = timestamp_ms);
    }

    fn known(&self, partition: Partition, change: impl FnOnce(&mut Known)) {
        let mut partitions = self.partitions.lock();
        let view = PartitionView { end: 0, ..PartitionView::unknown(partition) };
        let known = partitions.entry(partition).or_insert(Known { view, oldest_ms: None });
        change(known);
        // Kafka tells the end once a second only; what is written was there.
        known.view.end = known.view.end.max(known.view.written);
    }

    /// Kafka has confirmed a commit.
    pub fn committed(&self, offsets: impl IntoIterator<Item = (Partition, Offset)>) {
        for (partition, offset) in offsets {
            self.partition(partition, |view| view.committed = view.committed.max(offset));
        }
        let committed = self.partitions.lock().iter().map(|(&partition, known)| (partition, known.view.committed)).collect();
        let now = self.now();
        let spans = self.batches.lock().committed(now, &committed);
        self.stages[Stage::Commit as usize].record(now, spans);
    }

    /// Partitions go to others.
    pub fn gone(&self, partitions: &[Partition]) {
        for &partition in partitions {
            self.known(partition, |known| {
                (known.view.assigned, known.view.paused) = (false, false);
                known.oldest_ms = None;
            });
        }
        self.batches.lock().gone(partitions);
    }

    /// What is known of every partition, in order.
    pub fn partitions(&self) -> Vec<PartitionView> {
        let wall = self.clock.wall().duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX));
        let behind = |known: &Known| match (known.view.lag(), known.oldest_ms) {
            (0, _) => 0,
            (_, Some(oldest)) if known.view.assigned => wall.saturating_sub(oldest).max(0),
            _ => -1,
        };
        self.partitions.lock().values().map(|known| PartitionView { behind_ms: behind(known), ..known.view }).collect()
    }

    /// The first unwritten offset of each partition this process has written to.
    pub fn written(&self) -> BTreeMap<Partition, Offset> {
        let partitions = self.partitions.lock();
        partitions.values().map(|known| known.view).filter(|view| view.written >= 0).map(|view| (view.partition, view.written)).collect()
    }

    /// A stage was gone through.
    pub fn stage(&self, stage: Stage, took: Duration) {
        self.stages[stage as usize].record(self.now(), [took]);
    }

    /// The stages, in the order of the way.
    pub fn stages(&self) -> Vec<StageView> {
        let now = self.now();
        Stage::ALL.iter().map(|&stage| self.stages[stage as usize].view(now, stage.word())).collect()
    }

    /// Keeps a batch that is written for a look.
    pub fn batch(&self, batch: BatchView) {
        for (stage, took) in
            [(Stage::Wait, batch.wait_micros), (Stage::Transform, batch.transform_micros), (Stage::Write, batch.write_micros)]
        {
            self.stage(stage, Duration::from_micros(took));
        }
        self.batches.lock().written(batch, self.now());
    }

    /// The last batches, newest first.
    pub fn batches(&self) -> Vec<BatchView> {
        self.batches.lock().views()
    }

    /// Records from produced to written, for a whole batch under one lock.
    pub fn latencies(&self, latencies: impl Iterator<Item = Duration>) {
        self.end_to_end.record(self.now(), latencies);
    }

    /// From produced to written.
    pub fn end_to_end(&self) -> StageView {
        self.end_to_end.view(self.now(), "end_to_end")
    }

    /// Percentiles from produced to written, since the start.
    pub fn latency(&self) -> Latency {
        let millis = |quantile| self.end_to_end.quantile_of_all(quantile) as f64 / 1_000.0;
        Latency { p50: millis(0.5), p99: millis(0.99) }
    }

    /// This process fetches from the API of that address, which holds neither user, password nor query.
    pub fn fetches_from(&self, url: &str) {
        self.source(|source| source.named(url));
    }

    /// The API answered with a class of status, or `none` at all.
    pub fn answered(&self, class: &'static str) {
        self.source(|source| source.answered(class));
    }

    /// The API is left alone for a while.
    pub fn throttled(&self, wait: Duration) {
        let now = self.now();
        self.source(|source| source.throttled(now, wait));
    }

    /// A fetch ended, and how.
    pub fn stopped(&self, stop: &Stop) {
        self.source(|source| source.stopped(stop));
    }

    fn source(&self, change: impl FnOnce(&mut Source)) {
        change(self.source.lock().get_or_insert_with(|| Source::new("")));
    }

    /// The API that is fetched from, if one is.
    pub fn source_view(&self) -> Option<SourceView> {
        let now = self.now();
        self.source.lock().as_ref().map(|source| source.view(now))
    }

    /// This process writes to a store of that kind, at that level of consistency.
    pub fn writes_to(&self, kind: &str, consistency: &str) {
        self.store(|store| (store.kind, store.consistency) = (kind.to_owned(), consistency.to_owned()));
    }

    /// The store is connected.
    pub fn connected(&self, glance: Glance) {
        self.store(|store| store.glance = Some(glance));
    }

    /// The store has acknowledged statements.
    pub fn statements(&self, count: u64) {
        self.store(|store| store.statements += count);
    }

    /// A write is tried again, for a reason of a bounded set.
    pub fn retried(&self, reason: &'static str) {
        self.write_retries.add(1);
        self.store(|store| *store.retries.entry(reason).or_default() += 1);
    }

    fn store(&self, change: impl FnOnce(&mut StoreMeter)) {
        change(self.store.lock().get_or_insert_with(StoreMeter::default));
    }

    /// The store that is written to, if one is.
    pub fn store_view(&self) -> Option<StoreView> {
        self.store.lock().as_ref().map(StoreMeter::view)
    }

    /// Records are dead letters for these reasons. Gives what the log is to say, which is said at once and then now and then.
    pub fn rejects(&self, rejects: &Rejects) -> Option<Said> {
        if rejects.is_empty() { None } else { self.rejects.lock().add(rejects, self.now()) }
    }

    /// Why records are dead letters since the start, the most frequent reason first.
    pub fn reject_counts(&self) -> Rejects {
        self.rejects.lock().all().clone()
    }

    /// Records of the embedded topics were removed, for they were over their retention.
    pub fn removed(&self, records: u64) {
        self.removed.add(records);
    }

    /// Measures what is on the disk. Blocks as long as the file system does.
    pub fn measure(&self, places: &DataPlaces) {
        let look = places.look(self.removed.get());
        *self.disk.lock() = Some(look);
    }

    /// What is on the disk, as it was last measured.
    pub fn disk(&self) -> Option<DiskView> {
        self.disk.lock().clone()
    }

    /// The process is not ready before [`Telemetry::there`] is called for this.
    pub fn needs(&self, need: Need) {
        self.needs.lock().entry(need).or_default();
    }

    /// Something was found to be there, or was made.
    pub fn there(&self, need: Need) {
        self.needs.lock().insert(need, true);
    }

    /// What the process needs and has not found yet.
    pub fn missing(&self) -> Vec<Need> {
        self.needs.lock().iter().filter(|(_, there)| !**there).map(|(&need, _)| need).collect()
    }

    /// What is wrong, as of now.
    pub fn set_alerts(&self, alerts: Vec<AlertView>) {
        *self.alerts.lock() = alerts;
    }

    /// What was wrong when somebody last looked.
    pub fn alerts(&self) -> Vec<AlertView> {
        self.alerts.lock().clone()
    }

    /// The totals.
    pub fn totals(&self) -> Totals {
        Totals {
            pages: self.pages.get(),
            fetch_failures: self.fetch_failures.get(),
            fetched: self.fetched.get(),
            produced: self.produced.get(),
            consumed: self.consumed.get(),
            written: self.written.get(),
            rejected: self.rejected.get(),
            write_retries: self.write_retries.get(),
            restarts: self.restarts.get(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use forebay_kernel::{Clock as _, ManualClock};

    #[test]
    fn how_far_behind_a_partition_is_follows_its_oldest_unwritten_record() {
        let clock = Arc::new(ManualClock::default());
        let telemetry = Telemetry::new(clock.clone());
        clock.advance(Duration::from_secs(100));
        let behind = || telemetry.partitions()[0].behind_ms;

        telemetry.partition(0, |view| (view.assigned, view.end, view.written) = (true, 10, 10));
        assert_eq!(behind(), 0, "nothing is unwritten");
        telemetry.partition(0, |view| view.end = 15);
        assert_eq!(behind(), -1, "what is not read has no known age");
        telemetry.oldest_unwritten(0, Some(98_500));
        assert_eq!(behind(), 1_500);
        clock.advance(Duration::from_secs(1));
        assert_eq!(behind(), 2_500);
        telemetry.oldest_unwritten(0, Some(999_999));
        assert_eq!(behind(), 0, "a record of the future is not behind");
        telemetry.gone(&[0]);
        assert_eq!(behind(), -1, "another process knows");
    }

    #[test]
    fn a_batch_gets_the_time_of_its_commit_and_so_does_the_stage() {
        let clock = Arc::new(ManualClock::default());
        let telemetry = Telemetry::new(clock.clone());
        let ranges = [(0, forebay_schemas::offset::Range { from: 0, to: 10 })].into_iter().collect();
        telemetry.batch(BatchView {
            id: 1,
            at: clock.wall().into(),
            records: 10,
            rows: 9,
            rejected: 1,
            wait_micros: 2_000,
            transform_micros: 3_000,
            write_micros: 4_000,
            commit_micros: 0,
            ranges,
            retries: 0,
        });
        clock.advance(Duration::from_millis(20));
        telemetry.committed([(0, 10)]);
        assert_eq!(telemetry.batches()[0].commit_micros, 20_000);
        let sums: Vec<_> = telemetry.stages().into_iter().map(|stage| (stage.stage, stage.sum_micros)).collect();
        let expected = [("fetch", 0), ("produce", 0), ("wait", 2_000), ("transform", 3_000), ("write", 4_000), ("commit", 20_000)];
        assert_eq!(sums, expected.map(|(stage, sum)| (stage.to_owned(), sum)));
    }

    #[test]
    fn what_is_needed_is_missing_until_it_is_found() {
        let telemetry = Telemetry::default();
        assert_eq!(telemetry.missing(), [], "a process without roles needs nothing");
        telemetry.needs(Need::Topics);
        telemetry.needs(Need::Table);
        telemetry.there(Need::Table);
        assert_eq!(telemetry.missing(), [Need::Topics]);
        telemetry.there(Need::Topics);
        telemetry.needs(Need::Topics);
        assert_eq!(telemetry.missing(), [], "what was found stays found");
    }

    #[test]
    fn a_store_that_is_gone_shows_its_counts_and_no_nodes() {
        let telemetry = Telemetry::default();
        assert_eq!(telemetry.store_view(), None);
        telemetry.writes_to("embedded", "");
        telemetry.connected(Arc::new(|| None));
        telemetry.statements(3);
        telemetry.retried("overloaded");
        let view = telemetry.store_view().unwrap();
        assert_eq!((view.statements, view.nodes.len(), view.retries["overloaded"]), (3, 0, 1));
        assert_eq!(telemetry.totals().write_retries, 1);
    }
}
