//! Going back: the group's offsets are set to where records are to be read from again, and the journal keeps who did it and why.
//!
//! Guarantee: nothing moves before [`apply`] is called with a plan that was looked at; the journal has the act on the disk before Kafka
//! hears of it, and a crash between the two leaves all as it was. What is read again is written with later timestamps than all that was written from
//! the topic before, and than the time of day of the replay: so it wins over what stands in the table, over rows that were deleted by hand (they come
//! back) and changed by hand, and the newest record of a key in its partition wins in the end. Of a key that moved to a partition with a higher number, as all
//! do that move when the number of partitions is multiplied, that of the higher one wins. Not guaranteed: that rows do not look older for as
//! long as the replay takes; that of a key whose records are in several partitions otherwise (it moved to one with a lower number, or has no key in the
//! topic) the newest wins; and a write by hand whose clock is ahead of this machine's stays.

use std::collections::BTreeMap;
use std::fmt;
use std::time::SystemTime;

use forebay_schemas::api::ReplayFrom;
use forebay_schemas::event::Event;
use forebay_schemas::offset::{Checkpoint, Epoch, Offset, Partition, Range, WriteTimestamp};
use forebay_schemas::topic::TopicId;
use serde::Serialize;

use crate::broker::{self, Access, BrokerError, Committed};
use crate::journal::JournalError;
use crate::ledger::Ledger;
use forebay_dataplane::commit_metadata::{CommitMetadata, is_of_topic, largest_clock};
use forebay_dataplane::write_clock::{replay_clock, replay_clocks};

/// What a replay comes to, for the person who is about to do it.
pub const FOLLOWS: &str = "rows deleted or changed by hand are as their records say again; of a key with records in several partitions the row is that of \
    one of them, which need not be the newest";

/// What is to become of one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Move {
    /// The partition.
    pub partition: Partition,
    /// The first offset that Kafka holds.
    pub begin: Offset,
    /// The offset that the next record gets.
    pub end: Offset,
    /// What the group has committed; none when it has not.
    pub committed: Option<Offset>,
    /// Where it is to be read from; none to leave it where it is.
    pub to: Option<Offset>,
    /// How many offsets are read again.
    pub again: u64,
    /// Records that the group has not read and Kafka no longer holds.
    pub lost: Option<Range>,
    /// The largest write clock that is known of any partition.
    #[serde(skip)]
    largest: i64,
}

/// Why a replay can't be.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The pipeline reads no topic.
    #[error("this pipeline ends at the topic: it has no [consumer] whose offsets could be moved")]
    NoConsumer,
    /// Kafka is away, or refuses.
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

/// What is to become of a partition. Only backwards, unless the group's offset is not in the topic any more. An offset of a topic that was deleted and
/// created again since is none: the next start reads the new one from its begin.
fn plan(
    partition: Partition,
    (begin, end): (Offset, Offset),
    committed: Option<&Committed>,
    wanted: Option<Offset>,
    topic: Option<TopicId>,
    largest: i64,
) -> Move {
    let offset = committed.filter(|committed| is_of_topic(&committed.metadata, topic)).map(|committed| committed.offset);
    let lost = offset.filter(|&offset| offset < begin).map(|from| Range { from, to: begin });
    let stray = offset.is_some_and(|offset| !(begin..=end).contains(&offset));
    let to = wanted.map(|wanted| wanted.clamp(begin, end)).filter(|&to| stray || offset.is_some_and(|offset| to < offset));
    let again = to.map_or(0, |to| Range { from: to, to: offset.unwrap_or(end).clamp(begin, end) }.len());
    Move { partition, begin, end, committed: offset, to, again, lost, largest }
}

/// What a replay of the topic would do to a group. Moves nothing.
///
/// # Errors
/// When Kafka is away.
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
    let wanted = |partition: &Partition, begin: Offset| match from {
        ReplayFrom::Earliest => Some(begin),
        ReplayFrom::Offsets(offsets) => offsets.0.get(partition).copied(),
        ReplayFrom::Time(_) => at_time.get(partition).copied(),
    };
    let largest = largest_clock(committed.values().map(|committed| committed.metadata.as_str()), known);
    let moves = ends
        .iter()
        .map(|(partition, &(begin, end))| plan(*partition, (begin, end), committed.get(partition), wanted(partition, begin), id, largest));
    Ok(moves.collect())
}

