//! How much memory and work a record may take between its bytes and its rows.
//!
//! Guarantee: what is over a limit follows from the record and the SQL alone, never from a clock, from the batch around it or from the machine,
//! so that reading a record again gives the same rows or the same reject. Each limit counts bytes of values, as the columns hold them, or
//! steps of a nanosecond or so. Not guaranteed: the last byte. A vector that grows holds more than its values for a moment.

/// The columns that are decoded at a time. A batch whose columns take more is decoded and written in parts.
pub(super) const SLICE_BYTES: usize = 8 << 20;
/// The columns of one record, or [`RECORD_FACTOR`] times its own bytes where that is more.
const RECORD_BYTES: usize = 8 << 20;
/// The factor of [`RECORD_BYTES`].
const RECORD_FACTOR: usize = 8;
/// What the SQL makes of the records that it runs on at a time, all values together, between and last ones; of one record also
/// [`SQL_FACTOR`] times its own bytes where that is more.
pub(super) const SQL_BYTES: u64 = 8 << 20;
/// The factor of [`SQL_BYTES`].
const SQL_FACTOR: u64 = 2;
/// The work of functions whose time is not in proportion to their arguments, such as `levenshtein`: of one record, and of the records that
/// the SQL runs on at a time. A few seconds of a core at most.
pub(super) const SQL_STEPS: u64 = 1_000_000_000;
/// The results that travel together. Those of records that had to run apart are joined again up to here.
pub(super) const PART_BYTES: u64 = 8 << 20;
/// The rows that are between the transformer and the table's acknowledgement.
pub const ROWS_BUDGET_BYTES: usize = 8 << 20;

/// The most that a record of so many bytes may take as columns.
pub(super) fn columns_of(record: usize) -> usize {
    record.saturating_mul(RECORD_FACTOR).max(RECORD_BYTES)
}

/// The most that the SQL may make of a record of so many bytes, and that its rows may take.
pub(super) fn sql_of(record: usize) -> u64 {
    (record as u64).saturating_mul(SQL_FACTOR).max(SQL_BYTES)
}
