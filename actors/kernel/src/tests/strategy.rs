//! The decisions of a supervisor, in isolation: what any sequence of exits can and can't lead to.

use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::strategy::Strategy as _;

use crate::strategy::{Effect, Event, Supervision};
use crate::{Backoff, Exit, Limits, Restart, Strategy, What};

/// Something that happens to a supervisor from outside.
#[derive(Debug, Clone)]
enum Happening {
    /// A child ends, if it is up.
    Exit(usize, Exit),
    /// The child that is asked to stop ends.
    Obey(Exit),
    /// Time passes, and timers that are due ring.
    Pass(Duration),
    /// The next start fails at once.
    Unmade,
}

/// Plays the shell, and checks each effect against what may be.
struct World {
    strategy: Strategy,
    limits: Limits,
    restarts: Vec<Restart>,
    state: Supervision,
    now: Instant,
    timers: Vec<Instant>,
    up: Vec<bool>,
    incarnations: Vec<u64>,
    stopping: Option<usize>,
    ended: Vec<bool>,
    counted: Vec<Instant>,
    unmade: bool,
    ending: bool,
    finished: Option<Exit>,
}

impl World {
    fn new(strategy: Strategy, restarts: Vec<Restart>, limits: Limits) -> Self {
        let now = Instant::now();
        let children = restarts.iter().enumerate().map(|(index, restart)| (index.to_string(), *restart, 0));
        let state = Supervision::new(strategy, limits.clone(), children, now);
        let count = restarts.len();
        let mut world = Self {
            strategy,
            limits,
            restarts,
            state,
            now,
            timers: Vec::new(),
            up: vec![false; count],
            incarnations: vec![0; count],
            stopping: None,
            ended: vec![false; count],
            counted: Vec::new(),
            unmade: false,
            ending: false,
            finished: None,
        };
        world.feed(Event::Timer);
        world
    }

    fn feed(&mut self, event: Event) {
        let mut events = vec![event];
        while let Some(event) = events.pop() {
            let effects = self.state.step(event, self.now, 0.5);
            assert!(self.finished.is_none() || effects.is_empty(), "{effects:?} after the end");
            for effect in effects {
                match effect {
                    Effect::Start { child, incarnation } => events.push(self.starts(child, incarnation)),
                    Effect::Stop { child } => self.stops(child),
                    Effect::Wake(delay) => self.timers.push(self.now + delay),
                    Effect::Finish(exit) => {
                        assert!(!self.up.contains(&true), "it ends after its children");
                        self.finished = Some(exit);
                    }
                    Effect::Tell { what: What::IntensityExceeded { .. } | What::Escalated { .. }, .. } => self.ending = true,
                    Effect::Tell { .. } => {}
                }
            }
        }
    }

    fn starts(&mut self, child: usize, incarnation: u64) -> Event {
        assert!(!self.up[child], "{child} is started while it is up");
        assert!(!self.ended[child], "{child} is started though it has ended for good");
        assert!(!self.ending && self.finished.is_none(), "{child} is started though the supervisor ends");
        assert_eq!(incarnation, self.incarnations[child] + 1);
        if self.strategy != Strategy::OneForOne {
            assert!(!self.up[child + 1..].contains(&true), "{child} is started after one that comes later");
        }
        self.incarnations[child] = incarnation;
        self.up[child] = true;
        if std::mem::take(&mut self.unmade) {
            return self.exit(child, Exit::Panicked("not made".to_owned()));
        }
        Event::Started { child }
    }

    fn stops(&mut self, child: usize) {
        assert!(self.up[child], "{child} is stopped though it is down");
        assert_eq!(self.stopping, None, "one after the other");
        if self.strategy != Strategy::OneForOne || self.ending {
            assert!(!self.up[child + 1..].contains(&true), "{child} is stopped before one that was started later");
        }
        self.stopping = Some(child);
    }

    /// The event of a child's exit, and what the model makes of it.
    fn exit(&mut self, child: usize, exit: Exit) -> Event {
        let asked = self.stopping == Some(child);
        if asked {
            self.stopping = None;
        }
        self.up[child] = false;
        let again = match (self.restarts[child], &exit) {
            (_, Exit::Fatal(_)) | (Restart::Temporary, _) | (Restart::Transient, Exit::Normal) => false,
            (Restart::Transient, Exit::Shutdown) => asked,
            _ => true,
        };
        self.ended[child] = !again;
        if again && !asked && !self.ending && !matches!(exit, Exit::Shutdown | Exit::DownstreamClosed) {
            self.counted.push(self.now);
        }
        Event::Exited { child, incarnation: self.incarnations[child], exit }
    }

    fn happens(&mut self, happening: Happening) {
        match happening {
            Happening::Exit(child, exit) => {
                let child = child % self.up.len();
                if self.up[child] {
                    let before = self.counted.len();
                    let (was_ending, event) = (self.ending, self.exit(child, exit.clone()));
                    self.feed(event);
                    if !was_ending && !matches!(exit, Exit::Fatal(_)) && self.counted.len() == before + 1 {
                        let within = self.counted.iter().filter(|moment| self.now - **moment < self.limits.within).count();
                        assert_eq!(self.ending, within > self.limits.max_restarts as usize, "{within} in the window");
                    }
                }
            }
            Happening::Obey(exit) => {
                if let Some(child) = self.stopping {
                    let event = self.exit(child, exit);
                    self.feed(event);
                }
            }
            Happening::Pass(time) => {
                self.now += time;
                let due = self.timers.iter().filter(|at| **at <= self.now).count();
                self.timers.retain(|at| *at > self.now);
                (0..due).for_each(|_| self.feed(Event::Timer));
            }
            Happening::Unmade => self.unmade = true,
        }
    }

