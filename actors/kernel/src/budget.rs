//! Budgets of bytes: who sends first reserves, and the message carries what was reserved until its effect is done.
//!
//! Guarantee: what is out never exceeds the capacity; reservations are served in the order they were asked for; credit comes home when it is
//! dropped, wherever that happens, and wakes who waits. Not guaranteed: that bytes are counted right; the weight is the caller's word.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use forebay_schemas::snapshot::EdgeView;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::clock::micros;

/// Budget of bytes of the edge between two actors. Clones share it.
#[derive(Clone)]
pub struct Budget(Arc<Edge>);

struct Edge {
    name: String,
    capacity: u32,
    free: Arc<Semaphore>,
    meter: Mutex<Meter>,
}

/// How long anybody has waited. Several who wait at once count once, so it never runs faster than the clock.
#[derive(Default)]
struct Meter {
    total: Duration,
    waiting: usize,
    since: Option<Instant>,
}

impl Budget {
    /// A budget of `bytes`: at least 1, and at most 4 GiB less one byte, to which other numbers are brought. `name` says whose edge it is, such
    /// as `consumer -> writer`.
    pub fn new(name: impl Into<String>, bytes: usize) -> Self {
        let capacity = u32::try_from(bytes).unwrap_or(u32::MAX).max(1);
        Self(Arc::new(Edge { name: name.into(), capacity, free: Arc::new(Semaphore::new(capacity as usize)), meter: Mutex::default() }))
    }

    /// Reserves `bytes`, waiting until they are free; more than the capacity reserves the capacity. First come, first served. A future that is
    /// dropped leaves the queue and takes nothing.
    pub async fn reserve(&self, bytes: usize) -> Credit {
        if let Some(credit) = self.try_reserve(bytes) {
            return credit;
        }
        let _waiting = Waiting::new(&self.0);
        let permit = Arc::clone(&self.0.free).acquire_many_owned(self.permits(bytes)).await;
        Credit(permit.expect("the semaphore of a budget is never closed"))
    }

    /// Reserves `bytes` if they are free and nobody is waiting for them; more than the capacity reserves the capacity.
    pub fn try_reserve(&self, bytes: usize) -> Option<Credit> {
        Arc::clone(&self.0.free).try_acquire_many_owned(self.permits(bytes)).ok().map(Credit)
    }

    fn permits(&self, bytes: usize) -> u32 {
        u32::try_from(bytes).unwrap_or(u32::MAX).min(self.0.capacity)
    }

    /// Whose edge it is.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// How many bytes may be out at most.
    pub fn capacity(&self) -> usize {
        self.0.capacity as usize
    }

    /// How many bytes are out, those included that are put aside already for who waits for more.
    pub fn used(&self) -> usize {
        self.capacity() - self.0.free.available_permits()
    }

    /// For how long somebody has waited for budget since the start, the present wait included.
    pub fn blocked(&self) -> Duration {
        let meter = self.0.meter();
        meter.total + meter.since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// One look at it.
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

impl Edge {
    fn meter(&self) -> MutexGuard<'_, Meter> {
        self.meter.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Somebody waits, until this is dropped.
struct Waiting<'a>(&'a Edge);

impl<'a> Waiting<'a> {
    fn new(edge: &'a Edge) -> Self {
        let mut meter = edge.meter();
        meter.waiting += 1;
        meter.since.get_or_insert_with(Instant::now);
        drop(meter);
        Self(edge)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut meter = self.0.meter();
        meter.waiting -= 1;
        if meter.waiting == 0 {
            let waited = meter.since.take().map_or(Duration::ZERO, |since| since.elapsed());
            meter.total += waited;
        }
    }
}

/// Bytes reserved of a [`Budget`]. Dropped, they are free again.
#[derive(Debug)]
#[must_use = "credit that is dropped is given back"]
pub struct Credit(OwnedSemaphorePermit);

impl Credit {
    /// How many bytes it holds.
    pub fn bytes(&self) -> usize {
        self.0.num_permits()
    }

    /// Gives back what it holds beyond `bytes`.
    pub fn shrink_to(&mut self, bytes: usize) {
        drop(self.0.split(self.bytes().saturating_sub(bytes)));
    }

    /// Takes over what `other` holds.
    ///
    /// # Panics
    /// When the two are of different budgets.
    pub fn merge(&mut self, other: Credit) {
        self.0.merge(other.0);
    }
}

/// A message and the budget it holds until its effect is done.
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

    /// Makes another message of it, which holds the same budget.
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
    fn a_reservation_waits_for_what_is_out_and_gets_it_when_credit_is_dropped() {
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
        assert!(poll(small.as_mut()).is_pending(), "10 are free, but they belong to who came first");
        assert!(budget.try_reserve(1).is_none());
        drop(first);
        let Poll::Ready(large) = poll(large) else { panic!("the large one is first") };
        let Poll::Ready(small) = poll(small) else { panic!("10 remain") };
        assert_eq!((large.bytes(), small.bytes()), (90, 10));
    }

    #[test]
    fn a_reservation_that_is_given_up_takes_nothing_and_lets_the_next_pass() {
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
    fn more_than_the_capacity_reserves_the_capacity() {
        let budget = Budget::new("a -> b", 100);
        assert_eq!(budget.try_reserve(usize::MAX).unwrap().bytes(), 100);
        assert_eq!(Budget::new("empty", 0).capacity(), 1, "a budget of nothing would let everything pass");
    }

    #[test]
    fn credit_is_shrunk_and_merged_without_loss() {
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
    fn a_lease_keeps_its_credit_when_its_body_becomes_another() {
        let budget = Budget::new("a -> b", 100);
        let lease = Lease::new("12", budget.try_reserve(12).unwrap()).map(|text| text.parse::<u32>().unwrap());
        assert_eq!((lease.body, budget.used()), (12, 12));
        drop(lease);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn the_meter_runs_only_while_somebody_waits() {
        let budget = Budget::new("a -> b", 10);
        let first = budget.try_reserve(10).unwrap();
        assert_eq!(budget.blocked(), Duration::ZERO);
        {
            let mut second = pin!(budget.reserve(1));
            assert!(poll(second.as_mut()).is_pending());
            std::thread::sleep(Duration::from_millis(1));
            assert!(budget.blocked() > Duration::ZERO, "a wait that has not ended shows");
        }
        let blocked = budget.blocked();
        assert_eq!(blocked, budget.blocked());
        drop(first);
        assert_eq!(budget.view().blocked_micros, u64::try_from(blocked.as_micros()).unwrap());
    }
}
