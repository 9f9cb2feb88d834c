//! `forebay dlq`: lists the dead letters of a running pipeline, or redrives them.

use forebay_schemas::api::{DeadLetter, DeadLetters, PlanRequest};

use crate::api_client::Target;
use crate::commands::flags::{Apply, Limit};
use crate::error::CliError;
use crate::global::Global;
use crate::output::Output;
use crate::runtime::block_on;

/// Flags of `dlq`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  forebay dlq                                      newest first, each with its reason
  forebay dlq --limit 500 --json | jq -r .reason | sort | uniq -c
  forebay dlq redrive                              print what a redrive would do
  forebay dlq redrive --reason 'the SQL is fixed' --yes")]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    limit: Limit,
    #[command(flatten)]
    target: Target,
}

#[derive(clap::Subcommand)]
enum Action {
    /// Produce dead letters to the topic again, each once; without --yes, print what it would do
    Redrive {
        #[command(flatten)]
        apply: Apply,
        #[command(flatten)]
        target: Target,
    },
}

/// Runs the command.
pub(crate) fn dlq(global: &Global, output: &Output, args: &Args) -> Result<(), CliError> {
    match &args.action {
        None => list(global, output, args),
        Some(Action::Redrive { apply, target }) => redrive(global, output, target, apply.reason()),
    }
}

fn list(global: &Global, output: &Output, args: &Args) -> Result<(), CliError> {
    let client = args.target.client(global)?;
    let dead: DeadLetters = block_on(client.get(&["v1", "dlq"], &[("limit", args.limit.limit.to_string())]))?;
    for letter in &dead.letters {
        output.print_as(letter, line);
    }
    if !output.json() {
        output.message(&format!("{} of {} in {}", dead.letters.len(), dead.total, dead.topic));
    }
    Ok(())
}

fn line(letter: &DeadLetter) -> String {
    let origin = letter.origin.map_or_else(|| "never in the topic".to_owned(), |(partition, offset)| format!("p{partition}:{offset}"));
    let key = letter.record.key.as_deref().unwrap_or("-");
    format!("{}  {origin}  {}  key {key}: {}", letter.record.offset, letter.stage, letter.reason)
}

/// Redrives when there is a reason; else prints what it would do.
fn redrive(global: &Global, output: &Output, target: &Target, reason: Option<&str>) -> Result<(), CliError> {
    let client = target.client(global)?;
    let applied = block_on(client.plan(output, &PlanRequest::Redrive { letters: None }, reason))?;
    if let Some(applied) = applied.filter(|_| !output.json()) {
        output.print(&format!("done: {} records are in the topic again", applied.records));
        if applied.cut > 0 {
            output.message(&format!(
                "{} dead letters remain: their value is truncated, and the topic no longer holds the record; fetch it from the source again",
                applied.cut
            ));
        }
    }
    Ok(())
}
