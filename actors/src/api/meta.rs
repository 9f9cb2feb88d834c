//! The version of the program, and the role of the caller.

use actix_web::{HttpResponse, web};
use forebay_schemas::api::{Version, WhoAmI};

use super::Answer;
use super::auth::Caller;
use super::extract::Asked;

pub(super) async fn version(_: Asked) -> Answer {
    let version = Version { name: "forebay".into(), version: env!("CARGO_PKG_VERSION").into(), api: "v1".into() };
    Ok(HttpResponse::Ok().json(version))
}

pub(super) async fn who_am_i(_: Asked, caller: web::ReqData<Caller>) -> Answer {
    Ok(HttpResponse::Ok().json(WhoAmI { role: caller.role, by: caller.by.into() }))
}
