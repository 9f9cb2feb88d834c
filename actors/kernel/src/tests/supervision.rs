//! Supervisors as a whole: which children they restart, in which order, and when they give up.

use std::time::Duration;

use super::*;

const NAMES: [&str; 3] = ["a", "b", "c"];

fn exits() -> [Exit; 5] {
    [Exit::Normal, Exit::Shutdown, Exit::DownstreamClosed, Exit::Failed("x".to_owned()), Exit::Panicked("y".to_owned())]
}

/// `b` of `a b c` ends with `exit`. Returns the events until the tree is stopped.
async fn consequences(strategy: Strategy, restart: Restart, exit: Exit) -> Vec<String> {
    let fixture = Fixture::new(&NAMES);
    let children = vec![fixture.puppet(Restart::Permanent, "a"), fixture.puppet(restart, "b"), fixture.puppet(Restart::Permanent, "c")];
    let root = fixture.start(strategy, children);
    fixture.log.until("root/c 1 started").await;
    let from = fixture.log.lines().len();
    let said = format!("root/b 1 {exit}");
    fixture.act("b", move |_, cx| match exit {
        Exit::Panicked(why) => panic!("{why}"),
        exit => cx.exit(exit),
    });
    fixture.log.until(&said).await;
    if let Some(scheduled) = fixture.log.lines().iter().find(|line| line.contains("will restart")) {
        let last = scheduled.rsplit(' ').next().unwrap();
        fixture.log.until(&format!("root/{last} 2 started")).await;
    }
    let to = fixture.log.lines().len();
    root.stop();
    assert_eq!(root.exited().await, Exit::Shutdown);
    let lines = fixture.log.lines();
    let alive = lines[to..].iter().filter(|line| line.ends_with("stopped") && line.starts_with("root/")).count();
    assert_eq!(alive, if lines[from..to].iter().any(|line| line.contains("b 2")) { 3 } else { 2 }, "{lines:#?}");
    lines[from..to].iter().map(|line| line.replace("root/", "")).filter(|line| !line.contains("requested")).collect()
}

