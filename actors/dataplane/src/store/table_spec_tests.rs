use std::path::Path;
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, Schema};
use forebay_schemas::pipeline::FileError;

use super::{RowTtl, TableSpec};
use crate::store::fixtures::{WRITER, every_type, pipeline};

fn plan(writer: &str, fields: Vec<(&str, DataType)>) -> Result<TableSpec, FileError> {
    let fields: Vec<_> = fields.into_iter().map(|(name, arrow)| Field::new(name, arrow, true)).collect();
    TableSpec::plan(&pipeline(Path::new("f.toml"), "\"embedded\"", "forebay", writer), &Schema::new(fields))
}

/// The message and the remedy of a refused plan.
fn refusal(writer: &str, fields: Vec<(&str, DataType)>) -> (String, String) {
    let error = plan(writer, fields).expect_err("the plan is wrong");
    (error.to_string(), error.remedy().unwrap_or_default().to_owned())
}

const KEYED: &str = "table = \"t\"\nprimary_key = [\"id\"]";

#[test]
fn every_type_has_a_column_in_create_table() {
    let spec = TableSpec::plan(&pipeline(Path::new("f.toml"), "\"embedded\"", "forebay", WRITER), &every_type()).unwrap();
    assert_eq!(
        spec.create_table_cql(),
        "CREATE TABLE IF NOT EXISTS forebay.t (
    id uuid,
    seq bigint,
    name text,
    plain ascii,
    small smallint,
    tiny tinyint,
    age int,
    score double,
    ratio float,
    ok boolean,
    at timestamp,
    seen timestamp,
    born date,
    price decimal,
    raw blob,
    numbers frozen<list<bigint>>,
    once timeuuid,
    big varint,
    whole varint,
    noon time,
    ip inet,
    length duration,
    tags frozen<set<text>>,
    marks set<bigint>,
    attrs map<text, bigint>,
    props frozen<map<text, text>>,
    pair frozen<tuple<text, text>>,
    place frozen<place>,
    embedding vector<float, 3>,
    groups frozen<set<frozen<list<int>>>>,
    PRIMARY KEY (id, seq)
)"
    );
    assert_eq!(
        spec.create_keyspace_cql(),
        "CREATE KEYSPACE IF NOT EXISTS forebay WITH replication = {'class': 'NetworkTopologyStrategy', 'replication_factor': 1} AND durable_writes = true"
    );
    assert!(!spec.columns[0].nullable && spec.columns[2].nullable);
    assert_eq!(spec.primary_key, [0, 1]);
}

#[test]
fn an_insert_has_every_column_and_the_timestamp_of_the_row() {
    let spec = plan(KEYED, vec![("id", DataType::Utf8), ("age", DataType::Int32)]).unwrap();
    assert_eq!(spec.insert_cql(), "INSERT INTO forebay.t (id, age) VALUES (?, ?) USING TIMESTAMP ?");
}

#[test]
fn a_key_column_missing_in_the_select_is_refused_with_a_suggestion() {
    let (message, help) = refusal("table = \"t\"\nprimary_key = [\"idd\"]", vec![("id", DataType::Utf8), ("age", DataType::Int32)]);
    assert_eq!(message, "`idd` is not a column of the SELECT");
    assert_eq!(help, "did you mean `id`?");
}

#[test]
fn a_typed_column_missing_in_the_select_is_refused_with_a_suggestion() {
    let writer = format!("{KEYED}\ncolumns = {{ first_nam = \"text\" }}");
    let (message, help) = refusal(&writer, vec![("id", DataType::Utf8), ("first_name", DataType::Utf8)]);
    assert_eq!((message.as_str(), help.as_str()), ("`first_nam` is not a column of the SELECT", "did you mean `first_name`?"));
}

