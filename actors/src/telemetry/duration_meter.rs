//! A histogram of durations: count, sum and cumulative buckets since the start, and percentiles
//! over the last five minutes.
//!
//! Guarantees:
//! * Memory is bounded.
//! * Count, sum and buckets only grow, and are consistent within one view.
//!
//! Does not guarantee exact values: the resolution is 1 %, also at the bound of a bucket.

use parking_lot::Mutex;
use std::time::{Duration, Instant};

use forebay_kernel::micros;
use forebay_schemas::snapshot::StageView;
use hdrhistogram::Histogram;

/// The upper bounds of the buckets, microseconds: those of OpenTelemetry's
/// `db.client.operation.duration` (1 ms to 10 s), and three below.
pub const BOUNDS_MICROS: [u64; 12] = [100, 250, 500, 1_000, 5_000, 10_000, 50_000, 100_000, 500_000, 1_000_000, 5_000_000, 10_000_000];
/// The longest duration that is distinguished, microseconds: one hour.
const MAX_MICROS: u64 = 3_600_000_000;
/// Intervals that percentiles cover, the current one included.
const INTERVALS: usize = 5;
/// The length of an interval.
const INTERVAL: Duration = Duration::from_secs(60);

/// Durations of one kind.
#[derive(Debug)]
pub struct DurationMeter(Mutex<Durations>);

#[derive(Debug)]
struct Durations {
    intervals: [Histogram<u64>; INTERVALS],
    /// The current interval, and its start.
    current: usize,
    started: Instant,
    /// Everything before the intervals.
    old: Histogram<u64>,
    count: u64,
    sum_micros: u64,
}

impl DurationMeter {
    /// A meter whose first interval starts at `now`.
    pub fn new(now: Instant) -> Self {
        let intervals = std::array::from_fn(|_| histogram());
        Self(Mutex::new(Durations { intervals, current: 0, started: now, old: histogram(), count: 0, sum_micros: 0 }))
    }

    /// Records durations under one lock.
    pub fn record(&self, now: Instant, durations: impl IntoIterator<Item = Duration>) {
        let mut state = self.0.lock();
        state.advance(now);
        let (mut count, mut sum) = (0, 0_u64);
        let current = state.current;
        let histogram = &mut state.intervals[current];
        for duration in durations {
            let duration = micros(duration);
            histogram.saturating_record(duration.clamp(1, MAX_MICROS));
            count += 1;
            sum = sum.saturating_add(duration);
        }
        state.count += count;
        state.sum_micros = state.sum_micros.saturating_add(sum);
    }

    /// A consistent view, under the name `stage`.
    pub fn view(&self, now: Instant, stage: &str) -> StageView {
        let (recent, all, count, sum_micros) = {
            let mut state = self.0.lock();
            state.advance(now);
            let recent = state.recent();
            let mut all = recent.clone();
            add(&mut all, &state.old);
            (recent, all, state.count, state.sum_micros)
        };
        let quantile = |quantile| if recent.is_empty() { 0 } else { recent.value_at_quantile(quantile) };
        StageView {
            stage: stage.to_owned(),
            count,
            sum_micros,
            p50_micros: quantile(0.5),
            p95_micros: quantile(0.95),
            p99_micros: quantile(0.99),
            max_micros: if recent.is_empty() { 0 } else { recent.max() },
            buckets: buckets(&all),
        }
    }

    /// A quantile of all durations since the start, microseconds; 0 without any.
    pub fn quantile_of_all(&self, quantile: f64) -> u64 {
        let state = self.0.lock();
        let mut all = state.recent();
        add(&mut all, &state.old);
        if all.is_empty() { 0 } else { all.value_at_quantile(quantile) }
    }
}

impl Durations {
    /// Moves to the interval of `now`. The intervals that it replaces are added to the old ones.
    fn advance(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.started).as_secs() / INTERVAL.as_secs();
        for _ in 0..passed.min(INTERVALS as u64) {
            self.current = (self.current + 1) % INTERVALS;
            let interval = &mut self.intervals[self.current];
            add(&mut self.old, interval);
            interval.reset();
        }
        self.started += Duration::from_secs(passed * INTERVAL.as_secs());
    }

    fn recent(&self) -> Histogram<u64> {
        let mut recent = self.intervals[0].clone();
        for interval in &self.intervals[1..] {
            add(&mut recent, interval);
        }
        recent
    }
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, MAX_MICROS, 2).expect("the bounds are constants and valid")
}

fn add(to: &mut Histogram<u64>, more: &Histogram<u64>) {
    to.add(more).expect("all histograms have the same bounds");
}

/// For each bound, how many durations are at most that long.
fn buckets(all: &Histogram<u64>) -> Vec<(u64, u64)> {
    let mut buckets: Vec<(u64, u64)> = BOUNDS_MICROS.iter().map(|&bound| (bound, 0)).collect();
    for value in all.iter_recorded() {
        let lowest = all.lowest_equivalent(value.value_iterated_to());
        let first = BOUNDS_MICROS.partition_point(|&bound| bound < lowest);
        if let Some(bucket) = buckets.get_mut(first) {
            bucket.1 += value.count_since_last_iteration();
        }
    }
    let mut before = 0;
    for (_, count) in &mut buckets {
        before += *count;
        *count = before;
    }
    buckets
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn percentiles_forget_after_five_minutes_and_counts_do_not() {
        let began = Instant::now();
        let meter = DurationMeter::new(began);
        meter.record(began, [ms(400)]);
        for minute in 1..5 {
            meter.record(began + INTERVAL * minute, [ms(2); 10]);
        }
        let view = meter.view(began + INTERVAL * 4, "write");
        assert_eq!((view.count, view.sum_micros), (41, 480_000));
        assert!((398_000..=404_000).contains(&view.max_micros), "{view:?}");
        assert!((1_980..=2_020).contains(&view.p50_micros), "{view:?}");

        let view = meter.view(began + INTERVAL * 5, "write");
        assert!(view.max_micros < 3_000, "the long one is older than five minutes: {view:?}");
        assert_eq!((view.count, view.sum_micros), (41, 480_000));
        assert_eq!(view.buckets[8], (500_000, 41), "buckets are since the start");
        assert_eq!(view.buckets[7], (100_000, 40));

        let view = meter.view(began + INTERVAL * 1_000, "write");
        assert_eq!((view.p50_micros, view.p95_micros, view.p99_micros, view.max_micros), (0, 0, 0, 0));
        assert_eq!((view.count, view.buckets[11].1), (41, 41));
        assert!((398_000..=404_000).contains(&meter.quantile_of_all(1.0)));
    }

    #[test]
    fn a_duration_on_a_bound_is_in_its_bucket_and_one_past_all_bounds_in_none() {
        let now = Instant::now();
        let meter = DurationMeter::new(now);
        meter.record(now, BOUNDS_MICROS.map(Duration::from_micros));
        meter.record(now, [Duration::from_secs(11), Duration::from_secs(100_000)]);
        let view = meter.view(now, "fetch");
        assert_eq!(view.buckets, BOUNDS_MICROS.iter().copied().zip(1..).collect::<Vec<_>>());
        assert_eq!(view.count, 14, "a duration in no bucket is counted");
    }

    #[test]
    fn an_empty_meter_shows_zeros() {
        let now = Instant::now();
        let view = DurationMeter::new(now).view(now, "commit");
        assert_eq!((view.count, view.sum_micros, view.p99_micros, view.max_micros), (0, 0, 0, 0));
        assert!(view.buckets.iter().all(|&(_, count)| count == 0));
    }
}
