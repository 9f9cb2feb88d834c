//! One history: the models, two processes, and the scheduler that picks what happens next.

use std::time::{Duration, Instant, SystemTime};

use chrono::{DateTime, Utc};
use forebay_schemas::offset::Partition;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use uuid::Uuid;

use super::Fault;
use super::api::Api;
use super::broker::{Broker, Dating};
use super::invariants::{self, Broken, Invariant, Kept, Truth, broken};
use super::process::{Process, Stage};
use super::store::{Store, Write};
use crate::consumer::metadata_of;
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
    /// Whether somebody makes topics anew and removes offsets.
    operator: bool,
    /// Whether the store takes nothing for most of the time.
    stalled: bool,
    pub(super) scheduled: bool,
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
    passed: Duration,
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
    removable: bool,
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
enum Step {
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
    TopicAnew,
    OffsetsRemoved,
    Retention,
    PartitionAdded,
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
            stalled,
            scheduled: rng.random_bool(0.5),
            bytes: rng.random_ratio(1, 8),
            max_records: if stalled { 1 } else { rng.random_range(1..6) },
            page: if stalled { 40 } else { rng.random_range(1..6) },
            burst: if stalled { 16 } else { 6 },
        };
        let dating = if !operator && rng.random_bool(0.6) { Dating::Wild } else { Dating::Append };
        let broker = Broker::new(rng.random_range(1..4), dating);
        let env = Env {
            rng,
            weather,
            fault,
            zero: Instant::now(),
            passed: Duration::ZERO,
            broker,
            store: Store::default(),
            api: Api::default(),
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
            self.processes[who].hold();
        }
        for who in 0..self.env.weather.processes {
            self.rebalance(|_| who);
            self.rest()?;
        }
        self.rest()?;
        invariants::at_the_end(self)
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
            may(Step::Fold(who), 1, trouble);
            may(Step::Sync(who), 6, process.journal.loose() > 0);
            may(Step::Wake(who), 12, live.wake_at.is_some_and(|at| at <= env.now()));
            may(Step::ApiAnswers(who), 12, live.fetching.is_some());
            may(Step::Append(who), 12, live.page.as_ref().is_some_and(|page| page.to_append() > 0));
            may(Step::Acks(who), 12, live.page.as_ref().is_some_and(|page| !page.acks.is_empty()));
            may(Step::Poll(who), 16, live.may_poll(env));
            may(Step::Cut(who), 10, !live.consumer.forming().is_empty());
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
        may(Step::Retention, 1, trouble);
        may(Step::PartitionAdded, 1, trouble && env.broker.partitions() < 5);
        may(Step::TopicAnew, 1, trouble && env.weather.operator);
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

    fn perform(&mut self, step: Step) -> Kept {
        let (env, processes) = (&mut self.env, &mut self.processes);
        match step {
            Step::Tick => {
                let long = env.rng.random_ratio(1, 10);
                env.passed += Duration::from_millis(if long { env.rng.random_range(0..400_000) } else { env.rng.random_range(0..3_000) });
            }
            Step::Pause(who) => processes[who].paused = true,
            Step::Resume(who) => return self.resume(who),
            Step::Crash(who) => {
                let process = &mut processes[who];
                process.abandon(who, env);
                process.live = None;
                let kept = env.rng.random_range(0..=process.journal.loose());
                process.journal.crash(kept);
                let last = process.journal.durable();
                env.truth.asked.retain(|&(asked, _, seq)| asked != who || seq <= last);
                for record in &mut env.truth.acknowledged {
                    record.report = record.report.filter(|&(of, seq)| of != who || seq <= last);
                }
            }
            Step::Start(who) => {
                self.session_ends(who);
                self.processes[who].paused = false;
                return self.processes[who].start(who, &mut self.env);
            }
            Step::RestartConsumer(who) => return processes[who].restart_consumer(who, env),
            Step::RestartFetcher(who) => return processes[who].restart_fetcher(who, env),
            Step::Sync(who) => processes[who].sync(who, env),
            Step::Request(who) => {
                let (key, attempt) = (env.rng.random_range(0..6), env.rng.random_range(1..4));
                return processes[who].request(who, env, &format!("k{key}"), attempt);
            }
            Step::Cancel(who) => return processes[who].cancel(who, env),
            Step::Wake(who) => return processes[who].wake(who, env),
            Step::ApiAnswers(who) => return processes[who].answered(who, env),
            Step::Append(who) => processes[who].append(env),
            Step::Acks(who) => return processes[who].acked(who, env),
            Step::ProducerBreaks(who) => return processes[who].producer_breaks(who, env),
            Step::Poll(who) => processes[who].poll(env),
            Step::Cut(who) => processes[who].send(env),
            Step::Transform(who) => processes[who].transform(),
            Step::Write(who) => return processes[who].write(who, env),
            Step::AskToCommit(who) => processes[who].ask(who, env),
            Step::CommitArrives => return self.commit_arrives(),
            Step::CommitAnswered(who) => return processes[who].committed(who, env),
            Step::Rebalance => {
                let up: Vec<_> = (0..env.weather.processes).filter(|&who| processes[who].is_up()).collect();
                if !up.is_empty() {
                    let picks: Vec<_> = env.broker.each().map(|_| up[env.rng.random_range(0..up.len())]).collect();
                    self.rebalance(|partition| picks[partition as usize]);
                }
            }
            Step::Revoked(who) => return processes[who].revoked(who, env),
            Step::SessionEnds(who) => self.session_ends(who),
            Step::Assign => return self.assign(),
            Step::Zombie => {
                let at = env.rng.random_range(0..env.zombies.len());
                let (_, write) = env.zombies[at];
                if !(env.trouble && env.rng.random_bool(0.3)) {
                    env.zombies.swap_remove(at);
                }
                return env.write(write);
            }
            Step::TopicAnew => return self.topic_anew(),
            Step::OffsetsRemoved => return self.offsets_removed(),
            Step::Retention => {
                let partition = env.rng.random_range(0..env.broker.partitions()) as Partition;
                if let Some(committed) = env.broker.committed(partition) {
                    env.broker.log_mut(partition).remove_to(committed.offset);
                }
            }
            Step::PartitionAdded => {
                let reader = env.rng.random_range(0..env.weather.processes);
                env.broker.add_partition(reader);
            }
            Step::Fold(who) => {
                let process = &processes[who];
                if let Some(live) = &process.live {
                    let cut = env.rng.random_range(0..=process.journal.len());
                    return process.journal.check(&live.ledger, env.weather.bytes.then_some(cut));
                }
            }
        }
        Ok(())
    }

    /// The group's partitions are to be read by whom `reader` says.
    fn rebalance(&mut self, reader: impl Fn(Partition) -> usize) {
        for partition in self.env.broker.each() {
            self.env.broker.wanted[partition as usize] = reader(partition);
        }
        for (who, process) in self.processes.iter_mut().enumerate().filter(|(_, process)| process.is_up()) {
            let broker = &self.env.broker;
            let goes = |&partition: &Partition| broker.owners[partition as usize] == Some(who) && broker.wanted[partition as usize] != who;
            let partitions: Vec<_> = broker.each().filter(goes).collect();
            if !partitions.is_empty() {
                process.revoke(&mut self.env, partitions);
            }
        }
    }

    /// The group puts out a process that is down, or says nothing.
    fn session_ends(&mut self, who: usize) {
        for owner in self.env.broker.owners.iter_mut().filter(|owner| **owner == Some(who)) {
            *owner = None;
        }
        if let Some(live) = &mut self.processes[who].live {
            live.fenced = true;
        }
    }

    fn resume(&mut self, who: usize) -> Kept {
        let process = &mut self.processes[who];
        process.paused = false;
        if let Some(live) = &mut process.live
            && std::mem::take(&mut live.fenced)
        {
            return process.lost(who, &mut self.env);
        }
        Ok(())
    }

    /// A generation of the group begins: those who are up get the partitions that nobody owns and that they are to read. Who is not there for it is
    /// put out.
    fn assign(&mut self) -> Kept {
        for who in 0..self.env.weather.processes {
            if !self.processes[who].is_up() {
                self.session_ends(who);
            }
        }
        self.next_generation();
        for who in 0..self.env.weather.processes {
            let broker = &self.env.broker;
            let theirs = |&partition: &Partition| broker.owners[partition as usize].is_none() && broker.wanted[partition as usize] == who;
            let partitions: Vec<_> = broker.each().filter(theirs).collect();
            if self.processes[who].is_up() && !partitions.is_empty() {
                self.processes[who].assigned(who, &mut self.env, &partitions)?;
            }
        }
        Ok(())
    }

    fn next_generation(&mut self) {
        self.env.broker.generation += 1;
        for process in self.processes.iter_mut().filter(|process| process.is_up()) {
            if let Some(live) = &mut process.live {
                live.generation = self.env.broker.generation;
            }
        }
    }

    /// A commit reaches the group's coordinator, if it ever does; the answer may be lost.
    fn commit_arrives(&mut self) -> Kept {
        let env = &mut self.env;
        let at = env.rng.random_range(0..env.asks.len());
        let Ask { who, birth, generation, commits } = env.asks.swap_remove(at);
        let lost = env.trouble && env.rng.random_ratio(1, 8);
        let taken = generation == env.broker.generation && !lost;
        if taken {
            for commit in &commits {
                env.broker.commit(commit.partition, commit.place, metadata_of(&commit.place))?;
            }
        }
        let said = taken && !(env.trouble && env.rng.random_ratio(1, 8));
        env.note(|| format!("  {commits:?} of {who}: taken {taken}, and said so {said}"));
        if let Some(live) = self.processes[who].live.as_mut().filter(|live| live.birth == birth) {
            live.answer = Some((commits, said));
        }
        Ok(())
    }

    /// Everybody loses all partitions.
    fn all_lost(&mut self) -> Kept {
        for who in 0..self.env.weather.processes {
            if self.processes[who].is_up() {
                self.processes[who].lost(who, &mut self.env)?;
            }
            self.session_ends(who);
            if self.processes[who].is_up()
                && let Some(live) = &mut self.processes[who].live
            {
                live.fenced = false;
            }
        }
        self.next_generation();
        Ok(())
    }

    /// The topic is deleted and made again, with the group's offsets gone. What was being produced is produced again.
    fn topic_anew(&mut self) -> Kept {
        if !self.processes.iter().all(Process::knows_what_its_runs_wait_for) {
            return Ok(());
        }
        self.env.removable = true;
        self.all_lost()?;
        self.env.broker.make_anew();
        self.env.truth.announced.clear();
        for (who, process) in self.processes.iter_mut().enumerate() {
            if process.live.as_ref().is_some_and(|live| live.page.is_some()) {
                process.hand_over_again(who, &mut self.env)?;
            }
        }
        Ok(())
    }

    fn offsets_removed(&mut self) -> Kept {
        self.env.removable = false;
        self.all_lost()?;
        self.env.broker.remove_offsets();
        Ok(())
    }
}

impl Process {
    pub(super) fn is_up(&self) -> bool {
        self.live.is_some() && !self.paused
    }

    /// Whether its disk knows a lineage of each partition that an open run of it has produced to. If not, it can't tell later that the topic is
    /// another one: it never read that partition, or a crash may take its knowledge.
    fn knows_what_its_runs_wait_for(&self) -> bool {
        let certain = self.journal.certain();
        let ended = |id| certain.runs.get(id).is_some_and(|run| run.terminal);
        let mut runs = certain.runs.recent(1_000);
        runs.extend(self.live.iter().flat_map(|live| live.ledger.runs.recent(1_000)));
        let mut open = runs.iter().filter(|run| !ended(run.id));
        open.all(|run| run.ranges.0.keys().all(|partition| certain.partitions.contains_key(partition)))
    }
}

/// How a history's end is told.
impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}: {}", self.invariant, self.what)
    }
}
