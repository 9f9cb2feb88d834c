//! Where an assigned partition is read from, out of what the group, the journal and the topic say.
//!
//! Pure. Guarantee: never past a record that is not written: the journal counts only where the group's commit belongs to the same **epoch**, and then
//! whichever is further on. An epoch is a number that travels in the metadata of the commits; it begins anew when a partition is read from its
//! begin, and with every act that moves the group's offsets by hand. So a journal that knows of another topic of the same name, or of a time
//! before a reset, is not believed. The metadata has the topic's id too, so a commit of a topic that was deleted and created again since is not
//! believed either, whatever the new one holds at that offset. Reading again never hurts; the write clock goes on from the highest that is known
//! **of any partition**, so that what is read again, or for the first time, wins over what stands in the table: also over rows of keys that were in
//! another partition before. Not guaranteed: what other processes have written and not committed at that moment, and what an old partition still
//! holds unread, is not known.

use forebay_dataplane::commit_metadata::CommitMetadata;
use forebay_schemas::event::{Start, StartOrigin};
use forebay_schemas::offset::{Checkpoint, Epoch, Offset, WriteTimestamp};
use forebay_schemas::topic::TopicId;

/// What the group has committed of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Committed {
    pub(crate) offset: Offset,
    /// None when the metadata is not Forebay's, as after the offset was set by hand.
    pub(crate) metadata: Option<CommitMetadata>,
}

/// Where a partition starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) start: Start,
    /// What the group has committed in the start's epoch.
    pub(crate) committed: Option<Offset>,
}

/// The group's offset is not in the topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OutOfRange(pub(crate) Offset);

/// Where a partition would be read from, were it assigned now: `committed` is the group's offset with its metadata, `known` the journal's place, and
/// Kafka holds `[begin, end)` of the topic of that id. An epoch that would begin is 0 here, and its write clock is not that of the topic.
///
/// # Errors
/// The group's offset, when the topic does not hold it.
pub fn would_start(
    committed: Option<(Offset, &str)>,
    known: Option<Checkpoint>,
    ends: (Offset, Offset),
    topic: Option<TopicId>,
) -> Result<Start, Offset> {
    let committed = committed.map(|(offset, metadata)| Committed { offset, metadata: CommitMetadata::parse(metadata) });
    find(committed, known, ends, topic, Epoch::default(), 0).map(|found| found.start).map_err(|OutOfRange(offset)| offset)
}

/// Decides where to start; Kafka holds `[begin, end)` of the topic of that id, `fresh` is an epoch that nobody has used, and `largest` is the largest
/// write clock that is known of any partition of the topic: where no commit says where this one's clock was, it begins there.
pub(crate) fn find(
    committed: Option<Committed>,
    known: Option<Checkpoint>,
    (begin, end): (Offset, Offset),
    topic: Option<TopicId>,
    fresh: Epoch,
    largest: i64,
) -> Result<Found, OutOfRange> {
    let known_clock = known.map_or(0, |checkpoint| checkpoint.write_clock.micros());
    let stale = committed.and_then(|committed| committed.metadata).filter(|metadata| metadata.is_of_another_topic(topic));
    let largest = largest.max(known_clock).max(stale.map_or(0, |metadata| metadata.write_clock.micros()));
    let Some(Committed { offset, metadata }) = committed.filter(|_| stale.is_none()) else {
        let origin = if known.is_some() || stale.is_some() { StartOrigin::Reset } else { StartOrigin::Earliest };
        let checkpoint = Checkpoint { offset: begin, write_clock: WriteTimestamp::from_micros(largest), epoch: fresh };
        return Ok(Found { start: Start { checkpoint, origin }, committed: None });
    };
    let epoch = metadata.and_then(|metadata| metadata.epoch);
    // A commit that does not say which topic it is of is made again before anything is read.
    let says_all = epoch.is_some() && (topic.is_none() || metadata.is_some_and(|metadata| metadata.topic.is_some()));
    let same = known.filter(|checkpoint| Some(checkpoint.epoch) == epoch);
    if let Some(checkpoint) = same.filter(|checkpoint| checkpoint.offset > offset && (begin..=end).contains(&checkpoint.offset)) {
        return Ok(Found { start: Start { checkpoint, origin: StartOrigin::Journal }, committed: says_all.then_some(offset) });
    }
    if !(begin..=end).contains(&offset) {
        return Err(OutOfRange(offset));
    }
    let clock = match metadata {
        // By hand, nobody says where the clock was.
        None => largest,
        // A clock of the same epoch that is ahead stands for records that Kafka has lost since.
        Some(metadata) if same.is_some_and(|checkpoint| checkpoint.offset > offset) => metadata.write_clock.micros().max(known_clock),
        Some(metadata) => metadata.write_clock.micros(),
    };
    let checkpoint = Checkpoint { offset, write_clock: WriteTimestamp::from_micros(clock), epoch: epoch.unwrap_or(fresh) };
    Ok(Found { start: Start { checkpoint, origin: StartOrigin::Group }, committed: says_all.then_some(offset) })
}

