//! `GET /v1/events`: the journal as it grows, as server-sent events
//! (<https://html.spec.whatwg.org/multipage/server-sent-events.html>).
//!
//! Guarantees:
//! * Events arrive in sequence, with their sequence number as `id`.
//! * Only durable events are sent, so no crash takes one back.
//! * `Last-Event-ID` continues after that event.
//! * A slow client delays nothing and takes less than twice [`CHUNK_BYTES`] and one event here.
//!   What it has not read stays in the journal.
//!
//! Does not guarantee events that `[journal] keep` has removed; the ids show the gap.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;
use forebay_schemas::problem;
use futures_util::stream::{Stream, unfold};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::error::ApiError;
use super::extract::Params;
use super::{ApiResult, State};
use crate::journal::{Durable, Follower, JournalError};

/// The bytes that are read ahead of a client.
pub(super) const CHUNK_BYTES: usize = 8 << 10;
/// How long to collect events before the next read, so that a thousand clients don't read the
/// journal for each event.
const GATHER_INTERVAL: Duration = Duration::from_millis(25);
/// Clients that follow the events at once.
pub(super) const MAX_SUBSCRIBERS: usize = 1_024;
/// After each read, all subscribers pause for up to this many times its duration. Together they
/// take a twentieth of a core at most, so that a thousand that start at the first event don't slow
/// the pipeline down.
const MAX_PAUSE_FACTOR: u32 = 19;
/// The interval of empty comments on an idle stream, so that no proxy closes the connection.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(15);

/// The clients that follow the events: their number is bounded, and they read the journal in turn.
#[derive(Clone)]
pub(super) struct Subscribers {
    slots: Arc<Semaphore>,
    turn: Arc<Semaphore>,
}

impl Subscribers {
    pub(super) fn new() -> Self {
        Self { slots: Arc::new(Semaphore::new(MAX_SUBSCRIBERS)), turn: Arc::new(Semaphore::new(1)) }
    }

    /// How long no subscriber reads after a read that took `took`.
    fn pause(&self, took: Duration) -> Duration {
        let others = MAX_SUBSCRIBERS.saturating_sub(self.slots.available_permits() + 1);
        took * u32::try_from(others).map_or(MAX_PAUSE_FACTOR, |others| others.min(MAX_PAUSE_FACTOR))
    }
}

/// The durable events of the journal from one event on.
pub(super) struct EventStream {
    follower: Follower,
    durable: watch::Receiver<Durable>,
    /// The last event that was sent.
    sent: u64,
    subscribers: Subscribers,
    _slot: OwnedSemaphorePermit,
}

/// Streams events: after `Last-Event-ID`, or from the event `from`, or the next ones.
pub(super) async fn follow(state: web::Data<State>, params: Params, request: HttpRequest) -> ApiResult {
    let Some(folder) = &state.api.journal else {
        return Err(ApiError::new(&problem::JOURNAL_OFF, "this process runs without a journal"));
    };
    let last = match request.headers().get("Last-Event-ID") {
        None => None,
        Some(text) => Some(
            text.to_str()
                .ok()
                .and_then(|text| text.trim().parse::<u64>().ok())
                .ok_or_else(|| ApiError::new(&problem::EVENT_ID, format!("Last-Event-ID is {text:?}")))?,
        ),
    };
    let Ok(slot) = Arc::clone(&state.subscribers.slots).try_acquire_owned() else {
        return Err(ApiError::new(&problem::API_BUSY, format!("too many event streams (limit {MAX_SUBSCRIBERS})")));
    };
    let ledger = &state.api.ledger;
    let from = last.map(|last| last.saturating_add(1)).or(params.integer("from")).unwrap_or_else(|| ledger.last_event() + 1);
    let stream = EventStream::new(folder, from.max(1), ledger.durable(), state.subscribers.clone(), slot);
    Ok(HttpResponse::Ok()
        .content_type("text/event-stream")
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .streaming(stream.into_stream()))
}

/// Why a read stops.
enum Stop {
    /// The chunk is full, or the next event is not durable yet.
    Full,
    Journal(JournalError),
}

impl From<JournalError> for Stop {
    fn from(error: JournalError) -> Self {
        Self::Journal(error)
    }
}

impl EventStream {
    /// The events of the journal in a directory from `from` on.
    fn new(folder: &Path, from: u64, durable: watch::Receiver<Durable>, subscribers: Subscribers, slot: OwnedSemaphorePermit) -> Self {
        Self { follower: Follower::new(folder, from), durable, sent: from.saturating_sub(1), subscribers, _slot: slot }
    }

