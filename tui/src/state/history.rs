//! Throughput, lag and latency of the last five minutes, one point per second.
//!
//! Guarantees:
//! * There are at most [`HISTORY_SECONDS`] points.
//! * A second without a snapshot is a gap, not a zero.

use std::collections::VecDeque;

/// The length of the history in seconds.
pub(crate) const HISTORY_SECONDS: i64 = 300;

/// The time span to draw for a history of this length: one minute, two, or all, so that a short
/// history still fills the chart.
pub(crate) fn span(seconds: i64) -> i64 {
    [60, 120].into_iter().find(|&span| seconds < span).unwrap_or(HISTORY_SECONDS)
}

/// The measurements of one second.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Point {
    /// Records produced to the topic, per second.
    pub(crate) received: f64,
    /// Rows written to the table, per second.
    pub(crate) written: f64,
    /// Records that are not yet written.
    pub(crate) lag: f64,
    /// The 99th percentile of the latency from produced to written, in milliseconds.
    pub(crate) p99: f64,
}

impl Point {
    fn zip(self, other: Self, f: impl Fn(f64, f64) -> f64) -> Self {
        Self {
            received: f(self.received, other.received),
            written: f(self.written, other.written),
            lag: f(self.lag, other.lag),
            p99: f(self.p99, other.p99),
        }
    }
}

#[derive(Debug, Clone)]
struct Second {
    at: i64,
    sum: Point,
    snapshots: f64,
}

/// The history.
#[derive(Debug, Clone, Default)]
pub(crate) struct History(VecDeque<Second>);

impl History {
    /// Adds the measurements of a snapshot taken at `second` since the epoch. A second before the
    /// newest one means that the clock was set back: the history is cleared, because its order is
    /// no longer known.
    pub(crate) fn add(&mut self, second: i64, point: Point) {
        match self.0.back_mut() {
            Some(newest) if newest.at == second => {
                newest.sum = newest.sum.zip(point, |a, b| a + b);
                newest.snapshots += 1.0;
                return;
            }
            Some(newest) if newest.at > second => self.0.clear(),
            _ => {}
        }
        self.0.push_back(Second { at: second, sum: point, snapshots: 1.0 });
        while self.0.front().is_some_and(|oldest| oldest.at <= second - HISTORY_SECONDS) {
            self.0.pop_front();
        }
    }

    /// The time span to draw, in seconds.
    pub(crate) fn span(&self) -> i64 {
        span(self.0.back().zip(self.0.front()).map_or(0, |(newest, oldest)| newest.at - oldest.at))
    }

    /// The last [`History::span`] seconds in `columns` columns, oldest first. Each is the mean of
    /// its seconds; `None` without a snapshot. A column covers the same seconds as time passes, so
    /// that the chart moves without flicker.
    pub(crate) fn columns(&self, columns: usize, pick: impl Fn(&Point) -> f64) -> Vec<Option<f64>> {
        let mut out = vec![(0.0, 0.0); columns];
        let (Some(newest), Some(width)) = (self.0.back(), i64::try_from(columns).ok().filter(|&width| width > 0)) else {
            return vec![None; columns];
        };
        let each = (self.span() + width - 1) / width;
        let last = newest.at.div_euclid(each);
        for second in &self.0 {
            let back = usize::try_from(last - second.at.div_euclid(each)).unwrap_or(usize::MAX);
            if let Some(column) = columns.checked_sub(1).and_then(|end| end.checked_sub(back)) {
                out[column].0 += pick(&second.sum);
                out[column].1 += second.snapshots;
            }
        }
        out.into_iter().map(|(sum, snapshots)| (snapshots > 0.0).then(|| sum / snapshots)).collect()
    }

    /// The value `seconds` ago, or the oldest after that, and the newest value.
    pub(crate) fn since(&self, seconds: i64, pick: impl Fn(&Point) -> f64) -> Option<(f64, f64)> {
        let newest = self.0.back()?;
        let then = self.0.iter().find(|second| second.at >= newest.at - seconds)?;
        Some((pick(&then.sum) / then.snapshots, pick(&newest.sum) / newest.snapshots))
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(received: f64) -> Point {
        Point { received, ..Point::default() }
    }

    #[test]
    fn the_history_drops_what_is_older_than_five_minutes() {
        let mut history = History::default();
        for second in 0..1_000 {
            history.add(second, point(1.0));
        }
        assert_eq!(history.len(), 300);
    }

    #[test]
    fn snapshots_of_one_second_are_averaged_and_a_missing_second_is_a_gap() {
        let mut history = History::default();
        history.add(10, point(2.0));
        history.add(10, point(4.0));
        history.add(12, point(8.0));
        let columns = history.columns(300, |point| point.received);
        assert_eq!(columns[297..], [Some(3.0), None, Some(8.0)]);
    }

    #[test]
    fn columns_cover_the_same_seconds_as_time_passes() {
        let mut history = History::default();
        for second in 0..=100_i32 {
            history.add(second.into(), point(second.into()));
        }
        let before = history.columns(60, |point| point.received);
        history.add(101, point(101.0));
        let after = history.columns(60, |point| point.received);
        assert_eq!(before[..59], after[..59]);
        history.add(103, point(103.0));
        assert_eq!(after[40..59], history.columns(60, |point| point.received)[39..58]);
    }

    #[test]
    fn a_clock_set_back_starts_a_new_history() {
        let mut history = History::default();
        history.add(10, point(1.0));
        history.add(5, point(2.0));
        assert_eq!(history.len(), 1);
    }

    #[test]
    fn zero_columns_do_not_panic() {
        let mut history = History::default();
        assert!(history.columns(0, |point| point.lag).is_empty());
        assert_eq!(history.columns(2, |point| point.lag), [None, None]);
        history.add(1, point(1.0));
        assert!(history.columns(0, |point| point.lag).is_empty());
    }
}
