//! The limits for memory and work between a record's bytes and its rows.
//!
//! Guarantee: whether a record exceeds a limit follows from the record and the SQL alone, never
//! from a clock, the batch around it, or the machine. Reading a record again gives the same rows or
//! the same reject.
//!
//! Does not guarantee exact memory use. The limits count bytes of values in columns, and steps of
//! about a nanosecond. A growing vector briefly holds more than its values.

/// The limit for the columns that are decoded at a time. A larger batch is decoded and written in
/// parts.
pub(super) const MAX_SLICE_BYTES: usize = 8 << 20;
/// The least that [`max_column_bytes`] allows a record.
const RECORD_COLUMN_BYTES: usize = 8 << 20;
/// What [`max_column_bytes`] allows a record for each of its bytes.
const RECORD_COLUMN_FACTOR: usize = 8;
/// The limit for all values, intermediate and final, that the SQL produces in one run over several
/// records.
pub(super) const MAX_SQL_BYTES: u64 = 8 << 20;
/// What [`max_sql_bytes`] allows a record for each of its bytes.
const RECORD_SQL_FACTOR: u64 = 2;
/// The limit for the steps of one run of the SQL, over one record or several.
///
/// Steps count for functions whose time is not proportional to their arguments, such as
/// `levenshtein`. The limit stands for a few seconds on one core.
pub(super) const MAX_SQL_STEPS: u64 = 1_000_000_000;
/// The limit for the results that are joined into one part.
pub(super) const MAX_PART_BYTES: u64 = 8 << 20;
/// How many bytes of rows may be in flight between the transformer and the table's acknowledgement.
pub const ROWS_BUDGET_BYTES: usize = 8 << 20;

/// Returns how many bytes of columns a record of this size may take.
pub(super) fn max_column_bytes(record_bytes: usize) -> usize {
    record_bytes.saturating_mul(RECORD_COLUMN_FACTOR).max(RECORD_COLUMN_BYTES)
}

/// Returns how many bytes the SQL may produce from a record of this size, and how many its rows may
/// take.
pub(super) fn max_sql_bytes(record_bytes: usize) -> u64 {
    (record_bytes as u64).saturating_mul(RECORD_SQL_FACTOR).max(MAX_SQL_BYTES)
}
