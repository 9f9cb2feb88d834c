//! `forebay plan`: what `forebay run` would do as things are. Asks servers and the journal, and makes nothing.

use std::fmt::Write as _;
use std::time::Duration;

use forebay_actors::broker;
use forebay_actors::ledger::fold;
use forebay_actors::pipeline::{Blueprint, journal_dir, outlook};
use forebay_dataplane::store::{Store, TableLook};
use forebay_schemas::api::DesiredState;
use forebay_schemas::event::Origin;
use forebay_schemas::pipeline::{Bytes, Span};
use forebay_schemas::plan::{FetchPlan, GroupPlan, RetentionPlan, RunPlan, StartPlan, Step, TablePlan, TopicPlan};

use crate::Global;
use crate::doctor::{in_time, kafka_of, store_in_time};
use crate::end::End;
use crate::talk::Talk;

/// Flags of `plan`.
#[derive(clap::Args)]
#[command(after_help = "\
Says which topics, keyspace and table would be made or do not fit, where each partition would be read from and why, whether the SQL is
another one than at the last run and what follows, and where the fetch would go on. It makes nothing: no topic, no table, no group, no file.

Examples:
  forebay plan
  forebay plan --json | jq '.changes, .problems'
  forebay plan -c pipelines/users/forebay.toml && forebay run -c pipelines/users/forebay.toml

--json gives one object: schemas/json/plan.schema.json.
Exit codes: 0 `run` would go on or do what is said, 1 it would stumble over something, 2 the file is wrong, 3 a server is away")]
pub(crate) struct Args {
    /// The longest wait for one server
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = humantime::parse_duration)]
    timeout: Duration,
}

/// Runs the command.
pub(crate) fn plan(global: &Global, talk: &Talk, args: &Args) -> Result<(), End> {
    let blueprint = Blueprint::draw(crate::load_pipeline(global)?)?;
    let folder = journal_dir(&blueprint.pipeline);
    let before = fold(&folder, u64::MAX).map_err(|error| End::environment(error.to_string(), "`forebay run` would not start either"))?;
    let plan = crate::block_on(async {
        let (kafka, table) = tokio::join!(kafka(&blueprint, args.timeout), table(&blueprint, args.timeout));
        outlook(&blueprint, &before, kafka, table)
    });
    if talk.json() {
        talk.data(&serde_json::to_string(&plan).expect("a plan is JSON"));
    } else {
        talk.data(&text(&plan));
    }
    end(talk, &plan)
}

async fn kafka(blueprint: &Blueprint, timeout: Duration) -> Result<broker::Look, String> {
    let what = kafka_of(&blueprint.pipeline);
    in_time(timeout, "[kafka] bootstrap", broker::look(&blueprint.pipeline)).await.map_err(|why| format!("{what}: {why}"))
}

async fn table(blueprint: &Blueprint, timeout: Duration) -> Option<Result<TableLook, String>> {
    let spec = blueprint.table.as_deref()?;
    let asked = async { Store::connect(&blueprint.pipeline, None).await?.look(spec).await };
    let look = store_in_time(timeout, asked).await;
    Some(look.map_err(|why| format!("Cassandra {}: {why}", Store::describe_of(&blueprint.pipeline))))
}

fn end(talk: &Talk, plan: &RunPlan) -> Result<(), End> {
    let (code, said) = match (plan.away.len(), plan.problems.len()) {
        (0, 0) => return Ok(()),
        (0, n) => (1, format!("`forebay run` would stumble over {n} of these things")),
        (n, _) => (3, format!("the plan is not whole: {n} servers did not answer")),
    };
    match code {
        _ if talk.json() => Err(End::silent(code)),
        1 => Err(End::failed(said, "each line above says what to do")),
        _ => Err(End::environment(said, "each line above says what to do")),
    }
}

