//! The pipeline of this process, and its desired state: running, paused, drained.

use actix_web::{HttpResponse, web};
use forebay_schemas::api::{PipelineView, Pipelines, StateRequest};
use forebay_schemas::problem;
use forebay_schemas::snapshot::PartitionView;

use super::auth::Caller;
use super::error::ApiError;
use super::extract::{Body, Params, reason};
use super::{ApiResult, State};
use crate::ledger::Command;

pub(super) async fn list(state: web::Data<State>, _: Params) -> ApiResult {
    Ok(HttpResponse::Ok().json(Pipelines { pipelines: vec![view(&state)] }))
}

pub(super) async fn get(state: web::Data<State>, params: Params) -> ApiResult {
    check_pipeline(&state, &params)?;
    Ok(HttpResponse::Ok().json(view(&state)))
}

/// Sets the desired state, which is durable when this responds. The actors follow immediately: the
/// fetcher finishes its page, and the consumer writes what it has read.
pub(super) async fn set_state(
    state: web::Data<State>,
    params: Params,
    caller: web::ReqData<Caller>,
    body: Body<StateRequest>,
) -> ApiResult {
    check_pipeline(&state, &params)?;
    let Body(StateRequest { state: wanted, reason: why }) = body;
    state.api.ledger.submit(Command::SetDesiredState { state: wanted, by: caller.name().into(), reason: reason(&why)? })?;
    if let Some(fetcher) = &state.api.fetcher {
        fetcher.desired_state_changed();
    }
    state.api.ledger.flushed().await?;
    Ok(HttpResponse::Ok().json(view(&state)))
}

/// Checks that a request names the pipeline of this process.
pub(super) fn check_pipeline(state: &State, params: &Params) -> Result<(), ApiError> {
    let (here, named) = (&state.api.pipeline.meta.name, params.path("pipeline"));
    if here == named {
        Ok(())
    } else {
        Err(ApiError::new(&problem::PIPELINE_UNKNOWN, format!("this process runs {here:?}, not {named:?}")))
    }
}

fn view(state: &State) -> PipelineView {
    let pipeline = &state.api.pipeline;
    let snapshot = state.api.snapshots.snapshot();
    let table = pipeline.cassandra.as_ref().zip(pipeline.writer.as_ref());
    PipelineView {
        name: pipeline.meta.name.clone(),
        desired: state.api.ledger.desired(),
        roles: snapshot.roles,
        source: pipeline.fetcher.as_ref().map(|fetcher| fetcher.url.to_string()),
        topic: pipeline.kafka.topic.clone(),
        table: table.map_or_else(String::new, |(cassandra, writer)| format!("{}.{}", cassandra.keyspace, writer.table)),
        group: pipeline.consumer.as_ref().map_or_else(String::new, |consumer| consumer.group.clone()),
        lag: snapshot.partitions.iter().map(PartitionView::lag).sum(),
        params: pipeline.fetcher.as_ref().map_or_else(Vec::new, |fetcher| fetcher.params.clone()),
    }
}
