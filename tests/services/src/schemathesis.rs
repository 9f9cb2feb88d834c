//! Schemathesis: makes requests out of an OpenAPI file, such as fit it and such as don't, and holds the answers against it. It is written by
//! others, so what it finds is evidence.

use std::process::Command;

use crate::{cache, must};

/// Pinned, so that what it looks for does not change by itself.
const PACKAGE: &str = "schemathesis==4.32.5\n";

/// The command, installed from PyPI at its first use.
///
/// # Panics
/// When there is no Python, or PyPI does not answer.
#[track_caller]
pub fn schemathesis() -> Command {
    Command::new(must(cache::venv("schemathesis-4.32.5", PACKAGE)).join("bin/schemathesis"))
}
