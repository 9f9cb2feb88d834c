//! What is visible from outside: the actor tree and the watchdog.

use std::time::Duration;

use forebay_schemas::snapshot::ActorState;

use super::*;
use crate::ManualClock;
use crate::watchdog::Scan;

fn states(actor_tree: &ActorTree) -> Vec<(String, ActorState, u64)> {
    actor_tree.actors().into_iter().map(|view| (view.path, view.state, view.incarnation)).collect()
}

#[test]
fn the_actor_tree_lists_parents_before_children_with_their_states() {
    on_actor_thread(async {
        let fixture = Fixture::new(&["a", "b", "c"]);
        let mut inner = Some(vec![fixture.puppet(Restart::Permanent, "b"), fixture.puppet(Restart::Temporary, "c")]);
        let group = ChildSpec::supervisor("group", Restart::Permanent, Duration::from_secs(5), move || SupervisorSpec {
            strategy: Strategy::OneForOne,
            limits: Limits { backoff: Backoff { min: Duration::from_secs(60), max: Duration::from_secs(60) }, ..LIMITS },
            children: inner.take().unwrap(),
        });
        let root = fixture.start(Strategy::OneForOne, vec![group, fixture.puppet(Restart::Permanent, "a")]);
        fixture.log.until("root/a 1 started").await;
        fixture.log.until("root/group/c 1 started").await;
        fixture.act("a", |puppet, cx| {
            cx.progress().waiting("waiting for cassandra");
            puppet.log.write("waits");
        });
        fixture.act("b", |_, cx| cx.exit(Exit::Failed("x".to_owned())));
        fixture.act("c", |_, cx| cx.exit(Exit::Normal));
        for line in ["waits", "root/group will restart b", "root/group/c 1 done"] {
            fixture.log.until(line).await;
        }
        let state = |path: &str, state| (path.to_owned(), state, 1);
        let expected = [
            state("root", ActorState::Up),
            state("root/group", ActorState::Up),
            state("root/group/b", ActorState::Restarting),
            state("root/group/c", ActorState::Ended),
            state("root/a", ActorState::Waiting),
        ];
        assert_eq!(states(&fixture.actor_tree), expected);
        let views = fixture.actor_tree.actors();
        assert_eq!(views[4].note.as_deref(), Some("waiting for cassandra"));
        assert_eq!(views[2].last_exit.as_deref(), Some("failed: x"));
        root.stop();
        assert_eq!(root.exited().await, Exit::Shutdown, "a pending restart does not delay the stop");
        assert!(states(&fixture.actor_tree).iter().all(|(_, state, _)| *state == ActorState::Ended), "{:?}", fixture.actor_tree);
    });
}

/// Notes how an actor is shown while its exit is reported.
struct AtExit {
    path: &'static str,
    actor_tree: ActorTree,
    seen: Mutex<Vec<ActorState>>,
}

impl LifecycleListener for AtExit {
    fn on_event(&self, event: &LifecycleEvent) {
        if event.path == self.path && matches!(event.kind, LifecycleKind::Exited { .. }) {
            let actors = self.actor_tree.actors();
            self.seen.lock().extend(actors.iter().find(|view| view.path == self.path).map(|view| view.state));
        }
    }
}

