//! `forebay plan`: shows what `forebay run` would do now. Asks servers and reads the journal;
//! creates nothing.

use std::fmt::Write as _;
use std::time::Duration;

use forebay_actors::broker;
use forebay_actors::data_dir::journal_dir;
use forebay_actors::ledger::fold;
use forebay_actors::pipeline::Blueprint;
use forebay_dataplane::store::{Store, TableDescription};
use forebay_schemas::desired::DesiredState;
use forebay_schemas::event::StartOrigin;
use forebay_schemas::pipeline::{Bytes, HumanDuration};
use forebay_schemas::printable;
use forebay_schemas::run_plan::{FetchPlan, GroupPlan, RetentionPlan, RunPlan, StartPlan, Step, TablePlan, TopicPlan};

use crate::error::CliError;
use crate::global::{Global, load_pipeline};
use crate::output::Output;
use crate::runtime::block_on;
use crate::server_timeout::{in_time, kafka_name, store_in_time};

/// Flags of `plan`.
#[derive(clap::Args)]
#[command(after_help = "\
Shows which topics, keyspace and table `run` would create and which do not fit, where it \
would start reading each partition and why, whether the SQL has changed since the last run \
and what follows, and where the fetch would continue. Creates nothing: no topic, table, \
group or file.

Examples:
  forebay plan
  forebay plan --json | jq '.changes, .problems'
  forebay plan -c users.toml && forebay run -c users.toml

--json prints one object, described by schemas/json/plan.schema.json.

Exit codes: 0 `run` would do what is shown, 1 `run` would fail, 2 the pipeline file is \
wrong, 3 a server is unreachable")]
pub(crate) struct Args {
    /// Give up on a server after this long
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = humantime::parse_duration)]
    timeout: Duration,
}

/// Runs the command.
pub(crate) fn plan(global: &Global, output: &Output, args: &Args) -> Result<(), CliError> {
    let blueprint = Blueprint::new(load_pipeline(global)?)?;
    let dir = journal_dir(&blueprint.pipeline);
    let before = fold(&dir, u64::MAX).map_err(|error| CliError::environment(error.to_string(), "`forebay run` would not start either"))?;
    let plan = block_on(async {
        let (kafka, table) = tokio::join!(kafka(&blueprint, args.timeout), table(&blueprint, args.timeout));
        forebay_actors::pipeline::plan_start(&blueprint, &before, kafka, table)
    });
    if output.json() {
        output.print_json(&plan);
    } else {
        output.print_verbatim(&text(&plan));
    }
    verdict(output, &plan)
}

async fn kafka(blueprint: &Blueprint, timeout: Duration) -> Result<broker::ClusterState, String> {
    let name = kafka_name(&blueprint.pipeline);
    in_time(timeout, "[kafka] bootstrap", broker::inspect(&blueprint.pipeline)).await.map_err(|error| format!("{name}: {error}"))
}

async fn table(blueprint: &Blueprint, timeout: Duration) -> Option<Result<TableDescription, String>> {
    let spec = blueprint.table.as_deref()?;
    let answer = async { Store::connect(&blueprint.pipeline, None).await?.describe_table(spec).await };
    let look = store_in_time(timeout, answer).await;
    Some(look.map_err(|error| format!("Cassandra {}: {error}", Store::describe_of(&blueprint.pipeline))))
}

/// The exit code of a plan.
fn verdict(output: &Output, plan: &RunPlan) -> Result<(), CliError> {
    const HELP: &str = "each line above has the remedy";
    let (code, message) = match (plan.away.len(), plan.problems.len()) {
        (0, 0) => return Ok(()),
        (0, n) => (1, format!("`forebay run` would fail: {n} problems")),
        (n, _) => (3, format!("the plan is incomplete: {n} servers did not answer")),
    };
    match code {
        _ if output.json() => Err(CliError::silent(code)),
        1 => Err(CliError::failed(message, HELP)),
        _ => Err(CliError::environment(message, HELP)),
    }
}

