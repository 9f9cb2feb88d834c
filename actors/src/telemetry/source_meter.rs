//! Statuses and throttling of the API that the pipeline fetches from.
//!
//! Guarantees:
//! * The status classes are a bounded set.
//! * The throttled time never grows faster than the clock.
//!
//! Does not guarantee that a wait that ends early counts less than planned, until the next wait
//! begins.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use forebay_kernel::micros;
use forebay_schemas::run::Stop;
use forebay_schemas::snapshot::SourceView;

/// The characters of a cursor that a snapshot shows.
const MAX_CURSOR_CHARS: usize = 256;

/// The API that is fetched from.
#[derive(Debug, Default)]
pub(super) struct SourceMeter {
    url: String,
    statuses: BTreeMap<&'static str, u64>,
    /// Why the last fetch stopped.
    stop: Option<Stop>,
    throttled: Duration,
    /// The current wait: start and planned end.
    waiting: Option<(Instant, Instant)>,
}

impl SourceMeter {
    pub(super) fn new(url: &str) -> Self {
        Self { url: url.to_owned(), ..Self::default() }
    }

    pub(super) fn named(&mut self, url: &str) {
        url.clone_into(&mut self.url);
    }

    pub(super) fn answered(&mut self, class: &'static str) {
        *self.statuses.entry(class).or_default() += 1;
    }

    pub(super) fn throttled(&mut self, now: Instant, wait: Duration) {
        self.throttled = self.waited(now);
        self.waiting = Some((now, now + wait));
    }

    pub(super) fn stopped(&mut self, stop: &Stop) {
        let cursor = stop.cursor.as_ref().map(|cursor| cursor.chars().take(MAX_CURSOR_CHARS).collect());
        self.stop = Some(Stop { cursor, ..stop.clone() });
    }

    fn waited(&self, now: Instant) -> Duration {
        self.throttled + self.waiting.map_or(Duration::ZERO, |(from, until)| now.min(until).saturating_duration_since(from))
    }

    pub(super) fn view(&self, now: Instant) -> SourceView {
        SourceView {
            url: self.url.clone(),
            statuses: self.statuses.iter().map(|(&class, &count)| (class.to_owned(), count)).collect(),
            throttled_micros: micros(self.waited(now)),
            stop: self.stop.clone(),
            // The ledger has the cursors of the reads.
            ..SourceView::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_counts_as_it_passes_and_not_past_its_end() {
        let (mut source, now) = (SourceMeter::new("http://x/"), Instant::now());
        source.throttled(now, Duration::from_secs(10));
        let at = |second| now + Duration::from_secs(second);
        assert_eq!(source.view(at(0)).throttled_micros, 0);
        assert_eq!(source.view(at(4)).throttled_micros, 4_000_000);
        assert_eq!(source.view(at(99)).throttled_micros, 10_000_000);
        source.throttled(at(99), Duration::from_secs(5));
        assert_eq!(source.view(at(101)).throttled_micros, 12_000_000);
        source.throttled(at(101), Duration::from_secs(1));
        assert_eq!(source.view(at(200)).throttled_micros, 13_000_000, "the second ended early");
    }

    #[test]
    fn statuses_are_counted() {
        let (mut source, now) = (SourceMeter::new("http://x/"), Instant::now());
        source.answered("2xx");
        source.answered("2xx");
        source.answered("none");
        let view = source.view(now);
        assert_eq!(view.statuses, BTreeMap::from([("2xx".to_owned(), 2), ("none".to_owned(), 1)]));
    }
}
