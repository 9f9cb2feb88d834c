//! All metrics and alerts, in one table each.
//!
//! `GET /metrics`, the reference in `docs/METRICS.md`, the dashboard and the alert rules in
//! `docs/grafana` are generated from them, and so are the alerts in the snapshot.
//!
//! Guarantees:
//! * Metrics are read from a [`Snapshot`](crate::snapshot::Snapshot), so they agree with the
//!   monitor.
//! * Unknown values are absent, never −1.
//! * Labels have bounded sets of values (partitions, actors, edges, stages, nodes), so no series
//!   comes with a run, a batch or a key.
//! * Pure: no clock, no I/O.
//!
//! Does not keep history; Prometheus does.
//!
//! * [`CATALOGUE`]: the metrics.
//! * [`render`]: Prometheus's text format, or OpenMetrics.
//! * [`alerts`]: the rules, as PromQL and as conditions on snapshots.

pub mod alerts;
mod catalogue;
mod exposition;
#[cfg(test)]
mod tests;

pub use catalogue::{CATALOGUE, Kind, Metric, Samples};
pub use exposition::{Format, render};
