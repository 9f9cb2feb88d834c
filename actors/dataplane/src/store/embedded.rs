//! The table in a file of this machine, for a pipeline with no Cassandra at hand. Any SQLite opens it, also while it is written.
//!
//! Guarantee: what was acknowledged outlives the process, however it ends: each micro-batch is one transaction in a write-ahead log that
//! the operating system has. A row is replaced only by a newer timestamp, as in Cassandra. Not guaranteed: that the last transactions
//! outlive a loss of power (`synchronous = NORMAL`; the file itself does), and that a row deleted by hand stays deleted when its record
//! is written again: there are no tombstones here. There is one timestamp a row, not one a cell as in Cassandra: with `nulls = "unset"` a
//! value that comes late, after a newer row without one, loses with its row. A number that is no number is null in SQLite.

use parking_lot::Mutex;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use forebay_schemas::pipeline::Nulls;
use forebay_schemas::snapshot::NodeView;
use libsql::{Builder, Connection, OpenFlags, Statement};
use tokio::runtime::Handle;
use tokio::task;

use super::cells::Value as Cell;
use super::error::{Reason, StoreError};
use super::rows::{Refusal, RowSet};
use super::spec::TableSpec;
use super::{Glance, Glimpse, QueryRow, TableLook, WriteEnd, render};
use crate::cql_type::CqlType;

/// How long another process may hold the file.
const BUSY: Duration = Duration::from_secs(5);
/// The column that holds the timestamp a row was written with; no column of a SELECT can have this name.
const TS: &str = "_ts";

