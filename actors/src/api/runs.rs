//! Runs: request, list, get and await, cancel; and the cursors of their reads.
//!
//! Guarantees:
//! * A response contains durable state only, which no crash takes back.
//! * Requesting a run, and getting it for as long as the request waits, renews its lease.

use actix_web::http::header;
use actix_web::{HttpResponse, web};
use forebay_schemas::api::{Cursors, Reason, Runs};
use forebay_schemas::problem;
use forebay_schemas::run::{Cancelled, Run, RunRequest, RunState};
use uuid::Uuid;

use super::auth::Caller;
use super::error::ApiError;
use super::extract::{OptionalBody, Params, reason};
use super::pipelines::check_pipeline;
use super::{ApiResult, MAX_WAIT, State};
use crate::ledger::{Accepted, Command, Rejection};
use crate::observers::cursors_of;

pub(super) async fn request(state: web::Data<State>, params: Params, body: OptionalBody<RunRequest>) -> ApiResult {
    check_pipeline(&state, &params)?;
    let OptionalBody(request) = body;
    let Some(fetcher) = &state.api.fetcher else {
        return Err(ApiError::new(&problem::PIPELINE_NO_FETCHER, "the pipeline has no [fetcher], or runs without the role `ingest`"));
    };
    let (attempt, spec) = (request.attempt, request.spec());
    spec.check().map_err(|error| ApiError::new(&problem::RUN_SPEC, error.to_string()))?;
    let section = state.api.pipeline.fetcher.as_ref();
    let allowed = section.map(|fetcher| fetcher.params.as_slice()).unwrap_or_default();
    if let Some(param) = spec.params.keys().find(|param| !allowed.contains(param)) {
        let allowed = if allowed.is_empty() { "none".to_owned() } else { allowed.join(", ") };
        return Err(ApiError::new(&problem::RUN_PARAMS, format!("{param:?} is not allowed; [fetcher] params allows: {allowed}")));
    }
    if let Some(section) = section {
        section.check_window(spec.window).map_err(|error| ApiError::new(&problem::RUN_WINDOW, error))?;
    }
    let accepted = state.api.ledger.request(params.path("key"), attempt, spec)?;
    let _lease = state.api.ledger.renew_lease(accepted.id());
    if let Accepted::New(run) = accepted {
        fetcher.trigger(run);
    }
    let run = durable_run(&state, accepted.id()).await?;
    let mut response = match accepted {
        Accepted::New(_) => HttpResponse::Created(),
        Accepted::Same(_) => HttpResponse::Ok(),
    };
    Ok(response.insert_header((header::LOCATION, format!("/v1/runs/{}", run.id))).json(run))
}

pub(super) async fn get(state: web::Data<State>, params: Params) -> ApiResult {
    let (ledger, id) = (&state.api.ledger, params.id());
    let mut changes = ledger.watch();
    let before = durable_run(&state, id).await?;
    let wait = params.duration("wait").unwrap_or_default();
    if before.terminal {
        return Ok(HttpResponse::Ok().json(before));
    }
    let _lease = ledger.renew_lease(id);
    if wait.is_zero() {
        return Ok(HttpResponse::Ok().json(before));
    }
    let changed = async {
        // The ledger outlives the API, so the sender is never dropped.
        while changes.changed().await.is_ok() {
            if ledger.run(id).as_ref() != Some(&before) {
                break;
            }
        }
    };
    let _ = tokio::time::timeout(wait.min(MAX_WAIT), changed).await;
    Ok(HttpResponse::Ok().json(durable_run(&state, id).await?))
}

pub(super) async fn list(state: web::Data<State>, params: Params) -> ApiResult {
    let wanted: Option<RunState> = params.text("state").and_then(|word| serde_json::from_value(word.into()).ok());
    let is_wanted = |run: &Run| wanted.is_none_or(|state| run.state == state);
    let runs = state.api.ledger.recent_where(params.limit(), is_wanted);
    state.api.ledger.flushed().await?;
    Ok(HttpResponse::Ok().json(Runs { runs }))
}

pub(super) async fn cursors(state: web::Data<State>, params: Params) -> ApiResult {
    let (cursors, watermarks) = (state.api.ledger.cursors(), state.api.ledger.watermarks());
    state.api.ledger.flushed().await?;
    Ok(HttpResponse::Ok().json(Cursors { cursors: cursors_of(&cursors, params.limit()), total: cursors.len() as u64, watermarks }))
}

pub(super) async fn cancel(state: web::Data<State>, params: Params, caller: web::ReqData<Caller>, body: OptionalBody<Reason>) -> ApiResult {
    let why = if body.0.reason.is_empty() { String::new() } else { reason(&body.0.reason)? };
    let id = params.id();
    state.api.ledger.submit(Command::CancelRun { run: id, cancelled: Cancelled { by: caller.name().into(), reason: why } })?;
    if let Some(fetcher) = &state.api.fetcher {
        fetcher.cancel(id);
    }
    Ok(HttpResponse::Ok().json(durable_run(&state, id).await?))
}

/// A run, after its state is durable.
async fn durable_run(state: &State, id: Uuid) -> Result<Run, ApiError> {
    let run = state.api.ledger.run(id).ok_or(Rejection::Unknown(id))?;
    state.api.ledger.flushed().await?;
    Ok(run)
}
