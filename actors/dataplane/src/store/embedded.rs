//! The table in a local SQLite file, for a pipeline without Cassandra. Other processes can read the
//! file while it is written.
//!
//! Guarantees:
//! * Acknowledged rows survive the end of the process. Each micro-batch is one transaction in a
//!   write-ahead log that was handed to the operating system.
//! * A row is replaced only by a newer timestamp, as in Cassandra.
//!
//! Does not guarantee:
//! * that the last transactions survive a power failure (`synchronous = NORMAL`); the file does
//! * that a row which was deleted manually stays deleted when its record is written again, because
//!   there are no tombstones
//! * Cassandra's timestamps per cell, because there is one per row: with `nulls = "unset"`, a value
//!   that arrives after a newer row without it is lost
//! * NaN, which SQLite stores as null

use parking_lot::Mutex;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use forebay_schemas::pipeline::Nulls;
use forebay_schemas::snapshot::NodeView;
use libsql::{Builder, Connection, OpenFlags, Statement};
use tokio::runtime::Handle;
use tokio::task;

use super::error::{RetryReason, StoreError};
use super::row_check::{Refusal, RowSet};
use super::table_spec::TableSpec;
use super::values::Value as Cell;
use super::{QueryRow, StoreProbe, StoreStatus, TableDescription, WriteOutcome, render};
use crate::cql_name::quoted;
use crate::cql_type::CqlType;
use crate::private_file;

/// How long to wait for a file that another process has locked.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// The column of a row's write timestamp. Planning the table refuses a SELECT with such a column.
pub(super) const TIMESTAMP_COLUMN: &str = "_ts";

/// The file of a table.
#[derive(Clone)]
pub struct Embedded {
    file: Arc<PathBuf>,
    keyspace: Arc<str>,
    /// The single writer. `None` when opened read-only.
    writer: Option<Arc<Mutex<Writer>>>,
}

struct Writer {
    connection: Connection,
    upsert: Option<Statement>,
}

impl Embedded {
    pub(super) async fn open(file: &Path, keyspace: &str, to_write: bool) -> Result<Self, StoreError> {
        let mut this = Self { file: Arc::new(file.to_owned()), keyspace: keyspace.into(), writer: None };
        if !to_write {
            return Ok(this);
        }
        if let Some(folder) = file.parent() {
            private_file::create_dir(folder).map_err(|cause| this.unrecoverable(format!("can't create {}: {cause}", folder.display())))?;
        }
        private_file::create_if_missing(file).map_err(|cause| this.unrecoverable(format!("can't create {}: {cause}", file.display())))?;
        let here = this.clone();
        let connection = this
            .blocking(move |io| {
                let connection = here.connect(OpenFlags::default(), io)?;
                for pragma in ["PRAGMA journal_mode = WAL", "PRAGMA synchronous = NORMAL"] {
                    io.block_on(async { connection.query(pragma, ()).await?.next().await }).map_err(|error| here.error(&error))?;
                }
                Ok(connection)
            })
            .await?;
        this.writer = Some(Arc::new(Mutex::new(Writer { connection, upsert: None })));
        Ok(this)
    }

    pub(super) async fn prepare(&self, spec: &TableSpec) -> Result<(), StoreError> {
        let (here, writer, spec) = (self.clone(), self.writer()?, spec.clone());
        self.blocking(move |io| {
            let mut writer = writer.lock();
            if here.real_columns(&writer.connection, &spec.table, io)?.is_empty() {
                if !spec.create {
                    let (message, remedy) = no_table(&spec);
                    return Err(StoreError::Schema { server: here.name(), message, remedy });
                }
                io.block_on(writer.connection.execute(&create_table(&spec), ())).map_err(|error| here.error(&error))?;
            }
            let real = here.real_columns(&writer.connection, &spec.table, io)?;
            if let Some((message, remedy)) = here.differences(&spec, &real).into_iter().next() {
                return Err(StoreError::Schema { server: here.name(), message, remedy });
            }
            writer.upsert = Some(io.block_on(writer.connection.prepare(&upsert(&spec))).map_err(|error| here.error(&error))?);
            Ok(())
        })
        .await
    }

