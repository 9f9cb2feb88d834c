//! The decisions of a supervisor in isolation: invariants over any sequence of exits.

use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::strategy::Strategy as _;

use crate::strategy::{Effect, Event, Supervision};
use crate::{Backoff, Exit, LifecycleKind, Limits, Restart, Strategy};

/// An input to a supervisor.
#[derive(Debug, Clone)]
enum Input {
    /// A child ends, if it is up.
    Exit(usize, Exit),
    /// The child that is requested to stop ends.
    Obey(Exit),
    /// Time passes and due timers fire.
    Pass(Duration),
    /// The next start fails at once.
    FailNextStart,
}

/// Plays the shell, and checks that each effect is allowed.
struct Model {
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
    fail_next_start: bool,
    ending: bool,
    finished: Option<Exit>,
}

impl Model {
    fn new(strategy: Strategy, restarts: Vec<Restart>, limits: Limits) -> Self {
        let now = Instant::now();
        let children = restarts.iter().enumerate().map(|(index, restart)| (index.to_string(), *restart, 0));
        let state = Supervision::new(strategy, limits.clone(), children, now);
        let count = restarts.len();
        let mut model = Self {
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
            fail_next_start: false,
            ending: false,
            finished: None,
        };
        model.feed(Event::Timer);
        model
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
                    Effect::Emit { kind: LifecycleKind::IntensityExceeded { .. } | LifecycleKind::Escalated { .. }, .. } => {
                        self.ending = true;
                    }
                    Effect::Emit { .. } => {}
                }
            }
        }
    }

    fn starts(&mut self, child: usize, incarnation: u64) -> Event {
        assert!(!self.up[child], "{child} is started while it is up");
        assert!(!self.ended[child], "{child} is started after its final exit");
        assert!(!self.ending && self.finished.is_none(), "{child} is started while the supervisor ends");
        assert_eq!(incarnation, self.incarnations[child] + 1);
        if self.strategy != Strategy::OneForOne {
            assert!(!self.up[child + 1..].contains(&true), "{child} is started after one that comes later");
        }
        self.incarnations[child] = incarnation;
        self.up[child] = true;
        if std::mem::take(&mut self.fail_next_start) {
            return self.exit(child, Exit::Panicked("not made".to_owned()));
        }
        Event::Started { child }
    }

    fn stops(&mut self, child: usize) {
        assert!(self.up[child], "{child} is stopped while it is down");
        assert_eq!(self.stopping, None, "one at a time");
        if self.strategy != Strategy::OneForOne || self.ending {
            assert!(!self.up[child + 1..].contains(&true), "{child} is stopped before one that was started later");
        }
        self.stopping = Some(child);
    }

    /// Records a child's exit in the model and returns its event.
    fn exit(&mut self, child: usize, exit: Exit) -> Event {
        let requested = self.stopping == Some(child);
        if requested {
            self.stopping = None;
        }
        self.up[child] = false;
        let again = match (self.restarts[child], &exit) {
            (_, Exit::Fatal(_)) | (Restart::Temporary, _) | (Restart::Transient, Exit::Normal) => false,
            (Restart::Transient, Exit::Shutdown) => requested,
            _ => true,
        };
        self.ended[child] = !again;
        if again && !requested && !self.ending && !matches!(exit, Exit::Shutdown | Exit::DownstreamClosed) {
            self.counted.push(self.now);
        }
        Event::Exited { child, incarnation: self.incarnations[child], exit }
    }

    fn apply(&mut self, input: Input) {
        match input {
            Input::Exit(child, exit) => {
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
            Input::Obey(exit) => {
                if let Some(child) = self.stopping {
                    let event = self.exit(child, exit);
                    self.feed(event);
                }
            }
            Input::Pass(time) => {
                self.now += time;
                let due = self.timers.iter().filter(|at| **at <= self.now).count();
                self.timers.retain(|at| *at > self.now);
                (0..due).for_each(|_| self.feed(Event::Timer));
            }
            Input::FailNextStart => self.fail_next_start = true,
        }
    }

    /// Runs until nothing is pending.
    fn settle(&mut self) {
        self.fail_next_start = false;
        for _ in 0..100 {
            if self.stopping.is_some() {
                self.apply(Input::Obey(Exit::Shutdown));
            } else if let Some(next) = self.timers.iter().min() {
                self.apply(Input::Pass(*next - self.now));
            } else {
                return;
            }
        }
        panic!("it never settles");
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

fn inputs() -> impl proptest::strategy::Strategy<Value = Input> {
    prop_oneof![
        6 => (0_usize..6, exits()).prop_map(|(child, exit)| Input::Exit(child, exit)),
        6 => exits().prop_map(Input::Obey),
        8 => (0_u64..600).prop_map(|millis| Input::Pass(Duration::from_millis(millis))),
        1 => Just(Input::FailNextStart),
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
    fn no_sequence_of_exits_breaks_an_invariant(
        (strategy, restarts, max_restarts) in supervisors(),
        inputs in prop::collection::vec(inputs(), 0..60),
        stop in any::<bool>(),
    ) {
        let mut model = Model::new(strategy, restarts, limits(max_restarts));
        for input in inputs {
            model.apply(input);
        }
        model.settle();
        if model.finished.is_none() {
            for (child, up) in model.up.iter().enumerate() {
                prop_assert_eq!(*up, !model.ended[child], "a child without a final exit is up again: {}", child);
            }
        }
        if stop {
            let before = model.finished.clone();
            model.ending = true;
            model.feed(Event::StopRequested);
            model.settle();
            prop_assert_eq!(model.finished, Some(before.unwrap_or(Exit::Shutdown)));
        }
    }
}

fn model(strategy: Strategy) -> Model {
    Model::new(strategy, vec![Restart::Permanent; 3], limits(3))
}

fn failed() -> Exit {
    Exit::Failed("x".to_owned())
}

#[test]
fn a_failure_while_a_restart_is_pending_joins_it() {
    let mut model = model(Strategy::RestForOne);
    model.apply(Input::Exit(2, failed()));
    model.apply(Input::Pass(Duration::from_millis(50)));
    model.apply(Input::Exit(0, failed()));
    assert_eq!(model.stopping, Some(1), "only the second failure affects it");
    model.apply(Input::Pass(Duration::from_millis(100)));
    assert_eq!(model.up, [false, true, false], "the first delay has passed, but 1 has not stopped");
    model.apply(Input::Obey(Exit::Shutdown));
    assert_eq!((&*model.up, &*model.incarnations), (&[true; 3][..], &[2; 3][..]));
}

#[test]
fn the_delay_grows_with_each_restart_and_starts_over_after_a_healthy_period() {
    let mut model = Model::new(Strategy::OneForOne, vec![Restart::Permanent], limits(100));
    let mut delays = Vec::new();
    for healthy in [0, 0, 0, 2_999, 3_000] {
        model.apply(Input::Pass(Duration::from_millis(healthy)));
        model.apply(Input::Exit(0, failed()));
        let delay = model.timers[0] - model.now;
        delays.push(delay.as_millis());
        model.apply(Input::Pass(delay));
    }
    assert_eq!(delays, [90, 180, 360, 360, 90], "half of the 20 % of jitter");
}

#[test]
fn a_timer_that_fires_too_early_is_set_again() {
    let mut model = model(Strategy::OneForOne);
    model.apply(Input::Exit(0, failed()));
    model.timers.clear();
    model.feed(Event::Timer);
    assert_eq!(model.timers, [model.now + Duration::from_millis(90)]);
    assert!(!model.up[0]);
}

#[test]
fn an_exit_of_a_previous_incarnation_has_no_effect() {
    let mut model = model(Strategy::OneForOne);
    model.apply(Input::Exit(0, failed()));
    model.settle();
    assert_eq!(model.state.step(Event::Exited { child: 0, incarnation: 1, exit: failed() }, model.now, 0.0), []);
}

#[test]
fn a_fatal_exit_during_a_stop_takes_precedence() {
    let mut model = model(Strategy::OneForOne);
    model.ending = true;
    model.feed(Event::StopRequested);
    model.apply(Input::Obey(Exit::Fatal("the journal can't be written".to_owned())));
    model.settle();
    assert_eq!(model.finished, Some(Exit::Fatal("the journal can't be written".to_owned())));
}

#[test]
fn a_supervisor_without_children_ends_normally() {
    assert_eq!(Model::new(Strategy::OneForOne, Vec::new(), limits(0)).finished, Some(Exit::Normal));
}
