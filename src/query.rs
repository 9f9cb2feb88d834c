//! `forebay query`: reads the table, from whichever store the pipeline file names.

use std::time::Duration;

use forebay_dataplane::store::Store;

use crate::Global;
use crate::end::End;
use crate::talk::Talk;

/// Flags of `query`.
#[derive(clap::Args)]
#[command(after_help = "\
The statement goes to the store as it is: CQL for Cassandra, SQLite's SQL for an embedded store. It can only read.

Examples:
  forebay query 'SELECT count(*) FROM users_stream'
  forebay query 'SELECT first_name, address FROM users_stream LIMIT 5'
  forebay query 'SELECT * FROM users_stream' --json | jq -r .email     one JSON object a row")]
pub(crate) struct Args {
    /// A SELECT
    statement: String,
}

/// The longest wait for a connection and an answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs the command.
pub(crate) fn query(global: &Global, talk: &Talk, args: &Args) -> Result<(), End> {
    let pipeline = crate::load_pipeline(global)?;
    if !pipeline.writes() {
        return Err(End::usage("this pipeline ends at the topic: it has no table", "read the topic with Kafka's console consumer"));
    }
    let answer = crate::block_on(async {
        tokio::time::timeout(PATIENCE, async { Store::connect(&pipeline, None).await?.query(&args.statement).await }).await
    });
    let rows = match answer {
        Ok(Ok(rows)) => rows,
        Ok(Err(error)) => return Err(store_end(&error)),
        Err(_) => return Err(End::environment(format!("no answer in {} s", PATIENCE.as_secs()), "ask for less, or look at the server")),
    };
    if talk.json() {
        for row in &rows.rows {
            talk.data(&serde_json::to_string(row).expect("a row is JSON"));
        }
    } else {
        talk.data(&table(&rows.columns, &rows.rows));
    }
    Ok(())
}

/// The end that an error of the store means for a command.
pub(crate) fn store_end(error: &forebay_dataplane::store::StoreError) -> End {
    use forebay_schemas::failure::Class;
    match error.class() {
        Class::Transient => End::environment(error.to_string(), "start the server, or name it in [cassandra] contact_points"),
        Class::Rejected => End::failed(error.to_string(), ""),
        Class::Fatal => End::environment(error.to_string(), ""),
    }
}

/// The rows in columns, as `cqlsh` and `sqlite3` show them.
fn table(columns: &[String], rows: &[serde_json::Map<String, serde_json::Value>]) -> String {
    let cell = |value: Option<&serde_json::Value>| match value {
        None | Some(serde_json::Value::Null) => "null".to_owned(),
        Some(serde_json::Value::String(text)) => text.clone(),
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
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_shown_in_columns_and_counted() {
        let row = serde_json::json!({ "id": 7, "name": "Zoë" });
        let text = table(&["id".into(), "name".into()], &[row.as_object().unwrap().clone()]);
        assert_eq!(text, "id | name\n---+-----\n7  | Zoë\n(1 row)");
    }
}
