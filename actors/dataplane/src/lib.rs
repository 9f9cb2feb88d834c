//! The data plane of Forebay: what a record passes through, with no actor, broker, journal or HTTP
//! server involved.
//!
//! ```text
//!  RawBatch ── Transform, Parts ──▶ RowBatch ── RowSet::check ──▶ Store::write ──▶ table
//!                    └─ rejects ─────────────────── rejects ─┴──▶ DeadLetter
//! ```
//!
//! * [`transform`]: JSON to Arrow columns, then the pipeline's SQL, compiled once.
//! * [`store`]: the table in Cassandra or in a local file: its plan, the check of rows, the
//!   writers.
//! * [`dead_letter`]: what becomes of a record that can't become a row.
//! * [`write_clock`] and [`commit_metadata`]: the timestamps that rows are written with, and how
//!   they continue after a commit.
//! * [`run_counts`] and [`reject_counts`]: the records of each run by outcome, and rejects by
//!   reason.
//! * [`arena_headers`]: a record's Kafka headers in the arena of a batch.
//! * [`pem_file`]: the files of certificates and private keys.
//! * [`private_file`]: files that only their owner can read.
//! * [`tls_client`]: TLS as a client, with these files.
//!
//! # Example
//!
//! Transforms two records, one of which does not fit the schema. No server is needed.
//!
//! ```
//! use forebay_dataplane::transform::{Parts, Transform};
//! use forebay_dataplane::{NewRecord, RawBatch, RejectStage};
//! use forebay_schemas::offset::Offset;
//! use forebay_schemas::pipeline;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let directory = tempfile::tempdir()?;
//! let path = directory.path().join("forebay.toml");
//! std::fs::write(
//!     directory.path().join("order.schema.json"),
//!     r#"{"type": "object", "required": ["id"], "properties": {"id": {"type": "integer"}}}"#,
//! )?;
//! std::fs::write(
//!     &path,
//!     r#"
//!         [pipeline]
//!         name = "orders"
//!         [kafka]
//!         bootstrap = "localhost:9092"
//!         topic = "orders"
//!         [cassandra]
//!         contact_points = "embedded"
//!         keyspace = "shop"
//!         [consumer]
//!         group = "orders"
//!         [transformer]
//!         schema = "order.schema.json"
//!         sql = "SELECT id, id * 2 AS twice FROM orders"
//!         [writer]
//!         table = "orders"
//!         primary_key = ["id"]
//!     "#,
//! )?;
//! let transform = Transform::new(&pipeline::load(&path)?)?;
//!
//! let mut batch = RawBatch::default();
//! for (offset, value) in [(0, r#"{"id": 7}"#), (1, r#"{"id": "seven"}"#)] {
//!     let write_ts = 1_700_000_000_000_000 + offset * 16;
//!     batch.push(&NewRecord { offset: Offset(offset), write_ts, value: Some(value.as_bytes()), ..NewRecord::default() });
//! }
//!
//! let (mut rows, mut rejects) = (0, Vec::new());
//! let mut parts = Parts::default();
//! while !parts.is_done() {
//!     let part = parts.next(&transform, &batch, &|| {});
//!     rows += part.rows.num_rows();
//!     rejects.extend(part.rejects);
//! }
//! assert_eq!(rows, 1);
//! assert_eq!((rejects[0].record, rejects[0].stage), (1, RejectStage::Decode));
//! assert_eq!(rejects[0].reason.full(), r#"`/id` must be an integer of 64 bits, but is "seven""#);
//! # Ok(())
//! # }
//! ```

pub mod arena_headers;
mod batch;
pub mod commit_metadata;
mod cql_name;
mod cql_type;
pub mod dead_letter;
mod decimal;
mod digits_column;
mod masked_reason;
pub mod pem_file;
pub mod private_file;
pub mod reject_counts;
pub mod run_counts;
pub mod store;
pub mod tls_client;
pub mod transform;
mod truncate_timestamps;
pub mod write_clock;

pub use batch::{NewField, NewRecord, RawBatch, RawRecord, Reject, RejectStage, RowBatch};
pub use datafusion::arrow;
pub use masked_reason::{MASK, Reason, reason_kind};
