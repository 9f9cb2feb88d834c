//! The last lines of the log, and those that come.
//!
//! Guarantee: lines come in sequence, each once for who goes on after `upto`; how many were lost in between is said. What a line must not hold is not
//! logged at all, so nothing is hidden here: no secret, no record, no query of an address. Not guaranteed: more than the last lines; the rest is
//! where stderr goes.

use actix_web::HttpResponse;
use forebay_schemas::api::LogLevel;

use super::extract::Asked;
use super::{Answer, WAIT_MOST};
use crate::telemetry::LogRing;

pub(super) async fn logs(asked: Asked) -> Answer {
    let least = asked.text("level").and_then(LogLevel::parse).unwrap_or(LogLevel::Info);
    let (after, limit, wait) = (asked.whole("after"), asked.limit(), asked.span("wait").unwrap_or_default());
    let ring = LogRing::of_process();
    let mut newest = ring.watch();
    let come = async {
        loop {
            let logs = ring.read(after, least, limit);
            // A number that is not reached is of another process: who asks is to see that at once.
            let other = after.is_some_and(|after| after > logs.upto);
            if !logs.lines.is_empty() || other || newest.changed().await.is_err() {
                return logs;
            }
        }
    };
    let logs = tokio::time::timeout(wait.min(WAIT_MOST), come).await.unwrap_or_else(|_| ring.read(after, least, limit));
    Ok(HttpResponse::Ok().json(logs))
}
