//! Places where a test makes the program fail: `point` where a thread may wait, `point_async` elsewhere.
//!
//! Without the feature `failpoints` they are nothing. With it `FAILPOINTS="writer::before_write=5*off->panic(told to)"` says what happens where,
//! in the words of the crate `fail` (`panic`, `sleep`, `pause`, `off`), and `return(kill)` kills the process as `kill -9` does. Guarantee:
//! every place is in [`POINTS`], and whoever gets to one that kills gets no further. Not guaranteed: that other threads stop at once; it takes the
//! system some milliseconds to kill, as it does from outside.

/// Every place. There is one before and one after each step whose effect outlives the process.
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

/// A place where the thread may wait. On the actor thread all actors wait with it.
#[cfg(feature = "failpoints")]
pub(crate) fn point(name: &str) {
    assert!(POINTS.contains(&name), "the place {name} is not in POINTS");
    if let Some(told) = fail::eval(name, |told| told) {
        match told.as_deref() {
            Some("kill") => kill(),
            _ => panic!("{name} is told to return {told:?}; it knows return(kill)"),
        }
    }
}

/// Whether `FAILPOINTS="journal=return"` says to do without a journal: for the bench that tells what one costs.
#[cfg(feature = "failpoints")]
pub(crate) fn journal_is_off() -> bool {
    fail::eval("journal", |_| ()).is_some()
}

/// Never.
#[cfg(not(feature = "failpoints"))]
pub(crate) fn journal_is_off() -> bool {
    false
}

/// The same for a task of the I/O runtime, whose threads don't wait.
#[cfg(feature = "failpoints")]
pub(crate) async fn point_async(name: &'static str) {
    if let Err(error) = tokio::task::spawn_blocking(move || point(name)).await
        && error.is_panic()
    {
        std::panic::resume_unwind(error.into_panic());
    }
}

/// Ends this process by SIGKILL.
#[cfg(feature = "failpoints")]
fn kill() -> ! {
    let killed = std::process::Command::new("kill").args(["-9", &std::process::id().to_string()]).status();
    if !killed.as_ref().is_ok_and(std::process::ExitStatus::success) {
        panic!("this process could not be killed: {killed:?}");
    }
    loop {
        std::thread::park();
    }
}

/// Nothing.
#[cfg(not(feature = "failpoints"))]
pub(crate) fn point(_: &str) {}

/// Nothing.
#[cfg(not(feature = "failpoints"))]
pub(crate) async fn point_async(_: &'static str) {}

#[cfg(all(test, feature = "failpoints"))]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "consumer::nowhere is not in POINTS")]
    fn a_place_that_is_not_listed_is_refused() {
        point("consumer::nowhere");
    }

    #[test]
    fn what_a_place_is_told_happens_where_it_is_waited_for() {
        let _scenario = fail::FailScenario::setup();
        fail::cfg("writer::before_settle", "1*panic(told to)->off").unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let panics = || std::panic::catch_unwind(|| runtime.block_on(point_async("writer::before_settle"))).is_err();
        assert_eq!((panics(), panics()), (true, false));
    }
}
