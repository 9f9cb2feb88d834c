//! Dead letters, read from the newest on.
//!
//! Guarantees:
//! * A scan reads whole chunks, from the end of each partition backwards, and says how many dead
//!   letters it has read.
//! * It ends at its limits of dead letters and bytes; the last chunk may exceed them by one dead
//!   letter.
//!
//! Does not guarantee the order of dead letters of different partitions: those whose timestamps are
//! equal may come in any order.

use std::collections::BTreeMap;

use forebay_schemas::offset::{Offset, Partition, Range};

use crate::broker::reader::{ReadLimit, StoredRecord, read};
use crate::broker::{self, Access, BrokerError};

/// The maximum number of dead letters that one scan reads.
pub const MAX_SCANNED: u64 = 10_000;
/// The maximum bytes that one scan reads.
pub const MAX_SCANNED_BYTES: usize = 4 << 20;
/// Offsets of each partition in the first chunk. Each further one is twice as long.
const FIRST_CHUNK: u64 = 20;

/// What a scan has found.
#[derive(Debug, Default)]
pub struct Scan {
    /// How many offsets the dead-letter topic holds.
    pub total: u64,
    /// How many dead letters were read.
    pub read: u64,
    /// Those that match, newest first.
    pub letters: Vec<StoredRecord>,
}

/// Reads the newest dead letters until `wanted` of them match.
///
/// # Errors
/// When Kafka is unavailable.
pub async fn newest(
    access: &Access,
    dead_letter_topic: &str,
    wanted: usize,
    mut matches: impl FnMut(&StoredRecord) -> bool,
) -> Result<Scan, BrokerError> {
    let ends = broker::ends(access, dead_letter_topic).await?;
    let mut scan = Scan { total: ends.values().map(|&(start, end)| end.since(start)).sum(), ..Scan::default() };
    let mut rest: BTreeMap<Partition, Range> = ends.into_iter().map(|(partition, (from, to))| (partition, Range { from, to })).collect();
    let (mut bytes, mut chunk) = (0, FIRST_CHUNK.max(wanted.min(1_000) as u64));
    while bytes < MAX_SCANNED_BYTES && scan.read < MAX_SCANNED && scan.letters.len() < wanted {
        let tails = take_tails(&mut rest, chunk.min(MAX_SCANNED - scan.read));
        if tails.is_empty() {
            break;
        }
        let limit = ReadLimit { records: usize::MAX, bytes: MAX_SCANNED_BYTES - bytes };
        let letters = read(access, dead_letter_topic, tails, limit).await?;
        scan.read += letters.len() as u64;
        bytes += letters.iter().map(weight).sum::<usize>();
        scan.letters.extend(letters.into_iter().filter(|letter| matches(letter)));
        chunk *= 2;
    }
    scan.letters.sort_by_key(|letter| std::cmp::Reverse((letter.timestamp_ms, letter.partition, letter.offset)));
    scan.letters.truncate(wanted);
    Ok(scan)
}

/// Reads one record of a topic, such as a dead letter; `None` when the topic does not hold it.
///
/// # Errors
/// When Kafka is unavailable.
pub async fn one(access: &Access, topic: &str, partition: Partition, offset: Offset) -> Result<Option<StoredRecord>, BrokerError> {
    let ends = broker::ends(access, topic).await?;
    if !ends.get(&partition).is_some_and(|&(start, end)| (start..end).contains(&offset)) {
        return Ok(None);
    }
    let wanted = BTreeMap::from([(partition, Range::of(offset))]);
    Ok(read(access, topic, wanted, ReadLimit { records: 1, bytes: usize::MAX }).await?.pop())
}

fn weight(letter: &StoredRecord) -> usize {
    letter.key.as_ref().map_or(0, Vec::len) + letter.value.as_ref().map_or(0, Vec::len)
}

/// Takes up to `count` offsets from the end of each range.
fn take_tails(rest: &mut BTreeMap<Partition, Range>, count: u64) -> BTreeMap<Partition, Range> {
    let mut tails = BTreeMap::new();
    for (&partition, range) in rest.iter_mut().filter(|(_, range)| !range.is_empty()) {
        let from = range.from.max(Offset(range.to.value().saturating_sub_unsigned(count)));
        tails.insert(partition, Range { from, to: range.to });
        range.to = from;
    }
    tails
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tails_are_taken_from_the_end_of_each_partition_until_nothing_is_left() {
        let range = |from, to| Range { from: Offset(from), to: Offset(to) };
        let mut rest = BTreeMap::from([(0, range(5, 100)), (1, range(0, 3)), (2, range(7, 7))]);
        assert_eq!(take_tails(&mut rest, 10), BTreeMap::from([(0, range(90, 100)), (1, range(0, 3))]));
        assert_eq!(take_tails(&mut rest, 80), BTreeMap::from([(0, range(10, 90))]));
        assert_eq!(take_tails(&mut rest, 80), BTreeMap::from([(0, range(5, 10))]));
        assert_eq!(take_tails(&mut rest, 80), BTreeMap::new());
    }
}
