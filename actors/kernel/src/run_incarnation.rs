//! Runs one incarnation of an actor and reports its exit.
//!
//! Guarantee: the exit is reported once, after the actor is dropped and everything it started has
//! ended, or [`GRACE_PERIOD`] later.
//!
//! Does not guarantee an end while the actor blocks the actor thread: nothing can stop it there.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::Context;
use actix::dev::channel;
use futures_util::FutureExt;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, timeout};

use super::actix_adapter::{ActixAdapter, Sender, Stop};
use super::actor_tree::Node;
use super::incarnation_scope::{Lifetime, LifetimeGuard};
use super::kill_switch::KillSwitch;
use super::{Actor, Exit, Mailbox, Progress, SharedClock};

/// How long an exit waits for threads and computations to notice their cancellation.
const GRACE_PERIOD: Duration = Duration::from_secs(2);

/// What an incarnation is started with.
pub(super) struct Launch {
    /// The node that shows it.
    pub(super) node: Arc<Node>,
    /// Its number, from 1.
    pub(super) incarnation: u64,
    /// The clock for its start time.
    pub(super) clock: SharedClock,
    /// The supervisor's guard, held until the exit is reported, so that a supervisor ends after its
    /// children.
    pub(super) parent: Option<LifetimeGuard>,
    /// Receives the exit.
    pub(super) report: Box<dyn FnOnce(Exit)>,
}

/// A running incarnation. Dropping it kills the incarnation.
pub(super) struct Incarnation {
    stop: Mutex<Option<oneshot::Sender<Duration>>>,
    kill_switch: KillSwitch,
}

impl Incarnation {
    /// Requests a stop, and kills the incarnation if it does not end within `deadline`. Further
    /// requests have no effect.
    pub(super) fn stop(&self, deadline: Duration) {
        if let Some(stop) = self.stop.lock().take() {
            // Fails if the incarnation has ended.
            let _ = stop.send(deadline);
        }
    }
}

impl Drop for Incarnation {
    fn drop(&mut self) {
        self.kill_switch.kill(Exit::Shutdown);
    }
}

/// Makes an actor and runs it on this thread. `make` receives the mailbox of the actor.
///
/// # Errors
/// The exit, if `make` panics. It is not passed to `report`.
pub(super) fn launch<A: Actor>(launch: Launch, make: impl FnOnce(&Mailbox<A::Message>) -> A) -> Result<Incarnation, Exit> {
    let Launch { node, incarnation, clock, parent, report } = launch;
    let (address, receiver) = channel::channel::<ActixAdapter<A>>(0);
    let address = Arc::new(address);
    let (guard, mut released) = mpsc::channel(1);
    let progress = Progress::default();
    let sender = Sender { address: Arc::clone(&address), progress: progress.clone() };
    let lifetime = Rc::new(Lifetime::new(incarnation, Mailbox(Arc::new(sender)), progress.clone(), guard));

    let (stop, stopped) = oneshot::channel::<Duration>();
    let (kill_switch, killed) = KillSwitch::new();
    let running = Incarnation { stop: Mutex::new(Some(stop)), kill_switch: kill_switch.clone() };
    node.started(incarnation, clock.wall(), progress.clone(), kill_switch);

    let made = catch_unwind(AssertUnwindSafe(|| make(&lifetime.mailbox))).map_err(|panic| Exit::from_panic(&*panic));
    let actor = made.inspect_err(|exit| node.ended(exit, parent.is_some()))?;
    let mut context = Box::new(Context::with_receiver(receiver).into_future(ActixAdapter::new(actor, Rc::clone(&lifetime))));

    actix_rt::spawn(async move {
        let overdue = async {
            let Ok(deadline) = stopped.await else { return std::future::pending().await };
            // Fails if the incarnation has ended.
            let _ = address.do_send(Stop);
            sleep(deadline).await;
            Exit::Failed(format!("did not stop within {deadline:?} and was aborted"))
        };
        let lived = AssertUnwindSafe(poll_fn(|cx| {
            progress.turn();
            let poll = context.poll_unpin(cx);
            progress.turn();
            poll
        }));
        lifetime.begin();
        let ended = tokio::select! {
            biased;
            Ok(exit) = killed => Err(exit),
            exit = overdue => Err(exit),
            outcome = lived.catch_unwind() => outcome.map_err(|panic| Exit::from_panic(&*panic)),
        };
        let own_exit = lifetime.finish();
        let exit = match ended {
            Ok(()) => own_exit.unwrap_or_else(|| Exit::Failed("ended without a reason".to_owned())),
            Err(exit) => exit,
        };
        // Dropping the actor may panic as well.
        let exit = match catch_unwind(AssertUnwindSafe(|| drop(context))) {
            Ok(()) => exit,
            Err(panic) => Exit::from_panic(&*panic),
        };
        if timeout(GRACE_PERIOD, released.recv()).await.is_err() {
            tracing::warn!(actor = node.path(), incarnation, grace_period = ?GRACE_PERIOD, "actor ended, but a thread or computation of it is still running");
        }
        node.ended(&exit, parent.is_some());
        report(exit);
        drop(parent);
    });
    Ok(running)
}
