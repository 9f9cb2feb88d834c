//! Fields that the schema does not have.

use super::*;

const SCHEMA: &str = r#"{"type":"object","required":["id"],"properties":{
    "id":{"type":"integer"},
    "address":{"type":"object","properties":{"city":{"type":"string"}}},
    "lines":{"type":"array","items":{"type":"object","properties":{"sku":{"type":"string"}}}}
}}"#;

fn found(batch: &RowBatch) -> Vec<(String, &'static str, u32)> {
    batch.new_fields.iter().map(|new| (new.field.to_string(), new.kind, new.record)).collect()
}

#[test]
fn a_field_that_the_schema_does_not_have_is_reported_once_with_its_type_and_first_record() {
    let transform = transform(SCHEMA, "SELECT id FROM topic");
    let raw = texts(&[
        r#"{"id":1,"lines":[{"sku":"a"}]}"#,
        r#"{"id":2,"note":"x","address":{"city":"c","zip":"z","nothing":null},"lines":[{"sku":"a"},{"sku":"b","qty":2}]}"#,
        r#"{"id":3,"note":7,"lines":[{"qty":1}],"t\u0061g/s":[1]}"#,
        r#"{"id":"bad","extra":{"a":1}}"#,
    ]);
    let batch = transform.run(&raw);
    let expected = [("/note", "string", 1), ("/tag~1s", "array", 2), ("/address/zip", "string", 1), ("/lines/*/qty", "number", 1)];
    assert_eq!(found(&batch), expected.map(|(field, kind, record)| (field.to_owned(), kind, record)), "record 3 ends at its error");
    assert_eq!(rows(&batch).len(), 3);
    assert_eq!(found(&transform.run(&texts(&[r#"{"id":1}"#]))), []);
}

#[test]
fn at_most_a_hundred_fields_of_an_object_are_reported() {
    let transform = transform(SCHEMA, "SELECT id FROM topic");
    let records: Vec<String> = (0..300).map(|n| format!(r#"{{"id":{n},"field_{n}":1}}"#)).collect();
    let raw = batch(records.iter().map(String::as_bytes));
    assert_eq!(transform.run(&raw).new_fields.len(), 100);
}

#[test]
fn with_the_policy_reject_a_record_with_another_field_is_a_reject() {
    let directory = tempfile::tempdir().unwrap();
    let mut file = pipeline(directory.path(), SCHEMA, "SELECT id FROM topic");
    file.transformer.as_mut().unwrap().drift = forebay_schemas::pipeline::DriftPolicy::Reject;
    let transform = Transform::new(&file).unwrap();
    let batch = transform.run(&texts(&[r#"{"id":1}"#, r#"{"id":2,"address":{"zip":"1"}}"#, r#"{"id":3,"note":1}"#]));
    let expected = [(1, "decode: `/address/zip` is not in the schema".to_owned()), (2, "decode: `/note` is not in the schema".to_owned())];
    assert_eq!(reasons(&batch.rejects), expected);
    assert_eq!(rows(&batch).len(), 1);
    assert_eq!(batch.new_fields.len(), 2);
}
