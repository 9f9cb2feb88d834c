//! The snapshot of the whole pipeline, and its alerts.

use actix_web::{HttpResponse, web};
use forebay_schemas::api::Alerts;

use super::extract::Asked;
use super::{Answer, State};

pub(super) async fn snapshot(state: web::Data<State>, _: Asked) -> Answer {
    Ok(HttpResponse::Ok().json(state.parts.snapshots.snapshot()))
}

pub(super) async fn alerts(state: web::Data<State>, _: Asked) -> Answer {
    Ok(HttpResponse::Ok().json(Alerts { alerts: state.parts.snapshots.snapshot().alerts }))
}
