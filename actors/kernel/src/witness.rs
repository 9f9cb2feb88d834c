//! What happens in the tree, for the journal and the log.
//!
//! Guarantee: sightings of one path come in the order they happened. A witness is called on the actor thread (and, for `Stuck`, on the
//! watchdog's), so it must not wait.

use std::time::Duration;

use super::Exit;

/// Is told what happens in the tree.
pub trait Witness: Send + Sync {
    /// Something happened. Must return at once.
    fn saw(&self, sighting: &Sighting);
}

/// Sees nothing.
impl Witness for () {
    fn saw(&self, _: &Sighting) {}
}

/// Something that happened to a node of the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sighting {
    /// Whose, such as `root/egress/writer`; for restarts, intensity and escalation the supervisor's.
    pub path: String,
    /// What.
    pub what: What,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// An incarnation began.
    Started {
        /// Which, from 1.
        incarnation: u64,
    },
    /// An incarnation ended.
    Exited {
        /// Which, from 1.
        incarnation: u64,
        /// Why.
        exit: Exit,
    },
    /// A supervisor will start children again. Said again when more children join those that wait.
    RestartScheduled {
        /// How long after the last of them has stopped.
        delay: Duration,
        /// Their names, in the order in which they will start.
        affected: Vec<String>,
    },
    /// Too many restarts: the supervisor stops its children and fails.
    IntensityExceeded {
        /// How many restarts would have been.
        restarts: u32,
        /// In which time.
        within: Duration,
    },
    /// A child's exit can't be healed by a restart: the supervisor stops its children and ends as fatal itself.
    Escalated {
        /// Why.
        reason: String,
    },
    /// An actor owes progress and has made none.
    Stuck {
        /// For how long.
        silent: Duration,
    },
}
