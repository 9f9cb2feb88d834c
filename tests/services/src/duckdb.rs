//! DuckDB: a database that was written by others, so what it makes of a statement is evidence.

use std::process::Command;

use crate::process::output_given;
use crate::{cache, must};

/// Pinned, so that what it answers does not change by itself.
const PACKAGE: &str = "duckdb==2.0.1\n";

/// Runs a Python program that can import `duckdb`, which is installed from PyPI at its first use; gives what it writes.
///
/// # Panics
/// When there is no Python, PyPI does not answer, or the program fails or takes longer than `seconds`.
#[track_caller]
pub fn run(program: &str, input: &[u8], seconds: u32) -> String {
    let python = must(cache::venv("duckdb-2.0.1", PACKAGE)).join("bin/python");
    let mut command = Command::new(python);
    command.args(["-c", program]);
    must(output_given(&mut command, seconds, input))
}
