//! What the schema, the SQL and the table of a pipeline file make of one record.
//!
//! Guarantees:
//! * The record is decoded, transformed and checked as by the pipeline.
//! * With a mask, neither a reason nor a row quotes the record.
//!
//! Does not guarantee that the table accepts the rows: what only the server refuses is not known.

use std::collections::BTreeMap;

use forebay_dataplane::arrow::array::{Array as _, ArrayRef, RecordBatch};
use forebay_dataplane::arrow::datatypes::FieldRef;
use forebay_dataplane::arrow::util::display::{ArrayFormatter, FormatOptions};
use forebay_dataplane::store::RowSet;
use forebay_dataplane::transform::Parts;
use forebay_dataplane::{NewRecord, RawBatch, Reason, arena_headers};
use serde::Serialize;

use super::blueprint::Blueprint;
use crate::broker::reader::StoredRecord;

/// What becomes of a record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// These rows: the columns as text, a null being absent. Empty when the SQL filters it out.
    /// With a mask, the rows have no columns.
    Rows(Vec<BTreeMap<String, String>>),
    /// It is rejected.
    Rejected {
        /// The stage that rejects it.
        stage: String,
        /// The reason.
        reason: String,
    },
    /// Not known: only a part of the record's value is there.
    Truncated,
}

impl Outcome {
    /// The outcome of a record.
    ///
    /// # Panics
    /// When the pipeline does not write.
    pub(crate) fn of(blueprint: &Blueprint, record: &StoredRecord, masked: bool) -> Self {
        let transform = blueprint.transform.as_ref().expect("a pipeline that writes has SQL");
        let spec = blueprint.table.as_ref().expect("a pipeline that writes has a table");
        let rejected = |stage: &str, reason: &Reason| Self::Rejected {
            stage: stage.to_owned(),
            reason: if masked { reason.masked() } else { reason.full() }.to_owned(),
        };
        let mut headers = Vec::new();
        record.headers.iter().for_each(|(name, value)| arena_headers::append(name, value.as_deref(), &mut headers));
        let mut raw = RawBatch::default();
        raw.push(&NewRecord {
            partition: record.partition,
            offset: record.offset,
            timestamp_ms: record.timestamp_ms.unwrap_or_default(),
            key: record.key.as_deref(),
            value: record.value.as_deref(),
            headers: &headers,
            ..NewRecord::default()
        });
        let (mut parts, mut rows) = (Parts::default(), Vec::new());
        while !parts.is_done() {
            let part = parts.next(transform, &raw, &|| {});
            if let Some(reject) = part.rejects.first() {
                return rejected(reject.stage.as_str(), &reject.reason);
            }
            match RowSet::check(spec, &part.rows, &part.write_ts) {
                Ok((_, refused)) => {
                    if let Some(refusal) = refused.first() {
                        return rejected("write", &refusal.reason);
                    }
                }
                Err(error) => return rejected("write", &Reason::plain(error.to_string())),
            }
            rows.extend((0..part.rows.num_rows()).map(|row| if masked { BTreeMap::new() } else { columns(&part.rows, row) }));
        }
        Self::Rows(rows)
    }

    /// The lines that show it to a person, each with a sign before it.
    pub fn lines(&self, sign: char) -> Vec<String> {
        match self {
            Self::Rows(rows) if rows.is_empty() => vec![format!("{sign} no row: the SQL filters it out")],
            Self::Rows(rows) => {
                let columns =
                    |row: &BTreeMap<String, String>| row.iter().map(|(name, value)| format!("{name} = {value}")).collect::<Vec<_>>();
                let line = |row| match columns(row) {
                    columns if columns.is_empty() => format!("{sign} a row, whose values are masked"),
                    columns => format!("{sign} row: {}", columns.join(", ")),
                };
                rows.iter().map(line).collect()
            }
            Self::Rejected { stage, reason } => vec![format!("{sign} {stage}: {reason}")],
            Self::Truncated => vec![format!("{sign} not known: the dead letter holds only a part of the record")],
        }
    }
}

/// The columns of a row as text, without nulls.
fn columns(rows: &RecordBatch, row: usize) -> BTreeMap<String, String> {
    let options = FormatOptions::default();
    let schema = rows.schema();
    let named = schema.fields().iter().zip(rows.columns()).filter(|(_, column)| column.is_valid(row));
    let text = |(field, column): (&FieldRef, &ArrayRef)| {
        let formatter = ArrayFormatter::try_new(column, &options).ok()?;
        Some((field.name().clone(), formatter.value(row).to_string()))
    };
    named.filter_map(text).collect()
}
