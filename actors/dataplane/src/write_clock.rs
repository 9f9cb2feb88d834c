//! The write clock of a partition: it gives each record the timestamp that its row is written with.
//!
//! Guarantees:
//! * Timestamps rise by at least [`WriteClock::STEP`] from record to record.
//! * A timestamp depends only on the partition's records before it and on the clock's first value.
//!   However batches are cut, and wherever a new process resumes from a commit, a record gets the
//!   same timestamp again. So a repeated write changes nothing, and a late write loses.
//! * An offset without a record, such as one that compaction has removed, advances the clock as a
//!   record without a date does. So where the dates of records do not decide, as after a replay, a
//!   record gets the same timestamp again even when records before it were removed meanwhile.
//! * No two partitions ever use the same timestamp, whatever their numbers and however many there
//!   are: each has its own [`Lane`]. So the cells of one row never mix two records.
//!
//! Does not guarantee:
//! * That a gap of more than [`MAX_GAP`] counts in full.
//! * That a timestamp is the record's own time. The clock runs ahead of it when a partition has
//!   more records per second than its lane has timestamps (62,500; fewer from the ninth partition
//!   on), or when the records' timestamps step back.
//! * That a timestamp is not in the future. The clock is not compared with the current time, which
//!   would differ in another process. A record dated next year takes the clock with it until that
//!   year comes. In topics that Forebay creates the broker sets the timestamps, so this affects
//!   other topics only.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use forebay_schemas::event::{PLAUSIBLE_MILLIS, is_plausible};
use forebay_schemas::offset::{Partition, WriteTimestamp};

/// The timestamps that one partition writes with: a residue class that is disjoint from that of
/// every other partition.
///
/// Each of the partitions 0 to 7 has every 16th microsecond, together half of all; each of 8 to 39
/// every 128th, together a quarter; each of 40 to 167 every 1,024th; and so on: every tier has four
/// times as many partitions and half of the rest. A lane follows from the partition's number alone,
/// so adding partitions changes no lane, and the number of partitions need not be known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lane {
    /// The distance between two timestamps, in microseconds; a power of two.
    step: i64,
    /// The smallest timestamp.
    first: i64,
}

impl Lane {
    /// The number of partitions in the first tier.
    const FIRST_TIER: i64 = 8;

    /// Returns the lane of a partition; that of 0 for a negative number.
    pub fn of(partition: Partition) -> Self {
        let (mut at, mut tier, mut lanes) = (i64::from(partition.max(0)), 0_u32, Self::FIRST_TIER);
        while at >= lanes {
            (at, tier, lanes) = (at - lanes, tier + 1, lanes * 4);
        }
        // From the lowest bit: a one for each earlier tier, a zero, and the index within the tier.
        Self { step: WriteClock::STEP << (3 * tier), first: (at << (tier + 1)) | ((1 << tier) - 1) }
    }

    /// Returns how many microseconds a number of records take at most, when none is dated after the
    /// clock.
    fn span(self, records: i64) -> i64 {
        self.step.saturating_mul(records.saturating_add(1))
    }

    /// Returns the first timestamp at or after `micros`.
    fn at_or_after(self, micros: i64) -> i64 {
        micros + ((self.first - micros) & (self.step - 1))
    }
}

/// The clock of one partition: the write timestamp of its last record, in microseconds since the
/// Unix epoch; 0 before the first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct WriteClock(i64);

/// The limit for how far a gap between two offsets advances the clock, in microseconds: an hour,
/// which is 225 million offsets of the partitions 0 to 7.
pub const MAX_GAP: i64 = 3_600_000_000;

/// What [`WriteClock::advance`] returns for a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tick {
    /// The timestamp that the row is written with, in microseconds since the Unix epoch.
    pub write_ts: i64,
    /// Whether the record's own timestamp was implausible, and ignored.
    pub clamped: bool,
}

impl WriteClock {
    /// The smallest step between two records, in microseconds.
    pub const STEP: i64 = 16;