    /// Describes the real table and every difference that [`Self::prepare`] would refuse, without
    /// creating anything.
    pub(super) async fn describe_table(&self, spec: &TableSpec) -> Result<TableDescription, StoreError> {
        let (here, spec) = (self.clone(), spec.clone());
        self.blocking(move |io| {
            let real = match here.file.exists() {
                true => here.real_columns(&here.connect(OpenFlags::SQLITE_OPEN_READ_WRITE, io)?, &spec.table, io)?,
                false => Vec::new(),
            };
            let differences = match real.is_empty() {
                false => here.differences(&spec, &real),
                true if spec.create => Vec::new(),
                true => vec![no_table(&spec)],
            };
            let columns =
                real.into_iter().map(|(name, declared, _)| (name, declared)).filter(|(name, _)| name != TIMESTAMP_COLUMN).collect();
            Ok(TableDescription { columns, differences, ..TableDescription::default() })
        })
        .await
    }

    fn differences(&self, spec: &TableSpec, real: &[(String, String, i64)]) -> Vec<(String, String)> {
        let remedy = format!("change the pipeline, set another table, or remove {} to start over", self.file.display());
        differences(spec, real).into_iter().map(|message| (message, remedy.clone())).collect()
    }

    pub(super) async fn write(&self, rows: &RowSet) -> Result<WriteOutcome, StoreError> {
        let (here, writer, all) = (self.clone(), self.writer()?, rows.clone());
        let done = self
            .blocking(move |io| {
                let writer = writer.lock();
                here.transaction(&writer, &all, io)
            })
            .await;
        match done {
            Err(failure @ StoreError::Unavailable { .. }) => {
                Ok(WriteOutcome { unwritten: Some((rows.clone(), failure)), ..WriteOutcome::default() })
            }
            other => other,
        }
    }

    fn transaction(&self, writer: &Writer, rows: &RowSet, io: &Handle) -> Result<WriteOutcome, StoreError> {
        let Writer { connection, upsert } = writer;
        let upsert = upsert.as_ref().ok_or_else(|| self.unrecoverable("the table was not prepared".to_owned()))?;
        let run = |sql: &str| io.block_on(connection.execute(sql, ())).map_err(|error| self.error(&error));
        run("BEGIN IMMEDIATE")?;
        let mut outcome = WriteOutcome::default();
        let result = rows.rows().iter().try_for_each(|&row| {
            let mut values: Vec<libsql::Value> = rows.cells(row).map(|cell| value(&cell)).collect();
            values.push(rows.write_ts(row).into());
            let result = io.block_on(upsert.execute(values));
            upsert.reset();
            match result.map_err(|error| self.error(&error)) {
                Ok(_) => outcome.written += 1,
                Err(error @ StoreError::Refused { .. }) => outcome.rejected.push(Refusal { row, reason: error.row_reason() }),
                Err(other) => return Err(other),
            }
            Ok(())
        });
        match result.and_then(|()| run("COMMIT")) {
            Ok(_) => Ok(WriteOutcome { statements: 1, ..outcome }),
            Err(error) => {
                // Fails if SQLite has already rolled back.
                let _ = run("ROLLBACK");
                Err(error)
            }
        }
    }

    pub(super) async fn query(&self, sql: &str, each: &mut (dyn FnMut(QueryRow) + Send)) -> Result<Vec<String>, StoreError> {
        let word = sql.split_whitespace().next().unwrap_or_default().to_ascii_lowercase();
        if !["select", "with", "values", "explain"].contains(&word.as_str()) {
            return Err(self.refused(format!("{word:?} is not allowed in a query; use SELECT")));
        }
        if !self.file.exists() {
            return Err(self.unrecoverable("the file does not exist, because nothing was written yet; run the pipeline first".to_owned()));
        }
        let (here, sql) = (self.clone(), sql.to_owned());
        let (sender, mut receiver) = tokio::sync::mpsc::channel(1_000);
        let reading = self.blocking(move |io| here.read(&sql, io, &sender));
        let receiving = async {
            while let Some(row) = receiver.recv().await {
                each(row);
            }
        };
        let (columns, ()) = futures_util::future::join(reading, receiving).await;
        columns
    }

