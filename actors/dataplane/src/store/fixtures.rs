//! Fixtures for tests of the store: pipeline files, schemas and rows.

use std::path::Path;
use std::sync::Arc;

use datafusion::arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array, Int8Array, Int16Array, Int32Array,
    Int64Array, Int64Builder, ListArray, ListBuilder, MapBuilder, MapFieldNames, RecordBatch, StringArray, StringBuilder, StringViewArray,
    StructArray, TimestampMicrosecondArray,
};
use datafusion::arrow::buffer::NullBuffer;
use datafusion::arrow::datatypes::{DataType, Field, Float64Type, Int64Type, Schema, TimeUnit};
use forebay_schemas::pipeline::{Pipeline, parse};

use super::{RowSet, TableSpec};

/// A pipeline with these contact points and this content of `[writer]`.
pub fn pipeline(path: &Path, contact_points: &str, keyspace: &str, writer: &str) -> Pipeline {
    let text = format!(
        r#"
[pipeline]
name = "t"
[kafka]
bootstrap = "embedded"
topic = "t"
[cassandra]
contact_points = {contact_points}
keyspace = "{keyspace}"
create = true
[consumer]
group = "t"
[transformer]
schema = "t.json"
sql = "SELECT 1"
[writer]
{writer}
"#
    );
    parse(path, text).expect("the test pipeline file is valid")
}

/// Writes a file that only its owner can read.
pub fn write_secret(path: &Path, text: &str) {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let file = std::fs::File::options().create(true).truncate(true).write(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes())).expect("the folder of the test is writable");
}

/// The schema of a SELECT with a column of every type.
pub fn every_type() -> Schema {
    Schema::new(vec![
        Field::new("id", DataType::Utf8View, false),
        Field::new("seq", DataType::Int64, false),
        Field::new("name", DataType::Utf8, true),
        Field::new("plain", DataType::Utf8, true),
        Field::new("small", DataType::Int16, true),
        Field::new("tiny", DataType::Int8, true),
        Field::new("age", DataType::Int32, true),
        Field::new("score", DataType::Float64, true),
        Field::new("ratio", DataType::Float32, true),
        Field::new("ok", DataType::Boolean, true),
        Field::new("at", DataType::Timestamp(TimeUnit::Microsecond, None), true),
        Field::new("seen", DataType::Utf8, true),
        Field::new("born", DataType::Date32, true),
        Field::new("price", DataType::Decimal128(10, 2), true),
        Field::new("raw", DataType::Binary, true),
        Field::new("numbers", DataType::List(Arc::new(Field::new_list_field(DataType::Int64, true))), true),
        Field::new("once", DataType::Utf8, true),
        Field::new("big", DataType::Utf8, true),
        Field::new("whole", DataType::Int64, true),
        Field::new("noon", DataType::Utf8, true),
        Field::new("ip", DataType::Utf8, true),
        Field::new("length", DataType::Utf8, true),
        Field::new("tags", list_of(DataType::Utf8), true),
        Field::new("marks", list_of(DataType::Int64), true),
        Field::new("attrs", map_of(DataType::Int64), true),
        Field::new("props", object(), true),
        Field::new("pair", object(), true),
        Field::new("place", object(), true),
        Field::new("embedding", list_of(DataType::Float64), true),
        Field::new("groups", list_of(list_of(DataType::Int64)), true),
    ])
}

fn list_of(item: DataType) -> DataType {
    DataType::List(Arc::new(Field::new_list_field(item, true)))
}

fn map_of(value: DataType) -> DataType {
    let entry = vec![Field::new("key", DataType::Utf8, false), Field::new("value", value, true)];
    DataType::Map(Arc::new(Field::new("entries", DataType::Struct(entry.into()), false)), false)
}

/// An object with two fields of text.
fn object() -> DataType {
    DataType::Struct(vec![Field::new("street", DataType::Utf8, true), Field::new("city", DataType::Utf8, true)].into())
}

/// The user-defined type of [`every_type`].
pub const PLACE: &str = "place (city text, zip int, street text)";

/// The `[writer]` for [`every_type`].
pub const WRITER: &str = r#"
table = "t"
primary_key = ["id", "seq"]
consistency = "LOCAL_ONE"
[writer.columns]
id = "uuid"
plain = "ascii"
seen = "timestamp"
once = "timeuuid"
big = "varint"
whole = "varint"
noon = "time"
ip = "inet"
length = "duration"
tags = "frozen<set<text>>"
marks = "set<bigint>"
attrs = "map<text, bigint>"
props = "frozen<map<text, text>>"
pair = "frozen<tuple<text, text>>"
place = "frozen<place>"
embedding = "vector<float, 3>"
groups = "frozen<set<frozen<list<int>>>>"
"#;

