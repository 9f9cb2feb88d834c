//! The control API: one look at the pipeline, and runs of its fetcher, over HTTP on loopback.
//!
//! Guarantee: an answer never waits for an actor; a slow or dead API never holds a record up. It listens on loopback only and answers
//! only requests that name a loopback host, so that a page in a browser can't reach it through a name of its own.
//!
//! | method, path | use |
//! | --- | --- |
//! | `PUT /v1/pipelines/{pipeline}/runs/{key}` | ask for a run: 201 new, 200 the same or attached |
//! | `GET /v1/runs` | the runs, newest first |
//! | `GET /v1/runs/{id}?wait=30s` | one run; waits for its next change |
//! | `POST /v1/runs/{id}/cancel` | call it off; 200, also when it has ended |
//! | `GET /v1/snapshot` | the whole pipeline |
//! | `GET /v1/events?from=SEQ` | the journal as it grows, as server-sent events; `Last-Event-ID` goes on after one |
//! | `GET /metrics` | the same for Prometheus; [`forebay_schemas::metrics`] has the table |
//! | `GET /healthz`, `GET /readyz` | the process is up; every actor is at work |

mod actor;
mod events;
mod metrics;
mod problem;
mod routes;

pub use actor::{Api, ApiParts};
pub(crate) use routes::Triggers;
