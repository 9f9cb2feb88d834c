//! Redrive: producing dead letters to the topic again, as new records. Or dropping them, so that
//! none is redriven.
//!
//! Guarantees:
//! * A dead letter counts as redriven when Kafka has acknowledged its record and the journal has
//!   stored that durably. Such a dead letter is not redriven again.
//! * Key, value and headers are the record's own. One more header names the dead letter.
//! * A dead letter with a truncated value is replaced by its record in the topic. If that is gone,
//!   the dead letter is skipped and counted.
//!
//! Does not guarantee:
//! * Exactly one redrive: a crash in between redrives the last `CHUNK_RECORDS` dead letters again,
//!   which does not change the table.
//! * Rows written since for the same key: a redriven record is the newest of its key.
//!
//! The dead-letter topic is a log: dead letters stay in it until Kafka removes them.

use std::collections::BTreeMap;

use forebay_schemas::event::Event;
use forebay_schemas::offset::{Offset, Partition, Range, Ranges};
use futures_util::future::join_all;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};

use super::dead_letters::one;
use crate::broker::reader::{ReadLimit, StoredRecord, read};
use crate::broker::{self, Access, BrokerError};
use crate::journal::JournalError;
use crate::ledger::Ledger;
use forebay_dataplane::dead_letter;

/// Dead letters that are produced before the journal records them.
const CHUNK_RECORDS: usize = 500;
/// Bytes of dead letters in memory. The last one may exceed it.
const CHUNK_BYTES: usize = 8 << 20;
/// Dead letters of one redrive.
pub const MAX_DEAD_LETTERS: u64 = 10_000;
/// Dead letters that are read to find those that match.
pub const MAX_EXAMINED: u64 = 50_000;

/// What a redrive would do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redrive {
    /// The offsets of the dead-letter topic, per partition.
    pub existing: BTreeMap<Partition, Range>,
    /// The dead letters that would be redriven, in order.
    pub ranges: Vec<(Partition, Range)>,
    /// How many more remain for another redrive.
    pub remaining: u64,
}

impl Redrive {
    /// The number of offsets that would be redriven. A compacted topic has fewer dead letters.
    pub fn len(&self) -> u64 {
        self.ranges.iter().map(|(_, range)| range.len()).sum()
    }

    /// The ranges of each partition, in order.
    pub fn by_partition(&self) -> BTreeMap<Partition, Vec<Range>> {
        let mut by_partition = BTreeMap::<_, Vec<_>>::new();
        self.ranges.iter().for_each(|&(partition, range)| by_partition.entry(partition).or_default().push(range));
        by_partition
    }

    /// Whether there is nothing to redrive.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }
}

/// Why a redrive failed.
#[derive(Debug, thiserror::Error)]
pub enum RedriveError {
    /// Kafka is unavailable, or refuses.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// The journal can't be written.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// Kafka did not accept a record.
    #[error("redrive stopped after {done} dead letters: Kafka did not accept a record: {cause}")]
    Produce {
        /// The number of redriven dead letters.
        done: u64,
        /// Why not.
        cause: String,
    },
    /// The dead letters do not arrive.
    #[error("redrive stopped after {done} dead letters: reading the next {remaining} timed out")]
    Timeout {
        /// The number of redriven dead letters.
        done: u64,
        /// The number of the others.
        remaining: u64,
    },
}

/// Plans a redrive of these dead letters, or of all; with `matches`, of those that match. Changes
/// nothing.
///
/// # Errors
/// When Kafka is unavailable.
pub async fn plan(
    access: &Access,
    dead_letter_topic: &str,
    ledger: &Ledger,
    wanted: Option<&Ranges>,
    matches: Option<impl Fn(&StoredRecord) -> bool>,
) -> Result<Redrive, BrokerError> {
    let ends = broker::ends(access, dead_letter_topic).await?;
    let existing = ends.into_iter().map(|(partition, (from, to))| (partition, Range { from, to })).collect();
    let redriven = ledger.redriven();
    let without = |partition, range| redriven.without(partition, range);
    let Some(matches) = matches else { return Ok(choose(existing, wanted, MAX_DEAD_LETTERS, without)) };
    let Redrive { existing, ranges, mut remaining } = choose(existing, wanted, MAX_EXAMINED, without);
    let (mut matching, mut found) = (Vec::<(Partition, Range)>::new(), 0);
    for (partition, mut left) in ranges {
        while !left.is_empty() {
            if found == MAX_DEAD_LETTERS {
                remaining += left.len();
                break;
            }
            let most = ReadLimit { records: CHUNK_RECORDS, bytes: CHUNK_BYTES };
            let letters = read(access, dead_letter_topic, BTreeMap::from([(partition, left)]), most).await?;
            let Some(last) = letters.last() else { break };
            left.from = last.offset + 1;
            for letter in letters.iter().filter(|letter| matches(letter)) {
                if found == MAX_DEAD_LETTERS {
                    left.from = letter.offset;
                    break;
                }
                found += 1;
                match matching.last_mut() {
                    Some((of, range)) if *of == partition && range.to == letter.offset => range.to = letter.offset + 1,
                    _ => matching.push((partition, Range::of(letter.offset))),
                }
            }
        }
    }
    Ok(Redrive { existing, ranges: matching, remaining })
}

