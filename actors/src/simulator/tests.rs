//! Many seeds, and what each broken rule breaks.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::catch_unwind;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use super::Fault;
use super::invariants::{Invariant, Violation};
use super::world::history;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().filter(|text| !text.is_empty()).map(|text| text.parse().expect("a whole number"))
}

/// What many histories came to.
#[derive(Debug, Default)]
struct Sum {
    steps: u64,
    succeeded: u64,
    acknowledged: u64,
    /// The violations of each invariant, by its name: the seeds, and what the first of them said.
    wrong: BTreeMap<String, (BTreeSet<u64>, String)>,
}

impl Sum {
    /// The history of a seed; a panic of the core is as bad as a broken invariant.
    fn run(&mut self, seed: u64) {
        let (name, what) = match catch_unwind(|| history(seed, None, false)) {
            Ok(outcome) => {
                self.steps += u64::from(outcome.steps);
                self.succeeded += outcome.succeeded;
                self.acknowledged += outcome.acknowledged as u64;
                match outcome.end {
                    Ok(()) => return,
                    Err(broken) => (format!("{:?}", broken.invariant), broken.what),
                }
            }
            Err(_) => ("a panic".to_owned(), "it is above".to_owned()),
        };
        self.add(name, BTreeSet::from([seed]), what);
    }

    fn add(&mut self, name: String, seeds: BTreeSet<u64>, what: String) {
        let known = self.wrong.entry(name).or_default();
        if known.0.first().is_none_or(|first| seeds.first() < Some(first)) {
            known.1 = what;
        }
        known.0.extend(seeds);
    }

    fn merge(&mut self, other: Self) {
        self.steps += other.steps;
        self.succeeded += other.succeeded;
        self.acknowledged += other.acknowledged;
        other.wrong.into_iter().for_each(|(name, (seeds, what))| self.add(name, seeds, what));
    }
}

#[test]
#[allow(clippy::print_stderr, reason = "printed for the person who runs it by hand")]
fn ten_thousand_seeds_keep_every_invariant() {
    if let Some(seed) = number("FOREBAY_SEED") {
        let outcome = history(seed, None, true);
        eprintln!("{}", outcome.trace.join("\n"));
        assert_eq!(outcome.end, Ok(()), "seed {seed}");
        return;
    }
    let seeds = number("FOREBAY_SEEDS").unwrap_or(10_000);
    let (next, begun) = (AtomicU64::new(0), Instant::now());
    let work = || {
        let mut sum = Sum::default();
        loop {
            match next.fetch_add(1, Ordering::Relaxed) {
                seed if seed < seeds => sum.run(seed),
                _ => return sum,
            }
        }
    };
    let mut sum = Sum::default();
    std::thread::scope(|scope| {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let workers: Vec<_> = (0..cores).map(|_| scope.spawn(work)).collect();
        workers.into_iter().for_each(|worker| sum.merge(worker.join().expect("panics are caught")));
    });
    let took = begun.elapsed().as_secs_f64();
    let Sum { steps, succeeded, acknowledged, wrong } = sum;
    eprintln!(
        "{seeds} seeds, {steps} steps, {took:.1} s, {:.0} seeds/s; {acknowledged} records acknowledged, {succeeded} runs succeeded",
        seeds as f64 / took
    );
    if let Some((first, (violating, _))) = wrong.iter().min_by_key(|(_, (seeds, _))| seeds.first()) {
        let some = |seeds: &BTreeSet<u64>| seeds.iter().take(10).map(u64::to_string).collect::<Vec<_>>().join(", ");
        let all = wrong.iter().map(|(name, (seeds, what))| format!("{name}: {} seeds, {}: {what}\n", seeds.len(), some(seeds)));
        let seed = violating.first().expect("a violation has a seed");
        let trace = catch_unwind(|| history(*seed, None, true).trace).unwrap_or_default();
        panic!(
            "{}\n{first} in seed {seed}, the last steps:\n{}\nrepeat it with: make simulate SEED={seed}",
            all.collect::<String>(),
            tail(&trace)
        );
    }
    assert!(succeeded > seeds && acknowledged > 5 * seeds, "the histories are too empty to mean anything");
}

/// The last thirty steps of a trace; what a step led to is indented under it.
fn tail(trace: &[String]) -> String {
    let steps = trace.iter().enumerate().rev().filter(|(_, line)| !line.starts_with("  "));
    let from = steps.map(|(at, _)| at).nth(29).unwrap_or_default();
    trace[from..].join("\n")
}

