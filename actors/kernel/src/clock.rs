//! The clock, as an interface that tests can control.
//!
//! Guarantee: [`Clock::now`] never goes back.
//!
//! Does not guarantee that [`Clock::wall`] never does.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use parking_lot::Mutex;

/// A duration in whole microseconds.
pub fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// A duration in whole milliseconds.
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A shared clock.
pub type SharedClock = Arc<dyn Clock>;

/// A source of time.
pub trait Clock: Send + Sync {
    /// The monotonic time, for delays and deadlines.
    fn now(&self) -> Instant;
    /// The time of day, for people to read.
    fn wall(&self) -> SystemTime;
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl SystemClock {
    /// The machine's clock, shared.
    pub fn shared() -> SharedClock {
        Arc::new(Self)
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn wall(&self) -> SystemTime {
        SystemTime::now()
    }
}

/// A clock that only moves when it is advanced.
#[derive(Debug)]
pub struct ManualClock {
    started: Instant,
    started_wall: SystemTime,
    elapsed: Mutex<Duration>,
}

impl Default for ManualClock {
    fn default() -> Self {
        Self { started: Instant::now(), started_wall: SystemTime::UNIX_EPOCH, elapsed: Mutex::default() }
    }
}

impl ManualClock {
    /// Advances the clock by `time`.
    pub fn advance(&self, time: Duration) {
        *self.elapsed.lock() += time;
    }

    fn elapsed(&self) -> Duration {
        *self.elapsed.lock()
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Instant {
        self.started + self.elapsed()
    }

    fn wall(&self) -> SystemTime {
        self.started_wall + self.elapsed()
    }
}
