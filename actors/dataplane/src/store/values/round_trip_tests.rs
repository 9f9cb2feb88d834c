//! Values of every type, from JSON to Arrow to the bytes of CQL and back with the driver's own
//! decoder.

use std::sync::Arc;

use bytes::Bytes;
use datafusion::arrow::array::{ArrayRef, RecordBatch};
use datafusion::arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use proptest::prelude::*;
use scylla::cluster::metadata::{CollectionType, ColumnType, NativeType, UserDefinedType};
use scylla::deserialize::FrameSlice;
use scylla::deserialize::value::DeserializeValue;
use scylla::value::CqlValue;
use serde_json::{Value as Json, json};

use super::{Value, convert};
use crate::cql_type::{CqlType, UserType, Whole};
use crate::store::cassandra::query_json;
use crate::store::cql_encoding::append_value;
use crate::store::embedded::plain;

/// The driver's name of a type.
fn column_type(cql: &CqlType) -> ColumnType<'static> {
    let native = ColumnType::Native;
    let collection = |whole: Whole, typ| ColumnType::Collection { frozen: whole == Whole::Frozen, typ };
    match cql {
        CqlType::Ascii => native(NativeType::Ascii),
        CqlType::Bigint => native(NativeType::BigInt),
        CqlType::Blob => native(NativeType::Blob),
        CqlType::Boolean => native(NativeType::Boolean),
        CqlType::Date => native(NativeType::Date),
        CqlType::Decimal => native(NativeType::Decimal),
        CqlType::Double => native(NativeType::Double),
        CqlType::Duration => native(NativeType::Duration),
        CqlType::Float => native(NativeType::Float),
        CqlType::Inet => native(NativeType::Inet),
        CqlType::Int => native(NativeType::Int),
        CqlType::Smallint => native(NativeType::SmallInt),
        CqlType::Text => native(NativeType::Text),
        CqlType::Time => native(NativeType::Time),
        CqlType::Timestamp => native(NativeType::Timestamp),
        CqlType::Timeuuid => native(NativeType::Timeuuid),
        CqlType::Tinyint => native(NativeType::TinyInt),
        CqlType::Uuid => native(NativeType::Uuid),
        CqlType::Varint => native(NativeType::Varint),
        CqlType::List(element) => collection(Whole::Frozen, CollectionType::List(Box::new(column_type(element)))),
        CqlType::Set(whole, element) => collection(*whole, CollectionType::Set(Box::new(column_type(element)))),
        CqlType::Map(whole, pair) => {
            collection(*whole, CollectionType::Map(Box::new(column_type(&pair.0)), Box::new(column_type(&pair.1))))
        }
        CqlType::Tuple(parts) => ColumnType::Tuple(parts.iter().map(column_type).collect()),
        CqlType::Vector(length) => ColumnType::Vector { typ: Box::new(native(NativeType::Float)), dimensions: *length },
        CqlType::User(user) => {
            let fields = user.fields.iter().flatten().map(|(name, cql)| (name.clone().into(), column_type(cql))).collect();
            let definition = Arc::new(UserDefinedType { name: user.name.clone().into(), keyspace: "k".into(), field_types: fields });
            ColumnType::UserDefinedType { frozen: true, definition }
        }
    }
}

/// A type, the type of the SQL's column, and values of it: each as the record has it, and as both
/// stores return it.
#[derive(Debug, Clone)]
struct Case {
    cql: CqlType,
    arrow: DataType,
    values: Vec<(Json, Json)>,
}

fn case(cql: CqlType, arrow: DataType, values: Vec<(Json, Json)>) -> Case {
    Case { cql, arrow, values }
}

