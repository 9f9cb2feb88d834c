//! The contract of Forebay: what the pipeline file says, what the API answers, what an event is.
//!
//! Everything here is data. The pipeline (`forebay-actors`), the monitor (`forebay-tui`) and the command line know each other
//! through these types only, so the monitor works the same beside the process, from another machine or over a recording.
//!
//! * [`api`]: what else the control API takes and answers.
//! * [`pipeline`]: the pipeline file `forebay.toml`, its checks and its errors (with the line and the remedy).
//! * [`event`]: the events of the journal, in every version ever written.
//! * [`lineage`]: a run as events of OpenLineage.
//! * [`metrics`]: every metric and alert, read from a snapshot.
//! * [`record`]: the JSON Schema of one record, as far as Forebay enforces it.
//! * [`problem`], [`routes`]: the control API's errors and its paths; the OpenAPI file follows from them.
//! * [`plan`]: what `run` would do, as `forebay plan` says it.
//! * [`offset`]: offsets and half-open ranges `[from, to)` of a partition.
//! * [`read`]: what a sequence of pages is of, and how far it has come.
//! * [`rejects`]: why records are dead letters, counted.
//! * [`run`]: a run of the fetcher, from the request until its records are readable in the table.
//! * [`snapshot`]: one look at a whole pipeline, as `GET /v1/snapshot` answers it.
//! * [`traces`]: batches and runs as spans of OpenTelemetry.
//! * [`topic`]: the id of a topic.
//! * [`summary`]: what `demo` and `run --until-idle` say at the end.

pub mod api;
pub mod closing_summary;
pub mod desired;
pub mod event;
pub mod failure;
pub mod json_pointer;
pub mod lineage;
pub mod metrics;
pub mod offset;
#[cfg(test)]
mod openapi_tests;
pub mod pipeline;
pub mod plan;
pub mod problem;
pub mod read;
pub mod record_schema;
pub mod rejects;
pub mod routes;
pub mod run;
pub mod snapshot;
pub mod topic;
pub mod traces;
