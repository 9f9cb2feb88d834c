//! `GET /v1/events`: the journal as it grows, as server-sent events (<https://html.spec.whatwg.org/multipage/server-sent-events.html>).
//!
//! Guarantee: events come in sequence, each with its sequence as `id`, and only once they are on the disk, so that no crash takes one back;
//! `Last-Event-ID` goes on after the last one that came. A client that reads slowly holds less than twice [`CHUNK`] bytes here, one event more, and nothing up:
//! what it has not asked for stays in the journal. Not guaranteed: events that `[journal] keep` has removed; the ids show the gap.

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
use super::extract::Asked;
use super::{Answer, State};
use crate::journal::{Durable, Follower, JournalError};

/// How much is read ahead of a client.
pub(super) const CHUNK: usize = 8 << 10;
/// After an event, how long more of them are waited for, so that a thousand clients don't read the journal at each.
const GATHER: Duration = Duration::from_millis(25);
/// The most clients that follow the events at once.
pub(super) const FOLLOWERS_MOST: usize = 1_024;
/// With several who follow nobody reads for so many times as long as the last read took, at the most: all of them together get a twentieth of a core,
/// so that a thousand who begin with the first event don't slow the pipeline down.
const REST_MOST: u32 = 19;
/// A line that says nothing comes so often when nothing happens, so that whoever is between does not end the connection.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// Those who follow at once: how many there may be, and whose turn it is to read.
#[derive(Clone)]
pub(super) struct Crowd {
    places: Arc<Semaphore>,
    turn: Arc<Semaphore>,
}

impl Crowd {
    pub(super) fn new() -> Self {
        Self { places: Arc::new(Semaphore::new(FOLLOWERS_MOST)), turn: Arc::new(Semaphore::new(1)) }
    }

    /// How long nobody reads after a read that took so long.
    fn rest(&self, took: Duration) -> Duration {
        let others = FOLLOWERS_MOST.saturating_sub(self.places.available_permits() + 1);
        took * u32::try_from(others).map_or(REST_MOST, |others| others.min(REST_MOST))
    }
}

/// The journal from one event on, as far as it is on the disk.
pub(super) struct Feed {
    follower: Follower,
    durable: watch::Receiver<Durable>,
    /// The last event that was given.
    given: u64,
    crowd: Crowd,
    /// Its place in the crowd.
    _place: OwnedSemaphorePermit,
}

/// From the event asked for on, or after the last one that came, or what happens from here on.
pub(super) async fn follow(state: web::Data<State>, asked: Asked, request: HttpRequest) -> Answer {
    let Some(folder) = &state.parts.journal else {
        return Err(ApiError::new(&problem::JOURNAL_OFF, "it was started without one"));
    };
    let last = match request.headers().get("Last-Event-ID") {
        None => None,
        Some(text) => Some(
            text.to_str()
                .ok()
                .and_then(|text| text.trim().parse::<u64>().ok())
                .ok_or_else(|| ApiError::new(&problem::EVENT_ID, format!("it is {text:?}")))?,
        ),
    };
    let Ok(place) = Arc::clone(&state.crowd.places).try_acquire_owned() else {
        return Err(ApiError::new(&problem::API_BUSY, "as many clients follow the events as may at once"));
    };
    let ledger = &state.parts.ledger;
    let from = last.map(|last| last.saturating_add(1)).or(asked.whole("from")).unwrap_or_else(|| ledger.last_event() + 1);
    let feed = Feed::new(folder, from.max(1), ledger.durable(), state.crowd.clone(), place);
    Ok(HttpResponse::Ok().content_type("text/event-stream").insert_header((header::CACHE_CONTROL, "no-store")).streaming(feed.stream()))
}

/// Why reading stops.
enum Halt {
    /// There is enough for now.
    Enough,
    Journal(JournalError),
}

impl From<JournalError> for Halt {
    fn from(error: JournalError) -> Self {
        Self::Journal(error)
    }
}

impl Feed {
    /// The events of the journal in a folder from `from` on.
    fn new(folder: &Path, from: u64, durable: watch::Receiver<Durable>, crowd: Crowd, place: OwnedSemaphorePermit) -> Self {
        Self { follower: Follower::new(folder, from), durable, given: from.saturating_sub(1), crowd, _place: place }
    }

