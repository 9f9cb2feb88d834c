//! Events of the supervision tree, for the journal and the log.
//!
//! Guarantee: events of one path arrive in the order in which they happened.

use std::time::Duration;

use super::Exit;

/// Receives the events of a tree.
pub trait LifecycleListener: Send + Sync {
    /// Called on the actor thread, or on the watchdog's for [`LifecycleKind::Stuck`]. It must not
    /// block.
    fn on_event(&self, event: &LifecycleEvent);
}

/// Ignores all events.
impl LifecycleListener for () {
    fn on_event(&self, _: &LifecycleEvent) {}
}

/// Something that happened to a node of the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LifecycleEvent {
    /// The path of the node, such as `root/egress/writer`. Restarts, exceeded limits and
    /// escalations name the supervisor.
    pub path: String,
    /// What happened.
    pub kind: LifecycleKind,
}

/// What happened to a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LifecycleKind {
    /// An incarnation started.
    Started {
        /// Its number, from 1.
        incarnation: u64,
    },
    /// An incarnation ended.
    Exited {
        /// Its number, from 1.
        incarnation: u64,
        /// Why it ended.
        exit: Exit,
    },
    /// A supervisor will restart children. Repeated when more children join a pending restart.
    RestartScheduled {
        /// The delay after the last of them has stopped.
        delay: Duration,
        /// Their names, in start order.
        affected: Vec<String>,
    },
    /// Too many restarts: the supervisor stops its children and fails.
    IntensityExceeded {
        /// The number of restarts, the rejected one included.
        restarts: u32,
        /// The window they fell into.
        within: Duration,
    },
    /// A restart can't help: the supervisor stops its children and ends as fatal.
    Escalated {
        /// Why.
        reason: String,
    },
    /// An actor owes progress and made none.
    Stuck {
        /// For how long.
        silent: Duration,
    },
}
