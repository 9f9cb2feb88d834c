//! From the journal to the receiver: which events are told of, and up to where all is told.

use std::convert::Infallible;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use forebay_schemas::event::{Event, Recorded};
use forebay_schemas::lineage::{Job, Transition};
use serde_json::Value;
use uuid::Uuid;

use super::receiver::{Receiver, Untold};
use crate::ledger::Ledger;
use crate::observers::export::{Tail, upto};
use forebay_kernel::{Backoff, Progress};

/// Delays while the receiver is away.
const BACKOFF: Backoff = Backoff { min: Duration::from_millis(500), max: Duration::from_secs(60) };
/// How often the place is kept while there is nothing to tell.
const KEEP_EVERY: Duration = Duration::from_secs(10);

/// A transition of a run, as the journal has it.
#[derive(Debug, PartialEq)]
pub(super) struct Told {
    pub(super) seq: u64,
    pub(super) at: DateTime<Utc>,
    pub(super) run: Uuid,
    pub(super) transition: Transition,
}

/// What following needs.
pub(super) struct Follow {
    pub(super) job: Job,
    pub(super) receiver: Receiver,
    pub(super) ledger: Arc<Ledger>,
    pub(super) journal: PathBuf,
    pub(super) place: PathBuf,
    pub(super) progress: Progress,
}

/// The first event that is not told of yet: after the kept place, else after the last event there is.
pub(super) fn begin(place: &Path, last: u64) -> u64 {
    match std::fs::read_to_string(place) {
        Ok(text) => match text.trim().parse::<u64>() {
            // A journal that was begun anew is behind the place.
            Ok(told) if told <= last => told + 1,
            _ => {
                tracing::warn!(place = %place.display(), "holds no place in this journal; runs are told of from here on");
                last + 1
            }
        },
        Err(cause) => {
            if cause.kind() != ErrorKind::NotFound {
                tracing::warn!(place = %place.display(), %cause, "can't be read; runs are told of from here on");
            }
            last + 1
        }
    }
}

/// The transition that an event of the journal is, if it is one.
pub(super) fn told(recorded: Recorded) -> Option<Told> {
    let Recorded { seq, at, event, .. } = recorded;
    let (run, transition) = match event {
        Event::RunRequested { run, .. } => (run, Transition::Start),
        Event::RunSucceeded { run } => (run, Transition::Complete { produced: None }),
        Event::RunFailed { run, error } => (run, Transition::Fail(error)),
        Event::RunCancelled { run, .. } => (run, Transition::Abort),
        _ => return None,
    };
    Some(Told { seq, at, run, transition })
}

impl Follow {
    /// Follows the journal from an event on, for ever.
    pub(super) async fn run(self, from: u64) -> Infallible {
        let mut durable = self.ledger.durable();
        let mut tail = Tail::new(&self.journal, from);
        self.keep(tail.read()).await;
        let mut kept = (Instant::now(), tail.read());
        loop {
            let (before, upto) = (tail.read(), upto(&mut durable, tail.read()).await);
            let reading = tokio::task::spawn_blocking(move || (tail.next(upto, told), tail));
            // Only at the end of the process is it not done.
            let Ok((found, back)) = reading.await else { return std::future::pending().await };
            tail = back;
            match found {
                Ok(found) => {
                    let some = !found.is_empty();
                    for told in found {
                        self.tell(told).await;
                    }
                    if some || kept.0.elapsed() >= KEEP_EVERY && kept.1 != tail.read() {
                        self.keep(tail.read()).await;
                        kept = (Instant::now(), tail.read());
                    }
                }
                Err(why) => {
                    tracing::error!(why, "runs are not told of: the journal can't be read");
                    self.progress.waiting(why);
                    tokio::time::sleep(BACKOFF.max).await;
                    tail = Tail::new(&self.journal, tail.read() + 1);
                    continue;
                }
            }
            if tail.read() == before {
                tokio::time::sleep(BACKOFF.min).await;
            }
        }
    }

    /// Tells of a transition, for as long as it takes.
    async fn tell(&self, told: Told) {
        let event = self.event(told);
        for attempt in 0.. {
            match self.receiver.tell(&event).await {
                Ok(()) => {
                    if attempt > 0 {
                        tracing::info!("runs are told of again");
                        self.progress.clear();
                    }
                    return;
                }
                Err(Untold::Never(why)) => {
                    tracing::error!(run = %event["run"]["runId"], why, "an event of a run is refused, and left out");
                    self.progress.clear();
                    return;
                }
                Err(Untold::Later(why)) => {
                    if attempt == 0 {
                        tracing::warn!(why, "runs are not told of for now; what is to be told stays in the journal");
                    }
                    let delay = BACKOFF.delay(attempt, rand::random());
                    self.progress.waiting(format!("{why} (attempt {}, next in {:.1} s)", attempt + 1, delay.as_secs_f64()));
                    tokio::time::sleep(delay).await;
                }
            }
        }
    }

    fn event(&self, Told { at, run, mut transition, .. }: Told) -> Value {
        let known = self.ledger.run(run);
        if let Transition::Complete { produced } = &mut transition {
            *produced = known.as_ref().map(|run| run.counts.produced);
        }
        self.job.event(at, run, &known.map(|run| run.spec.labels).unwrap_or_default(), &transition)
    }

    /// Keeps the place. One that can't be kept costs events told twice after a restart.
    async fn keep(&self, told: u64) {
        let place = self.place.clone();
        let kept = tokio::task::spawn_blocking(move || {
            let fresh = place.with_extension("place.new");
            std::fs::write(&fresh, format!("{told}\n")).and_then(|()| std::fs::rename(&fresh, &place))
        });
        if let Ok(Err(cause)) = kept.await {
            tracing::warn!(place = %self.place.display(), %cause, "can't be kept; after a restart runs may be told of twice");
        }
    }
}