/// A table's file.
#[derive(Clone)]
pub struct Embedded {
    file: Arc<PathBuf>,
    keyspace: Arc<str>,
    /// One writer at a time; none when opened for reading only.
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
            std::fs::create_dir_all(folder).map_err(|cause| this.broken(format!("can't make {}: {cause}", folder.display())))?;
        }
        let here = this.clone();
        let connection = this
            .blocking(move |io| {
                let connection = here.connect(OpenFlags::default(), io)?;
                for pragma in ["PRAGMA journal_mode = WAL", "PRAGMA synchronous = NORMAL"] {
                    io.block_on(async { connection.query(pragma, ()).await?.next().await }).map_err(|error| here.fault(&error))?;
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
                    let (what, remedy) = no_table(&spec);
                    return Err(StoreError::Schema { server: here.name(), what, remedy });
                }
                io.block_on(writer.connection.execute(&create_table(&spec), ())).map_err(|error| here.fault(&error))?;
            }
            let real = here.real_columns(&writer.connection, &spec.table, io)?;
            if let Some((what, remedy)) = here.differences(&spec, &real).into_iter().next() {
                return Err(StoreError::Schema { server: here.name(), what, remedy });
            }
            writer.upsert = Some(io.block_on(writer.connection.prepare(&upsert(&spec))).map_err(|error| here.fault(&error))?);
            Ok(())
        })
        .await
    }

    /// The table as it is, and all that would keep [`Self::prepare`] from taking it; makes nothing.
    pub(super) async fn look(&self, spec: &TableSpec) -> Result<TableLook, StoreError> {
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
            let columns = real.into_iter().map(|(name, declared, _)| (name, declared)).filter(|(name, _)| name != TS).collect();
            Ok(TableLook { keyspace: None, columns, differences })
        })
        .await
    }

    fn differences(&self, spec: &TableSpec, real: &[(String, String, i64)]) -> Vec<(String, String)> {
        let remedy = format!("change the pipeline, name another table, or remove {} to start anew", self.file.display());
        differences(spec, real).into_iter().map(|what| (what, remedy.clone())).collect()
    }

    pub(super) async fn write(&self, rows: &RowSet) -> Result<WriteEnd, StoreError> {
        let (here, writer, all) = (self.clone(), self.writer()?, rows.clone());
        let done = self
            .blocking(move |io| {
                let writer = writer.lock();
                here.transaction(&writer, &all, io)
            })
            .await;
        match done {
            Err(trouble @ StoreError::Unavailable { .. }) => {
                Ok(WriteEnd { unwritten: Some((rows.clone(), trouble)), ..WriteEnd::default() })
            }
            other => other,
        }
    }

    fn transaction(&self, writer: &Writer, rows: &RowSet, io: &Handle) -> Result<WriteEnd, StoreError> {
        let Writer { connection, upsert } = writer;
        let upsert = upsert.as_ref().ok_or_else(|| self.broken("the table was not prepared".to_owned()))?;
        let run = |sql: &str| io.block_on(connection.execute(sql, ())).map_err(|error| self.fault(&error));
        run("BEGIN IMMEDIATE")?;
        let mut end = WriteEnd::default();
        let result = rows.rows().iter().try_for_each(|&row| {
            let mut values: Vec<libsql::Value> = rows.cells(row).map(|cell| value(&cell)).collect();
            values.push(rows.write_ts(row).into());
            let result = io.block_on(upsert.execute(values));
            upsert.reset();
            match result.map_err(|error| self.fault(&error)) {
                Ok(_) => end.written += 1,
                Err(error @ StoreError::Refused { .. }) => end.rejected.push(Refusal { row, reason: error.of_row() }),
                Err(other) => return Err(other),
            }
            Ok(())
        });
        match result.and_then(|()| run("COMMIT")) {
            Ok(_) => Ok(WriteEnd { statements: 1, ..end }),
            Err(error) => {
                // The file may have rolled back by itself, and then says that there is nothing to roll back.
                let _ = run("ROLLBACK");
                Err(error)
            }
        }
    }

    pub(super) async fn query(&self, sql: &str, each: &mut (dyn FnMut(QueryRow) + Send)) -> Result<Vec<String>, StoreError> {
        let word = sql.split_whitespace().next().unwrap_or_default().to_ascii_lowercase();
        if !["select", "with", "values", "explain"].contains(&word.as_str()) {
            return Err(self.refused(format!("{word:?} is not SELECT, and a query only reads")));
        }
        if !self.file.exists() {
            return Err(self.broken("nothing was written yet: there is no such file; run the pipeline first".to_owned()));
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
        let fault = |error| match self.fault(&error) {
            StoreError::Broken { server, what } => StoreError::Refused { server, what },
            other => other,
        };
        let connection = self.connect(OpenFlags::SQLITE_OPEN_READ_WRITE, io)?;
        if !["main", "temp"].contains(&&*self.keyspace) {
            let file = self.file.display().to_string();
            let attach = format!("ATTACH DATABASE ? AS \"{}\"", self.keyspace);
            io.block_on(connection.execute(&attach, [file])).map_err(fault)?;
        }
        io.block_on(connection.execute("PRAGMA query_only = ON", ())).map_err(fault)?;
        let statement = io.block_on(connection.prepare(sql)).map_err(fault)?;
        // `SELECT *` is the table's columns; the timestamp is there for who asks for it by name.
        let hide = !sql.contains(TS);
        let columns: Vec<(i32, String, Option<String>)> = (0..)
            .zip(statement.columns())
            .map(|(at, column)| (at, column.name().to_owned(), column.decl_type().map(str::to_owned)))
            .filter(|(_, name, _)| !(hide && name == TS))
            .collect();
        let mut answer = io.block_on(statement.query(())).map_err(fault)?;
        while let Some(row) = io.block_on(answer.next()).map_err(fault)? {
            let mut object = QueryRow::new();
            for (at, name, declared) in &columns {
                object.insert(name.clone(), json(row.get_value(*at).map_err(fault)?, declared.as_deref()));
            }
            if rows.blocking_send(object).is_err() {
                break;
            }
        }
        Ok(columns.into_iter().map(|(_, name, _)| name).collect())
    }

    /// The file as the one node it is; a batch that is being written is a statement in flight.
    pub(super) fn glance(&self) -> Glance {
        let (file, writer) = (Arc::downgrade(&self.file), self.writer.as_ref().map(Arc::downgrade));
        Arc::new(move || {
            let (file, writer) = (file.upgrade()?, writer.as_ref()?.upgrade()?);
            let busy = writer.is_locked();
            let node = NodeView { address: file.display().to_string(), up: true, connections: 1, ..NodeView::default() };
            Some(Glimpse { in_flight: busy.into(), nodes: vec![node] })
        })
    }

    pub(super) fn describe(&self) -> String {
        describe(&self.file)
    }

    /// How messages name it.
    fn name(&self) -> String {
        format!("embedded store {}", self.file.display())
    }

    fn broken(&self, what: String) -> StoreError {
        StoreError::Broken { server: self.name(), what }
    }

    fn refused(&self, what: String) -> StoreError {
        StoreError::Refused { server: self.name(), what }
    }

    fn fault(&self, error: &libsql::Error) -> StoreError {
        // SQLite's primary result codes; the extended ones carry them in the lowest byte.
        const BUSY_CODES: &[i32] = &[5, 6, 10];
        const FULL: i32 = 13;
        const ROW_CODES: &[i32] = &[18, 19, 20];
        match error {
            libsql::Error::SqliteFailure(code, what) if BUSY_CODES.contains(&(code & 0xff)) => {
                StoreError::Unavailable { server: self.name(), what: what.clone(), reason: Reason::Overloaded }
            }
            libsql::Error::SqliteFailure(code, what) if code & 0xff == FULL => {
                StoreError::Unavailable { server: self.name(), what: what.clone(), reason: Reason::DiskFull }
            }
            libsql::Error::SqliteFailure(code, what) if ROW_CODES.contains(&(code & 0xff)) => self.refused(what.clone()),
            libsql::Error::SqliteFailure(_, what) => self.broken(what.clone()),
            other => self.broken(other.to_string()),
        }
    }

    fn writer(&self) -> Result<Arc<Mutex<Writer>>, StoreError> {
        self.writer.clone().ok_or_else(|| self.broken("opened for reading only".to_owned()))
    }

    fn connect(&self, flags: OpenFlags, io: &Handle) -> Result<Connection, StoreError> {
        let database = io.block_on(Builder::new_local(&*self.file).flags(flags).build()).map_err(|error| self.fault(&error))?;
        let connection = database.connect().map_err(|error| self.fault(&error))?;
        connection.busy_timeout(BUSY).map_err(|error| self.fault(&error))?;
        Ok(connection)
    }

    /// libsql's futures are ready at once and block the thread while they are at it: they run on the blocking pool.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Handle) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let io = Handle::current();
        match task::spawn_blocking(move || work(&io)).await {
            Ok(result) => result,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => {
                Err(StoreError::Unavailable { server: self.name(), what: "the process is stopping".to_owned(), reason: Reason::Other })
            }
        }
    }

    /// Name, declared type and place in the primary key (from 1, 0 when not in it) of each column; empty when there is no such table.
    fn real_columns(&self, connection: &Connection, table: &str, io: &Handle) -> Result<Vec<(String, String, i64)>, StoreError> {
        io.block_on(async {
            let mut columns = Vec::new();
            let mut rows = connection.query("SELECT name, type, pk FROM pragma_table_info(?)", [table]).await?;
            while let Some(row) = rows.next().await? {
                columns.push((row.get::<String>(0)?, row.get::<String>(1)?, row.get::<i64>(2)?));
            }
            Ok(columns)
        })
        .map_err(|error| self.fault(&error))
    }
}

