//! From the journal to the sink: which events are exported, and the position up to which all are.

use std::convert::Infallible;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use forebay_dataplane::private_file;
use forebay_schemas::event::{Event, Recorded};
use forebay_schemas::lineage::{Job, Transition};
use serde_json::Value;
use uuid::Uuid;

use super::sink::{Sink, SinkError};
use crate::ledger::Ledger;
use crate::observers::journal_feed::JournalExporter;
use forebay_kernel::{Backoff, Outage, Progress, Retry};

/// Delays while the sink is unavailable, or the journal can't be read.
const BACKOFF: Backoff = Backoff { min: Duration::from_millis(500), max: Duration::from_secs(60) };
/// How often the position is saved while there is nothing to export.
const SAVE_INTERVAL: Duration = Duration::from_secs(10);

/// A transition of a run, as the journal has it.
#[derive(Debug, PartialEq)]
pub(super) struct RunTransition {
    pub(super) seq: u64,
    pub(super) at: DateTime<Utc>,
    pub(super) run: Uuid,
    pub(super) transition: Transition,
}

/// Exports the transitions of runs.
pub(super) struct LineageExporter {
    pub(super) job: Job,
    pub(super) sink: Sink,
    pub(super) ledger: Arc<Ledger>,
    pub(super) journal: PathBuf,
    /// The file with the sequence of the last exported event.
    pub(super) position_file: PathBuf,
    pub(super) progress: Progress,
}

/// The first event to export: after the saved position, or after `last` where there is none.
pub(super) fn first_to_export(position_file: &Path, last: u64) -> u64 {
    match std::fs::read_to_string(position_file) {
        Ok(text) => match text.trim().parse::<u64>() {
            // The position of a journal that was removed is ahead of the new one.
            Ok(exported) if exported <= last => exported + 1,
            _ => {
                tracing::warn!(file = %position_file.display(), "not a position in this journal; runs are exported from here on");
                last + 1
            }
        },
        Err(error) => {
            if error.kind() != ErrorKind::NotFound {
                tracing::warn!(file = %position_file.display(), %error, "can't read the position; runs are exported from here on");
            }
            last + 1
        }
    }
}

/// The transition that an event of the journal stands for, if it does.
pub(super) fn transition(recorded: Recorded) -> Option<RunTransition> {
    let Recorded { seq, at, event, .. } = recorded;
    let (run, transition) = match event {
        Event::RunRequested { run, .. } => (run, Transition::Start),
        Event::RunSucceeded { run } => (run, Transition::Complete { produced: None }),
        Event::RunFailed { run, error } => (run, Transition::Fail(error)),
        Event::RunCancelled { run, .. } => (run, Transition::Abort),
        _ => return None,
    };
    Some(RunTransition { seq, at, run, transition })
}

impl LineageExporter {
    /// Exports from an event on, until it is dropped.
    pub(super) async fn run(self, from: u64) -> Infallible {
        let mut events = JournalExporter::new(&self.ledger, &self.journal, from);
        let (mut outage, mut retry) = (Outage::default(), Retry::new(BACKOFF));
        self.save(events.position()).await;
        let mut saved = (Instant::now(), events.position());
        loop {
            match events.next(transition).await {
                Ok(found) => {
                    outage.clear(&self.progress);
                    retry.reset();
                    let some = !found.is_empty();
                    for transition in found {
                        self.deliver(transition).await;
                    }
                    if some || saved.0.elapsed() >= SAVE_INTERVAL && saved.1 != events.position() {
                        self.save(events.position()).await;
                        saved = (Instant::now(), events.position());
                    }
                }
                Err(error) => {
                    let delay = retry.failed(rand::random());
                    if outage.report(&self.progress, &error, retry.note(&error, delay)) {
                        tracing::error!(error, "runs are not exported: the journal can't be read");
                    }
                    tokio::time::sleep(delay).await;
                    events.seek(events.position());
                }
            }
        }
    }

    /// Delivers a transition, and retries for as long as the sink may accept it later.
    async fn deliver(&self, transition: RunTransition) {
        let event = self.event(transition);
        let (mut outage, mut retry) = (Outage::default(), Retry::new(BACKOFF));
        loop {
            match self.sink.deliver(&event).await {
                Ok(()) => {
                    if outage.clear(&self.progress) {
                        tracing::info!("OpenLineage export recovered");
                    }
                    return;
                }
                Err(SinkError::Rejected(error)) => {
                    outage.clear(&self.progress);
                    tracing::error!(run = %event["run"]["runId"], error, "an event of a run was rejected and is left out");
                    return;
                }
                Err(SinkError::Unavailable(error)) => {
                    let delay = retry.failed(rand::random());
                    if outage.report(&self.progress, &error, retry.note(&error, delay)) {
                        tracing::warn!(error, "OpenLineage export failed, retrying; events stay in the journal");
                    }
                    tokio::time::sleep(delay).await;
                }
            }
        }
    }

    fn event(&self, RunTransition { at, run, mut transition, .. }: RunTransition) -> Value {
        let known = self.ledger.run(run);
        if let Transition::Complete { produced } = &mut transition {
            *produced = known.as_ref().map(|run| run.counts.produced);
        }
        self.job.event(at, run, &known.map(|run| run.spec.labels).unwrap_or_default(), &transition)
    }

    /// Saves the position. If that fails, events are exported twice after a restart.
    async fn save(&self, position: u64) {
        let file = self.position_file.clone();
        let saved = tokio::task::spawn_blocking(move || private_file::replace(&file, &format!("{position}\n")));
        if let Ok(Err(error)) = saved.await {
            tracing::warn!(file = %self.position_file.display(), %error, "can't save the position; after a restart runs may be exported twice");
        }
    }
}