#[cfg(test)]
mod tests {
    use forebay_dataplane::commit_metadata::{CommitMetadata, checkpoint_of};

    use super::*;

    const FRESH: Epoch = Epoch::new(99);
    const OURS: Epoch = Epoch::new(7);

    fn checkpoint(offset: Offset, clock: i64, epoch: Epoch) -> Checkpoint {
        Checkpoint { offset, write_clock: WriteTimestamp::from_micros(clock), epoch }
    }

    fn topic(bits: u128) -> Option<TopicId> {
        TopicId::from_bits(bits)
    }

    fn committed(offset: Offset, clock: i64, epoch: Epoch) -> Option<Committed> {
        Some(Committed {
            offset,
            metadata: CommitMetadata::parse(&CommitMetadata::new(&checkpoint(offset, clock, epoch), topic(1)).to_string()),
        })
    }

    fn start(committed: Option<Committed>, known: Option<Checkpoint>) -> (Checkpoint, StartOrigin) {
        let found = find(committed, known, (10, 100), topic(1), FRESH, 0).unwrap();
        (found.start.checkpoint, found.start.origin)
    }

    #[test]
    fn a_partition_that_nobody_has_read_starts_at_its_begin() {
        assert_eq!(start(None, None), (checkpoint(10, 0, FRESH), StartOrigin::Earliest));
    }

    #[test]
    fn where_no_commit_says_it_the_clock_begins_at_the_largest_that_is_known_of_any_partition() {
        let clock =
            |committed, known| find(committed, known, (10, 100), topic(1), FRESH, 7_000).unwrap().start.checkpoint.write_clock.micros();
        assert_eq!(clock(None, None), 7_000, "a partition that was added: keys that move there win with their newer records");
        assert_eq!(clock(None, Some(checkpoint(90, 5_000, OURS))), 7_000);
        assert_eq!(clock(None, Some(checkpoint(90, 9_000, OURS))), 9_000);
        let by_hand = Some(Committed { offset: 20, metadata: CommitMetadata::parse("") });
        assert_eq!(clock(by_hand, None), 7_000);
        assert_eq!(
            clock(committed(50, 5_000, OURS), None),
            5_000,
            "what a commit says is gone on from, so that each record gets its timestamp again"
        );
    }

    #[test]
    fn without_a_journal_the_group_counts() {
        assert_eq!(start(committed(50, 5_000, OURS), None), (checkpoint(50, 5_000, OURS), StartOrigin::Group));
    }

    #[test]
    fn the_larger_of_commit_and_journal_counts_within_an_epoch() {
        let ahead = checkpoint(60, 6_000, OURS);
        let found = find(committed(50, 5_000, OURS), Some(ahead), (10, 100), topic(1), FRESH, 0).unwrap();
        assert_eq!((found.start.checkpoint, found.start.origin), (ahead, StartOrigin::Journal));
        assert_eq!(found.committed, Some(50), "so that the group hears of it at once");
        assert_eq!(start(committed(50, 5_000, OURS), Some(checkpoint(40, 4_000, OURS))), (checkpoint(50, 5_000, OURS), StartOrigin::Group));
    }

