//! `forebay actors`: lists the actors of a running pipeline, or restarts one.

use forebay_schemas::api::{Actors, Reason};
use forebay_schemas::snapshot::{ActorState, ActorView};

use crate::api_client::Target;
use crate::commands::flags::RequiredReason;
use crate::error::CliError;
use crate::global::Global;
use crate::output::Output;
use crate::runtime::block_on;

/// Flags of `actors`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  forebay actors                                   one line per actor
  forebay actors --json | jq '.actors[] | select(.state != \"up\")'
  forebay actors restart root/egress/writer --reason 'its connection hangs'")]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    target: Target,
}

#[derive(clap::Subcommand)]
enum Action {
    /// Restart an actor: its supervisor does the same as after a crash
    Restart {
        /// Path of the actor in the supervision tree
        path: String,
        #[command(flatten)]
        reason: RequiredReason,
        #[command(flatten)]
        target: Target,
    },
}

/// Runs the command.
pub(crate) fn actors(global: &Global, output: &Output, args: &Args) -> Result<(), CliError> {
    match &args.action {
        None => {
            let client = args.target.client(global)?;
            let actors: Actors = block_on(client.get(&["v1", "actors"], &[]))?;
            if output.json() {
                output.print_json(&actors);
            } else {
                actors.actors.iter().for_each(|actor| output.print(&line(actor)));
            }
        }
        Some(Action::Restart { path, reason, target }) => {
            let client = target.client(global)?;
            let mut segments = vec!["v1", "actors"];
            segments.extend(path.split('/'));
            segments.push("restart");
            let actor: ActorView = block_on(client.post(&segments, &Reason { reason: reason.reason.clone() }))?;
            if output.json() {
                output.print_json(&actor);
            } else if actor.state == ActorState::Restarting {
                output.print(&format!("{} is being restarted already; incarnation {} was the last", actor.path, actor.incarnation));
            } else {
                output.print(&format!("restarting {}; this was incarnation {}", actor.path, actor.incarnation));
            }
        }
    }
    Ok(())
}

fn line(actor: &ActorView) -> String {
    let state = format!("{:?}", actor.state).to_lowercase();
    let note = actor.note.as_ref().or(actor.last_exit.as_ref()).map_or_else(String::new, |note| format!("  {note}"));
    format!("{:<28} {state:<10} incarnation {}{note}", actor.path, actor.incarnation)
}
