//! Why records are dead letters, since the start, and when the log says so.
//!
//! Pure. Guarantee: the first dead letter is said at once, and those after it at most every [`QUIET`], each time with how many there were since.
//! Not guaranteed: that the last ones before the end are said.

use std::time::{Duration, Instant};

use forebay_schemas::rejects::{RejectCount, Rejects};

/// The least time between two lines.
const QUIET: Duration = Duration::from_secs(10);

/// What the log is to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// Dead letters since the last line.
    pub records: u64,
    /// The most frequent reason of them.
    pub top: RejectCount,
}

/// Counts dead letters.
#[derive(Debug, Default)]
pub(super) struct RejectMeter {
    all: Rejects,
    /// Since the last line.
    unsaid: Rejects,
    last: Option<Instant>,
}

impl RejectMeter {
    /// Counts more.
    pub(super) fn add(&mut self, rejects: &Rejects, now: Instant) -> Option<Said> {
        self.all.merge(rejects);
        self.unsaid.merge(rejects);
        if self.last.is_some_and(|last| now.saturating_duration_since(last) < QUIET) {
            return None;
        }
        self.last = Some(now);
        let unsaid = std::mem::take(&mut self.unsaid);
        Some(Said { records: unsaid.count(), top: unsaid.most_frequent()?.clone() })
    }

    /// All since the start.
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
    fn the_first_is_said_at_once_and_the_next_ones_together_with_their_most_frequent_reason() {
        let (mut meter, now) = (RejectMeter::default(), Instant::now());
        assert_eq!(meter.add(&rejects("a", 1), now).unwrap().records, 1);
        assert_eq!(meter.add(&rejects("a", 2), now + QUIET / 2), None);
        assert_eq!(meter.add(&rejects("b", 3), now + QUIET / 2), None);
        let said = meter.add(&rejects("a", 2), now + QUIET).unwrap();
        assert_eq!((said.records, said.top.to_string()), (7, "4 at decode: a".to_owned()));
        assert_eq!((meter.all().count(), meter.all().most_frequent().unwrap().count), (8, 5));
    }
}
