//! The snapshot of the pipeline, and its alerts.

use actix_web::{HttpResponse, web};
use forebay_schemas::api::Alerts;

use super::extract::Params;
use super::{ApiResult, State};

pub(super) async fn snapshot(state: web::Data<State>, _: Params) -> ApiResult {
    Ok(HttpResponse::Ok().json(state.api.snapshots.snapshot()))
}

pub(super) async fn alerts(state: web::Data<State>, _: Params) -> ApiResult {
    Ok(HttpResponse::Ok().json(Alerts { alerts: state.api.snapshots.snapshot().alerts }))
}
