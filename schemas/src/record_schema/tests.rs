use super::*;

fn parse(text: &str) -> Result<RecordSchema, FileError> {
    RecordSchema::parse(&FileText { path: "r.schema.json".into(), text: text.into() })
}

/// The kind of a field `a` with this schema.
fn kind(schema: &str) -> Result<Field, FileError> {
    parse(&format!("{{\"type\":\"object\",\"properties\":{{\n\"a\":{schema}\n}}}}")).map(|mut record| record.fields.remove(0))
}

/// What check says of a field `a` with this schema.
fn warnings(schema: &str) -> Vec<String> {
    let record = parse(&format!("{{\"type\":\"object\",\"properties\":{{\n\"a\":{schema}\n}}}}")).expect(schema);
    record.warnings(DriftPolicy::Warn).into_iter().map(|warning| warning.what).collect()
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
        (r#"{"type":["string","integer"]}"#, Kind::TextOf(JsonTypes::TEXT.or(JsonTypes::INTEGER))),
        (r#"{"type":["boolean","number","integer","string"]}"#, Kind::TextOf(JsonTypes::TEXT.or(JsonTypes::NUMBER).or(JsonTypes::BOOLEAN))),
        (r#"{"type":["integer","number"]}"#, Kind::Float64),
        (
            r#"{"properties":{"b":{"items":{"enum":["x","y"]}}}}"#,
            Kind::Object(vec![Field {
                name: "b".into(),
                kind: Kind::Array(Box::new(Item {
                    kind: Kind::Text,
                    null: false,
                    bounds: vec![Bound::Texts(vec!["x".into(), "y".into()])],
                })),
                optional: true,
                null: false,
                bounds: vec![],
                doc: None,
            }]),
        ),
        (r#"{"type":"string","format":"uuid"}"#, Kind::Uuid),
        (r#"{"type":"string","format":"date-time"}"#, Kind::Timestamp),
        (r#"{"type":["null","string"],"format":"date"}"#, Kind::Date),
        (r#"{"type":"string","format":"date-time-local"}"#, Kind::LocalTimestamp { zone: Tz::UTC, change: ClockChange::Reject }),
        (
            r#"{"type":"string","format":"date-time-local","x-timezone":"Europe/Berlin","x-clock-change":"later"}"#,
            Kind::LocalTimestamp { zone: Tz::Europe__Berlin, change: ClockChange::Later },
        ),
        (r#"{"type":"integer","format":"epoch-millis"}"#, Kind::Epoch { unit: EpochUnit::Millis, fraction: false }),
        (r#"{"type":"number","format":"epoch-seconds"}"#, Kind::Epoch { unit: EpochUnit::Seconds, fraction: true }),
        (
            r#"{"type":"array","items":{"type":["integer","null"]}}"#,
            Kind::Array(Box::new(Item { kind: Kind::Int64, null: true, bounds: vec![] })),
        ),
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
fn annotations_and_unknown_keywords_are_ignored() {
    let all = r#"{"type":"string","$comment":"c","title":"t","description":"d","examples":["e"],"default":"x","$id":"i","id":"i",
        "readOnly":true,"deprecated":true,"x-owner":"sales","connect.index":3,"javaType":"java.lang.String"}"#;
    assert_eq!(kind(all).unwrap().kind, Kind::Text);
    assert_eq!(warnings(all), [""; 0]);
}

#[test]
fn a_keyword_that_is_not_enforced_is_a_warning_with_its_lines() {
    for keyword in ["\"pattern\":\"^a\"", "\"not\":{}", "\"multipleOf\":2", "\"minimum\":1", "\"anyOf\":[]"] {
        let name = keyword.split('"').nth(1).unwrap();
        let what = format!(
            "the record's schema, line 2: `{name}` is not enforced: a record that violates it becomes a row; check it in the SQL's WHERE if it matters"
        );
        assert_eq!(warnings(&format!("{{\"type\":\"string\",{keyword}}}")), [what]);
    }
    let of =
        |fields: usize| (0..fields).map(|n| format!("\n\"f{n}\":{{\"type\":\"string\",\"pattern\":\"x\"}}")).collect::<Vec<_>>().join(",");
    let many = parse(&format!("{{\"type\":\"object\",\"properties\":{{{}}}}}", of(9))).unwrap().warnings(DriftPolicy::Warn);
    assert!(many.len() == 1 && many[0].code == "not_enforced", "{many:?}");
    assert!(many[0].what.starts_with("the record's schema, lines 2, 3, 4, 5, 6 and 4 more: `pattern`"), "{many:?}");
}

#[test]
fn other_formats_and_misspelled_keywords_are_warnings_that_name_the_nearest() {
    let email = warnings(r#"{"type":"string","format":"email"}"#);
    assert_eq!(
        email,
        [
            r#"the record's schema, line 2: the format "email" is not enforced; enforced are date-time, date-time-local, date, epoch-seconds, epoch-millis, epoch-micros, epoch-nanos, uuid"#
        ]
    );
    let near = warnings(r#"{"type":"string","format":"datetime"}"#);
    assert!(near[0].ends_with("; did you mean `date-time`?"), "{near:?}");
    assert_eq!(warnings(r#"{"type":"integer","format":"int64"}"#), [""; 0]);
    let typo = warnings(r#"{"type":"number","minimun":0}"#);
    assert_eq!(typo, ["the record's schema, line 2: `minimun` is no keyword of JSON Schema, and is ignored; did you mean `minimum`?"]);
    let other = warnings(r#"{"type":"string","required":true}"#);
    assert_eq!(other, ["the record's schema, line 2: `required` says nothing of text, and is ignored"]);
}

#[test]
fn a_format_of_times_is_an_error_on_another_type_and_names_the_one_to_use() {
    let error = error_of(r#"{"type":"integer","format":"date-time"}"#);
    assert!(error.to_string().contains("/properties/a/format`: date-time is a format of text, and the field is an integer"), "{error}");
    assert!(error.remedy().unwrap().contains("epoch-seconds, epoch-millis, epoch-micros or epoch-nanos"), "{error}");
    let error = error_of(r#"{"type":"string","format":"epoch-millis"}"#);
    assert!(error.remedy().unwrap().contains("to_timestamp_millis"), "{error}");
    let near = warnings(r#"{"type":"integer","format":"epoch_millis"}"#);
    assert!(near[0].ends_with("; did you mean `epoch-millis`?"), "{near:?}");
}

#[test]
fn a_time_zone_that_does_not_exist_is_an_error_and_one_without_times_a_warning() {
    let local = |more: &str| format!(r#"{{"type":"string","format":"date-time-local",{more}}}"#);
    let error = error_of(&local(r#""x-timezone":"Europe/Berln""#));
    assert!(error.to_string().contains("/properties/a/x-timezone`: \"Europe/Berln\" is no time zone"), "{error}");
    assert_eq!(error.remedy(), Some("did you mean \"Europe/Berlin\"?"));
    let error = error_of(&local(r#""x-clock-change":"first""#));
    assert_eq!(error.remedy(), Some("write \"reject\", \"earlier\" or \"later\""));
    let unused = warnings(r#"{"type":"string","format":"date-time","x-timezone":"Europe/Berlin"}"#);
    assert!(unused[0].contains("`x-timezone` is of times without a zone, and is ignored"), "{unused:?}");
}

#[test]
fn a_closed_object_is_a_warning_unless_drift_rejects_other_fields() {
    let schema = parse(r#"{"type":"object","additionalProperties":false,"properties":{"a":{"type":"string"}}}"#).unwrap();
    let warnings = schema.warnings(DriftPolicy::Warn);
    assert!(warnings[0].what.contains("`drift = \"reject\"` in [transformer]"), "{warnings:?}");
    assert_eq!(schema.warnings(DriftPolicy::Reject), []);
}

#[test]
fn limits_and_lists_of_values_are_bounds_of_their_types() {
    let number = |text: &str| text.parse().unwrap();
    for (schema, bounds) in [
        (r#"{"type":"integer","minimum":0,"maximum":9.5}"#, vec![Bound::AtLeast(number("0")), Bound::AtMost(number("9.5"))]),
        (r#"{"type":"number","exclusiveMinimum":0}"#, vec![Bound::MoreThan(number("0"))]),
        (r#"{"type":"number","minimum":0,"exclusiveMinimum":true}"#, vec![Bound::MoreThan(number("0"))]),
        (r#"{"type":"string","minLength":1,"maxLength":9}"#, vec![Bound::MinLength(1), Bound::MaxLength(9)]),
        (r#"{"enum":["b","a","b"]}"#, vec![Bound::Texts(vec!["a".into(), "b".into()])]),
        (r#"{"type":"integer","enum":[1,2]}"#, vec![Bound::Numbers(vec![number("1"), number("2")])]),
        (r#"{"const":true}"#, vec![Bound::Boolean(true)]),
    ] {
        assert_eq!(kind(schema).unwrap().bounds, bounds, "{schema}");
    }
    let null = |schema: &str| kind(schema).unwrap().null;
    assert!(null(r#"{"enum":["a",null]}"#) && null(r#"{"type":["string","null"],"enum":["a",null]}"#));
    assert!(!null(r#"{"type":["string","null"],"enum":["a"]}"#) && !null(r#"{"type":"string","enum":["a",null]}"#));
    assert!(error_of(r#"{"type":"string","enum":[1,2]}"#).to_string().contains("`enum` has no value that is text"));
    assert!(error_of(r#"{"type":"string","maxLength":-1}"#).to_string().contains("/properties/a/maxLength`: -1 is no limit"));
}

#[test]
fn a_type_that_does_not_exist_or_is_not_supported_is_an_error() {
    for (schema, place) in [(r#"{"type":"null"}"#, "type"), (r#"{"type":"int"}"#, "type"), (r#"{"type":7}"#, "type")] {
        assert!(error_of(schema).to_string().contains(&format!("/properties/a/{place}`")), "{schema}: {}", error_of(schema));
    }
    let error = error_of(r#"{"type":"interger"}"#);
    assert_eq!((error.line(), error.remedy()), (Some(2), Some("did you mean \"integer\"?")));
    assert!(error.to_string().contains("\"interger\" is no type of JSON Schema"), "{error}");
}

#[test]
fn all_errors_of_a_file_are_reported_together_each_with_its_line_and_remedy() {
    let error = parse(
        r##"{"type":"object","required":["idd"],"properties":{
            "id":{"type":"integer"},
            "a":{"type":"strin"},
            "b":{"type":"object","properties":{
                "c":{"$ref":"#/$defs/missing"},
                "_offset":{"type":"integer"}}},
            "d":{"type":"array","items":{"type":"null"}}}}"##,
    )
    .unwrap_err();
    let all: Vec<_> = [&error].into_iter().chain(error.others()).map(|error| (error.line().unwrap(), error.remedy().unwrap())).collect();
    let types = "use one of boolean, integer, number, string, object, array, each also with \"null\", or a list of them";
    assert_eq!(
        all,
        [(1, "did you mean `id`?"), (3, "did you mean \"string\"?"), (5, "add the definition, or correct the reference"), (7, types)]
    );
    assert_eq!(error.file(), Some("r.schema.json"));
    assert!(error.to_string().ends_with("(the first of 4 errors)"), "{error}");
}

#[test]
fn what_has_no_fixed_type_is_read_as_the_text_of_its_json() {
    let json = |schema: &str| kind(schema).map(|field| (field.kind, field.null)).expect(schema);
    for schema in ["true", "{}", r#"{"title":"anything","x-owner":"sales"}"#] {
        assert_eq!(json(schema), (Kind::Json(JsonTypes::ALL), true), "{schema}");
    }
    for schema in
        [r#"{"type":"object"}"#, r#"{"type":"object","properties":{}}"#, r#"{"type":"object","additionalProperties":{"type":"string"}}"#]
    {
        assert_eq!(json(schema), (Kind::Json(JsonTypes::OBJECT), false), "{schema}");
    }
    assert_eq!(json(r#"{"type":["array","null"]}"#), (Kind::Json(JsonTypes::ARRAY), true));
    assert_eq!(json(r#"{"type":"array","items":[{"type":"string"}]}"#).0, Kind::Json(JsonTypes::ARRAY));
    let types = JsonTypes::OBJECT.or(JsonTypes::TEXT);
    assert_eq!(json(r#"{"type":["object","string"],"properties":{"b":{"type":"string"}}}"#).0, Kind::Json(types));
    assert!(
        warnings(r#"{"type":"object","additionalProperties":{"type":"string"}}"#)[0].contains("`additionalProperties` is not enforced")
    );
    assert!(warnings(r#"{"type":["object","string"],"properties":{"b":{}}}"#)[0].contains("`properties` is not enforced"));
    assert_eq!(warnings(r#"{"type":"object","required":[]}"#), [""; 0]);
}

#[test]
fn a_limit_without_a_type_and_a_record_without_fields_are_errors() {
    for schema in ["false", "7", r#"{"minimum":1}"#, r#"{"format":"date"}"#] {
        assert!(error_of(schema).to_string().contains("`/properties/a`"), "{schema}: {}", error_of(schema));
    }
    for schema in [
        r#"{"type":"array","items":{"type":"string"}}"#,
        r#"{"type":["object","null"],"properties":{"a":{"type":"string"}}}"#,
        r#"{"type":"object"}"#,
        "{}",
    ] {
        let error = parse(schema).unwrap_err();
        assert!(error.to_string().contains("a record must be an object with fields"), "{schema}: {error}");
        assert!(error.remedy().unwrap().contains("`_value` in the SQL has the whole record"), "{error}");
    }
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
