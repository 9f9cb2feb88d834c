//! Adapts an [`Actor`] to `actix::Actor`.
//!
//! Guarantee: the actor acts only between [`Lifetime::begin`] and its exit, whenever actix polls
//! it.
//!
//! Does not guarantee that actix ends with the actor. The [`incarnation`](super::run_incarnation)
//! does.

use std::rc::Rc;
use std::sync::Arc;

use actix::dev::channel::AddressSender;
use actix::prelude::SendError;
use actix::{Context, Handler};

use super::incarnation_scope::Lifetime;
use super::mailbox::Post;
use super::{Actor, Closed, Cx, Progress};

/// What actix runs: an actor and its lifetime.
pub(super) struct ActixAdapter<A: Actor> {
    /// Boxed, so that an actor need not be `Unpin`.
    actor: Box<A>,
    lifetime: Rc<Lifetime<A::Message>>,
}

impl<A: Actor> ActixAdapter<A> {
    pub(super) fn new(actor: A, lifetime: Rc<Lifetime<A::Message>>) -> Self {
        Self { actor: Box::new(actor), lifetime }
    }

    /// Lets the actor act if the incarnation has started and not ended. actix polls a context once
    /// more when it drops it, so both cases occur.
    pub(super) fn turn(&mut self, context: &mut Context<Self>, act: impl FnOnce(&mut A, &mut Cx<'_, A>)) {
        if self.lifetime.is_live() {
            act(&mut self.actor, &mut Cx { context, lifetime: &self.lifetime });
        }
    }
}

impl<A: Actor> actix::Actor for ActixAdapter<A> {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        self.turn(context, A::started);
    }
}

struct Envelope<M>(M);

impl<M> actix::Message for Envelope<M> {
    type Result = ();
}

impl<A: Actor> Handler<Envelope<A::Message>> for ActixAdapter<A> {
    type Result = ();

    fn handle(&mut self, Envelope(message): Envelope<A::Message>, context: &mut Self::Context) {
        self.lifetime.progress.handled();
        self.turn(context, |actor, cx| actor.handle(message, cx));
    }
}

/// The supervisor's request to stop.
pub(super) struct Stop;

impl actix::Message for Stop {
    type Result = ();
}

impl<A: Actor> Handler<Stop> for ActixAdapter<A> {
    type Result = ();

    fn handle(&mut self, _: Stop, context: &mut Self::Context) {
        self.turn(context, A::stopping);
    }
}

/// Sends messages to an incarnation, and counts them.
pub(super) struct Sender<A: Actor> {
    pub(super) address: Arc<AddressSender<ActixAdapter<A>>>,
    pub(super) progress: Progress,
}

impl<A: Actor> Post<A::Message> for Sender<A> {
    fn post(&self, m: A::Message) -> Result<(), Closed<A::Message>> {
        // Counted first, so that it is not handled before it is counted.
        self.progress.posted();
        self.address.do_send(Envelope(m)).map_err(|error| match error {
            SendError::Closed(Envelope(m)) | SendError::Full(Envelope(m)) => {
                self.progress.handled();
                Closed(m)
            }
        })
    }

    fn is_open(&self) -> bool {
        self.address.connected()
    }
}
