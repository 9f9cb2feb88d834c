//! Finds actors that owe progress and make none, from a thread of its own, since the actor thread may be what is blocked.
//!
//! Guarantee: an actor that holds a [`Working`](super::Working) guard, does not wait for a server, and has not ticked for its limit is reported once
//! and ended as failed; one that has been inside the actor thread for its limit is reported once. Both are seen within the limit and one
//! look more. Not guaranteed: that the second can be helped; a blocked thread can't be ended.

use std::collections::HashMap;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use super::progress::Sample;
use super::{Environment, Exit, What};

/// How long an actor may owe progress, unless its child specification says otherwise.
pub const SILENCE: Duration = Duration::from_secs(60);
/// How often the watchdog looks.
const EVERY: Duration = Duration::from_secs(1);

/// The thread. It ends when this is dropped.
pub(super) struct Watchdog {
    _leash: Sender<()>,
}

impl Watchdog {
    pub(super) fn start(env: Environment) -> Self {
        let (leash, cut) = channel();
        let watch = move || {
            let mut round = Round::default();
            while cut.recv_timeout(EVERY) == Err(RecvTimeoutError::Timeout) {
                round.look(&env);
            }
        };
        if let Err(error) = thread::Builder::new().name("watchdog".to_owned()).spawn(watch) {
            tracing::error!(%error, "the system gave no thread for the watchdog: stuck actors will not be noticed");
        }
        Self { _leash: leash }
    }
}

/// What is known from the looks before, by path.
#[derive(Default)]
pub(super) struct Round(HashMap<String, Vigil>);

impl Round {
    /// Looks at every running actor once, and does what is to be done.
    pub(super) fn look(&mut self, env: &Environment) {
        let now = env.clock.now();
        let mut before = std::mem::take(&mut self.0);
        for node in env.registry.nodes() {
            let Some(running) = node.running() else { continue };
            let sample = running.sample();
            let known = before.remove(node.path()).filter(|vigil| vigil.incarnation == running.incarnation);
            let mut vigil = known.unwrap_or_else(|| Vigil::new(running.incarnation, sample, now));
            match vigil.look(sample, now, running.silence) {
                Finding::Unchanged => {}
                Finding::Moves => node.stuck(false),
                Finding::Blocks(silent) => {
                    node.stuck(true);
                    env.tell(node.path(), What::Stuck { silent });
                }
                Finding::Silent(silent) => {
                    node.stuck(true);
                    env.tell(node.path(), What::Stuck { silent });
                    running.killer.kill(Exit::Failed(format!("no progress for {silent:?}")));
                }
            }
            self.0.insert(node.path().to_owned(), vigil);
        }
    }
}

/// What is known of one incarnation.
#[derive(Debug)]
struct Vigil {
    incarnation: u64,
    last: Sample,
    ticked: Instant,
    turned: Instant,
    stuck: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Finding {
    /// As before.
    Unchanged,
    /// It was stuck, and moves again.
    Moves,
    /// The actor thread has been inside it for so long.
    Blocks(Duration),
    /// It owes progress and has made none for so long.
    Silent(Duration),
}

impl Vigil {
    fn new(incarnation: u64, sample: Sample, now: Instant) -> Self {
        Self { incarnation, last: sample, ticked: now, turned: now, stuck: false }
    }

    fn look(&mut self, sample: Sample, now: Instant, limit: Duration) -> Finding {
        if sample.ticks != self.last.ticks || !sample.owes {
            self.ticked = now;
        }
        if sample.turns != self.last.turns || sample.turns.is_multiple_of(2) {
            self.turned = now;
        }
        self.last = sample;
        let (silent, inside) = (now.duration_since(self.ticked), now.duration_since(self.turned));
        let was_stuck = self.stuck;
        self.stuck = silent >= limit || inside >= limit;
        match (was_stuck, self.stuck) {
            (false, true) if inside >= limit => Finding::Blocks(inside),
            (false, true) => Finding::Silent(silent),
            (true, false) => Finding::Moves,
            _ => Finding::Unchanged,
        }
    }
}
