//! What an actor implements, and the context it acts through.
//!
//! Guarantees:
//! * An incarnation handles one thing at a time, on the actor thread.
//! * Everything it started (futures, computations, threads) is dropped or cancelled when it ends.
//! * A panic in any of that is a panic of the incarnation.
//!
//! Does not guarantee that messages and completions alternate: queued messages are handled first,
//! and there are as many as the budgets allow.

use std::convert::Infallible;
use std::future::Future;
use std::panic::resume_unwind;
use std::thread;
use std::time::Duration;

use actix::fut::{ActorFutureExt, wrap_future};
use actix::{ActorContext, AsyncContext, Context};
use tokio::sync::oneshot;
use tokio::task::AbortHandle;

use super::actix_adapter::ActixAdapter;
use super::incarnation_scope::{Cancel, Lifetime, LifetimeGuard};
use super::task::{AbortOnDrop, Task};
use super::{Exit, Mailbox, Progress};

/// An actor handles one message at a time, on the actor thread, which it must not block. Work that
/// waits or takes long goes through [`Cx::spawn`], [`Cx::offload`], [`Cx::compute`] or
/// [`Cx::thread`].
pub trait Actor: Sized + 'static {
    /// What is posted to it. Data messages are leases.
    type Message: Send + 'static;

    /// The incarnation starts.
    fn started(&mut self, cx: &mut Cx<'_, Self>) {
        let _ = cx;
    }

    /// Handles a message.
    fn handle(&mut self, message: Self::Message, cx: &mut Cx<'_, Self>);

    /// The supervisor requests a stop: finish what is in flight, then call
    /// `cx.exit(Exit::Shutdown)`, before the deadline. Messages that were posted before the request
    /// are handled first.
    fn stopping(&mut self, cx: &mut Cx<'_, Self>) {
        cx.exit(Exit::Shutdown);
    }
}

/// An actor without a mailbox.
pub trait Service: Sized + 'static {
    /// The incarnation starts.
    fn started(&mut self, cx: &mut Cx<'_, Self>);

    /// The supervisor requests a stop, as for [`Actor::stopping`].
    fn stopping(&mut self, cx: &mut Cx<'_, Self>) {
        cx.exit(Exit::Shutdown);
    }
}

impl<S: Service> Actor for S {
    type Message = Infallible;

    fn started(&mut self, cx: &mut Cx<'_, Self>) {
        Service::started(self, cx);
    }

    fn handle(&mut self, message: Infallible, _: &mut Cx<'_, Self>) {
        match message {}
    }

    fn stopping(&mut self, cx: &mut Cx<'_, Self>) {
        Service::stopping(self, cx);
    }
}

/// What an actor acts through while it handles something.
pub struct Cx<'a, A: Actor> {
    pub(super) context: &'a mut Context<ActixAdapter<A>>,
    pub(super) lifetime: &'a Lifetime<A::Message>,
}

impl<A: Actor> Cx<'_, A> {
    /// Ends this incarnation for this reason. None of its code runs after the current handler. The
    /// first exit wins.
    pub fn exit(&mut self, exit: Exit) {
        self.lifetime.end(exit);
        self.context.stop();
    }

    /// Runs a future on the actor thread, then `then` with its output. The future is dropped when
    /// the incarnation ends.
    pub fn spawn<F>(&mut self, f: F, then: impl FnOnce(&mut A, F::Output, &mut Cx<'_, A>) + 'static)
    where
        F: Future + 'static,
    {
        let item =
            wrap_future::<F, ActixAdapter<A>>(f).map(|output, adapter: &mut ActixAdapter<A>, context: &mut Context<ActixAdapter<A>>| {
                adapter.turn(context, |actor, cx| then(actor, output, cx));
            });
        self.context.spawn(item);
    }

    /// Like [`Cx::spawn`], but on the I/O runtime. A panic in the future is this actor's panic; the
    /// future is aborted when the incarnation ends.
    pub fn offload<F>(&mut self, f: F, then: impl FnOnce(&mut A, F::Output, &mut Cx<'_, A>) + 'static)
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let (task, outcome) = Task::new(f, self.lifetime.guard());
        let handle = tokio::spawn(task.run_async());
        self.receive(outcome, Some(handle.abort_handle()), then);
    }

    /// Runs CPU work on the blocking pool. A panic in it is this actor's panic. Work that has
    /// started can't be aborted: its output is discarded if the incarnation ends first.
    pub fn compute<T: Send + 'static>(
        &mut self,
        work: impl FnOnce() -> T + Send + 'static,
        then: impl FnOnce(&mut A, T, &mut Cx<'_, A>) + 'static,
    ) {
        let (task, outcome) = Task::new(work, self.lifetime.guard());
        let handle = tokio::task::spawn_blocking(move || task.run());
        self.receive(outcome, Some(handle.abort_handle()), then);
    }

    /// Runs a plain OS thread, for work that blocks as long as the actor lives. `cancel` is set
    /// when the incarnation ends; the thread should check it several times a second, since the exit
    /// waits for the thread for up to two seconds. A panic in it is this actor's panic.
    pub fn thread<T: Send + 'static>(
        &mut self,
        name: &str,
        work: impl FnOnce(Cancel) -> T + Send + 'static,
        then: impl FnOnce(&mut A, T, &mut Cx<'_, A>) + 'static,
    ) {
        let cancel = self.lifetime.cancel.clone();
        let (task, outcome) = Task::new(move || work(cancel), self.lifetime.guard());
        match thread::Builder::new().name(name.to_owned()).spawn(move || task.run()) {
            Ok(_) => self.receive(outcome, None, then),
            Err(error) => self.exit(Exit::Failed(format!("failed to spawn the thread {name}: {error}"))),
        }
    }

    /// Waits for the outcome of a task and resumes its panic here.
    fn receive<T: 'static>(
        &mut self,
        outcome: oneshot::Receiver<thread::Result<T>>,
        abort: Option<AbortHandle>,
        then: impl FnOnce(&mut A, T, &mut Cx<'_, A>) + 'static,
    ) {
        let abort = AbortOnDrop(abort);
        let received = async move {
            let _abort = abort;
            outcome.await
        };
        self.spawn(received, |actor, outcome, cx| match outcome {
            Ok(Ok(output)) => then(actor, output, cx),
            Ok(Err(panic)) => resume_unwind(panic),
            Err(_) => panic!("the I/O runtime was shut down before its actors"),
        });
    }

    /// Calls `then` after `delay`, unless the incarnation ends first.
    pub fn after(&mut self, delay: Duration, then: impl FnOnce(&mut A, &mut Cx<'_, A>) + 'static) {
        self.spawn(tokio::time::sleep(delay), |actor, (), cx| then(actor, cx));
    }

    /// The mailbox of this incarnation.
    pub fn mailbox(&self) -> Mailbox<A::Message> {
        self.lifetime.mailbox.clone()
    }

    /// The number of this incarnation, from 1.
    pub fn incarnation(&self) -> u64 {
        self.lifetime.incarnation
    }

    /// Where this incarnation reports its progress.
    pub fn progress(&self) -> Progress {
        self.lifetime.progress.clone()
    }

    /// Delays the report of this incarnation's exit until the guard is dropped.
    pub(super) fn guard(&self) -> LifetimeGuard {
        self.lifetime.guard()
    }
}
