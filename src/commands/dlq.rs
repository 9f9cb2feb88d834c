//! `forebay dlq`: lists the dead letters of a running pipeline, counts them by reason, shows what
//! the SQL of the file makes of them, and redrives or drops them.

use std::collections::BTreeMap;

use forebay_actors::pipeline::{Blueprint, Diff, Difference, Outcome, diff};
use forebay_schemas::api::PlanRequest;
use forebay_schemas::dead_letter_filter::DeadLetterFilter;
use forebay_schemas::dead_letters::{DeadLetter, DeadLetterReasons, DeadLetters};
use forebay_schemas::offset::{Offset, Partition, Range, Ranges};

use crate::api_client::Target;
use crate::commands::flags::{Apply, Limit};
use crate::error::CliError;
use crate::global::{Global, load_pipeline};
use crate::output::Output;
use crate::runtime::block_on;

/// Flags of `dlq`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  forebay dlq                                      newest first, each with its reason
  forebay dlq --stage write --matching 'too long'
  forebay dlq reasons                              how many have which reason
  forebay dlq show 0:17                            one, with its headers and its record
  forebay dlq diff                                 what the SQL of the file makes of them now
  forebay dlq redrive                              print what a redrive would do
  forebay dlq redrive --reason 'the SQL is fixed' --yes
  forebay dlq redrive 0:40-60 --reason 'the SQL is fixed' --yes
  forebay dlq drop --matching 'not JSON' --reason 'a test' --yes")]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    filter: Filter,
    #[command(flatten)]
    limit: Limit,
    #[command(flatten)]
    target: Target,
}

/// Which dead letters.
#[derive(clap::Args, Clone)]
struct Filter {
    /// Only those that this stage rejected
    #[arg(long, value_parser = clap::builder::PossibleValuesParser::new(DeadLetterFilter::STAGES))]
    stage: Option<String>,
    /// Only those with this text in their reason, in upper or lower case
    #[arg(long, value_name = "TEXT")]
    matching: Option<String>,
    /// Only those of records with this key
    #[arg(long)]
    key: Option<String>,
}

impl Filter {
    fn filter(&self) -> DeadLetterFilter {
        DeadLetterFilter { stage: self.stage.clone(), matching: self.matching.clone(), key: self.key.clone() }
    }

    fn query(&self) -> Vec<(&'static str, String)> {
        let parts = [("stage", &self.stage), ("matching", &self.matching), ("key", &self.key)];
        parts.into_iter().filter_map(|(name, value)| Some((name, value.clone()?))).collect()
    }
}

/// Dead letters by their position in the dead-letter topic.
#[derive(clap::Args, Clone)]
struct Positions {
    /// Only these: PARTITION:OFFSET, or PARTITION:FIRST-LAST
    #[arg(value_name = "POSITION", value_parser = positions)]
    positions: Vec<(Partition, Range)>,
}

impl Positions {
    /// The ranges; `None` for all.
    ///
    /// # Errors
    /// When a partition has several, which are not one range.
    fn ranges(&self) -> Result<Option<Ranges>, CliError> {
        let mut ranges = BTreeMap::<Partition, Range>::new();
        for &(partition, range) in &self.positions {
            if let Some(other) = ranges.insert(partition, range) {
                let remedy = "run the command once for each, or select by --stage, --matching or --key";
                return Err(CliError::usage(format!("partition {partition} has two ranges, {other} and {range}"), remedy));
            }
        }
        Ok((!ranges.is_empty()).then(|| ranges.into_iter().collect()))
    }
}

#[derive(clap::Subcommand)]
enum Action {
    /// Count dead letters by reason, with an example of each
    Reasons {
        #[command(flatten)]
        filter: Filter,
        #[command(flatten)]
        target: Target,
    },
    /// Print a dead letter with its headers and its record
    Show {
        /// Its position in the dead-letter topic
        #[arg(value_name = "PARTITION:OFFSET", value_parser = position)]
        position: (Partition, Offset),
        #[command(flatten)]
        target: Target,
    },
    /// Print what the SQL and the schema of the pipeline file make of dead letters now; changes
    /// nothing
    Diff {
        /// Only this one, by its position in the dead-letter topic
        #[arg(value_name = "PARTITION:OFFSET", value_parser = position)]
        position: Option<(Partition, Offset)>,
        #[command(flatten)]
        filter: Filter,
        #[command(flatten)]
        limit: Limit,
    },
    /// Produce dead letters to the topic again, each once; without --yes, print what it would do
    Redrive(Change),
    /// Drop dead letters, so that none is redriven; without --yes, print what it would do
    Drop(Change),
}

