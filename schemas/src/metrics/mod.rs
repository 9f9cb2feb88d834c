//! Every metric and every alert, in one table: `GET /metrics`, the reference in `docs/METRICS.md`, the dashboard and the alert rules in
//! `docs/grafana` come from here, and so does what the snapshot says is wrong.
//!
//! Guarantee: a metric is read from a [`Snapshot`](crate::snapshot::Snapshot), so it says what the monitor shows; what is not known is absent, never
//! −1; labels are of bounded sets (partitions, actors, edges, stages, nodes, words), so no series comes with a run, a batch or a key. Pure: no
//! clock, no I/O. Not guaranteed: history; that is Prometheus's.
//!
//! * [`CATALOGUE`]: the metrics.    * [`render`]: Prometheus's text format, or OpenMetrics.
//! * [`alerts`]: the rules, as PromQL and as code that judges snapshots.

pub mod alerts;
mod catalogue;
mod exposition;
#[cfg(test)]
mod tests;

pub use catalogue::{CATALOGUE, Kind, Metric, Samples};
pub use exposition::{Format, render};
