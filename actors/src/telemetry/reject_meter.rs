//! Counts dead letters by reason, and decides when to log them.
//!
//! Pure.
//!
//! Guarantees:
//! * The first dead letter is reported immediately, later ones at most every [`LOG_INTERVAL`],
//!   with their number since the last report.
//!
//! Does not guarantee that the last ones before the process ends are reported.

use std::time::{Duration, Instant};

use forebay_schemas::rejects::{RejectCount, Rejects};

/// The minimum time between two reports.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// Dead letters to log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RejectReport {
    /// Dead letters since the last report.
    pub records: u64,
    /// Their most frequent reason.
    pub top: RejectCount,
}

/// Dead letters by reason.
#[derive(Debug, Default)]
pub(super) struct RejectMeter {
    all: Rejects,
    /// Since the last report.
    unreported: Rejects,
    last: Option<Instant>,
}

impl RejectMeter {
    /// Adds rejects. Returns a report when one is due.
    pub(super) fn add(&mut self, rejects: &Rejects, now: Instant) -> Option<RejectReport> {
        self.all.merge(rejects);
        self.unreported.merge(rejects);
        if self.last.is_some_and(|last| now.saturating_duration_since(last) < LOG_INTERVAL) {
            return None;
        }
        self.last = Some(now);
        let unreported = std::mem::take(&mut self.unreported);
        Some(RejectReport { records: unreported.count(), top: unreported.most_frequent()?.clone() })
    }

    /// All rejects since the start.
    pub(super) fn all(&self) -> &Rejects {
        &self.all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rejects(reason: &str, count: u64) -> Rejects {
        let mut rejects = Rejects::default();
        rejects.add("decode", reason, count);
        rejects
    }

    #[test]
    fn the_first_reject_is_reported_at_once_and_later_ones_together() {
        let (mut meter, now) = (RejectMeter::default(), Instant::now());
        assert_eq!(meter.add(&rejects("a", 1), now).unwrap().records, 1);
        assert_eq!(meter.add(&rejects("a", 2), now + LOG_INTERVAL / 2), None);
        assert_eq!(meter.add(&rejects("b", 3), now + LOG_INTERVAL / 2), None);
        let report = meter.add(&rejects("a", 2), now + LOG_INTERVAL).unwrap();
        assert_eq!((report.records, report.top.to_string()), (7, "4 at decode: a".to_owned()));
        assert_eq!((meter.all().count(), meter.all().most_frequent().unwrap().count), (8, 5));
    }
}
