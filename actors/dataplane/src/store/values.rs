//! Converts Arrow columns to the types of the table.
//!
//! Guarantees:
//! * After [`convert`] each cell can be written without further conversion.
//! * Reading a cell does not allocate.
//! * Each cell that does not fit is reported with its row.

use std::fmt;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Date32Array, Decimal128Array, FixedSizeBinaryArray, Float32Array, Float64Array,
    Int8Array, Int16Array, Int32Array, Int64Array, ListArray, StringArray, StringViewArray, TimestampMillisecondArray,
};
use datafusion::arrow::buffer::{NullBuffer, OffsetBuffer};
use datafusion::arrow::compute::{CastOptions, cast_with_options};
use datafusion::arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, TimeUnit,
    TimestampMillisecondType,
};
use datafusion::arrow::util::display::array_value_to_string;
use uuid::Uuid;

use crate::Reason;
use crate::cql_type::{CqlType, is_text};
use crate::decimal::{self, DecimalError};
use crate::truncate_timestamps::truncate;

/// A reason quotes at most this many characters of a bad value.
const MAX_QUOTED_CHARS: usize = 48;

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
    Float(Float32Array),
    Int(Int32Array),
    List {
        offsets: OffsetBuffer<i32>,
        nulls: Option<NullBuffer>,
        elements: Box<Cells>,
    },
    Smallint(Int16Array),
    Text(StringArray),
    TextView(StringViewArray),
    Timestamp(TimestampMillisecondArray),
    Tinyint(Int8Array),
    Uuid(FixedSizeBinaryArray),
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
    Float(f32),
    Int(i32),
    List {
        elements: &'a Cells,
        from: usize,
        to: usize,
    },
    Smallint(i16),
    Text(&'a str),
    /// Milliseconds since the epoch.
    Timestamp(i64),
    Tinyint(i8),
    Uuid(&'a [u8]),
}

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
            Self::List { offsets, nulls, elements } => {
                if nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
                    return Value::Null;
                }
                let at = |index: usize| usize::try_from(offsets[index]).unwrap_or(0);
                Value::List { elements, from: at(row), to: at(row + 1) }
            }
        }
    }

    /// Adds the encoded size of each row's cell, without its length prefix, to `sizes`.
    pub(super) fn add_sizes(&self, sizes: &mut [u32]) {
        let add = |sizes: &mut [u32], width: u32| sizes.iter_mut().for_each(|size| *size = size.saturating_add(width));
        match self {
            Self::Boolean(_) | Self::Tinyint(_) => add(sizes, 1),
            Self::Smallint(_) => add(sizes, 2),
            Self::Int(_) | Self::Date(_) | Self::Float(_) => add(sizes, 4),
            Self::Bigint(_) | Self::Timestamp(_) | Self::Double(_) => add(sizes, 8),
            Self::Uuid(_) => add(sizes, 16),
            Self::Decimal(_) | Self::Digits(_) => add(sizes, 20),
            Self::Text(_) | Self::TextView(_) | Self::Blob(_) | Self::List { .. } => {
                for (row, size) in sizes.iter_mut().enumerate() {
                    *size = size.saturating_add(self.value(row).size());
                }
            }
        }
    }
}

impl Value<'_> {
    /// Returns the encoded size in bytes. For a decimal, its upper bound.
    pub(super) fn size(&self) -> u32 {
        let length = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX);
        match *self {
            Self::Null | Self::Unset => 0,
            Self::Boolean(_) | Self::Tinyint(_) => 1,
            Self::Smallint(_) => 2,
            Self::Int(_) | Self::Date(_) | Self::Float(_) => 4,
            Self::Bigint(_) | Self::Timestamp(_) | Self::Double(_) => 8,
            Self::Uuid(_) => 16,
            Self::Decimal { .. } => 20,
            Self::Text(text) => length(text.len()),
            Self::Blob(bytes) => length(bytes.len()),
            Self::List { elements, from, to } => {
                (from..to).fold(4_u32, |sum, at| sum.saturating_add(4).saturating_add(elements.value(at).size()))
            }
        }
    }

    pub(super) fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }
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

