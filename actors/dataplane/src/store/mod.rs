//! The table: in Cassandra, or in a file of this machine, behind one interface.
//!
//! Guarantee: [`Store::write`] is an upsert of whole rows by their primary key, newest timestamp wins: making the same write again, late,
//! or in another order gives the same table (`nulls = "unset"` in a file: the last only as far as each row has its values). A row it counts as written is acknowledged. Not guaranteed: that a write which failed had no
//! effect, and that two rows become visible at the same moment.
//!
//! * [`TableSpec`] plans the table out of the pipeline file and the SELECT, with no server asked.
//! * [`RowSet`] checks rows against it and names those that do not fit.
//! * [`Store`] connects, checks the real table, writes, and reads for a person.

mod cassandra;
mod cells;
mod embedded;
mod error;
#[cfg(test)]
mod once_tests;
mod probe;
mod render;
mod rows;
mod spec;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

use forebay_schemas::pipeline::{CassandraSection, ContactPoints, Pipeline};

pub use self::cassandra::Cassandra;
pub use self::embedded::Embedded;
pub use self::error::{Reason, StoreError};
pub use self::probe::{Glance, Glimpse};
pub use self::rows::{Refusal, RowSet};
pub use self::spec::{Column, TableSpec};
pub use crate::cql_type::CqlType;
/// The name of the embedded store's file in the data directory.
pub const EMBEDDED_FILE: &str = "store.db";

/// A table's store; cheap to clone.
#[derive(Clone)]
pub enum Store {
    /// A cluster of Cassandra.
    Cassandra(Cassandra),
    /// A file that any SQLite opens.
    Embedded(Embedded),
}

/// One row of an answer: values by the names of their columns, in the order of the SELECT.
pub type QueryRow = serde_json::Map<String, serde_json::Value>;

/// The answer to a query.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct QueryRows {
    /// The columns, in the order of the SELECT.
    pub columns: Vec<String>,
    /// The rows.
    pub rows: Vec<QueryRow>,
}

/// A table as it is, beside the one that is planned.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TableLook {
    /// Whether its keyspace is there; none in a store that has no keyspaces.
    pub keyspace: Option<bool>,
    /// The columns that are there, and their types in the store's words; none when there is no such table.
    pub columns: Vec<(String, String)>,
    /// What would keep the pipeline from writing to it, and what to do about that.
    pub differences: Vec<(String, String)>,
}

/// What became of a micro-batch of rows: each is written, refused or unwritten.
#[derive(Debug, Default)]
pub struct WriteEnd {
    /// How many rows were acknowledged.
    pub written: u64,
    /// Rows that the table will never take.
    pub rejected: Vec<Refusal>,
    /// Rows to try again, and the first trouble that stopped them. Some of them may have been written.
    pub unwritten: Option<(RowSet, StoreError)>,
    /// How many statements were acknowledged: a CQL batch is one, and so is a transaction of the embedded store.
    pub statements: u64,
}

impl Store {
    /// Connects to the store a pipeline names. Secrets are read here and nowhere else. With a `spec` the table is also prepared, so that
    /// the store can be written to.
    ///
    /// # Errors
    /// When the store can't be reached, does not let us in, or its table is not as `spec` wants it; see [`StoreError::class`].
    pub async fn connect(pipeline: &Pipeline, spec: Option<&TableSpec>) -> Result<Self, StoreError> {
        let Some(table) = &pipeline.cassandra else {
            return Err(StoreError::Broken {
                server: "store".to_owned(),
                what: "the pipeline has no [cassandra]; add it to the file".to_owned(),
            });
        };
        let store = if table.is_embedded() {
            Self::Embedded(Embedded::open(&pipeline.data_dir().join(EMBEDDED_FILE), &table.keyspace, spec.is_some()).await?)
        } else {
            Self::Cassandra(Cassandra::connect(pipeline, table).await?)
        };
        if let Some(spec) = spec {
            store.prepare(spec).await?;
        }
        Ok(store)
    }

    /// Makes keyspace and table where the spec says so and they are missing, then checks the real table: every column there, of the same
    /// type, and the same primary key.
    ///
    /// # Errors
    /// [`StoreError::Schema`] with what to change when the table does not match; others when the store can't be asked.
    pub async fn prepare(&self, spec: &TableSpec) -> Result<(), StoreError> {
        match self {
            Self::Cassandra(cassandra) => cassandra.prepare(spec).await,
            Self::Embedded(embedded) => embedded.prepare(spec).await,
        }
    }

