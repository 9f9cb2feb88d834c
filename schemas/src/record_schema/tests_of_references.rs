//! References, alternatives and schemas that are all of several.

use super::*;

/// The fields `a` and their errors of a record with these definitions.
fn field(definitions: &str, schema: &str) -> Result<Field, FileError> {
    let text = format!("{{\"type\":\"object\",\n\"$defs\":{definitions},\n\"properties\":{{\n\"a\":{schema}\n}}}}");
    RecordSchema::parse(&FileText { path: "r.schema.json".into(), text }).map(|mut record| record.fields.remove(0))
}

fn error_of(definitions: &str, schema: &str) -> FileError {
    field(definitions, schema).expect_err("the schema is refused")
}

fn kind(schema: &str) -> Kind {
    field("{}", schema).expect(schema).kind
}

#[test]
fn a_reference_within_the_file_is_followed_at_the_top_too() {
    let defs = r##"{"money":{"type":"object","required":["net"],"properties":{"net":{"$ref":"#/$defs/a~1b"}}},"a/b":{"type":"number","minimum":0}}"##;
    let Kind::Object(fields) = field(defs, r##"{"$ref":"#/$defs/money","description":"the price"}"##).unwrap().kind else { panic!() };
    assert_eq!((fields[0].name.as_str(), &fields[0].kind, fields[0].bounds.len()), ("net", &Kind::Float64, 1));
    let top = r##"{"$schema":"http://json-schema.org/draft-07/schema#","$ref":"#/definitions/Order",
        "definitions":{"Order":{"type":"object","additionalProperties":true,"properties":{"id":{"type":"string"}}}}}"##;
    let record = RecordSchema::parse(&FileText { path: "r".into(), text: top.into() }).unwrap();
    assert_eq!(record.fields[0].name, "id");
}

