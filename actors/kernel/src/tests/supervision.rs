//! Supervisors as a whole: who is restarted, in which order, and when they give up.

use std::time::Duration;

use super::*;

const NAMES: [&str; 3] = ["a", "b", "c"];

fn exits() -> [Exit; 5] {
    [Exit::Normal, Exit::Shutdown, Exit::DownstreamClosed, Exit::Failed("x".to_owned()), Exit::Panicked("y".to_owned())]
}

/// `b` of `a b c` ends with `exit`; what the witness sees from then until the tree is stopped, the stop left out.
async fn consequences(strategy: Strategy, restart: Restart, exit: Exit) -> Vec<String> {
    let stage = Stage::new(&NAMES);
    let children = vec![stage.puppet(Restart::Permanent, "a"), stage.puppet(restart, "b"), stage.puppet(Restart::Permanent, "c")];
    let root = stage.start(strategy, children);
    stage.diary.until("root/c 1 started").await;
    let from = stage.diary.lines().len();
    let said = format!("root/b 1 {exit}");
    stage.tell("b", move |_, cx| match exit {
        Exit::Panicked(why) => panic!("{why}"),
        exit => cx.exit(exit),
    });
    stage.diary.until(&said).await;
    if let Some(scheduled) = stage.diary.lines().iter().find(|line| line.contains("will restart")) {
        let last = scheduled.rsplit(' ').next().unwrap();
        stage.diary.until(&format!("root/{last} 2 started")).await;
    }
    let to = stage.diary.lines().len();
    root.stop();
    assert_eq!(root.exited().await, Exit::Shutdown);
    let lines = stage.diary.lines();
    let alive = lines[to..].iter().filter(|line| line.ends_with("stopped") && line.starts_with("root/")).count();
    assert_eq!(alive, if lines[from..to].iter().any(|line| line.contains("b 2")) { 3 } else { 2 }, "{lines:#?}");
    lines[from..to].iter().map(|line| line.replace("root/", "")).filter(|line| !line.contains("asked")).collect()
}

#[test]
fn a_permanent_child_is_restarted_after_every_exit_with_those_its_strategy_names() {
    on_actor_thread(async {
        for exit in exits() {
            let b = format!("b 1 {exit}");
            let seen = consequences(Strategy::OneForOne, Restart::Permanent, exit.clone()).await;
            assert_eq!(seen, [b.as_str(), "root will restart b", "b 2 started"]);

            let seen = consequences(Strategy::RestForOne, Restart::Permanent, exit.clone()).await;
            assert_eq!(seen, [b.as_str(), "root will restart b c", "c 1 stopped", "b 2 started", "c 2 started"]);

            let seen = consequences(Strategy::OneForAll, Restart::Permanent, exit.clone()).await;
            let all = ["root will restart a b c", "c 1 stopped", "a 1 stopped", "a 2 started", "b 2 started", "c 2 started"];
            assert_eq!(seen, [&[b.as_str()], all.as_slice()].concat());
        }
    });
}

#[test]
fn a_transient_child_is_restarted_after_abnormal_exits_only() {
    on_actor_thread(async {
        for exit in exits() {
            for strategy in [Strategy::OneForOne, Strategy::RestForOne, Strategy::OneForAll] {
                let seen = consequences(strategy, Restart::Transient, exit.clone()).await;
                let restarted = seen.iter().any(|line| line == "b 2 started");
                assert_eq!(restarted, !matches!(exit, Exit::Normal | Exit::Shutdown), "{strategy:?} {exit}: {seen:?}");
                assert!(restarted || seen == [format!("b 1 {exit}")], "{seen:?}");
            }
        }
    });
}

#[test]
fn a_temporary_child_is_never_restarted() {
    on_actor_thread(async {
        for exit in exits() {
            let seen = consequences(Strategy::OneForAll, Restart::Temporary, exit.clone()).await;
            assert_eq!(seen, [format!("b 1 {exit}")]);
        }
    });
}

#[test]
fn too_many_restarts_end_the_supervisor_and_the_parent_decides_by_its_own_rules() {
    on_actor_thread(async {
        let stage = Stage::new(&["a", "b"]);
        let (diary, mailbox) = (stage.diary.clone(), stage.mailboxes["b"].clone());
        let group = ChildSpec::supervisor("group", Restart::Permanent, Duration::from_secs(5), move || {
            let mut failing = Puppet::new("b", &diary);
            failing.start = |_, cx| cx.exit(Exit::Failed("no luck".to_owned()));
            let mailbox = mailbox.clone();
            let child = ChildSpec::actor("b", Restart::Permanent, Duration::from_secs(1), move |own| {
                mailbox.set(own.clone());
                failing.clone()
            });
            let limits = Limits { max_restarts: 2, ..LIMITS };
            SupervisorSpec { strategy: Strategy::OneForOne, limits, children: vec![child] }
        });
        let children = vec![stage.puppet(Restart::Permanent, "a"), group];
        let limits = Limits { max_restarts: 1, ..LIMITS };
        let root = start("root", SupervisorSpec { strategy: Strategy::OneForOne, limits, children }, stage.environment());
        let exit = root.exited().await;
        let Exit::Failed(why) = &exit else { panic!("{exit}") };
        assert!(
            why.starts_with("restart intensity exceeded: 2 restarts within 60s, the last of group: failed: restart intensity"),
            "{why}"
        );
        let lines = stage.diary.lines();
        let starts = lines.iter().filter(|line| line.contains("group/b") && line.ends_with("started")).count();
        assert_eq!(starts, 6, "thrice in each of the two incarnations of its supervisor: {lines:#?}");
        assert!(lines.contains(&"root/group/b 6 failed: no luck".to_owned()), "incarnations go on over the supervisor's: {lines:#?}");
        assert_eq!(lines.iter().filter(|line| *line == "root/group has had 3 restarts").count(), 2);
        assert!(lines.contains(&"root/a 1 stopped".to_owned()), "the root stops the others in order: {lines:#?}");
    });
}

