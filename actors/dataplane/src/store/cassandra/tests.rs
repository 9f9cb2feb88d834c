//! Tests of the pure parts and, named `real_…`, of a real server.

use std::path::Path;

use datafusion::arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use datafusion::arrow::datatypes::{DataType, Field, Fields, Schema};

use super::row_requests::{RequestRows, plan_requests};
use super::schema::{RealColumn, compare};
use super::write::{OnRefusal, RequestOutcome};
use super::*;
use crate::store::fixtures::{ID, PLACE, WRITER, every_type, first_row_as_json, pairs, pipeline, rows, small};
use crate::store::{RowSet, Store};
use forebay_schemas::error_class::{Class, Classified};

#[test]
fn each_row_is_in_one_request_and_requests_stay_within_their_limits() {
    let spec = small("k", "t");
    let names: Vec<String> = (0..10).map(|n| n.to_string()).collect();
    let values: Vec<(&str, Option<&str>)> = names.iter().map(|name| (name.as_str(), Some("v"))).collect();
    let all = pairs(&spec, &values, 1);
    assert_eq!(plan_requests(&all, None, 4, u32::MAX).1, [0..4, 4..8, 8..10]);
    assert_eq!(plan_requests(&all, None, 100, 1).1.len(), 10, "a row over the limit has its own request");
    let two = all.size(0) + all.size(1);
    assert_eq!(plan_requests(&all, None, 100, two).1, [0..2, 2..4, 4..6, 6..8, 8..10]);
}

#[test]
fn rows_of_different_replica_sets_do_not_share_a_request() {
    let spec = small("k", "t");
    let all = pairs(&spec, &[("a", None), ("b", None), ("c", None), ("d", None), ("e", None)], 1);
    let (ordered, cuts) = plan_requests(&all, Some(&mut |row| row % 2), 2, u32::MAX);
    assert_eq!(ordered.rows(), [0, 2, 4, 1, 3]);
    assert_eq!(cuts, [0..2, 2..3, 3..5]);
}

fn real(name: &str, kind: &str, cql: &str) -> RealColumn {
    let order = if kind == "clustering" { "asc" } else { "none" };
    RealColumn { name: name.into(), kind: kind.into(), position: 0, order: order.into(), cql: cql.into() }
}

#[test]
fn a_table_may_have_more_columns_but_no_missing_or_different_ones() {
    let spec = small("k", "t");
    let (id, v) = (real("id", "partition_key", "text"), real("v", "regular", "text"));
    assert_eq!(compare(&spec, &[id.clone(), v.clone(), real("more", "regular", "int")]), Ok(vec![0]));
    assert!(compare(&spec, std::slice::from_ref(&id)).unwrap_err().1.contains("ALTER TABLE k.t ADD v text"));
    assert!(compare(&spec, &[id.clone(), real("v", "regular", "int")]).unwrap_err().1.contains("columns = { v = \"int\" }"));
    assert!(compare(&spec, &[id, real("v", "clustering", "text")]).unwrap_err().1.contains("primary_key = [\"id\", \"v\"]"));
}

