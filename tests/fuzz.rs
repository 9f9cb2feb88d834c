//! What reads bytes from outside never panics, and keeps what it promises for every input.
//!
//! Inputs are valid ones with random changes, so that they come further than random bytes do. A
//! failing input is shrunk and printed. `PROPTEST_CASES=100000 cargo test --test fuzz` tries more.

use std::path::Path;
use std::sync::LazyLock;

use forebay_actors::journal::{self, JournalError, frame};
use forebay_dataplane::commit_metadata::CommitMetadata;
use forebay_dataplane::transform::{Parts, Transform};
use forebay_dataplane::{NewRecord, RawBatch};
use forebay_schemas::api::{ApplyRequest, PlanRequest, StateRequest};
use forebay_schemas::pipeline;
use forebay_schemas::run::RunRequest;
use proptest::prelude::*;
use proptest::sample::Index;
use serde::Serialize;
use serde::de::DeserializeOwned;

const PIPELINE: &str = include_str!("../examples/users/forebay.toml");
const PIPELINE_PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/users/forebay.toml");

/// A record that the example accepts.
const RECORD: &str = r#"{"login":{"uuid":"0192f0c1-7a00-7000-8000-000000000001","username":"u"},"name":{"first":"A","last":"B"},"gender":"female","location":{"street":{"number":1,"name":"S"},"city":"C","state":"T","country":"D","postcode":12345},"email":"a@b","dob":{"date":"1970-01-01T00:00:00.000Z","age":5},"registered":{"date":"2020-01-01T00:00:00.000Z"},"phone":"1","picture":{"medium":"p"}}"#;

/// A change of a text: where, how many bytes are removed there, and what is put there.
type Change = (Index, usize, Vec<u8>);

/// What parsers stumble over.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    let text = |text: &'static str| Just(text.as_bytes().to_vec());
    prop_oneof![
        3 => prop::collection::vec(any::<u8>(), 0..4),
        2 => prop::sample::select(b"\"'{}[]<>,:;=\\\n\r\0 -+.0123456789eE".as_slice()).prop_map(|byte| vec![byte]),
        1 => prop_oneof![
            text("null"), text("1e999"), text("-9223372036854775809"), text("\\ud800"), text("\u{202e}"), text("\u{feff}"),
            text("[[[[[[[["), text("NaN"), text("1970-01-01T00:00:00Z"), text("999999999999999999999999"), text("\\u0000"), text("\"\"\""),
        ],
    ]
}

/// One of `seeds` with a few changes.
fn changed(seeds: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let changes = prop::collection::vec((any::<Index>(), 0..6_usize, piece()), 0..6);
    (prop::sample::select(seeds), changes).prop_map(|(mut bytes, changes): (Vec<u8>, Vec<Change>)| {
        for (at, removed, added) in changes {
            let at = at.index(bytes.len() + 1);
            bytes.splice(at..(at + removed).min(bytes.len()), added);
        }
        bytes
    })
}

