//! One incarnation: how it ends, and what remains of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::time::sleep;

use super::*;
use crate::{Budget, Lease};

fn panics_as(message: &str, act: impl FnOnce(&mut Puppet, &mut Cx<'_, Puppet>) + Send + 'static) {
    on_actor_thread(async {
        let fixture = Fixture::new(&["a", "b"]);
        let children = vec![fixture.puppet(Restart::Permanent, "a"), fixture.puppet(Restart::Permanent, "b")];
        let root = fixture.start(Strategy::OneForOne, children);
        fixture.log.until("root/b 1 started").await;
        fixture.act("a", act);
        fixture.log.until("root/a 2 started").await;
        let log = fixture.log.clone();
        fixture.act("a", move |_, cx| cx.spawn(async {}, move |_, (), _| log.write("the next incarnation works")));
        fixture.log.until("the next incarnation works").await;
        root.stop();
        assert_eq!(root.exited().await, Exit::Shutdown);
        let lines = fixture.log.lines();
        assert!(lines.contains(&format!("root/a 1 panicked: {message}")), "{lines:#?}");
        assert!(lines.contains(&"root/b 1 stopped".to_owned()), "a sibling is not affected: {lines:#?}");
    });
}

#[test]
fn a_panic_in_a_handler_ends_the_incarnation() {
    panics_as("in a handler", |_, _| panic!("in a handler"));
}

#[test]
fn a_panic_in_spawn_ends_the_incarnation() {
    panics_as("in spawn of 1", |_, cx| cx.spawn(async { panic!("in spawn of {}", 1) }, |_, (), _| {}));
}

#[test]
fn a_panic_in_offload_ends_the_incarnation() {
    panics_as("in offload", |_, cx| cx.offload(async { panic!("in offload") }, |_, (), _| {}));
}

#[test]
fn a_panic_in_compute_ends_the_incarnation() {
    panics_as("in compute", |_, cx| cx.compute(|| panic!("in compute"), |_, (), _| {}));
}

#[test]
fn a_panic_in_thread_ends_the_incarnation() {
    panics_as("in thread", |_, cx| cx.thread("test", |_| panic!("in thread"), |_, (), _| {}));
}

#[test]
fn a_panic_in_a_continuation_ends_the_incarnation() {
    panics_as("in then", |_, cx| cx.after(Duration::from_millis(1), |_, _| panic!("in then")));
}

#[test]
fn a_panic_while_the_actor_is_dropped_ends_the_incarnation() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("in drop");
        }
    }
    panics_as("in drop", |_, cx| {
        let bomb = Bomb;
        cx.spawn(std::future::pending::<()>(), move |_, (), _| drop(bomb));
        cx.exit(Exit::Normal);
    });
}

#[test]
fn started_work_returns_its_output() {
    on_actor_thread(async {
        let fixture = Fixture::new(&["a"]);
        let root = fixture.start(Strategy::OneForOne, vec![fixture.puppet(Restart::Transient, "a")]);
        fixture.log.until("root/a 1 started").await;
        fixture.act("a", |_, cx| {
            let actor_thread = thread::current().id();
            cx.spawn(async move { thread::current().id() }, move |_, on, cx| {
                assert_eq!(on, actor_thread);
                cx.offload(async move { thread::current().id() }, move |_, on, cx| {
                    assert_ne!(on, actor_thread);
                    cx.compute(
                        move || thread::current().id(),
                        move |_, on, cx| {
                            assert_ne!(on, actor_thread);
                            cx.thread(
                                "named",
                                |_| thread::current().name().map(str::to_owned),
                                move |_, name, cx| {
                                    assert_eq!(name.as_deref(), Some("named"));
                                    assert_eq!(thread::current().id(), actor_thread);
                                    cx.exit(Exit::Normal);
                                },
                            );
                        },
                    );
                });
            });
        });
        assert_eq!(root.exited().await, Exit::Normal, "the supervisor ends after its children");
        assert!(fixture.log.lines().contains(&"root/a 1 done".to_owned()), "{:#?}", fixture.log.lines());
    });
}