#[test]
fn what_the_file_says_of_the_key_order_and_static_columns_is_compared() {
    let planned = |writer: &str| {
        let fields = ["a", "b", "c", "v"].map(|name| Field::new(name, DataType::Utf8, true));
        let file = pipeline(Path::new("f.toml"), "[\"127.0.0.1:9\"]", "k", &format!("table = \"t\"\n{writer}"));
        TableSpec::plan(&file, &Schema::new(fields.to_vec())).unwrap()
    };
    let real_table = |descending: bool, is_static: bool| {
        let (mut b, mut c) = (real("b", "partition_key", "text"), real("c", "clustering", "text"));
        b.position = 1;
        c.order = if descending { "desc" } else { "asc" }.to_owned();
        vec![real("a", "partition_key", "text"), b, c, real("v", if is_static { "static" } else { "regular" }, "text")]
    };
    let difference = |writer: &str, descending, is_static| compare(&planned(writer), &real_table(descending, is_static));

    let flat = "primary_key = [\"a\", \"b\", \"c\"]";
    for (descending, is_static) in [(false, false), (true, true)] {
        assert_eq!(difference(flat, descending, is_static), Ok(vec![0, 1]), "what the file does not say, the table decides");
    }
    let nested = "primary_key = [[\"a\", \"b\"], \"c\"]\nclustering_order = [\"c desc\"]\nstatic = [\"v\"]";
    assert_eq!(difference(nested, true, true), Ok(vec![0, 1]));
    assert_eq!(difference(nested, false, true).unwrap_err().0, "the clustering order of table k.t is (c asc), the pipeline's is (c desc)");
    assert_eq!(difference(nested, true, false).unwrap_err().0, "column v of table k.t is not static, the pipeline's is");
    let plain = "primary_key = [[\"a\", \"b\"], \"c\"]\nstatic = []";
    assert_eq!(difference(plain, true, true).unwrap_err().0, "column v of table k.t is static, the pipeline's is not");
    let (what, remedy) = difference("primary_key = [[\"a\"], \"b\", \"c\"]", false, false).unwrap_err();
    assert_eq!(what, "the primary key of table k.t is ((a, b), c), the pipeline's is ((a), b, c)");
    assert!(remedy.starts_with("set primary_key = [[\"a\", \"b\"], \"c\"] in [writer]"), "{remedy}");
}

