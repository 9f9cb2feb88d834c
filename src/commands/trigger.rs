//! `forebay trigger`: requests a run of a running pipeline. With `--wait`, stays until its records
//! are readable in the table. With `--from`, requests a run for each window of a range of time;
//! with `--each`, for each value of a param.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use forebay_schemas::run::{MaxRejected, REJECTED, Run, RunRequest, RunState};
use forebay_schemas::source_read::ReadMode;
use forebay_schemas::window::moment;

use super::trigger_parts::{MAX_PARTS, Part, Parts, each, parts};
use crate::api_client::{ApiClient, Target};
use crate::commands::flags::pair;
use crate::error::{CliError, FIX_REJECTED};
use crate::global::Global;
use crate::output::Output;
use crate::runtime::block_on;
use crate::windows::{Width, windows};

/// Flags of `trigger`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  forebay trigger                                  request a run, and return
  forebay trigger --wait                           wait until its records are in the table
  forebay trigger --key daily-2026-11-24 --wait    the same key is the same run: safe to repeat
  forebay trigger --param results=500              set a param of the source's requests
  forebay trigger --param day=2026-01-01 --read again
                                                   read that day again, from its first page
  forebay trigger --from 2026-01-01 --to 2026-02-01 --window 1d --key january --wait
                                                   a run for each day; repeat it to resume
  forebay trigger --each shop=7,8,9 --key nightly --wait
                                                   a run for each shop; --each shop=@FILE reads a
                                                   value from each line
  forebay trigger --wait --max-rejected 5%         exit with 6 when more are dead letters
  forebay trigger --wait --timeout 5m --json       for scripts

Exit codes with --wait: 0 succeeded, 1 failed, 4 cancelled, 5 still running, 6 too many \
rejected, 7 cut short. With --from or --each: that of the worst run, in the order 1, 6, 4, 5, 7")]
pub(crate) struct Args {
    /// Key of the run; the same key and attempt is always the same run. With --from or --each, the
    /// same key requests only what has not succeeded. Default: a new key
    #[arg(long)]
    key: Option<String>,
    /// Attempt at this key, from 1; a higher one is a new run, once the attempt before it has ended
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    attempt: u32,
    /// Value for the requests of this run, one of `[fetcher] params`
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    param: Vec<(String, String)>,
    /// Request a run for each window from here, a date (midnight UTC) or an RFC 3339 time; for a
    /// source with {{ window.start }} or {{ window.end }}
    #[arg(long, value_name = "TIME", value_parser = moment, requires_all = ["to", "window"], conflicts_with_all = ["attempt", "lease"])]
    from: Option<DateTime<Utc>>,
    /// End of the last window, which is no part of it
    #[arg(long, value_name = "TIME", value_parser = moment, requires = "from")]
    to: Option<DateTime<Utc>>,
    /// Width of a window, such as 1d, 6h, 15m or 1month; at most 1,000 windows
    #[arg(long, value_name = "WIDTH", requires = "from")]
    window: Option<Width>,
    /// Request a run for each value of a param, one of `[fetcher] params`: A,B,C or @FILE, with a
    /// value on each line; @- is the standard input. With --from, for each value in each window
    #[arg(long, value_name = "NAME=VALUES", value_parser = each, conflicts_with_all = ["attempt", "lease"])]
    each: Option<(String, Vec<String>)>,
    /// Where to start reading. Default: continue; a new attempt after one that succeeded reads
    /// again from where the first one started
    #[arg(long, value_enum)]
    read: Option<ReadArg>,
    /// Cancel the run when no client has asked for it for this long; 10s to 24h
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    lease: Option<Duration>,
    /// Maximum number of records that may become dead letters, or share such as 5%; beyond it, the
    /// run fails. Default: fetcher.max_rejected, else it fails only when all do
    #[arg(long, value_name = "N|N%")]
    max_rejected: Option<MaxRejected>,
    /// Wait until the run has ended
    #[arg(long)]
    wait: bool,
    /// Give up waiting after this long, such as 30s or 5m, with --from or --each for each run; the
    /// runs continue
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = humantime::parse_duration, requires = "wait")]
    timeout: Duration,
    #[command(flatten)]
    target: Target,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum ReadArg {
    /// At the cursor of the read
    Continue,
    /// At the first page; the cursor does not change
    Again,
}

impl From<ReadArg> for ReadMode {
    fn from(read: ReadArg) -> Self {
        match read {
            ReadArg::Continue => Self::Continue,
            ReadArg::Again => Self::Again,
        }
    }
}

