//! What a shell is written against: an actor, and the context it acts in.
//!
//! Guarantee: one incarnation handles one thing at a time, on the actor thread; whatever it started (futures, computations, threads) is dropped
//! or cancelled when it ends, and a panic in any of that is a panic of the incarnation. Not guaranteed: that messages and completions take
//! turns; the messages that wait are handled first, which are as many as the budgets allow.

use std::future::Future;
use std::panic::resume_unwind;
use std::thread;
use std::time::Duration;

use actix::fut::{ActorFutureExt, wrap_future};
use actix::{ActorContext, AsyncContext, Context};
use tokio::sync::oneshot;
use tokio::task::AbortHandle;

use super::errand::{Abort, Cancel, Errand};
use super::host::{Held, Host, Life};
use super::{Exit, Mailbox, Progress};

/// An actor: one message at a time, on the actor thread, which it must not block. Work that waits or takes long goes through [`Cx::spawn`],
/// [`Cx::offload`], [`Cx::compute`] or [`Cx::thread`].
pub trait Actor: Sized + 'static {
    /// What is posted to it. Data messages are leases.
    type Message: Send + 'static;

    /// The incarnation begins.
    fn started(&mut self, cx: &mut Cx<'_, Self>) {
        let _ = cx;
    }

    /// A message has come.
    fn handle(&mut self, message: Self::Message, cx: &mut Cx<'_, Self>);

    /// The supervisor asks to stop: finish what is in flight, then `cx.exit(Exit::Shutdown)`, before the deadline. Comes behind the messages
    /// that were posted before.
    fn stopping(&mut self, cx: &mut Cx<'_, Self>) {
        cx.exit(Exit::Shutdown);
    }
}

/// What an actor acts through while it handles something.
pub struct Cx<'a, A: Actor> {
    pub(super) context: &'a mut Context<Host<A>>,
    pub(super) life: &'a Life<A::Message>,
}

impl<A: Actor> Cx<'_, A> {
    /// This incarnation ends now, with this reason; nothing of it runs after the present handler. The first exit holds.
    pub fn exit(&mut self, exit: Exit) {
        self.life.end(exit);
        self.context.stop();
    }

    /// Runs a future on the actor thread, then `then` with its output. Dropped when the incarnation ends.
    pub fn spawn<F>(&mut self, f: F, then: impl FnOnce(&mut A, F::Output, &mut Cx<'_, A>) + 'static)
    where
        F: Future + 'static,
    {
        let item = wrap_future::<F, Host<A>>(f)
            .map(|output, host: &mut Host<A>, context: &mut Context<Host<A>>| host.turn(context, |actor, cx| then(actor, output, cx)));
        self.context.spawn(item);
    }

    /// The same on the I/O runtime. A panic in it is this actor's panic; aborted when the incarnation ends.
    pub fn offload<F>(&mut self, f: F, then: impl FnOnce(&mut A, F::Output, &mut Cx<'_, A>) + 'static)
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let (errand, outcome) = Errand::new(f, self.life.hold());
        let task = tokio::spawn(errand.attend());
        self.receive(outcome, Some(task.abort_handle()), then);
    }

    /// CPU work on the blocking pool. A panic in it is this actor's panic. Once begun it can't be aborted: its output is thrown away when the
    /// incarnation ends first.
    pub fn compute<T: Send + 'static>(
        &mut self,
        work: impl FnOnce() -> T + Send + 'static,
        then: impl FnOnce(&mut A, T, &mut Cx<'_, A>) + 'static,
    ) {
        let (errand, outcome) = Errand::new(work, self.life.hold());
        let task = tokio::task::spawn_blocking(move || errand.run());
        self.receive(outcome, Some(task.abort_handle()), then);
    }

    /// A plain OS thread, for what blocks for as long as the actor lives. `cancel` turns true when the incarnation ends, and the thread should
    /// look at it several times a second: the exit is held back for it, up to [`GRACE`](super::GRACE). A panic in it is this actor's panic.
    pub fn thread<T: Send + 'static>(
        &mut self,
        name: &str,
        work: impl FnOnce(Cancel) -> T + Send + 'static,
        then: impl FnOnce(&mut A, T, &mut Cx<'_, A>) + 'static,
    ) {
        let cancel = self.life.cancel.clone();
        let (errand, outcome) = Errand::new(move || work(cancel), self.life.hold());
        match thread::Builder::new().name(name.to_owned()).spawn(move || errand.run()) {
            Ok(_) => self.receive(outcome, None, then),
            Err(error) => self.exit(Exit::Failed(format!("the system gave no thread for {name}: {error}"))),
        }
    }

    /// Waits for the outcome of an errand; a panic of it goes on here.
    fn receive<T: 'static>(
        &mut self,
        outcome: oneshot::Receiver<thread::Result<T>>,
        abort: Option<AbortHandle>,
        then: impl FnOnce(&mut A, T, &mut Cx<'_, A>) + 'static,
    ) {
        let abort = Abort(abort);
        let received = async move {
            let _abort = abort;
            outcome.await
        };
        self.spawn(received, |actor, outcome, cx| match outcome {
            Ok(Ok(output)) => then(actor, output, cx),
            Ok(Err(panic)) => resume_unwind(panic),
            Err(_) => panic!("the I/O runtime has been shut down before its actors"),
        });
    }

    /// Calls `then` after `delay`, unless the incarnation ends before.
    pub fn after(&mut self, delay: Duration, then: impl FnOnce(&mut A, &mut Cx<'_, A>) + 'static) {
        self.spawn(tokio::time::sleep(delay), |actor, (), cx| then(actor, cx));
    }

    /// The mailbox of this incarnation.
    pub fn mailbox(&self) -> Mailbox<A::Message> {
        self.life.mailbox.clone()
    }

    /// Which incarnation this is, from 1.
    pub fn incarnation(&self) -> u64 {
        self.life.incarnation
    }

    /// Where to say how this incarnation gets on.
    pub fn progress(&self) -> Progress {
        self.life.progress.clone()
    }

    /// Keeps this incarnation's exit from being reported while it is held by something that the incarnation started.
    pub(super) fn hold(&self) -> Held {
        self.life.hold()
    }
}
