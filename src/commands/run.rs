//! `forebay run`: runs the pipeline until a signal, or until it is idle.

use std::io::IsTerminal as _;
use std::time::Duration;

use clap::ValueEnum;
use forebay_actors::pipeline::Role;
use forebay_schemas::closing_summary::Summary;
use forebay_schemas::desired::{Desired, DesiredState};
use forebay_schemas::run::MaxRejected;

use crate::error::{CliError, FIX_REJECTED};
use crate::global::{Global, load_pipeline};
use crate::logging::start_logging;
use crate::output::Output;
use crate::process::{StopSignals, escalated, print_summary, start, stop};
use crate::runtime::on_actor_thread;

/// Flags of `run`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  forebay run                                  until SIGTERM or ctrl-c; drains before it exits
  forebay run -c users.toml --log-format json  as a service
  forebay run --monitor 2>forebay.log          with the live view in this terminal
  forebay run --until-idle --json              fetch once, write everything, print a summary
  forebay run --until-idle --max-rejected 5%   exit with 6 when more records are dead letters
  forebay run --roles egress                   only from the topic to the table")]
pub(crate) struct Args {
    /// Fetch once, if there is a fetcher, and stop when every record up to the topic's end offsets
    /// is written
    #[arg(long)]
    until_idle: bool,
    /// Maximum number of records that may become dead letters, or share such as 5%; exit with 6
    /// beyond it. Default: fetcher.max_rejected, else exit with 6 only when all do
    #[arg(long, value_name = "N|N%", requires = "until_idle")]
    max_rejected: Option<MaxRejected>,
    /// Show the view of `forebay monitor`; leaving it stops the pipeline gracefully. Log lines are
    /// dropped unless stderr is redirected
    #[arg(long, conflicts_with = "until_idle")]
    monitor: bool,
    /// Parts of the pipeline to run
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = RoleArg::value_variants().to_vec())]
    roles: Vec<RoleArg>,
}

#[derive(Clone, Copy, ValueEnum)]
enum RoleArg {
    /// Fetcher and producer
    Ingest,
    /// Consumer, transformer and writer
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

/// How often `--until-idle` checks whether the pipeline is idle.
const IDLE_CHECK_INTERVAL: Duration = Duration::from_millis(100);

/// Runs the command.
pub(crate) fn run(global: &Global, output: &Output, args: &Args) -> Result<(), CliError> {
    if args.monitor && !std::io::stdout().is_terminal() {
        let help = "leave it out, and use `forebay monitor` in another terminal";
        return Err(CliError::usage("--monitor needs a terminal, and stdout is not one", help));
    }
    // Log lines would garble the live view.
    let quiet = args.monitor && std::io::stderr().is_terminal();
    start_logging(global.log_format, if quiet { "off" } else { "info" });
    let pipeline = load_pipeline(global)?;
    let roles = args.roles.iter().copied().map(Role::from).collect();
    let max_rejected = args.max_rejected.or(pipeline.fetcher.as_ref().and_then(|fetcher| fetcher.max_rejected));
    let (summary, too_many) = on_actor_thread(async {
        let stop_signals = StopSignals::install()?;
        let running = start(pipeline.clone(), roles, args.until_idle, None).await?;
        let idle = async {
            if !args.until_idle {
                std::future::pending::<()>().await;
            }
            if let Err(error) = running.fetched_once().await {
                return Err(CliError::failed(error.message, "fix the API, or [fetcher] in the pipeline file, and run again"));
            }
            if pipeline.writes() && !args.roles.is_empty() && !args.roles.iter().any(|role| Role::from(*role) == Role::Egress) {
                tracing::info!("all is in the topic; waiting until a process with the role egress has written it");
            }
            Ok(running.settled(IDLE_CHECK_INTERVAL).await)
        };
        let not_running = async {
            if !args.until_idle {
                std::future::pending::<()>().await;
            }
            running.wait_until_not_running().await
        };
        let view_closed = async {
            if !args.monitor {
                std::future::pending::<()>().await;
            }
            super::monitor::in_process(&running, &pipeline, std::future::pending()).await
        };
        let result = tokio::select! {
            result = view_closed => result.map(|()| Vec::new()),
            desired = not_running => Err(never_idle(&desired)),
            result = idle => result,
            () = stop_signals.received() => {
                if args.until_idle {
                    Err(CliError::failed("stopped before the pipeline was idle", "run it again: it continues where it was"))
                } else {
                    Ok(Vec::new())
                }
            }
            exit = running.exited() => return Err(escalated(&exit)),
        };
        let summary = stop(&running).await?;
        let too_many = if args.until_idle { running.too_many_rejected(max_rejected) } else { None };
        result.map(|held_back| (Summary { held_back, ..summary }, too_many))
    })?;
    if args.until_idle || output.json() {
        print_summary(output, &summary);
    }
    if let Some(message) = too_many {
        return Err(CliError::rejected(message, format!("{FIX_REJECTED}; or allow more with --max-rejected")));
    }
    match summary.stop.filter(|stop| args.until_idle && !stop.complete) {
        Some(stop) => Err(CliError::cut_short(&stop)),
        None => Ok(()),
    }
}

/// The error of `--until-idle` on a pipeline that is paused or drained.
fn never_idle(desired: &Desired) -> CliError {
    let state = if desired.state == DesiredState::Paused { "paused" } else { "drained" };
    CliError::failed(
        format!("the pipeline is {state} by {}: {}; it does not become idle", desired.by, desired.reason),
        "start it with `forebay run`, and resume it with `forebay resume --reason …`",
    )
}