/// Runs the command.
pub(crate) fn trigger(global: &Global, output: &Output, args: &Args) -> Result<(), CliError> {
    let client = args.target.client(global)?;
    let key = args.key.clone().unwrap_or_else(|| format!("manual-{}", uuid::Uuid::now_v7()));
    let request = RunRequest {
        attempt: args.attempt,
        params: args.param.iter().cloned().collect(),
        read: args.read.map(ReadMode::from),
        lease_seconds: args.lease.map(|lease| u32::try_from(lease.as_secs()).unwrap_or(u32::MAX)),
        max_rejected: args.max_rejected,
        ..RunRequest::default()
    };
    let parts = args.parts()?;
    block_on(async {
        let name = client.snapshot().await?.pipeline;
        if let Some(parts) = parts {
            let (timeout, noun) = (args.wait.then_some(args.timeout), if args.each.is_some() { "run" } else { "window" });
            return Parts { client: &client, output, pipeline: &name, key: &key, noun, request, timeout }.run(&parts).await;
        }
        let (_, mut run) = client.request_run(&name, &key, &request).await?;
        if args.wait {
            run = wait(&client, output, run, args.timeout).await?;
        }
        output.print_as(&run, line);
        outcome(&run, args.wait)
    })
}

impl Args {
    /// The parts to request; `None`: one run.
    fn parts(&self) -> Result<Option<Vec<Part>>, CliError> {
        let windows = match (self.from, self.to, self.window) {
            (Some(from), Some(to), Some(width)) => {
                let help = "use an earlier --from, a later --to or a wider --window; or several commands";
                Some(windows(from, to, width).map_err(|error| CliError::usage(error, help))?)
            }
            _ => None,
        };
        if self.each.is_none() && windows.is_none() {
            return Ok(None);
        }
        if let Some((name, _)) = self.each.as_ref().filter(|(name, _)| self.param.iter().any(|(other, _)| other == name)) {
            return Err(CliError::usage(format!("both --each and --param set {name:?}"), "remove one of them"));
        }
        let parts = parts(self.each.as_ref(), windows.as_deref());
        if parts.len() > MAX_PARTS {
            let message = format!("{} runs are more than {MAX_PARTS}", parts.len());
            return Err(CliError::usage(message, "use fewer values or wider windows; or several commands"));
        }
        Ok(Some(parts))
    }
}

/// What a run means for the exit code; `waited`: it should have ended.
pub(super) fn outcome(run: &Run, waited: bool) -> Result<(), CliError> {
    match run.state {
        RunState::Failed => {
            if let Some(error) = run.error.as_ref().filter(|error| error.stage == REJECTED) {
                return Err(CliError::rejected(format!("the run failed: {}", error.message), FIX_REJECTED));
            }
            let error = run.error.as_ref().map(|error| format!("at {}: {}", error.stage, error.message)).unwrap_or_default();
            Err(CliError::failed(format!("the run failed {error}"), ""))
        }
        RunState::Cancelled => Err(CliError::cancelled("the run was cancelled")),
        state if waited && !state.is_terminal() => {
            Err(CliError::timed_out(format!("the run is still {state:?}"), "it continues; wait again with the same --key"))
        }
        RunState::Succeeded => run.cut_short().map_or(Ok(()), |stop| Err(CliError::cut_short(stop))),
        _ => Ok(()),
    }
}

async fn wait(client: &ApiClient, output: &Output, mut run: Run, timeout: Duration) -> Result<Run, CliError> {
    let deadline = Instant::now() + timeout;
    let mut printed = None;
    while !run.terminal {
        if printed != Some((run.state, run.counts)) {
            output.message(&line(&run));
            printed = Some((run.state, run.counts));
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        run = client.poll_run(run.id, left).await?;
    }
    Ok(run)
}

/// The state of a run, as in JSON.
pub(super) fn state_of(run: &Run) -> String {
    format!("{:?}", run.state).to_lowercase()
}

/// A run on one line.
pub(super) fn line(run: &Run) -> String {
    let counts = run.counts;
    let state = state_of(run);
    let stop = run.stop.as_ref().map(|stop| format!("; stopped: {stop}")).unwrap_or_default();
    let mut line = format!(
        "run {} {state}: {} fetched, {} produced, {} filtered, {} rejected, {} written",
        run.id, counts.fetched, counts.produced, counts.filtered, counts.rejected, counts.written
    );
    for (count, what) in [(counts.elsewhere, "counted by other processes"), (counts.again, "produced again after a crash")] {
        if count > 0 {
            let _ = write!(line, ", {count} {what}");
        }
    }
    let window = run.spec.window.map(|window| format!(", window {window}")).unwrap_or_default();
    let _ = write!(line, " (key {}{window}){stop}", run.key);
    line
}
