//! From records to rows: JSON to Arrow columns, then the pipeline's SQL, compiled once.
//!
//! Guarantees:
//! * Every record of a batch becomes 1 to 10,000 rows, or WHERE filters it out, or it is a reject
//!   with a reason.
//! * Which of the three depends on the record alone: not on its neighbours, and not on where the
//!   batch was cut. [`Transform::new`] rejects SQL for which that can't hold: aggregates, joins,
//!   ordering, clocks, random values.
//! * The memory and time that a record takes, as columns and in the SQL, are bounded. A record that
//!   exceeds a bound is a reject.
//!
//! Does not guarantee that a row fits the table; [`RowSet::check`](crate::store::RowSet::check)
//! does.
//!
//! ```text
//!  RawBatch ─▶ decode (json_cursor, rfc3339) ─▶ Arrow columns ─▶ sql (steps, sql_quota) ─▶ RowBatch
//! ```

mod arrow_schema;
mod column_bytes;
mod compiled_transform;
mod decode;
mod decode_error;
#[cfg(any(test, feature = "testing"))]
pub mod fixtures;
mod json_cursor;
mod json_scalar;
mod limits;
mod parts;
mod record_error;
mod rfc3339;
mod schema_diff;
mod schema_inference;
mod sql;
mod sql_quota;
mod text_values;
mod time_values;

pub use column_bytes::of_batch as row_bytes;
pub use compiled_transform::Transform;
pub use limits::ROWS_BUDGET_BYTES;
pub use parts::Parts;
pub use schema_diff::{SchemaDifference, schema_diff};
pub use schema_inference::{FieldNote, InferredSchema, SchemaInference};
pub use sql::ColumnSource;

/// The limit for the rows that one record can become.
const MAX_ROWS_PER_RECORD: usize = 10_000;

#[cfg(test)]
mod tests;
