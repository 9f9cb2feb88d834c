//! The behaviour of actix 0.13 that the kernel relies on or works around. If one of these tests
//! fails after an update, review the kernel.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{self, Waker};

use actix::dev::channel;
use actix::prelude::SendError;
use actix::{Actor, Addr, Context, Handler, Message, Supervised, Supervisor};

struct Counter(Arc<AtomicUsize>);

impl Actor for Counter {
    type Context = Context<Self>;

    fn started(&mut self, _: &mut Self::Context) {
        self.0.fetch_add(100, Ordering::Relaxed);
    }
}

impl Supervised for Counter {}

struct Count;

impl Message for Count {
    type Result = ();
}

impl Handler<Count> for Counter {
    type Result = ();

    fn handle(&mut self, _: Count, _: &mut Self::Context) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

struct Panic;

impl Message for Panic {
    type Result = ();
}

impl Handler<Panic> for Counter {
    type Result = ();

    fn handle(&mut self, _: Panic, _: &mut Self::Context) {
        panic!("on request");
    }
}

fn poll(future: impl Future) {
    let mut future = pin!(future);
    let _ = future.as_mut().poll(&mut task::Context::from_waker(Waker::noop()));
}

#[test]
fn send_ignores_the_capacity() {
    actix_rt::System::new().block_on(async {
        let (sender, receiver) = channel::channel::<Counter>(1);
        let (address, count) = (Addr::new(sender), Arc::<AtomicUsize>::default());
        let mut requests: Vec<_> = (0..10).map(|_| Box::pin(address.send(Count))).collect();
        for request in &mut requests {
            poll(request.as_mut());
        }
        let running = Context::with_receiver(receiver).run(Counter(Arc::clone(&count)));
        for request in requests {
            request.await.unwrap();
        }
        assert_eq!(count.load(Ordering::Relaxed), 110, "started once, and the mailbox of one held all ten");
        drop(running);
    });
}

#[test]
fn do_send_ignores_the_capacity() {
    actix_rt::System::new().block_on(async {
        let (sender, receiver) = channel::channel::<Counter>(1);
        let (address, count) = (Addr::new(sender), Arc::<AtomicUsize>::default());
        for _ in 0..1_000 {
            address.do_send(Count);
        }
        let running = Context::with_receiver(receiver).run(Counter(Arc::clone(&count)));
        running.send(Count).await.unwrap();
        assert_eq!(count.load(Ordering::Relaxed), 1_101);
    });
}

#[test]
fn try_send_fails_on_a_full_recipient_and_succeeds_later() {
    actix_rt::System::new().block_on(async {
        let (sender, receiver) = channel::channel::<Counter>(1);
        let address = Addr::new(sender);
        let recipient = address.clone().recipient::<Count>();
        assert!(recipient.try_send(Count).is_ok());
        assert!(matches!(recipient.try_send(Count), Err(SendError::Full(_))));
        assert!(recipient.clone().try_send(Count).is_ok(), "each clone has its own slot, so cloning defeats the bound");
        let running = Context::with_receiver(receiver).run(Counter(Arc::default()));
        running.send(Count).await.unwrap();
        assert!(recipient.try_send(Count).is_ok());
    });
}

#[test]
fn a_panic_closes_the_mailbox_and_the_actix_supervisor_does_not_restart() {
    actix_rt::System::new().block_on(async {
        let count = Arc::<AtomicUsize>::default();
        let inside = Arc::clone(&count);
        let address = Supervisor::start(move |_| Counter(inside));
        address.send(Count).await.unwrap();
        assert!(address.send(Panic).await.is_err());
        assert!(address.send(Count).await.is_err());
        assert!(!address.connected());
        assert_eq!(count.load(Ordering::Relaxed), 101, "it was started once");
    });
}

#[test]
fn dropping_a_context_that_was_never_polled_starts_its_actor() {
    let count = Arc::<AtomicUsize>::default();
    drop(Context::new().into_future(Counter(Arc::clone(&count))));
    assert_eq!(count.load(Ordering::Relaxed), 100, "so an actor of the kernel acts only while its incarnation is live");
}