/// The wanted, existing and not yet redriven dead letters, up to `capacity`.
fn choose(
    existing: BTreeMap<Partition, Range>,
    wanted: Option<&Ranges>,
    mut capacity: u64,
    without: impl Fn(Partition, Range) -> Vec<Range>,
) -> Redrive {
    let (mut ranges, mut remaining) = (Vec::new(), 0);
    for (&partition, &range) in &existing {
        let wanted = match wanted {
            None => Some(range),
            Some(wanted) => wanted.0.get(&partition).copied(),
        };
        let Some(range) = wanted.and_then(|wanted| within(wanted, range)) else { continue };
        for mut part in without(partition, range) {
            if part.len() > capacity {
                remaining += part.len() - capacity;
                part.to = Offset(part.from.value().saturating_add_unsigned(capacity));
            }
            if !part.is_empty() {
                capacity -= part.len();
                ranges.push((partition, part));
            }
        }
    }
    Redrive { existing, ranges, remaining }
}

/// The topics, the journal and the originator of a redrive.
pub struct Redriver<'a> {
    /// How to reach Kafka.
    pub access: &'a Access,
    /// The topic of the dead letters.
    pub dead_letter_topic: &'a str,
    /// The topic that they are produced to.
    pub topic: &'a str,
    /// Records what was redriven.
    pub ledger: &'a Ledger,
    /// The originator.
    pub by: &'a str,
    /// Why.
    pub reason: &'a str,
}

/// The outcome of a redrive.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Redriven {
    /// Redriven records.
    pub records: u64,
    /// Skipped dead letters: their value is truncated, and the topic no longer has the record.
    pub cut: u64,
}

impl Redriver<'_> {
    /// Applies a planned redrive.
    ///
    /// # Errors
    /// When Kafka is unavailable or refuses, or the journal can't be written. The journal has what
    /// was redriven until then.
    pub async fn apply(&self, redrive: &Redrive) -> Result<Redriven, RedriveError> {
        let mut config = self.access.copy_producer();
        // The caller waits. The next redrive retries what was not delivered by then.
        config.set("message.timeout.ms", "30000");
        let producer: FutureProducer = config.create().map_err(|cause| self.access.error("create a client", cause, None))?;
        let outcome = self.apply_with(&producer, redrive).await;
        // Dropping the producer joins its thread.
        tokio::task::spawn_blocking(move || drop(producer));
        outcome
    }

    /// Drops the planned dead letters: none of them will be redriven. Returns how many.
    ///
    /// # Errors
    /// When the journal can't be written.
    pub async fn drop_all(&self, redrive: &Redrive) -> Result<u64, JournalError> {
        for &(partition, range) in &redrive.ranges {
            let (letters, records) = ([(partition, range)].into_iter().collect(), range.len());
            self.ledger.record(Event::LettersDropped { letters, records, by: self.by.to_owned(), reason: self.reason.to_owned() });
        }
        self.ledger.flushed().await?;
        Ok(redrive.len())
    }

    async fn apply_with(&self, producer: &FutureProducer, redrive: &Redrive) -> Result<Redriven, RedriveError> {
        let mut all = Redriven::default();
        for (partition, ranges) in redrive.by_partition() {
            let mut left = Range { from: ranges[0].from, to: ranges[ranges.len() - 1].to };
            while !left.is_empty() {
                let most = ReadLimit { records: CHUNK_RECORDS, bytes: CHUNK_BYTES };
                let mut letters = read(self.access, self.dead_letter_topic, BTreeMap::from([(partition, left)]), most).await?;
                let Some(last) = letters.last() else {
                    return Err(RedriveError::Timeout { done: all.records, remaining: left.len() });
                };
                let chunk = Range { to: last.offset + 1, ..left };
                letters.retain(|letter| ranges.iter().any(|range| (range.from..range.to).contains(&letter.offset)));
                let mut whole = Vec::with_capacity(letters.len());
                for letter in &letters {
                    whole.push(if dead_letter::is_truncated(&letter.headers) { self.record_in_topic(letter).await? } else { Some(None) });
                }
                let again =
                    letters.iter().zip(&whole).filter_map(|(letter, whole)| Some((letter, whole.as_ref()?.as_ref().unwrap_or(letter))));
                let acknowledged = join_all(again.map(|(letter, record)| produce(producer, self.topic, letter, record))).await;
                if let Some(cause) = acknowledged.into_iter().find_map(Result::err) {
                    return Err(RedriveError::Produce { done: all.records, cause });
                }
                let cut: Vec<Offset> =
                    letters.iter().zip(&whole).filter(|(_, whole)| whole.is_none()).map(|(letter, _)| letter.offset).collect();
                for range in ranges.iter().flat_map(|range| within(chunk, *range)).flat_map(|range| without(range, &cut)) {
                    let records = letters.iter().filter(|letter| (range.from..range.to).contains(&letter.offset)).count() as u64;
                    all.records += records;
                    let letters = [(partition, range)].into_iter().collect();
                    self.ledger.record(Event::LettersRedriven { letters, records, by: self.by.to_owned(), reason: self.reason.to_owned() });
                }
                all.cut += cut.len() as u64;
                self.ledger.flushed().await?;
                left.from = chunk.to;
            }
        }
        Ok(all)
    }

    /// The record of a dead letter with a truncated value, if the topic still has it at the dead
    /// letter's origin, with the hash that the dead letter states.
    async fn record_in_topic(&self, letter: &StoredRecord) -> Result<Option<Option<StoredRecord>>, RedriveError> {
        let Some((partition, offset)) = letter.origin() else { return Ok(None) };
        if letter.header(dead_letter::TOPIC) != Some(self.topic) {
            return Ok(None);
        }
        let found = one(self.access, self.topic, partition, offset).await?;
        let matches_hash = |record: &StoredRecord| {
            let value = record.value.as_deref().unwrap_or_default();
            letter.header(dead_letter::VALUE_SHA256).is_some_and(|hash| hash == dead_letter::sha256(value))
        };
        Ok(found.filter(matches_hash).map(Some))
    }
}

