//! `forebay cursor`: shows the cursor of each read of the source, or sets one. A dry run without
//! `--yes`.
//!
//! Asks the API when the pipeline runs. Otherwise it reads the journal, and writes to it as
//! `forebay run` would.

use forebay_actors::cursors_of;
use forebay_actors::data_dir::is_running;
use forebay_actors::ledger::Watermarks;
use forebay_actors::operations::cursor::{self, CursorChange, CursorError};
use forebay_schemas::api::{Cursors, PlanRequest};
use forebay_schemas::pipeline::Pipeline;
use forebay_schemas::snapshot::{CursorView, WatermarkView};
use forebay_schemas::source_read::{Position, Read};
use serde_json::json;

use crate::api_client::Target;
use crate::commands::flags::{Apply, ReadFlags};
use crate::error::CliError;
use crate::global::{Global, load_pipeline};
use crate::logging::start_logging;
use crate::output::{DRY_RUN, Output};
use crate::runtime::{block_on, on_actor_thread};

/// Flags of `cursor`.
#[derive(clap::Args)]
#[command(after_help = "\
A read is the source together with a run's params and its window. Each read has its own cursor, where its \
next fetch continues. Reads at their start are not listed. A fetch in progress continues \
where it is, and does not overwrite the cursor that you set.

Examples:
  forebay cursor show                               every read that has a cursor
  forebay cursor show --param day=2026-01-01        one read
  forebay cursor show --from 2026-01-01 --to 2026-01-02
                                                    the read of a window
  forebay cursor reset --param day=2026-01-01       print what it would do
  forebay cursor reset --reason 'the API rejects the cursor' --yes
                                                    the next fetch without params starts over
  forebay cursor set 2026-11-24T00:00:00Z --reason 'start here' --yes
                                                    the next fetch without params continues there")]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand)]
enum Action {
    /// Print the cursors
    Show {
        #[command(flatten)]
        read: ReadArgs,
    },
    /// Set where the next fetch of a read continues; without --yes, print what it would do
    Set {
        /// Cursor, as the source API gave it
        cursor: String,
        #[command(flatten)]
        read: ReadArgs,
        #[command(flatten)]
        apply: Apply,
    },
    /// Reset a read to its start; without --yes, print what it would do
    Reset {
        #[command(flatten)]
        read: ReadArgs,
        #[command(flatten)]
        apply: Apply,
    },
}

/// Selects a read; without params and a window, that of scheduled fetches and of runs without any.
#[derive(clap::Args)]
struct ReadArgs {
    #[command(flatten)]
    params: ReadFlags,
    #[command(flatten)]
    target: Target,
}

/// Runs the command.
pub(crate) fn cursor(global: &Global, output: &Output, args: &Args) -> Result<(), CliError> {
    match &args.action {
        Action::Show { read } => show(global, output, read),
        Action::Set { cursor, read, apply } => set(global, output, read, apply.reason(), &Position::Cursor(cursor.clone())),
        Action::Reset { read, apply } => set(global, output, read, apply.reason(), &Position::Begin),
    }
}

fn show(global: &Global, output: &Output, args: &ReadArgs) -> Result<(), CliError> {
    let running = args.target.url.is_some() || is_running(&load_pipeline(global)?);
    let (mut cursors, mut watermarks) = if running {
        let client = args.target.client(global)?;
        let cursors: Cursors = block_on(client.get(&["v1", "cursors"], &[("limit", "1000".to_owned())]))?;
        if cursors.total > cursors.cursors.len() as u64 {
            output.message(&format!("the {} that moved last, of {}", cursors.cursors.len(), cursors.total));
        }
        (cursors.cursors, cursors.watermarks)
    } else {
        let (cursors, watermarks) = journaled(&load_pipeline(global)?)?;
        (cursors_of(&cursors, usize::MAX), watermarks.views())
    };
    let params = args.params.read_params();
    let read = Read::in_window(&params.values, params.window);
    if !read.is_plain() {
        cursors.retain(|view| view.read == read.text());
        watermarks.retain(|view| view.read == read.text());
    }
    for view in &cursors {
        output.print_as(view, line);
    }
    for view in &watermarks {
        output.print_as(view, watermark_line);
    }
    if cursors.is_empty() && watermarks.is_empty() {
        output.message(&if read.is_plain() {
            "every read is at its start".to_owned()
        } else {
            format!("the read of {read} is at its start")
        });
    }
    Ok(())
}

