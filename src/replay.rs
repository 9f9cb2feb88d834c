//! `forebay replay`: reads records again, from an earlier offset on. Explicit, journaled, and a dry run unless told otherwise.
//!
//! Of a pipeline that runs it asks the API, for only who reads the partitions may set them back; else it moves the group's offsets itself.

use std::time::{Duration, Instant, SystemTime};

use chrono::Utc;
use forebay_actors::pipeline::replay::{FOLLOWS, Move, ReplayError};
use forebay_actors::pipeline::{Running, is_running};
use forebay_schemas::api::{NotFrom, PlanRequest, ReplayFrom};
use serde_json::json;

use crate::Global;
use crate::api_client::Target;
use crate::end::End;
use crate::talk::{self, Talk};

/// Flags of `replay`.
#[derive(clap::Args)]
#[command(after_help = "\
Moves the consumer group's offsets back, so that the pipeline, or the next `forebay run`, reads those records again and writes them over
what stands in the table; for records of the SQL's old version, or for a table that was lost. Without --yes nothing moves. Of a pipeline that
runs it asks the API; with several processes on the consumer group, stop them first. Until the replay has caught up, rows may look older
than they were. Rows deleted by hand come back, and rows changed by hand get their record's values. Of a key whose records are in several
partitions (partitions were added, or records have no key) the row is afterwards that of one of them, which need not be the newest.

Examples:
  forebay replay --from begin                                     what it would do
  forebay replay --from begin --reason 'address was cut' --yes    do it
  forebay replay --from 0:1200,3:900 --reason '…' --yes           partitions 0 and 3, from these offsets on
  forebay replay --from 2026-11-24T06:00:00Z --reason '…' --yes   from the first record of that time on
  forebay replay --from 2h --reason '…' --yes                     the last two hours")]
pub(crate) struct Args {
    /// From where: begin, PARTITION:OFFSET,…, a time, or how long ago
    #[arg(long, value_name = "FROM", value_parser = parse)]
    from: Wanted,
    /// Why, for whoever reads the journal
    #[arg(long, value_name = "TEXT", required_if_eq("yes", "true"))]
    reason: Option<String>,
    /// Do it
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    target: Target,
}

/// From where, as it stands on the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Wanted {
    At(ReplayFrom),
    Ago(Duration),
}

fn parse(text: &str) -> Result<Wanted, String> {
    if let Some(ago) = humantime::parse_duration(text).ok().filter(|ago| !ago.is_zero()) {
        return Ok(Wanted::Ago(ago));
    }
    text.parse().map(Wanted::At).map_err(|why: NotFrom| format!("{why}, nor how long ago, such as 2h"))
}

/// How long the broker may take to answer at first; the embedded one starts with this command.
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs the command.
pub(crate) fn replay(global: &Global, talk: &Talk, args: &Args) -> Result<(), End> {
    talk::start_logging(global.log_format, "warn");
    let pipeline = crate::load_pipeline(global)?;
    let from = match &args.from {
        Wanted::At(from) => from.clone(),
        Wanted::Ago(ago) => ReplayFrom::Time(Utc::now() - *ago),
    };
    if args.target.url.is_some() || is_running(&pipeline) {
        return ask(global, talk, args, from);
    }
    let moves = crate::run::on_actor_thread(async {
        let running = crate::run::start(pipeline, Vec::new(), false, None).await?;
        let end = async {
            let moves = plan(&running, &from).await?;
            if args.yes && moves.iter().any(|each| each.to.is_some()) {
                let reason = args.reason.as_deref().unwrap_or_default();
                running.replay(&moves, reason, rand::random(), SystemTime::now()).await.map_err(|error| failed(&error))?;
            }
            Ok(moves)
        };
        let end = tokio::select! {
            end = end => end,
            exit = running.exited() => return Err(crate::run::escalated(&exit)),
        };
        crate::run::stop(&running).await?;
        end
    })?;
    say(talk, args.yes, &moves);
    Ok(())
}

/// Has the pipeline that runs set back.
fn ask(global: &Global, talk: &Talk, args: &Args, from: ReplayFrom) -> Result<(), End> {
    let client = args.target.client(global)?;
    let applied = crate::block_on(client.plan(talk, &PlanRequest::Replay { from }, args.reason.as_deref().filter(|_| args.yes)))?;
    if let Some(applied) = applied.filter(|_| !talk.json()) {
        talk.say(&format!("done: {} offsets are read again", applied.records));
    }
    Ok(())
}

async fn plan(running: &Running, from: &ReplayFrom) -> Result<Vec<Move>, End> {
    let until = Instant::now() + PATIENCE;
    loop {
        match running.plan_replay(from).await {
            Ok(moves) => return Ok(moves),
            Err(ReplayError::Broker(error)) if error.class() == forebay_schemas::failure::Class::Transient && Instant::now() < until => {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Err(error) => return Err(failed(&error)),
        }
    }
}

fn failed(error: &ReplayError) -> End {
    match error {
        ReplayError::NoConsumer => End::usage(error.to_string(), "add [consumer], [transformer], [writer] and [cassandra]"),
        ReplayError::Broker(_) | ReplayError::Journal(_) => End::environment(error.to_string(), "nothing was moved"),
    }
}

fn say(talk: &Talk, done: bool, moves: &[Move]) {
    if talk.json() {
        talk.data(&json!({ "done": done, "partitions": moves }).to_string());
        return;
    }
    moves.iter().for_each(|each| talk.data(&each.to_string()));
    let again: u64 = moves.iter().map(|each| each.again).sum();
    talk.say(&match (moves.iter().any(|each| each.to.is_some()), done) {
        (false, _) => "nothing to move: a replay goes back only".to_owned(),
        (true, false) => format!("{FOLLOWS}\na dry run: nothing was moved; {again} offsets would be read again, with --reason and --yes"),
        (true, true) => format!("done: the next `forebay run` reads {again} offsets again"),
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn from_is_a_word_offsets_a_time_or_how_long_ago() {
        assert_eq!(parse("begin"), Ok(Wanted::At(ReplayFrom::Begin)));
        assert_eq!(parse("0:1200, 3:900"), Ok(Wanted::At(ReplayFrom::Offsets([(0, 1200), (3, 900)].into_iter().collect()))));
        assert_eq!(parse("2h"), Ok(Wanted::Ago(Duration::from_secs(7_200))));
        assert!(matches!(parse("2026-11-24T06:00:00Z"), Ok(Wanted::At(ReplayFrom::Time(_)))));
        for wrong in ["", "end", "0", "0:", "a:1", "0:-1"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
