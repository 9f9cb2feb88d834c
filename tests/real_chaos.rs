//! Random faults of Forebay, Kafka, Cassandra, the source API and the networks between them, one or
//! two at a time, while records and runs pass through. `make chaos` runs it for longer.
//!
//! Invariants:
//! - After each fault records flow again, without help, and within a bound.
//! - Nothing but a kill ends the process. Its memory is bounded, and so are its descriptors,
//!   however many connections the faults break.
//! - While a killed process is dead: no commit is past an unwritten record, and none went back.
//! - In the end each record that the API served is in the topic, and its row has the newest version
//!   of its key; the bad ones are dead letters. The table follows from the topic, and the commits
//!   are the end offsets.
//! - Each run has succeeded, and counts each of its records once.
//!
//! Does not guarantee that a seed repeats a failure: it repeats the plan, not the state of the
//! threads.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a failed unwrap fails the test, which prints what it does")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use forebay_test_services::{Cassandra, CommitlogSync, Kafka, NetworkFault, Proxy};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};
use serde_json::{Value, json};
use support::oracle::{Topic, assert_commits, finish, rows};
use support::resources::{MAX_RESIDENT_BYTES, Resources, assert_bounded, process_bytes, recovered};
use support::source_api::{EndlessApi, RUN_USERS};
use support::{Job, Running, stderr};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Target {
    Forebay,
    Kafka,
    Cassandra,
    Api,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// SIGKILL, and a start at the end; the API answers 503.
    Kill(Target),
    /// SIGSTOP, and SIGCONT at the end.
    Freeze(Target),
    /// A fault of the network before a server.
    Network(Target, NetworkFault),
}

impl Fault {
    /// Its name without numbers.
    fn name(self) -> String {
        let text = format!("{self:?}");
        let words = text.split(|c: char| !c.is_alphanumeric()).filter(|word| word.starts_with(char::is_uppercase));
        words.collect::<Vec<_>>().join(" ")
    }
}

/// Faults that begin together, and how long they hold.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Step {
    faults: Vec<Fault>,
    hold: Duration,
    /// The time without a fault afterwards, at least.
    rest: Duration,
}

/// The faults of a seed: the same every time. Long freezes need a long `duration`.
fn plan(seed: u64, duration: Duration) -> Vec<Step> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut steps = Vec::new();
    let mut total = Duration::ZERO;
    while total < duration {
        let targets = [Target::Forebay, Target::Kafka, Target::Cassandra, Target::Api];
        let count = if random.random_bool(0.3) { 2 } else { 1 };
        let faults: Vec<Fault> = targets.choose_multiple(&mut random, count).map(|target| fault(*target, &mut random)).collect();
        let freezes = faults.iter().any(|fault| matches!(fault, Fault::Freeze(_) | Fault::Network(_, NetworkFault::Silent)));
        let hold = match random.random_range(0..10) {
            0 if freezes && duration >= Duration::from_secs(300) => Duration::from_secs(90),
            1 | 2 if freezes && duration >= Duration::from_secs(300) => Duration::from_secs(35),
            _ => Duration::from_millis(random.random_range(300..6_000)),
        };
        let rest = Duration::from_millis(random.random_range(500..4_000));
        total += hold + rest;
        steps.push(Step { faults, hold, rest });
    }
    steps
}

fn fault(target: Target, random: &mut StdRng) -> Fault {
    let network = [
        NetworkFault::Slow { delay: Duration::from_millis(random.random_range(20..400)), bandwidth: random.random_range(20_000..500_000) },
        NetworkFault::Sliced,
        NetworkFault::Silent,
        NetworkFault::LostAnswers,
        NetworkFault::LostRequests,
        NetworkFault::HalfOpen,
        NetworkFault::ResetAfter(random.random_range(100..50_000)),
        NetworkFault::Reset,
    ];
    match random.random_range(0..10) {
        0..=2 => Fault::Kill(target),
        3..=4 if target != Target::Api => Fault::Freeze(target),
        _ if target == Target::Forebay => Fault::Kill(target),
        _ => Fault::Network(target, *network.choose(random).unwrap()),
    }
}

/// Everything that can fail.
struct World {
    kafka: Kafka,
    cassandra: Cassandra,
    api: EndlessApi,
    networks: BTreeMap<Target, Proxy>,
    job: Job,
    /// None while it is dead.
    running: Option<Running>,
    max_resident_bytes: u64,
}

