//! What each path answers.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use actix_web::guard::{Guard, GuardContext};
use actix_web::http::{StatusCode, header};
use actix_web::{HttpRequest, HttpResponse, web};
use forebay_schemas::run::{Cancelled, Run, RunRequest};
use forebay_schemas::snapshot::ActorState;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::events::Feed;
use super::problem::Refusal;
use crate::ledger::{Accepted, Command, Ledger, Rejection};
use crate::pipeline::Viewer;

/// The longest that one request waits for a run to change.
const WAIT_MOST: Duration = Duration::from_secs(60);
/// The largest body.
const BODY_MOST: usize = 64 << 10;
/// How many runs a list shows.
const RUNS_SHOWN: usize = 1_000;

/// Hands runs to the fetcher; there when this process fetches.
pub(crate) trait Triggers: Send + Sync {
    /// A run was asked for.
    fn trigger(&self, run: Uuid);
    /// A run was called off.
    fn cancel(&self, run: Uuid);
}

/// What the paths answer from.
#[derive(Clone)]
pub(super) struct State {
    pub(super) pipeline: String,
    pub(super) viewer: Viewer,
    pub(super) ledger: Arc<Ledger>,
    pub(super) journal: Option<PathBuf>,
    pub(super) triggers: Option<Arc<dyn Triggers>>,
}

type Answer = Result<HttpResponse, Refusal>;

pub(super) fn configure(config: &mut web::ServiceConfig) {
    let json = web::JsonConfig::default().limit(BODY_MOST).content_type_required(false).error_handler(|error, _| {
        Refusal::new(StatusCode::BAD_REQUEST, "body", "the body is not what is expected", error.to_string()).into()
    });
    config
        .app_data(json)
        .app_data(web::PayloadConfig::new(BODY_MOST))
        .route("/v1/pipelines/{pipeline}/runs/{key}", web::put().to(request_run))
        .route("/v1/runs", web::get().to(list_runs))
        .route("/v1/runs/{id}", web::get().to(get_run))
        .route("/v1/runs/{id}/cancel", web::post().to(cancel_run))
        .route("/v1/events", web::get().to(events))
        .route("/v1/snapshot", web::get().to(snapshot))
        .route("/metrics", web::get().to(super::metrics::metrics))
        .route("/healthz", web::get().to(healthz))
        .route("/readyz", web::get().to(readyz))
        .default_service(web::to(nothing_here));
}

/// Lets a request through that names a loopback host: see the module.
pub(super) struct LoopbackHost;

impl Guard for LoopbackHost {
    fn check(&self, context: &GuardContext<'_>) -> bool {
        let host = context.head().headers().get(header::HOST).and_then(|host| host.to_str().ok());
        host.is_some_and(names_loopback)
    }
}

fn names_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

async fn request_run(state: web::Data<State>, path: web::Path<(String, String)>, body: web::Bytes) -> Answer {
    let (pipeline, key) = path.into_inner();
    if pipeline != state.pipeline {
        return Err(Refusal::new(
            StatusCode::NOT_FOUND,
            "pipeline.unknown",
            format!("no pipeline {pipeline:?} here"),
            format!("this process runs {:?}", state.pipeline),
        ));
    }
    let request: RunRequest = if body.is_empty() {
        RunRequest::default()
    } else {
        serde_json::from_slice(&body).map_err(|cause| {
            Refusal::new(StatusCode::BAD_REQUEST, "body", "the body is not a run request", format!("{cause}; write {{\"attempt\": 1}}"))
        })?
    };
    let Some(triggers) = &state.triggers else {
        return Err(Refusal::new(
            StatusCode::CONFLICT,
            "pipeline.no_fetcher",
            "this process does not fetch",
            "ask the process that has the role `ingest`, or add [fetcher] and [producer] to the pipeline file",
        ));
    };
    let accepted = state.ledger.request(&key, request.attempt, request.spec())?;
    if let Accepted::New(run) = accepted {
        triggers.trigger(run);
    }
    let run = known(&state, accepted.id()).await?;
    let mut answer = match accepted {
        Accepted::New(_) => HttpResponse::Created(),
        Accepted::Same(_) => HttpResponse::Ok(),
    };
    Ok(answer.insert_header((header::LOCATION, format!("/v1/runs/{}", run.id))).json(run))
}

#[derive(Deserialize)]
struct Wait {
    wait: Option<String>,
}

