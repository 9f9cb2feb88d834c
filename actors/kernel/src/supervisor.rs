//! The shell of a supervisor: an actor whose messages are its children's exits. What to do it asks the pure [`strategy`](super::strategy).
//!
//! Guarantee: it ends after its children. Killed at its own deadline it kills them, and theirs. Not guaranteed: a deadline of its own that
//! is shorter than its children's together leaves them no time to stop in order; that is for whoever writes the tree.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::child::{Child, Launch, launch};
use super::registry::Node;
use super::strategy::{Effect, Event, Supervision};
use super::{Actor, Closed, Cx, Environment, Exit, Limits, Mailbox, Restart, SILENCE, Strategy, What};

/// Starts an incarnation; the exit when it can't even be made.
type Starter = Box<dyn FnMut(Launch, &Environment) -> Result<Child, Exit>>;

/// A child and how to make its incarnations.
pub struct ChildSpec {
    name: String,
    restart: Restart,
    deadline: Duration,
    silence: Duration,
    start: Starter,
}

impl ChildSpec {
    /// An actor. Asked to stop it has `shutdown_deadline` for it, then it is aborted. `make` makes an incarnation; it is given the mailbox that the
    /// incarnation will have, so that it can hand it over to children started later. A panic in it is the incarnation's panic.
    pub fn actor<A: Actor>(
        name: impl Into<String>,
        restart: Restart,
        shutdown_deadline: Duration,
        mut make: impl FnMut(&Mailbox<A::Message>) -> A + 'static,
    ) -> Self {
        let start = Box::new(move |begin: Launch, _: &Environment| launch(begin, &mut make));
        Self { name: name.into(), restart, deadline: shutdown_deadline, silence: SILENCE, start }
    }

    /// A supervisor, whose children are made anew with each of its incarnations. `shutdown_deadline` should be longer than the deadlines of its
    /// children together.
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
        Self { name: name.into(), restart, deadline: shutdown_deadline, silence: SILENCE, start }
    }

    /// The same child, which may owe progress for `silence` before the watchdog takes it for stuck, instead of [`SILENCE`].
    #[must_use]
    pub fn silence(mut self, silence: Duration) -> Self {
        self.silence = silence;
        self
    }
}

/// A supervisor and its children.
pub struct SupervisorSpec {
    /// Who is restarted beside the child that has failed.
    pub strategy: Strategy,
    /// How patient it is.
    pub limits: Limits,
    /// In start order, which is the order of dependency: who is sent to comes before who sends. They stop in the reverse order.
    pub children: Vec<ChildSpec>,
}

/// A child's exit.
pub(super) struct Exited {
    child: usize,
    incarnation: u64,
    exit: Exit,
}

struct Supervised {
    spec: ChildSpec,
    node: Arc<Node>,
    child: Option<Child>,
}

/// The actor.
pub(super) struct Supervisor {
    node: Arc<Node>,
    env: Environment,
    state: Supervision,
    children: Vec<Supervised>,
    random: StdRng,
}

impl Supervisor {
    pub(super) fn new(spec: SupervisorSpec, node: Arc<Node>, env: Environment) -> Self {
        let supervised = |spec: ChildSpec| Supervised { node: node.child(&spec.name), spec, child: None };
        let children: Vec<_> = spec.children.into_iter().map(supervised).collect();
        let slots = children.iter().map(|child| (child.spec.name.clone(), child.spec.restart, child.node.incarnation()));
        let state = Supervision::new(spec.strategy, spec.limits, slots, env.clock.now());
        // Supervisors that share a seed must not share their jitter.
        let seed = node.path().bytes().fold(env.seed, |seed, byte| seed.rotate_left(5) ^ u64::from(byte));
        Self { node, env, state, children, random: StdRng::seed_from_u64(seed) }
    }

    /// Takes an event in and does what follows, until nothing more does.
    fn feed(&mut self, event: Event, cx: &mut Cx<'_, Self>) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            for effect in self.state.step(event, self.env.clock.now(), self.random.random()) {
                match effect {
                    Effect::Start { child, incarnation } => events.push_back(self.start(child, incarnation, cx)),
                    Effect::Stop { child } => self.stop(child),
                    Effect::Wake(delay) => cx.after(delay, |supervisor, cx| supervisor.feed(Event::Timer, cx)),
                    Effect::Finish(exit) => cx.exit(exit),
                    Effect::Tell { child, what } => self.tell(child, what),
                }
            }
        }
        for (index, child) in self.children.iter().enumerate() {
            child.node.restarts(self.state.awaits_restart(index));
        }
    }

    fn start(&mut self, child: usize, incarnation: u64, cx: &Cx<'_, Self>) -> Event {
        let Supervised { spec, node, child: running } = &mut self.children[child];
        let (mailbox, env, seen) = (cx.mailbox(), self.env.clone(), Arc::clone(node));
        let begin = Launch {
            node: Arc::clone(node),
            incarnation,
            clock: Arc::clone(&self.env.clock),
            silence: spec.silence,
            held: Some(cx.hold()),
            report: Box::new(move |exit| {
                // A supervisor that was killed does not hear of its children any more, but the witness does.
                if let Err(Closed(Exited { exit, .. })) = mailbox.post(Exited { child, incarnation, exit }) {
                    env.tell(seen.path(), What::Exited { incarnation, exit });
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
        let Supervised { spec, child, .. } = &self.children[child];
        if let Some(running) = child {
            running.stop(spec.deadline);
        }
    }

    fn tell(&self, child: Option<usize>, what: What) {
        let node = child.map_or(&self.node, |child| &self.children[child].node);
        self.env.tell(node.path(), what);
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
