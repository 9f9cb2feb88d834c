//! The cost of calling each SQL function, estimated from the arguments before the call.
//!
//! Guarantees:
//! * Every function of DataFusion that is registered has a class ([`class_of`]); a test checks
//!   that. A call of another function is an error when the SQL is compiled.
//! * A cost is the sum over the rows of what each row's arguments cost.
//! * A cost is never less than what the function produces, apart from a constant factor of its
//!   arguments.
//!
//! Does not guarantee that a cost is exact.

use datafusion::arrow::datatypes::DataType;
use datafusion::error::Result;
use datafusion::logical_expr::ColumnarValue;

use super::cost::Cost;
use super::cost_arguments::{Arg, Row};
use super::regex_cost;
use super::value_cost::{SCALAR_TEXT_BYTES, bytes_of_cast, bytes_of_value};
use crate::transform::column_bytes;

/// A few bytes per row, for any function.
const FEW_BYTES: u64 = 64;
/// The size of the longest character.
const CHARACTER_BYTES: u64 = 4;
/// How many bytes a byte of a time format can become.
const TIME_FORMAT_FACTOR: u64 = 16;

/// How the cost of a call follows from its arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum CostClass {
    /// No cost: it returns parts of its arguments or a few bytes per row, in time proportional to
    /// the arguments.
    Free,
    /// Its result, charged afterwards: at most a few times its largest argument.
    Result,
    /// The sum of its arguments.
    Arguments,
    /// `repeat(text, n)`
    Repeat,
    /// `lpad(text, n, fill)`
    Pad,
    /// `replace(text, from, to)`
    Replace,
    /// `regexp_replace(text, pattern, to, flags)`
    PatternReplace,
    /// `regexp_match(text, pattern, …)` and similar functions.
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
    /// It hashes or sorts items.
    Hash,
    /// It compares each item of the first with each of the second.
    Pairs,
    /// `arrays_zip(array, …)`: as many items as the longest array.
    Zip,
    /// `levenshtein(a, b)`
    Levenshtein,
    /// `to_char(time, format)`
    TimeFormat,
    /// `arrow_cast(value, type)`
    Cast,
}

/// Returns the class of a function by its name; `None` for an unknown one.
pub(super) fn class_of(function: &str) -> Option<CostClass> {
    Some(match function {
        // Parts of the arguments, or a few bytes per row.
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
        | "with_metadata" => CostClass::Free,
        // Functions of numbers.
        "abs" | "acos" | "acosh" | "asin" | "asinh" | "atan" | "atan2" | "atanh" | "cbrt" | "ceil" | "cos" | "cosh" | "cot" | "degrees"
        | "exp" | "factorial" | "floor" | "gcd" | "iszero" | "lcm" | "ln" | "log" | "log10" | "log2" | "nanvl" | "pi" | "power"
        | "radians" | "round" | "signum" | "sin" | "sinh" | "sqrt" | "tan" | "tanh" | "trunc" => CostClass::Free,
        "array_any_value" | "array_compact" | "array_element" | "array_normalize" | "array_pop_back" | "array_pop_front"
        | "array_remove" | "array_remove_all" | "array_remove_n" | "array_reverse" | "array_scale" | "array_slice" | "array_subtract"
        | "array_add" | "array_positions" | "btrim" | "coalesce" | "decode" | "encode" | "flatten" | "greatest" | "initcap" | "least"
        | "left" | "lower" | "ltrim" | "map_entries" | "map_extract" | "map_keys" | "map_values" | "nullif" | "nvl" | "nvl2"
        | "reverse" | "right" | "rtrim" | "split_part" | "substr" | "substr_index" | "translate" | "upper" => CostClass::Result,
        "array_append" | "array_concat" | "array_prepend" | "concat" | "make_array" | "named_struct" | "overlay" | "struct" => {
            CostClass::Arguments
        }
        "repeat" => CostClass::Repeat,
        "lpad" | "rpad" => CostClass::Pad,
        "replace" => CostClass::Replace,
        "regexp_replace" => CostClass::PatternReplace,
        "regexp_count" | "regexp_instr" | "regexp_like" | "regexp_match" => CostClass::Pattern,
        "string_to_array" => CostClass::Split,
        "array_to_string" => CostClass::Join,
        "concat_ws" => CostClass::JoinTexts,
        "generate_series" | "range" => CostClass::Range,
        "array_repeat" => CostClass::ArrayRepeat,
        "array_resize" => CostClass::Resize,
        "array_replace" | "array_replace_all" | "array_replace_n" => CostClass::ArrayReplace,
        "array_distinct" | "array_except" | "array_intersect" | "array_sort" | "array_union" | "map" => CostClass::Hash,
        "array_has_all" | "array_has_any" => CostClass::Pairs,
        "arrays_zip" => CostClass::Zip,
        "levenshtein" => CostClass::Levenshtein,
        "to_char" => CostClass::TimeFormat,
        "arrow_cast" | "arrow_try_cast" | "cast_to_type" | "try_cast_to_type" => CostClass::Cast,
        _ => return None,
    })
}

