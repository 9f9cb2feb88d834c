//! The arguments of a function call, row by row, as the cost of the call needs them.

use datafusion::arrow::array::{Array, ArrayRef, AsArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{
    DataType, Int32Type, Int64Type, IntervalMonthDayNanoType, TimeUnit, TimestampNanosecondType, UInt64Type,
};
use datafusion::error::Result;
use datafusion::logical_expr::ColumnarValue;

use super::cost::Cost;
use super::regex_cost::{self, STATE_BYTES};
use crate::transform::column_bytes;

/// What an item costs in addition to its value when items are hashed.
const HASHED_ITEM_BYTES: u64 = 64;
const NANOS_PER_DAY: i128 = 86_400_000_000_000;
/// The length of the shortest month.
const MIN_DAYS_PER_MONTH: i128 = 28;

/// An argument of a call.
pub(super) struct Arg {
    pub(super) values: ArrayRef,
    /// Whether it is one value for all rows.
    pub(super) constant: bool,
}

impl Arg {
    pub(super) fn new(value: &ColumnarValue) -> Result<Self> {
        Ok(match value {
            ColumnarValue::Array(array) => Self { values: ArrayRef::clone(array), constant: false },
            ColumnarValue::Scalar(scalar) => Self { values: scalar.to_array()?, constant: true },
        })
    }

    /// Returns the text in a row; `None` for NULL and for other types.
    pub(super) fn text(&self, row: usize) -> Option<&str> {
        let values = self.values.as_ref();
        match values.data_type() {
            _ if values.is_null(row) => None,
            DataType::Utf8 => Some(values.as_string::<i32>().value(row)),
            DataType::LargeUtf8 => Some(values.as_string::<i64>().value(row)),
            DataType::Utf8View => Some(values.as_string_view().value(row)),
            _ => None,
        }
    }
}

/// The arguments of a call in one row. An argument that is missing or NULL counts as 0.
pub(super) struct Row<'a> {
    pub(super) args: &'a [Arg],
    pub(super) row: usize,
    /// The states of the pattern in the second argument, when it is a constant.
    pub(super) states: Option<u64>,
}

impl Row<'_> {
    fn at(&self, arg: usize) -> Option<(&dyn Array, usize)> {
        let arg = self.args.get(arg)?;
        let row = if arg.constant { 0 } else { self.row };
        arg.values.is_valid(row).then_some((arg.values.as_ref(), row))
    }

    pub(super) fn text(&self, arg: usize) -> Option<&str> {
        let arg = self.args.get(arg)?;
        arg.text(if arg.constant { 0 } else { self.row })
    }

    /// Returns the length of a text, or the size of another value.
    pub(super) fn len(&self, arg: usize) -> u64 {
        self.text(arg).map_or_else(|| self.size(arg), |text| text.len() as u64)
    }

    pub(super) fn size(&self, arg: usize) -> u64 {
        self.at(arg).map_or(0, |(values, row)| column_bytes::of_row(values, row))
    }

    /// Returns a number of repetitions; 0 for a negative number.
    pub(super) fn count(&self, arg: usize) -> u64 {
        self.number(arg).map_or(0, |number| u64::try_from(number.max(0)).unwrap_or(u64::MAX))
    }

    fn number(&self, arg: usize) -> Option<i128> {
        let (values, row) = self.at(arg)?;
        match values.data_type() {
            DataType::Int64 => Some(values.as_primitive::<Int64Type>().value(row).into()),
            DataType::UInt64 => Some(values.as_primitive::<UInt64Type>().value(row).into()),
            _ => Some(cast_one(values, row, &DataType::Int64)?.as_primitive::<Int64Type>().value(0).into()),
        }
    }

    pub(super) fn items(&self, arg: usize) -> u64 {
        self.at(arg).map_or(0, |(values, row)| column_bytes::count_items(values, row, 1) as u64)
    }

    /// Counts the values in a list, down through the lists in it.
    pub(super) fn leaves(&self, arg: usize) -> u64 {
        let Some((values, row)) = self.at(arg) else { return 0 };
        let mut depth = 0;
        let mut inner = values.data_type();
        while let DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) = inner {
            (depth, inner) = (depth + 1, item.data_type());
        }
        column_bytes::count_items(values, row, depth) as u64
    }

    /// Returns the cost of hashing the items of all arguments.
    pub(super) fn hashed(&self) -> Cost {
        let each = |at: usize| self.size(at).saturating_mul(3).saturating_add(self.leaves(at).saturating_mul(HASHED_ITEM_BYTES));
        Cost::bytes((0..self.args.len()).map(each).fold(0, u64::saturating_add))
    }

    /// Returns the cost of the pattern in the second argument on the text in the first. A pattern
    /// that is not constant is compiled for the row.
    pub(super) fn pattern(&self) -> Cost {
        let own = self.states.map_or_else(|| self.text(1).map_or(0, regex_cost::states), |_| 0);
        let states = self.states.unwrap_or(own);
        Cost {
            bytes: own.saturating_mul(STATE_BYTES),
            steps: states.saturating_mul(self.len(0)).saturating_add(own.saturating_mul(STATE_BYTES)),
        }
    }

    /// Counts the values of a `range`.
    pub(super) fn range(&self) -> u64 {
        let count = |from: i128, to: i128, step: i128| {
            let step = step.unsigned_abs().max(1);
            u64::try_from(from.abs_diff(to) / step + 1).unwrap_or(u64::MAX)
        };
        let step = self.at(2).and_then(|(values, row)| match values.data_type() {
            DataType::Interval(_) => {
                let step = values.as_primitive_opt::<IntervalMonthDayNanoType>()?.value(row);
                Some((i128::from(step.months) * MIN_DAYS_PER_MONTH + i128::from(step.days)) * NANOS_PER_DAY + i128::from(step.nanoseconds))
            }
            _ => None,
        });
        match (self.args.len(), step) {
            (1, _) => self.number(0).map_or(0, |to| count(0, to, 1)),
            (_, None) => {
                let step = if self.args.len() > 2 { self.number(2) } else { Some(1) };
                self.number(0).zip(self.number(1)).zip(step).map_or(0, |((from, to), step)| count(from, to, step))
            }
            (_, Some(step)) => self.nanos(0).zip(self.nanos(1)).map_or(0, |(from, to)| count(from, to, step)),
        }
    }

    /// Returns a time in nanoseconds; the largest value for a time out of range.
    fn nanos(&self, arg: usize) -> Option<i128> {
        let (values, row) = self.at(arg)?;
        if let DataType::Date32 = values.data_type() {
            let days = cast_one(values, row, &DataType::Int32)?;
            return Some(i128::from(days.as_primitive::<Int32Type>().value(0)) * NANOS_PER_DAY);
        }
        let time = cast_one(values, row, &DataType::Timestamp(TimeUnit::Nanosecond, None));
        Some(time.map_or(i128::from(i64::MAX), |time| time.as_primitive::<TimestampNanosecondType>().value(0).into()))
    }
}

/// Casts one value to another type, if possible.
fn cast_one(values: &dyn Array, row: usize, to: &DataType) -> Option<ArrayRef> {
    let one = values.slice(row, 1);
    if one.data_type() == to {
        return Some(one);
    }
    cast(&one, to).ok().filter(|one| one.is_valid(0))
}