    fn read(&self, sql: &str, io: &Handle, rows: &tokio::sync::mpsc::Sender<QueryRow>) -> Result<Vec<String>, StoreError> {
        let query_error = |error| match self.error(&error) {
            StoreError::Unrecoverable { server, message } => StoreError::Refused { server, message },
            other => other,
        };
        let connection = self.connect(OpenFlags::SQLITE_OPEN_READ_WRITE, io)?;
        if !["main", "temp"].iter().any(|name| self.keyspace.eq_ignore_ascii_case(name)) {
            let file = self.file.display().to_string();
            let attach = format!("ATTACH DATABASE ? AS {}", quoted(&self.keyspace));
            io.block_on(connection.execute(&attach, [file])).map_err(query_error)?;
        }
        io.block_on(connection.execute("PRAGMA query_only = ON", ())).map_err(query_error)?;
        let statement = io.block_on(connection.prepare(sql)).map_err(query_error)?;
        // `SELECT *` returns the planned columns. The timestamp has to be selected by name.
        let hide = !sql.contains(TIMESTAMP_COLUMN);
        let columns: Vec<(i32, String, Option<String>)> = (0..)
            .zip(statement.columns())
            .map(|(at, column)| (at, column.name().to_owned(), column.decl_type().map(str::to_owned)))
            .filter(|(_, name, _)| !(hide && name == TIMESTAMP_COLUMN))
            .collect();
        let mut answer = io.block_on(statement.query(())).map_err(query_error)?;
        while let Some(row) = io.block_on(answer.next()).map_err(query_error)? {
            let mut object = QueryRow::new();
            for (at, name, declared) in &columns {
                object.insert(name.clone(), json(row.get_value(*at).map_err(query_error)?, declared.as_deref()));
            }
            if rows.blocking_send(object).is_err() {
                break;
            }
        }
        Ok(columns.into_iter().map(|(_, name, _)| name).collect())
    }

    /// Reads the status: one node, the file, and one statement in flight while a batch is written.
    pub(super) fn probe(&self) -> StoreProbe {
        let (file, writer) = (Arc::downgrade(&self.file), self.writer.as_ref().map(Arc::downgrade));
        Arc::new(move || {
            let (file, writer) = (file.upgrade()?, writer.as_ref()?.upgrade()?);
            let busy = writer.is_locked();
            let node = NodeView { address: file.display().to_string(), up: true, connections: 1, ..NodeView::default() };
            Some(StoreStatus { in_flight: busy.into(), nodes: vec![node] })
        })
    }

    pub(super) fn describe(&self) -> String {
        describe(&self.file)
    }

    /// The name in messages.
    fn name(&self) -> String {
        format!("embedded store {}", self.file.display())
    }

    fn unrecoverable(&self, message: String) -> StoreError {
        StoreError::Unrecoverable { server: self.name(), message }
    }

    fn refused(&self, message: String) -> StoreError {
        StoreError::Refused { server: self.name(), message }
    }

    fn error(&self, error: &libsql::Error) -> StoreError {
        // SQLite's primary result codes. An extended code has its primary code in the lowest byte.
        const BUSY_CODES: &[i32] = &[5, 6, 10];
        const FULL: i32 = 13;
        const ROW_CODES: &[i32] = &[18, 19, 20];
        match error {
            libsql::Error::SqliteFailure(code, message) if BUSY_CODES.contains(&(code & 0xff)) => {
                StoreError::Unavailable { server: self.name(), message: message.clone(), reason: RetryReason::Overloaded }
            }
            libsql::Error::SqliteFailure(code, message) if code & 0xff == FULL => {
                StoreError::Unavailable { server: self.name(), message: message.clone(), reason: RetryReason::DiskFull }
            }
            libsql::Error::SqliteFailure(code, message) if ROW_CODES.contains(&(code & 0xff)) => self.refused(message.clone()),
            libsql::Error::SqliteFailure(_, message) => self.unrecoverable(message.clone()),
            other => self.unrecoverable(other.to_string()),
        }
    }

    fn writer(&self) -> Result<Arc<Mutex<Writer>>, StoreError> {
        self.writer.clone().ok_or_else(|| self.unrecoverable("the store is open read-only".to_owned()))
    }

    fn connect(&self, flags: OpenFlags, io: &Handle) -> Result<Connection, StoreError> {
        let database = io.block_on(Builder::new_local(&*self.file).flags(flags).build()).map_err(|error| self.error(&error))?;
        let connection = database.connect().map_err(|error| self.error(&error))?;
        connection.busy_timeout(BUSY_TIMEOUT).map_err(|error| self.error(&error))?;
        Ok(connection)
    }

    /// Runs work on the blocking pool, because libsql's futures block the thread.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Handle) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let io = Handle::current();
        match task::spawn_blocking(move || work(&io)).await {
            Ok(result) => result,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => Err(StoreError::Unavailable {
                server: self.name(),
                message: "the process is stopping".to_owned(),
                reason: RetryReason::Other,
            }),
        }
    }

    /// Returns the name, the declared type and the position in the primary key (from 1, or 0 for
    /// other columns) of each column. Empty when the table is missing.
    fn real_columns(&self, connection: &Connection, table: &str, io: &Handle) -> Result<Vec<(String, String, i64)>, StoreError> {
        io.block_on(async {
            let mut columns = Vec::new();
            let mut rows = connection.query("SELECT name, type, pk FROM pragma_table_info(?)", [table]).await?;
            while let Some(row) = rows.next().await? {
                columns.push((row.get::<String>(0)?, row.get::<String>(1)?, row.get::<i64>(2)?));
            }
            Ok(columns)
        })
        .map_err(|error| self.error(&error))
    }
}

