//! Transforms a micro-batch part by part.
//!
//! Guarantees:
//! * The parts cover every record of the batch, each in one part, in the order of the batch: as
//!   rows, as a reject, or as filtered out.
//! * The bytes that are decoded, and that the SQL produces, at a time are bounded (see
//!   [`limits`](super::limits)), however many records there are.
//! * Each run of the SQL reports progress.
//! * When the SQL fails, the records are halved until the faulty ones stand alone. So a record
//!   fails on its own account, even where an expression is evaluated for more rows of a batch than
//!   it would be for a single row.
//!
//! Does not guarantee the number of parts. It follows from the batch, and is one for common
//! batches.

use std::collections::VecDeque;
use std::time::Instant;

use datafusion::arrow::array::RecordBatch;

use super::column_bytes;
use super::compiled_transform::{DecodedSlice, Transform, record_indices};
use super::limits::MAX_PART_BYTES;
use super::sql::step;
use crate::{RawBatch, Reject, RejectStage, RowBatch};

/// The progress of a micro-batch through a [`Transform`]. Start with [`Parts::default`].
#[derive(Debug, Default)]
pub struct Parts {
    /// The index of the first record that is not decoded yet.
    next: usize,
    /// Decoded records that the SQL has not run on yet; the last element is next.
    scans: Vec<RecordBatch>,
    /// Results that did not fit into the previous part.
    results: VecDeque<RecordBatch>,
    done: bool,
}

impl Parts {
    /// Returns whether no part is left. There is at least one, even for an empty batch.
    pub fn is_done(&self) -> bool {
        self.done
    }

    /// Returns the next part of `raw`.
    ///
    /// `transform` and `raw` must be the same in each call. `progress` is called for each run of
    /// the SQL. A caller calls this until [`is_done`](Self::is_done); it blocks for up to a few
    /// seconds when a record is expensive.
    pub fn next(&mut self, transform: &Transform, raw: &RawBatch, progress: &dyn Fn()) -> RowBatch {
        let started = Instant::now();
        let (mut rejects, mut fields) = (Vec::new(), Vec::new());
        if self.results.is_empty() && self.scans.is_empty() {
            let DecodedSlice { scan, rejects: bad, new_fields, next } = transform.decode(raw, self.next);
            self.next = next;
            self.scans.push(scan);
            (rejects, fields) = (bad, new_fields);
        }
        let mut results = self.gather(transform, raw, &mut rejects, progress);
        let result = match transform.join(&results) {
            Ok(joined) => joined,
            // Joined they exceed a limit of Arrow; one alone does not.
            Err(_) => {
                results.drain(1..).rev().for_each(|result| self.results.push_front(result));
                results.remove(0)
            }
        };
        let mut part = transform.part(raw, &result, rejects);
        self.done = self.next >= raw.records.len() && self.scans.is_empty() && self.results.is_empty();
        part.new_fields = fields;
        part.transform = started.elapsed();
        part
    }

    /// Runs the SQL until a part is full or everything decoded is transformed.
    fn gather(&mut self, transform: &Transform, raw: &RawBatch, rejects: &mut Vec<Reject>, progress: &dyn Fn()) -> Vec<RecordBatch> {
        let mut gathered: Vec<RecordBatch> = self.results.pop_front().into_iter().collect();
        let mut bytes: u64 = gathered.iter().map(column_bytes::of_batch).sum();
        while self.results.is_empty()
            && let Some(scan) = self.scans.pop()
        {
            progress();
            match transform.run_sql(raw, &scan) {
                Ok(result) => {
                    let more = column_bytes::of_batch(&result);
                    if gathered.is_empty() || bytes + more <= MAX_PART_BYTES {
                        bytes += more;
                        gathered.push(result);
                    } else {
                        self.results.push_back(result);
                    }
                }
                Err(error) if scan.num_rows() <= 1 => {
                    let reject = |record| Reject { record, stage: RejectStage::Transform, reason: error.reason() };
                    rejects.extend(record_indices(&scan).into_iter().map(reject));
                }
                Err(_) => {
                    let half = scan.num_rows() / 2;
                    self.scans.extend([step::copy_rows(&scan, half, scan.num_rows() - half), step::copy_rows(&scan, 0, half)]);
                }
            }
        }
        gathered
    }
}
