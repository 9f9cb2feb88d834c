//! One history: the models, two processes, and the scheduler that picks the next step.

use std::time::{Duration, Instant, SystemTime};

use chrono::{DateTime, Utc};
use forebay_schemas::offset::{Offset, Partition};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use uuid::Uuid;

use super::Fault;
use super::api::Api;
use super::broker::{Broker, Dating};
use super::egress::Stage;
use super::invariants::{self, Checked, Invariant, Oracle, Violation, violation};
use super::process::Process;
use super::source::{Changes, Source};
use super::store::{Store, Write};
use crate::consumer::state::Commit;

/// The steps after which an end without faults counts as stuck.
const MAX_END_STEPS: u32 = 20_000;
/// The wall clock at the start of every history.
const START_MS: i64 = 1_700_000_000_000;

/// The kind of history.
#[derive(Debug, Clone)]
pub(super) struct Scenario {
    pub(super) steps: u32,
    pub(super) processes: usize,
    /// Whether an operator re-creates topics and removes offsets.
    pub(super) operator: bool,
    /// Whether other producers write to the topic, in transactions.
    transactions: bool,
    /// Whether people change the table by hand; at the end everything is replayed.
    by_hand: bool,
    /// Whether the store accepts nothing most of the time.
    stalled: bool,
    pub(super) scheduled: bool,
    pub(super) source: Source,
    /// Whether a read that is complete begins again at its first page.
    pub(super) restarts: bool,
    /// The most pages that are requested before an earlier one is in the topic.
    pub(super) fetch_ahead: usize,
    /// The most fetches at a time.
    pub(super) max_active: usize,
    /// Whether folds are also made from bytes, which takes most of a history's time.
    pub(super) bytes: bool,
    /// The most records in a batch, in a page, and in one poll.
    pub(super) max_records: usize,
    pub(super) page: usize,
    pub(super) burst: usize,
}

/// A commit request on its way to the broker.
#[derive(Debug)]
pub(super) struct CommitRequest {
    pub(super) who: usize,
    pub(super) incarnation: u64,
    pub(super) generation: u64,
    pub(super) commits: Vec<Commit>,
}

/// Everything outside of the processes.
#[derive(Debug)]
pub(super) struct Env {
    pub(super) rng: StdRng,
    pub(super) scenario: Scenario,
    fault: Option<Fault>,
    zero: Instant,
    pub(super) passed: Duration,
    pub(super) broker: Broker,
    pub(super) store: Store,
    pub(super) api: Api,
    pub(super) changes: Changes,
    pub(super) oracle: Oracle,
    pub(super) commit_requests: Vec<CommitRequest>,
    /// Writes that nobody waits for, still on their way.
    pub(super) late_writes: Vec<(usize, Write)>,
    /// Whether faults may still happen.
    pub(super) faults_enabled: bool,
    /// Whether a caller waits for a process's journal.
    pub(super) urgent: [bool; 2],
    incarnations: u64,
    /// Whether the group's offsets of this topic can still be removed: once per topic.
    pub(super) removable: bool,
    trace: Option<Vec<String>>,
}

impl Env {
    pub(super) fn has(&self, fault: Fault) -> bool {
        self.fault == Some(fault)
    }

    pub(super) fn now(&self) -> Instant {
        self.zero + self.passed
    }

    pub(super) fn now_ms(&self) -> i64 {
        START_MS + self.passed.as_millis() as i64
    }

    pub(super) fn wall(&self) -> DateTime<Utc> {
        (SystemTime::UNIX_EPOCH + Duration::from_millis(START_MS as u64) + self.passed).into()
    }

    pub(super) fn fresh(&mut self) -> Uuid {
        Uuid::from_u128(self.rng.random())
    }

    pub(super) fn next_incarnation(&mut self) -> u64 {
        self.incarnations += 1;
        self.incarnations
    }

    pub(super) fn any_partition(&mut self) -> Partition {
        self.rng.random_range(0..self.broker.partitions()) as Partition
    }

    /// The group's committed offset of a partition of the current topic.
    pub(super) fn committed_now(&self, partition: Partition) -> Option<Offset> {
        let committed = self.broker.committed(partition)?;
        let topic = committed.metadata.and_then(|metadata| metadata.topic);
        topic.is_none_or(|topic| topic == self.broker.topic_id()).then_some(committed.offset)
    }

