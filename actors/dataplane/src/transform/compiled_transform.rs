//! A pipeline's schema and SQL, compiled once and run for each batch.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use datafusion::arrow::array::{
    ArrayRef, AsArray, BinaryArray, Int32Array, Int64Array, MapArray, RecordBatch, StringArray, StringBuilder, StructArray,
    TimestampMillisecondArray, UInt32Array,
};
use datafusion::arrow::buffer::OffsetBuffer;
use datafusion::arrow::compute::concat_batches;
use datafusion::arrow::datatypes::{SchemaRef, UInt32Type};
use datafusion::arrow::error::ArrowError;
use forebay_schemas::pipeline::{FileError, Pipeline};
use forebay_schemas::record_schema::RecordSchema;
use forebay_schemas::run_plan::Warning;

use super::arrow_schema::{SystemColumn, UTC, header_entries, header_fields, record_fields};
use super::column_bytes;
use super::decode::{self, Decoded, FieldShape};
use super::limits::{MAX_SQL_BYTES, max_sql_bytes};
use super::record_error::SqlError;
use super::sql::step::{self, Step};
use super::sql::{self, ColumnSource, Program, ScanColumn};
use crate::{NewField, RawBatch, RawRecord, Reject, RowBatch, arena_headers};

/// The codes and texts of [`Transform::warnings`].
const WHERE_KEEPS_ROWS: (&str, &str) = (
    "where_keeps_rows",
    "WHERE filters records out but deletes no rows: when it filters out the newest record of a key, the row of an earlier record stays in the \
     table. To mark a record as no longer valid, write it with a column that says so, and filter on that column where the table is read",
);
const UNNEST_KEEPS_ROWS: (&str, &str) = (
    "unnest_keeps_rows",
    "unnest writes one row per item but deletes no rows: when the newest record of a key has fewer items than an earlier one, the rows of the \
     removed items stay in the table. To remove them with the record, write the whole array into one column",
);
/// The code of the warning that digits can be lost.
const LOSES_DIGITS: &str = "loses_digits";

/// A pipeline's record schema and SQL, compiled. [`Parts`](super::Parts) runs it on a batch.
#[derive(Debug)]
pub struct Transform {
    shape: FieldShape,
    program: Program,
    fingerprint: String,
    /// What the schema says and no record is checked for.
    not_enforced: Vec<Warning>,
}

impl Transform {
    /// Reads the schema file of a pipeline and compiles its SQL.
    ///
    /// # Errors
    /// The error points into the pipeline file or into the schema file. It is returned when
    /// * the pipeline has no `[transformer]`,
    /// * the schema file can't be read, or records can't be read by it,
    /// * the SQL is not one deterministic SELECT from the topic that treats each record by itself.
    pub fn new(pipeline: &Pipeline) -> Result<Self, FileError> {
        let Some(transformer) = &pipeline.transformer else {
            return Err(pipeline.error_at(&["pipeline"], "the pipeline has no [transformer]", "add [transformer] with `schema` and `sql`"));
        };
        let record = RecordSchema::of(pipeline, transformer)?;
        let fields = record_fields(&record);
        let program = sql::compile(pipeline, &transformer.sql, &fields)?;
        let fingerprint = format!("{:08x}", crc32c::crc32c(transformer.sql.as_bytes()));
        let not_enforced = record.warnings(transformer.drift);
        Ok(Self { shape: decode::shape(&record, &program.record, transformer.drift), program, fingerprint, not_enforced })
    }

    /// Returns the columns of the SELECT.
    pub fn output_schema(&self) -> SchemaRef {
        Arc::clone(&self.program.output)
    }

    /// For each column of the SELECT, the field or key that it is an unambiguous copy of; `None`
    /// for other columns.
    pub fn column_sources(&self) -> &[Option<ColumnSource>] {
        &self.program.column_sources
    }

    /// Returns the fingerprint of the SQL: eight hexadecimal digits that depend on its text only.
    pub fn fingerprint(&self) -> String {
        self.fingerprint.clone()
    }

