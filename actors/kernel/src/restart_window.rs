//! Counts restarts in a sliding window.
//!
//! Guarantee: the count is exact. The window slides with every restart, so a slow loop of failures
//! is noticed as well as a burst.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The restarts within a sliding window. It holds at most one more than it allows.
#[derive(Debug)]
pub(super) struct RestartWindow {
    max: u32,
    within: Duration,
    restarts: VecDeque<Instant>,
}

impl RestartWindow {
    /// Allows `max` restarts in any window of `within`. A restart exactly `within` ago has left the
    /// window.
    pub(super) fn new(max: u32, within: Duration) -> Self {
        Self { max, within, restarts: VecDeque::new() }
    }

    /// Adds a restart. Returns whether there are more than allowed.
    pub(super) fn exceeded_by(&mut self, now: Instant) -> bool {
        self.restarts.push_back(now);
        self.restarts.retain(|restart| now.saturating_duration_since(*restart) < self.within);
        self.restarts.len() > self.max as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_slides() {
        let start = Instant::now();
        let mut window = RestartWindow::new(2, Duration::from_secs(10));
        let exceeded: Vec<_> = [0, 4, 10, 13, 20].map(|second| window.exceeded_by(start + Duration::from_secs(second))).into();
        assert_eq!(
            exceeded,
            [false, false, false, true, false],
            "at 10 the first has left, at 13 there are 4, 10 and 13, at 20 only 13 and 20"
        );
    }

    #[test]
    fn a_window_that_allows_none_is_exceeded_by_the_first() {
        assert!(RestartWindow::new(0, Duration::from_secs(1)).exceeded_by(Instant::now()));
    }
}
