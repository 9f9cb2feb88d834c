//! What the SQL of a pipeline file makes of dead letters. For `forebay dlq diff`.
//!
//! Guarantees:
//! * Records are decoded, transformed and checked as by the pipeline, each by itself.
//! * Nothing is produced, written or journaled.
//! * With `[api] mask`, neither a reason nor a row quotes the record.
//!
//! Does not guarantee that the table accepts the rows: what only the server refuses is not known.

use forebay_dataplane::dead_letter;
use forebay_schemas::dead_letter_filter::DeadLetterFilter;
use forebay_schemas::offset::{Offset, Partition};
use serde::Serialize;

use super::blueprint::Blueprint;
use super::outcome::Outcome;
use crate::broker::reader::StoredRecord;
use crate::broker::{self, BrokerError};
use crate::operations::dead_letters::{newest, one};

/// A dead letter, and what becomes of it now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Its partition in the dead-letter topic.
    pub partition: Partition,
    /// Its offset there.
    pub offset: Offset,
    /// The stage that rejected it.
    pub stage: String,
    /// The reason.
    pub reason: String,
    /// What becomes of it now.
    pub now: Outcome,
}

/// The outcome for the dead letters that match.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diff {
    /// The dead-letter topic.
    pub topic: String,
    /// How many dead letters it holds.
    pub total: u64,
    /// How many of them were read, the newest ones.
    pub read: u64,
    /// Those that match, newest first.
    pub letters: Vec<Difference>,
}

/// Transforms up to `limit` of the newest dead letters that match, or the one at a position. `None`
/// when the pipeline's embedded broker is not running.
///
/// # Errors
/// When Kafka is unavailable.
///
/// # Panics
/// When the pipeline does not write.
pub async fn diff(
    blueprint: &Blueprint,
    filter: &DeadLetterFilter,
    at: Option<(Partition, Offset)>,
    limit: usize,
) -> Result<Option<Diff>, BrokerError> {
    let Some(access) = broker::reachable(&blueprint.pipeline)? else { return Ok(None) };
    let topic = blueprint.pipeline.kafka.dead_letter_topic();
    let masked = !blueprint.pipeline.api.mask.is_empty();
    let matches = |letter: &StoredRecord| {
        let key = letter.key.as_deref().map(String::from_utf8_lossy);
        filter.matches(letter.header(dead_letter::STAGE).unwrap_or_default(), &reason(letter, masked), key.as_deref())
    };
    let (total, read, letters) = match at {
        None => {
            let scan = newest(&access, &topic, limit, matches).await?;
            (scan.total, scan.read, scan.letters)
        }
        Some((partition, offset)) => {
            let letters: Vec<_> = one(&access, &topic, partition, offset).await?.into_iter().collect();
            (letters.len() as u64, letters.len() as u64, letters)
        }
    };
    let letters = letters.iter().map(|letter| difference(blueprint, letter, masked)).collect();
    Ok(Some(Diff { topic, total, read, letters }))
}

fn reason(letter: &StoredRecord, masked: bool) -> String {
    let name = if masked { dead_letter::MASKED_REASON } else { dead_letter::REASON };
    letter.header(name).unwrap_or_default().to_owned()
}

fn difference(blueprint: &Blueprint, letter: &StoredRecord, masked: bool) -> Difference {
    let truncated = dead_letter::is_truncated(&letter.headers);
    let stage = letter.header(dead_letter::STAGE).unwrap_or_default().to_owned();
    Difference {
        partition: letter.partition,
        offset: letter.offset,
        stage,
        reason: reason(letter, masked),
        now: if truncated { Outcome::Truncated } else { Outcome::of(blueprint, &record_of(letter), masked) },
    }
}

/// The record of a dead letter, as it was in the topic if it was there.
fn record_of(letter: &StoredRecord) -> StoredRecord {
    let (partition, offset) = letter.origin().unwrap_or_default();
    let timestamp = letter.header(dead_letter::TIMESTAMP).and_then(|millis| millis.parse().ok()).or(letter.timestamp_ms);
    let headers = dead_letter::record_headers(&letter.headers).to_vec();
    StoredRecord { partition, offset, timestamp_ms: timestamp, headers, ..letter.clone() }
}
