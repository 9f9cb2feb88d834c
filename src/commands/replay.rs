//! `forebay replay`: resets the group's offsets, so that records are read again. A dry run without
//! `--yes`; journaled.
//!
//! Asks the API when the pipeline runs, because only the process that owns the partitions can reset
//! them. Otherwise it moves the group's offsets itself.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use forebay_actors::ProcessClock;
use forebay_actors::data_dir::is_running;
use forebay_actors::operations::replay::{FOLLOWS, Move, ReplayError};
use forebay_actors::pipeline::Running;
use forebay_kernel::Clock as _;
use forebay_schemas::api::{ParseReplayFromError, PlanRequest, ReplayFrom};
use forebay_schemas::error_class::{Class, Classified};
use serde_json::json;

use crate::api_client::Target;
use crate::commands::flags::Apply;
use crate::error::CliError;
use crate::global::{Global, load_pipeline};
use crate::logging::start_logging;
use crate::output::Output;
use crate::runtime::{block_on, on_actor_thread};

/// Flags of `replay`.
#[derive(clap::Args)]
#[command(after_help = "\
Moves the consumer group's offsets back, so that the pipeline, or the next `forebay run`, \
reads those records again and overwrites their rows: after a change of the SQL, or when the \
table was lost. Asks the API when the pipeline runs. If several processes share the group, \
stop them first.

Until the replay has caught up, rows may be older than before. Rows that were deleted by \
hand come back, and rows that were changed by hand get the values of their record. If the \
records of a key are in several partitions (partitions were added, or records have no key), \
the row ends up with one of them, not necessarily the newest.

Examples:
  forebay replay --from earliest                              print what it would do
  forebay replay --from earliest --reason 'new SQL' --yes     apply it
  forebay replay --from 0:1200,3:900 --reason '…' --yes       partitions 0 and 3, from these offsets
  forebay replay --from 2026-11-24T06:00:00Z --reason '…' --yes
                                                              from the first record of that time
  forebay replay --from 2h --reason '…' --yes                 the last two hours")]
pub(crate) struct Args {
    /// Where to start: earliest, PARTITION:OFFSET,…, a time, or a duration back from now
    #[arg(long, value_name = "FROM", value_parser = parse)]
    from: FromArg,
    #[command(flatten)]
    apply: Apply,
    #[command(flatten)]
    target: Target,
}

/// The value of `--from`.
#[derive(Debug, Clone, PartialEq, Eq)]
enum FromArg {
    At(ReplayFrom),
    Ago(Duration),
}

fn parse(text: &str) -> Result<FromArg, String> {
    if let Some(ago) = humantime::parse_duration(text).ok().filter(|ago| !ago.is_zero()) {
        return Ok(FromArg::Ago(ago));
    }
    text.parse().map(FromArg::At).map_err(|error: ParseReplayFromError| format!("{error}, or a duration such as 2h"))
}

/// Maximum time to the first answer of the broker. The embedded one starts with this command.
const BROKER_TIMEOUT: Duration = Duration::from_secs(30);

/// Runs the command.
pub(crate) fn replay(global: &Global, output: &Output, args: &Args) -> Result<(), CliError> {
    start_logging(global.log_format, "warn");
    let pipeline = load_pipeline(global)?;
    let from = match &args.from {
        FromArg::At(from) => from.clone(),
        FromArg::Ago(ago) => ReplayFrom::Time(DateTime::<Utc>::from(ProcessClock.wall()) - *ago),
    };
    let reason = args.apply.reason();
    if args.target.url.is_some() || is_running(&pipeline) {
        return replay_running(global, output, args, from);
    }
    let moves = on_actor_thread(async {
        let running = crate::process::start(pipeline, Vec::new(), false, None).await?;
        let work = async {
            let moves = plan(&running, &from).await?;
            if let Some(reason) = reason.filter(|_| moves.iter().any(|each| each.to.is_some())) {
                running
                    .replay(&moves, reason, forebay_schemas::offset::Epoch::new(rand::random()), ProcessClock.wall())
                    .await
                    .map_err(|error| cli_error(&error))?;
            }
            Ok(moves)
        };
        let result = tokio::select! {
            result = work => result,
            exit = running.exited() => return Err(crate::process::escalated(&exit)),
        };
        crate::process::stop(&running).await?;
        result
    })?;
    report(output, reason.is_some(), &moves);
    Ok(())
}

/// Asks the running pipeline to reset its offsets.
fn replay_running(global: &Global, output: &Output, args: &Args, from: ReplayFrom) -> Result<(), CliError> {
    let client = args.target.client(global)?;
    let applied = block_on(client.plan(output, &PlanRequest::Replay { from }, args.apply.reason()))?;
    if let Some(applied) = applied.filter(|_| !output.json()) {
        output.message(&format!("done: {} offsets are read again", applied.records));
    }
    Ok(())
}

async fn plan(running: &Running, from: &ReplayFrom) -> Result<Vec<Move>, CliError> {
    let deadline = Instant::now() + BROKER_TIMEOUT;
    loop {
        match running.plan_replay(from).await {
            Ok(moves) => return Ok(moves),
            Err(ReplayError::Broker(error)) if error.class() == Class::Transient && Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Err(error) => return Err(cli_error(&error)),
        }
    }
}

fn cli_error(error: &ReplayError) -> CliError {
    match error {
        ReplayError::NoConsumer => CliError::usage(error.to_string(), "add [consumer], [transformer], [writer] and [cassandra]"),
        ReplayError::Broker(_) | ReplayError::Journal(_) => CliError::environment(error.to_string(), "no offset was moved"),
    }
}

fn report(output: &Output, done: bool, moves: &[Move]) {
    if output.json() {
        output.print_json(&json!({ "done": done, "partitions": moves }));
        return;
    }
    moves.iter().for_each(|each| output.print(&each.to_string()));
    let again: u64 = moves.iter().map(|each| each.again).sum();
    let moves_any = moves.iter().any(|each| each.to.is_some());
    if moves_any && !done {
        output.message(FOLLOWS);
    }
    output.message(&match (moves_any, done) {
        (false, _) => "nothing to move: a replay only moves offsets back".to_owned(),
        (true, false) => format!("dry run: no offset was moved; --reason and --yes apply it, and {again} offsets are read again"),
        (true, true) => format!("done: the next `forebay run` reads {again} offsets again"),
    });
}

#[cfg(test)]
mod tests {
    use forebay_schemas::offset::Offset;

    use super::*;

    #[test]
    fn from_is_earliest_offsets_a_time_or_a_duration() {
        assert_eq!(parse("earliest"), Ok(FromArg::At(ReplayFrom::Earliest)));
        assert_eq!(parse("begin"), Ok(FromArg::At(ReplayFrom::Earliest)), "the former name");
        let offsets = [(0, Offset(1200)), (3, Offset(900))].into_iter().collect();
        assert_eq!(parse("0:1200, 3:900"), Ok(FromArg::At(ReplayFrom::Offsets(offsets))));
        assert_eq!(parse("2h"), Ok(FromArg::Ago(Duration::from_secs(7_200))));
        assert!(matches!(parse("2026-11-24T06:00:00Z"), Ok(FromArg::At(ReplayFrom::Time(_)))));
        for wrong in ["", "end", "0", "0:", "a:1", "0:-1"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
