//! What [`State`](super::state::State) keeps, whatever the order of things.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use forebay_schemas::offset::{Checkpoint, Epoch, Offset, Partition, Range, WriteTimestamp};
use forebay_schemas::run::RunWritten;
use proptest::prelude::*;

use super::batch_builder::{Incoming, Limits};
use super::state::{Commit, Fate, Pace, Settled, State, to_resume};
use crate::message::RECORD_OVERHEAD;
use forebay_dataplane::write_clock::{Lane, WriteClock};

/// A time that is believed, in milliseconds.
const NOW: i64 = 1_700_000_000_000;

fn limits(records: usize, bytes: u64) -> Limits {
    Limits::of(&forebay_schemas::pipeline::BatchSection {
        max_records: records,
        max_bytes: forebay_schemas::pipeline::Bytes(bytes),
        ..Default::default()
    })
}

fn state() -> State {
    State::new(limits(1_000, 1 << 20))
}

fn record(partition: Partition, offset: Offset) -> Incoming<'static> {
    Incoming { partition, offset, timestamp_ms: Some(1_000 + offset), key: Some(b"key"), value: Some(b"value"), headers: b"" }
}

fn take(state: &mut State, partition: Partition, offset: Offset) {
    assert_eq!(state.fate(partition, offset), Fate::Take);
    state.take(&record(partition, offset), Instant::now);
}

fn start(state: &mut State, partition: Partition, offset: Offset) {
    state.assign(partition, Checkpoint { offset, write_clock: WriteTimestamp::default(), epoch: Epoch::new(1) }, offset);
}

fn offsets(commits: &[Commit]) -> BTreeMap<Partition, Offset> {
    commits.iter().map(|commit| (commit.partition, commit.checkpoint.offset)).collect()
}

fn ends(settled: &Settled) -> Vec<(Partition, Offset)> {
    settled.moved.iter().map(|(partition, checkpoint)| (*partition, checkpoint.offset)).collect()
}

#[test]
fn the_oldest_unwritten_record_is_the_first_of_the_first_batch_that_is_not_settled() {
    let mut state = state();
    start(&mut state, 0, 5);
    assert_eq!(state.oldest_unwritten(0), None, "nothing is read");
    take(&mut state, 0, 5);
    take(&mut state, 0, 6);
    assert_eq!(state.oldest_unwritten(0), Some(1_005));
    state.cut();
    take(&mut state, 0, 7);
    state.cut();
    take(&mut state, 0, 8);
    state.settled(2, Vec::new());
    assert_eq!(state.oldest_unwritten(0), Some(1_005), "the second is done, the first is not");
    state.settled(1, Vec::new());
    assert_eq!(state.oldest_unwritten(0), Some(1_008));
    state.cut();
    state.settled(3, Vec::new());
    assert_eq!((state.oldest_unwritten(0), state.oldest_unwritten(9)), (None, None));
}

#[test]
fn a_batch_covers_each_partition_from_its_position_to_after_its_last_record() {
    let mut state = state();
    start(&mut state, 0, 5);
    start(&mut state, 1, 0);
    take(&mut state, 0, 7);
    take(&mut state, 1, 0);
    take(&mut state, 0, 9);
    let cut = state.cut().unwrap();
    assert_eq!((cut.id, cut.filled.raw.records.len()), (1, 3));
    assert_eq!(cut.ranges.0, BTreeMap::from([(0, Range { from: 5, to: 10 }), (1, Range { from: 0, to: 1 })]));
    assert_eq!(cut.filled.weight, 3 * (8 + RECORD_OVERHEAD));
    assert_eq!(cut.filled.raw.arena, b"keyvaluekeyvaluekeyvalue");
    take(&mut state, 0, 10);
    assert_eq!(state.cut().unwrap().ranges.0, BTreeMap::from([(0, Range { from: 10, to: 11 })]));
    assert!(state.cut().is_none(), "an empty batch is never cut");
}

