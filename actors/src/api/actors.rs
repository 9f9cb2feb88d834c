//! The actors, and the restart of one.

use actix_web::{HttpResponse, web};
use forebay_schemas::api::{Actors, Reason};
use forebay_schemas::event::Event;
use forebay_schemas::problem;
use forebay_schemas::snapshot::ActorState;

use super::auth::Caller;
use super::error::ApiError;
use super::extract::{Asked, Body, reason};
use super::{Answer, State};

pub(super) async fn actors(state: web::Data<State>, _: Asked) -> Answer {
    Ok(HttpResponse::Ok().json(Actors { actors: state.parts.snapshots.snapshot().actors }))
}

/// It is in the journal, and on the disk, before the actor ends. Its supervisor does the rest, as after a crash.
pub(super) async fn restart(state: web::Data<State>, asked: Asked, caller: web::ReqData<Caller>, body: Body<Reason>) -> Answer {
    let path = asked.path("path");
    let Some(actor) = state.parts.snapshots.snapshot().actors.into_iter().find(|actor| actor.path == path) else {
        return Err(ApiError::new(&problem::ACTOR_UNKNOWN, format!("no actor is at {path:?}")));
    };
    let why = reason(&body.0.reason)?;
    if path == "root" || path == "root/observers" || path.starts_with("root/observers/") {
        return Err(ApiError::new(&problem::ACTOR_STATE, format!("{path} carries this API")));
    }
    if matches!(actor.state, ActorState::Restarting | ActorState::Ended) {
        return Err(ApiError::new(&problem::ACTOR_STATE, format!("{path} is {:?}", actor.state)));
    }
    state.parts.ledger.record(Event::ActorRestartRequested { actor: path.to_owned(), by: caller.name().into(), reason: why });
    state.parts.ledger.flushed().await?;
    if !state.parts.actor_tree.end(path) {
        return Err(ApiError::new(&problem::ACTOR_STATE, format!("{path} has just ended")));
    }
    Ok(HttpResponse::Accepted().json(actor))
}
