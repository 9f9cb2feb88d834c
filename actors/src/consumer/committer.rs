//! Commits on a thread of its own, one after the other, so that the poll loop never waits for one.
//!
//! A thread, because Kafka's client tells the end of a commit only to who waits for it: asked to commit without waiting, it says nothing,
//! not even of a failure. Guarantee: commits reach Kafka in the order they were asked for. Not guaranteed: that an answer comes soon; with the
//! group's coordinator away the client tries for about ten seconds.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel};
use std::thread::{Builder, Scope};
use std::time::Duration;

use rdkafka::error::KafkaError;

use super::client::Client;
use super::error::ConsumerError;
use super::state::Commit;

/// What came of a commit.
pub(super) struct Answer {
    pub(super) commits: Vec<Commit>,
    pub(super) result: Result<(), KafkaError>,
}

/// The thread's other end. Dropped, the thread ends after the commit it is at.
pub(super) struct Committer {
    asks: SyncSender<Vec<Commit>>,
    answers: Receiver<Answer>,
}

impl Committer {
    pub(super) fn start<'scope>(scope: &'scope Scope<'scope, '_>, client: &'scope Client) -> Result<Self, ConsumerError> {
        let (asks, asked) = sync_channel::<Vec<Commit>>(1);
        let (tells, answers) = sync_channel(1);
        let work = move || {
            for commits in asked {
                let result = client.commit(&commits);
                if tells.send(Answer { commits, result }).is_err() {
                    return;
                }
            }
        };
        match Builder::new().name("committer".to_owned()).spawn_scoped(scope, work) {
            Ok(_) => Ok(Self { asks, answers }),
            Err(error) => Err(ConsumerError::Broken { reason: format!("the system gave no thread for commits: {error}") }),
        }
    }

    /// Asks for a commit. Only one may be without an answer.
    pub(super) fn ask(&self, commits: Vec<Commit>) -> Result<(), ConsumerError> {
        self.asks.try_send(commits).map_err(|_| gone())
    }

    /// The answer, if it has come.
    pub(super) fn answer(&self) -> Result<Option<Answer>, ConsumerError> {
        match self.answers.try_recv() {
            Ok(answer) => Ok(Some(answer)),
            Err(TryRecvError::Empty) => Ok(None),
            Err(TryRecvError::Disconnected) => Err(gone()),
        }
    }

    /// The answer, waiting up to `wait` for it.
    pub(super) fn wait(&self, wait: Duration) -> Result<Option<Answer>, ConsumerError> {
        match self.answers.recv_timeout(wait) {
            Ok(answer) => Ok(Some(answer)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(gone()),
        }
    }
}

fn gone() -> ConsumerError {
    ConsumerError::Broken { reason: "the thread that commits has ended".to_owned() }
}
