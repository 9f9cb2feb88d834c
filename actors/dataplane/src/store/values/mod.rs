//! Converts Arrow columns to the types of the table.
//!
//! Guarantees:
//! * After [`convert`] each cell can be written without further conversion.
//! * Reading a cell does not allocate.
//! * Each cell that does not fit is reported with its row.

mod convert;
mod nested;
mod text_forms;

use std::fmt;

use datafusion::arrow::array::{
    Array, BinaryArray, BooleanArray, Date32Array, Decimal128Array, FixedSizeBinaryArray, Float32Array, Float64Array, Int8Array,
    Int16Array, Int32Array, Int64Array, StringArray, StringViewArray, Time64NanosecondArray, TimestampMillisecondArray,
};
use datafusion::arrow::buffer::{NullBuffer, OffsetBuffer};

use crate::Reason;

pub(super) use self::convert::convert;
pub(super) use self::nested::{MapCells, ObjectCells, SetCells};
pub(super) use self::text_forms::Duration;

/// A reason quotes at most this many characters of a bad value.
const MAX_QUOTED_CHARS: usize = 48;

/// The limit for the encoding of a duration: three variable-length integers.
const MAX_DURATION_BYTES: u32 = 27;
/// What an element of a set or a map adds to its size.
const ELEMENT_OVERHEAD: u32 = 24;

/// A column in the table's type.
#[derive(Debug, Clone)]
pub(super) enum Cells {
    Bigint(Int64Array),
    Blob(BinaryArray),
    Boolean(BooleanArray),
    Date(Date32Array),
    Decimal(Decimal128Array),
    /// Decimals parsed from text, each with its own scale.
    Digits(Vec<Option<(i128, i32)>>),
    Double(Float64Array),
    Durations(Vec<Option<Duration>>),
    Float(Float32Array),
    /// The 4 or 16 bytes of addresses.
    Inet(BinaryArray),
    Int(Int32Array),
    List {
        offsets: OffsetBuffer<i32>,
        nulls: Option<NullBuffer>,
        elements: Box<Cells>,
    },
    Map(Box<MapCells>),
    /// Only nulls.
    Nulls,
    /// Objects as maps from the names of their fields.
    ObjectMap(Box<ObjectCells>),
    Set(Box<SetCells>),
    Smallint(Int16Array),
    Text(StringArray),
    TextView(StringViewArray),
    Time(Time64NanosecondArray),
    Timestamp(TimestampMillisecondArray),
    Tinyint(Int8Array),
    /// Objects as tuples or values of a user-defined type.
    Tuple(Box<ObjectCells>),
    Uuid(FixedSizeBinaryArray),
    /// Integers, big-endian in two's complement.
    Varint(BinaryArray),
    Vector {
        offsets: OffsetBuffer<i32>,
        nulls: Option<NullBuffer>,
        numbers: Float32Array,
    },
}

