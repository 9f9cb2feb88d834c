//! What is known of the API that is fetched from.
//!
//! Guarantee: the classes of status are a bounded set, and the time it was left alone never runs faster than the clock. Not guaranteed: that a wait
//! which is cut short counts less than it was meant to last until the next one begins.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use forebay_kernel::micros;
use forebay_schemas::run::Stop;
use forebay_schemas::snapshot::SourceView;

/// The longest cursor that is shown, in characters.
const CURSOR_MOST: usize = 256;

/// The API that is fetched from.
#[derive(Debug, Default)]
pub(super) struct Source {
    url: String,
    statuses: BTreeMap<&'static str, u64>,
    /// How the last fetch ended.
    stop: Option<Stop>,
    throttled: Duration,
    /// The wait of now: from, until.
    waiting: Option<(Instant, Instant)>,
}

impl Source {
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
        let cursor = stop.cursor.as_ref().map(|cursor| cursor.chars().take(CURSOR_MOST).collect());
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
            // Where reads are is the ledger's to say.
            ..SourceView::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_counts_as_it_passes_and_not_beyond_its_end() {
        let (mut source, now) = (Source::new("http://x/"), Instant::now());
        source.throttled(now, Duration::from_secs(10));
        let at = |second| now + Duration::from_secs(second);
        assert_eq!(source.view(at(0)).throttled_micros, 0);
        assert_eq!(source.view(at(4)).throttled_micros, 4_000_000);
        assert_eq!(source.view(at(99)).throttled_micros, 10_000_000);
        source.throttled(at(99), Duration::from_secs(5));
        assert_eq!(source.view(at(101)).throttled_micros, 12_000_000);
        source.throttled(at(101), Duration::from_secs(1));
        assert_eq!(source.view(at(200)).throttled_micros, 13_000_000, "the second was cut short");
    }

    #[test]
    fn statuses_are_counted() {
        let (mut source, now) = (Source::new("http://x/"), Instant::now());
        source.answered("2xx");
        source.answered("2xx");
        source.answered("none");
        let view = source.view(now);
        assert_eq!(view.statuses, BTreeMap::from([("2xx".to_owned(), 2), ("none".to_owned(), 1)]));
    }
}
