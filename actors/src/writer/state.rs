//! What the writer decides, without doing it: which batches are under way, how long to wait, what to say of it.

use forebay_dataplane::Reject;
use forebay_kernel::Backoff;
use std::collections::{BTreeMap, HashSet, VecDeque};
use std::time::Duration;

/// Delays between attempts.
pub(crate) const BACKOFF: Backoff = Backoff { min: Duration::from_millis(100), max: Duration::from_secs(10) };
/// How many batches are under way at a time: one is checked and one is answered while another is sent. The rest wait; their number has
/// no limit but the budget they hold.
pub(crate) const AT_ONCE: usize = 4;

/// Batches: waiting in the order they came, and under way.
#[derive(Debug)]
pub(crate) struct Desk<T> {
    waiting: VecDeque<T>,
    under_way: usize,
}

impl<T> Default for Desk<T> {
    fn default() -> Self {
        Self { waiting: VecDeque::new(), under_way: 0 }
    }
}

impl<T> Desk<T> {
    /// A batch has come.
    pub(crate) fn arrive(&mut self, batch: T) {
        self.waiting.push_back(batch);
    }

    /// The next batch to begin, if one may.
    pub(crate) fn begin(&mut self) -> Option<T> {
        if self.under_way >= AT_ONCE {
            return None;
        }
        let batch = self.waiting.pop_front()?;
        self.under_way += 1;
        Some(batch)
    }

    /// A batch is done.
    pub(crate) fn done(&mut self) {
        self.under_way = self.under_way.saturating_sub(1);
    }

    /// Whether nothing waits and nothing is under way.
    pub(crate) fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.under_way == 0
    }
}

/// The attempts at one thing.
#[derive(Debug, Default)]
pub(crate) struct Attempts {
    failed: u32,
}

impl Attempts {
    /// Another attempt failed. Gives the delay before the next; one that moved something counts as the first. `jitter` is in [0, 1).
    pub(crate) fn failed(&mut self, moved: bool, jitter: f64) -> Duration {
        if moved {
            self.failed = 0;
        }
        let delay = BACKOFF.delay(self.failed, jitter);
        self.failed = self.failed.saturating_add(1);
        delay
    }

    /// What the status note says.
    pub(crate) fn note(&self, trouble: &str, next: Duration) -> String {
        format!("{trouble} (attempt {}, next in {:.1} s)", self.failed, next.as_secs_f64())
    }
}

/// Who waits for what. Several may wait at a time, and the actor has one note.
#[derive(Debug, Default)]
pub(crate) struct Outages {
    waiting: BTreeMap<u64, String>,
    last: Option<String>,
}

/// What to say after a change.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Say {
    /// A trouble that was not said before.
    New,
    /// The same trouble, still.
    Still,
    /// The last trouble has passed.
    Passed,
    /// Nothing.
    Nothing,
}

impl Outages {
    /// `who` waits for `trouble` to pass.
    pub(crate) fn wait(&mut self, who: u64, trouble: &str) -> Say {
        self.waiting.insert(who, trouble.to_owned());
        if self.last.as_deref() == Some(trouble) {
            return Say::Still;
        }
        self.last = Some(trouble.to_owned());
        Say::New
    }

    /// `who` waits no longer.
    pub(crate) fn over(&mut self, who: u64) -> Say {
        if self.waiting.remove(&who).is_none() || !self.waiting.is_empty() {
            return Say::Nothing;
        }
        self.last = None;
        Say::Passed
    }

    /// Whether somebody waits.
    pub(crate) fn any(&self) -> bool {
        !self.waiting.is_empty()
    }
}

/// One dead letter a record, the first reason for it, in the order of the records: a record can give several rows, and several be bad.
/// `sent` remembers the records whose dead letters are in the topic already.
pub(crate) fn letters(rejects: &[Reject], sent: &mut HashSet<u32>) -> Vec<Reject> {
    let mut letters: Vec<Reject> = rejects.iter().filter(|reject| sent.insert(reject.record)).cloned().collect();
    letters.sort_by_key(|letter| letter.record);
    letters
}

#[cfg(test)]
mod tests {
    use super::*;
    use forebay_dataplane::{Reason, RejectStage};

    #[test]
    fn batches_begin_in_order_and_only_so_many_at_a_time() {
        let mut desk = Desk::default();
        (0..6).for_each(|batch| desk.arrive(batch));
        let begun: Vec<i32> = std::iter::from_fn(|| desk.begin()).collect();
        assert_eq!(begun, [0, 1, 2, 3]);
        desk.done();
        assert_eq!((desk.begin(), desk.begin()), (Some(4), None));
        (0..5).for_each(|_| desk.done());
        assert!(!desk.is_idle());
        assert_eq!(desk.begin(), Some(5));
        desk.done();
        assert!(desk.is_idle());
    }

    #[test]
    fn attempts_wait_longer_each_time_and_start_over_once_something_moved() {
        let mut attempts = Attempts::default();
        let delays: Vec<_> = (0..9).map(|_| attempts.failed(false, 0.0).as_millis()).collect();
        assert_eq!(delays, [100, 200, 400, 800, 1_600, 3_200, 6_400, 10_000, 10_000]);
        assert_eq!(attempts.failed(true, 0.0).as_millis(), 100);
        assert_eq!(
            attempts.note("cassandra 127.0.0.1:9042: refused", Duration::from_millis(2_100)),
            "cassandra 127.0.0.1:9042: refused (attempt 1, next in 2.1 s)"
        );
    }

    #[test]
    fn a_trouble_is_said_once_and_its_passing_when_the_last_one_waits_no_longer() {
        let mut outages = Outages::default();
        assert_eq!(outages.over(1), Say::Nothing);
        assert_eq!(outages.wait(1, "refused"), Say::New);
        assert_eq!(outages.wait(2, "refused"), Say::Still);
        assert_eq!(outages.wait(2, "no answer"), Say::New);
        assert_eq!(outages.over(1), Say::Nothing);
        assert!(outages.any());
        assert_eq!(outages.over(2), Say::Passed);
        assert_eq!(outages.wait(3, "no answer"), Say::New);
    }

    #[test]
    fn a_record_gives_one_dead_letter_however_many_of_its_rows_are_bad() {
        let reject = |record, reason: &str| Reject { record, stage: RejectStage::Write, reason: Reason::plain(reason) };
        let mut sent = HashSet::new();
        let first = letters(&[reject(7, "a"), reject(3, "b"), reject(7, "c")], &mut sent);
        assert_eq!(first, [reject(3, "b"), reject(7, "a")]);
        assert_eq!(letters(&[reject(3, "late"), reject(9, "d")], &mut sent), [reject(9, "d")]);
    }
}
