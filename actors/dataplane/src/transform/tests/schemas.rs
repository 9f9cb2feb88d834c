//! Records by the schemas that people and registries write.

use serde_json::json;

use super::*;

/// The row of a record with the fields `id` and `a`, or why there is none.
pub(super) fn decoded(schema: &Value, value: &str) -> Result<Value, String> {
    let schema = json!({"type": "object", "required": ["id"], "properties": {"id": {"type": "integer"}, "a": schema}});
    let out = transform(&schema.to_string(), "SELECT * FROM topic").run(&texts(&[&format!(r#"{{"id":1,"a":{value}}}"#)]));
    match out.rejects.first() {
        None => Ok(rows(&out).remove(0).1["a"].take()),
        Some(reject) => Err(reject.reason.full().to_owned()),
    }
}

#[test]
fn a_field_of_several_types_is_read_as_its_own_text() {
    let all = json!({"type": ["string", "number", "boolean", "null"]});
    for (value, text) in [
        (r#""a\nb""#, json!("a\nb")),
        ("7.50", json!("7.50")),
        ("-1e3", json!("-1e3")),
        ("12345678901234567890123", json!("12345678901234567890123")),
        ("true", json!("true")),
        ("false", json!("false")),
        ("null", Value::Null),
    ] {
        assert_eq!(decoded(&all, value), Ok(text), "{value}");
    }
    assert_eq!(decoded(&all, "[1]"), Err("`/a` must be text, a number or true or false, but is [1]".to_owned()));
    let (integer, boolean) = (json!({"type": ["string", "integer"]}), json!({"type": ["integer", "boolean"]}));
    assert_eq!(decoded(&integer, "1.0"), Ok(json!("1")));
    assert_eq!(decoded(&integer, "1.5"), Err("`/a` must be text or an integer, but is 1.5".to_owned()));
    assert_eq!(decoded(&boolean, r#""1""#), Err(r#"`/a` must be an integer or true or false, but is "1""#.to_owned()));
    assert_eq!(decoded(&json!({"anyOf": [{"type": "integer"}, {"type": "string"}]}), r#""x""#), Ok(json!("x")));
}

#[test]
fn an_object_of_changing_keys_is_read_as_the_text_of_its_json() {
    let (object, any, mixed) = (json!({"type": ["object", "null"]}), json!({}), json!({"type": ["array", "string", "integer"]}));
    for (schema, value, outcome) in [
        (&object, r#"{ "k1" : [1.50, {"\u0061":null}] }"#, Ok(json!(r#"{ "k1" : [1.50, {"\u0061":null}] }"#))),
        (&object, "{}", Ok(json!("{}"))),
        (&object, "null", Ok(Value::Null)),
        (&object, "[]", Err("`/a` must be an object, but is []")),
        (&any, r#""x""#, Ok(json!(r#""x""#))),
        (&any, "7.0", Ok(json!("7.0"))),
        (&any, "[true]", Ok(json!("[true]"))),
        (&any, "null", Ok(Value::Null)),
        (&mixed, "[1,2]", Ok(json!("[1,2]"))),
        (&mixed, "1e2", Ok(json!("1e2"))),
        (&mixed, "1.5", Err("`/a` must be text, an integer or an array, but is 1.5")),
        (&mixed, "null", Err("`/a` must be text, an integer or an array, but is null")),
    ] {
        assert_eq!(decoded(schema, value), outcome.map_err(str::to_owned), "{value} of {schema}");
    }
    let broken = transform(r#"{"type":"object","properties":{"id":{"type":"object"}}}"#, "SELECT id FROM topic");
    let out = broken.run(&texts(&[r#"{"id":{"a":}}"#, r#"{"id":{"a":1}}"#]));
    assert_eq!(reasons(&out.rejects), [(0, "decode: not JSON: at byte 11 expected a value, found '}'".to_owned())]);
    assert_eq!(rows(&out), [(1, json!({"id": r#"{"a":1}"#}))]);
}

#[test]
fn value_is_the_text_of_the_whole_record() {
    let schema = r#"{"type":"object","required":["id"],"properties":{"id":{"type":"integer"}}}"#;
    let of = |sql: &str| transform(schema, sql).run(&texts(&[r#" {"id" : 1, "more": {"k": "é"}}"#, "bad", r#"{"id":2}"#]));
    let out = of("SELECT id, _value AS payload FROM topic");
    assert_eq!(
        rows(&out),
        [(0, json!({"id": 1, "payload": r#" {"id" : 1, "more": {"k": "é"}}"#})), (2, json!({"id": 2, "payload": r#"{"id":2}"#}))]
    );
    assert!(!out.rows.schema().field_with_name("payload").unwrap().is_nullable());
    assert_eq!(rows(&of("SELECT id FROM topic WHERE _value LIKE '%more%'")), [(0, json!({"id": 1}))]);
    assert_eq!(rows(&of("SELECT * FROM topic")), [(0, json!({"id": 1})), (2, json!({"id": 2}))], "`*` has the fields only");
}

#[test]
fn a_batch_of_large_records_is_cut_so_that_their_texts_fit() {
    let schema = r#"{"type":"object","required":["id"],"properties":{"id":{"type":"integer"}}}"#;
    let records: Vec<String> = (0..30).map(|id| json!({"id": id, "more": "x".repeat(1_000_000)}).to_string()).collect();
    let transform = transform(schema, "SELECT id, _value AS payload, length(_value) AS n FROM topic");
    let parts = transform.parts(&batch(records.iter().map(String::as_bytes)));
    let sizes: Vec<usize> = parts.iter().map(|part| part.rows.num_rows()).collect();
    assert!(sizes.iter().sum::<usize>() == 30 && sizes.iter().all(|rows| *rows <= 9), "{sizes:?}");
    assert!(parts.iter().all(|part| part.rejects.is_empty()));
}

#[test]
fn a_limit_or_a_list_of_values_rejects_the_record_with_the_reason() {
    let limits = json!({"type": ["integer", "null"], "minimum": 0, "exclusiveMaximum": 10});
    let number = json!({"type": "number", "maximum": 2.5});
    let text = json!({"type": "string", "minLength": 1, "maxLength": 3});
    let words = json!({"enum": ["open", "paid", null]});
    let yes = json!({"const": true});
    for (schema, value, outcome) in [
        (&limits, "0", Ok(json!(0))),
        (&limits, "null", Ok(Value::Null)),
        (&limits, "-1", Err("`/a` must be at least 0, but is -1")),
        (&limits, "1e1", Err("`/a` must be less than 10, but is 1e1")),
        (&limits, "\"1\"", Err("`/a` must be an integer of 64 bits, but is \"1\"")),
        (&number, "2.5", Ok(json!(2.5))),
        (&number, "2.51", Err("`/a` must be at most 2.5, but is 2.51")),
        (&text, r#""é€x""#, Ok(json!("é€x"))),
        (&text, r#""""#, Err(r#"`/a` must be text of at least 1 characters, but is """#)),
        (&text, r#""abcd""#, Err(r#"`/a` must be text of at most 3 characters, but is "abcd""#)),
        (&words, r#""p\u0061id""#, Ok(json!("paid"))),
        (&words, "null", Ok(Value::Null)),
        (&words, r#""void""#, Err(r#"`/a` must be one of "open", "paid", but is "void""#)),
        (&yes, "true", Ok(json!(true))),
        (&yes, "false", Err("`/a` must be true, but is false")),
    ] {
        assert_eq!(decoded(schema, value), outcome.map_err(str::to_owned), "{value} of {schema}");
    }
}

#[test]
fn a_rejected_value_leaves_the_values_of_its_neighbours_as_they_are() {
    let schema = r#"{"type":"object","required":["id"],"properties":{"id":{"type":"integer","minimum":1},"a":{"type":["number","null"],"maximum":9},
        "tags":{"type":"array","items":{"type":"string","maxLength":1}},"who":{"type":"object","properties":{"age":{"type":"integer","minimum":0}}}}}"#;
    let transform = transform(schema, "SELECT id, CAST(a AS DECIMAL(9,2)) AS a, tags, who['age'] AS age FROM topic");
    let out = transform.run(&texts(&[
        r#"{"id":1,"a":1.10,"tags":["x","y"],"who":{"age":3}}"#,
        r#"{"id":2,"a":99,"tags":["x"]}"#,
        r#"{"id":3,"a":null,"tags":["x","yy"]}"#,
        r#"{"id":4,"tags":["z"],"who":{"age":-1}}"#,
        r#"{"id":5,"a":8.25,"tags":[],"who":{}}"#,
        r#"{"id":0}"#,
    ]));
    let expected = [(0, json!({"id": 1, "a": 1.10, "tags": ["x", "y"], "age": 3})), (4, json!({"id": 5, "a": 8.25, "tags": []}))];
    assert_eq!(rows(&out), expected);
    let rejected: Vec<_> = out.rejects.iter().map(|reject| reject.reason.masked()).collect();
    let reasons = [
        "`/a` must be at most 9, but is ***",
        "`/tags/1` must be text of at most 1 characters, but is ***",
        "`/who/age` must be at least 0, but is ***",
        "`/id` must be at least 1, but is ***",
    ];
    assert_eq!(rejected, reasons);
}

#[test]
fn what_a_schema_says_and_nothing_enforces_is_a_warning() {
    let schema = r#"{"type":"object","properties":{"id":{"type":"string","pattern":"^[0-9]+$"}}}"#;
    let warnings = transform(schema, "SELECT id FROM topic").warnings();
    assert_eq!(warnings.iter().map(|warning| warning.code.as_str()).collect::<Vec<_>>(), ["not_enforced"]);
}
