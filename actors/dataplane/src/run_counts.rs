//! Which run a record belongs to, and what became of each run's records in a micro-batch.
//!
//! Guarantees:
//! * Each record of a wanted run is counted once, as written, filtered or rejected.
//! * Per record, finding the run costs one comparison with the previous record's headers.
//!
//! Does not guarantee that a record which was produced twice is counted once. A record that a
//! redrive produced again belongs to no run, for its dead letter was counted already.

use forebay_schemas::offset::Partition;
use forebay_schemas::run::RunWritten;
use uuid::Uuid;

use crate::{RawBatch, Reject, arena_headers, dead_letter, reject_counts};

/// The Kafka header with the id of the fetch that a record came from.
pub const RUN_HEADER: &str = "forebay-run";
/// The Kafka header with the id of a record's content.
pub const EVENT_ID_HEADER: &str = "forebay-event-id";
/// The size of the two headers that the producer adds, as [`arena_headers`] encodes them: two names
/// and two UUIDs as text, each with its length.
const PRODUCER_HEADER_BYTES: usize = 4 * 4 + RUN_HEADER.len() + EVENT_ID_HEADER.len() + 2 * 36;
/// The size of the first of the two, which is the same for all records of a run.
const RUN_HEADER_BYTES: usize = 2 * 4 + RUN_HEADER.len() + 36;

/// The rows and rejects of a batch that was written.
#[derive(Debug, Clone, Copy)]
pub struct BatchOutcome<'a> {
    /// For each row of the SQL, the index of its record in [`RawBatch::records`].
    pub origin: &'a [u32],
    /// The indices of the rows that the table acknowledged.
    pub written: &'a [u32],
    /// The rejects; of several rejects of one record the first counts.
    pub rejects: &'a [Reject],
}

/// Counts what became of the records of wanted runs, per partition and run.
pub fn count_by_run(raw: &RawBatch, outcome: BatchOutcome<'_>, wanted: impl Fn(Uuid) -> bool) -> Vec<(Partition, RunWritten)> {
    let mut counts: Vec<(Partition, RunWritten)> = Vec::new();
    // For each record the index of its run in `counts`; none when its run is not wanted.
    let mut of_record = Vec::with_capacity(raw.records.len());
    let mut before: Option<(Partition, &[u8], Option<usize>)> = None;
    for record in &raw.records {
        let own = raw.headers(record);
        let at = match before {
            Some((partition, like, at)) if partition == record.partition && are_of_one_run(like, own) => at,
            _ => {
                let at = run_of(own).filter(|&run| wanted(run)).map(|run| index_of(&mut counts, record.partition, run));
                before = Some((record.partition, own, at));
                at
            }
        };
        of_record.push(at);
    }
    if counts.is_empty() {
        return counts;
    }
    let mut fates = vec![Fate::Filtered; raw.records.len()];
    let of = |record: u32| of_record.get(record as usize).copied().flatten().map(|at| (record as usize, at));
    for &row in outcome.written {
        if let Some((record, at)) = outcome.origin.get(row as usize).and_then(|&record| of(record)) {
            fates[record] = Fate::Written;
            counts[at].1.rows += 1;
        }
    }
    for reject in outcome.rejects {
        if let Some((record, at)) = of(reject.record)
            && fates[record] != Fate::Rejected
        {
            fates[record] = Fate::Rejected;
            reject_counts::add(&mut counts[at].1.rejects, reject.stage, &reject.reason);
        }
    }
    for (fate, at) in fates.iter().zip(&of_record) {
        let Some(at) = *at else { continue };
        let run = &mut counts[at].1;
        match fate {
            Fate::Filtered => run.filtered += 1,
            Fate::Written => run.written += 1,
            Fate::Rejected => run.rejected += 1,
        }
    }
    counts
}

/// What became of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Filtered,
    Written,
    Rejected,
}

/// Returns true only when two records with these headers are of one run.
///
/// Both then have exactly the producer's two headers: nothing else has that length, and there is no
/// room for the header of a redrive. May return false for records of one run.
fn are_of_one_run(one: &[u8], other: &[u8]) -> bool {
    one.len() == PRODUCER_HEADER_BYTES && other.len() == PRODUCER_HEADER_BYTES && one[..RUN_HEADER_BYTES] == other[..RUN_HEADER_BYTES]
}