#[test]
fn an_actor_that_will_be_restarted_never_shows_as_ended() {
    on_actor_thread(async {
        let fixture = Fixture::new(&["a"]);
        let at_exit = Arc::new(AtExit { path: "root/a", actor_tree: fixture.actor_tree.clone(), seen: Mutex::default() });
        let children = vec![fixture.puppet(Restart::Permanent, "a")];
        let spec = SupervisorSpec { strategy: Strategy::OneForOne, limits: LIMITS, children };
        let root = start("root", spec, Environment { listener: at_exit.clone(), ..fixture.environment() });
        let until = async |incarnation| {
            while fixture.actor_tree.actors().get(1).is_none_or(|view| view.incarnation < incarnation) {
                sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(Duration::from_secs(20), until(1)).await.unwrap();
        fixture.act("a", |_, cx| cx.exit(Exit::Failed("x".to_owned())));
        timeout(Duration::from_secs(20), until(2)).await.unwrap();
        assert_eq!(*at_exit.seen.lock(), [ActorState::Restarting]);
        root.stop();
        root.exited().await;
    });
}

#[test]
fn the_actor_tree_counts_queued_messages_and_restarts() {
    on_actor_thread(async {
        let fixture = Fixture::new(&["a"]);
        let root = fixture.start(Strategy::OneForOne, vec![fixture.puppet(Restart::Permanent, "a")]);
        fixture.log.until("root/a 1 started").await;
        let seen = || {
            let views = fixture.actor_tree.actors();
            (views[1].mailbox, views[1].restarts)
        };
        for _ in 0..3 {
            fixture.act("a", |_, _| {});
        }
        assert_eq!(seen(), (3, 0), "the actor thread has not run yet");
        fixture.act("a", |_, cx| cx.exit(Exit::Failed("x".to_owned())));
        fixture.log.until("root/a 2 started").await;
        fixture.act("a", |puppet, _| puppet.log.write("arrived"));
        fixture.log.until("arrived").await;
        assert_eq!(seen(), (0, 1));
        root.stop();
        root.exited().await;
    });
}

#[test]
fn a_stalled_actor_is_restarted_but_one_that_waits_for_a_server_is_not() {
    on_actor_thread(async {
        let clock = Arc::new(ManualClock::default());
        let fixture = Fixture::new(&["idle", "waits", "ticks", "sleeps"]);
        let children = ["idle", "waits", "ticks", "sleeps"].map(|name| fixture.puppet(Restart::Permanent, name));
        let env = Environment { clock: clock.clone(), ..fixture.environment() };
        let spec = SupervisorSpec { strategy: Strategy::OneForOne, limits: LIMITS, children: children.into() };
        let root = start("root", spec, env.clone());
        fixture.log.until("root/sleeps 1 started").await;
        fixture.act("waits", |_, cx| {
            cx.progress().waiting("for a server");
            let owes = cx.progress().working();
            cx.spawn(std::future::pending::<()>(), move |_, (), _| drop(owes));
        });
        fixture.act("ticks", |_, cx| {
            let owes = cx.progress().working();
            cx.spawn(std::future::pending::<()>(), move |_, (), _| drop(owes));
        });
        fixture.act("sleeps", |puppet, cx| {
            let owes = cx.progress().working();
            cx.spawn(std::future::pending::<()>(), move |_, (), _| drop(owes));
            puppet.log.write("all owe");
        });
        fixture.log.until("all owe").await;
        let mut scan = Scan::default();
        scan.run(&env);
        clock.advance(Duration::from_secs(59));
        fixture.act("ticks", |puppet, cx| {
            cx.progress().tick();
            puppet.log.write("ticked");
        });
        fixture.log.until("ticked").await;
        scan.run(&env);
        assert!(!fixture.log.lines().iter().any(|line| line.contains("stuck")));
        clock.advance(Duration::from_secs(1));
        scan.run(&env);
        fixture.log.until("root/sleeps is stuck for 60s").await;
        fixture.log.until("root/sleeps 1 failed: no progress for 60s").await;
        clock.advance(Duration::from_secs(1));
        fixture.log.until("root/sleeps 2 started").await;
        let lines = fixture.log.lines();
        assert!(!lines.iter().any(|line| line.contains("stuck") && !line.contains("sleeps")), "{lines:#?}");
        root.stop();
        root.exited().await;
    });
}

#[test]
fn an_actor_that_blocks_the_actor_thread_is_reported() {
    let clock = Arc::new(ManualClock::default());
    let fixture = Fixture::new(&["blocks"]);
    let env = Environment { clock: clock.clone(), ..fixture.environment() };
    on_actor_thread(async {
        let spec =
            SupervisorSpec { strategy: Strategy::OneForOne, limits: LIMITS, children: vec![fixture.puppet(Restart::Permanent, "blocks")] };
        let root = start("root", spec, env.clone());
        fixture.log.until("root/blocks 1 started").await;
        let inside = env.clone();
        fixture.act("blocks", move |puppet, _| {
            let mut scan = Scan::default();
            scan.run(&inside);
            clock.advance(Duration::from_secs(60));
            scan.run(&inside);
            scan.run(&inside);
            puppet.log.write("runs again");
        });
        fixture.log.until("runs again").await;
        let stuck = fixture.log.lines().into_iter().filter(|line| line.contains("stuck")).collect::<Vec<_>>();
        assert_eq!(stuck, ["root/blocks is stuck for 60s"]);
        root.stop();
        assert_eq!(root.exited().await, Exit::Shutdown);
        assert!(fixture.log.lines().contains(&"root/blocks 1 stopped".to_owned()), "it was not killed");
    });
}
