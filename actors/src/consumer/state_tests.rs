//! The guarantees of [`State`](super::state::State), in any order of events.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use forebay_schemas::offset::{Checkpoint, Epoch, Offset, Partition, Range, WriteTimestamp};
use forebay_schemas::run::RunWritten;
use proptest::prelude::*;

use super::batch_builder::{Incoming, Limits};
use super::state::{Admission, Commit, CommitSchedule, Settled, State, bytes_to_resume};
use crate::message::RECORD_OVERHEAD;
use forebay_dataplane::write_clock::{Lane, WriteClock};

/// A plausible time, in milliseconds.
const NOW: i64 = 1_700_000_000_000;

fn limits(records: usize, bytes: u64) -> Limits {
    Limits::new(&forebay_schemas::pipeline::BatchSection {
        max_records: records,
        max_bytes: forebay_schemas::pipeline::Bytes(bytes),
        ..Default::default()
    })
}

fn state() -> State {
    State::new(limits(1_000, 1 << 20))
}

fn record(partition: Partition, offset: i64) -> Incoming<'static> {
    let timestamp_ms = Some(1_000 + offset);
    Incoming { partition, offset: Offset(offset), timestamp_ms, key: Some(b"key"), value: Some(b"value"), headers: b"" }
}

fn accept(state: &mut State, partition: Partition, offset: i64) {
    assert_eq!(state.admission(partition, Offset(offset)), Admission::Accept);
    state.accept(&record(partition, offset), Instant::now);
}

fn checkpoint(offset: i64, write_clock: WriteTimestamp) -> Checkpoint {
    Checkpoint { offset: Offset(offset), write_clock, epoch: Epoch::new(1) }
}

fn start(state: &mut State, partition: Partition, offset: i64) {
    state.assign(partition, checkpoint(offset, WriteTimestamp::default()), Offset(offset));
}

fn range(from: i64, to: i64) -> Range {
    Range { from: Offset(from), to: Offset(to) }
}

fn offsets(commits: &[Commit]) -> Vec<(Partition, i64)> {
    commits.iter().map(|commit| (commit.partition, commit.checkpoint.offset.value())).collect()
}

fn ends(settled: &Settled) -> Vec<(Partition, i64)> {
    settled.advanced.iter().map(|(partition, checkpoint)| (*partition, checkpoint.offset.value())).collect()
}

#[test]
fn the_oldest_unwritten_record_is_in_the_first_unsettled_batch() {
    let mut state = state();
    start(&mut state, 0, 5);
    assert_eq!(state.oldest_unwritten(0), None, "nothing was read");
    accept(&mut state, 0, 5);
    accept(&mut state, 0, 6);
    assert_eq!(state.oldest_unwritten(0), Some(1_005));
    state.seal();
    accept(&mut state, 0, 7);
    state.seal();
    accept(&mut state, 0, 8);
    state.settle(2, Vec::new());
    assert_eq!(state.oldest_unwritten(0), Some(1_005), "the second is done, the first is not");
    state.settle(1, Vec::new());
    assert_eq!(state.oldest_unwritten(0), Some(1_008));
    state.seal();
    state.settle(3, Vec::new());
    assert_eq!((state.oldest_unwritten(0), state.oldest_unwritten(9)), (None, None));
}

#[test]
fn a_batch_covers_each_partition_from_its_position_to_after_its_last_record() {
    let mut state = state();
    start(&mut state, 0, 5);
    start(&mut state, 1, 0);
    accept(&mut state, 0, 7);
    accept(&mut state, 1, 0);
    accept(&mut state, 0, 9);
    let sealed = state.seal().unwrap();
    assert_eq!((sealed.id, sealed.contents.raw.records.len()), (1, 3));
    assert_eq!(sealed.ranges.0, BTreeMap::from([(0, range(5, 10)), (1, range(0, 1))]));
    assert_eq!(sealed.contents.weight, 3 * (8 + RECORD_OVERHEAD));
    assert_eq!(sealed.contents.raw.arena, b"keyvaluekeyvaluekeyvalue");
    accept(&mut state, 0, 10);
    assert_eq!(state.seal().unwrap().ranges.0, BTreeMap::from([(0, range(10, 11))]));
    assert!(state.seal().is_none(), "an empty batch is never sealed");
}

