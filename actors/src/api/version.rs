//! The version of the binary, and the role of the caller.

use actix_web::{HttpResponse, web};
use forebay_schemas::api::{Version, WhoAmI};

use super::ApiResult;
use super::auth::Caller;
use super::extract::Params;

pub(super) async fn version(_: Params) -> ApiResult {
    let version = Version { name: "forebay".into(), version: env!("CARGO_PKG_VERSION").into(), api: "v1".into() };
    Ok(HttpResponse::Ok().json(version))
}

pub(super) async fn who_am_i(_: Params, caller: web::ReqData<Caller>) -> ApiResult {
    Ok(HttpResponse::Ok().json(WhoAmI { role: caller.role, by: caller.by.into() }))
}
