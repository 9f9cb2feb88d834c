//! Fixtures for tests of the transformation: a pipeline with a schema and SQL.

use std::path::Path;

use forebay_schemas::pipeline::{Pipeline, parse};

const HEAD: &str = r#"[pipeline]
name = "test"
[kafka]
bootstrap = "embedded"
topic = "topic"
[cassandra]
contact_points = "embedded"
keyspace = "forebay"
[consumer]
group = "test"
[writer]
table = "rows"
primary_key = ["id"]
[transformer]
schema = "record.schema.json"
"#;

/// The line of the pipeline file with the first word of the SQL, from 1.
pub const SQL_LINE: usize = 16;

/// A pipeline in its own directory, with this schema and SQL.
pub fn pipeline(directory: &Path, schema: &str, sql: &str) -> Pipeline {
    std::fs::write(directory.join("record.schema.json"), schema).expect("a test's own directory can be written");
    parse(&directory.join("forebay.toml"), format!("{HEAD}sql = '''{sql}'''\n")).expect("the test pipeline file is valid")
}