    /// Returns the steps of the SQL for a person to read: one per line and indented, the last step
    /// first, then the columns that are read of a record.
    pub fn explain(&self) -> String {
        let steps = self.program.steps.iter().rev().map(ToString::to_string);
        let names: Vec<&str> = self.program.scan.fields().iter().map(|field| field.name().as_str()).collect();
        let scan = format!("Scan: {}", names.join(", "));
        let line = |(depth, step): (usize, String)| format!("{}{step}", "  ".repeat(depth));
        steps.chain([scan]).enumerate().map(line).collect::<Vec<_>>().join("\n")
    }

    /// Returns warnings about the SQL and the schema: what leaves outdated rows in the table, where
    /// values can lose digits, and what the schema says that no record is checked for.
    pub fn warnings(&self) -> Vec<Warning> {
        let steps = &self.program.steps;
        let filters = steps.iter().any(|step| matches!(step, Step::Filter(_)));
        let unnests = steps.iter().any(|step| matches!(step, Step::Unnest { lists, .. } if !lists.is_empty()));
        let warning = |(code, what): (&str, &str)| Warning { code: code.to_owned(), what: what.to_owned() };
        let all = [filters.then_some(WHERE_KEEPS_ROWS), unnests.then_some(UNNEST_KEEPS_ROWS)];
        let loss = |loss: &FileError| {
            let line = loss.line().map(|line| format!("line {line}: ")).unwrap_or_default();
            warning((LOSES_DIGITS, &format!("{line}{loss}; {}", loss.remedy().unwrap_or_default())))
        };
        all.into_iter()
            .flatten()
            .map(warning)
            .chain(self.precision_losses().iter().map(loss))
            .chain(self.not_enforced.iter().cloned())
            .collect()
    }

    /// Where a value can lose digits in the SQL: what it becomes, the location in the file, and
    /// what to write instead.
    pub(super) fn precision_losses(&self) -> &[FileError] {
        &self.program.precision_losses
    }

    /// Returns the columns that the SQL reads, for the records at the indices `rows`.
    fn scan(&self, raw: &RawBatch, columns: &[ArrayRef], rows: &[u32]) -> RecordBatch {
        let records = || rows.iter().map(|row| &raw.records[*row as usize]);
        let column = |source: &ScanColumn| -> ArrayRef {
            match source {
                ScanColumn::Field(at) => Arc::clone(&columns[*at]),
                ScanColumn::System(SystemColumn::Timestamp) => {
                    Arc::new(TimestampMillisecondArray::from_iter_values(records().map(|r| r.timestamp_ms)).with_timezone(UTC))
                }
                ScanColumn::System(SystemColumn::Offset) => Arc::new(Int64Array::from_iter_values(records().map(|r| r.offset.value()))),
                ScanColumn::System(SystemColumn::Partition) => Arc::new(Int32Array::from_iter_values(records().map(|r| r.partition))),
                ScanColumn::System(SystemColumn::Key) => Arc::new(BinaryArray::from_iter(records().map(|r| raw.key(r)))),
                ScanColumn::System(SystemColumn::Headers) => Arc::new(header_maps(raw, records())),
                ScanColumn::System(SystemColumn::Value) => Arc::new(StringArray::from_iter_values(records().map(|r| text(raw, r)))),
                ScanColumn::System(SystemColumn::RecordIndex) => Arc::new(UInt32Array::from(rows.to_vec())),
            }
        };
        let columns = self.program.scan_columns.iter().map(column).collect();
        RecordBatch::try_new(Arc::clone(&self.program.scan), columns).expect("decoding gives the columns of the scan")
    }

    /// Decodes records from index `from` on: at least one, and as many as fit into
    /// [`MAX_SLICE_BYTES`](super::limits::MAX_SLICE_BYTES) of columns.
    pub(super) fn decode(&self, raw: &RawBatch, from: usize) -> DecodedSlice {
        let Decoded { columns, rows, rejects, new_fields, next } = decode::decode(&self.shape, raw, from);
        DecodedSlice { scan: self.scan(raw, &columns, &rows), rejects, new_fields, next }
    }

    /// Runs the SQL on decoded records. The rows of one record stay together and in order.
    pub(super) fn run_sql(&self, raw: &RawBatch, scan: &RecordBatch) -> Result<RecordBatch, SqlError> {
        let max_bytes = match record_indices(scan).as_slice() {
            [alone] => max_sql_bytes(raw.value(&raw.records[*alone as usize]).map_or(0, <[u8]>::len)),
            _ => MAX_SQL_BYTES,
        };
        let result = step::run(&self.program.steps, scan, max_bytes)?;
        check_size(&result, max_bytes)?;
        Ok(result)
    }