/// The plan for a person: what changes, and then what it is about.
fn text(plan: &RunPlan) -> String {
    let mut text = format!("pipeline {}\n", plan.pipeline);
    for (mark, lines) in [('+', &plan.changes), ('!', &plan.problems), ('?', &plan.away)] {
        lines.iter().for_each(|line| put(&mut text, &format!("  {mark} {line}")));
    }
    plan.warnings.iter().for_each(|warning| put(&mut text, &format!("  warning: {}", warning.what)));
    if plan.changes.is_empty() && plan.problems.is_empty() && plan.away.is_empty() {
        put(&mut text, "  nothing to change: it goes on where it was");
    }
    plan.topics.iter().for_each(|it| topic(&mut text, it));
    plan.table.iter().for_each(|it| table_lines(&mut text, it));
    if let Some(sql) = &plan.sql {
        put(&mut text, &format!("SQL {}: {}", sql.fingerprint, sql.follows));
    }
    plan.group.iter().for_each(|it| group(&mut text, it));
    plan.fetch.iter().for_each(|it| fetch(&mut text, it));
    if let Some(RetentionPlan { bytes, seconds }) = plan.retention {
        let (bytes, time) = (Bytes(bytes), Span(Duration::from_secs(seconds)));
        put(&mut text, &format!("retention of the embedded topics: {bytes}, {time}; a record that is not written stays"));
    }
    let journal = &plan.journal;
    match journal.last {
        0 => put(&mut text, &format!("journal {}: begins", journal.folder)),
        last => put(&mut text, &format!("journal {}: goes on after event {last}", journal.folder)),
    }
    if journal.running {
        put(&mut text, "  a process runs on it: this is what a start would do once that has stopped");
    }
    let does = match journal.desired.state {
        DesiredState::Running => return text,
        DesiredState::Paused => "paused: it fetches and reads nothing",
        DesiredState::Drained => "drained: it fetches nothing",
    };
    put(&mut text, &format!("{does}, by {} ({}), until `forebay resume`", journal.desired.by, journal.desired.reason));
    text
}

fn put(text: &mut String, line: &str) {
    let _ = writeln!(text, "{line}");
}

fn word(step: Step) -> &'static str {
    match step {
        Step::Keep => "is there",
        Step::Make => "is made",
        Step::Refuse => "does not fit",
    }
}

fn topic(text: &mut String, topic: &TopicPlan) {
    put(text, &format!("topic {} {}: {} partitions", topic.name, word(topic.step), topic.partitions));
    topic.differences.iter().for_each(|difference| put(text, &format!("  {difference}")));
}

fn table_lines(text: &mut String, table: &TablePlan) {
    put(text, &format!("table {} in {} {}", table.name, table.store, word(table.step)));
    let width = table.columns.iter().map(|column| column.name.len()).max().unwrap_or(0);
    for column in &table.columns {
        let key = if column.key { ", primary key" } else { "" };
        let tombstone = if column.tombstone { ", a null is a tombstone" } else { "" };
        let there = match &column.there {
            None if table.step != Step::Make => ", is missing".to_owned(),
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
        Some(members) => format!("{members} members, who keep their share"),
        None => "members not known".to_owned(),
    };
    put(text, &format!("group {}: {members}", group.name));
    group.partitions.iter().for_each(|start| put(text, &format!("  {}", from(start))));
}

fn from(start: &StartPlan) -> String {
    let StartPlan { partition, begin, end, .. } = start;
    let how = match start.origin {
        None => return format!("p{partition}: [{begin}..{end}), nowhere to begin"),
        Some(Origin::Group) => "as the group has committed".to_owned(),
        Some(Origin::Journal) => format!("as the journal has it, the group has committed {}", start.committed.unwrap_or_default()),
        Some(Origin::Begin) => "its begin".to_owned(),
        Some(Origin::Again) => "its begin, again".to_owned(),
    };
    format!("p{partition}: [{begin}..{end}) from {}, {how}; {} offsets wait", start.from.unwrap_or(*begin), start.waiting())
}

fn fetch(text: &mut String, fetch: &FetchPlan) {
    let when = fetch.every.as_ref().map_or_else(|| "when triggered".to_owned(), |every| format!("every {every}"));
    let cursor = match &fetch.cursor {
        Some(cursor) if cursor.origin == "journal" => format!(", goes on with {}={}", cursor.param, cursor.value),
        Some(cursor) => format!(", begins with {}={}", cursor.param, cursor.value),
        None => String::new(),
    };
    let runs = if fetch.open_runs > 0 { format!("; {} runs that were asked for go first", fetch.open_runs) } else { String::new() };
    let others = fetch.reads.saturating_sub(u64::from(fetch.cursor.as_ref().is_some_and(|cursor| cursor.origin == "journal")));
    let reads = if others > 0 { format!(", {others} reads with params at cursors of their own") } else { String::new() };
    put(text, &format!("fetch of {} {when}{cursor}{reads}{runs}", fetch.api));
}
