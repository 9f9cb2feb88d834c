//! `forebay check`: finds every error that can be found before the start and without a server.

use std::time::UNIX_EPOCH;

use forebay_actors::api::check_validity;
use forebay_actors::pipeline::Blueprint;
use forebay_schemas::pipeline::{FetcherSection, FoundPaging, Pipeline};
use serde_json::json;

use crate::error::CliError;
use crate::global::{Global, load_pipeline};
use crate::output::{Label, Output};

/// Flags of `check`.
#[derive(clap::Args)]
#[command(after_help = "\
Checks the pipeline file, the secrets and certificates that it refers to, the JSON Schema, the \
SQL (it is planned) and whether the SQL's columns fit the table. Contacts no server; \
`forebay doctor` does.

Examples:
  forebay check
  forebay check -c pipelines/users/forebay.toml --json
  forebay check --cql                        print the CQL that `create = true` would run")]
pub(crate) struct Args {
    /// Print the CQL of the keyspace and the table
    #[arg(long)]
    cql: bool,
}

/// Runs the command.
pub(crate) fn check(global: &Global, output: &Output, args: &Args) -> Result<(), CliError> {
    let pipeline = load_pipeline(global)?;
    let blueprint = Blueprint::new(pipeline)?;
    blueprint.pipeline.check_secrets()?;
    check_validity(&blueprint.pipeline, UNIX_EPOCH.elapsed().unwrap_or_default())?;
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
    if output.json() {
        let columns: serde_json::Map<_, _> = columns.iter().map(|(name, cql)| ((*name).to_owned(), json!(cql))).collect();
        let (name, ok) = (&pipeline.meta.name, true);
        let result = json!({ "ok": ok, "pipeline": name, "columns": columns, "requests": pipeline.fetcher.as_ref().map(requests), "tombstones": tombstones, "warnings": warnings, "cql": cql });
        output.print_json(&result);
        return Ok(());
    }
    if args.cql {
        for statement in &cql {
            output.print(&format!("{statement};"));
        }
    }
    output.labelled(Label::Good, "ok", &format!("{}: {}", pipeline.source.path.display(), stages(pipeline)));
    let width = columns.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    for (name, cql) in &columns {
        output.message(&format!("   {name:width$}  {cql}"));
    }
    if let Some(fetcher) = &pipeline.fetcher {
        output.message(&format!("   {}", requests(fetcher)));
    }
    if !tombstones.is_empty() {
        let names = tombstones.join(", ");
        output.message(&format!("   a null writes a tombstone in {names}; `nulls = \"unset\"` in [writer] keeps the old value instead"));
    }
    for warning in &warnings {
        output.message(&format!("   warning: {}", warning.what));
    }
    Ok(())
}

/// What the fetcher requests, on one line.
fn requests(fetcher: &FetcherSection) -> String {
    let rule = match (fetcher.paging(), &fetcher.found_paging) {
        (Some(paging), None) => paging.describe(),
        (Some(paging), Some(FoundPaging { found, why, .. })) => {
            format!(
                "{} (paging = \"auto\" found this on {found}, because {why}; it is kept in {} of the data directory)",
                paging.describe(),
                FoundPaging::FILE
            )
        }
        (None, _) if fetcher.seeks_paging() => {
            "paging = \"auto\" finds the rule at the first start, from the first answers; `forebay fetch --dry-run` shows it now".to_owned()
        }
        (None, _) => "a fetch is one page".to_owned(),
    };
    let incremental = fetcher.incremental.as_ref().map(|section| format!("; {}", section.describe())).unwrap_or_default();
    let windows = if fetcher.check_window(None).is_err() { "; each run needs a window" } else { "" };
    format!("{} {}; {rule}{incremental}{windows}", fetcher.method.as_str(), fetcher.url)
}

/// The stages of the pipeline on one line: source, topic, table.
fn stages(pipeline: &Pipeline) -> String {
    let mut stages = Vec::new();
    stages.extend(pipeline.fetcher.as_ref().map(|fetcher| fetcher.url.to_string()));
    stages.push(format!("topic {}", pipeline.kafka.topic));
    if let (Some(cassandra), Some(writer)) = (&pipeline.cassandra, &pipeline.writer) {
        stages.push(format!("table {}.{}", cassandra.keyspace, writer.table));
    }
    stages.join(" -> ")
}
