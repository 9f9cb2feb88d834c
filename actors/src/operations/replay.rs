//! Replay: resets the group's offsets of a stopped pipeline, so that records are read again.
//!
//! Guarantees:
//! * Nothing changes before a plan is applied.
//! * The reset is durable in the journal before Kafka gets it. A crash between the two leaves
//!   everything as it was.
//! * Replayed rows win over the rows in the table, over rows that were deleted by hand, which come
//!   back, and over rows changed by hand. They are written with later timestamps than everything
//!   written from the topic before, and than the time of the replay.
//! * In the end the newest record of a key in its partition wins. Of a key that moved to a
//!   partition with a higher number, as keys do when partitions are added, the record in the higher
//!   one wins.
//!
//! Does not guarantee:
//! * That rows never look older while the replay runs.
//! * That the newest record of a key wins when its records are in several partitions for another
//!   reason: it moved to a lower number, or has no key in the topic.
//! * That a row written by hand with a clock ahead of this machine's is replaced.

use std::collections::BTreeMap;
use std::fmt;
use std::time::SystemTime;

use forebay_schemas::api::ReplayFrom;
use forebay_schemas::offset::{Checkpoint, Epoch, Offset, Partition, Range, WriteTimestamp};
use forebay_schemas::topic_id::TopicId;
use serde::Serialize;

use crate::broker::{self, Access, BrokerError, Committed};
use crate::consumer::offset_reset::{PartitionReset, ResetBasis, offset_reset, reset_target};
use crate::journal::JournalError;
use crate::ledger::Ledger;
use forebay_dataplane::commit_metadata::{is_of_topic, largest_clock};

/// The consequence of a replay, for the operator who is about to apply it.
pub const FOLLOWS: &str = "rows deleted or changed by hand are as their records say again; of a key with records in several partitions the row is that of \
    one of them, which need not be the newest";

/// What a replay does to one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Move {
    /// The partition.
    pub partition: Partition,
    /// The first offset that Kafka holds.
    pub begin: Offset,
    /// The offset of the next record.
    pub end: Offset,
    /// The offset that the group has committed, if any.
    pub committed: Option<Offset>,
    /// The offset it is read from; `None` when it stays where it is.
    pub to: Option<Offset>,
    /// The number of offsets that are read again.
    pub again: u64,
    /// Records that the group has not read and Kafka no longer holds.
    pub lost: Option<Range>,
    /// The largest write clock that is known of any partition.
    #[serde(skip)]
    largest_clock: WriteTimestamp,
}

/// Why a replay fails.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The pipeline reads no topic.
    #[error("this pipeline ends at the topic: it has no [consumer] whose offsets could be moved")]
    NoConsumer,
    /// Kafka is unavailable, or rejects the request.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// The journal can't be written.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

/// `p0: 120 -> 0, 120 offsets again`.
impl fmt::Display for Move {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let committed = self.committed.map_or_else(|| "nothing".to_owned(), |offset| offset.to_string());
        write!(f, "p{}: kafka holds [{}..{}), committed {committed}", self.partition, self.begin, self.end)?;
        match self.to {
            Some(to) => write!(f, " -> {to}, {} offsets again", self.again)?,
            None => f.write_str(", stays")?,
        }
        match self.lost {
            Some(lost) => write!(f, "; {lost} are lost"),
            None => Ok(()),
        }
    }
}

/// Plans the reset of a partition.
///
/// A committed offset of an earlier topic, which was deleted and created again since, counts as
/// none: the next start reads the new topic from its start offset.
fn plan(
    partition: Partition,
    offsets: (Offset, Offset),
    committed: Option<&Committed>,
    wanted: Option<Offset>,
    topic: Option<TopicId>,
    largest_clock: WriteTimestamp,
) -> Move {
    let (start_offset, end_offset) = offsets;
    let committed = committed.filter(|committed| is_of_topic(&committed.metadata, topic)).map(|committed| committed.offset);
    let lost = committed.filter(|&offset| offset < start_offset).map(|from| Range { from, to: start_offset });
    let to = wanted.and_then(|wanted| reset_target(committed, wanted, offsets));
    let again = to.map_or(0, |to| committed.unwrap_or(end_offset).clamp(start_offset, end_offset).since(to));
    Move { partition, begin: start_offset, end: end_offset, committed, to, again, lost, largest_clock }
}