    #[test]
    fn a_journal_of_another_epoch_is_not_believed_however_far_it_is() {
        assert_eq!(
            start(committed(50, 5_000, OURS), Some(checkpoint(90, 9_000, Epoch::new(8)))),
            (checkpoint(50, 5_000, OURS), StartOrigin::Group)
        );
    }

    #[test]
    fn a_group_without_offsets_begins_again_and_its_rows_win_over_those_of_before() {
        assert_eq!(start(None, Some(checkpoint(90, 9_000, OURS))), (checkpoint(10, 9_000, FRESH), StartOrigin::Reset));
    }

    #[test]
    fn offsets_set_by_hand_count_and_begin_an_epoch() {
        let by_hand = Some(Committed { offset: 20, metadata: CommitMetadata::parse("") });
        let found = find(by_hand, Some(checkpoint(90, 9_000, OURS)), (10, 100), topic(1), FRESH, 0).unwrap();
        assert_eq!((found.start.checkpoint, found.start.origin), (checkpoint(20, 9_000, FRESH), StartOrigin::Group));
        assert_eq!(found.committed, None, "so that the epoch is in the group at once");
    }

    #[test]
    fn an_offset_that_the_topic_no_longer_holds_is_refused_unless_the_journal_is_past_the_loss() {
        assert_eq!(find(committed(5, 500, OURS), None, (10, 100), topic(1), FRESH, 0), Err(OutOfRange(5)));
        assert_eq!(find(committed(101, 500, OURS), None, (10, 100), topic(1), FRESH, 0), Err(OutOfRange(101)));
        assert_eq!(start(committed(5, 500, OURS), Some(checkpoint(10, 600, OURS))), (checkpoint(10, 600, OURS), StartOrigin::Journal));
    }

    #[test]
    fn a_topic_cut_short_below_what_was_written_is_read_from_the_commit_and_new_records_win() {
        assert_eq!(
            start(committed(90, 9_000, OURS), Some(checkpoint(120, 12_000, OURS))),
            (checkpoint(90, 12_000, OURS), StartOrigin::Group)
        );
    }

    #[test]
    fn a_commit_of_a_topic_that_was_recreated_is_not_believed_whatever_the_new_one_holds_there() {
        let of_before = committed(50, 5_000, OURS);
        let find = |known, ends, topic| find(of_before, known, ends, topic, FRESH, 0).unwrap();
        let found = find(None, (10, 100), topic(2));
        assert_eq!((found.start.checkpoint, found.start.origin, found.committed), (checkpoint(10, 5_000, FRESH), StartOrigin::Reset, None));
        let known = Some(checkpoint(60, 6_000, OURS));
        assert_eq!(
            find(known, (0, 100), topic(2)).start.checkpoint,
            checkpoint(0, 6_000, FRESH),
            "the journal is of the topic of before too"
        );
        assert_eq!(
            find(known, (0, 20), topic(2)).start.checkpoint,
            checkpoint(0, 6_000, FRESH),
            "and it is no loss when the new one is shorter"
        );
        assert_eq!(
            find(None, (10, 100), None).start.checkpoint,
            checkpoint(50, 5_000, OURS),
            "a broker without ids says nothing against it"
        );
        assert_eq!(checkpoint_of(50, &CommitMetadata::new(&checkpoint(50, 5_000, OURS), topic(1)).to_string(), topic(2)), None);
    }

    #[test]
    fn a_commit_that_does_not_say_its_topic_is_made_again_before_anything_is_read() {
        let of_version_2 = Some(Committed { offset: 50, metadata: CommitMetadata::parse("forebay:2:5000:00000007") });
        let found = |topic| find(of_version_2, None, (10, 100), topic, FRESH, 0).unwrap();
        assert_eq!((found(topic(1)).start.checkpoint, found(topic(1)).committed), (checkpoint(50, 5_000, OURS), None));
        assert_eq!(found(None).committed, Some(50), "but not for a broker that gives no ids");
    }
}
