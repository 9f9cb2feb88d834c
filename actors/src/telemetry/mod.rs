//! What the actors record and the snapshot shows: totals, partitions, batches, stage durations, the
//! source API, the store, the disk.
//!
//! Guarantees:
//! * Recording never fails, and takes a short lock at most.
//! * Actors record once per page or batch, not per record. The ages of a batch's records are
//!   recorded under one lock.
//!
//! Does not guarantee that two numbers of one snapshot are from the same instant.
//!
//! * [`DurationMeter`]: how long something takes.    * [`memory`]: what the process has in use.
//! * [`LogRing`]: the last lines of the log.

mod batches;
mod disk;
mod duration_meter;
mod log_ring;
pub mod memory;
mod reject_meter;
mod source_meter;
mod store_meter;
#[cfg(test)]
mod tests;

use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, UNIX_EPOCH};

use forebay_schemas::drift::{DriftedField, MAX_DRIFTED_FIELDS};
use forebay_schemas::offset::{Offset, Partition};
use forebay_schemas::rejects::Rejects;
use forebay_schemas::run::Stop;
use forebay_schemas::snapshot::{AlertView, BatchView, DiskView, Latency, PartitionView, SourceView, StageView, StoreView, Totals};

pub use self::disk::{DataPaths, free_bytes};
pub use self::duration_meter::{BOUNDS_MICROS, DurationMeter};
pub use self::log_ring::LogRing;
pub use self::reject_meter::RejectReport;

use self::batches::Batches;
use self::reject_meter::RejectMeter;
use self::source_meter::SourceMeter;
use self::store_meter::StoreMeter;
use forebay_dataplane::store::StoreProbe;
use forebay_kernel::{SharedClock, SystemClock};

/// A counter that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// Its value.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A stage on the path of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// From the request for a page until its records are parsed.
    Fetch,
    /// From sending a page to the producer until Kafka has acknowledged its records.
    Produce,
    /// From the arrival of a batch's first record until the batch is sealed.
    Wait,
    /// Decoding, SQL and row checks of a batch.
    Transform,
    /// From the transformed batch until its last row is acknowledged.
    Write,
    /// From the last acknowledged row until Kafka has confirmed the commit of every offset in the
    /// batch.
    Commit,
}

impl Stage {
    /// Every stage, in the order of the path.
    pub const ALL: [Self; 6] = [Self::Fetch, Self::Produce, Self::Wait, Self::Transform, Self::Write, Self::Commit];

    /// Its name.
    pub fn as_str(self) -> &'static str {
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

/// What the actors record.
pub struct Telemetry {
    /// Pages the API answered.
    pub pages: Counter,
    /// Fetches that failed.
    pub fetch_failures: Counter,
    /// Records found in pages.
    pub fetched: Counter,
    /// Records of pages that were in an earlier fetch.
    pub repeated: Counter,
    /// Records acknowledged in the topic.
    pub produced: Counter,
    /// Records of the topic that are settled.
    pub consumed: Counter,
    /// Rows acknowledged by the table.
    pub written: Counter,
    /// Dead letters acknowledged.
    pub rejected: Counter,
    /// Dead letters of records that were never in the topic.
    pub refused: Counter,
    /// Retried writes.
    pub write_retries: Counter,
    /// Restarts of actors.
    pub restarts: Counter,
    clock: SharedClock,
    partitions: Mutex<BTreeMap<Partition, Known>>,
    batches: Mutex<Batches>,
    stages: [DurationMeter; Stage::ALL.len()],
    /// From a record's timestamp in the topic until its row was acknowledged.
    end_to_end: DurationMeter,
    source: Mutex<Option<SourceMeter>>,
    store: Mutex<Option<StoreMeter>>,
    alerts: Mutex<Vec<AlertView>>,
    rejects: Mutex<RejectMeter>,
    drift: Mutex<Vec<DriftedField>>,
    disk: Mutex<Option<DiskView>>,
    /// Records that retention has removed.
    removed: Counter,
    /// What the process needs before it is ready, and whether it was found.
    needs: Mutex<BTreeMap<Need, bool>>,
}

/// Something outside the process that must exist before it is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    /// The topic and the dead-letter topic, with a leader a partition.
    Topics,
    /// The table, with the written columns.
    Table,
}

impl Need {
    /// What to report while it is missing.
    pub fn missing(self) -> &'static str {
        match self {
            Self::Topics => "the topic and its dead-letter topic are not found yet",
            Self::Table => "the table is not found yet",
        }
    }
}

