//! Decides where an assigned partition is read from, out of the group's commit, the journal's
//! checkpoint and the topic's offsets.
//!
//! Pure. An **epoch** is a number in the metadata of the commits. One starts when a partition is
//! first read from its start, and with every reset of the group's offsets.
//!
//! Guarantees:
//! * A start is never past an unwritten record. The journal counts only where the group's commit is
//!   of the same epoch; then the larger offset counts. So a checkpoint of an earlier topic of that
//!   name, or from before a reset, is ignored.
//! * A commit that names another topic id is ignored, whatever the topic holds at its offset.
//! * The write clock continues from the largest that is known **of any partition**. So what is read
//!   again, or for the first time, wins over the rows in the table, even over rows of keys that
//!   were in another partition before.
//!
//! Does not know what other processes have written and not committed, or what an old partition
//! still holds unread. Reading a record again is harmless.

use forebay_dataplane::commit_metadata::CommitMetadata;
use forebay_schemas::event::{Start, StartOrigin};
use forebay_schemas::offset::{Checkpoint, Epoch, Offset, WriteTimestamp};
use forebay_schemas::topic_id::TopicId;

/// The group's commit of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CommittedOffset {
    pub(crate) offset: Offset,
    /// `None` when the metadata is not Forebay's: the offset was set by another tool.
    pub(crate) metadata: Option<CommitMetadata>,
}

/// Where a partition starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ResolvedStart {
    pub(crate) start: Start,
    /// The offset that the group has committed in the start's epoch; `None` when the start is to be
    /// committed first.
    pub(crate) committed: Option<Offset>,
}

/// The topic does not hold the group's offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OutOfRange(pub(crate) Offset);

/// Returns where a partition would start if it were assigned now.
///
/// `committed` is the group's offset with its metadata, `known` the journal's checkpoint, `offsets`
/// the start and end offset in the topic of that id. A new epoch is 0 here, and its write clock is
/// not that of the topic.
///
/// # Errors
/// The group's offset, when the topic does not hold it.
pub(crate) fn preview_start(
    committed: Option<(Offset, &str)>,
    known: Option<Checkpoint>,
    offsets: (Offset, Offset),
    topic: Option<TopicId>,
) -> Result<Start, Offset> {
    let committed = committed.map(|(offset, metadata)| CommittedOffset { offset, metadata: CommitMetadata::parse(metadata) });
    resolve_start(committed, known, offsets, topic, Epoch::default(), WriteTimestamp::default())
        .map(|found| found.start)
        .map_err(|OutOfRange(offset)| offset)
}

/// Decides where a partition starts; Kafka holds `start_offset..end_offset` of the topic of that
/// id.
///
/// `fresh` is an epoch that was never used. `largest` is the largest write clock that is known of
/// any partition of the topic: the clock starts there when no commit has this partition's.
pub(crate) fn resolve_start(
    committed: Option<CommittedOffset>,
    known: Option<Checkpoint>,
    (start_offset, end_offset): (Offset, Offset),
    topic: Option<TopicId>,
    fresh: Epoch,
    largest: WriteTimestamp,
) -> Result<ResolvedStart, OutOfRange> {
    let known_clock = known.map(|checkpoint| checkpoint.write_clock).unwrap_or_default();
    let stale = committed.and_then(|committed| committed.metadata).filter(|metadata| metadata.is_of_another_topic(topic));
    let largest = largest.max(known_clock).max(stale.map(|metadata| metadata.write_clock).unwrap_or_default());
    let Some(CommittedOffset { offset, metadata }) = committed.filter(|_| stale.is_none()) else {
        let origin = if known.is_some() || stale.is_some() { StartOrigin::Reset } else { StartOrigin::Earliest };
        let checkpoint = Checkpoint { offset: start_offset, write_clock: largest, epoch: fresh };
        return Ok(ResolvedStart { start: Start { checkpoint, origin }, committed: None });
    };
    let epoch = metadata.and_then(|metadata| metadata.epoch);
    // A commit without a topic id is made again before anything is read.
    let is_complete = epoch.is_some() && (topic.is_none() || metadata.is_some_and(|metadata| metadata.topic.is_some()));
    let same = known.filter(|checkpoint| Some(checkpoint.epoch) == epoch);
    if let Some(checkpoint) =
        same.filter(|checkpoint| checkpoint.offset > offset && (start_offset..=end_offset).contains(&checkpoint.offset))
    {
        return Ok(ResolvedStart { start: Start { checkpoint, origin: StartOrigin::Journal }, committed: is_complete.then_some(offset) });
    }
    if !(start_offset..=end_offset).contains(&offset) {
        return Err(OutOfRange(offset));
    }
    let write_clock = match metadata {
        // Another tool set the offset; the clock is unknown.
        None => largest,
        // The journal is ahead in the same epoch: Kafka has lost records that were written.
        Some(metadata) if same.is_some_and(|checkpoint| checkpoint.offset > offset) => metadata.write_clock.max(known_clock),
        Some(metadata) => metadata.write_clock,
    };
    let checkpoint = Checkpoint { offset, write_clock, epoch: epoch.unwrap_or(fresh) };
    Ok(ResolvedStart { start: Start { checkpoint, origin: StartOrigin::Group }, committed: is_complete.then_some(offset) })
}

