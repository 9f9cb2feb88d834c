//! Starts, stops and signals a pipeline that runs in this process.

use std::fs::Permissions;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;

use forebay_actors::ProcessClock;
use forebay_actors::api::Listener;
use forebay_actors::data_dir::{DataDirLock, LockError};
use forebay_actors::pipeline::{Blueprint, Options, Role, Running, StartError, seek_paging};
use forebay_kernel::{Clock as _, Exit};
use forebay_schemas::closing_summary::Summary;
use forebay_schemas::pipeline::{FetcherSection, Pipeline};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::error::CliError;
use crate::output::Output;

/// Starts a pipeline, once everything that can be checked beforehand has been checked.
///
/// `lock` is the lock of the data directory, when the caller holds it already.
pub(crate) async fn start(
    mut pipeline: Pipeline,
    roles: Vec<Role>,
    fetch_once: bool,
    mut lock: Option<DataDirLock>,
) -> Result<Running, CliError> {
    crate::logging::name_pipeline(&pipeline.meta.name);
    let listener = if roles.contains(&Role::Api) { Some(listen(&pipeline)?) } else { None };
    if roles.contains(&Role::Ingest) && pipeline.fetcher.as_ref().is_some_and(FetcherSection::seeks_paging) {
        if lock.is_none() {
            lock = Some(DataDirLock::take(&pipeline.data_dir()).map_err(|error| start_error(&StartError::DataDir(error)))?);
        }
        seek_paging(&mut pipeline, ProcessClock.wall()).await.map_err(|error| CliError::environment(error.to_string(), error.remedy()))?;
    }
    let blueprint = Blueprint::new(pipeline)?;
    let options = Options { roles, fetch_once, listener, clock: Arc::new(ProcessClock), seed: rand::random(), lock };
    forebay_actors::pipeline::start(&blueprint, options).map_err(|error| start_error(&error))
}

/// The error of a command whose pipeline can't start.
pub(crate) fn start_error(error: &StartError) -> CliError {
    match error {
        StartError::DataDir(LockError::Unusable { .. }) => {
            CliError::environment(error.to_string(), "set [pipeline] data_dir to a writable directory")
        }
        StartError::DataDir(LockError::Locked(_)) | StartError::Broker(_) | StartError::Ledger(_) => {
            CliError::environment(error.to_string(), "")
        }
        StartError::Tls(error) => CliError::usage(error.to_string(), error.remedy().unwrap_or_default()),
        StartError::Token(_) => CliError::usage(error.to_string(), "see [api] tokens"),
    }
}

/// Binds the API's address, so that one that is taken is an error before anything starts.
fn listen(pipeline: &Pipeline) -> Result<Listener, CliError> {
    let listen = &pipeline.api.listen;
    if let Some(socket) = pipeline.api.socket() {
        return listen_at(&pipeline.relative(Path::new(socket)));
    }
    let addresses: Vec<SocketAddr> = listen
        .to_socket_addrs()
        .map_err(|error| pipeline.error_at(&["api", "listen"], format!("can't resolve {listen:?}: {error}"), "write 127.0.0.1:7070"))?
        .collect();
    let listener = TcpListener::bind(&addresses[..]).map_err(|error| {
        CliError::environment(
            format!("the API can't listen on {listen}: {error}"),
            "another pipeline may use the port: set [api] listen to another one, or run without the API: --roles ingest,egress",
        )
    })?;
    listener.set_nonblocking(true).map_err(|error| CliError::environment(format!("can't use the API's port: {error}"), ""))?;
    Ok(Listener::Tcp(Arc::new(listener)))
}

/// Binds a unix socket that only its owner can open. Replaces one that a killed process left
/// behind.
fn listen_at(path: &Path) -> Result<Listener, CliError> {
    let failed = |error: &std::io::Error| {
        CliError::environment(
            format!("the API can't listen on {}: {error}", path.display()),
            "set [api] listen to a free path in a writable directory",
        )
    };
    let is_stale = path.metadata().is_ok_and(|file| file.file_type().is_socket())
        && UnixStream::connect(path).is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused);
    if is_stale {
        std::fs::remove_file(path).map_err(|error| failed(&error))?;
    }
    let listener = UnixListener::bind(path).map_err(|error| failed(&error))?;
    std::fs::set_permissions(path, Permissions::from_mode(0o600))
        .and_then(|()| listener.set_nonblocking(true))
        .map_err(|error| failed(&error))?;
    Ok(Listener::Unix(Arc::new(listener)))
}

/// The signals that request a graceful stop: SIGINT (ctrl-c), SIGTERM, and SIGHUP, which a process
/// gets when its terminal is closed.
pub(crate) struct StopSignals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
}

impl StopSignals {
    /// Installs the handlers.
    ///
    /// Call it before anything starts: a signal that arrives during the start is then neither lost
    /// nor ends the process without a drain.
    ///
    /// # Errors
    /// The system refuses a handler.
    pub(crate) fn install() -> Result<Self, CliError> {
        let handler = |kind| signal(kind).map_err(|error| CliError::environment(format!("can't handle signals: {error}"), ""));
        Ok(Self {
            interrupt: handler(SignalKind::interrupt())?,
            terminate: handler(SignalKind::terminate())?,
            hang_up: handler(SignalKind::hangup())?,
        })
    }

    /// Returns at the first signal. A second SIGINT or SIGTERM ends the process at once; the next
    /// start repeats what was in flight.
    ///
    /// A second SIGHUP is ignored: when a terminal is closed, both the terminal and its shell send
    /// one.
    pub(crate) async fn received(mut self) {
        let code = tokio::select! {
            _ = self.interrupt.recv() => 130,
            _ = self.terminate.recv() => 143,
            _ = self.hang_up.recv() => 129,
        };
        tokio::spawn(async move {
            tokio::select! { _ = self.interrupt.recv() => {}, _ = self.terminate.recv() => {} }
            std::process::exit(code);
        });
    }
}

/// Stops the pipeline gracefully: what is in flight is written and committed first.
pub(crate) async fn stop(running: &Running) -> Result<Summary, CliError> {
    running.stop();
    match running.exited().await {
        Exit::Shutdown | Exit::Normal => Ok(running.summary()),
        exit => Err(escalated(&exit)),
    }
}

/// The error of a command whose supervision tree gave up.
pub(crate) fn escalated(exit: &Exit) -> CliError {
    CliError::escalated(format!("the supervisor gave up: {exit}"), "the log above has the cause; nothing acknowledged is lost")
}

/// Prints what was done: one JSON object on stdout, or a line on stderr.
pub(crate) fn print_summary(output: &Output, summary: &Summary) {
    if output.json() {
        output.print_json(summary);
        return;
    }
    let Summary { fetched, produced, consumed, written, rejected, restarts, latency_ms, held_back, stop } = summary;
    output.message(&format!(
        "fetched {fetched}, produced {produced}, consumed {consumed}, written {written}, rejected {rejected}, restarts {restarts}; \
         produced to written p50 {:.1} ms, p99 {:.1} ms{}",
        latency_ms.p50,
        latency_ms.p99,
        stop.as_ref().map(|stop| format!("; stopped: {}", stop.reason.as_str())).unwrap_or_default()
    ));
    for held in held_back {
        output.message(&format!("{held}; they are not read before it ends"));
    }
}
