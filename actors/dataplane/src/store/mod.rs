//! The table, in Cassandra or in a local file, behind one interface.
//!
//! * [`TableSpec`] plans the table from the pipeline file and the SELECT, without a server.
//! * [`RowSet`] checks rows against the plan and reports those that do not fit.
//! * [`Store`] connects, checks the real table, writes rows and runs queries.
//!
//! Guarantees:
//! * [`Store::write`] upserts whole rows by primary key, and the newest timestamp wins. Repeating a
//!   write, delaying it, or reordering writes results in the same table. One exception: in a file,
//!   with `nulls = "unset"`, the order matters for rows that lack values.
//! * A row that is counted as written has been acknowledged.
//!
//! Does not guarantee:
//! * that a failed write had no effect
//! * that two rows become visible at the same moment

mod cassandra;
mod cql_encoding;
#[cfg(test)]
mod effectively_once_tests;
mod embedded;
mod error;
#[cfg(any(test, feature = "testing"))]
pub mod fixtures;
mod render;
mod row_check;
mod status;
mod table_spec;
mod values;

use forebay_schemas::pipeline::{CassandraSection, ContactPoints, FileError, Pipeline};

pub use self::cassandra::Cassandra;
pub use self::embedded::Embedded;
pub use self::error::{RetryReason, StoreError};
pub use self::row_check::{Refusal, RowSet};
pub use self::status::{StoreProbe, StoreStatus};
pub use self::table_spec::{Column, RowTtl, TableSpec};
pub use crate::cql_name::is_reserved_word;
pub use crate::cql_type::CqlType;
/// The name of the embedded store's file in the data directory.
pub const EMBEDDED_FILE: &str = "store.db";

/// A connected store. Cheap to clone.
#[derive(Clone)]
pub enum Store {
    /// A Cassandra cluster.
    Cassandra(Cassandra),
    /// A local SQLite file.
    Embedded(Embedded),
}

/// One row of a query result: values by column name, in the order of the SELECT.
pub type QueryRow = serde_json::Map<String, serde_json::Value>;

/// The result of a query.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct QueryRows {
    /// The columns, in the order of the SELECT.
    pub columns: Vec<String>,
    /// The rows.
    pub rows: Vec<QueryRow>,
}

/// The table as it exists, compared with the planned one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TableDescription {
    /// Whether the keyspace exists. `None` for a store without keyspaces.
    pub keyspace: Option<bool>,
    /// The existing columns and the store's names of their types. Empty when the table is missing.
    pub columns: Vec<(String, String)>,
    /// The differences that prevent the pipeline from writing, each with its remedy.
    pub differences: Vec<(String, String)>,
    /// The options of the table that differ from those of the pipeline file.
    pub options: Vec<String>,
}

/// The outcome of writing a micro-batch: each row is written, rejected or unwritten.
#[derive(Debug, Default)]
pub struct WriteOutcome {
    /// The number of acknowledged rows.
    pub written: u64,
    /// Rows that the table will never accept.
    pub rejected: Vec<Refusal>,
    /// Rows to retry, and the first error that stopped them. Some of them may have been written.
    pub unwritten: Option<(RowSet, StoreError)>,
    /// The number of acknowledged statements. A CQL batch counts as one, and so does a transaction
    /// of the embedded store.
    pub statements: u64,
}

impl Store {
    /// Connects to the store of a pipeline. Only this function reads the store's secrets.
    ///
    /// With a `spec` it also prepares the table, which [`Self::write`] requires.
    ///
    /// # Errors
    /// When the store is unreachable, denies access, or has a table that does not match `spec`.
    /// [`Classified::class`](forebay_schemas::error_class::Classified::class) says whether to
    /// retry.
    pub async fn connect(pipeline: &Pipeline, spec: Option<&TableSpec>) -> Result<Self, StoreError> {
        match spec {
            Some(spec) => Ok(Self::connect_to_write(pipeline, spec).await?.0),
            None => Self::open(pipeline, false).await,
        }
    }

    /// Connects to the store of a pipeline and prepares the table. Also returns the plan that
    /// [`RowSet::check`] needs, as [`Self::prepare`] does.
    ///
    /// # Errors
    /// See [`Self::connect`].
    pub async fn connect_to_write(pipeline: &Pipeline, spec: &TableSpec) -> Result<(Self, TableSpec), StoreError> {
        let store = Self::open(pipeline, true).await?;
        let spec = store.prepare(spec).await?;
        Ok((store, spec))
    }

    async fn open(pipeline: &Pipeline, to_write: bool) -> Result<Self, StoreError> {
        let Some(table) = &pipeline.cassandra else {
            return Err(StoreError::Unrecoverable {
                server: "store".to_owned(),
                message: "the pipeline file has no [cassandra] section; add one".to_owned(),
            });
        };
        Ok(if table.is_embedded() {
            Self::Embedded(Embedded::open(&pipeline.data_dir().join(EMBEDDED_FILE), &table.keyspace, to_write).await?)
        } else {
            Self::Cassandra(Cassandra::connect(pipeline, table).await?)
        })
    }

