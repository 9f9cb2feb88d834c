//! From records to rows: JSON to Arrow columns, then the pipeline's SQL, planned once.
//!
//! Guarantee: [`Plan::run`] is a function of the batch's records alone, record by record: every record is the origin of 1 to 16 rows, or
//! filtered out by the SQL's WHERE, or a reject with its reason, and which of the three it is does not depend on its neighbours or on
//! where the batch was cut. [`Plan::new`] refuses SQL for which that could not hold (aggregates, joins, ordering, clocks, chance).
//! Not guaranteed: that a row fits the table; the writer checks that.
//!
//! * `json`: a strict cursor over JSON text. `time`: RFC 3339. `decode`: records to columns, in one pass.
//! * `schema`: the columns as Arrow types. `sql`: from the text of the SQL to steps, or to an error at its line. `step`: one step of it.
//! * [`Plan`] ties them together; [`Transformer`] is the actor.

mod actor;
mod decode;
mod error;
mod json;
mod plan;
mod schema;
mod sql;
mod step;
mod time;

pub use actor::Transformer;
pub use plan::{MAX_ROWS_OF_RECORD, Plan};
pub use sql::MadeOf;
pub(crate) use sql::cast::floor;

#[cfg(test)]
mod tests;
