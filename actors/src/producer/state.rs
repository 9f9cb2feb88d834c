//! Tracks the delivery of a page's records. Pure: acknowledgements may arrive in any order.
//!
//! Guarantees:
//! * The outcome is returned once, when every record is acknowledged or failed and no more will be
//!   sent.
//! * A page with one failed record has failed.
//!
//! Does not guarantee that the offset ranges contain no records of other pages. They are the
//! smallest that contain this one's.

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

/// The delivery of one page.
#[derive(Debug, Default)]
pub(crate) struct DeliveryTracker {
    page: PageProduced,
    in_flight: usize,
    sealed: bool,
    ended: bool,
    failure: Option<ProduceError>,
}

impl DeliveryTracker {
    /// A record was sent.
    pub(crate) fn sent(&mut self) {
        debug_assert!(!self.sealed, "no record is sent after the page is sealed");
        self.in_flight += 1;
    }

    /// A record goes to the dead-letter topic for this reason.
    pub(crate) fn rejected(&mut self, reason: &Reason) {
        reject_counts::add(&mut self.page.rejects, RejectStage::Produce, reason);
    }

    /// The record that was counted as sent was not.
    pub(crate) fn unsent(&mut self) {
        self.in_flight -= 1;
    }

    /// Kafka acknowledged a record.
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
        self.outcome()
    }

    /// A record failed. The most severe failure is that of the page.
    #[must_use]
    pub(crate) fn failed(&mut self, error: ProduceError) -> Option<Result<PageProduced, ProduceError>> {
        self.in_flight -= 1;
        self.note(error);
        self.outcome()
    }

    /// No more records will be sent. `error` says why not all were.
    #[must_use]
    pub(crate) fn seal(&mut self, error: Option<ProduceError>) -> Option<Result<PageProduced, ProduceError>> {
        self.sealed = true;
        if let Some(error) = error {
            self.note(error);
        }
        self.outcome()
    }

    fn note(&mut self, error: ProduceError) {
        let is_worse = |known: &ProduceError| severity(&error) > severity(known);
        if self.failure.as_ref().is_none_or(is_worse) {
            self.failure = Some(error);
        }
    }

    fn outcome(&mut self) -> Option<Result<PageProduced, ProduceError>> {
        if self.ended || !self.sealed || self.in_flight > 0 {
            return None;
        }
        self.ended = true;
        Some(self.failure.take().map_or_else(|| Ok(std::mem::take(&mut self.page)), Err))
    }
}

/// A refusal outweighs an error that a new client may fix, since the new client would get it again.
/// Both outweigh the refusal of one record, which sending each record alone fixes.
fn severity(error: &ProduceError) -> u8 {
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
    fn the_outcome_is_returned_once_after_the_last_acknowledgement() {
        let mut tracker = DeliveryTracker::default();
        tracker.sent();
        tracker.sent();
        assert_eq!(tracker.acked(Destination::Topic, 1, Offset(8)), None);
        assert_eq!(tracker.acked(Destination::DeadLetters, 0, Offset(3)), None, "more may be sent");
        tracker.sent();
        assert_eq!(tracker.seal(None), None);
        let page = tracker.acked(Destination::Topic, 1, Offset(5)).unwrap().unwrap();
        assert_eq!((page.produced, page.rejected), (2, 1));
        assert_eq!(page.ranges.0, BTreeMap::from([(1, Range { from: Offset(5), to: Offset(9) })]));
        assert_eq!(tracker.seal(None), None);
    }

    #[test]
    fn an_empty_page_is_done_when_it_is_sealed() {
        assert_eq!(DeliveryTracker::default().seal(None), Some(Ok(PageProduced::default())));
    }

    #[test]
    fn one_failure_fails_the_page_once_all_its_records_are_answered() {
        let mut tracker = DeliveryTracker::default();
        tracker.sent();
        tracker.sent();
        assert_eq!(tracker.seal(None), None);
        assert_eq!(tracker.failed(broken()), None);
        assert_eq!(tracker.acked(Destination::Topic, 0, Offset(0)), Some(Err(broken())));
    }

    #[test]
    fn a_refusal_outweighs_an_error_that_a_new_client_may_fix() {
        let refused = ProduceError::Refused(PageRefused("no".into()));
        for errors in [[broken(), refused.clone()], [refused.clone(), broken()]] {
            let mut tracker = DeliveryTracker::default();
            let mut outcome = None;
            tracker.sent();
            tracker.sent();
            assert_eq!(tracker.seal(None), None);
            for error in errors {
                outcome = tracker.failed(error);
            }
            assert_eq!(outcome, Some(Err(refused.clone())));
        }
    }

    proptest! {
        #[test]
        fn acknowledgements_in_any_order_give_the_same_ranges(mut offsets in prop::collection::hash_set((0..3_i32, 0..100_i64), 1..40)
            .prop_map(|set| set.into_iter().collect::<Vec<_>>()).prop_shuffle()) {
            let tracked = |offsets: &[(i32, i64)]| {
                let mut tracker = DeliveryTracker::default();
                offsets.iter().for_each(|_| tracker.sent());
                assert_eq!(tracker.seal(None), None);
                offsets.iter().filter_map(|&(partition, offset)| tracker.acked(Destination::Topic, partition, Offset(offset))).last().unwrap().unwrap()
            };
            let shuffled = tracked(&offsets);
            offsets.sort_unstable();
            prop_assert_eq!(shuffled, tracked(&offsets));
        }
    }
}
