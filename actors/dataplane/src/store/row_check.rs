//! Checks rows against their table.
//!
//! A row either fits, or is refused with a reason that names the column. A [`RowSet`] is cheap to
//! clone and to narrow to some of its rows.
//!
//! Guarantees:
//! * The table accepts the rows of a [`RowSet`], as far as this can be known without the server.
//! * Of adjacent rows with the same timestamp and key, which come from one record, only the last is
//!   kept. No row of the table mixes cells of two rows.

use std::collections::HashSet;
use std::sync::Arc;

use datafusion::arrow::array::{Array as _, ArrayRef, RecordBatch};
use forebay_schemas::pipeline::{MAX_TTL_SECONDS, Nulls};

use super::cql_encoding::append_value;
use super::error::StoreError;
use super::table_spec::{RowTtl, TableSpec};
use super::values::{Cells, Misfit, UnplannedType, Value, convert, quoted};
use crate::Reason;
use crate::cql_type::CqlType;

/// Cassandra's limit for a partition key and for a clustering column.
const MAX_KEY_BYTES: u32 = 65_535;
/// The size of a row without its values, in the request and in Cassandra's measure of a batch.
const ROW_OVERHEAD: u32 = 64;
/// The size of a cell without its value.
const CELL_OVERHEAD: u32 = 20;

/// Rows that fit their table.
#[derive(Debug, Clone)]
pub struct RowSet {
    data: Arc<Data>,
    rows: Arc<[u32]>,
}

#[derive(Debug)]
struct Data {
    columns: Vec<Cells>,
    /// For each column, whether a null leaves the stored value unchanged.
    unset: Vec<bool>,
    write_ts: Vec<i64>,
    ttl: Lifetimes,
    sizes: Vec<u32>,
}

/// How long each row is kept.
#[derive(Debug)]
enum Lifetimes {
    AsTheTable,
    Seconds(i32),
    /// By row; null as the table says.
    Cells(Cells),
}

/// A row that the table does not accept, and the reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Its index in the batch.
    pub row: u32,
    /// Names the column. The full text also quotes its value.
    pub reason: Reason,
}

impl RowSet {
    /// Returns the rows that fit and, in row order, the others with their first reason.
    ///
    /// # Errors
    /// When the batch does not have the planned columns, or not one timestamp per row.
    pub fn check(spec: &TableSpec, batch: &RecordBatch, write_ts: &[i64]) -> Result<(Self, Vec<Refusal>), StoreError> {
        let unplanned = |message: String| StoreError::Unrecoverable { server: format!("table {}.{}", spec.keyspace, spec.table), message };
        let lifetimes = match spec.ttl {
            Some(RowTtl::Column(at)) => Some(at),
            _ => None,
        };
        let planned = spec.columns.len() + usize::from(lifetimes.is_some());
        if batch.num_columns() != planned || batch.num_rows() != write_ts.len() {
            return Err(unplanned(format!(
                "a batch of {} columns and {} timestamps for {} planned columns and {} rows",
                batch.num_columns(),
                write_ts.len(),
                planned,
                batch.num_rows()
            )));
        }
        let count = u32::try_from(batch.num_rows()).map_err(|_| unplanned(format!("a batch of {} rows", batch.num_rows())))?;
        let mut reasons: Vec<Option<Reason>> = Vec::new();
        let mut refuse = |row: usize, column: &str, why: Reason| {
            reasons.resize(batch.num_rows(), None);
            reasons[row].get_or_insert_with(|| why.within(|why| format!("column {column}: {why}")));
        };
        let mut columns = Vec::with_capacity(spec.columns.len());
        let mut sizes = vec![ROW_OVERHEAD; batch.num_rows()];
        for (at, column) in spec.columns.iter().enumerate() {
            let array = batch.column(spec.select_index(at));
            let (cells, misfits) = convert(array, &column.cql).map_err(|why| unplanned(format!("column {}: {why}", column.name)))?;
            for (row, why) in misfits {
                refuse(row, &column.name, why);
            }
            if let Some(key_index) = spec.primary_key.iter().position(|&key| key == at) {
                for row in 0..batch.num_rows() {
                    if let Some(why) = unfit_key(&cells.value(row), key_index, &column.cql, spec) {
                        refuse(row, &column.name, why);
                    }
                }
            }
            cells.add_sizes(&mut sizes);
            sizes.iter_mut().for_each(|size| *size = size.saturating_add(CELL_OVERHEAD));
            columns.push(cells);
        }
        let ttl = match spec.ttl {
            None => Lifetimes::AsTheTable,
            Some(RowTtl::Seconds(seconds)) => Lifetimes::Seconds(seconds),
            Some(RowTtl::Column(at)) => {
                let (cells, misfits) = lifetimes_of(batch.column(at)).map_err(|why| unplanned(format!("time to live: {why}")))?;
                let name = batch.schema_ref().field(at).name();
                misfits.into_iter().for_each(|(row, why)| refuse(row, name, why));
                Lifetimes::Cells(cells)
            }
        };
        let good = |row: &u32| reasons.get(*row as usize).is_none_or(Option::is_none);
        let rows: Vec<u32> = (0..count).filter(good).collect();
        let keys = spec.primary_key.iter().map(|&key| &columns[key]);
        let rows = last_of_each_key(rows, write_ts, &keys.collect::<Vec<_>>());
        let refusals = (0..count).zip(reasons).filter_map(|(row, reason)| Some(Refusal { row, reason: reason? })).collect();
        let unset = spec.columns.iter().map(|column| column.nulls == Nulls::Unset).collect();
        Ok((Self { data: Arc::new(Data { columns, unset, write_ts: write_ts.to_vec(), ttl, sizes }), rows: rows.into() }, refusals))
    }

