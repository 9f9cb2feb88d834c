//! What the actors let others see: totals, partitions, batches, latencies, notes. Shared by all, never waited for.
//!
//! Guarantee: recording never blocks longer than a short lock and never fails. Not guaranteed: that two numbers of one look were true
//! at the same instant.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use forebay_schemas::offset::{Offset, Partition};
use forebay_schemas::snapshot::{BatchView, PartitionView, Totals};
use forebay_schemas::summary::Latency;
use hdrhistogram::Histogram;

/// How many finished batches are kept for a look.
const BATCHES_KEPT: usize = 64;
/// The longest latency told apart, in microseconds: an hour.
const LONGEST_MICROS: u64 = 3_600_000_000;

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

/// What the actors let others see.
#[derive(Debug)]
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
    /// Writes made again.
    pub write_retries: Counter,
    /// Restarts of actors.
    pub restarts: Counter,
    partitions: Mutex<BTreeMap<Partition, PartitionView>>,
    batches: Mutex<VecDeque<BatchView>>,
    latency: Mutex<Histogram<u64>>,
}

impl Default for Telemetry {
    fn default() -> Self {
        let latency = Histogram::new_with_bounds(1, LONGEST_MICROS, 3).expect("bounds of a histogram that are constants and valid");
        Self {
            pages: Counter::default(),
            fetch_failures: Counter::default(),
            fetched: Counter::default(),
            produced: Counter::default(),
            consumed: Counter::default(),
            written: Counter::default(),
            rejected: Counter::default(),
            write_retries: Counter::default(),
            restarts: Counter::default(),
            partitions: Mutex::default(),
            batches: Mutex::default(),
            latency: Mutex::new(latency),
        }
    }
}

/// A panic of another thread leaves numbers that are still numbers.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Telemetry {
    /// Changes what is known of a partition.
    pub fn partition(&self, partition: Partition, change: impl FnOnce(&mut PartitionView)) {
        let mut partitions = lock(&self.partitions);
        let view = partitions.entry(partition).or_insert(PartitionView {
            partition,
            begin: 0,
            end: 0,
            written: -1,
            committed: -1,
            assigned: false,
            paused: false,
            clamped: 0,
            behind_ms: -1,
        });
        change(view);
        // Kafka tells the end once a second only; what is written was there.
        view.end = view.end.max(view.written);
    }

    /// What is known of every partition, in order.
    pub fn partitions(&self) -> Vec<PartitionView> {
        lock(&self.partitions).values().copied().collect()
    }

    /// The first unwritten offset of each partition this process has written to.
    pub fn written(&self) -> BTreeMap<Partition, Offset> {
        lock(&self.partitions).values().filter(|view| view.written >= 0).map(|view| (view.partition, view.written)).collect()
    }

    /// Keeps a finished batch for a look.
    pub fn batch(&self, batch: BatchView) {
        let mut batches = lock(&self.batches);
        batches.truncate(BATCHES_KEPT - 1);
        batches.push_front(batch);
    }

    /// The last batches, newest first.
    pub fn batches(&self) -> Vec<BatchView> {
        lock(&self.batches).iter().cloned().collect()
    }

    /// Records from produced to written, for a whole batch under one lock.
    pub fn latencies(&self, latencies: impl Iterator<Item = Duration>) {
        let mut histogram = lock(&self.latency);
        for latency in latencies {
            histogram.saturating_record(u64::try_from(latency.as_micros()).unwrap_or(LONGEST_MICROS).max(1));
        }
    }

    /// Percentiles from produced to written, since the start.
    pub fn latency(&self) -> Latency {
        let histogram = lock(&self.latency);
        let millis = |quantile| if histogram.is_empty() { 0.0 } else { histogram.value_at_quantile(quantile) as f64 / 1_000.0 };
        Latency { p50: millis(0.5), p99: millis(0.99) }
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
