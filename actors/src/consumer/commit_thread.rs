//! Commits on a thread of its own, one at a time, so that the poll loop never waits for one.
//!
//! It is a thread because Kafka's client reports the result of a commit only to a caller that
//! blocks: an asynchronous commit reports nothing, not even a failure.
//!
//! Guarantees that commits reach Kafka in the order in which they were requested.
//!
//! Does not guarantee a prompt result: while the group's coordinator is unavailable, the client
//! tries for about ten seconds.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel};
use std::thread::{Builder, Scope};
use std::time::Duration;

use rdkafka::error::KafkaError;

use super::client::Client;
use super::error::ConsumerError;
use super::state::Commit;

/// The result of a commit.
pub(super) struct CommitResult {
    pub(super) commits: Vec<Commit>,
    pub(super) result: Result<(), KafkaError>,
}

/// The handle to the thread, which ends after its current commit when the handle is dropped.
pub(super) struct Committer {
    requests: SyncSender<Vec<Commit>>,
    results: Receiver<CommitResult>,
}

impl Committer {
    pub(super) fn start<'scope>(scope: &'scope Scope<'scope, '_>, client: &'scope Client) -> Result<Self, ConsumerError> {
        let (requests, requested) = sync_channel::<Vec<Commit>>(1);
        let (to, results) = sync_channel(1);
        let work = move || {
            for commits in requested {
                let result = client.commit(&commits);
                if to.send(CommitResult { commits, result }).is_err() {
                    return;
                }
            }
        };
        match Builder::new().name("committer".to_owned()).spawn_scoped(scope, work) {
            Ok(_) => Ok(Self { requests, results }),
            Err(error) => Err(ConsumerError::Broken { reason: format!("failed to spawn the committer thread: {error}") }),
        }
    }

    /// Requests a commit. At most one may be outstanding.
    pub(super) fn request(&self, commits: Vec<Commit>) -> Result<(), ConsumerError> {
        self.requests.try_send(commits).map_err(|_| exited())
    }

    /// Returns the result, if there is one.
    pub(super) fn try_result(&self) -> Result<Option<CommitResult>, ConsumerError> {
        match self.results.try_recv() {
            Ok(result) => Ok(Some(result)),
            Err(TryRecvError::Empty) => Ok(None),
            Err(TryRecvError::Disconnected) => Err(exited()),
        }
    }

    /// Returns the result, waiting for it up to `timeout`.
    pub(super) fn wait(&self, timeout: Duration) -> Result<Option<CommitResult>, ConsumerError> {
        match self.results.recv_timeout(timeout) {
            Ok(result) => Ok(Some(result)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(exited()),
        }
    }
}

fn exited() -> ConsumerError {
    ConsumerError::Broken { reason: "the committer thread exited".to_owned() }
}