/// Converts a column to the table's type. Cells that do not fit become null and are reported.
///
/// # Errors
/// When no value of the column's type can become the table's. Planning the table checks this with
/// [`CqlType::takes`].
pub(super) fn convert(array: &ArrayRef, cql: &CqlType) -> Result<(Cells, Vec<Misfit>), UnplannedType> {
    if !cql.takes(array.data_type()) {
        return Err(UnplannedType(format!("{} can't become {cql}", array.data_type())));
    }
    let plain = |misfits: (ArrayRef, Vec<Misfit>), cells: fn(&dyn Array) -> Cells| (cells(misfits.0.as_ref()), misfits.1);
    Ok(match cql {
        CqlType::Text => text(array)?,
        CqlType::Ascii => {
            let (cells, mut misfits) = text(array)?;
            misfits.extend(not_ascii(&cells, array.len()));
            (cells, misfits)
        }
        CqlType::Uuid => uuids(array, false)?,
        CqlType::Timeuuid => uuids(array, true)?,
        CqlType::List(element) => list(array, element)?,
        CqlType::Bigint => plain(cast(array, &DataType::Int64, cql)?, |a| Cells::Bigint(a.as_primitive::<Int64Type>().clone())),
        CqlType::Int => plain(cast(array, &DataType::Int32, cql)?, |a| Cells::Int(a.as_primitive::<Int32Type>().clone())),
        CqlType::Smallint => plain(cast(array, &DataType::Int16, cql)?, |a| Cells::Smallint(a.as_primitive::<Int16Type>().clone())),
        CqlType::Tinyint => plain(cast(array, &DataType::Int8, cql)?, |a| Cells::Tinyint(a.as_primitive::<Int8Type>().clone())),
        CqlType::Float => plain(floats(array, cql)?, |a| Cells::Float(a.as_primitive::<Float32Type>().clone())),
        CqlType::Double => plain(cast(array, &DataType::Float64, cql)?, |a| Cells::Double(a.as_primitive::<Float64Type>().clone())),
        CqlType::Boolean => plain(cast(array, &DataType::Boolean, cql)?, |a| Cells::Boolean(a.as_boolean().clone())),
        CqlType::Blob => plain(cast(array, &DataType::Binary, cql)?, |a| Cells::Blob(a.as_binary::<i32>().clone())),
        CqlType::Date => plain(cast(array, &DataType::Date32, cql)?, |a| Cells::Date(a.as_primitive::<Date32Type>().clone())),
        CqlType::Timestamp => {
            plain(cast(&truncate(array, TimeUnit::Millisecond), &DataType::Timestamp(TimeUnit::Millisecond, None), cql)?, |a| {
                Cells::Timestamp(a.as_primitive::<TimestampMillisecondType>().clone())
            })
        }
        CqlType::Decimal if is_text(array.data_type()) => digits(array)?,
        CqlType::Decimal => {
            let same = match array.data_type() {
                DataType::Decimal128(_, _) => array.data_type().clone(),
                DataType::Dictionary(_, value) => value.as_ref().clone(),
                _ => DataType::Decimal128(38, 0),
            };
            plain(cast(array, &same, cql)?, |a| Cells::Decimal(a.as_primitive::<Decimal128Type>().clone()))
        }
    })
}

/// Casts a column. Cells that do not fit become null and are reported.
fn cast(array: &ArrayRef, to: &DataType, cql: &CqlType) -> Result<(ArrayRef, Vec<Misfit>), UnplannedType> {
    if array.data_type() == to {
        return Ok((ArrayRef::clone(array), Vec::new()));
    }
    let options = CastOptions { safe: true, ..CastOptions::default() };
    let done = cast_with_options(array, to, &options).map_err(|cause| UnplannedType(cause.to_string()))?;
    let mut misfits = Vec::new();
    if done.null_count() > array.logical_null_count() {
        let before = array.logical_nulls();
        for row in (0..array.len()).filter(|&row| done.is_null(row)) {
            if before.as_ref().is_none_or(|nulls| nulls.is_valid(row)) {
                let value = quoted(&array_value_to_string(array, row).unwrap_or_default());
                misfits.push((row, Reason::quoting(&value, |value| format!("{value} is not a valid {cql}"))));
            }
        }
    }
    Ok((done, misfits))
}

/// Converts doubles to 32-bit floats. A double out of range does not fit; others are rounded.
fn floats(array: &ArrayRef, cql: &CqlType) -> Result<(ArrayRef, Vec<Misfit>), UnplannedType> {
    let (floats, mut misfits) = cast(array, &DataType::Float32, cql)?;
    let Some(wide) = array.as_primitive_opt::<Float64Type>() else { return Ok((floats, misfits)) };
    let narrow = floats.as_primitive::<Float32Type>();
    for row in (0..array.len()).filter(|&row| narrow.is_valid(row) && narrow.value(row).is_infinite() && wide.value(row).is_finite()) {
        misfits.push((row, Reason::quoting(&quoted(&wide.value(row).to_string()), |value| format!("{value} is not a valid {cql}"))));
    }
    Ok((floats, misfits))
}

