//! Plans the table from the pipeline file and the columns of the SELECT, without a server.
//!
//! Guarantees that the table of a [`TableSpec`] can be created, and that rows of the planned schema
//! can be written to it if their values fit.
//!
//! Does not guarantee that the real table matches; [`Store::prepare`](super::Store::prepare) checks
//! that.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use datafusion::arrow::datatypes::{DataType, Schema};
use forebay_schemas::pipeline::{
    COLUMN_NAMES, CassandraSection, FileError, MAX_TTL_SECONDS, Nulls, Pipeline, TableOption, Ttl, WriterSection, is_column_name, nearest,
};

use crate::cql_name::{cql_name, cql_names};
use crate::cql_type::{CqlType, own_fields};

/// The table that a pipeline needs.
#[derive(Debug, Clone, PartialEq)]
pub struct TableSpec {
    /// The keyspace.
    pub keyspace: String,
    /// The table.
    pub table: String,
    /// Its columns, in the order of the SELECT.
    pub columns: Vec<Column>,
    /// The primary key as indexes into `columns`, in key order.
    pub primary_key: Vec<usize>,
    /// The number of columns of the partition key, if the pipeline file says it. Otherwise a table
    /// that exists decides, and one that Forebay creates has one.
    pub partition: Option<usize>,
    /// The clustering columns with an order in the pipeline file, as indexes into `columns`, and
    /// whether each is descending. The others are ascending; if none has an order, a table that
    /// exists decides.
    pub clustering_order: Vec<(usize, bool)>,
    /// The static columns as indexes into `columns`. `None` if a table that exists decides.
    pub statics: Option<Vec<usize>>,
    /// Options of a table that Forebay creates.
    pub options: BTreeMap<String, TableOption>,
    /// How long rows are kept, if not as the table says.
    pub ttl: Option<RowTtl>,
    /// Whether to create a missing keyspace and table.
    pub create: bool,
    /// The replication factor per datacenter of a keyspace that Forebay creates.
    pub replication: i32,
}

/// How long rows are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowTtl {
    /// Each row for this number of seconds.
    Seconds(i32),
    /// Each row for the number of seconds in the column of the SELECT with this index. It is none
    /// of `columns`.
    Column(usize),
}

/// One column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Its name, in the SELECT as in the table.
    pub name: String,
    /// The type that the SELECT returns.
    pub arrow: DataType,
    /// The type in the table.
    pub cql: CqlType,
    /// Whether the SELECT may return null.
    pub nullable: bool,
    /// How a null is written. Never [`Nulls::Unset`] for a column of the primary key.
    pub nulls: Nulls,
}

impl TableSpec {
    /// Plans the table for a pipeline whose SELECT returns `output`.
    ///
    /// # Errors
    /// When a column of the SELECT can't be a column of the table, a column named in `[writer]` is
    /// not in the SELECT, or a type can't be written. The error has the location in the pipeline
    /// file and the remedy.
    ///
    /// # Panics
    /// When the pipeline does not write; see [`Pipeline::writes`].
    pub fn plan(pipeline: &Pipeline, output: &Schema) -> Result<Self, FileError> {
        let cassandra: &CassandraSection = pipeline.cassandra.as_ref().expect("a pipeline that writes has [cassandra]");
        let writer: &WriterSection = pipeline.writer.as_ref().expect("a pipeline that writes has [writer]");
        let ttl = plan_ttl(pipeline, writer, output)?;
        let columns = plan_columns(pipeline, writer, output, ttl)?;
        let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
        let mut primary_key = Vec::with_capacity(writer.primary_key.len());
        for name in writer.columns.keys() {
            in_the_select(pipeline, &["writer", "columns", name], name, &names)?;
        }
        for name in writer.nulls.named() {
            in_the_select(pipeline, &["writer", "nulls", name], name, &names)?;
        }
        for name in writer.primary_key.iter() {
            let at = in_the_select(pipeline, &["writer", "primary_key"], name, &names)?;
            if let Some(why) = columns[at].cql.unfit_for_key() {
                let message = format!("`{name}` is `{}`, which can't be part of the primary key: {why}", columns[at].cql);
                return Err(pipeline.error_at(&["writer", "primary_key"], message, "choose another column, or another type for it"));
            }
            primary_key.push(at);
        }
        let order = &["writer", "clustering_order"];
        let order = writer.clustering_order.iter().map(|one| Ok((in_the_select(pipeline, order, &one.column, &names)?, one.descending)));
        let clustering_order = order.collect::<Result<_, FileError>>()?;
        let statics = writer.statics.as_ref().map(|statics| {
            statics.iter().map(|name| in_the_select(pipeline, &["writer", "static"], name, &names)).collect::<Result<_, FileError>>()
        });
        let statics = statics.transpose()?;
        Ok(Self {
            keyspace: cassandra.keyspace.clone(),
            table: writer.table.clone(),
            primary_key,
            partition: writer.primary_key.partition(),
            columns,
            clustering_order,
            statics,
            options: writer.options.clone(),
            ttl,
            create: cassandra.create,
            replication: cassandra.replication,
        })
    }

