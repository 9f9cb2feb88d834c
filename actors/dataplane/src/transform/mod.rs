//! From records to rows: JSON to Arrow columns, then the pipeline's SQL, planned once.
//!
//! Guarantee: the [`Parts`] of a batch are a function of the batch's records alone, record by record: every record is the origin of 1 to 10,000 rows, or
//! filtered out by the SQL's WHERE, or a reject with its reason, and which of the three it is does not depend on its neighbours or on
//! where the batch was cut. [`Transform::new`] refuses SQL for which that could not hold (aggregates, joins, ordering, clocks, chance). What a
//! record takes of memory and time, as columns and in the SQL, is bounded; over that it is a reject.
//! Not guaranteed: that a row fits the table; the writer checks that.
//!
//! * `json`: a strict cursor over JSON text. `time`: RFC 3339. `decode`: records to columns, in one pass.
//! * `schema`: the columns as Arrow types. `sql`: from the text of the SQL to steps, or to an error at its line. `step`: one step of it.
//! * `limits`: the bounds. `sizes`: what columns take. `meter`: what the SQL has made so far. `sql/bounded`, `sql/cost`, `sql/pattern`: what it may make.
//! * [`Transform`] ties them together, [`Parts`] are a batch on its way through it.

mod compiled;
mod decode;
mod error;
mod json;
mod limits;
mod meter;
mod parts;

mod schema;
mod sizes;
mod sql;
mod step;
mod time;

pub use compiled::Transform;
pub use limits::ROWS_BUDGET_BYTES;
pub use parts::Parts;
pub use sizes::of_batch as row_bytes;
pub use sql::ColumnSource;
pub(crate) use sql::cast::floor;

/// The most rows that one record can become.
pub const MAX_ROWS_PER_RECORD: usize = 10_000;

#[cfg(test)]
mod tests;
