//! Forebay's engine: records from an HTTP API, through Kafka, through micro-batches of SQL, into
//! Cassandra, effectively once.
//!
//! ```text
//!  API ── fetcher ── producer ──▶ Kafka topic ──▶ consumer ── transformer ── writer ──▶ Cassandra table
//!                Page                              Lease<PolledBatch>  Lease<BatchPart>  └▶ dead-letter topic
//! ```
//!
//! Each message between actors holds bytes of budget until it is processed, most of them in a
//! [`Lease`](forebay_kernel::Lease).
//!
//! * `fetcher`, `producer`, `consumer`, `transformer`, `writer`: one folder per actor.
//!   `mod.rs` states its guarantees, `actor.rs` is the shell, `state.rs` is pure, `client.rs` does
//!   I/O, `error.rs` has its failures.
//! * `message`: the messages between them.
//! * [`broker`]: access to Kafka, external or embedded.
//! * [`ledger`]: the only writer of events; the state of runs is their fold.
//! * [`journal`]: append-only, checksummed files of events.
//! * [`telemetry`]: what the actors record for snapshots and metrics.
//! * `observers`: snapshots, alerts, OpenLineage and traces; nothing depends on them.
//! * [`operations`]: replay, redrive and cursor changes, for the API and the command line.
//! * [`api`]: the control API. [`pipeline`]: builds the supervision tree from a pipeline file.
//! * [`data_dir`], `failpoint`, `process_clock`, `text`: small helpers of all of these.
//! * `simulator`, in tests only: runs the pure parts through random histories with faults.

pub mod api;
pub mod broker;
mod consumer;
pub mod data_dir;
mod failpoint;
mod fetcher;
pub mod journal;
pub mod ledger;
mod message;
mod observers;
pub mod operations;
pub mod pipeline;
mod process_clock;
mod producer;
#[cfg(test)]
mod simulator;
pub mod telemetry;
mod text;
mod transformer;
mod writer;

pub use failpoint::POINTS;
pub use fetcher::{RateLimit, next_link};
pub use observers::{SnapshotSource, cursors_of};
pub use process_clock::ProcessClock;
