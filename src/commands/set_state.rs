//! `forebay pause`, `drain` and `resume`: set the desired state of a pipeline.

use forebay_schemas::api::{PipelineView, StateRequest};
use forebay_schemas::desired::DesiredState;

use crate::api_client::Target;
use crate::commands::flags::RequiredReason;
use crate::error::CliError;
use crate::global::Global;
use crate::output::Output;
use crate::runtime::block_on;

/// Flags of `pause`, `drain` and `resume`.
#[derive(clap::Args)]
#[command(after_help = "\
The state is kept in the journal: it survives a restart, until another of the three commands \
changes it. New runs are refused until `resume`; open runs stay open.

Examples:
  forebay pause --reason 'upgrading Cassandra'     stop fetching and reading; keep the partitions
  forebay drain --reason 'the API sends garbage'   stop fetching, write what the topic holds
  forebay resume --reason 'done' --json")]
pub(crate) struct Args {
    #[command(flatten)]
    reason: RequiredReason,
    #[command(flatten)]
    target: Target,
}

/// Runs the command.
pub(crate) fn set_state(global: &Global, output: &Output, args: &Args, state: DesiredState) -> Result<(), CliError> {
    let client = args.target.client(global)?;
    let view: PipelineView = block_on(async {
        let name = client.snapshot().await?.pipeline;
        client.put(&["v1", "pipelines", &name, "state"], &StateRequest { state, reason: args.reason.reason.clone() }).await
    })?;
    if output.json() {
        output.print_json(&view);
    } else {
        let state = format!("{:?}", view.desired.state).to_lowercase();
        output.print(&format!("{} is {state} by {}: {}; lag {}", view.name, view.desired.by, view.desired.reason, view.lag));
    }
    Ok(())
}
