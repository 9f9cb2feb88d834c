//! The duration of each pipeline stage, as the process measured it, or else computed from the
//! batches.

use forebay_schemas::snapshot::{BatchView, Snapshot};

/// The durations of one stage, in microseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StageTimes {
    pub(crate) name: String,
    pub(crate) p50: u64,
    pub(crate) p95: u64,
    pub(crate) p99: u64,
    pub(crate) max: u64,
    /// The number of measurements.
    pub(crate) count: u64,
}

/// The stages in pipeline order.
pub(crate) fn stage_times(snapshot: &Snapshot) -> Vec<StageTimes> {
    if !snapshot.stages.is_empty() {
        let stage = |view: &forebay_schemas::snapshot::StageView| StageTimes {
            name: view.stage.clone(),
            p50: view.p50_micros,
            p95: view.p95_micros,
            p99: view.p99_micros,
            max: view.max_micros,
            count: view.count,
        };
        return snapshot.stages.iter().map(stage).collect();
    }
    type Pick = fn(&BatchView) -> u64;
    let parts: [(&str, Pick); 4] = [
        ("wait", |batch| batch.wait_micros),
        ("transform", |batch| batch.transform_micros),
        ("write", |batch| batch.write_micros),
        ("commit", |batch| batch.commit_micros),
    ];
    let of = |(name, pick): (&str, Pick)| {
        let mut all: Vec<u64> = snapshot.batches.iter().map(pick).collect();
        all.sort_unstable();
        let at = |percent: usize| all.get((all.len() * percent).div_ceil(100).saturating_sub(1)).copied().unwrap_or(0);
        let count = all.len() as u64;
        StageTimes { name: name.to_owned(), p50: at(50), p95: at(95), p99: at(99), max: at(100), count }
    };
    parts.into_iter().map(of).filter(|stage| stage.name != "commit" || stage.max > 0).collect()
}
