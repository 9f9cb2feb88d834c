//! Computes an offset reset: the checkpoints that partitions continue from, the events for the
//! journal, and the commits for Kafka.
//!
//! Pure. The stopped pipeline, the running consumer and the simulator carry out the result in the
//! same order: the journal first, then Kafka.
//!
//! Guarantees:
//! * A partition moves backwards only, unless the group's offset is outside of what the topic
//!   holds.
//! * A reset starts an epoch, so nothing that was written or committed before it is taken for
//!   something after it.
//! * What is read again is written with later timestamps than everything that was written from the
//!   topic, and than the time of day.

use std::time::SystemTime;

use forebay_dataplane::write_clock::{replay_clock, replay_clocks};
use forebay_schemas::event::{Checkpoints, Event};
use forebay_schemas::offset::{Checkpoint, Epoch, Offset, Partition, Range, WriteTimestamp};
use forebay_schemas::topic_id::TopicId;

use super::state::Commit;

/// The reset of one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PartitionReset {
    pub(crate) partition: Partition,
    /// The offset up to which it is written, as far as the group has committed it.
    pub(crate) from: Option<Offset>,
    /// The offset to read from.
    pub(crate) to: Offset,
    pub(crate) end_offset: Offset,
    /// Records that the group has not read and Kafka no longer holds.
    pub(crate) lost: Option<Range>,
}

/// What a reset is computed with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ResetBasis {
    /// An epoch that was never used.
    pub(crate) epoch: Epoch,
    /// The topic that the offsets are of.
    pub(crate) topic: Option<TopicId>,
    /// The largest write clock that is known of any partition of the topic.
    pub(crate) largest_clock: WriteTimestamp,
    pub(crate) now: SystemTime,
}

/// What a reset changes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct OffsetReset {
    /// For the journal, in this order, before anything is committed.
    pub(crate) events: Vec<Event>,
    /// One for each partition.
    pub(crate) commits: Vec<Commit>,
}

/// Returns the offset that a partition is reset to; `None` when it stays where it is.
///
/// `from` is the group's offset, `wanted` the requested one; Kafka holds
/// `start_offset..end_offset`.
pub(crate) fn reset_target(from: Option<Offset>, wanted: Offset, (start_offset, end_offset): (Offset, Offset)) -> Option<Offset> {
    let from = from?;
    let to = wanted.clamp(start_offset, end_offset);
    let is_outside = !(start_offset..=end_offset).contains(&from);
    (is_outside || to < from).then_some(to)
}

/// Computes the reset of `partitions`; `by` and `reason` are for the journal.
pub(crate) fn offset_reset(partitions: &[PartitionReset], basis: ResetBasis, by: &str, reason: &str) -> OffsetReset {
    let ResetBasis { epoch, topic, largest_clock, now } = basis;
    let replayed = partitions.iter().map(|reset| (reset.partition, reset.end_offset - reset.to)).collect();
    let clocks = replay_clocks(replay_clock(largest_clock, now), &replayed);
    let checkpoint = |reset: &PartitionReset| {
        let write_clock = clocks[&reset.partition];
        (reset.partition, Checkpoint { offset: reset.to, write_clock, epoch })
    };
    let to: Checkpoints = partitions.iter().map(checkpoint).collect();
    let commits = to.0.iter().map(|(&partition, &checkpoint)| Commit { partition, checkpoint, topic }).collect();
    let lost = partitions.iter().filter_map(|reset| Some((reset.partition, reset.lost?)));
    let lost = lost.map(|(partition, range)| {
        let reason = "kafka had removed them before they were read".to_owned();
        Event::RangeLost { partition, range, reason }
    });
    let mut events: Vec<Event> = lost.collect();
    let from = partitions.iter().filter_map(|reset| Some((reset.partition, reset.from?))).collect();
    events.push(Event::OffsetsReset { by: by.to_owned(), reason: reason.to_owned(), from, to });
    OffsetReset { events, commits }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(from: Option<i64>, wanted: i64, (start_offset, end_offset): (i64, i64)) -> Option<i64> {
        reset_target(from.map(Offset), Offset(wanted), (Offset(start_offset), Offset(end_offset))).map(Offset::value)
    }

    #[test]
    fn a_partition_moves_back_to_what_kafka_holds_and_never_forward() {
        assert_eq!(target(Some(60), 20, (0, 100)), Some(20));
        assert_eq!(target(Some(60), 20, (30, 100)), Some(30), "the start offset");
        assert_eq!(target(Some(60), 80, (0, 100)), None, "a record is never skipped");
        assert_eq!(target(Some(60), 60, (0, 100)), None);
        assert_eq!(target(None, 0, (0, 100)), None, "nothing was read yet");
    }

    #[test]
    fn an_offset_outside_of_the_topic_moves_into_it() {
        assert_eq!(target(Some(20), 50, (50, 100)), Some(50), "records were removed");
        assert_eq!(target(Some(60), 0, (0, 10)), Some(0), "the topic was cut short");
    }

    #[test]
    fn a_reset_starts_an_epoch_with_later_clocks_in_each_partition() {
        let (epoch, topic) = (Epoch::new(8), TopicId::from_bits(2));
        let basis = ResetBasis { epoch, topic, largest_clock: WriteTimestamp::from_micros(5_000), now: SystemTime::UNIX_EPOCH };
        let partition = |partition, from: i64, lost| PartitionReset {
            partition,
            from: Some(Offset(from)),
            to: Offset(10),
            end_offset: Offset(100),
            lost,
        };
        let lost = Range { from: Offset(5), to: Offset(10) };
        let reset = offset_reset(&[partition(0, 50, None), partition(3, 5, Some(lost))], basis, "admin", "test");
        let checkpoints: Vec<Checkpoint> = reset.commits.iter().map(|commit| commit.checkpoint).collect();
        assert!(checkpoints.iter().all(|checkpoint| (checkpoint.offset, checkpoint.epoch) == (Offset(10), epoch)));
        assert!(reset.commits.iter().all(|commit| commit.topic == topic));
        assert!(checkpoints[0].write_clock.micros() >= 5_000 && checkpoints[1].write_clock > checkpoints[0].write_clock);
        let [Event::RangeLost { partition: 3, range, .. }, Event::OffsetsReset { from, to, by, .. }] = &reset.events[..] else {
            panic!("{:?}", reset.events)
        };
        assert_eq!((*range, by.as_str()), (lost, "admin"));
        assert_eq!(from.0.values().copied().collect::<Vec<_>>(), [Offset(50), Offset(5)]);
        assert_eq!(to.0.values().copied().collect::<Vec<_>>(), checkpoints);
    }
}