#[test]
fn an_end_behind_the_last_record_is_committed_with_a_clock_that_has_passed_it() {
    let mut state = state();
    start(&mut state, 0, 5);
    accept(&mut state, 0, 5);
    assert_eq!(state.reach_end(0, Offset(8)), None, "a record before it is in the batch being filled");
    assert_eq!(state.admission(0, Offset(7)), Admission::Duplicate, "nothing before the end is expected");
    let record = state.seal().unwrap().contents.slices[0].clock.micros();
    let passed = |offsets: i64| WriteTimestamp::from_micros(record + offsets * WriteClock::STEP);
    assert_eq!((state.reach_end(0, Offset(9)), state.to_commit().len()), (None, 0), "it is in flight");
    assert_eq!(ends(&state.settle(1, Vec::new())), [(0, 9)]);
    assert_eq!(state.to_commit()[0].checkpoint, checkpoint(9, passed(3)));
    assert_eq!(state.reach_end(0, Offset(12)), Some(checkpoint(12, passed(6))), "with nothing in flight at once");
    assert_eq!(
        (state.reach_end(0, Offset(12)), state.reach_end(0, Offset(3)), state.reach_end(7, Offset(3))),
        (None, None, None),
        "what is known, or not read, moves nothing"
    );
    accept(&mut state, 0, 14);
    assert_eq!(state.seal().unwrap().ranges.0[&0], range(12, 15));
    assert_eq!(ends(&state.settle(2, Vec::new())), [(0, 15)]);
}

#[test]
fn a_record_gets_the_same_timestamp_again_when_compaction_has_removed_records_before_it() {
    let ahead = checkpoint(5, WriteTimestamp::from_micros(1_800_000_000_000_000));
    let timestamp_of_9 = |offsets: &[i64]| {
        let mut state = state();
        state.assign(0, ahead, ahead.offset);
        offsets.iter().for_each(|&offset| accept(&mut state, 0, offset));
        state.seal().unwrap().contents.raw.records.last().unwrap().write_ts
    };
    let all = timestamp_of_9(&[5, 6, 7, 8, 9]);
    assert_eq!(all, timestamp_of_9(&[9]));
    assert_eq!(all, timestamp_of_9(&[6, 9]));
}

#[test]
fn tombstones_and_missing_keys_differ_from_empty_ones() {
    let mut state = state();
    start(&mut state, 0, 0);
    state.accept(&Incoming { key: None, value: Some(b""), ..record(0, 0) }, Instant::now);
    state.accept(&Incoming { key: Some(b""), value: None, ..record(0, 1) }, Instant::now);
    let records = state.seal().unwrap().contents.raw.records;
    assert_eq!((&records[0].key, &records[0].value), (&None, &Some(0..0)));
    assert_eq!((&records[1].key, &records[1].value), (&Some(0..0), &None));
}

#[test]
fn records_without_a_key_are_counted_by_partition() {
    let mut state = state();
    start(&mut state, 0, 0);
    start(&mut state, 1, 0);
    for (partition, offset, key) in [(0, 0, None), (0, 1, Some(&b"key"[..])), (0, 2, None), (1, 0, Some(&b""[..]))] {
        state.accept(&Incoming { key, ..record(partition, offset) }, Instant::now);
    }
    let unkeyed: Vec<_> = state.seal().unwrap().contents.slices.iter().map(|slice| (slice.partition, slice.unkeyed)).collect();
    assert_eq!(unkeyed, [(0, 2), (1, 0)]);
}

#[test]
fn headers_are_in_the_arena_and_in_the_weight() {
    let mut state = state();
    start(&mut state, 0, 0);
    state.accept(&Incoming { headers: b"headers", ..record(0, 0) }, Instant::now);
    accept(&mut state, 0, 1);
    let contents = state.seal().unwrap().contents;
    assert_eq!(contents.weight, 2 * (8 + RECORD_OVERHEAD) + 7);
    let arena = |record: usize| {
        &contents.raw.arena[contents.raw.records[record].headers.start as usize..contents.raw.records[record].headers.end as usize]
    };
    assert_eq!((arena(0), arena(1)), (&b"headers"[..], &b""[..]));
}

#[test]
fn implausible_timestamps_are_counted_by_assignment() {
    let mut state = state();
    start(&mut state, 0, 0);
    let mut clamped = |offset, ms| state.accept(&Incoming { timestamp_ms: Some(ms), ..record(0, offset) }, Instant::now);
    let in_2200 = 7_258_118_400_000;
    let all = [clamped(0, NOW), clamped(1, in_2200), clamped(2, NOW + 2), clamped(3, i64::MAX), clamped(4, NOW / 1_000)];
    assert_eq!(all, [None, Some(1), None, Some(2), Some(3)]);
    let stamps: Vec<_> = state.seal().unwrap().contents.raw.records.iter().map(|record| record.write_ts - NOW * 1_000).collect();
    assert_eq!(stamps, [0, 16, 2_000, 2_016, 2_032]);
    state.revoke(&[0]);
    start(&mut state, 0, 5);
    assert_eq!(state.accept(&Incoming { timestamp_ms: Some(in_2200), ..record(0, 5) }, Instant::now), Some(1));
}

