//! What documents name exists: files, tests, headings that links lead to, and one version of Rust.

#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Documents that name files of the source tree.
const MAPS: [&str; 4] = ["CONTRIBUTING.md", "docs/ARCHITECTURE.md", "docs/GLOSSARY.md", "docs/RELEASE.md"];

/// Documents that name tests.
const GUIDES: [&str; 7] = [
    "docs/RECOVERY.md",
    "docs/SOURCES.md",
    "docs/SCHEMA.md",
    "docs/SQL.md",
    "docs/TYPES.md",
    "docs/OPERATIONS.md",
    "docs/adr/0015-a-records-sql-is-bounded.md",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The files of a folder and the folders in it whose names end so.
fn files(folder: &Path, end: &str, found: &mut Vec<PathBuf>) {
    for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() && name != "target" && (!name.starts_with('.') || name == ".github") {
            files(&path, end, found);
        } else if name.ends_with(end) {
            found.push(path);
        }
    }
}

/// A document without its fenced code.
fn prose(text: &str) -> String {
    text.split("```").step_by(2).collect()
}

/// The paths of the source tree in backticks. Placeholders, such as `src/commands/NAME.rs`, and
/// globs are left out.
fn paths(text: &str) -> impl Iterator<Item = &str> {
    let is_path = |word: &&str| {
        let plain = word.chars().all(|c| c.is_ascii_alphanumeric() || "._-/".contains(c));
        let is_placeholder = word.split(['/', '.']).any(|part| part.len() > 1 && part.chars().all(|c| c.is_ascii_uppercase() || c == '_'));
        let top = word.split('/').next().unwrap();
        plain && word.contains('/') && !is_placeholder && !top.is_empty() && root().join(top).is_dir()
    };
    text.split('`').skip(1).step_by(2).filter(is_path)
}

/// How GitHub names the headings of a document in links.
fn anchors(text: &str) -> BTreeSet<String> {
    let slug = |heading: &str| -> String {
        let kept = heading.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect()
    };
    let headings = text.lines().filter(|line| line.starts_with('#'));
    headings.map(|line| slug(line.trim_start_matches('#').trim())).collect()
}

#[test]
fn every_path_that_the_maps_of_the_source_tree_name_exists() {
    for map in MAPS {
        let text = prose(&read(map));
        let missing: Vec<&str> = paths(&text).filter(|path| !root().join(path).exists()).collect();
        assert!(missing.is_empty(), "{map} names {missing:?}");
    }
    assert!(paths(&prose(&read("CONTRIBUTING.md"))).count() > 20);
}

#[test]
fn every_link_between_documents_leads_to_a_file_and_a_heading() {
    let mut all = Vec::new();
    files(root(), ".md", &mut all);
    let mut links = 0;
    for document in &all {
        let text = prose(&std::fs::read_to_string(document).unwrap());
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { document.clone() } else { document.parent().unwrap().join(file) };
            assert!(target.exists(), "{} links to {link}", document.display());
            if !heading.is_empty() {
                let there = anchors(&prose(&std::fs::read_to_string(&target).unwrap()));
                assert!(there.contains(heading), "{} links to {link}; its headings are {there:?}", document.display());
            }
            links += 1;
        }
    }
    assert!(links > 40, "{links} links");
}

#[test]
fn every_test_that_a_guide_names_exists() {
    let mut sources = Vec::new();
    files(root(), ".rs", &mut sources);
    let mut functions = BTreeSet::new();
    for source in sources {
        let text = std::fs::read_to_string(source).unwrap();
        let name = |rest: &str| rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect::<String>();
        functions.extend(text.split("fn ").skip(1).map(name));
    }
    let mut named = 0;
    for guide in GUIDES {
        let text = prose(&read(guide));
        let is_test =
            |word: &&str| word.matches('_').count() > 3 && word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
        for test in text.split('`').skip(1).step_by(2).filter(is_test).filter(|word| !word.ends_with("_total")) {
            assert!(functions.contains(test), "{guide} names a test {test}");
            named += 1;
        }
    }
    assert!(named > 80, "{named} tests are named");
}

/// The TOML of a document, block by block.
fn toml_blocks(text: &str) -> impl Iterator<Item = &str> {
    text.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next())
}

#[test]
fn every_example_of_a_source_is_a_valid_part_of_a_pipeline_file() {
    let text = read("docs/SOURCES.md");
    let base = "[pipeline]\nname = \"docs\"\n[kafka]\nbootstrap = \"embedded\"\ntopic = \"orders\"\n[producer]\nkey = \"/id\"\n";
    let mut examples = 0;
    for block in toml_blocks(&text) {
        let url = "url = \"https://api.example.org/orders\"\n";
        let fetcher = match block.strip_prefix("[fetcher]\n") {
            Some(keys) if keys.lines().any(|line| line.starts_with("url =")) => block.to_owned(),
            Some(keys) => format!("[fetcher]\n{url}{keys}"),
            None => format!("[fetcher]\n{url}{block}"),
        };
        let parsed = forebay_schemas::pipeline::parse(Path::new("forebay.toml"), format!("{base}{fetcher}"));
        assert!(parsed.is_ok(), "{block}: {}", parsed.unwrap_err());
        examples += 1;
    }
    assert!(examples >= 22, "{examples} examples");
}

#[test]
fn one_version_of_rust_is_named_everywhere() {
    let file: toml::Value = toml::from_str(&read("rust-toolchain.toml")).unwrap();
    let version = file["toolchain"]["channel"].as_str().unwrap().to_owned();
    let (minor, _patch) = version.rsplit_once('.').unwrap();
    let manifest: toml::Value = toml::from_str(&read("Cargo.toml")).unwrap();
    assert_eq!(manifest["workspace"]["package"]["rust-version"].as_str(), Some(minor));
    assert!(read("Dockerfile").contains(&format!("FROM rust:{minor}-")), "the Dockerfile's image is not of Rust {minor}");
}