impl World {
    fn start() -> Self {
        let (kafka, before_kafka) = Kafka::start_behind_proxy();
        let cassandra = Cassandra::start(CommitlogSync::Batch);
        let before_cassandra = cassandra.proxy();
        let api = EndlessApi::start(Duration::from_millis(40));
        let port = api.api.url.trim_end_matches('/').rsplit(':').next().unwrap().parse().unwrap();
        let before_api = Proxy::to(port);
        let job = Job::new(kafka.bootstrap(), &before_cassandra.address())
            .fetching(&format!("http://{}/", before_api.address()), Some("20ms"))
            .with_fetcher(EndlessApi::FETCHER)
            .batches("{ max_records = 50 }", "8MiB")
            .with("[kafka.properties]\n\"session.timeout.ms\" = \"6000\"\n\"heartbeat.interval.ms\" = \"1000\"\n\"socket.timeout.ms\" = \"10000\"")
            .with("[journal]\nsegment = \"256KiB\"");
        let running = Some(job.start(&["--json"], &[]));
        let networks = BTreeMap::from([(Target::Kafka, before_kafka), (Target::Cassandra, before_cassandra), (Target::Api, before_api)]);
        Self { kafka, cassandra, api, networks, job, running, max_resident_bytes: 0 }
    }

    fn running(&self) -> &Running {
        self.running.as_ref().unwrap()
    }

    fn begin(&mut self, fault: Fault) {
        match fault {
            Fault::Kill(Target::Forebay) => self.running.take().unwrap().kill(),
            Fault::Kill(Target::Kafka) => self.kafka.kill(),
            Fault::Kill(Target::Cassandra) => self.cassandra.kill(),
            Fault::Kill(Target::Api) => self.api.set_down(true),
            Fault::Freeze(Target::Forebay | Target::Api) => self.running().signal("-STOP"),
            Fault::Freeze(Target::Kafka) => self.kafka.pause(),
            Fault::Freeze(Target::Cassandra) => self.cassandra.pause(),
            Fault::Network(target, fault) => self.networks[&target].set(fault),
        }
    }

    fn end(&mut self, fault: Fault) {
        match fault {
            Fault::Kill(Target::Forebay) => self.running = Some(self.job.start(&["--json"], &[])),
            Fault::Kill(Target::Kafka) => self.kafka.restart(),
            Fault::Kill(Target::Cassandra) => self.cassandra.restart(),
            Fault::Kill(Target::Api) => self.api.set_down(false),
            Fault::Freeze(Target::Forebay | Target::Api) => self.running().signal("-CONT"),
            Fault::Freeze(Target::Kafka) => self.kafka.resume(),
            Fault::Freeze(Target::Cassandra) => self.cassandra.resume(),
            Fault::Network(target, _) => self.networks[&target].set(NetworkFault::None),
        }
    }

