//! How often something happened lately.
//!
//! Guarantee: exact. The window slides with every look, so a slow loop of failures is seen as well as a burst; no counter is ever reset.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// A sliding window over moments. Holds at most one moment more than it allows.
#[derive(Debug)]
pub(super) struct Intensity {
    max: u32,
    within: Duration,
    moments: VecDeque<Instant>,
}

impl Intensity {
    /// Allows `max` moments in any window of `within`; a moment exactly `within` ago has left the window.
    pub(super) fn new(max: u32, within: Duration) -> Self {
        Self { max, within, moments: VecDeque::new() }
    }

    /// Adds the moment `now`; true when there are more than allowed.
    pub(super) fn exceeds(&mut self, now: Instant) -> bool {
        self.moments.push_back(now);
        self.moments.retain(|moment| now.saturating_duration_since(*moment) < self.within);
        self.moments.len() > self.max as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_slides() {
        let start = Instant::now();
        let mut intensity = Intensity::new(2, Duration::from_secs(10));
        let exceeded: Vec<_> = [0, 4, 10, 13, 20].map(|second| intensity.exceeds(start + Duration::from_secs(second))).into();
        assert_eq!(
            exceeded,
            [false, false, false, true, false],
            "at 10 the first has left, at 13 there are 4, 10 and 13, at 20 only 13 and 20"
        );
    }

    #[test]
    fn none_allowed_means_the_first_exceeds() {
        assert!(Intensity::new(0, Duration::from_secs(1)).exceeds(Instant::now()));
    }
}