#[test]
fn a_reference_that_leads_nowhere_out_of_the_file_or_to_itself_is_an_error() {
    let error = error_of(r#"{"address":{"type":"string"}}"#, r##"{"$ref":"#/$defs/adress"}"##);
    assert_eq!((error.line(), error.remedy()), (Some(4), Some("did you mean \"#/$defs/address\"?")));
    let error = error_of("{}", r#"{"$ref":"product.json"}"#);
    assert!(error.to_string().contains("`/properties/a/$ref`: \"product.json\" is not in this file"), "{error}");
    let node = r##"{"node":{"type":"object","properties":{"next":{"$ref":"#/$defs/node"}}}}"##;
    let error = error_of(node, r##"{"$ref":"#/$defs/node"}"##);
    assert!(error.to_string().contains("`/$defs/node/properties/next/$ref`: \"#/$defs/node\" contains itself"), "{error}");
    assert_eq!(error.line(), Some(2));
    assert!(error_of("{}", r##"{"type":"object","properties":{"top":{"$ref":"#"}}}"##).to_string().contains("\"#\" contains itself"));
    let error = error_of(r#"{"x":{"type":"string"}}"#, r##"{"$ref":"#/$defs/x","maxLength":3}"##);
    assert!(error.to_string().contains("`maxLength` beside `$ref`"), "{error}");
}

#[test]
fn references_that_multiply_are_read_up_to_a_limit() {
    let level = |n: usize| {
        format!(r##""d{n}":{{"type":"object","properties":{{"l":{{"$ref":"#/$defs/d{0}"}},"r":{{"$ref":"#/$defs/d{0}"}}}}}}"##, n + 1)
    };
    let levels: Vec<String> = (0..25).map(level).collect();
    let defs = format!("{{{},\"d25\":{{\"type\":\"string\"}}}}", levels.join(","));
    let error = error_of(&defs, r##"{"$ref":"#/$defs/d0"}"##);
    assert!(error.to_string().contains("has more than 10000 fields"), "{error}");
    let chain: Vec<String> = (0..60).map(|n| format!(r##""d{n}":{{"$ref":"#/$defs/d{}"}}"##, n + 1)).collect();
    let defs = format!("{{{},\"d60\":{{\"type\":\"string\"}}}}", chain.join(","));
    assert!(error_of(&defs, r##"{"$ref":"#/$defs/d0"}"##).to_string().contains("nested deeper than 32"));
}

#[test]
fn an_alternative_that_is_null_makes_the_field_nullable() {
    for schema in [
        r#"{"anyOf":[{"type":"string"},{"type":"null"}],"default":null,"title":"A"}"#,
        r#"{"oneOf":[{"type":"null"},{"type":"string","connect.type":"string"}]}"#,
        r#"{"oneOf":[{"const":null},{"type":"string"}]}"#,
        r#"{"anyOf":[{"type":["string","null"]}]}"#,
        r#"{"type":"string","nullable":true}"#,
    ] {
        let field = field("{}", schema).unwrap();
        assert_eq!((field.kind, field.null), (Kind::Text, true), "{schema}");
    }
    let nested =
        field(r#"{"x":{"type":"object","properties":{"b":{"type":"integer"}}}}"#, r##"{"anyOf":[{"$ref":"#/$defs/x"},{"type":"null"}]}"##);
    assert!(matches!(nested.unwrap(), Field { kind: Kind::Object(_), null: true, .. }));
    assert!(error_of("{}", r#"{"anyOf":[{"type":"null"}]}"#).to_string().contains("has no schema that is not null"));
}

#[test]
fn alternatives_are_read_as_what_has_the_values_of_all_of_them() {
    assert_eq!(kind(r#"{"anyOf":[{"type":"integer"},{"type":"number"}]}"#), Kind::Float64);
    let text_or_integer = Kind::TextOf(JsonTypes::TEXT.or(JsonTypes::INTEGER));
    assert_eq!(kind(r#"{"oneOf":[{"type":"integer"},{"type":"string"},{"type":"string","format":"uuid"}]}"#), text_or_integer);
    assert_eq!(kind(r#"{"anyOf":[{"type":"string","format":"date"},{"type":"string","format":"date-time"}]}"#), Kind::Text);
    let words = field("{}", r#"{"oneOf":[{"const":"b","title":"B"},{"const":"a","title":"A"}]}"#).unwrap();
    assert_eq!(words.bounds, [Bound::Texts(vec!["a".into(), "b".into()])]);
    let objects =
        r#"{"oneOf":[{"type":"object","properties":{"b":{"type":"string"}}},{"type":"object","properties":{"c":{"type":"string"}}}]}"#;
    assert_eq!(kind(objects), Kind::Json(JsonTypes::OBJECT));
    assert_eq!(
        kind(r#"{"anyOf":[{"type":"array","items":{"type":"string"}},{"type":"string"}]}"#),
        Kind::Json(JsonTypes::ARRAY.or(JsonTypes::TEXT))
    );
}

#[test]
fn the_limits_and_formats_of_alternatives_that_differ_are_a_warning() {
    let text = r#"{"type":"object","properties":{"a":{"anyOf":[{"type":"integer","minimum":1},{"type":"string","format":"date"}]}}}"#;
    let record = RecordSchema::parse(&FileText { path: "r".into(), text: text.into() }).unwrap();
    let warnings = record.warnings(DriftPolicy::Warn);
    assert!(
        warnings.len() == 1 && warnings[0].what.contains("fields, formats and limits of alternatives that differ are not enforced"),
        "{warnings:?}"
    );
}

#[test]
fn what_is_beside_alternatives_and_not_read_is_a_warning() {
    for (schema, keywords) in [
        (r#"{"anyOf":[{"type":"string"},{"type":"null"}],"maxLength":5}"#, &["maxLength"][..]),
        (r#"{"type":"string","anyOf":[{"minLength":1}],"oneOf":[{"maxLength":9}]}"#, &["anyOf", "oneOf"]),
        (r#"{"allOf":[{"type":"string"}],"oneOf":[{"minLength":1}],"minLength":2}"#, &["oneOf", "minLength"]),
    ] {
        let text = format!("{{\"type\":\"object\",\"properties\":{{\"a\":{schema}}}}}");
        let record = RecordSchema::parse(&FileText { path: "r".into(), text }).unwrap();
        let warnings = record.warnings(DriftPolicy::Warn);
        let named = |keyword: &&str| warnings.iter().any(|warning| warning.what.contains(&format!("`{keyword}` is not enforced")));
        assert!(warnings.len() == keywords.len() && keywords.iter().all(named), "{schema}: {warnings:?}");
    }
}

#[test]
fn a_schema_that_is_all_of_several_has_their_fields_and_their_limits() {
    let base = r#"{"base":{"type":"object","required":["id"],"properties":{"id":{"type":"integer"},"name":{"type":["string","null"]}}}}"#;
    let one = field(base, r##"{"allOf":[{"$ref":"#/$defs/base"}],"description":"d","default":{}}"##).unwrap();
    assert!(matches!(one.kind, Kind::Object(fields) if fields.len() == 2));
    let more = r##"{"type":"object","properties":{"extra":{"type":"boolean"}},
        "allOf":[{"$ref":"#/$defs/base"},{"properties":{"name":{"type":"string","maxLength":9}},"required":["name"]}]}"##;
    let Kind::Object(fields) = field(base, more).unwrap().kind else { panic!() };
    let seen: Vec<_> = fields.iter().map(|field| (field.name.as_str(), field.optional, field.null, field.bounds.len())).collect();
    assert_eq!(seen, [("extra", true, false, 0), ("id", false, false, 0), ("name", false, false, 1)]);
    let error = error_of(base, r##"{"allOf":[{"$ref":"#/$defs/base"},{"type":"string"}]}"##);
    assert!(error.to_string().contains("`/properties/a/allOf`: its schemas have different types"), "{error}");
}
