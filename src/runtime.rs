//! The runtimes of the process: one for commands that only ask a server, one for a process that
//! runs actors.

use std::sync::Arc;
use std::time::Duration;

/// How long the process waits at its end for blocking work that can't be cancelled.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(2);

/// Runs a command that asks a server and ends.
pub(crate) fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("threads for the runtime can be started at the start of the process")
        .block_on(work)
}

/// Runs work on the thread that the actors share, and everything else on a multi-threaded runtime.
///
/// Blocking work that does not end delays the end of the process by [`SHUTDOWN_TIMEOUT`] at most.
pub(crate) fn on_actor_thread<T>(work: impl Future<Output = T>) -> T {
    let io = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let io = Arc::new(io.expect("threads for the runtime can be started at the start of the process"));
    let result = forebay_kernel::block_on(&io, work);
    if let Some(io) = Arc::into_inner(io) {
        io.shutdown_timeout(SHUTDOWN_TIMEOUT);
    }
    result
}
