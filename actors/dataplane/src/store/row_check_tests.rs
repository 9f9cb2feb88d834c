use std::path::Path;
use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, Float64Array, Int64Array, ListArray, RecordBatch, StringArray, StructArray, TimestampMicrosecondArray,
    TimestampSecondArray, UInt64Array,
};
use datafusion::arrow::datatypes::{DataType, Field, Float64Type, Int64Type, Schema, TimeUnit};

use super::super::values::{Value, convert};
use super::{Refusal, RowSet};
use crate::store::fixtures::{WRITER, every_type, pipeline, rows};
use crate::store::{CqlType, TableSpec};

/// The refusals for these values in a table with the key `id` and one more column of type `cql`.
fn refusals(cql: &str, values: ArrayRef) -> Vec<(u32, String)> {
    let ids: Vec<String> = (0..values.len()).map(|row| row.to_string()).collect();
    check("id = \"text\"", Arc::new(StringArray::from(ids)), Some((cql, values)))
}

fn check(key: &str, ids: ArrayRef, column: Option<(&str, ArrayRef)>) -> Vec<(u32, String)> {
    let mut fields = vec![Field::new("id", ids.data_type().clone(), true)];
    let mut types = key.to_owned();
    let rows = ids.len();
    let mut arrays = vec![ids];
    if let Some((cql, values)) = column {
        fields.push(Field::new("v", values.data_type().clone(), true));
        types.push_str(&format!(", v = \"{cql}\""));
        arrays.push(values);
    }
    let schema = Schema::new(fields);
    let writer = format!("table = \"t\"\nprimary_key = [\"id\"]\ncolumns = {{ {types} }}");
    let spec = TableSpec::plan(&pipeline(Path::new("f.toml"), "\"embedded\"", "k", &writer), &schema).unwrap();
    let batch = RecordBatch::try_new(Arc::new(schema), arrays).unwrap();
    let (fit, refusals) = RowSet::check(&spec, &batch, &(0..).take(rows).collect::<Vec<_>>()).unwrap();
    assert_eq!(fit.len() + refusals.len(), rows);
    assert!(refusals.iter().all(|refusal| !fit.rows().contains(&refusal.row)));
    refusals.into_iter().map(|Refusal { row, reason }| (row, reason.full().to_owned())).collect()
}

#[test]
fn rows_of_every_type_fit() {
    let spec = TableSpec::plan(&pipeline(Path::new("f.toml"), "\"embedded\"", "k", WRITER), &every_type()).unwrap();
    let (fit, refusals) = RowSet::check(&spec, &rows(), &[1, 2]).unwrap();
    assert_eq!((fit.rows(), refusals.len()), (&[0, 1][..], 0));
    assert_eq!(fit.only(vec![1]).rows(), [1]);
}

#[test]
fn a_text_that_is_not_a_uuid_refuses_only_its_row() {
    let ids = StringArray::from(vec![Some("d2177dd0-eaa2-11de-a572-001b779c76e3"), Some("not-a-uuid"), None]);
    let refused = refusals("uuid", Arc::new(ids));
    assert_eq!(refused, [(1, "column v: \"not-a-uuid\" is not a valid uuid".to_owned())]);
}

#[test]
fn a_uuid_of_another_version_is_not_a_timeuuid() {
    let ids = StringArray::from(vec!["d2177dd0-eaa2-11de-a572-001b779c76e3", "0b3c7a52-1d0a-4c9e-8f39-1c26c9b9a001"]);
    let refused = refusals("timeuuid", Arc::new(ids));
    assert!(refused.len() == 1 && refused[0].1.contains("version 4"), "{refused:?}");
}

#[test]
fn a_number_out_of_range_of_its_column_refuses_its_row() {
    let refused = refusals("int", Arc::new(Int64Array::from(vec![1, 3_000_000_000])));
    assert_eq!(refused, [(1, "column v: \"3000000000\" is not a valid int".to_owned())]);
    assert_eq!(refusals("bigint", Arc::new(UInt64Array::from(vec![u64::MAX])))[0].0, 0);
}

#[test]
fn an_invalid_or_out_of_range_timestamp_refuses_its_row() {
    let times = StringArray::from(vec!["2024-02-29T12:00:00Z", "2024-02-30T12:00:00Z", "yesterday"]);
    assert_eq!(refusals("timestamp", Arc::new(times)).iter().map(|(row, _)| *row).collect::<Vec<_>>(), [1, 2]);
    let seconds = TimestampSecondArray::from(vec![0, i64::MAX]);
    assert_eq!(seconds.data_type(), &DataType::Timestamp(TimeUnit::Second, None));
    assert_eq!(refusals("timestamp", Arc::new(seconds))[0].0, 1);
}

