//! What a call of each function costs at most, told from its arguments before it is made.
//!
//! Guarantee: every function of DataFusion that is registered here has a class in [`of`], which a test walks; one without is refused when the SQL is
//! planned. A cost is a sum over the rows, of what each row's arguments say. Not guaranteed: that it is exact; it is never less than what the
//! function makes, beside a constant factor of the values it is given.

use datafusion::arrow::array::{Array, ArrayRef, AsArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{
    DataType, Int32Type, Int64Type, IntervalMonthDayNanoType, TimeUnit, TimestampNanosecondType, UInt64Type,
};
use datafusion::error::Result;
use datafusion::logical_expr::ColumnarValue;

use super::pattern;
use crate::transform::sizes;

/// A row's few bytes, whatever the function.
const FEW: u64 = 64;
/// The longest text of a number, a time or a truth.
const SCALAR_TEXT: u64 = 40;
/// The most bytes of a character.
const CHARACTER: u64 = 4;
/// What an item of a list costs beside its value where items are put into a table of hashes.
const HASHED: u64 = 64;
/// What a state of a regular expression takes in memory.
const STATE: u64 = 64;
/// The most that a code of a time's format becomes, a byte of the format.
const TIME_CODE: u64 = 16;
const NANOS_A_DAY: i128 = 86_400_000_000_000;
/// The shortest month.
const DAYS_A_MONTH: i128 = 28;

/// How the cost of a call follows from its arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Cost {
    /// Parts of the arguments as they are, or a few bytes a row; its time is in proportion to the arguments.
    Free,
    /// At most a few times its largest argument: charged when it is made.
    Result,
    /// All arguments together.
    Arguments,
    /// `repeat(text, n)`
    Repeat,
    /// `lpad(text, n, fill)`
    Pad,
    /// `replace(text, from, to)`
    Replace,
    /// `regexp_replace(text, pattern, to, flags)`
    PatternReplace,
    /// `regexp_match(text, pattern, …)` and its like.
    Pattern,
    /// `string_to_array(text, separator, …)`
    Split,
    /// `array_to_string(array, separator, null)`
    Join,
    /// `concat_ws(separator, text, …)`
    JoinTexts,
    /// `range(from, to, step)`
    Range,
    /// `array_repeat(value, n)`
    ArrayRepeat,
    /// `array_resize(array, n, value)`
    Resize,
    /// `array_replace_all(array, from, to)`
    ArrayReplace,
    /// Items are put into a table of hashes, or sorted.
    Hash,
    /// Each item of the first with each of the second.
    Pairs,
    /// As many items as the longest of the arrays.
    Zip,
    /// `levenshtein(a, b)`
    Levenshtein,
    /// `to_char(time, format)`
    TimeFormat,
    /// `arrow_cast(value, type)`
    Cast,
}

