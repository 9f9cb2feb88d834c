//! The size of the values in Arrow columns, in bytes.
//!
//! Guarantees:
//! * The size of an array is the sum of the sizes of its rows.
//! * The size of a row depends on its value alone. So the slices of an array add up to the array,
//!   however it is cut and whatever else its buffers hold.
//!
//! Does not guarantee to count what an allocator uses in addition.

use datafusion::arrow::array::{Array, AsArray, OffsetSizeTrait, RecordBatch};
use datafusion::arrow::buffer::OffsetBuffer;
use datafusion::arrow::datatypes::DataType;

/// The fixed part of a value whose type does not give its size.
const UNKNOWN_WIDTH: u64 = 16;

/// Returns the size of the values of all columns of a batch, in bytes.
pub fn of_batch(batch: &RecordBatch) -> u64 {
    batch.columns().iter().map(|column| of_array(column)).sum()
}

/// Returns the size of all rows of an array.
pub(super) fn of_array(array: &dyn Array) -> u64 {
    of_rows(array, 0, array.len())
}

/// Returns the size of one row of an array.
pub(super) fn of_row(array: &dyn Array, row: usize) -> u64 {
    of_rows(array, row, row + 1)
}

/// Returns the size of the rows `from..to` of an array.
fn of_rows(array: &dyn Array, from: usize, to: usize) -> u64 {
    let rows = (to - from) as u64;
    match array.data_type() {
        DataType::Utf8 => text(array.as_string::<i32>().offsets(), from, to) + 4 * rows,
        DataType::Binary => text(array.as_binary::<i32>().offsets(), from, to) + 4 * rows,
        DataType::LargeUtf8 => text(array.as_string::<i64>().offsets(), from, to) + 8 * rows,
        DataType::LargeBinary => text(array.as_binary::<i64>().offsets(), from, to) + 8 * rows,
        DataType::Utf8View => views(array.as_string_view().views(), from, to),
        DataType::BinaryView => views(array.as_binary_view().views(), from, to),
        DataType::List(_) => list(array.as_list::<i32>().offsets(), array.as_list::<i32>().values(), from, to) + 4 * rows,
        DataType::LargeList(_) => list(array.as_list::<i64>().offsets(), array.as_list::<i64>().values(), from, to) + 8 * rows,
        DataType::Map(..) => list(array.as_map().offsets(), array.as_map().entries(), from, to) + 4 * rows,
        DataType::FixedSizeList(_, width) => {
            let (list, width) = (array.as_fixed_size_list(), usize::try_from(*width).unwrap_or(0));
            let start = usize::try_from(list.value_offset(0)).unwrap_or(0);
            of_rows(list.values(), start + from * width, start + to * width)
        }
        DataType::Struct(_) => array.as_struct().columns().iter().map(|column| of_rows(column, from, to)).sum(),
        DataType::Dictionary(..) => {
            let dictionary = array.as_any_dictionary();
            let keys = dictionary.normalized_keys();
            let value = |row: usize| if array.is_null(row) { 0 } else { of_row(dictionary.values(), keys[row]) };
            (from..to).map(value).sum::<u64>() + 4 * rows
        }
        other => rows * of_null(other),
    }
}

/// Returns the size of a NULL of this type; for a type of fixed width, that of any value.
pub(super) fn of_null(data_type: &DataType) -> u64 {
    match data_type {
        DataType::Null => 0,
        DataType::Boolean => 1,
        DataType::Utf8 | DataType::Binary | DataType::List(_) | DataType::Map(..) | DataType::Dictionary(..) => 4,
        DataType::LargeUtf8 | DataType::LargeBinary | DataType::LargeList(_) => 8,
        DataType::FixedSizeBinary(width) => u64::try_from(*width).unwrap_or(0),
        DataType::FixedSizeList(item, width) => of_null(item.data_type()).saturating_mul(u64::try_from(*width).unwrap_or(0)),
        DataType::Struct(fields) => fields.iter().map(|field| of_null(field.data_type())).sum(),
        other => other.primitive_width().map_or(UNKNOWN_WIDTH, |width| width as u64),
    }
}

/// Returns whether values of this type differ in size.
pub(super) fn is_variable_width(data_type: &DataType) -> bool {
    !(data_type.is_primitive() || matches!(data_type, DataType::Null | DataType::Boolean))
}

