//! Compares the real table with the planned one, and creates it if it is missing.
//!
//! Guarantees that after [`ensure`] the table has every planned column with the planned type, and
//! the planned primary key, and that the fields of its user-defined types are known.
//!
//! The table may have other columns; no write touches them. The table decides which columns of the
//! key are its partition key.

use scylla::client::session::Session;
use scylla::statement::{Consistency, Statement};
use scylla::value::Row;

use super::{driver_error, query, user_types};
use crate::cql_name::{cql_name, cql_names};
use crate::cql_type::CqlType;
use crate::store::TableDescription;
use crate::store::error::{RetryReason, StoreError};
use crate::store::table_spec::TableSpec;

/// A column of the real table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RealColumn {
    pub(super) name: String,
    /// `partition_key`, `clustering`, `regular` or `static`.
    pub(super) kind: String,
    pub(super) position: i32,
    /// `asc`, `desc`, or `none` for a column that is no clustering column.
    pub(super) order: String,
    pub(super) cql: String,
}

/// Creates a missing keyspace and table if the spec allows it, then checks the table. Returns the
/// spec with the fields of its user-defined types, and the table's partition key as indexes of the
/// spec's columns.
pub(super) async fn ensure(server: &str, session: &Session, spec: &TableSpec) -> Result<(TableSpec, Vec<usize>), StoreError> {
    let refused = |(message, remedy)| StoreError::Schema { server: server.to_owned(), message, remedy };
    if !has_keyspace(server, session, spec).await? {
        if !spec.create {
            return Err(refused(no_keyspace(spec)));
        }
        define(server, session, spec.create_keyspace_cql()).await?;
        tracing::info!(keyspace = spec.keyspace, "keyspace created");
    }
    let (spec, unknown) = user_types::resolve(server, session, spec).await?;
    if let Some(first) = unknown.into_iter().next() {
        return Err(refused(first));
    }
    let mut real = columns(server, session, &spec).await?;
    if real.is_empty() {
        if !spec.create {
            return Err(refused(no_table(&spec)));
        }
        define(server, session, spec.create_table_cql()).await?;
        tracing::info!(keyspace = spec.keyspace, table = spec.table, "table created");
        real = columns(server, session, &spec).await?;
    }
    let partition_key = compare(&spec, &real).map_err(refused)?;
    for option in differing_options(server, session, &spec).await? {
        tracing::warn!(option, "an option of the table differs; change it with ALTER TABLE if that is not intended");
    }
    Ok((spec, partition_key))
}

/// Describes the real table and every difference that [`ensure`] would refuse, without creating
/// anything.
pub(super) async fn describe_table(server: &str, session: &Session, spec: &TableSpec) -> Result<TableDescription, StoreError> {
    let keyspace = has_keyspace(server, session, spec).await?;
    let real = if keyspace { columns(server, session, spec).await? } else { Vec::new() };
    let (spec, unknown) = if keyspace { user_types::resolve(server, session, spec).await? } else { (spec.clone(), Vec::new()) };
    let spec = &spec;
    let differences = match (keyspace, real.is_empty()) {
        _ if !unknown.is_empty() => unknown,
        (_, false) => differences(spec, &real),
        _ if spec.create => Vec::new(),
        (true, true) => vec![no_table(spec)],
        (false, true) => vec![no_keyspace(spec)],
    };
    let options = if real.is_empty() { Vec::new() } else { differing_options(server, session, spec).await? };
    let columns = real.into_iter().map(|column| (column.name, column.cql)).collect();
    Ok(TableDescription { keyspace: Some(keyspace), columns, differences, options })
}

async fn has_keyspace(server: &str, session: &Session, spec: &TableSpec) -> Result<bool, StoreError> {
    any(server, session, "SELECT keyspace_name FROM system_schema.keyspaces WHERE keyspace_name = ?", &[&spec.keyspace]).await
}

/// A difference and its remedy.
pub(super) type Difference = (String, String);

fn no_keyspace(spec: &TableSpec) -> Difference {
    (format!("keyspace {} does not exist", cql_name(&spec.keyspace)), by_hand(&spec.create_keyspace_cql()))
}

fn no_table(spec: &TableSpec) -> Difference {
    (format!("table {} does not exist", spec.name()), by_hand(&spec.create_table_cql()))
}

