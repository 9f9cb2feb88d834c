//! Rates, back-pressure and trends over a sliding window of snapshots.
//!
//! Guarantees:
//! * Rates use the timestamps of the process, so late or lost snapshots do not distort them.
//! * A restart of the process or a clock set back starts a new window.

use std::collections::VecDeque;
use std::sync::Arc;

use chrono::TimeDelta;
use forebay_schemas::offset::{Offset, Partition};
use forebay_schemas::run::Run;
use forebay_schemas::snapshot::{EdgeView, PartitionView, Snapshot};

use super::history::{History, Point};

/// The minimum length of the window in milliseconds, once there are snapshots that old.
const WINDOW_MS: i64 = 5_000;
/// The maximum number of snapshots in the window.
const MAX_SNAPSHOTS: usize = 64;
/// A trend compares with the value this many seconds ago.
const TREND_SECONDS: i64 = 30;
/// A budget counts as full above this utilization.
const FULL_UTILIZATION: f64 = 0.95;

/// How much an edge blocks its upstream. The thresholds are Flink's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Pressure {
    /// Blocked at most 10 % of the time.
    Ok,
    /// Blocked at most 50 % of the time.
    Low,
    /// Blocked more than 50 % of the time.
    High,
}

impl Pressure {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Low => "LOW",
            Self::High => "HIGH",
        }
    }
}

/// The direction of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trend {
    Rising,
    Steady,
    Falling,
}

/// A sliding window of snapshots, and their history.
#[derive(Debug, Clone, Default)]
pub(crate) struct SnapshotWindow {
    snapshots: VecDeque<Arc<Snapshot>>,
    history: History,
}

impl SnapshotWindow {
    /// A single snapshot: everything but rates.
    pub(crate) fn single(snapshot: Arc<Snapshot>) -> Self {
        Self { snapshots: VecDeque::from([snapshot]), history: History::default() }
    }

    /// Adds a snapshot.
    pub(crate) fn push(&mut self, snapshot: Arc<Snapshot>) {
        let continues = |newest: &Arc<Snapshot>| newest.started_at == snapshot.started_at && newest.at <= snapshot.at;
        if !self.snapshots.back().is_some_and(continues) {
            self.snapshots.clear();
        }
        if let Some(before) = self.snapshots.back() {
            if before.at == snapshot.at {
                self.snapshots.pop_back();
            } else if let Some(received) = received(before, &snapshot) {
                let written = per_second(before, &snapshot, |snapshot| snapshot.totals.written).unwrap_or(0.0);
                let point = Point { received, written, lag: lag(&snapshot) as f64, p99: snapshot.latency_ms.p99 };
                self.history.add(snapshot.at.timestamp(), point);
            }
        }
        self.snapshots.push_back(snapshot);
        while self.snapshots.len() > MAX_SNAPSHOTS || self.snapshots.len() > 2 && self.span(1) >= WINDOW_MS {
            self.snapshots.pop_front();
        }
    }

    /// Replaces the newest snapshot.
    pub(crate) fn replace(&mut self, snapshot: Arc<Snapshot>) {
        self.snapshots.pop_back();
        self.snapshots.push_back(snapshot);
    }

    /// Milliseconds from the snapshot at `from` to the newest.
    fn span(&self, from: usize) -> i64 {
        match (self.snapshots.get(from), self.snapshots.back()) {
            (Some(from), Some(to)) => (to.at - from.at).num_milliseconds(),
            _ => 0,
        }
    }

    pub(crate) fn newest(&self) -> Option<&Snapshot> {
        self.snapshots.back().map(Arc::as_ref)
    }

    pub(crate) fn history(&self) -> &History {
        &self.history
    }

    fn oldest_and_newest(&self) -> Option<(&Snapshot, &Snapshot)> {
        Some((self.snapshots.front()?, self.snapshots.back()?))
    }

    /// The rate of a total per second; `None` before the second snapshot.
    pub(crate) fn rate(&self, total: impl Fn(&Snapshot) -> u64) -> Option<f64> {
        let (from, to) = self.oldest_and_newest()?;
        per_second(from, to, total)
    }

    /// The increase of a total within the window.
    pub(crate) fn rise(&self, total: impl Fn(&Snapshot) -> u64) -> u64 {
        self.oldest_and_newest().map_or(0, |(from, to)| total(to).saturating_sub(total(from)))
    }

    /// Records produced to the topic per second, by any producer.
    pub(crate) fn received(&self) -> Option<f64> {
        let (from, to) = self.oldest_and_newest()?;
        received(from, to)
    }

    /// The rate at which a partition is written; `None` if this process does not know.
    pub(crate) fn partition_rate(&self, partition: Partition) -> Option<f64> {
        let written = |snapshot: &Snapshot| snapshot.partitions.iter().find(|view| view.partition == partition).and_then(done);
        let (from, to) = self.oldest_and_newest()?;
        written(from)?;
        per_second(from, to, |snapshot| written(snapshot).unwrap_or(0))
    }

