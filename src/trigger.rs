//! `forebay trigger`: asks a running pipeline for a fetch, and with `--wait` stays until its records are readable in the table.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use forebay_schemas::read::ReadMode;
use forebay_schemas::run::{MaxRejected, REJECTED, Run, RunRequest, RunState};

use crate::Global;
use crate::api_client::{ApiClient, Target};
use crate::end::End;
use crate::talk::Talk;

/// Flags of `trigger`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  forebay trigger                                  ask for a fetch and go
  forebay trigger --wait                           stay until its records are readable in the table
  forebay trigger --key daily-2026-11-24 --wait    the same key is the same run: safe to repeat
  forebay trigger --param results=500              with another query parameter of the API's address
  forebay trigger --param day=2026-01-01 --read again   all of that day once more, from its first page on
  forebay trigger --wait --max-rejected 5%         exit code 6 when more of its records are dead letters
  forebay trigger --wait --timeout 5m --json       for scripts; 1 failed, 4 cancelled, 5 still running, 6 too many rejected, 7 cut short")]
pub(crate) struct Args {
    /// The run's key; the same key and attempt is the same run for ever. Default: a fresh one
    #[arg(long)]
    key: Option<String>,
    /// The attempt at this key, from 1; a higher one is a new run after one that has ended
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    attempt: u32,
    /// A query parameter of the API's address for this run; one that `[fetcher] params` names
    #[arg(long, value_name = "NAME=VALUE", value_parser = crate::pair)]
    param: Vec<(String, String)>,
    /// Whether it goes on where its read is, or reads again from the first page. Default: it goes on, and a new attempt after one that
    /// succeeded reads again from where the first began
    #[arg(long, value_enum)]
    read: Option<ReadArg>,
    /// Call the run off when nobody has asked for it for so long; 10s to 24h
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    lease: Option<Duration>,
    /// The most records that may become dead letters, as a number or a share such as 5%; with more the run fails. Default: fetcher.max_rejected, else
    /// not all of them
    #[arg(long, value_name = "N|N%")]
    max_rejected: Option<MaxRejected>,
    /// Stay until the run has ended
    #[arg(long)]
    wait: bool,
    /// The longest stay, such as 30s or 5m
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = humantime::parse_duration, requires = "wait")]
    timeout: Duration,
    #[command(flatten)]
    target: Target,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum ReadArg {
    /// From the cursor of the read on
    Continue,
    /// From the first page of the read on; its cursor stays where it is
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
pub(crate) fn trigger(global: &Global, talk: &Talk, args: &Args) -> Result<(), End> {
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
    crate::block_on(async {
        let name = client.snapshot().await?.pipeline;
        let mut run = client.request_run(&name, &key, &request).await?;
        if args.wait {
            run = wait(&client, talk, run, args.timeout).await?;
        }
        talk.data(&if talk.json() { serde_json::to_string(&run).expect("a run is JSON") } else { line(&run) });
        match run.state {
            RunState::Failed => {
                if let Some(error) = run.error.as_ref().filter(|error| error.stage == REJECTED) {
                    return Err(End::rejected(
                        format!("the run failed: {}", error.message),
                        "mend the source, the schema or the SQL, and redrive them",
                    ));
                }
                let error = run.error.map(|error| format!("at {}: {}", error.stage, error.message)).unwrap_or_default();
                Err(End::failed(format!("the run failed {error}"), ""))
            }
            RunState::Cancelled => Err(End::cancelled("the run was cancelled")),
            state if args.wait && !state.is_terminal() => {
                Err(End::timed_out(format!("the run is {state:?} still"), "it goes on; ask again with the same --key"))
            }
            RunState::Succeeded => run.cut_short().map_or(Ok(()), |stop| Err(End::cut_short(stop))),
            _ => Ok(()),
        }
    })
}

async fn wait(client: &ApiClient, talk: &Talk, mut run: Run, timeout: Duration) -> Result<Run, End> {
    let until = Instant::now() + timeout;
    let mut said = None;
    while !run.terminal {
        if said != Some((run.state, run.counts)) {
            talk.say(&line(&run));
            said = Some((run.state, run.counts));
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        run = client.poll_run(run.id, left).await?;
    }
    Ok(run)
}

/// A run in a line.
pub(crate) fn line(run: &Run) -> String {
    let counts = run.counts;
    let state = format!("{:?}", run.state).to_lowercase();
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
    let _ = write!(line, " (key {}){stop}", run.key);
    line
}
