//! `forebay cursor`: where each read of the source is, and setting it. Explicit, journaled, and a dry run unless told otherwise.
//!
//! Of a pipeline that runs it asks the API; else it reads the journal, and writes it as `forebay run` would.

use forebay_actors::pipeline::cursor::{self, CursorError, Setting};
use forebay_actors::pipeline::{cursors_of, is_running};
use forebay_schemas::api::{Cursors, PlanRequest};
use forebay_schemas::pipeline::Pipeline;
use forebay_schemas::read::{Position, Read};
use forebay_schemas::snapshot::CursorView;
use serde_json::json;

use crate::Global;
use crate::api_client::Target;
use crate::end::End;
use crate::talk::{self, Talk};

/// Flags of `cursor`.
#[derive(clap::Args)]
#[command(after_help = "\
A read is what the pages of a fetch are of: the source, with the params of the run. Each has a cursor of its own, from which its next fetch
goes on. A read at its begin is not listed. Without --yes nothing is set. A fetch of the read that is under way goes on where it is, and does not
undo what is set.

Examples:
  forebay cursor show                                                      every read that is not at its begin
  forebay cursor show --param day=2026-01-01                               one read
  forebay cursor reset --param day=2026-01-01                              what it would do
  forebay cursor reset --reason 'the API refuses the old one' --yes        the next fetch without params begins at the first page
  forebay cursor set 2026-11-24T00:00:00Z --reason 'start here' --yes      the next fetch without params goes on there")]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand)]
enum What {
    /// Print where reads are
    Show {
        #[command(flatten)]
        of: Of,
    },
    /// Set the cursor that the next fetch of a read goes on at
    Set {
        /// The cursor, as the API gave it
        cursor: String,
        #[command(flatten)]
        act: Act,
    },
    /// Set a read back to its begin
    Reset {
        #[command(flatten)]
        act: Act,
    },
}

/// Of which read.
#[derive(clap::Args)]
struct Of {
    /// A param of the read, one that `[fetcher] params` names; without any it is the read of scheduled fetches, and of runs without params
    #[arg(long, value_name = "NAME=VALUE", value_parser = crate::pair)]
    param: Vec<(String, String)>,
    #[command(flatten)]
    target: Target,
}

#[derive(clap::Args)]
struct Act {
    #[command(flatten)]
    of: Of,
    /// Why; it is kept in the journal
    #[arg(long, value_name = "TEXT", required_if_eq("yes", "true"))]
    reason: Option<String>,
    /// Do it
    #[arg(long)]
    yes: bool,
}

/// Runs the command.
pub(crate) fn cursor(global: &Global, talk: &Talk, args: &Args) -> Result<(), End> {
    match &args.what {
        What::Show { of } => show(global, talk, of),
        What::Set { cursor, act } => set(global, talk, act, &Position::Cursor(cursor.clone())),
        What::Reset { act } => set(global, talk, act, &Position::Begin),
    }
}

fn show(global: &Global, talk: &Talk, of: &Of) -> Result<(), End> {
    let running = of.target.url.is_some() || is_running(&crate::load_pipeline(global)?);
    let mut cursors = if running {
        let client = of.target.client(global)?;
        let cursors: Cursors = crate::block_on(client.get(&["v1", "cursors"], &[("limit", "1000".to_owned())]))?;
        if cursors.total > cursors.cursors.len() as u64 {
            talk.say(&format!("the {} that moved last, of {}", cursors.cursors.len(), cursors.total));
        }
        cursors.cursors
    } else {
        let pipeline = crate::load_pipeline(global)?;
        cursors_of(&kept(&pipeline)?, usize::MAX)
    };
    let read = Read::of(&of.param.iter().cloned().collect());
    if !of.param.is_empty() {
        cursors.retain(|view| view.read == read.text());
    }
    for view in &cursors {
        talk.data(&if talk.json() { serde_json::to_string(view).expect("a cursor is JSON") } else { line(view) });
    }
    if cursors.is_empty() {
        talk.say(&if of.param.is_empty() {
            "every read is at its begin".to_owned()
        } else {
            format!("the read of {read} is at its begin")
        });
    }
    Ok(())
}

/// Where reads are, by the journal.
fn kept(pipeline: &Pipeline) -> Result<forebay_actors::ledger::Cursors, End> {
    cursor::kept(pipeline).map_err(|error| End::environment(error.to_string(), "`forebay run` would not start either"))
}

fn line(view: &CursorView) -> String {
    let read = if view.read.is_empty() { "(no params)" } else { &view.read };
    let moved = view.moved_at.map(|at| format!("  moved {}", at.format("%Y-%m-%d %H:%M:%S UTC"))).unwrap_or_default();
    format!("{read}  {:?}{moved}", view.cursor)
}

fn set(global: &Global, talk: &Talk, act: &Act, to: &Position) -> Result<(), End> {
    talk::start_logging(global.log_format, "warn");
    let params = act.of.param.iter().cloned().collect();
    let reason = act.reason.as_deref().filter(|_| act.yes);
    if act.of.target.url.is_some() || is_running(&crate::load_pipeline(global)?) {
        let client = act.of.target.client(global)?;
        let request = PlanRequest::Cursor { params, to: to.clone() };
        let applied = crate::block_on(client.plan(talk, &request, reason))?;
        if applied.is_some() && !talk.json() {
            talk.say("done");
        }
        return Ok(());
    }
    let pipeline = crate::load_pipeline(global)?;
    let setting = Setting::plan(&pipeline, &kept(&pipeline)?, &params, to.clone()).map_err(|error| failed(&error))?;
    let done = reason.is_some() && setting.changes();
    if let Some(reason) = reason.filter(|_| done) {
        crate::run::on_actor_thread(async {
            let running = crate::run::start(pipeline, Vec::new(), false, None).await?;
            let end = running.set_cursor(&setting, reason).await.map_err(|error| failed(&error));
            crate::run::stop(&running).await?;
            end
        })?;
    }
    if talk.json() {
        let Setting { read, from, to, .. } = &setting;
        talk.data(&json!({ "done": done, "read": read, "from": from, "to": to }).to_string());
        return Ok(());
    }
    setting.effects().iter().for_each(|effect| talk.data(effect));
    talk.say(match (setting.changes(), done) {
        (false, _) => "nothing to do",
        (true, false) => "a dry run: nothing was done; with --reason and --yes it is",
        (true, true) => "done",
    });
    Ok(())
}

fn failed(error: &CursorError) -> End {
    match error {
        CursorError::NoCursors => {
            End::usage(error.to_string(), "say in [fetcher] cursor where the API gives one; docs/OPERATIONS.md, Cursors")
        }
        CursorError::Params(_) | CursorError::Length(_) => End::usage(error.to_string(), "`forebay cursor show` lists the reads there are"),
        CursorError::Rejected(_) | CursorError::Journal(_) => End::environment(error.to_string(), "nothing was set"),
    }
}
