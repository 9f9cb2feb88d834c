//! DuckDB, an independent implementation of SQL to compare with.

use std::process::Command;

use crate::process::output_with_input;
use crate::{cache, must};

/// Pinned, so that its results do not change by themselves.
const PACKAGE: &str = "duckdb==2.0.1\n";

/// Runs a Python program that can import `duckdb`, and returns its output. The first use installs
/// `duckdb` from PyPI.
///
/// # Panics
/// If Python is missing, PyPI does not answer, or the program fails or takes longer than `seconds`.
#[track_caller]
pub fn run(program: &str, input: &[u8], seconds: u32) -> String {
    let python = must(cache::venv("duckdb-2.0.1", PACKAGE)).join("bin/python");
    let mut command = Command::new(python);
    command.args(["-c", program]);
    must(output_with_input(&mut command, seconds, input))
}