    /// Adds a line to the trace, if there is one.
    pub(super) fn note(&mut self, what: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push(what());
        }
    }

    /// A write reaches the store.
    pub(super) fn write(&mut self, mut write: Write) -> Checked {
        if self.has(Fault::WallClock) {
            write.ts = self.now_ms() * 1_000;
        }
        self.note(|| format!("  write: {write:?}"));
        self.broker.mark_done(write.at);
        if write.bad { Ok(()) } else { self.store.upsert(write) }
    }
}

/// The next thing that happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Tick,
    Pause(usize),
    Resume(usize),
    Crash(usize),
    Start(usize),
    RestartConsumer(usize),
    RestartFetcher(usize),
    Sync(usize),
    Request(usize),
    Cancel(usize),
    SetCursor(usize),
    Change,
    Wake(usize),
    ApiAnswers(usize),
    Append(usize),
    Acks(usize),
    ProducerBreaks(usize),
    Poll(usize),
    Cut(usize),
    Transform(usize),
    Write(usize),
    RequestCommit(usize),
    CommitArrives,
    CommitAnswered(usize),
    Rebalance,
    Revoked(usize),
    SessionEnds(usize),
    Assign,
    LateWrite,
    TopicRecreated,
    CheckTopic(usize),
    End(usize),
    ReadRecreatedTopic(usize),
    PositionRemoved(usize),
    Transaction,
    TransactionEnds,
    Compaction,
    OffsetsRemoved,
    Retention,
    PartitionAdded,
    ByHand,
    Replay(usize),
    Fold(usize),
}

/// A history in progress.
#[derive(Debug)]
pub(super) struct World {
    pub(super) env: Env,
    pub(super) processes: [Process; 2],
    enabled: Vec<(Step, u32)>,
    pub(super) taken: u32,
}

/// The result of a history.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) end: Checked,
    pub(super) steps: u32,
    /// Runs that succeeded, and records in the topic: a history in which nothing happens violates
    /// nothing.
    pub(super) succeeded: u64,
    pub(super) acknowledged: usize,
    pub(super) trace: Vec<String>,
}

/// The history of a seed.
pub(super) fn history(seed: u64, fault: Option<Fault>, traced: bool) -> Outcome {
    let mut world = World::new(seed, fault, traced);
    let end = world.run();
    Outcome {
        end,
        steps: world.taken,
        succeeded: world.env.oracle.succeeded,
        acknowledged: world.env.oracle.acknowledged.len(),
        trace: world.env.trace.take().unwrap_or_default(),
    }
}

