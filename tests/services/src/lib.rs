//! Real servers for Forebay's tests: Apache Kafka and Apache Cassandra from their published jars
//! and Apache Airflow from PyPI, as plain processes, and their own tools for independent checks,
//! with a proxy that spoils their connections. No container engine is needed.
//!
//! Guarantees:
//! * A server that is returned answers on its port, and runs alone in a fresh folder.
//! * A server never outlives the process that started it, however that process ends.
//! * A missing JDK, Maven or Python fails the test with what to install; no test is skipped.
//!
//! Does not cover:
//! * Replication: a server is one node.
//! * Power loss: a killed process does not lose what the kernel has buffered.
//!
//! ```no_run
//! use forebay_test_services::{Cassandra, CommitlogSync, Kafka};
//!
//! let kafka = Kafka::shared(); // one per test process, for tests that do not stop it
//! kafka.create_topic("users", 4);
//!
//! let mut cassandra = Cassandra::start(CommitlogSync::Batch); // owned by this test
//! cassandra.kill();
//! cassandra.restart();
//! ```
//!
//! Jars and Python packages are downloaded once into `$FOREBAY_CACHE/services` (default
//! `~/.cache/forebay/services`). Logs are in `$FOREBAY_CACHE/runs`. After a panic, and for shared
//! servers, they are kept for a week.

mod airflow;
mod cache;
mod cache_root;
mod cassandra;
pub mod certificates;
pub mod duckdb;
mod java;
mod kafka;
mod ports;
mod process;
pub mod prometheus;
mod proxy;
pub mod schemathesis;
mod secured_kafka;
pub mod tools;

pub use airflow::Airflow;
pub use cassandra::{Cassandra, CommitlogSync};
pub use kafka::Kafka;
pub use process::Process;
pub use proxy::{NetworkFault, Proxy};
pub use secured_kafka::SecuredKafka;

/// An error as text: what failed, the last lines of its output, and the remedy. It becomes a panic
/// message.
type Result<T> = std::result::Result<T, String>;

/// How much memory a server gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Size {
    /// A small heap and only the fast compiler: starts quickly, for tests.
    #[default]
    Test,
    /// The heap and both compilers, for the measurements in `benches/`.
    Bench,
}

/// Fails the test with the text of the error.
#[track_caller]
fn must<T>(result: Result<T>) -> T {
    result.unwrap_or_else(|error| panic!("{error}"))
}
