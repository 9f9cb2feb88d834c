//! Whether the process answers, whether every actor is at work, and what the API is.

use actix_web::{HttpResponse, web};
use forebay_schemas::problem;
use forebay_schemas::snapshot::ActorState;

use super::error::ApiError;
use super::extract::Asked;
use super::{Answer, State};

/// The file is held against the table of routes by a test.
const OPENAPI: &str = include_str!("../../../schemas/json/openapi.json");

pub(super) async fn healthz(_: Asked) -> Answer {
    Ok(HttpResponse::Ok().content_type("text/plain; charset=utf-8").body("ok\n"))
}

/// Ready when the topics and the table are there and every actor is at work; else 503, and what is not.
pub(super) async fn readyz(state: web::Data<State>, _: Asked) -> Answer {
    let actors = state.parts.snapshots.snapshot().actors;
    let missing = state.parts.snapshots.missing().into_iter().map(|need| need.missing().to_owned());
    let actors = actors
        .into_iter()
        .filter(|actor| !matches!(actor.state, ActorState::Up | ActorState::Ended))
        .map(|actor| format!("{} is {:?}: {}", actor.path, actor.state, actor.note.or(actor.last_exit).unwrap_or_default()));
    let away: Vec<String> = missing.chain(actors).collect();
    if away.is_empty() {
        return Ok(HttpResponse::Ok().content_type("text/plain; charset=utf-8").body("ready\n"));
    }
    Err(ApiError::new(&problem::PIPELINE_NOT_READY, away.join("; ")))
}

pub(super) async fn openapi(_: Asked) -> Answer {
    Ok(HttpResponse::Ok().content_type("application/json").body(OPENAPI))
}
