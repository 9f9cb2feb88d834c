//! Leases of runs: which runs are cancelled because their clients are gone. Pure: callers pass the
//! time.
//!
//! Guarantees:
//! * The lease of a run expires only when no client has renewed it for its duration. A client that
//!   waits for a run holds the lease.
//! * A restart starts every lease over, so that no run is cancelled because the process was down.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use uuid::Uuid;

/// The leases of open runs.
#[derive(Debug, Default)]
pub(super) struct RunLeases(HashMap<Uuid, RunLease>);

#[derive(Debug)]
struct RunLease {
    renewed: Instant,
    /// The number of clients that wait for the run.
    holders: u32,
}

impl RunLeases {
    /// A client renews the lease, and holds it until [`RunLeases::release`].
    pub(super) fn hold(&mut self, run: Uuid, now: Instant) {
        let lease = self.0.entry(run).or_insert(RunLease { renewed: now, holders: 0 });
        lease.renewed = now;
        lease.holders += 1;
    }

    /// A client stops waiting.
    pub(super) fn release(&mut self, run: Uuid, now: Instant) {
        if let Some(lease) = self.0.get_mut(&run) {
            lease.renewed = now;
            lease.holders = lease.holders.saturating_sub(1);
        }
    }

    /// Returns the runs whose lease has expired. `open` are the open runs with a lease; all others
    /// are forgotten.
    pub(super) fn expired(&mut self, open: &[(Uuid, Duration)], now: Instant) -> Vec<(Uuid, Duration)> {
        self.0.retain(|run, lease| lease.holders > 0 || open.iter().any(|(other, _)| other == run));
        let is_expired = |(run, duration): &&(Uuid, Duration)| {
            let lease = self.0.entry(*run).or_insert(RunLease { renewed: now, holders: 0 });
            lease.holders == 0 && now.saturating_duration_since(lease.renewed) >= *duration
        };
        open.iter().filter(is_expired).copied().collect()
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
    fn a_lease_expires_when_no_client_renews_it() {
        let (mut leases, start) = (RunLeases::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        leases.hold(run(1).0, start);
        leases.release(run(1).0, start);
        assert_eq!(leases.expired(&[run(1)], at(29)), []);
        assert_eq!(leases.expired(&[run(1)], at(30)), [run(1)]);
        leases.hold(run(1).0, at(31));
        leases.release(run(1).0, at(32));
        assert_eq!(leases.expired(&[run(1)], at(61)), []);
        assert_eq!(leases.expired(&[run(1)], at(62)), [run(1)]);
    }

    #[test]
    fn a_waiting_client_holds_the_lease_however_long_it_waits() {
        let (mut leases, start) = (RunLeases::default(), Instant::now());
        leases.hold(run(1).0, start);
        assert_eq!(leases.expired(&[run(1)], start + 10 * LEASE), []);
        leases.release(run(1).0, start + 10 * LEASE);
        assert_eq!(leases.expired(&[run(1)], start + 11 * LEASE), [run(1)]);
    }

    #[test]
    fn a_restart_starts_the_lease_over() {
        let (mut leases, start) = (RunLeases::default(), Instant::now());
        assert_eq!(leases.expired(&[run(1)], start), []);
        assert_eq!(leases.expired(&[run(1)], start + LEASE), [run(1)]);
    }

    #[test]
    fn runs_that_have_ended_or_have_no_lease_are_forgotten() {
        let (mut leases, start) = (RunLeases::default(), Instant::now());
        for n in 0..100 {
            leases.hold(run(n).0, start);
            leases.release(run(n).0, start);
        }
        assert_eq!(leases.expired(&[run(7)], start), []);
        assert_eq!(leases.0.len(), 1);
    }
}