#[test]
fn no_code_of_an_incarnation_runs_after_its_exit() {
    on_actor_thread(async {
        let fixture = Fixture::new(&["a"]);
        let root = fixture.start(Strategy::OneForOne, vec![fixture.puppet(Restart::Temporary, "a")]);
        fixture.log.until("root/a 1 started").await;
        fixture.act("a", |_, cx| {
            cx.spawn(async {}, |_, (), _| panic!("spawned before the exit"));
            cx.exit(Exit::Normal);
            cx.exit(Exit::Failed("the first exit wins".to_owned()));
            cx.spawn(async {}, |_, (), _| panic!("spawned after the exit"));
        });
        fixture.act("a", |_, _| panic!("a message after the exit"));
        assert_eq!(root.exited().await, Exit::Normal);
        assert!(fixture.log.lines().contains(&"root/a 1 done".to_owned()), "{:#?}", fixture.log.lines());
    });
}

#[test]
fn an_exit_waits_for_its_thread_to_notice_the_cancellation() {
    on_actor_thread(async {
        let fixture = Fixture::new(&["a"]);
        let root = fixture.start(Strategy::OneForOne, vec![fixture.puppet(Restart::Temporary, "a")]);
        fixture.log.until("root/a 1 started").await;
        let ended = Arc::new(AtomicBool::new(false));
        let inside = Arc::clone(&ended);
        fixture.act("a", move |_, cx| {
            let work = move |cancel: crate::Cancel| {
                while !cancel.is_cancelled() {
                    thread::sleep(Duration::from_millis(1));
                }
                thread::sleep(Duration::from_millis(5));
                inside.store(true, Ordering::SeqCst);
            };
            cx.thread("poll loop", work, |_, (), _| {});
            cx.after(Duration::from_millis(2), |_, cx| cx.exit(Exit::Normal));
        });
        assert_eq!(root.exited().await, Exit::Normal);
        assert!(ended.load(Ordering::SeqCst));
    });
}

#[test]
fn a_message_for_an_ended_incarnation_is_returned() {
    on_actor_thread(async {
        let fixture = Fixture::new(&["a"]);
        let root = fixture.start(Strategy::OneForOne, vec![fixture.puppet(Restart::Temporary, "a")]);
        fixture.log.until("root/a 1 started").await;
        let mailbox = fixture.mailboxes["a"].get();
        assert!(mailbox.is_open());
        root.stop();
        root.exited().await;
        assert!(!mailbox.is_open());
        let budget = Budget::new("test", 10);
        let lease = Lease::new((), budget.try_reserve(3).unwrap());
        let closed = mailbox.post(Box::new(move |_, _| drop(lease))).unwrap_err();
        assert_eq!(budget.used(), 3, "the sender has the message back and may post it elsewhere");
        drop(closed);
        assert_eq!(budget.used(), 0);
    });
}

#[test]
fn a_dropped_root_kills_the_tree() {
    on_actor_thread(async {
        let fixture = Fixture::new(&["a"]);
        let inner = fixture.puppet(Restart::Permanent, "a");
        let mut inner = Some(vec![inner]);
        let group = ChildSpec::supervisor("group", Restart::Permanent, Duration::from_secs(5), move || SupervisorSpec {
            strategy: Strategy::OneForOne,
            limits: LIMITS,
            children: inner.take().unwrap(),
        });
        let root = fixture.start(Strategy::OneForOne, vec![group]);
        fixture.log.until("root/group/a 1 started").await;
        drop(root);
        fixture.log.until("root 1 stopped").await;
        assert!(!fixture.mailboxes["a"].get().is_open());
    });
}

#[test]
fn an_exit_waits_only_so_long_for_a_thread_that_ignores_the_cancellation() {
    on_actor_thread(async {
        let fixture = Fixture::new(&["a"]);
        let root = fixture.start(Strategy::OneForOne, vec![fixture.puppet(Restart::Temporary, "a")]);
        fixture.log.until("root/a 1 started").await;
        let (release, held) = std::sync::mpsc::channel::<()>();
        fixture.act("a", move |_, cx| {
            cx.thread("unresponsive", move |_| held.recv(), |_, _, _| {});
            cx.exit(Exit::Normal);
        });
        assert_eq!(root.exited().await, Exit::Normal);
        drop(release);
    });
}

