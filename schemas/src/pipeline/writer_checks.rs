//! Checks of `[writer]`, and the names of keyspaces, tables and columns.

use std::time::Duration;

use super::checks::{duration_in_range, in_range};
use super::{CassandraSection, FileError, MAX_TTL_SECONDS, Pipeline, Ttl, WriterSection};

/// Checks `[writer]`.
pub(super) fn check(p: &Pipeline, writer: &WriterSection) -> Result<(), FileError> {
    check_table_name(p, &["writer", "table"], &writer.table)?;
    if writer.primary_key.is_empty() {
        return Err(p.error_at(
            &["writer", "primary_key"],
            "the primary key has no column",
            "add at least one column of the SQL, such as [\"id\"]",
        ));
    }
    for (at, column) in writer.primary_key.iter().enumerate() {
        check_column_name(p, &["writer", "primary_key"], column)?;
        if writer.primary_key[..at].contains(column) {
            return Err(p.error_at(
                &["writer", "primary_key"],
                format!("`{column}` occurs twice in the primary key"),
                "list each column once",
            ));
        }
    }
    for column in writer.columns.keys() {
        check_column_name(p, &["writer", "columns", column], column)?;
    }
    for column in writer.nulls.named() {
        let key = &["writer", "nulls", column];
        check_column_name(p, key, column)?;
        if writer.primary_key.iter().any(|each| each == column) {
            return Err(p.error_at(key, format!("`{column}` is part of the primary key, which is never null"), "remove it"));
        }
    }
    check_new_table(p, writer)?;
    let rows = i64::try_from(writer.batch_rows).unwrap_or(i64::MAX);
    in_range(p, &["writer", "batch_rows"], rows, 1, 500)?;
    let in_flight = i64::try_from(writer.in_flight).unwrap_or(i64::MAX);
    in_range(p, &["writer", "in_flight"], in_flight, 1, 1_024)
}

/// Checks what a table has beyond its columns and its key.
fn check_new_table(p: &Pipeline, writer: &WriterSection) -> Result<(), FileError> {
    let clustering = writer.primary_key.clustering();
    let order = &["writer", "clustering_order"];
    for (at, ordered) in writer.clustering_order.iter().enumerate() {
        if !clustering.contains(&ordered.column) {
            let help = match clustering {
                [] => "add it to primary_key, after the partition key".to_owned(),
                columns => format!("the clustering columns are {}", columns.join(", ")),
            };
            return Err(p.error_at(order, format!("`{}` is not a clustering column", ordered.column), help));
        }
        if writer.clustering_order[..at].iter().any(|other| other.column == ordered.column) {
            return Err(p.error_at(order, format!("`{}` has two orders", ordered.column), "list each column once"));
        }
    }
    for column in writer.statics.iter().flatten() {
        let key = &["writer", "static"];
        check_column_name(p, key, column)?;
        if writer.primary_key.contains(column) {
            return Err(p.error_at(key, format!("`{column}` is part of the primary key"), "remove it"));
        }
        if clustering.is_empty() {
            let help = "add a clustering column to primary_key, or remove `static`";
            return Err(p.error_at(key, "a table without clustering columns has no static columns", help));
        }
    }
    for option in writer.options.keys() {
        if !option.bytes().all(|b| b.is_ascii_lowercase() || b == b'_') || option.is_empty() {
            let key = &["writer", "options", option.as_str()];
            return Err(p.error_at(key, format!("{option:?} is not an option of a table"), "use a name such as gc_grace_seconds"));
        }
    }
    if let Some(ttl) = &writer.ttl {
        check_ttl(p, writer, ttl)?;
    }
    if p.cassandra.as_ref().is_some_and(CassandraSection::is_embedded) {
        let set = [("static", writer.statics.is_some()), ("options", !writer.options.is_empty()), ("ttl", writer.ttl.is_some())];
        if let Some((name, _)) = set.iter().find(|(_, is_set)| *is_set) {
            return Err(p.error_at(&["writer", name], format!("the embedded store has no `{name}`"), "remove it"));
        }
    }
    Ok(())
}

fn check_ttl(p: &Pipeline, writer: &WriterSection, ttl: &Ttl) -> Result<(), FileError> {
    let key = &["writer", "ttl"];
    match ttl {
        Ttl::Time(time) if time.0.subsec_nanos() > 0 => {
            Err(p.error_at(key, format!("{time} is not a whole number of seconds"), "use seconds"))
        }
        Ttl::Time(time) => {
            let max = Duration::from_secs(u64::from(MAX_TTL_SECONDS.unsigned_abs()));
            duration_in_range(p, key, *time, Duration::from_secs(1), max)
        }
        Ttl::Column { column } => {
            check_column_name(p, key, column)?;
            let is_named = writer.primary_key.contains(column)
                || writer.columns.contains_key(column)
                || writer.nulls.named().any(|name| name == column)
                || writer.statics.iter().flatten().any(|name| name == column);
            match is_named {
                true => Err(p.error_at(
                    key,
                    format!("`{column}` is the time to live, and so no column of the table"),
                    "select the value once more under another name for the table",
                )),
                false => Ok(()),
            }
        }
    }
}

/// The limit for the name of a column, in bytes.
const MAX_COLUMN_NAME: usize = 255;

/// What the name of a column may have, for a message.
pub const COLUMN_NAMES: &str = "letters, digits, `_`, `-`, `$` and `@`, at most 255 bytes";

/// Whether a name can be that of a column.
///
/// Cassandra allows any text between quotes. The names that the SQL gives to an expression without
/// AS, such as `lower(id)`, are no names of columns here.
pub fn is_column_name(name: &str) -> bool {
    (1..=MAX_COLUMN_NAME).contains(&name.len()) && name.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '$' | '@'))
}

fn check_column_name(p: &Pipeline, key: &[&str], name: &str) -> Result<(), FileError> {
    if is_column_name(name) {
        return Ok(());
    }
    Err(p.error_at(key, format!("{name:?} is not a valid name of a column"), format!("use {COLUMN_NAMES}")))
}

/// Checks the name of a keyspace or a table by Cassandra's rule, which also holds between quotes.
pub(super) fn check_table_name(p: &Pipeline, key: &[&str], name: &str) -> Result<(), FileError> {
    if (1..=48).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        return Ok(());
    }
    Err(p.error_at(
        key,
        format!("{name:?} is not a valid name in Cassandra"),
        "use letters, digits and `_`, at most 48 characters; upper and lower case differ",
    ))
}