/// The first seed at which a fault breaks something, and what.
fn found(fault: Fault, seeds: u64) -> Option<(u64, Violation)> {
    (0..seeds).find_map(|seed| history(seed, Some(fault), false).end.err().map(|broken| (seed, broken)))
}

#[test]
#[allow(clippy::print_stderr, reason = "printed for the person who runs it by hand")]
fn every_broken_rule_is_found_and_the_invariant_named() {
    use Invariant::*;
    let faults: [(Fault, &[Invariant], u64); 38] = [
        (Fault::DropRecord, &[NoRecordLost, PagesKeepTheirOrder], 200),
        (Fault::ForgetClock, &[NoDuplicateEffect], 400),
        (Fault::WallClock, &[ReadsNeverGoBack, RowsAreWhole], 400),
        (Fault::CommitOnePast, &[CommitsCoverTheWritten], 100),
        (Fault::SettleBeforeWrite, &[CommitsCoverTheWritten, RunsReportTheTruth], 100),
        (Fault::JournalWins, &[CommitsCoverTheWritten], 400),
        (Fault::SucceedAtDraining, &[RunsReportTheTruth], 100),
        (Fault::ProducedEarly, &[RunsReportTheTruth, ReadsLeaveNothingOut], 100),
        (Fault::UnboundedFlights, &[MemoryIsBounded], 400),
        (Fault::ForgetEvent, &[FoldIsState], 100),
        (Fault::CountAttempts, &[MetricsReconcile], 100),
        (Fault::CountOutOfTurn, &[MetricsReconcile], 4_000),
        (Fault::NeverRetryCommit, &[Liveness], 4_000),
        (Fault::ForgetOpenRuns, &[Liveness], 200),
        (Fault::SkipPage, &[ReadsLeaveNothingOut], 200),
        (Fault::ResendAbandonedOnly, &[PagesKeepTheirOrder], 400),
        (Fault::ShareCursor, &[ReadsLeaveNothingOut], 200),
        (Fault::AgainMovesCursor, &[CursorGoesOn, PassesAskTheSame], 400),
        (Fault::AgainGoesOnAtCursor, &[ReadsLeaveNothingOut], 10_000),
        (Fault::WindowNotInRead, &[ReadsLeaveNothingOut], 400),
        (Fault::PageUndoesSetCursor, &[CursorGoesOn], 1_000),
        (Fault::WatermarkMovesWithPages, &[WatermarkIsProduced], 1_000),
        (Fault::WatermarkPastRequest, &[WatermarkIsProduced], 2_000),
        (Fault::PassAsksFromReached, &[PassesAskTheSame], 1_000),
        (Fault::SeenWhenFetched, &[WatermarkIsProduced], 1_000),
        (Fault::FetchReadTwiceAtOnce, &[WatermarkIsProduced, PassesAskTheSame, CursorGoesOn, ReadsLeaveNothingOut], 4_000),
        (Fault::ValidatorsWhenFetched, &[UnchangedIsProduced], 1_000),
        (Fault::ValidatorsOutliveTheirAnswer, &[UnchangedIsProduced], 4_000),
        (Fault::LastModifiedOfThisSecond, &[UnchangedIsProduced], 4_000),
        (Fault::IgnoreTopicId, &[NoRecordLost, CommitsCoverTheWritten, Liveness], 400),
        (Fault::CheckTopicIdWhenAssignedOnly, &[Liveness], 400),
        (Fault::SucceedUnchecked, &[RunsReportTheTruth], 40_000),
        (Fault::EndAtLastRecord, &[Liveness], 200),
        (Fault::ReadUncommitted, &[NoDuplicateEffect, CommitsCoverTheWritten], 200),
        (Fault::WaitForEveryOffset, &[NoRecordLost, Liveness], 200),
        (Fault::NewPartitionClockZero, &[NoDuplicateEffect], 8_000),
        (Fault::TieAcrossPartitions, &[RowsAreWhole], 4_000),
        (Fault::ReplayWithoutWallClock, &[NoDuplicateEffect], 400),
    ];
    let mut unnamed = Vec::new();
    for (fault, invariants, seeds) in faults {
        match found(fault, seeds) {
            Some((seed, broken)) if invariants.contains(&broken.invariant) => eprintln!("{fault:?}: {:?} in seed {seed}", broken.invariant),
            found => unnamed.push(format!("{fault:?}: {found:?} in {seeds} seeds")),
        }
    }
    assert!(unnamed.is_empty(), "{}", unnamed.join("\n"));
}
