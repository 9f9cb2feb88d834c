//! `forebay pause`, `drain` and `resume`: what a pipeline is meant to do from now on, also after a restart.

use forebay_schemas::api::{DesiredState, PipelineView, StateRequest};

use crate::Global;
use crate::api_client::Target;
use crate::end::End;
use crate::talk::Talk;

/// Flags of the three.
#[derive(clap::Args)]
#[command(after_help = "\
It is in the journal, so it holds after a restart until another of the three is said. New runs are refused until `resume`; open ones stay open.

Examples:
  forebay pause --reason 'cassandra is being upgraded'       fetch nothing, read nothing; partitions stay with this process
  forebay drain --reason 'the API sends nonsense'            fetch nothing, write what the topic holds
  forebay resume --reason 'done' --json")]
pub(crate) struct Args {
    /// Why, for whoever reads the journal
    #[arg(long, value_name = "TEXT")]
    reason: String,
    #[command(flatten)]
    target: Target,
}

/// Runs the command.
pub(crate) fn desire(global: &Global, talk: &Talk, args: &Args, state: DesiredState) -> Result<(), End> {
    let client = args.target.client(global)?;
    let view: PipelineView = crate::block_on(async {
        let name = client.snapshot().await?.pipeline;
        client.put(&["v1", "pipelines", &name, "state"], &StateRequest { state, reason: args.reason.clone() }).await
    })?;
    if talk.json() {
        talk.data(&serde_json::to_string(&view).expect("a pipeline is JSON"));
    } else {
        let state = format!("{:?}", view.desired.state).to_lowercase();
        talk.data(&format!("{} is {state} by {}: {}; lag {}", view.name, view.desired.by, view.desired.reason, view.lag));
    }
    Ok(())
}