/// The declared type of a column: SQLite goes by it in how it keeps values, [`json`] in how it shows them.
fn declared(cql: &CqlType) -> &'static str {
    match cql {
        CqlType::Ascii | CqlType::Text | CqlType::Uuid | CqlType::Timeuuid | CqlType::Timestamp | CqlType::Date | CqlType::Decimal => {
            "TEXT"
        }
        CqlType::List(_) => "TEXT_JSON",
        CqlType::Bigint | CqlType::Int | CqlType::Smallint | CqlType::Tinyint => "INTEGER",
        CqlType::Boolean => "BOOLEAN",
        CqlType::Double | CqlType::Float => "REAL",
        CqlType::Blob => "BLOB",
    }
}

fn create_table(spec: &TableSpec) -> String {
    let columns: Vec<_> = spec.columns.iter().map(|column| format!("\"{}\" {}", column.name, declared(&column.cql))).collect();
    format!(
        "CREATE TABLE IF NOT EXISTS \"{}\" ({}, {TS} INTEGER NOT NULL, PRIMARY KEY ({})) WITHOUT ROWID",
        spec.table,
        columns.join(", "),
        quoted(spec.key_names().into_iter())
    )
}

fn upsert(spec: &TableSpec) -> String {
    let mut names: Vec<&str> = spec.columns.iter().map(|column| column.name.as_str()).collect();
    names.push(TS);
    let kept = |name: &str| spec.columns.iter().any(|column| column.name == name && column.nulls == Nulls::Unset);
    let set = |name: &&str| match kept(name) {
        true => format!("\"{name}\" = coalesce(excluded.\"{name}\", \"{}\".\"{name}\")", spec.table),
        false => format!("\"{name}\" = excluded.\"{name}\""),
    };
    let sets: Vec<_> = names.iter().filter(|name| !spec.key_names().contains(name)).map(set).collect();
    format!(
        "INSERT INTO \"{table}\" ({}) VALUES ({}) ON CONFLICT ({}) DO UPDATE SET {} WHERE excluded.{TS} > \"{table}\".{TS}",
        quoted(names.iter().copied()),
        vec!["?"; names.len()].join(", "),
        quoted(spec.key_names().into_iter()),
        sets.join(", "),
        table = spec.table,
    )
}

fn quoted<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ")
}

fn no_table(spec: &TableSpec) -> (String, String) {
    (format!("there is no table {}", spec.table), "set create = true in [cassandra]".to_owned())
}

/// All that does not match.
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
        real.iter().filter(|(_, _, place)| *place > 0).map(|(name, _, place)| (*place, name.as_str())).collect();
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
    if !real.iter().any(|(name, _, _)| name == TS) {
        differences.push(format!("table {} was not made by Forebay: it has no column {TS}", spec.table));
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

/// A float as the double that reads the same.
fn widened(number: f32) -> f64 {
    number.to_string().parse().unwrap_or(number.into())
}

/// A value in JSON, inside a list also.
fn plain(cell: &Cell<'_>) -> serde_json::Value {
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
        Cell::List { elements, from, to } => (from..to).map(|at| plain(&elements.value(at))).collect(),
    }
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

/// How a look at the pipeline names a store in a file.
pub(super) fn describe(file: &Path) -> String {
    format!("embedded ({})", file.display())
}