    /// Returns the name of the table in statements and messages.
    pub fn name(&self) -> String {
        format!("{}.{}", cql_name(&self.keyspace), cql_name(&self.table))
    }

    /// Returns the index in the SELECT of the column at this index.
    pub fn select_index(&self, column: usize) -> usize {
        match self.ttl {
            Some(RowTtl::Column(ttl)) if ttl <= column => column + 1,
            _ => column,
        }
    }

    /// Returns whether the column at this index belongs to the primary key.
    pub fn is_key(&self, column: usize) -> bool {
        self.primary_key.contains(&column)
    }

    /// Returns the columns whose declared type can't hold every value of the SELECT, and what
    /// happens to the values that do not fit.
    pub fn losses(&self) -> impl Iterator<Item = (&Column, &'static str)> {
        self.columns.iter().filter_map(|column| Some((column, loss(&column.arrow, &column.cql)?)))
    }

    /// Returns the columns whose nulls are written. Each such null is a tombstone in Cassandra.
    pub fn tombstones(&self) -> impl Iterator<Item = &Column> {
        let columns = self.columns.iter().enumerate();
        columns.filter(|(at, column)| column.nullable && column.nulls == Nulls::Write && !self.is_key(*at)).map(|(_, column)| column)
    }

    /// Returns the names of the primary key's columns, in key order.
    pub fn key_names(&self) -> Vec<&str> {
        self.primary_key.iter().map(|&at| self.columns[at].name.as_str()).collect()
    }

    /// Returns the statement that creates the keyspace. Its replication names no datacenter, so
    /// Cassandra replicates to all of them.
    pub fn create_keyspace_cql(&self) -> String {
        format!(
            "CREATE KEYSPACE IF NOT EXISTS {} WITH replication = {{'class': 'NetworkTopologyStrategy', 'replication_factor': {}}} AND durable_writes = true",
            cql_name(&self.keyspace),
            self.replication
        )
    }

    /// Returns the statement that creates the table.
    pub fn create_table_cql(&self) -> String {
        let mut cql = format!("CREATE TABLE IF NOT EXISTS {} (\n", self.name());
        for column in &self.columns {
            let _ = write!(cql, "    {} {}", cql_name(&column.name), column.cql);
            cql.push_str(if self.statics().any(|name| name == column.name) { " STATIC,\n" } else { ",\n" });
        }
        let _ = write!(cql, "    PRIMARY KEY ({})\n)", self.key_cql(self.partition));
        let mut before = "\nWITH";
        if !self.clustering_order.is_empty() {
            let order = self.primary_key[self.partition.unwrap_or(1)..]
                .iter()
                .map(|&at| format!("{} {}", cql_name(&self.columns[at].name), if self.is_descending(at) { "DESC" } else { "ASC" }));
            let _ = write!(cql, "{before} CLUSTERING ORDER BY ({})", order.collect::<Vec<_>>().join(", "));
            before = "\n    AND";
        }
        for (name, value) in &self.options {
            let _ = write!(cql, "{before} {name} = {}", value.cql());
            before = "\n    AND";
        }
        cql
    }

    /// Returns the partition key of a table that Forebay creates, as indexes into `columns`.
    pub fn partition_key(&self) -> &[usize] {
        &self.primary_key[..self.partition.unwrap_or(1).min(self.primary_key.len())]
    }

