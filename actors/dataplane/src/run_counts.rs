//! Which run a record is of, and what became of the records of runs in a micro-batch.
//!
//! Guarantee: each record of a wanted run is counted as one of written, filtered and rejected. The cost a record is a comparison with the record before
//! it. Not guaranteed: that a record which was produced twice is counted once; and a record that was put into the topic again out of a dead letter is of
//! no run, for as a dead letter it was counted.

use forebay_schemas::offset::Partition;
use forebay_schemas::run::RunWritten;
use uuid::Uuid;

use crate::{RawBatch, Reject, dead_letter, headers, rejects};

/// The header with the fetch that a record came by.
pub const RUN: &str = "forebay-run";
/// The header with the identifier of a record's content.
pub const EVENT: &str = "forebay-event-id";
/// Bytes of the headers that the producer gives a record, as [`headers`] puts them: two names and two identifiers in their longest form, each with its length.
const OWN: usize = 4 * 4 + RUN.len() + EVENT.len() + 2 * 36;
/// The first of them, which is the same for all records of a run.
const OF_THE_RUN: usize = 2 * 4 + RUN.len() + 36;

/// What is known of the rows and rejects of a batch.
#[derive(Debug, Clone, Copy)]
pub struct Outcome<'a> {
    /// For each row of the SQL the index of its record.
    pub origin: &'a [u32],
    /// The rows that the table acknowledged.
    pub written: &'a [u32],
    /// The rejects; of a record with several the first counts.
    pub rejects: &'a [Reject],
}

/// What became of the records of runs that are wanted, by partition.
pub fn tally(raw: &RawBatch, outcome: Outcome<'_>, wanted: impl Fn(Uuid) -> bool) -> Vec<(Partition, RunWritten)> {
    let mut all: Vec<(Partition, RunWritten)> = Vec::new();
    // The index of each record's tally, and one past the last for those of none.
    let mut of_record = Vec::with_capacity(raw.records.len());
    let mut before: Option<(Partition, &[u8], Option<usize>)> = None;
    for record in &raw.records {
        let own = raw.headers(record);
        let at = match before {
            Some((partition, like, at)) if partition == record.partition && are_alike(like, own) => at,
            _ => {
                let at = run_of(own).filter(|&run| wanted(run)).map(|run| tally_of(&mut all, record.partition, run));
                before = Some((record.partition, own, at));
                at
            }
        };
        of_record.push(at);
    }
    if all.is_empty() {
        return all;
    }
    let mut fates = vec![Fate::Filtered; raw.records.len()];
    let of = |record: u32| of_record.get(record as usize).copied().flatten().map(|at| (record as usize, at));
    for &row in outcome.written {
        if let Some((record, at)) = outcome.origin.get(row as usize).and_then(|&record| of(record)) {
            fates[record] = Fate::Written;
            all[at].1.rows += 1;
        }
    }
    for reject in outcome.rejects {
        if let Some((record, at)) = of(reject.record)
            && fates[record] != Fate::Rejected
        {
            fates[record] = Fate::Rejected;
            rejects::count(&mut all[at].1.rejects, reject.stage, &reject.reason);
        }
    }
    for (fate, at) in fates.iter().zip(&of_record) {
        let Some(at) = *at else { continue };
        let tally = &mut all[at].1;
        match fate {
            Fate::Filtered => tally.filtered += 1,
            Fate::Written => tally.written += 1,
            Fate::Rejected => tally.rejected += 1,
        }
    }
    all
}

/// What became of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Filtered,
    Written,
    Rejected,
}

/// Whether two records are of one run, as far as a look at their first bytes tells: both have the producer's two headers and no other, for only those
/// are so long, with no room for one that says that it is a dead letter's.
fn are_alike(one: &[u8], other: &[u8]) -> bool {
    one.len() == OWN && other.len() == OWN && one[..OF_THE_RUN] == other[..OF_THE_RUN]
}

/// The run of a record with these headers.
fn run_of(own: &[u8]) -> Option<Uuid> {
    let mut run = None;
    for (name, value) in headers::read(own) {
        match name {
            dead_letter::REDRIVEN => return None,
            RUN => run = value.and_then(|text| Uuid::try_parse_ascii(text).ok()),
            _ => {}
        }
    }
    run
}

fn tally_of(all: &mut Vec<(Partition, RunWritten)>, partition: Partition, run: Uuid) -> usize {
    let known = all.iter().position(|(of, tally)| *of == partition && tally.run == run);
    known.unwrap_or_else(|| {
        all.push((partition, RunWritten { run, ..RunWritten::default() }));
        all.len() - 1
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{RawRecord, Reason, Stage};

    /// A batch of records of these partitions with these headers.
    fn batch(records: &[(Partition, &[(&str, &str)])]) -> RawBatch {
        let mut arena = Vec::new();
        let records = records.iter().map(|&(partition, own)| {
            let from = u32::try_from(arena.len()).unwrap();
            own.iter().for_each(|(name, value)| headers::put(name, Some(value.as_bytes()), &mut arena));
            let headers = from..u32::try_from(arena.len()).unwrap();
            RawRecord { partition, offset: 0, timestamp_ms: 0, write_ts: 0, key: None, value: None, headers }
        });
        let records = records.collect();
        RawBatch { arena, records }
    }

    fn reject(record: u32) -> Reject {
        Reject { record, stage: Stage::Decode, reason: Reason::plain("not JSON") }
    }

    #[test]
    fn each_record_of_a_wanted_run_is_written_filtered_or_rejected_and_no_other_is_counted() {
        let ids: Vec<String> = (1..4).map(|n| Uuid::from_u128(n).to_string()).collect();
        let of = |n: usize| [(RUN, ids[n].as_str()), (EVENT, ids[0].as_str())];
        let (one, two, three) = (of(0), of(1), of(2));
        let redriven = [(RUN, ids[0].as_str()), (EVENT, ids[0].as_str()), (dead_letter::REDRIVEN, "0:7")];
        let traced = [("trace", "x"), (RUN, ids[0].as_str())];
        let wrong = [(RUN, "daily")];
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
        // The first has two rows; the fifth has a row that is written and one that is not.
        let outcome =
            Outcome { origin: &[0, 0, 3, 4, 4, 5, 7], written: &[0, 1, 2, 3, 5, 6], rejects: &[reject(4), reject(10), reject(4)] };
        let mut tallies = tally(&raw, outcome, |run| run != Uuid::from_u128(3));
        tallies.sort_by_key(|(partition, tally)| (*partition, tally.run));
        let counts: Vec<_> =
            tallies.iter().map(|(partition, of)| (*partition, of.run.as_u128(), [of.written, of.filtered, of.rejected, of.rows])).collect();
        assert_eq!(counts, [(0, 1, [1, 2, 2, 3]), (0, 2, [0, 1, 0, 0]), (1, 1, [1, 0, 0, 1])]);
        assert_eq!(tallies[0].1.rejects.most_frequent().unwrap().to_string(), "2 at decode: not JSON");
        assert!(tally(&raw, outcome, |_| false).is_empty());
    }

    #[test]
    fn the_headers_of_the_producer_are_as_long_as_is_taken_for_granted() {
        let id = Uuid::from_u128(1).to_string();
        let raw = batch(&[(0, &[(RUN, &id), (EVENT, &id)])]);
        assert_eq!(raw.headers(&raw.records[0]).len(), OWN);
        let longest = format!("{}:{}", i32::MAX, i64::MAX);
        assert!(longest.len() < 36, "a record that was redriven has other headers");
    }
}
