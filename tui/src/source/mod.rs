//! Where what is shown comes from: the process itself, its API from anywhere, a folder of events, a recording.
//!
//! Guarantee: keys never wait for any of it (each source works in tasks of its own, and what they give waits in a bounded queue of its own),
//! and a source that fails is asked again for ever, ever less often, from 0.5 s up to 5 s apart. Events come in sequence; after a gap in the
//! connection they go on after the last one that came, and begin anew when the journal is another one. Not guaranteed: that each look is
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
use crate::state::{Kind, Question, Update};

pub use http::Api;
pub(crate) use recording::{Player, Recorder};

/// From one look to the next.
const EVERY: Duration = Duration::from_millis(500);
/// The longest pause while a source fails.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How often a folder of events is read.
const READ_EVERY: Duration = Duration::from_millis(100);
/// Updates that wait to be taken in; a source waits while there are so many.
const WAITING: usize = 64;
/// Questions that wait to be asked.
const QUESTIONS: usize = 32;

/// Gives the events that came since it was called the last time, a few thousand at most; none when there is nothing new. Called from a
/// thread that may block.
pub type EventReader = Box<dyn FnMut() -> Result<Vec<Recorded>, String> + Send>;

/// Where what is shown comes from.
pub enum Source {
    /// The same process.
    InProcess {
        /// Takes a look.
        look: Arc<dyn Fn() -> Snapshot + Send + Sync>,
        /// Reads its journal, if it keeps one.
        events: Option<EventReader>,
        /// Its API, for what is asked beside looks and events, if it has one.
        api: Option<Api>,
    },
    /// A process elsewhere, by its API.
    Attached(Api),
    /// A folder of events.
    Folder(EventReader),
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
            Self::Folder(_) => f.write_str("Folder"),
            Self::Recording { path, speed } => f.debug_struct("Recording").field("path", path).field("speed", speed).finish(),
        }
    }
}

impl Source {
    /// What the model is to know of it.
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::InProcess { .. } | Self::Attached(_) => Kind::Process,
            Self::Folder(_) => Kind::Folder,
            Self::Recording { speed, .. } => Kind::Recording(*speed),
        }
    }

    /// Whether there is an API to ask.
    pub(crate) fn asks(&self) -> bool {
        matches!(self, Self::Attached(_) | Self::InProcess { api: Some(_), .. })
    }

    /// Works in tasks of its own until what it returns is dropped.
    ///
    /// # Errors
    /// The address is none, or a recording can't be opened.
    pub(crate) fn follow(self) -> Result<Feed, SourceError> {
        let (sender, updates) = mpsc::channel(WAITING);
        let (questions, asked) = mpsc::channel(QUESTIONS);
        let nudge = Arc::new(Notify::new());
        let mut tasks = JoinSet::new();
        match self {
            Self::InProcess { look, events, api } => {
                if let Some(events) = events {
                    tasks.spawn(read(events, sender.clone()));
                }
                if let Some(api) = api {
                    tasks.spawn(http::Client::new(&api)?.answer(asked, sender.clone()));
                }
                tasks.spawn(poll_here(look, sender));
            }
            Self::Attached(api) => {
                let client = http::Client::new(&api)?;
                tasks.spawn(client.clone().poll(sender.clone(), Arc::clone(&nudge)));
                tasks.spawn(client.clone().follow(sender.clone(), Arc::clone(&nudge)));
                tasks.spawn(client.answer(asked, sender));
            }
            Self::Folder(events) => drop(tasks.spawn(read(events, sender))),
            Self::Recording { path, speed } => drop(tasks.spawn(Player::open(&path)?.play(speed, sender))),
        }
        Ok(Feed { updates, questions, nudge, _tasks: tasks })
    }
}

/// What a source gives, until this is dropped.
pub(crate) struct Feed {
    updates: mpsc::Receiver<Update>,
    questions: mpsc::Sender<Question>,
    nudge: Arc<Notify>,
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

    /// Asks; whether there was room for the question.
    pub(crate) fn ask(&self, question: Question) -> bool {
        self.questions.try_send(question).is_ok()
    }

    /// Ends the pause of a failing source.
    pub(crate) fn nudge(&self) {
        self.nudge.notify_waiters();
    }
}

/// The pause before the next try, after so many failures in a row.
fn pause(failures: u32) -> Duration {
    EVERY.saturating_mul(2_u32.saturating_pow(failures)).min(LONGEST_PAUSE)
}

async fn poll_here(look: Arc<dyn Fn() -> Snapshot + Send + Sync>, updates: mpsc::Sender<Update>) {
    while updates.send(Update::Look(Arc::new(look()))).await.is_ok() {
        tokio::time::sleep(EVERY).await;
    }
}

async fn read(mut events: EventReader, updates: mpsc::Sender<Update>) {
    let mut failures = 0;
    loop {
        let read = tokio::task::spawn_blocking(move || (events(), events)).await;
        // It panicked: there is no reader any more.
        let Ok((read, back)) = read else { return };
        events = back;
        let (update, wait) = match read {
            Ok(new) if new.is_empty() => {
                failures = 0;
                (None, READ_EVERY)
            }
            Ok(new) => {
                failures = 0;
                (Some(Update::Events(new.into_iter().map(Arc::new).collect())), Duration::ZERO)
            }
            Err(why) => {
                failures += 1;
                (Some(Update::Trouble(why)), pause(failures))
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
    use crate::fixture;

    #[test]
    fn a_failing_source_is_asked_ever_less_often_up_to_five_seconds() {
        let pauses: Vec<_> = (0..6).map(|failures| pause(failures).as_millis()).collect();
        assert_eq!(pauses, [500, 1000, 2000, 4000, 5000, 5000]);
        assert_eq!(pause(u32::MAX), LONGEST_PAUSE);
    }

    #[tokio::test]
    async fn a_source_in_the_process_gives_its_looks_and_its_events() {
        let mut left = fixture::history(7);
        let events: EventReader = Box::new(move || Ok(left.drain(..left.len().min(5)).collect()));
        let source = Source::InProcess { look: Arc::new(fixture::busy), events: Some(events), api: None };
        let mut feed = source.follow().unwrap();
        let (mut looks, mut seqs) = (0, Vec::new());
        while looks == 0 || seqs.len() < 7 {
            match feed.next().await {
                Update::Look(look) => {
                    assert_eq!(*look, fixture::busy());
                    looks += 1;
                }
                Update::Events(events) => seqs.extend(events.iter().map(|event| event.seq)),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(seqs, [1, 2, 3, 4, 5, 6, 7]);
    }
}