/// How a function is classed, by its own name; none for one that is not known.
pub(super) fn of(function: &str) -> Option<Cost> {
    Some(match function {
        // Values as they are, and a few bytes a row.
        "array_avg"
        | "array_dims"
        | "array_distance"
        | "array_empty"
        | "array_has"
        | "array_length"
        | "array_max"
        | "array_min"
        | "array_ndims"
        | "array_position"
        | "array_product"
        | "array_sum"
        | "arrow_field"
        | "arrow_metadata"
        | "arrow_typeof"
        | "ascii"
        | "bit_length"
        | "cardinality"
        | "character_length"
        | "chr"
        | "contains"
        | "cosine_distance"
        | "current_date"
        | "current_time"
        | "date_bin"
        | "date_part"
        | "date_trunc"
        | "empty"
        | "ends_with"
        | "file_row_index"
        | "find_in_set"
        | "from_unixtime"
        | "get_field"
        | "inner_product"
        | "input_file_name"
        | "isnan"
        | "make_date"
        | "make_time"
        | "md5"
        | "digest"
        | "now"
        | "octet_length"
        | "random"
        | "sha224"
        | "sha256"
        | "sha384"
        | "sha512"
        | "starts_with"
        | "strpos"
        | "to_date"
        | "to_hex"
        | "to_local_time"
        | "to_time"
        | "to_timestamp"
        | "to_timestamp_micros"
        | "to_timestamp_millis"
        | "to_timestamp_nanos"
        | "to_timestamp_seconds"
        | "to_unixtime"
        | "union_extract"
        | "union_tag"
        | "uuid"
        | "version"
        | "with_metadata" => Cost::Free,
        // Of numbers.
        "abs" | "acos" | "acosh" | "asin" | "asinh" | "atan" | "atan2" | "atanh" | "cbrt" | "ceil" | "cos" | "cosh" | "cot" | "degrees"
        | "exp" | "factorial" | "floor" | "gcd" | "iszero" | "lcm" | "ln" | "log" | "log10" | "log2" | "nanvl" | "pi" | "power"
        | "radians" | "round" | "signum" | "sin" | "sinh" | "sqrt" | "tan" | "tanh" | "trunc" => Cost::Free,
        "array_any_value" | "array_compact" | "array_element" | "array_normalize" | "array_pop_back" | "array_pop_front"
        | "array_remove" | "array_remove_all" | "array_remove_n" | "array_reverse" | "array_scale" | "array_slice" | "array_subtract"
        | "array_add" | "array_positions" | "btrim" | "coalesce" | "decode" | "encode" | "flatten" | "greatest" | "initcap" | "least"
        | "left" | "lower" | "ltrim" | "map_entries" | "map_extract" | "map_keys" | "map_values" | "nullif" | "nvl" | "nvl2"
        | "reverse" | "right" | "rtrim" | "split_part" | "substr" | "substr_index" | "translate" | "upper" => Cost::Result,
        "array_append" | "array_concat" | "array_prepend" | "concat" | "make_array" | "named_struct" | "overlay" | "struct" => {
            Cost::Arguments
        }
        "repeat" => Cost::Repeat,
        "lpad" | "rpad" => Cost::Pad,
        "replace" => Cost::Replace,
        "regexp_replace" => Cost::PatternReplace,
        "regexp_count" | "regexp_instr" | "regexp_like" | "regexp_match" => Cost::Pattern,
        "string_to_array" => Cost::Split,
        "array_to_string" => Cost::Join,
        "concat_ws" => Cost::JoinTexts,
        "generate_series" | "range" => Cost::Range,
        "array_repeat" => Cost::ArrayRepeat,
        "array_resize" => Cost::Resize,
        "array_replace" | "array_replace_all" | "array_replace_n" => Cost::ArrayReplace,
        "array_distinct" | "array_except" | "array_intersect" | "array_sort" | "array_union" | "map" => Cost::Hash,
        "array_has_all" | "array_has_any" => Cost::Pairs,
        "arrays_zip" => Cost::Zip,
        "levenshtein" => Cost::Levenshtein,
        "to_char" => Cost::TimeFormat,
        "arrow_cast" | "arrow_try_cast" | "cast_to_type" | "try_cast_to_type" => Cost::Cast,
        _ => return None,
    })
}

/// What a call makes, and how many steps it takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Price {
    pub(super) bytes: u64,
    pub(super) steps: u64,
}

impl Price {
    fn bytes(bytes: u64) -> Self {
        Self { bytes, steps: 0 }
    }

    fn and(self, other: Self) -> Self {
        Self { bytes: self.bytes.saturating_add(other.bytes), steps: self.steps.saturating_add(other.steps) }
    }
}

