//! The wait for budget, and the records that are held meanwhile.
//!
//! Guarantees:
//! * Held records stay in order until they are accepted or their partition is revoked.
//! * The budget's meter counts the time waited.
//!
//! Held records are not charged to the budget. There is one, provided that Kafka's client returns
//! nothing from a paused partition.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use forebay_kernel::{Budget, Credit};
use forebay_schemas::offset::{Offset, Partition};

use super::batch_builder::Incoming;
use super::state::bytes_to_resume;

/// An owned record.
#[derive(Debug)]
pub(super) struct HeldRecord {
    partition: Partition,
    offset: Offset,
    timestamp_ms: Option<i64>,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<u8>,
}

impl HeldRecord {
    fn new(record: &Incoming<'_>) -> Self {
        let &Incoming { partition, offset, timestamp_ms, key, value, headers } = record;
        let (key, value, headers) = (key.map(<[u8]>::to_vec), value.map(<[u8]>::to_vec), headers.to_vec());
        Self { partition, offset, timestamp_ms, key, value, headers }
    }

    pub(super) fn record(&self) -> Incoming<'_> {
        let &Self { partition, offset, timestamp_ms, .. } = self;
        Incoming { partition, offset, timestamp_ms, key: self.key.as_deref(), value: self.value.as_deref(), headers: &self.headers }
    }
}

/// A wait for budget.
pub(super) struct BudgetWait {
    held: VecDeque<HeldRecord>,
    pub(super) since: Instant,
    /// Whether the partitions are paused.
    pub(super) paused: bool,
    /// When the offsets of the paused partitions were last fetched.
    pub(super) offsets_fetched: Instant,
    reservation: Pin<Box<dyn Future<Output = Credit>>>,
}

impl BudgetWait {
    /// Holds `record` until there is budget for it.
    pub(super) fn new(record: &Incoming<'_>, budget: &Budget, now: Instant) -> Self {
        let reservation = reserve(budget, record.weight());
        Self { held: VecDeque::from([HeldRecord::new(record)]), since: now, paused: false, offsets_fetched: now, reservation }
    }

    /// Holds one more record.
    pub(super) fn push(&mut self, record: &Incoming<'_>) {
        self.held.push_back(HeldRecord::new(record));
    }

    /// Takes the first held record.
    pub(super) fn pop(&mut self) -> Option<HeldRecord> {
        self.held.pop_front()
    }

    /// Puts a record back in front, and waits for budget for it.
    pub(super) fn put_back(&mut self, record: HeldRecord, budget: &Budget) {
        self.reservation = reserve(budget, record.record().weight());
        self.held.push_front(record);
    }

    /// Waits for enough budget to make resuming the paused partitions worthwhile.
    pub(super) fn pause(&mut self, budget: &Budget) {
        let weight = self.held.front().map_or(0, |held| held.record().weight());
        self.reservation = reserve(budget, bytes_to_resume(budget.capacity(), weight));
        self.paused = true;
    }

    /// Drops the held records of `partitions`. They are not committed, so the next owner reads
    /// them.
    pub(super) fn discard(&mut self, partitions: &[Partition]) {
        self.held.retain(|held| !partitions.contains(&held.partition));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Returns the credit once it is granted.
    pub(super) fn granted(&mut self) -> Option<Credit> {
        match self.reservation.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(credit) => Some(credit),
            Poll::Pending => None,
        }
    }
}

/// Waits in the budget's queue, so that its meter counts the time.
fn reserve(budget: &Budget, bytes: usize) -> Pin<Box<dyn Future<Output = Credit>>> {
    let budget = budget.clone();
    Box::pin(async move { budget.reserve(bytes).await })
}
