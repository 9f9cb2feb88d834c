//! `forebay`: the command line. Parses the arguments, runs one command and returns its exit code.

mod api_client;
mod api_trust;
mod commands;
mod demo;
mod error;
mod example;
mod global;
mod logging;
mod output;
mod process;
mod runtime;
mod server_timeout;
mod source_draft;
mod windows;

use std::process::ExitCode;

use clap::Parser as _;

use crate::commands::Cli;
use crate::output::Output;

/// Used by Rust and by the C libraries (librdkafka, SQLite). Batches of megabytes are allocated and
/// freed on several threads, and the system allocator keeps freed memory per thread.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    // Reads FAILPOINTS: see docs/RECOVERY.md.
    #[cfg(feature = "failpoints")]
    let _failpoints = fail::FailScenario::setup();
    let cli = Cli::parse();
    let output = Output::new(cli.global.json);
    match commands::run_command(cli, &output) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => error.report(&output),
    }
}
