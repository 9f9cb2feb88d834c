//! CAST of columns, where Arrow's own cast would silently change a value.
//!
//! Guarantees:
//! * A number keeps its value, or its digits after the point are rounded. A number that is out of
//!   range, infinite or NaN is an error, or NULL in TRY_CAST.
//! * An integer becomes a double only when the double holds it exactly.
//! * A time that loses digits is rounded down, also before 1970.
//!
//! All other casts are Arrow's.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, ListArray, PrimitiveArray};
use datafusion::arrow::buffer::{OffsetBuffer, ScalarBuffer};
use datafusion::arrow::compute::CastOptions;
use datafusion::arrow::datatypes::{
    DataType, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type, UInt16Type, UInt32Type,
    UInt64Type,
};
use datafusion::arrow::error::ArrowError;
use datafusion::common::cast::as_string_array;
use datafusion::common::format::DEFAULT_FORMAT_OPTIONS;
use datafusion::error::Result;
use datafusion::logical_expr::ColumnarValue;

use crate::decimal::{self, DecimalError};
use crate::truncate_timestamps;

/// Casts a column to another type. A value that does not fit is NULL when `safe`, else an error.
pub(super) fn cast(array: &ArrayRef, to: &DataType, safe: bool) -> Result<ArrayRef> {
    use DataType::{Decimal128, Float32, Float64, List, Timestamp};
    let from = array.data_type();
    if from == to {
        return Ok(Arc::clone(array));
    }
    match (from, to) {
        (List(_), List(item)) => {
            let list = array.as_list::<i32>();
            let (first, last) = (list.value_offsets()[0], list.value_offsets()[list.len()]);
            let at = |offset: i32| usize::try_from(offset).expect("offsets are not negative");
            let items = cast(&list.values().slice(at(first), at(last - first)), item.data_type(), safe)?;
            let offsets: ScalarBuffer<i32> = list.value_offsets().iter().map(|offset| offset - first).collect();
            Ok(Arc::new(ListArray::try_new(Arc::clone(item), OffsetBuffer::new(offsets), items, list.nulls().cloned())?))
        }
        (_, Decimal128(precision, scale)) if is_text(from) || from.is_integer() || from.is_floating() || matches!(from, Decimal128(..)) => {
            to_decimal(array, *precision, *scale, safe)
        }
        (Float32 | Float64, integer) if integer.is_integer() => {
            let wide = arrow_cast(array, &Float64, false)?;
            let wide = wide.as_primitive::<Float64Type>();
            to_integer(wide, integer, safe, |value| whole(value.round_ties_even()))
        }
        (Decimal128(_, scale), integer) if integer.is_integer() => {
            let scale = *scale;
            to_integer(array.as_primitive::<Decimal128Type>(), integer, safe, |value| decimal::rescale(value, scale, 38, 0))
        }
        (integer, Float32 | Float64) if integer.is_integer() => exact_floats(array, to, safe),
        (_, Float32 | Float64) => finite(&arrow_cast(array, to, safe)?, safe),
        (Timestamp(fine, _), Timestamp(coarse, _)) if fine > coarse => arrow_cast(&truncate_timestamps::truncate(array, *coarse), to, safe),
        _ => arrow_cast(array, to, safe),
    }
}

/// Arrow's cast.
fn arrow_cast(array: &ArrayRef, to: &DataType, safe: bool) -> Result<ArrayRef> {
    let options = CastOptions { safe, format_options: DEFAULT_FORMAT_OPTIONS };
    ColumnarValue::Array(Arc::clone(array)).cast_to(to, Some(&options))?.into_array(array.len())
}

fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

/// Converts value by value. A value that does not fit is NULL when `safe`, else an error.
pub(super) fn convert<I: ArrowPrimitiveType, O: ArrowPrimitiveType>(
    array: &PrimitiveArray<I>,
    safe: bool,
    value: impl Fn(I::Native) -> Option<O::Native>,
    why: impl Fn(I::Native) -> String,
) -> Result<PrimitiveArray<O>> {
    if safe {
        return Ok(array.unary_opt(value));
    }
    Ok(array.try_unary(|each| value(each).ok_or_else(|| ArrowError::ComputeError(why(each))))?)
}

fn to_decimal(array: &ArrayRef, precision: u8, scale: i8, safe: bool) -> Result<ArrayRef> {
    let to = DataType::Decimal128(precision, scale);
    let why = |text: &str, error: DecimalError| match error {
        DecimalError::NotANumber => ArrowError::ComputeError(format!("{} is not a number", shown(text))),
        DecimalError::OutOfRange => ArrowError::ComputeError(format!("{} does not fit into {to}", shown(text))),
    };
    let decimals: PrimitiveArray<Decimal128Type> = match array.data_type() {
        DataType::Decimal128(_, from) => {
            let from = *from;
            let same = array.as_primitive::<Decimal128Type>();
            let text = |value: i128| format!("{value}e{} does not fit into {to}", -i32::from(from));
            convert(same, safe, |value| decimal::rescale(value, from, precision, scale), text)?
        }
        integer if integer.is_integer() && *integer != DataType::UInt64 => {
            let wide = arrow_cast(array, &DataType::Int64, false)?;
            let wide = wide.as_primitive::<Int64Type>();
            let text = |value| format!("{value} does not fit into {to}");
            convert(wide, safe, |value| decimal::rescale(i128::from(value), 0, precision, scale), text)?
        }
        // By the shortest text that parses as the same double, which is also its display form.
        float if float.is_floating() => {
            let exact = |text: String| decimal::to_scale(&text, precision, scale).ok();
            let text = |text: String| format!("{text} does not fit into {to}");
            match float {
                DataType::Float32 => {
                    convert(array.as_primitive::<Float32Type>(), safe, |v| exact(format!("{v:e}")), |v| text(v.to_string()))?
                }
                _ => {
                    let wide = arrow_cast(array, &DataType::Float64, false)?;
                    convert(wide.as_primitive::<Float64Type>(), safe, |v| exact(format!("{v:e}")), |v| text(v.to_string()))?
                }
            }
        }
        _ => {
            let texts = arrow_cast(array, &DataType::Utf8, false)?;
            let read = as_string_array(&texts)?.iter().map(|text| {
                let Some(text) = text else { return Ok(None) };
                match decimal::to_scale(text, precision, scale) {
                    Ok(value) => Ok(Some(value)),
                    Err(_) if safe => Ok(None),
                    Err(error) => Err(why(text, error)),
                }
            });
            read.collect::<std::result::Result<_, _>>()?
        }
    };
    Ok(Arc::new(decimals.with_precision_and_scale(precision, scale)?))
}

