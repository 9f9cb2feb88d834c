//! A part of the records of a body that is read while it arrives.
//!
//! Guarantee: a part weighs at most its limit, unless its only record weighs more.

use std::ops::Range;

use bytes::Bytes;
use forebay_dataplane::Reason;

use super::records::Extracted;
use crate::message::{BadRecord, RECORD_OVERHEAD};

/// Records that have arrived, as JSON.
pub(super) struct RecordPart {
    max_bytes: usize,
    json: Vec<u8>,
    records: Vec<Range<usize>>,
    bad: Vec<BadRecord>,
    /// The record that did not fit.
    overflow: Option<(Vec<u8>, Option<Reason>)>,
}

impl RecordPart {
    /// An empty part.
    pub(super) fn new(max_bytes: usize) -> Self {
        Self { max_bytes, json: Vec::new(), records: Vec::new(), bad: Vec::new(), overflow: None }
    }

    /// The part after this one, which begins with the record that did not fit.
    pub(super) fn following(&mut self) -> Self {
        let mut next = Self::new(self.max_bytes);
        if let Some((record, bad)) = self.overflow.take() {
            next.push(&record, bad);
        }
        next
    }

    /// Adds a record; a bad one with its reason. If it does not fit, the part is full.
    pub(super) fn push(&mut self, record: &[u8], bad: Option<Reason>) {
        let weight = self.json.len() + record.len() + (self.records.len() + 1) * RECORD_OVERHEAD;
        if weight > self.max_bytes && !self.records.is_empty() {
            self.overflow = Some((record.to_vec(), bad));
            return;
        }
        self.bad.extend(bad.map(|reason| BadRecord { index: self.records.len(), reason }));
        let start = self.json.len();
        self.json.extend_from_slice(record);
        self.records.push(start..self.json.len());
    }

    /// Whether no record fits any more.
    pub(super) fn is_full(&self) -> bool {
        self.overflow.is_some()
    }

    /// The records.
    pub(super) fn extracted(self) -> Extracted {
        // Boxed, so that the records don't keep the vector's spare capacity in memory.
        let body = Bytes::from(self.json.into_boxed_slice());
        let records = self.records.into_iter().map(|range| body.slice(range)).collect();
        Extracted { records, bad: self.bad, ..Extracted::default() }
    }
}