/// An integer of more than 64 and more than 128 bits.
const BIG: &str = "-1234567890123456789012345678901234567890123";

/// The first id of [`rows`].
pub const ID: &str = "0b3c7a52-1d0a-4c9e-8f39-1c26c9b9a001";

/// Two rows of [`every_type`]: one with all values, and one with nulls except in the key.
pub fn rows() -> RecordBatch {
    let text = |value: &str| -> ArrayRef { Arc::new(StringArray::from(vec![Some(value), None])) };
    let mut tags = ListBuilder::new(StringBuilder::new());
    tags.append_value([Some("b"), Some("a"), Some("b")]);
    tags.append_null();
    let names = MapFieldNames { entry: "entries".to_owned(), key: "key".to_owned(), value: "value".to_owned() };
    let mut attrs = MapBuilder::new(Some(names), StringBuilder::new(), Int64Builder::new());
    for (key, value) in [("y", 2), ("x", -1)] {
        attrs.keys().append_value(key);
        attrs.values().append_value(value);
    }
    attrs.append(true).and_then(|()| attrs.append(false)).expect("as many values as keys");
    let mut groups = ListBuilder::new(ListBuilder::new(Int64Builder::new()));
    for group in [vec![Some(2), Some(1)], vec![], vec![Some(2), Some(1)]] {
        groups.values().append_value(group);
    }
    groups.append(true);
    groups.append(false);
    let DataType::Struct(fields) = object() else { unreachable!("an object is a struct") };
    let place = || -> ArrayRef {
        let there = NullBuffer::from(vec![true, false]);
        Arc::new(StructArray::new(fields.clone(), vec![text("Main"), text("Łódź")], Some(there)))
    };
    let marks = ListArray::from_iter_primitive::<Int64Type, _, _>(vec![Some(vec![Some(3), Some(-1), Some(2), Some(3)]), None]);
    let embedding = ListArray::from_iter_primitive::<Float64Type, _, _>(vec![Some(vec![Some(0.1), Some(-2.0), Some(1e10)]), None]);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringViewArray::from(vec![ID, "0b3c7a52-1d0a-4c9e-8f39-1c26c9b9a002"])),
        Arc::new(Int64Array::from(vec![1, -2])),
        Arc::new(StringArray::from(vec![Some("Łukasz"), None])),
        Arc::new(StringArray::from(vec![Some("plain"), None])),
        Arc::new(Int16Array::from(vec![Some(-300), None])),
        Arc::new(Int8Array::from(vec![Some(-7), None])),
        Arc::new(Int32Array::from(vec![Some(41), None])),
        Arc::new(Float64Array::from(vec![Some(1.5), None])),
        Arc::new(Float32Array::from(vec![Some(0.1), None])),
        Arc::new(BooleanArray::from(vec![Some(true), None])),
        Arc::new(TimestampMicrosecondArray::from(vec![Some(1_700_000_000_123_456), None])),
        Arc::new(StringArray::from(vec![Some("1969-12-31T23:59:59.999Z"), None])),
        Arc::new(Date32Array::from(vec![Some(-1), None])),
        Arc::new(Decimal128Array::from(vec![Some(-129), None]).with_precision_and_scale(10, 2).expect("fits")),
        Arc::new(BinaryArray::from_opt_vec(vec![Some(&[0, 255]), None])),
        Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>(vec![Some(vec![Some(1), Some(-1)]), None])),
        text("d2177dd0-eaa2-11de-a572-001b779c76e3"),
        text(BIG),
        Arc::new(Int64Array::from(vec![Some(-129), None])),
        text("12:34:56.5"),
        text("2001:db8::1"),
        text("1y2mo3d4h"),
        Arc::new(tags.finish()),
        Arc::new(marks),
        Arc::new(attrs.finish()),
        place(),
        place(),
        place(),
        Arc::new(embedding),
        Arc::new(groups.finish()),
    ];
    RecordBatch::try_new(Arc::new(every_type()), columns).expect("the test rows match their schema")
}

