//! The first page of the API, taken on the way that the pipeline would take it up to the row, for `forebay doctor`.
//!
//! Guarantee: the page is asked for as the fetcher asks, keys are found as the producer finds them, and records are held to the schema and the
//! SQL as the transformer holds them. Nothing is produced, written or kept. Not guaranteed: that the table takes the rows.

use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use forebay_schemas::offset::Ranges;

use super::blueprint::Blueprint;
use crate::fetcher::{FetchError, sample};
use crate::kernel::{Budget, Lease};
use crate::message::{RawBatch, RawRecord, Reason, Receipt, Reject};
use crate::producer::key::{Planned, Recipe};
use crate::transformer::{Parts, Plan};

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
    let recipe = Recipe::new(&pipeline.meta.name, &pipeline.kafka.topic, &producer.key);
    Some(Ok(look(&page.records, page.next.is_some(), &recipe, blueprint.plan.as_deref(), masked)))
}

fn look(records: &[Bytes], has_next: bool, recipe: &Recipe, plan: Option<&Plan>, masked: bool) -> Probe {
    let mut reasons = Vec::new();
    let mut batch = Batch::default();
    let mut scratch = Vec::new();
    for record in records {
        match recipe.plan(record, &mut scratch) {
            Planned::Record { key, .. } => batch.add(&key, record),
            Planned::DeadLetter { reason, .. } => reasons.push(reason),
        }
    }
    let rows = plan.map(|plan| {
        let (mut parts, mut rows) = (Parts::of(batch.finish()), 0);
        while !parts.is_done() {
            let part = parts.next(plan, &|| {});
            reasons.extend(part.rejects.into_iter().map(|Reject { reason, .. }| reason));
            rows += part.rows.num_rows();
        }
        rows
    });
    let shown = |reason: &Reason| if masked { reason.masked() } else { reason.full() }.to_owned();
    Probe { records: records.len(), has_next, rejected: reasons.len(), reason: reasons.first().map(shown), rows }
}

/// A micro-batch in the making.
#[derive(Default)]
struct Batch {
    arena: Vec<u8>,
    records: Vec<RawRecord>,
}

impl Batch {
    fn add(&mut self, key: &[u8], value: &[u8]) {
        let mut slice = |bytes: &[u8]| {
            let end = |arena: &[u8]| u32::try_from(arena.len()).expect("a page is smaller than 4 GiB");
            let start = end(&self.arena);
            self.arena.extend_from_slice(bytes);
            start..end(&self.arena)
        };
        let (key, value) = (Some(slice(key)), Some(slice(value)));
        let offset = i64::try_from(self.records.len()).expect("a page has fewer records than an offset can count");
        self.records.push(RawRecord { partition: 0, offset, timestamp_ms: 0, write_ts: 0, key, value, headers: 0..0 });
    }

    fn finish(self) -> Lease<RawBatch> {
        let Self { arena, records } = self;
        let receipt = Receipt::new().0;
        let raw = RawBatch { id: 1, arena, records, ranges: Ranges::default(), waited: Duration::ZERO, cut_at: Instant::now(), receipt };
        let credit = Budget::new("first page", 1).try_reserve(1).expect("a budget of its own is free");
        Lease::new(raw, credit)
    }
}
