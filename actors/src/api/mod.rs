//! The control API over HTTP: runs, snapshots, and operations on the pipeline.
//!
//! Guarantees:
//! * A response never waits for an actor, and a slow or failed API never delays a record.
//! * A request is authorized before anything else (`auth`).
//! * One table, `forebay_schemas::routes`, is the source of the router (`router`), of the checks of
//!   a request (`extract`) and of the OpenAPI file.
//! * Memory is bounded: connections, bodies, event streams and reads of Kafka are limited in number
//!   and in bytes.
//! * Clients that shake hands or send slowly keep no one else from being served
//!   (`waiting_connections`).
//! * With `[api] tls` nothing is served without TLS (`server`, `tls`).
//!
//! Does not guarantee availability under overload: excess requests get 503 with `Retry-After`.
//!
//! | file | routes |
//! | --- | --- |
//! | `runs` | request, list, get and await, cancel a run; cursors of reads |
//! | `pipelines` | the pipeline; pause, drain, resume |
//! | `operation_plans` | plan and apply a replay, a redrive or a cursor change |
//! | `snapshot` | the snapshot, the alerts |
//! | `batches`, `topics`, `actors` | the last micro-batches; the topics; the actors and their restart |
//! | `kafka_records` | records and dead letters from Kafka |
//! | `events` | the journal as server-sent events |
//! | `logs` | the last log lines and the next ones |
//! | `health`, `metrics`, `version` | `/healthz`, `/readyz`, `/openapi.json`; `/metrics`; version and role |

mod actor;
mod actors;
mod auth;
mod batches;
mod dead_letters;
mod error;
mod events;
mod extract;
mod file_version;
mod health;
mod kafka_records;
mod logs;
mod metrics;
mod operation_plans;
mod pipelines;
mod router;
#[cfg(test)]
mod router_tests;
mod runs;
mod server;
mod snapshot;
mod tls;
mod topics;
mod version;
mod waiting_connections;

use std::time::Duration;

use actix_web::HttpResponse;
use tokio::sync::Semaphore;

pub use actor::{Api, ApiParams, Listener};
pub use auth::{Authenticator, TokenError};
pub use tls::{ApiTls, check_files, check_validity};

use self::error::ApiError;

/// Concurrent reads of Kafka.
const MAX_CONCURRENT_READS: usize = 4;
/// The longest wait of a request for a change.
const MAX_WAIT: Duration = Duration::from_secs(60);

/// The state of the handlers.
pub(super) struct State {
    api: ApiParams,
    plans: operation_plans::Plans,
    subscribers: events::Subscribers,
    reads: Semaphore,
    wrong_tokens: auth::WrongTokens,
}

impl State {
    fn new(api: ApiParams) -> Self {
        Self {
            api,
            plans: operation_plans::Plans::default(),
            subscribers: events::Subscribers::new(),
            reads: Semaphore::new(MAX_CONCURRENT_READS),
            wrong_tokens: auth::WrongTokens::new(),
        }
    }
}

type ApiResult = Result<HttpResponse, ApiError>;
