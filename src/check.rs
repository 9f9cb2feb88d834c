//! `forebay check`: everything that can be known to be wrong before anything starts, and without any server.

use forebay_actors::fetcher::without_secrets;
use forebay_actors::pipeline::Blueprint;
use forebay_schemas::pipeline::Pipeline;
use serde_json::json;

use crate::Global;
use crate::end::End;
use crate::talk::Talk;

/// Flags of `check`.
#[derive(clap::Args)]
#[command(after_help = "\
Checked are the pipeline file, the JSON Schema, the SQL (it is planned) and whether its columns fit the table; no server is asked:
that is `forebay doctor`.

Examples:
  forebay check
  forebay check -c pipelines/users/forebay.toml --json
  forebay check --cql                        print the CQL that `create = true` would run")]
pub(crate) struct Args {
    /// Print the CQL of keyspace and table
    #[arg(long)]
    cql: bool,
}

/// Runs the command.
pub(crate) fn check(global: &Global, talk: &Talk, args: &Args) -> Result<(), End> {
    let pipeline = crate::load_pipeline(global)?;
    let blueprint = Blueprint::draw(pipeline)?;
    let pipeline = &blueprint.pipeline;
    let cql: Vec<String> = blueprint.table.iter().flat_map(|table| [table.create_keyspace_cql(), table.create_table_cql()]).collect();
    let columns: Vec<(&str, String)> = blueprint
        .table
        .iter()
        .flat_map(|table| table.columns.iter().map(|column| (column.name.as_str(), column.cql.to_string())))
        .collect();
    let in_cassandra = pipeline.cassandra.as_ref().is_some_and(|cassandra| !cassandra.is_embedded());
    let tables = blueprint.table.iter().filter(|_| in_cassandra);
    let tombstones: Vec<&str> = tables.flat_map(|table| table.tombstones()).map(|column| column.name.as_str()).collect();
    let warnings = blueprint.warnings();
    if talk.json() {
        let columns: serde_json::Map<_, _> = columns.iter().map(|(name, cql)| ((*name).to_owned(), json!(cql))).collect();
        let (name, ok) = (&pipeline.meta.name, true);
        let answer = json!({ "ok": ok, "pipeline": name, "columns": columns, "tombstones": tombstones, "warnings": warnings, "cql": cql });
        talk.data(&answer.to_string());
        return Ok(());
    }
    if args.cql {
        for statement in &cql {
            talk.data(&format!("{statement};"));
        }
    }
    talk.say(&format!("{} {}: {}", talk.green("ok"), pipeline.source.path.display(), way(pipeline)));
    let width = columns.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    for (name, cql) in &columns {
        talk.say(&format!("   {name:width$}  {cql}"));
    }
    if !tombstones.is_empty() {
        let names = tombstones.join(", ");
        talk.say(&format!("   a null is written, as a tombstone, in {names}; `nulls = \"unset\"` in [writer] leaves the old value there"));
    }
    for warning in &warnings {
        talk.say(&format!("   warning: {}", warning.what));
    }
    Ok(())
}

/// The way of a record through the pipeline, in a line.
fn way(pipeline: &Pipeline) -> String {
    let mut way = Vec::new();
    way.extend(pipeline.fetcher.as_ref().map(|fetcher| without_secrets(&fetcher.url)));
    way.push(format!("topic {}", pipeline.kafka.topic));
    if let (Some(cassandra), Some(writer)) = (&pipeline.cassandra, &pipeline.writer) {
        way.push(format!("table {}.{}", cassandra.keyspace, writer.table));
    }
    way.join(" -> ")
}
