//! The pipeline of this process, and what it is meant to do: running, paused, drained.

use actix_web::{HttpResponse, web};
use forebay_schemas::api::{PipelineView, Pipelines, StateRequest};
use forebay_schemas::problem;
use forebay_schemas::snapshot::PartitionView;

use super::auth::Caller;
use super::error::ApiError;
use super::extract::{Asked, Body, reason};
use super::{Answer, State};
use crate::ledger::Command;
use crate::text;

pub(super) async fn list(state: web::Data<State>, _: Asked) -> Answer {
    Ok(HttpResponse::Ok().json(Pipelines { pipelines: vec![view(&state)] }))
}

pub(super) async fn get(state: web::Data<State>, asked: Asked) -> Answer {
    this_one(&state, &asked)?;
    Ok(HttpResponse::Ok().json(view(&state)))
}

/// It is on the disk when this answers. The actors follow at once: the fetcher ends the page it is at, the consumer writes what it has read.
pub(super) async fn set_state(state: web::Data<State>, asked: Asked, caller: web::ReqData<Caller>, body: Body<StateRequest>) -> Answer {
    this_one(&state, &asked)?;
    let Body(StateRequest { state: wanted, reason: why }) = body;
    state.parts.ledger.submit(Command::SetDesiredState { state: wanted, by: caller.name().into(), reason: reason(&why)? })?;
    if let Some(fetcher) = &state.parts.fetcher {
        fetcher.desired_state_changed();
    }
    state.parts.ledger.flushed().await?;
    Ok(HttpResponse::Ok().json(view(&state)))
}

/// Whether a request is for the pipeline that this process runs.
pub(super) fn this_one(state: &State, asked: &Asked) -> Result<(), ApiError> {
    let (here, named) = (&state.parts.pipeline.meta.name, asked.path("pipeline"));
    if here == named {
        Ok(())
    } else {
        Err(ApiError::new(&problem::PIPELINE_UNKNOWN, format!("this process runs {here:?}, not {named:?}")))
    }
}

fn view(state: &State) -> PipelineView {
    let pipeline = &state.parts.pipeline;
    let snapshot = state.parts.snapshots.snapshot();
    let table = pipeline.cassandra.as_ref().zip(pipeline.writer.as_ref());
    PipelineView {
        name: pipeline.meta.name.clone(),
        desired: state.parts.ledger.desired(),
        roles: snapshot.roles,
        source: pipeline.fetcher.as_ref().map(|fetcher| text::without_secrets(&fetcher.url)),
        topic: pipeline.kafka.topic.clone(),
        table: table.map_or_else(String::new, |(cassandra, writer)| format!("{}.{}", cassandra.keyspace, writer.table)),
        group: pipeline.consumer.as_ref().map_or_else(String::new, |consumer| consumer.group.clone()),
        lag: snapshot.partitions.iter().map(PartitionView::lag).sum(),
        params: pipeline.fetcher.as_ref().map_or_else(Vec::new, |fetcher| fetcher.params.clone()),
    }
}
