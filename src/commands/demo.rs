//! `forebay demo`: runs the whole pipeline on this machine, without a server or network: a local
//! API that answers like randomuser.me, the embedded broker, the embedded table, and a live view.

use std::io::IsTerminal as _;
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::time::Duration;

use forebay_actors::pipeline::Role;

use forebay_actors::pipeline::Running;
use forebay_schemas::desired::DesiredState;
use forebay_schemas::pipeline::Pipeline;
use forebay_schemas::snapshot::Snapshot;

use crate::api_client::address_of;
use crate::demo::people_api::{self, ApiOptions};
use crate::demo::pipeline_file;
use crate::error::CliError;
use crate::global::Global;
use crate::logging::{LogFormat, start_logging};
use crate::output::Output;
use crate::process::{StopSignals, escalated, print_summary, start, stop};
use crate::runtime::on_actor_thread;

/// Flags of `demo`.
#[derive(clap::Args)]
#[command(after_help = "\
The demo writes to .forebay/demo in this directory, and clears it at each start. While it \
runs, try in another terminal:
  forebay status
  forebay trigger --wait
  forebay query -c .forebay/demo/forebay.toml 'SELECT first_name, address FROM users_stream'
  kcat -b 127.0.0.1:9092 -t users_stream -o -5 -e     (`forebay status` prints the address)

Examples:
  forebay demo
  forebay demo --duration 20s --json       run for twenty seconds, print a summary on stdout
  forebay demo --rate 5000
  forebay demo --bad-every 100             make one record in a hundred bad: see `forebay dlq`
  forebay demo --listen 127.0.0.1:7071     and: forebay monitor --url http://127.0.0.1:7071")]
pub(crate) struct Args {
    /// Stop after this long, such as 20s; default: run until q or ctrl-c
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    duration: Option<Duration>,
    /// Records per second
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rate: u32,
    /// Make every Nth record bad, so that it becomes a dead letter
    #[arg(long, value_name = "N")]
    bad_every: Option<NonZeroU64>,
    /// Address of the pipeline's API; port 0 is a free one. Default: 127.0.0.1:7070, or a free port
    /// if that is taken
    #[arg(long, value_name = "IP:PORT")]
    listen: Option<SocketAddr>,
    /// Directory of the demo's pipeline file, broker and table
    #[arg(long, value_name = "DIR", default_value = ".forebay/demo")]
    dir: PathBuf,
}

/// How often progress is printed without a terminal.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(2);
/// Maximum time to drain what is in flight at the end.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(60);
/// How often the drain checks whether everything is written.
const DRAIN_CHECK_INTERVAL: Duration = Duration::from_millis(20);

/// Runs the command.
pub(crate) fn demo(global: &Global, output: &Output, args: &Args) -> Result<(), CliError> {
    if global.config.is_some() {
        return Err(CliError::usage("the demo has its own pipeline file", "run yours with `forebay run -c FILE`"));
    }
    let live = std::io::stdout().is_terminal() && !output.json();
    // Log lines would garble the live view, which shows the same events.
    start_logging(global.log_format, if live { "off" } else { "warn" });
    let verbose = !live && global.log_format == LogFormat::Text;
    if verbose {
        output.message(&format!(
            "demo: {} records/s from a local API, through the embedded broker, into {}",
            args.rate,
            args.dir.display()
        ));
    }
    let summary = on_actor_thread(async {
        let stop_signals = StopSignals::install()?;
        let people = people_api::start(ApiOptions { bad_every: args.bad_every, ..ApiOptions::default() })
            .await
            .map_err(|error| CliError::environment(format!("the demo's API can't listen on 127.0.0.1: {error}"), ""))?;
        let (pipeline, lock) = pipeline_file::write(&args.dir, &people.url, args.rate, args.listen)?;
        let running = start(pipeline.clone(), Role::ALL.to_vec(), false, Some(lock)).await?;
        if verbose {
            output.message(&format!("its API is at {}", address_of(&pipeline)));
        }
        let time_is_up = async {
            match args.duration {
                Some(duration) => tokio::time::sleep(duration).await,
                None => std::future::pending().await,
            }
        };
        let until = async {
            tokio::select! { () = time_is_up => {}, () = stop_signals.received() => {} }
        };
        tokio::select! {
            result = watch(output, &running, &pipeline, live, until) => result?,
            exit = running.exited() => return Err(escalated(&exit)),
        }
        drain(output, &running).await;
        stop(&running).await
    })?;
    print_summary(output, &summary);
    Ok(())
}

/// Shows the live view, or prints progress, until the view is left or `until` completes.
async fn watch(
    output: &Output,
    running: &Running,
    pipeline: &Pipeline,
    live: bool,
    until: impl Future<Output = ()>,
) -> Result<(), CliError> {
    if live {
        return super::monitor::in_process(running, pipeline, until).await;
    }
    let snapshots = running.snapshots();
    let mut until = std::pin::pin!(until);
    loop {
        tokio::select! {
            () = &mut until => return Ok(()),
            () = tokio::time::sleep(PROGRESS_INTERVAL) => progress(&snapshots.snapshot()).iter().for_each(|line| output.message(line)),
        }
    }
}

/// The counts on one line, and a line for each actor with a note.
fn progress(snapshot: &Snapshot) -> Vec<String> {
    let totals = snapshot.totals;
    let lag: u64 = snapshot.partitions.iter().map(forebay_schemas::snapshot::PartitionView::lag).sum();
    let counts = format!(
        "{:>6.1} s  fetched {}  produced {}  written {}  rejected {}  lag {lag}  p50 {:.1} ms  p99 {:.1} ms",
        (snapshot.at - snapshot.started_at).as_seconds_f64(),
        totals.fetched,
        totals.produced,
        totals.written,
        totals.rejected,
        snapshot.latency_ms.p50,
        snapshot.latency_ms.p99
    );
    let notes = snapshot.actors.iter().filter_map(|actor| Some(format!("          {}: {}", actor.path, actor.note.as_ref()?)));
    std::iter::once(counts).chain(notes).collect()
}

/// Stops the schedule and waits until every fetched record is written or a dead letter, so that the
/// counts of the summary add up.
async fn drain(output: &Output, running: &Running) {
    running.stop_schedule();
    let settled = async {
        loop {
            // Also before the first check: the request to stop queues behind earlier messages.
            tokio::time::sleep(DRAIN_CHECK_INTERVAL).await;
            let snapshot = running.snapshots().snapshot();
            if snapshot.desired.state == DesiredState::Paused {
                return output.message("the pipeline is paused; unwritten records stay in the topic");
            }
            if snapshot.edges.iter().any(|edge| edge.used_bytes > 0) {
                continue;
            }
            running.settled(DRAIN_CHECK_INTERVAL).await;
            // A page that is being handed over again is in no budget.
            let totals = running.snapshots().snapshot().totals;
            if totals.fetched <= totals.written + totals.rejected {
                return;
            }
        }
    };
    if tokio::time::timeout(DRAIN_TIMEOUT, settled).await.is_err() {
        output.message("not everything was written within a minute; the rest stays in the topic");
    }
}