async fn get_run(state: web::Data<State>, path: web::Path<Uuid>, query: web::Query<Wait>) -> Answer {
    let id = path.into_inner();
    let wait = match &query.wait {
        None => Duration::ZERO,
        Some(text) => humantime::parse_duration(text).map_err(|cause| {
            Refusal::new(
                StatusCode::BAD_REQUEST,
                "wait",
                format!("wait={text:?} is not a length of time"),
                format!("{cause}; write wait=30s"),
            )
        })?,
    };
    let mut changes = state.ledger.watch();
    let before = known(&state, id).await?;
    if before.terminal || wait.is_zero() {
        return Ok(HttpResponse::Ok().json(before));
    }
    let changed = async {
        // The ledger outlives the API, so the sender is never gone.
        while changes.changed().await.is_ok() {
            if state.ledger.run(id).as_ref() != Some(&before) {
                break;
            }
        }
    };
    let _ = tokio::time::timeout(wait.min(WAIT_MOST), changed).await;
    Ok(HttpResponse::Ok().json(known(&state, id).await?))
}

async fn list_runs(state: web::Data<State>) -> Answer {
    #[derive(Serialize)]
    struct Listing {
        runs: Vec<Run>,
    }
    let runs = state.ledger.recent(RUNS_SHOWN);
    state.ledger.settled().await?;
    Ok(HttpResponse::Ok().json(Listing { runs }))
}

async fn cancel_run(state: web::Data<State>, path: web::Path<Uuid>) -> Answer {
    let id = path.into_inner();
    state.ledger.submit(Command::Cancel { run: id, cancelled: Cancelled { by: "operator".into(), reason: String::new() } })?;
    if let Some(triggers) = &state.triggers {
        triggers.cancel(id);
    }
    Ok(HttpResponse::Ok().json(known(&state, id).await?))
}

/// A run as it is on the disk: nothing is answered that a crash could take back.
async fn known(state: &State, id: Uuid) -> Result<Run, Refusal> {
    let run = state.ledger.run(id).ok_or(Rejection::Unknown(id))?;
    state.ledger.settled().await?;
    Ok(run)
}

async fn snapshot(state: web::Data<State>) -> Answer {
    Ok(HttpResponse::Ok().json(state.viewer.snapshot()))
}

#[derive(Deserialize)]
struct From {
    from: Option<u64>,
}

/// From the event asked for on, or after the last one that came, or what happens from here on.
async fn events(state: web::Data<State>, query: web::Query<From>, request: HttpRequest) -> Answer {
    let Some(folder) = &state.journal else {
        return Err(Refusal::new(StatusCode::NOT_FOUND, "journal.off", "this process keeps no journal", "look at the snapshot instead"));
    };
    let last = match request.headers().get("Last-Event-ID") {
        None => None,
        Some(text) => Some(text.to_str().ok().and_then(|text| text.trim().parse::<u64>().ok()).ok_or_else(|| {
            Refusal::new(
                StatusCode::BAD_REQUEST,
                "event.id",
                "Last-Event-ID is no event",
                "it is the id of the last event that came, a number",
            )
        })?),
    };
    let from = last.map(|last| last.saturating_add(1)).or(query.from).unwrap_or_else(|| state.ledger.last_event() + 1);
    let feed = Feed::new(folder, from.max(1), state.ledger.durable());
    Ok(HttpResponse::Ok().content_type("text/event-stream").insert_header((header::CACHE_CONTROL, "no-store")).streaming(feed.stream()))
}

async fn healthz() -> Answer {
    Ok(HttpResponse::Ok().content_type("text/plain").body("ok\n"))
}

/// Ready when every actor is at work; else 503, and which are not.
async fn readyz(state: web::Data<State>) -> Answer {
    let actors = state.viewer.snapshot().actors;
    let away: Vec<String> = actors
        .into_iter()
        .filter(|actor| !matches!(actor.state, ActorState::Up | ActorState::Ended))
        .map(|actor| format!("{} is {:?}: {}", actor.path, actor.state, actor.note.or(actor.last_exit).unwrap_or_default()))
        .collect();
    if away.is_empty() {
        return Ok(HttpResponse::Ok().content_type("text/plain").body("ready\n"));
    }
    Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "pipeline.not_ready", "not every actor is at work", away.join("; ")))
}

async fn nothing_here(request: HttpRequest) -> Answer {
    Err(Refusal::new(
        StatusCode::NOT_FOUND,
        "path.unknown",
        format!("no {} {} here", request.method(), request.path()),
        "see the table in the documentation of the control API",
    ))
}

/// What a request with a foreign Host header gets.
pub(super) async fn foreign_host() -> Answer {
    Err(Refusal::new(StatusCode::FORBIDDEN, "host", "this host is not served", "ask 127.0.0.1 or localhost"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_hosts_are_served() {
        for host in ["localhost", "localhost:7070", "127.0.0.1:7070", "127.0.0.1", "[::1]:7070"] {
            assert!(names_loopback(host), "{host}");
        }
        for host in ["evil.example", "evil.example:7070", "127.0.0.1.evil.example", "10.0.0.1:7070", "", "[::2]:1"] {
            assert!(!names_loopback(host), "{host}");
        }
    }
}