    /// Lets everything that was begun come to rest.
    fn settle(&mut self) {
        self.unmade = false;
        for _ in 0..100 {
            if self.stopping.is_some() {
                self.happens(Happening::Obey(Exit::Shutdown));
            } else if let Some(next) = self.timers.iter().min() {
                self.happens(Happening::Pass(*next - self.now));
            } else {
                return;
            }
        }
        panic!("it never comes to rest");
    }
}

fn exits() -> impl proptest::strategy::Strategy<Value = Exit> {
    prop_oneof![
        2 => Just(Exit::Normal),
        2 => Just(Exit::Shutdown),
        2 => Just(Exit::DownstreamClosed),
        8 => Just(Exit::Failed("x".to_owned())),
        4 => Just(Exit::Panicked("x".to_owned())),
        1 => Just(Exit::Fatal("x".to_owned())),
    ]
}

fn happenings() -> impl proptest::strategy::Strategy<Value = Happening> {
    prop_oneof![
        6 => (0_usize..6, exits()).prop_map(|(child, exit)| Happening::Exit(child, exit)),
        6 => exits().prop_map(Happening::Obey),
        8 => (0_u64..600).prop_map(|millis| Happening::Pass(Duration::from_millis(millis))),
        1 => Just(Happening::Unmade),
    ]
}

fn supervisors() -> impl proptest::strategy::Strategy<Value = (Strategy, Vec<Restart>, u32)> {
    let strategies = prop_oneof![Just(Strategy::OneForOne), Just(Strategy::OneForAll), Just(Strategy::RestForOne)];
    let restarts = prop_oneof![4 => Just(Restart::Permanent), 2 => Just(Restart::Transient), 1 => Just(Restart::Temporary)];
    (strategies, prop::collection::vec(restarts, 1..6), 0_u32..6)
}

fn limits(max_restarts: u32) -> Limits {
    Limits {
        max_restarts,
        within: Duration::from_secs(2),
        backoff: Backoff { min: Duration::from_millis(100), max: Duration::from_millis(400) },
        backoff_reset: Duration::from_secs(3),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn no_sequence_of_exits_breaks_the_rules(
        (strategy, restarts, max_restarts) in supervisors(),
        happenings in prop::collection::vec(happenings(), 0..60),
        stop in any::<bool>(),
    ) {
        let mut world = World::new(strategy, restarts, limits(max_restarts));
        for happening in happenings {
            world.happens(happening);
        }
        world.settle();
        if world.finished.is_none() {
            for (child, up) in world.up.iter().enumerate() {
                prop_assert_eq!(*up, !world.ended[child], "whoever has not ended for good is up again at rest: {}", child);
            }
        }
        if stop {
            let before = world.finished.clone();
            world.ending = true;
            world.feed(Event::StopRequested);
            world.settle();
            prop_assert_eq!(world.finished, Some(before.unwrap_or(Exit::Shutdown)));
        }
    }
}

fn world(strategy: Strategy) -> World {
    World::new(strategy, vec![Restart::Permanent; 3], limits(3))
}

fn failed() -> Exit {
    Exit::Failed("x".to_owned())
}

#[test]
fn a_failure_while_a_restart_is_pending_joins_it() {
    let mut world = world(Strategy::RestForOne);
    world.happens(Happening::Exit(2, failed()));
    world.happens(Happening::Pass(Duration::from_millis(50)));
    world.happens(Happening::Exit(0, failed()));
    assert_eq!(world.stopping, Some(1), "it is affected by the second failure only");
    world.happens(Happening::Pass(Duration::from_millis(100)));
    assert_eq!(world.up, [false, true, false], "the first delay has passed, but 1 has not stopped");
    world.happens(Happening::Obey(Exit::Shutdown));
    assert_eq!((&*world.up, &*world.incarnations), (&[true; 3][..], &[2; 3][..]));
}

#[test]
fn the_delay_grows_with_each_restart_and_begins_anew_after_health() {
    let mut world = World::new(Strategy::OneForOne, vec![Restart::Permanent], limits(100));
    let mut delays = Vec::new();
    for healthy in [0, 0, 0, 2_999, 3_000] {
        world.happens(Happening::Pass(Duration::from_millis(healthy)));
        world.happens(Happening::Exit(0, failed()));
        let delay = world.timers[0] - world.now;
        delays.push(delay.as_millis());
        world.happens(Happening::Pass(delay));
    }
    assert_eq!(delays, [90, 180, 360, 360, 90], "with a jitter of one half of a fifth");
}

#[test]
fn a_timer_that_rings_too_early_is_set_again() {
    let mut world = world(Strategy::OneForOne);
    world.happens(Happening::Exit(0, failed()));
    world.timers.clear();
    world.feed(Event::Timer);
    assert_eq!(world.timers, [world.now + Duration::from_millis(90)]);
    assert!(!world.up[0]);
}

#[test]
fn an_exit_of_an_incarnation_that_is_gone_changes_nothing() {
    let mut world = world(Strategy::OneForOne);
    world.happens(Happening::Exit(0, failed()));
    world.settle();
    assert_eq!(world.state.step(Event::Exited { child: 0, incarnation: 1, exit: failed() }, world.now, 0.0), []);
}

#[test]
fn a_fatal_exit_while_it_stops_takes_precedence() {
    let mut world = world(Strategy::OneForOne);
    world.ending = true;
    world.feed(Event::StopRequested);
    world.happens(Happening::Obey(Exit::Fatal("the journal can't be written".to_owned())));
    world.settle();
    assert_eq!(world.finished, Some(Exit::Fatal("the journal can't be written".to_owned())));
}

#[test]
fn a_supervisor_without_children_is_done() {
    assert_eq!(World::new(Strategy::OneForOne, Vec::new(), limits(0)).finished, Some(Exit::Normal));
}