impl World {
    fn new(seed: u64, fault: Option<Fault>, traced: bool) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let (operator, stalled) = (rng.random_bool(0.4), rng.random_ratio(1, 12));
        let scenario = Scenario {
            steps: rng.random_range(100..300),
            processes: rng.random_range(1..=2),
            operator,
            transactions: rng.random_bool(0.4),
            by_hand: rng.random_ratio(1, 4),
            stalled,
            scheduled: rng.random_bool(0.5),
            source: match (rng.random_bool(0.5), seed / 12 % 8) {
                (true, _) => Source::Cursors,
                (false, 7) => Source::Page,
                (false, 4..=6) => Source::Conditional,
                (false, _) => Source::incremental(seed / 96),
            },
            restarts: seed.is_multiple_of(3),
            fetch_ahead: (seed / 3 % 4) as usize,
            max_active: (seed / 12 % 3 + 1) as usize,
            bytes: rng.random_ratio(1, 8),
            max_records: if stalled { 1 } else { rng.random_range(1..6) },
            page: if stalled { 40 } else { rng.random_range(1..6) },
            burst: if stalled { 16 } else { 6 },
        };
        let dating = if !operator && rng.random_bool(0.6) { Dating::Wild } else { Dating::Append };
        let unkeyed = rng.random_ratio(1, 4);
        let broker = Broker::new(rng.random_range(1..4), dating, fault == Some(Fault::ReadUncommitted));
        let changes = Changes::new(&scenario.source, seed / 96);
        let env = Env {
            rng,
            scenario,
            fault,
            zero: Instant::now(),
            passed: Duration::ZERO,
            broker,
            store: Store::default(),
            api: Api::new(unkeyed),
            changes,
            oracle: Oracle::default(),
            commit_requests: Vec::new(),
            late_writes: Vec::new(),
            faults_enabled: true,
            urgent: [false; 2],
            incarnations: 0,
            removable: true,
            trace: traced.then(Vec::new),
        };
        Self { env, processes: Default::default(), enabled: Vec::new(), taken: 0 }
    }

    fn run(&mut self) -> Checked {
        let scenario = self.env.scenario.clone();
        self.env.note(|| format!("{scenario:?}"));
        while self.taken < self.env.scenario.steps {
            self.look();
            let total: u32 = self.enabled.iter().map(|(_, weight)| weight).sum();
            let mut at = self.env.rng.random_range(0..total);
            let picked = self.enabled.iter().find(|(_, weight)| {
                let here = at < *weight;
                at = at.wrapping_sub(*weight);
                here
            });
            let (step, _) = *picked.expect("time can always pass");
            self.take(step)?;
        }
        self.mend()
    }

    /// Stops the faults and finishes the work. Each process is assigned all partitions once, so
    /// that each learns how its runs end.
    fn mend(&mut self) -> Checked {
        self.env.faults_enabled = false;
        self.env.note(|| "faults stop".to_owned());
        for who in 0..self.env.scenario.processes {
            if self.processes[who].live.is_none() {
                self.take(Step::Start(who))?;
            }
            if self.processes[who].paused {
                self.take(Step::Resume(who))?;
            }
            self.processes[who].stop_schedule();
        }
        for who in 0..self.env.scenario.processes {
            self.rebalance(|_| who);
            self.rest()?;
        }
        self.rest()?;
        if self.env.scenario.source.changes() {
            self.read_what_is_new()?;
        }
        if self.env.scenario.by_hand {
            self.read_all_again()?;
        }
        invariants::at_the_end(self)
    }

    /// Replays everything, which replaces the changes that people made by hand.
    fn read_all_again(&mut self) -> Checked {
        self.env.note(|| "everything is replayed".to_owned());
        let who = self.env.scenario.processes - 1;
        if !self.processes[who].replay(who, &mut self.env, true)? {
            return violation(Invariant::Liveness, || format!("process {who} does not read all partitions, or has something in flight"));
        }
        self.env.oracle.by_hand.clear();
        self.rest()
    }

    /// Continues until nothing is left to do.
    pub(super) fn rest(&mut self) -> Checked {
        let until = self.taken + MAX_END_STEPS;
        let mut idle = 0;
        while idle < 3 {
            if self.taken > until {
                return violation(Invariant::Liveness, || {
                    format!("after {MAX_END_STEPS} steps without faults something is left to do: {:?}", self.enabled)
                });
            }
            self.look();
            if self.enabled.is_empty() {
                idle += 1;
                self.env.passed += Duration::from_secs(60 * 5);
                continue;
            }
            idle = 0;
            let at = self.env.rng.random_range(0..self.enabled.len());
            self.take(self.enabled[at].0)?;
        }
        Ok(())
    }

    /// Lists the possible steps. Without faults nothing goes wrong any more, and time does not pass
    /// by itself.
    fn look(&mut self) {
        let (env, enabled) = (&self.env, &mut self.enabled);
        enabled.clear();
        let faults = env.faults_enabled;
        let mut may = |step, weight, when: bool| {
            if when {
                enabled.push((step, weight));
            }
        };
        let writes = !(env.scenario.stalled && faults && self.taken < env.scenario.steps * 4 / 5);
        let mut revoking = false;
        for (who, process) in self.processes.iter().enumerate().take(env.scenario.processes) {
            let owns = env.broker.owners.contains(&Some(who));
            let Some(live) = &process.live else {
                may(Step::Start(who), 6, true);
                may(Step::SessionEnds(who), 4, owns);
                continue;
            };
            if process.paused {
                may(Step::Resume(who), 4, true);
                may(Step::SessionEnds(who), 6, owns);
                continue;
            }
            revoking |= !live.revoking.is_empty();
            may(Step::Pause(who), 1, faults);
            may(Step::Crash(who), 2, faults);
            may(Step::RestartConsumer(who), 1, faults);
            may(Step::RestartFetcher(who), 1, faults);
            may(Step::ProducerBreaks(who), 2, faults && !live.pages.is_empty());
            may(Step::Request(who), 5, faults);
            may(Step::Cancel(who), 1, faults);
            may(Step::SetCursor(who), 1, faults && !matches!(env.scenario.source, Source::Page));
            may(Step::Fold(who), 1, faults);
            may(Step::Replay(who), 1, faults && owns);
            may(Step::Sync(who), 6, process.journal.loose() > 0);
            may(Step::Wake(who), 12, live.wake_at.is_some_and(|at| at <= env.now()));
            may(Step::ApiAnswers(who), 12, !live.fetching.is_empty());
            may(Step::Append(who), 12, live.pages.iter().any(|page| page.to_append() > 0));
            may(Step::Acks(who), 12, live.pages.iter().any(|page| !page.acks.is_empty()));
            may(Step::Poll(who), 16, live.may_poll(env));
            may(Step::End(who), 8, live.reached_end(env).is_some());
            may(Step::CheckTopic(who), 6, process.wants_topic_check(env));
            may(Step::CheckTopic(who), 1, faults && !env.has(Fault::CheckTopicIdWhenAssignedOnly));
            may(Step::ReadRecreatedTopic(who), 12, live.reads_recreated_topic());
            may(Step::PositionRemoved(who), 8, live.position_was_removed(env));
            may(Step::Cut(who), 10, !live.consumer.builder().is_empty());
            may(Step::Transform(who), 14, live.batches.iter().any(|batch| batch.stage == Stage::Raw));
            may(Step::Write(who), 20, writes && live.batches.iter().any(|batch| batch.stage == Stage::UnderWay));
            may(Step::RequestCommit(who), 12, !process.to_commit(env).is_empty());
            may(Step::CommitAnswered(who), 10, live.answer.is_some());
            may(Step::Revoked(who), 10, process.is_drained());
            may(Step::Revoked(who), 1, faults && !live.revoking.is_empty());
        }
        let free =
            env.broker.owners.iter().zip(&env.broker.wanted).any(|(owner, &wanted)| owner.is_none() && self.processes[wanted].is_up());
        may(Step::Assign, 20, free && !revoking);
        may(Step::CommitArrives, 14, !env.commit_requests.is_empty());
        may(Step::LateWrite, 6, !env.late_writes.is_empty());
        may(Step::Tick, 12, faults);
        may(Step::Change, if env.scenario.source.is_incremental() { 10 } else { 20 }, faults && env.scenario.source.changes());
        may(Step::Rebalance, 3, faults && !revoking);
        may(Step::Retention, 1, faults && !env.scenario.by_hand);
        may(Step::PartitionAdded, 2, faults && env.broker.partitions() < 5);
        may(Step::Compaction, 1, faults);
        may(Step::Transaction, 3, faults && env.scenario.transactions);
        let open = env.broker.each().any(|partition| env.broker.log(partition).is_open());
        may(Step::TransactionEnds, 2, open);
        may(Step::TopicRecreated, 1, faults && env.scenario.operator);
        may(Step::ByHand, 4, faults && env.scenario.by_hand);
        may(Step::OffsetsRemoved, 1, faults && env.scenario.operator && env.removable);
    }

    fn take(&mut self, step: Step) -> Checked {
        self.taken += 1;
        let (taken, passed) = (self.taken, self.env.passed);
        self.env.note(|| format!("{taken} at {:.3} s: {step:?}", passed.as_secs_f64()));
        self.env.passed += Duration::from_millis(self.env.rng.random_range(1..60));
        self.perform(step)?;
        for process in &self.processes {
            if let Some(live) = &process.live {
                invariants::memory(&self.env, live)?;
            }
        }
        Ok(())
    }
}

impl Process {
    pub(super) fn is_up(&self) -> bool {
        self.live.is_some() && !self.paused
    }
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}: {}", self.invariant, self.what)
    }
}
