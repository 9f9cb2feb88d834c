//! Failpoints: named locations where a test makes the program fail. Code calls `point` where the
//! thread may block, and `point_async` elsewhere.
//!
//! Without the feature `failpoints` they do nothing. With it, the environment variable `FAILPOINTS`
//! configures them in the syntax of the crate `fail` (`panic`, `sleep`, `pause`, `off`), such as
//! `FAILPOINTS="writer::before_write=5*off->panic(requested)"`. In addition, `return(kill)` kills
//! the process as `kill -9` does.
//!
//! Guarantees:
//! * Every failpoint is in [`POINTS`].
//! * A thread that reaches a failpoint that kills does not continue.
//!
//! Does not guarantee that other threads stop at once: a kill takes some milliseconds, as it does
//! from outside.

#[cfg(feature = "failpoints")]
use std::time::Duration;
use std::time::SystemTime;

/// Every failpoint. There is one before and one after each step whose effect outlives the process.
pub const POINTS: &[&str] = &[
    "fetcher::before_fetch",
    "fetcher::after_fetch",
    "producer::before_produce",
    "producer::after_produce",
    "consumer::before_assign",
    "consumer::after_assign",
    "consumer::before_send",
    "consumer::after_send",
    "transformer::before_transform",
    "transformer::after_transform",
    "writer::before_dead_letter",
    "writer::after_dead_letter",
    "writer::before_write",
    "writer::after_write",
    "writer::before_settle",
    "writer::after_settle",
    "consumer::before_commit",
    "consumer::after_commit",
    "consumer::before_revoke",
    "consumer::after_revoke",
    "consumer::before_set_back",
    "journal::before_append",
    "journal::after_append",
    "journal::after_sync",
    "journal::before_snapshot",
    "journal::after_snapshot",
];

/// A failpoint where the thread may block. On the actor thread it blocks all actors.
#[cfg(feature = "failpoints")]
pub(crate) fn point(name: &str) {
    assert!(POINTS.contains(&name), "failpoint {name} is not in POINTS");
    if let Some(action) = fail::eval(name, |action| action) {
        match action.as_deref() {
            Some("kill") => kill(),
            _ => panic!("failpoint {name} is configured to return {action:?}; only return(kill) is known"),
        }
    }
}

/// Whether `FAILPOINTS="journal=return"` disables the journal, for the benchmark of its cost.
#[cfg(feature = "failpoints")]
pub(crate) fn journal_is_off() -> bool {
    fail::eval("journal", |_| ()).is_some()
}

/// Never, without the feature.
#[cfg(not(feature = "failpoints"))]
pub(crate) fn journal_is_off() -> bool {
    false
}

/// The time of day, shifted by the seconds in the file of `FAILPOINTS="clock::wall=return(FILE)"`.
#[cfg(feature = "failpoints")]
pub(crate) fn shifted(wall: SystemTime) -> SystemTime {
    let Some(file) = fail::eval("clock::wall", |file| file).flatten() else { return wall };
    let seconds = std::fs::read_to_string(&file).ok().and_then(|text| text.trim().parse::<i64>().ok());
    let Some(seconds) = seconds else { panic!("failpoint clock::wall: {file} does not hold a number of seconds") };
    let shift = Duration::from_secs(seconds.unsigned_abs());
    if seconds < 0 { wall - shift } else { wall + shift }
}

/// The same time, without the feature.
#[cfg(not(feature = "failpoints"))]
pub(crate) fn shifted(wall: SystemTime) -> SystemTime {
    wall
}

/// A failpoint in a task of the I/O runtime, whose threads must not block.
#[cfg(feature = "failpoints")]
pub(crate) async fn point_async(name: &'static str) {
    if let Err(error) = tokio::task::spawn_blocking(move || point(name)).await
        && error.is_panic()
    {
        std::panic::resume_unwind(error.into_panic());
    }
}

/// Kills this process with SIGKILL.
#[cfg(feature = "failpoints")]
fn kill() -> ! {
    let killed = std::process::Command::new("kill").args(["-9", &std::process::id().to_string()]).status();
    if !killed.as_ref().is_ok_and(std::process::ExitStatus::success) {
        panic!("failed to kill this process: {killed:?}");
    }
    loop {
        std::thread::park();
    }
}

/// Does nothing, without the feature.
#[cfg(not(feature = "failpoints"))]
pub(crate) fn point(_: &str) {}

/// Does nothing, without the feature.
#[cfg(not(feature = "failpoints"))]
pub(crate) async fn point_async(_: &'static str) {}

#[cfg(all(test, feature = "failpoints"))]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "consumer::nowhere is not in POINTS")]
    fn a_failpoint_that_is_not_listed_panics() {
        point("consumer::nowhere");
    }

    #[test]
    fn an_asynchronous_failpoint_panics_where_it_is_awaited() {
        let _scenario = fail::FailScenario::setup();
        fail::cfg("writer::before_settle", "1*panic(requested)->off").unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let panics = || std::panic::catch_unwind(|| runtime.block_on(point_async("writer::before_settle"))).is_err();
        assert_eq!((panics(), panics()), (true, false));
    }
}
