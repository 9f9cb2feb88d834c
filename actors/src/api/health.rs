//! Liveness, readiness, and the OpenAPI file.

use actix_web::{HttpResponse, web};
use forebay_schemas::problem;
use forebay_schemas::snapshot::ActorState;

use super::error::ApiError;
use super::extract::Params;
use super::{ApiResult, State};

/// A test checks the file against the table of routes.
const OPENAPI: &str = include_str!("../../../schemas/json/openapi.json");

pub(super) async fn healthz(_: Params) -> ApiResult {
    Ok(HttpResponse::Ok().content_type("text/plain; charset=utf-8").body("ok\n"))
}

/// Ready when the topics and the table exist and every actor is up. Otherwise 503, with what is
/// missing.
pub(super) async fn readyz(state: web::Data<State>, _: Params) -> ApiResult {
    let actors = state.api.snapshots.snapshot().actors;
    let missing = state.api.snapshots.missing().into_iter().map(|need| need.missing().to_owned());
    let actors = actors
        .into_iter()
        .filter(|actor| !matches!(actor.state, ActorState::Up | ActorState::Ended))
        .map(|actor| format!("{} is {:?}: {}", actor.path, actor.state, actor.note.or(actor.last_exit).unwrap_or_default()));
    let not_ready: Vec<String> = missing.chain(actors).collect();
    if not_ready.is_empty() {
        return Ok(HttpResponse::Ok().content_type("text/plain; charset=utf-8").body("ready\n"));
    }
    Err(ApiError::new(&problem::PIPELINE_NOT_READY, not_ready.join("; ")))
}

pub(super) async fn openapi(_: Params) -> ApiResult {
    Ok(HttpResponse::Ok().content_type("application/json").body(OPENAPI))
}
