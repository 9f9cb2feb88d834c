//! Warns when the topic's key does not determine the table's primary key.
//!
//! Guarantees:
//! * Without a warning, all records of a row have the same key in the topic, and so are in one
//!   partition while the number of partitions stays. If the table has static columns, the same
//!   holds for all records of a partition of the table.
//!
//! Does not guarantee the converse: expressions are not analysed ([`ColumnSource`]).

use forebay_schemas::pipeline::Pipeline;
use forebay_schemas::run_plan::Warning;

use forebay_dataplane::store::TableSpec;
use forebay_dataplane::transform::{ColumnSource, Transform};

/// The consequence when the records of a row are in several partitions.
const CONSEQUENCE: &str =
    "records of one row may be in several partitions, and the row is one of them, whole, but not necessarily the newest";

/// Warns when records that write one static column may be in several partitions of the topic.
pub(super) fn of_statics(pipeline: &Pipeline, transform: &Transform, table: &TableSpec) -> Option<Warning> {
    let names: Vec<&str> = table.statics().collect();
    let key = pipeline.producer.as_ref().map(|producer| producer.key.as_str());
    let follows = |&at: &usize| match transform.column_sources().get(table.select_index(at)) {
        Some(Some(ColumnSource::Key)) => true,
        Some(Some(ColumnSource::Field(pointer))) => key == Some(pointer.as_str()),
        _ => false,
    };
    if names.is_empty() || table.partition_key().iter().any(follows) {
        return None;
    }
    let partition: Vec<&str> = table.partition_key().iter().map(|&at| table.columns[at].name.as_str()).collect();
    Some(Warning {
        code: "static_not_of_topic_key".to_owned(),
        what: format!(
            "static columns ({}) are shared by all rows of ({}), whose records may be in several partitions of the topic, so their values are \
             not necessarily the newest; let [producer] key be a field of the partition key",
            names.join(", "),
            partition.join(", ")
        ),
    })
}

