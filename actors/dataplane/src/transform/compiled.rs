//! The plan of a pipeline's transformation: made once, run for each batch.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use datafusion::arrow::array::{
    ArrayRef, AsArray, BinaryArray, Int32Array, Int64Array, MapArray, RecordBatch, StringBuilder, StructArray, TimestampMillisecondArray,
    UInt32Array,
};
use datafusion::arrow::buffer::OffsetBuffer;
use datafusion::arrow::compute::concat_batches;
use datafusion::arrow::datatypes::{SchemaRef, UInt32Type};
use datafusion::arrow::error::ArrowError;
use forebay_schemas::pipeline::{FileError, FileText, Pipeline};
use forebay_schemas::plan::Warning;
use forebay_schemas::record_schema::RecordSchema;

use super::decode::{self, Decoded, Shape};
use super::error::TransformError;
use super::limits::{SQL_BYTES, sql_of};
use super::schema::{Origin, UTC, header_entries, header_fields, record_fields};
use super::sizes;
use super::sql::{self, ColumnSource, Program, Source};
use super::step::{self, Step};
use crate::{RawBatch, RawRecord, Reject, RowBatch, arena_headers};

/// Codes and words of [`Transform::warnings`].
const WHERE_KEEPS_ROWS: (&str, &str) = (
    "where_keeps_rows",
    "WHERE leaves records out and deletes nothing: where it leaves out the newest record of a key, the row that an earlier record of that \
     key made stays in the table as it was. To see in the table that a record is no longer meant, write it with a column that says so, \
     and ask for that column where the table is read",
);
const UNNEST_KEEPS_ROWS: (&str, &str) = (
    "unnest_keeps_rows",
    "unnest makes a row an item and deletes nothing: where the newest record of a key has fewer items than an earlier one, the rows of \
     the items that are gone stay in the table as they were. To have them go with the record, write the whole array into one column",
);
/// The code of a warning that digits can be lost.
const LOSES_DIGITS: &str = "loses_digits";

/// A pipeline's schema and SQL, ready to run.
#[derive(Debug)]
pub struct Transform {
    record: RecordSchema,
    shape: Shape,
    program: Program,
    fingerprint: String,
}

impl Transform {
    /// Reads the schema file and plans the SQL.
    ///
    /// # Errors
    /// When there is no `[transformer]`, the schema file can't be read or asks for what would not be enforced, or the SQL is not one
    /// deterministic, row-by-row SELECT from the topic. The error points into the pipeline file, or into the schema file.
    pub fn new(pipeline: &Pipeline) -> Result<Self, FileError> {
        let Some(transformer) = &pipeline.transformer else {
            return Err(pipeline.error_at(&["pipeline"], "the pipeline has no [transformer]", "add [transformer] with `schema` and `sql`"));
        };
        let path = pipeline.relative(&transformer.schema);
        let text = std::fs::read_to_string(&path).map_err(|cause| {
            pipeline.error_at(
                &["transformer", "schema"],
                format!("can't read the record's schema {}: {cause}", path.display()),
                "name the JSON Schema of one record, relative to this file",
            )
        })?;
        let record = RecordSchema::parse(&FileText { path, text })?;
        let fields = record_fields(&record);
        let program = sql::compile(pipeline, &transformer.sql, &fields)?;
        let fingerprint = format!("{:08x}", crc32c::crc32c(transformer.sql.as_bytes()));
        Ok(Self { shape: decode::shape(&record, &program.record), record, program, fingerprint })
    }

    /// The columns of the rows: those of the SELECT.
    pub fn output_schema(&self) -> SchemaRef {
        Arc::clone(&self.program.output)
    }

    /// What each column is made of, in their order; none where that is not one field of the record, nor its key.
    pub fn column_sources(&self) -> &[Option<ColumnSource>] {
        &self.program.column_sources
    }

    /// A short name of this SQL: eight hexadecimal digits that follow from its text.
    pub fn fingerprint(&self) -> String {
        self.fingerprint.clone()
    }

    /// The steps of the SQL, the last one first, a line each and indented; at the end what is read of a record.
    pub fn explain(&self) -> String {
        let steps = self.program.steps.iter().rev().map(ToString::to_string);
        let names: Vec<&str> = self.program.scan.fields().iter().map(|field| field.name().as_str()).collect();
        let scan = format!("Scan: {}", names.join(", "));
        let line = |(depth, step): (usize, String)| format!("{}{step}", "  ".repeat(depth));
        steps.chain([scan]).enumerate().map(line).collect::<Vec<_>>().join("\n")
    }

    /// What of the SQL leaves rows in the table that the newest record of their key would not make, and where values can lose digits.
    pub fn warnings(&self) -> Vec<Warning> {
        let steps = &self.program.steps;
        let filters = steps.iter().any(|step| matches!(step, Step::Filter(_)));
        let unnests = steps.iter().any(|step| matches!(step, Step::Unnest { lists, .. } if !lists.is_empty()));
        let warning = |(code, what): (&str, &str)| Warning { code: code.to_owned(), what: what.to_owned() };
        let all = [filters.then_some(WHERE_KEEPS_ROWS), unnests.then_some(UNNEST_KEEPS_ROWS)];
        let loss = |loss: &FileError| {
            let place = loss.line().map(|line| format!("line {line}: ")).unwrap_or_default();
            warning((LOSES_DIGITS, &format!("{place}{loss}; {}", loss.remedy().unwrap_or_default())))
        };
        all.into_iter().flatten().map(warning).chain(self.losses().iter().map(loss)).collect()
    }

