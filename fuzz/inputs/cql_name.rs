//! A name gets into a CQL statement only if it needs no quotes there.

use std::path::Path;
use std::sync::LazyLock;

use forebay_dataplane::arrow::datatypes::{DataType, Field, Schema};
use forebay_dataplane::store::TableSpec;
use forebay_schemas::pipeline::{self, FileError, Pipeline};

const EXAMPLE: &str = include_str!("../../examples/users/forebay.toml");

static PIPELINE: LazyLock<Pipeline> = LazyLock::new(|| parse(EXAMPLE.to_owned()).expect("the example is valid"));

fn parse(text: String) -> Result<Pipeline, FileError> {
    pipeline::parse(Path::new("forebay.toml"), text)
}

/// Whether it is a lower-case letter, and then at most 47 lower-case letters, digits and `_`.
fn is_plain(name: &str) -> bool {
    let rest = name.strip_prefix(|first: char| first.is_ascii_lowercase());
    rest.is_some_and(|rest| rest.chars().count() < 48 && rest.chars().all(|c| matches!(c, 'a'..='z' | '0'..='9' | '_')))
}

/// Checks one input.
pub fn check(bytes: &[u8]) {
    let Ok(name) = str::from_utf8(bytes) else { return };
    let quoted = serde_json::to_string(name).expect("text is JSON");
    for (key, value) in [("keyspace", "forebay"), ("table", "users_stream")] {
        let line = format!("\n{key} = \"{value}\"");
        assert_eq!(EXAMPLE.matches(&line).count(), 1, "{line}");
        if parse(EXAMPLE.replace(&line, &format!("\n{key} = {quoted}"))).is_ok() {
            assert!(is_plain(name), "{key} {name:?}");
        }
    }
    let schema = Schema::new(vec![Field::new("id", DataType::Utf8, false), Field::new(name, DataType::Utf8, true)]);
    if let Ok(table) = TableSpec::plan(&PIPELINE, &schema) {
        assert!(is_plain(name) && !["select", "from", "table", "where", "insert", "primary"].contains(&name), "column {name:?}");
        let statement = format!("INSERT INTO forebay.users_stream (id, {name}) VALUES (?, ?) USING TIMESTAMP ?");
        assert_eq!(table.insert_cql(), statement);
    }
}
