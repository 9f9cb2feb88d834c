//! Byte budgets for the edges between actors.
//!
//! The sender reserves bytes; the message owns the reservation until it has been processed.
//!
//! Guarantees:
//! * The bytes in flight never exceed the capacity.
//! * Reservations are granted in the order in which they were requested.
//! * Dropping a credit, wherever that happens, returns its bytes and wakes the next waiter.
//!
//! Does not guarantee that a caller weighs its bytes correctly.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use forebay_schemas::snapshot::EdgeView;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::clock::micros;

/// The byte budget of the edge between two actors. Clones share it.
#[derive(Clone)]
pub struct Budget(Arc<Edge>);

struct Edge {
    name: String,
    capacity: u32,
    free: Arc<Semaphore>,
    meter: Mutex<Meter>,
}

/// How long senders have waited. Simultaneous waits count once, so the meter never runs faster than
/// the clock.
#[derive(Default)]
struct Meter {
    total: Duration,
    waiting: usize,
    since: Option<Instant>,
}

impl Budget {
    /// A budget of `bytes`, clamped to 1 byte at least and 4 GiB less one byte at most. `name` is
    /// the edge, such as `consumer -> writer`.
    pub fn new(name: impl Into<String>, bytes: usize) -> Self {
        let capacity = u32::try_from(bytes).unwrap_or(u32::MAX).max(1);
        Self(Arc::new(Edge { name: name.into(), capacity, free: Arc::new(Semaphore::new(capacity as usize)), meter: Mutex::default() }))
    }

    /// Reserves `bytes`, or the whole capacity if that is less, once they are free. First come,
    /// first served. A future that is dropped leaves the queue and reserves nothing.
    pub async fn reserve(&self, bytes: usize) -> Credit {
        if let Some(credit) = self.try_reserve(bytes) {
            return credit;
        }
        let _waiting = Waiting::new(&self.0);
        let permit = Arc::clone(&self.0.free).acquire_many_owned(self.permits(bytes)).await;
        Credit(permit.expect("the semaphore of a budget is never closed"))
    }

    /// Reserves `bytes`, or the whole capacity if that is less, if they are free and nobody is
    /// waiting.
    pub fn try_reserve(&self, bytes: usize) -> Option<Credit> {
        Arc::clone(&self.0.free).try_acquire_many_owned(self.permits(bytes)).ok().map(Credit)
    }

    fn permits(&self, bytes: usize) -> u32 {
        u32::try_from(bytes).unwrap_or(u32::MAX).min(self.0.capacity)
    }

    /// The edge.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The most bytes that may be in flight.
    pub fn capacity(&self) -> usize {
        self.0.capacity as usize
    }

    /// The bytes in flight, including those already set aside for a waiter that needs more.
    pub fn used(&self) -> usize {
        self.capacity() - self.0.free.available_permits()
    }

    /// How long senders have waited since the start, a current wait included.
    pub fn blocked(&self) -> Duration {
        let meter = self.0.meter.lock();
        meter.total + meter.since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// Its current state.
    pub fn view(&self) -> EdgeView {
        EdgeView {
            name: self.0.name.clone(),
            used_bytes: self.used() as u64,
            budget_bytes: u64::from(self.0.capacity),
            blocked_micros: micros(self.blocked()),
        }
    }
}

impl fmt::Debug for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Budget({}: {} of {} bytes)", self.0.name, self.used(), self.capacity())
    }
}

/// Counts as a waiter until it is dropped.
struct Waiting<'a>(&'a Edge);

impl<'a> Waiting<'a> {
    fn new(edge: &'a Edge) -> Self {
        let mut meter = edge.meter.lock();
        meter.waiting += 1;
        meter.since.get_or_insert_with(Instant::now);
        drop(meter);
        Self(edge)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut meter = self.0.meter.lock();
        meter.waiting -= 1;
        if meter.waiting == 0 {
            let waited = meter.since.take().map_or(Duration::ZERO, |since| since.elapsed());
            meter.total += waited;
        }
    }
}

/// Bytes reserved from a [`Budget`]. Dropping it returns them.
#[derive(Debug)]
#[must_use = "dropping a credit returns its bytes"]
pub struct Credit(OwnedSemaphorePermit);

impl Credit {
    /// The reserved bytes.
    pub fn bytes(&self) -> usize {
        self.0.num_permits()
    }

