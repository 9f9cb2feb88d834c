//! The distance between two requests that `fetcher.rate_limit` allows. Pure.
//!
//! Guarantees:
//! * No request follows another sooner, whichever run or schedule asks for it.
//! * A second attempt within one fetch, after a refusal, counts with the first.

use std::time::{Duration, Instant};

use forebay_schemas::pipeline::RequestRate;

/// When the next request may be sent.
#[derive(Debug, Default)]
pub(super) struct Pace {
    rate: Option<RequestRate>,
    last: Option<Instant>,
}

impl Pace {
    /// No request has been sent.
    pub(super) fn new(rate: Option<RequestRate>) -> Self {
        Self { rate, last: None }
    }

    /// A request is sent.
    pub(super) fn requested(&mut self, now: Instant) {
        self.last = Some(now);
    }

    /// How long the next request has to wait; `None` if it does not.
    pub(super) fn wait(&self, now: Instant) -> Option<Duration> {
        let interval = self.rate?.interval;
        interval.checked_sub(now.saturating_duration_since(self.last?)).filter(|wait| !wait.is_zero())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_request_waits_for_the_rest_of_the_interval() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let mut pace = Pace::new(Some(RequestRate { interval: 6 * second }));
        assert_eq!(pace.wait(start), None, "nothing has been sent");
        pace.requested(start);
        assert_eq!(pace.wait(start), Some(6 * second));
        assert_eq!(pace.wait(start + 2 * second), Some(4 * second));
        assert_eq!(pace.wait(start + 6 * second), None);
        pace.requested(start + 7 * second);
        assert_eq!(pace.wait(start + 8 * second), Some(5 * second));
        assert_eq!(Pace::default().wait(start), None);
    }
}
