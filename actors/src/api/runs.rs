//! Runs: ask for one, list them, look at one and wait for it, call one off; and where the reads are that they are of.
//!
//! Guarantee: nothing is answered that a crash could take back. A request for a run, and a look at it for as long as it waits, keep its lease.

use actix_web::http::header;
use actix_web::{HttpResponse, web};
use forebay_schemas::api::{Cursors, Reason, Runs};
use forebay_schemas::problem;
use forebay_schemas::run::{Cancelled, Run, RunRequest, RunState};
use uuid::Uuid;

use super::auth::Caller;
use super::error::ApiError;
use super::extract::{Asked, OptionalBody, reason};
use super::pipelines::this_one;
use super::{Answer, State, WAIT_MOST};
use crate::ledger::{Accepted, Command, Rejection};
use crate::observers::cursors_of;

pub(super) async fn request(state: web::Data<State>, asked: Asked, body: OptionalBody<RunRequest>) -> Answer {
    this_one(&state, &asked)?;
    let OptionalBody(request) = body;
    let Some(fetcher) = &state.parts.fetcher else {
        return Err(ApiError::new(&problem::PIPELINE_NO_FETCHER, "it has no [fetcher], or runs without the role `ingest`"));
    };
    let (attempt, spec) = (request.attempt, request.spec());
    spec.check().map_err(|error| ApiError::new(&problem::RUN_SPEC, error.to_string()))?;
    let allowed = state.parts.pipeline.fetcher.as_ref().map(|fetcher| fetcher.params.as_slice()).unwrap_or_default();
    if let Some(param) = spec.params.keys().find(|param| !allowed.contains(param)) {
        let allowed = if allowed.is_empty() { "[fetcher] params names none".to_owned() } else { allowed.join(", ") };
        return Err(ApiError::new(&problem::RUN_PARAMS, format!("{param:?} can't be set; these can: {allowed}")));
    }
    let accepted = state.parts.ledger.request(asked.path("key"), attempt, spec)?;
    let _lease = state.parts.ledger.renew_lease(accepted.id());
    if let Accepted::New(run) = accepted {
        fetcher.trigger(run);
    }
    let run = known(&state, accepted.id()).await?;
    let mut answer = match accepted {
        Accepted::New(_) => HttpResponse::Created(),
        Accepted::Same(_) => HttpResponse::Ok(),
    };
    Ok(answer.insert_header((header::LOCATION, format!("/v1/runs/{}", run.id))).json(run))
}

pub(super) async fn get(state: web::Data<State>, asked: Asked) -> Answer {
    let (ledger, id) = (&state.parts.ledger, asked.id());
    let mut changes = ledger.watch();
    let before = known(&state, id).await?;
    let wait = asked.span("wait").unwrap_or_default();
    if before.terminal {
        return Ok(HttpResponse::Ok().json(before));
    }
    let _lease = ledger.renew_lease(id);
    if wait.is_zero() {
        return Ok(HttpResponse::Ok().json(before));
    }
    let changed = async {
        // The ledger outlives the API, so the sender is never gone.
        while changes.changed().await.is_ok() {
            if ledger.run(id).as_ref() != Some(&before) {
                break;
            }
        }
    };
    let _ = tokio::time::timeout(wait.min(WAIT_MOST), changed).await;
    Ok(HttpResponse::Ok().json(known(&state, id).await?))
}

pub(super) async fn list(state: web::Data<State>, asked: Asked) -> Answer {
    let wanted: Option<RunState> = asked.text("state").and_then(|word| serde_json::from_value(word.into()).ok());
    let is_wanted = |run: &Run| wanted.is_none_or(|state| run.state == state);
    let runs = state.parts.ledger.recent_where(asked.limit(), is_wanted);
    state.parts.ledger.flushed().await?;
    Ok(HttpResponse::Ok().json(Runs { runs }))
}

pub(super) async fn cursors(state: web::Data<State>, asked: Asked) -> Answer {
    let cursors = state.parts.ledger.cursors();
    state.parts.ledger.flushed().await?;
    Ok(HttpResponse::Ok().json(Cursors { cursors: cursors_of(&cursors, asked.limit()), total: cursors.len() as u64 }))
}

pub(super) async fn cancel(state: web::Data<State>, asked: Asked, caller: web::ReqData<Caller>, body: OptionalBody<Reason>) -> Answer {
    let why = if body.0.reason.is_empty() { String::new() } else { reason(&body.0.reason)? };
    let id = asked.id();
    state.parts.ledger.submit(Command::CancelRun { run: id, cancelled: Cancelled { by: caller.name().into(), reason: why } })?;
    if let Some(fetcher) = &state.parts.fetcher {
        fetcher.cancel(id);
    }
    Ok(HttpResponse::Ok().json(known(&state, id).await?))
}

/// A run as it is on the disk.
async fn known(state: &State, id: Uuid) -> Result<Run, ApiError> {
    let run = state.parts.ledger.run(id).ok_or(Rejection::Unknown(id))?;
    state.parts.ledger.flushed().await?;
    Ok(run)
}
