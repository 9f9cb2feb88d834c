use super::*;

fn parse(text: &str) -> Result<RecordSchema, FileError> {
    RecordSchema::parse(&FileText { path: "r.schema.json".into(), text: text.into() })
}

/// The kind of a field `a` with this schema.
fn kind(schema: &str) -> Result<Field, FileError> {
    parse(&format!("{{\"type\":\"object\",\"properties\":{{\n\"a\":{schema}\n}}}}")).map(|mut record| record.fields.remove(0))
}

fn error_of(schema: &str) -> FileError {
    kind(schema).expect_err("the schema is invalid")
}

#[test]
fn each_type_and_format_has_its_kind() {
    let kinds = [
        (r#"{"type":"boolean"}"#, Kind::Bool),
        (r#"{"type":"integer"}"#, Kind::Int64),
        (r#"{"type":"number"}"#, Kind::Float64),
        (r#"{"type":"string"}"#, Kind::Text),
        (r#"{"type":["string","integer"]}"#, Kind::TextOrInteger),
        (r#"{"type":"string","format":"uuid"}"#, Kind::Uuid),
        (r#"{"type":"string","format":"date-time"}"#, Kind::Timestamp),
        (r#"{"type":["null","string"],"format":"date"}"#, Kind::Date),
        (r#"{"type":"array","items":{"type":["integer","null"]}}"#, Kind::Array(Box::new(Item { kind: Kind::Int64, null: true }))),
    ];
    for (schema, expected) in kinds {
        assert_eq!(kind(schema).unwrap().kind, expected, "{schema}");
    }
}

#[test]
fn a_field_is_nullable_by_its_type_and_optional_unless_required() {
    let record = parse(
        r#"{"type":"object","required":["a","b"],"properties":{
            "a":{"type":"string","description":"first"},"b":{"type":["string","null"]},"c":{"type":"string","title":"third"}}}"#,
    )
    .unwrap();
    let seen: Vec<_> = record.fields.iter().map(|f| (f.name.as_str(), f.optional, f.null, f.nullable())).collect();
    assert_eq!(seen, [("a", false, false, false), ("b", false, true, true), ("c", true, false, true)]);
    assert_eq!(record.fields[0].doc.as_deref(), Some("first"));
    assert_eq!(record.fields[2].doc.as_deref(), Some("third"));
}

#[test]
fn annotations_are_ignored() {
    let all = r#"{"type":"string","$comment":"c","title":"t","description":"d","examples":["e"],"default":"x"}"#;
    assert_eq!(kind(all).unwrap().kind, Kind::Text);
}

#[test]
fn a_keyword_that_would_not_be_enforced_is_an_error_with_its_location() {
    for keyword in ["\"pattern\":\"^a\"", "\"minLength\":1", "\"enum\":[\"x\"]", "\"$ref\":\"#/x\"", "\"oneOf\":[]", "\"const\":1"] {
        let error = error_of(&format!("{{\"type\":\"string\",{keyword}}}"));
        let name = keyword.split('"').nth(1).unwrap();
        assert!(error.to_string().contains(&format!("`/properties/a/{name}`: `{name}` is not supported")), "{error}");
        assert!(error.remedy().unwrap().contains("WHERE"), "{error}");
        assert_eq!(error.line(), Some(2));
    }
}

#[test]
fn a_misspelled_keyword_names_the_nearest() {
    let error = parse(r#"{"type":"object","propertys":{}}"#).unwrap_err();
    assert_eq!(error.remedy(), Some("did you mean `properties`?"));
}

#[test]
fn keywords_of_other_types_are_errors() {
    for (schema, place) in [
        (r#"{"type":"integer","format":"date"}"#, "format"),
        (r#"{"type":"string","required":["a"]}"#, "required"),
        (r#"{"type":"string","items":{"type":"string"}}"#, "items"),
        (r#"{"type":"string","format":"email"}"#, "format"),
        (r#"{"type":"object","properties":{"b":{"type":"string"}},"additionalProperties":false}"#, "additionalProperties"),
        (r#"{"type":["integer","boolean"]}"#, "type"),
        (r#"{"type":"null"}"#, "type"),
    ] {
        assert!(error_of(schema).to_string().contains(&format!("/properties/a/{place}`")), "{schema}: {}", error_of(schema));
    }
}

#[test]
fn a_schema_without_a_complete_type_is_an_error() {
    for schema in ["true", "{}", r#"{"type":"array"}"#, r#"{"type":"object"}"#, r#"{"type":"object","properties":{}}"#] {
        assert!(error_of(schema).to_string().contains("`/properties/a`"), "{schema}: {}", error_of(schema));
    }
    assert!(parse(r#"{"type":"array","items":{"type":"string"}}"#).unwrap_err().to_string().contains("a record must be an object"));
    assert!(parse(r#"{"type":["object","null"],"properties":{"a":{"type":"string"}}}"#).is_err());
}

#[test]
fn a_required_field_must_be_a_property() {
    let error = parse(r#"{"type":"object","required":["emial"],"properties":{"email":{"type":"string"}}}"#).unwrap_err();
    assert!(error.to_string().contains("`/required/0`: \"emial\" is required but not among the properties"), "{error}");
    assert_eq!(error.remedy(), Some("did you mean `email`?"));
}

#[test]
fn the_names_of_added_columns_are_reserved() {
    let error = parse(r#"{"type":"object","properties":{"_offset":{"type":"integer"}}}"#).unwrap_err();
    assert!(error.to_string().contains("`_offset` is the name of a column that Forebay adds"), "{error}");
}

#[test]
fn nesting_has_a_limit() {
    let nested = |depth: usize| r#"{"type":"array","items":"#.repeat(depth) + r#"{"type":"string"}"# + &"}".repeat(depth);
    assert!(kind(&nested(MAX_DEPTH - 1)).is_ok());
    assert!(error_of(&nested(MAX_DEPTH)).to_string().contains("nested deeper than 32"));
}

#[test]
fn text_that_is_not_json_is_an_error_with_its_line() {
    let error = parse("{\n  \"type\": object\n}").unwrap_err();
    assert_eq!(error.line(), Some(2));
}