/// The state of a partition.
#[derive(Debug, Clone, Copy)]
struct Known {
    view: PartitionView,
    /// The timestamp of the oldest record that is read and not written, milliseconds since 1970.
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
    /// Telemetry with nothing recorded.
    pub fn new(clock: SharedClock) -> Self {
        let now = clock.now();
        Self {
            pages: Counter::default(),
            fetch_failures: Counter::default(),
            fetched: Counter::default(),
            repeated: Counter::default(),
            produced: Counter::default(),
            consumed: Counter::default(),
            written: Counter::default(),
            rejected: Counter::default(),
            refused: Counter::default(),
            write_retries: Counter::default(),
            restarts: Counter::default(),
            partitions: Mutex::default(),
            batches: Mutex::default(),
            stages: std::array::from_fn(|_| DurationMeter::new(now)),
            end_to_end: DurationMeter::new(now),
            source: Mutex::default(),
            store: Mutex::default(),
            alerts: Mutex::default(),
            disk: Mutex::default(),
            removed: Counter::default(),
            needs: Mutex::default(),
            rejects: Mutex::default(),
            drift: Mutex::default(),
            clock,
        }
    }

    fn now(&self) -> Instant {
        self.clock.now()
    }

    /// Updates the view of a partition.
    pub fn partition(&self, partition: Partition, change: impl FnOnce(&mut PartitionView)) {
        self.known(partition, |known| change(&mut known.view));
    }

    /// Sets the timestamp of the oldest record of a partition that is read and not written.
    pub fn oldest_unwritten(&self, partition: Partition, timestamp_ms: Option<i64>) {
        self.known(partition, |known| known.oldest_ms = timestamp_ms);
    }

    fn known(&self, partition: Partition, change: impl FnOnce(&mut Known)) {
        let mut partitions = self.partitions.lock();
        let view = PartitionView { end: Offset(0), ..PartitionView::unknown(partition) };
        let known = partitions.entry(partition).or_insert(Known { view, oldest_ms: None });
        change(known);
        // Kafka reports the end once a second only; the end is never below what is written.
        known.view.end = known.view.end.max(known.view.written);
    }

    /// Records a confirmed commit.
    pub fn committed(&self, offsets: impl IntoIterator<Item = (Partition, Offset)>) {
        for (partition, offset) in offsets {
            self.partition(partition, |view| view.committed = view.committed.max(offset));
        }
        let committed = self.partitions.lock().iter().map(|(&partition, known)| (partition, known.view.committed)).collect();
        let now = self.now();
        let spans = self.batches.lock().committed(now, &committed);
        self.stages[Stage::Commit as usize].record(now, spans);
    }

    /// Records that partitions were revoked.
    pub fn revoked(&self, partitions: &[Partition]) {
        for &partition in partitions {
            self.known(partition, |known| {
                (known.view.assigned, known.view.paused) = (false, false);
                known.oldest_ms = None;
            });
        }
        self.batches.lock().revoked(partitions);
    }

