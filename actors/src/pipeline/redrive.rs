//! Putting dead letters into the topic again, as new records.
//!
//! Guarantee: a letter counts as redriven only when Kafka has acknowledged its record and the journal has that on the disk, and such a letter is not
//! redriven again; key and value are the record's own bytes. A crash in between redrives the last `CHUNK` letters again, which the table
//! does not show. Not guaranteed: the headers that the record had before it was a dead letter, which the writer does not keep; nor that rows
//! written since for the same key stay, for a record that is produced again is the newest of its key.
//!
//! The dead-letter topic is a log: the letters stay in it until Kafka removes them.

use std::collections::BTreeMap;

use forebay_schemas::event::Event;
use forebay_schemas::offset::{Partition, Range, Ranges};
use futures_util::future::join_all;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};

use crate::broker::reader::{Most, Stored, read};
use crate::broker::{self, Access, BrokerError};
use crate::journal::JournalError;
use crate::ledger::Ledger;

/// How many letters are produced before the journal hears of them.
const CHUNK: usize = 500;
/// The bytes of letters in memory at a time, but for the last.
const CHUNK_BYTES: usize = 8 << 20;
/// The most letters of one redrive.
pub const LETTERS_MOST: u64 = 10_000;
/// The headers that say why a record is a dead letter; the record that is produced again does not have them.
const OF_THE_LETTER: [&str; 7] =
    ["forebay-reason", "forebay-stage", "forebay-topic", "forebay-partition", "forebay-offset", "forebay-timestamp", "forebay-sql"];

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

/// Does what was planned; gives how many records are in the topic again.
///
/// # Errors
/// When Kafka is away or refuses, or the journal can't be written. What was done until then is in the journal.
pub async fn apply(
    access: &Access,
    (dead_letter_topic, topic): (&str, &str),
    ledger: &Ledger,
    redrive: &Redrive,
    (by, reason): (&str, &str),
) -> Result<u64, RedriveError> {
    let mut config = access.producer();
    // Somebody waits for the answer; what was not delivered by then is tried again by the next redrive.
    config.set("message.timeout.ms", "30000");
    let producer: FutureProducer = config.create().map_err(|cause| access.error("make a client", cause, None))?;
    let end = apply_by(&producer, access, (dead_letter_topic, topic), ledger, redrive, (by, reason)).await;
    // Dropping it waits for its thread.
    tokio::task::spawn_blocking(move || drop(producer));
    end
}

async fn apply_by(
    producer: &FutureProducer,
    access: &Access,
    (dead_letter_topic, topic): (&str, &str),
    ledger: &Ledger,
    redrive: &Redrive,
    (by, reason): (&str, &str),
) -> Result<u64, RedriveError> {
    let mut done = 0;
    for &(partition, range) in &redrive.letters {
        let mut at = range.from;
        while at < range.to {
            let most = Most { records: CHUNK, bytes: CHUNK_BYTES };
            let wanted = BTreeMap::from([(partition, Range { from: at, to: range.to })]);
            let letters = read(access, dead_letter_topic, wanted, most).await?;
            let Some(last) = letters.last() else {
                return Err(RedriveError::Slow { done, left: Range { from: at, to: range.to }.len() });
            };
            let next = last.offset + 1;
            let acknowledged = join_all(letters.iter().map(|letter| produce(producer, topic, letter))).await;
            if let Some(cause) = acknowledged.into_iter().find_map(Result::err) {
                return Err(RedriveError::Produce { done, cause });
            }
            let records = letters.len() as u64;
            done += records;
            ledger.saw(Event::LettersRedriven {
                letters: [(partition, Range { from: at, to: next })].into_iter().collect(),
                records,
                by: by.to_owned(),
                reason: reason.to_owned(),
            });
            ledger.settled().await?;
            at = next;
        }
    }
    Ok(done)
}

async fn produce(producer: &FutureProducer, topic: &str, letter: &Stored) -> Result<(), String> {
    let place = format!("{}:{}", letter.partition, letter.offset);
    let headers = headers(letter).insert(Header { key: "forebay-redriven", value: Some(&place) });
    let mut record: FutureRecord<'_, [u8], [u8]> = FutureRecord::to(topic).headers(headers);
    (record.key, record.payload) = (letter.key.as_deref(), letter.value.as_deref());
    match producer.send(record, std::time::Duration::from_secs(30)).await {
        Ok(_) => Ok(()),
        Err((error, _)) => Err(error.to_string()),
    }
}

/// The letter's headers but for those that say why it is one.
fn headers(letter: &Stored) -> OwnedHeaders {
    let own = letter.headers.iter().filter(|(name, _)| !OF_THE_LETTER.contains(&name.as_str()) && name != "forebay-redriven");
    own.fold(OwnedHeaders::new(), |all, (key, value)| all.insert(Header { key, value: value.as_deref() }))
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn one_redrive_is_of_ten_thousand_letters_at_most_and_says_how_many_are_left() {
        let held = BTreeMap::from([(0, range(0, 9_000)), (1, range(0, 9_000))]);
        let redrive = choose(held, None, all);
        assert_eq!(redrive.letters, [(0, range(0, 9_000)), (1, range(0, 1_000))]);
        assert_eq!((redrive.len(), redrive.left), (10_000, 8_000));
    }

    #[test]
    fn a_record_that_is_produced_again_has_its_own_headers_and_none_of_the_letter_s() {
        use rdkafka::message::Headers as _;
        let header = |name: &str| (name.to_owned(), Some(b"x".to_vec()));
        let letter = Stored {
            partition: 0,
            offset: 7,
            timestamp_ms: None,
            key: None,
            value: None,
            headers: ["forebay-run", "forebay-reason", "trace", "forebay-sql"].map(header).into(),
        };
        let headers = headers(&letter);
        assert_eq!(headers.iter().map(|header| header.key).collect::<Vec<_>>(), ["forebay-run", "trace"]);
    }
}
