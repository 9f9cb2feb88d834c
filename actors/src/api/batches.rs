//! The last micro-batches, and one of them in detail.

use actix_web::{HttpResponse, web};
use forebay_schemas::api::{BatchReject, BatchSpan, BatchTrace, Batches};
use forebay_schemas::problem;
use forebay_schemas::snapshot::BatchView;

use super::error::ApiError;
use super::extract::Asked;
use super::{Answer, State, records};
use crate::broker;
use forebay_dataplane::dead_letter;

/// How many rejects of a batch are shown.
const REJECTS_SHOWN: usize = 20;
/// Among how many of the last dead letters they are looked for.
const LETTERS_SEARCHED: u64 = 1_000;

pub(super) async fn batches(state: web::Data<State>, asked: Asked) -> Answer {
    let mut batches = state.parts.snapshots.snapshot().batches;
    batches.truncate(asked.limit());
    Ok(HttpResponse::Ok().json(Batches { batches }))
}

/// The rejects are read from the dead-letter topic, where they are anyway.
pub(super) async fn batch(state: web::Data<State>, asked: Asked) -> Answer {
    let wanted: u64 = asked.path("id").parse().unwrap_or_default();
    let batches = state.parts.snapshots.snapshot().batches;
    let Some(batch) = batches.into_iter().find(|batch| batch.id == wanted) else {
        return Err(ApiError::new(&problem::BATCH_UNKNOWN, format!("batch {wanted} is none of them")));
    };
    let rejects = if batch.rejected > 0 { rejects(&state, &batch).await? } else { Vec::new() };
    let transformer = state.parts.pipeline.transformer.as_ref();
    let plan = state.parts.plan.as_ref();
    Ok(HttpResponse::Ok().json(BatchTrace {
        spans: spans(&batch),
        batch,
        sql: transformer.map_or_else(String::new, |transformer| transformer.sql.clone()),
        fingerprint: plan.map_or_else(String::new, |plan| plan.fingerprint()),
        plan: plan.map_or_else(String::new, |plan| plan.explain()),
        rejects,
    }))
}

/// The stages of a batch follow one another.
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
    // Until Kafka has confirmed it there is no commit.
    stages.into_iter().filter(|(stage, micros, _)| *stage != "commit" || *micros > 0).map(span).collect()
}

async fn rejects(state: &State, batch: &BatchView) -> Result<Vec<BatchReject>, ApiError> {
    let letters = records::last_letters(state, LETTERS_SEARCHED).await?;
    let mask = records::Mask::of(state);
    let reject = |letter: &broker::reader::Stored| {
        let (partition, offset) = records::origin(letter)?;
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
    rejects.truncate(REJECTS_SHOWN);
    Ok(rejects)
}