/// Which dead letters to redrive or to drop, and whether to do it.
#[derive(clap::Args)]
struct Change {
    #[command(flatten)]
    positions: Positions,
    #[command(flatten)]
    filter: Filter,
    #[command(flatten)]
    apply: Apply,
    #[command(flatten)]
    target: Target,
}

fn position(text: &str) -> Result<(Partition, Offset), String> {
    let (partition, offset) = text.split_once(':').ok_or("write PARTITION:OFFSET, such as 0:17")?;
    let offset: u32 = offset.parse().map_err(|error| format!("{offset:?} is not an offset: {error}"))?;
    Ok((partition.parse().map_err(|error| format!("{partition:?} is not a partition: {error}"))?, Offset(offset.into())))
}

fn positions(text: &str) -> Result<(Partition, Range), String> {
    let (first, last) = text.split_once('-').unwrap_or((text, ""));
    let (partition, from) = position(first)?;
    let to = if last.is_empty() { from } else { position(&format!("{partition}:{last}"))?.1 };
    if to < from {
        return Err(format!("{text} ends before it begins"));
    }
    Ok((partition, Range { from, to: to + 1 }))
}

/// Runs the command.
pub(crate) fn dlq(global: &Global, output: &Output, args: &Args) -> Result<(), CliError> {
    match &args.action {
        None => list(global, output, args),
        Some(Action::Reasons { filter, target }) => reasons(global, output, filter, target),
        Some(Action::Show { position, target }) => show(global, output, *position, target),
        Some(Action::Diff { position, filter, limit }) => differences(global, output, *position, filter, limit),
        Some(Action::Redrive(change)) => {
            let plan = PlanRequest::Redrive { letters: change.positions.ranges()?, only: change.filter.filter() };
            apply(global, output, change, &plan, "records are in the topic again")
        }
        Some(Action::Drop(change)) => {
            let plan = PlanRequest::Drop { letters: change.positions.ranges()?, only: change.filter.filter() };
            apply(global, output, change, &plan, "dead letters are dropped")
        }
    }
}

fn list(global: &Global, output: &Output, args: &Args) -> Result<(), CliError> {
    let client = args.target.client(global)?;
    let query = [args.filter.query(), vec![("limit", args.limit.limit.to_string())]].concat();
    let dead: DeadLetters = block_on(client.get(&["v1", "dlq"], &query))?;
    for letter in &dead.letters {
        output.print_as(letter, line);
    }
    if !output.json() {
        let shown = dead.letters.len();
        output.message(&match args.filter.filter() {
            filter if filter.is_empty() => format!("{shown} of {} in {}", dead.total, dead.topic),
            filter => format!("{shown} {filter}; {}", of_which(dead.read, dead.total, &dead.topic)),
        });
    }
    Ok(())
}

/// How many dead letters an answer is about.
fn of_which(read: u64, total: u64, topic: &str) -> String {
    match read {
        read if read >= total => format!("all {total} of {topic} were read"),
        read => format!("the newest {read} of {total} in {topic} were read"),
    }
}

fn line(letter: &DeadLetter) -> String {
    let origin = letter.origin.map_or_else(|| "never in the topic".to_owned(), |(partition, offset)| format!("p{partition}:{offset}"));
    let key = letter.record.key.as_deref().unwrap_or("-");
    let handled = if letter.handled { ", redriven or dropped" } else { "" };
    let (partition, offset) = (letter.record.partition, letter.record.offset);
    format!("{partition}:{offset}  {origin}  {}  key {key}: {}{handled}", letter.stage, letter.reason)
}

