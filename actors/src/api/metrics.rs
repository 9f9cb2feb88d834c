//! `GET /metrics`: what Prometheus scrapes.

use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, web};
use forebay_schemas::metrics::{Format, render};

use super::extract::Asked;
use super::{Answer, State};

/// The metrics of a look at the pipeline as it is now.
pub(super) async fn metrics(state: web::Data<State>, request: HttpRequest, _: Asked) -> Answer {
    let accept = request.headers().get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    let format = Format::accepted(accept);
    let text = render(&state.parts.snapshots.snapshot(), format);
    Ok(HttpResponse::Ok().insert_header((header::CONTENT_TYPE, format.content_type())).body(text))
}
