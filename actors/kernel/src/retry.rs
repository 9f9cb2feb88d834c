//! Retries: how long to wait before the next attempt, and what to report in the meantime.
//!
//! Both types are pure but for the status note: the caller waits, logs and draws the jitter.
//!
//! Guarantees:
//! * [`Retry`] doubles its delays as [`Backoff`] does, and starts over after [`Retry::reset`].
//! * [`Outage`] asks for one log line per error message, however many attempts fail with it.

use std::fmt::Display;
use std::time::Duration;

use super::{Backoff, Progress};

/// The attempts at one operation.
#[derive(Debug, Clone)]
pub struct Retry {
    backoff: Backoff,
    failed: u32,
}

impl Retry {
    /// No attempt has failed yet.
    pub const fn new(backoff: Backoff) -> Self {
        Self { backoff, failed: 0 }
    }

    /// Counts a failed attempt and returns the delay before the next one. `jitter` is in [0, 1).
    pub fn failed(&mut self, jitter: f64) -> Duration {
        let delay = self.backoff.delay(self.failed, jitter);
        self.failed = self.failed.saturating_add(1);
        delay
    }

    /// An attempt made progress: the next failure counts as the first.
    pub fn reset(&mut self) {
        self.failed = 0;
    }

    /// How many attempts have failed since the last reset.
    pub fn attempts(&self) -> u32 {
        self.failed
    }

    /// The status note: the error, the number of failed attempts and the delay before the next.
    pub fn note(&self, error: &impl Display, next: Duration) -> String {
        format!("{error} (attempt {}, next in {:.1} s)", self.failed, next.as_secs_f64())
    }
}

/// Whether an operation is failing, and with which error.
#[derive(Debug, Default)]
pub struct Outage {
    error: Option<String>,
}

impl Outage {
    /// Shows `note` as the actor's status. Returns whether the caller should log `error`: it
    /// differs from the last one reported.
    #[must_use = "an error that was not reported yet is to be logged"]
    pub fn report(&mut self, progress: &Progress, error: &impl Display, note: impl Into<String>) -> bool {
        progress.waiting(note);
        let error = error.to_string();
        if self.error.as_ref() == Some(&error) {
            return false;
        }
        self.error = Some(error);
        true
    }

    /// Clears the actor's status. Returns whether an error had been reported.
    pub fn clear(&mut self, progress: &Progress) -> bool {
        let reported = self.error.take().is_some();
        if reported {
            progress.clear();
        }
        reported
    }

    /// Whether an error has been reported since the last [`Outage::clear`].
    pub fn is_ongoing(&self) -> bool {
        self.error.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACKOFF: Backoff = Backoff { min: Duration::from_millis(100), max: Duration::from_secs(10) };

    #[test]
    fn delays_grow_with_each_failure_and_start_over_after_a_reset() {
        let mut retry = Retry::new(BACKOFF);
        let delays: Vec<_> = (0..9).map(|_| retry.failed(0.0).as_millis()).collect();
        assert_eq!(delays, [100, 200, 400, 800, 1_600, 3_200, 6_400, 10_000, 10_000]);
        assert_eq!(retry.attempts(), 9);
        retry.reset();
        assert_eq!((retry.failed(0.0).as_millis(), retry.attempts()), (100, 1));
    }

    #[test]
    fn a_note_has_the_error_the_attempt_and_the_delay() {
        let mut retry = Retry::new(BACKOFF);
        retry.failed(0.0);
        let note = retry.note(&"cassandra 127.0.0.1:9042: refused", Duration::from_millis(2_100));
        assert_eq!(note, "cassandra 127.0.0.1:9042: refused (attempt 1, next in 2.1 s)");
    }

    #[test]
    fn an_outage_is_logged_once_per_error_and_always_noted() {
        let (mut outage, progress) = (Outage::default(), Progress::default());
        assert!(!outage.clear(&progress), "nothing has failed");
        assert!(outage.report(&progress, &"refused", "refused (attempt 1)"));
        assert!(!outage.report(&progress, &"refused", "refused (attempt 2)"));
        assert_eq!(progress.note().as_deref(), Some("refused (attempt 2)"));
        assert!(outage.report(&progress, &"no answer", "no answer"));
        assert!(outage.is_ongoing());
        assert!(outage.clear(&progress));
        assert_eq!((progress.note(), outage.is_ongoing()), (None, false));
        assert!(outage.report(&progress, &"no answer", "no answer"), "a new outage is logged again");
    }
}
