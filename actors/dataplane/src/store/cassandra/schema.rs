//! The real table against the planned one.
//!
//! Guarantee: after [`ensure`] the table has every planned column with the planned type, and the planned primary key. Columns that the
//! plan does not know may be there: no write touches them. How the key parts into partition key and clustering columns is the table's.

use scylla::client::session::Session;
use scylla::statement::{Consistency, Statement};

use super::fault;
use crate::store::TableLook;
use crate::store::error::{Reason, StoreError};
use crate::store::spec::TableSpec;

/// A column of the real table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RealColumn {
    pub(super) name: String,
    /// `partition_key`, `clustering`, `regular` or `static`.
    pub(super) kind: String,
    pub(super) position: i32,
    pub(super) cql: String,
}

/// Makes keyspace and table where the spec says so and they are missing, then checks the table. Gives its partition key as indexes of
/// the spec's columns.
pub(super) async fn ensure(server: &str, session: &Session, spec: &TableSpec) -> Result<Vec<usize>, StoreError> {
    let refused = |(what, remedy)| StoreError::Schema { server: server.to_owned(), what, remedy };
    if !has_keyspace(server, session, spec).await? {
        if !spec.create {
            return Err(refused(no_keyspace(spec)));
        }
        define(server, session, spec.create_keyspace_cql()).await?;
        tracing::info!(keyspace = spec.keyspace, "made the keyspace");
    }
    let mut real = columns(server, session, spec).await?;
    if real.is_empty() {
        if !spec.create {
            return Err(refused(no_table(spec)));
        }
        define(server, session, spec.create_table_cql()).await?;
        tracing::info!(keyspace = spec.keyspace, table = spec.table, "made the table");
        real = columns(server, session, spec).await?;
    }
    compare(spec, &real).map_err(refused)
}

/// The table as it is, and all that would keep [`ensure`] from taking it; makes nothing.
pub(super) async fn look(server: &str, session: &Session, spec: &TableSpec) -> Result<TableLook, StoreError> {
    let keyspace = has_keyspace(server, session, spec).await?;
    let real = if keyspace { columns(server, session, spec).await? } else { Vec::new() };
    let differences = match (keyspace, real.is_empty()) {
        (_, false) => differences(spec, &real),
        _ if spec.create => Vec::new(),
        (true, true) => vec![no_table(spec)],
        (false, true) => vec![no_keyspace(spec)],
    };
    let columns = real.into_iter().map(|column| (column.name, column.cql)).collect();
    Ok(TableLook { keyspace: Some(keyspace), columns, differences })
}

async fn has_keyspace(server: &str, session: &Session, spec: &TableSpec) -> Result<bool, StoreError> {
    any(server, session, "SELECT keyspace_name FROM system_schema.keyspaces WHERE keyspace_name = ?", &[&spec.keyspace]).await
}

/// What is not as it should be, and what to do.
type Difference = (String, String);

fn no_keyspace(spec: &TableSpec) -> Difference {
    (format!("there is no keyspace {}", spec.keyspace), by_hand(&spec.create_keyspace_cql()))
}

fn no_table(spec: &TableSpec) -> Difference {
    (format!("there is no table {}.{}", spec.keyspace, spec.table), by_hand(&spec.create_table_cql()))
}

fn by_hand(cql: &str) -> String {
    format!("set create = true in [cassandra], or make it by hand: {}", cql.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// Each node knows the whole schema; the consistency level of the rows is of no use here.
fn local(cql: &str) -> Statement {
    let mut statement = Statement::new(cql);
    statement.set_consistency(Consistency::One);
    statement
}

async fn any(server: &str, session: &Session, cql: &str, values: &[&str]) -> Result<bool, StoreError> {
    let answer = session.query_unpaged(local(cql), values).await.map_err(|error| fault::of_execution(server, &error).into_error())?;
    Ok(answer.into_rows_result().is_ok_and(|rows| rows.rows_num() > 0))
}

async fn define(server: &str, session: &Session, cql: String) -> Result<(), StoreError> {
    session.query_unpaged(cql, ()).await.map(|_| ()).map_err(|error| in_the_making(fault::of_execution(server, &error).into_error()))
}

/// With `create = true` a keyspace or table that is missing is on its way: another process may be making it at the same moment, and not every
/// node knows of it yet. So it is waited for.
pub(super) fn in_the_making(error: StoreError) -> StoreError {
    match error {
        StoreError::Schema { server, what, .. } => StoreError::Unavailable { server, what: format!("{what} yet"), reason: Reason::Other },
        other => other,
    }
}

async fn columns(server: &str, session: &Session, spec: &TableSpec) -> Result<Vec<RealColumn>, StoreError> {
    let cql = "SELECT column_name, kind, position, type FROM system_schema.columns WHERE keyspace_name = ? AND table_name = ?";
    let answer = session
        .query_unpaged(local(cql), (&spec.keyspace, &spec.table))
        .await
        .map_err(|error| fault::of_execution(server, &error).into_error())?;
    let unreadable = |cause: &dyn std::fmt::Display| StoreError::Broken {
        server: server.to_owned(),
        what: format!("its tables of the schema can't be read: {cause}"),
    };
    let rows = answer.into_rows_result().map_err(|cause| unreadable(&cause))?;
    let mut columns = Vec::with_capacity(rows.rows_num());
    for row in rows.rows::<(String, String, i32, String)>().map_err(|cause| unreadable(&cause))? {
        let (name, kind, position, cql) = row.map_err(|cause| unreadable(&cause))?;
        columns.push(RealColumn { name, kind, position, cql });
    }
    Ok(columns)
}

/// The partition key as indexes of the spec's columns, or the first that does not match.
pub(super) fn compare(spec: &TableSpec, real: &[RealColumn]) -> Result<Vec<usize>, Difference> {
    if let Some(first) = differences(spec, real).into_iter().next() {
        return Err(first);
    }
    let parts = real.iter().filter(|there| there.kind == "partition_key").count();
    Ok(spec.primary_key[..parts].to_vec())
}

/// All that does not match.
fn differences(spec: &TableSpec, real: &[RealColumn]) -> Vec<Difference> {
    let table = format!("{}.{}", spec.keyspace, spec.table);
    let mut differences = Vec::new();
    for column in &spec.columns {
        let there = real.iter().find(|there| there.name == column.name).map(|there| there.cql.as_str());
        let (name, cql) = (&column.name, column.cql.to_string());
        match there {
            Some(there) if there == cql => {}
            Some(there) => differences.push((
                format!("column {name} of table {table} is {there}, the pipeline writes {cql}"),
                format!("say columns = {{ {name} = \"{there}\" }} in [writer], or name another table"),
            )),
            None => differences.push((
                format!("table {table} has no column {name}"),
                format!("add it (ALTER TABLE {table} ADD {name} {cql};), or leave it out of the SELECT"),
            )),
        }
    }
    let mut key: Vec<&RealColumn> = real.iter().filter(|there| there.kind == "partition_key" || there.kind == "clustering").collect();
    key.sort_by_key(|there| (there.kind != "partition_key", there.position));
    let names: Vec<&str> = key.iter().map(|there| there.name.as_str()).collect();
    if names != spec.key_names() {
        differences.push((
            format!("the primary key of table {table} is ({}), the pipeline's is ({})", names.join(", "), spec.key_names().join(", ")),
            format!("say primary_key = {names:?} in [writer], or name another table: a primary key can't be altered"),
        ));
    }
    differences
}