    /// Looks at the table that [`Self::prepare`] would prepare, and makes nothing.
    ///
    /// # Errors
    /// When the store can't be asked.
    pub async fn look(&self, spec: &TableSpec) -> Result<TableLook, StoreError> {
        match self {
            Self::Cassandra(cassandra) => cassandra.look(spec).await,
            Self::Embedded(embedded) => embedded.look(spec).await,
        }
    }

    /// Writes each row once. May be called for several micro-batches at a time; they share the limit of requests in flight, and the
    /// earlier one goes first. Trouble that may pass is in the end, with the rows to try again. `moved` is called as requests are answered.
    ///
    /// # Errors
    /// Only what trying again won't mend.
    pub async fn write(&self, rows: &RowSet, moved: &(dyn Fn() + Send + Sync)) -> Result<WriteEnd, StoreError> {
        if rows.is_empty() {
            return Ok(WriteEnd::default());
        }
        match self {
            Self::Cassandra(cassandra) => cassandra.write(rows, moved).await,
            Self::Embedded(embedded) => {
                let end = embedded.write(rows).await;
                moved();
                end
            }
        }
    }

    /// Runs a SELECT and gives its rows one by one, then the names of its columns. Unqualified table names mean those of the keyspace.
    ///
    /// # Errors
    /// When the statement is no SELECT or the store refuses it, or can't be reached.
    pub async fn query_each(&self, sql: &str, each: &mut (dyn FnMut(QueryRow) + Send)) -> Result<Vec<String>, StoreError> {
        match self {
            Self::Cassandra(cassandra) => cassandra.query(sql, each).await,
            Self::Embedded(embedded) => embedded.query(sql, each).await,
        }
    }

    /// Runs a SELECT and gives the whole answer, which must fit in memory.
    ///
    /// # Errors
    /// As [`Self::query_each`].
    pub async fn query(&self, sql: &str) -> Result<QueryRows, StoreError> {
        let mut rows = Vec::new();
        let columns = self.query_each(sql, &mut |row| rows.push(row)).await?;
        Ok(QueryRows { columns, rows })
    }

    /// What shows of the store from outside, for as long as somebody holds it.
    pub fn glance(&self) -> Glance {
        match self {
            Self::Cassandra(cassandra) => cassandra.glance(),
            Self::Embedded(embedded) => embedded.glance(),
        }
    }

    /// Why nothing can be written now, as far as the connections tell: none of the nodes is connected.
    pub fn unreachable(&self) -> Option<StoreError> {
        let nodes = self.glance()()?.nodes;
        let none = !nodes.is_empty() && nodes.iter().all(|node| !node.up);
        let what = "no node is connected".to_owned();
        none.then(|| StoreError::Unavailable { server: format!("cassandra {}", self.describe()), what, reason: Reason::Connection })
    }

    /// The kind of store that a pipeline names, and the consistency level of its writes; empty where there is none.
    pub fn kind_of(pipeline: &Pipeline) -> (&'static str, String) {
        match pipeline.cassandra.as_ref().map(CassandraSection::is_embedded) {
            None => ("", String::new()),
            Some(true) => ("embedded", String::new()),
            Some(false) => ("cassandra", pipeline.writer.as_ref().map(|writer| writer.consistency.as_str().to_owned()).unwrap_or_default()),
        }
    }

    /// Where the table of a pipeline will be, before anything is connected; empty when it has none.
    pub fn describe_of(pipeline: &Pipeline) -> String {
        match pipeline.cassandra.as_ref().map(|table| &table.contact_points) {
            None => String::new(),
            Some(ContactPoints::Word(_)) => embedded::describe(&pipeline.data_dir().join(EMBEDDED_FILE)),
            Some(ContactPoints::Servers(servers)) => servers.join(","),
        }
    }

    /// Where the table is: the contact points, or `embedded (FILE)`.
    pub fn describe(&self) -> String {
        match self {
            Self::Cassandra(cassandra) => cassandra.describe(),
            Self::Embedded(embedded) => embedded.describe(),
        }
    }
}
