//! `forebay query`: reads the table from the store that the pipeline file names.

use std::time::Duration;

use forebay_dataplane::store::{Store, StoreError};
use forebay_schemas::error_class::{Class, Classified};
use forebay_schemas::printable;

use crate::error::CliError;
use crate::global::{Global, load_pipeline};
use crate::output::Output;
use crate::runtime::block_on;

/// Flags of `query`.
#[derive(clap::Args)]
#[command(after_help = "\
The statement is sent to the store as it is: CQL for Cassandra, SQLite's SQL for an embedded \
store. Only reads are possible.

Examples:
  forebay query 'SELECT count(*) FROM users_stream'
  forebay query 'SELECT first_name, address FROM users_stream LIMIT 5'
  forebay query 'SELECT * FROM users_stream' --json | jq -r .email     one JSON object per row")]
pub(crate) struct Args {
    /// SELECT statement
    statement: String,
}

/// Maximum time for the connection and the answer.
const QUERY_TIMEOUT: Duration = Duration::from_secs(60);

/// Runs the command.
pub(crate) fn query(global: &Global, output: &Output, args: &Args) -> Result<(), CliError> {
    let pipeline = load_pipeline(global)?;
    if !pipeline.writes() {
        return Err(CliError::usage("this pipeline ends at the topic and has no table", "read the topic with `forebay tap`"));
    }
    let result = block_on(async {
        tokio::time::timeout(QUERY_TIMEOUT, async { Store::connect(&pipeline, None).await?.query(&args.statement).await }).await
    });
    let rows = match result {
        Ok(Ok(rows)) => rows,
        Ok(Err(error)) => return Err(store_error(&error)),
        Err(_) => {
            let help = "read fewer rows, or check the server";
            return Err(CliError::environment(format!("no answer in {} s", QUERY_TIMEOUT.as_secs()), help));
        }
    };
    if output.json() {
        for row in &rows.rows {
            output.print_json(row);
        }
    } else {
        table(&rows.columns, &rows.rows).iter().for_each(|line| output.print(line));
    }
    Ok(())
}

/// The error of a command whose store failed.
fn store_error(error: &StoreError) -> CliError {
    match error.class() {
        Class::Transient => CliError::environment(error.to_string(), "start the server, or name it in [cassandra] contact_points"),
        Class::Rejected => CliError::failed(error.to_string(), ""),
        Class::Fatal => CliError::environment(error.to_string(), ""),
    }
}

/// Lays rows out in columns, as `cqlsh` and `sqlite3` do. Returns the lines.
fn table(columns: &[String], rows: &[serde_json::Map<String, serde_json::Value>]) -> Vec<String> {
    let cell = |value: Option<&serde_json::Value>| match value {
        None | Some(serde_json::Value::Null) => "null".to_owned(),
        Some(serde_json::Value::String(text)) => printable(text).into_owned(),
        Some(other) => other.to_string(),
    };
    let cells: Vec<Vec<String>> = rows.iter().map(|row| columns.iter().map(|column| cell(row.get(column))).collect()).collect();
    let widths: Vec<usize> = columns
        .iter()
        .enumerate()
        .map(|(at, name)| cells.iter().map(|row| row[at].chars().count()).chain([name.chars().count()]).max().unwrap_or(0))
        .collect();
    let line = |cells: &[String]| {
        let padded: Vec<String> = cells.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}")).collect();
        padded.join(" | ").trim_end().to_owned()
    };
    let rule: Vec<String> = widths.iter().map(|&width| "-".repeat(width)).collect();
    let mut lines = vec![line(columns), rule.join("-+-")];
    lines.extend(cells.iter().map(|row| line(row)));
    lines.push(format!("({} row{})", rows.len(), if rows.len() == 1 { "" } else { "s" }));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_printed_in_columns_and_counted() {
        let row = serde_json::json!({ "id": 7, "name": "Zoë" });
        let lines = table(&["id".into(), "name".into()], &[row.as_object().unwrap().clone()]);
        assert_eq!(lines, ["id | name", "---+-----", "7  | Zoë", "(1 row)"]);
    }
}
