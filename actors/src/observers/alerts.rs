//! Looks at the pipeline every few seconds and tells what is wrong: in the snapshot, and in the log when it begins and ends.
//!
//! Guarantee: nothing waits for it, and it judges by the rules that Prometheus is given ([`forebay_schemas::metrics::alerts`]). Not guaranteed: what
//! came and went between two looks and left no count.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use forebay_schemas::metrics::alerts::AlertEvaluator;
use forebay_schemas::snapshot::AlertView;

use super::Viewer;
use crate::telemetry::{DataPlaces, Telemetry};
use forebay_kernel::{Cx, Service};

/// How often it looks.
const EVALUATION_INTERVAL: Duration = Duration::from_secs(5);

/// The actor that judges. Nothing is posted to it.
pub(crate) struct Alerts {
    viewer: Viewer,
    telemetry: Arc<Telemetry>,
    places: DataPlaces,
    evaluator: AlertEvaluator,
    /// What was wrong at the last look: the first summary of each rule.
    said: BTreeMap<String, String>,
}

impl Alerts {
    /// Looks through `viewer` and at what is on the disk at `places`, and tells `telemetry`.
    pub(crate) fn new(viewer: Viewer, telemetry: Arc<Telemetry>, places: DataPlaces) -> Self {
        Self { viewer, telemetry, places, evaluator: AlertEvaluator::default(), said: BTreeMap::new() }
    }

    /// Measures off this thread, judges, and does so again after a while. A disk that does not answer ends the judging, not the pipeline.
    fn measure(&mut self, cx: &mut Cx<'_, Self>) {
        let (telemetry, places) = (Arc::clone(&self.telemetry), self.places.clone());
        cx.compute(move || telemetry.measure(&places), |this, (), cx| this.look(cx));
    }

    fn look(&mut self, cx: &mut Cx<'_, Self>) {
        let alerts = self.evaluator.evaluate(&self.viewer.snapshot());
        self.say(&alerts);
        self.telemetry.set_alerts(alerts);
        cx.after(EVALUATION_INTERVAL, Self::measure);
    }

    fn say(&mut self, alerts: &[AlertView]) {
        let mut now = BTreeMap::new();
        for AlertView { name, severity, summary, .. } in alerts {
            now.entry(name.clone()).or_insert_with(|| summary.clone());
            if !self.said.contains_key(name) {
                tracing::warn!(alert = name, severity, "{summary}");
            }
        }
        for (name, summary) in self.said.iter().filter(|(name, _)| !now.contains_key(*name)) {
            tracing::info!(alert = name, "no longer: {summary}");
        }
        self.said = now;
    }
}

impl Service for Alerts {
    fn started(&mut self, cx: &mut Cx<'_, Self>) {
        self.measure(cx);
    }
}
