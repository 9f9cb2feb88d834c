//! The write clock of a partition: the timestamp each record's row is written with.
//!
//! Guarantee: it rises by at least [`WriteClock::STEP`] from record to record, and it is a function of the partition's prefix and of the number that
//! it began with: wherever batches are cut, and wherever a new process goes on from a commit, a record gets the same timestamp again. So a repeated
//! write changes nothing and a late one loses. Two partitions never give the same timestamp, whatever their numbers and however many there are: each
//! has a [`Lane`] of its own. So the cells of a row are never of two records.
//!
//! Not guaranteed: that it is the record's own time; a partition of more records a second than its lane has room for (62,500, fewer from the ninth
//! partition on), or of timestamps that step back, runs ahead of it. Nor is a timestamp held against the time it is now, which another process at
//! another time would tell otherwise: one of next year is believed, and carries the clock along until that year comes. Topics that Forebay makes
//! have the broker's own timestamps, so this happens in topics of others only.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use forebay_schemas::event::{PLAUSIBLE_MILLIS, is_plausible};
use forebay_schemas::offset::{Offset, Partition};

/// The timestamps that one partition writes with: a residue class, which shares no number with that of any other partition.
///
/// Partitions 0 to 7 have every 16th microsecond each, and so half of all of them; 8 to 39 every 128th, and so a quarter; 40 to 167 every 1,024th;
/// and so on, each tier of four times as many partitions, with half of what is left. It follows from the partition's number alone, so adding
/// partitions changes the lane of none, and nobody has to know how many there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lane {
    /// A power of two.
    step: i64,
    /// The least of its timestamps.
    first: i64,
}

impl Lane {
    /// Partitions of the first tier.
    const FIRST_TIER: i64 = 8;

    /// The lane of a partition.
    pub fn of(partition: Partition) -> Self {
        let (mut at, mut tier, mut lanes) = (i64::from(partition.max(0)), 0_u32, Self::FIRST_TIER);
        while at >= lanes {
            (at, tier, lanes) = (at - lanes, tier + 1, lanes * 4);
        }
        // From the lowest bit: a one for each tier before, a zero, and the lane within the tier.
        Self { step: WriteClock::STEP << (3 * tier), first: (at << (tier + 1)) | ((1 << tier) - 1) }
    }

    /// The microseconds that a number of records take of it, at most, where none is dated after the clock.
    pub fn span(self, records: i64) -> i64 {
        self.step.saturating_mul(records.saturating_add(1))
    }

    /// Its first timestamp at a time or after it.
    fn at_or_after(self, micros: i64) -> i64 {
        micros + ((self.first - micros) & (self.step - 1))
    }
}

/// Where the clock of one partition stands: the write timestamp of its last record, in microseconds since the epoch; 0 before the first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct WriteClock(i64);

/// What the clock says to a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tick {
    /// The timestamp its row is written with, microseconds since the epoch.
    pub write_ts: i64,
    /// Whether its own timestamp was not believed, and counted as none.
    pub clamped: bool,
}

impl WriteClock {
    /// The least step between two records, in microseconds.
    pub const STEP: i64 = 16;

    /// Goes on to the next record of a lane's partition. `timestamp_ms` is the record's own, milliseconds since the epoch; one that is not believed
    /// ([`is_plausible`]) counts as none.
    pub fn advance(&mut self, lane: Lane, timestamp_ms: Option<i64>) -> Tick {
        let clamped = timestamp_ms.is_some_and(|own| !is_plausible(own));
        let own = timestamp_ms.filter(|_| !clamped).map_or(0, |own| own * 1_000);
        self.0 = lane.at_or_after((self.0 + Self::STEP).max(own));
        Tick { write_ts: self.0, clamped }
    }

    /// Where it stands, in microseconds since the epoch.
    pub fn micros(self) -> i64 {
        self.0
    }

