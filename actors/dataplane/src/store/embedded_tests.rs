use std::path::Path;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, RecordBatch, StringArray};
use datafusion::arrow::datatypes::{DataType, Field, Schema};

use super::*;
use crate::store::fixtures::{WRITER, every_type, first_row_as_json, pairs, pipeline, rows, small};
use crate::store::{RowSet, Store};
use forebay_schemas::error_class::{Class, Classified};

/// Opens a store in a folder, with the small table.
async fn opened(folder: &Path) -> (Embedded, TableSpec) {
    let spec = small("forebay", "users");
    let embedded = Embedded::open(&folder.join("store.db"), "forebay", true).await.unwrap();
    embedded.prepare(&spec).await.unwrap();
    (embedded, spec)
}

/// Reads the rows of a key from the small table.
async fn read(embedded: &Embedded, id: &str) -> Vec<serde_json::Value> {
    let mut rows = Vec::new();
    let sql = format!("SELECT v, _ts FROM users WHERE id = '{id}'");
    embedded.query(&sql, &mut |row| rows.push(serde_json::Value::Object(row))).await.unwrap();
    rows
}

async fn write(embedded: &Embedded, rows: &RowSet) -> u64 {
    let outcome = embedded.write(rows).await.unwrap();
    assert!(outcome.rejected.is_empty() && outcome.unwritten.is_none());
    outcome.written
}

#[tokio::test]
async fn every_type_reads_back_as_it_was_written() {
    let folder = tempfile::tempdir().unwrap();
    let pipeline = pipeline(&folder.path().join("f.toml"), "\"embedded\"", "forebay", WRITER);
    let spec = TableSpec::plan(&pipeline, &every_type()).unwrap();
    let store = Store::connect(&pipeline, Some(&spec)).await.unwrap();
    let (fit, _) = RowSet::check(&spec, &rows(), &[10, 20]).unwrap();
    assert_eq!(store.write(&fit, &|| ()).await.unwrap().written, 2);

    let reader = Store::connect(&pipeline, None).await.unwrap();
    let answer = reader.query("SELECT * FROM forebay.t ORDER BY seq DESC").await.unwrap();
    let mut expected = first_row_as_json();
    // This store has no user-defined types: an object has the fields of the record.
    expected["place"].as_object_mut().unwrap().remove("zip");
    assert_eq!(serde_json::Value::Object(answer.rows[0].clone()), expected);
    assert_eq!(answer.columns.len(), every_type().fields().len());
    assert!(answer.rows[1].iter().all(|(name, value)| value.is_null() != (name == "id" || name == "seq")), "{:?}", answer.rows[1]);
}

#[tokio::test]
async fn names_that_need_quotes_are_created_written_and_queried() {
    let folder = tempfile::tempdir().unwrap();
    let writer = "table = \"Order\"\nprimary_key = [\"userId\"]\nnulls = { group = \"unset\" }";
    let pipeline = pipeline(&folder.path().join("f.toml"), "\"embedded\"", "Shop", writer);
    let fields = ["userId", "group", "größe"].map(|name| Field::new(name, DataType::Utf8, true));
    let schema = Arc::new(Schema::new(fields.to_vec()));
    let spec = TableSpec::plan(&pipeline, &schema).unwrap();
    let store = Store::connect(&pipeline, Some(&spec)).await.unwrap();
    for (at, group) in [(10, Some("a")), (20, None)] {
        let texts = [Some("u1"), group, Some("12")].map(|text| Arc::new(StringArray::from(vec![text])) as ArrayRef);
        let batch = RecordBatch::try_new(Arc::clone(&schema), texts.to_vec()).unwrap();
        let (fit, _) = RowSet::check(&spec, &batch, &[at]).unwrap();
        assert_eq!(store.write(&fit, &|| ()).await.unwrap().written, 1);
    }
    let answer = store.query("SELECT \"userId\", \"group\", \"größe\" FROM \"Shop\".\"Order\"").await.unwrap();
    let expected = serde_json::json!([{ "userId": "u1", "group": "a", "größe": "12" }]);
    assert_eq!(serde_json::to_value(answer.rows).unwrap(), expected);
}

#[tokio::test]
async fn the_newest_timestamp_wins_in_any_order_of_writes() {
    let folder = tempfile::tempdir().unwrap();
    let (embedded, spec) = opened(folder.path()).await;
    write(&embedded, &pairs(&spec, &[("a", Some("new"))], 20)).await;
    write(&embedded, &pairs(&spec, &[("a", Some("old"))], 10)).await;
    assert_eq!(read(&embedded, "a").await, [serde_json::json!({ "v": "new", "_ts": 20 })]);
}

