//! The tables of `docs/TYPES.md` are those of the code.

use std::path::Path;
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, TimeUnit};

use super::{CqlType, SIMPLE};

const BEGIN: &str = "<!-- made by cql_type/docs_tests.rs -->\n";
const END: &str = "<!-- end -->";

/// The types of values in the SQL, each with its type in the record's schema.
fn sql_types() -> Vec<(&'static str, &'static str, DataType)> {
    let field = |arrow: DataType| Arc::new(Field::new("item", arrow, true));
    let pair = vec![Field::new("key", DataType::Utf8, false), Field::new("value", DataType::Int64, true)];
    let map = DataType::Map(Arc::new(Field::new("entries", DataType::Struct(pair.into()), false)), false);
    let object = DataType::Struct(vec![Field::new("a", DataType::Utf8, true), Field::new("b", DataType::Utf8, true)].into());
    vec![
        ("`boolean`", "BOOLEAN", DataType::Boolean),
        ("`integer`", "BIGINT", DataType::Int64),
        ("`number`", "DOUBLE", DataType::Float64),
        ("`string`, `[\"integer\", \"string\"]`, format `uuid`", "VARCHAR", DataType::Utf8),
        ("`string`, format `date-time`", "TIMESTAMP", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))),
        ("`string`, format `date`", "DATE", DataType::Date32),
        ("`array` of `string`", "VARCHAR[]", DataType::List(field(DataType::Utf8))),
        ("`array` of `number`", "DOUBLE[]", DataType::List(field(DataType::Float64))),
        ("`object` of two `string`", "an object", object),
        ("", "TINYINT", DataType::Int8),
        ("", "SMALLINT", DataType::Int16),
        ("", "INT", DataType::Int32),
        ("", "REAL", DataType::Float32),
        ("", "DECIMAL(p, s)", DataType::Decimal128(12, 2)),
        ("", "DECIMAL(p, 0)", DataType::Decimal128(12, 0)),
        ("", "TIME", DataType::Time64(TimeUnit::Nanosecond)),
        ("`_key`", "BYTEA", DataType::Binary),
        ("", "`map(…)` of VARCHAR to BIGINT", map),
    ]
}

/// Types with parameters that stand for all of their kind.
const WITH_PARTS: &[&str] = &[
    "frozen<list<text>>",
    "frozen<list<double>>",
    "frozen<set<text>>",
    "set<text>",
    "frozen<map<text, bigint>>",
    "map<text, bigint>",
    "frozen<map<text, text>>",
    "map<text, text>",
    "frozen<tuple<text, text>>",
    "frozen<address>",
    "vector<float, 3>",
];

fn tables() -> String {
    let of_name = |name: &str| CqlType::parse(name).expect("the type is valid");
    let all: Vec<CqlType> = SIMPLE.iter().map(|(_, cql)| cql.clone()).chain(WITH_PARTS.iter().map(|name| of_name(name))).collect();
    let mut lines =
        vec!["| in the record's schema | in the SQL | column | with `columns` also |".to_owned(), "| --- | --- | --- | --- |".to_owned()];
    for (json, sql, arrow) in sql_types() {
        let natural = CqlType::of(&arrow);
        let declared: Vec<String> =
            all.iter().filter(|cql| cql.takes(&arrow) && Some(*cql) != natural.as_ref()).map(|cql| format!("`{cql}`")).collect();
        let natural = natural.map_or_else(|| "must be declared".to_owned(), |cql| format!("`{cql}`"));
        lines.push(format!("| {json} | {sql} | {natural} | {} |", declared.join(", ")));
    }
    lines.extend(["", "Not in a primary key:", ""].map(str::to_owned));
    lines.extend(all.iter().filter(|cql| cql.unfit_for_key().is_some()).map(|cql| format!("- `{cql}`")));
    lines.join("\n") + "\n"
}

#[test]
fn the_reference_of_types_is_that_of_the_code() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/TYPES.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = text.split_once(BEGIN).unwrap();
    let (table, after) = rest.split_once(END).unwrap();
    if std::env::var_os("FOREBAY_WRITE_SCHEMAS").is_some() {
        std::fs::write(&path, [before, BEGIN, &tables(), END, after].concat()).unwrap();
    } else {
        assert_eq!(table, tables(), "FOREBAY_WRITE_SCHEMAS=1 rewrites {}", path.display());
    }
}
