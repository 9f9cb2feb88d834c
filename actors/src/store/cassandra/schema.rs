//! The real table against the planned one.
//!
//! Guarantee: after [`ensure`] the table has every planned column with the planned type, and the planned primary key. Columns that the
//! plan does not know may be there: no write touches them. How the key parts into partition key and clustering columns is the table's.

use scylla::client::session::Session;
use scylla::statement::{Consistency, Statement};

use super::fault;
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
    let missing = |what: String, cql: String| StoreError::Schema {
        server: server.to_owned(),
        what,
        remedy: format!("set create = true in [cassandra], or make it by hand: {}", cql.split_whitespace().collect::<Vec<_>>().join(" ")),
    };
    let keyspaces = "SELECT keyspace_name FROM system_schema.keyspaces WHERE keyspace_name = ?";
    if !any(server, session, keyspaces, &[&spec.keyspace]).await? {
        if !spec.create {
            return Err(missing(format!("there is no keyspace {}", spec.keyspace), spec.create_keyspace_cql()));
        }
        define(server, session, spec.create_keyspace_cql()).await?;
        tracing::info!(keyspace = spec.keyspace, "made the keyspace");
    }
    let mut real = columns(server, session, spec).await?;
    if real.is_empty() {
        if !spec.create {
            return Err(missing(format!("there is no table {}.{}", spec.keyspace, spec.table), spec.create_table_cql()));
        }
        define(server, session, spec.create_table_cql()).await?;
        tracing::info!(keyspace = spec.keyspace, table = spec.table, "made the table");
        real = columns(server, session, spec).await?;
    }
    compare(spec, &real).map_err(|(what, remedy)| StoreError::Schema { server: server.to_owned(), what, remedy })
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

/// The partition key as indexes of the spec's columns, or what does not match and what to change.
pub(super) fn compare(spec: &TableSpec, real: &[RealColumn]) -> Result<Vec<usize>, (String, String)> {
    let table = format!("{}.{}", spec.keyspace, spec.table);
    for column in &spec.columns {
        let Some(there) = real.iter().find(|there| there.name == column.name) else {
            return Err((
                format!("table {table} has no column {}", column.name),
                format!("add it (ALTER TABLE {table} ADD {} {};), or leave it out of the SELECT", column.name, column.cql),
            ));
        };
        if there.cql != column.cql.to_string() {
            return Err((
                format!("column {} of table {table} is {}, the pipeline writes {}", column.name, there.cql, column.cql),
                format!("say columns = {{ {} = \"{}\" }} in [writer], or name another table", column.name, there.cql),
            ));
        }
    }
    let mut key: Vec<&RealColumn> = real.iter().filter(|there| there.kind == "partition_key" || there.kind == "clustering").collect();
    key.sort_by_key(|there| (there.kind != "partition_key", there.position));
    let names: Vec<&str> = key.iter().map(|there| there.name.as_str()).collect();
    if names != spec.key_names() {
        return Err((
            format!("the primary key of table {table} is ({}), the pipeline's is ({})", names.join(", "), spec.key_names().join(", ")),
            format!("say primary_key = {names:?} in [writer], or name another table: a primary key can't be altered"),
        ));
    }
    let parts = key.iter().filter(|there| there.kind == "partition_key").count();
    Ok(spec.primary_key[..parts].to_vec())
}
