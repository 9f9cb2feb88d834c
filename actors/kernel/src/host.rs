//! What actix runs: an actor with what belongs to its incarnation.
//!
//! Guarantee: the actor acts only between [`Life::begin`] and the end, whatever actix polls. Not guaranteed: that actix ends with the actor; that
//! is the runner's part.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use actix::dev::channel::AddressSender;
use actix::prelude::SendError;
use actix::{Context, Handler};
use tokio::sync::mpsc;

use super::errand::Cancel;
use super::mailbox::Post;
use super::{Actor, Closed, Cx, Exit, Mailbox, Progress};

/// While one is held, the incarnation it belongs to has not wholly ended.
pub(super) type Held = mpsc::Sender<()>;

/// What belongs to one incarnation and not to the actor's own state.
pub(super) struct Life<M> {
    pub(super) incarnation: u64,
    pub(super) mailbox: Mailbox<M>,
    pub(super) progress: Progress,
    pub(super) cancel: Cancel,
    exit: RefCell<Option<Exit>>,
    held: RefCell<Option<Held>>,
    live: Cell<bool>,
}

impl<M> Life<M> {
    /// A life that has not begun, and lasts while somebody has a clone of `held`.
    pub(super) fn new(incarnation: u64, mailbox: Mailbox<M>, progress: Progress, held: Held) -> Self {
        Self {
            incarnation,
            mailbox,
            progress,
            cancel: Cancel::default(),
            exit: RefCell::default(),
            held: RefCell::new(Some(held)),
            live: Cell::new(false),
        }
    }

    /// The incarnation's end: asked by itself or decided by others. The first reason holds.
    pub(super) fn end(&self, exit: Exit) {
        self.exit.borrow_mut().get_or_insert(exit);
        self.live.set(false);
        self.cancel.cancel();
    }

    pub(super) fn hold(&self) -> Held {
        self.held.borrow().clone().expect("only a live incarnation starts something, and it holds itself")
    }

    /// The runner takes over: from now on the actor may act.
    pub(super) fn begin(&self) {
        self.live.set(true);
    }

    /// Nothing of the actor may run any more. The reason it gave itself, if it gave one.
    pub(super) fn finish(&self) -> Option<Exit> {
        self.live.set(false);
        self.cancel.cancel();
        self.held.borrow_mut().take();
        self.exit.borrow_mut().take()
    }
}

/// What actix runs: an actor and its life.
pub(super) struct Host<A: Actor> {
    /// Boxed, so that an actor need not be `Unpin`.
    actor: Box<A>,
    life: Rc<Life<A::Message>>,
}

impl<A: Actor> Host<A> {
    pub(super) fn new(actor: A, life: Rc<Life<A::Message>>) -> Self {
        Self { actor: Box::new(actor), life }
    }

    /// Lets the actor act, if the incarnation has begun and not ended. actix polls a context once more when it drops it, so both can be.
    pub(super) fn turn(&mut self, context: &mut Context<Self>, act: impl FnOnce(&mut A, &mut Cx<'_, A>)) {
        if self.life.live.get() {
            act(&mut self.actor, &mut Cx { context, life: &self.life });
        }
    }
}

impl<A: Actor> actix::Actor for Host<A> {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        self.turn(context, A::started);
    }
}

struct Parcel<M>(M);

impl<M> actix::Message for Parcel<M> {
    type Result = ();
}

impl<A: Actor> Handler<Parcel<A::Message>> for Host<A> {
    type Result = ();

    fn handle(&mut self, Parcel(message): Parcel<A::Message>, context: &mut Self::Context) {
        self.life.progress.handled();
        self.turn(context, |actor, cx| actor.handle(message, cx));
    }
}

/// The supervisor asks to stop.
pub(super) struct Stop;

impl actix::Message for Stop {
    type Result = ();
}

impl<A: Actor> Handler<Stop> for Host<A> {
    type Result = ();

    fn handle(&mut self, _: Stop, context: &mut Self::Context) {
        self.turn(context, A::stopping);
    }
}

/// Where messages for an incarnation go in, and are counted.
pub(super) struct Door<A: Actor> {
    pub(super) sender: Arc<AddressSender<Host<A>>>,
    pub(super) progress: Progress,
}

impl<A: Actor> Post<A::Message> for Door<A> {
    fn post(&self, m: A::Message) -> Result<(), Closed<A::Message>> {
        // First, so that it is not handled before it is counted.
        self.progress.posted();
        self.sender.do_send(Parcel(m)).map_err(|error| match error {
            SendError::Closed(Parcel(m)) | SendError::Full(Parcel(m)) => {
                self.progress.handled();
                Closed(m)
            }
        })
    }

    fn is_open(&self) -> bool {
        self.sender.connected()
    }
}
