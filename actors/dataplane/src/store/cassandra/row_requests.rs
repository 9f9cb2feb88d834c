//! Divides rows into requests and serializes them.
//!
//! Guarantees:
//! * Each row is in exactly one request.
//! * A request has at least one row, and only rows of one replica set.
//! * A request of several rows stays within the limits of rows and bytes.
//! * Values are serialized from Arrow directly, without an intermediate copy.

use std::collections::HashMap;
use std::ops::Range;

use scylla::errors::SerializationError;
use scylla::routing::Token;
use scylla::routing::partitioner::{Murmur3Partitioner, Partitioner, PartitionerHasher};
use scylla::serialize::batch::{BatchValues, BatchValuesIterator};
use scylla::serialize::row::{RowSerializationContext, SerializeRow};
use scylla::serialize::writers::{CellWriter, RowWriter};

use crate::store::cql_encoding::write_value;
use crate::store::row_check::RowSet;

/// Orders rows by replica set and divides them into requests. `group` numbers the replica set of a
/// row; it is `None` if all rows have the same.
pub(super) fn plan_requests(
    rows: &RowSet,
    group: Option<&mut dyn FnMut(u32) -> u32>,
    max_rows: usize,
    max_bytes: u32,
) -> (RowSet, Vec<Range<usize>>) {
    let Some(group) = group else {
        return (rows.clone(), cut_requests(rows, |_| 0, max_rows, max_bytes));
    };
    let groups: HashMap<u32, u32> = rows.rows().iter().map(|&row| (row, group(row))).collect();
    let mut order = rows.rows().to_vec();
    order.sort_by_key(|row| groups[row]);
    let ordered = rows.only(order);
    let cuts = cut_requests(&ordered, |row| groups[&row], max_rows, max_bytes);
    (ordered, cuts)
}

fn cut_requests(rows: &RowSet, group: impl Fn(u32) -> u32, max_rows: usize, max_bytes: u32) -> Vec<Range<usize>> {
    let mut cuts = Vec::with_capacity(rows.len() / max_rows.max(1) + 1);
    let (mut from, mut bytes, mut of) = (0, 0_u32, None);
    for (at, &row) in rows.rows().iter().enumerate() {
        let (size, its) = (rows.size(row), Some(group(row)));
        if at > from && (at - from >= max_rows || bytes.saturating_add(size) > max_bytes || its != of) {
            cuts.push(from..at);
            (from, bytes) = (at, 0);
        }
        bytes = bytes.saturating_add(size);
        of = its;
    }
    if from < rows.len() {
        cuts.push(from..rows.len());
    }
    cuts
}

/// The rows of one request.
#[derive(Debug, Clone)]
pub(super) struct RequestRows {
    pub(super) rows: RowSet,
    pub(super) range: Range<usize>,
}

impl RequestRows {
    pub(super) fn rows(&self) -> &[u32] {
        &self.rows.rows()[self.range.clone()]
    }

    pub(super) fn len(&self) -> usize {
        self.range.len()
    }

    /// Returns both halves. The second is empty if there is only one row.
    pub(super) fn halves(&self) -> (Range<usize>, Range<usize>) {
        let middle = self.range.start + self.range.len().div_ceil(2);
        (self.range.start..middle, middle..self.range.end)
    }
}

/// The first row as the values of one INSERT.
impl SerializeRow for RequestRows {
    fn serialize(&self, _: &RowSerializationContext<'_>, writer: &mut RowWriter<'_>) -> Result<(), SerializationError> {
        match self.rows() {
            [row, ..] => write_row(&self.rows, *row, writer),
            [] => Ok(()),
        }
    }

    fn is_empty(&self) -> bool {
        false
    }
}

/// A copy of one serialized row, which outlives its micro-batch.
#[derive(Debug, Clone)]
pub(super) struct EncodedRow(Vec<u8>);