    /// Its events as they come, until the journal ends.
    pub(super) fn stream(self) -> impl Stream<Item = Result<Bytes, actix_web::Error>> {
        unfold(self, |mut feed| async move {
            loop {
                let Durable::UpTo(upto) = *feed.durable.borrow_and_update() else { return None };
                if upto > feed.given {
                    let turn = Arc::clone(&feed.crowd.turn).acquire_owned().await.ok()?;
                    let read = tokio::task::spawn_blocking(move || {
                        let began = Instant::now();
                        (feed.read(upto), began.elapsed(), feed)
                    });
                    let (text, took, back) = read.await.ok()?;
                    feed = back;
                    let rest = feed.crowd.rest(took);
                    if !rest.is_zero() {
                        tokio::spawn(async move {
                            tokio::time::sleep(rest).await;
                            drop(turn);
                        });
                    }
                    match text {
                        Ok(text) if text.is_empty() => {}
                        Ok(text) => return Some((Ok(text.into()), feed)),
                        Err(error) => {
                            tracing::warn!(%error, "a reader of events is sent away");
                            return None;
                        }
                    }
                }
                match tokio::time::timeout(HEARTBEAT, feed.durable.changed()).await {
                    Ok(Ok(())) => tokio::time::sleep(GATHER).await,
                    Ok(Err(_)) => return None,
                    Err(_) => return Some((Ok(Bytes::from_static(b":\n\n")), feed)),
                }
            }
        })
    }

    /// What there is up to an event; reads files.
    fn read(&mut self, upto: u64) -> Result<String, JournalError> {
        let mut text = String::new();
        let given = &mut self.given;
        let end = self.follower.read_new(|seq, json| {
            if seq > upto || text.len() >= CHUNK {
                return Err(Halt::Enough);
            }
            text.push_str(&format!("id: {seq}\ndata: {}\n\n", String::from_utf8_lossy(json)));
            *given = seq;
            Ok(())
        });
        match end {
            Ok(()) | Err(Halt::Enough) => Ok(text),
            Err(Halt::Journal(error)) => Err(error),
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
    fn a_crowd_reads_a_twentieth_of_the_time() {
        let crowd = Crowd::new();
        let enter = || Arc::clone(&crowd.places).try_acquire_owned().unwrap();
        let (_one, _two) = (enter(), enter());
        assert_eq!(crowd.rest(Duration::from_millis(2)), Duration::from_millis(2));
        let _more: Vec<_> = (2..FOLLOWERS_MOST).map(|_| enter()).collect();
        assert_eq!(crowd.rest(Duration::from_millis(2)), Duration::from_millis(38));
        assert!(Arc::clone(&crowd.places).try_acquire_owned().is_err(), "and no more than so many");
    }

    #[tokio::test]
    async fn what_is_there_comes_first_and_then_what_happens_each_once_and_in_pieces() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = ledger(dir.path());
        happen(&ledger, 5_000);
        let crowd = Crowd::new();
        let place = Arc::clone(&crowd.places).try_acquire_owned().unwrap();
        let mut events = Box::pin(Feed::new(dir.path(), 11, ledger.durable(), crowd.clone(), place).stream());
        assert_eq!(crowd.rest(Duration::from_millis(1)), Duration::ZERO, "nobody else waits");
        let (mut seen, mut pieces) = (Vec::new(), 0);
        while seen.len() < 4_990 {
            let piece = events.next().await.unwrap().unwrap();
            assert!(piece.len() <= CHUNK + 1_000, "a slow client holds no more than a piece");
            seen.extend(ids(&piece));
            pieces += 1;
        }
        assert!(pieces > 2);
        happen(&ledger, 1);
        seen.extend(ids(&events.next().await.unwrap().unwrap()));
        assert_eq!(seen, (11..=5_001).collect::<Vec<_>>());
        ledger.close(true);
        assert_eq!(ids(&events.next().await.unwrap().unwrap()), [5_002], "that the pipeline stopped");
        assert!(events.next().await.is_none(), "and then it is over");
    }
}