/// Returns the run of a record with these headers.
fn run_of(own: &[u8]) -> Option<Uuid> {
    let mut run = None;
    for (name, value) in arena_headers::read(own) {
        match name {
            dead_letter::REDRIVEN => return None,
            RUN_HEADER => run = value.and_then(|text| Uuid::try_parse_ascii(text).ok()),
            _ => {}
        }
    }
    run
}

fn index_of(counts: &mut Vec<(Partition, RunWritten)>, partition: Partition, run: Uuid) -> usize {
    let known = counts.iter().position(|(of, counted)| *of == partition && counted.run == run);
    known.unwrap_or_else(|| {
        counts.push((partition, RunWritten { run, ..RunWritten::default() }));
        counts.len() - 1
    })
}

#[cfg(test)]
mod tests {
    use forebay_schemas::offset::Offset;

    use super::*;
    use crate::{RawRecord, Reason, RejectStage};

    /// A batch of records with these partitions and headers.
    fn batch(records: &[(Partition, &[(&str, &str)])]) -> RawBatch {
        let mut arena = Vec::new();
        let records = records.iter().map(|&(partition, own)| {
            let from = u32::try_from(arena.len()).unwrap();
            own.iter().for_each(|(name, value)| arena_headers::append(name, Some(value.as_bytes()), &mut arena));
            let headers = from..u32::try_from(arena.len()).unwrap();
            RawRecord { partition, offset: Offset(0), timestamp_ms: 0, write_ts: 0, key: None, value: None, headers }
        });
        let records = records.collect();
        RawBatch { arena, records }
    }

    fn reject(record: u32) -> Reject {
        Reject { record, stage: RejectStage::Decode, reason: Reason::plain("not JSON") }
    }

    #[test]
    fn each_record_of_a_wanted_run_is_counted_once_and_no_other_record_is() {
        let ids: Vec<String> = (1..4).map(|n| Uuid::from_u128(n).to_string()).collect();
        let of = |n: usize| [(RUN_HEADER, ids[n].as_str()), (EVENT_ID_HEADER, ids[0].as_str())];
        let (one, two, three) = (of(0), of(1), of(2));
        let redriven = [(RUN_HEADER, ids[0].as_str()), (EVENT_ID_HEADER, ids[0].as_str()), (dead_letter::REDRIVEN, "0:7")];
        let traced = [("trace", "x"), (RUN_HEADER, ids[0].as_str())];
        let wrong = [(RUN_HEADER, "daily")];
        let raw = batch(&[
            (0, &one),
            (0, &one),
            (0, &two),
            (1, &one),
            (0, &one),
            (0, &redriven),
            (0, &traced),
            (0, &three),
            (0, &wrong),
            (0, &[]),
            (0, &one),
        ]);
        // The first record has two rows; of the two rows of the fifth one is written.
        let outcome =
            BatchOutcome { origin: &[0, 0, 3, 4, 4, 5, 7], written: &[0, 1, 2, 3, 5, 6], rejects: &[reject(4), reject(10), reject(4)] };
        let mut counts = count_by_run(&raw, outcome, |run| run != Uuid::from_u128(3));
        counts.sort_by_key(|(partition, counted)| (*partition, counted.run));
        let numbers: Vec<_> =
            counts.iter().map(|(partition, of)| (*partition, of.run.as_u128(), [of.written, of.filtered, of.rejected, of.rows])).collect();
        assert_eq!(numbers, [(0, 1, [1, 2, 2, 3]), (0, 2, [0, 1, 0, 0]), (1, 1, [1, 0, 0, 1])]);
        assert_eq!(counts[0].1.rejects.most_frequent().unwrap().to_string(), "2 at decode: not JSON");
        assert!(count_by_run(&raw, outcome, |_| false).is_empty());
    }

    #[test]
    fn the_producers_headers_have_the_assumed_length_and_no_others_do() {
        let id = Uuid::from_u128(1).to_string();
        let raw = batch(&[(0, &[(RUN_HEADER, &id), (EVENT_ID_HEADER, &id)])]);
        assert_eq!(raw.headers(&raw.records[0]).len(), PRODUCER_HEADER_BYTES);
        let longest = format!("{}:{}", i32::MAX, i64::MAX);
        assert!(longest.len() < 36, "a redriven record has headers of another length");
    }
}