    /// Reads the certificates and the key of the store's connections, without connecting.
    ///
    /// # Errors
    /// When a file can't be read, is not PEM, or does not fit the others, at its key.
    pub fn check_tls(pipeline: &Pipeline) -> Result<(), FileError> {
        Cassandra::check_tls(pipeline)
    }

    /// Creates a missing keyspace and table if the spec allows it, then checks that the table has
    /// every planned column, with the planned type, and the planned primary key. Returns the spec
    /// with the fields of its user-defined types.
    ///
    /// # Errors
    /// [`StoreError::Schema`], with the remedy, when the table does not match; another error when
    /// the store can't be queried.
    pub async fn prepare(&self, spec: &TableSpec) -> Result<TableSpec, StoreError> {
        match self {
            Self::Cassandra(cassandra) => cassandra.prepare(spec).await,
            Self::Embedded(embedded) => embedded.prepare(spec).await.map(|()| spec.clone()),
        }
    }

    /// Describes the table that [`Self::prepare`] would prepare, without creating anything.
    ///
    /// # Errors
    /// When the store can't be queried.
    pub async fn describe_table(&self, spec: &TableSpec) -> Result<TableDescription, StoreError> {
        match self {
            Self::Cassandra(cassandra) => cassandra.describe_table(spec).await,
            Self::Embedded(embedded) => embedded.describe_table(spec).await,
        }
    }

    /// Writes each row once.
    ///
    /// Several micro-batches may be written concurrently. They share the limit of requests in
    /// flight, and the earlier one goes first. A transient failure is part of the outcome, with the
    /// rows to retry. `on_progress` is called whenever a request is answered.
    ///
    /// # Errors
    /// Only errors that a retry can't fix.
    pub async fn write(&self, rows: &RowSet, on_progress: &(dyn Fn() + Send + Sync)) -> Result<WriteOutcome, StoreError> {
        if rows.is_empty() {
            return Ok(WriteOutcome::default());
        }
        match self {
            Self::Cassandra(cassandra) => cassandra.write(rows, on_progress).await,
            Self::Embedded(embedded) => {
                let outcome = embedded.write(rows).await;
                on_progress();
                outcome
            }
        }
    }

    /// Runs a SELECT, calls `each` for every row, and returns the column names. Unqualified table
    /// names belong to the pipeline's keyspace.
    ///
    /// # Errors
    /// When the statement is not a SELECT, the store refuses it, or the store is unreachable.
    pub async fn query_each(&self, sql: &str, each: &mut (dyn FnMut(QueryRow) + Send)) -> Result<Vec<String>, StoreError> {
        match self {
            Self::Cassandra(cassandra) => cassandra.query(sql, each).await,
            Self::Embedded(embedded) => embedded.query(sql, each).await,
        }
    }

    /// Runs a SELECT and returns the whole result, which must fit in memory.
    ///
    /// # Errors
    /// See [`Self::query_each`].
    pub async fn query(&self, sql: &str) -> Result<QueryRows, StoreError> {
        let mut rows = Vec::new();
        let columns = self.query_each(sql, &mut |row| rows.push(row)).await?;
        Ok(QueryRows { columns, rows })
    }

    /// Returns a function that reads the store's status. It does not keep the store alive.
    pub fn probe(&self) -> StoreProbe {
        match self {
            Self::Cassandra(cassandra) => cassandra.probe(),
            Self::Embedded(embedded) => embedded.probe(),
        }
    }

    /// Returns an error if no node is connected, without sending a request.
    pub fn unreachable(&self) -> Option<StoreError> {
        let nodes = self.probe()()?.nodes;
        let none = !nodes.is_empty() && nodes.iter().all(|node| !node.up);
        let message = "no node is connected".to_owned();
        none.then(|| StoreError::Unavailable { server: format!("cassandra {}", self.describe()), message, reason: RetryReason::Connection })
    }

    /// Returns the kind of a pipeline's store and the consistency level of its writes. Empty if it
    /// has none.
    pub fn kind_of(pipeline: &Pipeline) -> (&'static str, String) {
        match pipeline.cassandra.as_ref().map(CassandraSection::is_embedded) {
            None => ("", String::new()),
            Some(true) => ("embedded", String::new()),
            Some(false) => ("cassandra", pipeline.writer.as_ref().map(|writer| writer.consistency.as_str().to_owned()).unwrap_or_default()),
        }
    }

    /// Returns the location of a pipeline's table without connecting. Empty if it has no table.
    pub fn describe_of(pipeline: &Pipeline) -> String {
        match pipeline.cassandra.as_ref().map(|table| &table.contact_points) {
            None => String::new(),
            Some(ContactPoints::Word(_)) => embedded::describe(&pipeline.data_dir().join(EMBEDDED_FILE)),
            Some(ContactPoints::Servers(servers)) => servers.join(","),
        }
    }

    /// Returns the location of the table: the contact points, or `embedded (FILE)`.
    pub fn describe(&self) -> String {
        match self {
            Self::Cassandra(cassandra) => cassandra.describe(),
            Self::Embedded(embedded) => embedded.describe(),
        }
    }
}
