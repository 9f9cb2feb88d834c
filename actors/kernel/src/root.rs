//! Starts a supervision tree, and waits for its end.
//!
//! Guarantee: [`Root::exited`] gives the root's exit after every actor of the tree has ended. Not guaranteed: that anything of the tree survives the
//! [`Root`]; dropped, it kills the tree.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::sync::watch;

use super::child::{Child, Launch, launch};
use super::supervisor::Supervisor;
use super::watchdog::Watchdog;
use super::{Exit, Registry, SILENCE, SharedClock, Sighting, SupervisorSpec, What, Witness};

/// The root itself has no deadline: each of its children has one.
const NO_DEADLINE: Duration = Duration::from_secs(24 * 60 * 60);

/// What a tree needs from outside.
#[derive(Clone)]
pub struct Environment {
    /// Tells the time.
    pub clock: SharedClock,
    /// Where the jitter of back-offs begins.
    pub seed: u64,
    /// Is told what happens.
    pub witness: Arc<dyn Witness>,
    /// Shows the tree.
    pub registry: Registry,
}

impl Environment {
    /// Tells the witness and the log.
    pub(super) fn tell(&self, path: &str, what: What) {
        match &what {
            What::Started { incarnation } => tracing::debug!(actor = path, incarnation, "started"),
            What::Exited { incarnation, exit: exit @ (Exit::Normal | Exit::Shutdown | Exit::DownstreamClosed) } => {
                tracing::debug!(actor = path, incarnation, %exit, "ended");
            }
            What::Exited { incarnation, exit } => tracing::warn!(actor = path, incarnation, %exit, "ended"),
            What::RestartScheduled { delay, affected } => tracing::info!(supervisor = path, ?delay, ?affected, "will restart"),
            What::IntensityExceeded { restarts, within } => tracing::error!(supervisor = path, restarts, ?within, "too many restarts"),
            What::Escalated { reason } => tracing::error!(supervisor = path, reason, "a restart can't heal this"),
            What::Stuck { silent } => tracing::error!(actor = path, ?silent, "owes progress and makes none"),
        }
        self.witness.saw(&Sighting { path: path.to_owned(), what });
    }
}

/// A running tree. Dropped, it kills the tree.
#[must_use = "a tree is killed when its root is dropped"]
pub struct Root {
    /// None when the supervisor could not even be made; the exit says why.
    child: Option<Child>,
    exit: watch::Receiver<Option<Exit>>,
    _watchdog: Watchdog,
}

/// Starts a tree on this thread, which must be the actor thread: one that runs [`block_on`].
pub fn start(name: &str, spec: SupervisorSpec, env: Environment) -> Root {
    let node = env.registry.root(name);
    let (sender, exit) = watch::channel(None);
    let incarnation = node.incarnation() + 1;
    let watchdog = Watchdog::start(env.clone());
    let witness = env.clone();
    let path = node.path().to_owned();
    let report = move |exit: Exit| {
        witness.tell(&path, What::Exited { incarnation, exit: exit.clone() });
        sender.send_replace(Some(exit));
    };
    let begin = Launch {
        node: Arc::clone(&node),
        incarnation,
        clock: Arc::clone(&env.clock),
        silence: SILENCE,
        held: None,
        report: Box::new(report.clone()),
    };
    env.tell(node.path(), What::Started { incarnation });
    let supervisor = Arc::clone(&node);
    let child = launch(begin, move |_| Supervisor::new(spec, supervisor, env)).map_err(report).ok();
    Root { child, exit, _watchdog: watchdog }
}

impl Root {
    /// Asks the tree to stop: every child in reverse start order, each within its deadline. From any thread; asking again changes nothing.
    pub fn stop(&self) {
        if let Some(child) = &self.child {
            child.stop(NO_DEADLINE);
        }
    }

    /// Waits for the end of the tree.
    pub async fn exited(&self) -> Exit {
        let mut exit = self.exit.clone();
        let exit = exit.wait_for(Option::is_some).await.ok().and_then(|exit| exit.clone());
        exit.unwrap_or_else(|| Exit::Failed("the actor thread ended before the tree".to_owned()))
    }
}

/// Makes this thread the actor thread, and runs `tree` on it until that is done. Clients and what actors offload run on the threads of `io`.
pub fn block_on<F: Future>(io: &Arc<Runtime>, tree: F) -> F::Output {
    actix_rt::System::with_tokio_rt(|| Arc::clone(io)).block_on(tree)
}
