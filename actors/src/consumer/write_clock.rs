//! The write clock of a partition: the timestamp each record's row is written with.
//!
//! Guarantee: it rises by at least [`WriteClock::SLOTS`] from record to record, and it is a function of the partition's prefix alone: wherever
//! batches are cut, and wherever a new process goes on from a commit, a record gets the same timestamp again. So a repeated write changes
//! nothing and a late one loses. Not guaranteed: that it is the record's own time; a partition of more than 62,500 records a second, or
//! of timestamps that step back, runs ahead of it. Nor is a timestamp held against the time it is now, which another process at another
//! time would tell otherwise: one of next year is believed, and carries the clock along until that year comes. Topics that Forebay makes
//! have the broker's own timestamps, so this happens in topics of others only.

/// The end of the year 2099, in milliseconds: what is later is not a time but a mistake (nanoseconds, say), and not believed.
const LATEST_MILLIS: i64 = 4_102_444_800_000;
/// The same in microseconds.
const LATEST_MICROS: i64 = LATEST_MILLIS * 1_000;

/// Where the clock of one partition stands: the write timestamp of its last record, in microseconds since the epoch; 0 before the first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct WriteClock(i64);

/// What the clock says to a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tick {
    /// The timestamp its row is written with, microseconds since the epoch.
    pub write_ts: i64,
    /// Whether its own timestamp was not believed, and counted as 0.
    pub clamped: bool,
}

impl WriteClock {
    /// The least step between two records, in microseconds: room for as many rows of one record.
    pub const SLOTS: i64 = 16;

    /// Goes on to the next record. `timestamp_ms` is the record's own, milliseconds since the epoch; none counts as 0, and so does one that
    /// is not believed, from the year 2100 on.
    pub fn advance(&mut self, timestamp_ms: Option<i64>) -> Tick {
        let own = timestamp_ms.unwrap_or(0);
        let clamped = own >= LATEST_MILLIS;
        let own = if clamped { 0 } else { own.saturating_mul(1_000) };
        self.0 = (self.0 + Self::SLOTS).max(own);
        Tick { write_ts: self.0, clamped }
    }

    /// Where it stands, in microseconds since the epoch.
    pub fn micros(self) -> i64 {
        self.0
    }

    /// A clock that stands there; none where no clock can stand.
    pub fn from_micros(micros: i64) -> Option<Self> {
        // Far above what can be reached, far below what would overflow.
        (0..=2 * LATEST_MICROS).contains(&micros).then_some(Self(micros))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    impl WriteClock {
        fn stamp(&mut self, timestamp_ms: Option<i64>) -> i64 {
            self.advance(timestamp_ms).write_ts
        }
    }

    #[test]
    fn a_record_is_written_at_its_own_time_when_the_partition_is_slow() {
        let mut clock = WriteClock::default();
        assert_eq!(clock.stamp(Some(1_700_000_000_000)), 1_700_000_000_000_000);
        assert_eq!(clock.stamp(Some(1_700_000_000_001)), 1_700_000_000_001_000);
    }

    #[test]
    fn records_of_one_millisecond_or_of_an_earlier_one_step_by_the_slots() {
        let mut clock = WriteClock::default();
        clock.stamp(Some(1_000));
        assert_eq!(clock.stamp(Some(1_000)), 1_000_016);
        assert_eq!(clock.stamp(Some(3)), 1_000_032);
        assert_eq!(clock.stamp(None), 1_000_048);
    }

    #[test]
    fn a_timestamp_in_the_wrong_unit_does_not_carry_the_clock_away() {
        let mut clock = WriteClock::default();
        assert_eq!(clock.stamp(Some(1_700_000_000_000_000_000)), 16);
        assert_eq!(clock.stamp(Some(1_700_000_000_000_000)), 32);
        assert_eq!(clock.stamp(Some(i64::MIN)), 48);
    }

    #[test]
    fn it_says_of_each_timestamp_that_it_did_not_believe() {
        let mut clock = WriteClock::default();
        let stamps =
            [None, Some(-1), Some(i64::MIN), Some(1_700_000_000_000), Some(LATEST_MILLIS - 1), Some(LATEST_MILLIS), Some(i64::MAX)];
        let clamped: Vec<bool> = stamps.iter().map(|&at| clock.advance(at).clamped).collect();
        assert_eq!(clamped, [false, false, false, false, false, true, true]);
    }

    proptest! {
        #[test]
        fn it_rises_by_the_slots_and_goes_on_from_any_commit(stamps in prop::collection::vec(prop::option::of(any::<i64>()), 1..60), cut in 0usize..60) {
            let mut whole = WriteClock::default();
            let all: Vec<i64> = stamps.iter().map(|&at| whole.stamp(at)).collect();
            prop_assert!(all.windows(2).all(|pair| pair[1] - pair[0] >= WriteClock::SLOTS));

            let cut = cut.min(stamps.len());
            let mut first = WriteClock::default();
            stamps[..cut].iter().for_each(|&at| { first.stamp(at); });
            let mut second = WriteClock::from_micros(first.micros()).unwrap();
            let rest: Vec<i64> = stamps[cut..].iter().map(|&at| second.stamp(at)).collect();
            prop_assert_eq!(&all[cut..], &rest[..]);
        }
    }
}
