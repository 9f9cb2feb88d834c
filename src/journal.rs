//! `forebay journal`: reads the events of a pipeline, whether it runs or not.

use std::path::PathBuf;
use std::time::Duration;

use chrono::SecondsFormat;
use forebay_actors::journal::{Follower, JournalError, segment, snapshot};
use forebay_actors::ledger::{LedgerError, State, fold};
use forebay_schemas::event::{Event, Recorded, decode};
use forebay_schemas::pipeline::nearest;
use serde_json::json;

use crate::Global;
use crate::end::End;
use crate::talk::Talk;

/// Flags of `journal`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  forebay journal show                              every event there is
  forebay journal show --follow --type 'Run*'       runs, as they happen
  forebay journal show --from 1200 --json | jq .    from event 1200 on, as they stand in the file
  forebay journal verify                            every line, every snapshot
  forebay journal state --at 1200                   what was known after event 1200")]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
    /// The journal's folder; default: that of the pipeline file
    #[arg(long, value_name = "FOLDER", global = true)]
    dir: Option<PathBuf>,
}

#[derive(clap::Subcommand)]
enum What {
    /// Print events
    Show(Show),
    /// Check every line and every snapshot
    Verify,
    /// Print the state that the events make
    State {
        /// After this event; default: after the last one
        #[arg(long, value_name = "SEQ")]
        at: Option<u64>,
    },
}

#[derive(clap::Args)]
struct Show {
    /// From this event on
    #[arg(long, value_name = "SEQ", default_value_t = 1)]
    from: u64,
    /// Up to this event
    #[arg(long, value_name = "SEQ", default_value_t = u64::MAX, hide_default_value = true)]
    to: u64,
    /// Only events of these types; a * at the end stands for anything
    #[arg(long = "type", value_name = "TYPE", value_delimiter = ',')]
    types: Vec<String>,
    /// Only events of this run
    #[arg(long, value_name = "ID")]
    run: Option<uuid::Uuid>,
    /// Go on with what happens
    #[arg(long, short = 'f')]
    follow: bool,
}

/// How often a follower looks for more.
const LOOK: Duration = Duration::from_millis(100);

/// Runs the command.
pub(crate) fn journal(global: &Global, talk: &Talk, args: &Args) -> Result<(), End> {
    let folder = match &args.dir {
        Some(folder) => folder.clone(),
        None => forebay_actors::pipeline::journal_dir(&crate::load_pipeline(global)?),
    };
    let follows = matches!(&args.what, What::Show(show) if show.follow);
    if segment::list(&folder).map_err(unreadable)?.is_empty() && !follows {
        let help = "it begins with the first `forebay run`; --dir names another folder";
        return Err(End::environment(format!("there is no journal in {}", folder.display()), help));
    }
    match &args.what {
        What::Show(show) => self::show(talk, &folder, show),
        What::Verify => verify(talk, &folder),
        What::State { at } => {
            let state = fold(&folder, at.unwrap_or(u64::MAX)).map_err(|error| broken(&error))?;
            if let Some(at) = at.filter(|&at| at > state.seq) {
                return Err(End::usage(format!("there is no event {at}; the last one is {}", state.seq), ""));
            }
            talk.data(
                &if talk.json() { serde_json::to_string(&state) } else { serde_json::to_string_pretty(&state) }.expect("a state is JSON"),
            );
            Ok(())
        }
    }
}

fn show(talk: &Talk, folder: &std::path::Path, show: &Show) -> Result<(), End> {
    for kind in &show.types {
        if !Event::KINDS.iter().any(|known| matches(kind, known)) {
            let near = nearest(kind, Event::KINDS.iter().copied()).map(|near| format!("did you mean {near}? ")).unwrap_or_default();
            return Err(End::usage(format!("{kind:?} is no type of event"), format!("{near}the types are {}", Event::KINDS.join(", "))));
        }
    }
    let mut follower = Follower::new(folder, show.from);
    loop {
        let mut last = 0;
        follower
            .read_on(|seq, json| {
                last = seq;
                if seq > show.to {
                    return Ok(());
                }
                let recorded = decode(json)?;
                let typed = show.types.is_empty() || show.types.iter().any(|kind| matches(kind, recorded.event.kind()));
                if typed && show.run.is_none_or(|run| recorded.event.run() == Some(run)) {
                    talk.data(&if talk.json() { String::from_utf8_lossy(json).into_owned() } else { line(&recorded) });
                }
                Ok::<_, LedgerError>(())
            })
            .map_err(|error| broken(&error))?;
        if !show.follow || last >= show.to {
            return Ok(());
        }
        std::thread::sleep(LOOK);
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

/// Reads all there is, and folds it with and without snapshots.
fn verify(talk: &Talk, folder: &std::path::Path) -> Result<(), End> {
    let segments = segment::list(folder).map_err(unreadable)?;
    let first = segments.first().map_or(1, |segment| segment.first);
    let mut whole = (first == 1).then(State::default);
    let mut events = 0u64;
    let end = forebay_actors::journal::read(folder, 1, |_, json| {
        events += 1;
        let recorded = decode(json)?;
        if let Some(state) = &mut whole {
            state.evolve(&recorded);
        }
        Ok::<_, LedgerError>(())
    })
    .map_err(|error| broken(&error))?;
    let state = fold(folder, u64::MAX).map_err(|error| broken(&error))?;
    if whole.is_some_and(|whole| whole != state) {
        return Err(End::failed(
            "the state that a snapshot leads to is not the one that all events make",
            "move the *.snap files away: the events are whole, and a start folds them all",
        ));
    }
    let snapshot = snapshot::latest(folder, u64::MAX).map_err(unreadable)?.map(|snapshot| snapshot.seq);
    let last = end.next - 1;
    if talk.json() {
        let answer = json!({
            "ok": true, "segments": segments.len(), "events": events, "first": first, "last": last, "snapshot": snapshot, "torn_bytes": end.torn,
        });
        talk.data(&answer.to_string());
        return Ok(());
    }
    let snapshot = snapshot.map_or_else(|| "no snapshot yet".to_owned(), |seq| format!("the newest snapshot is of event {seq}"));
    let torn = if end.torn > 0 {
        format!("; {} bytes of a last line without its end, which the next start cuts", end.torn)
    } else {
        String::new()
    };
    talk.data(&format!("sound: {events} events, {first} to {last}, in {} segments; {snapshot}{torn}", segments.len()));
    Ok(())
}

fn unreadable(error: JournalError) -> End {
    broken(&error.into())
}

fn broken(error: &LedgerError) -> End {
    End::failed(error.to_string(), "")
}