/// Quotes the beginning of a text, for an error.
fn shown(text: &str) -> String {
    const MAX_QUOTED_CHARS: usize = 60;
    match text.char_indices().nth(MAX_QUOTED_CHARS) {
        Some((at, _)) => format!("'{}…'", &text[..at]),
        None => format!("'{text}'"),
    }
}

/// Converts a double without fraction to an integer, when it is finite and fits into 128 bits.
fn whole(value: f64) -> Option<i128> {
    const LIMIT: f64 = 1e38;
    #[allow(clippy::cast_possible_truncation, reason = "an integer in range")]
    (value.abs() < LIMIT).then_some(value as i128)
}

/// Converts to integers of any width; `value` returns each as a 128-bit integer.
fn to_integer<I: ArrowPrimitiveType>(
    array: &PrimitiveArray<I>,
    to: &DataType,
    safe: bool,
    value: impl Fn(I::Native) -> Option<i128>,
) -> Result<ArrayRef> {
    let shown = array.data_type().clone();
    let why = |_| format!("a value of {shown} is out of the range of {to}");
    macro_rules! narrow {
        ($($data_type:ident => $native:ident),*) => {
            match to {
                $(DataType::$data_type => {
                    let narrow = |each| value(each).and_then(|whole| <<$native as ArrowPrimitiveType>::Native as TryFrom<i128>>::try_from(whole).ok());
                    Ok(Arc::new(convert::<I, $native>(array, safe, narrow, why)?))
                })*
                _ => unreachable!("the type is an integer"),
            }
        };
    }
    narrow!(
        Int8 => Int8Type, Int16 => Int16Type, Int32 => Int32Type, Int64 => Int64Type,
        UInt8 => UInt8Type, UInt16 => UInt16Type, UInt32 => UInt32Type, UInt64 => UInt64Type
    )
}

/// Casts integers to floats that hold them exactly.
fn exact_floats(array: &ArrayRef, to: &DataType, safe: bool) -> Result<ArrayRef> {
    let floats = arrow_cast(array, to, safe)?;
    if let DataType::Int8 | DataType::Int16 | DataType::UInt8 | DataType::UInt16 = array.data_type() {
        return Ok(floats);
    }
    // Back to integers: equal where nothing was lost.
    let back = cast(&floats, array.data_type(), true)?;
    if back.as_ref() == array.as_ref() {
        return Ok(floats);
    }
    let wide = |array: &ArrayRef| arrow_cast(array, &DataType::Decimal128(20, 0), false);
    let (before, after) = (wide(array)?, wide(&back)?);
    let (before, after) = (before.as_primitive::<Decimal128Type>(), after.as_primitive::<Decimal128Type>());
    let lost = |row: &usize| before.is_valid(*row) && (after.is_null(*row) || before.value(*row) != after.value(*row));
    let Some(row) = (0..array.len()).find(lost) else { return Ok(floats) };
    if safe {
        let exact: Vec<bool> = (0..array.len()).map(|row| !lost(&row)).collect();
        return Ok(datafusion::arrow::compute::nullif(&floats, &exact.iter().map(|exact| Some(!exact)).collect())?);
    }
    let why = format!("{} has more digits than {to} holds; CAST it to a DECIMAL first", before.value(row));
    Err(ArrowError::ComputeError(why).into())
}

/// Checks that floats are neither infinite nor NaN, and turns `-0.0` into `0.0`.
pub(super) fn finite(array: &ArrayRef, safe: bool) -> Result<ArrayRef> {
    macro_rules! finite {
        ($kind:ty) => {{
            let floats = array.as_primitive::<$kind>();
            if floats.values().iter().all(|value| value.is_finite() && (*value != 0.0 || value.is_sign_positive())) {
                return Ok(Arc::clone(array));
            }
            let value = |value: <$kind as ArrowPrimitiveType>::Native| value.is_finite().then_some(value + 0.0);
            let why = |value: <$kind as ArrowPrimitiveType>::Native| match value.is_nan() {
                true => "the result is not a number, like 0 / 0".to_owned(),
                false => "the result is out of the range of a float, or a division by zero".to_owned(),
            };
            Ok(Arc::new(convert::<$kind, $kind>(floats, safe, value, why)?))
        }};
    }
    match array.data_type() {
        DataType::Float32 => finite!(Float32Type),
        DataType::Float64 => finite!(Float64Type),
        _ => Ok(Arc::clone(array)),
    }
}