    /// Records in the topic that are not yet written.
    pub(crate) fn lag(&self) -> u64 {
        self.newest().map_or(0, lag)
    }

    /// The time to write the lag at the current rate, in seconds; `None` while nothing is written.
    pub(crate) fn behind(&self) -> Option<f64> {
        match (self.lag(), self.rate(|snapshot| snapshot.totals.consumed)) {
            (0, _) => Some(0.0),
            (lag, Some(rate)) if rate > 0.0 => Some(lag as f64 / rate),
            _ => None,
        }
    }

    /// The trend of the lag.
    pub(crate) fn lag_trend(&self) -> Trend {
        let Some((then, now)) = self.history.since(TREND_SECONDS, |point| point.lag) else { return Trend::Steady };
        let matters = (then * 0.1).max(100.0);
        match now - then {
            change if change > matters => Trend::Rising,
            change if change < -matters => Trend::Falling,
            _ => Trend::Steady,
        }
    }

    /// The fraction of the window, 0 to 1, in which an edge blocked its upstream. An edge that is
    /// full in every snapshot blocked all the time.
    pub(crate) fn blocked(&self, name: &str) -> f64 {
        let Some((from, to)) = self.oldest_and_newest() else { return 0.0 };
        let micros = per_second(from, to, |snapshot| edge(snapshot, name).map_or(0, |edge| edge.blocked_micros)).unwrap_or(0.0);
        let full = |snapshot: &Arc<Snapshot>| {
            edge(snapshot, name).is_some_and(|edge| edge.used_bytes as f64 >= FULL_UTILIZATION * edge.budget_bytes as f64)
        };
        let full = if self.snapshots.len() > 1 && self.snapshots.iter().all(full) { 1.0 } else { 0.0 };
        (micros / 1_000_000.0).clamp(full, 1.0)
    }

    /// How much an edge blocks its upstream.
    pub(crate) fn pressure(&self, name: &str) -> Pressure {
        match self.blocked(name) {
            part if part <= 0.1 => Pressure::Ok,
            part if part <= 0.5 => Pressure::Low,
            _ => Pressure::High,
        }
    }

    /// The edge that is the bottleneck. Back-pressure spreads upstream, so it is the most
    /// downstream edge under the highest pressure.
    pub(crate) fn bottleneck(&self) -> Option<&EdgeView> {
        let edges = self.newest()?.edges.iter().filter(|edge| self.pressure(&edge.name) > Pressure::Ok);
        let position = |edge: &EdgeView| COMPONENTS.iter().position(|component| *component == downstream(edge));
        edges.max_by_key(|edge| (self.pressure(&edge.name), position(edge)))
    }
}

/// The components in which edges end, in pipeline order.
const COMPONENTS: [&str; 5] = ["producer", "topic", "transformer", "writer", "table"];

/// The downstream end of an edge: `writer` for `consumer -> writer`.
pub(crate) fn downstream(edge: &EdgeView) -> &str {
    edge.name.rsplit([' ', '>']).next().unwrap_or_default()
}

fn edge<'a>(snapshot: &'a Snapshot, name: &str) -> Option<&'a EdgeView> {
    snapshot.edges.iter().find(|edge| edge.name == name)
}

/// How far a partition is written, if this process knows.
fn done(view: &PartitionView) -> Option<u64> {
    u64::try_from(view.written.max(view.committed).value()).ok()
}

fn lag(snapshot: &Snapshot) -> u64 {
    snapshot.partitions.iter().map(PartitionView::lag).fold(0, u64::saturating_add)
}

fn per_second(from: &Snapshot, to: &Snapshot, total: impl Fn(&Snapshot) -> u64) -> Option<f64> {
    let passed = (to.at - from.at).max(TimeDelta::zero()).as_seconds_f64();
    (passed > 0.0).then(|| total(to).saturating_sub(total(from)) as f64 / passed)
}

/// Records produced to the topic per second: what this process produced, or the growth of the topic
/// if others produce too.
fn received(from: &Snapshot, to: &Snapshot) -> Option<f64> {
    let produced = per_second(from, to, |snapshot| snapshot.totals.produced)?;
    let grown = per_second(from, to, |snapshot| {
        snapshot.partitions.iter().filter_map(|view| u64::try_from(view.end.value()).ok()).fold(0, u64::saturating_add)
    })?;
    // A new partition is not growth.
    Some(if from.partitions.len() == to.partitions.len() { produced.max(grown) } else { produced })
}