    /// Advances to the next record of the partition with this lane.
    ///
    /// `timestamp_ms` is the record's own timestamp in milliseconds since the Unix epoch. An
    /// implausible one ([`is_plausible`]) is ignored.
    pub fn advance(&mut self, lane: Lane, timestamp_ms: Option<i64>) -> Tick {
        let clamped = timestamp_ms.is_some_and(|own| !is_plausible(own));
        let own = timestamp_ms.filter(|_| !clamped).map_or(0, |own| own * 1_000);
        self.0 = lane.at_or_after((self.0 + Self::STEP).max(own));
        Tick { write_ts: self.0, clamped }
    }

    /// Advances past `count` offsets without a record of the partition with this lane, by at most
    /// [`MAX_GAP`].
    pub fn skip(&mut self, lane: Lane, count: i64) {
        if count > 0 {
            let first = lane.at_or_after(self.0 + Self::STEP);
            self.0 = first + lane.step.saturating_mul(count - 1).min(MAX_GAP & !(lane.step - 1));
        }
    }

    /// Returns the timestamp of the last record, in microseconds since the Unix epoch.
    pub fn micros(self) -> i64 {
        self.0
    }

    /// Resumes a clock at this timestamp; `None` when it is negative or unreachably large.
    pub fn from_micros(micros: i64) -> Option<Self> {
        // Far above any value that a clock reaches, far below an overflow.
        (0..=2 * 1_000 * PLAUSIBLE_MILLIS.end).contains(&micros).then_some(Self(micros))
    }
}

/// The limit for the spread of a replay's clocks, in microseconds: an hour. For that long a
/// deletion by hand loses to a replayed row.
const MAX_REPLAY_SPREAD: i64 = 3_600_000_000;

/// Returns the write clock that a replay starts at.
///
/// It is no less than `largest`, the largest clock known of the topic, so that replayed rows win
/// over everything written from the topic. It is no less than `now`, so that they win over rows
/// that were deleted or changed by hand. An implausible `now` is ignored.
pub fn replay_clock(largest: WriteTimestamp, now: SystemTime) -> WriteTimestamp {
    let now = now.duration_since(UNIX_EPOCH).ok().and_then(|since| i64::try_from(since.as_micros()).ok());
    now.filter(|micros| is_plausible(micros / 1_000)).map_or(largest, |micros| largest.max(WriteTimestamp::from_micros(micros)))
}