#[test]
fn an_end_behind_the_last_record_is_committed_once_all_before_it_is_settled_and_moves_no_clock() {
    let mut state = state();
    start(&mut state, 0, 5);
    take(&mut state, 0, 5);
    assert_eq!(state.ends_at(0, 8), None, "a record before it forms a batch");
    assert_eq!(state.fate(0, 7), Fate::Repeated, "nothing before the end is to come");
    let clock = state.cut().unwrap().filled.pieces[0].clock.micros();
    assert_eq!((state.ends_at(0, 9), state.to_commit().len()), (None, 0), "it is in flight");
    assert_eq!(ends(&state.settled(1, Vec::new())), [(0, 9)]);
    assert_eq!(
        state.to_commit()[0].checkpoint,
        Checkpoint { offset: 9, write_clock: WriteTimestamp::from_micros(clock), epoch: Epoch::new(1) }
    );
    assert_eq!(
        state.ends_at(0, 12),
        Some(Checkpoint { offset: 12, write_clock: WriteTimestamp::from_micros(clock), epoch: Epoch::new(1) }),
        "with nothing in flight at once"
    );
    assert_eq!(
        (state.ends_at(0, 12), state.ends_at(0, 3), state.ends_at(7, 3)),
        (None, None, None),
        "what is known, or not read, moves nothing"
    );
    take(&mut state, 0, 14);
    assert_eq!(state.cut().unwrap().ranges.0[&0], Range { from: 12, to: 15 });
    assert_eq!(ends(&state.settled(2, Vec::new())), [(0, 15)]);
}

#[test]
fn a_tombstone_and_a_record_without_key_are_told_from_empty_ones() {
    let mut state = state();
    start(&mut state, 0, 0);
    state.take(&Incoming { key: None, value: Some(b""), ..record(0, 0) }, Instant::now);
    state.take(&Incoming { key: Some(b""), value: None, ..record(0, 1) }, Instant::now);
    let records = state.cut().unwrap().filled.raw.records;
    assert_eq!((&records[0].key, &records[0].value), (&None, &Some(0..0)));
    assert_eq!((&records[1].key, &records[1].value), (&Some(0..0), &None));
}

#[test]
fn records_without_a_key_are_counted_by_partition() {
    let mut state = state();
    start(&mut state, 0, 0);
    start(&mut state, 1, 0);
    for (partition, offset, key) in [(0, 0, None), (0, 1, Some(&b"key"[..])), (0, 2, None), (1, 0, Some(&b""[..]))] {
        state.take(&Incoming { key, ..record(partition, offset) }, Instant::now);
    }
    let unkeyed: Vec<_> = state.cut().unwrap().filled.pieces.iter().map(|piece| (piece.partition, piece.unkeyed)).collect();
    assert_eq!(unkeyed, [(0, 2), (1, 0)]);
}

#[test]
fn headers_are_in_the_arena_and_in_the_weight() {
    let mut state = state();
    start(&mut state, 0, 0);
    state.take(&Incoming { headers: b"headers", ..record(0, 0) }, Instant::now);
    take(&mut state, 0, 1);
    let filled = state.cut().unwrap().filled;
    assert_eq!(filled.weight, 2 * (8 + RECORD_OVERHEAD) + 7);
    let arena = |record: usize| {
        &filled.raw.arena[filled.raw.records[record].headers.start as usize..filled.raw.records[record].headers.end as usize]
    };
    assert_eq!((arena(0), arena(1)), (&b"headers"[..], &b""[..]));
}

#[test]
fn timestamps_that_are_not_believed_are_counted_by_assignment() {
    let mut state = state();
    start(&mut state, 0, 0);
    let mut clamped = |offset, ms| state.take(&Incoming { timestamp_ms: Some(ms), ..record(0, offset) }, Instant::now);
    let in_2200 = 7_258_118_400_000;
    let all = [clamped(0, NOW), clamped(1, in_2200), clamped(2, NOW + 2), clamped(3, i64::MAX), clamped(4, NOW / 1_000)];
    assert_eq!(all, [None, Some(1), None, Some(2), Some(3)]);
    let stamps: Vec<_> = state.cut().unwrap().filled.raw.records.iter().map(|record| record.write_ts - NOW * 1_000).collect();
    assert_eq!(stamps, [0, 16, 2_000, 2_016, 2_032]);
    state.revoke(&[0]);
    start(&mut state, 0, 5);
    assert_eq!(state.take(&Incoming { timestamp_ms: Some(in_2200), ..record(0, 5) }, Instant::now), Some(1));
}