    /// Joins any number of results into one.
    pub(super) fn join(&self, results: &[RecordBatch]) -> Result<RecordBatch, ArrowError> {
        match results {
            [] => Ok(RecordBatch::new_empty(Arc::clone(&self.program.result))),
            [one] => Ok(one.clone()),
            several => concat_batches(&self.program.result, several),
        }
    }

    /// Builds a part of a batch from a result of the SQL and the rejects.
    pub(super) fn part(&self, raw: &RawBatch, result: &RecordBatch, mut rejects: Vec<Reject>) -> RowBatch {
        rejects.sort_unstable_by_key(|reject| reject.record);
        let origin = record_indices(result);
        let (write_ts, rows) = (write_timestamps(raw, &origin), self.visible(result));
        RowBatch { rows, origin, write_ts, rejects, new_fields: Vec::new(), transform: Duration::ZERO }
    }

    /// Returns the columns of the SELECT, without the hidden one.
    fn visible(&self, result: &RecordBatch) -> RecordBatch {
        let columns: Vec<usize> = (0..self.program.output.fields().len()).collect();
        result.project(&columns).expect("the hidden column is the last")
    }
}

/// Returns the text of a record that was decoded.
fn text<'a>(raw: &'a RawBatch, record: &RawRecord) -> &'a str {
    str::from_utf8(raw.value(record).unwrap_or_default()).expect("a record that was decoded is UTF-8")
}

/// Returns for each record a map of its headers, sorted by name. Of headers with the same name the
/// last counts. A value that is not UTF-8 is null.
fn header_maps<'a>(raw: &RawBatch, records: impl Iterator<Item = &'a RawRecord>) -> MapArray {
    let (mut names, mut values, mut lengths) = (StringBuilder::new(), StringBuilder::new(), Vec::new());
    for record in records {
        let by_name: BTreeMap<&str, Option<&[u8]>> = arena_headers::read(raw.headers(record)).collect();
        lengths.push(by_name.len());
        for (name, value) in by_name {
            names.append_value(name);
            values.append_option(value.and_then(|bytes| std::str::from_utf8(bytes).ok()));
        }
    }
    let entries = StructArray::new(header_fields(), vec![Arc::new(names.finish()), Arc::new(values.finish())], None);
    MapArray::new(header_entries(), OffsetBuffer::from_lengths(lengths), entries, None, false)
}

/// Some records of a batch, decoded.
pub(super) struct DecodedSlice {
    /// The columns that the SQL reads, for the records that fit the schema.
    pub(super) scan: RecordBatch,
    pub(super) rejects: Vec<Reject>,
    /// Fields that the schema does not have.
    pub(super) new_fields: Vec<NewField>,
    /// The index of the first record after the slice.
    pub(super) next: usize,
}

/// Returns for each row the index of its record. The hidden column has it, the last one of a scan
/// and of a result.
pub(super) fn record_indices(batch: &RecordBatch) -> Vec<u32> {
    batch.columns().last().expect("the hidden column is always there").as_primitive::<UInt32Type>().values().to_vec()
}

/// Checks that the rows of no record take more than `max_bytes`, values that the SQL only copies
/// included.
fn check_size(result: &RecordBatch, max_bytes: u64) -> Result<(), SqlError> {
    if column_bytes::of_batch(result) <= max_bytes {
        return Ok(());
    }
    let row = |row: usize| result.columns().iter().map(|column| column_bytes::of_row(column, row)).sum::<u64>();
    let mut next = 0;
    for rows in record_indices(result).chunk_by(PartialEq::eq) {
        let bytes: u64 = (next..next + rows.len()).map(row).sum();
        next += rows.len();
        if bytes > max_bytes {
            let message = format!("its rows take {bytes} bytes; the limit is {max_bytes} bytes per record");
            return Err(SqlError::LimitExceeded { location: "the SQL".into(), message });
        }
    }
    Ok(())
}

/// Returns for each row the write timestamp of its record. Of rows of one record that have the same
/// key, the table keeps the last.
fn write_timestamps(raw: &RawBatch, origin: &[u32]) -> Vec<i64> {
    origin.iter().map(|record| raw.records[*record as usize].write_ts).collect()
}
