//! Whether the topic's key decides the table's key, as far as the file says it.
//!
//! Guarantee: where nothing is said, two records of one row have the same key in the topic, and so are in one partition as long as none are added.
//! Not guaranteed: that they are not, where something is said; expressions are not taken apart ([`ColumnSource`]).

use forebay_schemas::pipeline::Pipeline;
use forebay_schemas::plan::Warning;

use forebay_dataplane::store::TableSpec;
use forebay_dataplane::transform::{ColumnSource, Transform};

/// What follows where records of one row may be in several partitions.
const CONSEQUENCE: &str =
    "records of one row may then be in several partitions, and its row is that of one of them, whole, which need not be the newest";

/// Says so when the primary key does not follow from the topic's key, or when that is not known.
pub(super) fn warning(pipeline: &Pipeline, plan: &Transform, table: &TableSpec) -> Option<Warning> {
    let sources: Vec<Option<&ColumnSource>> =
        table.primary_key.iter().map(|&at| plan.column_sources().get(at).and_then(Option::as_ref)).collect();
    if sources.contains(&Some(&ColumnSource::Key)) {
        return None;
    }
    let names = table.key_names().join(", ");
    let Some(producer) = &pipeline.producer else {
        return Some(Warning {
            code: "topic_key_not_known".to_owned(),
            what: format!(
                "whether the key of {}'s records decides the primary key ({names}) is not known, for others produce them: where it does not, or a \
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
            "the primary key does not follow from the topic's key: [producer] key is {}, and {}; {CONSEQUENCE}. Name the field that decides the row in \
             [producer] key, or put that field into the primary key",
            producer.key,
            columns.join(", ")
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::super::Blueprint;

    const SCHEMA: &str = r#"{"type":"object","required":["id","user"],"properties":{"id":{"type":"string"},"n":{"type":"integer"},
        "user":{"type":"object","required":["name"],"properties":{"name":{"type":"string"}}},"lines":{"type":"array","items":{"type":"string"}}}}"#;

    /// The code of the warning for a producer's key, a SELECT and a primary key, if there is one, and what it says.
    fn said(key: Option<&str>, sql: &str, primary_key: &str) -> Option<(String, String)> {
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
        let (plan, table) = (blueprint.plan.as_deref().unwrap(), blueprint.table.as_deref().unwrap());
        super::warning(&blueprint.pipeline, plan, table).map(|warning| (warning.code, warning.what))
    }

    #[test]
    fn a_primary_key_that_holds_the_producers_key_field_is_not_warned_of() {
        for (key, sql, primary_key) in [
            ("/id", "SELECT id, n FROM t", "\"id\""),
            ("/id", "SELECT id AS a, n FROM t WHERE n > 1", "\"n\", \"a\""),
            ("/user/name", "SELECT user['name'] AS name, n FROM t", "\"name\""),
            ("/user/name", "SELECT u['name'] AS name, n FROM (SELECT user AS u, n FROM t) AS s", "\"name\""),
            ("/id", "SELECT id, unnest(lines) AS line FROM t", "\"id\", \"line\""),
            ("/n", "SELECT CAST(n AS VARCHAR) AS n FROM t", "\"n\""),
            ("/id", "SELECT encode(_key, 'hex') AS k, n FROM t", "\"k\""),
        ] {
            assert_eq!(said(Some(key), sql, primary_key), None, "{key} {sql}");
        }
        assert_eq!(said(None, "SELECT _key AS k, n FROM t", "\"k\""), None);
    }

    #[test]
    fn one_that_does_not_is_warned_of_with_what_its_columns_are() {
        for (key, sql, primary_key, part) in [
            ("/user/name", "SELECT id, n FROM t", "\"id\"", "[producer] key is /user/name, and id is /id;"),
            ("/id", "SELECT lower(id) AS id, n FROM t", "\"id\"", "and id is no field of its own;"),
            ("/id", "SELECT unnest(lines) AS line, n FROM t", "\"line\", \"n\"", "and line is no field of its own, n is /n;"),
            ("/id", "SELECT n % 10 AS n, id FROM t", "\"n\"", "and n is no field of its own;"),
        ] {
            let (code, what) = said(Some(key), sql, primary_key).unwrap();
            assert!(code == "primary_key_not_of_topic_key" && what.contains(part), "{what}");
        }
    }

    #[test]
    fn of_a_topic_that_others_fill_it_is_said_what_is_not_known() {
        let (code, what) = said(None, "SELECT id, n FROM t", "\"id\"").unwrap();
        assert!(code == "topic_key_not_known" && what.contains("primary key (id) is not known"), "{what}");
    }
}
