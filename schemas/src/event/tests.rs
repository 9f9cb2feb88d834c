use std::collections::BTreeSet;

use super::*;

/// Every version that was ever written, oldest first.
const FIXTURES: [&str; 4] = [
    include_str!("../../fixtures/events.v1.ndjson"),
    include_str!("../../fixtures/events.v2.ndjson"),
    include_str!("../../fixtures/events.v3.ndjson"),
    include_str!("../../fixtures/events.v4.ndjson"),
];

#[test]
fn every_version_of_every_event_decodes_and_the_newest_round_trips() {
    for line in FIXTURES.iter().flat_map(|fixture| fixture.lines()) {
        let recorded = decode(line.as_bytes()).unwrap_or_else(|error| panic!("{line}: {error}"));
        assert!(!recorded.event.to_string().is_empty());
        let again = recorded.encode();
        assert_eq!(decode(&again).unwrap(), recorded);
        let version = serde_json::from_str::<Value>(line).unwrap()["v"].as_u64().unwrap();
        if version == u64::from(recorded.v) {
            assert_eq!(String::from_utf8(again).unwrap(), line);
        }
    }
}

#[test]
fn the_fixtures_have_each_type_in_each_of_its_versions() {
    let mut lines = BTreeSet::new();
    for line in FIXTURES.iter().flat_map(|fixture| fixture.lines()) {
        let event: Value = serde_json::from_str(line).unwrap();
        lines.insert((event["type"].as_str().unwrap().to_owned(), event["v"].as_u64().unwrap()));
        assert_eq!(decode(line.as_bytes()).unwrap().event.kind(), event["type"]);
    }
    let expected: BTreeSet<_> =
        Event::KINDS.iter().flat_map(|kind| (1..=u64::from(version_of(kind))).map(|version| ((*kind).to_owned(), version))).collect();
    // A type that was added later has its version 1 in a later fixture.
    assert_eq!(lines, expected);
}

#[test]
fn old_versions_are_upgraded() {
    let old = br#"{"seq":3,"at":"2026-01-01T00:00:00Z","v":1,"type":"PartitionsAssigned","data":{"partitions":[0,1]}}"#;
    assert_eq!(decode(old).unwrap().event, Event::PartitionsAssigned { starts: Starts::default() });
    let old = br#"{"seq":4,"at":"2026-01-01T00:00:00Z","v":1,"type":"PageFetched","data":{"run":"0192f0c1-7a00-7000-8000-000000000001","records":10}}"#;
    let page = decode(old).unwrap();
    assert!(page.v == 2 && matches!(page.event, Event::PageFetched { records: 10, cursor: None, .. }), "{page:?}");
    let produced = |cursor: &str| {
        let text = format!(
            r#"{{"seq":5,"at":"2026-01-01T00:00:00Z","v":2,"type":"PageProduced","data":{{"run":"0192f0c1-7a00-7000-8000-000000000001","ranges":{{}},"produced":1,"rejected":0{cursor}}}}}"#
        );
        let Event::PageProduced { cursor, moves, .. } = decode(text.as_bytes()).unwrap().event else { panic!("{text}") };
        (cursor, moves)
    };
    assert_eq!(
        produced(r#","cursor":"7""#),
        (Some("7".into()), Some(Read::default())),
        "version 2 had one cursor, that of the read without params"
    );
    assert_eq!(produced(""), (None, None));
}

#[test]
fn an_unknown_type_and_a_newer_version_are_errors_with_their_sequence() {
    let newer = decode(br#"{"seq":9,"at":"2026-01-01T00:00:00Z","v":3,"type":"RunStarted","data":{}}"#).unwrap_err();
    assert!(newer.seq == 9 && newer.to_string().contains("newer"), "{newer}");
    let unknown = decode(br#"{"seq":8,"at":"2026-01-01T00:00:00Z","v":1,"type":"RunPainted","data":{}}"#).unwrap_err();
    assert!(unknown.seq == 8 && unknown.why.contains("RunPainted"), "{unknown}");
}

/// The JSON Schema of an event in its newest version, as it is checked in.
const SCHEMA: &str = include_str!("../../json/event.schema.json");

#[test]
fn the_checked_in_event_schema_matches_the_code() {
    let mut schema = schemars::schema_for!(Recorded).to_value();
    crate::openapi_tests::join_lines(&mut schema);
    schema["title"] = "An event of Forebay's journal, in the newest version of its type".into();
    let text = serde_json::to_string_pretty(&schema).unwrap() + "\n";
    if std::env::var_os("FOREBAY_WRITE_SCHEMAS").is_some() {
        std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/json/event.schema.json"), &text).unwrap();
    } else {
        assert_eq!(SCHEMA, text, "schemas/json/event.schema.json is out of date; FOREBAY_WRITE_SCHEMAS=1 writes it");
    }
}

#[test]
fn every_event_in_its_newest_version_fits_the_schema() {
    let schema = jsonschema::validator_for(&serde_json::from_str(SCHEMA).unwrap()).unwrap();
    for line in FIXTURES.iter().flat_map(|fixture| fixture.lines()) {
        let newest: Value = serde_json::from_slice(&decode(line.as_bytes()).unwrap().encode()).unwrap();
        if let Err(error) = schema.validate(&newest) {
            panic!("{newest}: {error}");
        }
        let mut bent = newest.clone();
        bent["data"] = "bent".into();
        assert!(!schema.is_valid(&bent), "{bent}");
    }
}