/// The plan for a person: first what changes, then the details.
fn text(plan: &RunPlan) -> String {
    let mut text = String::new();
    put(&mut text, &format!("pipeline {}", plan.pipeline));
    for (mark, lines) in [('+', &plan.changes), ('!', &plan.problems), ('?', &plan.away)] {
        lines.iter().for_each(|line| put(&mut text, &format!("  {mark} {line}")));
    }
    plan.warnings.iter().for_each(|warning| put(&mut text, &format!("  warning: {}", warning.what)));
    if plan.changes.is_empty() && plan.problems.is_empty() && plan.away.is_empty() {
        put(&mut text, "  nothing to change: continues where it was");
    }
    plan.topics.iter().for_each(|it| topic(&mut text, it));
    plan.table.iter().for_each(|it| table_lines(&mut text, it));
    if let Some(sql) = &plan.sql {
        put(&mut text, &format!("SQL {}: {}", sql.fingerprint, sql.follows));
    }
    plan.group.iter().for_each(|it| group(&mut text, it));
    plan.fetch.iter().for_each(|it| fetch(&mut text, it));
    if let Some(RetentionPlan { bytes, seconds }) = plan.retention {
        let (bytes, time) = (Bytes(bytes), HumanDuration(Duration::from_secs(seconds)));
        put(&mut text, &format!("retention of the embedded topics: {bytes}, {time}; unwritten records are kept"));
    }
    let journal = &plan.journal;
    match journal.last {
        0 => put(&mut text, &format!("journal {}: new", journal.folder)),
        last => put(&mut text, &format!("journal {}: continues after event {last}", journal.folder)),
    }
    if journal.running {
        put(&mut text, "  a process is running: this is what a start would do after it has stopped");
    }
    let state = match journal.desired.state {
        DesiredState::Running => return text,
        DesiredState::Paused => "paused: no fetches, no reads",
        DesiredState::Drained => "drained: no fetches",
    };
    put(&mut text, &format!("{state}, by {} ({}), until `forebay resume`", journal.desired.by, journal.desired.reason));
    text
}

/// Adds a line, printable.
fn put(text: &mut String, line: &str) {
    let _ = writeln!(text, "{}", printable(line));
}

fn step_word(step: Step) -> &'static str {
    match step {
        Step::Keep => "exists",
        Step::Make => "will be created",
        Step::Refuse => "does not fit",
    }
}

fn topic(text: &mut String, topic: &TopicPlan) {
    put(text, &format!("topic {} {}: {} partitions", topic.name, step_word(topic.step), topic.partitions));
    topic.differences.iter().for_each(|difference| put(text, &format!("  {difference}")));
}

fn table_lines(text: &mut String, table: &TablePlan) {
    put(text, &format!("table {} in {} {}", table.name, table.store, step_word(table.step)));
    let width = table.columns.iter().map(|column| column.name.len()).max().unwrap_or(0);
    for column in &table.columns {
        let key = if column.key { ", primary key" } else { "" };
        let tombstone = if column.tombstone { ", null writes a tombstone" } else { "" };
        let there = match &column.there {
            None if table.step != Step::Make => ", missing".to_owned(),
            _ => String::new(),
        };
        put(text, &format!("  {:width$}  {}{key}{tombstone}{there}", column.name, column.cql));
    }
    if !table.untouched.is_empty() {
        put(text, &format!("  not written: {}", table.untouched.join(", ")));
    }
}

fn group(text: &mut String, group: &GroupPlan) {
    let members = match group.members {
        Some(0) => "no members".to_owned(),
        Some(members) => format!("{members} members, which keep their share"),
        None => "members unknown".to_owned(),
    };
    put(text, &format!("group {}: {members}", group.name));
    group.partitions.iter().for_each(|start| put(text, &format!("  {}", start_line(start))));
}

fn start_line(start: &StartPlan) -> String {
    let StartPlan { partition, begin, end, .. } = start;
    let how = match start.origin {
        None => return format!("p{partition}: [{begin}..{end}), no start offset"),
        Some(StartOrigin::Group) => "committed by the group".to_owned(),
        Some(StartOrigin::Journal) => format!("from the journal; the group committed {}", start.committed.unwrap_or_default()),
        Some(StartOrigin::Earliest) => "the earliest offset".to_owned(),
        Some(StartOrigin::Reset) => "the earliest offset, after a reset".to_owned(),
    };
    format!("p{partition}: [{begin}..{end}) from {}, {how}; {} offsets to read", start.from.unwrap_or(*begin), start.waiting())
}

fn fetch(text: &mut String, fetch: &FetchPlan) {
    let when = fetch.every.as_ref().map_or_else(|| "when triggered".to_owned(), |every| format!("every {every}"));
    let cursor = match &fetch.cursor {
        Some(cursor) if cursor.origin == "journal" => format!(", continues with {}={}", cursor.param, cursor.value),
        Some(cursor) => format!(", starts with {}={}", cursor.param, cursor.value),
        None => String::new(),
    };
    let runs = if fetch.open_runs > 0 { format!("; {} requested runs go first", fetch.open_runs) } else { String::new() };
    let others = fetch.reads.saturating_sub(u64::from(fetch.cursor.as_ref().is_some_and(|cursor| cursor.origin == "journal")));
    let reads = if others > 0 { format!(", {others} reads with params have their own cursors") } else { String::new() };
    put(text, &format!("fetch of {} {when}{cursor}{reads}{runs}", fetch.api));
}
