//! `forebay shadow`: a candidate for the SQL beside the SQL of the pipeline file, on the same
//! records. Writes nothing.

use std::path::PathBuf;
use std::time::Duration;

use chrono::{DateTime, Utc};
use forebay_actors::ProcessClock;
use forebay_actors::pipeline::{Blueprint, Change, Comparison, shadow as compare};
use forebay_kernel::Clock as _;

use crate::commands::flags::Limit;
use crate::error::CliError;
use crate::global::{Global, load_pipeline};
use crate::output::Output;
use crate::runtime::block_on;

/// Flags of `shadow`.
#[derive(clap::Args)]
#[command(after_help = "\
Reads the topic's records, takes each through the SQL of the pipeline file and through the \
candidate, and prints those of which the two make different rows or rejects. The pipeline may be \
running; its offsets and its table do not change. At most 100,000 records are compared.

Examples:
  forebay shadow --sql new.sql
  forebay shadow --sql new.sql --since 1d --limit 5
  forebay shadow --sql new.sql --json | jq .differing

Exit codes: 0 nothing differs, 1 something does or the candidate does not compile")]
pub(crate) struct Args {
    /// File with the candidate: one SELECT, as in `[transformer] sql`
    #[arg(long, value_name = "FILE")]
    sql: PathBuf,
    /// How far back records are compared
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = humantime::parse_duration)]
    since: Duration,
    #[command(flatten)]
    limit: Limit,
}

/// Runs the command.
pub(crate) fn shadow(global: &Global, output: &Output, args: &Args) -> Result<(), CliError> {
    let active = load_pipeline(global)?;
    if !active.writes() {
        return Err(CliError::usage("the pipeline ends at the topic", "it has no SQL to compare with"));
    }
    let file = args.sql.display();
    let sql = std::fs::read_to_string(&args.sql)
        .map_err(|cause| CliError::usage(format!("{file} can't be read: {cause}"), "name a file with one SELECT"))?;
    let mut candidate = active.clone();
    if let Some(transformer) = &mut candidate.transformer {
        transformer.sql = sql;
    }
    let active = Blueprint::new(active)?;
    // The position of its error would be one of the pipeline file.
    let candidate = Blueprint::new(candidate).map_err(|error| CliError::failed(format!("{file}: {error}"), "correct the candidate"))?;
    let since = DateTime::<Utc>::from(ProcessClock.wall()) - args.since;
    let found = block_on(compare(&active, &candidate, since.timestamp_millis(), args.limit.limit.into()))
        .map_err(|error| CliError::environment(error.to_string(), "check it with `forebay doctor`"))?;
    let Some(found) = found else {
        return Err(CliError::environment("the embedded Kafka of the pipeline is not running", "start it with `forebay run`"));
    };
    if output.json() {
        output.print_json(&found);
    } else {
        print(output, &found);
    }
    if found.differing > 0 { Err(CliError::silent(1)) } else { Ok(()) }
}

fn print(output: &Output, found: &Comparison) {
    let Comparison { topic, compared, not_compared, differing, newly_rejected, changes } = found;
    for Change { partition, offset, active, candidate } in changes {
        output.print(&format!("p{partition}:{offset}"));
        active.lines('-').into_iter().chain(candidate.lines('+')).for_each(|line| output.print(&line));
    }
    let hidden = match differing - changes.len() as u64 {
        0 => String::new(),
        hidden => format!(", {hidden} of them not shown"),
    };
    let left = if *not_compared > 0 { format!("; {not_compared} newer offsets were not compared") } else { String::new() };
    output.message(&format!("{compared} records of {topic} compared: {differing} differ{hidden}, {newly_rejected} newly rejected{left}"));
}
