//! `forebay run`: runs the pipeline until it is told to stop, or until it is idle.

use std::fs::Permissions;
use std::io::IsTerminal as _;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use clap::ValueEnum;
use forebay_actors::api::Listener;
use forebay_actors::pipeline::{Blueprint, DataDirLock, Options, Role, Running, StartError};
use forebay_kernel::Exit;
use forebay_kernel::clock::SystemClock;
use forebay_schemas::api::{Desired, DesiredState};
use forebay_schemas::pipeline::Pipeline;
use forebay_schemas::run::MaxRejected;
use forebay_schemas::summary::Summary;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::Global;
use crate::end::End;
use crate::talk::{self, Talk};

/// Flags of `run`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  forebay run                                  until SIGTERM, SIGHUP or ctrl-c, which drain and commit
  forebay run -c users.toml --log-format json  for a service
  forebay run --monitor 2>forebay.log          watched here, for as long as it is
  forebay run --until-idle --json              fetch once, write all there is, print a summary
  forebay run --until-idle --max-rejected 5%   exit code 6 when more of the records are dead letters
  forebay run --roles egress                   only from the topic into the table; more such processes share the partitions")]
pub(crate) struct Args {
    /// Fetch once where there is a fetcher, and stop when every record up to the topic's ends is written
    #[arg(long)]
    until_idle: bool,
    /// The most records that may become dead letters, as a number or a share such as 5%; more are exit code 6. Default: fetcher.max_rejected, else
    /// not all of them
    #[arg(long, value_name = "N|N%", requires = "until_idle")]
    max_rejected: Option<MaxRejected>,
    /// Show the view of `forebay monitor` here; leaving it stops the pipeline in order. Log lines are left out unless stderr is a file
    #[arg(long, conflicts_with = "until_idle")]
    monitor: bool,
    /// The parts of the tree to run
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = RoleArg::value_variants().to_vec())]
    roles: Vec<RoleArg>,
}

#[derive(Clone, Copy, ValueEnum)]
enum RoleArg {
    /// Producer and fetcher
    Ingest,
    /// Writer, transformer, consumer
    Egress,
    /// The control API
    Api,
}

impl From<RoleArg> for Role {
    fn from(role: RoleArg) -> Self {
        match role {
            RoleArg::Ingest => Self::Ingest,
            RoleArg::Egress => Self::Egress,
            RoleArg::Api => Self::Api,
        }
    }
}

/// How often an idle pipeline is looked for.
const IDLE_CHECK: Duration = Duration::from_millis(100);
/// How long the end of the process waits for work on its threads that nobody waits for any more.
const LEAVE: Duration = Duration::from_secs(2);

