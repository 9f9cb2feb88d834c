//! `forebay dlq`: the dead letters of a running pipeline, and putting them into the topic again.

use forebay_schemas::api::{DeadLetter, DeadLetters, PlanRequest};

use crate::Global;
use crate::api_client::Target;
use crate::end::End;
use crate::talk::Talk;

/// Flags of `dlq`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  forebay dlq                                      the last ones, newest first, with their reasons
  forebay dlq --limit 500 --json | jq -r .reason | sort | uniq -c
  forebay dlq redrive                              what a redrive would do
  forebay dlq redrive --reason 'the SQL takes them now' --yes")]
pub(crate) struct Args {
    #[command(subcommand)]
    what: Option<What>,
    /// How many at most
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    limit: u16,
    #[command(flatten)]
    target: Target,
}

#[derive(clap::Subcommand)]
enum What {
    /// Put dead letters that were not redriven yet into the topic again, as new records; without --yes say what it would do
    Redrive {
        /// Why, for whoever reads the journal
        #[arg(long, value_name = "TEXT", required_if_eq("yes", "true"))]
        reason: Option<String>,
        /// Do it
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        target: Target,
    },
}

/// Runs the command.
pub(crate) fn dlq(global: &Global, talk: &Talk, args: &Args) -> Result<(), End> {
    match &args.what {
        None => list(global, talk, args),
        Some(What::Redrive { reason, yes, target }) => redrive(global, talk, target, reason.as_deref().filter(|_| *yes)),
    }
}

fn list(global: &Global, talk: &Talk, args: &Args) -> Result<(), End> {
    let client = args.target.client(global)?;
    let dead: DeadLetters = crate::block_on(client.get(&["v1", "dlq"], &[("limit", args.limit.to_string())]))?;
    for letter in &dead.letters {
        talk.data(&if talk.json() { serde_json::to_string(letter).expect("a letter is JSON") } else { line(letter) });
    }
    if !talk.json() {
        talk.say(&format!("{} of {} in {}", dead.letters.len(), dead.total, dead.topic));
    }
    Ok(())
}

fn line(letter: &DeadLetter) -> String {
    let origin = letter.origin.map_or_else(|| "never in the topic".to_owned(), |(partition, offset)| format!("p{partition}:{offset}"));
    let key = letter.record.key.as_deref().unwrap_or("-");
    format!("{}  {origin}  {}  key {key}: {}", letter.record.offset, letter.stage, letter.reason)
}

/// With a reason it is done, else said.
fn redrive(global: &Global, talk: &Talk, target: &Target, reason: Option<&str>) -> Result<(), End> {
    let client = target.client(global)?;
    let applied = crate::block_on(client.plan(talk, &PlanRequest::Redrive { letters: None }, reason))?;
    if let Some(applied) = applied.filter(|_| !talk.json()) {
        talk.data(&format!("done: {} records are in the topic again", applied.records));
        if applied.cut > 0 {
            talk.say(&format!(
                "{} letters are left: their value is cut, and the topic does not hold the record any more; ask the source for it again",
                applied.cut
            ));
        }
    }
    Ok(())
}
