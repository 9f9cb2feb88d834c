//! Starts a supervision tree and waits for its end.
//!
//! Guarantees:
//! * [`Root::exited`] returns the root's exit after every actor of the tree has ended.
//! * Dropping the [`Root`] kills the tree.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::sync::watch;

use super::run_incarnation::{Incarnation, Launch, launch};
use super::supervisor::Supervisor;
use super::watchdog::Watchdog;
use super::{ActorTree, Exit, LifecycleEvent, LifecycleKind, LifecycleListener, SharedClock, SupervisorSpec};

/// The root itself has no deadline: each of its children has one.
const NO_DEADLINE: Duration = Duration::from_secs(24 * 60 * 60);

/// What a tree needs from outside.
#[derive(Clone)]
pub struct Environment {
    /// The clock.
    pub clock: SharedClock,
    /// The seed for the jitter of back-offs.
    pub seed: u64,
    /// Receives the events of the tree.
    pub listener: Arc<dyn LifecycleListener>,
    /// Shows the tree.
    pub actor_tree: ActorTree,
}

impl Environment {
    /// Logs an event and passes it to the listener.
    pub(super) fn emit(&self, path: &str, kind: LifecycleKind) {
        match &kind {
            LifecycleKind::Started { incarnation } => tracing::debug!(actor = path, incarnation, "started"),
            LifecycleKind::Exited { incarnation, exit: exit @ (Exit::Normal | Exit::Shutdown | Exit::DownstreamClosed) } => {
                tracing::debug!(actor = path, incarnation, %exit, "ended");
            }
            LifecycleKind::Exited { incarnation, exit } => tracing::warn!(actor = path, incarnation, %exit, "ended"),
            LifecycleKind::RestartScheduled { delay, affected } => {
                tracing::info!(actor = path, ?delay, ?affected, "will restart");
            }
            LifecycleKind::IntensityExceeded { restarts, within } => {
                tracing::error!(actor = path, restarts, ?within, "too many restarts");
            }
            LifecycleKind::Escalated { reason } => {
                tracing::error!(actor = path, error = reason, "unrecoverable failure, escalating");
            }
            LifecycleKind::Stuck { silent } => tracing::error!(actor = path, "actor stalled: no progress for {silent:?}"),
        }
        self.listener.on_event(&LifecycleEvent { path: path.to_owned(), kind });
    }
}

/// A running tree. Dropping it kills the tree.
#[must_use = "a tree is killed when its root is dropped"]
pub struct Root {
    /// None if the supervisor could not be made; the exit says why.
    supervisor: Option<Incarnation>,
    exit: watch::Receiver<Option<Exit>>,
    _watchdog: Watchdog,
}

/// Starts a tree on this thread, which must be the actor thread: one that runs [`block_on`].
pub fn start(name: &str, spec: SupervisorSpec, env: Environment) -> Root {
    let node = env.actor_tree.root(name);
    let (sender, exit) = watch::channel(None);
    let incarnation = node.incarnation() + 1;
    let watchdog = Watchdog::start(env.clone());
    let events = env.clone();
    let path = node.path().to_owned();
    let report = move |exit: Exit| {
        events.emit(&path, LifecycleKind::Exited { incarnation, exit: exit.clone() });
        sender.send_replace(Some(exit));
    };
    let begin =
        Launch { node: Arc::clone(&node), incarnation, clock: Arc::clone(&env.clock), parent: None, report: Box::new(report.clone()) };
    env.emit(node.path(), LifecycleKind::Started { incarnation });
    let own_node = Arc::clone(&node);
    let supervisor = launch(begin, move |_| Supervisor::new(spec, own_node, env)).map_err(report).ok();
    Root { supervisor, exit, _watchdog: watchdog }
}

impl Root {
    /// Requests a stop from any thread: children stop in reverse start order, each within its
    /// deadline. Further requests have no effect.
    pub fn stop(&self) {
        if let Some(supervisor) = &self.supervisor {
            supervisor.stop(NO_DEADLINE);
        }
    }

    /// Waits for the end of the tree.
    pub async fn exited(&self) -> Exit {
        let mut exit = self.exit.clone();
        let exit = exit.wait_for(Option::is_some).await.ok().and_then(|exit| exit.clone());
        exit.unwrap_or_else(|| Exit::Failed("the actor thread ended before the tree".to_owned()))
    }
}

/// Makes this thread the actor thread and runs `tree` on it until it completes. Clients and
/// offloaded work run on the threads of `io`.
pub fn block_on<F: Future>(io: &Arc<Runtime>, tree: F) -> F::Output {
    actix_rt::System::with_tokio_rt(|| Arc::clone(io)).block_on(tree)
}
