//! Tests of the types of a row, from the JSON of a record through the SQL into the table.

use std::path::Path;

use forebay_schemas::offset::Offset;
use forebay_schemas::pipeline::parse;
use serde_json::{Value, json};

use super::Blueprint;
use forebay_dataplane::store::{RowSet, Store};
use forebay_dataplane::transform::Parts;
use forebay_dataplane::{NewRecord, RawBatch};

const SCHEMA: &str = r#"{"type":"object","required":["userId"],"properties":{
    "userId":{"type":"string"},"tags":{"type":"array","items":{"type":"string"}},"big":{"type":["integer","string"]},
    "ip":{"type":"string"},"at":{"type":"string"},"wait":{"type":"string"},"vec":{"type":"array","items":{"type":"number"}},
    "order":{"type":"integer"},
    "addr":{"type":"object","properties":{"street":{"type":"string"},"no":{"type":"number"}}}}}"#;

const FILE: &str = r#"
[pipeline]
name = "users"
[kafka]
bootstrap = "embedded"
topic = "users"
[cassandra]
contact_points = "embedded"
keyspace = "k"
create = true
[consumer]
group = "g"
[transformer]
schema = "users.schema.json"
sql = """SELECT "userId", "order", tags, tags AS frozen_tags, big, ip, at, wait, vec, addr, addr AS pair,
    CAST(addr['no'] AS DECIMAL(20, 10)) AS no, map(make_array('id'), make_array("userId")) AS names,
    named_struct('a', "order", 'b', "userId") AS built FROM users"""
[writer]
table = "Users"
primary_key = ["userId"]
[writer.columns]
tags = "set<text>"
frozen_tags = "frozen<set<text>>"
big = "varint"
ip = "inet"
at = "time"
wait = "duration"
vec = "vector<float, 2>"
addr = "frozen<address>"
pair = "frozen<tuple<text, double>>"
names = "map<text, text>"
built = "frozen<tuple<int, text>>"
"#;

/// The checked file in a folder with its schema.
fn blueprint(folder: &Path, file: &str) -> Blueprint {
    std::fs::write(folder.join("users.schema.json"), SCHEMA).unwrap();
    Blueprint::new(parse(&folder.join("forebay.toml"), file.to_owned()).unwrap()).unwrap()
}

/// The rows of these records, and the reasons of the dead letters.
async fn written(records: &[&str]) -> (Vec<Value>, Vec<String>) {
    let folder = tempfile::tempdir().unwrap();
    let blueprint = blueprint(folder.path(), FILE);
    let (transform, spec) = (blueprint.transform.clone().unwrap(), blueprint.table.clone().unwrap());
    let (store, spec) = Store::connect_to_write(&blueprint.pipeline, &spec).await.unwrap();
    let mut raw = RawBatch::default();
    for (offset, record) in (0..).zip(records) {
        raw.push(&NewRecord { offset: Offset(offset), write_ts: offset * 16, value: Some(record.as_bytes()), ..NewRecord::default() });
    }
    let batch = Parts::default().next(&transform, &raw, &|| {});
    let (rows, refused) = RowSet::check(&spec, &batch.rows, &batch.write_ts).unwrap();
    assert!(store.write(&rows, &|| ()).await.unwrap().unwritten.is_none());
    let answer = store.query("SELECT * FROM \"Users\" ORDER BY \"userId\"").await.unwrap();
    let reasons = batch.rejects.iter().map(|reject| &reject.reason).chain(refused.iter().map(|refusal| &refusal.reason));
    let reasons = reasons.map(|reason| reason.full().to_owned()).collect();
    (answer.rows.into_iter().map(Value::Object).collect(), reasons)
}

#[tokio::test]
async fn objects_arrays_and_text_become_values_of_every_type() {
    let full = r#"{"userId":"a","order":7,"tags":["y","x","y"],"big":123456789012345678901234567890,"ip":"10.0.0.1","at":"12:34:56",
        "wait":"1h30m","vec":[1,0.5],"addr":{"street":"Main","no":0.1}}"#;
    let (rows, reasons) = written(&[full, r#"{"userId":"b"}"#]).await;
    assert_eq!(reasons, [] as [&str; 0]);
    let expected = json!({
        "userId": "a", "order": 7, "tags": ["x", "y"], "frozen_tags": ["x", "y"], "big": "123456789012345678901234567890", "ip": "10.0.0.1",
        "at": "12:34:56", "wait": "1h30m", "vec": [1.0, 0.5], "addr": { "street": "Main", "no": 0.1 }, "pair": ["Main", 0.1],
        "no": "0.1000000000", "names": { "id": "a" }, "built": [7, "a"],
    });
    assert_eq!(rows[0], expected);
    assert_eq!((&rows[1]["userId"], &rows[1]["addr"], &rows[1]["tags"]), (&json!("b"), &Value::Null, &Value::Null));
}

#[test]
fn a_collection_in_cells_is_reported_for_cassandra_only() {
    let folder = tempfile::tempdir().unwrap();
    let reported = |file: &str| {
        let warnings = blueprint(folder.path(), file).warnings().into_iter();
        warnings.filter(|warning| warning.code == "collection_in_cells").map(|warning| warning.what).collect::<Vec<_>>()
    };
    assert_eq!(reported(FILE), [] as [&str; 0]);
    let in_cassandra = reported(&FILE.replace("contact_points = \"embedded\"", "contact_points = [\"127.0.0.1:9\"]"));
    assert_eq!(in_cassandra.len(), 2, "{in_cassandra:?}");
    assert!(in_cassandra[0].contains("column `tags` is `set<text>`") && in_cassandra[0].contains("`frozen<set<text>>` needs none"));
}

#[tokio::test]
async fn a_value_that_does_not_fit_its_type_costs_its_record_only() {
    let records = [
        r#"{"userId":"a","ip":"10.0.0.300"}"#,
        r#"{"userId":"b","vec":[1]}"#,
        r#"{"userId":"c","wait":"soon"}"#,
        r#"{"userId":"d","big":"1.5"}"#,
        r#"{"userId":"e","order":3000000000}"#,
        r#"{"userId":"f","ip":"::1"}"#,
    ];
    let (rows, reasons) = written(&records).await;
    assert_eq!(rows.iter().map(|row| &row["userId"]).collect::<Vec<_>>(), ["f"]);
    assert_eq!(
        reasons,
        [
            "column ip: \"10.0.0.300\" is not a valid inet",
            "column vec: 1 numbers for a vector of 2",
            "column wait: \"soon\" is not a valid duration",
            "column big: \"1.5\" is not a valid varint",
            "column built: a: \"3000000000\" is not a valid int",
        ]
    );
}
