//! `forebay runs`: the runs of a running pipeline; one in detail; calling one off.

use forebay_schemas::api::{Reason, Runs};
use forebay_schemas::run::Run;
use uuid::Uuid;

use crate::Global;
use crate::api_client::Target;
use crate::end::End;
use crate::talk::Talk;
use crate::trigger::line;

/// Flags of `runs`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  forebay runs                                     the last ones, newest first
  forebay runs --state failed --limit 5 --json
  forebay runs show 0192f0c1-7a00-7000-8000-000000000001
  forebay runs cancel 0192f0c1-7a00-7000-8000-000000000001 --reason 'wrong day'")]
pub(crate) struct Args {
    #[command(subcommand)]
    what: Option<What>,
    /// Only those in this state
    #[arg(long, value_parser = ["requested", "running", "draining", "succeeded", "failed", "cancelled"])]
    state: Option<String>,
    /// How many at most
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    limit: u16,
    #[command(flatten)]
    target: Target,
}

#[derive(clap::Subcommand)]
enum What {
    /// All of one run
    Show {
        /// Its identifier
        id: Uuid,
        #[command(flatten)]
        target: Target,
    },
    /// Call a run off: what is in the topic stays there and is written
    Cancel {
        /// Its identifier
        id: Uuid,
        /// Why, for whoever reads the journal
        #[arg(long, value_name = "TEXT", default_value = "")]
        reason: String,
        #[command(flatten)]
        target: Target,
    },
}

/// Runs the command.
pub(crate) fn runs(global: &Global, talk: &Talk, args: &Args) -> Result<(), End> {
    match &args.what {
        None => {
            let client = args.target.client(global)?;
            let mut query = vec![("limit", args.limit.to_string())];
            query.extend(args.state.clone().map(|state| ("state", state)));
            let Runs { runs } = crate::block_on(client.get(&["v1", "runs"], &query))?;
            if runs.is_empty() && !talk.json() {
                talk.say("no runs; `forebay trigger` asks for one");
            }
            runs.iter().for_each(|run| talk.data(&if talk.json() { json(run) } else { line(run) }));
        }
        Some(What::Show { id, target }) => {
            let client = target.client(global)?;
            let run: Run = crate::block_on(client.get(&["v1", "runs", &id.to_string()], &[]))?;
            talk.data(&if talk.json() { json(&run) } else { serde_json::to_string_pretty(&run).expect("a run is JSON") });
        }
        Some(What::Cancel { id, reason, target }) => {
            let client = target.client(global)?;
            let body = Reason { reason: reason.clone() };
            let run: Run = crate::block_on(client.post(&["v1", "runs", &id.to_string(), "cancel"], &body))?;
            talk.data(&if talk.json() { json(&run) } else { line(&run) });
        }
    }
    Ok(())
}

fn json(run: &Run) -> String {
    serde_json::to_string(run).expect("a run is JSON")
}
