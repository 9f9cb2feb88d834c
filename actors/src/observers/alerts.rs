//! Evaluates the alerts every few seconds. Firing alerts are in the snapshot, and in the log when
//! they start and end.
//!
//! Guarantees:
//! * Nothing waits for it.
//! * Its rules are those that Prometheus gets: [`forebay_schemas::metrics::alerts`].
//!
//! Does not guarantee to see a condition that starts and ends between two evaluations and leaves no
//! count.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use forebay_schemas::metrics::alerts::AlertEvaluator;
use forebay_schemas::snapshot::AlertView;

use super::SnapshotSource;
use crate::telemetry::{DataPaths, Telemetry};
use forebay_kernel::{Cx, Service};

/// The period of evaluations.
const EVALUATION_INTERVAL: Duration = Duration::from_secs(5);

/// The actor that evaluates the alerts.
pub(crate) struct Alerts {
    snapshots: SnapshotSource,
    telemetry: Arc<Telemetry>,
    places: DataPaths,
    evaluator: AlertEvaluator,
    /// The alerts that fired at the last evaluation: the first summary of each rule.
    firing: BTreeMap<String, String>,
}

impl Alerts {
    /// Evaluates snapshots and the size of the data directory, and puts the alerts into
    /// `telemetry`.
    pub(crate) fn new(snapshots: SnapshotSource, telemetry: Arc<Telemetry>, places: DataPaths) -> Self {
        Self { snapshots, telemetry, places, evaluator: AlertEvaluator::default(), firing: BTreeMap::new() }
    }

    /// Measures the disk off this thread, then evaluates. A disk that hangs stops the evaluations,
    /// not the pipeline.
    fn measure(&mut self, cx: &mut Cx<'_, Self>) {
        let (telemetry, places) = (Arc::clone(&self.telemetry), self.places.clone());
        cx.compute(move || telemetry.measure(&places), |this, (), cx| this.evaluate(cx));
    }

    fn evaluate(&mut self, cx: &mut Cx<'_, Self>) {
        let alerts = self.evaluator.evaluate(&self.snapshots.snapshot());
        self.log_changes(&alerts);
        self.telemetry.set_alerts(alerts);
        cx.after(EVALUATION_INTERVAL, Self::measure);
    }

    fn log_changes(&mut self, alerts: &[AlertView]) {
        let mut now = BTreeMap::new();
        for AlertView { name, severity, summary, .. } in alerts {
            now.entry(name.clone()).or_insert_with(|| summary.clone());
            if !self.firing.contains_key(name) {
                tracing::warn!(alert = name, severity, "{summary}");
            }
        }
        for (name, summary) in self.firing.iter().filter(|(name, _)| !now.contains_key(*name)) {
            tracing::info!(alert = name, "resolved: {summary}");
        }
        self.firing = now;
    }
}

impl Service for Alerts {
    fn started(&mut self, cx: &mut Cx<'_, Self>) {
        self.measure(cx);
    }
}