/// The part of a range that is within another one, if any.
fn within(range: Range, other: Range) -> Option<Range> {
    Some(Range { from: range.from.max(other.from), to: range.to.min(other.to) }).filter(|part| !part.is_empty())
}

/// The parts of a range between these offsets, in order.
fn without(range: Range, skipped: &[Offset]) -> Vec<Range> {
    let mut from = range.from;
    let mut parts = Vec::new();
    for &offset in skipped.iter().filter(|offset| (range.from..range.to).contains(offset)) {
        parts.push(Range { from, to: offset });
        from = offset + 1;
    }
    parts.push(Range { from, to: range.to });
    parts.retain(|part| !part.is_empty());
    parts
}

/// Produces the record of a dead letter, with the key and the value of `record`.
async fn produce(producer: &FutureProducer, topic: &str, letter: &StoredRecord, record: &StoredRecord) -> Result<(), String> {
    let mut again: FutureRecord<'_, [u8], [u8]> = FutureRecord::to(topic).headers(headers(letter));
    (again.key, again.payload) = (record.key.as_deref(), record.value.as_deref());
    match producer.send(again, std::time::Duration::from_secs(30)).await {
        Ok(_) => Ok(()),
        Err((error, _)) => Err(error.to_string()),
    }
}

/// The record's own headers, the number of lost ones, and last the dead letter's partition and
/// offset.
fn headers(letter: &StoredRecord) -> OwnedHeaders {
    let place = format!("{}:{}", letter.partition, letter.offset);
    // The headers of an earlier redrive are replaced.
    let own = dead_letter::record_headers(&letter.headers)
        .iter()
        .filter(|(name, _)| name != dead_letter::REDRIVEN && name != dead_letter::LEFT_OUT);
    let all = own.fold(OwnedHeaders::new(), |all, (key, value)| all.insert(Header { key, value: value.as_deref() }));
    let counts = letter.headers.iter().filter(|(name, _)| name == dead_letter::LEFT_OUT);
    let count = |value: &Option<Vec<u8>>| std::str::from_utf8(value.as_deref()?).ok()?.parse::<u64>().ok();
    let lost = counts.filter_map(|(_, value)| count(value)).fold(letter.unreadable_headers, u64::saturating_add);
    let all = if lost > 0 { all.insert(Header { key: dead_letter::LEFT_OUT, value: Some(&lost.to_string()) }) } else { all };
    all.insert(Header { key: dead_letter::REDRIVEN, value: Some(&place) })
}

#[cfg(test)]
mod tests {
    use rdkafka::message::Headers as _;

