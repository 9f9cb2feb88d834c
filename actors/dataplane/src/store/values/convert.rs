//! Converts Arrow columns to cells, one value at a time only where the type needs it.

use std::net::IpAddr;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, BinaryBuilder, FixedSizeBinaryArray};
use datafusion::arrow::buffer::NullBuffer;
use datafusion::arrow::compute::{CastOptions, cast_with_options};
use datafusion::arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, Time64NanosecondType,
    TimeUnit, TimestampMillisecondType,
};
use datafusion::arrow::util::display::array_value_to_string;
use num_bigint::BigInt;
use uuid::Uuid;

use super::text_forms::{self, MAX_VARINT_DIGITS};
use super::{Cells, Misfit, UnplannedType, Value, nested, quoted};
use crate::Reason;
use crate::cql_type::{CqlType, is_text};
use crate::decimal::{self, DecimalError};
use crate::store::cql_encoding::trim_sign_bytes;
use crate::truncate_timestamps::truncate;

/// Converts a column to the table's type. Cells that do not fit become null and are reported.
///
/// # Errors
/// When no value of the column's type can become the table's. Planning the table checks this with
/// [`CqlType::takes`].
pub(in crate::store) fn convert(array: &ArrayRef, cql: &CqlType) -> Result<(Cells, Vec<Misfit>), UnplannedType> {
    if !cql.takes(array.data_type()) {
        return Err(UnplannedType(format!("{} can't become {cql}", array.data_type())));
    }
    if *array.data_type() == DataType::Null {
        return Ok((Cells::Nulls, Vec::new()));
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
        CqlType::List(element) => nested::list(array, element)?,
        CqlType::Set(_, element) => nested::set(array, element)?,
        CqlType::Map(_, pair) => nested::map(array, &pair.0, &pair.1)?,
        CqlType::Tuple(parts) => nested::tuple(array, parts)?,
        CqlType::User(user) => nested::user(array, user)?,
        CqlType::Vector(length) => nested::vector(array, *length)?,
        CqlType::Varint if is_text(array.data_type()) => bytes_of_text(array, cql, varint, Cells::Varint)?,
        CqlType::Varint => varints(array, cql)?,
        CqlType::Inet => bytes_of_text(array, cql, inet, Cells::Inet)?,
        CqlType::Duration => durations(array)?,
        CqlType::Time if is_text(array.data_type()) => times(array)?,
        CqlType::Time => plain(cast(array, &DataType::Time64(TimeUnit::Nanosecond), cql)?, |a| {
            Cells::Time(a.as_primitive::<Time64NanosecondType>().clone())
        }),
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
pub(super) fn cast(array: &ArrayRef, to: &DataType, cql: &CqlType) -> Result<(ArrayRef, Vec<Misfit>), UnplannedType> {
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
pub(super) fn floats(array: &ArrayRef, cql: &CqlType) -> Result<(ArrayRef, Vec<Misfit>), UnplannedType> {
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

/// Returns why a text is not a value of a type.
fn misfit(row: usize, text: &str, cql: &CqlType) -> Misfit {
    (row, Reason::quoting(&quoted(text), |value| format!("{value} is not a valid {cql}")))
}

/// Reads each text with `read`. Returns the values, and the rows of texts that it refused.
fn each_text<T>(
    array: &ArrayRef,
    cql: &CqlType,
    mut read: impl FnMut(&str) -> Option<T>,
) -> Result<(Vec<Option<T>>, Vec<Misfit>), UnplannedType> {
    let (cells, mut misfits) = text(array)?;
    let value = |row| {
        let Value::Text(text) = cells.value(row) else { return None };
        let read = read(text);
        if read.is_none() {
            misfits.push(misfit(row, text, cql));
        }
        read
    };
    let values = (0..array.len()).map(value).collect();
    Ok((values, misfits))
}

fn bytes_of_text(
    array: &ArrayRef,
    cql: &CqlType,
    read: fn(&str) -> Option<Vec<u8>>,
    cells: fn(datafusion::arrow::array::BinaryArray) -> Cells,
) -> Result<(Cells, Vec<Misfit>), UnplannedType> {
    let (values, misfits) = each_text(array, cql, read)?;
    Ok((cells(values.iter().map(Option::as_deref).collect()), misfits))
}

fn varint(text: &str) -> Option<Vec<u8>> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let is_integer = (1..=MAX_VARINT_DIGITS).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
    let number = is_integer.then(|| BigInt::parse_bytes(text.as_bytes(), 10)).flatten()?;
    Some(number.to_signed_bytes_be())
}

fn inet(text: &str) -> Option<Vec<u8>> {
    text.parse::<IpAddr>().ok().map(|address| match address {
        IpAddr::V4(four) => four.octets().to_vec(),
        IpAddr::V6(six) => six.octets().to_vec(),
    })
}

fn varints(array: &ArrayRef, cql: &CqlType) -> Result<(Cells, Vec<Misfit>), UnplannedType> {
    let (wide, misfits) = cast(array, &DataType::Decimal128(38, 0), cql)?;
    let mut bytes = BinaryBuilder::with_capacity(array.len(), array.len() * 8);
    for number in wide.as_primitive::<Decimal128Type>() {
        bytes.append_option(number.map(i128::to_be_bytes).as_ref().map(|bytes| trim_sign_bytes(bytes)));
    }
    Ok((Cells::Varint(bytes.finish()), misfits))
}

fn durations(array: &ArrayRef) -> Result<(Cells, Vec<Misfit>), UnplannedType> {
    let (values, misfits) = each_text(array, &CqlType::Duration, text_forms::duration)?;
    Ok((Cells::Durations(values), misfits))
}

fn times(array: &ArrayRef) -> Result<(Cells, Vec<Misfit>), UnplannedType> {
    let (values, misfits) = each_text(array, &CqlType::Time, text_forms::time)?;
    Ok((Cells::Time(values.into_iter().collect()), misfits))
}
