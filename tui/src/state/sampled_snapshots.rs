//! One snapshot per second for five minutes, for heat maps and for time travel.
//!
//! Guarantees:
//! * There are at most as many samples as seconds in the history.
//! * A clock set back or a restarted process starts again.

use std::collections::VecDeque;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use forebay_schemas::snapshot::Snapshot;

use super::rates::SnapshotWindow;

/// The maximum number of samples: one per second of the history.
const MAX_SAMPLES: usize = 300;

/// A moment is known if there is a sample at most this many milliseconds older.
const MAX_SAMPLE_AGE_MS: i64 = 2_000;

/// Snapshots at least about a second apart.
#[derive(Debug, Clone, Default)]
pub(crate) struct Samples(VecDeque<Arc<Snapshot>>);

impl Samples {
    pub(crate) fn add(&mut self, snapshot: &Arc<Snapshot>) {
        if let Some(newest) = self.0.back() {
            let passed = snapshot.at - newest.at;
            if newest.started_at != snapshot.started_at || passed < TimeDelta::zero() {
                self.0.clear();
            } else if passed < TimeDelta::milliseconds(900) {
                return;
            }
        }
        self.0.push_back(Arc::clone(snapshot));
        while self.0.len() > MAX_SAMPLES {
            self.0.pop_front();
        }
    }

    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = &Arc<Snapshot>> {
        self.0.iter()
    }

    /// The window of snapshots up to a moment; `None` if the last of them is too old.
    pub(crate) fn window_at(&self, at: DateTime<Utc>) -> Option<SnapshotWindow> {
        let upto = self.0.partition_point(|snapshot| snapshot.at <= at);
        let last = self.0.get(upto.checked_sub(1)?)?;
        if (at - last.at).num_milliseconds() > MAX_SAMPLE_AGE_MS {
            return None;
        }
        let mut window = SnapshotWindow::default();
        self.0.iter().take(upto).for_each(|snapshot| window.push(Arc::clone(snapshot)));
        Some(window)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_data;

    #[test]
    fn a_moment_is_known_from_the_samples_before_it() {
        let mut samples = Samples::default();
        for n in 0..2_000 {
            samples.add(&Arc::new(test_data::later(n * 500)));
        }
        assert_eq!(samples.iter().count(), 300);
        let newest = samples.iter().next_back().unwrap().at;
        assert!(samples.window_at(newest).unwrap().rate(|snapshot| snapshot.totals.written).is_some());
        assert_eq!(samples.window_at(newest - TimeDelta::seconds(10)).unwrap().newest().unwrap().at, newest - TimeDelta::seconds(10));
        assert!(samples.window_at(newest + TimeDelta::seconds(10)).is_none() && samples.window_at(newest - TimeDelta::hours(1)).is_none());
    }
}
