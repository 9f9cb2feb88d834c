//! `forebay monitor`: a running pipeline in the terminal, live.

use std::io::IsTerminal as _;

use crate::Global;
use crate::api_client::Target;
use crate::end::End;

/// Flags of `monitor`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  forebay monitor                                  the pipeline at [api] listen; finds a running `forebay demo`
  forebay monitor --url http://127.0.0.1:7071
  NO_COLOR=1 forebay monitor --ascii               no colour, and no line drawing")]
pub(crate) struct Args {
    /// Draw with ASCII only
    #[arg(long)]
    ascii: bool,
    #[command(flatten)]
    target: Target,
}

/// Runs the command.
pub(crate) fn monitor(global: &Global, args: &Args) -> Result<(), End> {
    if !std::io::stdout().is_terminal() {
        return Err(End::usage("the monitor needs a terminal", "for scripts there is `forebay status --json`"));
    }
    let source = forebay_tui::Source::Http { url: args.target.url(global)? };
    let options = forebay_tui::Options { colour: crate::talk::colour_wanted(), ascii: args.ascii };
    crate::block_on(forebay_tui::live(source, options, std::future::pending()))
        .map(|_| ())
        .map_err(|cause| End::environment(format!("the terminal can't be used: {cause}"), ""))
}
