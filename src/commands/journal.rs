//! `forebay journal`: reads the events of a pipeline, whether it runs or not.

use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::SecondsFormat;
use forebay_actors::journal::{Follower, JournalError, segment, snapshot};
use forebay_actors::ledger::{LedgerError, State, fold};
use forebay_schemas::event::{Event, Recorded, decode};
use forebay_schemas::pipeline::nearest;
use serde_json::json;

use crate::error::CliError;
use crate::global::{Global, load_pipeline};
use crate::output::Output;

/// Flags of `journal`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  forebay journal show                              every event
  forebay journal show --follow --type 'Run*'       follow the events of runs
  forebay journal show --from 1200 --json | jq .    from event 1200, as stored
  forebay journal verify                            check every line and every snapshot
  forebay journal state --at 1200                   the state after event 1200")]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
    /// Directory of the journal; default: that of the pipeline file
    #[arg(long, value_name = "DIR", global = true)]
    dir: Option<PathBuf>,
}

#[derive(clap::Subcommand)]
enum Action {
    /// Print events
    Show(ShowArgs),
    /// Check every line and every snapshot
    Verify,
    /// Print the state that the events fold to
    State {
        /// Sequence number of the last event to fold; default: the last one
        #[arg(long, value_name = "SEQ")]
        at: Option<u64>,
    },
}

#[derive(clap::Args)]
struct ShowArgs {
    /// First event to print
    #[arg(long, value_name = "SEQ", default_value_t = 1)]
    from: u64,
    /// Last event to print
    #[arg(long, value_name = "SEQ", default_value_t = u64::MAX, hide_default_value = true)]
    to: u64,
    /// Only events of these types; a trailing * matches any suffix
    #[arg(long = "type", value_name = "TYPE", value_delimiter = ',')]
    types: Vec<String>,
    /// Only events of this run
    #[arg(long, value_name = "ID")]
    run: Option<uuid::Uuid>,
    /// Keep printing new events
    #[arg(long, short = 'f')]
    follow: bool,
}

/// How often a follower checks for new events.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Runs the command.
pub(crate) fn journal(global: &Global, output: &Output, args: &Args) -> Result<(), CliError> {
    let dir = match &args.dir {
        Some(dir) => dir.clone(),
        None => forebay_actors::data_dir::journal_dir(&load_pipeline(global)?),
    };
    let follows = matches!(&args.action, Action::Show(show) if show.follow);
    if segment::list(&dir).map_err(unreadable)?.is_empty() && !follows {
        let help = "the first `forebay run` creates it; --dir names another directory";
        return Err(CliError::environment(format!("there is no journal in {}", dir.display()), help));
    }
    match &args.action {
        Action::Show(args) => show(output, &dir, args),
        Action::Verify => verify(output, &dir),
        Action::State { at } => {
            let state = fold(&dir, at.unwrap_or(u64::MAX)).map_err(|error| broken(&error))?;
            if let Some(at) = at.filter(|&at| at > state.seq) {
                return Err(CliError::usage(format!("there is no event {at}; the last one is {}", state.seq), ""));
            }
            output.print_object(&state);
            Ok(())
        }
    }
}

fn show(output: &Output, dir: &Path, args: &ShowArgs) -> Result<(), CliError> {
    for kind in &args.types {
        if !Event::KINDS.iter().any(|known| matches(kind, known)) {
            let near = nearest(kind, Event::KINDS.iter().copied()).map(|near| format!("did you mean {near}? ")).unwrap_or_default();
            return Err(CliError::usage(
                format!("{kind:?} is not an event type"),
                format!("{near}The types are {}", Event::KINDS.join(", ")),
            ));
        }
    }
    let mut follower = Follower::new(dir, args.from);
    loop {
        let mut last = 0;
        follower
            .read_new(|seq, json| {
                last = seq;
                if seq > args.to {
                    return Ok(());
                }
                let recorded = decode(json)?;
                let wanted = args.types.is_empty() || args.types.iter().any(|kind| matches(kind, recorded.event.kind()));
                if wanted && args.run.is_none_or(|run| recorded.event.run() == Some(run)) {
                    if output.json() {
                        output.print_verbatim(&String::from_utf8_lossy(json));
                    } else {
                        output.print(&line(&recorded));
                    }
                }
                Ok::<_, LedgerError>(())
            })
            .map_err(|error| broken(&error))?;
        if !args.follow || last >= args.to {
            return Ok(());
        }
        std::thread::sleep(POLL_INTERVAL);
    }
}

fn matches(pattern: &str, kind: &str) -> bool {
    pattern.strip_suffix('*').map_or(pattern == kind, |prefix| kind.starts_with(prefix))
}

fn line(recorded: &Recorded) -> String {
    let at = recorded.at.to_rfc3339_opts(SecondsFormat::Millis, true);
    let run = recorded.event.run().map(|run| format!(" run {run}")).unwrap_or_default();
    format!("{:>8}  {at}  {:<18}  {}{run}", recorded.seq, recorded.event.kind(), recorded.event)
}

/// Reads the whole journal, and folds it both with and without snapshots.
fn verify(output: &Output, dir: &Path) -> Result<(), CliError> {
    let segments = segment::list(dir).map_err(unreadable)?;
    let first = segments.first().map_or(1, |segment| segment.first);
    let mut from_events = (first == 1).then(State::default);
    let mut events = 0u64;
    let end = forebay_actors::journal::read(dir, 1, |_, json| {
        events += 1;
        let recorded = decode(json)?;
        if let Some(state) = &mut from_events {
            state.evolve(&recorded);
        }
        Ok::<_, LedgerError>(())
    })
    .map_err(|error| broken(&error))?;
    let from_snapshot = fold(dir, u64::MAX).map_err(|error| broken(&error))?;
    if from_events.is_some_and(|state| state != from_snapshot) {
        return Err(CliError::failed(
            "the state from a snapshot differs from the state from all events",
            "move the *.snap files away: all events are intact, and the next start folds them",
        ));
    }
    let snapshot = snapshot::latest(dir, u64::MAX).map_err(unreadable)?.map(|snapshot| snapshot.seq);
    let last = end.next - 1;
    if output.json() {
        let result = json!({
            "ok": true, "segments": segments.len(), "events": events, "first": first, "last": last, "snapshot": snapshot, "torn_bytes": end.torn,
        });
        output.print_json(&result);
        return Ok(());
    }
    let snapshot = snapshot.map_or_else(|| "no snapshot yet".to_owned(), |seq| format!("newest snapshot: event {seq}"));
    let torn =
        if end.torn > 0 { format!("; incomplete last line of {} bytes, which the next start removes", end.torn) } else { String::new() };
    output.print(&format!("intact: {events} events, {first} to {last}, in {} segments; {snapshot}{torn}", segments.len()));
    Ok(())
}

fn unreadable(error: JournalError) -> CliError {
    broken(&error.into())
}

fn broken(error: &LedgerError) -> CliError {
    CliError::failed(error.to_string(), "")
}
