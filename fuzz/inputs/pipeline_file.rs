//! A pipeline file is valid, or has an error that names the file.

use std::path::Path;

use forebay_schemas::pipeline;

/// Checks one input.
pub fn check(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    if let Err(error) = pipeline::parse(Path::new("changed.toml"), text.to_owned()) {
        let report = format!("{:?}", miette::Report::new(error));
        assert!(report.contains("changed.toml"), "{report}");
    }
}