/// A type without parts and some of its values.
fn simple() -> impl Strategy<Value = Case> {
    let of = |cql: CqlType, arrow: DataType, value: BoxedStrategy<(Json, Json)>| {
        prop::collection::vec(value, 3).prop_map(move |values| case(cql.clone(), arrow.clone(), values)).boxed()
    };
    let same = |json: Json| (json.clone(), json);
    prop_oneof![
        of(CqlType::Text, DataType::Utf8, "\\PC{0,6}".prop_map(move |text| same(json!(text))).boxed()),
        of(CqlType::Bigint, DataType::Int64, any::<i64>().prop_map(move |n| same(json!(n))).boxed()),
        of(CqlType::Int, DataType::Int64, any::<i32>().prop_map(move |n| same(json!(n))).boxed()),
        of(CqlType::Boolean, DataType::Boolean, any::<bool>().prop_map(move |b| same(json!(b))).boxed()),
        of(CqlType::Double, DataType::Float64, (-1e9..1e9).prop_map(move |n: f64| same(json!(n))).boxed()),
        of(CqlType::Varint, DataType::Int64, any::<i64>().prop_map(|n| (json!(n), json!(n.to_string()))).boxed()),
        of(CqlType::Varint, DataType::Utf8, "-?[1-9][0-9]{0,60}".prop_map(move |text| same(json!(text))).boxed()),
        of(CqlType::Decimal, DataType::Utf8, "-?[1-9][0-9]{0,9}\\.[0-9]{1,9}".prop_map(move |text| same(json!(text))).boxed()),
        of(
            CqlType::Time,
            DataType::Utf8,
            (0..24, 0..60, 0..60).prop_map(move |(h, m, s)| same(json!(format!("{h:02}:{m:02}:{s:02}")))).boxed()
        ),
        of(CqlType::Inet, DataType::Utf8, any::<std::net::IpAddr>().prop_map(move |ip| same(json!(ip.to_string()))).boxed()),
        of(
            CqlType::Duration,
            DataType::Utf8,
            (any::<bool>(), 1..100, 1..12, 1..400, 1..24, 1..60, 1..1_000)
                .prop_map(move |(minus, y, mo, d, h, m, ns)| {
                    let sign = if minus { "-" } else { "" };
                    same(json!(format!("{sign}{y}y{mo}mo{d}d{h}h{m}m{ns}ns")))
                })
                .boxed()
        ),
        of(CqlType::Uuid, DataType::Utf8, any::<[u8; 16]>().prop_map(move |b| same(json!(uuid::Uuid::from_bytes(b).to_string()))).boxed()),
        of(
            CqlType::Timestamp,
            DataType::Timestamp(TimeUnit::Microsecond, None),
            (0_i64..4_000_000_000_000).prop_map(move |millis| same(json!(crate::store::render::timestamp(millis)))).boxed()
        ),
        of(
            CqlType::Vector(2),
            list_of(DataType::Float64),
            (-1_000_i16..1_000, any::<i16>()).prop_map(move |(a, b)| same(json!([f64::from(a), f64::from(b)]))).boxed()
        ),
    ]
}

fn list_of(item: DataType) -> DataType {
    DataType::List(Arc::new(Field::new_list_field(item, true)))
}

/// Any type, nested up to three deep, and some of its values.
fn any_case() -> impl Strategy<Value = Case> {
    simple().prop_recursive(3, 24, 3, |inner| {
        prop_oneof![
            // A list has its elements as they are.
            inner.clone().prop_map(|part| {
                let (from, to): (Vec<_>, Vec<_>) = part.values.iter().filter(|(from, _)| !from.is_null()).cloned().unzip();
                let values = vec![(json!(from), json!(to)), (json!([]), json!([])), (Json::Null, Json::Null)];
                case(CqlType::List(Box::new(part.cql)), list_of(part.arrow), values)
            }),
            // A set has each element once.
            (inner.clone(), any::<bool>()).prop_filter_map("no order", |(part, frozen)| {
                let is_nested_cells = part.cql.is_in_cells();
                (part.cql.unfit_for_key().is_none() && !is_nested_cells).then_some(())?;
                let (from, to) = part.values.first().filter(|(from, _)| !from.is_null())?.clone();
                let whole = if frozen { Whole::Frozen } else { Whole::Cells };
                let values = vec![(json!([from, from]), json!([to])), (json!([]), json!([]))];
                Some(case(CqlType::Set(whole, Box::new(part.cql)), list_of(part.arrow), values))
            }),
            // An object is a map without its nulls, a tuple, or a value of a user-defined type.
            (inner.clone(), inner, 0..3).prop_filter_map("cells in a value", |(one, other, kind)| {
                let parts = [one, other];
                if parts.iter().any(|part| part.cql.is_in_cells()) {
                    return None;
                }
                let fields: Vec<Field> =
                    parts.iter().zip(["a", "b"]).map(|(part, name)| Field::new(name, part.arrow.clone(), true)).collect();
                let (a, b) = (&parts[0].values[0], &parts[1].values[0]);
                let from = json!({ "a": a.0, "b": b.0 });
                let named = |cql: &CqlType, name: &str| (name.to_owned(), cql.clone());
                let (cql, to) = match kind {
                    0 => (CqlType::Tuple(parts.iter().map(|part| part.cql.clone()).collect()), json!([a.1, b.1])),
                    1 => {
                        // Another order than the record, and a field that it has not.
                        let fields = vec![named(&parts[1].cql, "b"), named(&CqlType::Int, "c"), named(&parts[0].cql, "a")];
                        (CqlType::User(UserType { name: "u".to_owned(), fields: Some(fields) }), json!({ "b": b.1, "c": null, "a": a.1 }))
                    }
                    _ => {
                        let only = vec![fields[0].clone()];
                        let to = if a.1.is_null() { json!({}) } else { json!({ "a": a.1 }) };
                        let cql = CqlType::Map(Whole::Frozen, Box::new((CqlType::Text, parts[0].cql.clone())));
                        return Some(case(cql, DataType::Struct(only.into()), vec![(json!({ "a": a.0 }), to)]));
                    }
                };
                Some(case(cql, DataType::Struct(fields.into()), vec![(from, to), (Json::Null, Json::Null)]))
            }),
        ]
    })
}