#[cfg(test)]
mod tests {
    use forebay_dataplane::commit_metadata::{CommitMetadata, checkpoint_of};

    use super::*;

    const FRESH: Epoch = Epoch::new(99);
    const OURS: Epoch = Epoch::new(7);

    fn checkpoint(offset: i64, clock: i64, epoch: Epoch) -> Checkpoint {
        Checkpoint { offset: Offset(offset), write_clock: WriteTimestamp::from_micros(clock), epoch }
    }

    fn topic(bits: u128) -> Option<TopicId> {
        TopicId::from_bits(bits)
    }

    fn commit(offset: i64, metadata: &str) -> Option<CommittedOffset> {
        Some(CommittedOffset { offset: Offset(offset), metadata: CommitMetadata::parse(metadata) })
    }

    fn committed(offset: i64, clock: i64, epoch: Epoch) -> Option<CommittedOffset> {
        commit(offset, &CommitMetadata::new(&checkpoint(offset, clock, epoch), topic(1)).to_string())
    }

    /// Resolves the start where Kafka holds `10..100` of topic 1 and no other clock is known.
    fn resolve(committed: Option<CommittedOffset>, known: Option<Checkpoint>) -> Result<ResolvedStart, OutOfRange> {
        resolve_start(committed, known, (Offset(10), Offset(100)), topic(1), FRESH, WriteTimestamp::default())
    }

    fn start(committed: Option<CommittedOffset>, known: Option<Checkpoint>) -> (Checkpoint, StartOrigin) {
        let found = resolve(committed, known).unwrap();
        (found.start.checkpoint, found.start.origin)
    }

    #[test]
    fn a_partition_that_was_never_read_starts_at_its_start_offset() {
        assert_eq!(start(None, None), (checkpoint(10, 0, FRESH), StartOrigin::Earliest));
    }

    #[test]
    fn a_clock_without_a_commit_starts_at_the_largest_of_any_partition() {
        let clock = |committed, known| {
            let (offsets, largest) = ((Offset(10), Offset(100)), WriteTimestamp::from_micros(7_000));
            resolve_start(committed, known, offsets, topic(1), FRESH, largest).unwrap().start.checkpoint.write_clock.micros()
        };
        assert_eq!(clock(None, None), 7_000, "keys that move to an added partition win with their newer records");
        assert_eq!(clock(None, Some(checkpoint(90, 5_000, OURS))), 7_000);
        assert_eq!(clock(None, Some(checkpoint(90, 9_000, OURS))), 9_000);
        assert_eq!(clock(commit(20, ""), None), 7_000);
        assert_eq!(
            clock(committed(50, 5_000, OURS), None),
            5_000,
            "a clock continues from its commit, so that each record gets the same timestamp again"
        );
    }

    #[test]
    fn without_a_journal_the_groups_commit_counts() {
        assert_eq!(start(committed(50, 5_000, OURS), None), (checkpoint(50, 5_000, OURS), StartOrigin::Group));
    }