/// Returns the declared type of a column, which decides how SQLite stores values and how [`json`]
/// renders them.
fn declared(cql: &CqlType) -> &'static str {
    match cql {
        CqlType::Ascii
        | CqlType::Date
        | CqlType::Decimal
        | CqlType::Duration
        | CqlType::Inet
        | CqlType::Text
        | CqlType::Time
        | CqlType::Timestamp
        | CqlType::Timeuuid
        | CqlType::Uuid
        | CqlType::Varint => "TEXT",
        CqlType::List(_) | CqlType::Set(..) | CqlType::Map(..) | CqlType::Tuple(_) | CqlType::Vector(_) | CqlType::User(_) => "TEXT_JSON",
        CqlType::Bigint | CqlType::Int | CqlType::Smallint | CqlType::Tinyint => "INTEGER",
        CqlType::Boolean => "BOOLEAN",
        CqlType::Double | CqlType::Float => "REAL",
        CqlType::Blob => "BLOB",
    }
}

fn create_table(spec: &TableSpec) -> String {
    let order = |at: usize| if spec.is_descending(at) { " DESC" } else { "" };
    let key: Vec<_> = spec.primary_key.iter().map(|&at| format!("{}{}", quoted(&spec.columns[at].name), order(at))).collect();
    let columns: Vec<_> = spec.columns.iter().map(|column| format!("{} {}", quoted(&column.name), declared(&column.cql))).collect();
    format!(
        "CREATE TABLE IF NOT EXISTS {} ({}, {TIMESTAMP_COLUMN} INTEGER NOT NULL, PRIMARY KEY ({})) WITHOUT ROWID",
        quoted(&spec.table),
        columns.join(", "),
        key.join(", ")
    )
}

fn upsert(spec: &TableSpec) -> String {
    let table = quoted(&spec.table);
    let mut names: Vec<&str> = spec.columns.iter().map(|column| column.name.as_str()).collect();
    names.push(TIMESTAMP_COLUMN);
    let kept = |name: &str| spec.columns.iter().any(|column| column.name == name && column.nulls == Nulls::Unset);
    let set = |name: &&str| match kept(name) {
        true => format!("{column} = coalesce(excluded.{column}, {table}.{column})", column = quoted(name)),
        false => format!("{column} = excluded.{column}", column = quoted(name)),
    };
    let sets: Vec<_> = names.iter().filter(|name| !spec.key_names().contains(name)).map(set).collect();
    format!(
        "INSERT INTO {table} ({}) VALUES ({}) ON CONFLICT ({}) DO UPDATE SET {} WHERE excluded.{TIMESTAMP_COLUMN} > {table}.{TIMESTAMP_COLUMN}",
        list(names.iter().copied()),
        vec!["?"; names.len()].join(", "),
        list(spec.key_names()),
        sets.join(", "),
    )
}

fn list<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    names.into_iter().map(quoted).collect::<Vec<_>>().join(", ")
}

fn no_table(spec: &TableSpec) -> (String, String) {
    (format!("table {} does not exist", spec.table), "set create = true in [cassandra]".to_owned())
}

/// Returns all differences between the planned and the real table.
fn differences(spec: &TableSpec, real: &[(String, String, i64)]) -> Vec<String> {
    let mut differences = Vec::new();
    for column in &spec.columns {
        let planned = declared(&column.cql);
        match real.iter().find(|(name, _, _)| *name == column.name).map(|(_, there, _)| there) {
            Some(there) if there == planned => {}
            Some(there) => differences.push(format!(
                "column {} of table {} is {there}, the pipeline writes {} as {planned}",
                column.name, spec.table, column.cql
            )),
            None => differences.push(format!("table {} has no column {}", spec.table, column.name)),
        }
    }
    let mut key: Vec<(i64, &str)> =
        real.iter().filter(|(_, _, position)| *position > 0).map(|(name, _, position)| (*position, name.as_str())).collect();
    key.sort_unstable();
    let names: Vec<_> = key.into_iter().map(|(_, name)| name).collect();
    if names != spec.key_names() {
        differences.push(format!(
            "the primary key of table {} is ({}), the pipeline's is ({})",
            spec.table,
            names.join(", "),
            spec.key_names().join(", ")
        ));
    }
    if !real.iter().any(|(name, _, _)| name == TIMESTAMP_COLUMN) {
        differences.push(format!("table {} was not created by Forebay, because it has no column {TIMESTAMP_COLUMN}", spec.table));
    }
    differences
}

