//! `forebay status`: prints the state of a running pipeline.

use std::io::IsTerminal as _;

use crate::api_client::Target;
use crate::error::CliError;
use crate::global::Global;
use crate::output::Output;
use crate::runtime::block_on;

/// Flags of `status`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  forebay status                                   stages, partitions with their lag, actors, runs
  forebay status --json | jq .totals.written       one number
  forebay status --url http://127.0.0.1:7071       another pipeline")]
pub(crate) struct Args {
    #[command(flatten)]
    target: Target,
}

/// Runs the command.
pub(crate) fn status(global: &Global, output: &Output, args: &Args) -> Result<(), CliError> {
    let client = args.target.client(global)?;
    let snapshot = block_on(client.snapshot())?;
    if output.json() {
        output.print_json(&snapshot);
    } else {
        let options = if std::io::stdout().is_terminal() { super::monitor::terminal_options() } else { forebay_tui::Options::default() };
        output.print_verbatim(&forebay_tui::status_text(&snapshot, options));
    }
    Ok(())
}
