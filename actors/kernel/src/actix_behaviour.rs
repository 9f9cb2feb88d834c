//! What actix 0.13 does, as far as the kernel is built on it or around it. When one of these fails after an update, read the kernel again.

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
        panic!("as asked");
    }
}

fn poll(future: impl Future) {
    let mut future = pin!(future);
    let _ = future.as_mut().poll(&mut task::Context::from_waker(Waker::noop()));
}

#[test]
fn send_past_the_capacity_is_taken_all_the_same() {
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
        assert_eq!(count.load(Ordering::Relaxed), 110, "started once, and all ten were in the mailbox of one");
        drop(running);
    });
}

#[test]
fn do_send_looks_at_no_capacity() {
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
fn try_send_on_one_recipient_is_refused_when_full_and_passes_again_later() {
    actix_rt::System::new().block_on(async {
        let (sender, receiver) = channel::channel::<Counter>(1);
        let address = Addr::new(sender);
        let recipient = address.clone().recipient::<Count>();
        assert!(recipient.try_send(Count).is_ok());
        assert!(matches!(recipient.try_send(Count), Err(SendError::Full(_))));
        assert!(recipient.clone().try_send(Count).is_ok(), "a clone has a slot of its own, which is why a bound can't be had by cloning");
        let running = Context::with_receiver(receiver).run(Counter(Arc::default()));
        running.send(Count).await.unwrap();
        assert!(recipient.try_send(Count).is_ok());
    });
}

#[test]
fn a_panic_closes_the_mailbox_and_the_supervisor_of_actix_does_not_restart() {
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
fn a_context_that_was_never_polled_starts_its_actor_when_it_is_dropped() {
    let count = Arc::<AtomicUsize>::default();
    drop(Context::new().into_future(Counter(Arc::clone(&count))));
    assert_eq!(count.load(Ordering::Relaxed), 100, "why an actor of the kernel acts only while its incarnation is live");
}
