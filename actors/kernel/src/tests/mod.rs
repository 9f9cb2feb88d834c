//! The kernel as a whole, through its own interface. Support for the tests; their delays are real but short, and no duration is asserted.

mod lives;
mod strategy;
mod supervision;
mod watching;

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::runtime;
use tokio::time::{sleep, timeout};

use super::{
    Actor, Backoff, ChildSpec, Cx, Environment, Exit, Handover, Limits, Mailbox, Registry, Restart, Root, Sighting, Strategy,
    SupervisorSpec, SystemClock, What, Witness, block_on, start,
};

/// Something for a puppet to do.
type Act = Box<dyn FnOnce(&mut Puppet, &mut Cx<'_, Puppet>) + Send>;
/// What a puppet does in `started`, or in `stopping`.
type Habit = fn(&mut Puppet, &mut Cx<'_, Puppet>);

/// An actor that does what it is told.
#[derive(Clone)]
struct Puppet {
    name: &'static str,
    diary: Diary,
    start: Habit,
    stop: Habit,
}

impl Puppet {
    fn new(name: &'static str, diary: &Diary) -> Self {
        Self { name, diary: diary.clone(), start: |_, _| {}, stop: |_, cx| cx.exit(Exit::Shutdown) }
    }
}

impl Actor for Puppet {
    type Message = Act;

    fn started(&mut self, cx: &mut Cx<'_, Self>) {
        (self.start)(self, cx);
    }

    fn handle(&mut self, act: Act, cx: &mut Cx<'_, Self>) {
        act(self, cx);
    }

    fn stopping(&mut self, cx: &mut Cx<'_, Self>) {
        self.diary.write(format!("{} is asked to stop", self.name));
        (self.stop)(self, cx);
    }
}

/// What happened, in words; waits for words.
#[derive(Clone, Default)]
struct Diary(Arc<Mutex<Vec<String>>>);

impl Diary {
    fn write(&self, line: impl Into<String>) {
        self.0.lock().unwrap().push(line.into());
    }

    fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    async fn until(&self, line: &str) {
        let found = timeout(Duration::from_secs(20), async {
            while !self.lines().iter().any(|have| have.starts_with(line)) {
                sleep(Duration::from_millis(1)).await;
            }
        });
        assert!(found.await.is_ok(), "no line {line:?} in {:#?}", self.lines());
    }
}

impl Witness for Diary {
    fn saw(&self, Sighting { path, what }: &Sighting) {
        self.write(match what {
            What::Started { incarnation } => format!("{path} {incarnation} started"),
            What::Exited { incarnation, exit } => format!("{path} {incarnation} {exit}"),
            What::RestartScheduled { affected, .. } => format!("{path} will restart {}", affected.join(" ")),
            What::IntensityExceeded { restarts, .. } => format!("{path} has had {restarts} restarts"),
            What::Escalated { reason } => format!("{path} escalates {reason}"),
            What::Stuck { silent } => format!("{path} is stuck for {silent:?}"),
        });
    }
}

/// A tree under test.
struct Stage {
    diary: Diary,
    registry: Registry,
    mailboxes: HashMap<&'static str, Handover<Mailbox<Act>>>,
}

impl Stage {
    fn new(names: &[&'static str]) -> Self {
        let mailboxes = names.iter().map(|name| (*name, Handover::default())).collect();
        Self { diary: Diary::default(), registry: Registry::default(), mailboxes }
    }

    fn environment(&self) -> Environment {
        Environment { clock: SystemClock::shared(), seed: 7, witness: Arc::new(self.diary.clone()), registry: self.registry.clone() }
    }

    /// A child that hands over its mailbox under its name.
    fn child(&self, restart: Restart, puppet: Puppet) -> ChildSpec {
        let mailbox = self.mailboxes[puppet.name].clone();
        ChildSpec::actor(puppet.name, restart, Duration::from_secs(5), move |own| {
            mailbox.set(own.clone());
            puppet.clone()
        })
    }

    fn puppet(&self, restart: Restart, name: &'static str) -> ChildSpec {
        self.child(restart, Puppet::new(name, &self.diary))
    }

    fn tell(&self, name: &str, act: impl FnOnce(&mut Puppet, &mut Cx<'_, Puppet>) + Send + 'static) {
        self.mailboxes[name].get().post(Box::new(act)).unwrap();
    }

    fn start(&self, strategy: Strategy, children: Vec<ChildSpec>) -> Root {
        start("root", SupervisorSpec { strategy, limits: LIMITS, children }, self.environment())
    }
}

/// Restarts fast, and never too often.
const LIMITS: Limits = Limits {
    max_restarts: u32::MAX,
    within: Duration::from_secs(60),
    backoff: Backoff { min: Duration::from_millis(1), max: Duration::from_millis(4) },
    backoff_reset: Duration::from_secs(60),
};

/// Runs a test on an actor thread beside an I/O runtime, as the program does.
fn on_actor_thread<F: Future>(test: F) -> F::Output {
    let io = runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    block_on(&Arc::new(io), test)
}