    /// A clock that stands there; none where no clock can stand.
    pub fn from_micros(micros: i64) -> Option<Self> {
        // Far above what can be reached, far below what would overflow.
        (0..=2 * 1_000 * PLAUSIBLE_MILLIS.end).contains(&micros).then_some(Self(micros))
    }
}

/// The most that the clocks of a replay are apart, microseconds: an hour. What is deleted by hand meanwhile loses for as long.
const APART_MOST: i64 = 3_600_000_000;

/// The write clock that a replay begins at, microseconds: after the largest that is known of the topic, so that what is read again wins over all that
/// was written from there, and after the time it is now, so that it wins over what was deleted or changed by hand until then. A time of day that
/// is not believed counts as none.
pub fn clock_of_replay(largest: i64, now: SystemTime) -> i64 {
    let now = now.duration_since(UNIX_EPOCH).ok().and_then(|since| i64::try_from(since.as_micros()).ok());
    now.filter(|micros| is_plausible(micros / 1_000)).map_or(largest, |micros| micros.max(largest))
}

/// Where the write clocks of partitions begin that are read again from `begin` on, of each that number of offsets: after all that is read again of those with
/// lower numbers. Keys that moved when the number of partitions was multiplied moved to higher ones, so their newest records win again. At most
/// an hour after the first, which a replay of many millions of records exceeds: beyond that the order between partitions is not kept.
pub fn clocks_of_replay(begin: i64, again: &BTreeMap<Partition, Offset>) -> BTreeMap<Partition, i64> {
    let mut next = begin;
    let mut clock = |(&partition, &offsets): (&Partition, &Offset)| {
        let clock = next.min(begin + APART_MOST);
        next = next.saturating_add(Lane::of(partition).span(offsets));
        (partition, clock)
    };
    again.iter().map(&mut clock).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    /// A time that is believed: late in 2023, in milliseconds.
    const NOW: i64 = 1_700_000_000_000;

    impl WriteClock {
        fn stamp(&mut self, timestamp_ms: Option<i64>) -> i64 {
            self.advance(Lane::of(0), timestamp_ms).write_ts
        }
    }

    #[test]
    fn a_record_is_written_within_a_step_of_its_own_time_when_the_partition_is_slow() {
        let mut clock = WriteClock::default();
        assert_eq!(clock.stamp(Some(NOW)), NOW * 1_000);
        assert_eq!(clock.stamp(Some(NOW + 1)), NOW * 1_000 + 1_008, "the first of the lane after it");
        let late = WriteClock::default().advance(Lane::of(7), Some(NOW)).write_ts - NOW * 1_000;
        assert!((0..16).contains(&late), "{late}");
    }

    #[test]
    fn records_of_one_millisecond_or_of_an_earlier_one_go_a_step_on() {
        let mut clock = WriteClock::default();
        let first = clock.stamp(Some(NOW));
        assert_eq!(clock.stamp(Some(NOW)), first + 16);
        assert_eq!(clock.stamp(Some(NOW - 5)), first + 32);
        assert_eq!(clock.stamp(None), first + 48);
    }

    #[test]
    fn a_timestamp_in_the_wrong_unit_does_not_carry_the_clock_away() {
        let mut clock = WriteClock::default();
        assert_eq!(clock.stamp(Some(NOW * 1_000_000)), 16);
        assert_eq!(clock.stamp(Some(NOW * 1_000)), 32);
        assert_eq!(clock.stamp(Some(NOW / 1_000)), 48, "seconds: of January 1970");
        assert_eq!(clock.stamp(Some(i64::MIN)), 64);
    }

    #[test]
    fn it_says_of_each_timestamp_that_it_did_not_believe_too_early_or_too_late() {
        let mut clock = WriteClock::default();
        let (from, to) = (PLAUSIBLE_MILLIS.start, PLAUSIBLE_MILLIS.end);
        let stamps =
            [None, Some(i64::MIN), Some(-1), Some(0), Some(from - 1), Some(from), Some(NOW), Some(to - 1), Some(to), Some(i64::MAX)];
        let clamped: Vec<bool> = stamps.iter().map(|&at| clock.advance(Lane::of(3), at).clamped).collect();
        assert_eq!(clamped, [false, true, true, true, true, false, false, false, true, true]);
    }

    #[test]
    fn the_first_eight_partitions_step_by_16_and_each_tier_of_four_times_as_many_by_eight_times_that() {
        let steps: Vec<i64> = [0, 7, 8, 39, 40, 167, 168, 679, 680].map(|partition| Lane::of(partition).step).to_vec();
        assert_eq!(steps, [16, 16, 128, 128, 1_024, 1_024, 8_192, 8_192, 65_536]);
    }

    #[test]
    fn no_two_of_a_thousand_partitions_ever_write_with_the_same_timestamp() {
        // The lanes repeat after the largest step.
        let most = Lane::of(999).step;
        let mut seen = BTreeSet::new();
        for partition in 0..1_000 {
            let Lane { step, first } = Lane::of(partition);
            assert!(most % step == 0 && first < step);
            for at in (first..most).step_by(usize::try_from(step).unwrap()) {
                assert!(seen.insert(at), "partition {partition} at {at}");
            }
        }
    }

    #[test]
    fn a_clock_of_a_version_without_lanes_goes_on_and_never_back() {
        for partition in [0, 5, 7, 8, 50, 700] {
            for before in (0..2_000).map(|at| NOW * 1_000 + at) {
                let mut clock = WriteClock::from_micros(before).unwrap();
                let next = clock.advance(Lane::of(partition), None).write_ts;
                assert!(next >= before + 16, "partition {partition}: {before} and then {next}, where {} was due before", before + 16);
            }
        }
    }

    /// Timestamps as they come: near each other, in any unit, or none.
    fn any_stamp() -> impl Strategy<Value = Option<i64>> {
        prop_oneof![1 => Just(None), 8 => (NOW - 40..NOW + 40).prop_map(Some), 2 => any::<i64>().prop_map(Some)]
    }

    #[test]
    fn a_replay_begins_after_the_largest_clock_and_after_the_time_it_is() {
        let now = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        assert_eq!(clock_of_replay(5_000, now), 1_700_000_000_000_000, "later than a row deleted by hand until now");
        assert_eq!(clock_of_replay(1_700_000_000_000_001, now), 1_700_000_000_000_001, "later than a record that was dated ahead");
        for odd in [UNIX_EPOCH, UNIX_EPOCH - Duration::from_secs(9), UNIX_EPOCH + Duration::from_secs(7_258_118_400)] {
            assert_eq!(clock_of_replay(5_000, odd), 5_000, "a machine whose time is not set");
        }
    }

    #[test]
    fn a_replay_writes_each_partition_after_all_of_those_before_it_up_to_an_hour_apart() {
        let begin = 1_700_000_000_000_003;
        let clocks = clocks_of_replay(begin, &BTreeMap::from([(0, 1_000), (3, 0), (9, 50), (12, 1)]));
        let last = |partition, records: usize| {
            let mut clock = WriteClock::from_micros(clocks[&partition]).unwrap();
            (0..records).map(|_| clock.advance(Lane::of(partition), None).write_ts).last().unwrap_or(clocks[&partition])
        };
        assert_eq!(clocks[&0], begin);
        assert!(last(0, 1_000) <= clocks[&3] && last(3, 0) <= clocks[&9] && last(9, 50) <= clocks[&12], "{clocks:?}");
        let many = clocks_of_replay(begin, &BTreeMap::from([(0, 1_000_000_000), (1, Offset::MAX), (2, 1)]));
        assert_eq!((many[&1], many[&2]), (begin + APART_MOST, begin + APART_MOST));
    }

    proptest! {
        #[test]
        fn it_rises_by_a_step_and_goes_on_from_any_commit(
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
        fn the_records_of_two_partitions_never_tie_whatever_their_timestamps(
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