#[test]
fn nulls_are_written_to_all_columns_that_are_not_unset() {
    let fields = || vec![("id", DataType::Utf8), ("phone", DataType::Utf8), ("cell", DataType::Utf8)];
    let tombstones = |more: &str| {
        let spec = plan(&format!("{KEYED}\n{more}"), fields()).unwrap();
        spec.tombstones().map(|column| column.name.clone()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(tombstones(""), "phone cell");
    assert_eq!(tombstones("nulls = { phone = \"unset\" }"), "cell");
    assert_eq!(tombstones("nulls = \"unset\""), "");
}

#[test]
fn an_unset_column_missing_in_the_select_is_refused_with_a_suggestion() {
    let writer = format!("{KEYED}\nnulls = {{ phon = \"unset\" }}");
    let (message, help) = refusal(&writer, vec![("id", DataType::Utf8), ("phone", DataType::Utf8)]);
    assert_eq!((message.as_str(), help.as_str()), ("`phon` is not a column of the SELECT", "did you mean `phone`?"));
}

#[test]
fn a_name_that_cassandra_does_not_accept_is_refused() {
    assert!(refusal(KEYED, vec![("id", DataType::Utf8), ("count(*)", DataType::Int64)]).1.contains("AS"));
    assert!(refusal(KEYED, vec![("id", DataType::Utf8), ("first name", DataType::Int64)]).0.contains("can't be a column"));
    let twice = refusal(KEYED, vec![("id", DataType::Utf8), ("id", DataType::Utf8)]);
    assert!(twice.0.contains("two columns `id`"));
}

#[test]
fn a_name_that_needs_quotes_has_them_in_every_statement() {
    let writer = "table = \"Select\"\nprimary_key = [\"userId\", \"order\"]\ncolumns = { \"@at\" = \"timestamp\" }";
    let fields = vec![("userId", DataType::Utf8), ("order", DataType::Int64), ("@at", DataType::Utf8), ("plain", DataType::Utf8)];
    let fields: Vec<_> = fields.into_iter().map(|(name, arrow)| Field::new(name, arrow, true)).collect();
    let file = pipeline(Path::new("f.toml"), "[\"127.0.0.1:9\"]", "Shop", writer);
    let spec = TableSpec::plan(&file, &Schema::new(fields)).unwrap();
    assert!(spec.create_keyspace_cql().starts_with("CREATE KEYSPACE IF NOT EXISTS \"Shop\" WITH"));
    assert_eq!(
        spec.create_table_cql(),
        "CREATE TABLE IF NOT EXISTS \"Shop\".\"Select\" (
    \"userId\" text,
    \"order\" bigint,
    \"@at\" timestamp,
    plain text,
    PRIMARY KEY (\"userId\", \"order\")
)"
    );
    assert_eq!(
        spec.insert_cql(),
        "INSERT INTO \"Shop\".\"Select\" (\"userId\", \"order\", \"@at\", plain) VALUES (?, ?, ?, ?) USING TIMESTAMP ?"
    );
}

#[test]
fn a_table_is_created_with_its_partition_key_order_static_columns_and_options() {
    let writer = "table = \"t\"\nprimary_key = [[\"a\", \"b\"], \"c\", \"d\"]\nclustering_order = [\"d desc\"]\nstatic = [\"s\"]\n\
                  [writer.options]\ncomment = \"it's\"\ncompaction = { class = \"LeveledCompactionStrategy\", sstable_size_in_mb = 160 }";
    let fields: Vec<_> = ["a", "b", "c", "d", "s"].map(|name| Field::new(name, DataType::Utf8, true)).into();
    let spec = TableSpec::plan(&pipeline(Path::new("f.toml"), "[\"127.0.0.1:9\"]", "k", writer), &Schema::new(fields)).unwrap();
    assert_eq!(
        spec.create_table_cql(),
        "CREATE TABLE IF NOT EXISTS k.t (
    a text,
    b text,
    c text,
    d text,
    s text STATIC,
    PRIMARY KEY ((a, b), c, d)
)
WITH CLUSTERING ORDER BY (c ASC, d DESC)
    AND comment = 'it''s'
    AND compaction = {'class': 'LeveledCompactionStrategy', 'sstable_size_in_mb': '160'}"
    );
}

#[test]
fn the_time_to_live_is_a_value_of_the_insert_and_its_column_is_none_of_the_table() {
    let file = |more: &str| pipeline(Path::new("f.toml"), "[\"127.0.0.1:9\"]", "k", &format!("{KEYED}\n{more}"));
    let fields = [("seconds", DataType::Int64), ("id", DataType::Utf8)].map(|(name, arrow)| Field::new(name, arrow, true));
    let schema = Schema::new(fields.to_vec());
    let spec = TableSpec::plan(&file("ttl = { column = \"seconds\" }"), &schema).unwrap();
    assert_eq!(spec.insert_cql(), "INSERT INTO k.t (id) VALUES (?) USING TIMESTAMP ? AND TTL ?");
    assert_eq!((spec.primary_key[0], spec.select_index(0)), (0, 1));
    let spec = TableSpec::plan(&file("ttl = \"30d\""), &schema).unwrap();
    assert_eq!(spec.insert_cql(), "INSERT INTO k.t (seconds, id) VALUES (?, ?) USING TIMESTAMP ? AND TTL ?");
    assert_eq!(spec.ttl, Some(RowTtl::Seconds(2_592_000)));
    let refused = |more: &str| TableSpec::plan(&file(more), &schema).unwrap_err().to_string();
    assert_eq!(refused("ttl = { column = \"secs\" }"), "`secs` is not a column of the SELECT");
    let text = Schema::new(["id", "seconds"].map(|name| Field::new(name, DataType::Utf8, true)).to_vec());
    let error = TableSpec::plan(&file("ttl = { column = \"seconds\" }"), &text).unwrap_err();
    assert_eq!(error.to_string(), "`seconds` is Utf8 in the SQL; the time to live is a number of seconds");
}

#[test]
fn names_that_sqlite_takes_for_one_are_refused_by_the_embedded_store_only() {
    let fields = |other: &'static str| vec![("id", DataType::Utf8), ("Id", DataType::Utf8), (other, DataType::Utf8)];
    assert_eq!(refusal(KEYED, fields("v")).0, "the embedded store can't tell the columns `id` and `Id` apart");
    assert!(refusal(KEYED, vec![("id", DataType::Utf8), ("_TS", DataType::Utf8)]).0.contains("write timestamps"));
    let schema = Schema::new(fields("_ts").into_iter().map(|(name, arrow)| Field::new(name, arrow, true)).collect::<Vec<_>>());
    assert!(TableSpec::plan(&pipeline(Path::new("f.toml"), "[\"127.0.0.1:9\"]", "k", KEYED), &schema).is_ok());
}

#[test]
fn a_type_that_cassandra_cannot_store_is_refused_with_a_remedy() {
    let point = DataType::Struct(vec![Field::new("x", DataType::Int64, true)].into());
    assert!(refusal(KEYED, vec![("id", DataType::Utf8), ("point", point)]).1.contains("point['field']"));
    assert!(refusal(KEYED, vec![("id", DataType::Utf8), ("nothing", DataType::Null)]).1.contains("columns = { nothing = \"text\" }"));
    let points = DataType::List(Arc::new(Field::new_list_field(DataType::Struct(Vec::<Field>::new().into()), true)));
    assert!(plan(KEYED, vec![("id", DataType::Utf8), ("points", points)]).is_err());
}

#[test]
fn a_column_that_cassandra_cannot_compare_is_refused_in_the_primary_key() {
    for (declared, why) in
        [("duration", "durations have no order"), ("frozen<tuple<duration>>", "durations"), ("set<text>", "frozen collection")]
    {
        let arrow = match declared {
            "set<text>" => DataType::List(Arc::new(Field::new_list_field(DataType::Utf8, true))),
            "duration" => DataType::Utf8,
            _ => DataType::Struct(vec![Field::new("d", DataType::Utf8, true)].into()),
        };
        let (message, _) = refusal(&format!("{KEYED}\ncolumns = {{ id = \"{declared}\" }}"), vec![("id", arrow)]);
        assert!(message.contains("can't be part of the primary key") && message.contains(why), "{message}");
    }
}

#[test]
fn objects_become_maps_tuples_and_user_defined_types_and_a_map_has_a_type_of_its_own() {
    let object = DataType::Struct(vec![Field::new("a", DataType::Utf8, true), Field::new("b", DataType::Int64, true)].into());
    let planned =
        |declared: &str| plan(&format!("{KEYED}\ncolumns = {{ o = \"{declared}\" }}"), vec![("id", DataType::Utf8), ("o", object.clone())]);
    assert!(planned("frozen<tuple<text, bigint>>").is_ok() && planned("frozen<thing>").is_ok());
    for wrong in ["frozen<map<text, text>>", "frozen<tuple<text>>", "frozen<tuple<bigint, text>>", "frozen<list<text>>", "text"] {
        assert!(planned(wrong).unwrap_err().to_string().contains("which can't become"), "{wrong}");
    }
    let entries = vec![Field::new("key", DataType::Utf8, false), Field::new("value", DataType::Utf8, true)];
    let map = DataType::Map(Arc::new(Field::new("entries", DataType::Struct(entries.into()), false)), false);
    let spec = plan(KEYED, vec![("id", DataType::Utf8), ("m", map)]).unwrap();
    assert_eq!(spec.columns[1].cql.to_string(), "frozen<map<text, text>>");
}

#[test]
fn a_declared_type_without_a_conversion_is_refused() {
    let writer = format!("{KEYED}\ncolumns = {{ age = \"int\" }}");
    let (message, help) = refusal(&writer, vec![("id", DataType::Utf8), ("age", DataType::Utf8)]);
    assert_eq!(message, "`age` is Utf8 in the SQL, which can't become `int`");
    assert_eq!(help, "use `text`, or convert it in the SQL with CAST");
    assert!(plan(&writer, vec![("id", DataType::Utf8), ("age", DataType::Int64)]).is_ok());
}

#[test]
fn an_unknown_declared_type_is_refused_with_a_suggestion() {
    let writer = format!("{KEYED}\ncolumns = {{ id = \"uuidd\" }}");
    let (message, help) = refusal(&writer, vec![("id", DataType::Utf8)]);
    assert_eq!(
        (message.as_str(), help.as_str()),
        ("`uuidd` is not a type of CQL", "did you mean `uuid`? A user-defined type is written frozen<uuidd>")
    );
}
