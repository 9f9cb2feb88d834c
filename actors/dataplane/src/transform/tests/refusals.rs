//! What is refused before anything runs: where it is shown, what is said, what is to be done.

use super::*;

const SCHEMA: &str = r#"{"type":"object","required":["id"],"properties":{
    "id":{"type":"integer"},"userName":{"type":"string"},"tags":{"type":"array","items":{"type":"string"}},
    "at":{"type":"object","properties":{"city":{"type":"string"}}}}}"#;

#[track_caller]
fn refused(sql: &str, line: usize, message: &str, remedy: &str) {
    let error = try_plan(SCHEMA, sql).map(|_| ()).expect_err(sql);
    assert!(error.to_string().contains(message), "{sql}\n  says: {error}\n  not:  {message}");
    assert!(error.remedy().unwrap_or_default().contains(remedy), "{sql}\n  says: {:?}\n  not:  {remedy}", error.remedy());
    assert_eq!(error.line(), Some(SQL_LINE + line), "{sql}: {error}");
}

const BORDERS: &str = "depending on where a micro-batch is cut";

#[test]
fn what_looks_at_more_than_one_record_is_refused() {
    for (sql, line) in [
        ("SELECT id,\n count(*) AS n FROM topic\n GROUP BY id", 2),
        ("SELECT\n max(id) AS m FROM topic", 1),
        ("SELECT\nDISTINCT id FROM topic", 1),
        ("SELECT id FROM topic\nORDER BY id", 1),
        ("SELECT id FROM topic\nLIMIT 3", 1),
        ("SELECT id, row_number()\nOVER () AS n FROM topic", 1),
        ("SELECT a.id FROM topic a\nJOIN topic b ON a.id = b.id", 1),
        ("SELECT id FROM topic\nUNION ALL SELECT id FROM topic", 1),
        ("SELECT id FROM topic\nINTERSECT SELECT id FROM topic", 1),
    ] {
        refused(sql, line, BORDERS, "");
    }
    refused("SELECT id FROM topic WHERE id IN (SELECT id FROM topic)", 0, "a subquery looks at other records", "one record at a time");
    refused("SELECT id, (SELECT max(id) FROM topic) AS m FROM topic", 0, "a subquery looks at other records", "one record at a time");
}

#[test]
fn clocks_and_chance_are_refused_by_name() {
    for sql in ["SELECT id,\nnow() AS n FROM topic", "SELECT id,\ncurrent_timestamp AS n FROM topic"] {
        refused(sql, 1, "`now()` gives another value each time", "`_timestamp`");
    }
    refused("SELECT id,\ncurrent_date AS n FROM topic", 1, "`current_date()` gives another value each time", "`_timestamp`");
    refused("SELECT id FROM topic\nWHERE uuid() <> ''", 1, "`uuid()` gives another value each time", "md5");
}

#[test]
fn only_a_select_from_the_topic_is_taken() {
    refused("SELECT 1 AS id", 0, "reads no record", "FROM topic");
    refused("SELECT id FROM\nusers", 1, "there is no table `users`", "FROM topic");
    for sql in ["CREATE TABLE x (id INT)", "DROP TABLE topic", "INSERT INTO topic VALUES (1)", "DELETE FROM topic", "SHOW TABLES"] {
        refused(sql, 0, "is not a SELECT", "FROM topic");
    }
    for sql in ["COPY topic TO 'x.csv'", "CREATE EXTERNAL TABLE x STORED AS CSV LOCATION 'x'", "EXPLAIN SELECT id FROM topic"] {
        refused(sql, 0, "is not a SELECT", "FROM topic");
    }
    refused("SELECT id FROM topic; SELECT id FROM topic", 0, "more than one statement", "one SELECT");
    refused("", 0, "is not a SELECT", "FROM topic");
    refused("VALUES (1)", 0, "reads no record", "FROM topic");
    refused("SELECT id FROM topic WHERE id = $1", 0, "the parameter `$1` has no value", "write the value");
    refused("SELECT id FROM topic\nWHERE 1 = 2", 1, "WHERE is always false", "");
}

#[test]
fn an_unknown_column_names_the_nearest_and_all() {
    refused("SELECT id,\n\n username FROM topic", 2, "there is no column `username`", "did you mean `userName`?");
    refused(
        "SELECT idd FROM topic",
        0,
        "there is no column `idd`",
        "the columns are id, userName, tags, at, _timestamp, _offset, _partition, _key, _headers",
    );
    refused("SELECT id FROM topic WHERE\n id = \"x y z\"", 1, "there is no column `x y z`", "text stands in single quotes");
    refused("SELECT id,\nat['town'] AS t FROM topic", 1, "town", "name['first']");
    refused("SELECT id, _row AS r FROM topic", 0, "there is no column `_row`", "");
}

