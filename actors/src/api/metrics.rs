//! `GET /metrics`: numbers for Prometheus.

use actix_web::{HttpResponse, web};

use super::ask::Asked;
use super::{Answer, State};

pub(super) async fn metrics(_: web::Data<State>, _: Asked) -> Answer {
    Ok(HttpResponse::Ok().content_type("text/plain; version=0.0.4; charset=utf-8").body("# forebay\n"))
}
