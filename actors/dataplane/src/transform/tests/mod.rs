//! Tests of the whole transformation.

mod differential;
mod drift;
mod example;
mod limits;
mod numbers;
mod records;
mod schemas;
mod times;
mod validation;

use arrow_json::LineDelimitedWriter;
use forebay_schemas::offset::Offset;
use forebay_schemas::pipeline::FileError;
use serde_json::Value;

use super::fixtures::{SQL_LINE, pipeline};
use super::{Parts, Transform};
use crate::{NewRecord, RawBatch, Reject, RowBatch};

fn try_transform(schema: &str, sql: &str) -> Result<Transform, FileError> {
    let directory = tempfile::tempdir().unwrap();
    Transform::new(&pipeline(directory.path(), schema, sql))
}

fn transform(schema: &str, sql: &str) -> Transform {
    try_transform(schema, sql).unwrap()
}

impl Transform {
    /// Returns all parts of a batch.
    fn parts(&self, raw: &RawBatch) -> Vec<RowBatch> {
        let mut parts = Parts::default();
        let mut all = Vec::new();
        while !parts.is_done() {
            all.push(parts.next(self, raw, &|| {}));
        }
        all
    }

    /// Returns the only part of a small batch.
    fn run(&self, raw: &RawBatch) -> RowBatch {
        let [one] = <[RowBatch; 1]>::try_from(self.parts(raw)).expect("a small batch is one part");
        one
    }
}

/// A batch of records without keys, in partition 0.
fn batch<'a>(values: impl IntoIterator<Item = &'a [u8]>) -> RawBatch {
    let mut raw = RawBatch::default();
    for (offset, value) in (0_i64..).zip(values) {
        let (timestamp_ms, write_ts) = (1_000 + offset, 1_000_000 + offset * 16);
        raw.push(&NewRecord { offset: Offset(offset), timestamp_ms, write_ts, value: Some(value), ..NewRecord::default() });
    }
    raw
}

fn texts<'a>(values: &'a [&'a str]) -> RawBatch {
    batch(values.iter().map(|text| text.as_bytes()))
}

/// Returns the rows as JSON, with the index of their record.
fn rows(batch: &RowBatch) -> Vec<(u32, Value)> {
    assert_eq!(batch.origin.len(), batch.rows.num_rows());
    assert_eq!(batch.write_ts.len(), batch.rows.num_rows());
    let mut writer = LineDelimitedWriter::new(Vec::new());
    writer.write(&batch.rows).unwrap();
    writer.finish().unwrap();
    let lines = String::from_utf8(writer.into_inner()).unwrap();
    let rows = lines.lines().map(|line| serde_json::from_str(line).unwrap());
    batch.origin.iter().copied().zip(rows).collect()
}

fn reasons(rejects: &[Reject]) -> Vec<(u32, String)> {
    rejects.iter().map(|reject| (reject.record, format!("{}: {}", reject.stage, reject.reason.full()))).collect()
}