#[test]
fn an_incarnation_that_is_ended_on_request_is_restarted_with_those_that_hang_on_it_and_counts_for_no_limit() {
    on_actor_thread(async {
        let stage = Stage::new(&NAMES);
        let environment = stage.environment();
        let registry = environment.registry.clone();
        let children = NAMES.map(|name| stage.puppet(Restart::Permanent, name)).into();
        let limits = Limits { max_restarts: 0, ..LIMITS };
        let root = start("root", SupervisorSpec { strategy: Strategy::RestForOne, limits, children }, environment);
        stage.diary.until("root/c 1 started").await;
        assert!(registry.end("root/b") && !registry.end("root/x"));
        stage.diary.until("root/c 2 started").await;
        let seen: Vec<_> = stage.diary.lines().into_iter().filter(|line| line.contains(" 2 ")).collect();
        assert_eq!(seen, ["root/b 2 started", "root/c 2 started"]);
        root.stop();
        assert_eq!(root.exited().await, Exit::Shutdown);
    });
}

#[test]
fn a_child_that_ends_at_once_in_started_does_not_spin() {
    on_actor_thread(async {
        let stage = Stage::new(&["a", "b"]);
        let mut hasty = Puppet::new("a", &stage.diary);
        hasty.start = |_, cx| cx.exit(Exit::DownstreamClosed);
        let children = vec![stage.child(Restart::Permanent, hasty), stage.puppet(Restart::Permanent, "b")];
        let limits = Limits { max_restarts: 0, ..LIMITS };
        let root = start("root", SupervisorSpec { strategy: Strategy::OneForOne, limits, children }, stage.environment());
        stage.diary.until("root/a 5 started").await;
        let diary = stage.diary.clone();
        stage.tell("b", move |_, _| diary.write("others get their turn"));
        stage.diary.until("others get their turn").await;
        root.stop();
        assert_eq!(root.exited().await, Exit::Shutdown, "a collateral exit never exceeds the limit");
    });
}

#[test]
fn a_child_that_cannot_be_made_is_a_child_that_panicked() {
    on_actor_thread(async {
        let stage = Stage::new(&["a"]);
        let (diary, mut made) = (stage.diary.clone(), 0);
        let child = ChildSpec::actor("b", Restart::Permanent, Duration::from_secs(5), move |_: &Mailbox<Act>| {
            made += 1;
            assert!(made > 2, "not at the first try, nor at the second");
            Puppet::new("b", &diary)
        });
        let root = stage.start(Strategy::RestForOne, vec![child, stage.puppet(Restart::Permanent, "a")]);
        stage.diary.until("root/a 1 started").await;
        root.stop();
        root.exited().await;
        let lines = stage.diary.lines();
        let failed = "panicked: not at the first try, nor at the second";
        let scheduled = "root will restart b a".to_owned();
        let expected = [
            "root 1 started".to_owned(),
            format!("root/b 1 {failed}"),
            scheduled.clone(),
            format!("root/b 2 {failed}"),
            scheduled,
            "root/b 3 started".to_owned(),
            "root/a 1 started".to_owned(),
        ];
        assert_eq!(lines[..7], expected, "who comes after it is not started before it is up");
    });
}

#[test]
fn children_stop_one_after_the_other_last_started_first() {
    on_actor_thread(async {
        let stage = Stage::new(&NAMES);
        let slow = |name| {
            let mut puppet = Puppet::new(name, &stage.diary);
            puppet.stop = |_, cx| cx.after(Duration::from_millis(2), |_, cx| cx.exit(Exit::Shutdown));
            stage.child(Restart::Permanent, puppet)
        };
        let root = stage.start(Strategy::OneForOne, NAMES.map(slow).into());
        stage.diary.until("root/c 1 started").await;
        let from = stage.diary.lines().len();
        root.stop();
        root.stop();
        assert_eq!(root.exited().await, Exit::Shutdown);
        let expected = [
            "c is asked to stop",
            "root/c 1 stopped",
            "b is asked to stop",
            "root/b 1 stopped",
            "a is asked to stop",
            "root/a 1 stopped",
            "root 1 stopped",
        ];
        assert_eq!(stage.diary.lines()[from..], expected);
    });
}

