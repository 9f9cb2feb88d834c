//! One history: the models, two processes, and the scheduler that picks what happens next.

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
use super::invariants::{self, Broken, Invariant, Kept, Truth, broken};
use super::process::Process;
use super::store::{Store, Write};
use crate::consumer::state::Commit;

/// The least steps that the end may take before it is called stuck.
const END_MOST: u32 = 20_000;
/// When every history begins.
const BEGIN_MS: i64 = 1_700_000_000_000;

/// What kind of history it is.
#[derive(Debug, Clone)]
pub(super) struct Weather {
    pub(super) steps: u32,
    pub(super) processes: usize,
    /// Whether somebody recreates topics and removes offsets.
    pub(super) operator: bool,
    /// Whether others write to the topic, in transactions.
    transactions: bool,
    /// Whether people write into the table by hand; in the end all is read again.
    by_hand: bool,
    /// Whether the store takes nothing for most of the time.
    stalled: bool,
    pub(super) scheduled: bool,
    /// Whether the API gives cursors, so that a fetch has several pages.
    pub(super) cursors: bool,
    /// Whether the fold is taken by way of bytes too, which costs most of a history's time.
    pub(super) bytes: bool,
    /// Records in a batch, in a page, and in one poll, at most.
    pub(super) max_records: usize,
    pub(super) page: usize,
    pub(super) burst: usize,
}

/// A commit on its way.
#[derive(Debug)]
pub(super) struct Ask {
    pub(super) who: usize,
    pub(super) birth: u64,
    pub(super) generation: u64,
    pub(super) commits: Vec<Commit>,
}

/// All that is outside of the processes.
#[derive(Debug)]
pub(super) struct Env {
    pub(super) rng: StdRng,
    pub(super) weather: Weather,
    fault: Option<Fault>,
    zero: Instant,
    pub(super) passed: Duration,
    pub(super) broker: Broker,
    pub(super) store: Store,
    pub(super) api: Api,
    pub(super) truth: Truth,
    pub(super) asks: Vec<Ask>,
    /// Writes that nobody waits for, on their way.
    pub(super) zombies: Vec<(usize, Write)>,
    /// Whether things may go wrong still.
    pub(super) trouble: bool,
    /// Whether somebody waits for a process's journal.
    pub(super) urgent: [bool; 2],
    births: u64,
    /// Whether the group's offsets of this topic were not removed yet.
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
        BEGIN_MS + self.passed.as_millis() as i64
    }

    pub(super) fn wall(&self) -> DateTime<Utc> {
        (SystemTime::UNIX_EPOCH + Duration::from_millis(BEGIN_MS as u64) + self.passed).into()
    }

    pub(super) fn fresh(&mut self) -> Uuid {
        Uuid::from_u128(self.rng.random())
    }

    pub(super) fn fresh_birth(&mut self) -> u64 {
        self.births += 1;
        self.births
    }

    pub(super) fn any_partition(&mut self) -> Partition {
        self.rng.random_range(0..self.broker.partitions()) as Partition
    }

    /// What the group has committed of a partition of the topic that there is now.
    pub(super) fn committed_now(&self, partition: Partition) -> Option<Offset> {
        let committed = self.broker.committed(partition)?;
        let topic = committed.metadata.and_then(|metadata| metadata.topic);
        topic.is_none_or(|topic| topic == self.broker.topic_id()).then_some(committed.offset)
    }

    /// Says something in the trace, if there is one.
    pub(super) fn note(&mut self, what: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push(what());
        }
    }

    /// A write arrives.
    pub(super) fn write(&mut self, mut write: Write) -> Kept {
        if self.has(Fault::WallClock) {
            write.ts = self.now_ms() * 1_000;
        }
        self.note(|| format!("  write: {write:?}"));
        self.broker.mark_done(write.at);
        if write.bad { Ok(()) } else { self.store.upsert(write) }
    }
}