#[test]
fn the_written_end_waits_for_the_batch_before() {
    let mut state = state();
    start(&mut state, 0, 0);
    take(&mut state, 0, 0);
    let first = state.cut().unwrap().id;
    take(&mut state, 0, 1);
    let second = state.cut().unwrap().id;
    assert_eq!(state.settled(second, Vec::new()).moved, []);
    assert_eq!(state.to_commit(), []);
    assert_eq!(ends(&state.settled(first, Vec::new())), [(0, 2)]);
    assert_eq!(offsets(&state.to_commit()), BTreeMap::from([(0, 2)]));
}

#[test]
fn a_commit_is_asked_for_once_and_again_when_it_is_refused() {
    let mut state = state();
    start(&mut state, 0, 0);
    assert_eq!(state.to_commit(), [], "the begin of a partition needs no commit");
    take(&mut state, 0, 0);
    let id = state.cut().unwrap().id;
    state.settled(id, Vec::new());
    let checkpoints = state.to_commit();
    state.asked(&checkpoints);
    assert_eq!(state.to_commit(), []);
    assert_eq!(state.unconfirmed(&[0]), checkpoints);
    state.refused();
    assert_eq!(state.to_commit(), checkpoints);
    state.asked(&checkpoints);
    state.confirmed(0, 1);
    state.refused();
    assert_eq!((state.to_commit(), state.unconfirmed(&[0])), (vec![], vec![]));
}

#[test]
fn what_settles_after_its_partition_went_away_is_ignored_even_when_it_came_back() {
    let mut state = state();
    start(&mut state, 0, 0);
    take(&mut state, 0, 0);
    let id = state.cut().unwrap().id;
    state.revoke(&[0]);
    assert_eq!(state.fate(0, 1), Fate::Foreign);
    start(&mut state, 0, 0);
    assert_eq!(state.settled(id, Vec::new()).moved, []);
    assert_eq!((state.in_flight(), state.to_commit()), (0, vec![]));
}

#[test]
fn a_record_delivered_again_is_refused_and_a_gap_is_not() {
    let mut state = state();
    start(&mut state, 0, 3);
    assert_eq!(state.fate(0, 2), Fate::Repeated);
    take(&mut state, 0, 3);
    assert_eq!(state.fate(0, 3), Fate::Repeated);
    take(&mut state, 0, 8);
}

#[test]
fn a_record_larger_than_the_limit_goes_alone() {
    let mut state = State::new(limits(10, 12));
    start(&mut state, 0, 0);
    let large = Incoming { value: Some(&[0; 100]), ..record(0, 0) };
    assert!(state.forming().fits(&large));
    state.take(&large, Instant::now);
    assert!(state.forming().is_full());
    assert!(!state.forming().fits(&record(0, 1)));
    state.cut().unwrap();
    take(&mut state, 0, 1);
    assert!(!state.forming().is_full());
    assert!(!state.forming().fits(&record(0, 2)), "8 and 8 bytes are more than 12");
}

#[test]
fn commits_are_spaced_one_at_a_time_and_backed_off_when_they_fail() {
    let zero = Instant::now();
    let at = |millis| zero + Duration::from_millis(millis);
    let mut pace = Pace::default();
    assert!(pace.is_due(zero, false), "the first one waits for nothing");
    pace.sent(zero);
    assert!(!pace.is_due(at(10_000), true), "one is on its way");
    pace.confirmed();
    assert!(!pace.is_due(at(199), false) && pace.is_due(at(200), false));
    assert!(!pace.is_due(at(19), true) && pace.is_due(at(20), true));
    pace.sent(at(200));
    pace.failed(at(300), 0.0);
    assert!(!pace.is_due(at(499), true) && pace.is_due(at(500), true));
    pace.sent(at(500));
    pace.failed(at(500), 0.0);
    assert!(!pace.is_due(at(899), true) && pace.is_due(at(900), true));
}

#[test]
fn partitions_are_resumed_with_a_quarter_of_the_budget_or_what_the_record_needs() {
    assert_eq!((to_resume(100, 10), to_resume(100, 60)), (25, 60));
}