impl CostClass {
    /// Returns the cost of a call on `rows` rows that returns values of type `result`.
    pub(super) fn cost(self, args: &[ColumnarValue], rows: usize, result: &DataType) -> Result<Cost> {
        // With constant arguments the function is called once, even when there are no rows.
        let rows = if args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_))) { rows.max(1) } else { rows };
        match self {
            Self::Free | Self::Result => Ok(Cost::default()),
            Self::Arguments => {
                let sizes = args.iter().map(|arg| bytes_of_value(arg, rows));
                Ok(Cost::bytes(sizes.sum::<Result<u64>>()?))
            }
            Self::Cast => args.first().map_or(Ok(Cost::default()), |arg| Ok(Cost::bytes(bytes_of_cast(arg, rows, result)?))),
            // The common case, fast: the separator is a constant, and no argument is a list.
            Self::JoinTexts if matches!(args, [ColumnarValue::Scalar(_), texts @ ..] if !texts.iter().any(|text| text.data_type().is_nested())) =>
            {
                let texts = args[1..].iter().map(|text| bytes_of_value(text, rows)).sum::<Result<u64>>()?;
                Ok(Cost::bytes(texts.saturating_add(bytes_of_value(&args[0], rows)?.saturating_mul(args.len() as u64))))
            }
            each => {
                let args = args.iter().map(Arg::new).collect::<Result<Vec<_>>>()?;
                let states = args.get(1).filter(|arg| arg.constant).and_then(|arg| arg.text(0)).map(regex_cost::states);
                let sum = |sum: Cost, row| sum.and(each.of_row(&Row { args: &args, row, states }, result));
                Ok((0..rows).fold(Cost::default(), sum))
            }
        }
    }

    fn of_row(self, row: &Row<'_>, result: &DataType) -> Cost {
        match self {
            Self::Free | Self::Result | Self::Arguments | Self::Cast => Cost::default(),
            Self::Repeat => Cost::bytes(row.len(0).saturating_mul(row.count(1))),
            Self::Pad => Cost::bytes(row.len(0).saturating_add(row.count(1).saturating_mul(row.len(2).max(CHARACTER_BYTES)))),
            Self::Replace => {
                let matches = row.len(0) / row.len(1).max(1) + 1;
                Cost::bytes(row.len(0).saturating_add(matches.saturating_mul(row.len(2))))
            }
            Self::PatternReplace => {
                let (text, to, all) = (row.len(0), row.text(2).unwrap_or_default(), row.text(3).is_some_and(|flags| flags.contains('g')));
                let matches = if all { text + 1 } else { 1 };
                let groups = to.bytes().filter(|byte| matches!(byte, b'$' | b'\\')).count() as u64;
                let bytes = matches.saturating_mul(to.len() as u64).saturating_add(text.saturating_mul(groups + 1));
                Cost::bytes(bytes).and(row.pattern())
            }
            Self::Pattern => {
                let groups = row.text(1).map_or(0, |pattern| pattern.bytes().filter(|byte| *byte == b'(').count() as u64);
                let captured = if matches!(result, DataType::List(_)) { row.len(0).saturating_mul(groups + 1) } else { 0 };
                Cost::bytes(captured).and(row.pattern())
            }
            Self::Split => {
                let items = row.text(1).map_or(row.len(0), |separator| row.len(0) / (separator.len() as u64).max(1)) + 1;
                let each = match result {
                    DataType::List(item) | DataType::LargeList(item) if *item.data_type() == DataType::Utf8View => 16,
                    _ => 8,
                };
                Cost::bytes(row.len(0).saturating_add(items.saturating_mul(each)))
            }
            Self::Join => {
                let items = row.leaves(0).saturating_mul(row.len(1) + row.len(2) + SCALAR_TEXT_BYTES);
                Cost::bytes(row.size(0).saturating_add(items))
            }
            Self::JoinTexts => {
                let texts = (1..row.args.len()).fold(0_u64, |sum, at| sum.saturating_add(row.size(at)).saturating_add(row.len(0)));
                let items = (1..row.args.len()).fold(0_u64, |sum, at| sum.saturating_add(row.leaves(at)));
                Cost::bytes(texts.saturating_add(items.saturating_mul(row.len(0))))
            }
            Self::Range => Cost::bytes(row.range().saturating_mul(8)),
            Self::ArrayRepeat => Cost::bytes(row.count(1).saturating_mul(row.size(0).saturating_add(4))),
            Self::Resize => {
                let null = match row.args.first().map(|arg| arg.values.data_type()) {
                    Some(DataType::List(item) | DataType::LargeList(item)) => column_bytes::of_null(item.data_type()),
                    _ => 0,
                };
                let each = null.max(row.size(2));
                Cost::bytes(row.size(0).saturating_add(row.count(1).saturating_mul(each)))
            }
            Self::ArrayReplace => Cost::bytes(row.size(0).saturating_add(row.items(0).saturating_mul(row.size(2)))),
            Self::Hash => row.hashed(),
            Self::Pairs => row.hashed().and(Cost { bytes: 0, steps: row.leaves(0).saturating_mul(row.leaves(1)) }),
            Self::Zip => {
                let all = 0..row.args.len();
                let longest = all.clone().map(|at| row.items(at)).max().unwrap_or(0);
                let null = |at: usize| match row.args[at].values.data_type() {
                    DataType::List(item) | DataType::LargeList(item) => column_bytes::of_null(item.data_type()),
                    _ => 0,
                };
                let bytes = all.map(|at| row.size(at).saturating_add(longest.saturating_mul(null(at))));
                Cost::bytes(bytes.fold(0, u64::saturating_add))
            }
            // The characters, and a row of the table of distances.
            Self::Levenshtein => {
                Cost { bytes: row.len(0).saturating_add(row.len(1)).saturating_mul(8), steps: row.len(0).saturating_mul(row.len(1)) }
            }
            Self::TimeFormat => Cost::bytes(row.len(1).saturating_mul(TIME_FORMAT_FACTOR).saturating_add(FEW_BYTES)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_registered_function_has_a_class() {
        let state = super::super::state();
        let mut missing: Vec<&str> = state.scalar_functions().values().map(|function| function.name()).collect();
        missing.retain(|name| class_of(name).is_none());
        missing.sort_unstable();
        missing.dedup();
        assert_eq!(missing, [""; 0], "each needs a class that covers what it can produce");
    }
}
