//! Values in the encoding of CQL's native protocol v4.
//!
//! The INSERTs and the comparison of keys share it.

use scylla::cluster::metadata::{ColumnType, NativeType};
use scylla::serialize::value::SerializeValue as _;
use scylla::serialize::writers::{CellOverflowError, CellWriter};
use scylla::value::CqlDuration;

use super::values::{Duration, Value};

/// 1970-01-01 in CQL's encoding of a date, which counts days from the middle of `u32`.
const EPOCH_DAY: i64 = 1 << 31;

/// Writes a value. Its type was checked against the table and is not checked again.
pub(super) fn write_value(value: Value<'_>, cell: CellWriter<'_>) -> Result<(), CellOverflowError> {
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
        Value::Blob(bytes) | Value::Uuid(bytes) | Value::Inet(bytes) | Value::Varint(bytes) => cell.set_value(bytes).map(|_| ()),
        Value::Bigint(number) | Value::Timestamp(number) | Value::Time(number) => cell.set_value(&number.to_be_bytes()).map(|_| ()),
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
            builder.append_bytes(trim_sign_bytes(&unscaled.to_be_bytes()));
            builder.finish().map(|_| ())
        }
        Value::Duration(Duration { months, days, nanos }) => {
            let duration = CqlDuration { months, days, nanoseconds: nanos };
            duration.serialize(&ColumnType::Native(NativeType::Duration), cell).map(|_| ()).map_err(|_| CellOverflowError)
        }
        Value::Vector(numbers) => {
            let mut builder = cell.into_value_builder();
            numbers.iter().for_each(|number| builder.append_bytes(&number.to_be_bytes()));
            builder.finish().map(|_| ())
        }
        Value::List { elements, from, to } => write_counted((from..to).map(|at| elements.value(at)), to - from, cell),
        Value::Set(cells, row) => write_counted(cells.elements(row), cells.elements(row).len(), cell),
        Value::Map(cells, row) => {
            let pairs = cells.pairs(row);
            let count = pairs.len();
            write_counted(pairs.flat_map(|(key, value)| [key, value]), count, cell)
        }
        Value::ObjectMap(cells, row) => {
            let pairs = cells.pairs(row).flat_map(|(name, value)| [Value::Text(name), value]);
            write_counted(pairs, cells.pairs(row).count(), cell)
        }
        Value::Tuple(cells, row) => {
            let mut builder = cell.into_value_builder();
            for part in cells.parts(row) {
                write_value(part, builder.make_sub_writer())?;
            }
            builder.finish().map(|_| ())
        }
    }
}

/// Writes a count, then the values.
fn write_counted<'a>(values: impl Iterator<Item = Value<'a>>, count: usize, cell: CellWriter<'_>) -> Result<(), CellOverflowError> {
    let mut builder = cell.into_value_builder();
    let count = i32::try_from(count).map_err(|_| CellOverflowError)?;
    builder.append_bytes(&count.to_be_bytes());
    for value in values {
        write_value(value, builder.make_sub_writer())?;
    }
    builder.finish().map(|_| ())
}

/// Appends a value to a buffer, preceded by its length.
pub(super) fn append_value(value: Value<'_>, buffer: &mut Vec<u8>) {
    // `RowSet::check` refuses a key that is too long for a cell.
    let _ = write_value(value, CellWriter::new(buffer));
}

/// Strips the redundant leading bytes of a big-endian number in two's complement.
pub(super) fn trim_sign_bytes(bytes: &[u8]) -> &[u8] {
    let mut bytes = bytes;
    while let [first, rest @ ..] = bytes
        && let [second, ..] = rest
        && ((*first == 0 && *second < 0x80) || (*first == 0xff && *second >= 0x80))
    {
        bytes = rest;
    }
    bytes
}