impl Cost {
    /// The price of a call on so many rows that gives values of this type.
    pub(super) fn price(self, args: &[ColumnarValue], rows: usize, result: &DataType) -> Result<Price> {
        // What has no argument from the record is made at least once, even where there is no record.
        let rows = if args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_))) { rows.max(1) } else { rows };
        match self {
            Self::Free | Self::Result => Ok(Price::default()),
            Self::Arguments => {
                let sizes = args.iter().map(|arg| of_value(arg, rows));
                Ok(Price::bytes(sizes.sum::<Result<u64>>()?))
            }
            Self::Cast => args.first().map_or(Ok(Price::default()), |arg| Ok(Price::bytes(of_cast(arg, rows, result)?))),
            // The common case at once: the separator is the SQL's, and none of what it separates is a list.
            Self::JoinTexts if matches!(args, [ColumnarValue::Scalar(_), texts @ ..] if !texts.iter().any(|text| text.data_type().is_nested())) =>
            {
                let texts = args[1..].iter().map(|text| of_value(text, rows)).sum::<Result<u64>>()?;
                Ok(Price::bytes(texts.saturating_add(of_value(&args[0], rows)?.saturating_mul(args.len() as u64))))
            }
            each => {
                let args = args.iter().map(Arg::new).collect::<Result<Vec<_>>>()?;
                let states = args.get(1).filter(|arg| arg.constant).and_then(|arg| arg.text(0)).map(pattern::states);
                let sum = |sum: Price, row| sum.and(each.of_row(&Row { args: &args, row, states }, result));
                Ok((0..rows).fold(Price::default(), sum))
            }
        }
    }

    fn of_row(self, row: &Row<'_>, result: &DataType) -> Price {
        match self {
            Self::Free | Self::Result | Self::Arguments | Self::Cast => Price::default(),
            Self::Repeat => Price::bytes(row.len(0).saturating_mul(row.count(1))),
            Self::Pad => Price::bytes(row.len(0).saturating_add(row.count(1).saturating_mul(row.len(2).max(CHARACTER)))),
            Self::Replace => {
                let places = row.len(0) / row.len(1).max(1) + 1;
                Price::bytes(row.len(0).saturating_add(places.saturating_mul(row.len(2))))
            }
            Self::PatternReplace => {
                let (text, to, all) = (row.len(0), row.text(2).unwrap_or_default(), row.text(3).is_some_and(|flags| flags.contains('g')));
                let places = if all { text + 1 } else { 1 };
                let groups = to.bytes().filter(|byte| matches!(byte, b'$' | b'\\')).count() as u64;
                let bytes = places.saturating_mul(to.len() as u64).saturating_add(text.saturating_mul(groups + 1));
                Price::bytes(bytes).and(row.pattern())
            }
            Self::Pattern => {
                let groups = row.text(1).map_or(0, |pattern| pattern.bytes().filter(|byte| *byte == b'(').count() as u64);
                let captured = if matches!(result, DataType::List(_)) { row.len(0).saturating_mul(groups + 1) } else { 0 };
                Price::bytes(captured).and(row.pattern())
            }
            Self::Split => {
                let items = row.text(1).map_or(row.len(0), |separator| row.len(0) / (separator.len() as u64).max(1)) + 1;
                let each = match result {
                    DataType::List(item) | DataType::LargeList(item) if *item.data_type() == DataType::Utf8View => 16,
                    _ => 8,
                };
                Price::bytes(row.len(0).saturating_add(items.saturating_mul(each)))
            }
            Self::Join => {
                let items = row.leaves(0).saturating_mul(row.len(1) + row.len(2) + SCALAR_TEXT);
                Price::bytes(row.size(0).saturating_add(items))
            }
            Self::JoinTexts => {
                let texts = (1..row.args.len()).fold(0_u64, |sum, at| sum.saturating_add(row.size(at)).saturating_add(row.len(0)));
                let items = (1..row.args.len()).fold(0_u64, |sum, at| sum.saturating_add(row.leaves(at)));
                Price::bytes(texts.saturating_add(items.saturating_mul(row.len(0))))
            }
            Self::Range => Price::bytes(row.range().saturating_mul(8)),
            Self::ArrayRepeat => Price::bytes(row.count(1).saturating_mul(row.size(0).saturating_add(4))),
            Self::Resize => {
                let none = match row.args.first().map(|arg| arg.values.data_type()) {
                    Some(DataType::List(item) | DataType::LargeList(item)) => sizes::of_null(item.data_type()),
                    _ => 0,
                };
                let each = none.max(row.size(2));
                Price::bytes(row.size(0).saturating_add(row.count(1).saturating_mul(each)))
            }
            Self::ArrayReplace => Price::bytes(row.size(0).saturating_add(row.items(0).saturating_mul(row.size(2)))),
            Self::Hash => row.hashed(),
            Self::Pairs => row.hashed().and(Price { bytes: 0, steps: row.leaves(0).saturating_mul(row.leaves(1)) }),
            Self::Zip => {
                let all = 0..row.args.len();
                let longest = all.clone().map(|at| row.items(at)).max().unwrap_or(0);
                let none = |at: usize| match row.args[at].values.data_type() {
                    DataType::List(item) | DataType::LargeList(item) => sizes::of_null(item.data_type()),
                    _ => 0,
                };
                let bytes = all.map(|at| row.size(at).saturating_add(longest.saturating_mul(none(at))));
                Price::bytes(bytes.fold(0, u64::saturating_add))
            }
            // A row of the table of distances, and the characters.
            Self::Levenshtein => {
                Price { bytes: row.len(0).saturating_add(row.len(1)).saturating_mul(8), steps: row.len(0).saturating_mul(row.len(1)) }
            }
            Self::TimeFormat => Price::bytes(row.len(1).saturating_mul(TIME_CODE).saturating_add(FEW)),
        }
    }
}