    /// Every partition, in order.
    pub fn partitions(&self) -> Vec<PartitionView> {
        let wall = self.clock.wall().duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX));
        let behind = |known: &Known| match (known.view.lag(), known.oldest_ms) {
            (0, _) => 0,
            (_, Some(oldest)) if known.view.assigned => wall.saturating_sub(oldest).max(0),
            _ => -1,
        };
        self.partitions.lock().values().map(|known| PartitionView { behind_ms: behind(known), ..known.view }).collect()
    }

    /// The first unwritten offset of each partition that this process has written records of.
    pub fn written(&self) -> BTreeMap<Partition, Offset> {
        let partitions = self.partitions.lock();
        let written = partitions.values().map(|known| (known.view.partition, known.view.written));
        written.filter(|(_, offset)| *offset != Offset::UNKNOWN).collect()
    }

    /// Records the duration of a stage.
    pub fn stage(&self, stage: Stage, took: Duration) {
        self.stages[stage as usize].record(self.now(), [took]);
    }

    /// The stages, in the order of the path.
    pub fn stages(&self) -> Vec<StageView> {
        let now = self.now();
        Stage::ALL.iter().map(|&stage| self.stages[stage as usize].view(now, stage.as_str())).collect()
    }

    /// Records a written batch.
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

    /// Records the times from produced to written of a batch's records, under one lock.
    pub fn latencies(&self, latencies: impl Iterator<Item = Duration>) {
        self.end_to_end.record(self.now(), latencies);
    }

    /// The time from produced to written.
    pub fn end_to_end(&self) -> StageView {
        self.end_to_end.view(self.now(), "end_to_end")
    }

    /// Percentiles of the time from produced to written, since the start.
    pub fn latency(&self) -> Latency {
        let millis = |quantile| self.end_to_end.quantile_of_all(quantile) as f64 / 1_000.0;
        Latency { p50: millis(0.5), p99: millis(0.99) }
    }

    /// Sets the URL that this process fetches from, without user, password and query.
    pub fn fetches_from(&self, url: &str) {
        self.source(|source| source.named(url));
    }

    /// Records the status class of an answer of the API; `none` for no answer.
    pub fn answered(&self, class: &'static str) {
        self.source(|source| source.answered(class));
    }

    /// Records that no request is sent for `wait`.
    pub fn throttled(&self, wait: Duration) {
        let now = self.now();
        self.source(|source| source.throttled(now, wait));
    }

    /// Records why a fetch stopped.
    pub fn stopped(&self, stop: &Stop) {
        self.source(|source| source.stopped(stop));
    }

    fn source(&self, change: impl FnOnce(&mut SourceMeter)) {
        change(self.source.lock().get_or_insert_with(|| SourceMeter::new("")));
    }

    /// The source API, if this process fetches.
    pub fn source_view(&self) -> Option<SourceView> {
        let now = self.now();
        self.source.lock().as_ref().map(|source| source.view(now))
    }

    /// Sets the kind of the store and its consistency level.
    pub fn writes_to(&self, kind: &str, consistency: &str) {
        self.store(|store| (store.kind, store.consistency) = (kind.to_owned(), consistency.to_owned()));
    }

    /// Records that the store is connected.
    pub fn connected(&self, probe: StoreProbe) {
        self.store(|store| store.probe = Some(probe));
    }

    /// Counts acknowledged statements.
    pub fn statements(&self, count: u64) {
        self.store(|store| store.statements += count);
    }

    /// Counts a retried write, by a reason of a bounded set.
    pub fn retried(&self, reason: &'static str) {
        self.write_retries.add(1);
        self.store(|store| *store.retries.entry(reason).or_default() += 1);
    }

    fn store(&self, change: impl FnOnce(&mut StoreMeter)) {
        change(self.store.lock().get_or_insert_with(StoreMeter::default));
    }

    /// The store, if this process writes.
    pub fn store_view(&self) -> Option<StoreView> {
        self.store.lock().as_ref().map(StoreMeter::view)
    }

    /// Counts dead letters by reason. Returns a report to log when one is due.
    pub fn rejects(&self, rejects: &Rejects) -> Option<RejectReport> {
        if rejects.is_empty() { None } else { self.rejects.lock().add(rejects, self.now()) }
    }

    /// Dead letters by reason since the start, the most frequent reason first.
    pub fn reject_counts(&self) -> Rejects {
        self.rejects.lock().all().clone()
    }

    /// Adds fields that the schema does not have, up to [`MAX_DRIFTED_FIELDS`]. Returns those that
    /// are new since the start.
    pub fn drifted(&self, mut fields: Vec<DriftedField>) -> Vec<DriftedField> {
        let mut drift = self.drift.lock();
        fields.retain(|seen| !drift.iter().any(|known| known.field == seen.field));
        fields.truncate(MAX_DRIFTED_FIELDS.saturating_sub(drift.len()));
        drift.extend(fields.iter().cloned());
        fields
    }

    /// The fields that the schema does not have, since the start, in the order in which they were
    /// seen.
    pub fn drift(&self) -> Vec<DriftedField> {
        self.drift.lock().clone()
    }

    /// Counts records that retention has removed from the embedded topics.
    pub fn removed(&self, records: u64) {
        self.removed.add(records);
    }

    /// Measures the disk usage. Blocks on the file system.
    pub fn measure(&self, paths: &DataPaths) {
        let usage = paths.measure(self.removed.get());
        *self.disk.lock() = Some(usage);
    }

    /// The last measured disk usage.
    pub fn disk(&self) -> Option<DiskView> {
        self.disk.lock().clone()
    }

    /// Declares that the process is not ready before [`Telemetry::found`] is called for `need`.
    pub fn needs(&self, need: Need) {
        self.needs.lock().entry(need).or_default();
    }

    /// Records that something needed was found or created.
    pub fn found(&self, need: Need) {
        self.needs.lock().insert(need, true);
    }

    /// What the process needs and has not found.
    pub fn missing(&self) -> Vec<Need> {
        self.needs.lock().iter().filter(|(_, found)| !**found).map(|(&need, _)| need).collect()
    }

    /// Sets the firing alerts.
    pub fn set_alerts(&self, alerts: Vec<AlertView>) {
        *self.alerts.lock() = alerts;
    }

    /// The firing alerts of the last evaluation.
    pub fn alerts(&self) -> Vec<AlertView> {
        self.alerts.lock().clone()
    }

    /// The totals.
    pub fn totals(&self) -> Totals {
        Totals {
            pages: self.pages.get(),
            fetch_failures: self.fetch_failures.get(),
            fetched: self.fetched.get(),
            repeated: self.repeated.get(),
            produced: self.produced.get(),
            consumed: self.consumed.get(),
            written: self.written.get(),
            rejected: self.rejected.get(),
            write_retries: self.write_retries.get(),
            restarts: self.restarts.get(),
        }
    }
}