fn by_hand(cql: &str) -> String {
    format!("set create = true in [cassandra], or create it manually: {}", cql.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// A statement at consistency ONE, because each node knows the whole schema.
pub(super) fn local(cql: &str) -> Statement {
    let mut statement = Statement::new(cql);
    statement.set_consistency(Consistency::One);
    statement
}

async fn any(server: &str, session: &Session, cql: &str, values: &[&str]) -> Result<bool, StoreError> {
    let answer =
        session.query_unpaged(local(cql), values).await.map_err(|error| driver_error::execution_failure(server, &error).into_error())?;
    Ok(answer.into_rows_result().is_ok_and(|rows| rows.rows_num() > 0))
}

async fn define(server: &str, session: &Session, cql: String) -> Result<(), StoreError> {
    session
        .query_unpaged(cql, ())
        .await
        .map(|_| ())
        .map_err(|error| being_created(driver_error::execution_failure(server, &error).into_error()))
}

/// With `create = true`, makes the error of a missing keyspace or table transient: another process
/// may be creating it, and not every node may know it yet.
pub(super) fn being_created(error: StoreError) -> StoreError {
    match error {
        StoreError::Schema { server, message, .. } => {
            StoreError::Unavailable { server, message: format!("{message} yet"), reason: RetryReason::Other }
        }
        other => other,
    }
}

pub(super) fn unreadable(server: &str, cause: &dyn std::fmt::Display) -> StoreError {
    StoreError::Unrecoverable { server: server.to_owned(), message: format!("the tables of system_schema can't be read: {cause}") }
}

async fn columns(server: &str, session: &Session, spec: &TableSpec) -> Result<Vec<RealColumn>, StoreError> {
    let cql =
        "SELECT column_name, kind, position, clustering_order, type FROM system_schema.columns WHERE keyspace_name = ? AND table_name = ?";
    let answer = session
        .query_unpaged(local(cql), (&spec.keyspace, &spec.table))
        .await
        .map_err(|error| driver_error::execution_failure(server, &error).into_error())?;
    let unreadable = |cause: &dyn std::fmt::Display| unreadable(server, cause);
    let rows = answer.into_rows_result().map_err(|cause| unreadable(&cause))?;
    let mut columns = Vec::with_capacity(rows.rows_num());
    for row in rows.rows::<(String, String, i32, String, String)>().map_err(|cause| unreadable(&cause))? {
        let (name, kind, position, order, cql) = row.map_err(|cause| unreadable(&cause))?;
        columns.push(RealColumn { name, kind, position, order, cql });
    }
    Ok(columns)
}

/// Returns the partition key as indexes of the spec's columns, or the first difference.
pub(super) fn compare(spec: &TableSpec, real: &[RealColumn]) -> Result<Vec<usize>, Difference> {
    if let Some(first) = differences(spec, real).into_iter().next() {
        return Err(first);
    }
    let parts = real.iter().filter(|there| there.kind == "partition_key").count();
    Ok(spec.primary_key[..parts].to_vec())
}

/// Returns a name as a key of the pipeline file.
fn toml_key(name: &str) -> String {
    let is_bare = name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
    if is_bare { name.to_owned() } else { format!("{name:?}") }
}

/// Returns all differences between the planned and the real table.
fn differences(spec: &TableSpec, real: &[RealColumn]) -> Vec<Difference> {
    let table = spec.name();
    let mut differences = Vec::new();
    for column in &spec.columns {
        let there = real.iter().find(|there| there.name == column.name).map(|there| there.cql.as_str());
        let (name, cql) = (cql_name(&column.name), column.cql.to_string());
        match there {
            Some(there) if CqlType::parse(there).is_ok_and(|there| there.to_string() == cql) => {}
            Some(there) => {
                let remedy = match CqlType::parse(there) {
                    Ok(there) => there.time_remedy(&column.arrow, &column.name).unwrap_or_else(|| {
                        let key = toml_key(&column.name);
                        format!("set columns = {{ {key} = {:?} }} in [writer], or name another table", there.to_string())
                    }),
                    Err((why, _)) => format!("leave it out of the SELECT, or name another table: {why}"),
                };
                differences.push((format!("column {name} of table {table} is {there}, the pipeline writes {cql}"), remedy));
            }
            None => differences.push((
                format!("table {table} has no column {name}"),
                format!("add it (ALTER TABLE {table} ADD {name} {cql};), or leave it out of the SELECT"),
            )),
        }
    }
    let mut key: Vec<&RealColumn> = real.iter().filter(|there| there.kind == "partition_key" || there.kind == "clustering").collect();
    key.sort_by_key(|there| (there.kind != "partition_key", there.position));
    let names: Vec<&str> = key.iter().map(|there| there.name.as_str()).collect();
    let parts = key.iter().filter(|there| there.kind == "partition_key").count();
    if names != spec.key_names() || spec.partition.is_some_and(|planned| planned != parts) {
        let (partition, clustering) = names.split_at(parts);
        let real = match (parts, spec.partition) {
            (1, None) => cql_names(names.iter().copied()),
            _ => {
                let clustering = clustering.iter().map(|name| format!(", {}", cql_name(name))).collect::<String>();
                format!("({}){clustering}", cql_names(partition.iter().copied()))
            }
        };
        let set = match (parts, spec.partition) {
            (1, None) => format!("{names:?}"),
            _ => format!("[{partition:?}{}]", clustering.iter().map(|name| format!(", {name:?}")).collect::<String>()),
        };
        differences.push((
            format!("the primary key of table {table} is ({real}), the pipeline's is ({})", spec.key_cql(spec.partition)),
            format!("set primary_key = {set} in [writer], or name another table: a primary key can't be altered"),
        ));
        return differences;
    }
    differences.extend(of_order(spec, &key[parts..]));
    differences.extend(of_statics(spec, real));
    differences
}

/// Returns the clustering columns with another order than the pipeline file says.
fn of_order(spec: &TableSpec, clustering: &[&RealColumn]) -> Option<Difference> {
    let shown = |name: &str, descending: bool| format!("{} {}", cql_name(name), if descending { "desc" } else { "asc" });
    let real: Vec<String> = clustering.iter().map(|there| shown(&there.name, there.order.eq_ignore_ascii_case("desc"))).collect();
    let from = spec.primary_key.len().saturating_sub(clustering.len());
    let planned: Vec<String> = spec.primary_key[from..].iter().map(|&at| shown(&spec.columns[at].name, spec.is_descending(at))).collect();
    if spec.clustering_order.is_empty() || real == planned {
        return None;
    }
    let (table, real, planned) = (spec.name(), real.join(", "), planned.join(", "));
    Some((
        format!("the clustering order of table {table} is ({real}), the pipeline's is ({planned})"),
        "set clustering_order in [writer] as the table has it, or remove it, or name another table: the order can't be altered".to_owned(),
    ))
}

/// Returns the columns that are static only in the table, or only in the pipeline file.
fn of_statics<'a>(spec: &'a TableSpec, real: &'a [RealColumn]) -> impl Iterator<Item = Difference> + 'a {
    let written = spec.columns.iter().filter(move |_| spec.statics.is_some()).filter_map(move |column| {
        let there = real.iter().find(|there| there.name == column.name)?;
        Some((&there.name, there.kind == "static", spec.statics().any(|name| *name == there.name)))
    });
    let differing = written.filter(|(_, there, planned)| there != planned);
    differing.map(move |(name, there, _)| {
        let (name, table) = (cql_name(name), spec.name());
        let message = match there {
            true => format!("column {name} of table {table} is static, the pipeline's is not"),
            false => format!("column {name} of table {table} is not static, the pipeline's is"),
        };
        (message, "set `static` in [writer] as the table has it, or name another table: this can't be altered".to_owned())
    })
}

/// Returns the options of the table that the pipeline file has with another value. They do not
/// affect what is written.
pub(super) async fn differing_options(server: &str, session: &Session, spec: &TableSpec) -> Result<Vec<String>, StoreError> {
    if spec.options.is_empty() {
        return Ok(Vec::new());
    }
    let cql = "SELECT * FROM system_schema.tables WHERE keyspace_name = ? AND table_name = ?";
    let answer = session
        .query_unpaged(local(cql), (&spec.keyspace, &spec.table))
        .await
        .map_err(|error| driver_error::execution_failure(server, &error).into_error())?;
    let rows = answer.into_rows_result().map_err(|cause| unreadable(server, &cause))?;
    let names: Vec<String> = rows.column_specs().iter().map(|column| column.name().to_owned()).collect();
    let Some(row) = rows.maybe_first_row::<Row>().map_err(|cause| unreadable(server, &cause))? else { return Ok(Vec::new()) };
    let there: serde_json::Map<_, _> =
        names.into_iter().zip(row.columns.iter().map(|cell| cell.as_ref().map_or(serde_json::Value::Null, query::json))).collect();
    let differing = spec.options.iter().filter_map(|(name, planned)| {
        let there = there.get(name).filter(|there| !planned.is(there));
        Some(format!("{name} of table {} is {}, the pipeline file has {}", spec.name(), there?, planned.cql()))
    });
    Ok(differing.collect())
}