#[test]
fn a_double_too_large_for_a_float_refuses_its_row() {
    let refused = refusals("float", Arc::new(Float64Array::from(vec![Some(0.1), Some(1e39), None, Some(-1e300)])));
    assert_eq!(refused.iter().map(|(row, _)| *row).collect::<Vec<_>>(), [1, 3]);
    assert!(refused[0].1.contains("is not a valid float"), "{refused:?}");
}

#[test]
fn a_decimal_from_text_keeps_its_digits_and_its_scale() {
    let digits = "12345678901234567890123456789012345.678";
    let texts = StringArray::from(vec![Some(digits), Some("-1.10"), Some("1e-7"), None, Some("12,5"), Some(&"9".repeat(39))]);
    let (cells, misfits) = convert(&(Arc::new(texts) as ArrayRef), &CqlType::Decimal).unwrap();
    let decimal = |row| match cells.value(row) {
        Value::Decimal { unscaled, scale } => Some((unscaled, scale)),
        _ => None,
    };
    let unscaled = 12_345_678_901_234_567_890_123_456_789_012_345_678;
    assert_eq!((0..4).map(decimal).collect::<Vec<_>>(), [Some((unscaled, 3)), Some((-110, 2)), Some((1, 7)), None]);
    let reasons: Vec<_> = misfits.iter().map(|(row, why)| (*row, why.full())).collect();
    assert_eq!(reasons[0], (4, "\"12,5\" is not a valid decimal"));
    assert!(reasons[1].0 == 5 && reasons[1].1.ends_with("has more than 38 digits"), "{reasons:?}");
}

#[test]
fn a_timestamp_before_1970_is_rounded_down() {
    let times = TimestampMicrosecondArray::from(vec![-1, -1_000, -1_500, 1_500]);
    let (cells, _) = convert(&(Arc::new(times) as ArrayRef), &CqlType::Timestamp).unwrap();
    let millis = |row| match cells.value(row) {
        Value::Timestamp(at) => at,
        _ => i64::MIN,
    };
    assert_eq!((0..4).map(millis).collect::<Vec<_>>(), [-1, -1, -2, 1]);
}

#[test]
fn columns_narrower_than_the_select_are_reported() {
    let field = |name: &str, kind: DataType| Field::new(name, kind, true);
    let schema = Schema::new(vec![
        field("id", DataType::Utf8),
        field("a", DataType::Int64),
        field("b", DataType::Int64),
        field("c", DataType::Float64),
        field("d", DataType::Float64),
        field("e", DataType::Int16),
    ]);
    let writer = "table = \"t\"\nprimary_key = [\"id\"]\ncolumns = { a = \"int\", c = \"float\", e = \"bigint\" }";
    let spec = TableSpec::plan(&pipeline(Path::new("f.toml"), "\"embedded\"", "k", writer), &schema).unwrap();
    assert_eq!(spec.losses().map(|(column, _)| column.name.as_str()).collect::<Vec<_>>(), ["a", "c"]);
}

#[test]
fn non_ascii_text_refuses_its_row() {
    let refused = refusals("ascii", Arc::new(StringArray::from(vec!["ok", "größe"])));
    assert_eq!(refused, [(1, "column v: \"größe\" is not ascii".to_owned())]);
}

#[test]
fn a_list_with_a_null_in_it_refuses_its_row() {
    let lists = vec![Some(vec![Some(1)]), None, Some(vec![]), Some(vec![Some(1), None])];
    let refused = refusals("frozen<list<bigint>>", Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>(lists)));
    assert_eq!(refused, [(3, "column v: a list can't contain null in Cassandra".to_owned())]);
}

#[test]
fn a_list_element_that_does_not_fit_refuses_its_row() {
    let lists = vec![Some(vec![Some(1)]), Some(vec![]), Some(vec![Some(2), Some(3_000_000_000)])];
    let refused = refusals("frozen<list<int>>", Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>(lists)));
    assert_eq!(refused, [(2, "column v: list element: \"3000000000\" is not a valid int".to_owned())]);
}

#[test]
fn text_that_is_not_a_value_of_its_type_refuses_its_row() {
    let texts = |values: &[&str]| Arc::new(StringArray::from(values.to_vec())) as ArrayRef;
    let long = "9".repeat(1_001);
    for (cql, good, bad) in [
        ("varint", "-123456789012345678901234567890123456789", "1.5"),
        ("varint", &long[1..], &long),
        ("time", "23:59:59.999999999", "24:00:00"),
        ("inet", "10.0.0.1", "10.0.0.256"),
        ("inet", "::1", "localhost"),
        ("duration", "P1Y2M", "1 year"),
    ] {
        let refused = refusals(cql, texts(&[good, bad]));
        assert!(refused.len() == 1 && refused[0].0 == 1 && refused[0].1.ends_with(&format!("is not a valid {cql}")), "{refused:?}");
    }
}