/// Does what was planned: the journal first, then the group. `epoch` is a number that no epoch has had, `now` the time of day, after which what
/// is read again is written.
///
/// # Errors
/// When the journal can't be written, Kafka is away, or the group has members.
pub(crate) async fn apply(
    access: &Access,
    (group, topic): (&str, &str),
    ledger: &Ledger,
    moves: &[Move],
    reason: &str,
    epoch: Epoch,
    now: SystemTime,
) -> Result<(), ReplayError> {
    let id = broker::topic_id(access, topic).await?;
    let largest = moves.iter().map(|a| a.largest).max().unwrap_or(0);
    let again = moves.iter().filter_map(|a| a.to.map(|to| (a.partition, a.end - to))).collect();
    let clocks = replay_clocks(replay_clock(largest, now), &again);
    let checkpoint =
        |a: &Move, offset| (a.partition, Checkpoint { offset, write_clock: WriteTimestamp::from_micros(clocks[&a.partition]), epoch });
    let moving = || moves.iter().filter_map(|a| a.to.map(|to| checkpoint(a, to)));
    for Move { partition, lost, .. } in moves.iter().filter(|a| a.to.is_some()) {
        if let Some(range) = *lost {
            ledger.saw(Event::RangeLost { partition: *partition, range, reason: "kafka had removed them before they were read".into() });
        }
    }
    ledger.saw(Event::OffsetsReset {
        by: "forebay replay".into(),
        reason: reason.to_owned(),
        from: moves.iter().filter(|a| a.to.is_some()).filter_map(|a| a.committed.map(|offset| (a.partition, offset))).collect(),
        to: moving().collect(),
    });
    ledger.settled().await?;
    let commits =
        moving().map(|(partition, checkpoint)| (partition, checkpoint.offset, CommitMetadata::new(&checkpoint, id).to_string())).collect();
    Ok(broker::commit(access, group, topic, commits).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn committed(offset: Offset) -> Committed {
        Committed { offset, metadata: "forebay:2:5000:00000007".into() }
    }

    fn to(begin_end: (Offset, Offset), at: Option<Offset>, wanted: Offset) -> (Option<Offset>, u64) {
        let planned = plan(0, begin_end, at.map(committed).as_ref(), Some(wanted), None, 0);
        (planned.to, planned.again)
    }

    #[test]
    fn it_goes_back_to_what_kafka_holds_and_never_forward() {
        assert_eq!(to((0, 100), Some(60), 20), (Some(20), 40));
        assert_eq!(to((30, 100), Some(60), 20), (Some(30), 30), "from the first there is");
        assert_eq!(to((0, 100), Some(60), 80), (None, 0), "a record is never skipped");
        assert_eq!(to((0, 100), None, 0), (None, 0), "nothing was read yet");
    }

    #[test]
    fn an_offset_outside_of_the_topic_is_moved_into_it_and_the_loss_is_named() {
        let overtaken = plan(0, (50, 100), Some(&committed(20)), Some(50), None, 0);
        assert_eq!((overtaken.to, overtaken.lost), (Some(50), Some(Range { from: 20, to: 50 })));
        let anew = plan(0, (0, 10), Some(&committed(60)), Some(0), None, 0);
        assert_eq!((anew.to, anew.again, anew.lost), (Some(0), 10, None));
    }

    #[test]
    fn an_offset_of_a_topic_that_was_recreated_is_none() {
        let of = |bits| TopicId::from_bits(bits);
        let of_before = Committed {
            offset: 60,
            metadata: CommitMetadata::new(
                &Checkpoint { offset: 60, write_clock: WriteTimestamp::from_micros(5_000), epoch: Epoch::new(7) },
                of(1),
            )
            .to_string(),
        };
        let planned = plan(0, (0, 100), Some(&of_before), Some(0), of(2), 5_000);
        assert_eq!((planned.to, planned.committed), (None, None));
    }
}
