//! Putting dead letters into the topic again, as new records.
//!
//! Guarantee: a letter counts as redriven only when Kafka has acknowledged its record and the journal has that on the disk, and such a letter is not
//! redriven again. Key, value and headers are the record's own, and one header more says which letter it was: see [`letter`]. Of a letter whose value
//! is cut the record is taken from the topic, where that still holds it; else the letter is left, and counted.
//! A crash in between redrives the last `CHUNK` letters again, which the table does not show. Not guaranteed: that rows written since for the same key
//! stay, for a record that is produced again is the newest of its key.
//!
//! The dead-letter topic is a log: the letters stay in it until Kafka removes them.

use std::collections::BTreeMap;

use forebay_schemas::event::Event;
use forebay_schemas::offset::{Offset, Partition, Range, Ranges};
use futures_util::future::join_all;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};

use crate::broker::reader::{Most, Stored, read};
use crate::broker::{self, Access, BrokerError};
use crate::journal::JournalError;
use crate::ledger::Ledger;
use forebay_dataplane::dead_letter;

/// How many letters are produced before the journal hears of them.
const CHUNK: usize = 500;
/// The bytes of letters in memory at a time, but for the last.
const CHUNK_BYTES: usize = 8 << 20;
/// The most letters of one redrive.
pub const LETTERS_MOST: u64 = 10_000;

/// What a redrive would do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redrive {
    /// What the dead-letter topic holds, a partition each.
    pub held: BTreeMap<Partition, Range>,
    /// What would be redriven, in order.
    pub letters: Vec<(Partition, Range)>,
    /// How many more are left for another one.
    pub left: u64,
}

impl Redrive {
    /// How many letters would be redriven; on a compacted topic fewer.
    pub fn len(&self) -> u64 {
        self.letters.iter().map(|(_, range)| range.len()).sum()
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.letters.is_empty()
    }
}

/// Why a redrive failed.
#[derive(Debug, thiserror::Error)]
pub enum RedriveError {
    /// Kafka is away, or refuses.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// The journal can't be written.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// Kafka did not take a record.
    #[error("{done} letters are in the topic again, and then Kafka did not take one: {cause}")]
    Produce {
        /// How many were done before.
        done: u64,
        /// Why not.
        cause: String,
    },
    /// The letters do not come.
    #[error("{done} letters are in the topic again, and then Kafka gave no more of {left} in time")]
    Slow {
        /// How many were done before.
        done: u64,
        /// How many were not.
        left: u64,
    },
}

/// What a redrive of these letters, or of all, would do. Moves nothing.
///
/// # Errors
/// When Kafka is away.
pub async fn plan(access: &Access, dead_letter_topic: &str, ledger: &Ledger, wanted: Option<&Ranges>) -> Result<Redrive, BrokerError> {
    let ends = broker::ends(access, dead_letter_topic).await?;
    let held = ends.into_iter().map(|(partition, (from, to))| (partition, Range { from, to })).collect();
    let redriven = ledger.redriven();
    Ok(choose(held, wanted, |partition, range| redriven.without(partition, range)))
}

/// The letters that are wanted, are held and were not redriven, up to [`LETTERS_MOST`].
fn choose(held: BTreeMap<Partition, Range>, wanted: Option<&Ranges>, without: impl Fn(Partition, Range) -> Vec<Range>) -> Redrive {
    let (mut letters, mut room, mut left) = (Vec::new(), LETTERS_MOST, 0);
    for (&partition, &range) in &held {
        let range = match wanted {
            None => range,
            Some(wanted) => match wanted.0.get(&partition) {
                Some(wanted) => Range { from: wanted.from.max(range.from), to: wanted.to.min(range.to) },
                None => continue,
            },
        };
        if range.is_empty() {
            continue;
        }
        for mut part in without(partition, range) {
            if part.len() > room {
                left += part.len() - room;
                part.to = part.from.saturating_add_unsigned(room);
            }
            if !part.is_empty() {
                room -= part.len();
                letters.push((partition, part));
            }
        }
    }
    Redrive { held, letters, left }
}

