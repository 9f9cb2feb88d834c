//! Records that came and have no room yet, and the wait for budget.
//!
//! Guarantee: what is held is kept, in order, until it is taken or its partition goes; the time waited shows in the budget's meter. Held records
//! are beside the budget: one, as long as Kafka's client keeps its word that a paused partition gives none.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use forebay_schemas::offset::{Offset, Partition};

use super::batch_builder::Incoming;
use super::state::to_resume;
use forebay_kernel::{Budget, Credit};

/// A record's own copy.
#[derive(Debug)]
pub(super) struct Held {
    partition: Partition,
    offset: Offset,
    timestamp_ms: Option<i64>,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<u8>,
}

impl Held {
    fn of(record: &Incoming<'_>) -> Self {
        let &Incoming { partition, offset, timestamp_ms, key, value, headers } = record;
        let (key, value, headers) = (key.map(<[u8]>::to_vec), value.map(<[u8]>::to_vec), headers.to_vec());
        Self { partition, offset, timestamp_ms, key, value, headers }
    }

    pub(super) fn record(&self) -> Incoming<'_> {
        let &Self { partition, offset, timestamp_ms, .. } = self;
        Incoming { partition, offset, timestamp_ms, key: self.key.as_deref(), value: self.value.as_deref(), headers: &self.headers }
    }
}

/// The wait for budget.
pub(super) struct Wait {
    held: VecDeque<Held>,
    /// When it began.
    pub(super) since: Instant,
    /// Whether the partitions are paused.
    pub(super) paused: bool,
    /// When the ends of paused partitions were last asked for; without fetches Kafka's client does not learn them.
    pub(super) looked: Instant,
    reservation: Pin<Box<dyn Future<Output = Credit>>>,
}

impl Wait {
    /// Holds `record` until there is budget for it.
    pub(super) fn new(record: &Incoming<'_>, budget: &Budget, now: Instant) -> Self {
        let reservation = reserve(budget, record.weight());
        Self { held: VecDeque::from([Held::of(record)]), since: now, paused: false, looked: now, reservation }
    }

    /// Holds one more.
    pub(super) fn push(&mut self, record: &Incoming<'_>) {
        self.held.push_back(Held::of(record));
    }

    /// The first record held is given out.
    pub(super) fn pop(&mut self) -> Option<Held> {
        self.held.pop_front()
    }

    /// It could not be taken after all: holds it again, as the first, and waits for budget for it.
    pub(super) fn put_back(&mut self, held: Held, budget: &Budget) {
        self.reservation = reserve(budget, held.record().weight());
        self.held.push_front(held);
    }

    /// The partitions are paused now: waits for as much as makes resuming them worth while.
    pub(super) fn pause(&mut self, budget: &Budget) {
        let weight = self.held.front().map_or(0, |held| held.record().weight());
        self.reservation = reserve(budget, to_resume(budget.capacity(), weight));
        self.paused = true;
    }

    /// Forgets what it holds of `partitions`: nobody has committed it, so who gets them next reads it.
    pub(super) fn forget(&mut self, partitions: &[Partition]) {
        self.held.retain(|held| !partitions.contains(&held.partition));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// The budget waited for, once it is free.
    pub(super) fn granted(&mut self) -> Option<Credit> {
        match self.reservation.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(credit) => Some(credit),
            Poll::Pending => None,
        }
    }
}

/// A reservation that is waited for, so that the budget's meter runs.
fn reserve(budget: &Budget, bytes: usize) -> Pin<Box<dyn Future<Output = Credit>>> {
    let budget = budget.clone();
    Box::pin(async move { budget.reserve(bytes).await })
}
