//! What reads bytes from outside never panics, and keeps what it promises for every input.
//!
//! Inputs are valid ones with random changes, so that they come further than random bytes do. A
//! failing input is shrunk and printed. `PROPTEST_CASES=100000 cargo test --test fuzz` tries more,
//! and the targets of `fuzz/`, which call the same functions, look for inputs that reach new code.

#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

#[path = "../fuzz/inputs/mod.rs"]
#[allow(unreachable_pub, reason = "the targets of fuzz/ include it, too")]
mod inputs;

use std::path::Path;

use proptest::prelude::*;
use proptest::sample::Index;

use inputs::{api_body, commit_metadata, cql_name, journal, link_header, paging_guess, pipeline_file, record, retry_after_header};

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

/// The files of a folder in `fuzz/seeds`.
fn seeds(name: &str) -> Vec<Vec<u8>> {
    files(&format!("fuzz/seeds/{name}"))
}

fn files(folder: &str) -> Vec<Vec<u8>> {
    let mut paths: Vec<_> = root().join(folder).read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.into_iter().map(|path| std::fs::read(path).unwrap()).collect()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The pipeline file of the example.
fn example() -> Vec<u8> {
    std::fs::read(root().join("examples/users/forebay.toml")).unwrap()
}

#[test]
fn what_is_changed_is_valid_before() {
    assert!(forebay_schemas::pipeline::parse(Path::new("forebay.toml"), String::from_utf8(example()).unwrap()).is_ok());
    assert!(seeds("record").iter().all(|seed| record::transformed(seed) == (1, 0)));
    let metadata = |seed: Vec<u8>| forebay_dataplane::commit_metadata::CommitMetadata::parse(&String::from_utf8(seed).unwrap());
    assert!(seeds("commit_metadata").into_iter().all(|seed| metadata(seed).is_some()));
}

#[test]
fn every_fuzz_target_has_seeds_and_is_tried_here() {
    let name = |path: &Path| path.file_stem().unwrap().to_str().unwrap().to_owned();
    let names = |folder: &str| {
        let mut names: Vec<String> = root().join(folder).read_dir().unwrap().map(|entry| name(&entry.unwrap().path())).collect();
        names.sort();
        names
    };
    let targets = names("fuzz/fuzz_targets");
    let own = std::fs::read_to_string(root().join("tests/fuzz.rs")).unwrap();
    let untried: Vec<_> = targets.iter().filter(|target| !own.contains(&format!("    {target}::check(&bytes)"))).collect();
    assert!(untried.is_empty(), "no test here calls {untried:?}");
    let mut with_seeds = names("fuzz/seeds");
    with_seeds.push("pipeline_file".to_owned());
    with_seeds.sort();
    assert_eq!(with_seeds, targets);
    let manifest: toml::Value = toml::from_str(&std::fs::read_to_string(root().join("fuzz/Cargo.toml")).unwrap()).unwrap();
    let mut built: Vec<_> = manifest["bin"].as_array().unwrap().iter().map(|bin| bin["name"].as_str().unwrap()).collect();
    built.sort_unstable();
    assert_eq!(built, targets);
}

/// At least a thousand inputs; a failing one is printed, not saved.
fn config() -> ProptestConfig {
    let default = ProptestConfig::default();
    ProptestConfig { cases: default.cases.max(1_000), failure_persistence: None, ..default }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_changed_pipeline_file_is_valid_or_has_an_error_that_names_it(bytes in changed(vec![example()])) {
        pipeline_file::check(&bytes);
    }

    #[test]
    fn a_changed_record_becomes_one_row_or_one_reject(bytes in changed(seeds("record"))) {
        record::check(&bytes);
    }

    #[test]
    fn a_changed_journal_is_read_up_to_the_damage(bytes in prop::collection::vec(any::<u8>(), 3..40)) {
        journal::check(&bytes);
    }

    #[test]
    fn a_changed_body_of_the_api_is_refused_or_means_what_it_says(bytes in changed(seeds("api_body"))) {
        api_body::check(&bytes);
    }

    #[test]
    fn changed_commit_metadata_is_not_ours_or_has_a_clock_that_was_written(bytes in changed(seeds("commit_metadata"))) {
        commit_metadata::check(&bytes);
    }

    #[test]
    fn a_changed_link_header_names_a_next_page_only_if_it_says_so(bytes in changed(seeds("link_header"))) {
        link_header::check(&bytes);
    }

    #[test]
    fn a_changed_answer_leads_to_guesses_that_are_valid_rules(bytes in changed(seeds("paging_guess"))) {
        paging_guess::check(&bytes);
    }

    #[test]
    fn a_changed_rate_limit_makes_nothing_wait_for_longer_than_a_day(bytes in changed(seeds("retry_after_header"))) {
        retry_after_header::check(&bytes);
    }

    #[test]
    fn a_changed_name_gets_into_a_statement_only_if_it_needs_no_quotes(bytes in changed(seeds("cql_name"))) {
        cql_name::check(&bytes);
    }
}
