//! The supervisor: an actor whose messages are its children's exits. The pure
//! [`strategy`](super::strategy) decides what follows from them.
//!
//! Guarantee: a supervisor ends after its children. Killed at its own deadline, it kills its whole
//! subtree.
//!
//! Does not guarantee an orderly stop if its own deadline is shorter than the sum of its
//! children's: the builder of the tree must choose them so.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::actor_tree::Node;
use super::run_incarnation::{Incarnation, Launch, launch};
use super::strategy::{Effect, Event, Supervision};
use super::{Actor, Closed, Cx, Environment, Exit, LifecycleKind, Limits, Mailbox, Restart, Strategy};

/// Starts an incarnation, or returns the exit if it can't be made.
type Starter = Box<dyn FnMut(Launch, &Environment) -> Result<Incarnation, Exit>>;

/// A child, and how to make its incarnations.
pub struct ChildSpec {
    name: String,
    restart: Restart,
    deadline: Duration,
    start: Starter,
}

impl ChildSpec {
    /// An actor that has `shutdown_deadline` to stop, then is aborted. `make` makes an incarnation.
    /// It receives the mailbox of that incarnation, so that it can publish it to children started
    /// later. A panic in `make` is the incarnation's panic.
    pub fn actor<A: Actor>(
        name: impl Into<String>,
        restart: Restart,
        shutdown_deadline: Duration,
        mut make: impl FnMut(&Mailbox<A::Message>) -> A + 'static,
    ) -> Self {
        let start = Box::new(move |begin: Launch, _: &Environment| launch(begin, &mut make));
        Self { name: name.into(), restart, deadline: shutdown_deadline, start }
    }

    /// A supervisor, whose children are re-created with each of its incarnations.
    /// `shutdown_deadline` should exceed the sum of its children's deadlines.
    pub fn supervisor(
        name: impl Into<String>,
        restart: Restart,
        shutdown_deadline: Duration,
        mut make: impl FnMut() -> SupervisorSpec + 'static,
    ) -> Self {
        let start = Box::new(move |begin: Launch, env: &Environment| {
            let node = Arc::clone(&begin.node);
            launch(begin, |_| Supervisor::new(make(), node, env.clone()))
        });
        Self { name: name.into(), restart, deadline: shutdown_deadline, start }
    }
}

/// A supervisor and its children.
pub struct SupervisorSpec {
    /// Which children are restarted together with a failed one.
    pub strategy: Strategy,
    /// How many failures it tolerates.
    pub limits: Limits,
    /// In start order: receivers before senders. They stop in reverse order.
    pub children: Vec<ChildSpec>,
}

/// The exit of a child.
pub(super) struct Exited {
    child: usize,
    incarnation: u64,
    exit: Exit,
}

struct Child {
    spec: ChildSpec,
    node: Arc<Node>,
    running: Option<Incarnation>,
}

/// The actor.
pub(super) struct Supervisor {
    node: Arc<Node>,
    env: Environment,
    state: Supervision,
    children: Vec<Child>,
    random: StdRng,
}

impl Supervisor {
    pub(super) fn new(spec: SupervisorSpec, node: Arc<Node>, env: Environment) -> Self {
        let child = |spec: ChildSpec| Child { node: node.child(&spec.name), spec, running: None };
        let children: Vec<_> = spec.children.into_iter().map(child).collect();
        let slots = children.iter().map(|child| (child.spec.name.clone(), child.spec.restart, child.node.incarnation()));
        let state = Supervision::new(spec.strategy, spec.limits, slots, env.clock.now());
        // Supervisors that share a seed must not share their jitter.
        let seed = node.path().bytes().fold(env.seed, |seed, byte| seed.rotate_left(5) ^ u64::from(byte));
        Self { node, env, state, children, random: StdRng::seed_from_u64(seed) }
    }

    /// Processes an event and everything that follows from it.
    fn feed(&mut self, event: Event, cx: &mut Cx<'_, Self>) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            for effect in self.state.step(event, self.env.clock.now(), self.random.random()) {
                match effect {
                    Effect::Start { child, incarnation } => events.push_back(self.start(child, incarnation, cx)),
                    Effect::Stop { child } => self.stop(child),
                    Effect::Wake(delay) => cx.after(delay, |supervisor, cx| supervisor.feed(Event::Timer, cx)),
                    Effect::Finish(exit) => cx.exit(exit),
                    Effect::Emit { child, kind } => self.emit(child, kind),
                }
            }
        }
        for (index, child) in self.children.iter().enumerate() {
            child.node.restarts(self.state.awaits_restart(index));
        }
    }

    fn start(&mut self, child: usize, incarnation: u64, cx: &Cx<'_, Self>) -> Event {
        let Child { spec, node, running } = &mut self.children[child];
        let (mailbox, env, child_node) = (cx.mailbox(), self.env.clone(), Arc::clone(node));
        let begin = Launch {
            node: Arc::clone(node),
            incarnation,
            clock: Arc::clone(&self.env.clock),
            parent: Some(cx.guard()),
            report: Box::new(move |exit| {
                // A supervisor that was killed no longer receives its children's exits, but the
                // listener does.
                if let Err(Closed(Exited { exit, .. })) = mailbox.post(Exited { child, incarnation, exit }) {
                    env.emit(child_node.path(), LifecycleKind::Exited { incarnation, exit });
                }
            }),
        };
        match (spec.start)(begin, &self.env) {
            Ok(started) => {
                *running = Some(started);
                Event::Started { child }
            }
            Err(exit) => Event::Exited { child, incarnation, exit },
        }
    }

    fn stop(&self, child: usize) {
        let Child { spec, running, .. } = &self.children[child];
        if let Some(running) = running {
            running.stop(spec.deadline);
        }
    }

    fn emit(&self, child: Option<usize>, kind: LifecycleKind) {
        let node = child.map_or(&self.node, |child| &self.children[child].node);
        self.env.emit(node.path(), kind);
    }
}

impl Actor for Supervisor {
    type Message = Exited;

    fn started(&mut self, cx: &mut Cx<'_, Self>) {
        self.feed(Event::Timer, cx);
    }

    fn handle(&mut self, Exited { child, incarnation, exit }: Exited, cx: &mut Cx<'_, Self>) {
        self.feed(Event::Exited { child, incarnation, exit }, cx);
    }

    fn stopping(&mut self, cx: &mut Cx<'_, Self>) {
        self.feed(Event::StopRequested, cx);
    }
}