/// The fraction, 0 to 1, of a run's records that is written; `None` if it has produced none.
pub(crate) fn progress(run: &Run, partitions: &[PartitionView]) -> Option<f64> {
    let (mut all, mut written) = (0, 0);
    for (partition, range) in &run.ranges.0 {
        all = u64::saturating_add(all, range.len());
        let at =
            partitions.iter().find(|view| view.partition == *partition).map_or(Offset::UNKNOWN, |view| view.written.max(view.committed));
        written = u64::saturating_add(written, at.min(range.to).since(range.from));
    }
    (all > 0).then(|| written as f64 / all as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_data::{self, window};

    #[test]
    fn one_snapshot_has_no_rates() {
        let window = window([test_data::busy()]);
        assert_eq!(window.rate(|snapshot| snapshot.totals.written), None);
        assert_eq!(window.received(), None);
        assert_eq!(window.partition_rate(0), None);
    }

    #[test]
    fn a_rate_uses_the_timestamps_of_the_snapshots() {
        let window = window((0..20).map(|n| test_data::later(n * 500)));
        assert_eq!(window.rate(|snapshot| snapshot.totals.written), Some(1_200.0));
        assert_eq!(window.received(), Some(1_240.0));
        assert_eq!(window.partition_rate(0), Some(300.0));
    }

    #[test]
    fn the_window_covers_five_seconds_and_a_bounded_number_of_snapshots() {
        let window = window((0..100).map(|n| test_data::later(n * 500)));
        assert_eq!(window.snapshots.len(), 11);
        assert_eq!(window.span(0), 5_000);
        let fast = self::window((0..1_000).map(test_data::later));
        assert_eq!(fast.snapshots.len(), MAX_SNAPSHOTS);
    }

    #[test]
    fn snapshots_far_apart_still_give_a_rate() {
        let window = window([test_data::later(0), test_data::later(60_000), test_data::later(120_000)]);
        assert_eq!(window.rate(|snapshot| snapshot.totals.written), Some(1_200.0));
    }

    #[test]
    fn a_restart_of_the_process_gives_no_rate() {
        let mut again = test_data::later(10_000);
        again.started_at = again.at;
        again.totals = forebay_schemas::snapshot::Totals::default();
        let window = window([test_data::later(0), test_data::later(500), again]);
        assert_eq!(window.rate(|snapshot| snapshot.totals.written), None);
    }

    #[test]
    fn a_clock_set_back_starts_a_new_window() {
        let window = window([test_data::later(60_000), test_data::later(0), test_data::later(500)]);
        assert_eq!(window.snapshots.len(), 2);
        assert_eq!(window.rate(|snapshot| snapshot.totals.written), Some(1_200.0));
    }

    #[test]
    fn a_repeated_snapshot_counts_once() {
        let window = window([test_data::later(0), test_data::later(500), test_data::later(500)]);
        assert_eq!(window.snapshots.len(), 2);
    }

    #[test]
    fn the_bottleneck_is_the_most_downstream_edge_under_the_highest_pressure() {
        let window = window((0..20).map(|n| test_data::later(n * 500)));
        assert_eq!(window.pressure("fetcher -> producer"), Pressure::Ok);
        assert_eq!(window.pressure("consumer -> transformer"), Pressure::High);
        assert_eq!(window.pressure("transformer -> writer"), Pressure::High);
        assert_eq!(window.bottleneck().unwrap().name, "transformer -> writer");
        let backwards = self::window((0..20).map(|n| {
            let mut snapshot = test_data::later(n * 500);
            snapshot.edges.reverse();
            snapshot
        }));
        assert_eq!(backwards.bottleneck().unwrap().name, "transformer -> writer", "regardless of the order of the edges");
    }

    #[test]
    fn an_edge_that_is_full_in_every_snapshot_is_the_bottleneck() {
        let stuck = |n| {
            let mut snapshot = test_data::later(n);
            snapshot.edges[0].used_bytes = snapshot.edges[0].budget_bytes;
            snapshot.edges.truncate(1);
            snapshot
        };
        let window = window([stuck(0), stuck(500)]);
        assert_eq!(window.bottleneck().unwrap().name, "fetcher -> producer");
    }

    #[test]
    fn lag_has_records_seconds_and_a_trend() {
        let window = window((0..80).map(|n| test_data::later(n * 500)));
        assert_eq!(window.lag_trend(), Trend::Rising);
        assert!(window.lag() > test_data::busy().partitions.iter().map(PartitionView::lag).sum());
        assert!(window.behind().is_some());
    }

    #[test]
    fn the_progress_of_a_run_is_how_much_of_its_ranges_is_written() {
        let snapshot = test_data::busy();
        assert_eq!(progress(&snapshot.runs[0], &snapshot.partitions), Some(0.5));
        assert_eq!(progress(&snapshot.runs[2], &snapshot.partitions), None);
    }
}
