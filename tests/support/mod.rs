//! What the whole-system tests share: a pipeline file in a folder of its own, the built program as a process, an API to fetch from,
//! and records that fit the users example.

#![allow(dead_code, reason = "each test target uses its own part")]

pub(crate) mod control_api;
mod job;
mod kafka;
pub(crate) mod oracle;
mod process;
mod redrive;
pub(crate) mod source_api;
mod users;

#[allow(unused_imports, reason = "each test target uses its own part")]
pub(crate) use self::{job::*, kafka::*, process::*, redrive::*, users::*};

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// The longest that anything in a test may take before the test says what hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// A name that no other test of this run has, for topics and keyspaces.
pub(crate) fn unique(prefix: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{prefix}_{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Milliseconds since the epoch.
pub(crate) fn now_ms() -> i64 {
    i64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_millis()).unwrap()
}
