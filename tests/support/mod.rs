//! Shared by the whole-system tests: a pipeline under test, the built program as a process, a
//! source API, and records for the users example.

#![allow(dead_code, reason = "each test target uses its own part")]

pub(crate) mod control_api;
mod job;
mod kafka;
pub(crate) mod oracle;
mod process;
mod redrive;
pub(crate) mod resources;
mod secured_api;
pub(crate) mod source_api;
mod users;

#[allow(unused_imports, reason = "each test target uses its own part")]
pub(crate) use self::{job::*, kafka::*, process::*, redrive::*, secured_api::*, users::*};

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Maximum time for any wait in a test.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(120);

/// A name for a topic or keyspace that no other test uses.
pub(crate) fn unique(prefix: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{prefix}_{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Writes a secret to a file that only its owner may read; the program refuses others.
pub(crate) fn write_secret(path: &std::path::Path, text: &str) {
    use std::os::unix::fs::OpenOptionsExt as _;
    let file = std::fs::File::options().create(true).truncate(true).write(true).mode(0o600).open(path);
    std::io::Write::write_all(&mut file.unwrap(), text.as_bytes()).unwrap();
}

/// Milliseconds since the epoch.
pub(crate) fn now_ms() -> i64 {
    i64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_millis()).unwrap()
}