#[test]
fn a_permanent_child_is_restarted_after_every_exit_with_those_of_its_strategy() {
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
fn too_many_restarts_end_the_supervisor_and_its_parent_applies_its_own_limits() {
    on_actor_thread(async {
        let fixture = Fixture::new(&["a", "b"]);
        let (log, mailbox) = (fixture.log.clone(), fixture.mailboxes["b"].clone());
        let group = ChildSpec::supervisor("group", Restart::Permanent, Duration::from_secs(5), move || {
            let mut failing = Puppet::new("b", &log);
            failing.start = |_, cx| cx.exit(Exit::Failed("no luck".to_owned()));
            let mailbox = mailbox.clone();
            let child = ChildSpec::actor("b", Restart::Permanent, Duration::from_secs(1), move |own| {
                mailbox.set(own.clone());
                failing.clone()
            });
            let limits = Limits { max_restarts: 2, ..LIMITS };
            SupervisorSpec { strategy: Strategy::OneForOne, limits, children: vec![child] }
        });
        let children = vec![fixture.puppet(Restart::Permanent, "a"), group];
        let limits = Limits { max_restarts: 1, ..LIMITS };
        let root = start("root", SupervisorSpec { strategy: Strategy::OneForOne, limits, children }, fixture.environment());
        let exit = root.exited().await;
        let Exit::Failed(why) = &exit else { panic!("{exit}") };
        assert!(
            why.starts_with("restart intensity exceeded: 2 restarts within 60s, the last of group: failed: restart intensity"),
            "{why}"
        );
        let lines = fixture.log.lines();
        let starts = lines.iter().filter(|line| line.contains("group/b") && line.ends_with("started")).count();
        assert_eq!(starts, 6, "three in each of the two incarnations of its supervisor: {lines:#?}");
        assert!(
            lines.contains(&"root/group/b 6 failed: no luck".to_owned()),
            "incarnations are counted across the supervisor's: {lines:#?}"
        );
        assert_eq!(lines.iter().filter(|line| *line == "root/group has had 3 restarts").count(), 2);
        assert!(lines.contains(&"root/a 1 stopped".to_owned()), "the root stops the other children in order: {lines:#?}");
    });
}

#[test]
fn an_incarnation_ended_on_request_is_restarted_with_its_dependants_and_not_counted() {
    on_actor_thread(async {
        let fixture = Fixture::new(&NAMES);
        let environment = fixture.environment();
        let actor_tree = environment.actor_tree.clone();
        let children = NAMES.map(|name| fixture.puppet(Restart::Permanent, name)).into();
        let limits = Limits { max_restarts: 0, ..LIMITS };
        let root = start("root", SupervisorSpec { strategy: Strategy::RestForOne, limits, children }, environment);
        fixture.log.until("root/c 1 started").await;
        assert!(actor_tree.end("root/b") && !actor_tree.end("root/x"));
        fixture.log.until("root/c 2 started").await;
        let seen: Vec<_> = fixture.log.lines().into_iter().filter(|line| line.contains(" 2 ")).collect();
        assert_eq!(seen, ["root/b 2 started", "root/c 2 started"]);
        root.stop();
        assert_eq!(root.exited().await, Exit::Shutdown);
    });
}

#[test]
fn a_child_that_ends_in_started_does_not_cause_a_busy_loop() {
    on_actor_thread(async {
        let fixture = Fixture::new(&["a", "b"]);
        let mut ends_at_once = Puppet::new("a", &fixture.log);
        ends_at_once.start = |_, cx| cx.exit(Exit::DownstreamClosed);
        let children = vec![fixture.child(Restart::Permanent, ends_at_once), fixture.puppet(Restart::Permanent, "b")];
        let limits = Limits { max_restarts: 0, ..LIMITS };
        let root = start("root", SupervisorSpec { strategy: Strategy::OneForOne, limits, children }, fixture.environment());
        fixture.log.until("root/a 5 started").await;
        let log = fixture.log.clone();
        fixture.act("b", move |_, _| log.write("other actors still run"));
        fixture.log.until("other actors still run").await;
        root.stop();
        assert_eq!(root.exited().await, Exit::Shutdown, "a collateral exit never exceeds the limit");
    });
}

#[test]
fn a_child_that_cannot_be_made_counts_as_panicked() {
    on_actor_thread(async {
        let fixture = Fixture::new(&["a"]);
        let (log, mut made) = (fixture.log.clone(), 0);
        let child = ChildSpec::actor("b", Restart::Permanent, Duration::from_secs(5), move |_: &Mailbox<Act>| {
            made += 1;
            assert!(made > 2, "the first two attempts fail");
            Puppet::new("b", &log)
        });
        let root = fixture.start(Strategy::RestForOne, vec![child, fixture.puppet(Restart::Permanent, "a")]);
        fixture.log.until("root/a 1 started").await;
        root.stop();
        root.exited().await;
        let lines = fixture.log.lines();
        let failed = "panicked: the first two attempts fail";
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
        assert_eq!(lines[..7], expected, "later children start only once it is up");
    });
}

#[test]
fn children_stop_one_at_a_time_in_reverse_start_order() {
    on_actor_thread(async {
        let fixture = Fixture::new(&NAMES);
        let slow = |name| {
            let mut puppet = Puppet::new(name, &fixture.log);
            puppet.stop = |_, cx| cx.after(Duration::from_millis(2), |_, cx| cx.exit(Exit::Shutdown));
            fixture.child(Restart::Permanent, puppet)
        };
        let root = fixture.start(Strategy::OneForOne, NAMES.map(slow).into());
        fixture.log.until("root/c 1 started").await;
        let from = fixture.log.lines().len();
        root.stop();
        root.stop();
        assert_eq!(root.exited().await, Exit::Shutdown);
        let expected = [
            "c is requested to stop",
            "root/c 1 stopped",
            "b is requested to stop",
            "root/b 1 stopped",
            "a is requested to stop",
            "root/a 1 stopped",
            "root 1 stopped",
        ];
        assert_eq!(fixture.log.lines()[from..], expected);
    });
}

#[test]
fn a_child_that_ignores_the_stop_is_aborted_at_its_deadline_and_the_rest_stop() {
    on_actor_thread(async {
        let fixture = Fixture::new(&["a"]);
        let mut unresponsive = Puppet::new("unresponsive", &fixture.log);
        unresponsive.stop = |_, _| {};
        let unresponsive = ChildSpec::actor("unresponsive", Restart::Permanent, Duration::from_millis(5), move |_| unresponsive.clone());
        let root = fixture.start(Strategy::OneForOne, vec![fixture.puppet(Restart::Permanent, "a"), unresponsive]);
        fixture.log.until("root/unresponsive 1 started").await;
        root.stop();
        assert_eq!(root.exited().await, Exit::Shutdown);
        let lines = fixture.log.lines();
        assert!(lines.contains(&"root/unresponsive 1 failed: did not stop within 5ms and was aborted".to_owned()), "{lines:#?}");
        assert!(lines.contains(&"root/a 1 stopped".to_owned()), "{lines:#?}");
    });
}

#[test]
fn a_supervisor_killed_at_its_deadline_kills_its_children() {
    on_actor_thread(async {
        let fixture = Fixture::new(&[]);
        let log = fixture.log.clone();
        let group = ChildSpec::supervisor("group", Restart::Permanent, Duration::from_millis(5), move || {
            let mut unresponsive = Puppet::new("unresponsive", &log);
            unresponsive.stop = |_, _| {};
            let children =
                vec![ChildSpec::actor("unresponsive", Restart::Permanent, Duration::from_secs(60), move |_| unresponsive.clone())];
            SupervisorSpec { strategy: Strategy::OneForOne, limits: LIMITS, children }
        });
        let root = fixture.start(Strategy::OneForOne, vec![group]);
        fixture.log.until("root/group/unresponsive 1 started").await;
        root.stop();
        assert_eq!(root.exited().await, Exit::Shutdown);
        assert!(fixture.actor_tree.nodes().iter().all(|node| node.running().is_none()), "{:?}", fixture.actor_tree);
        let lines = fixture.log.lines();
        let last = ["root/group/unresponsive 1 stopped", "root/group 1 failed: did not stop within 5ms and was aborted", "root 1 stopped"];
        assert_eq!(lines[lines.len() - 3..], last, "{lines:#?}");
    });
}

#[test]
fn a_fatal_exit_of_a_grandchild_ends_the_root_as_fatal() {
    on_actor_thread(async {
        let fixture = Fixture::new(&["a", "b", "c"]);
        let mut inner = Some(vec![fixture.puppet(Restart::Permanent, "b"), fixture.puppet(Restart::Permanent, "c")]);
        let group = ChildSpec::supervisor("group", Restart::Permanent, Duration::from_secs(20), move || SupervisorSpec {
            strategy: Strategy::OneForOne,
            limits: LIMITS,
            children: inner.take().expect("a fatal exit causes no restart"),
        });
        let root = fixture.start(Strategy::OneForOne, vec![fixture.puppet(Restart::Permanent, "a"), group]);
        fixture.log.until("root/group/c 1 started").await;
        let from = fixture.log.lines().len();
        fixture.act("b", |_, cx| cx.exit(Exit::Fatal("table users does not exist".to_owned())));
        assert_eq!(root.exited().await, Exit::Fatal("table users does not exist".to_owned()));
        let expected = [
            "root/group/b 1 fatal: table users does not exist",
            "root/group escalates table users does not exist",
            "c is requested to stop",
            "root/group/c 1 stopped",
            "root/group 1 fatal: table users does not exist",
            "root escalates table users does not exist",
            "a is requested to stop",
            "root/a 1 stopped",
            "root 1 fatal: table users does not exist",
        ];
        assert_eq!(fixture.log.lines()[from..], expected);
    });
}

#[test]
fn a_restarted_child_gets_the_mailbox_of_the_current_incarnation() {
    on_actor_thread(async {
        let fixture = Fixture::new(&["sink"]);
        let (log, downstream) = (fixture.log.clone(), fixture.mailboxes["sink"].clone());
        let source = ChildSpec::actor("source", Restart::Permanent, Duration::from_secs(5), move |_: &Mailbox<Act>| {
            let downstream = downstream.get();
            let act = |puppet: &mut Puppet, cx: &mut Cx<'_, Puppet>| puppet.log.write(format!("sink {} has it", cx.incarnation()));
            downstream.post(Box::new(act)).unwrap();
            Puppet::new("source", &log)
        });
        let root = fixture.start(Strategy::RestForOne, vec![fixture.puppet(Restart::Permanent, "sink"), source]);
        fixture.log.until("sink 1 has it").await;
        fixture.act("sink", |_, cx| cx.exit(Exit::Failed("x".to_owned())));
        fixture.log.until("sink 2 has it").await;
        root.stop();
        root.exited().await;
    });
}
