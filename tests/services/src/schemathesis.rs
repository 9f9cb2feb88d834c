//! Schemathesis: generates valid and invalid requests from an OpenAPI file, and checks the
//! responses against it.

use std::process::Command;

use crate::{cache, must};

/// Pinned, so that its checks do not change by themselves.
const PACKAGE: &str = "schemathesis==4.32.5\n";

/// Returns the command. The first use installs it from PyPI.
///
/// # Panics
/// If Python is missing, or PyPI does not answer.
#[track_caller]
pub fn schemathesis() -> Command {
    Command::new(must(cache::venv("schemathesis-4.32.5", PACKAGE)).join("bin/schemathesis"))
}
