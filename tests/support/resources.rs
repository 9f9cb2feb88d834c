//! What a process under test holds, how fast it recovers, and the bounds of both.
//!
//! The bounds are generous, so that a busy machine does not exceed them, and far below what a leak
//! or a hang reaches.

#![allow(clippy::print_stderr, reason = "a test prints what it measures")]

use std::time::{Duration, Instant};

use serde_json::Value;

use super::Running;

/// Maximum resident memory with the default budgets: 150 MB (OPERATIONS.md, Memory), plus the
/// budgets of consumer and producer.
pub(crate) const MAX_RESIDENT_BYTES: u64 = 150_000_000 + 2 * (32 << 20);

/// Maximum number of descriptors, as in `make soak`. About 60 are open with a real Kafka and a real
/// Cassandra.
const MAX_DESCRIPTORS: usize = 300;

/// How many more descriptors may be open after a fault than before: a client opens a second
/// connection before it closes the first one.
const MAX_MORE_DESCRIPTORS: usize = 16;

/// How long a closed connection may stay open: Kafka's client closes a silent one after
/// `socket.timeout.ms`, at most 10 seconds in these tests.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(30);

/// How long records may take to flow again once a fault has ended: 30 seconds, plus
/// `socket.timeout.ms` of Kafka's client (10 seconds where a network fails), plus 20 seconds for a
/// busy machine.
pub(crate) const MAX_RECOVERY: Duration = Duration::from_secs(60);

/// A field of `/proc/PID/status` in bytes (`man 5 proc_pid_status`).
pub(crate) fn process_bytes(pid: u32, field: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    line.map_or(0, |line| line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10)
}

/// The user and system time of this process.
pub(crate) fn own_cpu() -> Duration {
    cpu([13, 14])
}

/// The user and system time of the child processes that have ended.
pub(crate) fn children_cpu() -> Duration {
    cpu([15, 16])
}

/// Sums two fields (counted from 0) of `/proc/self/stat`, which Linux reports in hundredths of a
/// second.
fn cpu(fields: [usize; 2]) -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let after_name = stat.rsplit_once(')').unwrap().1;
    let ticks: Vec<u64> = after_name.split_whitespace().skip(1).map(|field| field.parse().unwrap_or(0)).collect();
    Duration::from_millis(fields.iter().map(|field| ticks[field - 3] * 10).sum())
}

/// The number of open descriptors of a process; 0 once it has ended.
pub(crate) fn descriptors(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}

/// What a process held before a fault.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Resources {
    descriptors: usize,
}

impl Resources {
    pub(crate) fn of(running: &Running) -> Self {
        Self { descriptors: descriptors(running.id()) }
    }

    /// Asserts that the process never held more memory than it may, and that it has closed what the
    /// fault broke, or does so soon.
    pub(crate) fn assert_bounded(self, running: &Running) {
        assert_bounded(running);
        let (limit, until) = (self.descriptors + MAX_MORE_DESCRIPTORS, Instant::now() + CLOSE_TIMEOUT);
        loop {
            let now = descriptors(running.id());
            if now <= limit {
                eprintln!("{} descriptors before the fault, {now} after it", self.descriptors);
                return;
            }
            assert!(Instant::now() < until, "{now} descriptors are open, {} were before the fault", self.descriptors);
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

/// Asserts that a process never held more memory than it may, and holds no more descriptors.
/// Returns the memory that was resident at most, in bytes.
pub(crate) fn assert_bounded(running: &Running) -> u64 {
    let (resident, descriptors) = (process_bytes(running.id(), "VmHWM"), descriptors(running.id()));
    assert!(resident < MAX_RESIDENT_BYTES, "{resident} bytes were resident; the limit is {MAX_RESIDENT_BYTES}");
    assert!(descriptors < MAX_DESCRIPTORS, "{descriptors} descriptors are open; the limit is {MAX_DESCRIPTORS}");
    resident
}

/// Waits until `more` records are written, and asserts that this takes no longer than it may.
/// Returns how long it took.
pub(crate) fn recovered(running: &Running, after: &str, more: u64) -> Duration {
    let written = |s: &Value| s["totals"]["written"].as_u64().unwrap();
    let (began, before) = (Instant::now(), written(&running.snapshot()));
    running.wait_until(&format!("records flow after {after}"), |s| written(s) > before + more);
    let took = began.elapsed();
    eprintln!("records flow {took:?} after {after}");
    assert!(took < MAX_RECOVERY, "records flow only {took:?} after {after}; the limit is {MAX_RECOVERY:?}");
    took
}