#[test]
fn a_vector_of_another_length_refuses_its_row() {
    let lists =
        vec![Some(vec![Some(1.0), Some(2.0)]), Some(vec![Some(1.0)]), None, Some(vec![Some(1.0), None]), Some(vec![Some(1e39), Some(1.0)])];
    let refused = refusals("vector<float, 2>", Arc::new(ListArray::from_iter_primitive::<Float64Type, _, _>(lists)));
    assert_eq!(refused[0], (1, "column v: 1 numbers for a vector of 2".to_owned()));
    assert_eq!(refused.iter().map(|(row, _)| *row).collect::<Vec<_>>(), [1, 3, 4]);
}

#[test]
fn a_value_in_an_object_that_does_not_fit_refuses_its_row_and_names_the_field() {
    let numbers = Arc::new(Int64Array::from(vec![Some(1), Some(3_000_000_000), None])) as ArrayRef;
    let objects = StructArray::new(vec![Field::new("n", DataType::Int64, true)].into(), vec![numbers], None);
    let refused = refusals("frozen<tuple<int>>", Arc::new(objects));
    assert_eq!(refused, [(1, "column v: n: \"3000000000\" is not a valid int".to_owned())]);
}

#[test]
fn nan_is_a_valid_value_but_not_a_valid_key() {
    assert!(refusals("double", Arc::new(Float64Array::from(vec![f64::NAN, f64::INFINITY]))).is_empty());
    let refused = check("id = \"double\"", Arc::new(Float64Array::from(vec![f64::NAN])), None);
    assert_eq!(refused, [(0, "column id: not a number in the partition key".to_owned())]);
}

#[test]
fn a_key_that_is_null_empty_or_too_long_refuses_its_row() {
    let long = "x".repeat(65_536);
    let refused = check("id = \"text\"", Arc::new(StringArray::from(vec![None, Some(""), Some(&long), Some(&long[1..])])), None);
    assert_eq!(refused.iter().map(|(row, _)| *row).collect::<Vec<_>>(), [0, 1, 2]);
    assert_eq!(refused[0].1, "column id: null in the partition key");
    assert_eq!(refused[1].1, "column id: empty text as the partition key");
    assert!(refused[2].1.len() < 200 && refused[2].1.contains("65536 bytes"), "{}", refused[2].1);
}

#[test]
fn a_time_to_live_out_of_range_refuses_its_row_and_null_is_the_tables_own() {
    let fields = vec![Field::new("keep", DataType::Int64, true), Field::new("id", DataType::Utf8, true)];
    let schema = Schema::new(fields);
    let file =
        pipeline(Path::new("f.toml"), "[\"127.0.0.1:9\"]", "k", "table = \"t\"\nprimary_key = [\"id\"]\nttl = { column = \"keep\" }");
    let spec = TableSpec::plan(&file, &schema).unwrap();
    let keep = Int64Array::from(vec![Some(60), None, Some(0), Some(-1), Some(630_720_001), Some(1 << 40)]);
    let ids: StringArray = ["a", "b", "c", "d", "e", "f"].into_iter().map(Some).collect();
    let batch = RecordBatch::try_new(Arc::new(schema), vec![Arc::new(keep), Arc::new(ids)]).unwrap();
    let (fit, refusals) = RowSet::check(&spec, &batch, &[1, 2, 3, 4, 5, 6]).unwrap();
    let seconds = |row| match fit.ttl(row) {
        Some(Value::Int(seconds)) => Some(seconds),
        Some(Value::Unset) => None,
        _ => Some(i32::MIN),
    };
    assert_eq!(fit.rows().iter().map(|&row| seconds(row)).collect::<Vec<_>>(), [Some(60), None, Some(0)]);
    let refused: Vec<_> = refusals.iter().map(|refusal| (refusal.row, refusal.reason.full())).collect();
    assert_eq!(
        refused,
        [
            (3, "column keep: -1 is not a time to live of 0 to 630720000 seconds"),
            (4, "column keep: 630720001 is not a time to live of 0 to 630720000 seconds"),
            (5, "column keep: \"1099511627776\" is not a valid int"),
        ]
    );
    let spec = TableSpec { ttl: None, ..spec };
    assert!(RowSet::check(&spec, &batch, &[1, 2, 3, 4, 5, 6]).is_err(), "its column is one more than planned");
}