fn seeds(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

static TRANSFORM: LazyLock<Transform> = LazyLock::new(|| {
    Transform::new(&pipeline::load(Path::new(PIPELINE_PATH)).expect("the example is valid")).expect("the example's SQL is valid")
});

/// The rows and the rejects that one record becomes.
fn transformed(value: &[u8]) -> (usize, usize) {
    let mut batch = RawBatch::default();
    batch.push(&NewRecord { write_ts: 1_700_000_000_000_000, value: Some(value), ..NewRecord::default() });
    let (mut rows, mut rejects) = (0, 0);
    let mut parts = Parts::default();
    while !parts.is_done() {
        let part = parts.next(&TRANSFORM, &batch, &|| {});
        rows += part.rows.num_rows();
        rejects += part.rejects.len();
    }
    (rows, rejects)
}

/// Parses a body; one that is accepted means the same once it is written and parsed again.
fn parsed_again<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(body: &[u8]) {
    if let Ok(parsed) = serde_json::from_slice::<T>(body) {
        let written = serde_json::to_vec(&parsed).expect("a body is JSON");
        assert_eq!(serde_json::from_slice::<T>(&written).expect("it was written by its own type"), parsed);
    }
}

#[test]
fn what_is_changed_is_valid_before() {
    assert!(pipeline::parse(Path::new(PIPELINE_PATH), PIPELINE.to_owned()).is_ok());
    assert_eq!(transformed(RECORD.as_bytes()), (1, 0));
}

/// At least a thousand inputs; a failing one is printed, not saved.
fn config() -> ProptestConfig {
    let default = ProptestConfig::default();
    ProptestConfig { cases: default.cases.max(1_000), failure_persistence: None, ..default }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_changed_pipeline_file_is_valid_or_has_an_error_that_names_it(bytes in changed(seeds(&[PIPELINE]))) {
        let Ok(text) = String::from_utf8(bytes) else { return Ok(()) };
        if let Err(error) = pipeline::parse(Path::new("changed.toml"), text) {
            let report = format!("{:?}", miette::Report::new(error));
            prop_assert!(report.contains("changed.toml"), "{report}");
        }
    }

    #[test]
    fn a_changed_record_becomes_one_row_or_one_reject(bytes in changed(seeds(&[RECORD]))) {
        let (rows, rejects) = transformed(&bytes);
        prop_assert_eq!(rows + rejects, 1, "{} rows and {} rejects", rows, rejects);
    }

    #[test]
    fn a_changed_journal_is_read_up_to_the_damage(events in 1..6_u64, change in any::<Option<(Index, Vec<u8>)>>()) {
        let mut segment = Vec::new();
        frame::encode(br#"{"segment":1,"format":1,"first":1,"pipeline":"users"}"#, &mut segment);
        for sequence in 1..=events {
            frame::encode(format!(r#"{{"seq":{sequence},"type":"pipeline_started"}}"#).as_bytes(), &mut segment);
        }
        let whole = segment.clone();
        if let Some((at, bytes)) = &change {
            let at = at.index(segment.len());
            segment.splice(at..(at + bytes.len()).min(segment.len()), bytes.iter().copied());
        }
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("00000000000000000001.log"), &segment).unwrap();
        let mut seen = Vec::new();
        let result = journal::read::<JournalError>(folder.path(), 1, |sequence, json| {
            seen.push((sequence, json.to_vec()));
            Ok(())
        });
        for (at, (sequence, json)) in seen.iter().enumerate() {
            prop_assert_eq!(*sequence, at as u64 + 1);
            let written = format!(r#"{{"seq":{sequence},"type":"pipeline_started"}}"#);
            prop_assert_eq!(json, written.as_bytes(), "never another event");
        }
        if segment == whole {
            prop_assert!(result.is_ok());
            prop_assert_eq!(seen.len() as u64, events);
        }
    }

    #[test]
    fn a_changed_body_of_the_api_is_refused_or_means_what_it_says(bytes in changed(seeds(&[
        r#"{"attempt": 1, "params": {"results": "500"}, "lease_seconds": 120, "read": "continue"}"#,
        r#"{"state": "paused", "reason": "x"}"#,
        r#"{"action": "replay", "from": {"offsets": {"0": 5}}}"#,
        r#"{"action": "redrive", "letters": {"0": {"from": 1, "to": 4}}}"#,
        r#"{"action": "cursor", "params": {"day": "1"}, "to": {"cursor": "abc"}}"#,
        r#"{"plan": {"action": "replay", "from": "begin"}, "token": "t", "reason": "r"}"#,
    ]))) {
        parsed_again::<RunRequest>(&bytes);
        parsed_again::<StateRequest>(&bytes);
        parsed_again::<PlanRequest>(&bytes);
        parsed_again::<ApplyRequest>(&bytes);
    }

    #[test]
    fn changed_commit_metadata_is_not_ours_or_has_a_clock_that_was_written(bytes in changed(seeds(&[
        "forebay:3:1700000000000000:0000002a:AAAAAAAAAAAAAAAAAAAAAQ", "forebay:2:77:0000002a", "forebay:1:77",
    ]))) {
        let text = String::from_utf8_lossy(&bytes);
        if let Some(metadata) = CommitMetadata::parse(&text) {
            prop_assert!(metadata.write_clock.micros() >= 0);
            prop_assert_eq!(CommitMetadata::parse(&metadata.to_string()), Some(metadata));
        }
    }
}
