//! The first page of the API, taken on the way that the pipeline would take it up to the row, for `forebay doctor`.
//!
//! Guarantee: the page is asked for as the fetcher asks, keys are found as the producer finds them, and records are held to the schema and the
//! SQL as the transformer holds them. Nothing is produced, written or kept. Not guaranteed: that the table takes the rows.

use std::time::SystemTime;

use bytes::Bytes;

use super::blueprint::Blueprint;
use crate::fetcher::{FetchError, sample};
use crate::producer::{KeyExtractor, KeyedRecord};
use forebay_dataplane::transform::{Parts, Transform};
use forebay_dataplane::{NewRecord, RawBatch, Reason, Reject};

/// What came of the first page.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Probe {
    /// Records on the page.
    pub records: usize,
    /// Whether the page names a next one.
    pub has_next: bool,
    /// Records that would be dead letters, and why the first of them would.
    pub rejected: usize,
    /// See `rejected`; without what it would quote of the record where `[api] mask` is set.
    pub reason: Option<String>,
    /// Rows that the SQL makes of the others; absent where the pipeline ends at the topic.
    pub rows: Option<usize>,
}

/// Takes the first page; nothing where the pipeline does not fetch.
///
/// # Errors
/// As a fetch fails.
pub async fn probe(blueprint: &Blueprint, wall: SystemTime) -> Option<Result<Probe, FetchError>> {
    let pipeline = &blueprint.pipeline;
    let (fetcher, producer) = (pipeline.fetcher.as_ref()?, pipeline.producer.as_ref()?);
    let masked = !pipeline.api.mask.is_empty();
    let page = match sample(pipeline, fetcher, wall).await {
        Ok(page) => page,
        Err(error) => return Some(Err(if masked { error.masked() } else { error })),
    };
    let keys = KeyExtractor::new(&pipeline.meta.name, &pipeline.kafka.topic, &producer.key);
    Some(Ok(look(&page.records, page.next.is_some(), &keys, blueprint.plan.as_deref(), masked)))
}

fn look(records: &[Bytes], has_next: bool, keys: &KeyExtractor, plan: Option<&Transform>, masked: bool) -> Probe {
    let mut reasons = Vec::new();
    let mut raw = RawBatch::default();
    let mut scratch = Vec::new();
    for record in records {
        match keys.extract(record, &mut scratch) {
            KeyedRecord::Record { key, .. } => {
                let offset = i64::try_from(raw.records.len()).expect("a page has fewer records than an offset can count");
                raw.push(&NewRecord { offset, key: Some(&key), value: Some(record), ..NewRecord::default() });
            }
            KeyedRecord::DeadLetter { reason, .. } => reasons.push(reason),
        }
    }
    let rows = plan.map(|plan| {
        let (mut parts, mut rows) = (Parts::default(), 0);
        while !parts.is_done() {
            let part = parts.next(plan, &raw, &|| {});
            reasons.extend(part.rejects.into_iter().map(|Reject { reason, .. }| reason));
            rows += part.rows.num_rows();
        }
        rows
    });
    let shown = |reason: &Reason| if masked { reason.masked() } else { reason.full() }.to_owned();
    Probe { records: records.len(), has_next, rejected: reasons.len(), reason: reasons.first().map(shown), rows }
}
