//! What others see of the supervision tree.
//!
//! Guarantee: readable from any thread at any time, for the price of short locks. Not guaranteed: that two nodes of one look were so at the same
//! instant.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use forebay_schemas::snapshot::{ActorState, ActorView};

use super::child::Killer;
use super::progress::Sample;
use super::{Exit, Progress};

/// The nodes of the supervision trees of this process. Clones share them.
#[derive(Clone, Default)]
pub struct Registry(Arc<Mutex<Vec<Arc<Node>>>>);

impl Registry {
    /// Every node, depth first: a parent before its children, children in start order.
    pub fn actors(&self) -> Vec<ActorView> {
        self.nodes().iter().map(|node| node.view()).collect()
    }

    /// Ends the incarnation of a node that runs now, at once and as a stop, so that it does not count against the limit of restarts; its supervisor
    /// starts the next one after its back-off, and those that hang on it. False when none runs, or there is no such node.
    pub fn end(&self, path: &str) -> bool {
        let running = self.nodes().iter().find(|node| node.path == path).and_then(|node| node.running());
        running.inspect(|running| running.killer.kill(Exit::Shutdown)).is_some()
    }

    /// The root called `name`, made if there is none.
    pub(super) fn root(&self, name: &str) -> Arc<Node> {
        find_or_add(&self.0, name, name.to_owned())
    }

    /// Every node, depth first.
    pub(super) fn nodes(&self) -> Vec<Arc<Node>> {
        let mut nodes = Vec::new();
        for root in lock(&self.0).iter() {
            root.collect(&mut nodes);
        }
        nodes
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Registry").field(&self.actors()).finish()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn find_or_add(among: &Mutex<Vec<Arc<Node>>>, name: &str, path: String) -> Arc<Node> {
    let mut nodes = lock(among);
    if let Some(node) = nodes.iter().find(|node| node.name == name) {
        return Arc::clone(node);
    }
    let node = Arc::new(Node { name: name.to_owned(), path, children: Mutex::default(), state: Mutex::default() });
    nodes.push(Arc::clone(&node));
    node
}

/// One node of the tree, over all its incarnations.
pub(super) struct Node {
    name: String,
    path: String,
    children: Mutex<Vec<Arc<Node>>>,
    state: Mutex<State>,
}

struct State {
    life: ActorState,
    incarnation: u64,
    since: SystemTime,
    last_exit: Option<String>,
    running: Option<Running>,
}

/// What is known of the present incarnation.
#[derive(Clone)]
pub(super) struct Running {
    /// Which it is.
    pub(super) incarnation: u64,
    /// How long it may owe progress.
    pub(super) silence: Duration,
    /// Ends it.
    pub(super) killer: Killer,
    progress: Progress,
}

impl Running {
    pub(super) fn sample(&self) -> Sample {
        self.progress.sample()
    }
}

impl Default for State {
    fn default() -> Self {
        Self { life: ActorState::Ended, incarnation: 0, since: SystemTime::UNIX_EPOCH, last_exit: None, running: None }
    }
}

impl Node {
    /// The child called `name`, made if there is none.
    pub(super) fn child(&self, name: &str) -> Arc<Node> {
        find_or_add(&self.children, name, format!("{}/{name}", self.path))
    }

    /// Its path from the root.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// Its last incarnation; 0 when there was none.
    pub(super) fn incarnation(&self) -> u64 {
        lock(&self.state).incarnation
    }

    /// An incarnation begins.
    pub(super) fn started(&self, incarnation: u64, since: SystemTime, progress: Progress, silence: Duration, killer: Killer) {
        let mut state = lock(&self.state);
        state.life = ActorState::Up;
        state.incarnation = incarnation;
        state.since = since;
        state.running = Some(Running { incarnation, silence, killer, progress });
    }

    /// The incarnation has ended, and nobody is left to restart its children.
    pub(super) fn ended(&self, exit: &Exit) {
        let mut state = lock(&self.state);
        state.life = ActorState::Ended;
        state.last_exit = Some(exit.to_string());
        state.running = None;
        drop(state);
        for child in lock(&self.children).iter() {
            child.restarts(false);
        }
    }

    /// Whether another incarnation will come, if none runs.
    pub(super) fn restarts(&self, restarts: bool) {
        let mut state = lock(&self.state);
        if state.running.is_none() {
            state.life = if restarts { ActorState::Restarting } else { ActorState::Ended };
        }
    }

    /// The watchdog's finding on a running incarnation.
    pub(super) fn stuck(&self, stuck: bool) {
        let mut state = lock(&self.state);
        if state.running.is_some() {
            state.life = if stuck { ActorState::Stuck } else { ActorState::Up };
        }
    }

    /// The present incarnation, if one runs.
    pub(super) fn running(&self) -> Option<Running> {
        lock(&self.state).running.clone()
    }

    fn view(&self) -> ActorView {
        let state = lock(&self.state);
        let note = state.running.as_ref().and_then(|running| running.progress.note());
        let life = if state.life == ActorState::Up && note.is_some() { ActorState::Waiting } else { state.life };
        ActorView {
            path: self.path.clone(),
            state: life,
            incarnation: state.incarnation,
            since: state.since.into(),
            last_exit: state.last_exit.clone(),
            note,
            restarts: state.incarnation.saturating_sub(1),
            mailbox: state.running.as_ref().map_or(0, |running| running.progress.queued()),
        }
    }

    fn collect(self: &Arc<Self>, nodes: &mut Vec<Arc<Node>>) {
        nodes.push(Arc::clone(self));
        for child in lock(&self.children).iter() {
            child.collect(nodes);
        }
    }
}
