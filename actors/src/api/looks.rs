//! Looks: the snapshot, batches and one in detail, topics, actors and their restart, alerts, the version, who one is.

use std::collections::BTreeMap;

use actix_web::{HttpResponse, web};
use forebay_schemas::api::{Actors, Alerts, BatchReject, BatchSpan, BatchTrace, Batches, Reason, TopicView, Topics, Version, WhoAmI};
use forebay_schemas::event::Event;
use forebay_schemas::offset::{Offset, Partition};
use forebay_schemas::problem;
use forebay_schemas::snapshot::{ActorState, BatchView, PartitionView};

use super::ask::{Asked, Body, reason};
use super::gate::Caller;
use super::problem::Refusal;
use super::{Answer, State, records};
use crate::broker;
use forebay_dataplane::dead_letter;

/// How many rejects of a batch are shown.
const REJECTS_SHOWN: usize = 20;
/// Among how many of the last dead letters they are looked for.
const LETTERS_SEARCHED: u64 = 1_000;

pub(super) async fn snapshot(state: web::Data<State>, _: Asked) -> Answer {
    Ok(HttpResponse::Ok().json(state.parts.viewer.snapshot()))
}

pub(super) async fn batches(state: web::Data<State>, asked: Asked) -> Answer {
    let mut batches = state.parts.viewer.snapshot().batches;
    batches.truncate(asked.limit());
    Ok(HttpResponse::Ok().json(Batches { batches }))
}

/// The rejects are read from the dead-letter topic, where they are anyway.
pub(super) async fn batch(state: web::Data<State>, asked: Asked) -> Answer {
    let wanted: u64 = asked.path("id").parse().unwrap_or_default();
    let batches = state.parts.viewer.snapshot().batches;
    let Some(batch) = batches.into_iter().find(|batch| batch.id == wanted) else {
        return Err(Refusal::new(&problem::BATCH_UNKNOWN, format!("batch {wanted} is none of them")));
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

async fn rejects(state: &State, batch: &BatchView) -> Result<Vec<BatchReject>, Refusal> {
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

pub(super) async fn topics(state: web::Data<State>, _: Asked) -> Answer {
    let kafka = &state.parts.pipeline.kafka;
    let dead = kafka.dead_letter_topic();
    let of_topic = broker::ends(&state.parts.access, &kafka.topic).await?;
    let of_dead = broker::ends(&state.parts.access, &dead).await?;
    let known = state.parts.viewer.snapshot().partitions;
    let topics = vec![
        TopicView { name: kafka.topic.clone(), kind: "records".into(), partitions: partitions(&of_topic, &known) },
        TopicView { name: dead, kind: "dead_letters".into(), partitions: partitions(&of_dead, &[]) },
    ];
    Ok(HttpResponse::Ok().json(Topics { topics }))
}

fn partitions(ends: &BTreeMap<Partition, (Offset, Offset)>, known: &[PartitionView]) -> Vec<PartitionView> {
    let view = |(&partition, &(begin, end)): (&Partition, &(Offset, Offset))| {
        let unknown = PartitionView { begin, end, ..PartitionView::unknown(partition) };
        let known = known.iter().find(|view| view.partition == partition).copied().unwrap_or(unknown);
        PartitionView { begin, end: end.max(known.written), ..known }
    };
    ends.iter().map(view).collect()
}

pub(super) async fn actors(state: web::Data<State>, _: Asked) -> Answer {
    Ok(HttpResponse::Ok().json(Actors { actors: state.parts.viewer.snapshot().actors }))
}

/// It is in the journal, and on the disk, before the actor ends. Its supervisor does the rest, as after a crash.
pub(super) async fn restart(state: web::Data<State>, asked: Asked, caller: web::ReqData<Caller>, body: Body<Reason>) -> Answer {
    let path = asked.path("path");
    let Some(actor) = state.parts.viewer.snapshot().actors.into_iter().find(|actor| actor.path == path) else {
        return Err(Refusal::new(&problem::ACTOR_UNKNOWN, format!("no actor is at {path:?}")));
    };
    let why = reason(&body.0.reason)?;
    if path == "root" || path == "root/observers" || path.starts_with("root/observers/") {
        return Err(Refusal::new(&problem::ACTOR_STATE, format!("{path} carries this API")));
    }
    if matches!(actor.state, ActorState::Restarting | ActorState::Ended) {
        return Err(Refusal::new(&problem::ACTOR_STATE, format!("{path} is {:?}", actor.state)));
    }
    state.parts.ledger.saw(Event::ActorRestartRequested { actor: path.to_owned(), by: caller.name().into(), reason: why });
    state.parts.ledger.settled().await?;
    if !state.parts.registry.end(path) {
        return Err(Refusal::new(&problem::ACTOR_STATE, format!("{path} has just ended")));
    }
    Ok(HttpResponse::Accepted().json(actor))
}

pub(super) async fn alerts(state: web::Data<State>, _: Asked) -> Answer {
    Ok(HttpResponse::Ok().json(Alerts { alerts: state.parts.viewer.snapshot().alerts }))
}

pub(super) async fn version(_: Asked) -> Answer {
    let version = Version { name: "forebay".into(), version: env!("CARGO_PKG_VERSION").into(), api: "v1".into() };
    Ok(HttpResponse::Ok().json(version))
}

pub(super) async fn who_am_i(_: Asked, caller: web::ReqData<Caller>) -> Answer {
    Ok(HttpResponse::Ok().json(WhoAmI { role: caller.role, by: caller.by.into() }))
}