/// Plans a replay of the topic for a group. Changes nothing.
///
/// # Errors
/// When Kafka is unavailable.
pub(crate) async fn plan_all(
    access: &Access,
    (group, topic): (&str, &str),
    known: &BTreeMap<Partition, Checkpoint>,
    from: &ReplayFrom,
) -> Result<Vec<Move>, BrokerError> {
    let ends = broker::ends(access, topic).await?;
    let id = broker::topic_id(access, topic).await?;
    let committed = broker::committed_with_metadata(access, group, topic).await?;
    let at_time = match from {
        ReplayFrom::Time(time) => broker::offsets_at(access, topic, time.timestamp_millis()).await?,
        _ => BTreeMap::new(),
    };
    let wanted = |partition: &Partition, start_offset: Offset| match from {
        ReplayFrom::Earliest => Some(start_offset),
        ReplayFrom::Offsets(offsets) => offsets.0.get(partition).copied(),
        ReplayFrom::Time(_) => at_time.get(partition).copied(),
    };
    let largest = largest_clock(committed.values().map(|committed| committed.metadata.as_str()), known);
    let moves = ends
        .iter()
        .map(|(partition, &offsets)| plan(*partition, offsets, committed.get(partition), wanted(partition, offsets.0), id, largest));
    Ok(moves.collect())
}

/// Carries out a plan: the journal first, then the group. `epoch` is one that was never used.
///
/// # Errors
/// When the journal can't be written, Kafka is unavailable, or the group has members.
pub(crate) async fn apply(
    access: &Access,
    (group, topic): (&str, &str),
    ledger: &Ledger,
    moves: &[Move],
    reason: &str,
    epoch: Epoch,
    now: SystemTime,
) -> Result<(), ReplayError> {
    let topic_id = broker::topic_id(access, topic).await?;
    let largest_clock = moves.iter().map(|planned| planned.largest_clock).max().unwrap_or_default();
    let resets = moves.iter().filter_map(|planned| {
        let &Move { partition, end: end_offset, committed: from, lost, .. } = planned;
        Some(PartitionReset { partition, from, to: planned.to?, end_offset, lost })
    });
    let basis = ResetBasis { epoch, topic: topic_id, largest_clock, now };
    let reset = offset_reset(&resets.collect::<Vec<_>>(), basis, "forebay replay", reason);
    reset.events.into_iter().for_each(|event| ledger.record(event));
    ledger.flushed().await?;
    let commits = reset.commits.iter().map(|commit| (commit.partition, commit.checkpoint.offset, commit.metadata())).collect();
    Ok(broker::commit(access, group, topic, commits).await?)
}

#[cfg(test)]
mod tests {
    use forebay_dataplane::commit_metadata::CommitMetadata;

    use super::*;

    /// Plans the reset of a partition to `wanted`; Kafka holds `start..end`.
    fn planned((start, end): (i64, i64), committed: Option<i64>, wanted: i64) -> Move {
        let committed = committed.map(|offset| Committed { offset: Offset(offset), metadata: "forebay:2:5000:00000007".into() });
        plan(0, (Offset(start), Offset(end)), committed.as_ref(), Some(Offset(wanted)), None, WriteTimestamp::default())
    }

    fn to(ends: (i64, i64), committed: Option<i64>, wanted: i64) -> (Option<i64>, u64) {
        let planned = planned(ends, committed, wanted);
        (planned.to.map(Offset::value), planned.again)
    }

    #[test]
    fn a_replay_moves_back_to_what_kafka_holds_and_never_forward() {
        assert_eq!(to((0, 100), Some(60), 20), (Some(20), 40));
        assert_eq!(to((30, 100), Some(60), 20), (Some(30), 30), "the start offset");
        assert_eq!(to((0, 100), Some(60), 80), (None, 0), "a record is never skipped");
        assert_eq!(to((0, 100), None, 0), (None, 0), "nothing was read yet");
    }

    #[test]
    fn an_offset_outside_of_the_topic_moves_into_it_and_the_loss_is_reported() {
        let overtaken = planned((50, 100), Some(20), 50);
        assert_eq!((overtaken.to, overtaken.lost), (Some(Offset(50)), Some(Range { from: Offset(20), to: Offset(50) })));
        let truncated = planned((0, 10), Some(60), 0);
        assert_eq!((truncated.to, truncated.again, truncated.lost), (Some(Offset(0)), 10, None));
    }

    #[test]
    fn a_committed_offset_of_an_earlier_topic_is_ignored() {
        let of = |bits| TopicId::from_bits(bits);
        let write_clock = WriteTimestamp::from_micros(5_000);
        let checkpoint = Checkpoint { offset: Offset(60), write_clock, epoch: Epoch::new(7) };
        let of_before = Committed { offset: checkpoint.offset, metadata: CommitMetadata::new(&checkpoint, of(1)).to_string() };
        let planned = plan(0, (Offset(0), Offset(100)), Some(&of_before), Some(Offset(0)), of(2), write_clock);
        assert_eq!((planned.to, planned.committed), (None, None));
    }
}
