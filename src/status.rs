//! `forebay status`: one look at a running pipeline.

use crate::Global;
use crate::api_client::Target;
use crate::end::End;
use crate::talk::Talk;

/// Flags of `status`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  forebay status                                   path, partitions with their lag, actors, runs
  forebay status --json | jq .totals.written       one number of it
  forebay status --url http://127.0.0.1:7071       of another pipeline")]
pub(crate) struct Args {
    #[command(flatten)]
    target: Target,
}

/// Runs the command.
pub(crate) fn status(global: &Global, talk: &Talk, args: &Args) -> Result<(), End> {
    let client = args.target.client(global)?;
    let snapshot = crate::block_on(client.snapshot())?;
    let text = if talk.json() {
        serde_json::to_string(&snapshot).expect("a snapshot is JSON")
    } else {
        use std::io::IsTerminal as _;
        let options = crate::monitor::options_here();
        let plain = forebay_tui::Options::default();
        forebay_tui::status_text(&snapshot, if std::io::stdout().is_terminal() { options } else { plain })
    };
    talk.data(&text);
    Ok(())
}
