//! A name gets into a CQL statement as it is only if it needs no quotes there.

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

/// Whether it needs no quotes, up to reserved words.
fn is_plain(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_lowercase()) && name.chars().all(|c| matches!(c, 'a'..='z' | '0'..='9' | '_'))
}

/// Checks one input.
pub fn check(bytes: &[u8]) {
    let Ok(name) = str::from_utf8(bytes) else { return };
    let quoted = serde_json::to_string(name).expect("text is JSON");
    for (key, value) in [("keyspace", "forebay"), ("table", "users_stream")] {
        let line = format!("\n{key} = \"{value}\"");
        assert_eq!(EXAMPLE.matches(&line).count(), 1, "{line}");
        if parse(EXAMPLE.replace(&line, &format!("\n{key} = {quoted}"))).is_ok() {
            assert!(name.len() <= 48 && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'), "{key} {name:?}");
        }
    }
    let schema = Schema::new(vec![Field::new("id", DataType::Utf8, false), Field::new(name, DataType::Utf8, true)]);
    if let Ok(table) = TableSpec::plan(&PIPELINE, &schema) {
        assert!(!name.contains(['"', ' ', '(', ';']), "column {name:?}");
        let of = |column: &str| format!("INSERT INTO forebay.users_stream (id, {column}) VALUES (?, ?) USING TIMESTAMP ?");
        let (plain, quoted) = (of(name), of(&format!("\"{name}\"")));
        let statement = table.insert_cql();
        let is_reserved = ["select", "from", "table", "where", "insert", "primary"].contains(&name);
        assert!(statement == quoted || (statement == plain && is_plain(name) && !is_reserved), "{statement}");
    }
}