    #[test]
    fn within_an_epoch_the_larger_of_commit_and_checkpoint_counts() {
        let ahead = checkpoint(60, 6_000, OURS);
        let found = resolve(committed(50, 5_000, OURS), Some(ahead)).unwrap();
        assert_eq!((found.start.checkpoint, found.start.origin), (ahead, StartOrigin::Journal));
        assert_eq!(found.committed, Some(Offset(50)), "it is committed soon");
        assert_eq!(start(committed(50, 5_000, OURS), Some(checkpoint(40, 4_000, OURS))), (checkpoint(50, 5_000, OURS), StartOrigin::Group));
    }

    #[test]
    fn a_checkpoint_of_another_epoch_is_ignored_however_far_it_is() {
        assert_eq!(
            start(committed(50, 5_000, OURS), Some(checkpoint(90, 9_000, Epoch::new(8)))),
            (checkpoint(50, 5_000, OURS), StartOrigin::Group)
        );
    }

    #[test]
    fn a_group_without_offsets_starts_over_and_its_rows_win() {
        assert_eq!(start(None, Some(checkpoint(90, 9_000, OURS))), (checkpoint(10, 9_000, FRESH), StartOrigin::Reset));
    }

    #[test]
    fn offsets_set_by_other_tools_count_and_start_an_epoch() {
        let found = resolve(commit(20, ""), Some(checkpoint(90, 9_000, OURS))).unwrap();
        assert_eq!((found.start.checkpoint, found.start.origin), (checkpoint(20, 9_000, FRESH), StartOrigin::Group));
        assert_eq!(found.committed, None, "the epoch is committed before anything is read");
    }

    #[test]
    fn a_lost_offset_is_an_error_unless_the_journal_is_past_the_loss() {
        assert_eq!(resolve(committed(5, 500, OURS), None), Err(OutOfRange(Offset(5))));
        assert_eq!(resolve(committed(101, 500, OURS), None), Err(OutOfRange(Offset(101))));
        assert_eq!(start(committed(5, 500, OURS), Some(checkpoint(10, 600, OURS))), (checkpoint(10, 600, OURS), StartOrigin::Journal));
    }

    #[test]
    fn a_truncated_topic_is_read_from_the_commit_and_new_records_win() {
        assert_eq!(
            start(committed(90, 9_000, OURS), Some(checkpoint(120, 12_000, OURS))),
            (checkpoint(90, 12_000, OURS), StartOrigin::Group)
        );
    }

    #[test]
    fn a_commit_of_an_earlier_topic_is_ignored() {
        let of_before = committed(50, 5_000, OURS);
        let resolve = |known, (start_offset, end_offset), topic| {
            let offsets = (Offset(start_offset), Offset(end_offset));
            resolve_start(of_before, known, offsets, topic, FRESH, WriteTimestamp::default()).unwrap()
        };
        let found = resolve(None, (10, 100), topic(2));
        assert_eq!((found.start.checkpoint, found.start.origin, found.committed), (checkpoint(10, 5_000, FRESH), StartOrigin::Reset, None));
        let known = Some(checkpoint(60, 6_000, OURS));
        assert_eq!(
            resolve(known, (0, 100), topic(2)).start.checkpoint,
            checkpoint(0, 6_000, FRESH),
            "the journal's checkpoint is of the earlier topic, too"
        );
        assert_eq!(resolve(known, (0, 20), topic(2)).start.checkpoint, checkpoint(0, 6_000, FRESH), "a shorter topic is no loss");
        assert_eq!(
            resolve(None, (10, 100), None).start.checkpoint,
            checkpoint(50, 5_000, OURS),
            "a broker without topic ids does not contradict it"
        );
        assert_eq!(checkpoint_of(Offset(50), &CommitMetadata::new(&checkpoint(50, 5_000, OURS), topic(1)).to_string(), topic(2)), None);
    }

    #[test]
    fn a_commit_without_a_topic_id_is_made_again_before_anything_is_read() {
        let of_version_2 = commit(50, "forebay:2:5000:00000007");
        let found = |topic| resolve_start(of_version_2, None, (Offset(10), Offset(100)), topic, FRESH, WriteTimestamp::default()).unwrap();
        assert_eq!((found(topic(1)).start.checkpoint, found(topic(1)).committed), (checkpoint(50, 5_000, OURS), None));
        assert_eq!(found(None).committed, Some(Offset(50)), "unless the broker has no topic ids");
    }
}