/// Counts the items of the list in a row, `depth` levels down: 1 counts the items of the list
/// itself, 2 those of the lists in it. NULL has no items. A value that is no list counts as 1.
pub(super) fn count_items(array: &dyn Array, row: usize, depth: usize) -> usize {
    if depth == 0 {
        return 1;
    }
    let (range, values): (_, &dyn Array) = match array.data_type() {
        DataType::List(_) => (range(array.as_list::<i32>().offsets(), row, row + 1), array.as_list::<i32>().values()),
        DataType::LargeList(_) => (range(array.as_list::<i64>().offsets(), row, row + 1), array.as_list::<i64>().values()),
        DataType::Map(..) => (range(array.as_map().offsets(), row, row + 1), array.as_map().entries()),
        DataType::FixedSizeList(_, width) => {
            let width = usize::try_from(*width).unwrap_or(0);
            let start = usize::try_from(array.as_fixed_size_list().value_offset(row)).unwrap_or(0);
            (start..start + width, array.as_fixed_size_list().values())
        }
        _ => return 1,
    };
    if array.is_null(row) {
        return 0;
    }
    if depth == 1 { range.len() } else { range.map(|row| count_items(values, row, depth - 1)).sum() }
}

fn range<O: OffsetSizeTrait>(offsets: &OffsetBuffer<O>, from: usize, to: usize) -> std::ops::Range<usize> {
    offsets[from].as_usize()..offsets[to].as_usize()
}

fn text<O: OffsetSizeTrait>(offsets: &OffsetBuffer<O>, from: usize, to: usize) -> u64 {
    range(offsets, from, to).len() as u64
}

/// The lower 32 bits of a view are the length of its value.
fn views(views: &[u128], from: usize, to: usize) -> u64 {
    let length = |view: &u128| u64::try_from(view & u128::from(u32::MAX)).unwrap_or(0);
    views[from..to].iter().map(length).sum::<u64>() + 16 * (to - from) as u64
}

fn list<O: OffsetSizeTrait>(offsets: &OffsetBuffer<O>, values: &dyn Array, from: usize, to: usize) -> u64 {
    let items = range(offsets, from, to);
    of_rows(values, items.start, items.end)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_json::ReaderBuilder;
    use datafusion::arrow::datatypes::{Field, Fields, Schema};
    use proptest::prelude::*;

    use super::*;

    /// Columns of all types that vary in size.
    fn batch(texts: &[Option<Vec<String>>]) -> RecordBatch {
        let item = Arc::new(Field::new("item", DataType::Utf8, true));
        let inner: Fields = vec![Field::new("n", DataType::Int64, true), Field::new("list", DataType::List(item.clone()), true)].into();
        let objects = Arc::new(Field::new("item", DataType::Struct(inner), true));
        let schema = Arc::new(Schema::new(vec![
            Field::new("texts", DataType::List(item), true),
            Field::new("objects", DataType::LargeList(objects), true),
            Field::new("view", DataType::Utf8View, true),
            Field::new("truth", DataType::Boolean, true),
        ]));
        let mut reader = ReaderBuilder::new(schema).build_decoder().unwrap();
        let row = |texts: &Option<Vec<String>>| {
            let objects: Option<Vec<_>> =
                texts.as_ref().map(|texts| texts.iter().map(|text| serde_json::json!({"n": 1, "list": [text, "x"]})).collect());
            serde_json::json!({"texts": texts, "objects": objects, "view": texts.as_ref().map(|texts| texts.concat()), "truth": true})
        };
        reader.serialize(&texts.iter().map(row).collect::<Vec<_>>()).unwrap();
        reader.flush().unwrap().unwrap()
    }

    proptest! {
        #[test]
        fn the_sizes_of_slices_add_up_wherever_an_array_is_cut(
            texts in proptest::collection::vec(proptest::option::of(proptest::collection::vec("[a-z]{0,20}", 0..4)), 1..12),
            at in 0_usize..12,
        ) {
            let batch = batch(&texts);
            let at = at.min(batch.num_rows());
            let (first, second) = (batch.slice(0, at), batch.slice(at, batch.num_rows() - at));
            prop_assert_eq!(of_batch(&first) + of_batch(&second), of_batch(&batch));
            for column in second.columns() {
                let rows: u64 = (0..column.len()).map(|row| of_row(column, row)).sum();
                prop_assert_eq!(rows, of_array(column));
            }
        }
    }

    #[test]
    fn items_are_counted_down_to_a_depth() {
        let batch = batch(&[Some(vec!["a".into(), "b".into(), "c".into()]), None, Some(vec![])]);
        let count =
            |row| (count_items(batch.column(0), row, 1), count_items(batch.column(1), row, 1), count_items(batch.column(2), row, 1));
        assert_eq!([count(0), count(1), count(2)], [(3, 3, 1), (0, 0, 1), (0, 0, 1)]);
    }
}