#[test]
fn the_written_offset_waits_for_the_previous_batch() {
    let mut state = state();
    start(&mut state, 0, 0);
    accept(&mut state, 0, 0);
    let first = state.seal().unwrap().id;
    accept(&mut state, 0, 1);
    let second = state.seal().unwrap().id;
    assert_eq!(state.settle(second, Vec::new()).advanced, []);
    assert_eq!(state.to_commit(), []);
    assert_eq!(ends(&state.settle(first, Vec::new())), [(0, 2)]);
    assert_eq!(offsets(&state.to_commit()), [(0, 2)]);
}

#[test]
fn a_commit_is_requested_once_and_again_after_a_failure() {
    let mut state = state();
    start(&mut state, 0, 0);
    assert_eq!(state.to_commit(), [], "the start needs no commit");
    accept(&mut state, 0, 0);
    let id = state.seal().unwrap().id;
    state.settle(id, Vec::new());
    let checkpoints = state.to_commit();
    state.commit_requested(&checkpoints);
    assert_eq!(state.to_commit(), []);
    assert_eq!(state.unconfirmed(&[0]), checkpoints);
    state.commit_failed();
    assert_eq!(state.to_commit(), checkpoints);
    state.commit_requested(&checkpoints);
    state.commit_confirmed(0, Offset(1));
    state.commit_failed();
    assert_eq!((state.to_commit(), state.unconfirmed(&[0])), (vec![], vec![]));
}

#[test]
fn a_batch_of_a_revoked_partition_is_ignored_even_when_it_is_assigned_again() {
    let mut state = state();
    start(&mut state, 0, 0);
    accept(&mut state, 0, 0);
    let id = state.seal().unwrap().id;
    state.revoke(&[0]);
    assert_eq!(state.admission(0, Offset(1)), Admission::Unassigned);
    start(&mut state, 0, 0);
    assert_eq!(state.settle(id, Vec::new()).advanced, []);
    assert_eq!((state.in_flight(), state.to_commit()), (0, vec![]));
}

#[test]
fn a_duplicate_is_rejected_and_a_gap_is_accepted() {
    let mut state = state();
    start(&mut state, 0, 3);
    assert_eq!(state.admission(0, Offset(2)), Admission::Duplicate);
    accept(&mut state, 0, 3);
    assert_eq!(state.admission(0, Offset(3)), Admission::Duplicate);
    accept(&mut state, 0, 8);
}

#[test]
fn a_record_larger_than_the_limit_goes_alone() {
    let mut state = State::new(limits(10, 12));
    start(&mut state, 0, 0);
    let large = Incoming { value: Some(&[0; 100]), ..record(0, 0) };
    assert!(state.builder().fits(&large));
    state.accept(&large, Instant::now);
    assert!(state.builder().is_full());
    assert!(!state.builder().fits(&record(0, 1)));
    state.seal().unwrap();
    accept(&mut state, 0, 1);
    assert!(!state.builder().is_full());
    assert!(!state.builder().fits(&record(0, 2)), "8 and 8 bytes are more than 12");
}

#[test]
fn commits_are_made_one_at_a_time_and_back_off_after_failures() {
    let zero = Instant::now();
    let at = |millis| zero + Duration::from_millis(millis);
    let mut schedule = CommitSchedule::default();
    assert!(schedule.is_due(zero, false), "the first one is due at once");
    schedule.requested(zero);
    assert!(!schedule.is_due(at(10_000), true), "one is outstanding");
    schedule.confirmed();
    assert!(!schedule.is_due(at(199), false) && schedule.is_due(at(200), false));
    assert!(!schedule.is_due(at(19), true) && schedule.is_due(at(20), true));
    schedule.requested(at(200));
    schedule.failed(at(300), 0.0);
    assert!(!schedule.is_due(at(499), true) && schedule.is_due(at(500), true));
    schedule.requested(at(500));
    schedule.failed(at(500), 0.0);
    assert!(!schedule.is_due(at(899), true) && schedule.is_due(at(900), true));
}

#[test]
fn partitions_resume_with_a_quarter_of_the_budget_or_what_the_record_needs() {
    assert_eq!((bytes_to_resume(100, 10), bytes_to_resume(100, 60)), (25, 60));
}