/// One thing that happens to the consumer.
#[derive(Debug, Clone)]
enum Step {
    Read { partition: Partition, gap: Offset, stamp: Option<i64> },
    End { partition: Partition, gap: Offset },
    Cut,
    Settle { which: prop::sample::Index },
    Revoke { partition: Partition },
    Assign { partition: Partition },
    Ask,
    Confirm,
    Refuse,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let partition = 0..3;
    let step = prop_oneof![
        8 => (partition.clone(), 0..3i64, prop::option::of(NOW..NOW + 10_000)).prop_map(|(partition, gap, stamp)| Step::Read { partition, gap, stamp }),
        2 => (partition.clone(), 0..3i64).prop_map(|(partition, gap)| Step::End { partition, gap }),
        4 => Just(Step::Cut),
        4 => any::<prop::sample::Index>().prop_map(|which| Step::Settle { which }),
        1 => partition.clone().prop_map(|partition| Step::Revoke { partition }),
        2 => partition.prop_map(|partition| Step::Assign { partition }),
        2 => Just(Step::Ask),
        2 => Just(Step::Confirm),
        1 => Just(Step::Refuse),
    ];
    prop::collection::vec(step, 1..200)
}

/// A partition as Kafka has it: each record's offset and timestamp, from the begin, and the group's commit.
#[derive(Debug, Default)]
struct Topic {
    log: Vec<(Offset, Option<i64>)>,
    /// The offset that the next record gets, or a later one.
    end: Offset,
    commit: Option<Checkpoint>,
}

impl Topic {
    /// The timestamps the records must be written with.
    fn write_ts(&self, partition: Partition) -> BTreeMap<Offset, i64> {
        let mut clock = WriteClock::default();
        self.log.iter().map(|&(offset, stamp)| (offset, clock.advance(Lane::of(partition), stamp).write_ts)).collect()
    }
}

