//! A running pipeline: stop it, wait for it, read its state, reset its offsets.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use forebay_schemas::api::ReplayFrom;
use forebay_schemas::closing_summary::{HeldBack, Summary};
use forebay_schemas::desired::{Desired, DesiredState};
use forebay_schemas::offset::{Epoch, Offset, Partition};
use forebay_schemas::pipeline::Pipeline;
use forebay_schemas::run::{MaxRejected, RunError, Tried};
use tokio::sync::watch;

use crate::broker::embedded::Claim;
use crate::broker::{self, Access, BrokerError};
use crate::data_dir::DataDirLock;
use crate::fetcher::{FetcherHandle, ScheduledFetches};
use crate::ledger::{Command, Cursors, Ledger};
use crate::observers::SnapshotSource;
use crate::operations::cursor::{CursorChange, CursorError};
use crate::operations::replay::{self, Move, ReplayError};
use crate::telemetry::Telemetry;
use forebay_dataplane::commit_metadata::checkpoint_of;
use forebay_kernel::{Exit, Root};

/// A running pipeline.
pub struct Running {
    pub(super) root: Root,
    pub(super) snapshots: SnapshotSource,
    pub(super) telemetry: Arc<Telemetry>,
    pub(super) access: Access,
    pub(super) pipeline: Arc<Pipeline>,
    pub(super) ledger: Arc<Ledger>,
    pub(super) scheduled: watch::Receiver<ScheduledFetches>,
    pub(super) fetcher: FetcherHandle,
    /// Whether this process reads the topic.
    pub(super) reads_here: bool,
    /// Locked while the pipeline runs.
    pub(super) _locks: (DataDirLock, Option<Claim>),
}

impl Running {
    /// Requests an ordered stop. [`Running::exited`] waits for it.
    pub fn stop(&self) {
        self.root.stop();
    }

    /// Waits until the tree has stopped, closes the journal, and returns why it stopped.
    pub async fn exited(&self) -> Exit {
        let exit = self.root.exited().await;
        let (ledger, clean) = (Arc::clone(&self.ledger), matches!(exit, Exit::Shutdown | Exit::Normal));
        if let Err(error) = tokio::task::spawn_blocking(move || ledger.close(clean)).await {
            tracing::error!(%error, "failed to close the journal");
        }
        exit
    }

    /// The source of its snapshots.
    pub fn snapshots(&self) -> &SnapshotSource {
        &self.snapshots
    }

    /// The consumer group, if the pipeline reads the topic.
    fn group(&self) -> Option<&str> {
        self.pipeline.consumer.as_ref().map(|consumer| consumer.group.as_str())
    }

    fn topic(&self) -> &str {
        &self.pipeline.kafka.topic
    }

    /// The totals since its start.
    pub fn summary(&self) -> Summary {
        let totals = self.telemetry.totals();
        Summary {
            fetched: totals.fetched,
            produced: totals.produced,
            consumed: totals.consumed,
            written: totals.written,
            rejected: totals.rejected,
            restarts: totals.restarts,
            latency_ms: self.telemetry.latency(),
            held_back: Vec::new(),
            stop: self.scheduled.borrow().stop.clone(),
        }
    }

    /// Why too many of the records that this process has settled are dead letters, if so. Without a
    /// limit, all of them are too many.
    pub fn too_many_rejected(&self, limit: Option<MaxRejected>) -> Option<String> {
        let totals = self.telemetry.totals();
        let in_topic = if self.reads_here { totals.consumed } else { totals.produced };
        let records = (in_topic + self.telemetry.refused.get()).max(totals.rejected);
        let tried = Tried { records, good: records - totals.rejected, rejected: totals.rejected };
        MaxRejected::judge(limit, tried, &self.telemetry.reject_counts())
    }

    /// Stops the schedule. Only triggered runs fetch from now on.
    pub fn stop_schedule(&self) {
        self.fetcher.stop_schedule();
    }

