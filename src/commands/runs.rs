//! `forebay runs`: lists the runs of a running pipeline, shows one, or cancels one.

use forebay_schemas::api::{Reason, Runs};
use forebay_schemas::run::Run;
use uuid::Uuid;

use super::trigger::line;
use crate::api_client::Target;
use crate::commands::flags::Limit;
use crate::error::CliError;
use crate::global::Global;
use crate::output::Output;
use crate::runtime::block_on;

/// Flags of `runs`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  forebay runs                                     the last runs, newest first
  forebay runs --state failed --limit 5 --json
  forebay runs show 0192f0c1-7a00-7000-8000-000000000001
  forebay runs cancel 0192f0c1-7a00-7000-8000-000000000001 --reason 'wrong day'")]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Option<Action>,
    /// Only runs in this state
    #[arg(long, value_parser = ["requested", "running", "draining", "succeeded", "failed", "cancelled"])]
    state: Option<String>,
    #[command(flatten)]
    limit: Limit,
    #[command(flatten)]
    target: Target,
}

#[derive(clap::Subcommand)]
enum Action {
    /// Show one run in detail
    Show {
        /// Identifier of the run
        id: Uuid,
        #[command(flatten)]
        target: Target,
    },
    /// Cancel a run; records already produced are still written
    Cancel {
        /// Identifier of the run
        id: Uuid,
        /// Why; it is kept in the journal
        #[arg(long, value_name = "TEXT", default_value = "")]
        reason: String,
        #[command(flatten)]
        target: Target,
    },
}

/// Runs the command.
pub(crate) fn runs(global: &Global, output: &Output, args: &Args) -> Result<(), CliError> {
    match &args.action {
        None => {
            let client = args.target.client(global)?;
            let mut query = vec![("limit", args.limit.limit.to_string())];
            query.extend(args.state.clone().map(|state| ("state", state)));
            let Runs { runs } = block_on(client.get(&["v1", "runs"], &query))?;
            if runs.is_empty() && !output.json() {
                output.message("no runs; `forebay trigger` requests one");
            }
            runs.iter().for_each(|run| output.print_as(run, line));
        }
        Some(Action::Show { id, target }) => {
            let client = target.client(global)?;
            let run: Run = block_on(client.get(&["v1", "runs", &id.to_string()], &[]))?;
            output.print_object(&run);
        }
        Some(Action::Cancel { id, reason, target }) => {
            let client = target.client(global)?;
            let body = Reason { reason: reason.clone() };
            let run: Run = block_on(client.post(&["v1", "runs", &id.to_string(), "cancel"], &body))?;
            output.print_as(&run, line);
        }
    }
    Ok(())
}
