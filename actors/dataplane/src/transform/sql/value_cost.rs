//! The cost of values, casts and patterns.

use datafusion::arrow::array::{Array, ArrayRef, AsArray};
use datafusion::arrow::datatypes::DataType;
use datafusion::error::Result;
use datafusion::logical_expr::ColumnarValue;

use super::cost::Cost;
use super::cost_arguments::Arg;
use super::regex_cost::STATE_BYTES;
use crate::transform::column_bytes;

/// The size of the longest text of a number, a time or a boolean.
pub(super) const SCALAR_TEXT_BYTES: u64 = 40;

/// Returns the size of a value in this many rows.
pub(super) fn bytes_of_value(value: &ColumnarValue, rows: usize) -> Result<u64> {
    Ok(match value {
        ColumnarValue::Array(array) => column_bytes::of_array(array),
        ColumnarValue::Scalar(scalar) => column_bytes::of_array(&scalar.to_array()?).saturating_mul(rows as u64),
    })
}

/// Returns the bytes that a cast produces, where they are not proportional to the value: objects as
/// text name their fields, and NULLs of a type of fixed width take that width.
pub(super) fn bytes_of_cast(value: &ColumnarValue, rows: usize, to: &DataType) -> Result<u64> {
    let (array, times) = match value {
        ColumnarValue::Array(array) => (ArrayRef::clone(array), 1),
        ColumnarValue::Scalar(scalar) => (scalar.to_array()?, rows as u64),
    };
    let text = if array.data_type().is_nested() && holds_text(to) { text_bytes(&array) } else { 0 };
    let fixed = column_bytes::of_null(to).saturating_mul(array.len() as u64);
    Ok(text.saturating_add(fixed).saturating_mul(times))
}

/// Returns the cost of searching each row's pattern in its text.
pub(super) fn cost_of_patterns(text: &ArrayRef, pattern: &ArrayRef, steps: impl Fn(&str) -> u64) -> Cost {
    let (text, pattern) =
        (Arg { values: ArrayRef::clone(text), constant: false }, Arg { values: ArrayRef::clone(pattern), constant: false });
    let rows = 0..pattern.values.len();
    let one = |row| {
        let states = pattern.text(row).map_or(0, &steps);
        let length = text.text(row).map_or(0, str::len) as u64;
        let compile = states.saturating_mul(STATE_BYTES);
        Cost { bytes: compile, steps: states.saturating_mul(length).saturating_add(compile) }
    };
    rows.map(one).fold(Cost::default(), Cost::and)
}

/// Returns whether values of this type are or contain text.
fn holds_text(data_type: &DataType) -> bool {
    match data_type {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => true,
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => holds_text(item.data_type()),
        DataType::Struct(fields) => fields.iter().any(|field| holds_text(field.data_type())),
        _ => false,
    }
}

/// Estimates the size of an array as text.
fn text_bytes(array: &dyn Array) -> u64 {
    let rows = array.len() as u64;
    let inner = |values: &dyn Array, from: usize, to: usize| text_bytes(&values.slice(from, to - from)).saturating_add(8 * rows);
    match array.data_type() {
        DataType::Struct(fields) => {
            let names: u64 = fields.iter().map(|field| field.name().len() as u64 + 4).sum();
            let values = array.as_struct().columns().iter().fold(0_u64, |sum, column| sum.saturating_add(text_bytes(column)));
            values.saturating_add(rows.saturating_mul(names))
        }
        DataType::List(_) => {
            let list = array.as_list::<i32>();
            let at = |index: usize| usize::try_from(list.offsets()[index]).unwrap_or(0);
            inner(list.values(), at(0), at(list.len()))
        }
        DataType::LargeList(_) => {
            let list = array.as_list::<i64>();
            let at = |index: usize| usize::try_from(list.offsets()[index]).unwrap_or(0);
            inner(list.values(), at(0), at(list.len()))
        }
        DataType::Map(..) => {
            let map = array.as_map();
            let at = |index: usize| usize::try_from(map.offsets()[index]).unwrap_or(0);
            inner(map.entries(), at(0), at(map.len()))
        }
        other if column_bytes::is_variable_width(other) => column_bytes::of_array(array).saturating_mul(2).saturating_add(8 * rows),
        _ => SCALAR_TEXT_BYTES * rows,
    }
}