/// What an argument takes when it stands in each of so many rows.
pub(super) fn of_value(value: &ColumnarValue, rows: usize) -> Result<u64> {
    Ok(match value {
        ColumnarValue::Array(array) => sizes::of_array(array),
        ColumnarValue::Scalar(scalar) => sizes::of_array(&scalar.to_array()?).saturating_mul(rows as u64),
    })
}

/// What a cast makes, where that is not in proportion to what it is made of: text of objects names their fields, and types of fixed width take it
/// for nulls, too.
pub(super) fn of_cast(value: &ColumnarValue, rows: usize, to: &DataType) -> Result<u64> {
    let (array, times) = match value {
        ColumnarValue::Array(array) => (ArrayRef::clone(array), 1),
        ColumnarValue::Scalar(scalar) => (scalar.to_array()?, rows as u64),
    };
    let text = if array.data_type().is_nested() && holds_text(to) { of_text(&array) } else { 0 };
    let fixed = sizes::of_null(to).saturating_mul(array.len() as u64);
    Ok(text.saturating_add(fixed).saturating_mul(times))
}

/// What it takes to look for each row's pattern in its text.
pub(super) fn of_patterns(text: &ArrayRef, pattern: &ArrayRef, steps: impl Fn(&str) -> u64) -> Price {
    let (text, pattern) =
        (Arg { values: ArrayRef::clone(text), constant: false }, Arg { values: ArrayRef::clone(pattern), constant: false });
    let rows = 0..pattern.values.len();
    let one = |row| {
        let states = pattern.text(row).map_or(0, &steps);
        let length = text.text(row).map_or(0, str::len) as u64;
        let compile = states.saturating_mul(STATE);
        Price { bytes: compile, steps: states.saturating_mul(length).saturating_add(compile) }
    };
    rows.map(one).fold(Price::default(), Price::and)
}

fn holds_text(data_type: &DataType) -> bool {
    match data_type {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => true,
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => holds_text(item.data_type()),
        DataType::Struct(fields) => fields.iter().any(|field| holds_text(field.data_type())),
        _ => false,
    }
}