    /// Asserts that the process is alive and its memory bounded, for this long.
    fn watch(&mut self, duration: Duration) {
        let until = Instant::now() + duration;
        loop {
            if let Some(running) = &mut self.running {
                let ended = running.try_ended();
                assert!(ended.is_none(), "the process ended by itself: {ended:?}\n{}", running.log());
                let resident = process_bytes(running.id(), "VmRSS");
                self.max_resident_bytes = self.max_resident_bytes.max(resident);
                assert!(resident < MAX_RESIDENT_BYTES, "{resident} bytes are resident");
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            std::thread::sleep(left.min(Duration::from_millis(100)));
        }
    }

    /// Requests run `n`, or waits until it has ended.
    fn trigger(&self, n: u32, more: &[&str]) -> Value {
        let (key, param) = (format!("run-{n}"), format!("run={n}"));
        let end = self.job.forebay(&[&["trigger", "--json", "--key", &key, "--param", &param], more].concat());
        assert!(end.status.success(), "{}\n{}", stderr(&end), self.running().log());
        serde_json::from_slice(&end.stdout).unwrap()
    }
}

/// Runs the plan until it ends, or the time is up, since recoveries take time as well. Checks
/// everything, and returns the facts of the result.
fn run(world: &mut World, plan: &[Step], duration: Duration) -> Value {
    let began = Instant::now();
    let mut topic = Topic::of(world.kafka.bootstrap(), &world.job);
    let (mut committed, mut names, mut slowest) = (BTreeMap::new(), BTreeMap::<String, u32>::new(), Duration::ZERO);
    world.running().wait_until("records flow", |s| s["totals"]["written"].as_u64() > Some(100));
    let mut before = Resources::of(world.running());
    let mut runs = 0;
    for (n, step) in (0..).zip(plan).take_while(|_| began.elapsed() < duration) {
        eprintln!("{n} of at most {}: {step:?}", plan.len());
        runs = n + 1;
        world.trigger(n, &[]);
        for &fault in &step.faults {
            world.begin(fault);
            *names.entry(fault.name()).or_default() += 1;
        }
        world.watch(step.hold);
        if step.faults == [Fault::Kill(Target::Forebay)] {
            assert_commits(&world.job, &mut topic, &mut committed, &format!("step {n}"));
        }
        // Servers first, so that a restarted process finds them.
        step.faults.iter().rev().for_each(|&fault| world.end(fault));
        slowest = slowest.max(recovered(world.running(), &format!("{:?}", step.faults), 20));
        if step.faults.contains(&Fault::Kill(Target::Forebay)) {
            before = Resources::of(world.running());
        }
        assert_bounded(world.running());
        world.watch(step.rest);
    }
    for n in 0..runs {
        let run = world.trigger(n, &["--wait", "--timeout", "60s"]);
        let counts = ["fetched", "produced", "rejected", "written"].map(|count| run["counts"][count].as_u64().unwrap());
        let all = u64::from(RUN_USERS);
        assert_eq!((&run["state"], counts), (&json!("succeeded"), [all, all, 0, all]), "{run:#}");
    }
    before.assert_bounded(world.running());
    let summary = world.running.take().unwrap().stop_with_summary();
    finish(&world.job, &mut topic);
    let there: BTreeSet<_> = topic.records.iter().map(|record| (record.user, record.version, record.bad)).collect();
    let served = world.api.served(runs);
    let missing: Vec<_> = served.difference(&there).collect();
    assert!(missing.is_empty(), "served, and not in the topic: user, version, whether it is bad: {missing:?}");
    // In order, so the last version of each user stays.
    let newest: BTreeMap<_, _> = served.iter().filter(|(_, _, bad)| !bad).map(|&(user, version, _)| (user, version)).collect();
    let table: BTreeMap<_, _> = rows(&world.job).into_iter().map(|(user, row)| (user, row.version)).collect();
    assert_eq!(table, newest, "each row has the newest version that the API served");
    json!({
        "steps": runs, "faults": names, "served": served.len(), "in_topic": topic.len(), "rows": table.len(), "dead_letters": topic.letters.len(),
        "runs": runs, "max_resident_bytes": world.max_resident_bytes, "slowest_recovery_ms": u64::try_from(slowest.as_millis()).unwrap(),
        "restarts_of_last_process": summary["restarts"],
    })
}

#[test]
fn random_faults_lose_and_repeat_nothing() {
    let env = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty());
    let seed = env("FOREBAY_SEED").map_or_else(rand::random, |text| text.parse::<u64>().unwrap());
    let duration = env("FOREBAY_DURATION").map_or(Duration::from_secs(45), |text| humantime::parse_duration(&text).unwrap());
    eprintln!("faults for {duration:?} with seed {seed}; again with: make chaos SEED={seed} DURATION={duration:?}");
    let plan = plan(seed, duration);
    let began = Instant::now();
    let mut world = World::start();
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(&mut world, &plan, duration)));
    let mut facts = result.as_ref().map_or_else(
        |panic| {
            let text = panic.downcast_ref::<String>().cloned().or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            json!({ "violation": text.unwrap_or_default() })
        },
        Value::clone,
    );
    (facts["seed"], facts["seconds"]) = (json!(seed), json!(began.elapsed().as_secs()));
    eprintln!("{facts:#}");
    if let Some(file) = env("FOREBAY_RESULT") {
        std::fs::write(file, facts.to_string()).unwrap();
    }
    if let Err(panic) = result {
        eprintln!("violated with seed {seed}");
        std::panic::resume_unwind(panic);
    }
}

#[test]
fn a_seed_always_gives_the_same_plan() {
    let hour = Duration::from_secs(3_600);
    assert_eq!(plan(7, hour), plan(7, hour));
    assert_ne!(plan(7, hour), plan(8, hour));
    let steps = plan(7, hour);
    assert!(steps.iter().any(|step| step.faults.len() == 2) && steps.iter().any(|step| step.hold == Duration::from_secs(90)));
}
