//! How long something takes: its count, its sum, cumulative buckets since the start, and percentiles over the last minutes.
//!
//! Guarantee: memory is bounded whatever is recorded; count, sum and buckets only rise, and belong to each other in one look. Not guaranteed:
//! digits: a value is told apart from others to within 1 %, also at the bound of a bucket.

use parking_lot::Mutex;
use std::time::{Duration, Instant};

use forebay_kernel::micros;
use forebay_schemas::snapshot::StageView;
use hdrhistogram::Histogram;

/// The bounds of the buckets, microseconds: OpenTelemetry's of `db.client.operation.duration` (1 ms to 10 s), and three below.
pub const BOUNDS_MICROS: [u64; 12] = [100, 250, 500, 1_000, 5_000, 10_000, 50_000, 100_000, 500_000, 1_000_000, 5_000_000, 10_000_000];
/// The longest span told apart, in microseconds: an hour.
const LONGEST_MICROS: u64 = 3_600_000_000;
/// "The last minutes" are so many turns, the one that runs included.
const TURNS: usize = 5;
/// How long a turn is.
const TURN: Duration = Duration::from_secs(60);

/// Spans of one kind.
#[derive(Debug)]
pub struct Meter(Mutex<Spans>);

#[derive(Debug)]
struct Spans {
    turns: [Histogram<u64>; TURNS],
    /// The turn that runs, and when it began.
    at: usize,
    began: Instant,
    /// What came before the turns.
    old: Histogram<u64>,
    count: u64,
    sum_micros: u64,
}

impl Meter {
    /// A meter that is read and written from `now` on.
    pub fn new(now: Instant) -> Self {
        let turns = std::array::from_fn(|_| histogram());
        Self(Mutex::new(Spans { turns, at: 0, began: now, old: histogram(), count: 0, sum_micros: 0 }))
    }

    /// Records spans, all under one lock.
    pub fn record(&self, now: Instant, spans: impl IntoIterator<Item = Duration>) {
        let mut state = self.0.lock();
        state.turn_to(now);
        let (mut count, mut sum) = (0, 0_u64);
        let turn = state.at;
        let histogram = &mut state.turns[turn];
        for span in spans {
            let span = micros(span);
            histogram.saturating_record(span.clamp(1, LONGEST_MICROS));
            count += 1;
            sum = sum.saturating_add(span);
        }
        state.count += count;
        state.sum_micros = state.sum_micros.saturating_add(sum);
    }

    /// One look at it, as a stage of that name.
    pub fn view(&self, now: Instant, stage: &str) -> StageView {
        let (recent, all, count, sum_micros) = {
            let mut state = self.0.lock();
            state.turn_to(now);
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

    /// A percentile of all since the start, microseconds; 0 when there is nothing.
    pub fn quantile_of_all(&self, quantile: f64) -> u64 {
        let state = self.0.lock();
        let mut all = state.recent();
        add(&mut all, &state.old);
        if all.is_empty() { 0 } else { all.value_at_quantile(quantile) }
    }
}

impl Spans {
    /// Begins the turn that `now` is in; what falls out of the last minutes becomes old.
    fn turn_to(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.began).as_secs() / TURN.as_secs();
        for _ in 0..passed.min(TURNS as u64) {
            self.at = (self.at + 1) % TURNS;
            let turn = &mut self.turns[self.at];
            add(&mut self.old, turn);
            turn.reset();
        }
        self.began += Duration::from_secs(passed * TURN.as_secs());
    }

    fn recent(&self) -> Histogram<u64> {
        let mut recent = self.turns[0].clone();
        for turn in &self.turns[1..] {
            add(&mut recent, turn);
        }
        recent
    }
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LONGEST_MICROS, 2).expect("bounds of a histogram that are constants and valid")
}

fn add(to: &mut Histogram<u64>, more: &Histogram<u64>) {
    to.add(more).expect("histograms of the same bounds add up");
}

/// How many took at most each bound.
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
    fn percentiles_forget_what_is_older_than_five_minutes_and_the_rest_does_not() {
        let began = Instant::now();
        let meter = Meter::new(began);
        meter.record(began, [ms(400)]);
        for minute in 1..5 {
            meter.record(began + TURN * minute, [ms(2); 10]);
        }
        let look = meter.view(began + TURN * 4, "write");
        assert_eq!((look.count, look.sum_micros), (41, 480_000));
        assert!((398_000..=404_000).contains(&look.max_micros), "{look:?}");
        assert!((1_980..=2_020).contains(&look.p50_micros), "{look:?}");

        let look = meter.view(began + TURN * 5, "write");
        assert!(look.max_micros < 3_000, "the long one is older than five minutes: {look:?}");
        assert_eq!((look.count, look.sum_micros), (41, 480_000));
        assert_eq!(look.buckets[8], (500_000, 41), "buckets are since the start");
        assert_eq!(look.buckets[7], (100_000, 40));

        let look = meter.view(began + TURN * 1_000, "write");
        assert_eq!((look.p50_micros, look.p95_micros, look.p99_micros, look.max_micros), (0, 0, 0, 0));
        assert_eq!((look.count, look.buckets[11].1), (41, 41));
        assert!((398_000..=404_000).contains(&meter.quantile_of_all(1.0)));
    }

    #[test]
    fn a_span_on_a_bound_is_in_its_bucket_and_one_past_all_bounds_in_none() {
        let now = Instant::now();
        let meter = Meter::new(now);
        meter.record(now, BOUNDS_MICROS.map(Duration::from_micros));
        meter.record(now, [Duration::from_secs(11), Duration::from_secs(100_000)]);
        let look = meter.view(now, "fetch");
        assert_eq!(look.buckets, BOUNDS_MICROS.iter().copied().zip(1..).collect::<Vec<_>>());
        assert_eq!(look.count, 14, "what is in no bucket is counted all the same");
    }

    #[test]
    fn nothing_recorded_is_nothing_shown() {
        let now = Instant::now();
        let look = Meter::new(now).view(now, "commit");
        assert_eq!((look.count, look.sum_micros, look.p99_micros, look.max_micros), (0, 0, 0, 0));
        assert!(look.buckets.iter().all(|&(_, count)| count == 0));
    }
}