/// Warns when the primary key does not follow from the topic's key, or when that is unknown.
pub(super) fn warning(pipeline: &Pipeline, transform: &Transform, table: &TableSpec) -> Option<Warning> {
    let sources: Vec<Option<&ColumnSource>> =
        table.primary_key.iter().map(|&at| transform.column_sources().get(table.select_index(at)).and_then(Option::as_ref)).collect();
    if sources.contains(&Some(&ColumnSource::Key)) {
        return None;
    }
    let names = table.key_names().join(", ");
    let Some(producer) = &pipeline.producer else {
        return Some(Warning {
            code: "topic_key_not_known".to_owned(),
            what: format!(
                "whether the key of {}'s records determines the primary key ({names}) is not known, for others produce them: if not, or if a \
                 record has no key, {CONSEQUENCE}. With `_key` in the primary key it does; `unkeyed` in `forebay status --json` counts records without one",
                pipeline.kafka.topic
            ),
        });
    };
    if sources.iter().flatten().any(|source| matches!(source, ColumnSource::Field(pointer) if *pointer == producer.key)) {
        return None;
    }
    let column = |(name, source): (&str, &Option<&ColumnSource>)| match source {
        Some(ColumnSource::Field(pointer)) => format!("{name} is {pointer}"),
        _ => format!("{name} is no field of its own"),
    };
    let columns: Vec<String> = table.key_names().into_iter().zip(&sources).map(column).collect();
    Some(Warning {
        code: "primary_key_not_of_topic_key".to_owned(),
        what: format!(
            "the primary key does not follow from the topic's key: [producer] key is {}, and {}; {CONSEQUENCE}. Set [producer] key to the \
             field that determines the row, or add that field to the primary key",
            producer.key,
            columns.join(", ")
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::super::Blueprint;
    use super::*;

    const SCHEMA: &str = r#"{"type":"object","required":["id","user"],"properties":{"id":{"type":"string"},"n":{"type":"integer"},
        "user":{"type":"object","required":["name"],"properties":{"name":{"type":"string"}}},"lines":{"type":"array","items":{"type":"string"}}}}"#;

    /// The code and the text of the warning, if any, for a producer's key, a SELECT and a primary
    /// key.
    fn warning_of(key: Option<&str>, sql: &str, primary_key: &str) -> Option<(String, String)> {
        warning_by(super::warning, key, sql, primary_key)
    }

    fn warning_by(
        warning: fn(&Pipeline, &Transform, &TableSpec) -> Option<Warning>,
        key: Option<&str>,
        sql: &str,
        primary_key: &str,
    ) -> Option<(String, String)> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("s.json"), SCHEMA).unwrap();
        let fetch = |key| format!("[fetcher]\nurl = \"http://127.0.0.1:9/\"\nrecords = \"\"\n[producer]\nkey = {key:?}\n");
        let file = format!(
            "[pipeline]\nname = \"p\"\n[kafka]\nbootstrap = \"127.0.0.1:9\"\ntopic = \"t\"\n[cassandra]\ncontact_points = [\"127.0.0.1:9\"]\n\
             keyspace = \"k\"\n{}[consumer]\ngroup = \"g\"\n[transformer]\nschema = \"s.json\"\nsql = \"\"\"{sql}\"\"\"\n[writer]\ntable = \"t\"\n\
             primary_key = [{primary_key}]\n",
            key.map(fetch).unwrap_or_default()
        );
        let pipeline = forebay_schemas::pipeline::parse(&folder.path().join("forebay.toml"), file).unwrap();
        let blueprint = Blueprint::new(pipeline).unwrap();
        let (transform, table) = (blueprint.transform.as_deref().unwrap(), blueprint.table.as_deref().unwrap());
        warning(&blueprint.pipeline, transform, table).map(|warning| (warning.code, warning.what))
    }

    #[test]
    fn a_primary_key_with_the_producers_key_field_gives_no_warning() {
        for (key, sql, primary_key) in [
            ("/id", "SELECT id, n FROM t", "\"id\""),
            ("/id", "SELECT id AS a, n FROM t WHERE n > 1", "\"n\", \"a\""),
            ("/user/name", "SELECT user['name'] AS name, n FROM t", "\"name\""),
            ("/user/name", "SELECT u['name'] AS name, n FROM (SELECT user AS u, n FROM t) AS s", "\"name\""),
            ("/id", "SELECT id, unnest(lines) AS line FROM t", "\"id\", \"line\""),
            ("/n", "SELECT CAST(n AS VARCHAR) AS n FROM t", "\"n\""),
            ("/id", "SELECT encode(_key, 'hex') AS k, n FROM t", "\"k\""),
        ] {
            assert_eq!(warning_of(Some(key), sql, primary_key), None, "{key} {sql}");
        }
        assert_eq!(warning_of(None, "SELECT _key AS k, n FROM t", "\"k\""), None);
    }

    #[test]
    fn a_primary_key_without_it_gives_a_warning_with_its_columns() {
        for (key, sql, primary_key, part) in [
            ("/user/name", "SELECT id, n FROM t", "\"id\"", "[producer] key is /user/name, and id is /id;"),
            ("/id", "SELECT lower(id) AS id, n FROM t", "\"id\"", "and id is no field of its own;"),
            ("/id", "SELECT unnest(lines) AS line, n FROM t", "\"line\", \"n\"", "and line is no field of its own, n is /n;"),
            ("/id", "SELECT n % 10 AS n, id FROM t", "\"n\"", "and n is no field of its own;"),
        ] {
            let (code, what) = warning_of(Some(key), sql, primary_key).unwrap();
            assert!(code == "primary_key_not_of_topic_key" && what.contains(part), "{what}");
        }
    }

    #[test]
    fn a_static_column_of_records_in_several_partitions_gives_a_warning() {
        let sql = "SELECT id, n, user['name'] AS name FROM t";
        let warned = |key: &str, primary_key: &str| warning_by(of_statics, Some(key), sql, primary_key);
        let key = "\"id\", \"n\"";
        let with_static = format!("{key}]\nstatic = [\"name\"] #");
        assert_eq!((warned("/id", &with_static), warned("/n", key)), (None, None));
        let (code, what) = warned("/n", &with_static).unwrap();
        assert!(code == "static_not_of_topic_key" && what.contains("(name) are shared by all rows of (id)"), "{what}");
    }

    #[test]
    fn a_topic_of_other_producers_gives_a_warning() {
        let (code, what) = warning_of(None, "SELECT id, n FROM t", "\"id\"").unwrap();
        assert!(code == "topic_key_not_known" && what.contains("primary key (id) is not known"), "{what}");
    }
}