/// What may happen next.
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
    Wake(usize),
    ApiAnswers(usize),
    Append(usize),
    Acks(usize),
    ProducerBreaks(usize),
    Poll(usize),
    Cut(usize),
    Transform(usize),
    Write(usize),
    AskToCommit(usize),
    CommitArrives,
    CommitAnswered(usize),
    Rebalance,
    Revoked(usize),
    SessionEnds(usize),
    Assign,
    Zombie,
    TopicRecreated,
    CheckTopic(usize),
    End(usize),
    BeginAgain(usize),
    PlaceLost(usize),
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

/// A history.
#[derive(Debug)]
pub(super) struct World {
    pub(super) env: Env,
    pub(super) processes: [Process; 2],
    enabled: Vec<(Step, u32)>,
    taken: u32,
}

/// What a history came to.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) end: Kept,
    pub(super) steps: u32,
    /// Runs that succeeded, and records in the topic: a history in which nothing happens keeps everything.
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
        succeeded: world.env.truth.succeeded,
        acknowledged: world.env.truth.acknowledged.len(),
        trace: world.env.trace.take().unwrap_or_default(),
    }
}

impl World {
    fn new(seed: u64, fault: Option<Fault>, traced: bool) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let (operator, stalled) = (rng.random_bool(0.4), rng.random_ratio(1, 12));
        let weather = Weather {
            steps: rng.random_range(100..300),
            processes: rng.random_range(1..=2),
            operator,
            transactions: rng.random_bool(0.4),
            by_hand: rng.random_ratio(1, 4),
            stalled,
            scheduled: rng.random_bool(0.5),
            cursors: rng.random_bool(0.5),
            bytes: rng.random_ratio(1, 8),
            max_records: if stalled { 1 } else { rng.random_range(1..6) },
            page: if stalled { 40 } else { rng.random_range(1..6) },
            burst: if stalled { 16 } else { 6 },
        };
        let dating = if !operator && rng.random_bool(0.6) { Dating::Wild } else { Dating::Append };
        let unkeyed = rng.random_ratio(1, 4);
        let broker = Broker::new(rng.random_range(1..4), dating, fault == Some(Fault::ReadUncommitted));
        let env = Env {
            rng,
            weather,
            fault,
            zero: Instant::now(),
            passed: Duration::ZERO,
            broker,
            store: Store::default(),
            api: Api::new(unkeyed),
            truth: Truth::default(),
            asks: Vec::new(),
            zombies: Vec::new(),
            trouble: true,
            urgent: [false; 2],
            births: 0,
            removable: true,
            trace: traced.then(Vec::new),
        };
        Self { env, processes: Default::default(), enabled: Vec::new(), taken: 0 }
    }

    fn run(&mut self) -> Kept {
        let weather = self.env.weather.clone();
        self.env.note(|| format!("{weather:?}"));
        while self.taken < self.env.weather.steps {
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

    /// Mends everything, and does what is left to do; each process has all the partitions once, so that each learns how its runs end.
    fn mend(&mut self) -> Kept {
        self.env.trouble = false;
        self.env.note(|| "all is mended".to_owned());
        for who in 0..self.env.weather.processes {
            if self.processes[who].live.is_none() {
                self.take(Step::Start(who))?;
            }
            if self.processes[who].paused {
                self.take(Step::Resume(who))?;
            }
            self.processes[who].stop_schedule();
        }
        for who in 0..self.env.weather.processes {
            self.rebalance(|_| who);
            self.rest()?;
        }
        self.rest()?;
        if self.env.weather.by_hand {
            self.read_all_again()?;
        }
        invariants::at_the_end(self)
    }

    /// Reads all records again, after which people's writes by hand are gone.
    fn read_all_again(&mut self) -> Kept {
        self.env.note(|| "all is read again".to_owned());
        let who = self.env.weather.processes - 1;
        if !self.processes[who].replay(who, &mut self.env, true)? {
            return broken(Invariant::Liveness, || format!("process {who} does not read all partitions, or has something in flight"));
        }
        self.env.truth.by_hand.clear();
        self.rest()
    }

    /// Goes on until nothing is left to do.
    fn rest(&mut self) -> Kept {
        let until = self.taken + END_MOST;
        let mut idle = 0;
        while idle < 3 {
            if self.taken > until {
                return broken(Invariant::Liveness, || {
                    format!("after {END_MOST} steps without trouble something is left to do: {:?}", self.enabled)
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

    /// Finds what may happen next. Without trouble nothing goes wrong any more, and time does not pass by itself.
    fn look(&mut self) {
        let (env, enabled) = (&self.env, &mut self.enabled);
        enabled.clear();
        let trouble = env.trouble;
        let mut may = |step, weight, when: bool| {
            if when {
                enabled.push((step, weight));
            }
        };
        let writes = !(env.weather.stalled && trouble && self.taken < env.weather.steps * 4 / 5);
        let mut revoking = false;
        for (who, process) in self.processes.iter().enumerate().take(env.weather.processes) {
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
            may(Step::Pause(who), 1, trouble);
            may(Step::Crash(who), 2, trouble);
            may(Step::RestartConsumer(who), 1, trouble);
            may(Step::RestartFetcher(who), 1, trouble);
            may(Step::ProducerBreaks(who), 2, trouble && live.page.is_some());
            may(Step::Request(who), 5, trouble);
            may(Step::Cancel(who), 1, trouble);
            may(Step::SetCursor(who), 1, trouble && env.weather.cursors);
            may(Step::Fold(who), 1, trouble);
            may(Step::Replay(who), 1, trouble && owns);
            may(Step::Sync(who), 6, process.journal.loose() > 0);
            may(Step::Wake(who), 12, live.wake_at.is_some_and(|at| at <= env.now()));
            may(Step::ApiAnswers(who), 12, live.fetching.is_some());
            may(Step::Append(who), 12, live.page.as_ref().is_some_and(|page| page.to_append() > 0));
            may(Step::Acks(who), 12, live.page.as_ref().is_some_and(|page| !page.acks.is_empty()));
            may(Step::Poll(who), 16, live.may_poll(env));
            may(Step::End(who), 8, live.at_an_end(env).is_some());
            may(Step::CheckTopic(who), 6, process.wants_topic_check(env));
            may(Step::CheckTopic(who), 1, trouble && !env.has(Fault::LookWhenAssigned));
            may(Step::BeginAgain(who), 12, live.reads_another());
            may(Step::PlaceLost(who), 8, live.lost_its_place(env));
            may(Step::Cut(who), 10, !live.consumer.builder().is_empty());
            may(Step::Transform(who), 14, live.batches.iter().any(|batch| batch.stage == Stage::Raw));
            may(Step::Write(who), 20, writes && live.batches.iter().any(|batch| batch.stage == Stage::UnderWay));
            may(Step::AskToCommit(who), 12, !process.to_commit(env).is_empty());
            may(Step::CommitAnswered(who), 10, live.answer.is_some());
            may(Step::Revoked(who), 10, process.is_drained());
            may(Step::Revoked(who), 1, trouble && !live.revoking.is_empty());
        }
        let free =
            env.broker.owners.iter().zip(&env.broker.wanted).any(|(owner, &wanted)| owner.is_none() && self.processes[wanted].is_up());
        may(Step::Assign, 20, free && !revoking);
        may(Step::CommitArrives, 14, !env.asks.is_empty());
        may(Step::Zombie, 6, !env.zombies.is_empty());
        may(Step::Tick, 12, trouble);
        may(Step::Rebalance, 3, trouble && !revoking);
        may(Step::Retention, 1, trouble && !env.weather.by_hand);
        may(Step::PartitionAdded, 2, trouble && env.broker.partitions() < 5);
        may(Step::Compaction, 1, trouble);
        may(Step::Transaction, 3, trouble && env.weather.transactions);
        let open = env.broker.each().any(|partition| env.broker.log(partition).is_open());
        may(Step::TransactionEnds, 2, open);
        may(Step::TopicRecreated, 1, trouble && env.weather.operator);
        may(Step::ByHand, 4, trouble && env.weather.by_hand);
        may(Step::OffsetsRemoved, 1, trouble && env.weather.operator && env.removable);
    }

    fn take(&mut self, step: Step) -> Kept {
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

/// How a history's end is told.
impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}: {}", self.invariant, self.what)
    }
}
