//! What has become of a page's records. Pure: a tally of acknowledgements, in whatever order they come.
//!
//! Guarantee: the end is said once, when every record has been answered for and no more will be sent; a page with one failure has failed.
//! Not guaranteed: that the ranges hold no other page's records; they are the smallest that hold this one's.

use forebay_schemas::offset::{Offset, Partition, Range};

use super::error::ProduceError;
use crate::message::PageProduced;
use forebay_dataplane::{Reason, RejectStage, reject_counts};

/// Where a record was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Destination {
    /// The topic.
    Topic,
    /// The dead-letter topic.
    DeadLetters,
}

/// A page's records on their way.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    page: PageProduced,
    in_flight: usize,
    sealed: bool,
    ended: bool,
    failure: Option<ProduceError>,
}

impl Tally {
    /// A record is on its way.
    pub(crate) fn sent(&mut self) {
        debug_assert!(!self.sealed, "a sealed page gets no more records");
        self.in_flight += 1;
    }

    /// A record is on its way into the dead-letter topic for this reason.
    pub(crate) fn because(&mut self, reason: &Reason) {
        reject_counts::add(&mut self.page.rejects, RejectStage::Produce, reason);
    }

    /// A record that was said to be on its way isn't.
    pub(crate) fn unsent(&mut self) {
        self.in_flight -= 1;
    }

    /// Kafka has a record.
    #[must_use]
    pub(crate) fn acked(&mut self, to: Destination, partition: Partition, offset: Offset) -> Option<Result<PageProduced, ProduceError>> {
        self.in_flight -= 1;
        match to {
            Destination::Topic => {
                self.page.produced += 1;
                self.page.ranges.add(partition, Range::of(offset));
            }
            Destination::DeadLetters => self.page.rejected += 1,
        }
        self.end()
    }

    /// Kafka won't have a record. The gravest failure of a page is the page's.
    #[must_use]
    pub(crate) fn failed(&mut self, error: ProduceError) -> Option<Result<PageProduced, ProduceError>> {
        self.in_flight -= 1;
        self.note(error);
        self.end()
    }

    /// No more records will be sent, for this reason if it is none of the page's end.
    #[must_use]
    pub(crate) fn seal(&mut self, cut_short: Option<ProduceError>) -> Option<Result<PageProduced, ProduceError>> {
        self.sealed = true;
        if let Some(error) = cut_short {
            self.note(error);
        }
        self.end()
    }

    fn note(&mut self, error: ProduceError) {
        let graver = |have: &ProduceError| gravity(&error) > gravity(have);
        if self.failure.as_ref().is_none_or(graver) {
            self.failure = Some(error);
        }
    }

    fn end(&mut self) -> Option<Result<PageProduced, ProduceError>> {
        if self.ended || !self.sealed || self.in_flight > 0 {
            return None;
        }
        self.ended = true;
        Some(self.failure.take().map_or_else(|| Ok(std::mem::take(&mut self.page)), Err))
    }
}

/// A refusal outweighs what a new client may mend, since the new client would meet it again; that one record is refused, which sending each alone
/// mends, is outweighed by both.
fn gravity(error: &ProduceError) -> u8 {
    match error {
        ProduceError::Stopped { .. } => 0,
        ProduceError::Record { .. } => 1,
        ProduceError::Broken { .. } => 2,
        ProduceError::Refused(_) => 3,
        ProduceError::Denied { .. } => 4,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::message::PageRefused;

    fn broken() -> ProduceError {
        ProduceError::Broken { topic: "t".into(), cause: "x".into() }
    }

    #[test]
    fn the_end_is_said_once_when_the_last_record_is_acknowledged_and_no_more_will_come() {
        let mut tally = Tally::default();
        tally.sent();
        tally.sent();
        assert_eq!(tally.acked(Destination::Topic, 1, 8), None);
        assert_eq!(tally.acked(Destination::DeadLetters, 0, 3), None, "it may get more");
        tally.sent();
        assert_eq!(tally.seal(None), None);
        let page = tally.acked(Destination::Topic, 1, 5).unwrap().unwrap();
        assert_eq!((page.produced, page.rejected), (2, 1));
        assert_eq!(page.ranges.0, BTreeMap::from([(1, Range { from: 5, to: 9 })]));
        assert_eq!(tally.seal(None), None);
    }

    #[test]
    fn an_empty_page_ends_when_it_is_sealed() {
        assert_eq!(Tally::default().seal(None), Some(Ok(PageProduced::default())));
    }

    #[test]
    fn one_failure_fails_the_page_after_all_its_records_are_answered_for() {
        let mut tally = Tally::default();
        tally.sent();
        tally.sent();
        assert_eq!(tally.seal(None), None);
        assert_eq!(tally.failed(broken()), None);
        assert_eq!(tally.acked(Destination::Topic, 0, 0), Some(Err(broken())));
    }

    #[test]
    fn a_refusal_outweighs_a_failure_that_a_new_client_may_mend() {
        let refused = ProduceError::Refused(PageRefused("no".into()));
        for errors in [[broken(), refused.clone()], [refused.clone(), broken()]] {
            let mut tally = Tally::default();
            let mut end = None;
            tally.sent();
            tally.sent();
            assert_eq!(tally.seal(None), None);
            for error in errors {
                end = tally.failed(error);
            }
            assert_eq!(end, Some(Err(refused.clone())));
        }
    }

    proptest! {
        #[test]
        fn acknowledgements_in_any_order_give_the_same_ranges(mut offsets in prop::collection::hash_set((0..3_i32, 0..100_i64), 1..40)
            .prop_map(|set| set.into_iter().collect::<Vec<_>>()).prop_shuffle()) {
            let tally_of = |offsets: &[(i32, i64)]| {
                let mut tally = Tally::default();
                offsets.iter().for_each(|_| tally.sent());
                assert_eq!(tally.seal(None), None);
                offsets.iter().filter_map(|&(partition, offset)| tally.acked(Destination::Topic, partition, offset)).last().unwrap().unwrap()
            };
            let shuffled = tally_of(&offsets);
            offsets.sort_unstable();
            prop_assert_eq!(shuffled, tally_of(&offsets));
        }
    }
}