    /// Returns the indexes of the rows in the batch.
    pub fn rows(&self) -> &[u32] {
        &self.rows
    }

    /// Returns the number of rows.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Returns whether the set is empty.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Returns a set of only these rows of the same batch.
    #[must_use]
    pub fn only(&self, rows: impl Into<Arc<[u32]>>) -> Self {
        Self { data: Arc::clone(&self.data), rows: rows.into() }
    }

    /// Returns the cells of a row, in the order of the table's columns.
    pub(super) fn cells(&self, row: u32) -> impl Iterator<Item = Value<'_>> {
        self.data.columns.iter().zip(&self.data.unset).map(move |(cells, unset)| match cells.value(row as usize) {
            Value::Null if *unset => Value::Unset,
            value => value,
        })
    }

    /// Returns one cell.
    pub(super) fn cell(&self, row: u32, column: usize) -> Value<'_> {
        self.data.columns[column].value(row as usize)
    }

    /// Returns a row's write timestamp, in microseconds.
    pub(super) fn write_ts(&self, row: u32) -> i64 {
        self.data.write_ts[row as usize]
    }

    /// Returns a row's time to live in seconds. `None` if no row has one of its own.
    pub(super) fn ttl(&self, row: u32) -> Option<Value<'_>> {
        match &self.data.ttl {
            Lifetimes::AsTheTable => None,
            Lifetimes::Seconds(seconds) => Some(Value::Int(*seconds)),
            Lifetimes::Cells(cells) => Some(match cells.value(row as usize) {
                Value::Null => Value::Unset,
                seconds => seconds,
            }),
        }
    }

    /// Returns an upper bound of a row's size in a batch, as Cassandra measures it, in bytes.
    pub(super) fn size(&self, row: u32) -> u32 {
        self.data.sizes[row as usize]
    }
}

/// Converts a column of seconds, and reports those that are no time to live.
fn lifetimes_of(array: &ArrayRef) -> Result<(Cells, Vec<Misfit>), UnplannedType> {
    let (cells, mut misfits) = convert(array, &CqlType::Int)?;
    for row in 0..array.len() {
        if let Value::Int(seconds) = cells.value(row)
            && !(0..=MAX_TTL_SECONDS).contains(&seconds)
        {
            let why = |seconds: &str| format!("{seconds} is not a time to live of 0 to {MAX_TTL_SECONDS} seconds");
            misfits.push((row, Reason::quoting(&seconds.to_string(), why)));
        }
    }
    Ok((cells, misfits))
}

/// Keeps, of adjacent rows with the same timestamp, the last one of each key.
///
/// With equal timestamps Cassandra would keep the larger value of each cell.
fn last_of_each_key(rows: Vec<u32>, write_ts: &[i64], keys: &[&Cells]) -> Vec<u32> {
    if write_ts.windows(2).all(|pair| pair[0] != pair[1]) {
        return rows;
    }
    let mut last = Vec::with_capacity(rows.len());
    for of_record in rows.chunk_by(|a, b| write_ts[*a as usize] == write_ts[*b as usize]) {
        let from = last.len();
        let mut seen = HashSet::with_capacity(of_record.len());
        last.extend(of_record.iter().rev().filter(|row| {
            let mut key = Vec::new();
            keys.iter().for_each(|cells| append_value(cells.value(**row as usize), &mut key));
            seen.insert(key)
        }));
        last[from..].reverse();
    }
    last
}

/// Returns why a value can't be the key column at this index of the primary key.
fn unfit_key(value: &Value<'_>, key_index: usize, cql: &CqlType, spec: &TableSpec) -> Option<Reason> {
    let partition = spec.partition.unwrap_or(1);
    let what = if key_index < partition { "the partition key" } else { "the primary key" };
    match value {
        Value::Null => Some(Reason::plain(format!("null in {what}"))),
        // Cassandra refuses it if it is the whole partition key.
        Value::Text("") | Value::Blob([]) if key_index == 0 && partition == 1 => Some(Reason::plain(format!("empty {cql} as {what}"))),
        Value::Double(number) if number.is_nan() => Some(Reason::plain(format!("not a number in {what}"))),
        Value::Float(number) if number.is_nan() => Some(Reason::plain(format!("not a number in {what}"))),
        value if value.size() > MAX_KEY_BYTES => {
            let start = match value {
                Value::Text(text) => quoted(text),
                _ => format!("a {cql}"),
            };
            let limit_of = if key_index < partition { "a partition key" } else { "a clustering column" };
            let size = value.size();
            Some(Reason::quoting(&start, |start| {
                format!("{start} of {size} bytes is longer than the {MAX_KEY_BYTES} that {limit_of} may have")
            }))
        }
        _ => None,
    }
}

#[cfg(test)]
#[path = "row_check_tests.rs"]
mod tests;
