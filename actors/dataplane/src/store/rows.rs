//! Rows checked against their table: each either fits, or is refused with a reason that names the column.
//!
//! Guarantee: what a [`RowSet`] holds the table takes, as far as can be known without asking it; and of rows that follow each other with one timestamp
//! and one key, which are of one record, it holds the last alone, so that no row is made of the cells of two. A `RowSet` is cheap to clone and
//! to narrow to some of its rows.

use std::collections::HashSet;
use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use forebay_schemas::pipeline::Nulls;

use super::cassandra::put_cell;
use super::cells::{Cells, Value, convert, quoted};
use super::error::StoreError;
use super::spec::TableSpec;
use crate::Reason;
use crate::cql_type::CqlType;

/// The longest partition key, and the longest clustering column, that Cassandra takes.
const LONGEST_KEY: u32 = 65_535;
/// What a statement and a row cost beside their values: in the request, and in how Cassandra measures a batch.
const ROW_OVERHEAD: u32 = 64;
/// What a cell costs beside its value.
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
    /// For each column whether it is left as it is where a row has no value.
    unset: Vec<bool>,
    write_ts: Vec<i64>,
    sizes: Vec<u32>,
}

/// A row that the table does not take, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Its index in the batch.
    pub row: u32,
    /// What is wrong: the column, and in full its value.
    pub reason: Reason,
}

impl RowSet {
    /// Checks a batch: gives the rows that fit, and for each other one the first reason why not, in the order of the rows.
    ///
    /// # Errors
    /// When the batch does not have the planned columns, or not a timestamp a row.
    pub fn check(spec: &TableSpec, batch: &RecordBatch, write_ts: &[i64]) -> Result<(Self, Vec<Refusal>), StoreError> {
        let broken = |what: String| StoreError::Broken { server: format!("table {}.{}", spec.keyspace, spec.table), what };
        if batch.num_columns() != spec.columns.len() || batch.num_rows() != write_ts.len() {
            return Err(broken(format!(
                "a batch of {} columns and {} timestamps for {} planned columns and {} rows",
                batch.num_columns(),
                write_ts.len(),
                spec.columns.len(),
                batch.num_rows()
            )));
        }
        let count = u32::try_from(batch.num_rows()).map_err(|_| broken(format!("a batch of {} rows", batch.num_rows())))?;
        let mut reasons: Vec<Option<Reason>> = Vec::new();
        let mut refuse = |row: usize, column: &str, why: Reason| {
            reasons.resize(batch.num_rows(), None);
            reasons[row].get_or_insert_with(|| why.within(|why| format!("column {column}: {why}")));
        };
        let mut columns = Vec::with_capacity(spec.columns.len());
        let mut sizes = vec![ROW_OVERHEAD; batch.num_rows()];
        for (at, (column, array)) in spec.columns.iter().zip(batch.columns()).enumerate() {
            let (cells, misfits) = convert(array, &column.cql).map_err(|why| broken(format!("column {}: {why}", column.name)))?;
            for (row, why) in misfits {
                refuse(row, &column.name, why);
            }
            if let Some(place) = spec.primary_key.iter().position(|&key| key == at) {
                for row in 0..batch.num_rows() {
                    if let Some(why) = unfit_key(&cells.value(row), place, &column.cql, spec.primary_key.len()) {
                        refuse(row, &column.name, why);
                    }
                }
            }
            cells.add_sizes(&mut sizes);
            sizes.iter_mut().for_each(|size| *size = size.saturating_add(CELL_OVERHEAD));
            columns.push(cells);
        }
        let good = |row: &u32| reasons.get(*row as usize).is_none_or(Option::is_none);
        let rows: Vec<u32> = (0..count).filter(good).collect();
        let keys = spec.primary_key.iter().map(|&key| &columns[key]);
        let rows = last_of_each_key(rows, write_ts, &keys.collect::<Vec<_>>());
        let refusals = (0..count).zip(reasons).filter_map(|(row, reason)| Some(Refusal { row, reason: reason? })).collect();
        let unset = spec.columns.iter().map(|column| column.nulls == Nulls::Unset).collect();
        Ok((Self { data: Arc::new(Data { columns, unset, write_ts: write_ts.to_vec(), sizes }), rows: rows.into() }, refusals))
    }

    /// Which rows of the batch these are.
    pub fn rows(&self) -> &[u32] {
        &self.rows
    }

    /// How many rows.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The same batch with only these of its rows.
    #[must_use]
    pub fn only(&self, rows: impl Into<Arc<[u32]>>) -> Self {
        Self { data: Arc::clone(&self.data), rows: rows.into() }
    }

    /// The cells of a row, in the order of the table's columns.
    pub(super) fn cells(&self, row: u32) -> impl Iterator<Item = Value<'_>> {
        self.data.columns.iter().zip(&self.data.unset).map(move |(cells, unset)| match cells.value(row as usize) {
            Value::Null if *unset => Value::Unset,
            value => value,
        })
    }

    /// One cell.
    pub(super) fn cell(&self, row: u32, column: usize) -> Value<'_> {
        self.data.columns[column].value(row as usize)
    }

    /// The timestamp a row is written with, microseconds.
    pub(super) fn write_ts(&self, row: u32) -> i64 {
        self.data.write_ts[row as usize]
    }

    /// About how many bytes a row is in a batch, as Cassandra measures it; never less.
    pub(super) fn size(&self, row: u32) -> u32 {
        self.data.sizes[row as usize]
    }
}

/// Of neighbouring rows with one timestamp, the last of each key. They would tie in the table, which then takes the larger value of each cell.
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
            keys.iter().for_each(|cells| put_cell(cells.value(**row as usize), &mut key));
            seen.insert(key)
        }));
        last[from..].reverse();
    }
    last
}

/// Why a value can't stand in the primary key at a place, if it can't.
fn unfit_key(value: &Value<'_>, place: usize, cql: &CqlType, parts: usize) -> Option<Reason> {
    let what = if place == 0 { "the partition key" } else { "the primary key" };
    match value {
        Value::Null => Some(Reason::plain(format!("null in {what}"))),
        Value::Text("") | Value::Blob([]) if place == 0 => Some(Reason::plain(format!("empty {cql} as {what}"))),
        Value::Double(number) if number.is_nan() => Some(Reason::plain(format!("not a number in {what}"))),
        Value::Float(number) if number.is_nan() => Some(Reason::plain(format!("not a number in {what}"))),
        value if value.size() > LONGEST_KEY => {
            let start = match value {
                Value::Text(text) => quoted(text),
                _ => format!("a {cql}"),
            };
            let most = if parts == 1 || place == 0 { "a partition key" } else { "a clustering column" };
            let size = value.size();
            Some(Reason::quoting(&start, |start| format!("{start} of {size} bytes is longer than the {LONGEST_KEY} that {most} may have")))
        }
        _ => None,
    }
}

#[cfg(test)]
#[path = "rows_tests.rs"]
mod tests;