/// The first of [`rows`] as both stores return it.
pub fn first_row_as_json() -> serde_json::Value {
    serde_json::json!({
        "id": ID, "seq": 1, "name": "Łukasz", "plain": "plain", "small": -300, "tiny": -7, "age": 41, "score": 1.5, "ratio": 0.1,
        "ok": true, "at": "2023-11-14T22:13:20.123Z", "seen": "1969-12-31T23:59:59.999Z", "born": "1969-12-31", "price": "-1.29",
        "raw": "0x00ff", "numbers": [1, -1], "once": "d2177dd0-eaa2-11de-a572-001b779c76e3", "big": BIG, "whole": "-129", "noon": "12:34:56.500",
        "ip": "2001:db8::1", "length": "1y2mo3d4h", "tags": ["a", "b"], "marks": [-1, 2, 3], "attrs": { "x": -1, "y": 2 },
        "props": { "street": "Main", "city": "Łódź" }, "pair": ["Main", "Łódź"],
        "place": { "city": "Łódź", "zip": null, "street": "Main" }, "embedding": [0.1, -2.0, 10_000_000_000.0], "groups": [[], [2, 1]],
    })
}

/// A table with the key `id` and a value `v`, both text.
pub fn small(keyspace: &str, table: &str) -> TableSpec {
    let schema = Schema::new(vec![Field::new("id", DataType::Utf8, true), Field::new("v", DataType::Utf8, true)]);
    let writer = format!("table = \"{table}\"\nprimary_key = [\"id\"]\nconsistency = \"LOCAL_ONE\"");
    let pipeline = pipeline(Path::new("t.toml"), "\"embedded\"", keyspace, &writer);
    TableSpec::plan(&pipeline, &schema).expect("the small table is valid")
}

/// Rows of [`small`]: keys with their values, all with the write timestamp `ts`.
pub fn pairs(spec: &TableSpec, pairs: &[(&str, Option<&str>)], ts: i64) -> RowSet {
    let schema = Schema::new(vec![Field::new("id", DataType::Utf8, true), Field::new("v", DataType::Utf8, true)]);
    let ids = StringArray::from(pairs.iter().map(|pair| Some(pair.0)).collect::<Vec<_>>());
    let values = StringArray::from(pairs.iter().map(|pair| pair.1).collect::<Vec<_>>());
    let batch = RecordBatch::try_new(Arc::new(schema), vec![Arc::new(ids), Arc::new(values)]).expect("pairs match their schema");
    let (rows, refusals) = RowSet::check(spec, &batch, &vec![ts; pairs.len()]).expect("pairs match the plan");
    assert!(refusals.is_empty(), "{refusals:?}");
    rows
}

fn people_schema() -> Schema {
    let text = |name: &str| Field::new(name, DataType::Utf8, true);
    Schema::new(vec![text("id"), Field::new("seq", DataType::Int64, true), text("name"), text("phone")])
}

/// A table `t` of people with the key `id`, `seq`. `name` and `phone` may be null; `more` is added
/// to `[writer]`.
pub fn people(keyspace: &str, more: &str) -> TableSpec {
    let writer = format!("table = \"t\"\nprimary_key = [\"id\", \"seq\"]\n{more}");
    let pipeline = pipeline(Path::new("t.toml"), "\"embedded\"", keyspace, &writer);
    TableSpec::plan(&pipeline, &people_schema()).expect("the table of people is valid")
}

/// One row of [`people`]: id, seq, name and phone.
pub type Person<'a> = (&'a str, i64, Option<&'a str>, Option<&'a str>);

/// Rows of [`people`], each with its write timestamp.
pub fn persons(spec: &TableSpec, persons: &[(Person<'_>, i64)]) -> RowSet {
    let text = |of: fn(&Person<'_>) -> Option<String>| -> ArrayRef {
        Arc::new(StringArray::from(persons.iter().map(|(person, _)| of(person)).collect::<Vec<_>>()))
    };
    let columns: Vec<ArrayRef> = vec![
        text(|person| Some(person.0.to_owned())),
        Arc::new(Int64Array::from(persons.iter().map(|(person, _)| person.1).collect::<Vec<_>>())),
        text(|person| person.2.map(str::to_owned)),
        text(|person| person.3.map(str::to_owned)),
    ];
    let batch = RecordBatch::try_new(Arc::new(people_schema()), columns).expect("persons match their schema");
    let timestamps: Vec<i64> = persons.iter().map(|(_, ts)| *ts).collect();
    let (rows, refusals) = RowSet::check(spec, &batch, &timestamps).expect("persons match the plan");
    assert!(refusals.is_empty(), "{refusals:?}");
    rows
}
