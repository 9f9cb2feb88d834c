//! What a candidate for the SQL makes of the topic's records, beside the SQL of the pipeline file.
//! For `forebay shadow`.
//!
//! Guarantees:
//! * Both see the same records, each by itself, and nothing is written.
//! * At most 100,000 records are compared, the oldest first; the others are counted.
//!
//! Does not guarantee that a row of the table differs: a later record of the same key may have
//! replaced it.

use std::collections::BTreeMap;

use forebay_schemas::offset::{Offset, Partition, Range};
use serde::Serialize;

use super::blueprint::Blueprint;
use super::outcome::Outcome;
use crate::broker::reader::{ReadLimit, StoredRecord, read};
use crate::broker::{self, BrokerError};

/// The maximum number of records that are compared.
const MAX_RECORDS: u64 = 100_000;
/// Records and bytes of one read.
const CHUNK: ReadLimit = ReadLimit { records: 2_000, bytes: 16 << 20 };

/// A record of which the two make different things.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// Its partition.
    pub partition: Partition,
    /// Its offset.
    pub offset: Offset,
    /// What the SQL of the pipeline file makes of it.
    pub active: Outcome,
    /// What the candidate makes of it.
    pub candidate: Outcome,
}

/// The outcome of a comparison.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub struct Comparison {
    /// The topic.
    pub topic: String,
    /// How many records were compared.
    pub compared: u64,
    /// How many offsets were not, for the limit.
    pub not_compared: u64,
    /// How many records differ.
    pub differing: u64,
    /// How many records the candidate alone rejects.
    pub newly_rejected: u64,
    /// The first of those that differ.
    pub changes: Vec<Change>,
}

/// Compares two pipelines, which differ in their SQL, on the records since a moment (milliseconds
/// since 1970). Keeps the first `shown` that differ. `None` when the embedded broker is not
/// running.
///
/// # Errors
/// When Kafka is unavailable.
///
/// # Panics
/// When one of them does not write.
pub async fn shadow(active: &Blueprint, candidate: &Blueprint, since_ms: i64, shown: usize) -> Result<Option<Comparison>, BrokerError> {
    let pipeline = &active.pipeline;
    let Some(access) = broker::reachable(pipeline)? else { return Ok(None) };
    let (topic, masked) = (&pipeline.kafka.topic, !pipeline.api.mask.is_empty());
    let ends = broker::ends(&access, topic).await?;
    let mut comparison = Comparison { topic: topic.clone(), ..Comparison::default() };
    for (partition, from) in broker::offsets_at(&access, topic, since_ms).await? {
        let Some(&(start, to)) = ends.get(&partition) else { continue };
        let mut left = Range { from: from.max(start), to };
        while !left.is_empty() && comparison.compared < MAX_RECORDS {
            let records = read(&access, topic, BTreeMap::from([(partition, left)]), CHUNK).await?;
            let Some(last) = records.last() else { break };
            left.from = last.offset + 1;
            records.iter().for_each(|record| comparison.add(record, active, candidate, masked, shown));
        }
        comparison.not_compared += left.len();
    }
    Ok(Some(comparison))
}

impl Comparison {
    fn add(&mut self, record: &StoredRecord, active: &Blueprint, candidate: &Blueprint, masked: bool, shown: usize) {
        self.compared += 1;
        // Compared without the mask, which would hide what differs.
        let outcome = |of, masked| Outcome::of(of, record, masked);
        let (before, after) = (outcome(active, false), outcome(candidate, false));
        if before == after {
            return;
        }
        self.differing += 1;
        let is_rejected = |outcome: &Outcome| matches!(outcome, Outcome::Rejected { .. });
        self.newly_rejected += u64::from(is_rejected(&after) && !is_rejected(&before));
        if self.changes.len() < shown {
            let (active, candidate) = if masked { (outcome(active, true), outcome(candidate, true)) } else { (before, after) };
            self.changes.push(Change { partition: record.partition, offset: record.offset, active, candidate });
        }
    }
}
