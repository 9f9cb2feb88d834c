//! The last lines of the log, and the next ones.
//!
//! Guarantees:
//! * Lines arrive in sequence, each once for a client that continues after `upto`. The response
//!   states how many were lost in between.
//! * No line contains a secret, a record or the query of a URL: they are never logged, so nothing
//!   is masked here.
//!
//! Does not guarantee more than the last lines. The rest is on stderr.

use actix_web::HttpResponse;
use forebay_schemas::api::LogLevel;

use super::extract::Params;
use super::{ApiResult, MAX_WAIT};
use crate::telemetry::LogRing;

pub(super) async fn logs(params: Params) -> ApiResult {
    let min_level = params.text("level").and_then(LogLevel::parse).unwrap_or(LogLevel::Info);
    let (after, limit, wait) = (params.integer("after"), params.limit(), params.duration("wait").unwrap_or_default());
    let ring = LogRing::global();
    let mut newest = ring.watch();
    let come = async {
        loop {
            let logs = ring.read(after, min_level, limit);
            // A higher number is of another process; the client learns that immediately.
            let other_process = after.is_some_and(|after| after > logs.upto);
            if !logs.lines.is_empty() || other_process || newest.changed().await.is_err() {
                return logs;
            }
        }
    };
    let logs = tokio::time::timeout(wait.min(MAX_WAIT), come).await.unwrap_or_else(|_| ring.read(after, min_level, limit));
    Ok(HttpResponse::Ok().json(logs))
}
