//! From rows to requests: which rows share a batch, and their bytes on the wire.
//!
//! Guarantee: each row is in exactly one request; a request holds rows of one replica set, at most as many and as large as allowed,
//! and one row at least. Values go from Arrow to the wire with no copy between.

use std::collections::HashMap;
use std::ops::Range;

use scylla::errors::SerializationError;
use scylla::routing::Token;
use scylla::routing::partitioner::{Murmur3Partitioner, Partitioner, PartitionerHasher};
use scylla::serialize::batch::{BatchValues, BatchValuesIterator};
use scylla::serialize::row::{RowSerializationContext, SerializeRow};
use scylla::serialize::writers::{CellOverflowError, CellWriter, RowWriter};

use crate::store::cells::Value;
use crate::store::rows::RowSet;

/// The day 1970-01-01 in CQL's count of days.
const EPOCH_DAY: i64 = 1 << 31;

/// Puts rows that may share a batch next to each other and cuts them into requests. `group` names the replica set of a row; none when
/// every row has the same.
pub(super) fn plan(
    rows: &RowSet,
    group: Option<&mut dyn FnMut(u32) -> u32>,
    most_rows: usize,
    most_bytes: u32,
) -> (RowSet, Vec<Range<usize>>) {
    let Some(group) = group else {
        return (rows.clone(), cut(rows, |_| 0, most_rows, most_bytes));
    };
    let groups: HashMap<u32, u32> = rows.rows().iter().map(|&row| (row, group(row))).collect();
    let mut order = rows.rows().to_vec();
    order.sort_by_key(|row| groups[row]);
    let ordered = rows.only(order);
    let cuts = cut(&ordered, |row| groups[&row], most_rows, most_bytes);
    (ordered, cuts)
}

fn cut(rows: &RowSet, group: impl Fn(u32) -> u32, most_rows: usize, most_bytes: u32) -> Vec<Range<usize>> {
    let mut cuts = Vec::with_capacity(rows.len() / most_rows.max(1) + 1);
    let (mut from, mut bytes, mut of) = (0, 0_u32, None);
    for (at, &row) in rows.rows().iter().enumerate() {
        let (size, its) = (rows.size(row), Some(group(row)));
        if at > from && (at - from >= most_rows || bytes.saturating_add(size) > most_bytes || its != of) {
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
pub(super) struct Part {
    pub(super) rows: RowSet,
    pub(super) range: Range<usize>,
}

impl Part {
    pub(super) fn rows(&self) -> &[u32] {
        &self.rows.rows()[self.range.clone()]
    }

    pub(super) fn len(&self) -> usize {
        self.range.len()
    }

    /// The first and the second half; of one row only the first.
    pub(super) fn halves(&self) -> (Range<usize>, Range<usize>) {
        let middle = self.range.start + self.range.len().div_ceil(2);
        (self.range.start..middle, middle..self.range.end)
    }
}

/// One row as the values of the INSERT.
impl SerializeRow for Part {
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

/// One row's values as they go over the wire, apart from the batch that they are of.
#[derive(Debug, Clone)]
pub(super) struct Kept(Vec<u8>);

impl Kept {
    /// A copy of a row; none of one that can't be sent.
    pub(super) fn of(rows: &RowSet, row: u32) -> Option<Self> {
        let mut bytes = Vec::new();
        write_row(rows, row, &mut RowWriter::new(&mut bytes)).ok()?;
        Some(Self(bytes))
    }
}

/// The length in front of a value that is null, and of one that is not set.
const NULL: i32 = -1;
const UNSET: i32 = -2;

impl SerializeRow for Kept {
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

/// All rows as the values of as many INSERTs.
impl BatchValues for Part {
    type BatchValuesIter<'r> = PartIter<'r>;

    fn batch_values_iter(&self) -> PartIter<'_> {
        PartIter { rows: &self.rows, left: self.rows() }
    }
}

pub(super) struct PartIter<'r> {
    rows: &'r RowSet,
    left: &'r [u32],
}

impl<'r> BatchValuesIterator<'r> for PartIter<'r> {
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
    writer.make_cell_writer().set_value(&ts).map(|_| ()).map_err(SerializationError::new)
}

/// Writes a value as native protocol v4 has it. The types were checked against the table, so none is looked at again.
fn write_value(value: Value<'_>, cell: CellWriter<'_>) -> Result<(), CellOverflowError> {
    match value {
        Value::Null => {
            cell.set_null();
            Ok(())
        }
        Value::Unset => {
            cell.set_unset();
            Ok(())
        }
        Value::Text(text) => cell.set_value(text.as_bytes()).map(|_| ()),
        Value::Blob(bytes) | Value::Uuid(bytes) => cell.set_value(bytes).map(|_| ()),
        Value::Bigint(number) | Value::Timestamp(number) => cell.set_value(&number.to_be_bytes()).map(|_| ()),
        Value::Int(number) => cell.set_value(&number.to_be_bytes()).map(|_| ()),
        Value::Smallint(number) => cell.set_value(&number.to_be_bytes()).map(|_| ()),
        Value::Tinyint(number) => cell.set_value(&number.to_be_bytes()).map(|_| ()),
        Value::Boolean(truth) => cell.set_value(&[u8::from(truth)]).map(|_| ()),
        Value::Double(number) => cell.set_value(&number.to_be_bytes()).map(|_| ()),
        Value::Float(number) => cell.set_value(&number.to_be_bytes()).map(|_| ()),
        Value::Date(days) => {
            let day = u32::try_from(i64::from(days) + EPOCH_DAY).unwrap_or(u32::MAX);
            cell.set_value(&day.to_be_bytes()).map(|_| ())
        }
        Value::Decimal { unscaled, scale } => {
            let mut builder = cell.into_value_builder();
            builder.append_bytes(&scale.to_be_bytes());
            builder.append_bytes(shortest(&unscaled.to_be_bytes()));
            builder.finish().map(|_| ())
        }
        Value::List { elements, from, to } => {
            let mut builder = cell.into_value_builder();
            let count = i32::try_from(to - from).map_err(|_| CellOverflowError)?;
            builder.append_bytes(&count.to_be_bytes());
            for at in from..to {
                write_value(elements.value(at), builder.make_sub_writer())?;
            }
            builder.finish().map(|_| ())
        }
    }
}

/// Appends a cell as it goes over the wire, its length first.
pub(in crate::store) fn put_cell(value: Value<'_>, to: &mut Vec<u8>) {
    // A value too long for a cell is no key: `RowSet::check` refuses it.
    let _ = write_value(value, CellWriter::new(to));
}

/// A number in two's complement, big-endian, without the leading bytes that say nothing.
fn shortest(bytes: &[u8]) -> &[u8] {
    let mut bytes = bytes;
    while let [first, rest @ ..] = bytes
        && let [second, ..] = rest
        && ((*first == 0 && *second < 0x80) || (*first == 0xff && *second >= 0x80))
    {
        bytes = rest;
    }
    bytes
}

/// The token of a row, by the columns of the table's partition key.
pub(super) fn token(rows: &RowSet, row: u32, partition_key: &[usize], scratch: &mut Vec<u8>) -> Token {
    scratch.clear();
    let composite = partition_key.len() > 1;
    for &column in partition_key {
        let start = scratch.len();
        if composite {
            scratch.extend_from_slice(&[0, 0]);
        }
        let cell = CellWriter::new_without_size(scratch);
        // A value too long for a cell never got this far: `RowSet::check` refused it.
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