    use super::*;
    use forebay_dataplane::{Reason, RejectStage};

    fn range(from: i64, to: i64) -> Range {
        Range { from: Offset(from), to: Offset(to) }
    }

    fn all(_: Partition, range: Range) -> Vec<Range> {
        vec![range]
    }

    #[test]
    fn wanted_existing_dead_letters_are_redriven_once() {
        let existing = BTreeMap::from([(0, range(5, 100))]);
        assert_eq!(choose(existing.clone(), None, 10_000, all).ranges, [(0, range(5, 100))]);
        let wanted: Ranges = [(0, range(0, 7)), (3, range(0, 7))].into_iter().collect();
        assert_eq!(choose(existing.clone(), Some(&wanted), 10_000, all).ranges, [(0, range(5, 7))], "only existing offsets");
        let redriven = choose(existing, None, 10_000, |_, _| vec![range(5, 10), range(20, 100)]);
        assert_eq!((redriven.len(), redriven.remaining), (85, 0));
    }

    #[test]
    fn skipped_dead_letters_are_in_no_redriven_range() {
        assert_eq!(without(range(5, 9), &[]), [range(5, 9)]);
        assert_eq!(without(range(5, 9), &[Offset(5), Offset(7)]), [range(6, 7), range(8, 9)]);
        assert_eq!(without(range(5, 6), &[Offset(5)]), []);
        assert_eq!(without(range(5, 9), &[Offset(3), Offset(9)]), [range(5, 9)], "others are of another range");
        assert_eq!((within(range(0, 5), range(3, 9)), within(range(0, 5), range(5, 9))), (Some(range(3, 5)), None));
    }

    #[test]
    fn a_redrive_has_at_most_ten_thousand_dead_letters_and_counts_the_rest() {
        let existing = BTreeMap::from([(0, range(0, 9_000)), (1, range(0, 9_000))]);
        let redrive = choose(existing, None, MAX_DEAD_LETTERS, all);
        assert_eq!(redrive.ranges, [(0, range(0, 9_000)), (1, range(0, 1_000))]);
        assert_eq!((redrive.len(), redrive.remaining), (10_000, 8_000));
    }

    #[test]
    fn a_redriven_record_has_its_own_headers_and_names_its_dead_letter() {
        let named = |name: &str, value: &[u8]| (name.to_owned(), Some(value.to_vec()));
        let own = [named("forebay-run", b"1"), named("trace", b"\xff"), named("trace", b""), ("none".to_owned(), None)];
        let before = own.iter().map(|(name, value)| (name.as_str(), value.as_deref()));
        let reason = Reason::plain("not JSON");
        let it = dead_letter::DeadLetter {
            key: None,
            value: None,
            stage: RejectStage::Decode,
            reason: &reason,
            truncation: dead_letter::Truncation::NONE,
            unreadable_headers: 0,
        };
        let before = before.chain([(dead_letter::REDRIVEN, Some(&b"0:1"[..]))]);
        let headers_of_letter = crate::broker::dead_letter_headers::headers(&it, before, &[(dead_letter::SQL, "9f2c")]);
        let named_all = |headers: &OwnedHeaders| -> Vec<(String, Option<Vec<u8>>)> {
            headers.iter().map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec))).collect()
        };
        let letter = StoredRecord {
            partition: 0,
            offset: Offset(7),
            timestamp_ms: None,
            key: None,
            value: None,
            headers: named_all(&headers_of_letter),
            unreadable_headers: 0,
        };
        let again = named_all(&headers(&letter));
        assert_eq!(again[..4], own);
        assert_eq!(again[4..], [named(dead_letter::REDRIVEN, b"0:7")]);
    }

    #[test]
    fn a_redriven_record_counts_its_lost_headers() {
        let count = |number: &str| (dead_letter::LEFT_OUT.to_owned(), Some(number.as_bytes().to_vec()));
        let headers_of_letter =
            vec![("trace".to_owned(), None), count("2"), (dead_letter::REASON.to_owned(), Some(b"not JSON".to_vec())), count("3")];
        let letter = StoredRecord {
            partition: 0,
            offset: Offset(7),
            timestamp_ms: None,
            key: None,
            value: None,
            headers: headers_of_letter,
            unreadable_headers: 1,
        };
        let again = headers(&letter);
        let names: Vec<_> = again.iter().map(|header| (header.key, header.value.map(<[u8]>::to_vec))).collect();
        assert_eq!(names, [("trace", None), (dead_letter::LEFT_OUT, Some(b"6".to_vec())), (dead_letter::REDRIVEN, Some(b"0:7".to_vec()))]);
    }
}
