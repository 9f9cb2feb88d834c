//! Takes the first page of the API through the pipeline up to its rows, for `forebay doctor`.
//!
//! Guarantees:
//! * The page is requested as by the fetcher, keys are extracted as by the producer, and records
//!   are checked and transformed as by the transformer.
//! * Nothing is produced, written or stored.
//!
//! Does not guarantee that the table accepts the rows.

use std::time::SystemTime;

use bytes::Bytes;
use forebay_schemas::offset::Offset;
use forebay_schemas::pipeline::{DriftPolicy, FetcherSection, Pipeline};
use forebay_schemas::source_read::ReadParams;

use super::blueprint::Blueprint;
use crate::fetcher::{FetchError, Sample, sample};
use crate::producer::{KeyExtractor, KeyedRecord};
use forebay_dataplane::transform::{Parts, Transform};
use forebay_dataplane::{NewRecord, RawBatch, Reason, Reject};

/// The outcome for the first page.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Probe {
    /// Records on the page.
    pub records: usize,
    /// Whether the page names a next one.
    pub has_next: bool,
    /// Records that would be dead letters.
    pub rejected: usize,
    /// The reason of the first one. It quotes nothing of the record when `[api] mask` is set.
    pub reason: Option<String>,
    /// Fields that the schema does not have, unless the pipeline ignores them.
    pub new_fields: Vec<String>,
    /// Rows of the other records; absent when the pipeline ends at the topic.
    pub rows: Option<usize>,
}

/// Probes the first page of a run with these params. `None` when the pipeline does not fetch.
///
/// # Errors
/// When the fetch fails.
pub async fn probe(blueprint: &Blueprint, params: &ReadParams, wall: SystemTime) -> Option<Result<Probe, FetchError>> {
    let pipeline = &blueprint.pipeline;
    let (fetcher, producer) = (pipeline.fetcher.as_ref()?, pipeline.producer.as_ref()?);
    let masked = !pipeline.api.mask.is_empty();
    let page = match sample(pipeline, fetcher, params, wall).await {
        Ok(page) => page,
        Err(error) => return Some(Err(if masked { error.masked() } else { error })),
    };
    let keys = KeyExtractor::new(&pipeline.meta.name, &pipeline.kafka.topic, &producer.key);
    let mut probe = probe_page(&page, &keys, blueprint.transform.as_deref(), masked);
    if pipeline.transformer.as_ref().is_some_and(|transformer| transformer.drift == DriftPolicy::Ignore) {
        probe.new_fields.clear();
    }
    Some(Ok(probe))
}

/// Fetches the records of the first page, as the fetcher would.
///
/// # Errors
/// When the fetch fails.
pub async fn first_page(pipeline: &Pipeline, fetcher: &FetcherSection, wall: SystemTime) -> Result<Vec<Bytes>, FetchError> {
    sample(pipeline, fetcher, &ReadParams::default(), wall).await.map(|page| page.records)
}

fn probe_page(page: &Sample, keys: &KeyExtractor, transform: Option<&Transform>, masked: bool) -> Probe {
    let mut reasons = Vec::new();
    let mut raw = RawBatch::default();
    let mut scratch = Vec::new();
    let mut bad = page.bad.iter().peekable();
    for (index, record) in page.records.iter().enumerate() {
        if let Some(bad) = bad.next_if(|bad| bad.index == index) {
            reasons.push(bad.reason.clone());
            continue;
        }
        match keys.extract(record, &mut scratch) {
            KeyedRecord::Record { key, .. } => {
                let offset = i64::try_from(raw.records.len()).expect("a page has fewer records than an offset can number");
                raw.push(&NewRecord { offset: Offset(offset), key: Some(&key), value: Some(record), ..NewRecord::default() });
            }
            KeyedRecord::DeadLetter { reason, .. } => reasons.push(reason),
        }
    }
    let mut new_fields = Vec::new();
    let rows = transform.map(|transform| {
        let (mut parts, mut rows) = (Parts::default(), 0);
        while !parts.is_done() {
            let part = parts.next(transform, &raw, &|| {});
            reasons.extend(part.rejects.into_iter().map(|Reject { reason, .. }| reason));
            rows += part.rows.num_rows();
            new_fields.extend(
                part.new_fields.iter().map(|new| new.field.to_string()).filter(|field| !new_fields.contains(field)).collect::<Vec<_>>(),
            );
        }
        rows
    });
    let shown = |reason: &Reason| if masked { reason.masked() } else { reason.full() }.to_owned();
    let (records, has_next) = (page.records.len(), page.next.is_some());
    Probe { records, has_next, rejected: reasons.len(), reason: reasons.first().map(shown), new_fields, rows }
}
