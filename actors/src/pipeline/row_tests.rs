//! Tests of the rows of a record and its successors: filtered, unnested, rejected.

use forebay_schemas::offset::Offset;
use forebay_schemas::pipeline::parse;

use super::Blueprint;
use forebay_dataplane::store::{RowSet, Store};
use forebay_dataplane::transform::Parts;
use forebay_dataplane::{NewRecord, RawBatch};

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
[writer]
table = "users"
"#;

const SCHEMA: &str = r#"{"type":"object","required":["id"],"properties":{
    "id":{"type":"string"},"status":{"type":"string"},"items":{"type":"array","items":{"type":"string"}}}}"#;

/// A record without a value.
const TOMBSTONE: &str = "";

/// Writes these records, one micro-batch each. Returns the table, the codes of the warnings and the
/// number of rejected records.
async fn table_after(sql: &str, key: &str, records: &[&str]) -> (Vec<String>, Vec<String>, usize) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("users.schema.json"), SCHEMA).unwrap();
    let file = format!("{FILE}primary_key = {key}\n").replace("[writer]", &format!("sql = \"{sql}\"\n[writer]"));
    let blueprint = Blueprint::new(parse(&folder.path().join("forebay.toml"), file).unwrap()).unwrap();
    let (transform, spec) = (blueprint.transform.clone().unwrap(), blueprint.table.clone().unwrap());
    let store = Store::connect(&blueprint.pipeline, Some(&spec)).await.unwrap();
    let mut rejected = 0;
    for (offset, record) in (0..).zip(records) {
        let value = (*record != TOMBSTONE).then_some(record.as_bytes());
        let mut raw = RawBatch::default();
        raw.push(&NewRecord { offset: Offset(offset), timestamp_ms: 1, write_ts: offset * 16, value, ..NewRecord::default() });
        let batch = Parts::default().next(&transform, &raw, &|| {});
        rejected += batch.rejects.len();
        let (rows, refused) = RowSet::check(&spec, &batch.rows, &batch.write_ts).unwrap();
        assert!(refused.is_empty(), "{refused:?}");
        assert!(store.write(&rows, &|| ()).await.unwrap().unwritten.is_none());
    }
    let answer = store.query("SELECT * FROM users ORDER BY 1, 2").await.unwrap();
    let text = |row: &forebay_dataplane::store::QueryRow| {
        row.values().map(|value| value.as_str().unwrap().to_owned()).collect::<Vec<_>>().join(" ")
    };
    (answer.rows.iter().map(text).collect(), blueprint.warnings().into_iter().map(|warning| warning.code).collect(), rejected)
}

#[tokio::test]
async fn a_row_stays_when_where_filters_its_newest_record_and_a_warning_says_so() {
    let sql = "SELECT id, status FROM users WHERE status <> 'deleted'";
    let records = [r#"{"id":"a","status":"active"}"#, r#"{"id":"b","status":"active"}"#, r#"{"id":"a","status":"deleted"}"#];
    let (table, warnings, rejected) = table_after(sql, r#"["id"]"#, &records).await;
    assert_eq!(table, ["a active", "b active"]);
    assert_eq!(warnings, ["where_keeps_rows", "topic_key_not_known"]);
    assert_eq!(rejected, 0);
}

#[tokio::test]
async fn rows_of_items_missing_in_the_newest_record_stay_and_a_warning_says_so() {
    let sql = "SELECT id, unnest(items) AS item FROM users";
    let records = [r#"{"id":"a","items":["x","y","z"]}"#, r#"{"id":"a","items":["x"]}"#];
    let (table, warnings, rejected) = table_after(sql, r#"["id", "item"]"#, &records).await;
    assert_eq!(table, ["a x", "a y", "a z"]);
    assert_eq!(warnings, ["unnest_keeps_rows", "topic_key_not_known"]);
    assert_eq!(rejected, 0);
}

/// A record with that many items.
fn pack(id: &str, items: usize) -> String {
    let items: Vec<String> = (0..items).map(|at| format!("\"{id}{at:03}\"")).collect();
    format!(r#"{{"id":"{id}","items":[{}]}}"#, items.join(","))
}

#[tokio::test]
async fn a_record_has_one_row_for_each_of_its_items() {
    let sql = "SELECT id, unnest(items) AS item FROM users";
    let records = [pack("a", 16), pack("b", 17), pack("c", 100), pack("d", 0)];
    let (table, ..) = table_after(sql, r#"["id", "item"]"#, &records.each_ref().map(String::as_str)).await;
    let count = |id: &str| table.iter().filter(|row| row.starts_with(id)).count();
    assert_eq!(["a", "b", "c", "d"].map(count), [16, 17, 100, 0]);
}

#[tokio::test]
async fn the_last_item_of_a_key_is_the_row_until_a_later_record_replaces_it() {
    let sql = "SELECT id, unnest(items) AS item FROM users";
    let (table, ..) = table_after(sql, r#"["id"]"#, &[&pack("a", 100), &pack("b", 100), r#"{"id":"a","items":["later"]}"#]).await;
    assert_eq!(table, ["a later", "b b099"]);
}

#[tokio::test]
async fn a_row_stays_when_its_newest_record_is_a_dead_letter() {
    let records = [r#"{"id":"a","status":"active"}"#, r#"{"id":"b","status":"active"}"#, r#"{"id":"a","status":7}"#, TOMBSTONE];
    let (table, warnings, rejected) = table_after("SELECT id, status FROM users", r#"["id"]"#, &records).await;
    assert_eq!(table, ["a active", "b active"]);
    assert_eq!((warnings, rejected), (vec!["topic_key_not_known".to_owned()], 2));
}
