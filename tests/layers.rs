//! Dependencies go one way: between the crates, between a crate and the libraries of another one's
//! concern, and into `pipeline`.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Each crate's folder, its name, and the crates of Forebay that it may depend on.
const CRATES: [(&str, &str, &[&str]); 7] = [
    ("schemas", "forebay-schemas", &[]),
    ("actors/kernel", "forebay-kernel", &["forebay-schemas"]),
    ("actors/dataplane", "forebay-dataplane", &["forebay-schemas"]),
    ("actors", "forebay-actors", &["forebay-schemas", "forebay-kernel", "forebay-dataplane"]),
    ("tui", "forebay-tui", &["forebay-schemas"]),
    ("tests/services", "forebay-test-services", &[]),
    (".", "forebay", &["forebay-schemas", "forebay-kernel", "forebay-dataplane", "forebay-actors", "forebay-tui"]),
];

/// Libraries that stand for a concern, and the only crates that may depend on them.
const CONCERNS: [(&str, &[&str]); 14] = [
    ("actix", &["forebay-kernel"]),
    ("actix-rt", &["forebay-kernel"]),
    ("actix-http", &["forebay-actors"]),
    ("actix-service", &["forebay-actors"]),
    ("actix-web", &["forebay-actors", "forebay"]),
    ("rustls", &["forebay-actors", "forebay-dataplane", "forebay-tui", "forebay"]),
    ("reqwest", &["forebay-actors", "forebay-tui", "forebay"]),
    ("rdkafka", &["forebay-actors"]),
    ("nisshi-broker", &["forebay-actors"]),
    ("nisshi-storage", &["forebay-actors"]),
    ("datafusion", &["forebay-dataplane"]),
    ("scylla", &["forebay-dataplane"]),
    ("ratatui", &["forebay-tui"]),
    ("clap", &["forebay"]),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn manifest(folder: &str) -> toml::Value {
    toml::from_str(&std::fs::read_to_string(root().join(folder).join("Cargo.toml")).unwrap()).unwrap()
}

/// What a crate depends on, without its tests.
fn dependencies(folder: &str) -> Vec<String> {
    let manifest = manifest(folder);
    let table = |key: &str| manifest.get(key).and_then(toml::Value::as_table).cloned().unwrap_or_default();
    table("dependencies").into_iter().chain(table("build-dependencies")).map(|(name, _)| name).collect()
}

/// The Rust files of a folder and the folders in it.
fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn a_crate_depends_on_lower_crates_only() {
    for (folder, name, lower) in CRATES {
        let package = manifest(folder);
        assert_eq!(package["package"]["name"].as_str(), Some(name), "the crate in {folder}");
        let higher: Vec<String> =
            dependencies(folder).into_iter().filter(|it| it.starts_with("forebay") && !lower.contains(&it.as_str())).collect();
        assert!(higher.is_empty(), "{name} depends on {higher:?}");
    }
    let workspace = manifest(".");
    let members = workspace["workspace"]["members"].as_array().unwrap().len();
    assert_eq!(members + 1, CRATES.len(), "a crate is missing in this test");
}

#[test]
fn a_library_of_a_concern_is_used_by_its_own_crate_only() {
    for (folder, name, _) in CRATES {
        for (library, allowed) in CONCERNS {
            assert!(allowed.contains(&name) || !dependencies(folder).iter().any(|it| it == library), "{name} depends on {library}");
        }
    }
    for (library, allowed) in CONCERNS {
        let used = CRATES.iter().any(|(folder, name, _)| allowed.contains(name) && dependencies(folder).iter().any(|it| it == library));
        assert!(used, "{library} is not used any more: remove it from this test");
    }
}

#[test]
fn nothing_in_the_engine_imports_the_pipeline_that_wires_it() {
    let engine = root().join("actors/src");
    let mut files = Vec::new();
    sources(&engine, &mut files);
    let above = ["lib.rs", "pipeline", "simulator"];
    let mut upward = Vec::new();
    for path in files.iter().map(|path| path.strip_prefix(&engine).unwrap()).filter(|path| above.iter().all(|top| !path.starts_with(top))) {
        let text = std::fs::read_to_string(engine.join(path)).unwrap();
        let lines = (1..).zip(text.lines()).filter(|(_, line)| !line.trim_start().starts_with("//") && line.contains("crate::pipeline"));
        upward.extend(lines.map(|(number, line)| format!("{}:{number}: {}", path.display(), line.trim())));
    }
    assert!(upward.is_empty(), "these lines import the wiring:\n  {}", upward.join("\n  "));
}

/// The code of a file: no comments, and nothing of a test module at its end.
fn code(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap();
    let end = text.find("#[cfg(test)]\nmod tests").unwrap_or(text.len());
    text[..end].lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// The modules at the top of a crate, each with those that it imports. Tests and the simulator,
/// which is a test, may import whatever they test.
fn imports(src: &Path) -> BTreeMap<String, BTreeSet<String>> {
    let mut files = Vec::new();
    sources(src, &mut files);
    let name = |path: &Path| path.strip_prefix(src).unwrap().iter().next().unwrap().to_str().unwrap().trim_end_matches(".rs").to_owned();
    let all: BTreeSet<String> = files.iter().map(|path| name(path)).collect();
    let is_test = |path: &&PathBuf| {
        let path = path.strip_prefix(src).unwrap();
        path.iter().any(|part| {
            let part = part.to_str().unwrap().trim_end_matches(".rs");
            part.ends_with("tests") || ["simulator", "testing", "test_data", "lib", "main"].contains(&part)
        })
    };
    let mut found = BTreeMap::<String, BTreeSet<String>>::new();
    for path in files.iter().filter(|path| !is_test(path)) {
        let (from, text) = (name(path), code(path));
        // In a file at the top `super` is the crate.
        let prefixes = if path.parent() == Some(src) { &["crate::", "super::"][..] } else { &["crate::"] };
        for prefix in prefixes {
            for (at, _) in text.match_indices(prefix) {
                let rest = &text[at + prefix.len()..];
                let names = match rest.strip_prefix('{') {
                    Some(group) => group.split(['}', ';']).next().unwrap().split(',').collect(),
                    None => vec![rest],
                };
                let first = |name: &str| -> String { name.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect() };
                let known = names.into_iter().map(first).filter(|name| all.contains(name) && *name != from);
                found.entry(from.clone()).or_default().extend(known);
            }
        }
    }
    found
}

/// The modules on a way from `at` back to `goal`, if there is one.
fn way_back(imports: &BTreeMap<String, BTreeSet<String>>, at: &str, goal: &str, seen: &mut BTreeSet<String>) -> Option<Vec<String>> {
    for next in imports.get(at)? {
        if next == goal {
            return Some(vec![at.to_owned(), goal.to_owned()]);
        }
        if seen.insert(next.clone())
            && let Some(mut way) = way_back(imports, next, goal, seen)
        {
            way.insert(0, at.to_owned());
            return Some(way);
        }
    }
    None
}

#[test]
fn the_modules_of_a_crate_import_each_other_in_one_direction() {
    for (folder, name, _) in CRATES {
        let imports = imports(&root().join(folder).join("src"));
        for module in imports.keys() {
            let circle = way_back(&imports, module, module, &mut BTreeSet::new());
            assert!(circle.is_none(), "{name}: {}", circle.unwrap_or_default().join(" imports "));
        }
    }
    let engine = imports(&root().join("actors/src"));
    assert!(engine["pipeline"].len() > 8, "imports are found: {engine:?}");
}
