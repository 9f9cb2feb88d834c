//! The real servers for Forebay's tests: Apache Kafka and Apache Cassandra from their published jars and Apache Airflow from PyPI, as plain
//! processes, and their own tools as independent witnesses. No container engine is needed.
//!
//! What it guarantees:
//! - a server that is returned answers on its port, and runs alone in a fresh folder;
//! - a server never outlives the process that started it, however that process ends;
//! - what can't be had (a JDK, Maven, Python) fails the test and says what to install; nothing is skipped.
//!
//! What it does not: a server is one node, so it shows nothing about replication; a killed process does not lose what the
//! kernel holds, so it shows nothing about power loss.
//!
//! ```no_run
//! use forebay_test_services::{Cassandra, CommitlogSync, Kafka};
//!
//! let kafka = Kafka::shared(); // one a test process, for tests that leave the server alone
//! kafka.create_topic("users", 4);
//!
//! let mut cassandra = Cassandra::start(CommitlogSync::Batch); // this test's own
//! cassandra.kill();
//! cassandra.restart();
//! ```
//!
//! Jars and Python packages are fetched once into `$FOREBAY_CACHE/services` (default `~/.cache/forebay/services`). Logs are in
//! `$FOREBAY_CACHE/runs`, and stay there for a week when they may be wanted: after a panic, and for shared servers.

mod airflow;
mod cache;
mod cassandra;
pub mod duckdb;
mod java;
mod kafka;
mod ports;
mod process;
pub mod prometheus;
pub mod schemathesis;
pub mod tools;

pub use airflow::Airflow;
pub use cassandra::{Cassandra, CommitlogSync};
pub use kafka::Kafka;
pub use process::Process;

/// An error as a text for people: what failed, the last lines of its output, what to do. It ends up in a panic.
type Result<T> = std::result::Result<T, String>;

/// How much a server gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Size {
    /// A small heap and only the quick compiler: starts fast, for tests.
    #[default]
    Test,
    /// The heap and both compilers, as the measurements in `benches/` are taken.
    Bench,
}

/// Ends the test with the text of the error.
#[track_caller]
fn must<T>(result: Result<T>) -> T {
    result.unwrap_or_else(|trouble| panic!("{trouble}"))
}