/// The cursors and the watermarks in the journal.
fn journaled(pipeline: &Pipeline) -> Result<(forebay_actors::ledger::Cursors, Watermarks), CliError> {
    cursor::kept(pipeline).map_err(|error| CliError::environment(error.to_string(), "`forebay run` would not start either"))
}

fn line(view: &CursorView) -> String {
    let read = if view.read.is_empty() { "(no params)" } else { &view.read };
    let moved = view.moved_at.map(|at| format!("  moved {}", at.format("%Y-%m-%d %H:%M:%S UTC"))).unwrap_or_default();
    format!("{read}  {:?}{moved}", view.cursor)
}

fn watermark_line(view: &WatermarkView) -> String {
    let read = if view.read.is_empty() { "(no params)" } else { &view.read };
    let watermark = view.watermark.as_deref().unwrap_or("none yet");
    let reached = view.reached.as_ref().map(|reached| format!(", and a fetch that is not complete is at {reached}")).unwrap_or_default();
    format!("{read}  watermark {watermark}{reached}  moved {}", view.moved_at.format("%Y-%m-%d %H:%M:%S UTC"))
}

/// Sets the cursor when there is a reason; else prints what it would do.
fn set(global: &Global, output: &Output, args: &ReadArgs, reason: Option<&str>, to: &Position) -> Result<(), CliError> {
    start_logging(global.log_format, "warn");
    let params = args.params.read_params();
    if args.target.url.is_some() || is_running(&load_pipeline(global)?) {
        let client = args.target.client(global)?;
        let request = PlanRequest::Cursor { params: params.values, window: params.window, to: to.clone() };
        let applied = block_on(client.plan(output, &request, reason))?;
        if applied.is_some() && !output.json() {
            output.message("done");
        }
        return Ok(());
    }
    let pipeline = load_pipeline(global)?;
    let setting = CursorChange::plan(&pipeline, &journaled(&pipeline)?.0, &params, to.clone()).map_err(|error| cli_error(&error))?;
    let done = reason.is_some() && setting.changes();
    if let Some(reason) = reason.filter(|_| done) {
        on_actor_thread(async {
            let running = crate::process::start(pipeline, Vec::new(), false, None).await?;
            let result = running.set_cursor(&setting, reason).await.map_err(|error| cli_error(&error));
            crate::process::stop(&running).await?;
            result
        })?;
    }
    if output.json() {
        let CursorChange { read, from, to, .. } = &setting;
        output.print_json(&json!({ "done": done, "read": read, "from": from, "to": to }));
        return Ok(());
    }
    setting.effects().iter().for_each(|effect| output.print(effect));
    output.message(match (setting.changes(), done) {
        (false, _) => "nothing to do",
        (true, false) => DRY_RUN,
        (true, true) => "done",
    });
    Ok(())
}

fn cli_error(error: &CursorError) -> CliError {
    match error {
        CursorError::NoCursors => CliError::usage(error.to_string(), "set [fetcher.paging] to how the API paginates; see docs/SOURCES.md"),
        CursorError::Params(_) | CursorError::Length(_) | CursorError::Kind(_) => {
            CliError::usage(error.to_string(), "`forebay cursor show` lists the reads")
        }
        CursorError::Rejected(_) | CursorError::Journal(_) => CliError::environment(error.to_string(), "nothing was changed"),
    }
}