/// The topics and the journal of a redrive, and who wants it.
pub struct Redriver<'a> {
    /// How to reach Kafka.
    pub access: &'a Access,
    /// Where the letters are.
    pub dead_letter_topic: &'a str,
    /// Where they go.
    pub topic: &'a str,
    /// Keeps what was done.
    pub ledger: &'a Ledger,
    /// Who asks for it.
    pub by: &'a str,
    /// Why.
    pub reason: &'a str,
}

/// What a redrive came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Redriven {
    /// Records that are in the topic again.
    pub records: u64,
    /// Letters that were left, since their value is cut and the topic does not hold the record any more.
    pub cut: u64,
}

impl Redriver<'_> {
    /// Does what was planned.
    ///
    /// # Errors
    /// When Kafka is away or refuses, or the journal can't be written. What was done until then is in the journal.
    pub async fn apply(&self, redrive: &Redrive) -> Result<Redriven, RedriveError> {
        let mut config = self.access.producer_again();
        // Somebody waits for the answer; what was not delivered by then is tried again by the next redrive.
        config.set("message.timeout.ms", "30000");
        let producer: FutureProducer = config.create().map_err(|cause| self.access.error("make a client", cause, None))?;
        let end = self.apply_by(&producer, redrive).await;
        // Dropping it waits for its thread.
        tokio::task::spawn_blocking(move || drop(producer));
        end
    }

    async fn apply_by(&self, producer: &FutureProducer, redrive: &Redrive) -> Result<Redriven, RedriveError> {
        let mut all = Redriven::default();
        for &(partition, range) in &redrive.letters {
            let mut left = range;
            while !left.is_empty() {
                let most = Most { records: CHUNK, bytes: CHUNK_BYTES };
                let letters = read(self.access, self.dead_letter_topic, BTreeMap::from([(partition, left)]), most).await?;
                let Some(last) = letters.last() else {
                    return Err(RedriveError::Slow { done: all.records, left: left.len() });
                };
                let chunk = Range { to: last.offset + 1, ..left };
                let mut whole = Vec::with_capacity(letters.len());
                for letter in &letters {
                    whole.push(if dead_letter::is_truncated(&letter.headers) { self.in_the_topic(letter).await? } else { Some(None) });
                }
                let again =
                    letters.iter().zip(&whole).filter_map(|(letter, whole)| Some((letter, whole.as_ref()?.as_ref().unwrap_or(letter))));
                let acknowledged = join_all(again.map(|(letter, record)| produce(producer, self.topic, letter, record))).await;
                if let Some(cause) = acknowledged.into_iter().find_map(Result::err) {
                    return Err(RedriveError::Produce { done: all.records, cause });
                }
                let cut: Vec<Offset> =
                    letters.iter().zip(&whole).filter(|(_, whole)| whole.is_none()).map(|(letter, _)| letter.offset).collect();
                for range in without(chunk, &cut) {
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

    /// The record of a letter whose value is cut, when the topic still holds it at the letter's origin, with the length and hash that the letter says.
    async fn in_the_topic(&self, letter: &Stored) -> Result<Option<Option<Stored>>, RedriveError> {
        let number = |name| letter.header(name).and_then(|text| text.parse::<Offset>().ok());
        let partition = number(dead_letter::PARTITION).and_then(|partition| Partition::try_from(partition).ok());
        let (Some(partition), Some(offset)) = (partition, number(dead_letter::OFFSET)) else { return Ok(None) };
        if letter.header(dead_letter::TOPIC) != Some(self.topic) {
            return Ok(None);
        }
        let ends = broker::ends(self.access, self.topic).await?;
        if !ends.get(&partition).is_some_and(|&(begin, end)| (begin..end).contains(&offset)) {
            return Ok(None);
        }
        let place = BTreeMap::from([(partition, Range { from: offset, to: offset + 1 })]);
        let found = read(self.access, self.topic, place, Most { records: 1, bytes: CHUNK_BYTES }).await?;
        let is_it = |record: &Stored| {
            let value = record.value.as_deref().unwrap_or_default();
            letter.header(dead_letter::VALUE_SHA256).is_some_and(|hash| hash == dead_letter::sha256(value))
        };
        Ok(found.into_iter().find(is_it).map(Some))
    }
}

/// A range without these offsets, in order.
fn without(range: Range, cut: &[Offset]) -> Vec<Range> {
    let mut from = range.from;
    let mut parts = Vec::new();
    for &offset in cut {
        parts.push(Range { from, to: offset });
        from = offset + 1;
    }
    parts.push(Range { from, to: range.to });
    parts.retain(|part| !part.is_empty());
    parts
}

/// Produces the record of a letter, with the key and the value of `record`.
async fn produce(producer: &FutureProducer, topic: &str, letter: &Stored, record: &Stored) -> Result<(), String> {
    let mut again: FutureRecord<'_, [u8], [u8]> = FutureRecord::to(topic).headers(headers(letter));
    (again.key, again.payload) = (record.key.as_deref(), record.value.as_deref());
    match producer.send(again, std::time::Duration::from_secs(30)).await {
        Ok(_) => Ok(()),
        Err((error, _)) => Err(error.to_string()),
    }
}

/// The record's own headers, as they were, how many of them are lost, and last which letter it was.
fn headers(letter: &Stored) -> OwnedHeaders {
    let place = format!("{}:{}", letter.partition, letter.offset);
    // What an earlier redrive said is said again here, or no longer true.
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
        Range { from, to }
    }

    fn all(_: Partition, range: Range) -> Vec<Range> {
        vec![range]
    }

    #[test]
    fn what_is_wanted_is_held_and_was_not_redriven_is_chosen() {
        let held = BTreeMap::from([(0, range(5, 100))]);
        assert_eq!(choose(held.clone(), None, all).letters, [(0, range(5, 100))]);
        let wanted: Ranges = [(0, range(0, 7)), (3, range(0, 7))].into_iter().collect();
        assert_eq!(choose(held.clone(), Some(&wanted), all).letters, [(0, range(5, 7))], "what is not held is left out");
        let redriven = choose(held, None, |_, _| vec![range(5, 10), range(20, 100)]);
        assert_eq!((redriven.len(), redriven.left), (85, 0));
    }

    #[test]
    fn letters_that_are_left_are_in_no_range_of_those_that_were_redriven() {
        assert_eq!(without(range(5, 9), &[]), [range(5, 9)]);
        assert_eq!(without(range(5, 9), &[5, 7]), [range(6, 7), range(8, 9)]);
        assert_eq!(without(range(5, 6), &[5]), []);
    }

    #[test]
    fn one_redrive_is_of_ten_thousand_letters_at_most_and_says_how_many_are_left() {
        let held = BTreeMap::from([(0, range(0, 9_000)), (1, range(0, 9_000))]);
        let redrive = choose(held, None, all);
        assert_eq!(redrive.letters, [(0, range(0, 9_000)), (1, range(0, 1_000))]);
        assert_eq!((redrive.len(), redrive.left), (10_000, 8_000));
    }

    #[test]
    fn a_record_that_is_produced_again_has_the_headers_that_it_had_and_says_which_letter_it_was() {
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
        let headers_of_letter = crate::broker::dead_letter::headers(&it, before, &[(dead_letter::SQL, "9f2c")]);
        let named_all = |headers: &OwnedHeaders| -> Vec<(String, Option<Vec<u8>>)> {
            headers.iter().map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec))).collect()
        };
        let letter = Stored {
            partition: 0,
            offset: 7,
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
    fn a_record_that_is_produced_again_says_how_many_of_its_headers_are_lost() {
        let count = |number: &str| (dead_letter::LEFT_OUT.to_owned(), Some(number.as_bytes().to_vec()));
        let headers_of_letter =
            vec![("trace".to_owned(), None), count("2"), (dead_letter::REASON.to_owned(), Some(b"not JSON".to_vec())), count("3")];
        let letter = Stored {
            partition: 0,
            offset: 7,
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