    /// Returns the primary key as CQL writes it, with this number of columns in the partition key.
    pub fn key_cql(&self, partition: Option<usize>) -> String {
        let names = self.key_names();
        let Some(partition) = partition else { return cql_names(names) };
        let (partition, clustering) = names.split_at(partition.min(names.len()));
        let first = format!("({})", cql_names(partition.iter().copied()));
        [first].into_iter().chain(clustering.iter().map(|name| cql_name(name).into_owned())).collect::<Vec<_>>().join(", ")
    }

    /// Whether the clustering column at this index is descending in a table that Forebay creates.
    pub(super) fn is_descending(&self, column: usize) -> bool {
        self.clustering_order.contains(&(column, true))
    }

    /// Returns the names of the static columns.
    pub fn statics(&self) -> impl Iterator<Item = &str> {
        self.statics.iter().flatten().map(|&at| self.columns[at].name.as_str())
    }

    /// Returns the INSERT for a row. After the columns it has the write timestamp in microseconds,
    /// and the time to live in seconds if rows have one.
    pub fn insert_cql(&self) -> String {
        let names = cql_names(self.columns.iter().map(|column| column.name.as_str()));
        let marks = vec!["?"; self.columns.len()].join(", ");
        format!(
            "INSERT INTO {} ({names}) VALUES ({marks}) USING TIMESTAMP ?{}",
            self.name(),
            if self.ttl.is_some() { " AND TTL ?" } else { "" }
        )
    }
}

fn plan_ttl(pipeline: &Pipeline, writer: &WriterSection, output: &Schema) -> Result<Option<RowTtl>, FileError> {
    let key = &["writer", "ttl"];
    Ok(Some(match &writer.ttl {
        None => return Ok(None),
        // The pipeline file was checked for the range.
        Some(Ttl::Time(time)) => RowTtl::Seconds(i32::try_from(time.0.as_secs()).unwrap_or(MAX_TTL_SECONDS)),
        Some(Ttl::Column { column }) => {
            let names: Vec<&str> = output.fields().iter().map(|field| field.name().as_str()).collect();
            let at = in_the_select(pipeline, key, column, &names)?;
            let arrow = output.field(at).data_type();
            if !CqlType::Int.takes(arrow) {
                let message = format!("`{column}` is {arrow} in the SQL; the time to live is a number of seconds");
                return Err(pipeline.error_at(key, message, "make it an integer in the SQL with CAST"));
            }
            RowTtl::Column(at)
        }
    }))
}

fn plan_columns(pipeline: &Pipeline, writer: &WriterSection, output: &Schema, ttl: Option<RowTtl>) -> Result<Vec<Column>, FileError> {
    let sql = &["transformer", "sql"];
    let is_embedded = pipeline.cassandra.as_ref().is_some_and(CassandraSection::is_embedded);
    let mut columns: Vec<Column> = Vec::with_capacity(output.fields().len());
    for (at, field) in output.fields().iter().enumerate() {
        if ttl == Some(RowTtl::Column(at)) {
            continue;
        }
        let (name, arrow) = (field.name(), field.data_type());
        if !is_column_name(name) {
            let remedy = format!("give it a name with AS: {COLUMN_NAMES}");
            return Err(pipeline.error_at(sql, format!("`{name}` can't be a column of the table"), remedy));
        }
        if is_embedded {
            fits_sqlite(pipeline, name, &columns)?;
        }
        if columns.iter().any(|column| column.name == *name) {
            return Err(pipeline.error_at(sql, format!("the SELECT has two columns `{name}`"), "rename one of them with AS"));
        }
        let cql = match writer.columns.get(name) {
            Some(declared) => {
                let mut cql = declared_type(pipeline, name, declared, arrow)?;
                if is_embedded {
                    cql.name_fields(arrow);
                    if !cql.takes(arrow) {
                        let message = format!("`{name}` is {arrow} in the SQL, which the embedded store can't keep as `{cql}`");
                        return Err(pipeline.error_at(&["writer", "columns", name], message, "select its fields one by one"));
                    }
                }
                cql
            }
            None => CqlType::of(arrow).ok_or_else(|| no_type(pipeline, name, arrow))?,
        };
        let nulls = if writer.primary_key.contains(name) { Nulls::Write } else { writer.nulls.of(name) };
        columns.push(Column { name: name.clone(), arrow: arrow.clone(), cql, nullable: field.is_nullable(), nulls });
    }
    Ok(columns)
}

