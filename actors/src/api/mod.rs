//! The control API over HTTP: runs, a look at the whole pipeline, and what operating it needs.
//!
//! Guarantee: an answer never waits for an actor; a slow or dead API never holds a record up. Who may ask what is decided before anything else
//! (`gate`); what a path takes and answers is in one table (`forebay_schemas::routes`), by which the router is built (`router`), requests are checked
//! (`ask`) and the OpenAPI file is written. Memory is bounded: so many connections, bodies, streams of events and reads of Kafka at a time, and
//! so many bytes each. Not guaranteed: an answer for everybody; who comes beyond the bounds is told to come again.
//!
//! | file | what it answers |
//! | --- | --- |
//! | `runs` | runs: ask, list, look and wait, call off |
//! | `pipelines` | the pipeline; pause, drain, resume |
//! | `plans` | replay and redrive: plan, apply |
//! | `looks` | snapshot, batches, topics, actors and their restart, alerts, version, who one is |
//! | `records` | records and dead letters out of Kafka |
//! | `events` | the journal as server-sent events |
//! | `logs` | the last log lines, and those that come |
//! | `health` | `/healthz`, `/readyz`, `/openapi.json` |
//! | `metrics` | `/metrics` |

mod actor;
mod actors;
mod auth;
mod batches;
mod error;
mod events;
mod extract;
mod health;
mod logs;
mod meta;
mod metrics;
mod pipelines;
mod plans;
mod records;
mod router;
mod runs;
mod snapshot;
#[cfg(test)]
mod tests;
mod topics;

use std::time::Duration;

use actix_web::HttpResponse;
use tokio::sync::Semaphore;

pub use actor::{Api, ApiParts, Listener};
pub use auth::{Gate, TokenError};

use self::error::ApiError;

/// The most reads of Kafka at once.
const READS_MOST: usize = 4;
/// The longest that one request waits for something to change.
const WAIT_MOST: Duration = Duration::from_secs(60);

/// What the paths answer from.
pub(super) struct State {
    parts: ApiParts,
    plans: plans::Plans,
    crowd: events::Crowd,
    reads: Semaphore,
}

impl State {
    fn new(parts: ApiParts) -> Self {
        Self { parts, plans: plans::Plans::default(), crowd: events::Crowd::new(), reads: Semaphore::new(READS_MOST) }
    }
}

type Answer = Result<HttpResponse, ApiError>;