#[test]
fn a_tree_whose_thread_ends_before_it_starts_never_acts() {
    let fixture = Fixture::new(&["a"]);
    on_actor_thread(async { std::mem::forget(fixture.start(Strategy::OneForOne, vec![fixture.puppet(Restart::Permanent, "a")])) });
    assert_eq!(fixture.log.lines(), ["root 1 started"]);
}

#[test]
fn a_tree_whose_thread_ends_while_it_runs_returns_its_credit() {
    let (fixture, budget) = (Fixture::new(&["a"]), Budget::new("test", 10));
    let root = on_actor_thread(async {
        let root = fixture.start(Strategy::OneForOne, vec![fixture.puppet(Restart::Permanent, "a")]);
        fixture.log.until("root/a 1 started").await;
        let lease = Lease::new((), budget.try_reserve(3).unwrap());
        fixture.act("a", |_, cx| cx.spawn(std::future::pending::<()>(), move |_, (), _| drop(lease)));
        let lease = Lease::new((), budget.try_reserve(3).unwrap());
        fixture.act("a", move |puppet, _| {
            drop(lease);
            puppet.log.write("both have arrived");
        });
        fixture.log.until("both have arrived").await;
        assert_eq!(budget.used(), 3);
        root
    });
    assert_eq!(budget.used(), 0);
    assert!(matches!(futures_util::FutureExt::now_or_never(root.exited()), Some(Exit::Failed(_))), "it did not end by itself");
}

/// Keeps leases everywhere they can be kept, and ends in every possible way.
struct Sink {
    random: StdRng,
    kept: Vec<Lease<u64>>,
}

impl Actor for Sink {
    type Message = Lease<u64>;

    fn handle(&mut self, lease: Lease<u64>, cx: &mut Cx<'_, Self>) {
        let nap = Duration::from_micros(self.random.random_range(0..2_000));
        match self.random.random_range(0..10) {
            0 => cx.exit(Exit::Failed("on a random choice".to_owned())),
            1 => std::panic::resume_unwind(Box::new("on a random choice")),
            2 => cx.offload(async { std::panic::resume_unwind(Box::new("on a random choice")) }, |_, (), _| {}),
            3 => self.kept.push(lease),
            4 => self.kept.clear(),
            5 | 6 => cx.offload(sleep(nap), move |_, (), _| drop(lease)),
            7 => cx.compute(move || drop(lease), |_, (), _| {}),
            8 => cx.spawn(sleep(nap), move |sink, (), _| sink.kept.push(lease.map(|number| number + 1))),
            _ => drop(lease),
        }
    }
}

#[test]
fn all_credit_is_returned_after_a_thousand_random_failures() {
    const FAILURES: u32 = 1_000;
    let budget = Budget::new("feeder -> sink", 100);
    on_actor_thread(async {
        let (fixture, mailbox, started) = (Fixture::new(&[]), MailboxSlot::<Lease<u64>>::default(), Arc::new(AtomicU32::new(0)));
        let (own, count) = (mailbox.clone(), Arc::clone(&started));
        let sink = ChildSpec::actor("sink", Restart::Permanent, Duration::from_secs(5), move |inbox| {
            own.set(inbox.clone());
            let incarnation = count.fetch_add(1, Ordering::SeqCst);
            Sink { random: StdRng::seed_from_u64(u64::from(incarnation)), kept: Vec::new() }
        });
        let mut limits = LIMITS;
        limits.backoff = Backoff { min: Duration::ZERO, max: Duration::ZERO };
        let spec = SupervisorSpec { strategy: Strategy::OneForOne, limits, children: vec![sink] };
        let root = start("root", spec, fixture.environment());
        while started.load(Ordering::SeqCst) == 0 {
            sleep(Duration::from_millis(1)).await;
        }
        let feed = budget.clone();
        let feeder = tokio::spawn(async move {
            let mut number = 0;
            while started.load(Ordering::SeqCst) <= FAILURES {
                number += 1;
                let lease = Lease::new(number, feed.reserve(1 + usize::try_from(number % 9).unwrap()).await);
                if let Err(closed) = mailbox.get().post(lease) {
                    drop(closed);
                    tokio::task::yield_now().await;
                }
            }
        });
        feeder.await.unwrap();
        root.stop();
        assert_eq!(root.exited().await, Exit::Shutdown);
        assert_eq!(budget.used(), 0, "a tree that has ended holds no budget");
    });
}