/// Returns what happens to values that do not fit, if any may not.
fn loss(arrow: &DataType, cql: &CqlType) -> Option<&'static str> {
    match (arrow, cql) {
        (DataType::List(item), CqlType::List(element) | CqlType::Set(_, element)) => loss(item.data_type(), element),
        (DataType::List(item), CqlType::Vector(_)) => loss(item.data_type(), &CqlType::Float),
        (DataType::Struct(fields), CqlType::Map(_, pair)) => own_fields(fields).find_map(|(_, field)| loss(field.data_type(), &pair.1)),
        (DataType::Struct(fields), CqlType::Tuple(parts)) => {
            own_fields(fields).zip(parts).find_map(|((_, field), part)| loss(field.data_type(), part))
        }
        (DataType::Float64, CqlType::Float) => Some("a double is rounded to the 6 to 9 digits of a float"),
        (integer, narrow) if integer.is_integer() && CqlType::of(integer).as_ref() != Some(narrow) => match narrow {
            CqlType::Tinyint | CqlType::Smallint | CqlType::Int if width(integer) > width_of(narrow) => {
                Some("a record with an integer out of its range becomes a dead letter")
            }
            _ => None,
        },
        _ => None,
    }
}

fn width(integer: &DataType) -> usize {
    integer.primitive_width().unwrap_or(0)
}

fn width_of(cql: &CqlType) -> usize {
    match cql {
        CqlType::Tinyint => 1,
        CqlType::Smallint => 2,
        CqlType::Int => 4,
        _ => 8,
    }
}

/// Checks that SQLite can have a column with this name beside the others: it ignores the case of
/// ASCII letters, and one column is the store's own.
fn fits_sqlite(pipeline: &Pipeline, name: &str, columns: &[Column]) -> Result<(), FileError> {
    let refused = |message| Err(pipeline.error_at(&["transformer", "sql"], message, "rename it with AS"));
    if name.eq_ignore_ascii_case(super::embedded::TIMESTAMP_COLUMN) {
        return refused(format!("`{name}` is the embedded store's column of write timestamps"));
    }
    match columns.iter().find(|column| column.name != *name && column.name.eq_ignore_ascii_case(name)) {
        Some(other) => refused(format!("the embedded store can't tell the columns `{}` and `{name}` apart", other.name)),
        None => Ok(()),
    }
}

/// Returns the column's index in the SELECT.
fn in_the_select(pipeline: &Pipeline, key: &[&str], name: &str, names: &[&str]) -> Result<usize, FileError> {
    names.iter().position(|each| *each == name).ok_or_else(|| {
        let help = match nearest(name, names.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("the SELECT has {}", names.join(", ")),
        };
        pipeline.error_at(key, format!("`{name}` is not a column of the SELECT"), help)
    })
}

fn declared_type(pipeline: &Pipeline, name: &str, declared: &str, arrow: &DataType) -> Result<CqlType, FileError> {
    let key = &["writer", "columns", name];
    let cql = CqlType::parse(declared).map_err(|(message, help)| pipeline.error_at(key, message, help))?;
    if cql.takes(arrow) {
        return Ok(cql);
    }
    let help = match (cql.time_remedy(arrow, name), CqlType::of(arrow)) {
        (Some(remedy), _) => remedy,
        (None, Some(natural)) => format!("use `{natural}`, or convert it in the SQL with CAST"),
        (None, None) => "convert it in the SQL with CAST, or select one of its fields".to_owned(),
    };
    Err(pipeline.error_at(key, format!("`{name}` is {arrow} in the SQL, which can't become `{cql}`"), help))
}

fn no_type(pipeline: &Pipeline, name: &str, arrow: &DataType) -> FileError {
    let help = match arrow {
        DataType::Null => format!("declare its type: `columns = {{ {name} = \"text\" }}` in [writer]"),
        DataType::Struct(_) => format!(
            "select its fields one by one, such as {name}['field'] AS {name}_field; or declare its type in [writer], such as columns = {{ {name} = \"frozen<map<text, text>>\" }}"
        ),
        _ => "convert it in the SQL with CAST".to_owned(),
    };
    pipeline.error_at(&["transformer", "sql"], format!("`{name}` is {arrow} in the SQL, a type that Cassandra can't store"), help)
}

#[cfg(test)]
#[path = "table_spec_tests.rs"]
mod tests;