#[test]
fn an_empty_text_is_valid_in_a_partition_key_of_several_columns() {
    let texts = |values: Vec<Option<&str>>| Arc::new(StringArray::from(values)) as ArrayRef;
    let schema = Schema::new(vec![Field::new("a", DataType::Utf8, true), Field::new("b", DataType::Utf8, true)]);
    let file = pipeline(Path::new("f.toml"), "\"embedded\"", "k", "table = \"t\"\nprimary_key = [[\"a\", \"b\"]]");
    let spec = TableSpec::plan(&file, &schema).unwrap();
    let columns = vec![texts(vec![Some(""), Some("x")]), texts(vec![Some("x"), None])];
    let (_, refusals) = RowSet::check(&spec, &RecordBatch::try_new(Arc::new(schema), columns).unwrap(), &[1, 2]).unwrap();
    let refused: Vec<_> = refusals.iter().map(|refusal| (refusal.row, refusal.reason.full())).collect();
    assert_eq!(refused, [(1, "column b: null in the partition key")]);
}

#[test]
fn a_masked_reason_names_the_column_and_quotes_no_value() {
    let masked = |cql: &str, values: ArrayRef| {
        let schema = Schema::new(vec![Field::new("id", values.data_type().clone(), true)]);
        let writer = format!("table = \"t\"\nprimary_key = [\"id\"]\ncolumns = {{ id = \"{cql}\" }}");
        let spec = TableSpec::plan(&pipeline(Path::new("f.toml"), "\"embedded\"", "k", &writer), &schema).unwrap();
        let (_, refusals) = RowSet::check(&spec, &RecordBatch::try_new(Arc::new(schema), vec![values]).unwrap(), &[0]).unwrap();
        refusals[0].reason.masked().to_owned()
    };
    let text = |value: &str| Arc::new(StringArray::from(vec![value])) as ArrayRef;
    assert_eq!(masked("uuid", text("secret")), "column id: *** is not a valid uuid");
    assert_eq!(masked("timeuuid", text("0b3c7a52-1d0a-4c9e-8f39-1c26c9b9a001")), "column id: *** is not a valid timeuuid");
    assert_eq!(masked("ascii", text("größe")), "column id: *** is not ascii");
    assert_eq!(masked("int", Arc::new(Int64Array::from(vec![3_000_000_000]))), "column id: *** is not a valid int");
    let long = masked("text", text(&"secret".repeat(20_000)));
    assert_eq!(long, "column id: *** of 120000 bytes is longer than the 65535 that a partition key may have");
}

#[test]
fn a_batch_that_does_not_match_the_plan_is_an_error() {
    let spec = TableSpec::plan(&pipeline(Path::new("f.toml"), "\"embedded\"", "k", WRITER), &every_type()).unwrap();
    assert!(RowSet::check(&spec, &rows(), &[1]).is_err());
}

#[test]
fn only_the_last_row_of_a_record_with_the_same_key_is_written() {
    let writer = "table = \"t\"\nprimary_key = [\"id\", \"seq\"]";
    let fields = vec![Field::new("id", DataType::Utf8, false), Field::new("seq", DataType::Int64, false)];
    let schema = Arc::new(Schema::new(fields));
    let spec = TableSpec::plan(&pipeline(Path::new("f.toml"), "\"embedded\"", "k", writer), &schema).unwrap();
    let fit = |rows: &[(&str, i64, i64)]| {
        let ids: StringArray = rows.iter().map(|(id, ..)| Some(*id)).collect();
        let seqs: Int64Array = rows.iter().map(|&(_, seq, _)| Some(seq)).collect();
        let batch = RecordBatch::try_new(Arc::clone(&schema), vec![Arc::new(ids), Arc::new(seqs)]).unwrap();
        let (fit, refused) = RowSet::check(&spec, &batch, &rows.iter().map(|&(.., ts)| ts).collect::<Vec<_>>()).unwrap();
        assert_eq!(refused.iter().map(|refusal| refusal.row).collect::<Vec<_>>(), [] as [u32; 0]);
        fit.rows().to_vec()
    };
    assert_eq!(fit(&[("a", 1, 16), ("a", 2, 16), ("a", 1, 16), ("b", 1, 16)]), [1, 2, 3]);
    assert_eq!(fit(&[("a", 1, 16), ("a", 1, 32), ("a", 1, 48)]), [0, 1, 2], "rows of different records have their own timestamps");
    assert_eq!(fit(&[("a", 1, 16), ("a", 1, 16), ("a", 1, 32), ("a", 1, 32)]), [1, 3]);
}
