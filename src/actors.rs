//! `forebay actors`: the supervision tree of a running pipeline, and restarting a part of it.

use forebay_schemas::api::{Actors, Reason};
use forebay_schemas::snapshot::ActorView;

use crate::Global;
use crate::api_client::Target;
use crate::end::End;
use crate::talk::Talk;

/// Flags of `actors`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  forebay actors                                   a line an actor
  forebay actors --json | jq '.actors[] | select(.state != \"up\")'
  forebay actors restart root/egress/writer --reason 'its connection hangs'")]
pub(crate) struct Args {
    #[command(subcommand)]
    what: Option<What>,
    #[command(flatten)]
    target: Target,
}

#[derive(clap::Subcommand)]
enum What {
    /// End an actor's incarnation; its supervisor starts the next one, as after a crash
    Restart {
        /// Its path in the tree
        path: String,
        /// Why, for whoever reads the journal
        #[arg(long, value_name = "TEXT")]
        reason: String,
        #[command(flatten)]
        target: Target,
    },
}

/// Runs the command.
pub(crate) fn actors(global: &Global, talk: &Talk, args: &Args) -> Result<(), End> {
    match &args.what {
        None => {
            let client = args.target.client(global)?;
            let actors: Actors = crate::block_on(client.get(&["v1", "actors"], &[]))?;
            if talk.json() {
                talk.data(&serde_json::to_string(&actors).expect("actors are JSON"));
            } else {
                actors.actors.iter().for_each(|actor| talk.data(&line(actor)));
            }
        }
        Some(What::Restart { path, reason, target }) => {
            let client = target.client(global)?;
            let mut segments = vec!["v1", "actors"];
            segments.extend(path.split('/'));
            segments.push("restart");
            let actor: ActorView = crate::block_on(client.post(&segments, &Reason { reason: reason.clone() }))?;
            if talk.json() {
                talk.data(&serde_json::to_string(&actor).expect("an actor is JSON"));
            } else {
                talk.data(&format!("{} is restarted; this was incarnation {}", actor.path, actor.incarnation));
            }
        }
    }
    Ok(())
}

fn line(actor: &ActorView) -> String {
    let state = format!("{:?}", actor.state).to_lowercase();
    let said = actor.note.as_ref().or(actor.last_exit.as_ref()).map_or_else(String::new, |said| format!("  {said}"));
    format!("{:<28} {state:<10} incarnation {}{said}", actor.path, actor.incarnation)
}