#[test]
fn a_child_that_ignores_the_stop_is_aborted_at_its_deadline_and_the_rest_goes_on() {
    on_actor_thread(async {
        let stage = Stage::new(&["a"]);
        let mut deaf = Puppet::new("deaf", &stage.diary);
        deaf.stop = |_, _| {};
        let deaf = ChildSpec::actor("deaf", Restart::Permanent, Duration::from_millis(5), move |_| deaf.clone());
        let root = stage.start(Strategy::OneForOne, vec![stage.puppet(Restart::Permanent, "a"), deaf]);
        stage.diary.until("root/deaf 1 started").await;
        root.stop();
        assert_eq!(root.exited().await, Exit::Shutdown);
        let lines = stage.diary.lines();
        assert!(lines.contains(&"root/deaf 1 failed: did not stop within 5ms, so it was aborted".to_owned()), "{lines:#?}");
        assert!(lines.contains(&"root/a 1 stopped".to_owned()), "{lines:#?}");
    });
}

#[test]
fn a_supervisor_at_its_deadline_takes_its_children_along() {
    on_actor_thread(async {
        let stage = Stage::new(&[]);
        let diary = stage.diary.clone();
        let group = ChildSpec::supervisor("group", Restart::Permanent, Duration::from_millis(5), move || {
            let mut deaf = Puppet::new("deaf", &diary);
            deaf.stop = |_, _| {};
            let children = vec![ChildSpec::actor("deaf", Restart::Permanent, Duration::from_secs(60), move |_| deaf.clone())];
            SupervisorSpec { strategy: Strategy::OneForOne, limits: LIMITS, children }
        });
        let root = stage.start(Strategy::OneForOne, vec![group]);
        stage.diary.until("root/group/deaf 1 started").await;
        root.stop();
        assert_eq!(root.exited().await, Exit::Shutdown);
        assert!(stage.registry.nodes().iter().all(|node| node.running().is_none()), "{:?}", stage.registry);
        let lines = stage.diary.lines();
        let last = ["root/group/deaf 1 stopped", "root/group 1 failed: did not stop within 5ms, so it was aborted", "root 1 stopped"];
        assert_eq!(lines[lines.len() - 3..], last, "{lines:#?}");
    });
}

#[test]
fn a_fatal_exit_of_a_grandchild_ends_the_root_as_fatal() {
    on_actor_thread(async {
        let stage = Stage::new(&["a", "b", "c"]);
        let mut inner = Some(vec![stage.puppet(Restart::Permanent, "b"), stage.puppet(Restart::Permanent, "c")]);
        let group = ChildSpec::supervisor("group", Restart::Permanent, Duration::from_secs(20), move || SupervisorSpec {
            strategy: Strategy::OneForOne,
            limits: LIMITS,
            children: inner.take().expect("a fatal exit is not answered by a restart"),
        });
        let root = stage.start(Strategy::OneForOne, vec![stage.puppet(Restart::Permanent, "a"), group]);
        stage.diary.until("root/group/c 1 started").await;
        let from = stage.diary.lines().len();
        stage.tell("b", |_, cx| cx.exit(Exit::Fatal("table users is not there".to_owned())));
        assert_eq!(root.exited().await, Exit::Fatal("table users is not there".to_owned()));
        let expected = [
            "root/group/b 1 fatal: table users is not there",
            "root/group escalates table users is not there",
            "c is asked to stop",
            "root/group/c 1 stopped",
            "root/group 1 fatal: table users is not there",
            "root escalates table users is not there",
            "a is asked to stop",
            "root/a 1 stopped",
            "root 1 fatal: table users is not there",
        ];
        assert_eq!(stage.diary.lines()[from..], expected);
    });
}

#[test]
fn a_restarted_child_is_given_the_mailbox_of_the_present_incarnation() {
    on_actor_thread(async {
        let stage = Stage::new(&["sink"]);
        let (diary, downstream) = (stage.diary.clone(), stage.mailboxes["sink"].clone());
        let source = ChildSpec::actor("source", Restart::Permanent, Duration::from_secs(5), move |_: &Mailbox<Act>| {
            let downstream = downstream.get();
            let act = |puppet: &mut Puppet, cx: &mut Cx<'_, Puppet>| puppet.diary.write(format!("sink {} has it", cx.incarnation()));
            downstream.post(Box::new(act)).unwrap();
            Puppet::new("source", &diary)
        });
        let root = stage.start(Strategy::RestForOne, vec![stage.puppet(Restart::Permanent, "sink"), source]);
        stage.diary.until("sink 1 has it").await;
        stage.tell("sink", |_, cx| cx.exit(Exit::Failed("x".to_owned())));
        stage.diary.until("sink 2 has it").await;
        root.stop();
        root.exited().await;
    });
}
