//! Where what is shown comes from: the process itself, its API from anywhere, a folder of events, a recording.
//!
//! Guarantee: keys never wait for any of it (each source works in tasks of its own, and what they give waits in a bounded queue of its own),
//! and a source that fails is asked again for ever, ever less often, from 0.5 s up to 5 s apart. Events come in sequence; after a gap in the
//! connection they go on after the last one that came, and begin anew when the journal is another one. Not guaranteed: that each snapshot is
//! seen.

mod http;
mod recording;
mod sse;

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

/// From one snapshot to the next.
const POLL_INTERVAL: Duration = Duration::from_millis(500);
/// The longest pause while a source fails.
const MAX_RETRY_DELAY: Duration = Duration::from_secs(5);
/// How often a folder of events is read.
const READ_INTERVAL: Duration = Duration::from_millis(100);
/// Updates that wait to be taken in; a source waits while there are so many.
const UPDATE_CAPACITY: usize = 64;
/// Questions that wait to be asked.
const REQUEST_CAPACITY: usize = 32;

/// Gives the events that came since it was called the last time, a few thousand at most; none when there is nothing new. Called from a
/// thread that may block.
pub type EventReader = Box<dyn FnMut() -> Result<Vec<Recorded>, String> + Send>;

/// Where what is shown comes from.
pub enum Source {
    /// The same process.
    InProcess {
        /// Takes a snapshot.
        snapshot: Arc<dyn Fn() -> Snapshot + Send + Sync>,
        /// Reads its journal, if it keeps one.
        events: Option<EventReader>,
        /// Its API, for what is asked beside snapshots and events, if it has one.
        api: Option<Api>,
    },
    /// A process elsewhere, by its API.
    Attached(Api),
    /// A folder of events.
    Journal(EventReader),
    /// What `--record` wrote.
    Recording {
        /// The file.
        path: PathBuf,
        /// How many times as fast as it was; from 0.01 to 1,000.
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
    /// What the model is to know of it.
    pub(crate) fn kind(&self) -> SourceKind {
        match self {
            Self::InProcess { .. } | Self::Attached(_) => SourceKind::Process,
            Self::Journal(_) => SourceKind::Journal,
            Self::Recording { speed, .. } => SourceKind::Recording(*speed),
        }
    }

    /// Whether there is an API to ask.
    pub(crate) fn has_api(&self) -> bool {
        matches!(self, Self::Attached(_) | Self::InProcess { api: Some(_), .. })
    }

    /// Works in tasks of its own until what it returns is dropped.
    ///
    /// # Errors
    /// The address is none, or a recording can't be opened.
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
                    tasks.spawn(http::Client::new(&api)?.serve_requests(request_receiver, sender.clone()));
                }
                tasks.spawn(poll_in_process(snapshot, sender));
            }
            Self::Attached(api) => {
                let client = http::Client::new(&api)?;
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

/// What a source gives, until this is dropped.
pub(crate) struct Feed {
    updates: mpsc::Receiver<Update>,
    requests: mpsc::Sender<ApiRequest>,
    reconnect: Arc<Notify>,
    _tasks: JoinSet<()>,
}

impl Feed {
    /// Waits for something new. Never resolves once the source is gone, so that the loop lives on what it has.
    pub(crate) async fn next(&mut self) -> Update {
        match self.updates.recv().await {
            Some(update) => update,
            None => std::future::pending().await,
        }
    }

    /// Something new that is there already.
    pub(crate) fn ready(&mut self) -> Option<Update> {
        self.updates.try_recv().ok()
    }

    /// Asks; whether there was room for the request.
    pub(crate) fn request(&self, request: ApiRequest) -> bool {
        self.requests.try_send(request).is_ok()
    }

    /// Ends the pause of a failing source.
    pub(crate) fn reconnect(&self) {
        self.reconnect.notify_waiters();
    }
}

/// The pause before the next try, after so many failures in a row.
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
        // It panicked: there is no reader any more.
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
    fn a_failing_source_is_asked_ever_less_often_up_to_five_seconds() {
        let pauses: Vec<_> = (0..6).map(|failures| retry_delay(failures).as_millis()).collect();
        assert_eq!(pauses, [500, 1000, 2000, 4000, 5000, 5000]);
        assert_eq!(retry_delay(u32::MAX), MAX_RETRY_DELAY);
    }

    #[tokio::test]
    async fn a_source_in_the_process_gives_its_looks_and_its_events() {
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