/// Runs the command.
pub(crate) fn run(global: &Global, talk: &Talk, args: &Args) -> Result<(), End> {
    if args.monitor && !std::io::stdout().is_terminal() {
        return Err(End::usage(
            "--monitor shows a view, and stdout is no terminal",
            "leave it out, and look with `forebay monitor` from elsewhere",
        ));
    }
    // Log lines would tear the picture.
    let quiet = args.monitor && std::io::stderr().is_terminal();
    talk::start_logging(global.log_format, if quiet { "off" } else { "info" });
    let pipeline = crate::load_pipeline(global)?;
    let roles = args.roles.iter().copied().map(Role::from).collect();
    let max_rejected = args.max_rejected.or(pipeline.fetcher.as_ref().and_then(|fetcher| fetcher.max_rejected));
    let (summary, too_many) = on_actor_thread(async {
        let stop_signals = StopSignals::catch()?;
        let running = start(pipeline.clone(), roles, args.until_idle, None).await?;
        let idle = async {
            if !args.until_idle {
                std::future::pending::<()>().await;
            }
            if let Err(error) = running.fetched_once().await {
                return Err(End::failed(error.message, "mend the API, or [fetcher] in the pipeline file, and run it again"));
            }
            Ok(running.settled(IDLE_CHECK).await)
        };
        let held = async {
            if !args.until_idle {
                std::future::pending::<()>().await;
            }
            running.held().await
        };
        let left = async {
            if !args.monitor {
                std::future::pending::<()>().await;
            }
            crate::monitor::in_process(&running, &pipeline, std::future::pending()).await
        };
        let stopped = tokio::select! {
            end = left => end.map(|()| Vec::new()),
            desired = held => Err(never_idle(&desired)),
            end = idle => end,
            () = stop_signals.received() => if args.until_idle { Err(End::failed("stopped before it was idle", "run it again: it goes on where it was")) } else { Ok(Vec::new()) },
            exit = running.exited() => return Err(escalated(&exit)),
        };
        let summary = stop(&running).await?;
        let too_many = if args.until_idle { running.too_many_rejected(max_rejected) } else { None };
        stopped.map(|held_back| (Summary { held_back, ..summary }, too_many))
    })?;
    if args.until_idle || talk.json() {
        say_summary(talk, &summary);
    }
    if let Some(why) = too_many {
        return Err(End::rejected(why, "mend the source, the schema or the SQL, and redrive them; or allow more with --max-rejected"));
    }
    match summary.stop.filter(|stop| args.until_idle && !stop.complete) {
        Some(stop) => Err(End::cut_short(&stop)),
        None => Ok(()),
    }
}

/// The end of a wait for an idleness that does not come.
fn never_idle(desired: &Desired) -> End {
    let state = if desired.state == DesiredState::Paused { "paused" } else { "drained" };
    End::failed(
        format!("the pipeline is {state} by {}: {}; it does not become idle", desired.by, desired.reason),
        "start it with `forebay run`, and say `forebay resume --reason …` to it",
    )
}

/// Runs work on the thread that the actors share, with a runtime of threads beside it for all else. A computation that can't be ended does not keep
/// the process from its end.
pub(crate) fn on_actor_thread<T>(work: impl Future<Output = T>) -> T {
    let io = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let io = Arc::new(io.expect("threads for the runtime can be started at the start of the process"));
    let end = forebay_kernel::block_on(&io, work);
    if let Some(io) = Arc::into_inner(io) {
        io.shutdown_timeout(LEAVE);
    }
    end
}

/// Starts a pipeline after everything that can be checked is checked.
///
/// `held` is the lock of the data directory, where the caller has it already.
pub(crate) async fn start(pipeline: Pipeline, roles: Vec<Role>, fetch_once: bool, held: Option<DataDirLock>) -> Result<Running, End> {
    crate::logging::name_pipeline(&pipeline.meta.name);
    let listener = if roles.contains(&Role::Api) { Some(listen(&pipeline)?) } else { None };
    let blueprint = Blueprint::draw(pipeline)?;
    let options = Options { roles, fetch_once, listener, clock: Arc::new(SystemClock), seed: rand::random(), held };
    forebay_actors::pipeline::start(&blueprint, options).map_err(|error| unstartable(&error))
}

/// The end of a pipeline that can't start at all.
pub(crate) fn unstartable(error: &StartError) -> End {
    match error {
        StartError::DataDir { .. } => End::environment(error.to_string(), "set [pipeline] data_dir to a folder that you may write to"),
        StartError::Locked(_) | StartError::Broker(_) | StartError::Ledger(_) => End::environment(error.to_string(), ""),
        StartError::Token(_) => End::usage(error.to_string(), "see [api] tokens"),
    }
}

/// Takes the API's port, so that a taken one is an error before anything starts.
fn listen(pipeline: &Pipeline) -> Result<Listener, End> {
    let listen = &pipeline.api.listen;
    if let Some(socket) = pipeline.api.socket() {
        return listen_at(&pipeline.relative(Path::new(socket)));
    }
    let addresses: Vec<SocketAddr> = listen
        .to_socket_addrs()
        .map_err(|cause| pipeline.error_at(&["api", "listen"], format!("{listen:?} can't be looked up: {cause}"), "write 127.0.0.1:7070"))?
        .collect();
    let listener = TcpListener::bind(&addresses[..]).map_err(|cause| {
        End::environment(
            format!("the API can't listen on {listen}: {cause}"),
            "another pipeline may have the port: set [api] listen to another one, or leave the API out with --roles ingest,egress",
        )
    })?;
    listener.set_nonblocking(true).map_err(|cause| End::environment(format!("the API's port can't be used: {cause}"), ""))?;
    Ok(Listener::Tcp(Arc::new(listener)))
}

