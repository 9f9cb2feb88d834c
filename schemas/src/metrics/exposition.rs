//! The text of `GET /metrics`: Prometheus's format 0.0.4
//! (<https://prometheus.io/docs/instrumenting/exposition_formats/>), or OpenMetrics 1.0.
//!
//! Not written by a metrics crate, because those keep their own counters, which would duplicate the
//! snapshot's.

use std::fmt::Write as _;

use super::catalogue::{CATALOGUE, Kind, Metric, Samples};
use crate::snapshot::{Snapshot, StageView};

/// The format of `GET /metrics`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Prometheus's text format.
    Prometheus,
    /// OpenMetrics.
    OpenMetrics,
}

impl Format {
    /// The format that an `Accept` header requests.
    pub fn accepted(accept: &str) -> Self {
        if accept.contains("application/openmetrics-text") { Self::OpenMetrics } else { Self::Prometheus }
    }

    /// Its `Content-Type`.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// Prints every metric of a snapshot that has a value.
pub fn render(snapshot: &Snapshot, format: Format) -> String {
    let mut text = String::with_capacity(32 << 10);
    for metric in CATALOGUE {
        let mut samples = Samples::default();
        (metric.read)(snapshot, &mut samples);
        if samples.plain.is_empty() && samples.histograms.is_empty() {
            continue;
        }
        head(&mut text, metric, format);
        for (values, value) in &samples.plain {
            line(&mut text, metric.name, "", &labels(snapshot, metric, values), *value);
        }
        for (values, view) in &samples.histograms {
            histogram(&mut text, metric.name, &labels(snapshot, metric, values), view);
        }
    }
    if format == Format::OpenMetrics {
        text.push_str("# EOF\n");
    }
    text
}

fn head(text: &mut String, metric: &Metric, format: Format) {
    let family = match (format, metric.kind) {
        (Format::OpenMetrics, Kind::Counter) => metric.name.trim_end_matches("_total"),
        _ => metric.name,
    };
    let help = metric.help.replace('\\', "\\\\").replace('\n', "\\n");
    // Writing to a string can't fail.
    let _ = writeln!(text, "# HELP {family} {help}\n# TYPE {family} {}", metric.kind.as_str());
}

fn labels(snapshot: &Snapshot, metric: &Metric, values: &[String]) -> String {
    let mut labels = format!("pipeline=\"{}\"", escape(&snapshot.pipeline));
    for (name, value) in metric.labels.iter().zip(values) {
        let _ = write!(labels, ",{name}=\"{}\"", escape(value));
    }
    labels
}

fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn line(text: &mut String, name: &str, suffix: &str, labels: &str, value: f64) {
    let _ = writeln!(text, "{name}{suffix}{{{labels}}} {value}");
}

fn histogram(text: &mut String, name: &str, labels: &str, view: &StageView) {
    for &(bound, count) in &view.buckets {
        line(text, name, "_bucket", &format!("{labels},le=\"{:?}\"", bound as f64 / 1e6), count as f64);
    }
    line(text, name, "_bucket", &format!("{labels},le=\"+Inf\""), view.count as f64);
    line(text, name, "_sum", labels, view.sum_micros as f64 / 1e6);
    line(text, name, "_count", labels, view.count as f64);
}