    /// Waits until the desired state keeps the pipeline from becoming idle, and returns it: a
    /// paused pipeline reads nothing, a drained one fetches nothing.
    pub async fn wait_until_not_running(&self) -> Desired {
        let mut changes = self.ledger.watch();
        loop {
            let desired = self.ledger.desired();
            let stopped = match desired.state {
                DesiredState::Running => false,
                DesiredState::Paused => true,
                DesiredState::Drained => self.pipeline.ingests(),
            };
            // `self` keeps the ledger, so the channel stays open.
            if stopped || changes.changed().await.is_err() {
                return desired;
            }
        }
    }

    /// Waits until a scheduled fetch is produced. Returns immediately when this process does not
    /// fetch.
    ///
    /// # Errors
    /// When the fetch failed.
    pub async fn fetched_once(&self) -> Result<(), RunError> {
        let mut scheduled = self.scheduled.clone();
        let ended = scheduled.wait_for(|scheduled| scheduled.done > 0 || scheduled.failed.is_some()).await;
        match ended.as_deref() {
            Ok(ScheduledFetches { done: 0, failed: Some(error), .. }) => Err(error.clone()),
            _ => Ok(()),
        }
    }

    /// Waits until the group has committed every readable record, and while Kafka is unavailable.
    /// Returns what open transactions hold back, without waiting for them.
    pub async fn settled(&self, poll_interval: Duration) -> Vec<HeldBack> {
        let Some(consumer) = &self.pipeline.consumer else { return Vec::new() };
        loop {
            match self.lag(&consumer.group).await {
                Ok(0) => match broker::held_back(&self.access, &self.pipeline.kafka.topic).await {
                    Ok(held) => return held.into_iter().map(|(partition, range)| HeldBack { partition, range }).collect(),
                    Err(error) => tracing::debug!(%error, "failed to read open transactions; retrying"),
                },
                Ok(_) => {}
                Err(error) => tracing::debug!(%error, "failed to read the lag; retrying"),
            }
            tokio::time::sleep(poll_interval).await;
        }
    }

    async fn lag(&self, group: &str) -> Result<u64, BrokerError> {
        let topic = &self.pipeline.kafka.topic;
        let ends = broker::ends(&self.access, topic).await?;
        // Commits of an earlier topic of this name do not count.
        let id = broker::topic_id(&self.access, topic).await?;
        let committed = broker::committed_with_metadata(&self.access, group, topic).await?;
        let behind = |(partition, &(start, end)): (&Partition, &(Offset, Offset))| {
            let committed = committed.get(partition).filter(|it| id.is_none() || checkpoint_of(it.offset, &it.metadata, id).is_some());
            let done = committed.map_or(start, |it| it.offset.max(start));
            end.since(done)
        };
        Ok(ends.iter().map(behind).sum())
    }

    /// Plans a replay. Changes nothing.
    ///
    /// # Errors
    /// When Kafka is unavailable, or the pipeline reads no topic.
    pub async fn plan_replay(&self, from: &ReplayFrom) -> Result<Vec<Move>, ReplayError> {
        let group = self.group().ok_or(ReplayError::NoConsumer)?;
        Ok(replay::plan_all(&self.access, (group, self.topic()), &self.ledger.checkpoints(), from).await?)
    }

    /// Applies a planned replay: the journal first, then the group. `epoch` must be unused so far.
    /// Records that are read again get write timestamps after `now`.
    ///
    /// # Errors
    /// When the journal can't be written, Kafka is unavailable, or the group has members.
    pub async fn replay(&self, moves: &[Move], reason: &str, epoch: Epoch, now: SystemTime) -> Result<(), ReplayError> {
        let group = self.group().ok_or(ReplayError::NoConsumer)?;
        replay::apply(&self.access, (group, self.topic()), &self.ledger, moves, reason, epoch, now).await
    }

    /// Applies a planned cursor change. The journal records the originator and the reason.
    ///
    /// # Errors
    /// When the journal can't be written.
    pub async fn set_cursor(&self, change: &CursorChange, reason: &str) -> Result<(), CursorError> {
        let (read, to) = (change.read.clone(), change.to.clone());
        self.ledger.submit(Command::SetCursor { read, to, by: "forebay cursor".into(), reason: reason.to_owned() })?;
        Ok(self.ledger.flushed().await?)
    }

    /// The cursor of each read.
    pub fn cursors(&self) -> Cursors {
        self.ledger.cursors()
    }
}