/// Parses text as exact decimals.
fn digits(array: &ArrayRef) -> Result<(Cells, Vec<Misfit>), UnplannedType> {
    let (cells, mut misfits) = text(array)?;
    let read = |row: usize| {
        let Value::Text(text) = cells.value(row) else { return None };
        let why = match decimal::exact(text) {
            Ok(value) => return Some(value),
            Err(DecimalError::NotANumber) => "is not a valid decimal".to_owned(),
            Err(DecimalError::OutOfRange) => format!("has more than {} digits", decimal::MAX_DIGITS),
        };
        misfits.push((row, Reason::quoting(&quoted(text), |value| format!("{value} {why}"))));
        None
    };
    let values = (0..array.len()).map(read).collect();
    Ok((Cells::Digits(values), misfits))
}

fn text(array: &ArrayRef) -> Result<(Cells, Vec<Misfit>), UnplannedType> {
    if let Some(view) = array.as_string_view_opt() {
        return Ok((Cells::TextView(view.clone()), Vec::new()));
    }
    let (array, misfits) = cast(array, &DataType::Utf8, &CqlType::Text)?;
    Ok((Cells::Text(array.as_string::<i32>().clone()), misfits))
}

fn not_ascii(cells: &Cells, rows: usize) -> impl Iterator<Item = Misfit> {
    (0..rows).filter_map(|row| match cells.value(row) {
        Value::Text(text) if !text.is_ascii() => Some((row, Reason::quoting(&quoted(text), |value| format!("{value} is not ascii")))),
        _ => None,
    })
}

fn uuids(array: &ArrayRef, time_based: bool) -> Result<(Cells, Vec<Misfit>), UnplannedType> {
    let cells = match array.data_type() {
        DataType::FixedSizeBinary(_) => Cells::Uuid(array.as_fixed_size_binary().clone()),
        _ => text(array)?.0,
    };
    let name = if time_based { "timeuuid" } else { "uuid" };
    let mut misfits = Vec::new();
    let mut bytes: Vec<u8> = Vec::with_capacity(array.len() * 16);
    let mut valid = Vec::with_capacity(array.len());
    for row in 0..array.len() {
        let read = match cells.value(row) {
            Value::Text(text) => match Uuid::try_parse(text) {
                Ok(uuid) => Some(uuid),
                Err(_) => {
                    misfits.push((row, Reason::quoting(&quoted(text), |value| format!("{value} is not a valid {name}"))));
                    None
                }
            },
            Value::Uuid(bytes) => Uuid::from_slice(bytes).ok(),
            _ => None,
        };
        let read = read.filter(|uuid| {
            let fits = !time_based || uuid.get_version_num() == 1;
            if !fits {
                let value = format!("{}, a uuid of version {},", quoted(&uuid.to_string()), uuid.get_version_num());
                misfits.push((row, Reason::quoting(&value, |value| format!("{value} is not a valid timeuuid"))));
            }
            fits
        });
        valid.push(read.is_some());
        bytes.extend_from_slice(read.unwrap_or_default().as_bytes());
    }
    let nulls = NullBuffer::from(valid);
    let uuids = FixedSizeBinaryArray::try_new(16, bytes.into(), Some(nulls)).map_err(|cause| UnplannedType(cause.to_string()))?;
    Ok((Cells::Uuid(uuids), misfits))
}

fn list(array: &ArrayRef, element: &CqlType) -> Result<(Cells, Vec<Misfit>), UnplannedType> {
    let plain = match array.data_type() {
        DataType::LargeList(field) => cast(array, &DataType::List(field.clone()), &CqlType::List(Box::new(element.clone())))?.0,
        _ => ArrayRef::clone(array),
    };
    let list: &ListArray = plain.as_list_opt().ok_or_else(|| UnplannedType(format!("{} is not a list", array.data_type())))?;
    let (elements, inner) = convert(list.values(), element)?;
    let offsets = list.offsets().clone();
    let mut misfits: Vec<Misfit> = Vec::new();
    for (at, why) in inner {
        let row = offsets.partition_point(|&offset| usize::try_from(offset).unwrap_or(0) <= at).saturating_sub(1);
        misfits.push((row, why.within(|why| format!("list element: {why}"))));
    }
    let nulls = list.nulls().cloned();
    let cells = Cells::List { offsets, nulls, elements: Box::new(elements) };
    for row in 0..list.len() {
        if let Value::List { elements, from, to } = cells.value(row)
            && (from..to).any(|at| elements.value(at).is_null())
            && !misfits.iter().any(|(bad, _)| *bad == row)
        {
            misfits.push((row, Reason::plain("a list can't contain null in Cassandra")));
        }
    }
    Ok((cells, misfits))
}