/// Takes a socket in the file system that its owner alone can open. One that is left over from a process that was killed makes way.
fn listen_at(path: &Path) -> Result<Listener, End> {
    let failed = |cause: &std::io::Error| {
        End::environment(
            format!("the API can't listen on {}: {cause}", path.display()),
            "set [api] listen to a path that is free, in a folder that you may write to",
        )
    };
    let is_left_over = path.metadata().is_ok_and(|at| at.file_type().is_socket())
        && UnixStream::connect(path).is_err_and(|cause| cause.kind() == std::io::ErrorKind::ConnectionRefused);
    if is_left_over {
        std::fs::remove_file(path).map_err(|cause| failed(&cause))?;
    }
    let listener = UnixListener::bind(path).map_err(|cause| failed(&cause))?;
    std::fs::set_permissions(path, Permissions::from_mode(0o600))
        .and_then(|()| listener.set_nonblocking(true))
        .map_err(|cause| failed(&cause))?;
    Ok(Listener::Unix(Arc::new(listener)))
}

/// The signals that ask for an ordered stop: SIGINT (ctrl-c), SIGTERM, and SIGHUP, which comes when the terminal is closed.
pub(crate) struct StopSignals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
}

impl StopSignals {
    /// Catches the signals from here on. To be called before anything starts, so that one that comes during the start is not lost, nor
    /// ends the process without a drain.
    ///
    /// # Errors
    /// When the system does not let them be caught.
    pub(crate) fn catch() -> Result<Self, End> {
        let catch = |kind| signal(kind).map_err(|cause| End::environment(format!("signals can't be caught: {cause}"), ""));
        Ok(Self {
            interrupt: catch(SignalKind::interrupt())?,
            terminate: catch(SignalKind::terminate())?,
            hang_up: catch(SignalKind::hangup())?,
        })
    }

    /// Comes back at the first signal. A second one ends the process at once: the next start does again what was in flight. A second
    /// SIGHUP does not, since a terminal that is closed sends it to each process of its session, and so does the shell.
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

/// Stops the pipeline in order: what is in flight is written and committed first.
pub(crate) async fn stop(running: &Running) -> Result<Summary, End> {
    running.stop();
    match running.exited().await {
        Exit::Shutdown | Exit::Normal => Ok(running.summary()),
        exit => Err(escalated(&exit)),
    }
}

/// The end of a tree that gave up.
pub(crate) fn escalated(exit: &Exit) -> End {
    End::escalated(format!("the supervisor gave up: {exit}"), "the log above says what failed; nothing that was acknowledged is lost")
}

/// Says what was done: one JSON object on stdout, or a line on stderr.
pub(crate) fn say_summary(talk: &Talk, summary: &Summary) {
    if talk.json() {
        talk.data(&serde_json::to_string(summary).expect("a summary is JSON"));
        return;
    }
    let Summary { fetched, produced, consumed, written, rejected, restarts, latency_ms, held_back, stop } = summary;
    talk.say(&format!(
        "fetched {fetched}, produced {produced}, consumed {consumed}, written {written}, rejected {rejected}, restarts {restarts}; \
         produced to written p50 {:.1} ms, p99 {:.1} ms{}",
        latency_ms.p50,
        latency_ms.p99,
        stop.as_ref().map(|stop| format!("; stopped: {}", stop.reason.word())).unwrap_or_default()
    ));
    for held in held_back {
        talk.say(&format!("{held}; they are not read before it ends"));
    }
}