/// Returns the write clock that each partition of a replay starts at.
///
/// `begin` is the [`replay_clock`], `counts` says how many offsets of each partition are replayed.
/// A partition starts after all timestamps of the partitions with lower numbers: keys that moved
/// when partitions were added moved to higher numbers, so their newest records win again. A clock
/// starts at most an hour after `begin`. A replay of many millions of records exceeds that, and
/// then does not keep the order between partitions.
pub fn replay_clocks(begin: WriteTimestamp, counts: &BTreeMap<Partition, i64>) -> BTreeMap<Partition, WriteTimestamp> {
    let mut ahead = 0_i64;
    let mut clock = |(&partition, &count): (&Partition, &i64)| {
        let clock = WriteTimestamp::from_micros(begin.micros() + ahead.min(MAX_REPLAY_SPREAD));
        ahead = ahead.saturating_add(Lane::of(partition).span(count));
        (partition, clock)
    };
    counts.iter().map(&mut clock).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    /// A plausible time: late in 2023, in milliseconds.
    const NOW: i64 = 1_700_000_000_000;

    impl WriteClock {
        fn stamp(&mut self, timestamp_ms: Option<i64>) -> i64 {
            self.advance(Lane::of(0), timestamp_ms).write_ts
        }
    }

    #[test]
    fn in_a_slow_partition_a_record_is_written_within_a_step_of_its_own_time() {
        let mut clock = WriteClock::default();
        assert_eq!(clock.stamp(Some(NOW)), NOW * 1_000);
        assert_eq!(clock.stamp(Some(NOW + 1)), NOW * 1_000 + 1_008, "the next timestamp of the lane");
        let late = WriteClock::default().advance(Lane::of(7), Some(NOW)).write_ts - NOW * 1_000;
        assert!((0..16).contains(&late), "{late}");
    }

    #[test]
    fn records_of_the_same_or_an_earlier_millisecond_advance_the_clock_by_a_step() {
        let mut clock = WriteClock::default();
        let first = clock.stamp(Some(NOW));
        assert_eq!(clock.stamp(Some(NOW)), first + 16);
        assert_eq!(clock.stamp(Some(NOW - 5)), first + 32);
        assert_eq!(clock.stamp(None), first + 48);
    }

    #[test]
    fn a_timestamp_in_the_wrong_unit_does_not_move_the_clock() {
        let mut clock = WriteClock::default();
        assert_eq!(clock.stamp(Some(NOW * 1_000_000)), 16);
        assert_eq!(clock.stamp(Some(NOW * 1_000)), 32);
        assert_eq!(clock.stamp(Some(NOW / 1_000)), 48, "seconds: in January 1970");
        assert_eq!(clock.stamp(Some(i64::MIN)), 64);
    }

    #[test]
    fn implausible_timestamps_are_reported_as_clamped() {
        let mut clock = WriteClock::default();
        let (from, to) = (PLAUSIBLE_MILLIS.start, PLAUSIBLE_MILLIS.end);
        let stamps =
            [None, Some(i64::MIN), Some(-1), Some(0), Some(from - 1), Some(from), Some(NOW), Some(to - 1), Some(to), Some(i64::MAX)];
        let clamped: Vec<bool> = stamps.iter().map(|&at| clock.advance(Lane::of(3), at).clamped).collect();
        assert_eq!(clamped, [false, true, true, true, true, false, false, false, true, true]);
    }

    #[test]
    fn each_tier_has_four_times_the_partitions_and_eight_times_the_step() {
        let steps: Vec<i64> = [0, 7, 8, 39, 40, 167, 168, 679, 680].map(|partition| Lane::of(partition).step).to_vec();
        assert_eq!(steps, [16, 16, 128, 128, 1_024, 1_024, 8_192, 8_192, 65_536]);
    }

    #[test]
    fn a_thousand_partitions_share_no_timestamp() {
        // The lanes repeat after the largest step.
        let period = Lane::of(999).step;
        let mut seen = BTreeSet::new();
        for partition in 0..1_000 {
            let Lane { step, first } = Lane::of(partition);
            assert!(period % step == 0 && first < step);
            for at in (first..period).step_by(usize::try_from(step).unwrap()) {
                assert!(seen.insert(at), "partition {partition} at {at}");
            }
        }
    }

    #[test]
    fn a_clock_from_before_lanes_only_moves_forward() {
        for partition in [0, 5, 7, 8, 50, 700] {
            for before in (0..2_000).map(|at| NOW * 1_000 + at) {
                let mut clock = WriteClock::from_micros(before).unwrap();
                let next = clock.advance(Lane::of(partition), None).write_ts;
                assert!(next >= before + 16, "partition {partition}: {before} and then {next}, where {} was due before", before + 16);
            }
        }
    }

    #[test]
    fn an_offset_without_a_record_counts_as_a_record_without_a_date() {
        for partition in [0, 7, 9, 300] {
            let lane = Lane::of(partition);
            let (mut with, mut without) =
                (WriteClock::from_micros(NOW * 1_000 + 5).unwrap(), WriteClock::from_micros(NOW * 1_000 + 5).unwrap());
            (0..7).for_each(|_| _ = with.advance(lane, None));
            without.skip(lane, 2);
            without.skip(lane, 5);
            assert_eq!(with, without, "partition {partition}");
        }
    }

    #[test]
    fn a_gap_advances_the_clock_by_an_hour_at_most() {
        for (partition, count) in [(0, 1_000_000_000), (300, i64::MAX), (5_000, 1 << 40)] {
            let mut clock = WriteClock::from_micros(NOW * 1_000).unwrap();
            clock.skip(Lane::of(partition), count);
            let ahead = clock.micros() - NOW * 1_000 - Lane::of(partition).step;
            assert!((MAX_GAP - 2 * Lane::of(partition).step..=MAX_GAP).contains(&ahead), "partition {partition}: {ahead}");
        }
        let mut clock = WriteClock::default();
        clock.skip(Lane::of(0), 0);
        assert_eq!(clock, WriteClock::default());
    }

    /// Timestamps near each other, in any unit, or none.
    fn any_stamp() -> impl Strategy<Value = Option<i64>> {
        prop_oneof![1 => Just(None), 8 => (NOW - 40..NOW + 40).prop_map(Some), 2 => any::<i64>().prop_map(Some)]
    }

    #[test]
    fn a_replay_starts_after_the_largest_clock_and_the_current_time() {
        let now = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let clock = |largest, now| replay_clock(WriteTimestamp::from_micros(largest), now).micros();
        assert_eq!(clock(5_000, now), 1_700_000_000_000_000, "later than any row deleted by hand");
        assert_eq!(clock(1_700_000_000_000_001, now), 1_700_000_000_000_001, "later than a record dated in the future");
        for odd in [UNIX_EPOCH, UNIX_EPOCH - Duration::from_secs(9), UNIX_EPOCH + Duration::from_secs(7_258_118_400)] {
            assert_eq!(clock(5_000, odd), 5_000, "the machine's time is not set");
        }
    }

    #[test]
    fn a_replay_writes_partitions_in_order_up_to_an_hour_apart() {
        let begin = 1_700_000_000_000_003;
        let clocks_of = |counts: &[(Partition, i64)]| -> BTreeMap<Partition, i64> {
            let clocks = replay_clocks(WriteTimestamp::from_micros(begin), &counts.iter().copied().collect());
            clocks.into_iter().map(|(partition, clock)| (partition, clock.micros())).collect()
        };
        let clocks = clocks_of(&[(0, 1_000), (3, 0), (9, 50), (12, 1)]);
        let last = |partition, records: usize| {
            let mut clock = WriteClock::from_micros(clocks[&partition]).unwrap();
            (0..records).map(|_| clock.advance(Lane::of(partition), None).write_ts).last().unwrap_or(clocks[&partition])
        };
        assert_eq!(clocks[&0], begin);
        assert!(last(0, 1_000) <= clocks[&3] && last(3, 0) <= clocks[&9] && last(9, 50) <= clocks[&12], "{clocks:?}");
        let many = clocks_of(&[(0, 1_000_000_000), (1, i64::MAX), (2, 1)]);
        assert_eq!((many[&1], many[&2]), (begin + MAX_REPLAY_SPREAD, begin + MAX_REPLAY_SPREAD));
    }

    proptest! {
        #[test]
        fn it_rises_by_a_step_and_resumes_from_any_commit(
            stamps in prop::collection::vec(any_stamp(), 1..60), cut in 0usize..60, partition in 0..300, begin in 0..NOW,
        ) {
            let lane = Lane::of(partition);
            let mut whole = WriteClock::from_micros(begin).unwrap();
            let all: Vec<i64> = stamps.iter().map(|&at| whole.advance(lane, at).write_ts).collect();
            prop_assert!(all[0] > begin && all.windows(2).all(|pair| pair[1] - pair[0] >= WriteClock::STEP));
            for (&at, &written) in stamps.iter().zip(&all) {
                prop_assert!(at.is_none_or(|at| !is_plausible(at) || written >= at * 1_000), "never before its own time");
            }

            let cut = cut.min(stamps.len());
            let mut first = WriteClock::from_micros(begin).unwrap();
            stamps[..cut].iter().for_each(|&at| { first.advance(lane, at); });
            let mut second = WriteClock::from_micros(first.micros()).unwrap();
            let rest: Vec<i64> = stamps[cut..].iter().map(|&at| second.advance(lane, at).write_ts).collect();
            prop_assert_eq!(&all[cut..], &rest[..]);
        }

        #[test]
        fn records_of_two_partitions_never_share_a_write_timestamp(
            ours in prop::collection::vec(any_stamp(), 1..60), theirs in prop::collection::vec(any_stamp(), 1..60), (a, b) in (0..300, 0..300),
        ) {
            prop_assume!(a != b);
            let of = |partition, stamps: &[Option<i64>]| -> BTreeSet<i64> {
                let mut clock = WriteClock::default();
                stamps.iter().map(|&at| clock.advance(Lane::of(partition), at).write_ts).collect()
            };
            prop_assert!(of(a, &ours).is_disjoint(&of(b, &theirs)));
        }
    }
}