proptest! {
    #[test]
    fn nothing_unsettled_is_ever_committed_and_everything_settled_is(steps in steps()) {
        let mut state = state();
        let mut topics: BTreeMap<Partition, Topic> = (0..3).map(|partition| (partition, Topic::default())).collect();
        // What the table holds: the offsets whose effect is done, and what each was written with.
        let mut done: BTreeSet<(Partition, Offset)> = BTreeSet::new();
        let mut written_with: BTreeMap<(Partition, Offset), i64> = BTreeMap::new();
        let mut positions: BTreeMap<Partition, Offset> = BTreeMap::new();
        let mut flying: Vec<(u64, Vec<(Partition, Offset)>)> = Vec::new();
        let mut asked: Vec<Commit> = Vec::new();

        macro_rules! cut { () => { if let Some(cut) = state.cut() {
            for record in &cut.filled.raw.records {
                let ts = *written_with.entry((record.partition, record.offset)).or_insert(record.write_ts);
                prop_assert_eq!(ts, record.write_ts, "a record read again is written with the same timestamp");
            }
            flying.push((cut.id, cut.filled.raw.records.iter().map(|record| (record.partition, record.offset)).collect()));
        } } }
        macro_rules! settle { ($at:expr) => {{
            let (id, records) = flying.remove($at);
            done.extend(records);
            state.settled(id, Vec::new());
        }} }
        macro_rules! commit { ($commits:expr) => { for &Commit { partition, checkpoint, .. } in $commits {
            let topic = topics.get_mut(&partition).unwrap();
            prop_assert!(topic.log.iter().all(|&(offset, _)| offset >= checkpoint.offset || done.contains(&(partition, offset))));
            prop_assert!(topic.commit.is_none_or(|before| before.offset <= checkpoint.offset), "a commit never goes back");
            let last = topic.log.iter().rev().find(|&&(offset, _)| offset < checkpoint.offset).map(|&(offset, _)| topic.write_ts(partition)[&offset]);
            prop_assert_eq!(last.unwrap_or(0), checkpoint.write_clock.micros());
            topic.commit = Some(checkpoint);
            state.confirmed(partition, checkpoint.offset);
        } } }

        for step in steps {
            match step {
                Step::Assign { partition } if !state.is_assigned(partition) => {
                    let start = topics[&partition].commit.unwrap_or(Checkpoint { offset: 0, write_clock: WriteTimestamp::default(), epoch: Epoch::new(1) });
                    state.assign(partition, start, start.offset);
                    positions.insert(partition, start.offset);
                }
                Step::Revoke { partition } if state.is_assigned(partition) => {
                    cut!();
                    let checkpoints = state.unconfirmed(&[partition]);
                    state.asked(&checkpoints);
                    commit!(&checkpoints);
                    state.revoke(&[partition]);
                    asked.retain(|commit| commit.partition != partition);
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
                    prop_assert_eq!(state.fate(partition, offset), Fate::Take);
                    state.take(&Incoming { timestamp_ms: stamp, ..record(partition, offset) }, Instant::now);
                    prop_assert_eq!(state.fate(partition, offset), Fate::Repeated);
                    positions.insert(partition, offset + 1);
                }
                Step::End { partition, gap } if state.is_assigned(partition) => {
                    // A marker, say, after the last record; reported only when all before it was given.
                    let topic = topics.get_mut(&partition).unwrap();
                    if topic.log.iter().all(|&(offset, _)| offset < positions[&partition]) {
                        topic.end += gap;
                        state.ends_at(partition, topic.end);
                        positions.insert(partition, topic.end.max(positions[&partition]));
                    }
                }
                Step::Cut => cut!(),
                Step::Settle { which } if !flying.is_empty() => settle!(which.index(flying.len())),
                Step::Ask if asked.is_empty() => {
                    asked = state.to_commit();
                    state.asked(&asked);
                }
                Step::Confirm => {
                    let checkpoints = std::mem::take(&mut asked);
                    commit!(&checkpoints);
                }
                Step::Refuse if !asked.is_empty() => {
                    asked.clear();
                    state.refused();
                }
                _ => {}
            }
        }

        // Whatever happened, when all is settled the ends are what was read.
        commit!(&std::mem::take(&mut asked));
        cut!();
        while !flying.is_empty() {
            settle!(flying.len() - 1);
        }
        state.refused();
        let checkpoints = state.to_commit();
        commit!(&checkpoints);
        for partition in state.assigned().collect::<Vec<_>>() {
            prop_assert_eq!(topics[&partition].commit.map_or(0, |checkpoint| checkpoint.offset), positions[&partition]);
        }
        prop_assert_eq!(state.in_flight(), 0);
        for (&partition, topic) in &topics {
            prop_assert!(topic.write_ts(partition).values().collect::<Vec<_>>().windows(2).all(|pair| pair[0] < pair[1]));
        }
    }
}

#[test]
fn what_became_of_the_records_of_runs_is_told_once_when_the_written_end_passes_them() {
    let mut state = state();
    start(&mut state, 0, 0);
    start(&mut state, 1, 0);
    let of = |n: u128, written: u64| RunWritten { run: uuid::Uuid::from_u128(n), written, ..RunWritten::default() };
    let cut = |state: &mut State, records: &[(Partition, Offset)]| {
        records.iter().for_each(|&(partition, offset)| take(state, partition, offset));
        state.cut().unwrap().id
    };
    let first = cut(&mut state, &[(0, 0), (1, 0)]);
    let second = cut(&mut state, &[(0, 1), (0, 2)]);
    let third = cut(&mut state, &[(1, 1), (1, 2)]);
    let told = |settled: Settled| settled.runs.iter().map(|of| (of.run.as_u128(), of.written)).collect::<Vec<_>>();
    assert_eq!(told(state.settled(second, vec![(0, of(1, 2))])), [], "the first is not settled: it would be read again, and this one too");
    assert_eq!(told(state.settled(first, vec![(0, of(1, 1)), (1, of(2, 1))])), [(1, 3), (2, 1)]);
    assert_eq!(told(state.settled(third, vec![(1, of(2, 2))])), [(2, 2)]);
    let gone = cut(&mut state, &[(0, 3)]);
    state.revoke(&[0]);
    assert_eq!(told(state.settled(gone, vec![(0, of(1, 1))])), [], "who gets the partition next counts it");
}
