//! When scheduled fetches are due. Pure.
//!
//! Guarantees: ticks are a whole number of intervals after the start, however long each fetch
//! takes. Missed ticks become one.

use std::time::{Duration, Instant};

/// When to fetch without a trigger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Schedule {
    /// Immediately, and then at this interval.
    Every(Duration),
    /// Once, immediately.
    Once,
    /// Never.
    OnTrigger,
}

/// The times of a schedule.
#[derive(Debug)]
pub(super) struct Ticks {
    schedule: Schedule,
    next: Option<Instant>,
}

impl Ticks {
    /// The ticks of a schedule that starts `now`.
    pub(super) fn new(schedule: Schedule, now: Instant) -> Self {
        Self { schedule, next: (schedule != Schedule::OnTrigger).then_some(now) }
    }

    /// The next tick; `None` when there are no more.
    pub(super) fn next(&self) -> Option<Instant> {
        self.next
    }

    /// Moves on to the first tick after `now`.
    pub(super) fn advance(&mut self, now: Instant) {
        self.next = match (self.schedule, self.next) {
            (Schedule::Every(every), Some(tick)) if tick <= now => {
                let passed = (now - tick).as_nanos() / every.as_nanos().max(1);
                let steps = u32::try_from(passed + 1).unwrap_or(u32::MAX);
                Some(every.checked_mul(steps).map_or(now + every, |ahead| tick + ahead).max(now))
            }
            (Schedule::Every(_), tick) => tick,
            (Schedule::Once | Schedule::OnTrigger, _) => None,
        };
    }

    /// There are no more ticks.
    pub(super) fn stop(&mut self) {
        self.next = None;
    }
}
