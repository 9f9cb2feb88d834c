//! The last micro-batches, and the details of one.

use actix_web::{HttpResponse, web};
use forebay_schemas::api::{BatchReject, BatchSpan, BatchTrace, Batches};
use forebay_schemas::problem;
use forebay_schemas::snapshot::BatchView;

use super::error::ApiError;
use super::extract::Params;
use super::{ApiResult, State, kafka_records};
use crate::broker;
use forebay_dataplane::dead_letter;

/// The rejects shown of a batch.
const MAX_REJECTS: usize = 20;
/// The last dead letters that are searched for them.
const MAX_DEAD_LETTERS_SEARCHED: u64 = 1_000;

pub(super) async fn batches(state: web::Data<State>, params: Params) -> ApiResult {
    let mut batches = state.api.snapshots.snapshot().batches;
    batches.truncate(params.limit());
    Ok(HttpResponse::Ok().json(Batches { batches }))
}

/// One batch, with its rejects from the dead-letter topic.
pub(super) async fn batch(state: web::Data<State>, params: Params) -> ApiResult {
    let wanted: u64 = params.path("id").parse().unwrap_or_default();
    let batches = state.api.snapshots.snapshot().batches;
    let Some(batch) = batches.into_iter().find(|batch| batch.id == wanted) else {
        return Err(ApiError::new(&problem::BATCH_UNKNOWN, format!("batch {wanted} not found")));
    };
    let rejects = if batch.rejected > 0 { rejects(&state, &batch).await? } else { Vec::new() };
    let transformer = state.api.pipeline.transformer.as_ref();
    let transform = state.api.transform.as_ref();
    Ok(HttpResponse::Ok().json(BatchTrace {
        spans: spans(&batch),
        batch,
        sql: transformer.map_or_else(String::new, |transformer| transformer.sql.clone()),
        fingerprint: transform.map_or_else(String::new, |transform| transform.fingerprint()),
        plan: transform.map_or_else(String::new, |transform| transform.explain()),
        rejects,
    }))
}

/// The stages of a batch, which follow one another.
fn spans(batch: &BatchView) -> Vec<BatchSpan> {
    let retries = if batch.retries > 0 { format!("{} retries", batch.retries) } else { String::new() };
    let stages = [
        ("wait", batch.wait_micros, format!("{} records", batch.records)),
        ("transform", batch.transform_micros, format!("{} rows, {} rejected", batch.rows, batch.rejected)),
        ("write", batch.write_micros, retries),
        ("commit", batch.commit_micros, String::new()),
    ];
    let mut start = 0;
    let span = |(stage, micros, detail): (&str, u64, String)| {
        let span = BatchSpan { stage: stage.into(), start_micros: start, micros, detail };
        start += micros;
        span
    };
    // There is no commit until Kafka has confirmed it.
    stages.into_iter().filter(|(stage, micros, _)| *stage != "commit" || *micros > 0).map(span).collect()
}

async fn rejects(state: &State, batch: &BatchView) -> Result<Vec<BatchReject>, ApiError> {
    let letters = kafka_records::last_dead_letters(state, MAX_DEAD_LETTERS_SEARCHED).await?;
    let mask = kafka_records::Mask::of(state);
    let reject = |letter: &broker::reader::StoredRecord| {
        let (partition, offset) = letter.origin()?;
        let range = batch.ranges.0.get(&partition)?;
        (range.from..range.to).contains(&offset).then(|| BatchReject {
            partition,
            offset,
            stage: letter.header(dead_letter::STAGE).unwrap_or_default().to_owned(),
            reason: mask.reason(letter),
        })
    };
    let mut rejects: Vec<_> = letters.iter().filter_map(reject).collect();
    rejects.sort_by_key(|reject| (reject.partition, reject.offset));
    rejects.truncate(MAX_REJECTS);
    Ok(rejects)
}
