//! Leases of runs: which are to be called off because nobody asks for them any more. Pure: it is told the time.
//!
//! Guarantee: a run with a lease is overdue only when nobody has asked for it for all of its lease, and a request that still waits counts as asking. Not
//! guaranteed: anything over a restart; a lease then begins anew, so that a run is not called off because the process was away.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use uuid::Uuid;

/// When each run was last asked for.
#[derive(Debug, Default)]
pub(super) struct Leases(HashMap<Uuid, Lease>);

#[derive(Debug)]
struct Lease {
    heard: Instant,
    /// Requests that wait for it.
    waiting: u32,
}

impl Leases {
    /// Somebody asks for a run, and may wait on until [`Leases::left`].
    pub(super) fn asked(&mut self, run: Uuid, now: Instant) {
        let lease = self.0.entry(run).or_insert(Lease { heard: now, waiting: 0 });
        lease.heard = now;
        lease.waiting += 1;
    }

    /// Who asked has the answer, or is gone.
    pub(super) fn left(&mut self, run: Uuid, now: Instant) {
        if let Some(lease) = self.0.get_mut(&run) {
            lease.heard = now;
            lease.waiting = lease.waiting.saturating_sub(1);
        }
    }

    /// The runs whose lease is over, out of those that are open and have one; what is known of all others is forgotten.
    pub(super) fn overdue(&mut self, open: &[(Uuid, Duration)], now: Instant) -> Vec<(Uuid, Duration)> {
        self.0.retain(|run, lease| lease.waiting > 0 || open.iter().any(|(other, _)| other == run));
        let is_over = |(run, lease): &&(Uuid, Duration)| {
            let known = self.0.entry(*run).or_insert(Lease { heard: now, waiting: 0 });
            known.waiting == 0 && now.saturating_duration_since(known.heard) >= *lease
        };
        open.iter().filter(is_over).copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(30);

    fn run(n: u128) -> (Uuid, Duration) {
        (Uuid::from_u128(n), LEASE)
    }

    #[test]
    fn a_run_is_overdue_when_nobody_has_asked_for_it_for_its_lease() {
        let (mut leases, start) = (Leases::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        leases.asked(run(1).0, start);
        leases.left(run(1).0, start);
        assert_eq!(leases.overdue(&[run(1)], at(29)), []);
        assert_eq!(leases.overdue(&[run(1)], at(30)), [run(1)]);
        leases.asked(run(1).0, at(31));
        leases.left(run(1).0, at(32));
        assert_eq!(leases.overdue(&[run(1)], at(61)), []);
        assert_eq!(leases.overdue(&[run(1)], at(62)), [run(1)]);
    }

    #[test]
    fn a_request_that_waits_counts_as_asking_however_long_it_waits() {
        let (mut leases, start) = (Leases::default(), Instant::now());
        leases.asked(run(1).0, start);
        assert_eq!(leases.overdue(&[run(1)], start + 10 * LEASE), []);
        leases.left(run(1).0, start + 10 * LEASE);
        assert_eq!(leases.overdue(&[run(1)], start + 11 * LEASE), [run(1)]);
    }

    #[test]
    fn a_lease_begins_when_it_is_first_seen_so_a_restart_begins_it_anew() {
        let (mut leases, start) = (Leases::default(), Instant::now());
        assert_eq!(leases.overdue(&[run(1)], start), []);
        assert_eq!(leases.overdue(&[run(1)], start + LEASE), [run(1)]);
    }

    #[test]
    fn runs_that_have_ended_or_have_no_lease_are_forgotten() {
        let (mut leases, start) = (Leases::default(), Instant::now());
        for n in 0..100 {
            leases.asked(run(n).0, start);
            leases.left(run(n).0, start);
        }
        assert_eq!(leases.overdue(&[run(7)], start), []);
        assert_eq!(leases.0.len(), 1);
    }
}
