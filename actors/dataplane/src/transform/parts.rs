//! A micro-batch on its way through the SQL, a part at a time.
//!
//! Guarantee: the parts hold every record of the batch, each in one part, in the batch's order, whether it became rows, was filtered out or is a
//! reject; what is decoded and what the SQL makes at a time is bounded (see [`limits`](super::limits)), however many records there are. Each
//! attempt of the SQL is a progress. Where it fails, the records are halved until those at fault stand alone: whether a record fails is
//! then its own affair, even where an expression is evaluated for more rows of a batch than it would be for one.
//! Not guaranteed: how many parts there are; that follows from the batch, and in common batches it is one.

use std::collections::VecDeque;
use std::time::Instant;

use datafusion::arrow::array::RecordBatch;

use super::compiled::{Slice, Transform, origins};
use super::limits::PART_BYTES;
use super::{sizes, step};
use crate::{RawBatch, Reject, RejectStage, RowBatch};

/// A micro-batch of which parts are still to come.
#[derive(Debug, Default)]
pub struct Parts {
    /// The first record that is not decoded.
    next: usize,
    /// Decoded records on which the SQL is still to run; the last ones come first.
    scans: Vec<RecordBatch>,
    /// Results that did not go into a part with those before them.
    results: VecDeque<RecordBatch>,
    done: bool,
}

impl Parts {
    /// Whether no part is left. There is one at least.
    pub fn is_done(&self) -> bool {
        self.done
    }

    /// Makes the next part of `raw`, which is the same batch in each call; `moved` is called for each attempt of the SQL.
    pub fn next(&mut self, plan: &Transform, raw: &RawBatch, moved: &dyn Fn()) -> RowBatch {
        let started = Instant::now();
        let mut rejects = Vec::new();
        if self.results.is_empty() && self.scans.is_empty() {
            let Slice { scan, rejects: bad, next } = plan.decode(raw, self.next);
            self.next = next;
            self.scans.push(scan);
            rejects = bad;
        }
        let mut results = self.gather(plan, raw, &mut rejects, moved);
        let result = match plan.join(&results) {
            Ok(joined) => joined,
            // They do not fit together after all: one at a time does.
            Err(_) => {
                results.drain(1..).rev().for_each(|result| self.results.push_front(result));
                results.remove(0)
            }
        };
        let mut part = plan.part(raw, &result, rejects);
        self.done = self.next >= raw.records.len() && self.scans.is_empty() && self.results.is_empty();
        part.transform = started.elapsed();
        part
    }

    /// Runs the SQL until a part is full, or all that was decoded is through.
    fn gather(&mut self, plan: &Transform, raw: &RawBatch, rejects: &mut Vec<Reject>, moved: &dyn Fn()) -> Vec<RecordBatch> {
        let mut gathered: Vec<RecordBatch> = self.results.pop_front().into_iter().collect();
        let mut bytes: u64 = gathered.iter().map(sizes::of_batch).sum();
        while self.results.is_empty()
            && let Some(scan) = self.scans.pop()
        {
            moved();
            match plan.transform(raw, &scan) {
                Ok(result) => {
                    let more = sizes::of_batch(&result);
                    if gathered.is_empty() || bytes + more <= PART_BYTES {
                        bytes += more;
                        gathered.push(result);
                    } else {
                        self.results.push_back(result);
                    }
                }
                Err(error) if scan.num_rows() <= 1 => {
                    let reject = |record| Reject { record, stage: RejectStage::Transform, reason: error.reason() };
                    rejects.extend(origins(&scan).into_iter().map(reject));
                }
                Err(_) => {
                    let half = scan.num_rows() / 2;
                    self.scans.extend([step::part(&scan, half, scan.num_rows() - half), step::part(&scan, 0, half)]);
                }
            }
        }
        gathered
    }
}