/// A step of a history.
#[derive(Debug, Clone)]
enum Step {
    Read { partition: Partition, gap: i64, stamp: Option<i64> },
    End { partition: Partition, gap: i64 },
    Seal,
    Settle { which: prop::sample::Index },
    Revoke { partition: Partition },
    Assign { partition: Partition },
    Request,
    Confirm,
    Fail,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let partition = 0..3;
    let step = prop_oneof![
        8 => (partition.clone(), 0..3i64, prop::option::of(NOW..NOW + 10_000)).prop_map(|(partition, gap, stamp)| Step::Read { partition, gap, stamp }),
        2 => (partition.clone(), 0..3i64).prop_map(|(partition, gap)| Step::End { partition, gap }),
        4 => Just(Step::Seal),
        4 => any::<prop::sample::Index>().prop_map(|which| Step::Settle { which }),
        1 => partition.clone().prop_map(|partition| Step::Revoke { partition }),
        2 => partition.prop_map(|partition| Step::Assign { partition }),
        2 => Just(Step::Request),
        2 => Just(Step::Confirm),
        1 => Just(Step::Fail),
    ];
    prop::collection::vec(step, 1..200)
}

/// A partition in Kafka: each record's offset and timestamp, from the start, and the group's
/// commit.
#[derive(Debug, Default)]
struct Topic {
    log: Vec<(Offset, Option<i64>)>,
    /// The offset of the next record, or a later one.
    end: Offset,
    commit: Option<Checkpoint>,
}

impl Topic {
    /// The clock that must be committed with an offset: after the records before it, and after the
    /// offsets between them.
    fn clock_at(&self, partition: Partition, end: Offset) -> i64 {
        let (mut clock, mut position) = (WriteClock::default(), Offset(0));
        for &(offset, stamp) in self.log.iter().filter(|&&(offset, _)| offset < end) {
            clock.skip(Lane::of(partition), offset - position);
            clock.advance(Lane::of(partition), stamp);
            position = offset + 1;
        }
        clock.skip(Lane::of(partition), end - position);
        clock.micros()
    }
}

