//! The contract of Forebay: the pipeline file, the API, the journal's events.
//!
//! Everything here is data. The pipeline (`forebay-actors`), the monitor (`forebay-tui`) and the
//! command line share only these types, so the monitor works the same next to the process, from
//! another machine, and over a recording.
//!
//! * [`api`]: the control API's other requests and answers.
//! * [`api_address`]: where a client finds the control API.
//! * [`closing_summary`]: what `demo` and `run --until-idle` print at the end.
//! * [`dead_letter_filter`]: which dead letters an operation is about.
//! * [`dead_letters`]: dead letters as the API lists them.
//! * [`desired`]: the desired state of a pipeline.
//! * [`event`]: the events of the journal, in every version ever written.
//! * [`error_class`]: the classes of failures.
//! * [`http_url`]: URLs that are shown without their secrets.
//! * [`json_pointer`]: JSON pointers (RFC 6901).
//! * [`lineage`]: a run as OpenLineage events.
//! * [`metrics`]: every metric and alert, computed from a snapshot.
//! * [`offset`]: offsets, ranges, checkpoints and epochs of partitions.
//! * [`pipeline`]: the pipeline file `forebay.toml`, its checks and its errors (with line and
//!   remedy).
//! * [`printable()`]: text from outside as a terminal may show it.
//! * [`run_plan`]: what `run` would do, as printed by `forebay plan`.
//! * [`problem`], [`routes`]: the control API's errors and paths; the OpenAPI file is made from
//!   them.
//! * [`source_read`]: one way of reading a source, and its position.
//! * [`record_schema`]: the JSON Schema of one record, as far as Forebay enforces it.
//! * [`rejects`]: counts of dead letters by reason.
//! * [`run`]: a run of the fetcher, from the request until its records are readable in the table.
//! * [`snapshot`]: the state of a whole pipeline, as `GET /v1/snapshot` answers it.
//! * [`template`]: text of the pipeline file with `{{ NAME }}` in it.
//! * [`topic_id`]: the id of a topic.
//! * [`traces`]: batches and runs as OpenTelemetry spans.
//! * [`watermark`]: how far an incremental source is read.
//! * [`window`]: the part of a source's time that a run reads.

pub mod api;
pub mod api_address;
pub mod closing_summary;
pub mod dead_letter_filter;
pub mod dead_letters;
pub mod desired;
pub mod drift;
pub mod error_class;
pub mod event;
pub mod http_url;
pub mod json_integer;
pub mod json_pointer;
pub mod lineage;
pub mod metrics;
pub mod offset;
#[cfg(test)]
mod openapi_tests;
pub mod pipeline;
mod printable;
pub mod problem;
pub mod record_schema;
pub mod rejects;
pub mod routes;
pub mod run;
pub mod run_plan;
mod secret_name;
pub mod snapshot;
pub mod source_read;
pub mod template;
pub mod topic_id;
pub mod traces;
pub mod watermark;
pub mod window;

pub use printable::printable;