fn reasons(global: &Global, output: &Output, filter: &Filter, target: &Target) -> Result<(), CliError> {
    let client = target.client(global)?;
    let found: DeadLetterReasons = block_on(client.get(&["v1", "dlq", "reasons"], &filter.query()))?;
    if output.json() {
        output.print_json(&found);
        return Ok(());
    }
    for reason in &found.reasons {
        let (partition, offset) = reason.newest;
        output.print(&format!("{:>6}  {}: {}", reason.count, reason.stage, reason.reason));
        let open = if reason.open == reason.count { String::new() } else { format!("; {} neither redriven nor dropped", reason.open) };
        output.print(&format!("        newest {partition}:{offset}: {}{open}", reason.example));
    }
    if found.left_out > 0 {
        output.message(&format!("{} dead letters have other reasons, which are left out", found.left_out));
    }
    output.message(&of_which(found.read, found.total, &found.topic));
    Ok(())
}

fn show(global: &Global, output: &Output, (partition, offset): (Partition, Offset), target: &Target) -> Result<(), CliError> {
    let client = target.client(global)?;
    let query = [("partition", partition.to_string()), ("offset", offset.to_string())];
    let dead: DeadLetters = block_on(client.get(&["v1", "dlq"], &query))?;
    let Some(letter) = dead.letters.first() else {
        return Err(CliError::usage(format!("{} has no dead letter {partition}:{offset}", dead.topic), "`forebay dlq` lists them"));
    };
    output.print_object(letter);
    Ok(())
}

fn differences(
    global: &Global,
    output: &Output,
    position: Option<(Partition, Offset)>,
    filter: &Filter,
    limit: &Limit,
) -> Result<(), CliError> {
    let pipeline = load_pipeline(global)?;
    if !pipeline.writes() {
        return Err(CliError::usage("the pipeline ends at the topic", "it has no SQL that dead letters could pass"));
    }
    let found = block_on(async {
        let blueprint = Blueprint::new(pipeline)?;
        let found = diff(&blueprint, &filter.filter(), position, limit.limit.into()).await;
        found.map_err(|error| CliError::environment(error.to_string(), "check it with `forebay doctor`"))
    })?;
    let Some(found) = found else {
        return Err(CliError::environment("the embedded Kafka of the pipeline is not running", "start it with `forebay run`"));
    };
    if output.json() {
        output.print_json(&found);
        return Ok(());
    }
    let Diff { topic, total, read, letters } = found;
    let (mut passed, mut filtered, mut rejected) = (0, 0, 0);
    for letter in &letters {
        let Difference { partition, offset, stage, reason, now } = letter;
        match now {
            Outcome::Rows(rows) if rows.is_empty() => filtered += 1,
            Outcome::Rows(_) => passed += 1,
            Outcome::Rejected { .. } | Outcome::Truncated => rejected += 1,
        }
        output.print(&format!("{partition}:{offset}"));
        output.print(&format!("- {stage}: {reason}"));
        now.lines('+').iter().for_each(|line| output.print(line));
    }
    let read = if position.is_some() { format!("of {topic}") } else { of_which(read, total, &topic) };
    output.message(&format!("{passed} would be rows now, {filtered} filtered out by the SQL, {rejected} still no rows; {read}"));
    Ok(())
}

/// Applies a plan when there is a reason; else prints what it would do. `done` follows the number
/// of records.
fn apply(global: &Global, output: &Output, change: &Change, plan: &PlanRequest, done: &str) -> Result<(), CliError> {
    let client = change.target.client(global)?;
    let applied = block_on(client.plan(output, plan, change.apply.reason()))?;
    if let Some(applied) = applied.filter(|_| !output.json()) {
        output.print(&format!("done: {} {done}", applied.records));
        if applied.cut > 0 {
            output.message(&format!(
                "{} dead letters remain: their value is truncated, and the topic no longer holds the record; fetch it from the source again",
                applied.cut
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_one_offset_or_a_range_that_includes_its_last() {
        let range = |from, to| Range { from: Offset(from), to: Offset(to) };
        assert_eq!(positions("0:17"), Ok((0, range(17, 18))));
        assert_eq!(positions("3:40-60"), Ok((3, range(40, 61))));
        for text in ["17", "a:1", "0:x", "0:9-3", "0:-1"] {
            assert!(positions(text).is_err(), "{text}");
        }
    }
}