proptest! {
    #[test]
    fn nothing_unsettled_is_ever_committed_and_everything_settled_is(steps in steps()) {
        let mut state = state();
        let mut topics: BTreeMap<Partition, Topic> = (0..3).map(|partition| (partition, Topic::default())).collect();
        // The table: the settled offsets, and the timestamp of each.
        let mut done: BTreeSet<(Partition, Offset)> = BTreeSet::new();
        let mut written_with: BTreeMap<(Partition, Offset), i64> = BTreeMap::new();
        let mut positions: BTreeMap<Partition, Offset> = BTreeMap::new();
        let mut in_flight: Vec<(u64, Vec<(Partition, Offset)>)> = Vec::new();
        let mut requested: Vec<Commit> = Vec::new();

        macro_rules! seal { () => { if let Some(sealed) = state.seal() {
            for record in &sealed.contents.raw.records {
                let ts = *written_with.entry((record.partition, record.offset)).or_insert(record.write_ts);
                prop_assert_eq!(ts, record.write_ts, "a record read again is written with the same timestamp");
            }
            in_flight.push((sealed.id, sealed.contents.raw.records.iter().map(|record| (record.partition, record.offset)).collect()));
        } } }
        macro_rules! settle { ($at:expr) => {{
            let (id, records) = in_flight.remove($at);
            done.extend(records);
            state.settle(id, Vec::new());
        }} }
        macro_rules! commit { ($commits:expr) => { for &Commit { partition, checkpoint, .. } in $commits {
            let topic = topics.get_mut(&partition).unwrap();
            prop_assert!(topic.log.iter().all(|&(offset, _)| offset >= checkpoint.offset || done.contains(&(partition, offset))));
            prop_assert!(topic.commit.is_none_or(|before| before.offset <= checkpoint.offset), "a commit never moves back");
            prop_assert_eq!(topic.clock_at(partition, checkpoint.offset), checkpoint.write_clock.micros());
            topic.commit = Some(checkpoint);
            state.commit_confirmed(partition, checkpoint.offset);
        } } }

        for step in steps {
            match step {
                Step::Assign { partition } if !state.is_assigned(partition) => {
                    let start = topics[&partition].commit.unwrap_or(checkpoint(0, WriteTimestamp::default()));
                    state.assign(partition, start, start.offset);
                    positions.insert(partition, start.offset);
                }
                Step::Revoke { partition } if state.is_assigned(partition) => {
                    seal!();
                    let checkpoints = state.unconfirmed(&[partition]);
                    state.commit_requested(&checkpoints);
                    commit!(&checkpoints);
                    state.revoke(&[partition]);
                    requested.retain(|commit| commit.partition != partition);
                }
                Step::Read { partition, gap, stamp } if state.is_assigned(partition) => {
                    // The next record of the log, or a new one at its end.
                    let topic = topics.get_mut(&partition).unwrap();
                    let position = positions[&partition];
                    let next = topic.log.iter().copied().find(|&(offset, _)| offset >= position);
                    let (offset, stamp) = next.unwrap_or_else(|| {
                        let offset = topic.end + gap;
                        topic.log.push((offset, stamp));
                        topic.end = offset + 1;
                        (offset, stamp)
                    });
                    prop_assert_eq!(state.admission(partition, offset), Admission::Accept);
                    state.accept(&Incoming { timestamp_ms: stamp, ..record(partition, offset.value()) }, Instant::now);
                    prop_assert_eq!(state.admission(partition, offset), Admission::Duplicate);
                    positions.insert(partition, offset + 1);
                }
                Step::End { partition, gap } if state.is_assigned(partition) => {
                    // A marker after the last record, for example. It is reported once everything
                    // before it was polled.
                    let topic = topics.get_mut(&partition).unwrap();
                    if topic.log.iter().all(|&(offset, _)| offset < positions[&partition]) {
                        topic.end = topic.end + gap;
                        state.reach_end(partition, topic.end);
                        positions.insert(partition, topic.end.max(positions[&partition]));
                    }
                }
                Step::Seal => seal!(),
                Step::Settle { which } if !in_flight.is_empty() => settle!(which.index(in_flight.len())),
                Step::Request if requested.is_empty() => {
                    requested = state.to_commit();
                    state.commit_requested(&requested);
                }
                Step::Confirm => {
                    let checkpoints = std::mem::take(&mut requested);
                    commit!(&checkpoints);
                }
                Step::Fail if !requested.is_empty() => {
                    requested.clear();
                    state.commit_failed();
                }
                _ => {}
            }
        }

        // When everything is settled, the commits are at the positions.
        commit!(&std::mem::take(&mut requested));
        seal!();
        while !in_flight.is_empty() {
            settle!(in_flight.len() - 1);
        }
        state.commit_failed();
        let checkpoints = state.to_commit();
        commit!(&checkpoints);
        for partition in state.assigned().collect::<Vec<_>>() {
            prop_assert_eq!(topics[&partition].commit.map_or(Offset(0), |checkpoint| checkpoint.offset), positions[&partition]);
        }
        prop_assert_eq!(state.in_flight(), 0);
        for (&partition, topic) in &topics {
            let clocks: Vec<i64> = topic.log.iter().map(|&(offset, _)| topic.clock_at(partition, offset + 1)).collect();
            prop_assert!(clocks.windows(2).all(|pair| pair[0] < pair[1]));
        }
    }
}

#[test]
fn counts_of_runs_are_reported_once_when_the_written_offset_passes_them() {
    let mut state = state();
    start(&mut state, 0, 0);
    start(&mut state, 1, 0);
    let of = |n: u128, written: u64| RunWritten { run: uuid::Uuid::from_u128(n), written, ..RunWritten::default() };
    let sealed = |state: &mut State, records: &[(Partition, i64)]| {
        records.iter().for_each(|&(partition, offset)| accept(state, partition, offset));
        state.seal().unwrap().id
    };
    let first = sealed(&mut state, &[(0, 0), (1, 0)]);
    let second = sealed(&mut state, &[(0, 1), (0, 2)]);
    let third = sealed(&mut state, &[(1, 1), (1, 2)]);
    let counts = |settled: Settled| settled.runs.iter().map(|of| (of.run.as_u128(), of.written)).collect::<Vec<_>>();
    assert_eq!(counts(state.settle(second, vec![(0, of(1, 2))])), [], "the first is not settled: both would be read again");
    assert_eq!(counts(state.settle(first, vec![(0, of(1, 1)), (1, of(2, 1))])), [(1, 3), (2, 1)]);
    assert_eq!(counts(state.settle(third, vec![(1, of(2, 2))])), [(2, 2)]);
    let gone = sealed(&mut state, &[(0, 3)]);
    state.revoke(&[0]);
    assert_eq!(counts(state.settle(gone, vec![(0, of(1, 1))])), [], "the next owner counts it");
}
