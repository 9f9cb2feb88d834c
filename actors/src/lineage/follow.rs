//! From the journal to the receiver: which events are told of, and up to where all is told.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use forebay_schemas::event::{Event, Recorded, decode};
use forebay_schemas::lineage::{Job, Transition};
use serde_json::Value;
use tokio::sync::watch;
use uuid::Uuid;

use super::receiver::{Receiver, Untold};
use crate::journal::{Durable, Follower, JournalError};
use crate::kernel::{Backoff, Progress};
use crate::ledger::Ledger;

/// Delays while the receiver is away.
const BACKOFF: Backoff = Backoff { min: Duration::from_millis(500), max: Duration::from_secs(60) };
/// How many transitions are read ahead of what is told.
const AHEAD: usize = 256;
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

/// Why reading stops.
enum Halt {
    /// There is enough for now.
    Enough,
    Journal(JournalError),
    Event(String),
}

impl From<JournalError> for Halt {
    fn from(error: JournalError) -> Self {
        Self::Journal(error)
    }
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
    /// Follows the journal from an event on, for ever; comes back with the reason why it can't.
    pub(super) async fn run(self, from: u64) -> String {
        let mut durable = self.ledger.durable();
        let mut reader = Reader { follower: Follower::new(&self.journal, from), read: from - 1 };
        self.keep(reader.read).await;
        let mut kept = (Instant::now(), reader.read);
        loop {
            let upto = match &*durable.borrow_and_update() {
                Durable::Upto(upto) => *upto,
                // The process ends over it; there is nothing more to tell of.
                Durable::Failed(_) => reader.read,
            };
            if upto > reader.read {
                let folder = self.journal.clone();
                let Ok((found, back)) = tokio::task::spawn_blocking(move || reader.next(&folder, upto)).await else {
                    return "the process is stopping".to_owned();
                };
                reader = back;
                match found {
                    Ok(found) => {
                        let some = !found.is_empty();
                        for told in found {
                            self.tell(told).await;
                        }
                        if some || kept.0.elapsed() >= KEEP_EVERY && kept.1 != reader.read {
                            self.keep(reader.read).await;
                            kept = (Instant::now(), reader.read);
                        }
                    }
                    Err(why) => return why,
                }
            } else if wait(&mut durable).await.is_none() {
                // The ledger is closed: the process ends.
                std::future::pending::<()>().await;
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

/// Waits for the journal to grow; nothing when it never will.
async fn wait(durable: &mut watch::Receiver<Durable>) -> Option<()> {
    durable.changed().await.ok()
}

/// Reads the journal on.
pub(super) struct Reader {
    pub(super) follower: Follower,
    /// The last event that was read.
    pub(super) read: u64,
}

impl Reader {
    /// The next transitions up to an event, at most [`AHEAD`]; reads files.
    pub(super) fn next(mut self, folder: &Path, upto: u64) -> (Result<Vec<Told>, String>, Self) {
        let mut found = Vec::new();
        let read = &mut self.read;
        let before = *read;
        let end = self.follower.read_on(|seq, json| {
            if seq > upto || found.len() >= AHEAD {
                return Err(Halt::Enough);
            }
            if *read == before && seq > before + 1 {
                tracing::warn!(from = before + 1, to = seq, "these events are gone from the journal before their runs were told of");
            }
            *read = seq;
            found.extend(told(decode(json).map_err(|error| Halt::Event(error.to_string()))?));
            Ok(())
        });
        match end {
            Ok(()) | Err(Halt::Enough) => (Ok(found), self),
            // The segment it was at is removed: on with the first there is.
            Err(Halt::Journal(JournalError::Gap { .. })) => {
                self.follower = Follower::new(folder, self.read + 1);
                (Ok(found), self)
            }
            Err(Halt::Journal(error)) => (Err(error.to_string()), self),
            Err(Halt::Event(why)) => (Err(why), self),
        }
    }
}