    /// Where a value can lose digits on its way through the SQL: what it becomes, its place in the file, and what to write instead.
    pub(super) fn losses(&self) -> &[FileError] {
        &self.program.losses
    }

    /// The schema that records are held to.
    pub fn record_schema(&self) -> &RecordSchema {
        &self.record
    }

    /// The columns that the SQL reads, for the records that fit.
    fn scan(&self, raw: &RawBatch, columns: &[ArrayRef], rows: &[u32]) -> RecordBatch {
        let records = || rows.iter().map(|row| &raw.records[*row as usize]);
        let column = |source: &Source| -> ArrayRef {
            match source {
                Source::Field(at) => Arc::clone(&columns[*at]),
                Source::Origin(Origin::Timestamp) => {
                    Arc::new(TimestampMillisecondArray::from_iter_values(records().map(|r| r.timestamp_ms)).with_timezone(UTC))
                }
                Source::Origin(Origin::Offset) => Arc::new(Int64Array::from_iter_values(records().map(|r| r.offset))),
                Source::Origin(Origin::Partition) => Arc::new(Int32Array::from_iter_values(records().map(|r| r.partition))),
                Source::Origin(Origin::Key) => Arc::new(BinaryArray::from_iter(records().map(|r| raw.key(r)))),
                Source::Origin(Origin::Headers) => Arc::new(header_maps(raw, records())),
                Source::Origin(Origin::Row) => Arc::new(UInt32Array::from(rows.to_vec())),
            }
        };
        let columns = self.program.sources.iter().map(column).collect();
        RecordBatch::try_new(Arc::clone(&self.program.scan), columns).expect("decoding gives the columns of the scan")
    }

    /// Decodes records from an index on: as many as come to at most [`SLICE_BYTES`](super::limits::SLICE_BYTES) as columns, and one at least.
    pub(super) fn decode(&self, raw: &RawBatch, from: usize) -> Slice {
        let Decoded { columns, rows, rejects, next } = decode::decode(&self.shape, raw, from);
        Slice { scan: self.scan(raw, &columns, &rows), rejects, next }
    }

    /// Runs the SQL on records that were decoded. Rows of one record stand together, in its order.
    pub(super) fn transform(&self, raw: &RawBatch, scan: &RecordBatch) -> Result<RecordBatch, TransformError> {
        let most = match origins(scan).as_slice() {
            [alone] => sql_of(raw.value(&raw.records[*alone as usize]).map_or(0, <[u8]>::len)),
            _ => SQL_BYTES,
        };
        let result = step::run(&self.program.steps, scan, most)?;
        check_size(&result, most)?;
        Ok(result)
    }

    /// One result of several, or of none.
    pub(super) fn join(&self, results: &[RecordBatch]) -> Result<RecordBatch, ArrowError> {
        match results {
            [] => Ok(RecordBatch::new_empty(Arc::clone(&self.program.result))),
            [one] => Ok(one.clone()),
            several => concat_batches(&self.program.result, several),
        }
    }

    /// A part of a batch: the rows of a result, and the rejects beside them.
    pub(super) fn part(&self, raw: &RawBatch, result: &RecordBatch, mut rejects: Vec<Reject>) -> RowBatch {
        rejects.sort_unstable_by_key(|reject| reject.record);
        let origin = origins(result);
        let (write_ts, rows) = (write_timestamps(raw, &origin), self.visible(result));
        RowBatch { rows, origin, write_ts, rejects, transform: Duration::ZERO }
    }

    /// The columns of the SELECT alone.
    fn visible(&self, result: &RecordBatch) -> RecordBatch {
        let columns: Vec<usize> = (0..self.program.output.fields().len()).collect();
        result.project(&columns).expect("the hidden column is the last")
    }
}

/// For each record a map of its headers, by name in order; of several with one name the last. A value that is not UTF-8 is null.
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

/// Records of a batch as columns.
pub(super) struct Slice {
    /// What the SQL reads of those that fit.
    pub(super) scan: RecordBatch,
    pub(super) rejects: Vec<Reject>,
    /// The index of the first record after them.
    pub(super) next: usize,
}

/// For each row the index of its record: the hidden column, which is the last one of a scan and of a result.
pub(super) fn origins(batch: &RecordBatch) -> Vec<u32> {
    batch.columns().last().expect("the hidden column is always there").as_primitive::<UInt32Type>().values().to_vec()
}

/// The rows of one record take no more than the SQL may make of it, those values included that it takes as they are.
fn check_size(result: &RecordBatch, most: u64) -> Result<(), TransformError> {
    if sizes::of_batch(result) <= most {
        return Ok(());
    }
    let row = |row: usize| result.columns().iter().map(|column| sizes::of_row(column, row)).sum::<u64>();
    let mut next = 0;
    for rows in origins(result).chunk_by(PartialEq::eq) {
        let bytes: u64 = (next..next + rows.len()).map(row).sum();
        next += rows.len();
        if bytes > most {
            let said = format!("its rows take {bytes} bytes, and the rows of one record may take {most}");
            return Err(TransformError::TooMuch { place: "the SQL".into(), said });
        }
    }
    Ok(())
}

/// For each row the timestamp of its record. Rows of one record have the same; where they also have the same key, the table keeps the last.
fn write_timestamps(raw: &RawBatch, origin: &[u32]) -> Vec<i64> {
    origin.iter().map(|record| raw.records[*record as usize].write_ts).collect()
}
