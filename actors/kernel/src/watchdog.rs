//! Finds actors that owe progress and make none. It runs on its own thread, since the actor thread
//! may be blocked.
//!
//! Guarantees:
//! * An actor that holds a [`Working`](super::Working) guard, does not wait for a server and does
//!   not tick within the stall timeout, a minute, is reported once and ended as failed.
//! * An actor that keeps the actor thread busy for the stall timeout is reported once.
//! * Both are noticed within the stall timeout plus one scan.
//!
//! Does not guarantee that a blocked actor thread recovers: it can't be ended.

use std::collections::HashMap;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use super::progress::Sample;
use super::{Environment, Exit, LifecycleKind};

/// How long an actor may owe progress.
const STALL_TIMEOUT: Duration = Duration::from_secs(60);
/// How often the watchdog scans the tree.
const SCAN_INTERVAL: Duration = Duration::from_secs(1);

/// The thread. It ends when this is dropped.
pub(super) struct Watchdog {
    _stop_on_drop: Sender<()>,
}

impl Watchdog {
    pub(super) fn start(env: Environment) -> Self {
        let (sender, stopped) = channel();
        let run = move || {
            let mut scan = Scan::default();
            while stopped.recv_timeout(SCAN_INTERVAL) == Err(RecvTimeoutError::Timeout) {
                scan.run(&env);
            }
        };
        if let Err(error) = thread::Builder::new().name("watchdog".to_owned()).spawn(run) {
            tracing::error!(%error, "failed to spawn the watchdog thread; stuck actors will not be noticed");
        }
        Self { _stop_on_drop: sender }
    }
}

/// What earlier scans found, by path.
#[derive(Default)]
pub(super) struct Scan(HashMap<String, Watch>);

impl Scan {
    /// Checks every running actor once, and acts on the findings.
    pub(super) fn run(&mut self, env: &Environment) {
        let now = env.clock.now();
        let mut before = std::mem::take(&mut self.0);
        for node in env.actor_tree.nodes() {
            let Some(running) = node.running() else { continue };
            let sample = running.sample();
            let known = before.remove(node.path()).filter(|watch| watch.incarnation == running.incarnation);
            let mut watch = known.unwrap_or_else(|| Watch::new(running.incarnation, sample, now));
            match watch.check(sample, now) {
                Finding::Unchanged => {}
                Finding::Recovered => node.stuck(false),
                Finding::Blocking(silent) => {
                    node.stuck(true);
                    env.emit(node.path(), LifecycleKind::Stuck { silent });
                }
                Finding::Stalled(silent) => {
                    node.stuck(true);
                    env.emit(node.path(), LifecycleKind::Stuck { silent });
                    running.kill_switch.kill(Exit::Failed(format!("no progress for {silent:?}")));
                }
            }
            self.0.insert(node.path().to_owned(), watch);
        }
    }
}

/// What is known about one incarnation.
#[derive(Debug)]
struct Watch {
    incarnation: u64,
    last: Sample,
    ticked: Instant,
    turned: Instant,
    stuck: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Finding {
    /// Nothing has changed.
    Unchanged,
    /// It was stuck and makes progress again.
    Recovered,
    /// The actor thread has been inside it for this long.
    Blocking(Duration),
    /// It owes progress and made none for this long.
    Stalled(Duration),
}

impl Watch {
    fn new(incarnation: u64, sample: Sample, now: Instant) -> Self {
        Self { incarnation, last: sample, ticked: now, turned: now, stuck: false }
    }

    fn check(&mut self, sample: Sample, now: Instant) -> Finding {
        if sample.ticks != self.last.ticks || !sample.owes {
            self.ticked = now;
        }
        if sample.turns != self.last.turns || sample.turns.is_multiple_of(2) {
            self.turned = now;
        }
        self.last = sample;
        let (silent, inside) = (now.duration_since(self.ticked), now.duration_since(self.turned));
        let was_stuck = self.stuck;
        self.stuck = silent >= STALL_TIMEOUT || inside >= STALL_TIMEOUT;
        match (was_stuck, self.stuck) {
            (false, true) if inside >= STALL_TIMEOUT => Finding::Blocking(inside),
            (false, true) => Finding::Stalled(silent),
            (true, false) => Finding::Recovered,
            _ => Finding::Unchanged,
        }
    }
}
