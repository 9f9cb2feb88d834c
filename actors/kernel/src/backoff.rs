//! Exponential back-off.
//!
//! Guarantee: a delay is at most `max`, and at least 80 % of what doubling from `min` gives.
//!
//! The caller provides the jitter and counts the attempts.

use std::time::Duration;

/// The share of a delay that jitter may subtract.
const JITTER: f64 = 0.2;

/// Doubling delays: `min` * 2^n up to `max`, less up to 20 %, so that clients that failed together
/// don't retry together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The first delay.
    pub min: Duration,
    /// The longest delay.
    pub max: Duration,
}

impl Backoff {
    /// The delay after failed attempt number `attempt`, counted from 0. `jitter` in [0, 1) is the
    /// share of the 20 % to subtract.
    pub fn delay(&self, attempt: u32, jitter: f64) -> Duration {
        let doubled = 2_u32.checked_pow(attempt).and_then(|factor| self.min.checked_mul(factor)).unwrap_or(self.max);
        doubled.min(self.max).mul_f64(1.0 - JITTER * jitter.clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACKOFF: Backoff = Backoff { min: Duration::from_millis(200), max: Duration::from_secs(30) };

    #[test]
    fn delays_double_up_to_the_maximum() {
        let delays: Vec<_> = [0, 1, 2, 7, 8, 31, 32, u32::MAX].map(|attempt| BACKOFF.delay(attempt, 0.0).as_millis()).into();
        assert_eq!(delays, [200, 400, 800, 25_600, 30_000, 30_000, 30_000, 30_000]);
    }

    #[test]
    fn jitter_subtracts_at_most_a_fifth() {
        assert_eq!(BACKOFF.delay(0, 0.5), Duration::from_millis(180));
        assert_eq!(BACKOFF.delay(20, 1.0), Duration::from_secs(24));
    }
}
