//! The pages that are with the producer. Pure.
//!
//! Guarantees:
//! * Pages are sent in the order in which they were fetched. When one is abandoned, it and all
//!   after it are sent again, so that the newest record of a key stays the last one of the topic.
//! * Pages are settled in that order, each once.
//!
//! Does not guarantee that a page is in the topic once: what is sent again may be there already.

use std::collections::VecDeque;

/// The pages `P` on their way, oldest first, each with the outcome `O` of its last attempt.
#[derive(Debug)]
pub(crate) struct Deliveries<P, O> {
    pages: VecDeque<(P, Sent<O>)>,
    attempts: u64,
    /// Whether nothing is sent, since the producer has abandoned a page a moment ago.
    held: bool,
}

#[derive(Debug)]
enum Sent<O> {
    No,
    /// In this attempt.
    Yes(u64),
    Settled(O),
}

impl<P, O> Default for Deliveries<P, O> {
    fn default() -> Self {
        Self { pages: VecDeque::new(), attempts: 0, held: false }
    }
}

impl<P: Clone, O> Deliveries<P, O> {
    /// Adds a page, to be sent.
    pub(crate) fn push(&mut self, page: P) {
        self.pages.push_back((page, Sent::No));
    }

    /// The pages that are not settled, oldest first.
    pub(crate) fn pages(&self) -> impl Iterator<Item = &P> {
        self.pages.iter().map(|(page, _)| page)
    }

    /// The pages to send now, each in an attempt with a number of its own.
    pub(crate) fn take_unsent(&mut self) -> Vec<(u64, P)> {
        if self.held {
            return Vec::new();
        }
        let attempts = &mut self.attempts;
        let unsent = self.pages.iter_mut().filter(|(_, sent)| matches!(sent, Sent::No));
        let send = |(page, sent): &mut (P, Sent<O>)| {
            *attempts += 1;
            *sent = Sent::Yes(*attempts);
            (*attempts, page.clone())
        };
        unsent.map(send).collect()
    }

    /// An attempt has ended; `None`: the producer abandoned it. Returns whether to call
    /// [`Deliveries::resume`] after a while.
    #[must_use]
    pub(crate) fn ended(&mut self, attempt: u64, outcome: Option<O>) -> bool {
        let Some(at) = self.pages.iter().position(|(_, sent)| matches!(sent, Sent::Yes(sent) if *sent == attempt)) else { return false };
        if let Some(outcome) = outcome {
            self.pages[at].1 = Sent::Settled(outcome);
            return false;
        }
        self.pages.range_mut(at..).for_each(|(_, sent)| *sent = Sent::No);
        !std::mem::replace(&mut self.held, true)
    }

    /// Pages may be sent again.
    pub(crate) fn resume(&mut self) {
        self.held = false;
    }

    /// The oldest page, if it is settled. It is removed.
    pub(crate) fn settled(&mut self) -> Option<(P, O)> {
        match self.pages.pop_front_if(|(_, sent)| matches!(sent, Sent::Settled(_)))? {
            (page, Sent::Settled(outcome)) => Some((page, outcome)),
            _ => None,
        }
    }

    /// Forgets the other pages. What was sent of them stays in Kafka.
    pub(crate) fn retain(&mut self, keeps: impl Fn(&P) -> bool) {
        self.pages.retain(|(page, _)| keeps(page));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_pages(count: u32) -> Deliveries<u32, ()> {
        let mut deliveries = Deliveries::default();
        (0..count).for_each(|page| deliveries.push(page));
        deliveries
    }

    fn settled(deliveries: &mut Deliveries<u32, ()>) -> Vec<u32> {
        std::iter::from_fn(|| deliveries.settled()).map(|(page, ())| page).collect()
    }

    #[test]
    fn pages_are_sent_once_and_settled_in_order() {
        let mut deliveries = with_pages(3);
        assert_eq!(deliveries.take_unsent(), [(1, 0), (2, 1), (3, 2)]);
        assert_eq!(deliveries.take_unsent(), []);
        assert!(!deliveries.ended(3, Some(())) && !deliveries.ended(2, Some(())));
        assert!(settled(&mut deliveries).is_empty(), "the oldest is not");
        assert!(!deliveries.ended(1, Some(())));
        assert_eq!(settled(&mut deliveries), [0, 1, 2]);
    }

    #[test]
    fn an_abandoned_page_and_all_after_it_are_sent_again_in_order() {
        let mut deliveries = with_pages(3);
        deliveries.take_unsent();
        assert!(!deliveries.ended(1, Some(())) && !deliveries.ended(3, Some(())));
        assert!(deliveries.ended(2, None));
        assert_eq!(deliveries.take_unsent(), [], "not before it resumes");
        assert_eq!(settled(&mut deliveries), [0]);
        assert!(!deliveries.ended(2, Some(())), "an attempt counts once");
        deliveries.resume();
        assert_eq!(deliveries.take_unsent(), [(4, 1), (5, 2)], "the last one was acknowledged before the one before it");
        assert!(!deliveries.ended(4, Some(())) && !deliveries.ended(5, Some(())));
        assert_eq!(settled(&mut deliveries), [1, 2]);
    }

    #[test]
    fn pages_that_one_producer_abandons_wait_once() {
        let mut deliveries = with_pages(2);
        deliveries.take_unsent();
        assert!(deliveries.ended(1, None));
        assert!(!deliveries.ended(2, None), "it is to be sent again already");
        deliveries.resume();
        assert_eq!(deliveries.take_unsent(), [(3, 0), (4, 1)]);
    }

    #[test]
    fn forgotten_pages_are_not_settled() {
        let mut deliveries = with_pages(3);
        deliveries.take_unsent();
        deliveries.retain(|page| *page == 1);
        assert!(!deliveries.ended(1, Some(())) && !deliveries.ended(2, Some(())));
        assert_eq!((settled(&mut deliveries), deliveries.pages().count()), (vec![1], 0));
    }
}
