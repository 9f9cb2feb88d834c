//! What others see: the registry and the watchdog.

use std::time::Duration;

use forebay_schemas::snapshot::ActorState;

use super::*;
use crate::ManualClock;
use crate::watchdog::Round;

fn states(registry: &Registry) -> Vec<(String, ActorState, u64)> {
    registry.actors().into_iter().map(|view| (view.path, view.state, view.incarnation)).collect()
}

#[test]
fn the_registry_shows_parents_before_children_and_what_they_do() {
    on_actor_thread(async {
        let stage = Stage::new(&["a", "b", "c"]);
        let mut inner = Some(vec![stage.puppet(Restart::Permanent, "b"), stage.puppet(Restart::Temporary, "c")]);
        let group = ChildSpec::supervisor("group", Restart::Permanent, Duration::from_secs(5), move || SupervisorSpec {
            strategy: Strategy::OneForOne,
            limits: Limits { backoff: Backoff { min: Duration::from_secs(60), max: Duration::from_secs(60) }, ..LIMITS },
            children: inner.take().unwrap(),
        });
        let root = stage.start(Strategy::OneForOne, vec![group, stage.puppet(Restart::Permanent, "a")]);
        stage.diary.until("root/a 1 started").await;
        stage.diary.until("root/group/c 1 started").await;
        stage.tell("a", |puppet, cx| {
            cx.progress().waiting("waiting for cassandra");
            puppet.diary.write("waits");
        });
        stage.tell("b", |_, cx| cx.exit(Exit::Failed("x".to_owned())));
        stage.tell("c", |_, cx| cx.exit(Exit::Normal));
        for line in ["waits", "root/group will restart b", "root/group/c 1 done"] {
            stage.diary.until(line).await;
        }
        let state = |path: &str, state| (path.to_owned(), state, 1);
        let expected = [
            state("root", ActorState::Up),
            state("root/group", ActorState::Up),
            state("root/group/b", ActorState::Restarting),
            state("root/group/c", ActorState::Ended),
            state("root/a", ActorState::Waiting),
        ];
        assert_eq!(states(&stage.registry), expected);
        let views = stage.registry.actors();
        assert_eq!(views[4].note.as_deref(), Some("waiting for cassandra"));
        assert_eq!(views[2].last_exit.as_deref(), Some("failed: x"));
        root.stop();
        assert_eq!(root.exited().await, Exit::Shutdown, "a restart that is pending does not hold up the stop");
        assert!(states(&stage.registry).iter().all(|(_, state, _)| *state == ActorState::Ended), "{:?}", stage.registry);
    });
}

#[test]
fn the_registry_counts_the_messages_that_wait_and_the_restarts() {
    on_actor_thread(async {
        let stage = Stage::new(&["a"]);
        let root = stage.start(Strategy::OneForOne, vec![stage.puppet(Restart::Permanent, "a")]);
        stage.diary.until("root/a 1 started").await;
        let seen = || {
            let views = stage.registry.actors();
            (views[1].mailbox, views[1].restarts)
        };
        for _ in 0..3 {
            stage.tell("a", |_, _| {});
        }
        assert_eq!(seen(), (3, 0), "the actor thread has not turned yet");
        stage.tell("a", |_, cx| cx.exit(Exit::Failed("x".to_owned())));
        stage.diary.until("root/a 2 started").await;
        stage.tell("a", |puppet, _| puppet.diary.write("told"));
        stage.diary.until("told").await;
        assert_eq!(seen(), (0, 1));
        root.stop();
        root.exited().await;
    });
}

#[test]
fn an_actor_that_owes_progress_and_makes_none_is_restarted_but_one_that_waits_is_not() {
    on_actor_thread(async {
        let clock = Arc::new(ManualClock::default());
        let stage = Stage::new(&["idle", "waits", "ticks", "sleeps"]);
        let children = ["idle", "waits", "ticks", "sleeps"].map(|name| stage.puppet(Restart::Permanent, name));
        let env = Environment { clock: clock.clone(), ..stage.environment() };
        let spec = SupervisorSpec { strategy: Strategy::OneForOne, limits: LIMITS, children: children.into() };
        let root = start("root", spec, env.clone());
        stage.diary.until("root/sleeps 1 started").await;
        stage.tell("waits", |_, cx| {
            cx.progress().waiting("for a server");
            let owes = cx.progress().working();
            cx.spawn(std::future::pending::<()>(), move |_, (), _| drop(owes));
        });
        stage.tell("ticks", |_, cx| {
            let owes = cx.progress().working();
            cx.spawn(std::future::pending::<()>(), move |_, (), _| drop(owes));
        });
        stage.tell("sleeps", |puppet, cx| {
            let owes = cx.progress().working();
            cx.spawn(std::future::pending::<()>(), move |_, (), _| drop(owes));
            puppet.diary.write("all owe");
        });
        stage.diary.until("all owe").await;
        let mut round = Round::default();
        round.look(&env);
        clock.advance(Duration::from_secs(59));
        stage.tell("ticks", |puppet, cx| {
            cx.progress().tick();
            puppet.diary.write("ticked");
        });
        stage.diary.until("ticked").await;
        round.look(&env);
        assert!(!stage.diary.lines().iter().any(|line| line.contains("stuck")));
        clock.advance(Duration::from_secs(1));
        round.look(&env);
        stage.diary.until("root/sleeps is stuck for 60s").await;
        stage.diary.until("root/sleeps 1 failed: no progress for 60s").await;
        clock.advance(Duration::from_secs(1));
        stage.diary.until("root/sleeps 2 started").await;
        let lines = stage.diary.lines();
        assert!(!lines.iter().any(|line| line.contains("stuck") && !line.contains("sleeps")), "{lines:#?}");
        root.stop();
        root.exited().await;
    });
}

#[test]
fn an_actor_that_blocks_the_actor_thread_is_named() {
    let clock = Arc::new(ManualClock::default());
    let stage = Stage::new(&["blocks"]);
    let env = Environment { clock: clock.clone(), ..stage.environment() };
    on_actor_thread(async {
        let spec =
            SupervisorSpec { strategy: Strategy::OneForOne, limits: LIMITS, children: vec![stage.puppet(Restart::Permanent, "blocks")] };
        let root = start("root", spec, env.clone());
        stage.diary.until("root/blocks 1 started").await;
        let inside = env.clone();
        stage.tell("blocks", move |puppet, _| {
            let mut round = Round::default();
            round.look(&inside);
            clock.advance(Duration::from_secs(60));
            round.look(&inside);
            round.look(&inside);
            puppet.diary.write("turns again");
        });
        stage.diary.until("turns again").await;
        let stuck = stage.diary.lines().into_iter().filter(|line| line.contains("stuck")).collect::<Vec<_>>();
        assert_eq!(stuck, ["root/blocks is stuck for 60s"]);
        root.stop();
        assert_eq!(root.exited().await, Exit::Shutdown);
        assert!(stage.diary.lines().contains(&"root/blocks 1 stopped".to_owned()), "it was not ended for it");
    });
}