#[tokio::test]
async fn an_equal_timestamp_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (embedded, spec) = opened(folder.path()).await;
    write(&embedded, &pairs(&spec, &[("a", Some("first"))], 20)).await;
    write(&embedded, &pairs(&spec, &[("a", Some("second"))], 20)).await;
    assert_eq!(read(&embedded, "a").await, [serde_json::json!({ "v": "first", "_ts": 20 })]);
}

#[tokio::test]
async fn a_replay_results_in_the_same_table() {
    let folder = tempfile::tempdir().unwrap();
    let (embedded, spec) = opened(folder.path()).await;
    let batches = [pairs(&spec, &[("a", Some("1")), ("b", Some("1"))], 10), pairs(&spec, &[("a", Some("2")), ("c", None)], 20)];
    for batch in [&batches[0], &batches[1], &batches[0], &batches[1], &batches[0]] {
        assert_eq!(write(&embedded, batch).await, 2);
    }
    assert_eq!(read(&embedded, "a").await, [serde_json::json!({ "v": "2", "_ts": 20 })]);
    assert_eq!(read(&embedded, "b").await, [serde_json::json!({ "v": "1", "_ts": 10 })]);
    assert_eq!(read(&embedded, "c").await, [serde_json::json!({ "v": null, "_ts": 20 })]);
}

#[tokio::test]
async fn a_newer_null_replaces_a_value() {
    let folder = tempfile::tempdir().unwrap();
    let (embedded, spec) = opened(folder.path()).await;
    write(&embedded, &pairs(&spec, &[("a", Some("x"))], 10)).await;
    write(&embedded, &pairs(&spec, &[("a", None)], 20)).await;
    assert_eq!(read(&embedded, "a").await, [serde_json::json!({ "v": null, "_ts": 20 })]);
}

#[tokio::test]
async fn written_rows_survive_a_reopened_file() {
    let folder = tempfile::tempdir().unwrap();
    let (embedded, spec) = opened(folder.path()).await;
    write(&embedded, &pairs(&spec, &[("a", Some("x"))], 10)).await;
    drop(embedded);
    let (again, _) = opened(folder.path()).await;
    assert_eq!(read(&again, "a").await.len(), 1);
}

#[tokio::test]
async fn a_table_that_does_not_match_is_refused_with_the_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let (embedded, mut spec) = opened(folder.path()).await;
    spec.columns[1].cql = CqlType::Bigint;
    let error = embedded.prepare(&spec).await.unwrap_err();
    assert_eq!(error.class(), Class::Fatal);
    assert!(error.to_string().contains("column v of table users is TEXT, the pipeline writes bigint"), "{error}");
    spec.columns.remove(1);
    spec.table = "others".to_owned();
    spec.create = false;
    assert!(embedded.prepare(&spec).await.unwrap_err().to_string().contains("set create = true"));
}

#[tokio::test]
async fn a_query_can_only_read() {
    let folder = tempfile::tempdir().unwrap();
    let (embedded, _) = opened(folder.path()).await;
    for sql in ["DELETE FROM users", "PRAGMA query_only = OFF", "WITH x AS (SELECT 1) DELETE FROM users"] {
        let error = embedded.query(sql, &mut |_| ()).await.unwrap_err();
        assert_eq!(error.class(), Class::Rejected, "{error}");
    }
}

#[tokio::test]
async fn a_file_locked_by_another_process_is_a_transient_error() {
    let folder = tempfile::tempdir().unwrap();
    let (embedded, spec) = opened(folder.path()).await;
    embedded.writer().unwrap().lock().connection.busy_timeout(Duration::ZERO).unwrap();
    let other = Builder::new_local(folder.path().join("store.db")).build().await.unwrap().connect().unwrap();
    other.execute("BEGIN IMMEDIATE", ()).await.unwrap();
    let outcome = embedded.write(&pairs(&spec, &[("a", None)], 1)).await.unwrap();
    let (rows, failure) = outcome.unwritten.unwrap();
    assert_eq!((rows.len(), failure.class()), (1, Class::Transient));
    other.execute("ROLLBACK", ()).await.unwrap();
    assert_eq!(write(&embedded, &rows).await, 1);
}