/// About what an array is as text.
fn of_text(array: &dyn Array) -> u64 {
    let rows = array.len() as u64;
    let inner = |values: &dyn Array, from: usize, to: usize| of_text(&values.slice(from, to - from)).saturating_add(8 * rows);
    match array.data_type() {
        DataType::Struct(fields) => {
            let names: u64 = fields.iter().map(|field| field.name().len() as u64 + 4).sum();
            let values = array.as_struct().columns().iter().fold(0_u64, |sum, column| sum.saturating_add(of_text(column)));
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
        other if sizes::vary(other) => sizes::of_array(array).saturating_mul(2).saturating_add(8 * rows),
        _ => SCALAR_TEXT * rows,
    }
}

/// An argument of a call.
struct Arg {
    values: ArrayRef,
    /// The same value in each row.
    constant: bool,
}

impl Arg {
    fn new(value: &ColumnarValue) -> Result<Self> {
        Ok(match value {
            ColumnarValue::Array(array) => Self { values: ArrayRef::clone(array), constant: false },
            ColumnarValue::Scalar(scalar) => Self { values: scalar.to_array()?, constant: true },
        })
    }

    fn text(&self, row: usize) -> Option<&str> {
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

/// The arguments of a call in one row. An argument that is left out, or null, has no length and counts nothing.
struct Row<'a> {
    args: &'a [Arg],
    row: usize,
    /// The states of the pattern in the second argument, where that is the same in each row.
    states: Option<u64>,
}

impl Row<'_> {
    fn at(&self, arg: usize) -> Option<(&dyn Array, usize)> {
        let arg = self.args.get(arg)?;
        let row = if arg.constant { 0 } else { self.row };
        arg.values.is_valid(row).then_some((arg.values.as_ref(), row))
    }

    fn text(&self, arg: usize) -> Option<&str> {
        let arg = self.args.get(arg)?;
        arg.text(if arg.constant { 0 } else { self.row })
    }

    /// The bytes of a text; of another value all that it takes.
    fn len(&self, arg: usize) -> u64 {
        self.text(arg).map_or_else(|| self.size(arg), |text| text.len() as u64)
    }

    fn size(&self, arg: usize) -> u64 {
        self.at(arg).map_or(0, |(values, row)| sizes::of_row(values, row))
    }

    /// A number of times; none of a negative one.
    fn count(&self, arg: usize) -> u64 {
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

    fn items(&self, arg: usize) -> u64 {
        self.at(arg).map_or(0, |(values, row)| sizes::items(values, row, 1) as u64)
    }

    /// The values in a list, and in the lists in it.
    fn leaves(&self, arg: usize) -> u64 {
        let Some((values, row)) = self.at(arg) else { return 0 };
        let mut depth = 0;
        let mut inner = values.data_type();
        while let DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) = inner {
            (depth, inner) = (depth + 1, item.data_type());
        }
        sizes::items(values, row, depth) as u64
    }

    fn hashed(&self) -> Price {
        let each = |at: usize| self.size(at).saturating_mul(3).saturating_add(self.leaves(at).saturating_mul(HASHED));
        Price::bytes((0..self.args.len()).map(each).fold(0, u64::saturating_add))
    }

    /// The pattern in the second argument on the text in the first. One that is the record's own is compiled for it.
    fn pattern(&self) -> Price {
        let own = self.states.map_or_else(|| self.text(1).map_or(0, pattern::states), |_| 0);
        let states = self.states.unwrap_or(own);
        Price { bytes: own.saturating_mul(STATE), steps: states.saturating_mul(self.len(0)).saturating_add(own.saturating_mul(STATE)) }
    }

    /// How many values there are from one to another.
    fn range(&self) -> u64 {
        let count = |from: i128, to: i128, step: i128| {
            let step = step.unsigned_abs().max(1);
            u64::try_from(from.abs_diff(to) / step + 1).unwrap_or(u64::MAX)
        };
        let step = self.at(2).and_then(|(values, row)| match values.data_type() {
            DataType::Interval(_) => {
                let step = values.as_primitive_opt::<IntervalMonthDayNanoType>()?.value(row);
                Some((i128::from(step.months) * DAYS_A_MONTH + i128::from(step.days)) * NANOS_A_DAY + i128::from(step.nanoseconds))
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

    /// A time as nanoseconds; one that is beyond them is as far as they go.
    fn nanos(&self, arg: usize) -> Option<i128> {
        let (values, row) = self.at(arg)?;
        if let DataType::Date32 = values.data_type() {
            let days = cast_one(values, row, &DataType::Int32)?;
            return Some(i128::from(days.as_primitive::<Int32Type>().value(0)) * NANOS_A_DAY);
        }
        let time = cast_one(values, row, &DataType::Timestamp(TimeUnit::Nanosecond, None));
        Some(time.map_or(i128::from(i64::MAX), |time| time.as_primitive::<TimestampNanosecondType>().value(0).into()))
    }
}

/// One value as another type, if it can be.
fn cast_one(values: &dyn Array, row: usize, to: &DataType) -> Option<ArrayRef> {
    let one = values.slice(row, 1);
    if one.data_type() == to {
        return Some(one);
    }
    cast(&one, to).ok().filter(|one| one.is_valid(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_function_that_can_be_called_has_a_class() {
        let state = super::super::state();
        let mut missing: Vec<&str> = state.scalar_functions().values().map(|function| function.name()).collect();
        missing.retain(|name| of(name).is_none());
        missing.sort_unstable();
        missing.dedup();
        assert_eq!(missing, [""; 0], "each needs a class, by what it makes of its arguments at most");
    }
}
