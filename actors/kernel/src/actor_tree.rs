//! The supervision tree as seen from outside: the state of every actor, and the switch that ends
//! one.
//!
//! Guarantee: readable from any thread at any time, for the cost of short locks.
//!
//! Does not guarantee that two nodes of one answer had these states at the same instant.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use forebay_schemas::snapshot::{ActorState, ActorView};
use parking_lot::Mutex;

use super::kill_switch::KillSwitch;
use super::progress::Sample;
use super::{Exit, Progress};

/// The nodes of this process's supervision trees. Clones share them.
#[derive(Clone, Default)]
pub struct ActorTree(Arc<Mutex<Vec<Arc<Node>>>>);

impl ActorTree {
    /// Every node, depth first: a parent before its children, children in start order.
    pub fn actors(&self) -> Vec<ActorView> {
        self.nodes().iter().map(|node| node.view()).collect()
    }

    /// Ends the running incarnation of a node at once, as a stop, so that it does not count against
    /// the restart limit. The supervisor starts it and its dependants again after the back-off.
    /// Returns false if there is no such node or it is not running.
    pub fn end(&self, path: &str) -> bool {
        let running = self.nodes().iter().find(|node| node.path == path).and_then(|node| node.running());
        running.inspect(|running| running.kill_switch.kill(Exit::Shutdown)).is_some()
    }

    /// The root called `name`, created if it does not exist.
    pub(super) fn root(&self, name: &str) -> Arc<Node> {
        find_or_add(&self.0, name, name.to_owned())
    }

    /// Every node, depth first.
    pub(super) fn nodes(&self) -> Vec<Arc<Node>> {
        let mut nodes = Vec::new();
        for root in self.0.lock().iter() {
            root.collect(&mut nodes);
        }
        nodes
    }
}

impl fmt::Debug for ActorTree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ActorTree").field(&self.actors()).finish()
    }
}

fn find_or_add(nodes: &Mutex<Vec<Arc<Node>>>, name: &str, path: String) -> Arc<Node> {
    let mut nodes = nodes.lock();
    if let Some(node) = nodes.iter().find(|node| node.name == name) {
        return Arc::clone(node);
    }
    let node = Arc::new(Node { name: name.to_owned(), path, children: Mutex::default(), status: Mutex::default() });
    nodes.push(Arc::clone(&node));
    node
}

/// One node of the tree, across all its incarnations.
pub(super) struct Node {
    name: String,
    path: String,
    children: Mutex<Vec<Arc<Node>>>,
    status: Mutex<Status>,
}

struct Status {
    state: ActorState,
    incarnation: u64,
    since: SystemTime,
    last_exit: Option<String>,
    running: Option<Running>,
}

/// The running incarnation of a node.
#[derive(Clone)]
pub(super) struct Running {
    /// Its number.
    pub(super) incarnation: u64,
    /// Ends it.
    pub(super) kill_switch: KillSwitch,
    progress: Progress,
}

impl Running {
    pub(super) fn sample(&self) -> Sample {
        self.progress.sample()
    }
}

impl Default for Status {
    fn default() -> Self {
        Self { state: ActorState::Ended, incarnation: 0, since: SystemTime::UNIX_EPOCH, last_exit: None, running: None }
    }
}

impl Node {
    /// The child called `name`, created if it does not exist.
    pub(super) fn child(&self, name: &str) -> Arc<Node> {
        find_or_add(&self.children, name, format!("{}/{name}", self.path))
    }

    /// The path from the root.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// The number of the last incarnation; 0 if there was none.
    pub(super) fn incarnation(&self) -> u64 {
        self.status.lock().incarnation
    }

    /// An incarnation started.
    pub(super) fn started(&self, incarnation: u64, since: SystemTime, progress: Progress, kill_switch: KillSwitch) {
        let mut status = self.status.lock();
        status.state = ActorState::Up;
        status.incarnation = incarnation;
        status.since = since;
        status.running = Some(Running { incarnation, kill_switch, progress });
    }

    /// The incarnation ended, so nobody is left to restart its children. A supervised one counts as
    /// restarting until its supervisor has decided.
    pub(super) fn ended(&self, exit: &Exit, supervised: bool) {
        let mut status = self.status.lock();
        status.state = if supervised { ActorState::Restarting } else { ActorState::Ended };
        status.last_exit = Some(exit.to_string());
        status.running = None;
        drop(status);
        for child in self.children.lock().iter() {
            child.restarts(false);
        }
    }

    /// Whether a node that is not running will be started again.
    pub(super) fn restarts(&self, restarts: bool) {
        let mut status = self.status.lock();
        if status.running.is_none() {
            status.state = if restarts { ActorState::Restarting } else { ActorState::Ended };
        }
    }

    /// The watchdog's finding on a running incarnation.
    pub(super) fn stuck(&self, stuck: bool) {
        let mut status = self.status.lock();
        if status.running.is_some() {
            status.state = if stuck { ActorState::Stuck } else { ActorState::Up };
        }
    }

    /// The running incarnation, if there is one.
    pub(super) fn running(&self) -> Option<Running> {
        self.status.lock().running.clone()
    }

    fn view(&self) -> ActorView {
        let status = self.status.lock();
        let note = status.running.as_ref().and_then(|running| running.progress.note());
        let state = if status.state == ActorState::Up && note.is_some() { ActorState::Waiting } else { status.state };
        ActorView {
            path: self.path.clone(),
            state,
            incarnation: status.incarnation,
            since: status.since.into(),
            last_exit: status.last_exit.clone(),
            note,
            restarts: status.incarnation.saturating_sub(1),
            mailbox: status.running.as_ref().map_or(0, |running| running.progress.queued()),
        }
    }

    fn collect(self: &Arc<Self>, nodes: &mut Vec<Arc<Node>>) {
        nodes.push(Arc::clone(self));
        for child in self.children.lock().iter() {
            child.collect(nodes);
        }
    }
}