fn arrow(arrow: &DataType, values: &[(Json, Json)]) -> ArrayRef {
    let schema = Arc::new(Schema::new(vec![Field::new("v", arrow.clone(), true)]));
    let mut reader = arrow_json::ReaderBuilder::new(schema).build_decoder().unwrap();
    reader.serialize(&values.iter().map(|(from, _)| json!({ "v": from })).collect::<Vec<_>>()).unwrap();
    let batch: RecordBatch = reader.flush().unwrap().unwrap();
    Arc::clone(batch.column(0))
}

proptest! {
    #[test]
    fn every_value_is_read_back_from_its_bytes_and_both_stores_show_the_same(case in any_case()) {
        let Case { cql, arrow: data_type, values } = &case;
        prop_assert!(cql.takes(data_type), "{} as {}", data_type, cql);
        let array = arrow(data_type, values);
        let (cells, misfits) = convert(&array, cql).unwrap();
        prop_assert!(misfits.is_empty(), "{:?}", misfits);
        let kind = column_type(cql);
        for (row, (_, expected)) in values.iter().enumerate() {
            prop_assert_eq!(&plain(&cells.value(row)), expected, "embedded {}", cql);
            let mut bytes = Vec::new();
            append_value(cells.value(row), &mut bytes);
            let value = cells.value(row);
            let is_bounded = value.size() >= u32::try_from(bytes.len() - 4).unwrap();
            prop_assert!(is_bounded, "{} of {} bytes is {}", cql, bytes.len(), value.size());
            if matches!(value, Value::Null) {
                prop_assert_eq!(bytes, (-1_i32).to_be_bytes());
                continue;
            }
            let frame = Bytes::from(bytes.split_off(4));
            let read = CqlValue::deserialize(&kind, Some(FrameSlice::new(&frame))).unwrap();
            prop_assert_eq!(&query_json(&read), expected, "cassandra {}", cql);
        }
    }
}

#[test]
fn equal_sets_and_maps_are_equal_bytes() {
    let bytes = |cql: &CqlType, data_type: DataType, json: Json| {
        let (cells, _) = convert(&arrow(&data_type, &[(json, Json::Null)]), cql).unwrap();
        let mut bytes = Vec::new();
        append_value(cells.value(0), &mut bytes);
        bytes
    };
    let set = CqlType::parse("frozen<set<int>>").unwrap();
    assert_eq!(bytes(&set, list_of(DataType::Int64), json!([2, -1, 2, 3])), bytes(&set, list_of(DataType::Int64), json!([3, 2, -1])));
    let entries = vec![Field::new("key", DataType::Utf8, false), Field::new("value", DataType::Int64, true)];
    let map = DataType::Map(Arc::new(Field::new("entries", DataType::Struct(entries.into()), false)), false);
    let cql = CqlType::parse("map<text, int>").unwrap();
    assert_eq!(bytes(&cql, map.clone(), json!({ "b": 1, "a": 2 })), bytes(&cql, map, json!({ "a": 2, "b": 1 })));
}