#[test]
fn names_are_told_apart_by_case_as_in_the_record() {
    let plan = plan(SCHEMA, "SELECT id, userName, at['city'] AS City FROM topic");
    let names: Vec<_> = plan.output_schema().fields().iter().map(|f| f.name().clone()).collect();
    assert_eq!(names, ["id", "userName", "City"]);
}

#[test]
fn a_slip_in_the_sql_is_shown_where_it_is() {
    refused("SELECT id\nFORM topic", 1, "does not parse", "SELECT … FROM topic");
    refused("SELECT id,\n  uper(userName) AS n FROM topic", 1, "there is no function `uper`", "did you mean `upper`?");
    refused("SELECT id FROM topic\nWHERE userName", 0, "can't be planned", "");
    refused("SELECT id AS a, id + 1 AS a FROM topic", 0, "can't be planned", "");
    refused("SELECT id,\n id AS _row FROM topic", 1, "`_row` is a name that Forebay needs", "otherwise");
}

/// A limit of DataFusion's planner, which has a way round it.
#[test]
fn beside_unnest_a_computed_column_needs_a_name_of_its_own() {
    refused("SELECT CAST(id AS TEXT) AS id,\nunnest(tags) AS tag FROM topic", 1, "the name of a field", "unnest first");
    plan(SCHEMA, "SELECT CAST(id AS TEXT) AS id, tag FROM (SELECT id, unnest(tags) AS tag FROM topic) AS t");
}

#[test]
fn a_topic_that_is_no_bare_name_is_quoted() {
    let directory = tempfile::tempdir().unwrap();
    let mut pipeline = pipeline(directory.path(), SCHEMA, "SELECT id FROM users-v1");
    pipeline.kafka.topic = "users-v1".into();
    let error = Transform::new(&pipeline).map(|_| ()).unwrap_err();
    assert_eq!(error.remedy(), Some("the topic's name needs quotes in SQL: \"users-v1\""));
    pipeline.transformer.as_mut().unwrap().sql = "SELECT id FROM \"users-v1\"".into();
    assert!(Transform::new(&pipeline).is_ok());
    pipeline.kafka.topic = "users.v1".into();
    for table in ["\"users.v1\"", "users.v1"] {
        pipeline.transformer.as_mut().unwrap().sql = format!("SELECT id FROM {table}");
        assert!(Transform::new(&pipeline).is_ok(), "{table}");
    }
}

#[test]
fn a_schema_that_is_not_there_or_not_enforced_is_shown() {
    let directory = tempfile::tempdir().unwrap();
    let mut pipeline = pipeline(directory.path(), SCHEMA, "SELECT id FROM topic");
    pipeline.transformer.as_mut().unwrap().schema = "other.json".into();
    let error = Transform::new(&pipeline).map(|_| ()).unwrap_err();
    assert!(error.to_string().contains("other.json"), "{error}");
    assert_eq!(error.line(), Some(SQL_LINE - 1));
    let error = try_plan(r#"{"type":"object","properties":{"id":{"type":"integer","minimum":1}}}"#, "SELECT id FROM topic").map(|_| ());
    assert!(error.unwrap_err().to_string().contains("`/properties/id/minimum`"));
}

#[test]
fn expressions_casts_and_selects_in_from_are_fine() {
    for sql in [
        "SELECT id, upper(userName) AS n, CASE WHEN id > 1 THEN 'a' ELSE 'b' END AS c FROM topic",
        "SELECT id, CAST(id AS TEXT) AS t, try_cast(userName AS INT) AS i, md5(userName) AS m FROM topic",
        "SELECT t.id, coalesce(t.at['city'], '?') AS city FROM topic AS t WHERE t.userName LIKE 'a%'",
        "SELECT id, at.city AS city, cardinality(tags) AS n, tags[1] AS first FROM topic",
        "WITH a AS (SELECT id, tags FROM topic WHERE id > 0) SELECT id, unnest(tags) AS tag FROM a",
        "SELECT id, to_timestamp_millis(id) AS t, date_trunc('day', _timestamp) AS d FROM topic",
        "SELECT id FROM topic WHERE userName IN ('a', 'b') AND id BETWEEN 1 AND 5",
    ] {
        if let Err(error) = try_plan(SCHEMA, sql) {
            panic!("{sql}: {error}");
        }
    }
}
