//! The data plane of Forebay: what a record goes through, with no actor, broker, journal or HTTP server involved.
//!
//! ```text
//!  RawBatch ── Transform, Parts ──▶ RowBatch ── RowSet::check ──▶ Store::write ──▶ table
//!                    └─ rejects ─────────────────── rejects ─┴──▶ DeadLetter
//! ```
//!
//! * [`transform`]: JSON to Arrow columns, then the pipeline's SQL, compiled once.
//! * [`store`]: the table in Cassandra or in a local file: its plan, the check of rows, the writers.
//! * [`dead_letter`]: what a record becomes that can't be a row.
//! * [`write_clock`] and [`commit_metadata`]: the timestamps that rows are written with, and how they continue from a commit.

pub mod arena_headers;
mod batch;
pub mod commit_metadata;
pub mod dead_letter;
mod decimal;
mod reason;
pub mod reject_counts;
pub mod run_counts;
pub mod store;
pub mod transform;
pub mod write_clock;

pub use batch::{NewRecord, RawBatch, RawRecord, Reject, RejectStage, RowBatch};
pub use datafusion::arrow;
pub use reason::{MASK, Reason};
