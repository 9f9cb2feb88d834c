//! Runs one incarnation of an actor, and reports its exit.
//!
//! Guarantee: the exit is reported once, after the actor is dropped and all it started has ended, or [`GRACE`] later. Not guaranteed: an end while
//! the actor blocks the actor thread; nothing can stop it there.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use actix::Context;
use actix::dev::channel;
use futures_util::FutureExt;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, timeout};

use super::host::{Door, Held, Host, Life, Stop};
use super::registry::Node;
use super::{Actor, Exit, Mailbox, Progress, SharedClock};

/// How long the exit of an incarnation waits for its threads and computations to heed their cancelling.
pub const GRACE: Duration = Duration::from_secs(2);

/// What is needed to run one incarnation.
pub(super) struct Launch {
    /// Where it shows.
    pub(super) node: Arc<Node>,
    /// Which it is, from 1.
    pub(super) incarnation: u64,
    /// Tells when.
    pub(super) clock: SharedClock,
    /// How long it may owe progress.
    pub(super) silence: Duration,
    /// Held until the exit is reported, so that a supervisor does not end before its children.
    pub(super) held: Option<Held>,
    /// Is told the exit.
    pub(super) report: Box<dyn FnOnce(Exit)>,
}

/// A running incarnation. Dropped, it is killed.
pub(super) struct Child {
    stop: Mutex<Option<oneshot::Sender<Duration>>>,
    killer: Killer,
}

impl Child {
    /// Asks it to stop, and kills it when it has not within `deadline`. Asking again changes nothing.
    pub(super) fn stop(&self, deadline: Duration) {
        if let Some(stop) = self.stop.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // It has ended by itself.
            let _ = stop.send(deadline);
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.killer.kill(Exit::Shutdown);
    }
}

/// Ends an incarnation from any thread, as soon as the actor thread turns.
#[derive(Clone)]
pub(super) struct Killer(Arc<Mutex<Option<oneshot::Sender<Exit>>>>);

impl Killer {
    pub(super) fn kill(&self, exit: Exit) {
        if let Some(kill) = self.0.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // It has ended by itself.
            let _ = kill.send(exit);
        }
    }
}

/// Makes an actor and runs it on this thread. `make` is given the mailbox that the actor will have.
///
/// # Errors
/// The exit, when `make` panics; it is not reported besides.
pub(super) fn launch<A: Actor>(launch: Launch, make: impl FnOnce(&Mailbox<A::Message>) -> A) -> Result<Child, Exit> {
    let Launch { node, incarnation, clock, silence, held, report } = launch;
    let (sender, receiver) = channel::channel::<Host<A>>(0);
    let sender = Arc::new(sender);
    let (own, mut ended) = mpsc::channel(1);
    let progress = Progress::default();
    let door = Door { sender: Arc::clone(&sender), progress: progress.clone() };
    let life = Rc::new(Life::new(incarnation, Mailbox(Arc::new(door)), progress.clone(), own));

    let (stop, stopped) = oneshot::channel::<Duration>();
    let (kill, killed) = oneshot::channel();
    let child = Child { stop: Mutex::new(Some(stop)), killer: Killer(Arc::new(Mutex::new(Some(kill)))) };
    node.started(incarnation, clock.wall(), progress.clone(), silence, child.killer.clone());

    let made = catch_unwind(AssertUnwindSafe(|| make(&life.mailbox))).map_err(|panic| Exit::from_panic(&*panic));
    let actor = made.inspect_err(|exit| node.ended(exit))?;
    let mut context = Box::new(Context::with_receiver(receiver).into_future(Host::new(actor, Rc::clone(&life))));

    actix_rt::spawn(async move {
        let overdue = async {
            let Ok(deadline) = stopped.await else { return std::future::pending().await };
            // It has ended by itself.
            let _ = sender.do_send(Stop);
            sleep(deadline).await;
            Exit::Failed(format!("did not stop within {deadline:?}, so it was aborted"))
        };
        let lived = AssertUnwindSafe(poll_fn(|cx| {
            progress.turn();
            let poll = context.poll_unpin(cx);
            progress.turn();
            poll
        }));
        life.begin();
        let ended_by_itself = tokio::select! {
            biased;
            Ok(exit) = killed => Err(exit),
            exit = overdue => Err(exit),
            outcome = lived.catch_unwind() => outcome.map_err(|panic| Exit::from_panic(&*panic)),
        };
        let word = life.finish();
        let exit = match ended_by_itself {
            Ok(()) => word.unwrap_or_else(|| Exit::Failed("it ended without a reason".to_owned())),
            Err(exit) => exit,
        };
        // What the actor owns may panic when it is dropped, too.
        let exit = match catch_unwind(AssertUnwindSafe(|| drop(context))) {
            Ok(()) => exit,
            Err(panic) => Exit::from_panic(&*panic),
        };
        if timeout(GRACE, ended.recv()).await.is_err() {
            tracing::warn!(actor = node.path(), incarnation, grace = ?GRACE, "a thread or computation of an ended actor still runs");
        }
        node.ended(&exit);
        report(exit);
        drop(held);
    });
    Ok(child)
}
