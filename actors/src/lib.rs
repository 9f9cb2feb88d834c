//! The pipeline of Forebay: records from an HTTP API, through Kafka, through micro-batches of SQL, into Cassandra, effectively once.
//!
//! ```text
//!  API ── fetcher ── producer ──▶ Kafka topic ──▶ consumer ── transformer ── writer ──▶ Cassandra table
//!             Lease<Page>                             Lease<RawBatch>  Lease<RowBatch>  └▶ dead-letter topic
//! ```
//!
//! Each arrow between actors carries a [`Lease`](forebay_kernel::Lease): the message and the bytes of budget it holds until its effect is done.
//!
//! * [`fetcher`], [`producer`], [`consumer`], [`transformer`], [`writer`]: one folder an actor; `mod.rs` says what it guarantees,
//!   `actor.rs` is the shell, `state.rs` is pure, `client.rs` talks to servers, `error.rs` says what can go wrong.
//! * [`message`]: what they send each other. [`telemetry`]: what they let others see.
//! * [`broker`]: Kafka, external or inside the process, behind one interface.
//! * [`ledger`]: decisions and visible facts, as events; the state of runs is their fold.
//! * [`journal`]: append-only, checksummed files of events.
//! * [`lineage`]: runs as events of OpenLineage, told to others. [`traces`]: batches and runs as spans, over OTLP.
//! * [`failpoint`]: places where tests make the program fail.
//! * `simulator`, in tests only: the pure parts of all of these, through random histories with faults.
//! * [`api`]: the control API. [`pipeline`] builds the supervision tree out of a pipeline file.

pub mod api;
pub mod broker;
pub mod consumer;
pub mod data_dir;
pub mod failpoint;
pub mod fetcher;
pub mod journal;
pub mod ledger;
pub mod message;
pub mod observers;
pub mod operations;
pub mod pipeline;
pub mod producer;
#[cfg(test)]
mod simulator;
pub mod telemetry;
pub mod text;
pub mod transformer;
pub mod writer;
