//! SQL and schemas that are rejected before anything runs: location, message and remedy.

use super::*;

const SCHEMA: &str = r#"{"type":"object","required":["id"],"properties":{
    "id":{"type":"integer"},"userName":{"type":"string"},"tags":{"type":"array","items":{"type":"string"}},
    "at":{"type":"object","properties":{"city":{"type":"string"}}}}}"#;

#[track_caller]
fn rejected(sql: &str, line: usize, message: &str, remedy: &str) {
    let error = try_transform(SCHEMA, sql).map(|_| ()).expect_err(sql);
    assert!(error.to_string().contains(message), "{sql}\n  says: {error}\n  not:  {message}");
    assert!(error.remedy().unwrap_or_default().contains(remedy), "{sql}\n  says: {:?}\n  not:  {remedy}", error.remedy());
    assert_eq!(error.line(), Some(SQL_LINE + line), "{sql}: {error}");
}

const BATCH_DEPENDENT: &str = "depending on where a micro-batch is cut";

#[test]
fn sql_over_more_than_one_record_is_rejected() {
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
        rejected(sql, line, BATCH_DEPENDENT, "");
    }
    rejected("SELECT id FROM topic WHERE id IN (SELECT id FROM topic)", 0, "a subquery reads other records", "one record at a time");
    rejected("SELECT id, (SELECT max(id) FROM topic) AS m FROM topic", 0, "a subquery reads other records", "one record at a time");
}

#[test]
fn clocks_and_random_values_are_rejected_by_name() {
    for sql in ["SELECT id,\nnow() AS n FROM topic", "SELECT id,\ncurrent_timestamp AS n FROM topic"] {
        rejected(sql, 1, "`now()` returns a different value each time", "`_timestamp`");
    }
    rejected("SELECT id,\ncurrent_date AS n FROM topic", 1, "`current_date()` returns a different value each time", "`_timestamp`");
    rejected("SELECT id FROM topic\nWHERE uuid() <> ''", 1, "`uuid()` returns a different value each time", "md5");
}

#[test]
fn only_a_select_from_the_topic_is_accepted() {
    rejected("SELECT 1 AS id", 0, "reads no record", "FROM topic");
    rejected("SELECT id FROM\nusers", 1, "there is no table `users`", "FROM topic");
    for sql in ["CREATE TABLE x (id INT)", "DROP TABLE topic", "INSERT INTO topic VALUES (1)", "DELETE FROM topic", "SHOW TABLES"] {
        rejected(sql, 0, "is not a SELECT", "FROM topic");
    }
    for sql in ["COPY topic TO 'x.csv'", "CREATE EXTERNAL TABLE x STORED AS CSV LOCATION 'x'", "EXPLAIN SELECT id FROM topic"] {
        rejected(sql, 0, "is not a SELECT", "FROM topic");
    }
    rejected("SELECT id FROM topic; SELECT id FROM topic", 0, "more than one statement", "one SELECT");
    rejected("", 0, "is not a SELECT", "FROM topic");
    rejected("VALUES (1)", 0, "reads no record", "FROM topic");
    rejected("SELECT id FROM topic WHERE id = $1", 0, "the parameter `$1` has no value", "write the value");
    rejected("SELECT id FROM topic\nWHERE 1 = 2", 1, "WHERE is always false", "");
}

#[test]
fn an_unknown_column_is_reported_with_the_nearest_and_all_columns() {
    rejected("SELECT id,\n\n username FROM topic", 2, "there is no column `username`", "did you mean `userName`?");
    rejected(
        "SELECT idd FROM topic",
        0,
        "there is no column `idd`",
        "the columns are id, userName, tags, at, _timestamp, _offset, _partition, _key, _headers, _value",
    );
    rejected("SELECT id FROM topic WHERE\n id = \"x y z\"", 1, "there is no column `x y z`", "text is written in single quotes");
    rejected("SELECT id,\nat['town'] AS t FROM topic", 1, "town", "name['first']");
    rejected("SELECT id, _row AS r FROM topic", 0, "there is no column `_row`", "");
}

#[test]
fn names_are_case_sensitive_as_in_the_record() {
    let transform = transform(SCHEMA, "SELECT id, userName, at['city'] AS City FROM topic");
    let names: Vec<_> = transform.output_schema().fields().iter().map(|f| f.name().clone()).collect();
    assert_eq!(names, ["id", "userName", "City"]);
}

#[test]
fn a_mistake_in_the_sql_is_reported_with_its_line() {
    rejected("SELECT id\nFORM topic", 1, "does not parse", "SELECT … FROM topic");
    rejected("SELECT id,\n  uper(userName) AS n FROM topic", 1, "there is no function `uper`", "did you mean `upper`?");
    rejected("SELECT id FROM topic\nWHERE userName", 0, "can't be planned", "");
    rejected("SELECT id AS a, id + 1 AS a FROM topic", 0, "can't be planned", "");
    rejected("SELECT id,\n id AS _row FROM topic", 1, "the name `_row` is reserved", "another name");
}

/// A limit of DataFusion's planner, with a workaround.
#[test]
fn next_to_unnest_a_computed_column_needs_a_name_of_its_own() {
    rejected("SELECT CAST(id AS TEXT) AS id,\nunnest(tags) AS tag FROM topic", 1, "the name of a field", "unnest first");
    transform(SCHEMA, "SELECT CAST(id AS TEXT) AS id, tag FROM (SELECT id, unnest(tags) AS tag FROM topic) AS t");
}

#[test]
fn a_topic_that_is_no_bare_identifier_is_quoted() {
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
fn a_missing_schema_and_one_that_records_can_t_be_read_by_are_reported() {
    let directory = tempfile::tempdir().unwrap();
    let mut pipeline = pipeline(directory.path(), SCHEMA, "SELECT id FROM topic");
    pipeline.transformer.as_mut().unwrap().schema = "other.json".into();
    let error = Transform::new(&pipeline).map(|_| ()).unwrap_err();
    assert!(error.to_string().contains("other.json"), "{error}");
    assert_eq!(error.line(), Some(SQL_LINE - 1));
    let error = try_transform(r#"{"type":"object","properties":{"id":{"type":"integre"}}}"#, "SELECT id FROM topic").map(|_| ());
    assert!(error.unwrap_err().to_string().contains("`/properties/id/type`"));
}

#[test]
fn expressions_casts_and_selects_in_from_are_accepted() {
    for sql in [
        "SELECT id, upper(userName) AS n, CASE WHEN id > 1 THEN 'a' ELSE 'b' END AS c FROM topic",
        "SELECT id, CAST(id AS TEXT) AS t, try_cast(userName AS INT) AS i, md5(userName) AS m FROM topic",
        "SELECT t.id, coalesce(t.at['city'], '?') AS city FROM topic AS t WHERE t.userName LIKE 'a%'",
        "SELECT id, at.city AS city, cardinality(tags) AS n, tags[1] AS first FROM topic",
        "WITH a AS (SELECT id, tags FROM topic WHERE id > 0) SELECT id, unnest(tags) AS tag FROM a",
        "SELECT id, to_timestamp_millis(id) AS t, date_trunc('day', _timestamp) AS d FROM topic",
        "SELECT id FROM topic WHERE userName IN ('a', 'b') AND id BETWEEN 1 AND 5",
    ] {
        if let Err(error) = try_transform(SCHEMA, sql) {
            panic!("{sql}: {error}");
        }
    }
}
