//! Sources: the process itself, the API of another process, a journal, or a recording.
//!
//! Guarantees:
//! * Keys never wait for a source. Each source runs in its own tasks and sends to a bounded queue.
//! * A failed source is retried indefinitely, with delays growing from 0.5 s to 5 s.
//! * Events arrive in sequence. After a lost connection they continue after the last received one,
//!   and from the start if the journal was replaced.
//!
//! Does not guarantee that every snapshot is received.

mod http;
mod recording;
mod sse;
mod tls_failure;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use forebay_schemas::event::Recorded;
use forebay_schemas::snapshot::Snapshot;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;

use crate::error::SourceError;
use crate::state::{ApiRequest, SourceKind, Update};

pub use http::Api;
pub(crate) use recording::{Player, Recorder};
pub use tls_failure::TlsFailure;

/// How often a snapshot is taken.
const POLL_INTERVAL: Duration = Duration::from_millis(500);
/// The maximum delay before a retry.
const MAX_RETRY_DELAY: Duration = Duration::from_secs(5);
/// How often a journal is read.
const READ_INTERVAL: Duration = Duration::from_millis(100);
/// The number of updates in the queue; a source waits while it is full.
const UPDATE_CAPACITY: usize = 64;
/// The number of queued requests.
const REQUEST_CAPACITY: usize = 32;

/// Returns the events since the previous call, a few thousand at most; empty if there are none. It
/// may block.
pub type EventReader = Box<dyn FnMut() -> Result<Vec<Recorded>, String> + Send>;

/// Where the data comes from.
pub enum Source {
    /// This process.
    InProcess {
        /// Takes a snapshot.
        snapshot: Arc<dyn Fn() -> Snapshot + Send + Sync>,
        /// Reads its journal, if it has one.
        events: Option<EventReader>,
        /// Its API, if it has one, for everything other than snapshots and events.
        api: Option<Api>,
    },
    /// Another process, through its API.
    Attached(Api),
    /// A journal.
    Journal(EventReader),
    /// A file written by `--record`.
    Recording {
        /// The file.
        path: PathBuf,
        /// The speed factor, from 0.01 to 1,000.
        speed: f64,
    },
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InProcess { .. } => f.write_str("InProcess"),
            Self::Attached(api) => f.debug_tuple("Attached").field(api).finish(),
            Self::Journal(_) => f.write_str("Journal"),
            Self::Recording { path, speed } => f.debug_struct("Recording").field("path", path).field("speed", speed).finish(),
        }
    }
}

impl Source {
    /// The kind of source, for the model.
    pub(crate) fn kind(&self) -> SourceKind {
        match self {
            Self::InProcess { .. } | Self::Attached(_) => SourceKind::Process,
            Self::Journal(_) => SourceKind::Journal,
            Self::Recording { speed, .. } => SourceKind::Recording(*speed),
        }
    }

    /// Whether there is an API.
    pub(crate) fn has_api(&self) -> bool {
        matches!(self, Self::Attached(_) | Self::InProcess { api: Some(_), .. })
    }

    /// Starts the tasks of the source. They run until the feed is dropped.
    ///
    /// # Errors
    /// The address is invalid, or the recording cannot be opened.
    pub(crate) fn follow(self) -> Result<Feed, SourceError> {
        let (sender, updates) = mpsc::channel(UPDATE_CAPACITY);
        let (requests, request_receiver) = mpsc::channel(REQUEST_CAPACITY);
        let reconnect = Arc::new(Notify::new());
        let mut tasks = JoinSet::new();
        match self {
            Self::InProcess { snapshot, events, api } => {
                if let Some(events) = events {
                    tasks.spawn(read_journal(events, sender.clone()));
                }
                if let Some(api) = api {
                    tasks.spawn(http::Client::new(&api).serve_requests(request_receiver, sender.clone()));
                }
                tasks.spawn(poll_in_process(snapshot, sender));
            }
            Self::Attached(api) => {
                let client = http::Client::new(&api);
                tasks.spawn(client.clone().poll(sender.clone(), Arc::clone(&reconnect)));
                tasks.spawn(client.clone().follow(sender.clone(), Arc::clone(&reconnect)));
                tasks.spawn(client.serve_requests(request_receiver, sender));
            }
            Self::Journal(events) => drop(tasks.spawn(read_journal(events, sender))),
            Self::Recording { path, speed } => drop(tasks.spawn(Player::open(&path)?.play(speed, sender))),
        }
        Ok(Feed { updates, requests, reconnect, _tasks: tasks })
    }
}

