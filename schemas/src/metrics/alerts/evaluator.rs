//! Evaluates the rules over a series of snapshots.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use chrono::{DateTime, Utc};

use super::{LONGEST, RULES};
use crate::snapshot::{AlertView, Snapshot};

/// The maximum number of samples: one every 5 s for 10 min, and the one before.
pub const MAX_SAMPLES: usize = 122;
/// The minimum distance of samples.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(5);

/// The lag of the assigned partitions, in records.
pub(super) fn lag(snapshot: &Snapshot) -> u64 {
    snapshot.partitions.iter().filter(|view| view.assigned).map(|view| view.lag()).sum()
}

/// The part of a snapshot that the rules compare over time.
#[derive(Debug, Clone)]
pub(super) struct Sample {
    pub(super) at: DateTime<Utc>,
    /// Unknown at the start of the process, when everything else was 0.
    pub(super) lag: Option<u64>,
    pub(super) batches: u64,
    pub(super) rejected: u64,
    pub(super) retries: u64,
    pub(super) answers: u64,
    pub(super) failures: u64,
    pub(super) restarts: BTreeMap<String, u64>,
    pub(super) blocked: BTreeMap<String, u64>,
}

impl Sample {
    pub(super) fn of(snapshot: &Snapshot) -> Self {
        let statuses = || snapshot.source.iter().flat_map(|source| &source.statuses);
        let fails = |class: &str| !matches!(class, "2xx" | "304");
        Self {
            at: snapshot.at,
            lag: Some(lag(snapshot)),
            batches: snapshot.stages.iter().find(|stage| stage.stage == "write").map_or(0, |stage| stage.count),
            rejected: snapshot.totals.rejected,
            retries: snapshot.totals.write_retries,
            answers: statuses().map(|(_, count)| count).sum(),
            failures: statuses().filter(|(class, _)| fails(class)).map(|(_, count)| count).sum(),
            restarts: snapshot.actors.iter().map(|actor| (actor.path.clone(), actor.restarts)).collect(),
            blocked: snapshot.edges.iter().map(|edge| (edge.name.clone(), edge.blocked_micros)).collect(),
        }
    }

    /// A sample of the start of the process.
    fn start(at: DateTime<Utc>) -> Self {
        let (restarts, blocked) = (BTreeMap::new(), BTreeMap::new());
        Self { at, lag: None, batches: 0, rejected: 0, retries: 0, answers: 0, failures: 0, restarts, blocked }
    }
}

/// The samples of the last minutes.
#[derive(Debug, Default)]
pub(super) struct History(VecDeque<Sample>);

impl History {
    /// The oldest sample in the window.
    pub(super) fn since(&self, now: DateTime<Utc>, window: Duration) -> Option<&Sample> {
        self.0.iter().find(|sample| (now - sample.at).to_std().is_ok_and(|age| age <= window))
    }

    /// Lag and batches of the oldest sample in the window that has both.
    pub(super) fn lag_since(&self, now: DateTime<Utc>, window: Duration) -> Option<(u64, u64)> {
        let mut samples = self.0.iter().filter(|sample| (now - sample.at).to_std().is_ok_and(|age| age <= window));
        samples.find_map(|sample| Some((sample.lag?, sample.batches)))
    }

    fn push(&mut self, sample: Sample) {
        let now = sample.at;
        let is_close = |last: &Sample| (now - last.at).to_std().is_ok_and(|age| age < SAMPLE_INTERVAL);
        if self.0.back().is_some_and(is_close) {
            return;
        }
        self.0.push_back(sample);
        while self.0.len() > MAX_SAMPLES || self.0.front().is_some_and(|first| (now - first.at).to_std().is_ok_and(|age| age > LONGEST)) {
            self.0.pop_front();
        }
    }
}

/// Evaluates the rules on one snapshot after another.
#[derive(Debug, Default)]
pub struct AlertEvaluator {
    history: History,
    /// Since when each condition holds, by rule and subject.
    since: BTreeMap<(usize, String), DateTime<Utc>>,
}

impl AlertEvaluator {
    /// The number of samples.
    #[cfg(test)]
    pub(crate) fn samples(&self) -> usize {
        self.history.0.len()
    }

    /// The alerts that are firing as of a snapshot, in the order of the rules.
    pub fn evaluate(&mut self, snapshot: &Snapshot) -> Vec<AlertView> {
        if self.history.0.is_empty() {
            self.history.push(Sample::start(snapshot.started_at));
        }
        let mut since = BTreeMap::new();
        let mut alerts = Vec::new();
        for (at, rule) in RULES.iter().enumerate() {
            let Some(condition) = rule.condition else { continue };
            for (subject, summary) in condition(&self.history, snapshot) {
                let key = (at, subject);
                // After the clock was set back, the condition holds since now.
                let start = self.since.get(&key).copied().filter(|start| *start <= snapshot.at).unwrap_or(snapshot.at);
                if (snapshot.at - start).to_std().is_ok_and(|held| held >= rule.hold) {
                    alerts.push(AlertView {
                        name: rule.name.to_owned(),
                        severity: rule.severity.as_str().to_owned(),
                        summary,
                        remedy: rule.remedy.to_owned(),
                        since: start,
                    });
                }
                since.insert(key, start);
            }
        }
        self.since = since;
        self.history.push(Sample::of(snapshot));
        alerts
    }
}