fn value(cell: &Cell<'_>) -> libsql::Value {
    use libsql::Value;
    match *cell {
        Cell::Null | Cell::Unset => Value::Null,
        Cell::Bigint(number) => Value::Integer(number),
        Cell::Int(number) => Value::Integer(number.into()),
        Cell::Smallint(number) => Value::Integer(number.into()),
        Cell::Tinyint(number) => Value::Integer(number.into()),
        Cell::Boolean(truth) => Value::Integer(truth.into()),
        Cell::Double(number) => Value::Real(number),
        Cell::Float(number) => Value::Real(widened(number)),
        Cell::Text(text) => Value::Text(text.to_owned()),
        Cell::Blob(bytes) => Value::Blob(bytes.to_owned()),
        other => match plain(&other) {
            serde_json::Value::String(text) => Value::Text(text),
            json => Value::Text(json.to_string()),
        },
    }
}

/// Converts a float to the double with the same decimal text.
fn widened(number: f32) -> f64 {
    number.to_string().parse().unwrap_or(number.into())
}

/// Converts a value to JSON, also inside another value.
pub(super) fn plain(cell: &Cell<'_>) -> serde_json::Value {
    match *cell {
        Cell::Null | Cell::Unset => serde_json::Value::Null,
        Cell::Bigint(number) => number.into(),
        Cell::Int(number) => number.into(),
        Cell::Smallint(number) => number.into(),
        Cell::Tinyint(number) => number.into(),
        Cell::Boolean(truth) => truth.into(),
        Cell::Double(number) => number.into(),
        Cell::Float(number) => widened(number).into(),
        Cell::Text(text) => text.into(),
        Cell::Blob(bytes) => render::blob(bytes).into(),
        Cell::Uuid(bytes) => uuid::Uuid::from_slice(bytes).unwrap_or_default().to_string().into(),
        Cell::Timestamp(millis) => render::timestamp(millis).into(),
        Cell::Date(days) => render::date(days.into()).into(),
        Cell::Decimal { unscaled, scale } => render::decimal_of(unscaled, scale).into(),
        Cell::Time(nanos) => render::time(nanos).into(),
        Cell::Duration(duration) => render::duration(duration).into(),
        Cell::Inet(bytes) => render::inet(bytes).into(),
        Cell::Varint(bytes) => render::varint(bytes).into(),
        Cell::Vector(numbers) => numbers.iter().map(|number| plain(&Cell::Float(*number))).collect(),
        Cell::List { elements, from, to } => (from..to).map(|at| plain(&elements.value(at))).collect(),
        Cell::Set(cells, row) => cells.elements(row).map(|element| plain(&element)).collect(),
        Cell::Map(cells, row) => object(cells.pairs(row).map(|(key, value)| (render::map_key(plain(&key)), plain(&value)))),
        Cell::ObjectMap(cells, row) => object(cells.pairs(row).map(|(name, value)| (name.to_owned(), plain(&value)))),
        Cell::Tuple(cells, row) if cells.names().is_empty() => cells.parts(row).map(|part| plain(&part)).collect(),
        Cell::Tuple(cells, row) => object(cells.names().iter().cloned().zip(cells.parts(row).map(|part| plain(&part)))),
    }
}

fn object(fields: impl Iterator<Item = (String, serde_json::Value)>) -> serde_json::Value {
    fields.collect::<serde_json::Map<_, _>>().into()
}

fn json(value: libsql::Value, declared: Option<&str>) -> serde_json::Value {
    match (value, declared) {
        (libsql::Value::Null, _) => serde_json::Value::Null,
        (libsql::Value::Integer(number), Some("BOOLEAN")) => (number != 0).into(),
        (libsql::Value::Integer(number), _) => number.into(),
        (libsql::Value::Real(number), _) if number.is_finite() => number.into(),
        (libsql::Value::Real(number), _) => number.to_string().into(),
        (libsql::Value::Text(text), Some("TEXT_JSON")) => serde_json::from_str(&text).unwrap_or(serde_json::Value::String(text)),
        (libsql::Value::Text(text), _) => text.into(),
        (libsql::Value::Blob(bytes), _) => render::blob(&bytes).into(),
    }
}

#[cfg(test)]
#[path = "embedded_tests.rs"]
mod tests;

/// Returns the location of an embedded store as the pipeline's status shows it.
pub(super) fn describe(file: &Path) -> String {
    format!("embedded ({})", file.display())
}
