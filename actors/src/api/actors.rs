//! The actors, and their restart.

use actix_web::{HttpResponse, web};
use forebay_schemas::api::{Actors, Reason};
use forebay_schemas::event::Event;
use forebay_schemas::problem;
use forebay_schemas::snapshot::{ActorState, ActorView};

use super::auth::Caller;
use super::error::ApiError;
use super::extract::{Body, Params, reason};
use super::{ApiResult, State};

pub(super) async fn actors(state: web::Data<State>, _: Params) -> ApiResult {
    Ok(HttpResponse::Ok().json(Actors { actors: state.api.snapshots.snapshot().actors }))
}

/// Ends an actor, which its supervisor restarts as after a crash. The request is durable in the
/// journal before the actor ends.
///
/// An actor that is being restarted already is answered with that state, and nothing changes: the
/// caller gets the new incarnation that it asked for.
pub(super) async fn restart(state: web::Data<State>, params: Params, caller: web::ReqData<Caller>, body: Body<Reason>) -> ApiResult {
    let path = params.path("path");
    let Some(actor) = find(&state, path) else {
        return Err(ApiError::new(&problem::ACTOR_UNKNOWN, format!("there is no actor {path:?}")));
    };
    let why = reason(&body.0.reason)?;
    if path == "root" || path == "root/observers" || path.starts_with("root/observers/") {
        return Err(ApiError::new(&problem::ACTOR_STATE, format!("{path} serves this API")));
    }
    match actor.state {
        ActorState::Restarting => return Ok(HttpResponse::Accepted().json(actor)),
        ActorState::Ended => return Err(ended(path)),
        ActorState::Up | ActorState::Waiting | ActorState::Stuck => {}
    }
    state.api.ledger.record(Event::ActorRestartRequested { actor: path.to_owned(), by: caller.name().into(), reason: why });
    state.api.ledger.flushed().await?;
    // It may have ended by itself meanwhile, and is restarted because of that.
    if !state.api.actor_tree.end(path) && find(&state, path).is_some_and(|actor| actor.state == ActorState::Ended) {
        return Err(ended(path));
    }
    Ok(HttpResponse::Accepted().json(actor))
}

fn find(state: &State, path: &str) -> Option<ActorView> {
    state.api.snapshots.snapshot().actors.into_iter().find(|actor| actor.path == path)
}

fn ended(path: &str) -> ApiError {
    ApiError::new(&problem::ACTOR_STATE, format!("{path} has ended, and its supervisor does not restart it"))
}
