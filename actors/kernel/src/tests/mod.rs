//! Tests of the kernel through its own interface, and their support. Delays are real but short; no
//! duration is asserted.

mod incarnation_end;
mod strategy;
mod supervision;
mod tree_and_watchdog;

use parking_lot::Mutex;
use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime;
use tokio::time::{sleep, timeout};

use super::{
    Actor, ActorTree, Backoff, ChildSpec, Cx, Environment, Exit, LifecycleEvent, LifecycleKind, LifecycleListener, Limits, Mailbox,
    MailboxSlot, Restart, Root, Strategy, SupervisorSpec, SystemClock, block_on, start,
};

/// Something a puppet does.
type Act = Box<dyn FnOnce(&mut Puppet, &mut Cx<'_, Puppet>) + Send>;
/// What a puppet does in `started` or `stopping`.
type Hook = fn(&mut Puppet, &mut Cx<'_, Puppet>);

/// An actor that runs the closures posted to it.
#[derive(Clone)]
struct Puppet {
    name: &'static str,
    log: EventLog,
    start: Hook,
    stop: Hook,
}

impl Puppet {
    fn new(name: &'static str, log: &EventLog) -> Self {
        Self { name, log: log.clone(), start: |_, _| {}, stop: |_, cx| cx.exit(Exit::Shutdown) }
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
        self.log.write(format!("{} is requested to stop", self.name));
        (self.stop)(self, cx);
    }
}

/// What happened, as lines of text to wait for.
#[derive(Clone, Default)]
struct EventLog(Arc<Mutex<Vec<String>>>);

impl EventLog {
    fn write(&self, line: impl Into<String>) {
        self.0.lock().push(line.into());
    }

    fn lines(&self) -> Vec<String> {
        self.0.lock().clone()
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

impl LifecycleListener for EventLog {
    fn on_event(&self, LifecycleEvent { path, kind }: &LifecycleEvent) {
        self.write(match kind {
            LifecycleKind::Started { incarnation } => format!("{path} {incarnation} started"),
            LifecycleKind::Exited { incarnation, exit } => format!("{path} {incarnation} {exit}"),
            LifecycleKind::RestartScheduled { affected, .. } => format!("{path} will restart {}", affected.join(" ")),
            LifecycleKind::IntensityExceeded { restarts, .. } => format!("{path} has had {restarts} restarts"),
            LifecycleKind::Escalated { reason } => format!("{path} escalates {reason}"),
            LifecycleKind::Stuck { silent } => format!("{path} is stuck for {silent:?}"),
        });
    }
}

/// A tree under test, and its surroundings.
struct Fixture {
    log: EventLog,
    actor_tree: ActorTree,
    mailboxes: HashMap<&'static str, MailboxSlot<Act>>,
}

impl Fixture {
    fn new(names: &[&'static str]) -> Self {
        let mailboxes = names.iter().map(|name| (*name, MailboxSlot::default())).collect();
        Self { log: EventLog::default(), actor_tree: ActorTree::default(), mailboxes }
    }

    fn environment(&self) -> Environment {
        Environment { clock: SystemClock::shared(), seed: 7, listener: Arc::new(self.log.clone()), actor_tree: self.actor_tree.clone() }
    }

    /// A child that publishes its mailbox under its name.
    fn child(&self, restart: Restart, puppet: Puppet) -> ChildSpec {
        let mailbox = self.mailboxes[puppet.name].clone();
        ChildSpec::actor(puppet.name, restart, Duration::from_secs(5), move |own| {
            mailbox.set(own.clone());
            puppet.clone()
        })
    }

    fn puppet(&self, restart: Restart, name: &'static str) -> ChildSpec {
        self.child(restart, Puppet::new(name, &self.log))
    }

    fn act(&self, name: &str, act: impl FnOnce(&mut Puppet, &mut Cx<'_, Puppet>) + Send + 'static) {
        self.mailboxes[name].get().post(Box::new(act)).unwrap();
    }

    fn start(&self, strategy: Strategy, children: Vec<ChildSpec>) -> Root {
        start("root", SupervisorSpec { strategy, limits: LIMITS, children }, self.environment())
    }
}

/// Restarts quickly, without a limit.
const LIMITS: Limits = Limits {
    max_restarts: u32::MAX,
    within: Duration::from_secs(60),
    backoff: Backoff { min: Duration::from_millis(1), max: Duration::from_millis(4) },
    backoff_reset: Duration::from_secs(60),
};

/// Runs a test on an actor thread with a separate I/O runtime, as the program does.
fn on_actor_thread<F: Future>(test: F) -> F::Output {
    let io = runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    block_on(&Arc::new(io), test)
}