impl EncodedRow {
    /// Copies a row. Returns `None` if it can't be serialized.
    pub(super) fn of(rows: &RowSet, row: u32) -> Option<Self> {
        let mut bytes = Vec::new();
        write_row(rows, row, &mut RowWriter::new(&mut bytes)).ok()?;
        Some(Self(bytes))
    }
}

/// The length prefix of a null value. [`UNSET`] is that of a value that is not set.
const NULL: i32 = -1;
const UNSET: i32 = -2;

impl SerializeRow for EncodedRow {
    fn serialize(&self, _: &RowSerializationContext<'_>, writer: &mut RowWriter<'_>) -> Result<(), SerializationError> {
        let mut left = self.0.as_slice();
        while let Some((length, rest)) = left.split_first_chunk() {
            left = rest;
            let cell = writer.make_cell_writer();
            match i32::from_be_bytes(*length) {
                NULL => drop(cell.set_null()),
                UNSET => drop(cell.set_unset()),
                length => {
                    let (value, rest) = left.split_at(usize::try_from(length).unwrap_or_default().min(left.len()));
                    left = rest;
                    cell.set_value(value).map_err(SerializationError::new)?;
                }
            }
        }
        Ok(())
    }

    fn is_empty(&self) -> bool {
        false
    }
}

/// All rows, as the values of one INSERT each.
impl BatchValues for RequestRows {
    type BatchValuesIter<'r> = RequestRowsIter<'r>;

    fn batch_values_iter(&self) -> RequestRowsIter<'_> {
        RequestRowsIter { rows: &self.rows, left: self.rows() }
    }
}

pub(super) struct RequestRowsIter<'r> {
    rows: &'r RowSet,
    left: &'r [u32],
}

impl<'r> BatchValuesIterator<'r> for RequestRowsIter<'r> {
    #[inline]
    fn serialize_next(&mut self, _: &RowSerializationContext<'_>, writer: &mut RowWriter<'_>) -> Option<Result<(), SerializationError>> {
        let (&row, left) = self.left.split_first()?;
        self.left = left;
        Some(write_row(self.rows, row, writer))
    }

    fn is_empty_next(&mut self) -> Option<bool> {
        self.skip_next().map(|()| false)
    }

    fn skip_next(&mut self) -> Option<()> {
        self.left = self.left.split_first()?.1;
        Some(())
    }

    fn count(self) -> usize {
        self.left.len()
    }
}

#[inline]
fn write_row(rows: &RowSet, row: u32, writer: &mut RowWriter<'_>) -> Result<(), SerializationError> {
    for value in rows.cells(row) {
        write_value(value, writer.make_cell_writer()).map_err(SerializationError::new)?;
    }
    let ts = rows.write_ts(row).to_be_bytes();
    writer.make_cell_writer().set_value(&ts).map(|_| ()).map_err(SerializationError::new)?;
    match rows.ttl(row) {
        Some(ttl) => write_value(ttl, writer.make_cell_writer()).map_err(SerializationError::new),
        None => Ok(()),
    }
}

/// Computes the token of a row from its partition key.
pub(super) fn token(rows: &RowSet, row: u32, partition_key: &[usize], scratch: &mut Vec<u8>) -> Token {
    scratch.clear();
    let composite = partition_key.len() > 1;
    for &column in partition_key {
        let start = scratch.len();
        if composite {
            scratch.extend_from_slice(&[0, 0]);
        }
        let cell = CellWriter::new_without_size(scratch);
        // `RowSet::check` refuses a key that is too long for a cell.
        let _ = write_value(rows.cell(row, column), cell);
        if composite {
            let length = u16::try_from(scratch.len() - start - 2).unwrap_or(u16::MAX);
            scratch[start..start + 2].copy_from_slice(&length.to_be_bytes());
            scratch.push(0);
        }
    }
    let mut hasher = Murmur3Partitioner.build_hasher();
    hasher.write(scratch);
    hasher.finish()
}