    /// The events as they become durable, until the journal is closed.
    pub(super) fn into_stream(self) -> impl Stream<Item = Result<Bytes, actix_web::Error>> {
        unfold(self, |mut stream| async move {
            loop {
                let Durable::UpTo(upto) = *stream.durable.borrow_and_update() else { return None };
                if upto > stream.sent {
                    let turn = Arc::clone(&stream.subscribers.turn).acquire_owned().await.ok()?;
                    let read = tokio::task::spawn_blocking(move || {
                        let began = Instant::now();
                        (stream.read(upto), began.elapsed(), stream)
                    });
                    let (text, took, back) = read.await.ok()?;
                    stream = back;
                    let pause = stream.subscribers.pause(took);
                    if !pause.is_zero() {
                        tokio::spawn(async move {
                            tokio::time::sleep(pause).await;
                            drop(turn);
                        });
                    }
                    match text {
                        Ok(text) if text.is_empty() => {}
                        Ok(text) => return Some((Ok(text.into()), stream)),
                        Err(error) => {
                            tracing::warn!(%error, "event stream closed: journal read failed");
                            return None;
                        }
                    }
                }
                match tokio::time::timeout(HEARTBEAT_INTERVAL, stream.durable.changed()).await {
                    Ok(Ok(())) => tokio::time::sleep(GATHER_INTERVAL).await,
                    Ok(Err(_)) => return None,
                    Err(_) => return Some((Ok(Bytes::from_static(b":\n\n")), stream)),
                }
            }
        })
    }

    /// Reads the next chunk, up to event `upto`. Blocks on files.
    fn read(&mut self, upto: u64) -> Result<String, JournalError> {
        let mut text = String::new();
        let sent = &mut self.sent;
        let end = self.follower.read_new(|seq, json| {
            if seq > upto || text.len() >= CHUNK_BYTES {
                return Err(Stop::Full);
            }
            text.push_str(&format!("id: {seq}\ndata: {}\n\n", String::from_utf8_lossy(json)));
            *sent = seq;
            Ok(())
        });
        match end {
            Ok(()) | Err(Stop::Full) => Ok(text),
            Err(Stop::Journal(error)) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use forebay_schemas::event::Event;
    use futures_util::StreamExt as _;

    use super::*;
    use crate::journal::{RealDisk, Settings};
    use crate::ledger::Ledger;
    use forebay_kernel::SystemClock;

    fn ledger(folder: &Path) -> Ledger {
        let settings = Settings { pipeline: "users".into(), segment_bytes: 64 << 10, keep_bytes: 1 << 30 };
        Ledger::open(folder, RealDisk, settings, SystemClock::shared()).unwrap()
    }

    fn happen(ledger: &Ledger, times: usize) {
        (0..times).for_each(|_| ledger.record(Event::ChildStarted { actor: "root".into(), incarnation: 1 }));
    }

    fn ids(text: &[u8]) -> Vec<u64> {
        let lines = std::str::from_utf8(text).unwrap().lines();
        lines.filter_map(|line| line.strip_prefix("id: ")).map(|id| id.parse().unwrap()).collect()
    }

    #[test]
    fn many_subscribers_read_a_twentieth_of_the_time() {
        let subscribers = Subscribers::new();
        let enter = || Arc::clone(&subscribers.slots).try_acquire_owned().unwrap();
        let (_one, _two) = (enter(), enter());
        assert_eq!(subscribers.pause(Duration::from_millis(2)), Duration::from_millis(2));
        let _more: Vec<_> = (2..MAX_SUBSCRIBERS).map(|_| enter()).collect();
        assert_eq!(subscribers.pause(Duration::from_millis(2)), Duration::from_millis(38));
        assert!(Arc::clone(&subscribers.slots).try_acquire_owned().is_err(), "and no more");
    }

    #[tokio::test]
    async fn a_stream_sends_past_events_and_then_new_ones_each_once() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = ledger(dir.path());
        happen(&ledger, 5_000);
        let subscribers = Subscribers::new();
        let slot = Arc::clone(&subscribers.slots).try_acquire_owned().unwrap();
        let mut events = Box::pin(EventStream::new(dir.path(), 11, ledger.durable(), subscribers.clone(), slot).into_stream());
        assert_eq!(subscribers.pause(Duration::from_millis(1)), Duration::ZERO, "the only subscriber");
        let (mut seen, mut chunks) = (Vec::new(), 0);
        while seen.len() < 4_990 {
            let chunk = events.next().await.unwrap().unwrap();
            assert!(chunk.len() <= CHUNK_BYTES + 1_000, "a slow client holds at most one chunk");
            seen.extend(ids(&chunk));
            chunks += 1;
        }
        assert!(chunks > 2);
        happen(&ledger, 1);
        seen.extend(ids(&events.next().await.unwrap().unwrap()));
        assert_eq!(seen, (11..=5_001).collect::<Vec<_>>());
        ledger.close(true);
        assert_eq!(ids(&events.next().await.unwrap().unwrap()), [5_002], "that the pipeline stopped");
        assert!(events.next().await.is_none(), "and the stream ends");
    }
}