#[tokio::test(flavor = "multi_thread")]
async fn real_cassandra_a_table_with_all_that_the_file_can_say_is_created_and_compared() {
    let (server, session) = keyspace("Fb_Table").await;
    let file = |more: &str| {
        let writer = format!(
            "table = \"Order\"\nprimary_key = [[\"userId\", \"day\"], \"at\", \"no\"]\nconsistency = \"LOCAL_QUORUM\"\n{more}\n\
             [writer.options]\ngc_grace_seconds = 3600\ncomment = \"it's ours\"\ncompaction = {{ class = \"UnifiedCompactionStrategy\" }}"
        );
        pipeline(Path::new("f.toml"), &server, "Fb_Table", &writer)
    };
    let schema = Schema::new(["userId", "day", "at", "no", "select", "v"].map(|name| Field::new(name, DataType::Utf8, true)).to_vec());
    let with_all = file("clustering_order = [\"at desc\"]\nstatic = [\"select\"]");
    let spec = TableSpec::plan(&with_all, &schema).unwrap();
    let store = Store::connect(&with_all, Some(&spec)).await.unwrap();
    let texts = |values: [&str; 6]| values.map(|text| Arc::new(StringArray::from(vec![text])) as ArrayRef).to_vec();
    for (ts, at) in [(10, "1"), (20, "2")] {
        let batch = RecordBatch::try_new(Arc::new(schema.clone()), texts(["u", "d", at, "1", at, "v"])).unwrap();
        assert_eq!(write(&store, &RowSet::check(&spec, &batch, &[ts]).unwrap().0).await.written, 1);
    }
    let answer = store.query("SELECT at, \"select\" FROM \"Order\" WHERE \"userId\" = 'u' AND day = 'd'").await.unwrap();
    let expected = serde_json::json!([{ "at": "2", "select": "2" }, { "at": "1", "select": "2" }]);
    assert_eq!(serde_json::to_value(answer.rows).unwrap(), expected, "the largest first, and one value for both rows");
    let described = store.describe_table(&spec).await.unwrap();
    assert_eq!((described.differences, described.options), (vec![], vec![]));

    session.query_unpaged("ALTER TABLE \"Fb_Table\".\"Order\" WITH gc_grace_seconds = 7200", ()).await.unwrap();
    let other = TableSpec::plan(&file("clustering_order = [\"no desc\"]\nstatic = []"), &schema).unwrap();
    let described = store.describe_table(&other).await.unwrap();
    let found: Vec<&str> = described.differences.iter().map(|(what, _)| what.as_str()).collect();
    assert_eq!(
        found,
        [
            "the clustering order of table \"Fb_Table\".\"Order\" is (at desc, no asc), the pipeline's is (at asc, no desc)",
            "column \"select\" of table \"Fb_Table\".\"Order\" is static, the pipeline's is not"
        ]
    );
    assert_eq!(described.options, ["gc_grace_seconds of table \"Fb_Table\".\"Order\" is 7200, the pipeline file has 3600"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn real_cassandra_a_row_is_kept_for_its_time_to_live_which_a_repeated_write_starts_again() {
    let (server, _) = keyspace("fb_ttl").await;
    let file = |more: &str| {
        let writer = format!(
            "table = \"t\"\nprimary_key = [\"id\"]\nconsistency = \"LOCAL_QUORUM\"\n{more}\noptions = {{ default_time_to_live = 5000 }}"
        );
        pipeline(Path::new("f.toml"), &server, "fb_ttl", &writer)
    };
    let schema = Arc::new(Schema::new(vec![
        Field::new("keep", DataType::Int64, true),
        Field::new("id", DataType::Utf8, true),
        Field::new("v", DataType::Utf8, true),
    ]));
    let texts = |text: &str| Arc::new(StringArray::from(vec![text; 3])) as ArrayRef;
    let ids = Arc::new(StringArray::from(vec!["own", "table", "never"])) as ArrayRef;
    let batch = |keep: i64| {
        let keep = Int64Array::from(vec![Some(keep), None, Some(0)]);
        RecordBatch::try_new(Arc::clone(&schema), vec![Arc::new(keep), Arc::clone(&ids), texts("v")]).unwrap()
    };
    let by_row = file("ttl = { column = \"keep\" }");
    let spec = TableSpec::plan(&by_row, &schema).unwrap();
    let store = Store::connect(&by_row, Some(&spec)).await.unwrap();
    let left = async |id: &str| {
        let answer = store.query(&format!("SELECT ttl(v) AS ttl FROM t WHERE id = '{id}'")).await.unwrap();
        answer.rows[0]["ttl"].as_i64()
    };
    write(&store, &RowSet::check(&spec, &batch(1_000), &[10, 10, 10]).unwrap().0).await;
    assert!(left("own").await.is_some_and(|left| (1..=1_000).contains(&left)));
    assert!(left("table").await.is_some_and(|left| (1_001..=5_000).contains(&left)), "null is the table's own");
    assert_eq!(left("never").await, None, "0 is no end");
    write(&store, &RowSet::check(&spec, &batch(3_000), &[10, 10, 10]).unwrap().0).await;
    assert!(left("own").await.is_some_and(|left| left > 1_000), "the same timestamp with a later end wins");

    let rest = Arc::new(schema.project(&[1, 2]).unwrap());
    let for_all = file("ttl = \"1h\"");
    let spec = TableSpec::plan(&for_all, &rest).unwrap();
    let store = Store::connect(&for_all, Some(&spec)).await.unwrap();
    let rows = RecordBatch::try_new(rest, vec![ids, texts("w")]).unwrap();
    assert_eq!(write(&store, &RowSet::check(&spec, &rows, &[20, 20, 20]).unwrap().0).await.written, 3);
    assert!(left("never").await.is_some_and(|left| (1..=3_600).contains(&left)));
}

/// Drops a test's keyspace on the server that the tests of this process share.
pub(in crate::store) async fn keyspace(name: &str) -> (String, Session) {
    let server = forebay_test_services::Cassandra::shared().contact_point();
    let session = SessionBuilder::new().known_node(&server).build().await.unwrap();
    session.query_unpaged(format!("DROP KEYSPACE IF EXISTS {}", crate::cql_name::cql_name(name)), ()).await.unwrap();
    (format!("[\"{server}\"]"), session)
}

async fn small_store(keyspace_name: &str, more: &str) -> (Store, TableSpec) {
    let (server, _) = keyspace(keyspace_name).await;
    let writer = format!("table = \"t\"\nprimary_key = [\"id\"]\nconsistency = \"LOCAL_QUORUM\"\n{more}");
    let spec = small(keyspace_name, "t");
    let store = Store::connect(&pipeline(Path::new("f.toml"), &server, keyspace_name, &writer), Some(&spec)).await.unwrap();
    (store, spec)
}

async fn write(store: &Store, rows: &RowSet) -> WriteOutcome {
    let outcome = store.write(rows, &|| ()).await.unwrap();
    assert!(outcome.unwritten.is_none(), "{outcome:?}");
    outcome
}

#[tokio::test(flavor = "multi_thread")]
async fn real_cassandra_every_type_reads_back_as_it_was_written() {
    let (server, session) = keyspace("fb_types").await;
    let pipeline = pipeline(Path::new("f.toml"), &server, "fb_types", WRITER);
    let spec = TableSpec::plan(&pipeline, &every_type()).unwrap();
    let refused = Store::connect(&pipeline, Some(&spec)).await.err().unwrap();
    assert!(refused.to_string().contains("CREATE TYPE fb_types.place (street text, city text);"), "{refused}");
    session.query_unpaged(format!("CREATE TYPE fb_types.{PLACE}"), ()).await.unwrap();
    let (store, spec) = Store::connect_to_write(&pipeline, &spec).await.unwrap();
    let (fit, _) = RowSet::check(&spec, &rows(), &[10, 20]).unwrap();
    assert_eq!(write(&store, &fit).await.written, 2);
    assert_eq!(write(&store, &fit.only(vec![0])).await.written, 1);

    let reader = Store::connect(&pipeline, None).await.unwrap();
    let columns = spec.columns.iter().map(|column| column.name.as_str()).collect::<Vec<_>>().join(", ");
    let answer = reader.query(&format!("SELECT {columns} FROM t WHERE id = {ID}")).await.unwrap();
    assert_eq!(answer.rows.into_iter().map(serde_json::Value::Object).collect::<Vec<_>>(), [first_row_as_json()]);
    let nulls = reader.query("SELECT * FROM fb_types.t WHERE seq = -2 ALLOW FILTERING").await.unwrap();
    assert_eq!(nulls.rows[0].values().filter(|value| value.is_null()).count(), every_type().fields().len() - 2);
    assert!(reader.query("DROP TABLE t").await.is_err());
}

/// Timestamps of two partitions can be a microsecond apart, which is how far the deletion before a
/// collection reaches back.
#[tokio::test(flavor = "multi_thread")]
async fn real_cassandra_a_collection_in_cells_is_the_newest_one_in_any_order_of_writes() {
    let (server, _) = keyspace("fb_cells").await;
    let writer = "table = \"t\"\nprimary_key = [\"id\"]\nconsistency = \"LOCAL_QUORUM\"\ncolumns = { tags = \"set<text>\", attrs = \"map<text, text>\" }";
    let file = pipeline(Path::new("f.toml"), &server, "fb_cells", writer);
    let tags = DataType::List(Arc::new(Field::new_list_field(DataType::Utf8, true)));
    let attrs: Fields = vec![Field::new("a", DataType::Utf8, true), Field::new("b", DataType::Utf8, true)].into();
    let fields =
        vec![Field::new("id", DataType::Utf8, true), Field::new("tags", tags, true), Field::new("attrs", DataType::Struct(attrs), true)];
    let schema = Arc::new(Schema::new(fields));
    let spec = TableSpec::plan(&file, &schema).unwrap();
    let store = Store::connect(&file, Some(&spec)).await.unwrap();
    let row = |id: &str, ts: i64, values: &str| {
        let mut reader = arrow_json::ReaderBuilder::new(Arc::clone(&schema)).build_decoder().unwrap();
        let mut json: serde_json::Value = serde_json::from_str(values).unwrap();
        json["id"] = id.into();
        reader.serialize(&[json]).unwrap();
        RowSet::check(&spec, &reader.flush().unwrap().unwrap(), &[ts]).unwrap().0
    };
    let versions = [
        (100, r#"{ "tags": ["x", "y"], "attrs": { "a": "1", "b": "1" } }"#),
        (101, r#"{ "tags": ["y", "z"], "attrs": { "b": "2" } }"#),
        (102, r#"{ "tags": null, "attrs": {} }"#),
    ];
    // All orders of the versions, each version at least twice, up to each of them as the newest.
    for (newest, expected) in [(1, serde_json::json!([["y", "z"], { "b": "2" }])), (2, serde_json::json!([null, null]))] {
        for order in [[0, 1, 2, 0, 1, 2], [2, 1, 0, 2, 1, 0], [1, 0, 2, 2, 0, 1], [1, 2, 0, 1, 0, 2], [0, 2, 1, 1, 2, 0]] {
            let id = format!("{newest}{order:?}");
            for at in order.into_iter().filter(|at| *at <= newest) {
                write(&store, &row(&id, versions[at].0, versions[at].1)).await;
            }
            let answer = store.query(&format!("SELECT tags, attrs FROM t WHERE id = '{id}'")).await.unwrap();
            let found: Vec<_> = answer.rows[0].values().cloned().collect();
            assert_eq!(serde_json::Value::Array(found), expected, "{id}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn real_cassandra_the_newest_timestamp_wins_and_a_replay_changes_nothing() {
    let (store, spec) = small_store("fb_newest", "").await;
    let batches = [pairs(&spec, &[("a", Some("new")), ("b", None)], 20), pairs(&spec, &[("a", Some("old")), ("b", Some("gone"))], 10)];
    for batch in [&batches[0], &batches[1], &batches[0], &batches[1]] {
        write(&store, batch).await;
    }
    let answer = store.query("SELECT id, v, writetime(v) AS at FROM t WHERE id IN ('a', 'b')").await.unwrap();
    let json = serde_json::to_value(&answer.rows).unwrap();
    assert_eq!(json, serde_json::json!([{ "id": "a", "v": "new", "at": 20 }, { "id": "b", "v": null, "at": null }]));
}

#[tokio::test(flavor = "multi_thread")]
async fn real_cassandra_a_batch_that_is_too_large_is_split() {
    let (store, spec) = small_store("fb_large", "batch_rows = 500").await;
    let Store::Cassandra(cassandra) = &store else { panic!("not Cassandra") };
    let value = "x".repeat(2_000);
    let names: Vec<String> = (0..500).map(|n| n.to_string()).collect();
    let values: Vec<(&str, Option<&str>)> = names.iter().map(|name| (name.as_str(), Some(value.as_str()))).collect();
    let rows = pairs(&spec, &values, 1);
    assert_eq!(write(&store, &rows).await.written, 500);

    // Without Forebay's own limit the server refuses the batch, and it is split until it is
    // accepted.
    let table = cassandra.0.table.read().clone().unwrap();
    let whole = RequestRows { rows: rows.clone(), range: 0..500 };
    let sent = cassandra.0.send(&cassandra.0.session(), &table, whole, OnRefusal::Report, None).await;
    assert!(matches!(sent, RequestOutcome::Split(first, second) if first == (0..250) && second == (250..500)));
    let one = pairs(&spec, &[("big", Some(&"y".repeat(200_000)))], 1);
    assert_eq!(write(&store, &one).await.written, 1, "one row is not a batch");
    let names: Vec<&str> = vec!["a", "too big", "c"];
    let huge = "z".repeat(20_000_000);
    let values: Vec<_> = names.iter().map(|name| (*name, Some(if *name == "too big" { huge.as_str() } else { "z" }))).collect();
    let outcome = write(&store, &pairs(&spec, &values, 1)).await;
    assert_eq!((outcome.written, outcome.rejected.len(), outcome.rejected[0].row), (2, 1, 1), "{outcome:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn real_cassandra_a_table_that_does_not_match_is_refused_with_the_remedy() {
    let (store, mut spec) = small_store("fb_schema", "").await;
    spec.columns[1].cql = super::super::CqlType::Bigint;
    let error = store.prepare(&spec).await.unwrap_err();
    assert_eq!(error.class(), Class::Fatal);
    assert!(error.to_string().contains("column v of table fb_schema.t is text, the pipeline writes bigint"), "{error}");
    spec.table = "other".to_owned();
    spec.create = false;
    assert!(store.prepare(&spec).await.unwrap_err().to_string().contains("CREATE TABLE IF NOT EXISTS fb_schema.other"));
}

#[tokio::test(flavor = "multi_thread")]
async fn real_cassandra_a_table_dropped_during_writes_is_fatal_and_rejects_no_row() {
    let (store, spec) = small_store("fb_dropped", "").await;
    let rows = pairs(&spec, &[("a", None), ("b", None)], 1);
    write(&store, &rows).await;
    let (_, session) = keyspace("fb_none").await;
    session.query_unpaged("DROP TABLE fb_dropped.t", ()).await.unwrap();
    let error = store.write(&rows, &|| ()).await.unwrap_err();
    assert_eq!(error.class(), Class::Fatal, "{error}");
}