/// One cell.
#[derive(Clone, Copy)]
pub(super) enum Value<'a> {
    Null,
    /// No value, and the stored one stays unchanged.
    Unset,
    Bigint(i64),
    Blob(&'a [u8]),
    Boolean(bool),
    /// Days since 1970-01-01.
    Date(i32),
    Decimal {
        unscaled: i128,
        scale: i32,
    },
    Double(f64),
    Duration(Duration),
    Float(f32),
    Inet(&'a [u8]),
    Int(i32),
    List {
        elements: &'a Cells,
        from: usize,
        to: usize,
    },
    Map(&'a MapCells, usize),
    ObjectMap(&'a ObjectCells, usize),
    Set(&'a SetCells, usize),
    Smallint(i16),
    Text(&'a str),
    /// Nanoseconds since midnight.
    Time(i64),
    /// Milliseconds since the epoch.
    Timestamp(i64),
    Tinyint(i8),
    Tuple(&'a ObjectCells, usize),
    Uuid(&'a [u8]),
    Varint(&'a [u8]),
    Vector(&'a [f32]),
}

// A value is passed by value for each cell of each row.
const _: () = assert!(size_of::<Value<'_>>() <= 32);

/// The row of a cell that does not fit its column, and the reason.
pub(super) type Misfit = (usize, Reason);

macro_rules! or_null {
    ($array:expr, $row:expr, $value:expr) => {
        if $array.is_null($row) { Value::Null } else { $value($array.value($row)) }
    };
}

impl Cells {
    /// Returns the cell of a row.
    #[inline]
    pub(super) fn value(&self, row: usize) -> Value<'_> {
        match self {
            Self::Text(array) => or_null!(array, row, Value::Text),
            Self::TextView(array) => or_null!(array, row, Value::Text),
            Self::Bigint(array) => or_null!(array, row, Value::Bigint),
            Self::Int(array) => or_null!(array, row, Value::Int),
            Self::Uuid(array) => or_null!(array, row, Value::Uuid),
            Self::Timestamp(array) => or_null!(array, row, Value::Timestamp),
            Self::Double(array) => or_null!(array, row, Value::Double),
            Self::Boolean(array) => or_null!(array, row, Value::Boolean),
            Self::Blob(array) => or_null!(array, row, Value::Blob),
            Self::Date(array) => or_null!(array, row, Value::Date),
            Self::Float(array) => or_null!(array, row, Value::Float),
            Self::Smallint(array) => or_null!(array, row, Value::Smallint),
            Self::Tinyint(array) => or_null!(array, row, Value::Tinyint),
            Self::Decimal(array) => or_null!(array, row, |unscaled| Value::Decimal { unscaled, scale: i32::from(array.scale()) }),
            Self::Digits(values) => values[row].map_or(Value::Null, |(unscaled, scale)| Value::Decimal { unscaled, scale }),
            Self::List { offsets, nulls, elements } => match range(offsets, nulls.as_ref(), row) {
                Some(range) => Value::List { elements, from: range.start, to: range.end },
                None => Value::Null,
            },
            Self::Time(array) => or_null!(array, row, Value::Time),
            Self::Inet(array) => or_null!(array, row, Value::Inet),
            Self::Varint(array) => or_null!(array, row, Value::Varint),
            Self::Durations(values) => values[row].map_or(Value::Null, Value::Duration),
            Self::Vector { offsets, nulls, numbers } => match range(offsets, nulls.as_ref(), row) {
                Some(range) => Value::Vector(&numbers.values()[range]),
                None => Value::Null,
            },
            Self::Set(cells) => cells.get(row),
            Self::Map(cells) => cells.get(row),
            Self::Tuple(cells) => cells.get(row, Value::Tuple),
            Self::ObjectMap(cells) => cells.get(row, Value::ObjectMap),
            Self::Nulls => Value::Null,
        }
    }

    /// Adds the encoded size of each row's cell, without its length prefix, to `sizes`.
    pub(super) fn add_sizes(&self, sizes: &mut [u32]) {
        let add = |sizes: &mut [u32], width: u32| sizes.iter_mut().for_each(|size| *size = size.saturating_add(width));
        match self {
            Self::Boolean(_) | Self::Tinyint(_) => add(sizes, 1),
            Self::Smallint(_) => add(sizes, 2),
            Self::Int(_) | Self::Date(_) | Self::Float(_) => add(sizes, 4),
            Self::Bigint(_) | Self::Timestamp(_) | Self::Double(_) | Self::Time(_) => add(sizes, 8),
            Self::Uuid(_) | Self::Inet(_) => add(sizes, 16),
            Self::Decimal(_) | Self::Digits(_) => add(sizes, 20),
            Self::Durations(_) => add(sizes, MAX_DURATION_BYTES),
            Self::Nulls => {}
            Self::Text(_)
            | Self::TextView(_)
            | Self::Blob(_)
            | Self::Varint(_)
            | Self::List { .. }
            | Self::Vector { .. }
            | Self::Set(_)
            | Self::Map(_)
            | Self::Tuple(_)
            | Self::ObjectMap(_) => {
                for (row, size) in sizes.iter_mut().enumerate() {
                    *size = size.saturating_add(self.value(row).size());
                }
            }
        }
    }
}

impl Value<'_> {
    /// Returns the encoded size in bytes, or its upper bound.
    pub(super) fn size(&self) -> u32 {
        let length = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX);
        match *self {
            Self::Null | Self::Unset => 0,
            Self::Boolean(_) | Self::Tinyint(_) => 1,
            Self::Smallint(_) => 2,
            Self::Int(_) | Self::Date(_) | Self::Float(_) => 4,
            Self::Bigint(_) | Self::Timestamp(_) | Self::Double(_) | Self::Time(_) => 8,
            Self::Uuid(_) => 16,
            Self::Decimal { .. } => 20,
            Self::Duration(_) => MAX_DURATION_BYTES,
            Self::Text(text) => length(text.len()),
            Self::Blob(bytes) | Self::Inet(bytes) | Self::Varint(bytes) => length(bytes.len()),
            Self::Vector(numbers) => length(numbers.len().saturating_mul(4)),
            Self::List { elements, from, to } => sum((from..to).map(|at| elements.value(at)), 4),
            // Of a collection that is not frozen, each element is a cell.
            Self::Set(cells, row) => sum(cells.elements(row), ELEMENT_OVERHEAD),
            Self::Map(cells, row) => cells.pairs(row).fold(4, |size, (key, value)| {
                size.saturating_add(ELEMENT_OVERHEAD).saturating_add(key.size()).saturating_add(value.size())
            }),
            Self::ObjectMap(cells, row) => cells.pairs(row).fold(4, |size, (name, value)| {
                size.saturating_add(ELEMENT_OVERHEAD).saturating_add(length(name.len())).saturating_add(value.size())
            }),
            Self::Tuple(cells, row) => sum(cells.parts(row), 4),
        }
    }

    pub(super) fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }
}

/// Adds up the encoded sizes of values, each with an overhead, after a count.
fn sum<'a>(values: impl Iterator<Item = Value<'a>>, overhead: u32) -> u32 {
    values.fold(4, |sum, value| sum.saturating_add(overhead).saturating_add(value.size()))
}

/// Returns the range of a row's elements; `None` for a null.
#[inline]
fn range(offsets: &OffsetBuffer<i32>, nulls: Option<&NullBuffer>, row: usize) -> Option<std::ops::Range<usize>> {
    let at = |index: usize| usize::try_from(offsets[index]).unwrap_or(0);
    nulls.is_none_or(|nulls| nulls.is_valid(row)).then(|| at(row)..at(row + 1))
}

/// Quotes a value for a reason, shortened, with control characters as escapes.
pub(super) fn quoted(value: &str) -> String {
    let mut shown: String = value.chars().take(MAX_QUOTED_CHARS).collect();
    if value.chars().nth(MAX_QUOTED_CHARS).is_some() {
        shown.push('…');
    }
    format!("{shown:?}")
}

/// The type of a column is not the planned one.
#[derive(Debug)]
pub(super) struct UnplannedType(pub(super) String);

impl fmt::Display for UnplannedType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod round_trip_tests;
