//! `GET /metrics`: the metrics for Prometheus.

use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, web};
use forebay_schemas::metrics::{Format, render};

use super::extract::Params;
use super::{ApiResult, State};

/// The metrics of a new snapshot.
pub(super) async fn metrics(state: web::Data<State>, request: HttpRequest, _: Params) -> ApiResult {
    let accept = request.headers().get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    let format = Format::accepted(accept);
    let text = render(&state.api.snapshots.snapshot(), format);
    Ok(HttpResponse::Ok().insert_header((header::CONTENT_TYPE, format.content_type())).body(text))
}