/// The running source. Dropping it stops its tasks.
pub(crate) struct Feed {
    updates: mpsc::Receiver<Update>,
    requests: mpsc::Sender<ApiRequest>,
    reconnect: Arc<Notify>,
    _tasks: JoinSet<()>,
}

impl Feed {
    /// Waits for the next update. Never resolves after the source has ended, so that the monitor
    /// keeps running on what it has.
    pub(crate) async fn next(&mut self) -> Update {
        match self.updates.recv().await {
            Some(update) => update,
            None => std::future::pending().await,
        }
    }

    /// Returns an update if one is queued.
    pub(crate) fn ready(&mut self) -> Option<Update> {
        self.updates.try_recv().ok()
    }

    /// Sends a request to the API. Returns `false` if the queue is full.
    pub(crate) fn request(&self, request: ApiRequest) -> bool {
        self.requests.try_send(request).is_ok()
    }

    /// Retries a failing source without waiting for its delay.
    pub(crate) fn reconnect(&self) {
        self.reconnect.notify_waiters();
    }
}

/// The delay before the next attempt after `failures` failures in a row.
fn retry_delay(failures: u32) -> Duration {
    POLL_INTERVAL.saturating_mul(2_u32.saturating_pow(failures)).min(MAX_RETRY_DELAY)
}

async fn poll_in_process(snapshot: Arc<dyn Fn() -> Snapshot + Send + Sync>, updates: mpsc::Sender<Update>) {
    while updates.send(Update::Snapshot(Arc::new(snapshot()))).await.is_ok() {
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

async fn read_journal(mut events: EventReader, updates: mpsc::Sender<Update>) {
    let mut failures = 0;
    loop {
        let read = tokio::task::spawn_blocking(move || (events(), events)).await;
        // The reader panicked and is lost.
        let Ok((read, back)) = read else { return };
        events = back;
        let (update, wait) = match read {
            Ok(new) if new.is_empty() => {
                failures = 0;
                (None, READ_INTERVAL)
            }
            Ok(new) => {
                failures = 0;
                (Some(Update::Events(new.into_iter().map(Arc::new).collect())), Duration::ZERO)
            }
            Err(why) => {
                failures += 1;
                (Some(Update::SourceFailed(why)), retry_delay(failures))
            }
        };
        if let Some(update) = update
            && updates.send(update).await.is_err()
        {
            return;
        }
        tokio::time::sleep(wait).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_data;

    #[test]
    fn a_failing_source_is_retried_with_delays_of_up_to_five_seconds() {
        let pauses: Vec<_> = (0..6).map(|failures| retry_delay(failures).as_millis()).collect();
        assert_eq!(pauses, [500, 1000, 2000, 4000, 5000, 5000]);
        assert_eq!(retry_delay(u32::MAX), MAX_RETRY_DELAY);
    }

    #[tokio::test]
    async fn a_source_in_the_process_delivers_snapshots_and_events() {
        let mut left = test_data::history(7);
        let events: EventReader = Box::new(move || Ok(left.drain(..left.len().min(5)).collect()));
        let source = Source::InProcess { snapshot: Arc::new(test_data::busy), events: Some(events), api: None };
        let mut feed = source.follow().unwrap();
        let (mut snapshots, mut seqs) = (0, Vec::new());
        while snapshots == 0 || seqs.len() < 7 {
            match feed.next().await {
                Update::Snapshot(snapshot) => {
                    assert_eq!(*snapshot, test_data::busy());
                    snapshots += 1;
                }
                Update::Events(events) => seqs.extend(events.iter().map(|event| event.seq)),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(seqs, [1, 2, 3, 4, 5, 6, 7]);
    }
}