    /// Returns what exceeds `bytes`.
    pub fn shrink_to(&mut self, bytes: usize) {
        drop(self.0.split(self.bytes().saturating_sub(bytes)));
    }

    /// Adds the bytes of `other`.
    ///
    /// # Panics
    /// If the two belong to different budgets.
    pub fn merge(&mut self, other: Credit) {
        self.0.merge(other.0);
    }
}

/// A message and the budget it holds until it has been processed.
#[derive(Debug)]
pub struct Lease<T> {
    /// The message.
    pub body: T,
    /// The budget.
    pub credit: Credit,
}

impl<T> Lease<T> {
    /// A message that holds `credit`.
    pub fn new(body: T, credit: Credit) -> Self {
        Self { body, credit }
    }

    /// Replaces the message. The new one holds the same budget.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Lease<U> {
        Lease { body: f(self.body), credit: self.credit }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn poll<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn a_reservation_waits_until_enough_credit_is_dropped() {
        let budget = Budget::new("a -> b", 100);
        let Poll::Ready(first) = poll(pin!(budget.reserve(80))) else { panic!("80 of 100 are free") };
        let mut second = pin!(budget.reserve(40));
        assert!(poll(second.as_mut()).is_pending());
        drop(first);
        let Poll::Ready(second) = poll(second) else { panic!("100 are free") };
        assert_eq!((second.bytes(), budget.used()), (40, 40));
    }

    #[test]
    fn a_small_reservation_does_not_overtake_a_large_one() {
        let budget = Budget::new("a -> b", 100);
        let first = budget.try_reserve(60).unwrap();
        let mut large = pin!(budget.reserve(90));
        assert!(poll(large.as_mut()).is_pending());
        let mut small = pin!(budget.reserve(10));
        assert!(poll(small.as_mut()).is_pending(), "10 are free, but the large one came first");
        assert!(budget.try_reserve(1).is_none());
        drop(first);
        let Poll::Ready(large) = poll(large) else { panic!("the large one is first") };
        let Poll::Ready(small) = poll(small) else { panic!("10 remain") };
        assert_eq!((large.bytes(), small.bytes()), (90, 10));
    }

    #[test]
    fn an_abandoned_reservation_takes_nothing_and_unblocks_the_next() {
        let budget = Budget::new("a -> b", 100);
        let first = budget.try_reserve(60).unwrap();
        {
            let mut large = pin!(budget.reserve(90));
            assert!(poll(large.as_mut()).is_pending());
        }
        assert_eq!(budget.used(), 60);
        assert!(budget.try_reserve(40).is_some());
        drop(first);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn a_reservation_beyond_the_capacity_gets_the_capacity() {
        let budget = Budget::new("a -> b", 100);
        assert_eq!(budget.try_reserve(usize::MAX).unwrap().bytes(), 100);
        assert_eq!(Budget::new("empty", 0).capacity(), 1, "a budget of zero would let everything pass");
    }

    #[test]
    fn shrinking_and_merging_credit_loses_nothing() {
        let budget = Budget::new("a -> b", 100);
        let mut credit = budget.try_reserve(70).unwrap();
        credit.shrink_to(20);
        credit.shrink_to(50);
        assert_eq!((credit.bytes(), budget.used()), (20, 20));
        credit.merge(budget.try_reserve(30).unwrap());
        assert_eq!((credit.bytes(), budget.used()), (50, 50));
        drop(credit);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn a_lease_keeps_its_credit_when_its_body_is_replaced() {
        let budget = Budget::new("a -> b", 100);
        let lease = Lease::new("12", budget.try_reserve(12).unwrap()).map(|text| text.parse::<u32>().unwrap());
        assert_eq!((lease.body, budget.used()), (12, 12));
        drop(lease);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn the_meter_runs_only_during_a_wait() {
        let budget = Budget::new("a -> b", 10);
        let first = budget.try_reserve(10).unwrap();
        assert_eq!(budget.blocked(), Duration::ZERO);
        {
            let mut second = pin!(budget.reserve(1));
            assert!(poll(second.as_mut()).is_pending());
            std::thread::sleep(Duration::from_millis(1));
            assert!(budget.blocked() > Duration::ZERO, "a wait that has not ended counts");
        }
        let blocked = budget.blocked();
        assert_eq!(blocked, budget.blocked());
        drop(first);
        assert_eq!(budget.view().blocked_micros, u64::try_from(blocked.as_micros()).unwrap());
    }
}
